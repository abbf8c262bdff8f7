"""What `lowwatt bundle` puts on a board: a command that needs Python, NumPy and OpenCV only."""
