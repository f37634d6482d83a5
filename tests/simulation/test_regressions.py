"""Schedules that failed once, each with what went wrong then."""

import errno
import gc

from tcppar.policy.strikes import Verdict
from tcppar.quantities import Duration
from tcppar.settings import WhenFull
from tcppar.supervisor.changes.rollout import Rollout
from tests.simulation.configs import HANDLER, PLACES, POOL, PROGRAM, config_of
from tests.simulation.faults import Call
from tests.simulation.machine import (
    ForkMachine,
    KeptMachine,
    KeptPoolMachine,
    PoolMachine,
    PortableMachine,
    PortablePoolMachine,
    ServerMachine,
    playing,
)

PROGRAMS = config_of(("one", None, None), (PROGRAM, PROGRAM))
POOLS = config_of(("one", None, None), (POOL, POOL))
IMPATIENT = config_of(("one", None, None), (PROGRAM | {"drain_timeout": Duration(0)}, PROGRAM))
FULL_AT_ONCE = config_of(("one", None, None), (PROGRAM | {"max_connections": 1, "when_full": WhenFull.REFUSE}, PROGRAM))


def test_a_false_alarm_of_the_keepers_pipe_ends_nothing() -> None:
    """It was read without looking whether something was there, and the supervisor died of EAGAIN."""
    with playing(KeptMachine, PROGRAMS) as server:
        server.alarm_falsely(9)
        server.run_supervisor(1, False)


def test_a_false_alarm_of_a_trial_ends_nothing() -> None:
    with playing(ServerMachine, PROGRAMS) as server:
        server.upgrade(None)
        server.run_supervisor(1, False)
        server.alarm_falsely(9)
        server.run_supervisor(1, False)


def test_who_is_killed_while_a_listener_is_closed_is_followed_by_one_that_serves() -> None:
    """The next one found the listener in the books, could not take it up, and died; and so the one after it."""
    for calls in range(12):
        with playing(KeptMachine, IMPATIENT) as server:
            server.stop(0)
            server.kill_supervisor(calls)


def test_who_is_killed_while_a_spawners_channel_is_closed_is_followed_by_one_that_serves() -> None:
    """As with a listener."""
    for calls in range(12):
        with playing(KeptMachine, PROGRAMS) as server:
            server.kill_spawner(0)
            server.kill_supervisor(calls)
            server.recover()


def test_who_is_killed_while_it_refuses_somebody_leaves_a_record_to_be_written() -> None:
    """The client was counted, and nobody was told of it; or taken for the child with process id 0."""
    for calls in range(60):
        with playing(KeptMachine, FULL_AT_ONCE) as server:
            server.connect(PLACES[0], 3)
            server.kill_supervisor(calls)
            server.recover()


def test_workers_whose_spawner_is_gone_end_with_it_though_the_supervisor_was_killed() -> None:
    """Their channels were claimed by nobody, and not closed: they waited for ever."""
    for calls in range(12):
        with playing(KeptPoolMachine, POOLS) as server:
            server.kill_supervisor(calls)
            server.kill_spawner(0)
            server.recover()


def test_no_two_workers_have_the_same_number() -> None:
    """A worker hired and not yet noted had the number of the next one: their spawner died of the end of the second."""
    for calls in range(40):
        with playing(KeptPoolMachine, POOLS) as server:
            server.kill_worker(0)
            server.kill_supervisor(calls)
            server.recover()
            assert len(server.there.spawners) == 1
            spawner = server.there.spawners[0]
            server.kill_worker(0)
            server.kill_worker(0)
            server.run(1.0)
            assert spawner.lives


def test_who_is_killed_while_a_service_is_being_added_is_followed_by_one_that_serves() -> None:
    """The pool that was prepared belonged to no service."""
    with playing(KeptPoolMachine, POOLS) as server:
        server.reload(config_of((None, "two", None), (POOL, POOL)))
        server.run_supervisor(1, False)
        server.kill_supervisor(0)
        server.recover()


def test_a_worker_that_was_offered_a_connection_in_the_last_moment_can_be_ended() -> None:
    """It was offered once more, which it did not read while it served; so it counted as not taken, and no rule held."""
    for calls in range(40):
        with playing(KeptPoolMachine, POOLS) as server:
            server.connect(PLACES[0], 1)
            server.kill_supervisor(calls)
            server.recover()


def test_the_end_of_a_conversation_is_told_though_its_worker_has_ended() -> None:
    """An orphan was reaped before its last report was read, which then was of a connection that nobody knew."""
    for kind in (PoolMachine, PortablePoolMachine):
        for calls in range(40):
            with playing(kind, POOLS) as server:
                server.connect(PLACES[0], 1)
                server.run(0.1)
                server.kill_spawner(0)
                server.overtake_supervisor(calls, True)
                server.run(0.1)


def test_an_orphan_that_is_gone_with_its_spawner_is_ended_once() -> None:
    """To look after it was to end it at once, while the table of its worker was being gone through."""
    with playing(KeptPoolMachine, POOLS) as server:
        server.kill_supervisor(0)
        server.run(1.0)
        server.connect(PLACES[0], 1)
        server.run(1.0)
        server.kill_server_of_a_client(0)
        server.kill_spawner(0)
        server.recover()


def test_a_retired_pool_is_looked_after_beyond_an_upgrade() -> None:
    """Of its workers nobody asked any more what they had read: their connections counted as not taken for ever."""
    with playing(PoolMachine, POOLS) as server:
        server.connect(PLACES[0], 1)
        server.run_supervisor(3, False)
        server.reload(POOLS)
        server.upgrade(None)
        server.recover()


def test_hand_overs_of_a_spawner_that_dies_are_not_taken_for_the_supervisors_own() -> None:
    """Who has the connection open is its child: so has the supervisor, which is the keeper's child as orphans are."""
    with playing(KeptMachine, PROGRAMS) as server:
        server.connect(PLACES[0], 2)
        server.run_supervisor(3, False)
        server.kill_spawner(0)
        server.recover()


def test_what_a_worker_had_not_read_when_it_was_killed_is_offered_to_another() -> None:
    """Nothing was unread in a channel that was closed: the offer was taken for read, and ended with the worker."""
    with playing(PoolMachine, POOLS) as server:
        server.connect(PLACES[0], 1)
        server.run_supervisor(2, False)
        for _ in range(2):
            server.kill_worker(0)
        server.sleep(0.3)
        server.fail_the_wait(Verdict.TOLERATE)
        server.recover()


def test_a_worker_whose_last_end_is_told_twice_gets_one_connection_at_a_time() -> None:
    """The end that the supervisor had not let go of when it was killed made a worker idle that served already."""
    for calls in range(40):
        with playing(KeptPoolMachine, POOLS) as server:
            server.connect(PLACES[0], 2)
            server.run(0.1)
            server.connect(PLACES[0], 3)
            server.run(0.1)
            server.end_all()
            server.kill_supervisor(calls)
            server.run(0.1)
            server.books_are_in_order()


def test_a_listener_that_could_not_be_opened_again_stays_closed_when_nobody_wants_it() -> None:
    """It was tried until it worked, also after a reload had removed the address: clients came, and nobody accepted."""
    elsewhere = config_of((None, "one", None), (PROGRAM, PROGRAM))
    with playing(PortableMachine, PROGRAMS) as server:
        server.there.kernel.faults.plan(Call.OPEN, errno.EMFILE)
        server.reset()
        server.run_supervisor(1, False)
        server.reload(elsewhere)
        server.run(10.0)
        assert not server.there.network.at(PLACES[0])


def test_who_waits_for_a_busy_worker_is_not_given_up() -> None:
    """There was none when the client came, which set the time; when that was over, there were some, and all busy."""
    with playing(PoolMachine, POOLS) as server:
        server.kill_spawner(0)
        server.connect(PLACES[0], 3)
        server.recover()


def test_what_a_dying_worker_had_read_is_noted_before_its_channel_is_closed() -> None:
    """The next supervisor found an offer, and nobody to whom it was made, and made it once more."""
    for calls in range(60):
        with playing(KeptPoolMachine, POOLS) as server:
            server.connect(PLACES[0], 2)
            server.kill_supervisor(calls)
            server.run(0.005)
            server.kill_server_of_a_client(0)
            server.run(0.1)


def test_an_offer_that_may_have_been_sent_gets_one_answer() -> None:
    """It was sent and answered: there is no process. Sent once more, it was answered once more."""
    for calls in range(40):
        with playing(KeptMachine, PROGRAMS) as server:
            server.fail_to_make_a_child(errno.EAGAIN, 3)
            server.connect(PLACES[0], 1)
            server.kill_supervisor(calls)
            server.run(1.0)
            server.recover()


def test_a_client_who_has_left_is_not_taken_for_another_one() -> None:
    """Its descriptor had the number of one that had just been closed, and was closed in that one's stead: the system
    does not tell whose a connection was that was reset.
    """
    for calls in range(60):
        with playing(KeptMachine, PROGRAMS) as server:
            server.connect(PLACES[0], 1)
            server.run(0.1)
            server.connect(PLACES[0], 1)
            server.kill_supervisor(calls)
            server.end_all()
            server.there.run_others()
            server.leave(0)
            server.run_supervisor(4, False)
            server.run(0.1)
            server.books_are_in_order()


def test_a_listener_knows_the_one_before_it_though_a_reload_has_given_it_to_another_service() -> None:
    """After an upgrade it was reset while the one before it was not closed yet: three listeners at a time."""
    one, two = config_of((None, "one", None), (PROGRAM, PROGRAM)), config_of((None, "two", "one"), (PROGRAM, PROGRAM))
    with playing(ServerMachine, one) as server:
        server.reset()
        server.run_supervisor(1, False)
        server.reload(two)
        server.run(0.01)
        server.upgrade(None)
        server.run(0.01)
        server.reset()
        server.run(0.01)
        server.books_are_in_order()


def test_who_is_accepted_last_from_a_listener_that_is_emptied_does_not_wait_for_something_else() -> None:
    """It was accepted after all others of its pass had been handed over, and the next pass came when something came."""
    with playing(ForkMachine, config_of(("one", None, None), (HANDLER, HANDLER))) as server:
        server.recover()
        server.connect(PLACES[0], 1)
        server.fail_to_accept(errno.ENOMEM, 5)
        server.reset()
        server.run(0.15)
        server.recover()


def test_the_end_names_the_worker_that_was_offered_its_first_connection_in_the_last_moment() -> None:
    """The next supervisor knew the worker as one that was starting, and put its unknown process over the known one."""
    for calls in range(100):
        with playing(KeptPoolMachine, POOLS) as server:
            server.kill_worker(0)
            server.kill_worker(0)
            server.connect(PLACES[0], 1)
            server.kill_supervisor(calls)
            for _ in range(12):
                server.there.run_others()
                server.run_supervisor(1, False)
            server.end_all()
            server.run(0.1)
            server.end_all()
            server.run(0.1)
            server.books_are_in_order()


def test_a_reload_that_is_over_is_kept_by_nobody() -> None:
    """Its deadline, half a minute away, kept it with the whole configuration."""

    def rollouts() -> list[Rollout]:
        gc.collect()
        return [thing for thing in gc.get_objects() if isinstance(thing, Rollout)]

    before = rollouts()  # what other tests have left
    with playing(ServerMachine, PROGRAMS) as server:
        server.run(1.0)
        server.reload(config_of(("one", "two", None), (PROGRAM, PROGRAM)))
        server.run(1.0)
        assert len(rollouts()) <= len(before)
