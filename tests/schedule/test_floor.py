"""Who is heard and seen: hands, floor, order, stage, roll-call, and who is lost (pure)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schedule import floor as floors
from schedule.errors import Conflict, Invalid
from schedule.floor import Floor, Programme

NOW = datetime(2026, 3, 2, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)


@pytest.fixture
def floor() -> Floor:
    return Floor(Programme(NOW))


def test_a_hand_keeps_its_place_when_its_text_changes(floor: Floor) -> None:
    floor.raise_hand(12, "", NOW)
    floor.raise_hand(13, "", NOW + SECOND)
    floor.raise_hand(12, "about the water", NOW + 2 * SECOND)
    assert [(one.site_id, one.text, one.since) for one in floor.hands.values()] == [
        (12, "about the water", NOW),
        (13, "", NOW + SECOND),
    ]


def test_hands_beyond_the_queue_are_refused(floor: Floor) -> None:
    assert all(floor.raise_hand(site, "", NOW) for site in range(floors.MOST_HANDS))
    assert not floor.raise_hand(9999, "", NOW)
    assert floor.raise_hand(0, "again", NOW)


def test_who_gets_the_floor_lowers_the_hand(floor: Floor) -> None:
    floor.raise_hand(12, "", NOW)
    floor.give("site-12", NOW)
    assert not floor.hands
    assert floor.wanted() == {"site-12": "full"}


def test_nine_have_the_floor_at_most(floor: Floor) -> None:
    for site in range(9):
        floor.give(f"site-{site + 1}", NOW)
    floor.give("site-1", NOW, muted=True)
    with pytest.raises(Conflict):
        floor.give("site-10", NOW)


def test_the_order_is_gone_down_one_by_one(floor: Floor) -> None:
    floor.set_order([3, 4])
    # Who comes next is fetched before it is called.
    assert floor.wanted() == {"site-3": "low"}
    assert floor.next_in_order(NOW) == "site-3"
    assert floor.wanted() == {"site-3": "full", "site-4": "low"}
    assert floor.next_in_order(NOW) == "site-4"
    assert set(floor.floor) == {"site-4"}
    with pytest.raises(Conflict, match="end"):
        floor.next_in_order(NOW)
    assert set(floor.floor) == {"site-4"}
    with pytest.raises(Invalid):
        floor.set_order([3, 3])


def test_a_roll_call_ends_after_its_last_site(floor: Floor) -> None:
    floor.call_roll([5, 6, 5])
    assert [floor.call_next(), floor.call_next(), floor.call_next()] == [5, 6, None]
    with pytest.raises(Conflict):
        floor.call_next()
    with pytest.raises(Invalid):
        floor.call_roll([])


def test_the_presenter_stands_in_for_a_site_that_vanishes(floor: Floor) -> None:
    """t: what comes, what people are told, who is to stand in."""
    floor.give("site-12", NOW)
    floor.cut("site-12", NOW)
    everybody, without = {"presenter", "site-12"}, {"presenter"}
    rows: list[tuple[float, set[str], bool, str | None]] = [
        (0.0, everybody, False, None),
        (0.5, without, False, None),
        (1.0, everybody, False, None),  # a line that broke for a moment
        (1.5, without, False, None),
        (2.5, without, False, None),
        (3.0, without, True, "presenter"),
        (4.0, set(), True, None),  # nobody is there who could
    ]
    for at_s, alive, lost, stand_in in rows:
        floor.look(alive, NOW + at_s * SECOND)
        assert (floor.lost == {"site-12"}) is lost, at_s
        assert floor.stand_in(alive) == stand_in, at_s
    floor.cut("presenter", NOW + 4 * SECOND, instead_of="site-12")
    assert "site-12" in floor.floor, "the floor stays its own until the host takes it"
    assert floor.look(everybody, NOW + 5 * SECOND)
    assert set(floor.back) == {"site-12"}
    assert not floor.look(everybody, NOW + 6 * SECOND), "told once"
    floor.cut("site-12", NOW + 7 * SECOND)
    assert not floor.back
    assert not floor.programme.instead_of


def test_the_presenters_own_loss_brings_the_second(floor: Floor) -> None:
    floor.cut("presenter", NOW)
    floor.look({"second"}, NOW)
    floor.look({"second"}, NOW + floors.LOST_AFTER)
    assert floor.stand_in({"second"}) == "second"
    assert floor.stand_in({"site-3"}) is None


def test_without_a_director_nobody_is_lost(floor: Floor) -> None:
    floor.look(set(), NOW)
    assert not floor.look(set(), NOW + 10 * SECOND)
    assert floor.stand_in({"presenter"}) is None


@pytest.mark.parametrize("text", ["", "site-0", "site-", "site-01", "Presenter", "site-1 ", "x"])
def test_what_is_no_source(text: str) -> None:
    with pytest.raises(Invalid):
        floors.source(text)


_SITES = st.integers(1, 30)
_COMMANDS = st.one_of(
    st.tuples(st.just("hand"), _SITES, st.text(max_size=5)),
    st.tuples(st.just("lower"), _SITES),
    st.tuples(st.just("give"), _SITES, st.booleans()),
    st.tuples(st.just("take"), _SITES),
    st.tuples(st.just("cut"), _SITES),
    st.tuples(st.just("order"), st.lists(_SITES, unique=True)),
    st.tuples(st.just("next")),
    st.tuples(st.just("roll"), st.lists(_SITES, min_size=1)),
    st.tuples(st.just("call")),
    st.tuples(st.just("stage"), st.lists(_SITES, max_size=9)),
    st.tuples(st.just("look"), st.sets(_SITES)),
)  # fmt: skip


def _do(floor: Floor, command: tuple[object, ...], now: datetime) -> None:
    match command:
        case ("hand", int(site), str(text)):
            floor.raise_hand(site, text, now)
        case ("lower", int(site)):
            floor.lower_hand(site)
        case ("give", int(site), bool(muted)):
            floor.give(f"site-{site}", now, muted=muted)
        case ("take", int(site)):
            floor.take(f"site-{site}")
        case ("cut", int(site)):
            floor.cut(f"site-{site}", now)
        case ("order", list(sites)):
            floor.set_order(sites)
        case ("next",):
            floor.next_in_order(now)
        case ("roll", list(sites)):
            floor.call_roll(sites)
        case ("call",):
            floor.call_next()
        case ("stage", list(sites)):
            floor.set_stage([f"site-{site}" for site in sites])
        case ("look", set(sites)):
            floor.look({f"site-{site}" for site in sites}, now)


@given(st.lists(_COMMANDS, max_size=40))
@settings(max_examples=60, deadline=None)
def test_whatever_happens_it_is_read_as_it_was_written(commands: list[tuple[object, ...]]) -> None:
    floor = Floor(Programme(NOW))
    for at, command in enumerate(commands):
        try:
            _do(floor, command, NOW + at * SECOND)
        except Conflict:
            pass
        assert len(floor.floor) <= floors.MOST_ON_FLOOR
        assert (
            not {floors.site_of(name) for name in floor.floor}
            & {site for site, hand in floor.hands.items() if hand.since == NOW + at * SECOND}
            or command[0] == "hand"
        )
        assert len(floor.wanted()) <= floors.MOST_WANTED + 2 * 9 + 5
    assert Floor.read(floor.document()).document() == floor.document()
