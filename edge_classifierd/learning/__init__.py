"""Measuring a classifier on labelled pictures, and teaching it new classes, without TensorFlow."""
