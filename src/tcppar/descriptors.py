"""Where a process of the server finds what was opened for it."""

CHANNEL_DESCRIPTOR = 3
"""A spawner's end of its channel to the supervisor."""
