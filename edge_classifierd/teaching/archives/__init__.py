"""Export and import of a taught model's pictures as a zip archive."""
