"""One direction of a bad line, by a clock at hand."""

from __future__ import annotations

import itertools

import pytest

from tests.lab.line import Conditions, Line


def lost(line: Line, packets: int) -> list[bool]:
    return [line.arrival(0.001 * i, 1000) is None for i in range(packets)]


@pytest.mark.parametrize("burst", [1.0, 5.0])
def test_the_share_that_is_lost_is_the_share_that_was_set(burst: float) -> None:
    line = Line(3, Conditions(loss=0.1, burst=burst))
    assert 0.08 < sum(lost(line, 20_000)) / 20_000 < 0.12


def test_bursts_have_the_length_that_was_set() -> None:
    was = lost(Line(3, Conditions(loss=0.1, burst=5)), 50_000)
    runs = sum(1 for before, now in zip([False, *was], was, strict=False) if now and not before)
    assert 4 < sum(was) / runs < 6


def test_the_same_seed_loses_the_same_packets() -> None:
    conditions = Conditions(loss=0.2)
    assert lost(Line(3, conditions), 500) == lost(Line(3, conditions), 500)
    assert lost(Line(3, conditions), 500) != lost(Line(4, conditions), 500)


def test_jitter_alone_keeps_the_order() -> None:
    line = Line(3, Conditions(delay_ms=30, jitter_ms=20))
    times = [line.arrival(0.001 * i, 1000) or 0 for i in range(1000)]
    assert times == sorted(times)
    assert times[0] >= 0.03


def test_reordering_lets_others_overtake() -> None:
    line = Line(3, Conditions(delay_ms=30, reorder=0.1))
    times = [line.arrival(0.001 * i, 1000) or 0 for i in range(1000)]
    overtaken = sum(later < earlier for earlier, later in itertools.pairwise(times))
    assert 60 < overtaken < 140


def test_a_slow_line_queues_and_then_drops() -> None:
    """80 kbit/s carry ten packets of 1,000 bytes a second; the queue holds four more."""
    line = Line(3, Conditions(rate_bps=80_000, queue_bytes=5000))
    times = [line.arrival(0.0, 1000) for _ in range(10)]
    assert [None if t is None else round(t, 3) for t in times] == [
        0.1, 0.2, 0.3, 0.4, 0.5, None, None, None, None, None,
    ]  # fmt: skip
    assert line.tally.overflowed == 5


def test_nothing_passes_a_cut() -> None:
    line = Line(3, Conditions(cut=True))
    assert all(lost(line, 10))
    line.conditions = Conditions()
    assert line.arrival(1.0, 1000) == 1.0
