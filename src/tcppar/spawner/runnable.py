"""Whether a program can be run by this process's user, found out without running it.

A path says little about that: rights on the way, ACLs, mount options, the interpreter that a script names, the loader
of a binary, and formats that somebody has registered (binfmt_misc) decide it. So the kernel is asked, by an execve(2)
in a process that is traced: it stops before the program's first instruction, and is killed there.
"""

import errno
import os
import re
import shutil
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import NoReturn

from tcppar.net import signalling
from tcppar.spawner import reach

_PTRACE_TRACEME = 0  # sys/ptrace.h
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
# Of an execve(2). Anything else may pass, or come from how it was asked: security modules let some not be traced.
_BELIEVED = (errno.ENOEXEC, errno.ENOENT)
_LONGEST_FIRST_LINE = 256  # BINPRM_BUF_SIZE, linux/binfmts.h


def chosen(programs: Sequence[str]) -> str:
    """The first of some files that this user may run; the first one if that is none."""
    return next((program for program in programs if _may_run(program)), programs[0])


def refusal(program: str, environment: Mapping[bytes, bytes]) -> str | None:
    """Why a program cannot be run here, by this user; None if it can, or if that cannot be known.

    Args:
        program: a file.
        environment: that of the children.
    """
    if not _may_run(program):
        return f"{program!r}: user {reach.own_name()} cannot run it: {_reason(program)}"
    if (interpreter := _missing_interpreter(program, environment)) is not None:
        return f"{program!r}: its interpreter {interpreter}"
    number = _ask_kernel(program, environment)
    if number == errno.ENOEXEC:
        expected = "a binary for this system, or a script that begins with #! and its interpreter, such as #!/bin/sh"
        return f"{program!r}: the system cannot run it: expected {expected}"
    if number == errno.EACCES:
        return f"{program!r}: user {reach.own_name()} cannot read it, and its interpreter has to: {os.strerror(number)}"
    if number == errno.ENOENT:
        return f"{program!r}: the system cannot run it: a file that it needs is missing, such as its loader (see ldd)"
    return None


def _may_run(program: str) -> bool:
    return os.path.isfile(program) and os.access(program, os.X_OK)


def _reason(path: str) -> str:
    try:
        os.stat(path)
    except OSError as error:
        return f"{os.strerror(error.errno or 0)}{reach.blocked(path)}"
    return os.strerror(errno.EACCES)


def _missing_interpreter(program: str, environment: Mapping[bytes, bytes]) -> str | None:
    """What is wrong with the interpreter that a script names; None if nothing is, or the program is no script."""
    words = _first_line(program)
    if not words or not words[0]:
        return None
    interpreter = words[0]
    if not _may_run(interpreter):
        windows = "; the line ends with CR, as on Windows" if interpreter.endswith("\r") else ""
        return f"{interpreter!r} cannot be run: {_reason(interpreter)}{windows}"
    # What follows the interpreter is one argument, whatever blanks it has; only -S parts it (env(1)).
    parted = words[1:2] == ["-S"]
    named = [word for word in words[2:] if "=" not in word] if parted else [" ".join(words[1:])]
    if os.path.basename(interpreter) != "env" or not named or named[0].startswith("-") or "=" in named[0]:
        return None
    path = os.fsdecode(environment.get(b"PATH", b""))
    if shutil.which(named[0], path=path):
        return None
    whole = "; without -S, env takes the whole line for one name" if " " in named[0] else ""
    return f"{named[0]!r} was not found in PATH ({path}) by {interpreter}{whole}"


def _first_line(program: str) -> list[str]:
    """The words after the #! of a script."""
    try:
        with open(program, "rb") as file:
            line = file.read(_LONGEST_FIRST_LINE).partition(b"\n")[0]
    except OSError:
        return []  # who may run it need not be able to read it
    # A CR is part of the word, as it is to the kernel.
    return re.split("[ \t]+", os.fsdecode(line[2:]).strip(" \t")) if line.startswith(b"#!") else []


def _ask_kernel(program: str, environment: Mapping[bytes, bytes]) -> int:
    """The error of an execve(2), or of the interpreter that reads the program after it; 0 if there is none, or if it
    cannot be asked.
    """
    if sys.platform != "linux":
        return 0
    try:
        pid = os.fork()
    except OSError:
        return 0  # a shortage, which has begun just now
    if pid == 0:
        _begin_traced(program, environment)
    _, status = os.waitpid(pid, 0)
    if os.WIFEXITED(status):
        number = os.WEXITSTATUS(status)
        return number if number in _BELIEVED else 0
    if not os.WIFSTOPPED(status):
        return 0  # somebody has killed it
    # It is the program now, or its interpreter, and has not begun.
    is_script = not os.access(program, os.R_OK) and _runs_another(pid, program)
    if signalling.send(pid, signal.SIGKILL):  # else it ends with us
        os.waitpid(pid, 0)
    return errno.EACCES if is_script else 0


def _runs_another(pid: int, program: str) -> bool:
    try:
        return not os.path.samefile(f"/proc/{pid}/exe", program)
    except OSError:
        return False  # what may not be read may not be looked at there either: it is the program itself


def _begin_traced(program: str, environment: Mapping[bytes, bytes]) -> NoReturn:
    """Become the program, if it will be stopped. It ends with whoever traces it, so that nothing else lets it go on."""
    number = 0
    try:
        import ctypes  # here alone: it is large, and this process ends at once

        libc = ctypes.CDLL(None)
        if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) == 0 and libc.ptrace(_PTRACE_TRACEME, 0, 0, 0) == 0:
            os.execve(program, [program], environment)
    except OSError as error:
        number = error.errno or 0
    except ImportError:
        pass  # this Python was built without
    finally:
        os._exit(number)
