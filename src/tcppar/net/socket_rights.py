"""Who may connect to a Unix socket."""

import os
import stat

from msgspec import Struct

_NOT_CHANGED = -1  # chown(2)


class Rights(Struct, frozen=True):
    """Who may connect to a socket in the file system.

    Attributes:
        mode: of its file; None for what the umask leaves. To connect takes the right to write.
        uid, gid: to whom it belongs; -1 for what the system makes of it.
    """

    mode: int | None = None
    uid: int = _NOT_CHANGED
    gid: int = _NOT_CHANGED

    def completed_by(self, found: os.stat_result) -> "Rights":
        """These, and of a file whatever they leave open."""
        return Rights(
            stat.S_IMODE(found.st_mode) if self.mode is None else self.mode,
            found.st_uid if self.uid == _NOT_CHANGED else self.uid,
            found.st_gid if self.gid == _NOT_CHANGED else self.gid,
        )

    def instead_of(self, former: "Rights") -> "Rights":
        """These, for a file that has had others: what those gave, and these do not, is as the system makes it. In a
        folder with the setgid bit that would be another group (inode(7)), which a start alone gives.
        """
        return Rights(
            _mode_as_made() if self.mode is None and former.mode is not None else self.mode,
            os.geteuid() if self.uid == _NOT_CHANGED and former.uid != _NOT_CHANGED else self.uid,
            os.getegid() if self.gid == _NOT_CHANGED and former.gid != _NOT_CHANGED else self.gid,
        )

    def are_of(self, found: os.stat_result) -> bool:
        """Whether a file has them."""
        return self.completed_by(found) == AS_MADE.completed_by(found)


AS_MADE = Rights()


def _mode_as_made() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return 0o777 & ~umask
