"""A program as systemd's manual wants it (sd_listen_fds(3)): it checks that the descriptors are meant for it, takes
the first, and answers each line with the client's address, read off the socket itself."""

import os
import socket

FIRST = 3

if int(os.environ.pop("LISTEN_PID")) != os.getpid():
    raise SystemExit("LISTEN_PID names another process")
if os.environ.pop("LISTEN_FDS") != "1" or os.environ.pop("LISTEN_FDNAMES") != "connection":
    raise SystemExit("not one connection")
with socket.socket(fileno=FIRST) as connection:
    peer = "{}:{}".format(*connection.getpeername()[:2])
    with connection.makefile("rw") as lines:
        for line in lines:
            lines.write(f"{peer} {line}")
            lines.flush()
