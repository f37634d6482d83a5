"""A chat: everybody sees what the others say.

    tcppar serve 127.0.0.1:7000 --handler samples/chat.py:handle --environment CHAT_DATABASE=/var/tmp/chat.db

Each conversation has a process of its own, so what they share is outside of them: a table of SQLite's, which keeps the
lines in one order for all. News is looked for five times a second. A notification (LISTEN of PostgreSQL's, say) would
be quicker, and cost a second thing to wait for; for people who type, this is soon enough.
"""

import os
import sqlite3
from contextlib import closing

import tcppar

PERIOD = 0.2
PATIENCE = 60.0
LONGEST_NAME, LONGEST_LINE = 64, 1024


def handle(conn: tcppar.Connection) -> None:
    """Ask one client for a name, and let it take part until it leaves."""
    conn.write(b"Who are you?\n")
    name = text_of(conn.read_until(limit=LONGEST_NAME, timeout=PATIENCE))
    # Opened here, and not when this module is imported: SQLite's connections must not be taken over a fork.
    with closing(sqlite3.connect(os.environ.get("CHAT_DATABASE", "chat.db"), isolation_level=None)) as room:
        room.execute("CREATE TABLE IF NOT EXISTS said (number INTEGER PRIMARY KEY AUTOINCREMENT, by TEXT, line TEXT)")
        post(room, conn, f"{name} is here")
        try:
            take_part(conn, room, name)
        finally:
            post(room, conn, f"{name} has left")


def take_part(conn: tcppar.Connection, room: sqlite3.Connection, name: str) -> None:
    """Post what the client says, and tell it what others have posted since it came."""
    (told,) = room.execute("SELECT max(number) FROM said WHERE by = ?", [conn.id]).fetchone()
    while True:
        try:
            line = conn.read_until(limit=LONGEST_LINE, timeout=PERIOD)
            if not line:
                return
            post(room, conn, f"{name}: {text_of(line)}")
        except tcppar.TimedOut:
            pass  # what has come of a line is kept, and the next call goes on from there
        for number, by, line in room.execute("SELECT * FROM said WHERE number > ? ORDER BY number", [told]).fetchall():
            told = number
            if by != conn.id:
                conn.write(f"{line}\n".encode())


def post(room: sqlite3.Connection, conn: tcppar.Connection, line: str) -> None:
    room.execute("INSERT INTO said (by, line) VALUES (?, ?)", [conn.id, line])


def text_of(line: bytes) -> str:
    return line.decode(errors="replace").strip()
