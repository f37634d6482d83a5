"""strace beside running processes: it counts their calls, or makes one of them fail, or kill.

It follows whom they fork, and lets go of whoever begins another program: spawners, children and trials are not hurt,
nor an interpreter that starts.
"""

import contextlib
import errno
import os
import re
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import tool
from tests.injection.faults import ERRORS, UNHURT
from tests.support.server import PATIENCE, stat_fields, wait_until

_CALL = re.compile(r"^\d+ +(\w+)\(")


@dataclass(frozen=True)
class Fault:
    """What happens at a call. The n-th of its name, in each process that is traced.

    Attributes:
        error: what it gives; None if it is death, by SIGKILL.
    """

    call: str
    number: int
    error: int | None

    def __str__(self) -> str:
        what = "SIGKILL" if self.error is None else errno.errorcode[self.error]
        return f"{self.call}:{what}:{self.number}"

    @property
    def options(self) -> list[str]:
        """As strace has it."""
        what = "signal=SIGKILL" if self.error is None else f"error={errno.errorcode[self.error]}"
        return ["-e", f"trace={self.call}", "-e", f"inject={self.call}:{what}:when={self.number}"]


@contextmanager
def traced(pids: Sequence[int], options: Sequence[str], output: Path, *, beyond_exec: bool = False) -> Iterator[None]:
    """Trace processes in the block, with those that they make, until they become others; or alone, beyond that."""
    whom = [word for pid in pids for word in ("-p", str(pid))]
    whose = [] if beyond_exec else ["-f", "-b", "execve"]
    words = [tool("strace"), "-qq", *whose, "--signal=none", "-o", str(output), *options, *whom]
    with subprocess.Popen(words, stderr=subprocess.DEVNULL) as strace:
        try:
            wait_until(lambda: strace.poll() is not None or all(_is_traced(pid) for pid in pids))
            # Whoever waits in a call makes it anew, and may have died of that.
            assert strace.poll() is None or not all(map(_lives, pids)), "strace cannot trace"
            yield
        finally:
            with contextlib.suppress(ProcessLookupError):
                strace.send_signal(signal.SIGINT)
            strace.wait(PATIENCE)


def _lives(pid: int) -> bool:
    return stat_fields(pid)[:1] not in ([], ["Z"])


def _is_traced(pid: int) -> bool:
    try:
        return "TracerPid:\t0\n" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True


def faults_in(output: Path, *, deadly: bool, spared: int = 0) -> list[Fault]:
    """All that can happen at the calls that strace has written down, in the order of the calls' names.

    Args:
        spared: a process that is traced too, and is not to die.
    """
    each: dict[str, Counter[str]] = {}
    for line in output.read_text(errors="replace").splitlines():
        if found := _CALL.match(line):
            each.setdefault(line.partition(" ")[0], Counter())[found[1]] += 1
    most = Counter[str]()
    for counted in each.values():
        most |= counted
    faults = [
        Fault(call, number, error)
        for call in sorted(most)
        for error in ERRORS.get(call, ())
        for number in range(1, most[call] + 1)
    ]
    its = each.get(str(spared), Counter())
    deadly_calls = sorted(most.keys() - UNHURT) if deadly else []
    return faults + [
        Fault(call, number, None) for call in deadly_calls for number in range(its[call] + 1, most[call] + 1)
    ]


def resume(pid: int) -> None:
    """Let go on what has stopped itself."""
    os.kill(pid, signal.SIGCONT)
