"""The books of a run: each connection that was accepted is in exactly one record, and is one that a client knows of."""

import threading
from collections import Counter
from collections.abc import Iterable

from tcppar.testing.client import Greeting
from tcppar.testing.server import Record

_MOST_NAMED = 5
_OF_ONE_CONNECTION = ("end", "refused")


class Books:
    """What clients were told on one side, what the server has recorded on the other.

    A connection's id is a prefix, which is the server's for all its life, and a number. As a run can have a million
    connections, only the numbers are kept, a byte for each on each side.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen = bytearray()
        self._recorded = bytearray()
        self._prefixes: set[str] = set()
        self._pids: dict[int, int] = {}
        self._mistaken: list[str] = []
        self._by_rule: Counter[str] = Counter()
        self._stopped: Record | None = None

    def see(self, greeting: Greeting) -> None:
        """A client was told that."""
        with self._lock:
            self._note(self._seen, greeting.id, greeting.pid)

    def record(self, record: Record) -> bool:
        """A record has come: for a Server's `watch`. Whether others may want it: not those of a single connection."""
        event = record["event"]
        if event == "stopped":
            self._stopped = record
        if event not in _OF_ONE_CONNECTION:
            return True
        if rule := record.get("ended_by") or record.get("reason"):
            self._by_rule[rule] += 1
        with self._lock:
            self._note(self._recorded, record["id"], record.get("pid"))
        return False

    def _note(self, side: bytearray, id: str, pid: int | None) -> None:
        prefix, _, text = id.rpartition("-")
        number = int(text)
        self._prefixes.add(prefix)
        if number >= len(side):
            side.extend(bytes(max(number, 2 * len(side)) + 1 - len(side)))
        side[number] = min(side[number] + 1, 255)
        if pid is not None and self._pids.setdefault(number, pid) != pid:
            self._mistaken.append(f"{id}, processes {self._pids[number]} and {pid}")
        elif side is self._seen or (number < len(self._seen) and self._seen[number]):
            self._forget(number)

    def _forget(self, number: int) -> None:
        if all(number < len(side) and side[number] for side in (self._seen, self._recorded)):
            self._pids.pop(number, None)

    # Afterwards.

    @property
    def recorded(self) -> int:
        """How many connections are recorded."""
        return len(self._recorded) - self._recorded.count(0)

    @property
    def doubled(self) -> int:
        """How many of them are recorded more than once."""
        return self.recorded - self._recorded.count(1)

    def problems(self, unknown: int = 0, *, again: bool = False) -> list[str]:
        """All that does not balance; nothing if everything does.

        Args:
            unknown: how many connections no client was told of: of clients who left before they could be.
            again: whether records may have come twice, for a supervisor was killed when it had written them and had not
                noted that yet.
        """
        sides = list(enumerate(zip(self._padded(self._seen), self._padded(self._recorded), strict=True)))
        never_seen = [number for number, (seen, recorded) in sides if recorded and not seen]
        return [
            *_named("recorded more than once", [number for number, (_, recorded) in sides if recorded > 1 + again]),
            *_named("told to more than one client", [number for number, (seen, _) in sides if seen > 1]),
            *_named(
                "told, but never recorded", [number for number, (seen, recorded) in sides if seen and not recorded]
            ),
            *_named("recorded, but told to nobody", never_seen[unknown:]),
            *_named("recorded with another process than the client was told", self._mistaken),
            *_named("ended or refused by a rule", [f"{count} by {rule}" for rule, count in self._by_rule.items()]),
            *_named("prefixes of ids, where there should be one", sorted(self._prefixes)[1:]),
            *self._sums(),
        ]

    def _padded(self, side: bytearray) -> bytearray:
        return side.ljust(max(len(self._seen), len(self._recorded)), b"\0")

    def _sums(self) -> list[str]:
        if (last := self._stopped) is None:
            return []
        accepted, told = last["accepted"], last["ended"] + last["refused"]
        if accepted == told == self.recorded:
            return []
        return [f"the sums differ: accepted {accepted}, ended and refused {told}, recorded {self.recorded}"]


def _named(what: str, which: Iterable[object]) -> list[str]:
    texts = [str(one) for one in which]
    more = f" and {len(texts) - _MOST_NAMED} more" if len(texts) > _MOST_NAMED else ""
    return [f"{what}: {', '.join(texts[:_MOST_NAMED])}{more}"] if texts else []
