"""The sections of the configuration as typed models."""
