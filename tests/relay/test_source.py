"""What feeds a stream: its packets numbered, its losses asked for, its reports written."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import cast

import pytest

from relay import packet as rtp
from relay import rtcp
from relay.fanout import Fanout, Target
from relay.peer import Peer
from relay.rtcp import Fir, Nack, Pli, ReceiverReport, Remb, ReportBlock
from relay.sdp import Format, Leg
from relay.source import MAX_LINES, Source
from relay.stream import Stream
from relay.track import Track
from tests.relay import rows

OUR_SSRC = 5
AUDIO = Leg("0", Format("audio", "OPUS"), 111, {1: rtp.AUDIO_LEVEL})
VIDEO = Leg("1", Format("video", "VP8"), 96, {2: rtp.ABS_SEND_TIME}, rtx_type=97, ssrc=100)
FIRST, SECOND, REPAIR, SOUND = 100, 200, 101, 300


class Side:
    """The port, and the fan-out that writes down the reports."""

    def __init__(self) -> None:
        self.fanout = cast(Fanout, self)
        self.sent: list[bytes] = []

    def mark(self, forwarder: Stream) -> None:
        pass

    def hurry(self) -> None:
        pass

    def send_rtcp(self, targets: list[Target], compound: bytes) -> None:
        self.sent.append(compound)


class Bench:
    """A stream of sound and picture, and its sources."""

    def __init__(self) -> None:
        self.side = Side()
        self.sound, self.picture = Track(AUDIO.format, 11), Track(VIDEO.format, 22)
        self.stream = Stream("class", [self.sound, self.picture], self.side)
        self.source = self.publisher()
        self.source.attach(None)
        # A source begins by the real clock; from there on a test's time is its own.
        self.now = time.monotonic()

    def publisher(self, *, estimate: bool = False) -> Source:
        """Another publisher of the same stream, not attached yet."""
        peer = SimpleNamespace(target=object(), rtt_s=0.05, serve=lambda handler: None)
        legs = [AUDIO, VIDEO]
        return Source(self.stream, cast(Peer, peer), legs, OUR_SSRC, estimate=estimate)

    def video(
        self, *sequences: int, ssrc: int = FIRST, source: Source | None = None, step_s: float = 0.01
    ) -> None:
        """Video packets arrive, each a frame of its own."""
        for sequence in sequences:
            data = rows.packet(sequence & 0xFFFF, 900 * sequence, rows.VP8_DELTA, ssrc=ssrc)
            (source or self.source).on_rtp(data, self.now)
            self.now += step_s

    def speak(self, *sequences: int, source: Source | None = None) -> None:
        """Sound arrives."""
        for sequence in sequences:
            data = rows.packet(sequence, 960 * sequence, rows.OPUS, ssrc=SOUND, payload_type=111)
            (source or self.source).on_rtp(data, self.now)
            self.now += 0.01

    def repeat(self, original: int, sequence: int, payload: bytes | None = None) -> None:
        """A retransmission of a packet arrives (RFC 4588)."""
        body = original.to_bytes(2, "big") + rows.VP8_DELTA if payload is None else payload
        data = rows.packet(sequence, 900 * original, body, ssrc=REPAIR, payload_type=97)
        self.source.on_rtp(data, self.now)

    def tick(self, seconds: float = 0.0) -> None:
        self.now += seconds
        self.source.tick(self.now)

    def said(self) -> list[rtcp.Packet]:
        """What was sent to the publisher since the last time, without empty reports."""
        sent, self.side.sent[:] = list(self.side.sent), []
        for data in sent:
            assert not rtcp.parse(data).malformed
        return [
            one
            for data in sent
            for one in rtcp.parse(data)
            if not isinstance(one, ReceiverReport) or one.reports
        ]

    def numbers(self, track: Track) -> Iterator[int]:
        """Sequence numbers in a track's ring, oldest first."""
        for position in range(track.oldest, track.highest + 1):
            kept = track.get(position)
            if kept is not None:
                yield rows.numbers(kept)[0]


@pytest.fixture
async def bench() -> Bench:
    """Async, because a source tells the loop of its first packet."""
    return Bench()


async def test_packets_reach_the_track_of_their_payload_type(bench: Bench) -> None:
    """No SSRC needs to be known before: encoders do not always announce theirs."""
    bench.video(10, 11, ssrc=4711)
    data = rows.packet(7, 960, rows.OPUS, ssrc=SOUND, payload_type=111)
    bench.source.on_rtp(data, bench.now)
    assert list(bench.numbers(bench.picture)) == [10, 11]
    assert list(bench.numbers(bench.sound)) == [7]
    assert bench.source.bad_packets == 0


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(rows.packet(1, 1, b"x", payload_type=98), id="a type that was not agreed"),
        pytest.param(rows.packet(1, 1, bytes(1460)), id="too long for any path"),
        pytest.param(b"\xb0" + rows.packet(1, 1, b"")[1:], id="an extension that is not there"),
        pytest.param(b"\x40" + rows.packet(1, 1, b"")[1:], id="another version"),
    ],
)
async def test_what_is_no_packet_of_ours_is_counted(bench: Bench, data: bytes) -> None:
    """And not forwarded."""
    bench.source.on_rtp(data, bench.now)
    assert bench.source.bad_packets == 1
    assert bench.picture.highest == -1


async def test_a_publisher_with_ever_new_sources_is_bounded(bench: Bench) -> None:
    """Each SSRC costs memory: after so many the others are passed over."""
    for ssrc in range(1000, 1100):
        bench.video(1, ssrc=ssrc)
    assert len(bench.source._lines) == MAX_LINES
    assert bench.source.bad_packets == 100 - MAX_LINES


# ---------------------------------------------------------------- loss


async def test_a_lost_packet_is_asked_for_and_its_repeat_fills_the_hole(bench: Bench) -> None:
    """NACK, retransmission on another SSRC, and the original in the ring."""
    bench.video(10, 11, 14)
    bench.tick(0.02)
    assert Nack(FIRST, [12, 13]) in bench.said()
    bench.repeat(12, 1)
    bench.repeat(13, 2)
    assert list(bench.numbers(bench.picture)) == [10, 11, 12, 13, 14]
    kept = bench.picture.get(bench.picture.position_of(12))
    assert kept is not None
    assert rows.payload(kept) == rows.VP8_DELTA
    assert kept[1] & 0x7F == 96
    bench.tick(1.0)
    assert not any(isinstance(one, Nack) for one in bench.said())
    assert bench.source.figures(bench.picture)["repaired"] == 2


async def test_loss_is_asked_for_by_the_publishers_own_numbers(bench: Bench) -> None:
    """A takeover shifts what goes on, not what is asked for."""
    bench.video(10, 11)
    later = bench.publisher()
    later.attach(None)
    bench.source = later
    bench.video(5000, 5002, ssrc=SECOND)
    bench.tick(0.02)
    assert Nack(SECOND, [5001]) in bench.said()
    assert list(bench.numbers(bench.picture)) == [10, 11, 12, 14]


@pytest.mark.parametrize(
    ("original", "payload"),
    [
        pytest.param(11, None, id="of a packet that has come"),
        pytest.param(0, b"", id="a padding probe"),
        pytest.param(0, b"\0", id="a cut one"),
    ],
)
async def test_a_repeat_that_repairs_nothing_is_dropped(
    bench: Bench, original: int, payload: bytes | None
) -> None:
    """Chromium probes its line with such packets."""
    bench.video(10, 11, 12)
    bench.repeat(original, 1, payload)
    assert list(bench.numbers(bench.picture)) == [10, 11, 12]
    assert bench.picture.packets == 3


async def test_a_repeat_before_the_first_packet_is_dropped(bench: Bench) -> None:
    """There is no line yet that it could belong to."""
    bench.repeat(10, 1)
    assert bench.picture.highest == -1


@pytest.mark.parametrize("start", [20_000, 40_001], ids=["back", "ahead"])
async def test_a_publisher_whose_numbers_jump_is_still_repaired_and_reported(
    bench: Bench, start: int
) -> None:
    """An encoder that begins anew under its old SSRC: loss is seen in its new numbers."""
    bench.video(30_000, 30_001)
    data = [rows.packet(start + n, 2_000_000_000 + n, b"x", ssrc=FIRST) for n in (0, 1, 3)]
    for one in data:
        bench.source.on_rtp(one, bench.now)
    bench.tick(0.02)
    assert bench.said() == [Nack(FIRST, [start + 2])]
    assert list(bench.numbers(bench.picture)) == [30_000, 30_001, 30_002, 30_003, 30_005]
    bench.tick(1.0)
    (block,) = [b for r in bench.said() if isinstance(r, ReceiverReport) for b in r.reports]
    assert (block.packets_lost, block.highest_seq) == (1, start + 3)


# ---------------------------------------------------------------- one after another


async def test_packets_of_a_replaced_publisher_are_dropped(bench: Bench) -> None:
    """Some are still under way when the next one has begun; they would tear its line."""
    bench.video(10, 11)
    later = bench.publisher()
    later.attach(None)
    bench.video(5000, ssrc=SECOND, source=later)
    bench.video(12, 13)
    bench.video(5001, 5002, ssrc=SECOND, source=later)
    assert list(bench.numbers(bench.picture)) == [10, 11, 12, 13, 14]
    assert bench.picture.numbering.rebases == 1


async def test_a_sender_report_is_carried_over_to_the_line(bench: Bench) -> None:
    """With the shift of the present source; the clock of the one before is forgotten."""
    bench.video(10)
    report = rtcp.sender_report(FIRST, 77 << 32, 9000, 1, 1)
    bench.source.on_rtcp(report, bench.now)
    assert bench.picture.sender_clock(bench.now) == (77 << 32, 9000)
    later = bench.publisher()
    later.attach(None)
    assert bench.picture.sender_clock(bench.now) is None
    bench.video(500, ssrc=SECOND, source=later)
    kept = bench.picture.get(bench.picture.highest)
    assert kept is not None
    bench.now += 1000.0
    late = rtcp.sender_report(FIRST, 99 << 32, 1, 1, 1)
    later.on_rtcp(late + rtcp.sender_report(SECOND, 88 << 32, 450_000, 1, 1), bench.now)
    assert bench.picture.sender_clock(bench.now) == (88 << 32, rows.numbers(kept)[1])


# ---------------------------------------------------------------- reports


async def test_reception_is_reported_once_a_second(bench: Bench) -> None:
    """Loss since the last report and in all, highest number with its cycles, and the sender's
    clock with the delay since (RFC 3550 section 6.4.1, appendix A.3).
    """
    bench.video(65533, 65534, 65536, 65537)
    bench.source.on_rtcp(rtcp.sender_report(FIRST, 0x0001_8000 << 16, 9000, 1, 1), bench.now)
    bench.tick(0.5)
    bench.said()
    bench.tick(0.5)
    (block,) = [b for r in bench.said() if isinstance(r, ReceiverReport) for b in r.reports]
    assert block.dlsr == pytest.approx(65536, abs=2)
    assert block.jitter < 90
    want = ReportBlock(FIRST, 256 // 5, 1, 0x10001, block.jitter, 0x0001_8000, block.dlsr)
    assert block == want
    bench.video(65538, 65539)
    bench.tick(1.0)
    (block,) = [b for r in bench.said() if isinstance(r, ReceiverReport) for b in r.reports]
    assert (block.fraction_lost, block.packets_lost, block.highest_seq) == (0, 1, 0x10003)


async def test_uneven_arrival_shows_as_jitter(bench: Bench) -> None:
    """30 ms late and early in turn, in timestamp units (RFC 3550 appendix A.8)."""
    for sequence in range(200):
        late_s = 0.03 if sequence % 2 else 0.0
        data = rows.packet(sequence, 9000 * sequence, rows.VP8_DELTA, ssrc=FIRST)
        bench.source.on_rtp(data, bench.now + 0.1 * sequence + late_s)
    assert bench.source.figures(bench.picture)["jitter_ms"] == pytest.approx(30, abs=1)


async def test_the_bitrate_of_the_line_is_told_to_who_agreed_on_it(bench: Bench) -> None:
    """REMB, from abs-send-time; without an estimate none is sent."""
    for estimate in (True, False):
        source = bench.publisher(estimate=estimate)
        source.attach(None)
        bench.source = source
        for number in range(400):
            bench.now += 0.01
            sent = rtp.abs_send_time(bench.now)
            head = rows.packet(number, 900 * number, b"", ssrc=FIRST + estimate)
            extension = rows.row("bede 0001 22") + sent.to_bytes(3, "big")
            data = b"\x90" + head[1:] + extension + bytes(1000)
            source.on_rtp(data, bench.now)
        bench.said()
        bench.tick(1.0)
        estimates = [one for one in bench.said() if isinstance(one, Remb)]
        assert bool(estimates) == estimate
        assert all(one.bitrate_bps > 100_000 for one in estimates)


async def test_a_keyframe_is_asked_of_the_line_that_feeds_the_track(bench: Bench) -> None:
    """Before the first packet of the one that was announced, then of the one that sends."""
    bench.source.ask_keyframe(bench.picture, bench.now)
    assert bench.said() == [Pli(FIRST)]
    bench.video(1, ssrc=SECOND)
    bench.source.ask_keyframe(bench.picture, bench.now)
    assert bench.said() == [Pli(SECOND)]
    assert bench.source.keyframes_asked == 2


async def test_an_urgent_keyframe_is_asked_of_a_node_by_fir_and_of_a_publisher_by_pli(
    bench: Bench,
) -> None:
    """Nodes hold PLIs back for up to a second; publishers may not know FIR."""
    bench.source.ask_keyframe(bench.picture, bench.now, urgent=True)
    assert bench.said() == [Pli(FIRST)]
    bench.source._from_node = True
    bench.source.ask_keyframe(bench.picture, bench.now, urgent=True)
    assert bench.said() == [Fir([FIRST])]


async def test_a_second_parent_is_level_once_it_has_brought_as_much_of_every_kind(
    bench: Bench,
) -> None:
    """Sound alone, or pictures that are known already, would leave a gap if the first one went."""
    first, second = bench.source, bench.publisher()
    bench.video(10, 11, 12)
    bench.speak(50)
    second.attach(first)
    bench.speak(51, source=second)
    bench.video(11, source=second)
    await asyncio.sleep(0)
    assert not second.level.is_set()
    bench.video(13)
    bench.video(12, source=second)
    await asyncio.wait_for(second.level.wait(), 5)


async def test_a_second_parent_need_not_bring_what_has_been_silent(bench: Bench) -> None:
    """The microphone has been off for minutes: the picture alone decides."""
    first, second = bench.source, bench.publisher()
    bench.speak(50)
    bench.sound.last_arrival_s = bench.now - 60
    bench.video(10)
    second.attach(first)
    bench.video(10, source=second)
    await asyncio.wait_for(second.level.wait(), 5)
