"""Who and what is asked to be in two places at once; who goes first; the ways out."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from schedule.clashes import (
    Booking,
    Clash,
    Line,
    Reach,
    Reaches,
    common,
    find,
    ways_out,
)

CENTRE, PROVINCE, CITY, OTHER = "1/", "1/2/", "1/2/3/", "1/20/"
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
MBIT = 1_000_000


def reach(kind: str, path: str, target: int = 0) -> Reach:
    return Reach(Reaches(kind), target or int(path.rstrip("/").split("/")[-1]), path)


def booking(
    series: int,
    *,
    at: datetime = NOON,
    hours: float = 1,
    rank: int = 1,
    presenter: int | None = None,
    room: int | None = None,
    audience: tuple[Reach, ...] = (),
    bitrate: int = MBIT,
) -> Booking:
    end = at + hours * HOUR
    return Booking(
        series, series, f"S{series}", 1, rank, at, end, presenter, room, audience, bitrate
    )


@pytest.mark.parametrize(
    ("start", "clashes"),
    [(-1, False), (-0.99, True), (0, True), (0.99, True), (1, False)],
)
def test_back_to_back_is_no_clash(start: float, clashes: bool) -> None:
    mine = booking(0, at=NOON + start * HOUR, presenter=7)
    assert bool(find([mine], [booking(1, presenter=7)])) is clashes


@pytest.mark.parametrize(
    ("mine", "other", "kinds"),
    [
        (booking(0, presenter=7), booking(1, presenter=7), [Clash.PRESENTER]),
        (booking(0, room=7), booking(1, room=7), [Clash.ROOM]),
        (booking(0, room=7, presenter=8), booking(1, room=8, presenter=7), []),
        (
            booking(0, audience=(reach("subtree", PROVINCE),)),
            booking(1, audience=(reach("unit", CITY),)),
            [Clash.AUDIENCE],
        ),
        (booking(3, presenter=7), booking(3, presenter=7), []),  # a series is not its own rival
        (booking(0), booking(1), []),
    ],
)
def test_presenter_room_and_audience(mine: Booking, other: Booking, kinds: list[Clash]) -> None:
    assert [one.clash for one in find([mine], [other])] == kinds


@pytest.mark.parametrize(
    ("one", "other", "meet"),
    [
        (reach("subtree", PROVINCE), reach("subtree", CITY), CITY),
        (reach("subtree", PROVINCE), reach("subtree", OTHER), None),  # 1/2 is not 1/20
        (reach("unit", PROVINCE), reach("subtree", CITY), None),
        (reach("unit", PROVINCE), reach("subtree", CENTRE), PROVINCE),
        (reach("unit", PROVINCE), reach("unit", PROVINCE), PROVINCE),
        (reach("site", CITY, 5), reach("subtree", CENTRE), CITY),
        (reach("site", CITY, 5), reach("unit", CITY), CITY),
        (reach("site", CITY, 5), reach("site", CITY, 5), CITY),
        (reach("site", CITY, 5), reach("site", CITY, 6), None),
        (reach("site", CITY, 5), reach("station", CITY, 5), None),
    ],
)
def test_two_audiences_meet(one: Reach, other: Reach, meet: str | None) -> None:
    assert common([one], [other]) == meet
    assert common([other], [one]) == meet


@pytest.mark.parametrize(("rank", "yields"), [(0, False), (1, True), (2, True)])
def test_the_higher_unit_goes_first_and_among_equals_who_was_there(rank: int, yields: bool) -> None:
    found = find([booking(0, rank=rank, presenter=7)], [booking(1, rank=1, presenter=7)])
    assert [one.mine_yields for one in found] == [yields]


COUNTY_LINES = [Line(3, CITY, 2 * MBIT), Line(20, OTHER, 10 * MBIT)]
EVERYBODY = (reach("subtree", CENTRE),)


def test_a_thin_line_carries_what_it_can_and_no_more() -> None:
    mine = booking(0, audience=(reach("unit", CITY),), bitrate=MBIT)
    one = booking(1, audience=(reach("site", CITY, 5),), bitrate=MBIT)
    other = booking(2, audience=(reach("site", CITY, 6),), bitrate=MBIT, rank=0)
    assert Clash.LINE not in [found.clash for found in find([mine], [one], COUNTY_LINES)]
    found = [one for one in find([mine], [one, other], COUNTY_LINES) if one.clash is Clash.LINE]
    assert [(one.lines, one.free_bps, one.other) for one in found] == [((3,), 0, other)]


def test_a_stream_passes_a_line_once_however_many_watch_below() -> None:
    below = [reach("site", f"{CITY}{n}/", n) for n in range(4, 40)]
    mine = booking(0, audience=tuple(below), bitrate=2 * MBIT)
    assert find([mine], [booking(1, audience=(reach("unit", OTHER),))], COUNTY_LINES) == []


def test_two_that_follow_each_other_do_not_add_up_on_a_line() -> None:
    mine = booking(0, hours=2, audience=(reach("site", CITY, 4),))
    first = booking(1, audience=(reach("site", CITY, 5),))
    second = booking(2, at=NOON + HOUR, audience=(reach("site", CITY, 6),))
    assert find([mine], [first, second], COUNTY_LINES) == []
    assert find([mine], [first, replace(second, starts_at=NOON + HOUR / 2)], COUNTY_LINES)


def test_the_ways_out_of_a_presenter_s_clash() -> None:
    mine = booking(0, presenter=7)
    others = [booking(1, presenter=7), booking(2, presenter=7, at=NOON - HOUR, hours=0.5)]
    ways = ways_out(mine, find([mine], others), others, [], NOON - 3 * HOUR)
    assert ways.earlier == NOON - 2 * HOUR
    assert ways.later == NOON + HOUR
    assert ways.other_presenter
    assert not ways.other_room


def test_nothing_is_proposed_in_the_past() -> None:
    mine = booking(0, presenter=7)
    others = [booking(1, presenter=7)]
    assert ways_out(mine, find([mine], others), others, [], NOON).earlier is None


def test_the_ways_out_of_an_audience_s_clash_and_of_a_thin_line() -> None:
    mine = booking(0, audience=EVERYBODY, bitrate=3 * MBIT)
    others = [booking(1, audience=(reach("unit", CITY),), bitrate=MBIT)]
    ways = ways_out(mine, find([mine], others, COUNTY_LINES), others, COUNTY_LINES, NOON)
    assert ways.without == (CITY,)
    assert ways.bitrate_bps == MBIT
    assert ways.later == NOON + HOUR
