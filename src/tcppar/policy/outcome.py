"""How a process ended, as waitpid(2) tells it."""

import os
import signal


def exit_and_signal(status: int | None) -> tuple[int | None, str | None]:
    """Exit code and signal name of a wait status: the one or the other, or neither where it is not known (None)."""
    if status is None:
        return None, None
    if os.WIFSIGNALED(status):
        return None, _signal_name(os.WTERMSIG(status))
    return os.WEXITSTATUS(status), None


def is_end(status: int | None) -> bool:
    """Whether a wait status is that of an end. A process that is traced can also have been stopped (waitpid(2))."""
    return status is None or os.WIFEXITED(status) or os.WIFSIGNALED(status)


def in_words(status: int) -> str:
    """`exit 3` or `signal SIGKILL`."""
    code, name = exit_and_signal(status)
    return f"exit {code}" if name is None else f"signal {name}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIG{number}"  # a real-time signal
