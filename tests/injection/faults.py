"""Which errors each system call can give, by its manual page: those that pass, and those of a shortage."""

import errno

_DESCRIPTORS = (errno.EMFILE, errno.ENFILE)
_MEMORY = (errno.ENOMEM,)
_BUFFERS = (errno.ENOBUFS, errno.ENOMEM)
_PROCESSES = (errno.EAGAIN, errno.ENOMEM)
_DISK = (errno.EIO, errno.ENOSPC)

# Not here: what gives no error but for a mistake of the caller's (EBADF, EFAULT, EINVAL), and close(2), for an error
# that is put in its place leaves the descriptor open, which no system does.
ERRORS: dict[str, tuple[int, ...]] = {
    "accept4": (*_DESCRIPTORS, *_BUFFERS, errno.EINTR, errno.ECONNABORTED, errno.EPERM),
    "bind": (errno.EADDRINUSE, *_MEMORY),
    "clone": _PROCESSES,
    "clone3": _PROCESSES,
    "dup": _DESCRIPTORS,
    "epoll_create1": (*_DESCRIPTORS, *_MEMORY),
    "epoll_ctl": (errno.ENOMEM, errno.ENOSPC),
    "epoll_wait": (errno.EINTR, errno.EPERM),
    "fcntl": (errno.EMFILE, errno.ENOMEM),
    "fork": _PROCESSES,
    "fstat": _MEMORY,
    "ftruncate": (errno.EINTR, errno.EIO, errno.ENOMEM),
    "getdents64": (errno.ENOMEM, errno.EIO),
    "getpeername": (errno.ENOBUFS, errno.ENOTCONN),
    "getsockname": (errno.ENOBUFS,),
    "getsockopt": _BUFFERS,
    "ioctl": _MEMORY,
    "kill": (errno.EPERM,),
    "listen": (errno.EADDRINUSE, *_MEMORY),
    "memfd_create": (*_DESCRIPTORS, *_MEMORY),
    "mkdir": (*_MEMORY, *_DISK),
    "mmap": _MEMORY,
    "mremap": _MEMORY,
    "newfstatat": _MEMORY,
    "open": (*_DESCRIPTORS, *_MEMORY),
    "openat": (*_DESCRIPTORS, *_MEMORY),
    "pidfd_open": (*_DESCRIPTORS, *_MEMORY, errno.EPERM),
    "pidfd_send_signal": (errno.EPERM,),
    "pipe2": _DESCRIPTORS,
    "poll": (errno.EINTR, errno.ENOMEM),
    "pread64": (errno.EIO, errno.EINTR),
    "pwrite64": (*_DISK, errno.ENOMEM),
    "read": (errno.EAGAIN, errno.EINTR, errno.EIO, errno.ENOMEM),
    "readlink": (errno.ENOMEM, errno.EIO),
    "recvfrom": (errno.EAGAIN, errno.EINTR, *_BUFFERS),
    "recvmsg": (errno.EAGAIN, errno.EINTR, *_BUFFERS, errno.EMFILE),
    "sched_getaffinity": _MEMORY,
    "select": (errno.EINTR, errno.ENOMEM),
    "pselect6": (errno.EINTR, errno.ENOMEM),
    "sendmsg": (errno.EAGAIN, errno.ETOOMANYREFS, *_BUFFERS),
    "sendto": (errno.EAGAIN, *_BUFFERS),
    "setsockopt": (*_BUFFERS, errno.EPERM),
    "shutdown": (errno.ENOTCONN,),
    "socket": (*_DESCRIPTORS, *_BUFFERS),
    "socketpair": (*_DESCRIPTORS, *_BUFFERS),
    "vfork": _PROCESSES,
    "wait4": (errno.EINTR,),
    "waitid": (errno.EINTR,),
    # A disk that is full (ENOSPC) would be put into the interpreter's own pipe too, by which signals wake the server.
    "write": (errno.EAGAIN, errno.EINTR),
}

UNHURT = {"exit", "exit_group", "rt_sigreturn", "restart_syscall"}
"""Calls of a process that ends anyway, or that are none."""
