"""The working directory of programs and handlers, which is looked up for each connection."""

from __future__ import annotations

import os


class WorkingDirectory:
    """The directory that a path leads to, whichever that is by now: a link to the current release is turned to the next
    one, a folder is removed and made again.

    It is entered when this is made, and then only when it is another one. So nothing in it is read: a child could
    otherwise take the rights of its own directory away, and with them the next clients. And what a handler's module, or
    a conversation before in the same worker, has chosen as the working directory stays for as long.

    Args:
        path: absolute.

    Raises:
        OSError: as stat(2) and chdir(2); its filename says which directory.
    """

    __slots__ = ("_identity", "_path")

    def __init__(self, path: str) -> None:
        self._path = path
        self._identity = (0, 0)
        self.enter()

    def enter(self) -> None:
        """Enter it, if it is another one than before.

        Raises:
            OSError: see above; nothing has changed.
        """
        try:
            found = os.stat(self._path)
            if (identity := (found.st_dev, found.st_ino)) != self._identity:
                os.chdir(self._path)
                self._identity = identity
        except OSError as error:
            raise OSError(error.errno, error.strerror, f"directory {self._path}") from None
