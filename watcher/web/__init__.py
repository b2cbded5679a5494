"""What the running daemon tells of itself over HTTP."""
