"""What would be accepted and then not done is refused, by `tcppar check` and `tcppar serve` alike, or told."""

from pathlib import Path

import pytest

from tests.support import command
from tests.support.command import Serve
from tests.support.handlers import HANDLERS, end_of, peer_of, said_by, start
from tests.support.server import read_all

UNRUN = {
    "generator": "generator function",
    "async_generator": "async generator function",
    "wrapped": "wrapper around the async def coroutine, and does not await it",
    "wrapped_twice": "wrapper around the async def coroutine",
    "cached": "wrapper around the async def coroutine",
    "partial": "generator function",
    "callable_object": "generator function",
    "method": "generator function",
    "Callables.by_class": "generator function",
    "Callables.static": "generator function",
    "AsyncHandle": "handle is an async def, and socketserver only calls it",
    "GeneratorHandle": "handle is a generator function",
    "WrappedHandle": "handle is a wrapper around the async def AsyncHandle.handle",
    "AsyncSetup": "setup is an async def",
    "ManagedHandle": "handle is a context manager",
    "context_manager": "is a context manager, context_manager",
    "Datagrams": "the class is for datagrams, which are not served",
    "AsyncGet": "do_GET is an async def",
}


@pytest.mark.parametrize("name", UNRUN)
def test_a_handler_that_nobody_would_run_is_refused(name: str) -> None:
    for words in ("check", "127.0.0.1:1"), ("serve", "127.0.0.1:0"):
        outcome = command.run(*words, "--handler", f"{HANDLERS}/unkept.py:{name}")
        assert outcome.returncode == 100, outcome
        assert UNRUN[name] in outcome.stderr
        assert "expected a" in outcome.stderr
        assert "Traceback" not in outcome.stderr


RETURNED = {
    "returns_a_coroutine": "a coroutine of coroutine, which was never run",
    "by_lambda": "a coroutine of coroutine, which was never run",
    "returns_a_generator": "a generator, generator, none of which was run",
    "returns_an_async_generator": "a generator, async_generator, none of which was run",
    "enters": "a context manager, context_manager, which was never entered",
    "returns_a_map": "a map, none of which was run",
    "returns_a_function": "a function, returns_a_function.<locals>.<lambda>, that was never called",
    "returns_a_partial_function": "a function, functools.partial(",
    "gathers_nothing": "a list with a coroutine of coroutine, which was never run",
    "LazyHandle": "a generator, LazyHandle.handle.<locals>.<genexpr>, none of which was run",
    "InheritedLazyHandle": "a generator, LazyHandle.handle.<locals>.<genexpr>, none of which was run",
    "returns_an_awaitable": "a _Promise that was never awaited",
    "awaits_half": "a coroutine of coroutine, which was never run",
}


@pytest.mark.parametrize("mode", ["fork", "pool"])
@pytest.mark.parametrize("name", RETURNED)
def test_work_that_a_handler_has_left_to_nobody_is_told_and_a_failure(serve: Serve, name: str, mode: str) -> None:
    server = start(serve, f"unkept:{name}", mode=mode)
    with server.connect() as client:
        assert read_all(client) == b""
        end = end_of(server, peer_of(client))
    assert (end["exit"], end["signal"]) == (1, None)
    server.wait_for(lambda record: record["event"] == "stderr" and RETURNED[name] in record["line"])
    assert server.stop() == 0
    [record] = server.events("stderr")
    assert record["line"].startswith(f"handler unkept:{name}: connection {end['id']}: it returned a")


@pytest.mark.parametrize("name", ["returns_a_number", "returns_its_connection", "runs_it"])
def test_whatever_else_a_handler_returns_means_nothing(serve: Serve, name: str) -> None:
    server = start(serve, f"unkept:{name}")
    assert said_by(server) == "done"
    assert server.wait_for_event("end")[0]["exit"] == 0
    assert server.events("stderr") == []


SETTINGS = {
    "spawners": ('handler = "json:dump"\nmode = "pool"\nspawners = 2', 'can only be used with mode = "fork"'),
    "connections_per_spawner": (
        'handler = "json:dump"\nmode = "pool"\nconnections_per_spawner = 9',
        'can only be used with mode = "fork"',
    ),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_that_has_no_effect_is_a_mistake(name: str, tmp_path: Path) -> None:
    text, why = SETTINGS[name]
    file = tmp_path / "tcppar.toml"
    file.write_text(f'[service.one]\nlisten = ["127.0.0.1:1"]\n{text}\n')
    outcome = command.run("check", "-c", file)
    assert outcome.returncode == 100
    assert f"service.one.{name}: {why}" in outcome.stderr
