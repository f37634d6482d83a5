"""Which pool serves a service: the one place that asks for its mode."""

from tcppar.config import ServiceConfig
from tcppar.records import HandlerMode
from tcppar.supervisor.dispatch.pool import Pool, SpawnerPool
from tcppar.supervisor.dispatch.worker_pool import WorkerPool

_OF_A_HANDLER: dict[HandlerMode, type[Pool]] = {HandlerMode.FORK: SpawnerPool, HandlerMode.POOL: WorkerPool}


def pool_for(config: ServiceConfig) -> type[Pool]:
    """The kind of pool that a service needs: of spawners that make a process for each connection, or of workers."""
    settings = config.settings
    return _OF_A_HANDLER[settings.mode] if settings.handler else SpawnerPool
