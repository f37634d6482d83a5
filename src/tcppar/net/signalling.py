"""Sending a signal to a child, by whichever call is allowed."""

import os
import signal


def send(pid: int, number: int) -> bool:
    """Send a signal to a child that is not reaped, so that the number is its own; False if something forbids it."""
    try:
        os.kill(pid, number)
    except OSError:
        return _send_by_descriptor(pid, number)
    return True


def _send_by_descriptor(pid: int, number: int) -> bool:
    """The same by other calls, where a filter of system calls (seccomp(2)) forbids kill(2)."""
    try:
        descriptor = os.pidfd_open(pid)
    except (AttributeError, OSError):
        return False
    try:
        signal.pidfd_send_signal(descriptor, number)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True
