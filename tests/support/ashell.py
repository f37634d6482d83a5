"""A stand-in for A-Shell, as far as a control file for TCPCH1 needs it. It takes its commands from standard input.

LOG and LOGOFF do nothing; `RUN TCPCH1` reads the next line, as TCPCH1's INPUT would, and runs samples/a-shell/child.py
with it.
"""

import subprocess
import sys
from pathlib import Path

PROGRAMS = Path(__file__).parents[2] / "samples" / "a-shell"
FILES = {"TCPCH1": "child.py"}


def main() -> None:
    lines = iter(sys.stdin.read().splitlines())
    for line in lines:
        match line.split():
            case ["RUN", program]:
                socket = next(lines)
                subprocess.run([sys.executable, PROGRAMS / FILES[program], socket], close_fds=False, check=True)
            case ["LOG", _] | ["LOGOFF"] | []:
                pass
            case _:
                sys.exit(f"?{line}?")


main()
