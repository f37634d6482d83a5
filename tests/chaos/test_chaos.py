"""Everything at once, under load: nobody is refused, reset or cut, and nothing is left.

Some minutes of it run with the other tests. The long form is `./run soak`, which also draws docs/reliability.svg.
"""

import faulthandler
import os
import sys
from pathlib import Path

import pytest

from tcppar.testing import chaos
from tcppar.testing.chaos import Plan
from tests.chaos import plot

SECONDS = float(os.environ.get("TCPPAR_SOAK_SECONDS", "130"))
CONNECTIONS = int(os.environ.get("TCPPAR_SOAK_CONNECTIONS", "0"))
RATE = 250.0
FOLDER = os.environ.get("TCPPAR_SOAK_FOLDER")

# A machine that has other things to do makes clients late: that fails the long form alone, for which it should be idle.
TOLERATED = () if CONNECTIONS else ("clients were late",)

# The start, and twice the time until idle workers are let go, are not of the run.
pytestmark = pytest.mark.timeout(4 * SECONDS + 300)


@pytest.mark.usefixtures("many_descriptors")
@pytest.mark.skipif(sys.platform != "linux", reason="a keeper and lowered limits need Linux")
def test_nobody_is_lost_and_nothing_is_left(tmp_path: Path) -> None:
    faulthandler.cancel_dump_traceback_later()  # it is not hung: it takes so long
    rate = max(RATE, 1.1 * CONNECTIONS / SECONDS)
    report = chaos.run(Plan(SECONDS, CONNECTIONS, rate, chaos.FAULTS))
    print(*report.lines(), sep="\n")
    folder = Path(FOLDER) if FOLDER else tmp_path
    (folder / "reliability.json").write_bytes(report.figures())
    (folder / "reliability.svg").write_text(plot.svg(report))
    assert [problem for problem in report.problems if not any(tolerated in problem for tolerated in TOLERATED)] == []
    assert report.faults == chaos.FAULTS
