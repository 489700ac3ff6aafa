"""Runs models: the runtimes, the classifiers that use them, and the conversion of scores."""
