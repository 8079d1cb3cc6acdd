"""Green, amber, red or grey: whether somebody must look after a station now (pure)."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from media.faults import Code
from media.playout import State, Trouble
from media.report import FaultRow, Report

SILENT_S: Final = 180.0
SOON_S: Final = 86400.0

GRAVE: Final = frozenset(
    {
        Code.TELEVISION_SILENT, Code.TELEVISION_ERROR, Code.DISK_BROKEN, Code.DISK_FULL,
        Code.PROGRAMME_NONE, Code.PROGRAMME_EXPIRED, Code.COURSE_MISSING, Code.COURSE_LATE,
    }
)  # fmt: skip
"""What keeps a box from showing what it should."""


class Standing(StrEnum):
    """How a station stands; the words are shown beside the colour."""

    GREEN = "green"
    AMBER = "amber"
    """It plays, and something is wrong."""
    RED = "red"
    """Something that is on, or due within a day, does not play."""
    GREY = "grey"
    """It has not been heard of for SILENT_S: what it will do is its own forecast then."""


def judge(
    report: Report | None, seen_at: float | None, now: float
) -> tuple[Standing, list[FaultRow]]:
    """How a station stands by its newest report, and the faults that say why, gravest first.

    A silent one keeps the forecast of its last report: red stays red, all else is grey.
    """
    if report is None or seen_at is None:
        return Standing.GREY, []
    faults = sorted(report.faults, key=lambda one: (one.code not in GRAVE, one.since))
    # The box's clock may be in doubt; its own times are compared with its own now.
    due = [one for one in report.coming if one.starts_at < report.now + SOON_S]
    bad = any(one.state in (State.LATE, State.MISSING) for one in due)
    missing = report.shown.trouble == Trouble.MISSING
    if bad or missing or any(one.code in GRAVE for one in faults):
        return Standing.RED, faults
    if now - seen_at > SILENT_S:
        return Standing.GREY, faults
    return (Standing.AMBER if faults else Standing.GREEN), faults
