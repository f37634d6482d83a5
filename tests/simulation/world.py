"""The whole simulated system, and how it goes on: everybody runs until all wait, then the clock goes forward."""

import signal
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TypeVar

from tcppar.config import Config
from tcppar.net.platform import Features
from tests.simulation.kernel import Kernel, Process
from tests.simulation.life import Life
from tests.simulation.network import Client, Fate, Network
from tests.simulation.processes import Child, SpawnerProcess, Worker
from tests.simulation.system import installed

# No event of the simulated system sets off as many passes as this before everybody waits again.
_ENDLESS = 5_000
_SOMEBODY_HANGS = 100

Kind = TypeVar("Kind", bound=Process)


@dataclass(frozen=True)
class Profile:
    """What a world is made of.

    Attributes:
        keep: whether there is a keeper.
        pool: whether services have workers; else each connection has a process of its own.
    """

    features: Features
    keep: bool = False
    pool: bool = False


class World:
    """All of it.

    Args:
        config: what the server is started with.
    """

    def __init__(self, profile: Profile, config: Config) -> None:
        self.profile = profile
        self.kernel = Kernel()
        self.network = Network(self.kernel)
        with ExitStack() as stack:
            stack.enter_context(installed(self.kernel, self.network))
            self.life = Life(self.kernel, profile.features, config, keep=profile.keep)
            self._installed = stack.pop_all()

    def close(self) -> None:
        """Give the program its own system again."""
        self._installed.close()
        self.life.close()

    # Who is there.

    def _living(self, kind: type[Kind]) -> list[Kind]:
        return [process for process in self.kernel.processes.values() if isinstance(process, kind) and process.lives]

    @property
    def spawners(self) -> list[SpawnerProcess]:
        """Those that live."""
        return self._living(SpawnerProcess)

    @property
    def children(self) -> list[Child]:
        """Those that live."""
        return self._living(Child)

    @property
    def workers(self) -> list[Worker]:
        """Those that live."""
        return self._living(Worker)

    @property
    def busy_workers(self) -> list[Worker]:
        """Those that serve somebody."""
        return [worker for worker in self.workers if worker.client is not None]

    @property
    def conversations(self) -> list[Child | Worker]:
        """Whoever serves a client now."""
        return [*self.children, *self.busy_workers]

    @property
    def unserved(self) -> list[Client]:
        """Clients who are in, and whom nobody has begun to serve."""
        return [client for client in self.network.clients if client.fate is Fate.QUEUED]

    # How it goes on.

    def end_conversation(self, who: Child | Worker, code: int = 0) -> None:
        """A child or a handler comes to its end."""
        if isinstance(who, Worker):
            who.finish(code)
        else:
            self.kernel.exit(who, code << 8)

    def run_others(self) -> None:
        """Everybody but the supervisor runs until all wait."""
        while self._step_all(process for process in self._everybody() if process is not self.life.process):
            pass

    def settle(self) -> None:
        """Everybody runs until all wait."""
        passes = 0
        while self._step_all(self._everybody()) or self.life.start_next():
            passes += 1
            assert passes < _ENDLESS, "it runs for ever, and no time passes"

    def _everybody(self) -> list[Process]:
        return list(self.kernel.processes.values())

    @staticmethod
    def _step_all(processes: Iterable[Process]) -> bool:
        """Each of them does one step; whether any had something to do."""
        return sum(process.step() for process in processes) > 0

    def run(self, seconds: float) -> None:
        """Let time pass, with everybody running."""
        end = self.kernel.now + seconds
        idle = 0
        self.settle()
        while (now := self._next_event()) <= end:
            idle = idle + 1 if now <= self.kernel.now else 0
            assert idle < _SOMEBODY_HANGS, f"somebody is to go on at {now}, and does not"
            self.kernel.now = max(now, self.kernel.now)
            self.network.try_again()
            self.settle()
        self.kernel.now = end
        self.settle()

    def _next_event(self) -> float:
        return min(self.network.next_try_at, *(process.wakes_at for process in self._everybody()), float("inf"))

    def kill(self, process: Process) -> None:
        """It dies by force."""
        self.kernel.exit(process, signal.SIGKILL)
