"""The log: events become lines on a descriptor, and a log that cannot be written stops nobody."""

import errno
import functools
import json
import os
import re
import select
import socket
import stat
import time
from collections.abc import Mapping
from typing import Protocol, get_args

import msgspec

from tcppar.events import Event, Level, Listening, LogLost
from tcppar.observe.unseen import UNSEEN, escaped
from tcppar.policy.timers import NEVER
from tcppar.settings import LogFormat

_LARGEST_BACKLOG = 1 << 20
_FULL_WRITE = 1 << 16
# How long a record may wait for others to be written with, and a write that failed to be tried again.
_LONGEST_WAIT = 0.01
_RETRY = 0.02
# Without progress for so long, a log counts as one that cannot be written.
_STALLED = 1.0
# What a pipe that polls as writable takes without blocking (pipe(7)).
_PIPE_PIECE = re.compile(rb".{1,%d}" % select.PIPE_BUF, re.DOTALL)
# A terminal that polls as writable takes one write of its driver's. Line breaks and tabs, which it may expand, are
# writes of their own; the rest goes to the driver as it is, and 64 bytes are less than what drivers keep free.
_TERMINAL_PIECE = re.compile(rb"[\n\t]|[^\n\t]{1,64}")

_DELETE = "\x7f"  # the one in ASCII that JSON does not escape
_SURROGATE = re.compile("[\ud800-\udfff]")


class Renderer(Protocol):
    """Makes a line, with its end, of an event."""

    def __call__(self, event: Event, now: float) -> str: ...


class TextRenderer:
    """`2026-01-31T12:00:00.123Z SENTENCE`, and the ready lines without anything before them."""

    def __init__(self) -> None:
        self._clock = _Clock()

    def __call__(self, event: Event, now: float) -> str:
        text = escaped(event.sentence())
        return f"{text}\n" if isinstance(event, Listening) else f"{self._clock.text(now)} {text}\n"


class JsonRenderer:
    """`{"time":"...","level":"info","event":"end",...}`"""

    def __init__(self) -> None:
        self._clock = _Clock()
        self._encode = msgspec.json.Encoder().encode

    def __call__(self, event: Event, now: float) -> str:
        event = _with_short_times(event)
        try:
            text = self._encode(event).decode()
        except UnicodeEncodeError:
            text = _without_surrogates(event)
        # JSON itself leaves these as they are. They can only stand in its strings.
        if not text.isascii() or _DELETE in text:
            text = UNSEEN.sub(lambda found: json.dumps(found[0])[1:-1], text)
        return f'{{"time":"{self._clock.text(now)}","level":"{event.level}",{text[1:]}\n'


@functools.cache
def _times_of(kind: type[Event]) -> tuple[str, ...]:
    """The fields of a kind of event that are seconds."""
    return tuple(field.name for field in msgspec.structs.fields(kind) if float in (field.type, *get_args(field.type)))


def _with_short_times(event: Event) -> Event:
    """An event whose seconds have six digits behind the point at the most: nothing here is measured more finely."""
    fields = _times_of(type(event))
    if not fields:
        return event
    times = ((name, getattr(event, name)) for name in fields)
    return msgspec.structs.replace(event, **{name: round(time, 6) for name, time in times if time is not None})


def _without_surrogates(event: Event) -> str:
    """An event in JSON, with bytes that were no text (os.fsdecode) as the text form has them: `\\udcff`."""
    text = json.dumps(msgspec.to_builtins(event), ensure_ascii=False, separators=(",", ":"))
    return _SURROGATE.sub(lambda found: rf"\\u{ord(found[0]):x}", text)


class _Clock:
    """Times in UTC with milliseconds (RFC 3339); the seconds are made into text once a second."""

    def __init__(self) -> None:
        self._second = -1
        self._prefix = ""

    def text(self, now: float) -> str:
        second = int(now)
        if second != self._second:
            self._second = second
            self._prefix = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f"{self._prefix}.{int((now - second) * 1000):03d}Z"


_PRIORITIES = {Level.ERROR: "<3>", Level.WARNING: "<4>", Level.INFO: "<6>"}  # sd-daemon(3), SD_ERR and others


def journal_prefix(descriptor: int, level: Level, environ: Mapping[str, str] = os.environ) -> str:
    """What tells the journal the level of a line; empty if the descriptor does not lead there.

    That it does JOURNAL_STREAM says (systemd.exec(5)): its device and its inode. A wrapper may have led it elsewhere,
    and the variable still be there.
    """
    try:
        found = os.fstat(descriptor)
    except OSError:
        return ""
    return _PRIORITIES[level] if environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}" else ""


def _text_for_journal(event: Event, now: float) -> str:
    """`<6>SENTENCE`: the journal takes the time itself."""
    return f"{_PRIORITIES[event.level]}{escaped(event.sentence())}\n"


class _JsonForJournal:
    """`<6>{"time":...}`: whoever reads the records themselves finds the same keys everywhere."""

    def __init__(self) -> None:
        self._render = JsonRenderer()

    def __call__(self, event: Event, now: float) -> str:
        return _PRIORITIES[event.level] + self._render(event, now)


RENDERERS: dict[LogFormat, type[TextRenderer] | type[JsonRenderer]] = {
    LogFormat.TEXT: TextRenderer,
    LogFormat.JSON: JsonRenderer,
}


class Log:
    """Writes events to a descriptor, without ever waiting for it.

    What cannot be written is kept, up to a megabyte, and tried again with the next flush; beyond that records are
    counted and dropped, and the count is told when writing works again.

    Args:
        descriptor: where to write, normally 2. Its file status flags are not changed: they belong to all who share it.
        log_format: how.
    """

    def __init__(self, descriptor: int, log_format: LogFormat) -> None:
        self._for_journal = bool(journal_prefix(descriptor, Level.INFO))
        self.use(log_format)
        self._write = _writer(descriptor)
        self._lines: list[str] = []
        self._unwritten = b""
        self._size = 0
        self._lost = 0
        self._progress_at = time.monotonic()
        self.due_at = NEVER
        """When something has to be written, in monotonic seconds: under load, many records are one write."""

    def use(self, log_format: LogFormat) -> None:
        """Write the coming records in this form."""
        self._render: Renderer = RENDERERS[log_format]()
        if self._for_journal:
            self._render = _text_for_journal if log_format is LogFormat.TEXT else _JsonForJournal()

    def emit(self, event: Event) -> None:
        """Take an event; `flush` writes it."""
        if self._size >= _FULL_WRITE and not self._makes_room():
            self._lost += 1
            return
        line = self._render(event, time.time())
        self._lines.append(line)
        self._size += len(line)
        if self.due_at is NEVER:
            self.due_at = time.monotonic() + _LONGEST_WAIT

    def _makes_room(self) -> bool:
        if not self._unwritten or time.monotonic() >= self.due_at:
            self.flush()
        return self._size < _LARGEST_BACKLOG

    @property
    def pending(self) -> bool:
        """Whether something is still to be written."""
        return self.due_at is not NEVER

    @property
    def congested(self) -> bool:
        """Whether much is pending that is being written: whoever can wait with more should, for some milliseconds.

        Never true for long where nothing can be written: then waiting would help nobody, and records are dropped.
        """
        return self._size >= _FULL_WRITE and time.monotonic() - self._progress_at < _STALLED

    def flush(self) -> None:
        """Write what can be written now."""
        data = self._unwritten + "".join(self._lines).encode(errors="backslashreplace")
        self._lines.clear()
        written = self._write(data) if data else 0
        if written:
            self._progress_at = time.monotonic()
        self._unwritten = data[written:]
        self._size = len(self._unwritten)
        self.due_at = time.monotonic() + _RETRY if self._unwritten else NEVER
        if self._lost and not self._unwritten:
            lost, self._lost = self._lost, 0
            self.emit(LogLost(records=lost))

    def finish(self, patience: float) -> None:
        """Write what is left, waiting for a slow reader for that many seconds at the most. Only at the very end."""
        deadline = time.monotonic() + patience
        self.flush()
        while self.pending and (left := deadline - time.monotonic()) > 0:
            time.sleep(min(left, _RETRY))
            self.flush()


class _Write(Protocol):
    """Writes what can be written without waiting, and says how much that was; what fails was not written."""

    def __call__(self, data: bytes, /) -> int: ...


def _writer(descriptor: int) -> _Write:
    """How to write to a descriptor without waiting, by what it is.

    A file never makes us wait. For a pipe, a socket or a terminal, O_NONBLOCK would do, but the flag belongs to the
    open file, which children and shells share; so a socket is told for each message, a pipe is opened anew where the
    system lets us (/proc), and the rest is asked with poll(2) before each small piece.

    Raises:
        OSError: memory is short.
    """
    try:
        mode = os.fstat(descriptor).st_mode
    except OSError as error:
        if error.errno != errno.EBADF:
            raise  # for want of memory: a server without a log is not what was asked for
        return len
    if stat.S_ISREG(mode):
        return lambda data: _try(lambda: os.write(descriptor, data))
    if stat.S_ISSOCK(mode):
        sock = socket.socket(fileno=os.dup(descriptor))
        return lambda data: _try(lambda: sock.send(data, socket.MSG_DONTWAIT))
    try:
        own = os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except OSError:
        return _polled(descriptor, _TERMINAL_PIECE if os.isatty(descriptor) else _PIPE_PIECE)
    return lambda data: _try(lambda: os.write(own, data))


def _try(write: "_Attempt") -> int:
    try:
        return write()
    except OSError:
        # Full disk, full pipe, nobody reading: in each case it may be different the next time.
        return 0


class _Attempt(Protocol):
    def __call__(self) -> int: ...


def _polled(descriptor: int, piece: re.Pattern[bytes]) -> _Write:
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)

    def write(data: bytes) -> int:
        written = 0
        for match in piece.finditer(data):
            if not any(events & select.POLLOUT for _, events in poll.poll(0)):
                break
            done = _try(lambda some=match[0]: os.write(descriptor, some))
            written += done
            if done < len(match[0]):
                break
        return written

    return write
