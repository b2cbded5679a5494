"""watcher.yaml: where each value stands, what it may be, and the secrets it refers to."""
