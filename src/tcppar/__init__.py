"""tcppar: a process of its own for every TCP connection."""

__version__ = "0.1.0"
