"""How the daemon is doing: metrics, the board, heartbeats and systemd."""
