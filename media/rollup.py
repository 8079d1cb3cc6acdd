"""A month of a station as its logbook tells it: hours, turnout, what did not play (pure).

A village owes twenty hours a month, with a roll-call. Box and county count with the same functions
from the same entries, so the two meters agree once everything has arrived.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Final

from media.logbook import Attendance, Entry, Played
from media.programme import month_of

TARGET_HOURS: Final = 20.0


@dataclass(frozen=True, slots=True)
class PlayRow:
    """One item that was due, with who was there."""

    id: str
    serial: int
    played: Played
    attendance: Attendance | None
    doubt: str

    def as_json(self, *, acknowledged: bool = True) -> dict[str, object]:
        """As web/station_app.py describes it."""
        roll = self.attendance.roll if self.attendance is not None else ()
        one = self.played
        return {
            "id": self.id, "item": one.item, "title": one.title, "kind": one.kind,
            "planned_at": one.planned_at, "planned_s": one.planned_s,
            "started_at": one.started_at, "ended_at": one.ended_at, "played_s": one.played_s,
            "gaps": [
                {"from": gap.from_s, "to": gap.to_s, "why": gap.why.value} for gap in one.gaps
            ],
            "head_count": self.attendance.head_count if self.attendance is not None else None,
            "present": sum(who.present for who in roll) if roll else None,
            "absent": sum(not who.present for who in roll) if roll else None,
            "doubt": self.doubt,
            "acknowledged": acknowledged,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Month:
    """The sums of one month.

    hours:      of moving picture
    plays:      items of which anything was seen
    missed:     items that were due and of which nothing was seen
    head_count: of all items together; counted: how many items have one
    expected:   names on roll-calls, of which `present` were there; turnout is their ratio, or None
    """

    month: str
    hours: float
    target: float
    plays: int
    missed: int
    head_count: int
    counted: int
    expected: int
    present: int
    turnout: float | None = field(default=None)

    def as_json(self) -> dict[str, object]:
        return asdict(self)


def rows(entries: Iterable[Entry]) -> list[PlayRow]:
    """The plays of these entries in the order of time, each with its newest attendance."""
    found: list[Entry] = []
    newest: dict[tuple[str, float], tuple[float, int, Attendance]] = {}
    for entry in entries:
        body = entry.body
        if isinstance(body, Attendance):
            key, rank = (body.item, body.planned_at), (entry.written_at, entry.serial)
            if key not in newest or rank > newest[key][:2]:
                newest[key] = (*rank, body)
        else:
            found.append(entry)
    made = []
    seen: set[tuple[str, float]] = set()
    for entry in sorted(found, key=lambda one: (_began(one), one.serial)):
        assert isinstance(entry.body, Played)
        key = (entry.body.item, entry.body.planned_at)
        # An item that was talked over has two plays and one audience.
        attendance = newest[key][2] if key in newest and key not in seen else None
        seen.add(key)
        made.append(PlayRow(entry.id, entry.serial, entry.body, attendance, entry.doubt))
    return made


def month(
    plays: Iterable[PlayRow], which: str, time_zone: str, target: float = TARGET_HOURS
) -> tuple[Month, list[PlayRow]]:
    """The sums of one month, such as `2026-11`, and its plays."""
    mine = [one for one in plays if month_of(one.played.planned_at, time_zone) == which]
    counts = [
        one.attendance.head_count
        for one in mine
        if one.attendance is not None and one.attendance.head_count is not None
    ]
    roll = [who for one in mine if one.attendance is not None for who in one.attendance.roll]
    present = sum(who.present for who in roll)
    return (
        Month(
            month=which,
            hours=round(sum(one.played.played_s for one in mine) / 3600, 3),
            target=target,
            plays=sum(one.played.played_s > 0 for one in mine),
            missed=sum(one.played.played_s == 0 for one in mine),
            head_count=sum(counts),
            counted=len(counts),
            expected=len(roll),
            present=present,
            turnout=round(present / len(roll), 4) if roll else None,
        ),
        mine,
    )


def _began(entry: Entry) -> float:
    assert isinstance(entry.body, Played)
    return entry.body.started_at or entry.body.planned_at
