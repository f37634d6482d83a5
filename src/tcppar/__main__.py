"""The command `tcppar`."""

import os
import sys

from tcppar import import_path

# In bytes: less than the rest of a start takes, and more than what the interpreter asks the system for at a time.
_LEAST_ROOM = 8 << 20
_NO_ROOM = b"tcppar: not enough memory to start; raise the limit (ulimit -v, or the container's)\n"
_NO_ROOM_CODE = 111  # ExitCode.SYSTEM, which may be what could not be imported


def main() -> None:
    """Entry point, of the installed command too."""
    try:
        import_path.keep_to_installed()
        # Only now: what this imports is to come from there.
        from tcppar.cli import main
    except Exception:
        # An interpreter without memory fails in any way: by a MemoryError; by an ImportError with the linker's words;
        # by a SystemError that tells of no error; by a ValueError, for a part of the code that it has read is missing.
        if _there_is_room():
            raise
        os.write(2, _NO_ROOM)
        sys.exit(_NO_ROOM_CODE)

    try:
        main()
    except MemoryError:
        # There was none to tell of it either. Nothing more is asked for.
        os.write(2, _NO_ROOM)
        os._exit(_NO_ROOM_CODE)


def _there_is_room() -> bool:
    try:
        bytearray(_LEAST_ROOM)
    except MemoryError:
        return False
    return True


if __name__ == "__main__":
    main()
