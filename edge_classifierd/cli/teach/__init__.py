"""The command `teach`: list, show, export and import."""
