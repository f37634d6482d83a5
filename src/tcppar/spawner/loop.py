"""The spawner's loop: take offers, make children, reap them, report."""

import errno
import importlib
import os
import resource
import signal
import socket
import sys
import time
from typing import Any, NoReturn, Protocol

import msgspec
from msgspec.structs import replace

from tcppar.child.directory import WorkingDirectory
from tcppar.descriptors import CHANNEL_DESCRIPTOR
from tcppar.net import calls, platform
from tcppar.net.channel import Channel, ChannelClosed
from tcppar.net.waiter import Waiter
from tcppar.policy import faults
from tcppar.policy.faults import Remedy
from tcppar.policy.moderation import Moderation
from tcppar.policy.strikes import Strikes
from tcppar.policy.timers import NEVER
from tcppar.records import (
    Busy,
    ChildPlan,
    Deliver,
    Ended,
    Failed,
    HandlerMode,
    HandlerPlan,
    Hire,
    Offer,
    Order,
    Ready,
    Refused,
    Report,
    Retire,
    Taken,
)
from tcppar.spawner import beginning, sandbox
from tcppar.spawner.launch import Launcher
from tcppar.spawner.oom import OomScore
from tcppar.spawner.title import SPAWNER, Title

_TOLERATED_STRIKES = 3
# How many hand-overs, and for how many seconds, may wait to be reported together with what comes next.
MOST_UNREPORTED = 3
_LONGEST_UNREPORTED = 0.005


class Launches(Protocol):
    """Makes the processes, of whatever kind."""

    def launch(self, descriptor: int, order: Any, log: int | None, /) -> int: ...
    def clean_up(self, number: int, /) -> None: ...


class Spawner:
    """One spawner process.

    It blocks in one place, and in sending reports: where the supervisor does not read them, it has nothing better to
    do than to wait. When the supervisor is gone it goes on until its last child has ended.
    """

    def __init__(
        self,
        channel: Channel[Order],
        waiter: Waiter,
        launcher: Launches,
        *,
        children_can_be_found: bool,
        passes_log: bool,
        score: OomScore,
    ) -> None:
        self._score = score
        self._expected = 2 if passes_log else 1
        self._can_be_found = children_can_be_found
        self._channel = channel
        self._waiter = waiter
        self._launcher = launcher
        self._numbers: dict[int, int] = {}
        self._pids: dict[int, int] = {}
        self._last_offer: Offer | None = None
        self._reports: list[Report] = []
        self._ending = False
        self._orphaned = False
        self._own_size = 0
        self._report_at = NEVER
        self._moderation = Moderation()
        self.fileno = channel.fileno

    def run(self) -> None:
        """Serve until there is nothing more to come and no child left."""
        waiter, moderation = self._waiter, self._moderation
        waiter.register(self)
        while self._numbers or not self._ending:
            for source in waiter.wait(min(self._report_at, moderation.look_at)):
                source.on_ready()
            if waiter.signalled:
                waiter.take_signals()
                self._reap()
            elif moderation.looks and time.monotonic() >= moderation.look_at:
                self._reap()
            if self._reports and not self._may_wait():
                self._report()

    def _may_wait(self) -> bool:
        """Whether what there is to report may wait for more: many children end within a millisecond.

        Only a hand-over may, and briefly: the supervisor keeps its copy of the connection for so long, and would
        run out of offers. Anything else is wanted at once; and so is a hand-over where nobody could find the child
        if this process were killed before it tells of it.
        """
        reports = self._reports
        if not self._can_be_found or len(reports) > MOST_UNREPORTED or not isinstance(reports[-1], Taken):
            return False
        now = time.monotonic()
        if self._report_at is NEVER:
            self._report_at = now + _LONGEST_UNREPORTED
        return now < self._report_at

    def on_ready(self) -> None:
        """Obey what the supervisor asks for."""
        try:
            orders, descriptors = self._channel.receive_with_descriptors()
        except (ChannelClosed, ConnectionError):
            self._lose_supervisor()
            return
        try:
            for order in orders:
                # What has come belongs to the last of them.
                self._obey(order, descriptors if order is orders[-1] else [])
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def _obey(self, order: Order, came: list[int]) -> None:
        if isinstance(order, Deliver):
            self._deliver(order)
        elif isinstance(order, Retire):
            self._ending = True
        elif not (isinstance(order, Offer) and order.repeats(self._last_offer)):
            self._obey_with(order, came)

    def _obey_with(self, order: Offer | Hire, came: list[int]) -> None:
        if isinstance(order, Offer):
            self._last_offer = order
        if len(came) < self._expected:
            # They did not fit into our table; the supervisor has still got its own.
            self._reports.append(_busy(order, errno.EMFILE, "recvmsg"))
        else:
            self._make_child(order, came[0], came[1] if self._expected > 1 else None)

    def _lose_supervisor(self) -> None:
        """Nobody gives orders or reads reports any more; the children that are there go on."""
        self._ending = self._orphaned = True
        self._waiter.unregister(self)

    def _make_child(self, offer: Offer | Hire, descriptor: int, log: int | None) -> None:
        started = time.monotonic()
        self._score.be_as_children()
        try:
            pid = self._launcher.launch(descriptor, offer, log)
        except OSError as error:
            self._reports.append(_no_child(offer, error))
        else:
            self._numbers[pid] = offer.number
            self._pids[offer.number] = pid
            self._reports.append(Taken(offer.number, pid, time.monotonic() - started))
        finally:
            self._score.be_own_again()

    def _deliver(self, order: Deliver) -> None:
        # The child is not reaped before it leaves this table, so that the group cannot be another's.
        if (pid := self._pids.get(order.number)) is not None:
            try:
                os.killpg(pid, order.signal)
            except OSError:
                pass  # ended just now, or run by a set-user-id program that is not ours to end

    def _reap(self) -> None:
        """Take the children that have ended; under load, change from being told of each end to looking for them."""
        found = self._take_ended()
        if self._moderation.looked(found, time.monotonic()):
            if self._moderation.looks:
                self._waiter.release([signal.SIGCHLD])
            else:
                self._waiter.catch([signal.SIGCHLD])
                self._take_ended()  # those that ended before the signal could tell

    def _take_ended(self) -> bool:
        """Take every child that has ended, the only place that removes one; whether there was any."""
        found = False
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            if os.WIFSTOPPED(status):
                continue  # it has had itself traced by its parent (PTRACE_TRACEME, ptrace(2)), and lives
            number = self._numbers.pop(pid, None)
            if number is None:
                continue  # the handler's module has started it
            found = True
            del self._pids[number]
            self._launcher.clean_up(number)
            self._reports.append(Ended(number, status, usage.ru_utime + usage.ru_stime, self._peak(usage)))
        return found

    def _peak(self, usage: resource.struct_rusage) -> int | None:
        """The child's largest size, unless the size that this process had when it made the child hides it."""
        if usage.ru_maxrss > self._own_size:
            self._own_size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return usage.ru_maxrss if usage.ru_maxrss > self._own_size else None

    def _report(self) -> None:
        reports, self._reports = self._reports, []
        self._report_at = NEVER
        if not self._orphaned:
            try:
                self._channel.send(reports)
            except OSError:
                self._lose_supervisor()


def _busy(order: Offer | Hire, error: int, call: str) -> Busy:
    return Busy(order.number, error, call, order.attempt if isinstance(order, Offer) else 0)


def _no_child(offer: Offer | Hire, error: OSError) -> Report:
    number = error.errno or 0
    if faults.of_spawn(number) is Remedy.BACK_OFF:
        return _busy(offer, number, "spawn")
    # Any bytes can be a program's name; a report is text.
    what = os.fsencode(error.filename or "the program").decode(errors="backslashreplace")
    return Failed(offer.number, f"{what}: {faults.name(number)}")


def main() -> NoReturn:
    """Read the plan, enter its sandbox, say so, and serve."""
    beginning.leave_servers_things()
    end = socket.socket(fileno=CHANNEL_DESCRIPTOR)
    features = platform.detect()
    means = calls.of(features)
    # An order may be there already: a stop does not wait for whoever is starting.
    plan = Channel(end, msgspec.msgpack.Decoder(ChildPlan), means).receive_one()
    channel = Channel(end, msgspec.msgpack.Decoder(Order), means)
    score = OomScore(plan.oom_score_adj)
    Title(plan.service).show(SPAWNER)
    _import_for(plan)
    try:
        _enter(plan)
    except sandbox.CannotEnter as error:
        channel.send([Refused(str(error), mistake=error.mistake)])
        sys.exit(1)
    waiter = Waiter(use_epoll=features.epoll, strikes=Strikes(_TOLERATED_STRIKES))
    launcher: Launches
    sources: tuple[str, ...] = ()
    if plan.handler is None:
        plan = _with_program(plan, channel)
        if features.refuses_tracers:
            platform.refuse_tracers()  # programs have left it with their exec
        launcher = Launcher(plan, fast=features.fast_spawn)
    else:
        shared = [channel.fileno(), *waiter.descriptors, *([score.descriptor] if score.descriptor >= 0 else [])]
        launcher, sources = _of_handler(plan, plan.handler, channel, shared, means)
    waiter.catch([signal.SIGCHLD])
    channel.send([Ready(sources)])
    # A program has its mark before it runs; a handler's process gives it to itself.
    can_be_found = features.subreaper and plan.handler is None
    Spawner(
        channel, waiter, launcher, children_can_be_found=can_be_found, passes_log=plan.passes_log, score=score
    ).run()
    sys.exit(0)


def _import_for(plan: ChildPlan) -> None:
    """What this kind of spawner needs beside the others' memory. Later the service's user might not be able to read it:
    a checkout in root's home, say.
    """
    if plan.handler is None:
        importlib.import_module("tcppar.spawner.runnable")
        importlib.import_module("tcppar.spawner.missing_rights")
    else:
        importlib.import_module("tcppar.spawner.forking")
        importlib.import_module("tcppar.spawner.loading")


def _enter(plan: ChildPlan) -> None:
    identity = plan.identity
    user = None if identity is None else (identity.uid, identity.gid, identity.groups)
    sandbox.enter(nice=plan.nice, umask=plan.umask, user=user, directory=plan.directory)
    sandbox.try_a_process(leads_session=plan.handler is None or plan.handler.mode is HandlerMode.FORK)
    sandbox.try_limits(plan.rlimits)
    if plan.tries_program and plan.control_directory is not None:
        sandbox.try_control_files(plan.control_directory)


def _of_handler(
    plan: ChildPlan, named: HandlerPlan, channel: Channel[Order], shared: list[int], means: calls.Calls
) -> tuple[Launches, tuple[str, ...]]:
    """What makes a handler's processes, and the files that it was loaded from; or the end, if it cannot be loaded."""
    # Imported only where it is needed: the memory of a spawner counts many times.
    from tcppar.child import process
    from tcppar.spawner import files, loading
    from tcppar.spawner.forking import ForkLauncher

    beginning.become_handlers_home(plan.environment)
    try:
        handler = loading.load(loading.Wanted(msgspec.structs.asdict(named)))
        handler.directory = None if plan.directory is None else WorkingDirectory(plan.directory)
    except files.CannotLoad as error:
        channel.send([Refused(str(error), mistake=True, sources=loading.sources(error))])
        process.flush_and_exit(process.FAILED)  # at once, whatever threads it has started
    sources = loading.sources()
    return ForkLauncher(plan, handler, shared, means), sources


def _with_program(plan: ChildPlan, channel: Channel[Order]) -> ChildPlan:
    """The plan with the program that this user may run; or the end, if there is none and that is to be told."""
    from tcppar.spawner import runnable  # handlers' spawners do without

    program = runnable.chosen([os.fsdecode(path) for path in plan.programs])
    tried = plan.command, plan.environment, plan.rlimits
    if plan.tries_program and (reason := runnable.refusal(program, *tried)) is not None:
        channel.send([Refused(f"command: {reason}", mistake=True)])
        sys.exit(1)
    return replace(plan, program=os.fsencode(program))
