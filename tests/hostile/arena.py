"""A server with hostile and with honest clients.

Honest ones of all services come and go the whole time, each byte that they get verified, each wait measured. Attacks
are ordered one after the other. What must hold after each stands in promises.py.
"""

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from tcppar.testing import holdings
from tcppar.testing.client import Greeting, Manner, Target
from tcppar.testing.load import Load
from tcppar.testing.subject import found_first
from tests.hostile.attacker.base import ORDER, Attack, Mode
from tests.hostile.services import ATTACKED, OTHERS, Settings, configuration, package, users
from tests.support import config
from tests.support.server import Record, Server, read_line, stat_fields, wait_until

MARK = "TCPPAR_HOSTILE"
_RATES = {"program": 4.0, "fork": 6.0, "pool": 10.0, "other": 8.0, "others-program": 5.0}
_MANNERS = {Manner.QUICK: 9, Manner.BULK: 1}
_LITTLE = 8192
_PATIENCE = 3.0


@dataclass
class Attempt:
    """An attack under way.

    Attributes:
        client: that has ordered it.
        greeting: the id of the connection, and the process that attacks.
        began: in monotonic seconds.
    """

    attack: Attack
    mode: Mode
    client: socket.socket
    greeting: Greeting
    began: float = field(default_factory=time.monotonic)
    _data: bytes = b""

    @property
    def peer(self) -> str:
        """What records call its client."""
        return "{}:{}".format(*self.client.getsockname())

    def listen(self) -> None:
        """Note what it says."""
        if self.attack.reads:
            with contextlib.suppress(OSError):
                self._data += self.client.recv(65536)

    @property
    def heard(self) -> list[str]:
        """What it has said, line by line."""
        return self._data.decode(errors="replace").splitlines()


class Arena:
    """A server, its honest clients, and a process that is no part of it and is to live on.

    Args:
        keep: with a keeper.
        popen: more arguments for subprocess.Popen.
        settings: more of them, for every service.

    Attributes:
        first: the process that was started: the supervisor, or its keeper.
        beside: honest clients of another server, which nobody attacks.
        ends: records of ends and refusals, by the client.
        directory: where the attacked work.
        mark: what its processes have in their environment, as MARK.
    """

    def __init__(self, *, keep: bool, popen: dict[str, Any] | None = None, **settings: object) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="tcppar-hostile-"))
        self.directory = self._folder / "directory"
        self.mark = secrets.token_hex(8)
        self.ends: dict[str, Record] = {}
        self.loads: dict[str, Load] = {}
        self._beside: Server | None = None
        self.victim = subprocess.Popen(["sleep", "600"], start_new_session=True)
        try:
            self._start(keep, popen or {}, settings)
        except BaseException:
            self._let_go()
            raise

    def _start(self, keep: bool, popen: dict[str, Any], settings: Settings) -> None:
        self._folder.chmod(0o755)
        self.directory.mkdir()
        if (names := users()) is not None:
            shutil.chown(self.directory, names[0])
        # As /tmp is; and what a server that was killed has left there goes with the folder.
        (temporary := self._folder / "tmp").mkdir()
        temporary.chmod(0o1777)
        environment = {MARK: self.mark, "PYTHONDONTWRITEBYTECODE": "1", "TMPDIR": str(temporary)}
        served = package(self._folder)
        services = configuration(self._folder, served, self.directory)
        config.write(file := self._folder / "tcppar.toml", {name: one | settings for name, one in services.items()})
        options = ["--keep"] if keep else []
        environment |= found_first(served)
        self.server = Server("-c", file, *options, environment=environment, watch=self._watch, **popen)
        try:
            self.server.wait_for_event("listening", len(services))
            self.addresses = {name: self.server.address_of(name) for name in services}
            self.first, self.supervisor = psutil.Process(self.server.pid), psutil.Process(self.server.supervisor)
        except BaseException:
            self._end_server()
            raise

    def _watch(self, record: Record) -> bool:
        """Ends are looked up by their clients: there are too many to search them. Lines of attackers' are as many."""
        if record["event"] in ("end", "refused"):
            self.ends[record["peer"]] = record
        return record["event"] not in ("end", "refused", "stderr")

    def let_honest_ones_come(self) -> None:
        """To all services, until `close`; and to a server that nobody attacks, to know how slow the machine is."""
        self._beside = Server("127.0.0.1:0", "--", "sh", "-c", "echo $TCPPAR_CONNECTION_ID $$; exec cat")
        self.beside = Load([Target("beside", self._beside.address)], rate=_RATES[OTHERS[-1]], manners=_MANNERS)
        self.beside.__enter__()
        for name, address in self.addresses.items():
            self.loads[name] = load = Load([Target(name, address)], rate=_RATES[name], manners=_MANNERS)
            load.__enter__()
        wait_until(lambda: all(load.outcome.done > 1 for load in self.loads.values()))

    def slowness(self, since: float) -> float:
        """How long clients of the server that nobody attacks have had to wait, in seconds, since a time."""
        outcome = self.beside.outcome
        answers = [second.longest for second in list(outcome.seconds) if second.at > since - 1]
        waits = [wait.ended - wait.began for wait in list(outcome.waits) if wait.ended > since]
        return max([self.beside.longest, *answers, *waits])

    @property
    def others(self) -> list[Load]:
        """Honest clients of the other user's services."""
        return [self.loads[name] for name in OTHERS]

    @property
    def same(self) -> list[Load]:
        """Honest clients of the services that are attacked."""
        return [self.loads[name] for name in ATTACKED]

    # Attacks.

    def attempt(self, attack: Attack, mode: Mode) -> Attempt:
        """Order an attack.

        Raises:
            OSError, AssertionError: the service does not serve.
        """
        address = self.addresses[mode.value]
        client = socket.socket()
        try:
            client.settimeout(_PATIENCE)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _LITTLE)
            client.connect(address)
            greeting = Greeting.read(read_line(client).encode() + b"\n")
            assert greeting is not None
            client.sendall(ORDER + f"{attack.name} {self._facts(greeting, address[1])}\n".encode())
            client.setblocking(False)
        except BaseException:
            client.close()
            raise
        return Attempt(attack, mode, client, greeting)

    def _facts(self, greeting: Greeting, port: int) -> str:
        facts = {
            "number": int(greeting.id.rpartition("-")[2]),
            "supervisor": self.supervisor.pid,
            "first": self.first.pid,
            "victim": self.victim.pid,
            "other": self.spawners("other")[-1],
            "port": port,
        }
        return " ".join(f"{name}={value}" for name, value in facts.items())

    def spawners(self, service: str | None = None) -> list[int]:
        """The process ids of all spawners that there have been."""
        started = self.server.events("spawner")
        return [record["pid"] for record in started if service is None or record["service"] == service]

    def end_spawner(self, mode: Mode) -> None:
        """What an administrator does with one that is of no use any more."""
        for pid in self.spawners(mode.value):
            if self.is_own(pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def is_own(self, pid: int) -> bool:
        """Whether a process is the server's, or was started by it or by what it has started."""
        return pid in holdings.marked(MARK, self.mark)

    def left(self, attackers: set[int]) -> list[int]:
        """Processes that attackers have left: those of the server that are no child of a spawner, and their own."""
        spawners = {*self.spawners(), self.first.pid, self.supervisor.pid}
        return [
            pid
            for pid in holdings.marked(MARK, self.mark)
            if pid not in spawners and (pid in attackers or self._parent(pid) not in spawners - self._roots)
        ]

    @property
    def _roots(self) -> set[int]:
        return {self.first.pid, self.supervisor.pid}

    @staticmethod
    def _parent(pid: int) -> int:
        fields = stat_fields(pid)
        return int(fields[1]) if fields and fields[0] != "Z" else 0

    # The end.

    def stop(self, patience: float) -> tuple[int, float]:
        """Stop it: its exit code, and the seconds that it took."""
        began = time.monotonic()
        return self.server.stop(patience=patience), time.monotonic() - began

    def close(self) -> None:
        """End everything, by whatever means."""
        self._end_server()
        if self._beside is not None:
            self.beside.finish()
            self._beside.__exit__(None, None, None)
        for load in self.loads.values():
            load.finish()
        self._let_go()

    def _end_server(self) -> None:
        for pid in self._everything():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.server.__exit__(None, None, None)

    def _let_go(self) -> None:
        self.victim.kill()
        self.victim.wait()
        if self.directory.exists():
            self.directory.chmod(0o755)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _everything(self) -> Iterator[int]:
        """What there is, the first process first: it starts no others then."""
        yield self.server.pid
        while left := holdings.marked(MARK, self.mark):
            yield from left
