"""The first steps of a spawner, whichever loop it goes on with."""

import _signal  # type: ignore[import-not-found]
import os
import sys
import time

from tcppar.child import own_path
from tcppar.descriptors import CHANNEL_DESCRIPTOR
from tcppar.spawner import sandbox

_BEYOND_ANY_DESCRIPTOR = 1 << 20


def leave_servers_things() -> None:
    """Close what whoever started the server left open, and give signals their defaults: neither is for our children."""
    os.closerange(CHANNEL_DESCRIPTOR + 1, _BEYOND_ANY_DESCRIPTOR)
    os.set_inheritable(CHANNEL_DESCRIPTOR, False)
    _leave_terminal()
    sandbox.default_signals()


def _leave_terminal() -> None:
    """Have no controlling terminal, as those who are forked from us: nobody can type into it (TIOCSTI), or is stopped
    for reading it (tty_ioctl(4), TIOCNOTTY). A leader of a session of its own has none already.
    """
    try:
        terminal = os.open("/dev/tty", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return
    import fcntl  # only where there is a terminal, and not in each process that is forked from us
    import termios

    try:
        fcntl.ioctl(terminal, termios.TIOCNOTTY)
    finally:
        os.close(terminal)


def become_handlers_home(environment: dict[bytes, bytes]) -> None:
    """Become what the handler's processes are to find.

    They have this one's environment, the service's; what is of one connection its Connection tells. What a handler
    prints is for the log, line by line: descriptor 1 leads where 2 does. Two signals are ignored, as every Python
    process has it: a peer that is gone, or a file that is too large, is told by an error.
    """
    for number in (_signal.SIGPIPE, _signal.SIGXFSZ):
        _signal.signal(number, _signal.SIG_IGN)
    own_path.format_warnings_by_own_path()
    os.dup2(2, 1)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    os.environb.clear()
    os.environb.update(environment)
    time.tzset()  # the C library has read TZ already, for the log of whoever started us
