"""The configuration: every setting by file and by flag, and every mistake told at once."""

import datetime
import grp
import json
import os
import pwd
import re
import socket
from collections.abc import Mapping
from enum import EnumType
from pathlib import Path
from typing import Any, get_origin

import msgspec
import pytest

from tcppar import cli, config, config_file, flags
from tcppar.config import Config
from tcppar.errors import ConfigurationError
from tcppar.net.address import Address
from tcppar.quantities import Duration, FileMode, Text
from tcppar.records import HandlerMode, HandlerPlan
from tcppar.settings import LogFormat, ServerSettings, ServiceSettings

Plain = dict[str, Any]

SERVICE_SETTINGS = ServiceSettings.__struct_fields__
SERVER_SETTINGS = ServerSettings.__struct_fields__
SOUND: Plain = {"listen": ["127.0.0.1:0"], "command": ["cat"]}
OF_A_HANDLER = ("handler", "mode", "preload", "threads_at_fork")
OF_A_POOL = ("workers", "connections_per_worker", "worker_memory")
# Beside SOUND: a handler in place of the command.
HANDLER: Plain = {"command": [], "handler": "orders:handle"}
POOL: Plain = HANDLER | {"mode": "pool"}


def toml(value: object) -> str:
    """A value in TOML, where texts, numbers and lists are written as in JSON."""
    if isinstance(value, list):
        return f"[{', '.join(map(toml, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {toml(entry)}" for key, entry in value.items()) + "}"
    return value.isoformat() if isinstance(value, datetime.date) else json.dumps(value)


def lines(table: Mapping[str, object]) -> str:
    return "".join(f"{key} = {toml(value)}\n" for key, value in table.items())


def load(folder: Path, service: Plain, server: Plain | None = None) -> Config:
    """The configuration of a file with one service, `web`."""
    return load_text(folder, f"{lines(server or {})}[service.web]\n{lines(service)}")


def load_text(folder: Path, text: str) -> Config:
    file = folder / "tcppar.toml"
    file.write_text(text)
    return config_file.load(file)


def by_words(*words: str) -> Config:
    """The configuration that `tcppar check WORD...` reads."""
    context = cli.check.make_context("check", list(words))
    given = {name: context.params[name] for name in (*SERVICE_SETTINGS, *SERVER_SETTINGS) if name in context.params}
    return flags.read(context.params["file"], context.params["addresses"], context.obj, given)


def mistakes_of(error: pytest.ExceptionInfo[ConfigurationError], folder: Path) -> list[str]:
    """The mistakes, without the file's name that each of them begins with."""
    name = f"{folder / 'tcppar.toml'}: "
    assert all(mistake.startswith(name) for mistake in error.value.mistakes)
    return [mistake.removeprefix(name) for mistake in error.value.mistakes]


# Every setting, by file and by flag.

# What a setting must find on this system, or in a form of its own.
SPECIAL: Plain = {
    "listen": ["127.0.0.1:7001", "unix:/run/web"],
    "command": ["cat", "-u"],
    "user": pwd.getpwuid(os.getuid()).pw_name,
    "group": grp.getgrgid(os.getgid()).gr_name,
    "umask": "0027",
    "bind_to_device": "eth0",
    "socket_mode": "0660",
    "socket_user": pwd.getpwuid(os.getuid()).pw_name,
    "socket_group": grp.getgrgid(os.getgid()).gr_name,
    "directory": "/",
    "rlimits": {"nofile": 64, "as": "64M", "cpu": "unlimited", "core": "0:1G"},
    "handler": "./shop.v2/orders.py:Orders.handle",
    "workers": "2-16",
    "worker_memory": "200M",
}


def sound_with(name: str) -> Plain:
    """Plain data of a service that a setting makes sense in."""
    if name == "keep_environment":
        return SOUND | {"clear_environment": True}
    if name == "ipv6_only":
        return SOUND | {"listen": ["[::]:7000"]}
    if name.startswith("socket_"):
        return SOUND | {"listen": ["unix:/run/web"]}
    return SOUND | (POOL if name in OF_A_POOL else HANDLER if name in OF_A_HANDLER else {})


def other_than_default(kind: type[msgspec.Struct], name: str) -> Any:
    """Plain data for a setting, as a file has it, that stands for something else than the default."""
    if name in SPECIAL:
        return SPECIAL[name]
    plain, default = flags.plain_type(kind, name), getattr(kind(), name)
    if plain is bool:
        return not default
    if isinstance(plain, EnumType):
        return next(str(member) for member in list[Any](plain) if member != default)
    if get_origin(plain) is dict:
        return {"A": "1", "B": "x=y"}
    if get_origin(plain) is tuple:
        return ["A", "B"]
    return {int: 7, str: "text {remote_ip}", Text: "text {remote_ip}", Duration: "90s"}[plain]


def as_words(name: str, value: Any) -> list[str]:
    """A flag that gives the value."""
    flag = flags.flag_name(name)
    if isinstance(value, bool):
        return [f"--{flag}" if value else f"--no-{flag}"]
    if isinstance(value, dict):
        return [f"--{flag}={key}={entry}" for key, entry in value.items()]
    return [f"--{flag}={entry}" for entry in (value if isinstance(value, list) else [value])]


@pytest.mark.parametrize("name", SERVICE_SETTINGS)
def test_every_setting_of_a_service_is_the_same_by_file_and_by_flag(name: str, tmp_path: Path) -> None:
    table = sound_with(name) | {name: other_than_default(ServiceSettings, name)}
    words = [word for key, value in table.items() if key not in ("listen", "command") for word in as_words(key, value)]
    of_file = load(tmp_path, table).services["web"].settings
    [of_flag] = by_words(*words, *table["listen"], "--", *table["command"]).services.values()
    assert of_flag.settings == of_file
    assert getattr(of_file, name) != getattr(ServiceSettings(), name)


@pytest.mark.parametrize("name", SERVER_SETTINGS)
def test_every_setting_of_the_server_is_the_same_by_file_and_by_flag(name: str, tmp_path: Path) -> None:
    value = other_than_default(ServerSettings, name)
    of_file = load(tmp_path, SOUND, {name: value}).server
    of_flag = by_words(*as_words(name, value), "127.0.0.1:0", "--", "cat").server
    assert of_flag == of_file
    assert getattr(of_file, name) != getattr(ServerSettings(), name)


@pytest.mark.parametrize("name", [*SERVICE_SETTINGS, *SERVER_SETTINGS])
def test_every_setting_has_a_help_text(name: str) -> None:
    kind = ServiceSettings if name in SERVICE_SETTINGS else ServerSettings
    assert re.fullmatch(r"\S.*[.)]", flags.description(kind, name))


def test_words_after_the_dashes_are_the_programs_even_if_they_look_like_flags() -> None:
    command = ("cat", "--nice", "5", "--", "-c")
    assert by_words("127.0.0.1:0", "--", *command).services["cat"].settings.command == command


def test_a_flag_of_the_server_wins_over_the_file(tmp_path: Path) -> None:
    load(tmp_path, SOUND, {"log_format": "text"})
    assert by_words("-c", str(tmp_path / "tcppar.toml"), "--log-format=json").server.log_format is LogFormat.JSON


def test_a_file_may_have_several_services(tmp_path: Path) -> None:
    read = load_text(tmp_path, f'[service.a]\n{lines(SOUND)}[service.b]\n{lines(SOUND)}umask = "27"\n')
    assert list(read.services) == ["a", "b"]
    assert read.services["b"].settings.umask == FileMode("0027")


# Mistakes, one by one: the key, what stands there, and what is told.

MISTAKES: list[tuple[str, Plain, str]] = [
    ("listen", {"listen": []}, "missing: expected at least one address"),
    ("listen", {"listen": ["[fe80::1]:80"]}, "a link-local address needs an interface, as in [fe80::1%eth0]"),
    ("listen", {"listen": ["[fe80::1%tcppar9]:80"]}, "this machine has no interface tcppar9"),
    ("listen", {"listen": ["[fe80::1%99999]:80"]}, "this machine has no interface 99999"),
    ("listen", {"listen": "127.0.0.1:80"}, "'127.0.0.1:80': expected a list of addresses: [\"127.0.0.1:80\"]"),
    ("listen", {"listen": ["localhost:80"]}, "'localhost' is not a numeric address; expected IP:PORT"),
    ("command", {"command": "cat -u"}, '\'cat -u\': expected a list of strings: ["cat", "-u"]'),
    ("command", {"command": []}, "missing: expected a program and its arguments, or a handler"),
    ("command", {"command": ["/no/such/program"]}, "'/no/such/program': no such program, or it is not executable"),
    ("command", {"command": ["no-such-program"]}, "'no-such-program': no such program, or it is not executable"),
    ("command", {"command": ["/etc/passwd"]}, "'/etc/passwd': no such program, or it is not executable"),
    ("command", {"command": ["cat", "{remote_prot}"]}, "unknown placeholder; did you mean {remote_port}?"),
    ("command", {"command": ["cat", "{ctl}"]}, "{ctl} is used but control_file is not set"),
    ("handler", HANDLER | {"handler": "orders"}, '\'orders\': expected "module:name" or "path/file.py:name"'),
    ("handler", HANDLER | {"handler": "orders.py"}, "'orders.py': expected \"module:name\""),
    ("handler", HANDLER | {"handler": "orders:"}, "'orders:': expected \"module:name\""),
    ("handler", HANDLER | {"handler": ":handle"}, "':handle': expected \"module:name\""),
    ("handler", HANDLER | {"handler": "2orders:handle"}, "'2orders:handle': expected \"module:name\""),
    ("handler", HANDLER | {"handler": "orders:handle()"}, "'orders:handle()': expected \"module:name\""),
    ("handler", HANDLER | {"handler": "shop/orders:handle"}, "'shop/orders:handle': expected \"module:name\""),
    ("handler", HANDLER | {"handler": 3}, '3: expected a string, in quotes: "3"'),
    ("command", {"handler": "orders:handle"}, "can only be used with a program; a handler gets a Connection"),
    ("control_file", HANDLER | {"control_file": "x"}, "can only be used with a program; a handler gets a Connection"),
    ("argv0", HANDLER | {"argv0": "x"}, "can only be used with a program; a handler gets a Connection"),
    ("log_starts", {"log_starts": "yes"}, "'yes': expected true or false"),
    (
        "descriptors",
        HANDLER | {"descriptors": "listen-fds"},
        "can only be used with a program; a handler gets a Connection",
    ),
    ("mode", HANDLER | {"mode": "thread"}, "'thread': expected one of fork, pool"),
    ("mode", {"mode": "pool"}, "can only be used with a handler"),
    ("workers", POOL | {"workers": "16-2"}, "'16-2' is not a range: expected a number, or two such as \"2-16\""),
    ("workers", POOL | {"workers": 0}, "0 is not a range"),
    ("workers", HANDLER | {"workers": 2}, 'can only be used with mode = "pool"'),
    ("workers", {"workers": 2}, "can only be used with a handler"),
    ("connections_per_worker", POOL | {"connections_per_worker": 0}, "0: expected a whole number from 1 to "),
    ("connections_per_worker", HANDLER | {"connections_per_worker": 9}, 'can only be used with mode = "pool"'),
    ("worker_memory", POOL | {"worker_memory": "much"}, "'much' is not a limit: expected a number"),
    ("worker_memory", HANDLER | {"worker_memory": "1G"}, 'can only be used with mode = "pool"'),
    ("preload", HANDLER | {"preload": "json"}, "'json': expected a list of strings: [\"json\"]"),
    ("preload", {"preload": ["json"]}, "can only be used with a handler"),
    ("threads_at_fork", HANDLER | {"threads_at_fork": "yes"}, "'yes': expected one of refuse, allow"),
    ("threads_at_fork", {"threads_at_fork": "allow"}, "can only be used with a handler"),
    ("backlog", {"backlog": 0}, "0: expected a whole number from 1 to "),
    ("backlog", {"backlog": 2**31}, "2147483648: expected a whole number from 1 to 2147483647"),
    (
        "max_connections",
        {"max_connections": "many"},
        "'many': expected a whole number from 1 to 2147483647",
    ),
    ("listen", {"listen": ["127.0.0.1:80", "unix:/" + 107 * "a"]}, "entry 2: 'unix:/aaa"),
    ("command", {"command": ["cat", 3]}, 'entry 2: 3: expected a string, in quotes: "3"'),
    ("max_connections", {"max_connections": "5"}, "'5': expected a whole number from 1 to 2147483647, without quotes"),
    ("nodelay", {"nodelay": "true"}, "'true': expected true or false, without quotes"),
    ("user", {"user": 1000}, '1000: expected a string, in quotes: "1000"'),
    ("user", {"user": datetime.date(2026, 1, 31)}, "2026-01-31: expected a string"),
    ("group", {"group": {"name": ["x", True]}}, "{name = ['x', true]}: expected a string"),
    ("backlog", {"backlog": []}, "[]: expected a whole number from 1 to 2147483647"),
    ("rlimits", {"rlimits": ["nofile"]}, "['nofile']: expected a table of names and limits"),
    ("rlimits.nofile", {"rlimits": {"nofile": [1, 2]}}, "[1, 2]: expected a number, a size in K, M or G such as"),
    ("environment", {"environment": "A=B"}, "'A=B': expected a table of names and strings"),
    ("workers", POOL | {"workers": False}, 'false: expected one number, or two such as "2-16"'),
    ("listen", {"listen": [7000]}, 'entry 1: 7000: expected an address, in quotes: "7000"'),
    ("listen", {"listen": [True]}, "entry 1: true: expected an address"),
    ("user", {"user": ""}, "'': no such user on this system"),
    (
        "drain_timeout",
        {"drain_timeout": 1e30},
        "1e+30 is not a duration: expected 0 or more, and no more than 100 years",
    ),
    ("rlimits.as", {"rlimits": {"as": "99999999999G"}}, "'99999999999G' is not a limit: expected a number"),
    ("when_full", {"when_full": "later"}, "'later': expected one of wait, refuse"),
    ("hand_over_timeout", {"hand_over_timeout": "soon"}, "'soon' is not a duration: expected a number of seconds"),
    ("strikes", {"strikes": -1}, "-1: expected a whole number from 0 to "),
    ("max_lifetime", {"max_lifetime": -1}, "-1 is not a duration: expected 0 or more"),
    ("idle_timeout", {"idle_timeout": "-1s"}, "'-1s' is not a duration: expected a number of seconds"),
    ("idle_timeout", {"idle_timeout": 9, "listen": ["unix:/a"]}, "cannot be used with unix:/a, which is not TCP: give"),
    (
        "end_when_client_gone",
        {"end_when_client_gone": "never"},
        "'never' is not a duration: expected a number of seconds",
    ),
    (
        "end_when_client_gone",
        {"end_when_client_gone": 9, "listen": ["unix:/a"]},
        "cannot be used with unix:/a, which is not TCP: give",
    ),
    ("linger", {"linger": True}, "true: expected a duration: a number of seconds, or numbers with the units d, h"),
    (
        "drain_timeout",
        {"drain_timeout": [30]},
        "[30]: expected a duration: a number of seconds, or numbers with the units d, h",
    ),
    (
        "kill_timeout",
        {"kill_timeout": True},
        "true: expected a duration: a number of seconds, or numbers with the units d, h",
    ),
    ("user", {"user": "nobody-of-this-name"}, "'nobody-of-this-name': no such user on this system"),
    ("user", {"user": "4000000000"}, "'4000000000': no such user on this system"),
    ("user", {"user": "²"}, "'²': no such user on this system"),
    ("group", {"group": "no-group-of-this-name"}, "'no-group-of-this-name': no such group on this system"),
    ("umask", {"umask": "rwx"}, "'rwx' is not a file mode: expected octal digits"),
    ("umask", {"umask": 27}, '27 is not a file mode: expected octal digits in quotes, like "0027"'),
    ("directory", {"directory": "/no/such/directory"}, "'/no/such/directory': no such directory"),
    ("ipv6_only", {"ipv6_only": "no"}, "'no': expected true or false"),
    ("ipv6_only", {"ipv6_only": False}, "can only be used with [::]:PORT"),
    ("free_bind", {"free_bind": 1}, "1: expected true or false"),
    ("free_bind", {"free_bind": True, "listen": ["unix:/a"]}, "can only be used with TCP"),
    ("bind_to_device", {"bind_to_device": "eth 0"}, "'eth 0' is not the name of a network interface: expected"),
    ("bind_to_device", {"bind_to_device": "eth0", "listen": ["unix:/a"]}, "can only be used with TCP"),
    ("socket_mode", {"socket_mode": "rw", "listen": ["unix:/a"]}, "'rw' is not a file mode: expected octal digits"),
    ("socket_mode", {"socket_mode": "0660"}, "can only be used with unix:/PATH"),
    ("socket_user", {"socket_user": "no-user-of-this-name", "listen": ["unix:/a"]}, "no such user on this system"),
    ("socket_group", {"socket_group": "no-group-of-this-name", "listen": ["unix:/a"]}, "no such group on this system"),
    ("nice", {"nice": 20}, "20: expected a whole number from -20 to 19"),
    ("oom_score_adj", {"oom_score_adj": 1001}, "1001: expected a whole number from -1000 to 1000"),
    ("rlimits.nofiles", {"rlimits": {"nofiles": 64}}, "unknown limit: expected one of as, core, cpu"),
    ("rlimits.nofile", {"rlimits": {"nofile": "many"}}, "'many' is not a limit: expected a number"),
    ("rlimits.nofile", {"rlimits": {"nofile": "9:4"}}, "'9:4' is not a limit: expected the soft limit first"),
    ("environment.A", {"environment": {"A": 1}}, '1: expected a string, in quotes: "1"'),
    ("environment.A=B", {"environment": {"A=B": "x"}}, "not a name for a variable"),
    ("keep_environment", {"keep_environment": "LANG"}, "'LANG': expected a list of strings: [\"LANG\"]"),
    ("keep_environment", {"keep_environment": ["LANG"]}, "needs clear_environment = true"),
    ("clear_environment", {"clear_environment": "yes"}, "'yes': expected true or false"),
    ("stderr", {"stderr": "client"}, "'client': expected one of log, inherit, null"),
    ("descriptors", {"descriptors": 3}, "3: expected one of stdio, listen-fds"),
    ("control_file", {"control_file": "{conection_id}"}, "unknown placeholder; did you mean {connection_id}?"),
    ("keepalive", {"keepalive": 1}, "1: expected true or false"),
    ("nodelay", {"nodelay": "on"}, "'on': expected true or false"),
    ("spawners", {"spawners": 0}, "0: expected a whole number from 1 to "),
    ("connections_per_spawner", {"connections_per_spawner": 1.5}, "1.5: expected a whole number from 1 to "),
]


@pytest.mark.parametrize(("key", "wrong", "told"), MISTAKES, ids=[key for key, _, _ in MISTAKES])
def test_a_mistake_is_told_with_its_key_and_what_was_expected(
    key: str, wrong: Plain, told: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError) as error:
        load(tmp_path, SOUND | wrong)
    [mistake] = mistakes_of(error, tmp_path)
    assert mistake.startswith(f"service.web.{key}: ")
    assert told in mistake


def test_there_is_a_mistake_to_make_in_every_setting_of_a_service() -> None:
    assert {key.partition(".")[0] for key, _, _ in MISTAKES} == set(SERVICE_SETTINGS)


def test_mistakes_in_all_settings_are_told_at_once(tmp_path: Path) -> None:
    wrong: Plain = {}
    for _, table, _ in reversed(MISTAKES):
        wrong |= table
    with pytest.raises(ConfigurationError) as error:
        load(tmp_path, wrong, {"log_format": "xml", "reload": "yes"})
    told = {re.split("[.:]", mistake.removeprefix("service.web."))[0] for mistake in mistakes_of(error, tmp_path)}
    assert told == {*SERVICE_SETTINGS, *SERVER_SETTINGS}


@pytest.mark.parametrize(
    "name", ["orders:handle", "shop.orders:handle", "orders:Orders.handle", "./o.py:h", "/a b/c-d.py:h", "größe:maß"]
)
def test_a_handler_is_named_by_module_or_by_file(name: str, tmp_path: Path) -> None:
    assert load(tmp_path, SOUND | HANDLER | {"handler": name}).services["web"].settings.handler == name


def handler_plan(folder: Path, table: Plain) -> HandlerPlan:
    """What the spawner of a handler is told."""
    service = load(folder, SOUND | table).services["web"]
    plan = config.child_plan(service, "id", {}, options_inherited=True).handler
    assert plan is not None
    return plan


def test_the_spawner_of_a_handler_is_told_all_its_settings(tmp_path: Path) -> None:
    more = {"connections_per_worker": 9, "worker_memory": "200M", "preload": ["json", "uuid"]}
    plan = handler_plan(tmp_path, POOL | more)
    assert (plan.target, plan.mode, plan.preload) == ("orders:handle", HandlerMode.POOL, ("json", "uuid"))
    assert (plan.connections_per_worker, plan.worker_memory_kb) == (9, 200 * 1024)


def test_a_worker_may_have_unlimited_memory(tmp_path: Path) -> None:
    assert handler_plan(tmp_path, POOL | {"worker_memory": "unlimited"}).worker_memory_kb is None


def test_modules_that_are_nowhere_else_are_looked_for_in_the_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert handler_plan(tmp_path, HANDLER).folder == str(tmp_path)
    assert handler_plan(tmp_path, HANDLER | {"directory": "/usr"}).folder == "/usr"
    assert not {str(tmp_path), "/usr"} & {*handler_plan(tmp_path, HANDLER | {"directory": "/usr"}).import_path}


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"listen": ["localhost:80", "127.0.0.1"]}, ["'localhost:80'", "'127.0.0.1'"]),
        ({"rlimits": {"nofile": "many", "cpu": "long", "nofiles": 1}}, ["'many'", "'long'", "rlimits.nofiles"]),
        ({"environment": {"A": 1, "": "x"}}, ["environment.A", "environment.: "]),
        ({"command": ["no-such-program", "{remote_prot}", "{ctl}"]}, ["'no-such", "{remote_prot}", "{ctl}"]),
    ],
)
def test_mistakes_in_one_setting_do_not_hide_each_other(wrong: Plain, told: list[str], tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as error:
        load(tmp_path, SOUND | wrong)
    assert [text for text in told if not any(text in mistake for mistake in error.value.mistakes)] == []


def test_mistakes_in_all_services_and_of_the_server_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as error:
        load_text(
            tmp_path,
            f"log_format = 'xml'\n[service.a]\n{lines(SOUND)}nice = 20\n[service.b]\n{lines(SOUND)}nice = 21\n",
        )
    assert mistakes_of(error, tmp_path) == [
        "log_format: 'xml': expected one of text, json",
        "service.a.nice: 20: expected a whole number from -20 to 19",
        "service.b.nice: 21: expected a whole number from -20 to 19",
    ]


@pytest.mark.parametrize(
    "wrong",
    [
        {"command": ["cat", "a\0b"]},
        {"command": ["cat\0"]},
        {"environment": {"A": "a\0b"}},
        {"environment": {"A\0B": "x"}},
        {"directory": "/\0"},
        {"listen": ["unix:/a\0b"]},
        {"control_file": "a\0b"},
        {"keep_environment": ["A\0B"]},
        {"user": "a\0b"},
        {"group": "a\0b"},
    ],
    ids=repr,
)
def test_a_text_that_no_system_call_takes_is_a_mistake(wrong: Plain, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as error:
        load(tmp_path, SOUND | wrong)
    assert mistakes_of(error, tmp_path)[0].startswith(f"service.web.{next(iter(wrong))}")


@pytest.mark.parametrize("known", SERVICE_SETTINGS)
def test_an_unknown_setting_of_a_service_is_told_with_the_nearest_known_one(known: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as error:
        load(tmp_path, SOUND | {f"{known}x": 1})
    assert mistakes_of(error, tmp_path) == [f"service.web.{known}x: unknown setting; did you mean {known}?"]


@pytest.mark.parametrize("known", [*SERVER_SETTINGS, "service"])
def test_an_unknown_setting_of_the_server_is_told_with_the_nearest_known_one(known: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as error:
        load(tmp_path, SOUND, {f"{known}x": 1})
    assert mistakes_of(error, tmp_path) == [f"{known}x: unknown setting; did you mean {known}?"]


def test_an_unknown_setting_that_is_near_to_none_is_told_without_a_guess(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as error:
        load(tmp_path, SOUND | {"zzz": 1})
    assert mistakes_of(error, tmp_path) == ["service.web.zzz: unknown setting"]


@pytest.mark.parametrize("name", SERVICE_SETTINGS)
def test_a_setting_of_a_service_at_the_top_is_told_with_where_it_belongs(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as error:
        load(tmp_path, SOUND, {name: 1})
    place = "put it in a table [service.NAME]"
    assert mistakes_of(error, tmp_path) == [f"{name}: this is a service setting: {place}"]


@pytest.mark.parametrize("name", SERVER_SETTINGS)
def test_a_setting_of_the_server_in_a_service_is_told_with_where_it_belongs(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as error:
        load(tmp_path, SOUND | {name: 1})
    place = "put it at the top of the file, before any table"
    assert mistakes_of(error, tmp_path) == [f"service.web.{name}: this is a server setting: {place}"]


@pytest.mark.parametrize(
    ("key", "told"),
    [
        ("max_conections", "unknown setting; did you mean max_connections, in a table [service.NAME]?"),
        ("tls_cert", "unknown setting"),
        ("port", "unknown setting"),
    ],
)
def test_a_key_at_the_top_is_near_to_what_stands_elsewhere_or_to_nothing(key: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as error:
        load(tmp_path, SOUND, {key: 1})
    assert mistakes_of(error, tmp_path) == [f"{key}: {told}"]


@pytest.mark.parametrize(
    ("key", "told"),
    [
        ("max_conn", "unknown setting; did you mean max_connections?"),
        ("logformat", "unknown setting; did you mean log_format, at the top of the file, before any table?"),
        ("tls_cert", "unknown setting"),
        ("log_form", "unknown setting; did you mean log_format, at the top of the file, before any table?"),
    ],
)
def test_a_key_of_a_service_is_near_to_what_was_meant_or_to_nothing(key: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as error:
        load(tmp_path, SOUND | {key: 1})
    assert mistakes_of(error, tmp_path) == [f"service.web.{key}: {told}"]


@pytest.mark.parametrize(
    ("table", "entry"),
    [("environment", "max_connections = 5"), ("rlimits", "umask = '27'"), ("rlimits", "nodelay = true")],
)
def test_a_setting_that_stands_below_the_line_of_a_table_is_told(table: str, entry: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as error:
        load_text(tmp_path, f"[service.web]\n{lines(SOUND)}[service.web.{table}]\n{entry}\n")
    place = f"put it above the line [service.NAME.{table}]"
    name = entry.partition(" ")[0]
    assert mistakes_of(error, tmp_path) == [f"service.web.{table}.{name}: this is a service setting: {place}"]


def test_what_a_table_may_have_is_no_stray(tmp_path: Path) -> None:
    text = f"[service.web]\n{lines(SOUND)}[service.web.environment]\nuser = 'x'\n[service.web.rlimits]\nnice = 0\n"
    settings = load_text(tmp_path, text).services["web"].settings
    assert settings.environment == {"user": "x"}
    assert list(settings.rlimits) == ["nice"]


@pytest.mark.parametrize(("table", "key"), [("web", "web"), ("services.web", "services"), ("server", "server")])
def test_a_table_that_is_no_services_is_told_with_what_it_should_be(table: str, key: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as error:
        load_text(tmp_path, f"[{table}]\n{lines(SOUND)}")
    [mistake] = mistakes_of(error, tmp_path)
    assert mistake == f"{key}: unknown table: expected [service.{table.removeprefix('services.')}]"


@pytest.mark.parametrize("name", ["", "a b", "../a", "a\n", "é"])
def test_the_name_of_a_service_is_a_plain_word(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as error:
        load_text(tmp_path, f"[service.{json.dumps(name)}]\n{lines(SOUND)}")
    [mistake] = mistakes_of(error, tmp_path)
    assert mistake == f"service: {name!r}: expected a name of at most 64 letters, digits, _, . and -"


def test_a_group_may_be_given_where_the_servers_user_has_no_entry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 4000000000)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    identity = load(tmp_path, SOUND | {"group": SPECIAL["group"]}).services["web"].identity
    assert identity is not None
    assert (identity.name, identity.uid, identity.gid) == ("4000000000", 4000000000, os.getgid())


# Addresses that are listened on twice.


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("127.0.0.1:80", "127.0.0.1:80"),
        ("[::1]:80", "[0:0:0::1]:80"),
        (":80", "*:80"),
        ("unix:/run/web", "unix:/run/web"),
        ("inherited:web", "inherited:web"),
    ],
)
def test_an_address_may_be_listened_on_once(first: str, second: str, tmp_path: Path) -> None:
    services = [f"[service.{name}]\n{lines(SOUND | {'listen': [at]})}" for name, at in (("a", first), ("b", second))]
    with pytest.raises(ConfigurationError) as error:
        load_text(tmp_path, "".join(services))
    assert mistakes_of(error, tmp_path) == [f"service.b.listen: {Address(first)} is already used by service.a"]


OVERLAPPING = [
    ("0.0.0.0:80", "127.0.0.1:80"),
    (":80", "127.0.0.1:80"),
    (":80", "0.0.0.0:80"),
    (":80", "[::]:80"),
    (":80", "[::1]:80"),
    ("[::]:80", "[::1]:80"),
    ("[::]:80", "[fe80::1%lo]:80"),
    ("0.0.0.0:80", "[::ffff:127.0.0.1]:80"),
    ("inherited", "inherited:web"),
    ("unix:/usr/./web", "unix:/usr/lib/../web"),
    ("unix:web", "unix:./web"),
]


@pytest.mark.parametrize("swapped", [False, True], ids=["", "swapped"])
@pytest.mark.parametrize(("first", "second"), OVERLAPPING, ids=" ".join)
def test_addresses_that_overlap_are_told_with_each_other(
    first: str, second: str, swapped: bool, tmp_path: Path
) -> None:
    places = [second, first] if swapped else [first, second]
    services = [f"[service.{name}]\n{lines(SOUND | {'listen': [at]})}" for name, at in zip("ab", places, strict=True)]
    with pytest.raises(ConfigurationError) as error:
        load_text(tmp_path, "".join(services))
    told = f"{Address(places[1])} overlaps with {Address(places[0])} of service.a"
    assert mistakes_of(error, tmp_path) == [f"service.b.listen: {told}"]


@pytest.mark.parametrize(
    ("first", "second", "overlap"), [("lo", "eth0", False), ("lo", "lo", True), ("lo", "", True), ("", "lo", True)]
)
def test_services_that_are_bound_to_different_interfaces_can_have_one_port(
    first: str, second: str, overlap: bool, tmp_path: Path
) -> None:
    tables = [
        f"[service.{name}]\n{lines(SOUND | {'listen': [':80']} | ({'bind_to_device': device} if device else {}))}"
        for name, device in (("a", first), ("b", second))
    ]
    if not overlap:
        assert load_text(tmp_path, "".join(tables)).services.keys() == {"a", "b"}
        return
    with pytest.raises(ConfigurationError, match=r"service.b.listen: :80 is already used by service.a"):
        load_text(tmp_path, "".join(tables))


def test_the_same_interface_by_name_and_by_number_is_the_same(tmp_path: Path) -> None:
    number = socket.if_nametoindex("lo")
    with pytest.raises(ConfigurationError, match="overlaps with"):
        load(tmp_path, SOUND | {"listen": ["[fe80::1%lo]:80", f"[fe80::1%{number}]:80"]})


@pytest.mark.parametrize(
    "listen",
    [
        ["127.0.0.1:80", "127.0.0.2:80", "[::1]:80"],
        ["0.0.0.0:80", "[::]:80"],
        ["0.0.0.0:80", "[::1]:80"],
        [":80", "127.0.0.1:81"],
        [":0", "127.0.0.1:0", "0.0.0.0:0"],
        ["inherited:web", "inherited:mail"],
        ["unix:/run/a/web", "unix:/run/b/web"],
        ["unix:@web", "unix:./@web"],
        ["unix:@a/web", "unix:@a/../a/web"],
    ],
    ids=" ".join,
)
def test_addresses_that_do_not_overlap_may_stand_together(listen: list[str], tmp_path: Path) -> None:
    assert [*load(tmp_path, SOUND | {"listen": listen}).services["web"].settings.listen] == listen


def test_a_socket_in_a_folder_with_two_names_is_one(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "link").symlink_to("run")
    with pytest.raises(ConfigurationError, match="overlaps with"):
        load(tmp_path, SOUND | {"listen": [f"unix:{tmp_path}/run/web", f"unix:{tmp_path}/link/web"]})


@pytest.mark.parametrize("twice", ["127.0.0.1:80", "127.0.0.1:0", ":0"])
def test_an_address_may_stand_once_in_a_list(twice: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as error:
        load(tmp_path, SOUND | {"listen": [twice, "127.0.0.1:81", twice]})
    [mistake] = mistakes_of(error, tmp_path)
    assert mistake == f"service.web.listen: {twice} is already used by service.web"


@pytest.mark.parametrize("address", ["127.0.0.1:0", ":0"])
def test_each_service_may_have_a_port_that_the_system_chooses(address: str, tmp_path: Path) -> None:
    table = lines(SOUND | {"listen": [address]})
    assert len(load_text(tmp_path, f"[service.a]\n{table}[service.b]\n{table}").services) == 2


# Files that are no configuration.


def test_a_syntax_error_is_told_with_the_file_and_the_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as error:
        load_text(tmp_path, "log_format = 'text'\n[service.web]\nnice = = 3\n")
    [mistake] = mistakes_of(error, tmp_path)
    assert mistake.startswith("is not TOML: ")
    assert "line 3" in mistake


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("user = nobody", 'line 2, column 8): nobody: put the string in quotes: "nobody"'),
        ("command = [cat, -u]", 'cat: put the string in quotes: "cat"'),
        ('command = ["a = b", cat] # "x"', 'cat: put the string in quotes: "cat"'),
        ("command = [\n  cat,\n]", 'cat: put the string in quotes: "cat"'),
        ("listen = 127.0.0.1:80", '127.0.0.1:80: put the string in quotes: "127.0.0.1:80"'),
        ("listen = [127.0.0.1:80]", '127.0.0.1:80: put the string in quotes: "127.0.0.1:80"'),
        ("max_lifetime = 30s", '30s: put the string in quotes: "30s"'),
        ("umask = 0027", '0027: put the string in quotes: "0027"'),
        ("directory = /srv/app", '/srv/app: put the string in quotes: "/srv/app"'),
        ("environment = { A = b }", 'b: put the string in quotes: "b"'),
        ("rlimits = { nofile = 64, as = 64M }", '64M: put the string in quotes: "64M"'),
        ("keepalive = True", "True: expected true"),
        ("keepalive = no", "no: expected false"),
        ("user: nobody", "Expected '=' after a key in a key/value pair (at line 2, column 5)"),
        ("nice =", "Invalid value (at line 2, column 7)"),
        ("linger = yes", 'yes: put the string in quotes: "yes"'),
        ("user = yes", 'yes: put the string in quotes: "yes"'),
        ("user = ON # or root", 'ON: put the string in quotes: "ON"'),
        ("command = [\n  yes,\n]", 'yes: put the string in quotes: "yes"'),
        ("environment = { DEBUG = no }", 'no: put the string in quotes: "no"'),
        ("nice = 1\nnice = 2", "nice appears twice (at line 3)"),
        ('nice = 1\n"nice" = [ # x = 3\n  1,\n]\n', '"nice" appears twice (at line 3)'),
        ('control_file = ""\n  control_file = """\na = {ctl}\n""" # b = 2', "control_file appears twice (at line 3)"),
        ("rlimits.cpu = 1\nrlimits . cpu = 2", "rlimits . cpu appears twice (at line 3)"),
        ("rlimits = { cpu = 1 }\nrlimits = { cpu = 1 }", "rlimits appears twice (at line 3)"),
        ("rlimits = 3\n[service.web.rlimits]\ncpu = 1", "[service.web.rlimits] appears twice (at line 3)"),
        ("rlimits = { cpu = 1, cpu = 2 }", "The key cpu appears twice (at line 2, column 29)"),
        ("rlimits = { cpu = 1 }\nrlimits.nofile = 2", "already: [service.web.rlimits] (at line 3, column 19)"),
        ("[service.web]\nnice = 3", "Cannot declare [service.web] twice (at line 2, column 13)"),
    ],
)
def test_what_is_no_toml_is_told_with_what_was_meant(line: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as error:
        load_text(tmp_path, f"[service.web]\n{line}\n")
    [mistake] = mistakes_of(error, tmp_path)
    assert mistake.startswith("is not TOML: ")
    assert mistake.endswith(told)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "no service: expected at least one table [service.NAME]"),
        ("service = 3", "service: 3: expected tables [service.NAME]"),
        ("[service]", "no service: expected at least one table [service.NAME]"),
        ("[service]\nweb = 3", "service.web: expected a table [service.web], not 3"),
        ("[[service.web]]\nnice = 3", "service.web: expected a table [service.web], not [{nice = 3}]"),
    ],
)
def test_a_file_without_a_service_is_a_mistake(text: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as error:
        load_text(tmp_path, text)
    assert mistakes_of(error, tmp_path) == [told]


def test_a_mark_of_unicode_at_the_beginning_is_nothing(tmp_path: Path) -> None:
    assert list(load_text(tmp_path, f"\ufeff[service.web]\n{lines(SOUND)}").services) == ["web"]


def test_a_number_of_more_digits_than_are_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as error:
        load_text(tmp_path, f"a = {'9' * 5000}")
    assert mistakes_of(error, tmp_path) == ["has a number of more than 4300 digits"]


def test_a_file_that_is_not_there_is_told() -> None:
    with pytest.raises(ConfigurationError, match=r"^/no/such/file: cannot be read: No such file or directory$"):
        config_file.load(Path("/no/such/file"))


def test_a_file_of_another_encoding_is_told(tmp_path: Path) -> None:
    file = tmp_path / "tcppar.toml"
    file.write_bytes(b"# caf\xe9\n")
    with pytest.raises(ConfigurationError, match=f"^{file}: is not UTF-8: .* at byte 5$"):
        config_file.load(file)


# Mistakes on the command line.


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--max-connections=0"], "max_connections: 0: expected a whole number from 1"),
        (["--max-lifetime=soon"], "max_lifetime: 'soon' is not a duration: expected a number of seconds"),
        (["--when-full=later"], "when_full: 'later': expected one of wait, refuse"),
        (["--log-format=xml"], "log_format: 'xml': expected one of text, json"),
        (["--umask=99"], "umask: '99' is not a file mode: expected octal digits"),
        (["--rlimit=nofile"], "--rlimit 'nofile': expected NAME=VALUE"),
        (["--rlimit=nofiles=3"], "rlimits.nofiles: unknown limit"),
        (["--environment==x"], "--environment '=x': expected NAME=VALUE"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else None,
)
def test_a_mistake_on_the_command_line_is_told_by_its_setting(words: list[str], told: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        by_words(*words, "127.0.0.1:0", "--", "cat")
    [mistake] = error.value.mistakes
    assert mistake.startswith(f"command line: {told}")


def test_mistakes_on_the_command_line_are_told_at_once() -> None:
    with pytest.raises(ConfigurationError) as error:
        by_words("--nice=20", "--rlimit=nofile", "--strikes=x")
    told = [mistake.removeprefix("command line: ").partition(":")[0] for mistake in error.value.mistakes]
    assert sorted(told) == ["--rlimit 'nofile'", "command", "listen", "nice", "strikes"]


@pytest.mark.parametrize(
    "words", [["127.0.0.1:0"], ["--", "cat"], ["--nice=3"], ["--no-keepalive"]], ids=lambda words: words[-1]
)
def test_with_a_file_the_settings_of_services_stand_there(words: list[str], tmp_path: Path) -> None:
    load(tmp_path, SOUND)
    with pytest.raises(ConfigurationError, match="with -c, this belongs in the file"):
        by_words("-c", str(tmp_path / "tcppar.toml"), *words)


def test_a_mistake_in_a_flag_beside_a_file_is_told_by_its_setting(tmp_path: Path) -> None:
    load(tmp_path, SOUND)
    with pytest.raises(ConfigurationError) as error:
        by_words("-c", str(tmp_path / "tcppar.toml"), "--log-format=xml")
    assert error.value.mistakes == ("command line: log_format: 'xml': expected one of text, json",)
