"""Running a model: the runtimes, the classifiers on them, and what their scores mean."""
