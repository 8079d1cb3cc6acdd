"""Whom to ask next, and how fast bytes come."""

from __future__ import annotations

import random

import pytest

from media.suppliers import MAX_PAUSE_S, Source, SourceKind, Suppliers, Throughput, pause_s

COUNTY, CITY = Source("http://county"), Source("http://city")
NEXT_DOOR = Source("http://192.0.2.7:8780", SourceKind.NEIGHBOUR)


def suppliers() -> Suppliers:
    return Suppliers(random.Random(1))


def test_neighbours_come_before_parents_and_parents_in_their_order() -> None:
    assert suppliers().order(0.0, [COUNTY, CITY, NEXT_DOOR]) == [NEXT_DOOR, COUNTY, CITY]


def test_a_source_that_failed_rests_and_rests_longer_each_time() -> None:
    known, now, rests = suppliers(), 0.0, []
    for _ in range(8):
        known.failed(now, COUNTY)
        assert known.order(now, [COUNTY, CITY]) == [CITY]
        rests.append(known.rests_s(now, COUNTY))
        now += rests[-1]
        assert known.order(now, [COUNTY, CITY]) == [COUNTY, CITY]
    assert rests[:4] == sorted(rests[:4])
    assert rests[0] <= 12.5
    assert all(225 <= rest <= 375 for rest in rests[5:])


def test_two_pieces_that_fail_at_once_are_one_failure() -> None:
    known = suppliers()
    known.failed(0.0, COUNTY)
    rest = known.rests_s(0.0, COUNTY)
    known.failed(0.1, COUNTY)
    assert known.rests_s(0.0, COUNTY) == rest


def test_when_all_parents_rest_the_one_that_rests_least_is_asked() -> None:
    known = suppliers()
    known.failed(0.0, COUNTY)
    known.failed(0.0, CITY, retry_after_s=1.0)
    known.failed(0.0, NEXT_DOOR)
    assert known.order(0.0, [COUNTY, CITY, NEXT_DOOR]) == [CITY, COUNTY]


def test_pauses_grow_to_a_cap_and_are_jittered() -> None:
    chance = random.Random(1)
    pauses = [pause_s(number, chance) for number in range(200)]
    assert max(pauses) <= MAX_PAUSE_S
    assert pauses[0] <= 0.5
    assert len({round(pause, 3) for pause in pauses[10:]}) > 150


def test_the_measured_rate_counts_busy_time_only_and_forgets() -> None:
    line = Throughput()
    assert line.rate_bps == 0
    line.begin(0.0)
    for second in range(1, 11):
        line.came(float(second), 64_000)
    line.end(10.0)
    assert line.rate_bps == pytest.approx(512_000, rel=0.1)
    line.begin(1000.0)
    for second in range(1001, 1301):
        line.came(float(second), 8_000)
    assert line.rate_bps == pytest.approx(64_000, rel=0.1)
