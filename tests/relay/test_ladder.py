"""Layers that a ladder makes on demand: when the picture flows to it, and who gets its layers."""

from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace
from typing import cast

import pytest

from relay import packet as rtp
from relay import rtcp
from relay.fanout import Target
from relay.ladder import SILENT_S, STALLED_S, Ladder
from relay.packet import ABS_SEND_TIME
from relay.peer import Peer
from relay.rtcp import Pli, Remb
from relay.sdp import Format, Layer, Leg
from relay.stream import Stream
from relay.track import SenderClock, Track
from relay.viewer import Viewer
from tests.relay.test_stream_layers import FakePort, Upstream, gaps, ssrc

SOUND, WHOLE, HALF, QUARTER = 0xA0, 0xB0, 0xE1, 0xE2
IDS = rtp.ExtensionIds({})
VIDEO = Format("video", "VP8")
MADE = (Layer("q", QUARTER, 0xF2, 120_000), Layer("h", HALF, 0xF1, 400_000))


class LadderPeer:
    """The part of a ladder's peer that is used; `lost` writes down why it was given up."""

    def __init__(self, now: float) -> None:
        self.target = Target(None, 16, ("127.0.0.1", 9))
        self.rtt_s = 0.0
        self.last_heard_s = now
        self.why: list[str] = []

    def serve(self, handler: object) -> None: ...

    def lost(self, why: str) -> None:
        self.why.append(why)


class Loop:
    """Calls at once what it is to call soon."""

    def call_soon_threadsafe(self, function: object, *args: object) -> None:
        function(*args)  # type: ignore[operator]


class Scene:
    """A stream with sound and one picture of 25 frames a second, a ladder, and a clock.

    The ladder is as quick as it can be: each frame of the picture that it gets, under its own SSRC
    and numbers, is a packet of the layers that it was told to make.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr("time.monotonic", lambda: self.now)
        self.port = FakePort()
        self.sound = Track(Format("audio", "OPUS"), SOUND)
        self.whole = Track(VIDEO, WHOLE)
        self.stream = Stream("x", [self.sound, self.whole], self.port)
        self.publisher = Upstream()
        self.stream.fed_by(self.publisher)
        self.frame = 0
        self.key = True
        self.works = True
        self.sequence = {HALF: 65_530, QUARTER: 10}
        self.keys: set[int] = set()
        self.layers = {}
        for layer in reversed(MADE):
            self.layers[layer.rid] = Track(VIDEO, layer.ssrc, layer.rid)
            self.stream.add_layer(self.layers[layer.rid])
        self.whole.rid = "f"
        self.ladder, self.peer = self.another_ladder()
        self.ladder.begin()

    def another_ladder(self) -> tuple[Ladder, LadderPeer]:
        peer = LadderPeer(self.now)
        picture = Leg("0", VIDEO, 100, {1: ABS_SEND_TIME}, 101, WHOLE, 0xF0)
        made = Leg("1", VIDEO, 100, {1: ABS_SEND_TIME}, 101, layers=MADE)
        ladder = Ladder(self.stream, cast(Peer, peer), picture, made, 5)
        ladder._loop = cast("object", Loop())  # type: ignore[assignment]
        return ladder, peer

    def viewer(self, *, is_relay: bool = False) -> Viewer:
        legs = {
            "audio": Leg("0", Format("audio", "OPUS"), 111, {}),
            "video": Leg("1", VIDEO, 96, {}, 97, WHOLE, 0xC0),
        }
        peer = SimpleNamespace(target=Target(None, 16, ("127.0.0.1", 9)), rtt_s=0.0)
        viewer = Viewer(self.stream, cast(Peer, peer), legs, is_relay)
        self.stream.add_viewer(viewer, now=self.now)
        return viewer

    def got(self, target: Target | None) -> list[bytes]:
        assert target is not None
        return self.port.fake.sent.get(target, [])

    def told(self) -> list[int]:
        """The SSRCs of the last REMB to the ladder."""
        said = [
            report.ssrcs
            for compound in self.port.fake.control.get(self.peer.target, [])
            for report in rtcp.parse(compound)
            if isinstance(report, Remb)
        ]
        return said[-1] if said else []

    def plis(self) -> list[int]:
        return [
            report.media_ssrc
            for compound in self.port.fake.control.get(self.peer.target, [])
            for report in rtcp.parse(compound)
            if isinstance(report, Pli)
        ]

    def run(self, seconds: float) -> None:
        for _ in range(round(seconds * 25)):
            self.now += 0.04
            self.frame += 1
            key = self.key or self.frame % 50 == 0
            self.key = False
            timestamp = 3600 * self.frame
            before = len(self.got(self.peer.target))
            self.put(self.sound, self.frame, 1920 * self.frame, b"s" * 80)
            self.put(self.whole, self.frame, timestamp, vp8(key, self.frame, 900))
            self.flush()
            if self.works and len(self.got(self.peer.target)) > before:
                wanted = self.told()
                for made in wanted:
                    asked = made in self.plis() or made not in self.keys
                    self.layer_packet(made, timestamp, asked)
                self.flush()
                self.port.fake.control.pop(self.peer.target, None)
                self.ladder._told_s = 0.0
            self.peer.last_heard_s = self.now

    def layer_packet(self, made: int, timestamp: int, key: bool) -> None:
        self.keys.add(made)
        self.sequence[made] = self.sequence[made] + 1 & 0xFFFF
        number = self.sequence[made]
        data = bytes([0x80, 100 | 0x80]) + number.to_bytes(2, "big") + timestamp.to_bytes(4, "big")
        data += made.to_bytes(4, "big") + vp8(key, number, 200 if made == QUARTER else 400)
        self.ladder.on_rtp(data, self.now)

    def put(self, track: Track, seq: int, timestamp: int, payload: bytes) -> None:
        data = bytes([0x80, 96 | 0x80]) + (seq & 0xFFFF).to_bytes(2, "big")
        data += timestamp.to_bytes(4, "big") + track.ssrc.to_bytes(4, "big") + payload
        kept = track.insert(data, rtp.parse(data, IDS), track.ssrc, 0, self.now)
        assert kept is not None
        self.stream.push(track, kept)

    def flush(self) -> None:
        for _ in self.stream.flush(self.now):
            pass
        self.stream.tick(self.now)
        self.stream.tick(self.now)
        for _ in self.stream.flush(self.now):
            pass

    def thin(self, viewer: Viewer, *estimates_bps: int) -> None:
        """The viewer's line is full: its estimate falls, and it loses packets."""
        lost = rtcp.ReportBlock(WHOLE, 0, 0, 1000, 0, 0, 0)
        for estimate in estimates_bps:
            viewer.on_rtcp(rtcp.receiver_report(1, [lost]), self.now)
            self.now += 1.0
            viewer.on_rtcp(rtcp.remb(1, estimate, [WHOLE]), self.now)
            lost = rtcp.ReportBlock(
                WHOLE, 64, lost.packets_lost + 25, lost.highest_seq + 100, 0, 0, 0
            )
            viewer.on_rtcp(rtcp.receiver_report(1, [lost]), self.now)


def vp8(key: bool, picture: int, size: int) -> bytes:
    head = bytes([0x90, 0x80]) + (0x8000 | picture & 0x7FFF).to_bytes(2, "big")
    return head + bytes([0 if key else 1]) + bytes(size)


@pytest.fixture
async def scene(monkeypatch: pytest.MonkeyPatch) -> Scene:
    return Scene(monkeypatch)


async def test_nothing_flows_to_a_ladder_that_nobody_needs(scene: Scene) -> None:
    viewer = scene.viewer()
    scene.run(10)
    assert viewer.layer is scene.whole
    assert scene.got(scene.peer.target) == []
    assert scene.told() == []
    assert scene.ladder.figures()["making"] == []


async def test_a_joiner_does_not_wait_for_a_layer_that_would_have_to_be_made(scene: Scene) -> None:
    scene.run(1)
    viewer = scene.viewer()
    scene.run(0.2)
    assert viewer.layer is scene.whole
    assert any(ssrc(p) == WHOLE for p in scene.got(viewer.peer.target))


async def test_a_thin_line_has_its_layer_made_and_the_picture_begins_at_its_last_keyframe(
    scene: Scene,
) -> None:
    viewer = scene.viewer()
    scene.run(3.4)
    scene.thin(viewer, 2_000_000, 150_000)
    scene.run(1)
    assert viewer.layer is scene.layers["q"]
    assert scene.ladder.figures()["making"] == ["q"]
    fed = scene.got(scene.peer.target)
    detect = rtp.keyframe_detector("VP8")
    assert detect(fed[0], rtp.payload_offset(fed[0]))
    frames = [int.from_bytes(p[4:8], "big") // 3600 for p in fed]
    assert frames == list(range(frames[0], frames[-1] + 1))
    assert frames[0] % 50 == 0


async def test_the_viewer_sees_one_line_of_numbers_and_the_pictures_own_time(scene: Scene) -> None:
    scene.whole.clock = SenderClock(1 << 40, 0, scene.now)
    viewer = scene.viewer()
    scene.run(3)
    scene.thin(viewer, 2_000_000, 150_000)
    scene.run(2)
    shown = [p for p in scene.got(viewer.peer.target) if ssrc(p) == WHOLE]
    assert gaps([p[2] << 8 | p[3] for p in shown]) == []
    stamps = [int.from_bytes(p[4:8], "big") for p in shown]
    # One tick keeps the layer's first frame apart from the same frame of the picture.
    assert {stamp % 3600 for stamp in stamps} <= {0, 1}, "by a guess of the time that passed"
    assert all(a < b for a, b in pairwise(stamps))
    assert stamps[-1] // 3600 == scene.frame


async def test_a_ladder_that_came_again_goes_on_in_the_line_of_the_first(scene: Scene) -> None:
    scene.whole.clock = SenderClock(1 << 40, 0, scene.now)
    viewer = scene.viewer()
    scene.run(3)
    scene.thin(viewer, 2_000_000, 150_000)
    scene.run(2)
    scene.ladder.end()
    scene.keys.clear()
    scene.sequence = {HALF: 4000, QUARTER: 5000}
    scene.ladder, scene.peer = scene.another_ladder()
    scene.ladder.begin()
    scene.thin(viewer, 2_000_000, 150_000, 140_000)
    scene.run(4)
    assert viewer.layer is scene.layers["q"]
    shown = [p for p in scene.got(viewer.peer.target) if ssrc(p) == WHOLE]
    assert gaps([p[2] << 8 | p[3] for p in shown]) == []
    stamps = [int.from_bytes(p[4:8], "big") for p in shown]
    assert all(a < b for a, b in pairwise(stamps))
    clock = scene.layers["q"].clock
    assert clock is not None
    assert clock.timestamp == scene.layers["q"].numbering.timestamp(0)


async def test_when_nobody_needs_it_the_picture_stops(scene: Scene) -> None:
    viewer = scene.viewer()
    scene.run(3)
    scene.thin(viewer, 2_000_000, 150_000)
    scene.run(1)
    scene.stream.remove_viewer(viewer)
    scene.run(3)
    fed = len(scene.got(scene.peer.target))
    scene.run(3)
    assert len(scene.got(scene.peer.target)) == fed
    assert scene.ladder.figures()["making"] == []
    assert scene.told() == []


async def test_a_keyframe_request_for_a_layer_goes_to_the_ladder(scene: Scene) -> None:
    viewer = scene.viewer()
    scene.run(3)
    scene.thin(viewer, 2_000_000, 150_000)
    scene.run(3)
    scene.works = False
    scene.publisher.asked.clear()
    viewer.on_rtcp(rtcp.pli(1, WHOLE), scene.now)
    scene.run(0.2)
    assert scene.plis() == [QUARTER]
    assert scene.publisher.asked == []


async def test_without_its_ladder_a_viewer_goes_back_to_the_picture(scene: Scene) -> None:
    viewer = scene.viewer()
    scene.run(3)
    scene.thin(viewer, 2_000_000, 150_000)
    scene.run(2)
    assert viewer.layer is scene.layers["q"]
    scene.ladder.end()
    scene.run(5)
    assert viewer.wanted in (scene.whole, None)
    viewer.on_rtcp(rtcp.remb(1, 5_000_000, [WHOLE]), scene.now)
    scene.run(15)
    assert viewer.layer is scene.whole
    shown = [p for p in scene.got(viewer.peer.target) if ssrc(p) == WHOLE]
    assert gaps([p[2] << 8 | p[3] for p in shown]) == []


async def test_a_ladder_that_stands_still_is_given_up(scene: Scene) -> None:
    viewer = scene.viewer()
    scene.run(3)
    scene.works = False
    scene.thin(viewer, 2_000_000, 150_000)
    scene.run(STALLED_S - 0.5)
    assert scene.peer.why == []
    scene.run(1)
    assert scene.peer.why == ["the ladder delivers nothing"]


async def test_a_ladder_is_not_blamed_for_a_picture_that_does_not_come(scene: Scene) -> None:
    viewer = scene.viewer()
    scene.run(3)
    scene.thin(viewer, 2_000_000, 150_000)
    scene.run(1)
    for _ in range(100):
        scene.now += 0.1
        scene.peer.last_heard_s = scene.now
        scene.stream.tick(scene.now)
    assert scene.peer.why == []


async def test_a_ladder_that_is_not_heard_is_given_up(scene: Scene) -> None:
    scene.viewer()
    scene.run(1)
    scene.now += SILENT_S + 0.1
    scene.stream.tick(scene.now)
    assert scene.peer.why == ["the ladder no longer answers"]


async def test_a_publisher_that_pauses_moves_nobody_to_a_layer(scene: Scene) -> None:
    viewer = scene.viewer()
    scene.run(3)
    for _ in range(50):
        scene.now += 0.1
        scene.peer.last_heard_s = scene.now
        scene.stream.tick(scene.now)
    assert viewer.wanted is scene.whole
    assert viewer.layer is scene.whole
