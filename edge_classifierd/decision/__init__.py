"""Turns observations of frames into decisions; pure code, the time is an argument."""
