"""What a run of the tests is started in, and must not depend on; and what it must not leave there.

A shell, nohup, a service manager or a build server hands down signals that are ignored or blocked, limits, a umask and
variables. Servers that are tested inherit them, and would be others than the tests are about.
"""

import os
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from tcppar.net import platform
from tcppar.testing import holdings
from tcppar.testing.processes import allow_descriptors
from tests.support.server import PATIENCE, wait_until

DESCRIPTORS = 1024
"""The soft limit that tests expect, which is what systems usually give; they hold some hundreds of connections."""

_UMASK = 0o022
_MARK = "TCPPAR_TESTS"
# They make a server another one, or are somebody else's to answer.
_VARIABLES = (
    *("TCPPAR_PORTABLE", "NOTIFY_SOCKET", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"),
    *("WATCHDOG_USEC", "WATCHDOG_PID", "JOURNAL_STREAM"),
)
# Python ignores these for itself, and gives programs that it starts the defaults.
_PYTHONS = {signal.SIGPIPE, signal.SIGXFSZ}
# What a terminal sends. nohup, and a shell for what a script runs in its background, have them ignored.
_TERMINALS = {signal.SIGHUP, signal.SIGINT, signal.SIGQUIT}


def settle() -> None:
    """Give this process, and so all that tests start, the surroundings that they expect."""
    platform.ensure_standard_descriptors()
    os.umask(_UMASK)
    for name in _VARIABLES:
        os.environ.pop(name, None)
    _catch_signals()
    allow_descriptors(DESCRIPTORS)


def _catch_signals() -> None:
    """Nothing is blocked, and programs that are started have every signal at its default.

    Whoever has started the run with a terminal's signals ignored wants it not to be ended by them. So these are caught
    here, by nothing: that ends nothing, and is a default again after an exec.
    """
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    for number in signal.valid_signals() - _PYTHONS:
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, (lambda number, frame: None) if number in _TERMINALS else signal.SIG_DFL)


@contextmanager
def nothing_is_left(patience: float = PATIENCE) -> Iterator[None]:
    """See that no process and no temporary file of the block is left after it.

    All that is started inherits a mark, and a folder of its own for temporary files: so nobody else's are blamed.

    Args:
        patience: for so many seconds what was told to end may take to do so.

    Raises:
        AssertionError: something is left; says what. The files are removed.
    """
    before = {name: os.environ.get(name) for name in (_MARK, "TMPDIR")}
    with tempfile.TemporaryDirectory(prefix="tcppar-tests-") as name:
        folder = Path(name)
        folder.chmod(0o1777)  # as every folder of this kind, for children that are somebody else
        os.environ[_MARK] = os.environ["TMPDIR"] = tempfile.tempdir = name
        try:
            yield
        finally:
            tempfile.tempdir = None
            for variable, value in before.items():
                os.environ.pop(variable) if value is None else os.environ.update({variable: value})
        try:
            wait_until(lambda: not _processes(name), patience)
        except AssertionError:
            raise AssertionError(f"the tests have left processes: {_processes(name)}") from None
        files = sorted(path.name for path in folder.iterdir())
        assert not files, f"the tests have left temporary files: {files}"


def _processes(mark: str) -> dict[int, list[str]]:
    """The command of each process that bears the mark or descends from this one."""
    ours = {process.pid for process in psutil.Process().children(recursive=True)}
    found = {}
    for pid in sorted({*ours, *holdings.marked(_MARK, mark)} - {os.getpid()}):
        try:
            found[pid] = psutil.Process(pid).cmdline()
        except psutil.Error:
            pass  # it has ended just now
    return found
