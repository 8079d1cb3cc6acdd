"""What happens next in the life of an occurrence, as rows: late, early, over, asked, missed."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from schedule.life import (
    WISH_END,
    WISH_START,
    Do,
    Facts,
    Policy,
    Session,
    State,
    ended_at,
    lateness,
    next_step,
    overrun,
)
from tests.schedule.network import utc

STARTS = utc("2026-03-02T01:00")
POLICY = Policy()


def at(minutes: float) -> datetime:
    return STARTS + timedelta(minutes=minutes)


# From nine to a quarter to ten, with a rehearsal of ten minutes.
SESSION = Session(
    1, 1, "S", State.PLANNED, True, STARTS, at(45), 600, None, None, None, "", frozenset()
)
ON_AIR = replace(SESSION, state=State.ON_AIR, on_air_at=STARTS, done=frozenset({Do.RECORD}))
HERE = Facts(presenting=True)


def gone(minutes: float) -> Facts:
    return Facts(False, at(minutes))


def after(session: Session, *done: str) -> Session:
    return replace(session, done=session.done | set(done))


@pytest.mark.parametrize(
    ("session", "facts", "minutes", "step"),
    [
        # Before: the tree five minutes before the rehearsal, the rehearsal, the start.
        (SESSION, Facts(), -15.1, None),
        (SESSION, Facts(), -15, Do.WARM),
        (after(SESSION, Do.WARM), HERE, -10.1, None),
        (after(SESSION, Do.WARM), Facts(), -10, Do.REHEARSE),
        (after(replace(SESSION, state=State.REHEARSAL), Do.WARM), HERE, -0.1, None),
        (after(replace(SESSION, state=State.REHEARSAL), Do.WARM), HERE, 0, Do.GO_ON_AIR),
        # Early, by wish, and only with somebody there.
        (after(SESSION, Do.WARM, WISH_START), HERE, -8, Do.GO_ON_AIR),
        (after(replace(SESSION, rehearsal_s=0), Do.WARM, WISH_START), Facts(), -3, None),
        # Late: it waits for the presenter, up to the end.
        (after(replace(SESSION, state=State.REHEARSAL), Do.WARM), Facts(), 20, None),
        (after(replace(SESSION, state=State.REHEARSAL), Do.WARM), HERE, 20, Do.GO_ON_AIR),
        (after(SESSION, Do.WARM), Facts(), 45, Do.MISS),
        (SESSION, HERE, 50, Do.WARM),
        # A recorded lesson needs nobody.
        (after(replace(SESSION, is_live=False, rehearsal_s=0), Do.WARM), Facts(), 0, Do.GO_ON_AIR),
        # On the air.
        (replace(ON_AIR, done=frozenset()), HERE, 1, Do.RECORD),
        (ON_AIR, HERE, 30, None),
        (after(ON_AIR, WISH_END), HERE, 30, Do.END),
        # A presenter's line that breaks for some minutes is no end; one that left is.
        (ON_AIR, gone(20), 34, None),
        (ON_AIR, gone(20), 35, Do.END),
        (ON_AIR, gone(44.9), 45.1, None),
        (ON_AIR, gone(44.9), 45.5, Do.END),
        # Over the end: never cut, asked where something comes next, once for each end.
        (ON_AIR, HERE, 120, None),
        (replace(ON_AIR, next_at=at(50)), HERE, 42, None),
        (replace(ON_AIR, next_at=at(50)), HERE, 43, Do.ASK),
        (replace(ON_AIR, next_at=at(50), asked_at=at(43)), HERE, 60, None),
        (replace(ON_AIR, next_at=at(50), asked_at=at(43), ends_at=at(60)), HERE, 58, Do.ASK),
        (replace(ON_AIR, is_live=False), Facts(), 44.9, None),
        (replace(ON_AIR, is_live=False), Facts(), 45, Do.END),
        # After it.
        (replace(ON_AIR, state=State.ENDED), Facts(), 46, Do.CLOSE),
        (after(replace(ON_AIR, state=State.ENDED), Do.CLOSE), Facts(), 46, Do.PUBLISH),
        (after(replace(ON_AIR, state=State.ENDED), Do.CLOSE, Do.PUBLISH), Facts(), 46, Do.ANNOUNCE),
        (replace(ON_AIR, state=State.ENDED, is_live=False), Facts(), 46, Do.CLOSE),
        (replace(ON_AIR, state=State.PUBLISHED), HERE, 46, None),
        (replace(SESSION, state=State.CANCELLED), HERE, 5, None),
        (replace(SESSION, state=State.MISSED), HERE, 46, None),
    ],
)
def test_what_comes_next(session: Session, facts: Facts, minutes: float, step: Do | None) -> None:
    assert next_step(session, facts, at(minutes), POLICY) is step


def test_it_was_over_when_the_last_one_left() -> None:
    assert ended_at(ON_AIR, gone(20), at(35)) == at(20)
    assert ended_at(ON_AIR, HERE, at(35)) == at(35)
    assert ended_at(replace(ON_AIR, is_live=False), Facts(), at(46)) == at(45)


def test_lateness_and_overrun() -> None:
    assert lateness(SESSION, at(3)) == timedelta(minutes=3)
    assert lateness(replace(ON_AIR, on_air_at=at(2)), at(30)) == timedelta(minutes=2)
    assert lateness(SESSION, at(-3)) == timedelta()
    assert overrun(ON_AIR, at(50)) == timedelta(minutes=5)
    assert overrun(SESSION, at(50)) == timedelta()
