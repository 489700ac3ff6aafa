"""Measures classifiers on labelled pictures and trains them on new classes, without TensorFlow."""
