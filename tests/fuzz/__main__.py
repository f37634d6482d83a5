"""./run fuzz: every target for a share of the time. The exit code is 0 only if nothing was found."""

import argparse
import secrets
import subprocess
import sys
import tempfile
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


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./run fuzz", description=__doc__)
    parser.add_argument("seconds", type=float, nargs="?", default=60.0, help="for all targets together")
    parser.add_argument("--seed", type=int, default=None, help="of the choices; another one each time unless told")
    parser.add_argument("--target", choices=[*building.PROGRAMS, *PYTHON_TARGETS], help="this one alone")
    parser.add_argument("--findings", type=Path, default=Path("fuzz-findings"), help="folder of inputs that fail")
    return parser.parse_args()


def main() -> int:
    """Run them all; 0 if nothing was found."""
    arguments = _arguments()
    seed = secrets.randbelow(2**31) if arguments.seed is None else arguments.seed
    targets = [arguments.target] if arguments.target else [*building.PROGRAMS, *PYTHON_TARGETS]
    arguments.findings.mkdir(parents=True, exist_ok=True)
    clean = True
    with tempfile.TemporaryDirectory(prefix="tcppar-fuzz-") as folder:
        workshop = Workshop(Path(folder), arguments.findings.absolute())
        for target in targets:
            outcome = workshop.run(target, arguments.seconds / len(targets), seed)
            if outcome.finding is None:
                executions, seconds, *coverage = outcome.said.split()
                rate = int(executions) / max(float(seconds), 0.1)
                more = f", {coverage[0]} edges" if coverage else ""
                print(f"{target}: {executions} executions in {seconds} s, {rate:.0f}/s{more}; clean", flush=True)
            else:
                clean = False
                print(f"{target}: FAILED, with seed {seed} and the input {outcome.finding}\n{outcome.reports}")
    if clean and not any(arguments.findings.iterdir()):
        arguments.findings.rmdir()
    return 0 if clean else 1


if __name__ == "__main__":
    sys.exit(main())
