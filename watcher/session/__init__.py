"""The desktop session of whoever runs this process: its message bus, its notification server, its screen."""
