"""Who is let in, who is sent on, and when a refused one may ask again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.admission import (
    AHEAD_S,
    SIBLING_FRESH_S,
    UNLIMITED_ROOM,
    WINDOW_S,
    Admission,
    Limits,
    Reason,
    Siblings,
    Usage,
    handover_group,
)


def settled(limits: Limits, packets_per_s: float, cpu: float, memory: int = 0) -> Admission:
    """An admission that has measured this load for some seconds, at time 10."""
    admission = Admission(limits)
    for step in range(21):
        at = step / 2
        admission.sample(at, Usage(round(packets_per_s * at), cpu * at, memory))
    return admission


def test_a_node_holds_the_viewers_it_was_set_to_hold_and_no_more() -> None:
    admission = Admission(Limits(max_viewers=300))
    assert admission.refuse(0.0, 299) is None
    assert admission.refuse(0.0, 300) is Reason.FULL
    assert admission.refused == 1


def test_a_node_below_is_no_viewer_and_enters_a_full_node() -> None:
    assert Admission(Limits(max_viewers=300)).refuse(0.0, 300, relay=True) is None


def test_recent_joins_count_before_their_packets_show() -> None:
    """100 viewers of 160 packets fill 16,000 packets a second before one has been sent."""
    admission = Admission(Limits(max_packets_per_s=16_000))
    taken = 0
    while admission.refuse(1.0, taken, 160) is None:
        admission.joined(1.0, 160)
        taken += 1
    assert taken == 100


def test_a_join_counts_ahead_only_until_it_shows() -> None:
    admission = Admission(Limits(max_packets_per_s=200))
    admission.joined(0.0, 160)
    assert admission.ahead(AHEAD_S - WINDOW_S) == 160
    assert admission.ahead(AHEAD_S - WINDOW_S / 2) == 80
    assert admission.refuse(AHEAD_S - WINDOW_S, 1, 160) is Reason.PACKETS
    assert admission.refuse(AHEAD_S + 0.1, 1, 160) is None


def test_who_has_left_is_no_longer_counted_ahead() -> None:
    """A storm of viewers who come and go at once fills nothing."""
    admission = Admission(Limits(max_packets_per_s=200))
    for n in range(100):
        now = n / 100
        assert admission.refuse(now, 0, 160) is None
        admission.left(admission.joined(now, 160))
    ticket = admission.joined(1.0, 160)
    admission.left(ticket)
    admission.left(ticket)
    assert admission.ahead(1.0) == 0


def test_packets_that_are_measured_count() -> None:
    admission = settled(Limits(max_packets_per_s=10_000), 9_900, 0.1)
    assert admission.refuse(10.0, 60, 160) is Reason.PACKETS
    assert admission.refuse(10.0, 60, 90) is None


def test_a_busy_forwarding_thread_takes_nobody() -> None:
    admission = settled(Limits(), 100_000, 0.86)
    assert admission.refuse(10.0, 600) is Reason.CPU
    assert admission.room(10.0, 600) == 0


def test_a_node_below_may_use_the_reserve() -> None:
    admission = settled(Limits(), 100_000, 0.86)
    assert admission.refuse(10.0, 600, relay=True) is None


def test_processor_time_of_those_to_come_is_what_those_present_cost() -> None:
    """At 5 µs a packet and 160 packets a second a viewer, 0.45 of a core is room for 562."""
    admission = settled(Limits(max_cpu=0.85), 80_000, 0.4)
    assert admission.room(10.0, 500, 160) == pytest.approx(562, rel=0.05)


def test_memory_over_its_limit_takes_nobody() -> None:
    admission = settled(Limits(max_memory_bytes=1 << 30), 0, 0, memory=(1 << 30) + 1)
    assert admission.refuse(10.0, 1) is Reason.MEMORY
    assert admission.room(10.0, 1) == 0


def test_room_is_what_the_tightest_limit_leaves() -> None:
    admission = Admission(Limits(max_viewers=300, max_packets_per_s=1600))
    assert admission.room(0.0, 295, 160) == 5
    assert admission.room(0.0, 0, 160) == 10
    assert Admission(Limits(max_cpu=0)).room(0.0, 0) == UNLIMITED_ROOM


def test_room_of_an_overfull_node_is_none_and_never_negative() -> None:
    assert Admission(Limits(max_viewers=3)).room(0.0, 5) == 0


def test_those_refused_together_come_back_apart() -> None:
    """200 refused at once are spread over 8 s or more, so that at most 25 a second return."""
    admission = Admission(Limits(max_viewers=1))
    for _ in range(200):
        admission.refuse(0.0, 1)
    waits = {admission.retry_after_s(0.0, spread / 200) for spread in range(200)}
    assert min(waits) == 2
    assert max(waits) >= 9


def test_a_single_refused_one_waits_seconds_not_minutes() -> None:
    admission = Admission(Limits(max_viewers=1))
    admission.refuse(0.0, 1)
    assert 2 <= admission.retry_after_s(0.0, 1.0) <= 6


@given(st.lists(st.tuples(st.floats(0, 100), st.integers(0, 10**9), st.floats(0, 1e6))))
def test_any_counters_give_a_decision(samples: list[tuple[float, int, float]]) -> None:
    """Counters that stand still or run back (a node that restarted) break nothing."""
    admission = Admission(Limits(max_viewers=10, max_packets_per_s=10, max_memory_bytes=1))
    for at, packets, busy in samples:
        admission.sample(at, Usage(packets, busy))
        assert 0 <= admission.room(at, 3) <= UNLIMITED_ROOM


def test_the_sibling_with_the_most_room_is_offered_and_counted_one_less() -> None:
    siblings = Siblings()
    siblings.heard("http://a:1", 2, 0.0)
    siblings.heard("http://b:1/", 1, 0.0)
    offered = [siblings.choose(1.0) for _ in range(4)]
    assert sorted(offered) == ["", "http://a:1", "http://a:1", "http://b:1"]
    assert offered[3] == ""


def test_a_sibling_that_was_not_heard_of_lately_is_not_offered() -> None:
    siblings = Siblings()
    siblings.heard("http://a:1", 5, 0.0)
    assert siblings.choose(SIBLING_FRESH_S + 0.1) == ""
    assert siblings.room(SIBLING_FRESH_S + 0.1) == 0


def test_a_viewer_is_not_sent_back_where_it_came_from() -> None:
    siblings = Siblings()
    siblings.heard("http://a:1", 5, 0.0)
    assert siblings.choose(0.0, avoid=["http://a:1"]) == ""


@given(st.integers(0, 5000), st.floats(0.1, 60))
def test_all_viewers_are_handed_over_in_the_time_given(viewers: int, seconds: float) -> None:
    left, at = viewers, 0.0
    while at < seconds and left:
        left -= handover_group(left, seconds - at, 0.1)
        at += 0.1
    assert left == 0


def test_a_hundred_viewers_go_in_small_groups() -> None:
    assert handover_group(100, 10.0, 0.1) == 1
    assert handover_group(100, 5.0, 0.1) == 2
