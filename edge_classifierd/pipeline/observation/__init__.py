"""What the page sees of the pipelines, and how it changes them. Nothing here imports the page."""
