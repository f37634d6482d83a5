"""The logger of a connection. Imported only for those who log."""

from __future__ import annotations

import logging
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

    from tcppar.child.conversation import Conversation


class _ToTheServersLog(logging.StreamHandler):  # type: ignore[type-arg]
    """Writes to what is descriptor 2's stream at the time, as logging's own last resort does."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)
        self.setFormatter(logging.Formatter("%(levelname)s %(message)s"))

    @property
    def stream(self) -> TextIO:
        return sys.stderr


# Where nobody has configured logging, records go to the last resort. It needs nothing to be made or changed for each
# process, and leaves it to the handler to configure logging later.
logging.lastResort = _ToTheServersLog()
_root = logging.getLogger()
_loggers: dict[str, logging.Logger] = {}
# Those whose level is ours. Whoever configures logging in the midst of a conversation finds it as it was.
_ours: set[logging.Logger] = set()


def log_of(conn: Conversation) -> logging.LoggerAdapter[logging.Logger]:
    """What `Conversation.log` returns."""
    logger = _loggers.get(conn.service)
    if logger is None:
        logger = _loggers[conn.service] = logging.getLogger(f"tcppar.{conn.service}")
        if logger.level == logging.NOTSET and not _root.handlers:
            logger.setLevel(logging.INFO)
            _ours.add(logger)
    if _root.handlers and logger in _ours:
        _ours.remove(logger)
        logger.setLevel(logging.NOTSET)
    return logging.LoggerAdapter(logger, {"connection_id": conn.id, "service": conn.service, "peer": conn.peer})


def rehearse(conn: Conversation) -> None:
    """Log by the connection, without a word in the log. Only for connections that have no logging configured."""
    if not _root.handlers:
        before, sys.stderr = sys.stderr, _Nothing()
        try:
            conn.log.info("%s", conn.id)
        finally:
            sys.stderr = before


class _Nothing:
    def write(self, text: str) -> None: ...
    def flush(self) -> None: ...
