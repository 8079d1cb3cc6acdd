"""What plays when: pure functions of the timetable, and every wrong timetable in one sentence."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media import programme
from media.programme import Item, Kind, Programme, ProgrammeError

NOON = 1795665600.0  # 2026-11-26T04:00:00Z, noon in Shanghai


def item(name: str, starts_in_s: float, duration_s: int = 600, **more: object) -> Item:
    given_ = {"kind": "course", "course": "rice", "title": name.title()} | more
    return Item.model_validate(
        {"id": name, "starts_at": NOON + starts_in_s, "duration_s": duration_s} | given_
    )


@pytest.mark.parametrize(
    ("offset_s", "shown"),
    [(-1, None), (0, "low"), (99, "low"), (100, "high"), (199, "high"), (200, "low"), (600, None)],
)
def test_the_higher_priority_is_shown_and_the_lower_comes_back(
    offset_s: float, shown: str | None
) -> None:
    items = [item("low", 0), item("high", 100, 100, priority=1)]
    found = programme.playing(items, NOON + offset_s)
    assert (found.id if found else None) == shown


def test_of_equals_the_later_one_is_shown() -> None:
    items = [item("first", 0), item("second", 300)]
    assert [(s.item.id, s.from_s - NOON, s.to_s - NOON) for s in
            programme.slots(items, NOON - 50, NOON + 5000)] == [
        ("first", 0, 300), ("second", 300, 600), ("second", 600, 900)]  # fmt: skip


def test_what_comes_next_is_in_the_order_of_time() -> None:
    items = [item("c", 900), item("now", 0), item("b", 60), item("a", 30)]
    assert [one.id for one in programme.coming(items, NOON, 2)] == ["a", "b"]
    assert programme.next_change(items, NOON) == NOON + 30
    assert programme.next_change([], NOON) == math.inf


def test_courses_of_seven_days_are_due_and_live_ones_are_not() -> None:
    items = [
        item("over", -700), item("on", -60), item("live", 60, kind="live", stream="hall"),
        item("week", 6.9 * 86400), item("later", 7.1 * 86400),
    ]  # fmt: skip
    assert [one.id for one in programme.due_courses(items, NOON)] == ["on", "week"]


def test_it_is_quiet_only_away_from_every_item() -> None:
    items = [item("one", 0)]
    assert [programme.quiet(items, NOON + at, 100) for at in (-101, -99, 0, 650, 701)] == [
        True, False, False, False, True]  # fmt: skip


def test_a_month_begins_where_people_live() -> None:
    last_second_in_shanghai = 1796054399.0  # 2026-11-30T15:59:59Z
    assert programme.month_of(last_second_in_shanghai, "Asia/Shanghai") == "2026-11"
    assert programme.month_of(last_second_in_shanghai + 1, "Asia/Shanghai") == "2026-12"
    assert programme.month_of(last_second_in_shanghai + 1, "Nowhere/Else") == "2026-11"


GOOD = {
    "station": "shangping",
    "serial": 3,
    "issued_at": "2026-11-25T00:00:00Z",
    "valid_until": "2026-12-25T00:00:00+08:00",
    "items": [
        {"id": "a", "title": "水稻", "kind": "course", "course": "rice",
         "starts_at": "2026-11-26T09:00:00+08:00", "duration_s": 60},
    ],
}  # fmt: skip


def test_a_timetable_reads_back_as_it_was_written() -> None:
    one = programme.parse(json.dumps(GOOD).encode())
    assert one.items[0].starts_at.isoformat() == "2026-11-26T09:00:00+08:00"
    assert b'"starts_at":"2026-11-26T01:00:00Z"' in one.model_dump_json().encode()
    assert programme.parse(one.model_dump_json().encode()) == one


WRONG = [
    ({"serial": 0}, "serial: "),
    ({"time_zone": "../etc"}, "time_zone must be a name such as Asia/Shanghai"),
    ({"valid_until": "2026-11-24T00:00:00Z"}, "valid_until must be later than issued_at"),
    ({"valid_until": "2026-12-25T00:00:00"}, "valid_until: "),
    ({"items": [GOOD["items"][0], GOOD["items"][0]]}, "two items have the id 'a'"),  # type: ignore[index]
    ({"items": [GOOD["items"][0] | {"course": "../x"}]}, "items.0.course: "),  # type: ignore[index]
    ({"items": [GOOD["items"][0] | {"course": None}]}, "a recorded item must name its course"),  # type: ignore[index]
    ({"items": [GOOD["items"][0] | {"kind": "live"}]}, "a live item must name its stream"),  # type: ignore[index]
    ({"items": [GOOD["items"][0] | {"title": "a\nb"}]}, "it must have no line breaks"),  # type: ignore[index]
    ({"colour": "red"}, "colour: "),
]


@pytest.mark.parametrize(("change", "sentence"), WRONG)
def test_a_wrong_timetable_is_refused_in_one_line(change: dict[str, object], sentence: str) -> None:
    with pytest.raises(ProgrammeError) as caught:
        programme.parse(json.dumps(GOOD | change).encode())
    assert sentence in str(caught.value)
    assert str(caught.value).isprintable()


@given(st.binary(max_size=200))
def test_anything_else_is_refused_and_nothing_more(document: bytes) -> None:
    with pytest.raises(ProgrammeError):
        programme.parse(document)


def test_a_giant_one_is_not_read() -> None:
    with pytest.raises(ProgrammeError, match="issue it for a shorter time"):
        programme.parse(b" " * (programme.MAX_BYTES + 1))


@given(
    st.lists(st.tuples(st.integers(0, 500), st.integers(1, 300), st.integers(-2, 2)), max_size=8)
)
def test_slots_are_what_plays_at_every_second(rows: list[tuple[int, int, int]]) -> None:
    items = [
        item(f"i{n}", start, length, priority=priority)
        for n, (start, length, priority) in enumerate(rows)
    ]
    shown: dict[int, str] = {}
    for slot in programme.slots(items, NOON, NOON + 900):
        for second in range(int(slot.from_s - NOON), int(slot.to_s - NOON)):
            assert second not in shown
            shown[second] = slot.item.id
    for second in range(900):
        found = programme.playing(items, NOON + second)
        assert shown.get(second) == (found.id if found else None)


def test_kinds_are_what_the_pages_know() -> None:
    assert {one.value for one in Kind} == {"course", "live"}
    assert Programme.model_fields["time_zone"].default == "Asia/Shanghai"
