"""What is asked for again, when, and when it is given up."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.repair import MAX_AGE_S, MAX_GAP, MAX_MISSING, MAX_TRIES, REORDER_WAIT_S, Missing

SOON = REORDER_WAIT_S + 0.001


def arrivals(missing: Missing, *sequences: int, now: float = 0.0) -> None:
    for sequence in sequences:
        missing.arrived(sequence, now)


@pytest.mark.parametrize(
    ("sequences", "want"),
    [
        pytest.param([10, 11, 12], [], id="nothing is missing"),
        pytest.param([10], [], id="one packet says nothing"),
        pytest.param([10, 12], [11], id="one hole"),
        pytest.param([10, 14, 17], [11, 12, 13, 15, 16], id="two holes, oldest first"),
        pytest.param([65533, 65535, 1], [65534, 0], id="holes around the wrap"),
        pytest.param([65534, 2], [65535, 0, 1], id="a hole across the wrap"),
        pytest.param([10, 13, 12], [11], id="a reordered packet is not missing"),
        pytest.param([10, 10, 11, 11], [], id="duplicates are not missing"),
        pytest.param([10, 9, 8, 11], [], id="what is older than the first is not missing"),
    ],
)
def test_these_are_asked_for(sequences: list[int], want: list[int]) -> None:
    """After a trace of arrivals, and once the wait for reordered packets is over."""
    missing = Missing()
    arrivals(missing, *sequences)
    assert missing.waiting == bool(want)
    assert missing.due(SOON) == want
    assert missing.asked == len(want)


def test_a_reordered_packet_gets_time_to_arrive() -> None:
    """Nothing is asked for before the reorder wait is over, and not at all if it came by then."""
    missing = Missing()
    arrivals(missing, 10, 12)
    assert missing.due(REORDER_WAIT_S - 0.001) == []
    missing.arrived(11, REORDER_WAIT_S - 0.001)
    assert missing.due(SOON) == []
    assert not missing.waiting
    assert missing.repaired == 1


@pytest.mark.parametrize(
    ("rtt_s", "waits_ms"),
    [
        pytest.param(0.001, [20, 25, 30, 35], id="on a short path no more than every 20 ms"),
        pytest.param(0.040, [50, 62, 75, 88], id="a round trip and a quarter, then longer"),
        pytest.param(0.200, [250, 313, 375], id="on a long path it waits for the answer"),
    ],
)
def test_asking_again_waits_for_the_round_trip(rtt_s: float, waits_ms: list[int]) -> None:
    """Times between the requests for one packet, looked at every millisecond."""
    missing = Missing(rtt_s=rtt_s)
    arrivals(missing, 10, 12)
    asked_ms = [ms for ms in range(1100) if missing.due(ms / 1000)]
    gaps = [b - a for a, b in pairwise(asked_ms)]
    assert asked_ms[0] == pytest.approx(1000 * REORDER_WAIT_S, abs=1)
    assert gaps[: len(waits_ms)] == pytest.approx(waits_ms, abs=1)


def test_it_gives_up_after_so_many_tries() -> None:
    """On a short path the tries run out first."""
    missing = Missing(rtt_s=0.001)
    arrivals(missing, 10, 12)
    tries = sum(bool(missing.due(ms / 1000)) for ms in range(1500))
    assert tries == missing.asked == MAX_TRIES
    assert missing.lost == 1
    assert not missing.waiting


def test_it_gives_up_what_is_too_old_to_be_shown() -> None:
    """On a long path the packet's age runs out first."""
    missing = Missing(rtt_s=0.5)
    arrivals(missing, 10, 12)
    tries = sum(bool(missing.due(ms / 1000)) for ms in range(int(1000 * MAX_AGE_S) + 100))
    assert 0 < tries < MAX_TRIES
    assert missing.lost == 1
    assert not missing.waiting
    assert missing.due(100.0) == []


def test_a_packet_that_comes_after_being_asked_for_counts_as_repaired() -> None:
    """It is not asked for again, and not counted as lost."""
    missing = Missing()
    arrivals(missing, 10, 12)
    assert missing.due(SOON) == [11]
    missing.arrived(11, 0.03)
    missing.arrived(11, 0.03)
    assert missing.due(10.0) == []
    assert (missing.repaired, missing.lost, missing.asked) == (1, 0, 1)


def test_an_outage_is_not_asked_for() -> None:
    """More than a keyframe's worth is beyond repair: it is counted as lost, what waits included."""
    missing = Missing()
    arrivals(missing, 10, 12, 12 + MAX_GAP + 2)
    assert missing.due(SOON) == []
    assert missing.lost == 1 + MAX_GAP + 1


def test_the_longest_gap_that_is_repaired() -> None:
    """One less than an outage is asked for in full."""
    missing = Missing()
    arrivals(missing, 10, 10 + MAX_GAP + 1)
    assert missing.due(SOON) == [10 + step for step in range(1, MAX_GAP + 1)]


def test_what_is_remembered_is_bounded() -> None:
    """A line that loses every other packet for ever does not grow."""
    missing = Missing()
    for step in range(0, 100_000, 2):
        missing.arrived(step & 0xFFFF, 0.0)
        assert len(missing._wants) <= MAX_MISSING
    assert missing.lost > 40_000


def test_another_parent_is_asked_for_everything_anew() -> None:
    """What the one before did not answer may be in the ring of the next."""
    missing = Missing(rtt_s=0.001)
    arrivals(missing, 10, 13)
    missing.due(0.010)
    missing.arrived(11, 0.011)
    for ms in range(100, 1000, 100):
        missing.due(ms / 1000)
    missing.renew(1.0)
    tries = sum(bool(missing.due(1.0 + ms / 1000)) for ms in range(1500))
    assert tries == MAX_TRIES
    assert missing.lost == 1


@given(st.lists(st.integers(0, 0xFFFF), max_size=200), st.floats(0, 5))
def test_any_arrivals_keep_the_books(sequences: list[int], step_s: float) -> None:
    """Whatever comes in whatever order: bounded, and nothing that arrived last is asked for."""
    missing = Missing()
    now = 0.0
    for sequence in sequences:
        now += step_s
        missing.arrived(sequence, now)
        due = missing.due(now)
        assert sequence not in due
        assert len(due) == len(set(due)) <= MAX_MISSING
    assert len(missing._wants) <= MAX_MISSING
