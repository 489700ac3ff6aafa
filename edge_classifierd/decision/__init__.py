"""Observations in, decisions out: pure code, the clock passed in."""
