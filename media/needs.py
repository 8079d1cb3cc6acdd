"""What a station or county needs of which course by when, and whether it will be there. Pure.

The timetable gives needs; what the manifests list and the cache holds gives what is missing. The
need that is due first is filled first, its pieces in the order in which they are played, in the
best rendition that the line can still bring. Everything that is needed in the next days is pinned.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from .blob import Blob
from .window import Line

PIN_AHEAD_S: Final = 7 * 86400.0
KEEP_AFTER_S: Final = 3600.0
"""What was played stays pinned for a while: a class that runs over is not cut."""
MARGIN: Final = 0.8
"""A rendition is begun when it fits into this share of what the line should bring; one that is
begun is kept while it fits at all, so that the choice does not swing with the measured rate."""
RED_ABOVE: Final = 1.0
AMBER_ABOVE: Final = 0.7


class Outlook(enum.StrEnum):
    """Will it play?"""

    READY = "ready"
    """Everything is on the disk."""
    GREEN = "green"
    AMBER = "amber"
    """It fits, with little to spare."""
    RED = "red"
    """At this rate it will not be whole when it is due."""
    UNKNOWN = "unknown"
    """Its manifest has not come yet."""


@dataclass(frozen=True, slots=True)
class Need:
    """One item of a timetable that plays a course.

    renditions: the names that will do, the best first; empty: any, the course's best first.
    due_s, until_s: when it begins and ends. priority: between needs that are due at once, the
    larger first.
    """

    id: str
    course: str
    due_s: float
    until_s: float
    renditions: tuple[str, ...] = ()
    priority: int = 0


@dataclass(frozen=True, slots=True)
class Forecast:
    """What will become of one need.

    rendition: the one that was chosen, "" while none is known. bytes_left: of it.
    done_s: when it should be whole; infinity if it will not be. ahead: bytes that are fetched
    before its own.
    """

    need: Need
    outlook: Outlook
    rendition: str = ""
    bytes_left: int = 0
    done_s: float = float("inf")
    ahead_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do now.

    missing: what to fetch, in order. pinned: digests that must stay. unknown: courses whose
    course or manifest is not known yet, in the order in which they are wanted.
    """

    missing: tuple[Blob, ...]
    pinned: frozenset[str]
    forecasts: tuple[Forecast, ...]
    unknown: tuple[str, ...] = ()


Renditions = Mapping[str, Sequence[Blob]]
"""The renditions of a course, the best first: name -> its pieces in the order of the file."""


@dataclass(slots=True)
class _Run:
    """The plan as it grows; `taken` are digests that an earlier need fetches already."""

    missing: list[Blob] = field(default_factory=list)
    taken: set[str] = field(default_factory=set)
    pinned: set[str] = field(default_factory=set)
    ahead_bytes: int = 0


def in_order(needs: Iterable[Need], now: float) -> list[Need]:
    """Those that are not over and begin within the days that are pinned: the first due first.

    What plays already counts as due now.
    """
    current = [n for n in needs if n.until_s + KEEP_AFTER_S > now and n.due_s < now + PIN_AHEAD_S]
    return sorted(current, key=lambda n: (max(n.due_s, now), -n.priority, n.due_s, n.id))


def plan(
    needs: Iterable[Need],
    courses: Mapping[str, Renditions],
    holds: Callable[[str], bool],
    now: float,
    line: Line,
    measured_bps: float,
) -> Plan:
    """What to fetch and keep for these needs.

    courses: what is known of them, by id. holds: whether the piece of this digest is on the disk.
    line: when and how much may be fetched. measured_bps: what the line brought lately, above 0.
    """
    run = _Run()
    forecasts: list[Forecast] = []
    unknown: list[str] = []
    for need in in_order(needs, now):
        renditions = courses.get(need.course)
        names = _names(need, renditions) if renditions else []
        if not renditions or not names:
            if need.course not in unknown:
                unknown.append(need.course)
            forecasts.append(Forecast(need, Outlook.UNKNOWN, ahead_bytes=run.ahead_bytes))
            continue
        carried = line.may_carry_bytes(now, max(need.due_s, now), measured_bps) - run.ahead_bytes
        name = _choose(names, renditions, holds, run.taken, carried)
        left = _left(renditions[name], holds, run.taken)
        bytes_left = sum(blob.size_bytes for blob in left)
        forecasts.append(
            _forecast(need, name, bytes_left, run.ahead_bytes, carried, now, line, measured_bps)
        )
        if need.until_s > now:
            run.missing += left
            run.taken |= {blob.sha256 for blob in left}
            run.ahead_bytes += bytes_left
        run.pinned |= {blob.sha256 for blob in renditions[name]}
    return Plan(tuple(run.missing), frozenset(run.pinned), tuple(forecasts), tuple(unknown))


def _names(need: Need, renditions: Renditions) -> list[str]:
    wanted = [name for name in need.renditions if name in renditions]
    return wanted or ([] if need.renditions else list(renditions))


def _left(blobs: Sequence[Blob], holds: Callable[[str], bool], taken: set[str]) -> list[Blob]:
    """What is neither there nor on its way for an earlier need; each digest once."""
    left: dict[str, Blob] = {}
    for blob in blobs:
        if blob.sha256 not in taken and not holds(blob.sha256):
            left.setdefault(blob.sha256, blob)
    return list(left.values())


def _choose(
    names: Sequence[str],
    renditions: Renditions,
    holds: Callable[[str], bool],
    taken: set[str],
    carried_bytes: float,
) -> str:
    """The best one that will be whole in time; else the one that lacks least."""
    lacking: list[tuple[int, str]] = []
    for name in names:
        left = _left(renditions[name], holds, taken)
        size = sum(blob.size_bytes for blob in left)
        begun = len(left) < len(renditions[name])
        if size == 0 or size <= carried_bytes * (1.0 if begun else MARGIN):
            return name
        lacking.append((size, name))
    return min(lacking)[1]


def _forecast(
    need: Need,
    rendition: str,
    bytes_left: int,
    ahead_bytes: int,
    carried_bytes: float,
    now: float,
    line: Line,
    measured_bps: float,
) -> Forecast:
    if bytes_left == 0:
        return Forecast(need, Outlook.READY, rendition, 0, now, ahead_bytes)
    rate = min(measured_bps, line.rate_bps) if line.rate_bps else measured_bps
    open_s = 8 * (ahead_bytes + bytes_left) / rate if rate > 0 else float("inf")
    done_s = line.hours.done_at(now, open_s, line.zone) if open_s != float("inf") else open_s
    share = bytes_left / carried_bytes if carried_bytes > 0 else float("inf")
    if share > RED_ABOVE:
        outlook = Outlook.RED
    else:
        outlook = Outlook.AMBER if share > AMBER_ABOVE else Outlook.GREEN
    return Forecast(need, outlook, rendition, bytes_left, done_s, ahead_bytes)
