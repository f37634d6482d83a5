"""Configurations of the simulated server."""

from typing import Any

from hypothesis import strategies as st

from tcppar.config import Config, ServiceConfig
from tcppar.net.address import Address
from tcppar.quantities import Bounds, Duration
from tcppar.records import HandlerMode, StderrMode
from tcppar.settings import ServerSettings, ServiceSettings, WhenFull

Plain = dict[str, Any]

PLACES = ("127.0.0.1:7001", "127.0.0.1:7002", "127.0.0.1:7003")
SERVICES = ("one", "two")

PROGRAM: Plain = {"command": ("/bin/true",)}
OTHER_PROGRAM: Plain = {"command": ("/bin/true", "other")}
HANDLER: Plain = {"handler": "orders:handle"}
POOL: Plain = HANDLER | {"mode": HandlerMode.POOL, "workers": Bounds("2")}


def service_settings(kinds: tuple[Plain, ...]) -> st.SearchStrategy[Plain]:
    """Settings of a service, but for where it listens: small limits, so that they are reached."""
    return st.builds(
        lambda kind, others: kind | others,
        st.sampled_from(kinds),
        st.fixed_dictionaries(
            {},
            optional={
                "max_connections": st.sampled_from([1, 3, 40]),
                "when_full": st.sampled_from(WhenFull),
                "max_lifetime": st.sampled_from([Duration(2), Duration(20)]),
                "hand_over_timeout": st.sampled_from([Duration(0), Duration(3)]),
                "linger": st.sampled_from([Duration(0), Duration(1)]),
                "strikes": st.sampled_from([0, 1]),
                "drain_timeout": st.sampled_from([Duration(0), Duration(5)]),
                "kill_timeout": st.sampled_from([Duration(0), Duration(1)]),
                "connections_per_spawner": st.sampled_from([1, 3]),
                "spawners": st.sampled_from([1, 2]),
                "workers": st.sampled_from([Bounds("1"), Bounds("1-3")]),
                "connections_per_worker": st.sampled_from([1, 3]),
                "stderr": st.sampled_from([StderrMode.LOG, StderrMode.INHERIT]),
            },
        ),
    )


def configs(kinds: tuple[Plain, ...]) -> st.SearchStrategy[Config]:
    """Configurations of one or two services at three places, of which each has no listener or belongs to one."""
    places = st.tuples(*[st.sampled_from([None, *SERVICES])] * len(PLACES)).filter(any)
    each = st.tuples(*[service_settings(kinds)] * len(SERVICES))
    return st.builds(config_of, places, each)


def config_of(owners: tuple[str | None, ...], each: tuple[Plain, ...]) -> Config:
    """The configuration of two services; `owners` says which one each of the places belongs to."""
    services = {}
    for name, given in zip(SERVICES, each, strict=True):
        listen = tuple(Address(place) for place, owner in zip(PLACES, owners, strict=True) if owner == name)
        if listen:
            services[name] = ServiceConfig(name, ServiceSettings(listen=listen, **given), None)
    return Config(ServerSettings(), services)
