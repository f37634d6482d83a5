"""Other processes' memory and descriptors."""

import ctypes
import os
import time

from tests.hostile.attacker.base import EVERY, GOT, HANDLERS, ONE, Me, Mode, attack

REFUSED = "The system refuses it, for the supervisor is another user's."
_ATTACH, _SEIZE = 16, 0x4206  # linux/ptrace.h
_PIDFD_OPEN, _PIDFD_GETFD, _READV = 434, 438, 310  # of x86-64; the first two are the same everywhere
_SET_DUMPABLE = 4

_library = ctypes.CDLL(None, use_errno=True)
_library.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
_library.ptrace.restype = ctypes.c_long


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def _trace(pid: int, how: int) -> None:
    _checked(_library.ptrace(how, pid, None, None))


def _take_descriptors(pid: int) -> None:
    pidfd = _checked(_library.syscall(_PIDFD_OPEN, pid, 0))
    for descriptor in range(32):
        try:
            _checked(_library.syscall(_PIDFD_GETFD, pidfd, descriptor, 0))
        except OSError as error:
            if error.errno != 9:  # EBADF: there is none of this number
                raise
        else:
            return
    raise OSError(9, "none there")


def _open(path: str) -> None:
    os.close(os.open(path, os.O_RDWR))


def _attempts(me: Me, who: str, pid: int) -> None:
    me.must_not_get(f"ptrace of {who}", lambda: _trace(pid, _ATTACH))
    me.must_not_get(f"seizing of {who}", lambda: _trace(pid, _SEIZE))
    me.must_not_get(f"descriptors of {who}", lambda: _take_descriptors(pid))
    me.must_not_get(f"memory of {who}", lambda: _open(f"/proc/{pid}/mem"))
    me.must_not_get(f"list of descriptors of {who}", lambda: os.listdir(f"/proc/{pid}/fd"))
    me.must_not_get(f"environment of {who}", lambda: open(f"/proc/{pid}/environ").read())  # noqa: SIM115


@attack(EVERY, REFUSED, another_user=True)
def inside_the_supervisor(me: Me) -> None:
    """A child traces the supervisor and its keeper, and takes their memory and descriptors."""
    _attempts(me, "the supervisor", me.facts["supervisor"])
    _attempts(me, "the first process", me.facts["first"])


@attack(EVERY, "The system refuses it, for who has become another user is not dumpable.", another_user=True)
def inside_the_spawner(me: Me) -> None:
    """A child traces its spawner, and takes its memory and descriptors."""
    _attempts(me, "the spawner", os.getppid())


@attack(EVERY, "The system refuses it, because it belongs to another user.", another_user=True)
def inside_another_service(me: Me) -> None:
    """A child traces a process of another service, and takes its memory and descriptors."""
    _attempts(me, "the other", me.facts["other"])


@attack(HANDLERS, "The system refuses it, for who has become another user is not dumpable.", another_user=True)
def inside_a_sibling(me: Me) -> None:
    """A child traces the other handlers' processes of its service, and takes their connections."""
    for pid in me.siblings()[:4]:
        _attempts(me, f"sibling {pid}", pid)


@attack(EVERY, "The supervisor's score is lower than theirs: the kernel ends children first.", another_user=True)
def safe_from_the_kernel(me: Me) -> None:
    """A child asks the kernel to end others before it when memory is short (oom_score_adj)."""

    def ask() -> None:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("-1000")

    me.must_not_get("a low oom_score_adj", ask)
    for name in ("supervisor", "first"):
        with open(f"/proc/{me.facts[name]}/oom_score_adj") as server, open("/proc/self/oom_score_adj") as mine:
            its, own = int(server.read()), int(mine.read())
        if its >= own:
            me.say(f"GOT as safe as the {name} process: {own}, and that has {its}")


@attack(ONE, "It is its own memory: the limit of the service ends it.")
def a_hog(me: Me) -> None:
    """A child takes all the memory that its limit (RLIMIT_AS) leaves, and touches it."""
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (1 << 28, 1 << 28))
    held = []
    try:
        while True:
            held.append(bytearray(1 << 20))
    except MemoryError:
        del held[:16]
    me.say("done")
    time.sleep(0.5)


@attack(ONE, "It is ended by max_lifetime; where a limit for all is reached, before the server is (test_memory.py).")
def a_small_hog(me: Me) -> None:
    """A child takes two megabytes, as many others do."""
    held = bytearray(2 << 20)
    for at in range(0, len(held), 4096):
        held[at] = 1
    me.hold()


@attack(EVERY, "It has neither: what the server's processes share is closed to their children.")
def inside_the_books(me: Me) -> None:
    """A child looks for memory that it shares with the server, for its books, and for a channel of its spawner's."""
    with open("/proc/self/maps") as file:
        for line in file:
            if " rw-s " in line and "/dev/zero" not in line:
                me.say(f"{GOT} shared memory: {line.split()[-1]}")
    for name in os.listdir("/proc/self/fd"):
        try:
            leads = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue
        if leads.startswith("/memfd:"):
            me.say(f"{GOT} {leads}")
        if leads.startswith("socket:") and int(name) > 2 and me.mode is Mode.PROGRAM:
            me.say(f"{GOT} a socket besides the connection")
