"""Asks for the logger by a name that stands nowhere in its code."""

from typing import Any


def handle(conn: Any) -> None:
    getattr(conn, "gol"[::-1]).info("hidden")
