"""Wait statuses of real processes, in words."""

import os
import signal

import pytest

from tcppar.policy import outcome


def status_of(action: str, number: int) -> int:
    pid = os.fork()
    if pid == 0:
        if action == "exit":
            os._exit(number)
        os.kill(os.getpid(), number)
        signal.pause()
    return os.waitpid(pid, 0)[1]


@pytest.mark.parametrize(
    ("action", "number", "words"),
    [
        ("exit", 0, "exit 0"),
        ("exit", 255, "exit 255"),
        ("signal", signal.SIGKILL, "signal SIGKILL"),
        # Python has names for two of the real-time signals only.
        ("signal", signal.SIGRTMIN + 1, f"signal SIG{signal.SIGRTMIN + 1}"),
    ],
)
def test_a_status_is_told_in_words(action: str, number: int, words: str) -> None:
    assert outcome.in_words(status_of(action, number)) == words


def test_nothing_is_said_of_a_status_that_nobody_knows() -> None:
    assert outcome.exit_and_signal(None) == (None, None)
