"""Writing the books for whoever goes on from here: the next supervisor, the installed program, or a trial of it."""

from collections.abc import Iterable
from itertools import islice

import tcppar
from tcppar.config import Config
from tcppar.supervisor import snapshot
from tcppar.supervisor.connections.table import Table
from tcppar.supervisor.core import Core
from tcppar.supervisor.dispatch.parts import Parts
from tcppar.supervisor.dispatch.reaper import Reaper
from tcppar.supervisor.service import Service
from tcppar.supervisor.snapshot import Snapshot
from tcppar.supervisor.succession.ledger import Ledger

# So many connections does a trial get to see.
_SAMPLE = 100


def write_structure(ledger: Ledger, structure: bytes, services: Iterable[Service]) -> None:
    """What changes seldom, and how long a stop of these services may take.

    Raises:
        SystemRefused: the structure is larger than any should be.
    """
    settings = [service.config.settings for service in services]
    ledger.note_patience(
        # Who lingers when the last child has ended waits for its other processes, and then for its client.
        max((one.drain_timeout + 2 * (one.linger or 0.0) for one in settings), default=0.0),
        max((one.kill_timeout for one in settings), default=0.0),
    )
    ledger.save(structure)


def write_connections(ledger: Ledger, core: Core, table: Table) -> None:
    """What books that were kept from the start have already.

    Raises:
        OSError: the system is short of memory.
    """
    for connection in table.all_open():
        ledger.copy(connection)
    ledger.go_on_counting(table.last_number)
    ledger.note_hired(core.workers_hired)
    ledger.settle(core.counters)


def write_sample(ledger: Ledger, table: Table) -> None:
    """Some connections, for a trial: there may be very many.

    Raises:
        OSError: the system is short of memory.
    """
    for connection in islice(table.all_open(), _SAMPLE):
        slot = connection.slot
        ledger.copy(connection)
        connection.slot = slot  # in the books that count


def describe(
    parts: Parts,
    reaper: "Reaper",
    config: Config,
    serving: Iterable[Service],
    leaving: Iterable[Service],
    *,
    stopping: bool,
    strangers: Iterable[int],
) -> bytes:
    """All that a next supervisor must know, but for the connections, as the ledger keeps it."""
    serving, leaving = list(serving), list(leaving)
    in_force = [service.pool.crew for service in (*serving, *leaving) if service.pool is not None]
    pools = [crew.describe(in_force=True) for crew in in_force]
    pools += [crew.describe(in_force=False) for crew in reaper.crews if crew not in in_force]
    return snapshot.encoded(
        Snapshot(
            version=snapshot.VERSION,
            written_by=tcppar.__version__,
            id_prefix=parts.core.id_prefix,
            stopping=stopping,
            config=config,
            services=[
                *(service.describe(leaving=False) for service in serving),
                *(service.describe(leaving=True) for service in leaving),
            ],
            pools=pools,
            control_files=dict(reaper.control_files),
            strangers=sorted(strangers),
            left_behind=parts.logs.describe(),
            unfinished=parts.logs.unfinished(),
        )
    )
