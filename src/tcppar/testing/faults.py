"""Faults on command, for a running server. Each call returns when the server has dealt with what was done to it."""

import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from signal import Signals

import psutil

from tcppar.testing.client import Greeting
from tcppar.testing.processes import PATIENCE
from tcppar.testing.server import Server, read_line

STORM = 1000
"""How many signals a storm sends each second."""

_NOTHING = 3
_NO_MORE = 1
_CLOCK = 1.5  # the system tells when a process began by a clock of whole seconds


def reset(server: Server) -> None:
    """Reset every listener (SIGUSR1)."""
    before = len(server.events("reset"))
    server.signal(Signals.SIGUSR1)
    listeners = {record["address"] for record in server.events("listening")}
    server.wait_for_event("reset", before + len(listeners))


def reload(server: Server) -> None:
    """Reload the configuration (SIGHUP).

    Raises:
        AssertionError: it failed.
    """
    _ask(server, Signals.SIGHUP, "reloaded", "reload-failed")


def upgrade(server: Server) -> None:
    """Replace the program (SIGUSR2), and then the spawners.

    Raises:
        AssertionError: it failed.
    """
    before = len(server.events("reloaded")) + len(server.events("reload-failed"))
    _ask(server, Signals.SIGUSR2, "upgraded", "upgrade-failed")
    last = server.wait_for(lambda record: record["event"] in ("reloaded", "reload-failed"), before + 1)[-1]
    assert last["event"] == "reloaded", last


def _ask(server: Server, number: Signals, done: str, failed: str) -> None:
    before = len(server.events(done)) + len(server.events(failed))
    server.signal(number)
    last = server.wait_for(lambda record: record["event"] in (done, failed), before + 1)[-1]
    assert last["event"] == done, last


def storm(server: Server, seconds: float, number: Signals = Signals.SIGCHLD) -> int:
    """Send a signal to the supervisor, its keeper and all spawners, a thousand times a second; how many were sent."""
    processes = [*map(psutil.Process, {server.pid, server.supervisor}), *spawners(server)]
    began, sent = time.monotonic(), 0
    while time.monotonic() < began + seconds:
        for process in processes:
            with suppress(psutil.NoSuchProcess):  # a spawner that was retired is gone soon
                process.send_signal(number)
                sent += 1
        time.sleep(max(0.0, began + sent / STORM - time.monotonic()))
    return sent


# Processes that are killed.


def kill_supervisor(server: Server) -> None:
    """Kill the supervisor, whose keeper starts another."""
    before = len(server.events("recovered"))
    os.kill(server.supervisor, signal.SIGKILL)
    server.wait_for_event("recovered", before + 1)


def kill_spawner(server: Server, service: str) -> None:
    """Kill a service's newest spawner."""
    spawner = spawners(server, service)[-1]
    spawner.kill()
    server.wait_for(lambda record: record["event"] == "spawner-died" and record["pid"] == spawner.pid)


def kill_child(server: Server, service: str) -> Greeting:
    """Kill the child, or worker, of a client of our own, who must be cut off; its greeting.

    Raises:
        AssertionError: the client was not told who it is, or not cut off.
    """
    with socket.create_connection(server.address_of(service), timeout=PATIENCE) as client:
        greeting = Greeting.read(read_line(client).encode() + b"\n")
        assert greeting is not None
        os.kill(greeting.pid, signal.SIGKILL)
        try:
            assert client.recv(1) == b"", "a killed child has answered"
        except ConnectionResetError:
            pass
    return greeting


def spawners(server: Server, service: str | None = None) -> list[psutil.Process]:
    """The spawners of a service, or of all, that live and are the supervisor's or its keeper's; the newest last.

    What a killed spawner has left is a child of these too, and looks the same. So it must also be as old as the record
    of its start, for by now its number can be another process's.
    """
    parents = {server.pid, server.supervisor}
    found = {}
    for record in server.events("spawner"):
        if service not in (None, record["service"]):
            continue
        try:
            process = psutil.Process(record["pid"])
            told_at = datetime.fromisoformat(record["time"]).timestamp()
            if process.ppid() in parents and abs(process.create_time() - told_at) < _CLOCK:
                found[process.pid] = process
        except psutil.NoSuchProcess:
            pass
    return list(found.values())


# Shortages. (Linux, where limits can be lowered from outside: prlimit(2).)


@contextmanager
def short_of_descriptors(server: Server) -> Iterator[None]:
    """For the block, the supervisor can open no descriptor: EMFILE from every accept."""
    with _limited([psutil.Process(server.supervisor)], resource.RLIMIT_NOFILE, _NOTHING):
        yield


@contextmanager
def short_of_processes(server: Server, service: str) -> Iterator[None]:
    """For the block, a service's spawners can make no process: EAGAIN. This binds no process of root's: let the
    service's user be somebody else.
    """
    with _limited(spawners(server, service), resource.RLIMIT_NPROC, _NO_MORE):
        yield


@contextmanager
def _limited(processes: list[psutil.Process], which: int, limit: int) -> Iterator[None]:
    """Lower a soft limit, which the processes have from us."""
    soft, hard = resource.getrlimit(which)
    _limit(processes, which, limit, hard)
    try:
        yield
    finally:
        _limit([process for process in processes if process.is_running()], which, soft, hard)


_SET_LIMITS = """
import os, resource, sys
user, group, which, soft, hard, *pids = map(int, sys.argv[1:])
if os.getuid() == 0:
    os.setgroups([])
os.setresgid(group, group, group)
os.setresuid(user, user, user)
for pid in pids:
    try:
        resource.prlimit(pid, which, (soft, hard))
    except ProcessLookupError:
        pass
"""


def _limit(processes: list[psutil.Process], which: int, soft: int, hard: int) -> None:
    """Set limits as the user whom they bind: that needs no right, while root's, in a container, may not suffice. It
    becomes that user when it runs: before, that user might not reach this Python.
    """
    if not processes:
        return
    user, group = processes[0].uids().real, processes[0].gids().real
    words = map(str, (user, group, which, soft, hard, *(process.pid for process in processes)))
    subprocess.run([sys.executable, "-I", "-S", "-c", _SET_LIMITS, *words], check=True)
