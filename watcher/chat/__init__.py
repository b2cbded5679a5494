"""What the sinks of chats have in common: the message, the markup languages, the way to call a gateway."""
