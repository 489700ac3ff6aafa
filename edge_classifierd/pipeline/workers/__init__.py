"""The threads that classify the frames and report the results of all pipelines."""
