"""What can be wrong at a station, as a code with values, and the sentence that says it.

Programs and translated pages go by the code and the values; the English sentence stands in the log
and at the county. A fault is a state, not an event: it is there as long as its cause is, and it
never stops the playing of anything else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Code(StrEnum):
    """Every fault that a station knows. Pages translate them as `fault.<code>`."""

    UNPAIRED = "unpaired"
    LINE_DOWN = "line-down"
    CLOCK_DOUBT = "clock-doubt"
    PROGRAMME_NONE = "programme-none"
    PROGRAMME_SIGNATURE = "programme-signature"
    PROGRAMME_UNREADABLE = "programme-unreadable"
    PROGRAMME_EXPIRED = "programme-expired"
    COURSE_SIGNATURE = "course-signature"
    COURSE_UNREADABLE = "course-unreadable"
    COURSE_DAMAGED = "course-damaged"
    COURSE_MISSING = "course-missing"
    COURSE_LATE = "course-late"
    DISK_FULL = "disk-full"
    DISK_LOW = "disk-low"
    DISK_BROKEN = "disk-broken"
    LOGBOOK_REPAIRED = "logbook-repaired"
    STATE_REPAIRED = "state-repaired"
    TELEVISION_SILENT = "television-silent"
    TELEVISION_ERROR = "television-error"
    TEMPERATURE_HIGH = "temperature-high"
    KEY_REFUSED = "key-refused"


SENTENCES: Mapping[Code, str] = {
    Code.UNPAIRED: "This box belongs to no county yet: read its six figures to the county's "
    "operator.",
    Code.LINE_DOWN: "No line to the county since {since}: what is on the disk plays, the box "
    "tries again by itself.",
    Code.CLOCK_DOUBT: "The clock of this box is in doubt ({reason}): connect it to its county, or "
    "open its page on a telephone.",
    Code.PROGRAMME_NONE: "No timetable has arrived yet: the county must issue one for this box.",
    Code.PROGRAMME_SIGNATURE: "A timetable with a wrong signature was refused: the one before it "
    "stays in force.",
    Code.PROGRAMME_UNREADABLE: "A timetable could not be read and was refused ({why}): the one "
    "before it stays in force.",
    Code.PROGRAMME_EXPIRED: "The timetable ended on {until}: the county must issue a new one.",
    Code.COURSE_SIGNATURE: "The list of pieces of the course {course} has a wrong signature and "
    "was refused: the library must issue it anew.",
    Code.COURSE_UNREADABLE: "The list of pieces of the course {course} cannot be used and was "
    "refused ({why}): the library must issue it anew.",
    Code.COURSE_DAMAGED: "A piece of the course {course} on the disk was damaged and is fetched "
    "again.",
    Code.COURSE_MISSING: "The course {course} is not on the disk in time: it is shown as soon as "
    "it is.",
    Code.COURSE_LATE: "The course {course} will not be here in time: {left_mb} MB are left, and "
    "the line brings {rate_kbit} kbit/s.",
    Code.DISK_FULL: "The disk is full: nothing more can be fetched until room is made, what is "
    "there plays on.",
    Code.DISK_LOW: "The disk has only {free_mb} MB left.",
    Code.DISK_BROKEN: "The disk cannot be written ({why}): replace it, what can be read plays on.",
    Code.LOGBOOK_REPAIRED: "{lines} lines of the logbook were damaged, most likely by a power "
    "cut: they are kept aside, all others are whole.",
    Code.STATE_REPAIRED: "The file {file} was damaged, most likely by a power cut: it is kept "
    "aside and the box went on without it.",
    Code.TELEVISION_SILENT: "The television page has said nothing for {seconds} s: the box starts "
    "its browser again.",
    Code.TELEVISION_ERROR: "The television page reports: {why}",
    Code.TEMPERATURE_HIGH: "The box is {celsius} degrees warm: give it air.",
    Code.KEY_REFUSED: "The county refuses this box: its operator must pair it again.",
}


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong since `since_s` (Unix seconds). `about` tells twins apart."""

    code: Code
    since_s: float
    about: str = ""
    values: Mapping[str, str | float] = field(default_factory=dict)

    @property
    def sentence(self) -> str:
        """What is wrong and what to do, in English."""
        return SENTENCES[self.code].format_map(dict(self.values))

    def as_json(self) -> dict[str, object]:
        return {
            "code": self.code.value,
            "about": self.about,
            "since": self.since_s,
            "values": dict(self.values),
            "sentence": self.sentence,
        }


class Faults:
    """The faults that a station has now. Bounded: one for each code and `about`, 64 in all."""

    LIMIT = 64

    def __init__(self) -> None:
        self._faults: dict[tuple[Code, str], Fault] = {}
        self.revision = 0
        """Grows with every change, so that who shows them knows when to look."""

    def __iter__(self) -> Iterator[Fault]:
        return iter(sorted(self._faults.values(), key=lambda one: (one.since_s, one.code)))

    def __contains__(self, code: Code) -> bool:
        return any(one == code for one, _ in self._faults)

    def set(self, code: Code, now: float, about: str = "", **values: str | float) -> bool:
        """Notes a fault; True if it is new. An old one keeps its beginning, with new values."""
        old = self._faults.get((code, about))
        if old is None and len(self._faults) >= self.LIMIT:
            return False
        fault = Fault(code, old.since_s if old else now, about, values)
        if fault != old:
            self._faults[code, about] = fault
            self.revision += 1
        return old is None

    def clear(self, code: Code, about: str | None = None) -> bool:
        """Takes a fault back, or all with this code; True if there was one."""
        gone = [
            key for key in self._faults if key[0] == code and (about is None or key[1] == about)
        ]
        for key in gone:
            del self._faults[key]
        self.revision += bool(gone)
        return bool(gone)
