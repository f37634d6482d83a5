"""Becomes a program, and leaves a process that copies what that writes to the connection, as wrappers do (recordio).

Arguments: where the copier goes, a FIFO that it waits for before it copies, the program and its arguments.
"""

import os
import sys

where, gate, *program = sys.argv[1:]
reader, writer = os.pipe()
if os.fork() == 0:
    os.close(writer)
    if where == "group":
        os.setpgid(0, 0)
    elif where == "session":
        os.setsid()
    with open(gate):
        pass
    while piece := os.read(reader, 65536):
        os.write(1, piece)
    os._exit(0)
os.close(reader)
os.dup2(writer, 1)
os.execvp(program[0], program)
