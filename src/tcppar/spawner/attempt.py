"""An execve(2) with all that a child of the service has: its words, its environment, its limits.

Nothing of the program is executed. The process is traced: it stops before the first instruction, and is killed there.
Where the first instructions are those of the GNU system's loader, it may go on: the variable that ldd(1) sets has it
find and map what the program needs, say so, and end. Another loader might not know that variable, and none obeys it in
a program that has rights of its own (AT_SECURE, getauxval(3)).
"""

import os
import re
import resource
import signal
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from tcppar.child.process import Limits
from tcppar.spawner.hearing import hear_out

if TYPE_CHECKING:
    import ctypes

_TRACEME, _DETACH = 0, 17  # sys/ptrace.h
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_AT_BASE, _AT_SECURE = 7, 23  # linux/auxvec.h
_GNU_LOADER = re.compile(rb"/ld(?:-linux[\w-]*|-2\.\d+|64)\.so[.\d]*$")
_ONLY_LOAD = {b"LD_TRACE_LOADED_OBJECTS": b"1"}
_LONGEST_LOAD = 10
_MOST_SAID = 1 << 16
# What ends a process whose limits are too low, or that does what a filter forbids (signal(7)).
_FROM_SYSTEM = frozenset(
    {
        signal.SIGKILL,
        signal.SIGSEGV,
        signal.SIGBUS,
        signal.SIGABRT,
        signal.SIGILL,
        signal.SIGFPE,
        signal.SIGSYS,
        signal.SIGXCPU,
        signal.SIGXFSZ,
    }
)


class Outcome(NamedTuple):
    """What came of it.

    Attributes:
        error: of the execve(2); 0 if there is none, or if it could not be tried.
        was_ended: whether the system ended the process, when execve(2) could no longer fail.
        executes: the file whose instructions are executed, the program's or its interpreter's; empty if that is not
            known.
        complaints: what the loader has not found, or not been able to do.
    """

    error: int = 0
    was_ended: bool = False
    executes: str = ""
    complaints: tuple[str, ...] = ()


def attempt(program: str, words: Sequence[bytes], environment: Mapping[bytes, bytes], limits: Limits) -> Outcome:
    """Try it.

    Args:
        program: the file.
        words: what it is called, and its arguments.
        limits: what setrlimit(2) is called with.

    Raises:
        OSError: no process can be made.
        ImportError: this Python has no ctypes.
    """
    import ctypes  # here, for it is large

    libc = ctypes.CDLL(None)
    said, says = os.pipe()
    pid = os.fork()
    if pid == 0:
        _begin(libc, says, program, words, {**environment, **_ONLY_LOAD}, limits)
    os.close(says)
    try:
        return _watched(libc, pid, said)
    finally:
        os.close(said)


def _watched(libc: "ctypes.CDLL", pid: int, said: int) -> Outcome:
    """What comes of the process. Others can stop it (SIGSTOP), or send it what they like: then nothing is known."""
    _, status = os.waitpid(pid, os.WUNTRACED)
    if os.WIFEXITED(status):
        return Outcome(error=os.WEXITSTATUS(status))
    if os.WIFSIGNALED(status):
        return Outcome(was_ended=os.WTERMSIG(status) in _FROM_SYSTEM)
    begins = os.WSTOPSIG(status) == signal.SIGTRAP
    executes = _executed_by(pid) if begins else ""
    if not begins or not _is_loaded_by_gnu(pid) or libc.ptrace(_DETACH, pid, 0, 0) != 0:
        os.kill(pid, signal.SIGKILL)  # it is our child, and has not been waited for
        os.waitpid(pid, 0)
        return Outcome(was_ended=os.WSTOPSIG(status) in _FROM_SYSTEM, executes=executes)
    heard = hear_out(pid, said, seconds=_LONGEST_LOAD)
    if heard.status is None or os.WIFSIGNALED(heard.status):
        ended = heard.status is not None and os.WTERMSIG(heard.status) in _FROM_SYSTEM
        return Outcome(was_ended=ended, executes=executes)
    text = heard.said[:_MOST_SAID].decode(errors="replace")
    return Outcome(executes=executes, complaints=tuple(_complaints(text, failed=heard.status != 0)))


def _begin(
    libc: "ctypes.CDLL",
    says: int,
    program: str,
    words: Sequence[bytes],
    environment: Mapping[bytes, bytes],
    limits: Limits,
) -> NoReturn:
    """Become the program, if it will be stopped. It ends with whoever traces it, so that nothing else lets it go on."""
    error = 0
    try:
        os.dup2(says, 1)
        os.dup2(says, 2)
        signal.alarm(_LONGEST_LOAD)  # a library may be where nobody answers
        if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) == 0 and libc.ptrace(_TRACEME, 0, 0, 0) == 0:
            for kind, both in limits:
                resource.setrlimit(kind, both)
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # whatever becomes of it is nobody's crash
            os.execve(program, list(words), environment)
    except OSError as failed:
        error = failed.errno or 0
    finally:
        os._exit(error)


def _executed_by(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/exe")
    except OSError:
        return ""  # what may not be read may not be looked at there either


def _is_loaded_by_gnu(pid: int) -> bool:
    """Whether it begins in the GNU system's loader, which obeys its environment."""
    try:
        with open(f"/proc/{pid}/auxv", "rb") as file:
            told = dict(struct.iter_unpack("@LL", file.read()))
        with open(f"/proc/{pid}/maps", "rb") as file:
            begins = b"%x-" % told[_AT_BASE]
            place = next((line for line in file if line.lstrip(b"0").startswith(begins)), b"")
    except (OSError, KeyError, struct.error):
        return False  # static, or not ours to look at, or of another architecture
    return told.get(_AT_SECURE) == 0 and _GNU_LOADER.search(place.rstrip()) is not None


def _complaints(text: str, *, failed: bool) -> Iterator[str]:
    """The lines of what ldd(1) shows that tell of something missing; of a failure, the last line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    yield from (line for line in lines if line.endswith("not found") or "not found (required by" in line)
    if failed and lines:
        yield lines[-1]
