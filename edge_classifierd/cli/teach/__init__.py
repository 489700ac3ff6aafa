"""The command `teach`: list, show, use, rollback, export and import."""
