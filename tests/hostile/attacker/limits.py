"""Limits, priorities and numbers of processes, of itself and of its spawner."""

import os
import resource
import threading
import time

from tests.hostile.attacker.base import EVERY, HANDLERS, ONE, PAIR, Me, Reach, attack, sleep_deaf

STARVED = "Other services go on; this one does when the spawner has been ended."


def _both(value: int) -> tuple[int, int]:
    return value, value


def _limit_spawner(me: Me, which: int, value: int) -> None:
    me.try_to(lambda: resource.prlimit(os.getppid(), which, _both(value)))
    me.hold()


@attack(PAIR, "It makes children as before, only slower.", alone=True)
def spawner_slowed_down(me: Me) -> None:
    """A child takes priority from its spawner (nice, SCHED_IDLE), and ties it to one processor."""
    spawner = os.getppid()
    me.try_to(lambda: os.setpriority(os.PRIO_PROCESS, spawner, 10))
    me.try_to(lambda: os.sched_setaffinity(spawner, {min(os.sched_getaffinity(0))}))
    me.hold()


@attack(PAIR, STARVED, reach=Reach.OWN_USER, ends_spawner=True)
def spawner_without_descriptors(me: Me) -> None:
    """A child limits its spawner to no further descriptor (prlimit, RLIMIT_NOFILE)."""
    _limit_spawner(me, resource.RLIMIT_NOFILE, 3)


@attack(PAIR, STARVED, reach=Reach.OWN_USER, ends_spawner=True)
def spawner_without_processes(me: Me) -> None:
    """A child limits its spawner to no further process (prlimit, RLIMIT_NPROC)."""
    _limit_spawner(me, resource.RLIMIT_NPROC, 0)


@attack(PAIR, "It is killed by the system; another spawner takes its place.", reach=Reach.OWN_USER)
def spawner_without_time(me: Me) -> None:
    """A child limits its spawner's time of the processor (prlimit, RLIMIT_CPU)."""
    _limit_spawner(me, resource.RLIMIT_CPU, 0)


@attack(PAIR, STARVED, reach=Reach.OWN_USER, ends_spawner=True)
def spawner_without_memory(me: Me) -> None:
    """A child limits its spawner's memory to none (prlimit, RLIMIT_AS and RLIMIT_DATA)."""
    me.try_to(lambda: resource.prlimit(os.getppid(), resource.RLIMIT_DATA, _both(0)))
    _limit_spawner(me, resource.RLIMIT_AS, 0)


@attack(EVERY, "The system refuses it.", another_user=True)
def server_limited(me: Me) -> None:
    """A child limits the supervisor, takes its priority, and ties it to one processor."""
    server = me.facts["supervisor"]
    me.must_not_get("prlimit", lambda: resource.prlimit(server, resource.RLIMIT_NOFILE, _both(3)))
    me.must_not_get("nice", lambda: os.setpriority(os.PRIO_PROCESS, server, 19))
    me.must_not_get("affinity", lambda: os.sched_setaffinity(server, {0}))
    me.must_not_get("scheduler", lambda: os.sched_setscheduler(server, os.SCHED_IDLE, os.sched_param(0)))


@attack(PAIR, "The service's limit on processes ends it; max_lifetime ends the rest.", reach=Reach.OWN_USER)
def a_fork_bomb(me: Me) -> None:
    """A child's children fork as often as its limit (RLIMIT_NPROC) allows, for a second."""
    mine = sum(1 for name in os.listdir("/proc") if name.isdigit() and _is_mine(name))
    resource.setrlimit(resource.RLIMIT_NPROC, _both(mine + 60))
    me.say("done")
    until = time.monotonic() + 1

    def life() -> None:
        while time.monotonic() < until:
            try:
                if os.fork() == 0:
                    continue
            except OSError:
                time.sleep(0.05)
        time.sleep(5)

    me.fork(life)
    sleep_deaf()


def _is_mine(name: str) -> bool:
    try:
        with open(f"/proc/{name}/status") as file:
            return f"Uid:\t{os.getuid()}\t" in file.read()
    except OSError:
        return False


@attack(HANDLERS, "They end with their process.")
def threads_by_the_hundred(me: Me) -> None:
    """A child starts two hundred threads."""
    for _ in range(200):
        threading.Thread(target=time.sleep, args=(5,), daemon=True).start()
    me.say("done")


@attack(EVERY, "They are its own, and bounded by its limit.")
def every_descriptor(me: Me) -> None:
    """A child opens as many descriptors as it may have, and holds them."""
    resource.setrlimit(resource.RLIMIT_NOFILE, _both(1000))
    held: list[int] = []
    try:
        while True:
            held += os.pipe()
    except OSError:
        pass
    me.hold()


@attack(EVERY, "They are its own: limits of later processes come from the spawner.")
def limits_of_its_own(me: Me) -> None:
    """A child takes every limit down to nothing, for itself and what it starts."""
    for which in (resource.RLIMIT_FSIZE, resource.RLIMIT_CORE, resource.RLIMIT_STACK, resource.RLIMIT_NOFILE):
        me.try_to(lambda which=which: resource.setrlimit(which, _both(0)))  # type: ignore[misc]
    me.try_to(lambda: os.write(2, b"a line\n"))
    me.say("done")


@attack(ONE, "max_lifetime ends it.")
def every_lock(me: Me) -> None:
    """A child locks every file that it can open in its folder and on its descriptors (flock, lockf)."""
    import fcntl

    for descriptor in (0, 1, 2):
        me.try_to(lambda d=descriptor: fcntl.flock(d, fcntl.LOCK_EX | fcntl.LOCK_NB))  # type: ignore[misc]
    me.hold()
