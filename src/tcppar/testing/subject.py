"""The server that is tried: three services of one conversation, in the three ways that a connection can be served."""

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import tcppar
from tcppar.testing import echo, holdings
from tcppar.testing.books import Books
from tcppar.testing.client import Manner, Target
from tcppar.testing.load import MIXED, Load
from tcppar.testing.processes import PATIENCE
from tcppar.testing.server import Server

PROGRAM = "program"
FORK = "fork"
POOL = "pool"

SHARES = {POOL: 6, FORK: 3, PROGRAM: 1}
"""Of the clients: a program costs the most by far, and is to leave the others some of the processor."""

_MARK = "TCPPAR_TESTING"
_GLANCE = 0.2
_DRAIN = 'drain_timeout = "5s"'
_LEAST_RIGHTS = "nobody"
PACKAGE = Path(tcppar.__path__[0])

_CONFIGURATION = """
[service.program]
listen = ["127.0.0.1:0"]
command = ["sh", "-c", "echo $TCPPAR_CONNECTION_ID $$; exec cat"]
stderr = "null"
spawners = 2
{settings}

[service.fork]
listen = ["127.0.0.1:0"]
handler = "{handler}:handle"
spawners = 2
{settings}

[service.pool]
listen = ["127.0.0.1:0"]
handler = "{handler}:handle"
mode = "pool"
workers = "{workers}"
spawners = 1
{settings}
"""


class Subject:
    """A server, its books, and whoever loads it.

        with Subject() as subject:
            with subject.load(rate=300) as load:
                faults.reset(subject.server)
            problems = subject.problems()

    Args:
        keep: with a keeper.
        workers: the least and the most of the pool's.
        user: whom the children run as; needs root. See `less_than_root`.

    Attributes:
        server: it.
        books: who was told what, and what was recorded.
        loads: all that it was loaded with.
    """

    def __init__(self, *, keep: bool = False, workers: str = "24", user: str | None = None) -> None:
        self.books = Books()
        self.loads: list[Load] = []
        self._folder = tempfile.TemporaryDirectory(prefix="tcppar-testing-")
        folder = Path(self._folder.name)
        file = folder / "tcppar.toml"
        package = PACKAGE if user is None or may_enter(user, PACKAGE) else copy_package(folder)
        handler = package / Path(echo.__file__).relative_to(PACKAGE)
        settings = _DRAIN if user is None else f'{_DRAIN}\nuser = "{user}"'
        file.write_text(_CONFIGURATION.format(handler=handler, workers=workers, settings=settings))
        self._mark = self._folder.name
        environment = {_MARK: self._mark, **found_first(package)}
        lives, self._lifeline = os.pipe()
        arguments: list[str | Path] = ["-c", file, "--lifeline-fd", str(lives), *(["--keep"] if keep else [])]
        try:
            self.server = Server(*arguments, environment=environment, watch=self.books.record, pass_fds=[lives])
            self.server.wait_for_event("listening", len(SHARES))
        except AssertionError:
            self._let_go()
            raise
        finally:
            os.close(lives)

    def load(self, rate: float, *, manners: Mapping[Manner, int] = MIXED) -> Load:
        """Clients of all three services, who keep coming."""
        targets = [Target(name, self.server.address_of(name), share) for name, share in SHARES.items()]
        self.loads.append(Load(targets, rate=rate, manners=manners, on_greeting=self.books.see))
        return self.loads[-1]

    def settle(self, calm: float = 1.0) -> holdings.Holdings:
        """Wait until what it holds does not change any more, and no zombie is left; what it holds then.

        Args:
            calm: for how many seconds it must not have changed. Workers beyond the least are let go after ten.
        """
        held, since = holdings.of(self.server), time.monotonic()
        deadline = since + PATIENCE + 3 * calm
        while time.monotonic() < min(since + calm, deadline):
            time.sleep(_GLANCE)
            now = holdings.of(self.server)
            if holdings.numbers(now) != holdings.numbers(held) or holdings.zombies(self.server):
                since = time.monotonic()
            held = now
        return held

    def problems(self) -> list[str]:
        """Stop it, and see what is not as it should be; nothing if all is."""
        code = self.server.stop()
        rude = sum(load.outcome.rude for load in self.loads)
        return [
            *([] if code == 0 else [f"it ended with exit code {code}"]),
            *self.books.problems(unknown=rude, again=bool(self.server.events("recovered"))),
            *(f"it said: {line}" for line in self.server.noise),
            *(f"process {pid} is left" for pid in holdings.marked(_MARK, self._mark)),
        ]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.server.__exit__(kind, error, trace)
        self._let_go()

    def _let_go(self) -> None:
        os.close(self._lifeline)
        self._folder.cleanup()


def less_than_root() -> str | None:
    """A user for children whom limits bind, which they do not bind root: None where we are not root, or there is none
    who can reach what is served.
    """
    if os.geteuid() != 0:
        return None
    return _LEAST_RIGHTS if may_enter(_LEAST_RIGHTS, Path(tempfile.gettempdir())) else None


def may_enter(user: str, folder: Path) -> bool:
    """Whether a user of this system can open what is in a folder: root's own (mode 700) is closed to all others."""
    words = ["/bin/sh", "-c", 'cd -- "$1"', "sh", str(folder)]
    try:
        group = pwd.getpwnam(user).pw_gid
        tried = subprocess.run(words, user=user, group=group, extra_groups=[], cwd="/", stderr=subprocess.DEVNULL)
    except (KeyError, OSError):
        return False  # no such user, or a root without the right to become another one
    return tried.returncode == 0


def copy_package(folder: Path) -> Path:
    """A copy of this package that everybody can read, for children that cannot reach it where it is installed."""
    package = folder / PACKAGE.name
    shutil.copytree(PACKAGE, package)
    for path in (folder, package, *package.rglob("*")):
        path.chmod(0o755)
    return package


def found_first(package: Path) -> dict[str, str]:
    """What a server needs in its environment to be of this package."""
    if package == PACKAGE:
        return {}
    return {"PYTHONPATH": os.pathsep.join([str(package.parent), *filter(None, [os.environ.get("PYTHONPATH")])])}
