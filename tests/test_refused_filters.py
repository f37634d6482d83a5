"""Where the system lets nobody, or only root, attach a filter to a listener: what is done instead is no news."""

import signal
import socket
import subprocess
import sys

import pytest

from tcppar.net.platform import SO_ATTACH_FILTER, SO_ATTACH_REUSEPORT_CBPF, detect
from tcppar.net.steering import where_permitted
from tests.conftest import HERE, unavailable
from tests.support.command import Serve
from tests.support.descriptors import no_descriptor_free
from tests.support.handlers import answers
from tests.support.succession import upgrade

REFUSED = [{SO_ATTACH_FILTER}, {SO_ATTACH_REUSEPORT_CBPF}, {SO_ATTACH_FILTER, SO_ATTACH_REUSEPORT_CBPF}]

only_full = pytest.mark.parametrize("serve", ["full"], indirect=True)


@pytest.fixture(params=REFUSED, ids=lambda options: "-".join(map(str, sorted(options))))
def refused(request: pytest.FixtureRequest) -> set[int]:
    """Options of sockets that are refused by EPERM."""
    options: set[int] = request.param
    tried = subprocess.run([*sandbox(options), "true"], check=False, capture_output=True, text=True)
    return options if tried.returncode == 0 else unavailable(f"no sandbox can be made: {tried.stderr.strip()}")


def sandbox(options: set[int]) -> list[str]:
    return [sys.executable, str(HERE / "support" / "refusing.py"), ",".join(map(str, options))]


@only_full
def test_it_is_found_out_once_and_never_told(serve: Serve, refused: set[int]) -> None:
    server = serve("127.0.0.1:0", "--max-connections", "1", "--", "cat", wrapper=sandbox(refused))
    server.signal(signal.SIGUSR1)
    [reset] = server.wait_for_event("reset")
    if SO_ATTACH_REUSEPORT_CBPF in refused:
        assert not reset["lossless"]
    upgrade(server)
    with server.connect() as first, server.connect() as queued:
        assert answers(first)
        server.signal(signal.SIGTERM)
        server.wait_for_event("stopping")
        first.shutdown(socket.SHUT_WR)
        assert answers(queued)
    assert server.wait() == 0
    assert server.events("fault") == []
    assert server.noise == []


def test_what_is_refused_alone_is_done_without(refused: set[int]) -> None:
    code = "from tcppar.net import platform, steering; print(steering.where_permitted(platform.detect()))"
    words = [*sandbox(refused), sys.executable, "-c", code]
    said = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    usual = where_permitted(detect({}))
    assert f"steering={usual.steering and SO_ATTACH_REUSEPORT_CBPF not in refused}," in said
    assert f"turning_away={usual.turning_away and SO_ATTACH_FILTER not in refused}," in said


def test_a_shortage_is_no_refusal() -> None:
    with no_descriptor_free():
        assert where_permitted(detect({})) == detect({})
