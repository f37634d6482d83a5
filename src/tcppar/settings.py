"""Every setting, declared once: its TOML key, its flag, its type, its default and its help stand here.

The key is the field's name; the flag is the key with dashes. config.py reads them from files and flags, cli.py
offers them as options, and `python -m tcppar.docs` writes docs/settings.md from them.
"""

from enum import StrEnum
from typing import Annotated

from msgspec import Meta, Struct

from tcppar.net.address import Address
from tcppar.quantities import Bounds, Duration, FileMode, Limit, ResourceLimit, Text
from tcppar.records import DescriptorMode, HandlerMode, StderrMode, ThreadsAtFork

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
            description="Where to listen: `IP:PORT`, `[IPv6]:PORT`, `:PORT` or `PORT` (IPv4 and IPv6), `unix:PATH` "
            "(relative to where the server was started), `unix:@NAME` (an abstract socket: every user can connect; "
            "Linux only), or `inherited[:NAME]` for listeners passed by the service manager (LISTEN_FDS). Port 0 lets "
            "the system choose a port. Write a link-local address with its interface: `[fe80::1%eth0]:PORT`. An IPv4 "
            "address in IPv6 notation (`[::ffff:192.0.2.1]:PORT`) is the same as that IPv4 address. No two addresses "
            "in a configuration may overlap, as `127.0.0.1:80` does with `:80` and `0.0.0.0:80`."
        ),
    ] = ()
    ipv6_only: Annotated[
        bool,
        Meta(
            description="Whether `[::]:PORT` accepts IPv6 clients only. If not, it also accepts IPv4 clients, which "
            "are shown by their IPv4 addresses. (`:PORT` always opens two listeners, one for IPv4 and one for IPv6.)"
        ),
    ] = True
    free_bind: Annotated[
        bool,
        Meta(
            description="Listen even on addresses that this machine does not have yet (IP_FREEBIND, like FreeBind= in "
            "systemd.socket(5)). Needs no special rights. Linux only."
        ),
    ] = False
    bind_to_device: Annotated[
        str | None,
        Meta(
            description="A network interface, such as `eth0`: only clients that arrive through it are accepted "
            "(SO_BINDTODEVICE, like BindToDevice= in systemd.socket(5)). Needs no special rights since Linux 5.7, and "
            "CAP_NET_RAW before that. Linux only."
        ),
    ] = None
    socket_mode: Annotated[
        FileMode | None,
        Meta(
            description='File mode of `unix:/PATH`, in octal: `"0660"`. Users that can write to the file can connect. '
            "If unset: 0777 without the bits of the server's umask; if you change it with chmod(1), a reset keeps that."
        ),
    ] = None
    socket_user: Annotated[
        str | None,
        Meta(
            description="User, by name or number, that owns `unix:/PATH`. Only root can change it. If unset: the "
            "server's."
        ),
    ] = None
    socket_group: Annotated[
        str | None,
        Meta(
            description="Group, by name or number, that owns `unix:/PATH`. Only root can choose a group that the "
            "server is not in."
        ),
    ] = None
    command: Annotated[
        tuple[Text, ...],
        Meta(
            description="The program and its arguments; no shell is involved. The program is searched for in PATH, or, "
            "if it contains a slash, in `directory`. A program that `user` cannot run is refused at the start and by a "
            "reload. `{fd}`, `{ctl}`, `{remote_ip}`, `{remote_port}`, `{local_ip}`, `{local_port}` and "
            "`{connection_id}` are filled in; other braces are left alone."
        ),
    ] = ()
    argv0: Annotated[
        Text | None,
        Meta(
            description="The name that the program is called by (argv[0]), if it is not the first word of `command`. "
            'With `"-sh"`, `sh` is a login shell; `tcpd` and `busybox` do what that name says. Placeholders are filled '
            "in as in `command`."
        ),
    ] = None
    handler: Annotated[
        str | None,
        Meta(
            description="A Python handler to run instead of a command, as `module:name` or `path/file.py:name`: a "
            "function that takes a Connection, an `async def` that takes an AsyncConnection, or a request handler "
            "class from socketserver. A relative path is relative to `directory`, and the file's folder comes first on "
            "the module path. A module is searched for where the server's Python searches (PYTHONPATH, installed "
            "packages), then in `directory`. If `directory` is unset, it is the one in which the server was started."
        ),
    ] = None
    mode: Annotated[
        HandlerMode,
        Meta(
            description="`fork`: every connection gets a fresh process, forked from one that has loaded the handler. "
            "`pool`: worker processes serve one connection after another."
        ),
    ] = HandlerMode.FORK
    workers: Annotated[
        Bounds,
        Meta(
            description='With mode `pool`: the minimum and maximum number of workers, such as `"2-16"`. Workers are '
            "added while clients wait, and removed when they have been idle."
        ),
    ] = Bounds("8-64")
    connections_per_worker: Annotated[
        Count | None, Meta(description="With mode `pool`: replace a worker after this many connections.")
    ] = None
    worker_memory: Annotated[
        Limit | None,
        Meta(
            description='With mode `pool`: replace a worker whose peak memory exceeds this (such as `"200M"`), after '
            "the connection it is serving."
        ),
    ] = None
    preload: Annotated[
        tuple[str, ...], Meta(description="Modules to import once, before the handler, for all of its processes.")
    ] = ()
    threads_at_fork: Annotated[
        ThreadsAtFork,
        Meta(
            description="What to do if the handler's modules start threads when they are imported: a fork copies only "
            "one thread, but the locks of all threads. `refuse`: the start fails, and the message names the import; "
            "threads of libraries that are prepared for forks, such as OpenBLAS, are allowed. `allow`: threads are "
            "not checked."
        ),
    ] = ThreadsAtFork.REFUSE
    backlog: Annotated[
        Annotated[int, Meta(ge=1, le=LARGEST_BACKLOG)],
        Meta(
            description="Length of the kernel's queue of clients that are not yet accepted. The default is as long as "
            "the system allows (net.core.somaxconn)."
        ),
    ] = LARGEST_BACKLOG
    max_connections: Annotated[Count, Meta(description="How many connections can be open at once.")] = 1000
    when_full: Annotated[
        WhenFull,
        Meta(
            description="What happens to new clients at max_connections: they `wait` in the kernel's queue, or the "
            "server will `refuse` them at once. While clients wait, a `clients-wait` record says how many, every 10 "
            "seconds."
        ),
    ] = WhenFull.WAIT
    hand_over_timeout: Annotated[
        Duration,
        Meta(
            description="How long an accepted client may wait when the system is too short of something to create its "
            "process, or no worker starts (on_start fails), before the server closes the connection. 0: at once."
        ),
    ] = Duration(60)
    strikes: Annotated[
        Annotated[int, Meta(ge=0, le=LARGEST_COUNT)],
        Meta(
            description="How many unexpected failures to accept are tolerated in a row before the listener is reset. "
            "On Linux a reset loses no client. (When waiting for events fails, 3 failures are always tolerated.)"
        ),
    ] = 3
    log_starts: Annotated[
        bool,
        Meta(
            description="Also write a `start` record when a connection gets its process: for conversations that last "
            "for hours, which would otherwise not appear in the log until they are over."
        ),
    ] = False
    max_lifetime: Annotated[
        Duration | None,
        Meta(
            description="How long a connection may last. After that its processes get SIGTERM and, after "
            "kill_timeout, SIGKILL. If unset, there is no limit. 0 ends each connection as soon as it has its process."
        ),
    ] = None
    idle_timeout: Annotated[
        Duration | None,
        Meta(
            description="How long a connection may be silent in both directions. After that it is ended as by "
            "max_lifetime. Choose a time longer than the program may need for an answer. Other connections do not "
            "count: while FTP transfers a file, its control connection is silent, so leave timeouts to the FTP server, "
            "or choose a time longer than any transfer. TCP on Linux only. If unset, no limit; 0 is as in max_lifetime."
        ),
    ] = None
    end_when_client_gone: Annotated[
        Duration | None,
        Meta(
            description="How long a program may continue without reading or sending after its client has closed the "
            "connection. After that it is ended as by max_lifetime. A client can also close its sending side and wait "
            "for the answer, so choose a time longer than the program may need for one. TCP on Linux only. If unset, "
            "there is no limit; 0 leaves no time."
        ),
    ] = None
    linger: Annotated[
        Duration | None,
        Meta(
            description="For programs that may exit without reading all of their input: how long the client has after "
            "that to receive the rest of the reply, which it could otherwise lose. Other processes of the connection, "
            "such as the copier that recordio leaves behind, first get the same time to finish. Beyond "
            "max_connections of them, the oldest is closed. Needs one more descriptor each. If unset, the system may "
            "cut off the reply; 0 leaves no time."
        ),
    ] = None
    drain_timeout: Annotated[
        Duration, Meta(description="How long children have to finish after a stop, before SIGTERM. 0: no time.")
    ] = Duration(30)
    kill_timeout: Annotated[
        Duration, Meta(description="How long a connection's processes have between SIGTERM and SIGKILL. 0: no time.")
    ] = Duration(5)
    user: Annotated[
        str | None,
        Meta(
            description="The user, by name or number, that children run as. USER, LOGNAME, HOME and SHELL in their "
            "environment are set accordingly. Needs root."
        ),
    ] = None
    group: Annotated[
        str | None,
        Meta(
            description="The group, by name or number; by default that of `user`. Children also have the other groups "
            "of `user`. Without `user`, the group is their only one."
        ),
    ] = None
    umask: Annotated[
        FileMode | None,
        Meta(
            description='File mode mask of children, an octal string: `"0027"` or `"27"`. A number is refused, because '
            "27 without quotes is decimal in TOML."
        ),
    ] = None
    directory: Annotated[
        str | None,
        Meta(
            description="Working directory of children, which `user` must be able to enter. If it is relative, it is "
            "relative to where the server was started. A relative program in `command`, and relative entries of PATH, "
            "are relative to this directory. It is looked up for each connection, so if it is a link that is changed, "
            "the next connection runs in the new directory."
        ),
    ] = None
    nice: Annotated[
        Annotated[int, Meta(ge=-20, le=19)],
        Meta(description="Added to the nice value of children. A negative number needs root, with CAP_SYS_NICE."),
    ] = 0
    rlimits: Annotated[
        dict[str, ResourceLimit],
        Meta(
            description="Resource limits of each child, named as in setrlimit(2): `nofile`, `as`, `cpu` and so on, "
            'each with a number, a size (`"64M"`) or `"unlimited"`, or with a soft and a hard limit: `"1024:524288"`.'
        ),
    ] = {}
    oom_score_adj: Annotated[
        Annotated[int, Meta(ge=-1000, le=1000)],
        Meta(
            description="How soon the system kills children when memory is short (Linux): the higher, the sooner "
            "(`oom_score_adj` in proc(5)). Spawners get a value between the children's and the server's own. A value "
            "below the server's own requires CAP_SYS_RESOURCE, which usually only root has; without it, children keep "
            "the server's."
        ),
    ] = 500
    environment: Annotated[dict[str, Text], Meta(description="Variables to add to the environment of children.")] = {}
    keep_environment: Annotated[
        tuple[str, ...], Meta(description="With clear_environment: variables of the server's own to keep.")
    ] = ()
    clear_environment: Annotated[
        bool, Meta(description="Keep the server's own environment from children, except for PATH.")
    ] = False
    stderr: Annotated[
        StderrMode,
        Meta(
            description="Where a child's descriptor 2 leads. `log`: to the log, one record for each line, with the "
            "connection's id. `inherit`: where the server's own leads. `null`: nowhere. It never leads to the client."
        ),
    ] = StderrMode.LOG
    descriptors: Annotated[
        DescriptorMode,
        Meta(
            description="How a child gets the connection. `stdio`: as descriptors 0 and 1. `listen-fds`: as descriptor "
            "3, following systemd's protocol (LISTEN_FDS, LISTEN_PID, LISTEN_FDNAMES); 0 is then /dev/null."
        ),
    ] = DescriptorMode.STDIO
    control_file: Annotated[
        str | None,
        Meta(
            description="The text of a file to write for each connection, with the same placeholders as `command`. "
            "`{ctl}` is its path, below TMPDIR (or /tmp), which `user` must be able to reach. Only the child's user "
            "can read it. It is removed when the child ends."
        ),
    ] = None
    keepalive: Annotated[bool, Meta(description="SO_KEEPALIVE: the system detects clients that have vanished.")] = True
    nodelay: Annotated[bool, Meta(description="TCP_NODELAY: send small writes at once.")] = False
    spawners: Annotated[
        Annotated[int, Meta(ge=1, le=MOST_SPAWNERS)] | None,
        Meta(
            description="How many spawner processes create the children. If unset, there is one at first, and more as "
            "needed."
        ),
    ] = None
    connections_per_spawner: Annotated[
        Count,
        Meta(
            description="How many children a spawner may have before another spawner is started. A few hundred keep "
            "the cost of a connection constant."
        ),
    ] = 400

    @property
    def words(self) -> tuple[str, ...]:
        """What the program is called, and its arguments."""
        return self.command if self.argv0 is None else (self.argv0, *self.command[1:])


class ServerSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The settings of the server as a whole: top level of the file, or flags."""

    log_format: Annotated[LogFormat, Meta(description="`text` for people, `json` for one JSON object per line.")] = (
        LogFormat.TEXT
    )
    reload: Annotated[
        bool,
        Meta(
            description="For development: reload a handler when one of its files has changed. New connections get the "
            "new code, open ones keep the old."
        ),
    ] = False
