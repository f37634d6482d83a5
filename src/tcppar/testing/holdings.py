"""What a server holds: processes, descriptors and memory, by role; and what it has left behind."""

from collections.abc import Iterable
from dataclasses import dataclass

import psutil

from tcppar.testing import faults
from tcppar.testing.server import Server

GROWTH = 1.05
"""How much more memory than before is as much as before."""


@dataclass(frozen=True, slots=True)
class Held:
    """By the processes of one role, altogether: memory is the resident size, in kB."""

    processes: int
    descriptors: int
    memory_kb: int

    def __str__(self) -> str:
        return f"{self.processes} with {self.descriptors} descriptors, {self.memory_kb / 1024:.1f} MB"


Holdings = dict[str, Held]


def of(server: Server) -> Holdings:
    """What it holds just now: the keeper, the supervisor, the spawners, and their children (workers among them)."""
    first, supervisor = psutil.Process(server.pid), psutil.Process(server.supervisor)
    spawners = faults.spawners(server)
    known = {first, supervisor, *spawners}
    roles = {
        "keeper": {first} - {supervisor},
        "supervisor": {supervisor},
        "spawners": spawners,
        "children": {process for process in first.children(recursive=True) if process not in known},
    }
    return {role: _held(processes) for role, processes in roles.items()}


def _held(processes: Iterable[psutil.Process]) -> Held:
    descriptors, memory = [], []
    for process in processes:
        try:
            held = process.num_fds(), process.memory_info().rss // 1024
        except psutil.NoSuchProcess:
            continue
        descriptors.append(held[0])
        memory.append(held[1])
    return Held(len(memory), sum(descriptors), sum(memory))


def numbers(held: Holdings) -> dict[str, tuple[int, int]]:
    """All but the memory: processes and descriptors by role."""
    return {role: (one.processes, one.descriptors) for role, one in held.items()}


def differences(before: Holdings, after: Holdings) -> list[str]:
    """What is not as before: another number of processes or descriptors, or more memory by a twentieth."""
    return [
        f"{role}: {after[role]}, where there were {before[role]}"
        for role in before
        if numbers(after)[role] != numbers(before)[role] or after[role].memory_kb > before[role].memory_kb * GROWTH
    ]


def zombies(server: Server) -> list[int]:
    """Its processes that have ended and were not waited for."""
    return [process.pid for process in psutil.Process(server.pid).children(recursive=True) if _is_zombie(process)]


def _is_zombie(process: psutil.Process) -> bool:
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def marked(variable: str, value: str) -> list[int]:
    """All processes that were started with this variable in their environment, whoever's children they are."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(variable) == value:
                found.append(process.pid)
        except psutil.Error:
            pass  # it is gone, or not ours to look at
    return found
