"""The command `models`: list, info, fetch, verify and probe."""
