"""Making a child out of a connection: without a copy of the spawner where that can be done, else by fork.

vfork and posix_spawn copy nothing of the spawner, and return when the program runs, or could not be run and says why.
posix_spawn cannot set resource limits, and its child's environment is made before the child's pid is known, which
systemd's LISTEN_PID needs: where there is nothing better, services that ask for either pay for a fork.
"""

import errno
import os
import resource
import socket
from collections.abc import Callable
from typing import NoReturn

from tcppar.child import contract, control_file
from tcppar.child.directory import WorkingDirectory
from tcppar.mark import mark_of
from tcppar.records import ChildPlan, DescriptorMode, Family, Offer
from tcppar.spawner import marking, vfork

_CANNOT_RUN = 111

# (socket descriptor, the program's arguments, the connection's own part of the environment, where descriptor 2 is to
# lead if not where ours does, its mark) -> pid
Launch = Callable[[int, list[bytes], dict[str, str], int | None, int], int]


class Launcher:
    """Makes the children of one service.

    Args:
        plan: what the service's children get.
        fast: use what this system and interpreter have beyond POSIX.
    """

    def __init__(self, plan: ChildPlan, *, fast: bool) -> None:
        self._plan = plan
        self._program = plan.program
        self._words = [os.fsdecode(word) for word in plan.command]
        self._fills_in = contract.has_placeholders(self._words)
        self._directory = None if plan.directory is None else WorkingDirectory(plan.directory)
        self._launch: Launch
        if fast and vfork.AVAILABLE and vfork.is_permitted():
            self._launch = vfork.VforkExec(plan)
        elif plan.rlimits or plan.descriptors is DescriptorMode.LISTEN_FDS:
            self._launch = self._fork
        else:
            self._launch = self._spawn

    def launch(self, descriptor: int, offer: Offer, log: int | None) -> int:
        """Start the program with the connection; its process id, which is also its session and process group.

        Args:
            log: where its descriptor 2 is to lead; None for where ours does.

        Raises:
            OSError: no process could be made, the directory not be entered, the program not be run, or the control
                file not be written.
        """
        plan = self._plan
        if self._directory is not None:
            # Here, and not in the child: every way to make one has it then. Nothing of ours is relative to it.
            self._directory.enter()
        if plan.nodelay or plan.keepalive:
            _set_options(descriptor, offer, plan)
        arguments = list(plan.command)
        control_path = self.control_path(offer.number)
        if self._fills_in or control_path:
            filled = contract.values(plan, offer.number, offer.endpoints, control_path)
            arguments = [os.fsencode(contract.fill(word, filled)) for word in self._words]
            if control_path:
                control_file.write_anyway(control_path, contract.fill(plan.control_file or "", filled))
        environment = contract.connection_environment(plan, offer.number, offer.endpoints, offer.credentials)
        try:
            its_mark = mark_of(plan.id_prefix, offer.number)
            return self._launch(descriptor, arguments, environment, log, its_mark)
        except OSError:
            self.clean_up(offer.number)
            raise

    def control_path(self, number: int) -> str:
        """Where the control file of a connection is; empty if the service has none."""
        if self._plan.control_directory is None:
            return ""
        return control_file.path_of(self._plan.control_directory, contract.connection_id(self._plan, number))

    def clean_up(self, number: int) -> None:
        """Remove what was made for a connection beside its process."""
        if path := self.control_path(number):
            control_file.remove(path)

    def _spawn(
        self, descriptor: int, arguments: list[bytes], environment: dict[str, str], log: int | None, its_mark: int
    ) -> int:
        marking.take(its_mark)  # it begins with what we have
        places = ((descriptor, 0), (descriptor, 1)) if log is None else ((log, 2), (descriptor, 0), (descriptor, 1))
        # Dispositions and mask are the defaults already (sandbox.default_signals); a handler goes with the exec.
        return os.posix_spawn(
            self._program,
            arguments,
            self._plan.environment | contract.encoded(environment),
            file_actions=[(os.POSIX_SPAWN_DUP2, *place) for place in places],
            setsid=True,
        )

    def _fork(
        self, descriptor: int, arguments: list[bytes], environment: dict[str, str], log: int | None, its_mark: int
    ) -> int:
        # The pipe closes with the exec; what is read from it is the errno of a step that failed.
        report, reporter = os.pipe()
        try:
            pid = os.fork()
            if pid == 0:
                self._become_program(descriptor, reporter, arguments, environment, log, its_mark)
            os.close(reporter)
            reporter = -1
            if failure := os.read(report, 16):
                os.waitpid(pid, 0)
                number = int(failure)
                raise OSError(number, os.strerror(number))
            return pid
        finally:
            os.close(report)
            if reporter >= 0:
                os.close(reporter)

    def _become_program(
        self,
        descriptor: int,
        reporter: int,
        arguments: list[bytes],
        environment: dict[str, str],
        log: int | None,
        its_mark: int,
    ) -> NoReturn:
        """The child between fork and exec. It never returns into the spawner's code, whatever happens."""
        failure = errno.EIO
        variables = self._plan.environment | contract.encoded(environment)
        try:
            os.setsid()
            marking.take(its_mark)
            if log is not None:
                os.dup2(log, 2)
            if self._plan.descriptors is DescriptorMode.LISTEN_FDS:
                reporter = _place_as_listen_fds(descriptor, reporter)
                variables |= contract.encoded(contract.listen_environment(os.getpid()))
            else:
                os.dup2(descriptor, 0)
                os.dup2(descriptor, 1)
            for name, soft, hard in self._plan.rlimits:
                resource.setrlimit(getattr(resource, f"RLIMIT_{name.upper()}"), (soft, hard))
            os.execve(self._program, arguments, variables)
        except OSError as error:
            failure = error.errno or failure
        except ValueError:
            failure = errno.EPERM  # setrlimit: above what this user may have
        finally:
            os.write(reporter, str(failure).encode())
            os._exit(_CANNOT_RUN)


def _place_as_listen_fds(descriptor: int, reporter: int) -> int:
    """Put the connection on 3 and the log on 1 and 2; 0 is /dev/null as in the spawner. Where the reporter is then."""
    place = contract.FIRST_PASSED_DESCRIPTOR
    if reporter == place:
        reporter = os.dup(reporter)
    os.dup2(2, 1)
    os.dup2(descriptor, place)
    os.set_inheritable(place, True)
    return reporter


def _set_options(descriptor: int, offer: Offer, plan: ChildPlan) -> None:
    """Set the TCP options that the connection did not get from its listener."""
    if offer.endpoints.family is Family.UNIX:
        return
    family = socket.AF_INET6 if offer.endpoints.family is Family.IPV6 else socket.AF_INET
    view = socket.SocketType(family, socket.SOCK_STREAM, 0, descriptor)
    try:
        view.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, plan.keepalive)
        view.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, plan.nodelay)
    except OSError:
        pass  # the client has gone already
    finally:
        view.detach()
