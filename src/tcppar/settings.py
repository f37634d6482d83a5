"""Every setting, declared once: its TOML key, its flag, its type, its default and its help stand here.

The key is the field's name; the flag is the key with dashes. config.py reads them from files and flags, cli.py
offers them as options, and `python -m tcppar.docs` writes docs/settings.md from them.
"""

from enum import StrEnum
from typing import Annotated

from msgspec import Meta, Struct

from tcppar.net.address import Address
from tcppar.quantities import Bounds, Duration, FileMode, Limit
from tcppar.records import DescriptorMode, HandlerMode, StderrMode

LARGEST_BACKLOG = 2**31 - 1
LARGEST_COUNT = 2**31 - 1
MOST_SPAWNERS = 1000


class WhenFull(StrEnum):
    """What happens to a client that comes when max_connections are open."""

    WAIT = "wait"
    REFUSE = "refuse"


class LogFormat(StrEnum):
    """How log records are written."""

    TEXT = "text"
    JSON = "json"


Count = Annotated[int, Meta(ge=1, le=LARGEST_COUNT)]


class ServiceSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The settings of one service: `[service.NAME]` in the file, or flags of `tcppar serve`."""

    listen: Annotated[
        tuple[Address, ...],
        Meta(
            description="Where to listen: `IP:PORT`, `[IPv6]:PORT`, `:PORT` (both families), `unix:/PATH`, or "
            "`inherited[:NAME]` for listeners of the service manager's (LISTEN_FDS). Port 0 lets the system choose."
        ),
    ] = ()
    command: Annotated[
        tuple[str, ...],
        Meta(
            description="The program and its arguments; no shell is involved. `{fd}`, `{ctl}`, `{remote_ip}`, "
            "`{remote_port}`, `{local_ip}`, `{local_port}` and `{connection_id}` are filled in; other braces are left "
            "alone."
        ),
    ] = ()
    handler: Annotated[
        str | None,
        Meta(
            description="Instead of a command: the Python handler, as `module:name` or `path/file.py:name`. It is a "
            "function of a Connection, an `async def` of an AsyncConnection, or a class of socketserver's. A file's "
            "folder comes first on its path. Modules are looked for where the server's Python looks (PYTHONPATH, what "
            "is installed), and if they are not there, in `directory` (unset: where the server was started)."
        ),
    ] = None
    mode: Annotated[
        HandlerMode,
        Meta(
            description="`fork`: every connection gets a fresh process, a copy of one that has loaded the handler. "
            "`pool`: workers serve one connection after the other, each one at a time."
        ),
    ] = HandlerMode.FORK
    workers: Annotated[
        Bounds,
        Meta(
            description='With mode `pool`: the least and the most workers, as `"2-16"`. There are more while clients '
            "wait, and fewer again when they are idle."
        ),
    ] = Bounds("8-64")
    connections_per_worker: Annotated[
        Count | None, Meta(description="With mode `pool`: after so many connections a worker is replaced.")
    ] = None
    worker_memory: Annotated[
        Limit | None,
        Meta(
            description='With mode `pool`: a worker whose peak memory is above this (`"200M"`) is replaced after the '
            "connection."
        ),
    ] = None
    preload: Annotated[
        tuple[str, ...], Meta(description="Modules that are imported once, before the handler, for all its processes.")
    ] = ()
    backlog: Annotated[
        Annotated[int, Meta(ge=1, le=LARGEST_BACKLOG)],
        Meta(
            description="Length of the kernel's queue of clients not yet accepted. The default is as much as the "
            "system gives (net.core.somaxconn)."
        ),
    ] = LARGEST_BACKLOG
    max_connections: Annotated[Count, Meta(description="How many connections may be open at once.")] = 1000
    when_full: Annotated[
        WhenFull,
        Meta(description="At max_connections, let clients `wait` in the kernel's queue, or `refuse` them at once."),
    ] = WhenFull.WAIT
    hand_over_timeout: Annotated[
        Duration,
        Meta(
            description="How long an accepted client waits while no process can be made for it (the system is short "
            "of processes, memory or descriptors) before it is given up."
        ),
    ] = Duration(60)
    strikes: Annotated[
        Annotated[int, Meta(ge=0, le=LARGEST_COUNT)],
        Meta(
            description="How many unexpected failures of an accept are tolerated in a row before the listener is "
            "reset. A reset loses no client (on Linux). (Of a wait for events, 3 are tolerated, whatever stands here.)"
        ),
    ] = 3
    max_lifetime: Annotated[
        Duration | None,
        Meta(
            description="How long a connection may last. Then its processes get SIGTERM and, after kill_timeout, "
            "SIGKILL. Unset: without limit."
        ),
    ] = None
    idle_timeout: Annotated[
        Duration | None,
        Meta(
            description="How long neither side of a connection may have sent anything. Then it ends as by "
            "max_lifetime. Choose more than the program may take for an answer. TCP on Linux alone; unset: any time."
        ),
    ] = None
    end_when_client_gone: Annotated[
        Duration | None,
        Meta(
            description="How long a program may go on, without reading or sending, after its client has closed. Then "
            "it ends as by max_lifetime. A client may close its side and wait for the answer: choose more than the "
            "program may take for one. TCP on Linux alone; unset: any time."
        ),
    ] = None
    linger: Annotated[
        Duration | None,
        Meta(
            description="For programs that may end with input unread, whose client would otherwise lose the last part "
            "of the reply: how long the client has to receive it after the program's end. It costs the server a "
            "descriptor for each connection. Unset: the system may cut the reply."
        ),
    ] = None
    drain_timeout: Annotated[
        Duration, Meta(description="How long a stop waits for children to finish by themselves before SIGTERM.")
    ] = Duration(30)
    kill_timeout: Annotated[
        Duration, Meta(description="How long a connection's processes have after SIGTERM before SIGKILL.")
    ] = Duration(5)
    user: Annotated[str | None, Meta(description="User, by name or number, that children run as. Needs root.")] = None
    group: Annotated[
        str | None, Meta(description="Group, by name or number. The default is the user's, with its other groups.")
    ] = None
    umask: Annotated[FileMode | None, Meta(description='File mode mask of children, in octal: `"0027"`.')] = None
    directory: Annotated[str | None, Meta(description="Working directory of children.")] = None
    nice: Annotated[
        Annotated[int, Meta(ge=-20, le=19)],
        Meta(description="Added to the nice value of children; negative needs root."),
    ] = 0
    rlimits: Annotated[
        dict[str, Limit],
        Meta(
            description="Resource limits of each child by name, as in setrlimit(2): `nofile`, `as`, `cpu`, ... with a "
            'number, a size (`"64M"`) or `"unlimited"`.'
        ),
    ] = {}
    oom_score_adj: Annotated[
        Annotated[int, Meta(ge=-1000, le=1000)],
        Meta(
            description="Which processes the system ends first when memory is short (Linux): the higher, the sooner "
            "(`oom_score_adj` in proc(5)). This is that of children; spawners have one between theirs and the server's "
            "own. To set it below the server's own takes a right (CAP_SYS_RESOURCE, mostly root's); without that, "
            "children have the server's own."
        ),
    ] = 500
    environment: Annotated[dict[str, str], Meta(description="Variables added to the environment of children.")] = {}
    keep_environment: Annotated[
        tuple[str, ...], Meta(description="With clear_environment: variables kept from the server's own.")
    ] = ()
    clear_environment: Annotated[
        bool, Meta(description="Do not let children have the server's own environment; PATH is kept.")
    ] = False
    stderr: Annotated[
        StderrMode,
        Meta(
            description="Where a child's descriptor 2 leads: to the `log`, a record a line with the connection's id; "
            "`inherit`: to the server's own; `null`: nowhere. Never to the client."
        ),
    ] = StderrMode.LOG
    descriptors: Annotated[
        DescriptorMode,
        Meta(
            description="`stdio`: descriptors 0 and 1 are the connection. `listen-fds`: descriptor 3 is, by systemd's "
            "protocol (LISTEN_FDS, LISTEN_PID, LISTEN_FDNAMES), and 0 is /dev/null."
        ),
    ] = DescriptorMode.STDIO
    control_file: Annotated[
        str | None,
        Meta(
            description="Template of a file written for each connection, with the placeholders of `command`. Its path "
            "is `{ctl}`; only the child's user can read it; it is removed when the child ends."
        ),
    ] = None
    keepalive: Annotated[
        bool, Meta(description="SO_KEEPALIVE: the system notices clients that are gone without a word.")
    ] = True
    nodelay: Annotated[bool, Meta(description="TCP_NODELAY: small writes are sent at once.")] = False
    spawners: Annotated[
        Annotated[int, Meta(ge=1, le=MOST_SPAWNERS)] | None,
        Meta(
            description="How many spawner processes make the children. Unset: as many as are needed, one to start with."
        ),
    ] = None
    connections_per_spawner: Annotated[
        Count,
        Meta(
            description="How many children a spawner has before another spawner is started. Some hundreds keep the "
            "cost of a connection flat."
        ),
    ] = 400


class ServerSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The settings of the server as a whole: top level of the file, or flags."""

    log_format: Annotated[LogFormat, Meta(description="`text` for people, `json` for one JSON object a line.")] = (
        LogFormat.TEXT
    )
    reload: Annotated[
        bool,
        Meta(
            description="For developing: when a file of a handler has changed, load it again. New connections get the "
            "new code, and running ones end with the old."
        ),
    ] = False
