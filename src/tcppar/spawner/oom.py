"""Who ends first when memory is short: children, then spawners, the supervisor last (oom_score_adj, proc(5)).

A child begins with the score of the process that it was made by. So a spawner has that of its children while it makes
one, and a lower one otherwise: two writes to an open file, of half a microsecond each. That the child raises its own
would cost three calls, some ten microseconds, and where the service has a user of its own it is not allowed to: until
its program runs, its files in /proc are root's, as are its spawner's. To raise a score needs no right, nor does taking
that back.
"""

from __future__ import annotations

import os

_SCORE = "/proc/self/oom_score_adj"


class OomScore:
    """The score of this process, which makes others. Where it cannot be set, all stays as it is.

    It must be made before the user is entered: after that the file cannot be opened.

    Args:
        of_children: theirs, from -1000 to 1000.

    Attributes:
        descriptor: of the file; below 0 if there is nothing to change. Children must not have it.
        own: this process's, as long as it makes none.
    """

    def __init__(self, of_children: int) -> None:
        self.descriptor = -1
        self.of_children = self.own = of_children
        try:
            descriptor = os.open(_SCORE, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return  # not Linux, or /proc is not to be had
        inherited = int(os.pread(descriptor, 16, 0))
        if of_children > inherited:
            self.own = (inherited + of_children) // 2
            self.descriptor = descriptor
            self._set(self.own)
            return
        try:
            os.pwrite(descriptor, str(of_children).encode(), 0)  # for all; to lower it needs a right
        except OSError:
            pass
        os.close(descriptor)

    def be_as_children(self) -> None:
        """The next process that is made has the children's."""
        self._set(self.of_children)

    def be_own_again(self) -> None:
        """It is made."""
        self._set(self.own)

    def _set(self, score: int) -> None:
        if self.descriptor >= 0:
            try:
                os.pwrite(self.descriptor, str(score).encode(), 0)
            except OSError:
                pass  # a right was taken from us; nothing depends on it
