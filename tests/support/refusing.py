"""A sandbox in small (seccomp(2)): `refusing.py OPTION,... COMMAND...` becomes the command, to which setsockopt(2)
refuses these options of SOL_SOCKET by EPERM."""

import ctypes
import os
import platform
import socket
import struct
import sys

_SETSOCKOPT = {"x86_64": 54, "aarch64": 208, "riscv64": 208}[platform.machine()]
_INSTRUCTION = struct.Struct("HBBI")  # struct sock_filter
_LOAD, _JUMP_EQUAL, _RETURN = 0x20, 0x15, 0x06  # BPF_LD | BPF_W | BPF_ABS, BPF_JMP | BPF_JEQ | BPF_K, BPF_RET | BPF_K
_NUMBER, _LEVEL, _OPTION = 0, 24, 32  # in struct seccomp_data: the number of the call, its arguments 1 and 2
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050001  # SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO with EPERM
_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 38, 22, 2


def _program(options: list[int]) -> bytes:
    left = len(options)
    instructions = [
        (_LOAD, 0, 0, _NUMBER),
        (_JUMP_EQUAL, 0, 3 + left, _SETSOCKOPT),
        (_LOAD, 0, 0, _LEVEL),
        (_JUMP_EQUAL, 0, 1 + left, socket.SOL_SOCKET),
        (_LOAD, 0, 0, _OPTION),
        *((_JUMP_EQUAL, left - place, 0, option) for place, option in enumerate(options)),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _REFUSE),
    ]
    return b"".join(_INSTRUCTION.pack(*instruction) for instruction in instructions)


def main() -> None:
    options, *command = sys.argv[1:]
    code = _program([int(option) for option in options.split(",")])
    buffer = ctypes.create_string_buffer(code, len(code))
    header = ctypes.create_string_buffer(struct.pack("HP", len(code) // _INSTRUCTION.size, ctypes.addressof(buffer)))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, header, 0, 0):
        sys.exit(f"no filter can be set: {os.strerror(ctypes.get_errno())}")
    os.execvp(command[0], command)


main()
