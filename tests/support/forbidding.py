"""Runs a command in which the named system calls fail: `forbidding.py ERRNO NUMBER,... COMMAND...` (seccomp(2)).

A filter of BPF: each number that is forbidden returns SECCOMP_RET_ERRNO, all others SECCOMP_RET_ALLOW.
"""

import ctypes
import errno
import os
import struct
import sys

PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
LOAD, EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, ERRNO = 0x7FFF0000, 0x00050000

name, numbers, *command = sys.argv[1:]
answer = ERRNO | getattr(errno, name)
program = [struct.pack("HBBI", LOAD, 0, 0, 0)]
for number in map(int, numbers.split(",")):
    program += [struct.pack("HBBI", EQUAL, 0, 1, number), struct.pack("HBBI", RETURN, 0, 0, answer)]
program.append(struct.pack("HBBI", RETURN, 0, 0, ALLOW))
code = ctypes.create_string_buffer(b"".join(program))
filter_ = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(program), ctypes.addressof(code)))
libc = ctypes.CDLL(None, use_errno=True)
if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, filter_, 0, 0):
    sys.exit(f"no filter: {os.strerror(ctypes.get_errno())}")
os.execvp(command[0], command)
