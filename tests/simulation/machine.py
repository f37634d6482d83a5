"""Everything that can happen to a server, in any order, as rules of a state machine (hypothesis)."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from signal import Signals
from typing import TypeVar

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tcppar.config import Config
from tcppar.net.platform import PORTABLE, Features
from tcppar.policy import faults
from tcppar.policy.faults import Remedy
from tcppar.policy.strikes import Verdict
from tests.simulation.checks import Checks
from tests.simulation.configs import HANDLER, OTHER_PROGRAM, PLACES, POOL, PROGRAM, Plain, configs
from tests.simulation.faults import ERRORS, Call
from tests.simulation.processes import Child, Copier
from tests.simulation.world import Profile, World

FULL = Features(**dict.fromkeys(Features.__struct_fields__, True))
TIMES = st.sampled_from([1, 2, 5, 30])
# Enough for every rule to be over: the longest pause (30 s), the longest patience, and a stop to its end.
LONG = 100.0
# Enough for the longest delay until what did not work is tried again: 5 s for a spawner.
SOON = 6.0

LONG_FORM = int(os.environ.get("TCPPAR_SIMULATION_EXAMPLES", "0"))
"""How many schedules are tried with each machine; 0 for the few of the short form."""
_EXAMPLES = 30
_STEPS = 40


class ServerMachine(RuleBasedStateMachine):
    """A server, and what happens to it."""

    profile = Profile(FULL)
    kinds: tuple[Plain, ...] = (PROGRAM, OTHER_PROGRAM)

    def __init__(self) -> None:
        super().__init__()
        self.world: World | None = None

    @initialize(data=st.data())
    def start(self, data: st.DataObject) -> None:
        config = data.draw(configs(self.kinds), "config")
        self.begin(config)

    def begin(self, config: Config) -> None:
        """Start the server, and wait until it serves."""
        self.world = World(self.profile, config)
        self.checks = Checks(self.world)
        self.stopped = False
        self.world.run(1.0)

    @property
    def can_be_found(self) -> bool:
        """Whether orphans are found that nobody has told of: those that become ours are."""
        return self.profile.features.subreaper

    @property
    def there(self) -> World:
        """The system."""
        assert self.world is not None
        return self.world

    # Clients, and time.

    @rule(place=st.sampled_from(PLACES), count=st.integers(1, 4))
    def connect(self, place: str, count: int) -> None:
        for _ in range(count):
            self.there.network.connect(place)

    @rule(which=st.integers(0, 9))
    def connect_late(self, which: int) -> None:
        self.there.network.connect_late(which)

    @rule(which=st.integers(0, 9))
    def leave(self, which: int) -> None:
        """A client goes by a reset, wherever it is."""
        if clients := [client for client in self.there.network.clients if not client.has_left]:
            clients[-1 - which % len(clients)].has_left = True

    @rule(which=st.integers(0, 9), code=st.sampled_from([0, 1]))
    def end(self, which: int, code: int) -> None:
        if conversations := self.there.conversations:
            self.there.end_conversation(conversations[which % len(conversations)], code)

    @rule()
    def end_all(self) -> None:
        for conversation in self.there.conversations:
            self.there.end_conversation(conversation)

    @rule(seconds=st.sampled_from([0.0, 0.006, 0.03, 0.15, 0.3, 1.1, 6.0, 31.0]))
    def run(self, seconds: float) -> None:
        self.there.run(seconds)

    @rule(seconds=st.sampled_from([0.006, 0.3, 1.1]))
    def sleep(self, seconds: float) -> None:
        """Time passes, and nobody has got a processor."""
        self.there.kernel.now += seconds
        self.there.network.try_again()

    @rule(passes=st.integers(1, 3), reverse=st.booleans())
    def run_supervisor(self, passes: int, reverse: bool) -> None:
        self.there.life.process.waiter.reverse = reverse
        for _ in range(passes):
            self.there.life.process.step()

    @rule(calls=st.integers(0, 20), ending=st.booleans(), killing=st.booleans())
    def overtake_supervisor(self, calls: int, ending: bool, killing: bool = False) -> None:
        """In the middle of its next pass the others are faster."""

        def run_others() -> None:
            if ending:
                self.end_all()
            self.there.run_others()
            if killing:
                self.kill_spawner(0)

        self.there.kernel.overtake(self.there.life.process, calls, run_others)

    @rule(which=st.integers(0, 9))
    def run_spawner(self, which: int) -> None:
        if spawners := self.there.spawners:
            spawners[which % len(spawners)].step()

    @rule(which=st.integers(0, 9))
    def run_worker(self, which: int) -> None:
        if workers := self.there.workers:
            workers[which % len(workers)].step()

    def leave_copiers(self) -> list[Copier]:
        """Each child leaves a process that goes on when it ends."""
        return [Copier(child) for child in self.there.conversations if isinstance(child, Child)]

    # What goes wrong.

    @rule(call=st.sampled_from(Call), data=st.data(), after=st.integers(0, 2), times=TIMES)
    def fail(self, call: Call, data: st.DataObject, after: int, times: int) -> None:
        error = data.draw(st.sampled_from(ERRORS[call]), "error")
        if call is Call.ACCEPT:
            self._may_lose_by_strikes(error)
        self.there.kernel.faults.plan(call, error, after=after, times=times)

    @rule(error=st.sampled_from(ERRORS[Call.ACCEPT]), times=TIMES)
    def fail_to_accept(self, error: int, times: int) -> None:
        self._may_lose_by_strikes(error)
        self.there.kernel.faults.plan(Call.ACCEPT, error, times=times)

    def _may_lose_by_strikes(self, error: int) -> None:
        """Strikes lead to a reset, which can lose a queue where there is no steering."""
        self.checks.may_lose |= not self.profile.features.steering and faults.of_accept(error) is Remedy.STRIKE

    @rule(error=st.sampled_from(ERRORS[Call.LAUNCH]), times=TIMES)
    def fail_to_make_a_child(self, error: int, times: int) -> None:
        self.there.kernel.faults.plan(Call.LAUNCH, error, times=times)

    @rule()
    def work_again(self) -> None:
        self.there.kernel.faults.clear()

    @rule(count=st.integers(1, 4))
    def alarm_falsely(self, count: int) -> None:
        self.there.life.process.waiter.false_alarms = count

    @rule(verdict=st.sampled_from(Verdict))
    def fail_the_wait(self, verdict: Verdict) -> None:
        self.checks.may_lose |= not self.profile.features.steering
        self.there.life.process.waiter.failure = verdict

    @rule(which=st.integers(0, 9))
    def kill_spawner(self, which: int) -> None:
        if spawners := self.there.spawners:
            self.checks.may_serve_twice |= not self.can_be_found
            self.there.kill(spawners[which % len(spawners)])

    @rule(which=st.integers(0, 9))
    def refuse_to_begin(self, which: int) -> None:
        beginning = [spawner for spawner in self.there.spawners if not spawner.has_begun]
        if beginning:
            beginning[which % len(beginning)].refusal = "no such user"

    @rule(which=st.integers(0, 9))
    def kill_server_of_a_client(self, which: int) -> None:
        if conversations := self.there.conversations:
            self.there.kill(conversations[which % len(conversations)])

    @rule(which=st.integers(0, 9))
    def kill_worker(self, which: int) -> None:
        if workers := self.there.workers:
            self.there.kill(workers[which % len(workers)])

    # What is asked for.

    @rule()
    def reset(self) -> None:
        self.checks.may_lose |= not self.profile.features.steering
        self.there.life.signal(Signals.SIGUSR1)

    @rule(data=st.data())
    def reload_anything(self, data: st.DataObject) -> None:
        self.reload(data.draw(configs(self.kinds), "config"))

    def reload(self, config: Config) -> None:
        self.there.life.config = config
        self.there.life.signal(Signals.SIGHUP)

    @rule()
    def disturb(self) -> None:
        self.there.life.signal(Signals.SIGCHLD)

    @rule(complaint=st.sampled_from([None, "it cannot be imported"]))
    def upgrade(self, complaint: str | None) -> None:
        self.there.kernel.faults.complaint = complaint
        self.there.life.signal(Signals.SIGUSR2)

    @rule(again=st.integers(0, 2))
    @precondition(lambda self: not self.stopped)
    def stop(self, again: int) -> None:
        self.stopped = self.checks.may_lose = True
        for _ in range(again + 1):
            self.there.life.signal(Signals.SIGINT)

    # What must hold.

    @invariant()
    def books_are_in_order(self) -> None:
        if self.world is not None:
            self.checks.hold()

    @rule()
    @precondition(lambda self: not self.stopped)
    def recover(self) -> None:
        """Whatever has happened: when nothing fails any more, everybody is served, and soon."""
        self.there.kernel.faults.clear()
        self.there.run(SOON)
        given_up = self.checks.number_of_given_up
        self.there.run(LONG)
        self.checks.nobody_waits_for_nothing()
        assert self.checks.number_of_given_up == given_up, "somebody was given up, and nothing was wrong"

    def teardown(self) -> None:
        if self.world is None:
            return
        try:
            self._come_to_an_end(self.world)
        finally:
            self.world.close()

    def _come_to_an_end(self, world: World) -> None:
        world.kernel.faults.clear()
        self.checks.may_lose = True  # who is queued beyond drain_timeout
        world.life.signal(Signals.SIGTERM)
        world.run(LONG)
        self.checks.all_is_over()


class KeptMachine(ServerMachine):
    """The same with a keeper: the supervisor can be killed, anywhere."""

    profile = Profile(FULL, keep=True)

    @rule(calls=st.integers(0, 40))
    def kill_supervisor(self, calls: int) -> None:
        self.there.kernel.doom(self.there.life.process, calls)

    def kill_keeper(self) -> None:
        """It is killed, and the supervisor goes on without one."""
        self.there.life.kill_keeper()


class PortableMachine(ServerMachine):
    """The same where the system has nothing beyond POSIX."""

    profile = Profile(PORTABLE)


class ForkMachine(ServerMachine):
    """The same with a handler that is forked for each connection."""

    kinds = (HANDLER,)


class PoolMachine(ServerMachine):
    """The same with workers."""

    profile = Profile(FULL, pool=True)
    kinds = (POOL,)


class KeptPoolMachine(KeptMachine):
    """Workers and a keeper."""

    profile = Profile(FULL, keep=True, pool=True)
    kinds = (POOL,)


class PortablePoolMachine(PortableMachine):
    """Workers that report what they take."""

    profile = Profile(PORTABLE, pool=True)
    kinds = (POOL,)


Machine = TypeVar("Machine", bound=ServerMachine)


@contextmanager
def playing(kind: type[Machine], config: Config) -> Iterator[Machine]:
    """A server to which one thing after the other happens; it is stopped in the end, and must leave nothing."""
    server = kind()
    server.begin(config)
    try:
        yield server
    except BaseException:
        server.there.close()
        raise
    server.teardown()


def thoroughness() -> settings:
    """How much is tried: the same few schedules each time; or, in the long form, others, and one that fails is made
    short, which takes minutes.
    """
    return settings(
        max_examples=LONG_FORM or _EXAMPLES,
        stateful_step_count=_STEPS,
        derandomize=not LONG_FORM,
        phases=[Phase.generate, *([Phase.shrink] if LONG_FORM else [])],
        database=None,
        deadline=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )
