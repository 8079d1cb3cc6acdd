"""Loss and delay from packets that are made up, under a node that renumbers."""

import numpy as np
import pytest

from tests.bench import analysis
from tests.bench.drain import RECEIVED, Received
from tests.bench.publisher import SENT, Sent
from tests.bench.sdp import AUDIO_PT, VIDEO_PT
from tests.bench.source import Kind, Source

SECOND = 1_000_000_000
START = 1_700_000_000 * SECOND
DELAY = 3_000_000
TAG = 16


def some_seconds(seconds: int) -> Sent:
    """What a publisher sends in that time."""
    source = Source(11)
    packets = []
    for tick in range(50 * seconds):
        now = START + tick * SECOND // 50
        packets.append((now + 7_000_000, source.sound(now)))
        if tick % 2 == 0:
            packets += [(now, packet) for packet in source.frame(now)]
    rows = [(at, p.kind, p.marker, p.sequence, p.timestamp, len(p.data) + TAG) for at, p in packets]
    return np.array(rows, SENT)


def as_received(sent: Sent, viewer: int, *, delay_ns: int = DELAY) -> Received:
    """The same packets at a viewer, behind a node that shifts all numbers and adds padding."""
    rows = np.zeros(len(sent), RECEIVED)
    rows["t_ns"] = sent["t_ns"] + delay_ns
    rows["viewer"] = viewer
    rows["sequence"] = sent["sequence"] + np.uint16(60_000)
    rows["timestamp"] = sent["timestamp"] + np.uint32(4_000_000_000)
    rows["size"] = sent["size"] - 8 + np.arange(len(sent)) % 2
    number = np.where(sent["kind"] == Kind.VIDEO, VIDEO_PT, AUDIO_PT)
    rows["marker_pt"] = number | np.where(sent["marker"], 0x80, 0)
    return rows


WINDOW = (START + 4 * SECOND, START + 9 * SECOND)


def test_nothing_lost_is_zero_and_delays_are_exact() -> None:
    sent = some_seconds(10)
    received = np.concatenate([as_received(sent, viewer) for viewer in range(3)])
    outcome = analysis.analyse(received, sent, WINDOW, range(3))
    inside = (sent["t_ns"] >= WINDOW[0]) & (sent["t_ns"] < WINDOW[1])
    assert (outcome.lost, outcome.unmatched, outcome.duplicates) == (0, 0, 0)
    assert outcome.expected == 3 * np.count_nonzero(inside)
    assert len(outcome.picture_ms) == 3 * 125
    assert len(outcome.sound_ms) == 3 * 250
    assert np.allclose(outcome.picture_ms, 3.0)


def test_each_missing_packet_of_the_window_counts_once() -> None:
    sent = some_seconds(10)
    received = as_received(sent, 0)
    inside = np.flatnonzero((sent["t_ns"] >= WINDOW[0]) & (sent["t_ns"] < WINDOW[1]))
    gone = [0, inside[5], inside[6], inside[-1], len(sent) - 1]
    outcome = analysis.analyse(np.delete(received, gone), sent, WINDOW, range(1))
    assert (outcome.lost, outcome.losers) == (3, 1)


def test_a_packet_more_than_a_second_late_is_lost_and_a_copy_is_a_duplicate() -> None:
    sent = some_seconds(10)
    received = as_received(sent, 0)
    inside = np.flatnonzero(sent["t_ns"] >= WINDOW[0])
    received["t_ns"][inside[3]] += 1_100_000_000
    received = np.insert(received, inside[8], received[inside[8]])
    outcome = analysis.analyse(received, sent, WINDOW, range(1))
    assert (outcome.lost, outcome.duplicates) == (1, 1)


def test_a_viewer_that_got_nothing_lost_everything() -> None:
    sent = some_seconds(10)
    outcome = analysis.analyse(as_received(sent, 0), sent, WINDOW, range(2))
    assert outcome.lost == outcome.expected // 2


def test_packets_that_were_never_sent_do_not_match() -> None:
    """Another source's packets have the cadence and the numbers, but not the sizes."""
    sent = some_seconds(10)
    received = as_received(sent, 0)
    received["size"] = np.random.default_rng(1).permutation(received["size"])
    outcome = analysis.analyse(received, sent, WINDOW, range(1))
    assert outcome.unmatched == 2
    with pytest.raises(ValueError, match="match nothing"):
        analysis.arrivals(received, sent, WINDOW, range(1))


def test_arrivals_line_up_the_same_packet_at_several_viewers() -> None:
    sent = some_seconds(10)
    rows = [as_received(sent, depth, delay_ns=DELAY * (depth + 1)) for depth in range(2)]
    rows[1] = np.delete(rows[1], np.flatnonzero(sent["t_ns"] >= WINDOW[0])[0])
    sent_ns, first_ns = analysis.arrivals(np.concatenate(rows), sent, WINDOW, range(2))
    assert (first_ns[0] - sent_ns == DELAY).all()
    assert np.count_nonzero(first_ns[1] == 0) == 1
    came = first_ns[1] > 0
    assert (first_ns[1][came] - first_ns[0][came] == DELAY).all()
