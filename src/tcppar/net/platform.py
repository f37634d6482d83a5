"""What this system can do, decided once at start."""

import array
import errno
import fcntl
import os
import resource
import select
import signal
import socket
import stat
import sys
import termios
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from msgspec import Struct

# linux/prctl.h and asm-generic/socket.h; the socket module does not name them.
PR_SET_PDEATHSIG = 1
PR_SET_NAME = 15
PR_SET_CHILD_SUBREAPER = 36
PR_SET_DUMPABLE = 4
SO_ATTACH_REUSEPORT_CBPF = 51
SO_ATTACH_FILTER = 26
# linux/in.h and linux/in6.h, each with its level: ip(7), IP_FREEBIND.
FREE_BIND = {socket.AF_INET: (socket.IPPROTO_IP, 15), socket.AF_INET6: (socket.IPPROTO_IPV6, 78)}

# clone(2): its number by machine (asm/unistd.h), and the flags (linux/sched.h, signal(7)).
_CLONE = {"x86_64": 56, "aarch64": 220, "riscv64": 220}
_CLONE_FILES = 0x400
# As many as a process has by default at the most (nr_open, proc_sys_fs(5)).
_MOST_TRIED = 1 << 20
_SIGCHLD = 17


class Features(Struct, frozen=True):
    """The means beyond POSIX that may be used. Without any of them the server is slower, not wrong.

    Attributes:
        epoll: epoll(7) instead of poll(2).
        subreaper: orphans come to the supervisor (PR_SET_CHILD_SUBREAPER, prctl(2)) and can be waited for.
        steering: a listener beside another one, and a filter that sends new clients to it (socket(7)).
        turning_away: a filter that drops the first packet of every new client (socket(7)).
        tcp_info: TCP_INFO tells how long a connection was queued (tcp(7)).
        fast_calls: system calls may be made by C directly (net/calls.py).
        fast_spawn: children may be made by C directly (spawner/vfork.py, spawner/zygote.py).
        shared_descriptors: two processes can have one table of descriptors (CLONE_FILES, clone(2)).
        tells_unread: a Unix socket tells what the other side has not read, and that it was closed with something
            unread (unix(7)): who has read an offer need not say so.
        socket_diagnostics: the kernel tells of connections that other processes have (sock_diag(7)).
        pidfds: a process can be looked at and signalled without mistaking it for another (pidfd_open(2), proc(5)).
        refuses_tracers: no process of the same user may trace this one or take its descriptors (PR_SET_DUMPABLE,
            prctl(2)). TCPPAR_TRACEABLE=1 in the environment leaves that out, for debuggers and tests.
        inherited_options: a connection has the TCP options of its listener from the start.
    """

    epoll: bool
    subreaper: bool
    steering: bool
    turning_away: bool
    tcp_info: bool
    tells_unread: bool
    socket_diagnostics: bool
    pidfds: bool
    inherited_options: bool
    refuses_tracers: bool
    fast_calls: bool
    fast_spawn: bool
    shared_descriptors: bool


TRACEABLE = "TCPPAR_TRACEABLE"

PORTABLE = Features(**dict.fromkeys(Features.__struct_fields__, False))


def detect(environ: Mapping[str, str] = os.environ) -> Features:
    """The features of this system; those of the portable profile if TCPPAR_PORTABLE=1 is in `environ`.

    What a system has, it may refuse to one process: see `steering.where_permitted`.
    """
    if environ.get("TCPPAR_PORTABLE") == "1":
        return PORTABLE
    linux = sys.platform == "linux"
    return Features(
        epoll=hasattr(select, "epoll"),
        subreaper=linux,
        steering=linux and hasattr(socket, "SO_REUSEPORT"),
        turning_away=linux,
        tcp_info=linux and hasattr(socket, "TCP_INFO"),
        tells_unread=linux,
        socket_diagnostics=linux,
        pidfds=linux and _names_processes(),
        inherited_options=linux,
        refuses_tracers=linux and environ.get(TRACEABLE) != "1",
        fast_calls=linux,
        fast_spawn=linux,
        shared_descriptors=linux and os.uname().machine in _CLONE,
    )


def _names_processes() -> bool:
    try:
        os.close(os.pidfd_open(os.getpid()))
    except (AttributeError, OSError):
        return False  # an old kernel, or a filter of system calls that does not know this one
    return os.path.exists(f"/proc/{os.getpid()}/stat")


def become_subreaper() -> bool:
    """Let orphaned descendants become our children (prctl(2)); False where the system refuses."""
    return _control(PR_SET_CHILD_SUBREAPER, 1)


def hear_of_parents_end() -> None:
    """Let the end of our parent come as SIGCHLD (Linux: prctl(2)). That it may have ended before, the caller finds out
    by os.getppid(), afterwards.
    """
    _control(PR_SET_PDEATHSIG, signal.SIGCHLD)


def set_name(name: str) -> None:
    """Give this process a name: /proc/PID/comm, which everybody may read, and nobody else can write (Linux)."""
    _control(PR_SET_NAME, name.encode())


def _control(what: int, value: int | bytes) -> bool:
    if sys.platform != "linux":
        return False
    import ctypes  # spawners use this module too, and their memory counts many times

    libc = ctypes.CDLL(None, use_errno=True)
    argument = ctypes.c_char_p(value) if isinstance(value, bytes) else ctypes.c_ulong(value)
    return bool(libc.prctl(what, argument, 0, 0, 0) == 0)


def hear_of_children() -> None:
    """See to it that children can be waited for. Whoever started us may ignore SIGCHLD, which an exec keeps: then the
    system reaps them itself (wait(2)). Where it is not ignored it is left alone, for setting it would let go of one
    that waits.
    """
    if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def refuse_tracers() -> None:
    """Let no process of the same user trace this one, read its memory, or take its descriptors (ptrace(2),
    pidfd_getfd(2)); nor is there a core dump of it. Its files in /proc are root's then. An exec ends it.
    """
    try:
        from tcppar.net import _calls
    except ImportError:  # it was not compiled
        import ctypes

        ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    else:
        _calls.refuse_tracers()


def fork_sharing_descriptors() -> int:
    """As fork(2), but both processes go on with one table of descriptors: what one opens, the other has too, and
    neither's end closes anything. With an exec the process that calls it gets a table of its own.

    What Python does around os.fork() is not done: no module may depend on it, and there must be no other thread.

    Raises:
        OSError: as clone(2).
    """
    import ctypes

    # Called with the interpreter's lock held (PyDLL), so that the child has it too. All arguments but the flags are
    # zero, so that their order, which is another on each machine, makes no difference.
    libc = ctypes.PyDLL(None, use_errno=True)
    number, flags = ctypes.c_long(_CLONE[os.uname().machine]), ctypes.c_long(_CLONE_FILES | _SIGCHLD)
    zero = ctypes.c_long(0)
    pid = int(libc.syscall(number, flags, zero, zero, zero, zero))
    if pid < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return pid


def open_descriptors() -> set[int]:
    """All descriptors that this process has open. Where none is free to list them by, each number is tried."""
    try:
        found = {int(name) for name in os.listdir("/dev/fd")}
    except OSError:
        found = set(range(min(resource.getrlimit(resource.RLIMIT_NOFILE)[0], _MOST_TRIED)))
    return {number for number in found if _is_open(number)}  # that of the list itself is closed again


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError as error:
        return error.errno != errno.EBADF  # there may be no memory to tell
    return True


def unread(descriptor: int) -> int:
    """How many bytes are there to be read (FIONREAD, ioctl_tty(2), tcp(7))."""
    count = array.array("i", [0])
    fcntl.ioctl(descriptor, termios.FIONREAD, count)
    return count[0]


def opened_anew(descriptor: int) -> int:
    """What a descriptor leads to, to write, as another open file where that can be had: one whose file status flags
    (O_NONBLOCK, O_APPEND) nobody else has, so that nobody can change them for others. Else a duplicate.

    A file that is not appended to stays the same open file: each of two would have a position of its own, and the one
    write over what the other has written.

    Raises:
        OSError: as dup(2).
    """
    try:
        mode, flags = os.fstat(descriptor).st_mode, fcntl.fcntl(descriptor, fcntl.F_GETFL)
        if not stat.S_ISREG(mode) or flags & os.O_APPEND:
            kept = os.O_WRONLY | os.O_CLOEXEC | os.O_NOCTTY | (flags & os.O_APPEND)
            # To open a pipe that nobody reads would wait for a reader; O_NONBLOCK refuses that.
            opened = os.open(f"/proc/self/fd/{descriptor}", kept | os.O_NONBLOCK)
            os.set_blocking(opened, True)
            return opened
    except OSError:
        pass  # a socket, or there is no /proc, or the file is another user's
    return os.dup(descriptor)


@contextmanager
def socket_of(descriptor: int) -> Iterator[socket.socket]:
    """A socket object for a look at a descriptor that is somebody else's; it is left open.

    Raises:
        OSError: it is no socket.
    """
    sock = socket.socket(fileno=descriptor)
    try:
        yield sock
    finally:
        sock.detach()


def ensure_standard_descriptors() -> None:
    """Open /dev/null on 0, 1 and 2 where they are closed, lest a socket get one of these numbers."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
