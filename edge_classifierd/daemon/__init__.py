"""The daemon: pipelines, their supervision, and the composition root."""
