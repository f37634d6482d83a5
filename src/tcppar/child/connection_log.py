"""The log of a connection: logging's, where the handler has loaded that, and else one that writes lines itself.

logging is as large as all else in a handler's process. A module that only says `conn.log.info(...)` has not configured
it; then it would make a record that nobody sees, and write the line.
"""

from __future__ import annotations

import sys

from tcppar.child.own_path import own
from tcppar.child.process import say, say_traceback, traceback_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    import logging
    from typing import Any, Protocol

    Logger = logging.LoggerAdapter[logging.Logger]

    class Named(Protocol):
        """A connection, as far as its log needs it."""

        id: str
        service: str

        @property
        def peer(self) -> str: ...


LEVELS = {"CRITICAL": 50, "ERROR": 40, "WARNING": 30, "INFO": 20, "DEBUG": 10}
"""As logging's."""
_LEAST = LEVELS["INFO"]
_NAMES = {level: name for name, level in LEVELS.items()}
# How many frames of ours are between what we pass on and the caller's own.
_OUR_FRAMES = 2


def log_of(conn: Named) -> Logger | ConnectionLog:
    """What `Conversation.log` returns."""
    return _standard(conn) if "logging" in sys.modules else ConnectionLog(conn)


def _standard(conn: Named) -> Logger:
    log: Logger = own("tcppar.child.standard_log").log_of(conn)
    return log


def rehearse(log: Logger | ConnectionLog) -> None:
    """Use it, without a word in the log; unless logging is configured, which may lead anywhere."""
    if "logging" not in sys.modules or not sys.modules["logging"].getLogger().handlers:
        before, sys.stderr = sys.stderr, _Nothing()
        try:
            log.info("%s", "")
        finally:
            sys.stderr = before


class _Nothing:
    def write(self, text: str) -> None: ...
    def flush(self) -> None: ...


class ConnectionLog:
    """Has the methods of `logging.LoggerAdapter`, and writes `LEVEL message` to the server's log.

    As soon as somebody loads logging, it passes on to that; and what only that can do, it leaves to it.
    """

    __slots__ = ("_conn",)

    def __init__(self, conn: Named) -> None:
        self._conn = conn

    def debug(self, msg: object, *args: object, **more: Any) -> None:
        self._write(LEVELS["DEBUG"], msg, args, more)

    def info(self, msg: object, *args: object, **more: Any) -> None:
        self._write(LEVELS["INFO"], msg, args, more)

    def warning(self, msg: object, *args: object, **more: Any) -> None:
        self._write(LEVELS["WARNING"], msg, args, more)

    def error(self, msg: object, *args: object, **more: Any) -> None:
        self._write(LEVELS["ERROR"], msg, args, more)

    def exception(self, msg: object, *args: object, exc_info: object = True, **more: Any) -> None:
        self._write(LEVELS["ERROR"], msg, args, {"exc_info": exc_info, **more})

    def critical(self, msg: object, *args: object, **more: Any) -> None:
        self._write(LEVELS["CRITICAL"], msg, args, more)

    def log(self, level: int, msg: object, *args: object, **more: Any) -> None:
        self._write(level, msg, args, more)

    def __getattr__(self, name: str) -> Any:
        """All else that such a log has is logging's; this loads it."""
        return getattr(_standard(self._conn), name)

    def _write(self, level: int, msg: object, args: tuple[object, ...], more: dict[str, Any]) -> None:
        if "logging" in sys.modules or not more.keys() <= {"exc_info", "extra"}:
            more["stacklevel"] = more.get("stacklevel", 1) + _OUR_FRAMES
            _standard(self._conn).log(level, msg, *args, **more)
        elif level >= _LEAST:
            say_line(_NAMES.get(level, f"Level {level}"), msg, args, _error(more.get("exc_info")))


def say_line(level: str, msg: object, args: tuple[object, ...], error: BaseException | None = None) -> None:
    """Write a line to the log, and the traceback of an error after it.

    What cannot be put into words, for there are more values than places, say, is told with its traceback, and raises
    nothing: so it is with logging.
    """
    try:
        line = f"{level} {str(msg) % _values(args) if args else msg}"
    except Exception:  # noqa: BLE001 - a message and its values can raise anything
        say_traceback(f"{level}: this message could not be formatted")
    else:
        say(line if error is None else f"{line}\n{traceback_of(error)}")


def _values(args: tuple[object, ...]) -> object:
    """What a message is formatted with: one mapping stands for itself (logging.LogRecord)."""
    alone = args[0] if len(args) == 1 else None
    return alone if alone and hasattr(alone, "keys") else args


def _error(of: object) -> BaseException | None:
    """The exception that `exc_info` names: itself, what sys.exc_info() returns, or something true for the current."""
    if of is None or isinstance(of, BaseException):
        return of
    return (of[1] if isinstance(of, tuple) else sys.exception()) if of else None
