"""The fastest way that Python has to run a program: the function under the subprocess module, called directly.

Against os.posix_spawn it saves a new stack for each child, and the environment of the service, which is the same for
all its children, is put together once instead of for each of them: measured, 20 to 30 of 110 microseconds of the
spawner's time, and a third of the time until it can take the next connection.

The function (`_posixsubprocess.fork_exec`) is not documented, though other modules of the standard library call it
too. It has had one form from Python 3.11 to 3.13; with any other version posix_spawn is used. tests/test_vfork.py
holds it to what is relied on here.
"""

import _posixsubprocess
import os
import sys
from collections.abc import Mapping

from tcppar.child.contract import OF_A_CONNECTION

_FIRST_KNOWN, _FIRST_UNKNOWN = (3, 11), (3, 14)
_LONGEST_REPORT = 256
_NOT_USED = -1


class VforkExec:
    """Makes children of one program.

    Args:
        program: the file to run.
        environment: what all children have in their environment.
    """

    def __init__(self, program: str, environment: Mapping[bytes, bytes]) -> None:
        self._program = (os.fsencode(program),)
        self._environment = [b"%b=%b" % pair for pair in environment.items() if pair[0] not in OF_A_CONNECTION]
        # A child that cannot run the program writes why; the pipe closes in one that can. As the call returns only
        # after either has happened, one pipe serves all children, one after the other.
        self._report, self._reporter = os.pipe()
        os.set_blocking(self._report, False)

    @staticmethod
    def available() -> bool:
        """Whether this interpreter's form of the function is known."""
        return _FIRST_KNOWN <= sys.version_info[:2] < _FIRST_UNKNOWN

    def __call__(self, descriptor: int, arguments: list[str], environment: dict[str, str]) -> int:
        """Run the program with `descriptor` as its descriptors 0 and 1; its process id.

        Raises:
            OSError: no process could be made, or the program not be run.
        """
        pid: int = _posixsubprocess.fork_exec(
            arguments,
            self._program,
            False,  # every descriptor of a spawner closes on exec
            (self._reporter,),
            None,  # type: ignore[arg-type]
            self._environment + "\0".join(map("=".join, environment.items())).encode().split(b"\0"),
            descriptor,
            _NOT_USED,
            _NOT_USED,
            descriptor,
            _NOT_USED,
            _NOT_USED,
            self._report,
            self._reporter,
            False,  # dispositions: the spawner has the defaults, and handlers go with the exec
            False,  # no session of its own
            0,  # but a process group
            None,  # group, groups, user and umask are the spawner's
            None,
            None,
            _NOT_USED,
            None,  # type: ignore[arg-type]
            True,  # vfork
        )
        try:
            failure = os.read(self._report, _LONGEST_REPORT)
        except BlockingIOError:
            return pid
        os.waitpid(pid, 0)
        number = int(failure.split(b":")[1], 16)
        raise OSError(number, os.strerror(number), os.fsdecode(self._program[0]))
