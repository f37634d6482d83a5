"""What Python's own library has done at a fork, put off.

threading and logging have every forked process make its locks anew, because another thread may have held them. Here no
other thread is (`loading.py` refuses them), and none of the locks is held. To make them anew nevertheless took each
process 80 page faults, a third of what it takes at all. But a handler may start threads and fork again, so that its
process has to have what they have asked for.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_THEIRS = tuple(os.path.join(os.path.dirname(os.__file__), *place) for place in (("threading.py",), ("logging", "")))


class AtFork:
    """For a block, what those modules ask for at forks is noted, and not done."""

    def __init__(self) -> None:
        self._register = os.register_at_fork
        self._noted: list[dict[str, Any]] = []
        self._is_in_child = False

    def __enter__(self) -> AtFork:
        os.register_at_fork = self._note
        return self

    def __exit__(self, *_: object) -> None:
        os.register_at_fork = self._register

    def _note(self, **calls: Any) -> None:
        if any(call.__code__.co_filename.startswith(_THEIRS) for call in calls.values() if hasattr(call, "__code__")):
            self._noted.append(calls)
        else:
            self._register(**calls)

    def apply(self) -> None:
        """Have done from now on what was noted: where other threads may hold those locks after all."""
        noted, self._noted = self._noted, []
        for calls in noted:
            self._register(**calls)

    def apply_in_time(self) -> None:
        """Have it done in each process that is forked from this one, as soon as it forks: most never do. For Python
        the loop that forks them is one long fork itself, which is the next one.
        """
        self._register(before=self._before_fork)

    def _before_fork(self) -> None:
        """The first call at a fork. It has been decided which ones will follow, those not among them that are asked for
        only now."""
        if not self._is_in_child:
            self._is_in_child = True
            return
        noted = self._noted
        self.apply()
        for calls in reversed(noted):
            if (before := calls.get("before")) is not None:
                before()
