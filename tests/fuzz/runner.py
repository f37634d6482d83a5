"""Runs a target written in Python: python -m tests.fuzz.runner TARGET SECONDS SEED FINDING [INPUT...]

Prints "executions seconds". The input at hand stands in the file FINDING, which is removed when all went well: so it is
there whatever has ended this process. With 0 seconds the inputs are run as they are, and no others.
"""

import faulthandler
import sys
import time
from importlib import import_module
from pathlib import Path
from random import Random

from tests.fuzz import tape

_PATIENCE = 20.0


def main() -> None:
    """Run it."""
    name, seconds, seed, finding, *inputs = sys.argv[1:]
    execute = import_module(f"tests.fuzz.{name}").execute
    random = Random(int(seed))
    kept = [Path(path).read_bytes() for path in inputs]
    started = looked = time.monotonic()
    executions = 0
    with Path(finding).open("wb", buffering=0) as file:

        def run(data: bytes) -> None:
            nonlocal executions
            file.seek(0)
            file.truncate()
            file.write(data)
            execute(data)
            executions += 1

        faulthandler.dump_traceback_later(_PATIENCE, exit=True)
        for data in kept:
            run(data)
        kept.append(b"")
        while (now := time.monotonic()) - started < float(seconds):
            if now - looked > 1.0:
                looked = now
                faulthandler.dump_traceback_later(_PATIENCE, exit=True)
            run(tape.fresh(random) if random.random() < 0.5 else tape.mutated(random.choice(kept), kept, random))
    faulthandler.cancel_dump_traceback_later()
    Path(finding).unlink()
    print(executions, f"{time.monotonic() - started:.1f}")


if __name__ == "__main__":
    main()
