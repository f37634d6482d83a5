"""`conn.log` does the same whether logging is loaded or not, and does without it where nobody has loaded it."""

import logging
import subprocess
import sys

import pytest

from tests.support.command import Serve
from tests.support.handlers import HANDLERS, said_by, start

NOT_LOADED, LOADED = "logging_nothing_loaded:handle", "logging_loaded:handle"
SEEN = [
    "INFO plain 100%",
    "WARNING text and 7",
    "ERROR mapped",
    "CRITICAL an object",
    "Level 35 between",
    "ERROR failed",
    "ERROR as a flag",
    "ERROR as itself",
    "ERROR nothing was raised",
    "INFO last",
]


@pytest.mark.parametrize("mode", ["fork", "pool"])
@pytest.mark.parametrize(("target", "said"), [(NOT_LOADED, "not loaded"), (LOADED, "loaded")])
def test_all_is_written_whether_logging_is_loaded_or_not(serve: Serve, target: str, said: str, mode: str) -> None:
    server = start(serve, target, mode=mode)
    if not server.portable:  # the spawner in Python has libraries of its own
        assert said_by(server) == said
    else:
        said_by(server)
    assert server.wait_for_event("end")[0]["exit"] == 0
    assert server.stop() == 0
    lines = [record["line"] for record in server.events("stderr")]
    levels = tuple(line.partition(" ")[0] for line in SEEN)
    assert [line for line in lines if line.startswith(levels) and "could not be formatted" not in line] == SEEN
    assert sum(line == "LookupError: lost" for line in lines) == 3
    # What cannot be put into words is told, with the reason, and ends nothing.
    assert sum("TypeError: " in line for line in lines) == 2


def test_the_line_without_logging_is_the_line_with_it() -> None:
    """Held against logging itself: the same calls, each by the interpreter that has it and by the one that has not."""
    script = f"""
import sys; sys.path.insert(0, {str(HANDLERS)!r})
import {{}}
from types import SimpleNamespace
from tcppar.child import connection_log
from logging_nothing_loaded import say_all
conn = SimpleNamespace(id="a-1", service="echo", peer="192.0.2.1:1")
log = connection_log.log_of(conn)
say_all(SimpleNamespace(log=log))
print(type(log).__name__)
"""
    without, loaded = (_run(script.format(module)) for module in ("sys", "logging"))
    assert (without[0], loaded[0]) == ("ConnectionLog", "_Adapter")
    assert without[1] == loaded[1]


def _run(script: str) -> tuple[str, list[str]]:
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return done.stdout.strip(), [line for line in done.stderr.splitlines() if not line.startswith("  ")]


def test_who_configures_logging_in_the_midst_gets_what_comes_then() -> None:
    """A log that was made before logging was loaded passes on to it, with the caller's own place."""
    script = f"""
import sys; sys.path.insert(0, {str(HANDLERS)!r})
from types import SimpleNamespace
from tcppar.child import connection_log
conn = SimpleNamespace(id="a-1", service="echo", peer="192.0.2.1:1")
log = connection_log.log_of(conn)
log.info("before")
import logging
logging.basicConfig(format="%(name)s %(funcName)s %(connection_id)s %(message)s", level="DEBUG", stream=sys.stdout)
def caller():
    log.debug("named")
    log.log(10, "numbered")
    log.info("with more", stack_info=False)
    connection_log.log_of(conn).info("directly")
caller()
print(log.isEnabledFor(logging.INFO), log.logger.name)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr == "INFO before\n"
    assert done.stdout.splitlines() == [
        "tcppar.echo caller a-1 named",
        "tcppar.echo caller a-1 numbered",
        "tcppar.echo caller a-1 with more",
        "tcppar.echo caller a-1 directly",
        "True tcppar.echo",
    ]


def test_the_levels_are_loggings() -> None:
    from tcppar.child.connection_log import LEVELS

    assert {name: logging.getLevelName(name) for name in LEVELS} == LEVELS
