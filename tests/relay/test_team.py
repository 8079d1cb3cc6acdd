"""Several processes as one node: who takes the next viewer, and what the sum of them is."""

from __future__ import annotations

from typing import Any

from relay.team import SILENT_S, Worker, merge, next_for_a_viewer


def snapshot(
    viewers: int, room: int = 100, streams: tuple[Any, ...] = (), joins: int | None = None
) -> dict[str, Any]:
    return {
        "viewers": viewers,
        "joins": viewers if joins is None else joins,
        "load": {"room": room, "cpu": 0.1},
        "totals": {"packets_out": 10 * viewers, "forward_cpu_s": 0.5},
        "streams": list(streams),
    }


def worker(number: int, viewers: int, room: int = 100, at: float = 0.0) -> Worker:
    one = Worker(number, pid=1)
    hears(one, snapshot(viewers, room), at)
    return one


def hears(one: Worker, what: dict[str, Any], at: float = 0.0) -> None:
    one.asked()
    one.heard(what, at)


def test_the_process_with_the_fewest_viewers_takes_the_next() -> None:
    few, many = worker(1, 3), worker(2, 9)
    assert next_for_a_viewer([many, few], 0.0, own_viewers=5, own_room=100) is few
    assert next_for_a_viewer([many, few], 0.0, own_viewers=3, own_room=100) is None


def test_a_crowd_is_spread_before_the_first_of_it_is_seen() -> None:
    """Between two answers of a worker the front counts whom it sent there."""
    one, two = worker(1, 0), worker(2, 0)
    own = 0
    for _ in range(30):
        chosen = next_for_a_viewer([one, two], 0.0, own, own_room=100)
        if chosen is None:
            own += 1
        else:
            chosen.sends()
    assert (own, one.viewers, two.viewers) == (10, 10, 10)


def test_a_viewer_who_is_on_the_way_while_a_worker_is_asked_is_counted_once() -> None:
    """Whether or not what the worker says has it already."""
    one = worker(1, 4)
    one.sends()
    one.sends()
    one.asked()
    one.answered(joined=True)
    for seen in (4, 5, 6):
        one.heard(snapshot(seen), 0.0)
        assert (one.viewers, one.room) == (6, 100 - (6 - seen))
    one.answered(joined=True)
    hears(one, snapshot(5, joins=6))
    assert one.viewers == 5


def test_a_viewer_who_was_refused_is_not_counted() -> None:
    one = worker(1, 4)
    one.sends()
    assert one.viewers == 5
    one.answered(joined=False)
    assert one.viewers == 4


def test_a_request_given_up_here_and_granted_there_is_counted_from_then_on() -> None:
    one = worker(1, 4)
    one.sends()
    one.answered(joined=False)
    hears(one, snapshot(5))
    one.sends()
    assert one.viewers == 6


def test_a_worker_that_is_silent_or_full_gets_nobody() -> None:
    silent, full = worker(1, 0, at=-SILENT_S), worker(2, 0, room=0)
    assert next_for_a_viewer([silent, full], 0.0, own_viewers=50, own_room=100) is None


def test_a_front_that_is_full_sends_all_to_its_workers() -> None:
    one = worker(1, 50)
    assert next_for_a_viewer([one], 0.0, own_viewers=3, own_room=0) is one


def test_a_worker_whose_process_ended_has_no_viewers() -> None:
    one = worker(1, 50)
    one.gone()
    assert (one.viewers, one.well(0.0)) == (0, False)


def test_a_node_shows_the_sum_and_each() -> None:
    stream = {"name": "hall", "viewers": 2, "relays": 3, "bitrate_out_bps": 5, "packets_out": 7}
    there = stream | {"viewers": 4, "relays": 0}
    one = Worker(1, pid=77)
    hears(one, snapshot(4, streams=(there,)))
    merged = merge(snapshot(2, streams=(stream,)), [one], 0.0)
    assert merged["viewers"] == 6
    assert merged["totals"] == {"packets_out": 60, "forward_cpu_s": 1.0}
    # One of the three relays is the worker's own pull.
    assert merged["streams"] == [
        {"name": "hall", "viewers": 6, "relays": 2, "bitrate_out_bps": 10, "packets_out": 14}
    ]
    assert [w["viewers"] for w in merged["workers"]] == [2, 4]
    assert merged["workers"][1]["pid"] == 77
