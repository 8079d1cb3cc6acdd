"""Stays, replays, head counts and roll-calls merged: no minute and no person twice."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schedule.presence import Call, Count, Stay, length, merge, union

HOUR = 3600


def live(who: str, begins: int, ends: int) -> Stay:
    return Stay(who, True, begins, ends)


def replay(who: str, begins: int, ends: int) -> Stay:
    return Stay(who, False, begins, ends)


@pytest.mark.parametrize(
    ("stays", "live_s", "replay_s", "seen_s"),
    [
        ([live("site:1", 0, HOUR)], 3600, 0, 3600),
        # Two tabs of one site, or a stay that two nodes reported: once.
        ([live("site:1", 0, 3000), live("site:1", 600, HOUR)], 3600, 0, 3600),
        # A break: what lies between is not counted.
        ([live("site:1", 0, 600), live("site:1", 1200, 1800)], 1200, 0, 1200),
        # The first half live, all of it again in the recording.
        ([live("site:1", 0, 1800), replay("site:1", 0, HOUR)], 1800, 3600, 3600),
        # Early for the start and late to leave: what is outside the class is cut off.
        ([live("site:1", -600, HOUR + 600)], 3600, 0, 3600),
        # A clock that ran backwards is nothing, not less than nothing.
        ([live("site:1", 900, 300)], 0, 0, 0),
    ],
)
def test_each_minute_counts_once(
    stays: list[Stay], live_s: int, replay_s: int, seen_s: int
) -> None:
    [row] = merge(stays, length_s=HOUR)
    assert (row.live_s, row.replay_s, row.seen_s) == (live_s, replay_s, seen_s)
    assert (row.class_s, row.first) == (seen_s, 1)


def test_what_a_unit_saw_is_no_more_for_a_second_room() -> None:
    rows = merge([live("site:1", 0, 2400), live("site:2", 1200, HOUR)], length_s=HOUR)
    assert [row.seen_s for row in rows] == [2400, 2400]
    assert sum(row.class_s for row in rows) == HOUR
    assert sum(row.first for row in rows) == 1


@pytest.mark.parametrize(
    ("counts", "calls", "room", "persons"),
    [
        ([], [], 1, 0),  # on, and nobody counted
        ([Count("site:1", 30), Count("site:1", 34), Count("site:1", 8)], [], 34, 0),
        ([Count("site:1", 0)], [], 0, 0),  # counted: an empty room
        ([Count("site:1", 30)], ["person:1", "person:2"], 28, 2),
        ([Count("site:1", 1)], ["person:1", "person:2"], 0, 2),
        ([Count("site:1", 2, unnamed=3)], ["person:1"], 3, 1),
        ([], ["person:1"], 0, 1),
    ],
)
def test_people_are_counted_where_they_are_named_and_else_where_they_were_seen(
    counts: list[Count], calls: list[str], room: int, persons: int
) -> None:
    called = [Call(person, "site:1") for person in calls]
    rows = {
        row.attendee: row for row in merge([live("site:1", 0, HOUR)], counts, called, length_s=HOUR)
    }
    assert rows.pop("site:1").people == room
    assert sum(row.people for row in rows.values()) == persons
    assert {row.seen_s for row in rows.values()} <= {HOUR}


def test_a_person_in_the_room_who_watches_the_recording_at_home_is_one_person() -> None:
    stays = [live("site:1", 0, 1800), replay("person:1", 900, HOUR)]
    rows = merge(stays, [Count("site:1", 1)], [Call("person:1", "site:1")], HOUR)
    assert [(row.attendee, row.people, row.seen_s) for row in rows] == [
        ("person:1", 1, 3600),
        ("site:1", 0, 1800),
    ]


def test_a_guest_is_counted_at_home_and_not_where_they_sat() -> None:
    stays, counts = [live("site:1", 0, 1800)], [Count("site:1", 5)]
    [room] = merge(stays, counts, [Call("person:1", "site:1", at_home=False)], HOUR)
    assert room.people == 4
    [person] = merge([], [], [Call("person:1", "site:1")], HOUR, abroad=stays)
    assert (person.attendee, person.people, person.seen_s) == ("person:1", 1, 1800)


spans = st.tuples(st.integers(-50, 150), st.integers(-50, 150))


@given(st.lists(spans, max_size=12))
def test_a_union_has_each_second_once(some: list[tuple[int, int]]) -> None:
    assert length(some) == len({second for span in some for second in range(*span)})
    found = union(some)
    assert all(one[1] < other[0] for one, other in pairwise(found))


@given(
    st.lists(
        st.builds(
            Stay,
            st.sampled_from(["site:1", "site:2", "person:3"]),
            st.booleans(),
            st.integers(-20, 120),
            st.integers(-20, 120),
        ),
        max_size=15,
    )
)
def test_however_the_reports_come_the_sums_hold(stays: list[Stay]) -> None:
    rows = merge(stays, length_s=100)
    assert merge(reversed(stays), length_s=100) == rows
    assert merge(stays * 2, length_s=100) == rows
    whole = {second for stay in stays for second in range(max(0, stay.from_s), min(100, stay.to_s))}
    assert sum(row.class_s for row in rows) == len(whole)
    assert all(max(row.live_s, row.replay_s) <= row.seen_s <= 100 for row in rows)
