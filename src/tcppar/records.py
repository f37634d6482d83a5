"""The records that cross files and processes: small, frozen, of plain data only.

Those that travel between the supervisor and its spawners are msgspec structs written as arrays, so that one of
them costs a fraction of a microsecond to encode and to decode on the hot path.
"""

from enum import StrEnum
from typing import Annotated

from msgspec import Meta, Struct

from tcppar.endpoints import Ends


class Family(StrEnum):
    """The kind of a listener's address."""

    IPV4 = "ipv4"
    IPV6 = "ipv6"
    UNIX = "unix"


class Endpoints(Struct, Ends, frozen=True, array_like=True, gc=False):
    """Both ends of a connection as a child is told of them.

    For TCP the addresses are numeric and without brackets. For a Unix socket `local_ip` is the listener's path,
    `remote_ip` the peer's path (mostly empty), and the ports are 0.
    """

    family: Family
    remote_ip: str
    remote_port: int
    local_ip: str
    local_port: int


class PeerCredentials(Struct, frozen=True, array_like=True, gc=False):
    """Who is at the other end of a Unix socket (SO_PEERCRED, unix(7))."""

    pid: int
    uid: int
    gid: int


class StderrMode(StrEnum):
    """Where descriptor 2 of a child leads; never to the client."""

    LOG = "log"
    INHERIT = "inherit"
    NULL = "null"


class DescriptorMode(StrEnum):
    """Which descriptors of the child are the connection."""

    STDIO = "stdio"
    LISTEN_FDS = "listen-fds"


class ThreadsAtFork(StrEnum):
    """What becomes of a handler whose modules have started threads."""

    REFUSE = "refuse"
    ALLOW = "allow"


class HandlerMode(StrEnum):
    """Which process runs a Python handler."""

    FORK = "fork"
    POOL = "pool"


class Identity(Struct, frozen=True):
    """User and groups to become, by number, resolved before anything is started."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str
    shell: str = ""


class HandlerPlan(Struct, frozen=True):
    """A Python handler in place of a program.

    Attributes:
        target: `module:name` or `path/file.py:name`.
        mode: a process for each connection, or workers that are used again.
        import_path: where modules are looked for (sys.path).
        folder: where the handler's module is looked for if it is nowhere there; it then comes first. Empty for none.
        preload: modules that are imported before the handler.
        connections_per_worker: after so many a worker ends and is replaced; None for any number.
        tells_imports: whether its processes tell what they import. Those of one spawner tell it once, for they know
            what others of them have told.
        worker_memory_kb: a worker whose peak memory is above this ends after the connection; None for no limit.
        threads_allowed: whether threads may run in the process that is to be forked.
        runs_site: whether what is installed to be executed at Python's start is executed (site), as the server's Python
            has done.
        user_site: the folder of what the server's user has installed for himself; empty if it is not looked at.
        server_state: what request handlers of socketserver's have as `self.server` (`server_state.py`); empty for a
            small one.
    """

    target: str
    mode: HandlerMode
    import_path: tuple[str, ...] = ()
    folder: str = ""
    preload: tuple[str, ...] = ()
    connections_per_worker: int | None = None
    worker_memory_kb: int | None = None
    tells_imports: bool = True
    threads_allowed: bool = False
    runs_site: bool = False
    user_site: str = ""
    server_state: str = ""


class ChildPlan(Struct, frozen=True):
    """All that a spawner knows of its service: how to make a child out of a connection.

    Attributes:
        service: the service's name, `TCPPAR_SERVICE` in the child.
        id_prefix: what stands before the number in connection ids of this server's run.
        program: the file to run, as the system has its name: the spawner's choice of `programs`.
        programs: files that it may be, in the order in which they are tried; absolute.
        tries_program: whether the spawner refuses to begin if the program cannot be run, or no control file be written.
        command: what the program is called (argv[0]) and its arguments, placeholders not yet filled in.
        environment: the environment of every child, before the connection's own names are added.
        descriptors: which descriptors are the connection.
        identity: user and groups to become; None keeps those of the server.
        umask: file mode mask; None keeps it.
        directory: working directory, an absolute path, entered for each connection; None keeps it.
        nice: what is added to the nice value.
        rlimits: (resource name, soft, hard) set in the child itself; -1 is unlimited.
        control_file: template of the control file; None writes none.
        control_directory: the private directory for control files; None where none are written.
        handler: what runs instead of `program`, of which there is none then.
        oom_score_adj: children's (proc(5)); a spawner's is between that and the server's.
        passes_log: whether where descriptor 2 is to lead comes with each offer, or hire, as a second descriptor. If
            not, it leads where the spawner's does.
        nodelay, keepalive: TCP options that the spawner has to set itself, because the system does not
            let a connection inherit them from its listener.
    """

    service: str
    id_prefix: str
    program: bytes
    command: tuple[bytes, ...]
    environment: dict[bytes, bytes]
    descriptors: DescriptorMode = DescriptorMode.STDIO
    identity: Identity | None = None
    umask: int | None = None
    directory: str | None = None
    nice: int = 0
    rlimits: tuple[tuple[str, int, int], ...] = ()
    control_file: str | None = None
    control_directory: str | None = None
    handler: HandlerPlan | None = None
    programs: tuple[bytes, ...] = ()
    tries_program: bool = False
    oom_score_adj: int = 0
    passes_log: bool = False
    nodelay: bool = False
    keepalive: bool = False


# From the supervisor to a spawner.


class Offer(Struct, frozen=True, array_like=True, tag=1, gc=False):
    """A connection, offered with its descriptor, and with its log's if the plan says so; answered by Taken, Busy or
    Failed.

    Attributes:
        attempt: counts how often this connection was offered to anybody.
        again: whether this very offer may have been sent before, by a supervisor that has died since. Whoever has had
            it has answered it already, and does nothing.
    """

    number: int
    endpoints: Endpoints
    credentials: PeerCredentials | None = None
    attempt: int = 0
    again: bool = False

    def repeats(self, last: "Offer | None") -> bool:
        """Whether it is the one that was had last. Of those before it, it was known that they had been sent."""
        return self.again and last is not None and (self.number, self.attempt) == (last.number, last.attempt)


class Deliver(Struct, frozen=True, array_like=True, tag=2, gc=False):
    """Send a signal to the process group of a connection's child."""

    number: int
    signal: int


class Retire(Struct, frozen=True, array_like=True, tag=3, gc=False):
    """No offer comes any more: end when the last child has ended, and report until then."""


class Hire(Struct, frozen=True, array_like=True, tag=4, gc=False):
    """Make a worker, which serves connections that are offered on the channel whose descriptor comes along, and its
    log's if the plan says so; answered as an Offer is.

    Attributes:
        number: negative, so that no connection has it.
        tells: whether it reports Taken, as others do. If not, to have read the offer is to have taken it.
    """

    number: int
    tells: bool = True


Order = Offer | Deliver | Retire | Hire


# From a spawner or a worker to the supervisor, which believes neither: whatever could not be so is refused while it is
# decoded. Whether it fits what the supervisor knows is for the supervisor to see (supervisor/dispatch/taker.py).

Number = Annotated[int, Meta(ge=-(2**53), le=2**53)]
"""Of a connection, or negative: of a worker."""
Pid = Annotated[int, Meta(ge=1, le=2**22)]  # PID_MAX_LIMIT (proc(5), /proc/sys/kernel/pid_max)
PidIfAny = Annotated[int, Meta(ge=0, le=2**22)]
Seconds = Annotated[float, Meta(ge=0, le=1e9)]
Status = Annotated[int, Meta(ge=0, le=0xFFFF)]
Errno = Annotated[int, Meta(ge=0, le=4095)]  # MAX_ERRNO (linux/err.h)
Kilobytes = Annotated[int, Meta(ge=0, le=2**50)]
Attempt = Annotated[int, Meta(ge=0, le=255)]
Word = Annotated[str, Meta(max_length=64)]
Sentence = Annotated[str, Meta(max_length=16384)]
Sources = Annotated[tuple[Annotated[str, Meta(max_length=4096)], ...], Meta(max_length=20000)]


class Ready(Struct, frozen=True, array_like=True, tag=1, gc=False):
    """The spawner has entered its user and limits, or the worker has begun: it can take connections.

    Attributes:
        sources: files that the handler was loaded from; a spawner's.
        pid: a worker's own.
    """

    sources: Sources = ()
    pid: PidIfAny = 0


class Refused(Struct, frozen=True, array_like=True, tag=2, gc=False):
    """The spawner cannot begin: `reason` is a sentence that names the setting.

    Attributes:
        mistake: whether it is the user's code or configuration that has to be changed.
        sources: files from which a handler could not be loaded.
    """

    reason: Sentence
    mistake: bool = False
    sources: Sources = ()


class Taken(Struct, frozen=True, array_like=True, tag=3, gc=False):
    """A child has the connection; only now does the supervisor close its copy."""

    number: Number
    pid: Pid
    spawn_seconds: Seconds


class Busy(Struct, frozen=True, array_like=True, tag=4, gc=False):
    """No child could be made just now (`errno`, of the call `call`): the connection is to be offered again.

    Attributes:
        attempt: that of the offer.
    """

    number: Number
    errno: Errno
    call: Word
    attempt: Attempt = 0


class Failed(Struct, frozen=True, array_like=True, tag=5, gc=False):
    """No child can be made, and trying again would not help."""

    number: Number
    reason: Sentence


class Ended(Struct, frozen=True, array_like=True, tag=6, gc=False):
    """A child has ended and is reaped.

    Attributes:
        status: as waitpid(2) gives it; None where nobody could wait for it.
        cpu_seconds: user and system time of the child and of what it waited for (wait4(2)).
        peak_memory_kb: its largest resident size; None if it never was larger than its spawner, whose own size the
            kernel counts for the moment between the making of a child and its exec.
    """

    number: Number
    status: Status | None
    cpu_seconds: Seconds
    peak_memory_kb: Kilobytes | None


class Leaving(Struct, frozen=True, array_like=True, tag=7, gc=False):
    """The worker takes no more connections, and ends."""


Report = Ready | Refused | Taken | Busy | Failed | Ended | Leaving
