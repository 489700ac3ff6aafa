"""Cameras in the network: RTSP and other streams, motion JPEG and snapshots over HTTP."""
