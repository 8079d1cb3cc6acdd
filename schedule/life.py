"""The life of one occurrence: what happens next, as a function of `now` (pure).

    planned -> rehearsal -> on_air -> ended -> published
       |           |
       +-----------+--> missed (nobody came)          planned -> cancelled (by its plan)

The timetable proposes, people decide. A class begins at its time if somebody presents, later when
they come, earlier when they say so. It ends when they say so, when nobody has presented for a
while, or at its time if nobody presents any more. While somebody presents it is never cut: when
something else comes next, the organiser is asked, once for each end.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum


class State(StrEnum):
    """Where an occurrence is in its life."""

    PLANNED = "planned"
    REHEARSAL = "rehearsal"
    ON_AIR = "on_air"
    ENDED = "ended"
    PUBLISHED = "published"
    MISSED = "missed"
    CANCELLED = "cancelled"


class Do(StrEnum):
    """One step. Each is done once; after a crash in the middle of it, it is done again."""

    WARM = "warm"  # have the tree ready
    REHEARSE = "rehearse"  # open the room for checks
    GO_ON_AIR = "go on air"
    RECORD = "record"
    ASK = "ask"  # whether to go on past the end
    END = "end"  # close the room, stop recording
    MISS = "miss"  # nobody came
    CLOSE = "close"  # the attendance
    PUBLISH = "publish"  # the recording, to the library
    ANNOUNCE = "announce"  # the course, on the stations' timetables


# What people asked for, noted among the steps.
WISH_START, WISH_END = "wish start", "wish end"


@dataclass(frozen=True, slots=True)
class Policy:
    """Lengths of time, in seconds.

    warm_s: how long before the rehearsal, or the start, the tree is made ready. silence_s: nobody
    has presented for so long before the end: it has ended. grace_s: the same after the end. ask_s:
    how long before the end the organiser is asked about what comes next.
    """

    warm_s: float = 300
    silence_s: float = 900
    grace_s: float = 30
    ask_s: float = 120


@dataclass(frozen=True, slots=True)
class Session:
    """An occurrence as far as its life goes.

    ends_at: as planned or extended. asked_at: when the organiser was last asked about the end.
    done: the steps that were done, and the wishes. next_at: when something begins that it would
    clash with, if that is within a quarter of an hour of its end.
    """

    id: int
    series_id: int
    title: str
    state: State
    is_live: bool
    starts_at: datetime
    ends_at: datetime
    rehearsal_s: float
    on_air_at: datetime | None
    ended_at: datetime | None
    asked_at: datetime | None
    course: str
    done: frozenset[str] = frozenset()
    next_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """What the live side knows: whether somebody presents, and if not, since when not."""

    presenting: bool = False
    silent_since: datetime | None = None


def next_step(session: Session, facts: Facts, now: datetime, policy: Policy) -> Do | None:
    """What to do now; None when there is nothing to do yet, or any more."""
    if session.state in (State.PLANNED, State.REHEARSAL):
        return _before(session, facts, now, policy)
    if session.state is State.ON_AIR:
        return _on_air(session, facts, now, policy)
    if session.state is State.ENDED:
        return next((one for one in _after(session) if one not in session.done), None)
    return None


def _before(session: Session, facts: Facts, now: datetime, policy: Policy) -> Do | None:
    opens = session.starts_at - timedelta(seconds=session.rehearsal_s)
    if not facts.presenting and now >= session.ends_at and session.is_live:
        return Do.MISS
    if Do.WARM not in session.done and now >= opens - timedelta(seconds=policy.warm_s):
        return Do.WARM
    starts = now >= session.starts_at or WISH_START in session.done
    if starts and (facts.presenting or not session.is_live):
        return Do.GO_ON_AIR
    if session.state is State.PLANNED and session.rehearsal_s > 0 and now >= opens:
        return Do.REHEARSE
    return None


def _on_air(session: Session, facts: Facts, now: datetime, policy: Policy) -> Do | None:
    if session.is_live and Do.RECORD not in session.done:
        return Do.RECORD
    if WISH_END in session.done:
        return Do.END
    is_past = now >= session.ends_at
    if not session.is_live:
        return Do.END if is_past else None
    if not facts.presenting:
        silence_s = policy.grace_s if is_past else policy.silence_s
        since = facts.silent_since or session.on_air_at or session.starts_at
        return Do.END if now - since >= timedelta(seconds=silence_s) else None
    asks_at = session.ends_at - timedelta(seconds=policy.ask_s)
    asked = session.asked_at is not None and session.asked_at >= asks_at
    if session.next_at is not None and now >= asks_at and not asked:
        return Do.ASK
    return None


def _after(session: Session) -> tuple[Do, ...]:
    if session.is_live:
        return (Do.CLOSE, Do.PUBLISH, Do.ANNOUNCE)
    return (Do.CLOSE,)


def ended_at(session: Session, facts: Facts, now: datetime) -> datetime:
    """When a session that ends now was really over: when the last one stopped presenting."""
    if session.is_live and not facts.presenting and facts.silent_since is not None:
        return max(facts.silent_since, session.on_air_at or session.starts_at)
    return now if session.is_live else min(now, session.ends_at)


def lateness(session: Session, now: datetime) -> timedelta:
    """By how much the start is, or was, late; zero when it is not."""
    began = session.on_air_at or (now if session.state in ("planned", "rehearsal") else None)
    return max(timedelta(), began - session.starts_at) if began else timedelta()


def overrun(session: Session, now: datetime) -> timedelta:
    """By how much a session that is on the air is past its end; zero when it is not."""
    if session.state is not State.ON_AIR:
        return timedelta()
    return max(timedelta(), now - session.ends_at)


def opens_at(session: Session, policy: Policy) -> datetime:
    """When the first step is due."""
    return session.starts_at - timedelta(seconds=session.rehearsal_s + policy.warm_s)
