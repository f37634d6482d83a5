"""Clients by the thousand, who converse with an echo: every byte verified, every failure told by its kind.

One thread and one selector, for it has to be cheap beside the server that it tries. What a client does is written down
as one does it (client.py), in a generator that says what it waits for.
"""

import heapq
import itertools
import random
import selectors
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Self, TypeVar

from tcppar.testing.client import Client, Failure, Greeting, LetDown, Loss, Manner, Target, Wait, failure_of
from tcppar.testing.processes import PATIENCE

_MOST_TOLD = 10_000

MIXED = {Manner.QUICK: 92, Manner.TALK: 4, Manner.BULK: 2, Manner.SLOW: 1, Manner.RUDE: 1}
"""Shares of a load that has something of everything."""


@dataclass(frozen=True, slots=True)
class Second:
    """One second of a load: when it began (time.monotonic), how many ended in it, and how long the first answer took
    them, in seconds: the median, the 99th of 100, the longest.
    """

    at: float
    done: int
    median: float
    p99: float
    longest: float


@dataclass
class Outcome:
    """What became of a load.

    Attributes:
        done: connections that have ended, well or not.
        rude: those among them that did not want to be served.
        failures: how many failed, by kind.
        losses: those that failed, the first ten thousand.
        late: how many had to wait for more than a second.
        waits: those waits, the first ten thousand.
    """

    done: int = 0
    rude: int = 0
    failures: Counter[Failure] = field(default_factory=Counter)
    losses: list[Loss] = field(default_factory=list)
    late: int = 0
    waits: list[Wait] = field(default_factory=list)
    seconds: list[Second] = field(default_factory=list)

    @property
    def failed(self) -> int:
        """How many were let down."""
        return self.failures.total()


class Load:
    """Clients who keep coming, until they are told not to.

        with Load([Target("echo", server.address)], rate=200) as load:
            ...
        assert load.outcome.failed == 0

    The server must say a greeting in the first line, `ID PID`, and then answer what it reads (as echo.py does).

    Args:
        targets: where they go.
        rate: how many come each second, unless there are too many.
        most: how many there are at once at the most.
        manners: shares of the ways to converse.
        on_greeting: called with each greeting that a client was told, in the thread of the clients.
        patience: how long a client waits altogether, in seconds.

    Raises:
        OSError: (at the end) there is something amiss on this side, such as no descriptor for a client.
    """

    def __init__(
        self,
        targets: list[Target],
        *,
        rate: float,
        most: int = 256,
        manners: Mapping[Manner, int] = MIXED,
        on_greeting: Callable[[Greeting], object] = lambda greeting: None,
        patience: float = 2 * PATIENCE,
    ) -> None:
        self.outcome = Outcome()
        self._row = _row(targets, manners)
        self._interval = 1 / rate
        self._most = most
        self._on_greeting = on_greeting
        self._patience = patience
        self._selector = selectors.DefaultSelector()
        self._clients: set[Client] = set()
        self._pauses: list[tuple[float, int, Client]] = []
        self._numbers = itertools.count(1)
        self._answers: list[float] = []
        self._closing = threading.Event()
        self._trouble: OSError | None = None
        self._thread = threading.Thread(target=self._run, name="load")

    @property
    def open(self) -> int:
        """How many clients there are just now."""
        return len(self._clients)

    @property
    def longest(self) -> float:
        """For how many seconds the client who has been there longest has been there; 0 without one."""
        return max((time.monotonic() - client.began for client in tuple(self._clients)), default=0.0)

    @property
    def running(self) -> bool:
        """Whether it goes on: not after its end, nor when something is amiss on this side."""
        return self._thread.is_alive()

    def finish(self) -> Outcome:
        """Let no more come, and wait until all that are there have ended; what became of all."""
        self._closing.set()
        self._thread.join()
        if self._trouble is not None:
            raise self._trouble
        return self.outcome

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.finish()

    # The thread.

    def _run(self) -> None:
        try:
            self._serve_clients()
        except OSError as error:
            self._trouble = error
        finally:
            for client in self._clients:
                client.sock.close()
            self._selector.close()

    def _serve_clients(self) -> None:
        next_at = self._second_began = time.monotonic()
        while self._clients or not self._closing.is_set():
            now = time.monotonic()
            if now >= self._second_began + 1:
                self._close_second(now)
            while self._pauses and self._pauses[0][0] <= now:
                self._advance(heapq.heappop(self._pauses)[2])
            if self._closing.is_set() or len(self._clients) >= self._most:
                next_at = now + self._interval
            elif next_at <= now:
                # Not more than a tenth of a second is made up for: a rush would be another load.
                next_at = max(next_at, now - 0.1) + self._interval
                self._begin()
                continue
            wake_at = min(next_at, self._pauses[0][0] if self._pauses else next_at, self._second_began + 1)
            for key, _ in self._selector.select(max(0.0, wake_at - now)):
                self._advance(key.data)
        self._close_second(time.monotonic())

    def _begin(self) -> None:
        number = next(self._numbers)
        client = Client(number, *self._row[number % len(self._row)])
        self._clients.add(client)
        self._advance(client)

    def _advance(self, client: Client) -> None:
        """Let it go on, to where it has to wait again."""
        try:
            wanted = next(client.steps)
        except StopIteration:
            self._end(client, None, "")
        except LetDown as error:
            self._end(client, error.failure, str(error))
        except OSError as error:
            self._end(client, failure_of(error), str(error))
        else:
            if isinstance(wanted, float):
                self._watch(client, 0)
                heapq.heappush(self._pauses, (time.monotonic() + wanted, client.number, client))
            else:
                self._watch(client, wanted)

    def _watch(self, client: Client, interest: int) -> None:
        if interest == client.interest:
            return
        if not client.interest:
            self._selector.register(client.sock, interest, client)
        elif interest:
            self._selector.modify(client.sock, interest, client)
        else:
            self._selector.unregister(client.sock)
        client.interest = interest

    def _end(self, client: Client, failure: Failure | None, detail: str) -> None:
        self._watch(client, 0)
        client.sock.close()
        self._clients.discard(client)
        outcome = self.outcome
        outcome.done += 1
        outcome.rude += client.manner is Manner.RUDE
        if client.greeting is not None:
            self._on_greeting(client.greeting)
        if client.manner is not Manner.RUDE:
            self._answers.append(client.answered_after)
        if client.slowest is not None:
            outcome.late += 1
            _remember(client.slowest, outcome.waits)
        if failure is not None:
            self._note_failure(client, failure, detail)

    def _note_failure(self, client: Client, failure: Failure, detail: str) -> None:
        now, target = time.monotonic(), client.target
        self.outcome.failures[failure] += 1
        _remember(
            Loss(failure, target.service, client.manner, now, now - client.began, client.greeting, detail),
            self.outcome.losses,
        )

    def _close_second(self, now: float) -> None:
        """Once a second: what it was like, and whose patience has ended."""
        answers, self._answers = sorted(self._answers), []
        if answers:
            middle, near_end = answers[len(answers) // 2], answers[len(answers) * 99 // 100]
            self.outcome.seconds.append(Second(self._second_began, len(answers), middle, near_end, answers[-1]))
        else:
            self.outcome.seconds.append(Second(self._second_began, 0, 0.0, 0.0, 0.0))
        self._second_began = now
        for client in [client for client in self._clients if now - client.began > self._patience]:
            self._pauses = [pause for pause in self._pauses if pause[2] is not client]
            self._end(client, Failure.SILENT, "its patience has ended")


def _row(targets: list[Target], manners: Mapping[Manner, int]) -> list[tuple[Target, Manner]]:
    """Each kind of client as often as the shares say, in an order that is the same each time."""
    row = [
        (target, manner) for target in targets for manner, share in manners.items() for _ in range(target.share * share)
    ]
    random.Random(len(row)).shuffle(row)
    return row


_T = TypeVar("_T")


def _remember(one: _T, where: list[_T]) -> None:
    if len(where) < _MOST_TOLD:
        where.append(one)
