"""The page of a device: its server, sessions, live pictures, scores, history and metrics. Optional; see docs/web.md."""
