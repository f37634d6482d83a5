"""A service manager in small (sd_listen_fds(3)): `manager.py NAMES DESCRIPTOR,... COMMAND...` puts the descriptors on 3
and up, says so in the environment, and becomes the command."""

import os
import sys

_FIRST = 3
_OUT_OF_THE_WAY = 100


def main() -> None:
    names, numbers, *command = sys.argv[1:]
    descriptors = [int(number) for number in numbers.split(",")]
    for index, descriptor in enumerate(descriptors):
        os.dup2(descriptor, _OUT_OF_THE_WAY + index, inheritable=False)
    for index in range(len(descriptors)):
        os.dup2(_OUT_OF_THE_WAY + index, _FIRST + index)
    os.environ["LISTEN_FDS"] = str(len(descriptors))
    os.environ["LISTEN_PID"] = str(os.getpid())
    os.environ["LISTEN_FDNAMES"] = names
    os.execvp(command[0], command)


main()
