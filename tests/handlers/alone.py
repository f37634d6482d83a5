"""Whoever has loaded this can make no process, unless it is root's."""

import resource

import tcppar

resource.setrlimit(resource.RLIMIT_NPROC, (0, resource.getrlimit(resource.RLIMIT_NPROC)[1]))


def handle(conn: tcppar.Connection) -> None:
    conn.write(conn.read())
