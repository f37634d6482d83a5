"""The answers that spawners and workers owe, and for how long they may."""

from collections.abc import Iterable, Iterator

from tcppar.supervisor.dispatch.answers import FOREVER, Debt
from tcppar.supervisor.dispatch.spawner_process import SpawnerProcess
from tcppar.supervisor.dispatch.taker import TakerState
from tcppar.supervisor.dispatch.worker_process import WorkerProcess

# A program on a slow disk may take seconds to start, and its spawner waits for it.
_SPAWNERS_PATIENCE = 10.0
# Who is idle reads an offer at once, and who has closed its channel ends; to fork a worker, and to tell of one's end,
# may take a spawner longer.
_WORKERS_PATIENCE = 0.5
_HIRE_PATIENCE = 10.0
_END_PATIENCE = 3.0


def spawner_debts(spawners: list[SpawnerProcess]) -> Iterator[Debt]:
    """The answers to offers that spawners owe, and the word that they have begun, for which a handler's module may need
    any time.
    """
    for spawner in spawners:
        if spawner.state is TakerState.STARTING:
            yield Debt(spawner, "begin", 0.0, FOREVER, "it does not begin")
        elif spawner.offered and not spawner.given_up:
            first = next(iter(spawner.offered.values()))
            matter = first.number, first.attempts
            yield Debt(spawner, matter, first.offered_at, _SPAWNERS_PATIENCE, "it does not answer")


def worker_debts(workers: Iterable[WorkerProcess], now: float) -> Iterator[Debt]:
    """What workers owe, and their spawners of them."""
    for worker in workers:
        spawner = worker.spawner
        if worker.state is TakerState.LOST:
            if worker.lives():
                continue
            what = f"it does not report how worker pid {worker.pid} ended"
            yield Debt(spawner, worker.number, worker.lost_at, _END_PATIENCE, what)
        elif worker.state is TakerState.STARTING:
            yield Debt(spawner, worker.number, worker.hired_at, _HIRE_PATIENCE, "it does not start a worker")
        elif worker.given_up:
            yield Debt(spawner, worker.number, now, _END_PATIENCE, "its worker does not end")
        elif worker.state is TakerState.RETIRING and not worker.offered and not worker.children:
            yield Debt(worker, "end", worker.retired_at, _END_PATIENCE, "it has nothing to do but does not end")
        elif worker.offered:
            first = next(iter(worker.offered.values()))
            matter = first.number, first.attempts
            yield Debt(
                worker,
                matter,
                first.offered_at,
                _WORKERS_PATIENCE,
                "it does not take the connection it was offered",
            )
