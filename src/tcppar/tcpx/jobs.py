"""SUBMIT: a job in the background that has the connection, and whose commands stand in a control file."""

from __future__ import annotations

import errno
import itertools
import operator
import os
import sys
from typing import TYPE_CHECKING

from tcppar.child import control_file

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Sequence
    from pathlib import Path

# Every child imports this module, by way of the package, and few submit: so what is large is imported when it is used.

SHELL = ("sh",)
_NUMBERS = itertools.count()
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_MOST_JOBS = len(_LETTERS) ** 3
_HIGHEST_STANDARD_DESCRIPTOR = 2

# The first of two generations. It is a program of its own and no fork of this process: a fork takes one thread along
# and the locks of all. The job's descriptor 1 is where its 2 leads, for the first one's 1 is the pipe to its parent.
_FIRST_GENERATION = """
import os, signal, sys
try:
    print(os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ, setpgroup=0,
                          file_actions=[(os.POSIX_SPAWN_DUP2, 2, 1)], setsigdef=[signal.SIGPIPE, signal.SIGXFSZ]))
except OSError as error:
    print(-error.errno)
"""


class Job:
    """A job that was submitted.

    It runs on when it is forgotten, and when its parent ends. One that is not detached is a zombie from its end to
    the next `poll`, `wait` or `submit`.

    Attributes:
        pid: its process id, which is also that of its process group. Its session has no terminal.
        control_file: where its commands are; mode 0600.
        log_file: where its descriptors 1 and 2 lead; mode 0600.
    """

    def __init__(self, pid: int, control_file: Path, log_file: Path, process: subprocess.Popen[bytes] | None) -> None:
        self.pid = pid
        self.control_file = control_file
        self.log_file = log_file
        self._process = process

    def __repr__(self) -> str:
        return f"<Job {self.control_file.stem} pid {self.pid}>"

    def poll(self) -> int | None:
        """Its exit code, or -N if signal N ended it; None while it runs. Its zombie is reaped.

        Raises:
            ChildProcessError: it is detached: nobody is told of its end.
        """
        return self._own_child.poll()

    def wait(self) -> int:
        """Wait for its end, without a limit; signals do not end the wait.

        Returns:
            As `poll`.

        Raises:
            ChildProcessError: it is detached.
        """
        return self._own_child.wait()

    @property
    def _own_child(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise ChildProcessError(errno.ECHILD, f"job {self.pid} is detached: it is not a child of this process")
        return self._process

    def remove_files(self) -> None:
        """Remove the control file and the log. Not before its end: the runtime may read the control file as it goes."""
        for path in (self.control_file, self.log_file):
            path.unlink(missing_ok=True)


def submit(
    command: str | Sequence[str],
    *,
    socket: int = -1,
    wait: bool = False,
    detach: bool = False,
    runtime: Sequence[str] = SHELL,
    directory: str | os.PathLike[str] = ".",
    name: str = "",
) -> Job:
    """Write a control file and start a job that obeys it (SUBMIT.LIT and XCALL SUBMIT on Unix).

    The job inherits one connection and nothing else but its standard descriptors: 0 is /dev/null, 1 and 2 are the
    log. The caller closes its own copy of the connection when this returns; the peer does not notice.

    Args:
        command: the control file's one line, or its lines. `{fd}` stands for the connection's number, `{ctl}` for
            the path of the control file.
        socket: the connection, as TCPOP_ACCEPT returned it; -1 for none. Its TLS, if it has one, stays here.
        wait: return when the job has ended (/W).
        detach: start it by two generations (SUBMIT2): it becomes a child of process 1, never a zombie of ours, and
            the one SIGCHLD comes before this returns. Costs the start of a small Python, some 10 ms.
        runtime: the program that reads the control file, and its arguments; the path is put behind them. The
            default, the shell, runs each line as a command: put what is not yours into `shlex.quote`, and do not
            redirect to `{fd}`, for not every shell knows numbers above 9.
        directory: where the files are.
        name: their name, without its end; the default is the next free one of TASAAA, TASAAB, ...

    Raises:
        OSError: the job could not be started, and why; a file of that name is there already; the socket is not open.
            Nothing is left behind.
        ValueError: `wait` and `detach` together; a socket that would be the job's standard descriptor.
    """
    if wait and detach:
        raise ValueError("a detached job cannot be waited for")
    passed = _passed(socket)
    text = (command if isinstance(command, str) else "\n".join(command)).replace("{fd}", str(socket))
    control_path, log_path, log = _make_files(text, os.path.abspath(directory), name)
    words = [*runtime, str(control_path)]
    try:
        process = None if detach else _start(words, passed, log)
        pid = _start_detached(words, passed, log) if process is None else process.pid
    except OSError:
        control_path.unlink()
        log_path.unlink()
        raise
    finally:
        os.close(log)
    job = Job(pid, control_path, log_path, process)
    if wait:
        job.wait()
    return job


def _passed(socket: int) -> tuple[int, ...]:
    if operator.index(socket) < 0:
        return ()
    if socket <= _HIGHEST_STANDARD_DESCRIPTOR:
        raise ValueError(f"socket {socket} would be a standard descriptor of the job")
    os.fstat(socket)  # is it open? The job would be told so late
    return (socket,)


def _start(words: list[str], passed: tuple[int, ...], log: int) -> subprocess.Popen[bytes]:
    import subprocess

    # A session of its own: neither Control-C nor the end of the caller's terminal is meant for it.
    return subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=passed, start_new_session=True
    )


def _start_detached(words: list[str], passed: tuple[int, ...], log: int) -> int:
    import subprocess

    first = subprocess.run(
        [sys.executable, "-I", "-S", "-c", _FIRST_GENERATION, *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=log,
        pass_fds=passed,
        start_new_session=True,
        check=False,
    )
    answer = int(first.stdout or -errno.ECHILD)  # nothing: somebody has killed it
    if answer < 0:
        raise OSError(-answer, os.strerror(-answer), words[0])
    return answer


def _make_files(text: str, directory: str, name: str) -> tuple[Path, Path, int]:
    """The paths of the control file and the log, and the log's descriptor."""
    for candidate in [name] if name else map(_job_name, itertools.islice(_NUMBERS, _MOST_JOBS)):
        try:
            return _make_files_named(os.path.join(directory, candidate), text)
        except FileExistsError:
            if name:
                raise
    raise FileExistsError(errno.EEXIST, "all job names are taken", directory)


def _job_name(number: int) -> str:
    base = len(_LETTERS)
    return "TAS" + "".join(_LETTERS[number // base**place % base] for place in (2, 1, 0))


def _make_files_named(stem: str, text: str) -> tuple[Path, Path, int]:
    from pathlib import Path

    control_path, log_path = Path(f"{stem}.CTL"), Path(f"{stem}.LOG")
    # An old log tells of an old job, and a file that somebody else has put there leads somewhere else.
    log = os.open(log_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        control_file.write(str(control_path), text.replace("{ctl}", str(control_path)))
    except OSError:
        os.close(log)
        log_path.unlink()
        raise
    return control_path, log_path, log
