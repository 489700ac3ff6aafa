"""Embeddings of pictures: how they are computed, and the file that keeps them for the next training."""
