"""A stream with layers: who gets which packets, from which keyframe on, under which numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import cast

from relay import packet as rtp
from relay import rtcp
from relay.fanout import Fanout, Group, Target
from relay.lane import Splice
from relay.packet import ExtensionIds
from relay.peer import Peer
from relay.sdp import Format, Layer, Leg
from relay.stream import Stream
from relay.track import SenderClock, Track
from relay.viewer import Viewer

IDS = ExtensionIds({})
SOUND, LOW, TOP = 0xA0, 0xB1, 0xB2


class FakeFanout:
    """Keeps what each target would have been sent, before the cipher."""

    def __init__(self) -> None:
        self.sent: dict[Target, list[bytes]] = {}
        self.control: dict[Target, list[bytes]] = {}

    def send(
        self,
        group: Group,
        packets: Sequence[bytes],
        shifted: Sequence[bool] = (),
        vp8: bool = False,
    ) -> Iterator[None]:
        for target in group.targets:
            shift = group.shifts.get(target)
            for i, data in enumerate(packets):
                if shift is not None and shifted and shifted[i]:
                    splice = Splice(
                        Track(Format("video", "VP8"), 1), 0, shift.sequence, shift.timestamp, 0,
                        shift.picture, shift.tl0,
                    )  # fmt: skip
                    data = splice.apply(data, "VP8")
                self.sent.setdefault(target, []).append(data)
        yield

    def send_to(self, target: Target, packets: Sequence[bytes]) -> None:
        self.sent.setdefault(target, []).extend(packets)

    def send_rtcp(self, targets: Sequence[Target], compound: bytes) -> None:
        for target in targets:
            self.control.setdefault(target, []).append(compound)


class FakePort:
    def __init__(self) -> None:
        self.fake = FakeFanout()
        self.fanout = cast(Fanout, self.fake)

    def mark(self, forwarder: Stream) -> None: ...

    def hurry(self) -> None: ...


class FakePeer:
    """The part of a peer that a stream uses."""

    def __init__(self) -> None:
        self.target = Target(None, 16, ("127.0.0.1", 9))
        self.rtt_s = 0.0


class Upstream:
    def __init__(self) -> None:
        self.asked: list[Track] = []
        self.needs: list[frozenset[str]] = []

    def ask_keyframe(self, track: Track, now: float, urgent: bool = False) -> None:
        self.asked.append(track)

    def tick(self, now: float) -> bool:
        return False

    def retire(self) -> None: ...

    def need(self, layers: frozenset[Track]) -> None:
        self.needs.append(frozenset(t.rid for t in layers))


class Scene:
    """A stream with sound and two layers, 25 frames and 50 sounds a second, and a clock."""

    def __init__(self) -> None:
        self.port = FakePort()
        self.sound = Track(Format("audio", "OPUS"), SOUND)
        self.low = Track(Format("video", "VP8"), LOW, "q")
        self.top = Track(Format("video", "VP8"), TOP, "f")
        self.stream = Stream("x", [self.sound, self.low, self.top], self.port)
        self.upstream = Upstream()
        self.stream.fed_by(self.upstream)
        self.now = 100.0
        self.frame = 0
        self.keyframes: set[Track] = {self.low, self.top}

    def viewer(self, is_relay: bool = False) -> Viewer:
        video = Leg("1", Format("video", "VP8"), 96, {}, 97, TOP, 0xC0)
        if is_relay:
            layers = (Layer("q", LOW, 0xC1), Layer("f", TOP, 0xC0))
            video = Leg("1", Format("video", "VP8"), 96, {}, 97, TOP, 0xC0, layers=layers)
        legs = {"audio": Leg("0", Format("audio", "OPUS"), 111, {}), "video": video}
        return Viewer(self.stream, cast(Peer, FakePeer()), legs, is_relay)

    def got(self, viewer: Viewer) -> list[bytes]:
        assert viewer.peer.target is not None
        return self.port.fake.sent.get(viewer.peer.target, [])

    def run(self, frames: int, loss: frozenset[int] = frozenset()) -> None:
        for _ in range(frames):
            self.now += 0.04
            self.frame += 1
            for half in range(2):
                self.put(
                    self.sound, 2 * self.frame + half, 960 * (2 * self.frame + half), b"s" * 80
                )
            for track, size, base in ((self.low, 600, 30_000), (self.top, 1100, 65_500)):
                key = track in self.keyframes
                self.keyframes.discard(track)
                count = 1 if track is self.low else 3
                for part in range(count):
                    n = self.frame * count + part
                    descriptor = bytes([0x90 if part == 0 else 0x80, 0xC0])
                    descriptor += (0x8000 | self.frame & 0x7FFF).to_bytes(2, "big")
                    descriptor += bytes([self.frame & 0xFF, 0 if key else 1])
                    if track is self.top and n in loss:
                        continue
                    self.put(track, base + n & 0xFFFF, 3600 * self.frame, descriptor + bytes(size))
            self.flush()

    def put(self, track: Track, seq: int, timestamp: int, payload: bytes) -> None:
        data = bytes([0x80, 96]) + seq.to_bytes(2, "big") + timestamp.to_bytes(4, "big")
        data += track.ssrc.to_bytes(4, "big") + payload
        kept = track.insert(data, rtp.parse(data, IDS), track.ssrc, 0, self.now)
        if kept is not None:
            self.stream.push(track, kept)

    def flush(self) -> None:
        for _ in self.stream.flush(self.now):
            pass
        self.stream.tick(self.now)
        # Those who catch up are served in later ticks, and join with the next flush.
        self.stream.tick(self.now)

    def estimate(self, viewer: Viewer, *bitrates_bps: int) -> None:
        """The last one comes with a report that a quarter was lost in the second before."""
        block = rtcp.ReportBlock(TOP, 0, 0, 1000, 0, 0, 0)
        viewer.on_rtcp(rtcp.receiver_report(1, [block]), self.now)
        self.now += 1.0
        for bitrate in bitrates_bps:
            self.now += 0.01
            viewer.on_rtcp(rtcp.remb(1, bitrate, [TOP]), self.now)
        block = rtcp.ReportBlock(TOP, 64, 25, 1100, 0, 0, 0)
        viewer.on_rtcp(rtcp.receiver_report(1, [block]), self.now)


def ssrc(data: bytes) -> int:
    return int.from_bytes(data[8:12], "big")


def pictures(packets: list[bytes]) -> list[tuple[int, int]]:
    """(sequence, size) of the video packets, in the order sent."""
    return [(p[2] << 8 | p[3], len(p)) for p in packets if ssrc(p) == TOP]


def gaps(numbers: list[int]) -> list[int]:
    return [b - a & 0xFFFF for a, b in pairwise(numbers) if b - a & 0xFFFF != 1]


def settle(scene: Scene, seconds: float) -> None:
    """Run, answering keyframe requests as a publisher would."""
    for _ in range(int(seconds * 25)):
        scene.keyframes.update(scene.upstream.asked)
        scene.upstream.asked.clear()
        scene.run(1)


def test_a_viewer_climbs_to_the_top_layer_on_one_line_of_numbers() -> None:
    scene = Scene()
    viewer = scene.viewer()
    settle(scene, 0.5)
    scene.stream.add_viewer(viewer, now=scene.now)
    settle(scene, 6)
    shown = pictures(scene.got(viewer))
    assert viewer.layer is scene.top
    assert shown[0][1] < 700 < 1000 < shown[-1][1]
    assert gaps([n for n, _ in shown]) == []
    ids = [rtp.vp8_ids(p, rtp.payload_offset(p)) for p in scene.got(viewer) if ssrc(p) == TOP]
    running = [i.picture for i in ids if i is not None]
    assert {b - a & 0x7FFF for a, b in pairwise(running)} <= {0, 1}


def test_a_layer_is_taken_up_at_its_keyframe_and_not_before() -> None:
    scene = Scene()
    viewer = scene.viewer()
    settle(scene, 0.5)
    scene.stream.add_viewer(viewer, now=scene.now)
    scene.run(100)
    assert scene.upstream.asked
    assert {size for _, size in pictures(scene.got(viewer))} == {20 + 606}
    scene.keyframes.add(scene.top)
    scene.run(2)
    first_large = next(p for p in scene.got(viewer) if ssrc(p) == TOP and len(p) > 1000)
    assert rtp.keyframe_detector("VP8")(first_large, rtp.payload_offset(first_large))


def test_a_thin_line_goes_down_and_sound_never_misses_a_packet() -> None:
    scene = Scene()
    viewer = scene.viewer()
    settle(scene, 0.5)
    scene.stream.add_viewer(viewer, now=scene.now)
    settle(scene, 6)
    scene.estimate(viewer, 1_000_000, 250_000)
    settle(scene, 1)
    assert viewer.layer is scene.low
    scene.estimate(viewer, 250_000, 60_000)
    settle(scene, 1)
    assert viewer.layer is None
    assert viewer.sound_only
    settle(scene, 12)
    heard = [p[2] << 8 | p[3] for p in scene.got(viewer) if ssrc(p) == SOUND]
    assert gaps(heard) == []
    assert len(heard) > 19 * 50
    assert gaps([n for n, _ in pictures(scene.got(viewer))]) == []


def test_another_viewer_is_not_touched() -> None:
    scene = Scene()
    thin, other = scene.viewer(), scene.viewer()
    settle(scene, 0.5)
    scene.stream.add_viewer(thin, now=scene.now)
    scene.stream.add_viewer(other, now=scene.now)
    settle(scene, 6)
    scene.estimate(thin, 1_000_000, 60_000)
    settle(scene, 3)
    assert other.layer is scene.top
    assert gaps([n for n, _ in pictures(scene.got(other))]) == []


def test_what_a_viewer_asks_for_again_comes_from_the_layer_it_saw() -> None:
    scene = Scene()
    viewer = scene.viewer()
    settle(scene, 0.5)
    scene.stream.add_viewer(viewer, now=scene.now)
    settle(scene, 6)
    sent = [p for p in scene.got(viewer) if ssrc(p) == TOP]
    turn = next(i for i, p in enumerate(sent) if len(p) > 1000)
    wanted = [sent[turn - 1], sent[turn], sent[-1]]
    scene.got(viewer).clear()
    numbers = [p[2] << 8 | p[3] for p in wanted]
    viewer.on_rtcp(rtcp.nack(1, TOP, numbers), scene.now)
    repeats = scene.got(viewer)
    assert [p[1] & 0x7F for p in repeats] == [97, 97, 97]
    assert [ssrc(p) for p in repeats] == [0xC0, 0xC0, 0xC0]
    # RFC 4588: the original sequence number, then the original payload.
    start = rtp.payload_offset(wanted[0])
    assert [p[start : start + 2] + p[start + 2 :] for p in repeats] == [
        p[2:4] + p[start:] for p in wanted
    ]


def test_a_late_packet_from_before_a_change_is_not_sent_under_anothers_number() -> None:
    scene = Scene()
    viewer = scene.viewer()
    settle(scene, 0.5)
    scene.stream.add_viewer(viewer, now=scene.now)
    settle(scene, 1)
    lost = 3 * (scene.frame + 3)
    while viewer.layer is not scene.top:
        lost = 3 * (scene.frame + 1)
        scene.keyframes.update(scene.upstream.asked)
        scene.upstream.asked.clear()
        scene.run(1, loss=frozenset({lost, lost + 1, lost + 2} if not scene.keyframes else ()))
    start = viewer.lane.current
    assert start is not None
    scene.run(3)
    before = len(pictures(scene.got(viewer)))
    late = start.start - 1
    scene.put(scene.top, late & 0xFFFF, 3600 * (scene.frame - 9), b"\x80\xc0\x80\x01\x01\x01late")
    scene.flush()
    assert len(pictures(scene.got(viewer))) == before


def test_reports_to_a_viewer_tell_the_time_of_its_own_line() -> None:
    scene = Scene()
    viewer = scene.viewer()
    settle(scene, 0.5)
    for track, at in ((scene.low, 3600), (scene.top, 3600)):
        track.clock = SenderClock(5 << 32, at, 100.04)
    scene.stream.add_viewer(viewer, now=scene.now)
    settle(scene, 9)
    assert viewer.peer.target is not None
    reports = [
        r
        for compound in scene.port.fake.control[viewer.peer.target]
        for r in rtcp.parse(compound)
        if isinstance(r, rtcp.SenderReport)
    ]
    assert {r.ssrc for r in reports} == {TOP}
    # Both layers have the same clock here, so the line's time is 90 kHz from first to last.
    first, last = reports[0], reports[-1]
    gone_s = (last.ntp - first.ntp) / (1 << 32)
    assert abs((last.rtp_timestamp - first.rtp_timestamp) / 90_000 - gone_s) < 0.001


def test_a_node_gets_the_layers_it_takes_under_their_own_numbers() -> None:
    scene = Scene()
    node = scene.viewer(is_relay=True)
    node.takes = frozenset({"q"})
    settle(scene, 0.5)
    scene.stream.add_viewer(node, now=scene.now)
    settle(scene, 1)
    assert {ssrc(p) for p in scene.got(node)} == {SOUND, LOW}
    scene.stream.take(node, ["q", "f"], now=scene.now)
    settle(scene, 1)
    top = [p for p in scene.got(node) if ssrc(p) == TOP]
    assert rtp.keyframe_detector("VP8")(top[0], rtp.payload_offset(top[0]))
    assert top[-1][2] << 8 | top[-1][3] == scene.top.highest & 0xFFFF
    scene.stream.take(node, ["f"], now=scene.now)
    settle(scene, 0.2)
    scene.got(node).clear()
    settle(scene, 1)
    assert {ssrc(p) for p in scene.got(node)} == {SOUND, TOP}


def test_a_layer_left_out_still_counts_on_for_srtp() -> None:
    """At most 2,048 numbers pass unseen: SRTP's own count must not miss a turn."""
    scene = Scene()
    node = scene.viewer(is_relay=True)
    settle(scene, 0.5)
    scene.stream.add_viewer(node, now=scene.now)
    settle(scene, 1)
    scene.stream.take(node, ["q"], now=scene.now)
    settle(scene, 0.1)
    scene.got(node).clear()
    settle(scene, 120)
    seen = [p[2] << 8 | p[3] for p in scene.got(node) if ssrc(p) == TOP]
    assert 3 <= len(seen) <= 6
    assert all(step < 2200 for step in gaps(seen))


def test_upstream_hears_which_layers_are_watched() -> None:
    scene = Scene()
    viewer, node = scene.viewer(), scene.viewer(is_relay=True)
    node.takes = frozenset({"q"})
    settle(scene, 0.5)
    scene.stream.add_viewer(node, now=scene.now)
    settle(scene, 3)
    assert scene.upstream.needs[-1] == {"q"}
    scene.stream.add_viewer(viewer, now=scene.now)
    settle(scene, 4)
    assert scene.upstream.needs[-1] == {"q", "f"}
    scene.stream.remove_viewer(viewer)
    settle(scene, 3)
    assert scene.upstream.needs[-1] == {"q"}


def test_one_layer_alone_goes_out_as_it_came() -> None:
    """The common case costs nothing: no offsets, no other SSRC, one group for all."""
    port = FakePort()
    track = Track(Format("video", "VP8"), TOP)
    scene = Scene()
    scene.stream = Stream("y", [scene.sound, track], port)
    scene.low, scene.top, scene.port = track, track, port
    viewers = [scene.viewer(), scene.viewer(is_relay=True)]
    scene.keyframes = {track}
    for i in range(1, 5):
        scene.now += 0.04
        scene.put(track, i, 3600 * i, bytes([0x90, 0xC0, 0x80, i, i, i != 1]) + b"x" * 50)
        scene.flush()
        if i == 1:
            for viewer in viewers:
                scene.stream.add_viewer(viewer, now=scene.now)
    sent = [scene.got(v) for v in viewers]
    assert sent[0] == sent[1]
    assert [p[2] << 8 | p[3] for p in sent[0]] == [1, 2, 3, 4]


def test_a_layer_that_is_held_here_is_asked_for_without_a_viewer() -> None:
    """A recorder reads the ring and is no viewer."""
    scene = Scene()
    scene.stream.held = frozenset({scene.top})
    settle(scene, 1)
    assert scene.upstream.needs[-1] == {"f"}
    scene.stream.held = frozenset({scene.low})
    settle(scene, 4)
    assert scene.upstream.needs[-1] == {"q"}


def test_while_a_fall_of_the_estimate_is_in_doubt_the_picture_leaves_room_for_the_sound() -> None:
    """A line full of picture drops sound as well, until its second fall proves it. If none comes,
    the picture goes on where it was held, without a gap.
    """
    scene = Scene()
    viewer = scene.viewer()
    settle(scene, 0.5)
    scene.stream.add_viewer(viewer, now=scene.now)
    settle(scene, 6)
    viewer.on_rtcp(rtcp.remb(1, 2_000_000, [TOP]), scene.now)
    before, pictures_before = len(scene.got(viewer)), len(pictures(scene.got(viewer)))
    viewer.on_rtcp(rtcp.remb(1, 200_000, [TOP]), scene.now)
    settle(scene, 0.8)
    sent = scene.got(viewer)[before:]
    held_bps = 8 * sum(size for _, size in pictures(sent)) / 0.8
    assert held_bps < 250_000 < 0.5 * scene.top.known_bps
    assert sum(ssrc(p) == SOUND for p in sent) >= 0.7 * 50
    for _ in range(100):
        settle(scene, 0.04)
        for step in range(1, 8):
            scene.stream.tick(scene.now + 0.005 * step)
    assert viewer.layer is scene.top
    assert viewer.group is not None
    numbers = [n for n, _ in pictures(scene.got(viewer))[pictures_before - 1 :]]
    assert gaps(numbers) == []
    assert numbers[-1] == pictures(scene.got(viewer))[-1][0]
