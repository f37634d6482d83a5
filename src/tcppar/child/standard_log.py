"""What `Conversation.log` is where logging is loaded. It is imported by nobody else: it is as large as all else."""

from __future__ import annotations

import logging
import sys

from tcppar.child.connection_log import say_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TextIO

    from tcppar.child.connection_log import Named


class _ToTheServersLog(logging.StreamHandler):  # type: ignore[type-arg]
    """Writes to what is descriptor 2's stream at the time, as logging's own last resort does."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)
        self.setFormatter(logging.Formatter("%(levelname)s %(message)s"))

    @property
    def stream(self) -> TextIO:
        return sys.stderr


class _Adapter(logging.LoggerAdapter):  # type: ignore[type-arg]
    """Writes a line itself where logging would do no more than that.

    A record made, passed on and formatted by logging touches 170 pages of memory, and a process that was forked for one
    conversation pays three microseconds for each of them.
    """

    def log(self, level: int, msg: object, *args: object, **more: Any) -> None:
        """As `logging.LoggerAdapter`."""
        if more or not _is_unconfigured(self.logger):
            more["stacklevel"] = more.get("stacklevel", 1) + 1  # this frame is not the caller's
            super().log(level, msg, *args, **more)
        elif self.isEnabledFor(level):
            say_line(logging.getLevelName(level), msg, args)


def _is_unconfigured(logger: logging.Logger) -> bool:
    """Whether a record would go nowhere but to our last resort, and nobody would see it before."""
    return (
        logger in _ours
        and not logger.filters
        and not logger.hasHandlers()
        and logging.lastResort is _last_resort
        and logging.getLogRecordFactory() is logging.LogRecord
    )


# Where nobody has configured logging, records go to the last resort. It needs nothing to be made or changed for each
# process, and leaves it to the handler to configure logging later.
logging.lastResort = _last_resort = _ToTheServersLog()
_root = logging.getLogger()
_loggers: dict[str, logging.Logger] = {}
# Those whose level is ours. Whoever configures logging in the midst of a conversation finds it as it was.
_ours: set[logging.Logger] = set()


def log_of(conn: Named) -> logging.LoggerAdapter[logging.Logger]:
    """Logs to `tcppar.SERVICE`; every record has `connection_id`, `service` and `peer`."""
    logger = _loggers.get(conn.service)
    if logger is None:
        logger = _loggers[conn.service] = logging.getLogger(f"tcppar.{conn.service}")
        if logger.level == logging.NOTSET and not _root.handlers:
            logger.setLevel(logging.INFO)
            _ours.add(logger)
    if _root.handlers and logger in _ours:
        _ours.remove(logger)
        logger.setLevel(logging.NOTSET)
    return _Adapter(logger, {"connection_id": conn.id, "service": conn.service, "peer": conn.peer})
