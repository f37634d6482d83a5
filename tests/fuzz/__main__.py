"""./run fuzz: every target for a share of the time. The exit code is 0 only if nothing was found."""

import argparse
import secrets
import sys
import tempfile
from pathlib import Path

from tests.fuzz.building import PROGRAMS
from tests.fuzz.workshop import PYTHON_TARGETS, Workshop


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./run fuzz", description=__doc__)
    parser.add_argument("seconds", type=float, nargs="?", default=60.0, help="for all targets together")
    parser.add_argument("--seed", type=int, default=None, help="of the choices; another one each time unless told")
    parser.add_argument("--target", choices=[*PROGRAMS, *PYTHON_TARGETS], help="this one alone")
    parser.add_argument("--findings", type=Path, default=Path("fuzz-findings"), help="folder of inputs that fail")
    return parser.parse_args()


def main() -> int:
    """Run them all; 0 if nothing was found."""
    arguments = _arguments()
    seed = secrets.randbelow(2**31) if arguments.seed is None else arguments.seed
    targets = [arguments.target] if arguments.target else [*PROGRAMS, *PYTHON_TARGETS]
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
