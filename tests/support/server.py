"""What tests need of a real server: the package's own harness, under the name that they know it by."""

from tcppar.testing.processes import (
    PATIENCE,
    descendants,
    descriptors,
    parent_of,
    stat_fields,
    stop_process,
    wait_until,
)
from tcppar.testing.server import Record, Server, read_all, read_line

__all__ = [
    "PATIENCE",
    "Record",
    "Server",
    "descendants",
    "descriptors",
    "parent_of",
    "read_all",
    "read_line",
    "stat_fields",
    "stop_process",
    "wait_until",
]
