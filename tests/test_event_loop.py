"""The event loop of a coroutine: made before the fork, and of that process alone."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.command import Serve
from tests.support.handlers import said_by, start


@pytest.mark.parametrize("mode", ["fork", "pool"])
def test_threads_and_signals_wake_the_loop_of_their_own_process(serve: Serve, mode: str) -> None:
    server = start(serve, "looping:threads", mode=mode)
    with ThreadPoolExecutor(6) as clients:
        told = Counter(clients.map(lambda _: said_by(server), range(18)))
    assert told == {"woken": 18}
    assert {end["exit"] for end in server.wait_for_event("end", 18)} == {0}


@pytest.mark.parametrize("mode", ["fork", "pool"])
def test_what_a_coroutine_leaves_in_its_loop_is_ended(serve: Serve, mode: str) -> None:
    server = start(serve, "looping:leaves", mode=mode)
    for _ in range(2):
        assert said_by(server) == "left"
    assert {end["exit"] for end in server.wait_for_event("end", 2)} == {0}
    assert server.stop() == 0
    printed = Counter(record["line"] for record in server.events("stderr"))
    assert (printed["the generator has ended"], printed["the task was cancelled"]) == (2, 2)
