"""Leaves a thread and a signal's handler behind, which write to the file $TOLD later."""

import os
import signal
import threading

import tcppar


def handle(conn: tcppar.Connection) -> None:
    signal.signal(signal.SIGUSR1, lambda number, frame: tell("signalled"))
    threading.Thread(target=tell_when_let, daemon=True).start()


def tell_when_let() -> None:
    with open(os.environ["LET"]) as let:
        tell(let.read())


def tell(what: str) -> None:
    with open(os.environ["TOLD"], "a") as told:
        told.write(f"{what}\n")
