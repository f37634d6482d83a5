"""Putting a configuration in force: all of it or nothing. A start is a rollout from nothing; a reload is another.

First everything is prepared beside what runs: new listeners are opened, and for every service that is new or whose
children change, a first spawner is started. When all are ready, everything is switched in one step. If anything is
refused before that, what was prepared is taken back, and what runs has not noticed.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from functools import partial

from tcppar.config import Config, ServiceConfig, child_plan, listener_options
from tcppar.errors import SystemRefused
from tcppar.net import places
from tcppar.net.listener import Listener, open_among, open_listeners
from tcppar.net.opening import ListenerOptions
from tcppar.net.places import Place, Taken
from tcppar.policy import faults
from tcppar.policy.timers import Timer
from tcppar.records import Refused
from tcppar.supervisor.connections.enforcer import Enforcer
from tcppar.supervisor.dispatch.modes import pool_for
from tcppar.supervisor.dispatch.parts import Parts
from tcppar.supervisor.dispatch.pool import Pool
from tcppar.supervisor.dispatch.reaper import Reaper
from tcppar.supervisor.intake.acceptor import Acceptor, Phase
from tcppar.supervisor.intake.neighbours import Newcomer
from tcppar.supervisor.service import Service

# A spawner that is not ready after this long never will be (it takes some hundredths of a second).
_PATIENCE = 30.0


class Renewal(Enum):
    """Which services get new spawners."""

    AS_NEEDED = "those whose children would be different, and all that have a handler, for its code may be"
    EVERYTHING = "all: the spawners' own code may be different"
    NOTHING = "none, and only what is missing is opened and started"


@dataclass(frozen=True, slots=True)
class Switched:
    """What a rollout changed. `leaving` are the services that were removed, to be tended until they are finished."""

    added: tuple[str, ...]
    changed: tuple[str, ...]
    leaving: list[Service]


class Rollout:
    """One attempt to put a configuration in force.

    Args:
        config: what is wanted.
        running: the services in operation, by name; changed by `switch` only.
        on_ready: called when everything is prepared.
        renewal: which spawners are replaced.
        on_refused: called with the reasons when it cannot be, and whether they are mistakes of the user's; everything
            is as before.
    """

    def __init__(
        self,
        config: Config,
        running: dict[str, Service],
        parts: Parts,
        reaper: Reaper,
        enforcer: Enforcer,
        *,
        on_ready: Callable[["Rollout"], None],
        on_refused: Callable[[list[str], bool], None],
        renewal: Renewal = Renewal.AS_NEEDED,
    ) -> None:
        self.renewal = renewal
        self.config = config
        self._running = running
        self._parts = parts
        self._core = parts.core
        self._reaper = reaper
        self._enforcer = enforcer
        self._on_ready = on_ready
        self._on_refused = on_refused
        self._services: dict[str, Service] = {}
        self._pools: dict[str, Pool] = {}
        self._wanted = self._as_known_here(
            {
                name: places.wanted(service.settings.listen, listener_options(service), name)
                for name, service in config.services.items()
            }
        )
        self._listeners: dict[Place, list[Listener]] = {}
        self._newcomers: dict[Place, Newcomer] = {}
        self._missing: set[str] = set()
        self._over = False
        self._timer: Timer | None = None
        self.sources: tuple[str, ...] = ()
        """The files of the handler that could not be loaded, if that is why it was refused."""

    def prepare(self) -> None:
        """Open and start what is missing; `on_ready` or `on_refused` is called later, from the loop, or now."""
        try:
            for config in self.config.services.values():
                self._open_missing(config)
            for config in self.config.services.values():
                self._start_missing(config)
        except SystemRefused as error:
            self.give_up(str(error))
            return
        self._timer = self._core.timers.at(self._core.later(_PATIENCE), self._lose_patience)
        self._ready_if_complete()

    def _as_known_here(self, wanted: dict[str, list[Place]]) -> dict[str, list[Place]]:
        """Let a path that leads to a socket of ours be its place, though another path led there when it was opened:
        its folder was renamed, or a link changed.
        """
        asked = {place for those in wanted.values() for place in those}
        moved = {place: found[0].listener for place, found in self._serving().items() if place not in asked}
        return {name: [places.known(place, moved) for place in those] for name, those in wanted.items()}

    def _open_missing(self, config: ServiceConfig) -> None:
        serving = self._serving()
        for place in self._wanted[config.name]:
            if place not in serving:
                self._listeners[place] = self._open(place, listener_options(config))

    def _open(self, place: Place, options: ListenerOptions) -> list[Listener]:
        features = self._core.features
        options = replace(options, ipv6_only=not place.both_families)
        neighbours = self._overlapping(place)
        if not neighbours:
            return open_listeners(place.address, options, features)
        # They will be closed if this is put in force: no configuration has two that overlap.
        try:
            opened = open_among(place.address, options, features, [acceptor.listener for acceptor in neighbours])
        except SystemRefused:
            for acceptor in neighbours:
                acceptor.stand_alone()
            raise
        self._newcomers[place] = Newcomer(opened, options, neighbours)
        return [opened]

    def _overlapping(self, place: Place) -> list[Acceptor]:
        """Those that are open at the same port; nothing else can be bound twice."""
        taken = Taken[Acceptor]()
        for service in self._running.values() if place.address.port else ():
            for acceptor in service.acceptors:
                if acceptor.phase in (Phase.SERVING, Phase.EMPTYING):
                    taken.enter(places.of(acceptor.listener, service.name), acceptor)
        return list(dict.fromkeys(taken.overlapping(place)))

    def _serving(self) -> dict[Place, list[Acceptor]]:
        found: dict[Place, list[Acceptor]] = {}
        for service in self._running.values():
            for acceptor in service.acceptors:
                if acceptor.phase in (Phase.SERVING, Phase.BROKEN):
                    found.setdefault(places.of(acceptor.listener, service.name), []).append(acceptor)
        return found

    def _start_missing(self, config: ServiceConfig) -> None:
        name = config.name
        service = self._running.get(name)
        if service is not None and service.pool is not None and self._same_children(service.config, config):
            self._pools[name] = service.pool
            return
        self._services[name] = service = service or Service(config, self._core, self._parts.table, self._enforcer)
        self._missing.add(name)
        try:
            pool = self._pools[name] = pool_for(config)(service, config, self._parts, self._reaper)
            pool.prepare(service.pool, partial(self._spawner_ready, name))
        except OSError as error:
            raise SystemRefused(f"service {name}: cannot start a spawner: {faults.name(error.errno or 0)}") from error

    def _same_children(self, old: ServiceConfig, new: ServiceConfig) -> bool:
        if self.renewal is not Renewal.AS_NEEDED:
            return self.renewal is Renewal.NOTHING
        if new.settings.handler is not None:
            return False  # the settings may be as they were, but not the code
        inherited = self._core.features.inherited_options
        plans = [child_plan(config, "", {}, options_inherited=inherited) for config in (old, new)]
        return plans[0] == plans[1] and old.settings.stderr == new.settings.stderr

    def _spawner_ready(self, name: str, refusal: Refused | None) -> None:
        if self._over:
            return
        if refusal is not None:
            self.sources = refusal.sources
            self.give_up(f"service {name}: {refusal.reason}", mistake=refusal.mistake)
            return
        self._missing.discard(name)
        self._ready_if_complete()

    def _ready_if_complete(self) -> None:
        if not self._missing and not self._over and self._listen_among_neighbours():
            self._end()
            self._on_ready(self)

    def _listen_among_neighbours(self) -> bool:
        """Let those listen that take clients away from others, only now: nobody could serve them before."""
        try:
            for newcomer in self._newcomers.values():
                newcomer.listen()
        except OSError as error:
            self.give_up(f"cannot listen: {faults.name(error.errno or 0)}")
            return False
        return True

    def _end(self) -> None:
        self._over = True
        if self._timer is not None:
            self._timer.cancel()  # which else would keep all of this, and the configuration, for so long

    def _lose_patience(self) -> None:
        if not self._over:
            self.give_up(f"service {', '.join(sorted(self._missing))}: not ready within {_PATIENCE:g} s")

    def give_up(self, reason: str, *, mistake: bool = False) -> None:
        """Take back what was prepared.

        Args:
            mistake: whether it is the user's code or configuration that has to be changed.
        """
        if self._over:
            return
        self._end()
        for listener in (listener for opened in self._listeners.values() for listener in opened):
            try:
                listener.turn_away()  # removes the file of a Unix socket
            except OSError:
                pass  # it is closed all the same
            listener.close()
        for newcomer in self._newcomers.values():
            newcomer.leave()
        for name, pool in self._pools.items():
            if name in self._services:
                pool.retire()
        self._on_refused([reason], mistake)

    def switch(self) -> Switched:
        """Put it in force."""
        serving = self._serving()
        before = {name: service.config for name, service in self._running.items()}
        leaving = [self._running.pop(name) for name in before if name not in self.config.services]
        for name, config in self.config.services.items():
            if name not in self._running:
                self._running[name] = self._services[name]
            self._running[name].put_in_force(config, self._pools[name])
        for name, wanted in self._wanted.items():
            for place in wanted:
                self._give(self._running[name], place, serving.pop(place, []))
        for acceptors in serving.values():
            for acceptor in acceptors:
                acceptor.retire()
        added = [name for name in self.config.services if name not in before]
        changed = [
            name
            for name, config in self.config.services.items()
            if name in before and (before[name] != config or name in self._services)
        ]
        for service in leaving:
            service.leave()
        return Switched(tuple(added), tuple(changed), leaving)

    def _give(self, service: Service, place: Place, present: list[Acceptor]) -> None:
        """Let a service have the listeners of an address: those that are open already are not touched."""
        options = listener_options(service.config)
        for acceptor in present:
            acceptor.rename(place.address)
            acceptor.move_to(service, options)
        for listener in self._listeners.get(place, []):
            strikes = service.config.settings.strikes
            acceptor = Acceptor(listener, service, self._core, strikes)
            if (newcomer := self._newcomers.get(place)) is not None:
                newcomer.stay(acceptor)
            service.on_new_acceptor(acceptor)
