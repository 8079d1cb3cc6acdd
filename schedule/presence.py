"""Who attended how long: stays, replays, head counts and roll-calls merged (pure).

A class is a stretch of seconds from its first on the air (0) to its last. A live stay covers the
seconds between joining and leaving, a replay those that were watched, wherever in time. What an
attendee saw is the union: watching a minute live and once more in the recording is one minute.

People are counted where they are named, and otherwise where they were seen: a person in a room's
roll-call has a row of their own, so the room counts those without a name only.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

Span = tuple[int, int]

# A replay that reports more than this has a broken player, and a class this long is no class.
MOST_S = 7 * 86_400


@dataclass(frozen=True, slots=True)
class Stay:
    """One stay of an attendee in a class, in seconds of the class; `live` or in the recording."""

    attendee: str
    live: bool
    from_s: int
    to_s: int


@dataclass(frozen=True, slots=True)
class Count:
    """A head count of a room. unnamed: names in its roll-call that nobody in the store has."""

    attendee: str
    people: int
    unnamed: int = 0


@dataclass(frozen=True, slots=True)
class Call:
    """A person in the roll-call of a room. at_home: the person belongs to the unit at hand."""

    person: str
    room: str
    at_home: bool = True


@dataclass(frozen=True, slots=True)
class Row:
    """What one attendee of a unit has of one class; the columns of `tables.Attendance`."""

    attendee: str
    people: int
    live_s: int
    replay_s: int
    seen_s: int
    class_s: int
    first: int


@dataclass(slots=True)
class _Seen:
    live: list[Span] = field(default_factory=list)
    replay: list[Span] = field(default_factory=list)


def union(spans: Iterable[Span]) -> list[Span]:
    """Spans in order, none touching another; empty and turned ones are left out."""
    joined: list[Span] = []
    for begins, ends in sorted(span for span in spans if span[1] > span[0]):
        if joined and begins <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], ends))
        else:
            joined.append((begins, ends))
    return joined


def length(spans: Iterable[Span]) -> int:
    """Seconds that spans cover, each second once."""
    return sum(ends - begins for begins, ends in union(spans))


def merge(
    stays: Iterable[Stay],
    counts: Iterable[Count] = (),
    calls: Iterable[Call] = (),
    length_s: int = MOST_S,
    abroad: Iterable[Stay] = (),
) -> list[Row]:
    """The rows of one unit and one class, by attendee.

    stays, counts: of the unit's rooms and people. calls: everybody in a roll-call of its rooms, and
    its own people in those of others, whose stays are `abroad`. length_s: of the class; what lies
    outside is cut off. Of several head counts of a room the largest holds, for people come late and
    leave early; of several roll-calls all names hold.
    """
    here = _spans(stays, length_s)
    rooms = here | _spans(abroad, length_s)
    heads: dict[str, int] = {}
    unnamed: dict[str, int] = {}
    for count in counts:
        heads[count.attendee] = max(heads.get(count.attendee, 0), count.people)
        unnamed[count.attendee] = max(unnamed.get(count.attendee, 0), count.unnamed)
        here.setdefault(count.attendee, _Seen())
    named: dict[str, set[str]] = {}
    for call in calls:
        named.setdefault(call.room, set()).add(call.person)
        if call.at_home:
            # Everybody in a roll-call saw what their room saw.
            room, own = rooms.get(call.room, _Seen()), here.setdefault(call.person, _Seen())
            own.live.extend(room.live)
            own.replay.extend(room.replay)
    rows, covered = [], list[Span]()
    for at, attendee in enumerate(sorted(here)):
        seen = here[attendee]
        both = union(seen.live + seen.replay)
        before, covered = length(covered), union(covered + both)
        people = 1
        if not attendee.startswith("person:"):
            # A room that was on counts as one until somebody has counted.
            names = len(named.get(attendee, ()))
            people = max(heads.get(attendee, 0 if names else 1) - names, unnamed.get(attendee, 0))
        rows.append(
            Row(
                attendee,
                people,
                length(seen.live),
                length(seen.replay),
                length(both),
                length(covered) - before,
                int(at == 0),
            )
        )
    return rows


def watched(stays: Iterable[Stay], calls: Iterable[Call], length_s: int) -> dict[str, list[Span]]:
    """What each attendee of a class saw of it, everybody in a roll-call with their room."""
    rooms = _spans(stays, length_s)
    found = {attendee: seen.live + seen.replay for attendee, seen in rooms.items()}
    for call in calls:
        room = rooms.get(call.room, _Seen())
        found[call.person] = found.get(call.person, []) + room.live + room.replay
    return {attendee: union(spans) for attendee, spans in sorted(found.items())}


def _spans(stays: Iterable[Stay], length_s: int) -> dict[str, _Seen]:
    found: dict[str, _Seen] = {}
    for stay in stays:
        span = (max(0, stay.from_s), min(length_s, stay.to_s, MOST_S))
        seen = found.setdefault(stay.attendee, _Seen())
        (seen.live if stay.live else seen.replay).append(span)
    return found
