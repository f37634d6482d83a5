"""Runs targets, compiled with sanitizers, and tells what they have come to."""

import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from tests.fuzz import building

PYTHON_TARGETS = ("unpack", "channel", "line", "supervisor")
_HANGS_AFTER = 60.0


class Outcome(NamedTuple):
    """What a target has come to.

    Attributes:
        said: its counts.
        finding: the input that it fails with.
        reports: what it, or a sanitizer, has said then.
    """

    said: str
    finding: Path | None = None
    reports: str = ""


class Workshop:
    """Where targets are compiled and run.

    Args:
        folder: for what is compiled; empty.
        findings: where inputs are put with which something fails.
    """

    def __init__(self, folder: Path, findings: Path) -> None:
        self._folder = folder
        self._findings = findings
        building.require_sanitizers(folder)
        self._environment = building.package(folder)

    def run(self, target: str, seconds: float, seed: int) -> Outcome:
        """Run a target, over its seeds first."""
        finding = self._findings / f"{target}-{seed}"
        seeds = sorted((building.SEEDS / target).glob("*"))
        command: list[str | Path] = [sys.executable, "-m", "tests.fuzz.runner", target]
        if target in building.PROGRAMS:
            command = [building.program(target, self._folder)]
        ran = subprocess.run(
            [*command, str(seconds), str(seed), finding, *seeds],
            env=self._environment if target in PYTHON_TARGETS else None,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds + _HANGS_AFTER,
        )
        reports = "".join(report.read_text() for report in building.findings_of(self._folder))
        if ran.returncode == 0 and not reports:
            return Outcome(ran.stdout.strip())
        return Outcome(ran.stdout.strip(), finding, ran.stderr + reports)
