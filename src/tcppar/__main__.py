"""The command `tcppar`."""

import sys

from tcppar import import_path

_NO_ROOM = ("failed to map segment", "cannot allocate memory", "Cannot allocate memory")


def main() -> None:
    """Entry point, of the installed command too."""
    import_path.keep_to_installed()
    try:
        # Only now: what this imports is to come from there.
        from tcppar.cli import main
    except (MemoryError, ImportError) as error:
        # A library for which there is no room is an ImportError, with the linker's words.
        if isinstance(error, ImportError) and not any(words in str(error) for words in _NO_ROOM):
            raise
        sys.stderr.write("tcppar: not enough memory to start; raise the limit (ulimit -v, or the container's)\n")
        sys.exit(111)  # ExitCode.SYSTEM, which may be what could not be imported

    main()


if __name__ == "__main__":
    main()
