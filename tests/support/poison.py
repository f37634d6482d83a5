"""A folder with a module for every name of Python's own library and of tcppar's dependencies, each of which tells that
it was imported."""

import sys
from pathlib import Path

_NAMES = {*sys.stdlib_module_names, "click", "colorama", "msgspec", "numpy", "psutil", "tcppar", "typing_extensions"}
_MODULE = """
with open({marks!r}, "a") as marks:
    marks.write(__name__ + "\\n")
raise ImportError(__name__ + " is not to come from here")
"""


class Poison:
    """Makes such a folder, or such files in one that is there."""

    def __init__(self, folder: Path, marks: Path) -> None:
        self.folder = folder
        self._marks = marks
        folder.mkdir(exist_ok=True)
        for name in _NAMES - {"__main__"}:
            (folder / f"{name}.py").write_text(_MODULE.format(marks=str(marks)))

    @property
    def imported(self) -> list[str]:
        """The modules of the folder that were imported."""
        return self._marks.read_text().split() if self._marks.exists() else []
