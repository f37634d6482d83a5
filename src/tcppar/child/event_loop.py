"""The event loop of a coroutine's process, made before the fork.

To make one in each process took a third of what asyncio.run costs there. It waits by poll(2), for an epoll object made
before the fork would be one for all processes; and its pipe, by which threads and signals wake it, is replaced.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import _socket
import asyncio
import os
import selectors
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any


class EarlyLoop:
    """A loop for the next conversation of whatever process comes to have one.

    Where it would make a difference to asyncio.run, there is none, and asyncio.run is used: if the handler's modules
    have chosen another kind of loop, or want SIGINT to be a KeyboardInterrupt.
    """

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._loop: Any = None
        is_default = type(asyncio.get_event_loop_policy()) is asyncio.DefaultEventLoopPolicy
        if is_default and sys.version_info < (3, 14) and _signal.getsignal(_signal.SIGINT) == _signal.SIG_DFL:
            self._loop = asyncio.SelectorEventLoop(selectors.PollSelector())

    def run(self, main: Coroutine[Any, Any, object], *, keep: bool) -> object:
        """As asyncio.run.

        Args:
            keep: whether the loop may serve once more, because what is run leaves nothing in it.
        """
        loop = self._loop
        if loop is None:
            return asyncio.run(main)
        if self._pid != (pid := os.getpid()):
            self._pid = pid
            _renew_pipe(loop)
        try:
            return loop.run_until_complete(main)
        finally:
            if not keep:
                self._loop = None
                _end(loop)


def _renew_pipe(loop: Any) -> None:
    """Put a new pipe where the loop's is, for that one is the other processes' too."""
    ends = _socket.socketpair()
    for old, new in zip((loop._ssock, loop._csock), ends, strict=True):
        os.dup2(new.fileno(), old.fileno(), inheritable=False)
        os.set_blocking(old.fileno(), False)
        new.close()


def _end(loop: Any) -> None:
    """As asyncio.run ends; with nothing left to be ended, that is little."""
    if asyncio.all_tasks(loop) or loop._asyncgens or loop._default_executor is not None:
        runner = asyncio.Runner(loop_factory=lambda: loop)
        runner.get_loop()
        runner.close()
    else:
        loop.close()
