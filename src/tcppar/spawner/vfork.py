"""The fastest way to run a program, where its few lines of C could be compiled (_vfork.c, hatch_build.py).

Measured against tcpserver, with posix_spawn instead the server makes some 5 of 100 connections a second less.
"""

import resource
import sys
from collections.abc import Mapping

from tcppar.child import contract
from tcppar.mark import RLIMIT_LOCKS, limits_of
from tcppar.policy import faults
from tcppar.records import ChildPlan, DescriptorMode

try:
    from tcppar.spawner import _vfork
except ImportError:  # installed where there was no compiler, or on a system without vfork
    AVAILABLE = False
else:
    AVAILABLE = True


_OURS = -1


def is_permitted() -> bool:
    """Whether no filter of system calls forbids it (seccomp(2)): tried with a program that cannot be run."""
    try:
        _vfork.launch(b"/", [b"/"], [], b"", 0, _OURS, False, ())
    except OSError as error:
        return error.errno not in faults.FORBIDDEN
    return True


class VforkExec:
    """Makes children of one program; only where AVAILABLE.

    Args:
        plan: what the service's children get.
    """

    def __init__(self, plan: ChildPlan) -> None:
        self._program = plan.program
        self._listens = plan.descriptors is DescriptorMode.LISTEN_FDS
        listening = contract.encoded(contract.listen_environment("")) if self._listens else {}
        # What stands in the service's environment must not stand beside what is true of this connection.
        of_a_connection = contract.OF_A_CONNECTION | listening.keys()
        variables = {name: value for name, value in plan.environment.items() if name not in of_a_connection} | listening
        if self._listens:
            del variables[b"LISTEN_PID"]  # only the child knows it
        self._environment = [b"%b=%b" % pair for pair in variables.items()]
        self._limits = tuple((getattr(resource, f"RLIMIT_{name.upper()}"), *limit) for name, *limit in plan.rlimits)
        self._hard_limit = resource.getrlimit(RLIMIT_LOCKS)[1] if sys.platform == "linux" else 0
        self._launch = _vfork.launch

    def __call__(
        self,
        descriptor: int,
        arguments: list[bytes],
        environment: Mapping[str, str],
        log: int | None = None,
        mark: int = 0,
    ) -> int:
        """Run the program with the connection; its process id.

        Args:
            log: where its descriptor 2 leads; None for where ours does.
            mark: what marks it (mark.py), where it can have a mark; 0 for none.

        Raises:
            OSError: no process could be made, or the program not be run.
        """
        marking = limits_of(mark, self._hard_limit)
        return self._launch(
            self._program,
            arguments,
            self._environment,
            "\0".join(map("=".join, environment.items())).encode(),
            descriptor,
            _OURS if log is None else log,
            self._listens,
            self._limits if marking is None else (*self._limits, (RLIMIT_LOCKS, *marking)),
        )
