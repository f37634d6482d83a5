"""A supervisor is killed at each of its calls, or has an error of each, one after the other, in the middle of
everything.
"""

import errno
from collections.abc import Callable

import pytest

from tcppar.quantities import Duration
from tcppar.settings import WhenFull
from tests.simulation.configs import PLACES, POOL, PROGRAM, Plain, config_of
from tests.simulation.faults import ERRORS, Call
from tests.simulation.machine import KeptMachine, KeptPoolMachine, playing
from tests.simulation.network import Fate

# More than any of the stories below takes.
_MOST_CALLS = 1000

Story = Callable[[KeptMachine], None]


def clients_come_and_go(server: KeptMachine) -> None:
    server.connect(PLACES[0], 3)
    server.run(0.1)
    server.end_all()
    server.run(0.1)


def clients_are_quick(server: KeptMachine) -> None:
    server.connect(PLACES[0], 2)
    server.run_supervisor(3, False)
    server.there.run_others()
    server.end_all()
    server.run(0.1)


def who_serves_a_client_dies(server: KeptMachine) -> None:
    server.connect(PLACES[0], 2)
    server.run(0.005)
    server.kill_server_of_a_client(0)
    server.run(0.1)


def whoever_is_left_writes_on(server: KeptMachine) -> None:
    server.connect(PLACES[1], 1)
    server.run(0.1)
    copiers = server.leave_copiers()
    server.end_all()
    server.run(0.5)
    for copier in copiers:
        assert not copier.connection.is_shut
        assert len(copier.connection.client.servers) == 1
        server.there.kernel.exit(copier, 0)
    server.run(2.0)
    for copier in copiers:
        assert copier.connection.client.fate is Fate.CLOSED


def clients_are_too_many(server: KeptMachine) -> None:
    server.connect(PLACES[1], 5)
    server.run(0.1)
    server.end_all()
    server.run(0.1)


def a_listener_is_reset(server: KeptMachine) -> None:
    server.connect(PLACES[0], 2)
    server.reset()
    server.connect(PLACES[0], 2)
    server.run(0.05)
    server.connect_late(0)
    server.end_all()
    server.run(0.3)


def a_service_is_added_and_another_one_removed(server: KeptMachine) -> None:
    server.connect(PLACES[0], 2)
    server.reload(config_of((None, "two", "two"), (server.kinds[0], server.kinds[-1])))
    server.run(0.1)
    server.connect(PLACES[2], 2)
    server.run(1.0)


def a_spawner_dies(server: KeptMachine) -> None:
    server.connect(PLACES[0], 2)
    server.run(0.1)
    server.connect(PLACES[0], 2)
    server.run_supervisor(2, False)
    server.kill_spawner(0)
    server.end_all()
    server.run(0.2)


def a_spawner_dies_before_it_tells(server: KeptMachine) -> None:
    server.connect(PLACES[0], 1)
    server.run_supervisor(3, False)
    server.run_spawner(0)
    server.kill_spawner(0)
    server.run(0.2)


def no_process_can_be_made(server: KeptMachine) -> None:
    server.fail_to_make_a_child(errno.EAGAIN, 3)
    server.connect(PLACES[0], 3)
    server.run(0.01)
    server.books_are_in_order()
    server.run(1.0)
    server.end_all()


def it_is_upgraded(server: KeptMachine) -> None:
    server.connect(PLACES[0], 3)
    server.upgrade(None)
    server.run(0.1)
    server.connect(PLACES[0], 2)
    server.end_all()
    server.run(0.3)


def it_is_stopped(server: KeptMachine) -> None:
    server.connect(PLACES[0], 3)
    server.stop(0)
    server.run(0.5)


STORIES: list[Story] = [
    clients_come_and_go,
    clients_are_quick,
    who_serves_a_client_dies,
    whoever_is_left_writes_on,
    clients_are_too_many,
    a_listener_is_reset,
    a_service_is_added_and_another_one_removed,
    a_spawner_dies,
    a_spawner_dies_before_it_tells,
    no_process_can_be_made,
    it_is_upgraded,
    it_is_stopped,
]


def its_keeper_dies(server: KeptMachine) -> None:
    server.connect(PLACES[0], 2)
    server.kill_keeper()
    server.connect(PLACES[0], 2)
    server.run(0.1)
    server.upgrade(None)
    server.run(0.1)
    server.connect(PLACES[0], 1)
    server.end_all()
    server.run(0.3)


@pytest.mark.parametrize("story", STORIES)
@pytest.mark.parametrize(("kind", "given"), [(KeptMachine, PROGRAM), (KeptPoolMachine, POOL)])
def test_there_is_no_call_at_which_it_may_not_die(kind: type[KeptMachine], given: Plain, story: Story) -> None:
    given = given | {"drain_timeout": Duration(1)}
    other = given | {"max_connections": 2, "when_full": WhenFull.REFUSE, "linger": Duration(1)}
    config = config_of(("one", "two", None), (given, other))
    for calls in range(_MOST_CALLS):
        with playing(kind, config) as server:
            server.kill_supervisor(calls)
            story(server)
            server.books_are_in_order()
            survived = server.there.kernel.pardon()
        if survived:
            return
    raise AssertionError("the story has no end")


@pytest.mark.parametrize("call", Call)
@pytest.mark.parametrize("story", [*STORIES, its_keeper_dies])
@pytest.mark.parametrize(("kind", "given"), [(KeptMachine, PROGRAM), (KeptPoolMachine, POOL)])
def test_there_is_no_call_that_may_not_fail(kind: type[KeptMachine], given: Plain, story: Story, call: Call) -> None:
    """The last of its errors: one of those that do not mean that nothing was there."""
    given = given | {"drain_timeout": Duration(1)}
    config = config_of(("one", "two", None), (given, given))
    for uses in range(_MOST_CALLS):
        with playing(kind, config) as server:
            server.there.kernel.faults.plan(call, ERRORS[call][-1], after=uses)
            story(server)
            server.books_are_in_order()
            if server.there.kernel.faults.is_to_come(call):
                return
    raise AssertionError("the story has no end")
