"""What a node answers to a viewer's NACK: a real stream, track and viewer, the sends on record."""

from __future__ import annotations

from typing import cast

import pytest

from relay import packet as rtp
from relay import rtcp
from relay.fanout import Fanout, Target
from relay.peer import Peer
from relay.sdp import Format, Leg
from relay.stream import Stream
from relay.track import Track
from relay.viewer import REPAIR_BURST, Viewer

SSRC, RTX_SSRC = 7, 8
RTT_S = 0.1


class Sent(Fanout):
    """Takes the place of the socket's sender."""

    def __init__(self) -> None:
        self.packets: list[bytes] = []

    def send_to(self, target: Target, packets: object) -> None:
        self.packets += cast(list[bytes], packets)

    def send_rtcp(self, targets: object, compound: bytes) -> None:
        pass


class Side:
    """The port as the stream sees it."""

    def __init__(self) -> None:
        self.fanout: Fanout = Sent()

    def mark(self, forwarder: Stream) -> None:
        pass

    def hurry(self) -> None:
        pass


class Connected:
    """A peer after its handshake, as far as a viewer looks."""

    target = cast(Target, object())


class Bench:
    """One track with one viewer; times are given in each call."""

    def __init__(self, *, is_relay: bool = False, rtx: bool = True) -> None:
        side = Side()
        self.sent = cast(Sent, side.fanout)
        self.track = Track(Format("video", "VP8"), SSRC)
        self.stream = Stream("lecture", [self.track], side)
        leg = Leg("0", self.track.format, 96, {}, 97 if rtx else -1, SSRC, RTX_SSRC if rtx else 0)
        self.viewer = Viewer(self.stream, cast(Peer, Connected()), {"video": leg}, is_relay)
        self.viewer.rtt_s = RTT_S

    def arrives(self, *sequences: int, now: float = 1.0) -> None:
        for sequence in sequences:
            head = bytes([0x80, 96]) + sequence.to_bytes(2, "big") + bytes(4)
            data = head + SSRC.to_bytes(4, "big") + b"\x10\x01payload"
            parsed = rtp.parse(data, rtp.ExtensionIds({}))
            self.track.insert(data, parsed, SSRC, 0, now)

    def asked(self, *sequences: int, now: float) -> list[int]:
        """The numbers of the repeats that a NACK makes go out."""
        self.sent.packets.clear()
        self.viewer.on_rtcp(rtcp.receiver_report(1, []) + rtcp.nack(1, SSRC, sequences), now)
        found = []
        for data in self.sent.packets:
            at = (12 + 4 + 4 * data[15]) if data[1] & 0x7F == 97 else 2
            found.append(int.from_bytes(data[at : at + 2], "big"))
        return found


@pytest.mark.parametrize("rtx", [True, False])
def test_what_the_ring_holds_is_repeated_at_once(rtx: bool) -> None:
    bench = Bench(rtx=rtx)
    bench.arrives(10, 11, 12)
    assert bench.asked(11, 9, now=1.001) == [11]


def test_a_request_within_the_round_trip_of_a_repeat_says_nothing() -> None:
    bench = Bench()
    bench.arrives(10, 11, 12)
    bench.asked(11, now=1.0)
    assert bench.asked(11, now=1.0 + RTT_S / 2) == []


@pytest.mark.parametrize(("is_relay", "after_s"), [(False, RTT_S), (True, 1.3 * RTT_S)])
def test_what_is_asked_for_after_its_repeat_goes_out_twice(is_relay: bool, after_s: float) -> None:
    """The repeat was lost as well. A browser asks again after exactly one round trip."""
    bench = Bench(is_relay=is_relay)
    bench.arrives(10, 11, 12)
    bench.asked(11, now=1.0)
    assert bench.asked(11, now=1.0 + after_s) == [11, 11]


def test_a_request_that_crosses_a_late_packet_is_passed_over() -> None:
    """The node had to ask for it itself and has just forwarded it to everybody."""
    bench = Bench()
    bench.arrives(10, 12, now=1.0)
    assert bench.asked(11, now=1.03) == []
    bench.arrives(11, now=1.06)
    assert bench.asked(11, now=1.07) == []
    assert bench.asked(11, now=1.06 + RTT_S) == [11]


@pytest.mark.parametrize("lost", [0.0, 0.05, 0.3])
def test_a_lossy_line_to_a_node_gets_a_second_repeat_a_moment_later(lost: float) -> None:
    """The node asks again every 20 ms. A good line needs no second one, a full one no more."""
    bench = Bench(is_relay=True)
    bench.viewer.fraction_lost = lost
    bench.arrives(10, 11, 12)
    assert bench.asked(11, now=1.0) == [11]
    assert bench.asked(11, now=1.001) == [], "the two come from one burst of requests"
    assert bench.asked(11, now=1.02) == ([11] if lost == 0.05 else [])
    assert bench.asked(11, now=1.04) == []


@pytest.mark.parametrize(
    ("lost", "pace_bps", "copies"), [(0.0, 0.0, 1), (0.05, 0.0, 2), (0.05, 500e3, 1), (0.3, 0.0, 1)]
)
def test_a_browser_behind_a_lossy_line_gets_two_repeats_if_there_is_room(
    lost: float, pace_bps: float, copies: int
) -> None:
    """It asks again only after a round trip."""
    bench = Bench()
    bench.viewer.fraction_lost, bench.viewer.pace_bps = lost, pace_bps
    bench.arrives(10, 11, 12)
    assert bench.asked(11, now=1.0) == [11] * copies


def test_where_two_repeats_are_more_than_is_allowed_one_goes_out() -> None:
    bench = Bench()
    bench.arrives(*range(int(REPAIR_BURST)))
    bench.asked(0, now=1.0)
    bench.viewer.fraction_lost = 0.05
    for sequence in range(1, int(REPAIR_BURST) // 2):
        assert bench.asked(sequence, now=1.0) == [sequence, sequence]
    assert bench.asked(200, now=1.0) == [200]
    assert bench.asked(201, now=1.0) == []


def test_two_copies_have_numbers_of_their_own() -> None:
    """RTX packets under one number would be thrown away as replays (RFC 3711)."""
    bench = Bench()
    bench.arrives(10, 11, 12)
    bench.asked(11, now=1.0)
    bench.asked(11, now=2.0)
    assert len({data[2:4] for data in bench.sent.packets}) == 2


def test_repeats_are_bounded_whoever_asks() -> None:
    bench = Bench()
    bench.arrives(*range(1000))
    answered = sum(len(bench.asked(*range(1000), now=2.0 + 0.2 * i)) for i in range(5))
    assert answered <= REPAIR_BURST + 150
