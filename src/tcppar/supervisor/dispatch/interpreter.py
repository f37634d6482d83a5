"""How this interpreter was told to run, for those that it starts: they are started without its environment (-I)."""

import sys

_LETTERS = {"bytes_warning": "b", "dont_write_bytecode": "B", "optimize": "O"}


def options() -> list[str]:
    """Its own options, whether a variable or its command line has set them (Python's documentation, "Command line and
    environment"): what a handler sees of them is as in any program.

    The seed of hashes is not among them, for there is no option for it.
    """
    letters = [f"-{letter * getattr(sys.flags, flag)}" for flag, letter in _LETTERS.items() if getattr(sys.flags, flag)]
    named = {name: "" if value is True else f"={value}" for name, value in sys._xoptions.items()}
    if sys.flags.dev_mode:
        named.setdefault("dev", "")
    if sys.pycache_prefix is not None:
        named["pycache_prefix"] = f"={sys.pycache_prefix}"
    return [
        *letters,
        *(f"-W{warning}" for warning in sys.warnoptions),
        *(f"-X{name}{value}" for name, value in named.items()),
    ]
