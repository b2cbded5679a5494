"""Tell people when an agent has replied to their Alibaba Cloud support ticket."""

__version__ = "0.1.0"
