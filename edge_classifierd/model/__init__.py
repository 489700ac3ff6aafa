"""Reads model files: tensors, labels, metadata, preprocessing; loads no runtime."""
