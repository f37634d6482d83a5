"""How what a process is, or that it lives, is hidden from the server, or made costly to find out."""

import ctypes
import mmap
import os
import platform
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable

from tests.hostile.attacker.base import EVERY, LONGEST, Me, attack, change_mark, sleep_deaf

FOUND = "max_lifetime and kill_timeout end it: it has the connection open."
BY_LIFETIME = "max_lifetime and kill_timeout end it, and all that it has started."
_EXIT = {"x86_64": 60, "aarch64": 93}
_TRACEME, _SEIZE = 0, 0x4206  # linux/ptrace.h
_SET_PTRACER, _SET_MM, _SET_MM_MAP = 0x59616D61, 35, 14  # linux/prctl.h
_ANYBODY = ctypes.c_ulong(-1)
_LARGE = 256 << 20
_CLONE_FILES = 0x400  # linux/sched.h
_MANY_ORPHANS, _MANY_DESCRIPTORS = 100, 10_000
# What is started apart: it has neither the connection nor the environment of its maker.
_TRACER = """
import ctypes, os, time
library = ctypes.CDLL(None, use_errno=True)
library.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
os.write(9, b"%d" % library.ptrace({seize}, {pid}, None, None))
os.close(9)
time.sleep({longest})
"""


def _library() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _in_a_thread(life: Callable[[], None]) -> None:
    """Deaf to what a signal's default would do."""
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    begun = threading.Event()

    def begin() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        begun.set()
        life()

    threading.Thread(target=begin, daemon=True).start()
    begun.wait()


@attack(EVERY, BY_LIFETIME)
def its_first_thread_ends(me: Me) -> None:
    """A child's first thread ends, and another one goes on: the process is shown as a zombie."""
    _in_a_thread(lambda: time.sleep(LONGEST))
    me.say("done")
    _library().syscall(_EXIT[platform.machine()], 0)


@attack(EVERY, BY_LIFETIME)
def traced_by_its_parent(me: Me) -> None:
    """A child has itself traced by its parent, and stops for it: wait4 reports that as it reports an end."""
    _in_a_thread(lambda: time.sleep(LONGEST))
    me.say("done")
    _library().ptrace(_TRACEME, 0, 0, 0)
    os.kill(os.getpid(), signal.SIGUSR1)
    time.sleep(LONGEST)


@attack(EVERY, "Its end is recorded: a process that withholds it is killed.")
def an_end_that_is_kept(me: Me) -> None:
    """A child has itself traced by a daemon without its connection, and ends: its parent does not learn of it."""
    reader, writer = os.pipe()
    pid = os.getpid()
    _library().prctl(_SET_PTRACER, _ANYBODY, 0, 0, 0)

    def life() -> None:
        os.setsid()
        me.fork(lambda: _become_tracer(pid, writer))

    os.waitpid(me.fork(life), 0)
    os.close(writer)
    me.say(f"traced: {os.read(reader, 16)!r}")


def _become_tracer(pid: int, writer: int) -> None:
    os.dup2(writer, 9)
    os.closerange(0, 9)
    os.closerange(10, 256)
    script = _TRACER.format(seize=_SEIZE, pid=pid, longest=LONGEST)
    os.execve(os.path.realpath(sys.executable), ["python", "-I", "-S", "-c", script], {})


@attack(EVERY, BY_LIFETIME)
def an_environment_of_a_quarter_of_a_gigabyte(me: Me) -> None:
    """A daemon of a child's says that its environment is a large and empty part of its memory (PR_SET_MM_MAP)."""

    def live_on() -> None:
        _let_environment_be_large()
        sleep_deaf()

    _daemon(me, live_on)


def _let_environment_be_large() -> None:
    place = mmap.mmap(-1, _LARGE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000)  # MAP_NORESERVE
    start = ctypes.addressof(ctypes.c_char.from_buffer(place))
    with open("/proc/self/stat", "rb") as file:
        fields = [b"", *file.read().rpartition(b")")[2].split()]  # from the third on, proc_pid_stat(5)
    code, data, stack, arguments = (int(field) for field in (fields[24], fields[43], fields[26], fields[46]))
    library = _library()
    library.sbrk.restype = ctypes.c_void_p
    brk = library.sbrk(0)
    words = [code, int(fields[25]), data, int(fields[44]), int(fields[45]), brk, stack, arguments, int(fields[47])]
    table = (ctypes.c_uint64 * 13)(*words, start, start + _LARGE, 0, 0xFFFFFFFF << 32)
    library.prctl(_SET_MM, _SET_MM_MAP, ctypes.byref(table), ctypes.c_ulong(ctypes.sizeof(table)), 0)


@attack(EVERY, BY_LIFETIME, alone=True)
def orphans_with_many_descriptors(me: Me) -> None:
    """A child leaves a hundred orphans with ten thousand descriptors each, if it can have so many."""

    def life() -> None:
        os.setsid()
        null = os.open(os.devnull, os.O_RDONLY)
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        for _ in range(min(hard - 64, _MANY_DESCRIPTORS)):
            os.dup(null)
        for _ in range(_MANY_ORPHANS):
            me.fork(sleep_deaf)

    os.waitpid(me.fork(life), 0)
    me.say("done")
    sleep_deaf()


@attack(EVERY, FOUND)
def a_table_of_a_thread(me: Me) -> None:
    """A daemon of a child's with another mark has the connection open in the table of its second thread alone."""

    def live_on() -> None:
        change_mark()
        closed = threading.Event()

        def begin() -> None:
            _library().unshare(_CLONE_FILES)
            closed.set()
            time.sleep(LONGEST)

        threading.Thread(target=begin, daemon=True).start()
        closed.wait()
        os.closerange(0, 100)
        sleep_deaf()

    _daemon(me, live_on)


@attack(EVERY, FOUND)
def a_connection_behind_others(me: Me) -> None:
    """A daemon of a child's with another mark has thousands of descriptors open, and then the connection."""

    def live_on() -> None:
        change_mark()
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        last = min(hard - 1, _MANY_DESCRIPTORS)
        os.dup2(me.connection, last)
        os.closerange(0, 100)
        null = os.open(os.devnull, os.O_RDONLY)
        for descriptor in range(null + 1, last):
            os.dup2(null, descriptor)
        sleep_deaf()

    _daemon(me, live_on)


def _daemon(me: Me, live_on: Callable[[], None]) -> None:
    def life() -> None:
        os.setsid()
        me.fork(live_on)

    os.waitpid(me.fork(life), 0)
    me.say("done")
    sleep_deaf()
