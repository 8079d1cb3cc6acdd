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


def lossy(now: float) -> Missing:
    """A line from a node, packets up to 12 held, that lost one lately."""
    missing = Missing(rtt_s=0.06, eager=True)
    missing.arrived(10, now)
    missing.arrived(12, now)
    missing.arrived(11, now)
    return missing


def test_a_lost_end_of_a_frame_is_asked_for_before_the_next_frame_tells() -> None:
    """At 25 frames a second the next frame would tell 40 ms later, at every hop."""
    missing = lossy(0.0)
    missing.arrived(13, 1.0, unfinished=True)
    assert missing.watchful(1.0)
    assert missing.due(1.01) == []
    assert missing.due(1.016) == [14]
    missing.arrived(14, 1.08)
    assert (missing.lost, missing.waiting) == (0, False)
    assert missing.due(2.0) == []


def test_a_frame_that_is_whole_leaves_nothing_to_ask_for() -> None:
    missing = lossy(0.0)
    missing.arrived(13, 1.0, unfinished=True)
    missing.arrived(14, 1.01)
    assert missing.due(2.0) == []


@pytest.mark.parametrize(
    ("eager", "later_s"),
    [pytest.param(False, 0.0, id="a publisher"), pytest.param(True, 30.0, id="a good line")],
)
def test_only_nodes_behind_a_lossy_line_are_asked_for_what_may_be_lost(
    eager: bool, later_s: float
) -> None:
    missing = lossy(0.0)
    missing.eager = eager
    missing.arrived(13, 1.0 + later_s, unfinished=True)
    assert not missing.watchful(1.0 + later_s)
    assert missing.due(2.0 + later_s) == []


def test_what_was_only_guessed_is_no_loss_when_it_never_comes() -> None:
    """A stream that ends within a frame. What a gap shows later is one, and keeps its rhythm."""
    missing = lossy(0.0)
    missing.arrived(13, 1.0, unfinished=True)
    asks(missing, 1.0, 1.0 + MAX_AGE_S + 0.1)
    assert (missing.lost, missing.waiting) == (0, False)
    missing.arrived(14, 3.0, unfinished=True)
    assert missing.due(3.02) == [15]
    assert missing.arrived(16, 3.03)
    assert missing.due(3.035) == []
    assert missing.due(3.045) == [15]
    asks(missing, 3.05, 5.0)
    assert (missing.lost, missing.waiting) == (1, False)
