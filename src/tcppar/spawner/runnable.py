"""Whether a program can be run by this process's user, found out without running it.

A path says little about that: rights on the way, ACLs, mount options, the interpreter that a script names, the loader
of a binary and the libraries that it finds, limits, and formats that somebody has registered (binfmt_misc) decide it.
So the kernel is asked, by an execve(2) (attempt.py).
"""

import errno
import os
import re
import shutil
import sys
from collections.abc import Mapping, Sequence

from tcppar import own_user
from tcppar.child.process import limits
from tcppar.spawner import reach
from tcppar.spawner.attempt import attempt
from tcppar.spawner.hearing import hear_out

# Of an execve(2). Anything else may pass, or come from how it was asked: security modules let some not be traced.
_BELIEVED = {
    errno.ENOEXEC: "expected a binary for this system, or a script that begins with #! and its interpreter, such as "
    "#!/bin/sh",
    errno.ENOENT: "a file that it needs is missing, such as its loader (see ldd)",
    errno.ELIBBAD: "its loader is no binary for this system",
    errno.ELOOP: "its interpreter is a script too, and so are more than five in a row (execve(2))",
    errno.E2BIG: "its arguments and its environment are too large: expected each to be shorter than 128 kB, and all of "
    "them to be no larger than a quarter of the limit on the stack (rlimits.stack, ulimit -s)",
}
_LONGEST_FIRST_LINE = 256  # BINPRM_BUF_SIZE, linux/binfmts.h
_MOST_INTERPRETERS = 5
_LONGEST_TRIAL = 15
_LIMITS = "are its limits too low (rlimits, ulimit -a)?"


def chosen(programs: Sequence[str]) -> str:
    """The first of some files that this user may run; the first one if that is none."""
    return next((program for program in programs if _may_run(program)), programs[0])


def refusal(
    program: str, words: Sequence[bytes], environment: Mapping[bytes, bytes], rlimits: Sequence[tuple[str, int, int]]
) -> str | None:
    """Why a program cannot be run here, by this user; None if it can, or if that cannot be known.

    It is found out in a process of its own: what has to be loaded for it is large, and would count in each spawner.
    Another process of the user's can stop that one: then it is ended, and nothing is known.

    Args:
        program: a file.
        words: what it is called, and its arguments.
        environment: that of the children.
        rlimits: theirs: names, soft and hard limits.
    """
    told, tells = os.pipe()
    try:
        pid = os.fork()
    except OSError:
        os.close(told)
        os.close(tells)
        return None  # a shortage, which has begun just now
    if pid == 0:
        try:
            os.setpgid(0, 0)
            os.write(tells, (_refusal(program, words, environment, rlimits) or "").encode(errors="replace"))
        finally:
            os._exit(0)
    os.close(tells)
    os.setpgid(pid, pid)  # both do so: it may be stopped before it can. What it starts is ended with it
    heard = hear_out(pid, told, seconds=_LONGEST_TRIAL, kill=os.killpg)
    os.close(told)
    return heard.said.decode(errors="replace") or None


def _refusal(
    program: str, words: Sequence[bytes], environment: Mapping[bytes, bytes], rlimits: Sequence[tuple[str, int, int]]
) -> str | None:
    if not _may_run(program):
        return f"{program!r}: user {own_user.name()} cannot run it: {_reason(program)}"
    if (interpreter := _missing_interpreter(program, environment)) is not None:
        return f"{program!r}: its interpreter {interpreter}"
    if sys.platform != "linux" or (reason := _of_kernel(program, words, environment, rlimits)) is None:
        return None
    return f"{program!r}: {reason}"


def _of_kernel(
    program: str, words: Sequence[bytes], environment: Mapping[bytes, bytes], rlimits: Sequence[tuple[str, int, int]]
) -> str | None:
    try:
        outcome = attempt(program, words, environment, limits(rlimits))
    except (ImportError, OSError):
        return None  # this Python was built without ctypes, or it is a shortage, which has begun just now
    if outcome.error in _BELIEVED:
        return f"the system cannot run it: {_BELIEVED[outcome.error]}"
    if outcome.was_ended:
        return f"the system ends it before it begins: {_LIMITS}"
    if outcome.complaints:
        return f"it cannot be loaded: {'; '.join(outcome.complaints)}{'; ' + _LIMITS if rlimits else ''}"
    if not os.access(program, os.R_OK) and _is_another(outcome.executes, program):
        return f"user {own_user.name()} cannot read it, and its interpreter has to: {os.strerror(errno.EACCES)}"
    return None


def _is_another(executed: str, program: str) -> bool:
    try:
        return not os.path.samefile(executed, program)
    except OSError:
        return False


def _may_run(program: str) -> bool:
    return os.path.isfile(program) and os.access(program, os.X_OK)


def _reason(path: str) -> str:
    try:
        os.stat(path)
    except OSError as error:
        return f"{os.strerror(error.errno or 0)}{reach.blocked(path)}"
    return os.strerror(errno.EACCES)


def _missing_interpreter(program: str, environment: Mapping[bytes, bytes]) -> str | None:
    """What is wrong with the interpreter that a script names, which may be a script too; None if nothing is, or the
    program is no script.
    """
    for _ in range(_MOST_INTERPRETERS):
        words = _first_line(program)
        if not words or not words[0]:
            return None
        if (wrong := _wrong_with(words, environment)) is not None:
            return wrong
        program = words[0]
    return None  # there are too many, or they go round in a circle, which the kernel tells


def _wrong_with(words: Sequence[str], environment: Mapping[bytes, bytes]) -> str | None:
    """The same of one script's first line."""
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
    whole = "; without -S, env takes the whole line as one name" if " " in named[0] else ""
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
