"""A picture of a run: rate, waiting and faults over time, as SVG."""

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from xml.sax.saxutils import escape

from tcppar.testing.report import Instant, Report

_WIDTH, _LEFT, _RIGHT = 960, 130, 20
_RATE_TOP, _WAIT_TOP, _PANEL = 40, 220, 140
_EVENTS_TOP, _ROW = 400, 18
_MOST_POINTS = 480
_SHORTEST_WAIT, _LONGEST_WAIT = 0.0001, 10.0

_INK, _FAINT = "#333", "#ddd"
_LINES: tuple[tuple[str, str, Callable[[Instant], float]], ...] = (
    ("longest", "#c44", lambda instant: instant.longest),
    ("99 of 100", "#e90", lambda instant: instant.p99),
    ("median", "#27a", lambda instant: instant.median),
)


def svg(report: Report) -> str:
    """The picture, a whole file."""
    kinds = sorted(report.faults)
    height = _EVENTS_TOP + _ROW * len(kinds) + 40
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" font-family="sans-serif" '
            f'font-size="12" fill="{_INK}">',
            f'<rect width="{_WIDTH}" height="{height}" fill="#fff"/>',
            *_rate(report),
            *_waiting(report),
            *_events(report, kinds),
            *_time(report, height - 16),
            "</svg>\n",
        ]
    )


# The parts.


def _rate(report: Report) -> Iterator[str]:
    yield _text(_LEFT, _RATE_TOP - 12, "connections a second", anchor="start")
    instants = _thinned(report.instants)
    most = _round_up(max(instant.done for instant in instants))

    def height(value: float) -> float:
        return _RATE_TOP + _PANEL * (1 - value / most)

    for value in (0, most / 2, most):
        yield from _grid(height(value), f"{value:,.0f}")
    yield _line([(_x(report, instant.at), height(instant.done)) for instant in instants], "#27a")


def _waiting(report: Report) -> Iterator[str]:
    yield _text(_LEFT, _WAIT_TOP - 12, "time to the first answer", anchor="start")
    span = math.log10(_LONGEST_WAIT / _SHORTEST_WAIT)

    def height(value: float) -> float:
        within = min(max(value, _SHORTEST_WAIT), _LONGEST_WAIT)
        return _WAIT_TOP + _PANEL * (1 - math.log10(within / _SHORTEST_WAIT) / span)

    for value, name in ((0.0001, "0.1 ms"), (0.001, "1 ms"), (0.01, "10 ms"), (0.1, "0.1 s"), (1, "1 s"), (10, "10 s")):
        yield from _grid(height(value), name)
    instants = [instant for instant in _thinned(report.instants) if instant.done]
    for number, (name, colour, of) in enumerate(_LINES):
        yield _text(_WIDTH - _RIGHT - 90 * number, _WAIT_TOP - 12, name, fill=colour)
        yield _line([(_x(report, instant.at), height(of(instant))) for instant in instants], colour)


def _events(report: Report, kinds: Sequence[str]) -> Iterator[str]:
    for row, kind in enumerate(kinds):
        y = _EVENTS_TOP + _ROW * row
        yield _text(_LEFT - 8, y + 4, f"{kind} ({report.faults[kind]})")
        yield f'<path d="M{_LEFT} {y}H{_WIDTH - _RIGHT}" stroke="{_FAINT}"/>'
        for event in report.events:
            if event.kind == kind:
                x = _x(report, event.began)
                width = max(2.0, _x(report, event.ended) - x)
                yield f'<rect x="{x:.1f}" y="{y - 5}" width="{width:.1f}" height="10" fill="#c44"/>'


def _time(report: Report, y: int) -> Iterator[str]:
    step = next(step for step in (10, 30, 60, 120, 300, 600, 3600, 86400) if report.seconds / step <= 12)
    for at in range(0, int(report.seconds) + 1, step):
        yield _text(_x(report, at), y, f"{at // 60}:{at % 60:02}", anchor="middle")


# Drawing.


def _x(report: Report, at: float) -> float:
    return _LEFT + (_WIDTH - _LEFT - _RIGHT) * at / max(report.seconds, 1)


def _line(points: Sequence[tuple[float, float]], colour: str) -> str:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline points="{path}" fill="none" stroke="{colour}"/>'


def _grid(y: float, name: str) -> Iterator[str]:
    yield f'<path d="M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}" stroke="{_FAINT}"/>'
    yield _text(_LEFT - 8, y + 4, name)


def _text(x: float, y: float, text: str, *, anchor: str = "end", fill: str = _INK) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{fill}">{escape(text)}</text>'


def _round_up(value: float) -> float:
    """The next number that begins with 1, 2 or 5 and goes on with zeros."""
    power = 10.0 ** math.floor(math.log10(max(value, 1)))
    return next(round_one for step in (1, 2, 5, 10) if (round_one := step * power) >= value)


def _thinned(instants: Sequence[Instant]) -> list[Instant]:
    """So few that they can be told apart. Of several, the worst is shown: it is what one looks for."""
    size = math.ceil(len(instants) / _MOST_POINTS)
    bounds = [*range(0, len(instants), size), len(instants)]
    return [_worst(instants[first:last]) for first, last in pairwise(bounds)]


def _worst(instants: Sequence[Instant]) -> Instant:
    return Instant(
        at=instants[0].at,
        done=min(instant.done for instant in instants),
        median=max(instant.median for instant in instants),
        p99=max(instant.p99 for instant in instants),
        longest=max(instant.longest for instant in instants),
    )
