"""Signals that are recorded as A-Shell's runtime records them: MX_GETSIG, MX_CLRSIG, MX_KILL.

Nothing is recorded, and no handler put in place, until a program asks for it. A handler of the program's own is
called too, after the signal is noted; so SIGINT still raises KeyboardInterrupt.
"""

import os
import signal
from collections.abc import Callable
from types import FrameType

from tcppar.tcpx.symbols import SignalBit

ALL_BITS = -1
DONE, FAILED = 0, -1
_LARGEST_PID = 2**31 - 1

_BITS = {
    signal.SIGINT: SignalBit.SR_INT,
    signal.SIGCHLD: SignalBit.SR_CHLD,
    signal.SIGUSR1: SignalBit.SR_USR1,
    signal.SIGUSR2: SignalBit.SR_USR2,
    signal.SIGHUP: SignalBit.SR_HUP,
    signal.SIGTSTP: SignalBit.SR_TSTP,
    signal.SIGALRM: SignalBit.SR_ALARM,
    signal.SIGTERM: SignalBit.SR_TERM,
    signal.SIGPIPE: SignalBit.SR_PIPE,
}
# The runtime handles these itself, so that a program which only looks at the bits survives them. The others have
# their usual effect on a program without a handler for them: SIGTERM ends it.
_SURVIVED = frozenset({signal.SIGCHLD, signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM})

Handler = Callable[[int, FrameType | None], object]


class _Recorder:
    """The handler of one signal: notes it, then calls the program's own handler."""

    def __init__(self, bit: SignalBit, own: object) -> None:
        self._bit = bit
        self._own: Handler | None = own if callable(own) else None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        _seen.add(self._bit)
        if self._own is not None:
            self._own(number, frame)


# A set, because to add and to discard are one step each: a handler can run between any two steps of the program.
_seen: set[SignalBit] = set()


def mx_getsig() -> int:
    """The SR_ bits of the signals that came since they were last cleared (MX_GETSIG, MIAMEX 54).

    Recording begins with the first call of this or of `mx_clrsig`. A handler that the program installs after that takes
    the recorder's place until the next call.

    Returns:
        a sum of bits; they stay set until `mx_clrsig` clears them (ours: the manuals differ).

    Raises:
        ValueError: recording has to begin, and this is not the main thread, which alone may install handlers.
    """
    _record()
    return sum(_seen)


def mx_clrsig(bits: int = ALL_BITS) -> None:
    """Clear bits of `mx_getsig` (MX_CLRSIG, MIAMEX 55): the given ones, -1 all, 0 none.

    Raises:
        ValueError: as `mx_getsig`.
    """
    _record()
    for bit in SignalBit:
        if bits & bit:
            _seen.discard(bit)


def mx_kill(pid: int, number: int) -> int:
    """Send a signal to a process (MX_KILL, MIAMEX 57).

    Args:
        pid: of one process; a group (0 and below) is refused.
        number: the system's number, not an SR_ bit; 0 only asks whether the process is there.

    Returns:
        0, or -1 if there is no such process or signal, or no permission.
    """
    if not (0 < pid <= _LARGEST_PID and 0 <= number < signal.NSIG):  # os.kill would cut a larger number off
        return FAILED
    try:
        os.kill(pid, number)
    except OSError:
        return FAILED
    return DONE


def let_children_interrupt() -> None:
    """Make sure that SIGCHLD has a handler, for the system lets a signal that nobody handles interrupt nothing.

    A program's own handler is left alone, and so is SIG_IGN, by which a program asks not to be told. In another than
    the main thread nothing can be done; then it is for the main thread, by `mx_clrsig(0)`.
    """
    if signal.getsignal(signal.SIGCHLD) == signal.SIG_DFL:
        try:
            _install(signal.SIGCHLD)
        except ValueError:
            pass


def note_broken_pipe() -> None:
    """Note SIGPIPE, if it is recorded, though it was not sent."""
    if isinstance(signal.getsignal(signal.SIGPIPE), _Recorder):
        _seen.add(SignalBit.SR_PIPE)


def _record() -> None:
    for number in _BITS:
        own = signal.getsignal(number)
        if not isinstance(own, _Recorder) and _is_recorded(number, own):
            _install(number)


def _is_recorded(number: signal.Signals, own: object) -> bool:
    """Whether its effect stays the same, or becomes the runtime's, when there is a recorder.

    Of those that are ignored only SIGPIPE is: to ignore it, as Python does, is the same as to note it only. A handler
    that was not installed from Python (None) cannot be called.
    """
    if own == signal.SIG_IGN:
        return number == signal.SIGPIPE
    return callable(own) or (own == signal.SIG_DFL and number in _SURVIVED)


def _install(number: signal.Signals) -> None:
    signal.signal(number, _Recorder(_BITS[number], signal.getsignal(number)))
