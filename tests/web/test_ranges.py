"""Byte ranges as RFC 9110 section 14 has them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from web import ranges


@pytest.mark.parametrize(
    ("header", "wanted"),
    [
        (None, None),
        ("bytes=0-", (0, 1000)),
        ("bytes=0-0", (0, 1)),
        ("bytes=10-19", (10, 20)),
        ("bytes=990-2000", (990, 1000)),
        ("bytes=-10", (990, 1000)),
        ("bytes=-5000", (0, 1000)),
        ("Bytes=5-6", (5, 7)),
        ("bytes=-", None),
        ("bytes=9-3", None),
        ("bytes=0-1,4-5", None),
        ("pieces=0-1", None),
        ("bytes=a-b", None),
    ],
)
def test_what_a_range_asks_for(header: str | None, wanted: tuple[int, int] | None) -> None:
    assert ranges.parse(header, 1000) == wanted


@pytest.mark.parametrize("header", ["bytes=1000-", "bytes=5000-6000", "bytes=-0"])
def test_a_range_outside_of_the_file(header: str) -> None:
    with pytest.raises(ranges.Unsatisfiable):
        ranges.parse(header, 1000)


@given(st.text(max_size=40), st.integers(0, 10_000))
def test_any_header_gives_a_range_inside_or_none(header: str, size: int) -> None:
    try:
        span = ranges.parse("bytes=" + header, size)
    except ranges.Unsatisfiable:
        return
    assert span is None or 0 <= span[0] < span[1] <= size


def test_if_range_and_if_none_match() -> None:
    assert ranges.holds(None, '"a"')
    assert ranges.holds('"a"', '"a"')
    assert not ranges.holds('W/"a"', '"a"')
    assert not ranges.holds("Mon, 04 May 2026 08:00:00 GMT", '"a"')
    assert ranges.matches('"b", W/"a"', '"a"')
    assert ranges.matches("*", '"a"')
    assert not ranges.matches(None, '"a"')
