"""Writes to stdout and stderr what it reads, and answers with its connection's id."""

import sys

import tcppar


def while_it_lasts(conn: tcppar.Connection) -> None:
    for line in conn.lines():
        print("printed", line.decode(), end="")
        sys.stderr.write(f"written {line.decode()}")
        conn.write(f"{conn.id}\n".encode())


def briefly(conn: tcppar.Connection) -> None:
    print("printed", conn.read_until().decode(), end="")
    conn.write(f"{conn.id}\n".encode())


def without_an_end(conn: tcppar.Connection) -> None:
    print(conn.read_until().decode().strip(), end="")
    conn.write(f"{conn.id}\n".encode())
