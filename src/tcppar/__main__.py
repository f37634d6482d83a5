"""The command `tcppar`."""

from tcppar import import_path


def main() -> None:
    """Entry point, of the installed command too."""
    import_path.keep_to_installed()
    # Only now: what this imports is to come from there.
    from tcppar.cli import main

    main()


if __name__ == "__main__":
    main()
