"""What a start needs of the system at the least: who could not serve is to say so, and not `ready`."""

import resource

from tcppar.config import Config
from tcppar.errors import SystemRefused
from tcppar.net import platform
from tcppar.records import HandlerMode
from tcppar.settings import ServiceSettings
from tcppar.supervisor.succession.ledger import RESERVE

# The waiter, the log, the watchdog, and what is open for moments only: a spawner's start, a connection, a reset.
_OWN = 7
_IN_PASSING = 8
# A keeper's: the books, what the supervisor has mapped them by, and the pipe on which the keeper tells of ends.
_OF_A_KEEPER = 4 + RESERVE


def refuse_if_short(config: Config, *, keep: bool) -> None:
    """See whether as many descriptors may be open as the services need before the first client comes.

    Args:
        keep: whether there is to be a keeper, which is not there yet.

    Raises:
        SystemRefused: they may not; says how many are needed.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = len(platform.open_descriptors()) + _OWN + _IN_PASSING + (_OF_A_KEEPER if keep else 0)
    needed += sum(_of_service(service.settings) for service in config.services.values())
    if most != resource.RLIM_INFINITY and most < needed:
        raise SystemRefused(
            f"the limit for open files is {most}, but at least {needed} are needed: raise it (ulimit -Hn {needed})"
        )


def _of_service(settings: ServiceSettings) -> int:
    """Listeners, and channels and logs of spawners and workers."""
    listeners = sum(1 if address.host or address.path or address.inherited else 2 for address in settings.listen)
    workers = settings.workers.least if settings.handler and settings.mode is HandlerMode.POOL else 0
    return listeners + 2 * (1 + workers)
