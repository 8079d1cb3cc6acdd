"""What a full cache lets go of."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.eviction import NoRoom, Shelf, by_use


def shelf(budget: int, **sizes: int) -> Shelf:
    made = Shelf(budget)
    for key, size in sizes.items():
        made.add(key, size)
    return made


def test_nothing_goes_while_there_is_room() -> None:
    assert shelf(100, a=40, b=30).room_for(30) == []


def test_the_least_recently_used_goes_first_and_no_more_than_needed() -> None:
    full = shelf(100, a=40, b=30, c=30)
    full.touch("a")
    assert full.room_for(10) == ["b"]
    assert full.room_for(50) == ["b", "c"]


def test_what_is_pinned_stays_whatever_it_takes() -> None:
    full = shelf(100, a=40, b=30, c=30)
    full.pin("timetable", ["a", "c", "not there yet"])
    assert full.room_for(30) == ["b"]
    with pytest.raises(NoRoom) as caught:
        full.room_for(31)
    assert (caught.value.short_bytes, caught.value.pinned_bytes) == (1, 70)
    full.pin("timetable", [])
    assert full.room_for(31) == ["a"]


def test_a_disk_that_is_fuller_than_the_budget_decides() -> None:
    assert shelf(1000, a=40, b=30).room_for(20, disk_bytes=10) == ["a"]
    assert shelf(1000, a=40, b=30).room_for(20, disk_bytes=-30) == ["a", "b"]


def test_a_shelf_found_at_the_start_goes_by_when_things_were_used() -> None:
    found = by_use({"new": (10, 300.0), "old": (10, 100.0), "middle": (10, 200.0)}, 30)
    assert list(found) == ["old", "middle", "new"]
    assert found.used_bytes == 30


@given(
    st.lists(st.tuples(st.sampled_from("abcdefgh"), st.integers(0, 60)), max_size=40),
    st.sets(st.sampled_from("abcdefgh")),
    st.integers(1, 200),
)
def test_the_budget_holds_and_pins_stay(
    steps: list[tuple[str, int]], pins: set[str], budget: int
) -> None:
    """Whatever comes in, in whatever order: no more than the budget, and nothing pinned leaves."""
    kept = Shelf(budget)
    kept.pin("owner", pins)
    for key, size in steps:
        kept.remove(key)
        try:
            leaving = kept.room_for(size)
        except NoRoom:
            continue
        assert not pins & set(leaving)
        for gone in leaving:
            kept.remove(gone)
        kept.add(key, size)
        assert kept.used_bytes == sum(kept.size_bytes(one) for one in kept) <= budget
