"""Motion: whether something moves in front of a fixed camera, and where."""
