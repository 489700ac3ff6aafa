"""Replay of recordings: the events that a video or a folder of pictures would have made."""
