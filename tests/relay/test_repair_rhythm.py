"""What is asked for again, when, and what is answered: a line of numbers and a clock by hand."""

from __future__ import annotations

import itertools

import pytest

from relay.repair import MAX_AGE_S, Missing


def asks(missing: Missing, begin: float, end: float) -> list[float]:
    """When a packet was asked for, ticked every 5 ms as the port does."""
    times = []
    for step in range(round((end - begin) / 0.005)):
        now = begin + 0.005 * step
        if missing.due(now):
            times.append(round(now - begin, 3))
    return times


def test_a_gap_is_told_at_once_and_asked_for_after_a_reorder_wait() -> None:
    missing = Missing()
    assert not missing.arrived(65534, 1.0)
    assert missing.arrived(1, 1.0)
    assert missing.due(1.0) == []
    assert missing.due(1.01) == [65535, 0]


def test_a_late_packet_is_no_gap_and_not_asked_for() -> None:
    missing = Missing()
    for sequence in (10, 12):
        missing.arrived(sequence, 1.0)
    assert not missing.arrived(11, 1.004)
    assert missing.due(1.01) == []
    assert (missing.repaired, missing.lost, missing.waiting) == (1, 0, False)


@pytest.mark.parametrize("rtt_s", [0.01, 0.06, 0.3])
def test_a_publisher_is_asked_once_per_round_trip(rtt_s: float) -> None:
    """It may answer every request, and a repeat costs it bandwidth."""
    missing = Missing(rtt_s=rtt_s)
    missing.arrived(1, 0.0)
    missing.arrived(3, 0.0)
    times = asks(missing, 0.0, 1.6)
    assert all(b - a >= rtt_s for a, b in itertools.pairwise(times))
    assert len(times) >= 3


def test_a_node_is_asked_several_times_per_round_trip_at_first() -> None:
    """It passes over what comes too soon; a lost request costs a third of a round trip."""
    missing = Missing(rtt_s=0.09, eager=True)
    missing.arrived(1, 0.0)
    missing.arrived(3, 0.0)
    times = asks(missing, 0.0, 1.6)
    assert times[:4] == [0.01, 0.04, 0.07, 0.1]
    assert len(times) < 18


def test_what_is_too_old_is_given_up_and_counted() -> None:
    missing = Missing(eager=True)
    missing.arrived(1, 0.0)
    missing.arrived(4, 0.0)
    asks(missing, 0.0, MAX_AGE_S + 0.1)
    assert (missing.lost, missing.waiting) == (2, False)


def test_the_round_trip_is_learnt_from_answers_and_survives_odd_ones() -> None:
    """A publisher sends no ICE answers that could tell it. One retry must not double it."""
    missing = Missing()
    sequence, now = 0, 0.0
    missing.arrived(sequence, now)
    for answer_s in (0.2, 0.2, 0.41, 0.2, 0.2):
        sequence, now = sequence + 2, now + 1.0
        missing.arrived(sequence, now)
        missing.due(now + 0.01)
        missing.arrived(sequence - 1, now + 0.01 + answer_s)
    assert missing.rtt_s == pytest.approx(0.2)
