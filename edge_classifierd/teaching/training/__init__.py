"""Training of taught models: the child process, what it measures, and the versions that come of it."""
