"""What a worker reports to the supervisor."""

import os
import select
import signal
import socket

from tests.hostile.attacker.base import WORKER, Me, Reach, attack
from tests.hostile.attacker.channel import (
    ALONE,
    BUSY,
    ENDED,
    FAILED,
    IN_TIME,
    LEAVING,
    READY,
    REFUSED,
    TAKEN,
    channel,
    my_number,
    tell,
)

NO_CONNECTION = 9_999_999


@attack(WORKER, ALONE)
def taken_for_no_offer(me: Me) -> None:
    """A worker reports Taken for a connection that it was not offered."""
    tell([TAKEN, NO_CONNECTION, os.getpid(), 0.0])
    me.hold()


@attack(WORKER, ALONE)
def busy_for_no_offer(me: Me) -> None:
    """A worker reports Busy for a connection that it was not offered."""
    tell([BUSY, NO_CONNECTION, 11, "fork", 1])
    me.hold()


@attack(WORKER, ALONE)
def failed_for_no_offer(me: Me) -> None:
    """A worker reports Failed for a connection that it was not offered."""
    tell([FAILED, NO_CONNECTION, "nothing"])
    me.hold()


@attack(WORKER, IN_TIME)
def ended_for_no_offer(me: Me) -> None:
    """A worker reports Ended for connections that it was not offered, before and after its own."""
    tell(*([ENDED, my_number(me) + step, 0, 0.0, None] for step in (-3, -2, -1, 1, 2, 3)))
    me.hold()


@attack(WORKER, IN_TIME)
def numbers_of_workers(me: Me) -> None:
    """A worker reports Taken and Ended for negative numbers, which are those of workers."""
    for number in range(-40, 1):
        tell([TAKEN, number, os.getpid(), 0.0])
        tell([ENDED, number, 0, 0.0, None])
    me.hold()


@attack(WORKER, ALONE)
def numbers_beyond_all(me: Me) -> None:
    """A worker reports numbers of 64 bits in every field."""
    for number in (2**63 - 1, 2**64 - 1, -(2**63)):
        tell([TAKEN, number, number, 0.0])
        tell([BUSY, number, number, "fork", number])
        tell([ENDED, my_number(me), number, 0.0, number])
    me.hold()


@attack(WORKER, "Nobody else is signalled: not the process whose number was given, and not its group.")
def the_number_of_another_process(me: Me) -> None:
    """A worker says that its process id is another one's, and kills the spawner, so that the supervisor ends it."""
    tell([READY, [], me.facts["victim"]])
    tell([TAKEN, my_number(me), me.facts["victim"], 0.0])
    os.kill(os.getppid(), signal.SIGKILL)
    me.hold()


@attack(WORKER, "Nobody else is signalled: not the process whose number was given, and not its group.")
def taken_by_another_process(me: Me) -> None:
    """A worker says that its connection was taken by another process, and lets max_lifetime pass."""
    tell([TAKEN, my_number(me), me.facts["victim"], 0.0])
    me.hold()


@attack(WORKER, IN_TIME)
def ready_twice(me: Me) -> None:
    """A worker that serves says again and again that it has begun."""
    tell(*([READY, [], os.getpid()] for _ in range(100)))
    me.hold()


@attack(WORKER, ALONE)
def refused_though_it_serves(me: Me) -> None:
    """A worker says that it cannot begin, as only a spawner may."""
    tell([REFUSED, "no", True, ["/etc/passwd"]])
    me.hold()


@attack(WORKER, IN_TIME)
def leaving_again_and_again(me: Me) -> None:
    """A worker says a hundred times that it leaves, and stays."""
    tell(*([LEAVING] for _ in range(100)))
    me.hold()


@attack(WORKER, IN_TIME, stays=True)
def ended_twice(me: Me) -> None:
    """A worker reports twice that its connection has ended, and stays without reading."""
    tell([ENDED, my_number(me), 0, 0.0, None], [ENDED, my_number(me), 0, 0.0, None])
    me.hold()


@attack(WORKER, IN_TIME, stays=True)
def taken_after_ended(me: Me) -> None:
    """A worker reports that its connection has ended, and then that it has taken it."""
    tell([ENDED, my_number(me), 0, 0.0, None])
    tell([TAKEN, my_number(me), os.getpid(), 0.0])
    me.hold()


@attack(WORKER, "A client who is offered to it gets another worker within a second.", stays=True)
def idle_and_stopped(me: Me) -> None:
    """A worker reports that its connection has ended, and stops itself, so that the next client is offered to it."""
    tell([ENDED, my_number(me), 0, 0.0, None])
    os.kill(os.getpid(), signal.SIGSTOP)


@attack(WORKER, "A client who is offered to it gets another worker within a second.", stays=True)
def idle_and_deaf(me: Me) -> None:
    """A worker reports that its connection has ended, and does not read what it is offered."""
    tell([ENDED, my_number(me), 0, 0.0, None])
    me.hold()


@attack(WORKER, "A client who was offered to it gets another worker.", stays=True)
def exit_at_an_offer(me: Me) -> None:
    """A worker that is offered a client ends without having read the offer."""
    mine = channel()
    tell([ENDED, my_number(me), 0, 0.0, None])
    select.select([mine], [], [], 2.0)


@attack(WORKER, "The client whom it has taken is cut off; nobody else is.", reach=Reach.OWN_USER)
def exit_with_an_offer(me: Me) -> None:
    """A worker that is offered a client ends when it has read the offer, so it has taken the client."""
    mine = channel()
    tell([ENDED, my_number(me), 0, 0.0, None])
    select.select([mine], [], [], 2.0)
    mine.recv(65536, socket.MSG_DONTWAIT)
