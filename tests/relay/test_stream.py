"""A stream and its viewers: who gets which packets when, with a port that only writes it down."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from types import SimpleNamespace
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay import packet as rtp
from relay import rtcp
from relay.fanout import Fanout, Group, Target
from relay.packet import ExtensionIds
from relay.peer import Peer
from relay.rtcp import Bye, ReportBlock, SenderReport
from relay.sdp import Format, Leg
from relay.stream import (
    CATCH_UP_PACKETS,
    COLD_S,
    KEYFRAME_EVERY_S,
    MAX_PENDING,
    REPORT_EVERY_S,
    Stream,
)
from relay.track import MAX_KEYFRAME_AGE_S, SenderClock, Track
from relay.viewer import REPAIR_BURST, REPAIR_PER_S, REPLAY_WINDOW, Viewer
from tests.relay import rows

AUDIO_SSRC, VIDEO_SSRC, RTX_SSRC = 11, 22, 33
AUDIO_TYPE, VIDEO_TYPE, RTX_TYPE = 111, 96, 97
IDS = ExtensionIds({})


class Recorder:
    """Writes down what the real fan-out would send, and yields after each member of a group."""

    def __init__(self) -> None:
        self.rtp: dict[Target, list[bytes]] = {}
        self.rtcp: list[tuple[Target, bytes]] = []

    def send(
        self, group: Group, packets: list[bytes], shifted: list[bool], vp8: bool
    ) -> Iterator[None]:
        members = list(group.targets)
        for target in members:
            # What the real one cannot bear: its lists are made for the members at the start.
            assert group.targets == members
            assert group.overhead == target.overhead
            self.rtp.setdefault(target, []).extend(packets)
            yield

    def send_to(self, target: Target, packets: list[bytes]) -> None:
        self.rtp.setdefault(target, []).extend(packets)

    def send_rtcp(self, targets: list[Target], compound: bytes) -> None:
        self.rtcp.extend((target, compound) for target in targets)


class Upstream:
    """A publisher that notes what it is asked for."""

    def __init__(self) -> None:
        self.asked_s: list[float] = []
        self.retired = False

    def retire(self) -> None:
        self.retired = True

    def ask_keyframe(self, track: Track, now: float, urgent: bool = False) -> None:
        assert track.kind == "video"
        self.asked_s.append(now)

    def tick(self, now: float) -> bool:
        return False

    def need(self, layers: frozenset[Track]) -> None:
        raise AssertionError("a picture of one layer is always needed")


class Scene:
    """A stream with sound and picture, its clock, and a port that runs its flushes by hand."""

    def __init__(self, *, audio: bool = True, video: bool = True) -> None:
        self.now = 1000.0
        self.wire = Recorder()
        self.fanout = cast(Fanout, self.wire)
        self.upstream = Upstream()
        self.hurried = 0
        self.marked = False
        self.job: Iterator[None] | None = None
        self.sound = Track(Format("audio", "OPUS"), AUDIO_SSRC)
        self.picture = Track(Format("video", "VP8"), VIDEO_SSRC)
        tracks = ([self.sound] if audio else []) + ([self.picture] if video else [])
        self.stream = Stream("class", tracks, self)
        self.stream.upstream = self.upstream
        self._audio_sequence = itertools.count(65530)
        self._video_sequence = itertools.count(65520)
        self._ports = itertools.count(1)
        self._frame = 0

    # What the stream wants of its port.

    def mark(self, forwarder: Stream) -> None:
        self.marked = True

    def hurry(self) -> None:
        self.hurried += 1

    # The forwarding thread, step by step.

    def say(self, count: int = 1) -> None:
        """Sound arrives."""
        for _ in range(count):
            self._put(self.sound, next(self._audio_sequence), rows.OPUS)

    def show(self, packets: int = 1, *, key: bool = False) -> None:
        """A frame arrives, in so many packets."""
        self._frame += 1
        for number in range(packets):
            first = rows.VP8_KEY if key else rows.VP8_DELTA
            self._put(self.picture, next(self._video_sequence), rows.VP8_MORE if number else first)

    def skip(self) -> int:
        """A video packet is lost; returns its number."""
        return next(self._video_sequence) & 0xFFFF

    def late(self, sequence: int) -> None:
        """A lost video packet comes after all."""
        self._put(self.picture, sequence, rows.VP8_MORE)

    def _put(self, track: Track, sequence: int, payload: bytes) -> None:
        timestamp = 3600 * self._frame if track is self.picture else 960 * sequence
        data = rows.packet(sequence & 0xFFFF, timestamp & 0xFFFFFFFF, payload, ssrc=track.ssrc + 90)
        kept = track.insert(data, rtp.parse(data, IDS), track.ssrc + 90, 0, self.now)
        assert kept is not None
        self.stream.push(track, kept)

    def step(self) -> None:
        """Begin the next flush, or go on with the one that is under way."""
        if self.job is None:
            if not self.marked:
                return
            self.marked = False
            self.job = self.stream.flush(self.now)
        if next(self.job, "over") == "over":
            self.job = None

    def flush(self) -> None:
        """Let everything that has arrived be sent."""
        while self.job is not None or self.marked:
            self.step()

    def tick(self, seconds: float = 0.005) -> bool:
        """Time passes and what is due is done."""
        self.now += seconds
        return self.stream.tick(self.now)

    def settle(self) -> None:
        """Let joiners catch up and go live with the next packets."""
        for _ in range(2):
            while self.tick():
                pass
            self.say()
            self.flush()

    # Viewers and what they got.

    def viewer(
        self,
        *,
        rtx: bool = True,
        video: bool = True,
        video_type: int = VIDEO_TYPE,
        overhead: int = 16,
        relay: bool = False,
    ) -> Viewer:
        """Somebody with an answered offer, not yet added."""
        target = Target(None, overhead, ("127.0.0.1", next(self._ports)))
        legs = {"audio": Leg("0", self.sound.format, AUDIO_TYPE, {1: rtp.ABS_SEND_TIME})}
        if video:
            legs["video"] = Leg(
                "1",
                self.picture.format,
                video_type,
                {2: rtp.ABS_SEND_TIME},
                rtx_type=RTX_TYPE if rtx else -1,
                rtx_ssrc=RTX_SSRC if rtx else 0,
            )
        peer = cast(Peer, SimpleNamespace(target=target))
        return Viewer(self.stream, peer, legs, is_relay=relay)

    def join(self, viewer: Viewer | None = None) -> Viewer:
        """Add a viewer now."""
        viewer = viewer or self.viewer()
        self.stream.add_viewer(viewer, now=self.now)
        return viewer

    def got(self, viewer: Viewer) -> list[bytes]:
        target = viewer.peer.target
        assert target is not None
        return self.wire.rtp.get(target, [])

    def sequences(self, viewer: Viewer, ssrc: int) -> list[int]:
        return [rows.numbers(p)[0] for p in self.got(viewer) if p[8:12] == ssrc.to_bytes(4, "big")]

    def pictures(self, viewer: Viewer) -> list[int]:
        return self.sequences(viewer, VIDEO_SSRC)

    def sounds(self, viewer: Viewer) -> list[int]:
        return self.sequences(viewer, AUDIO_SSRC)

    def reports(self, viewer: Viewer) -> list[bytes]:
        return [data for target, data in self.wire.rtcp if target is viewer.peer.target]

    def newest(self, track: Track) -> int:
        return track.highest & 0xFFFF


def unbroken(first: int, last: int) -> list[int]:
    """The sequence numbers from one to another, across the wrap."""
    return [(first + step) & 0xFFFF for step in range(((last - first) & 0xFFFF) + 1)]


# ---------------------------------------------------------------- joining


def test_a_joiner_starts_at_the_last_keyframe_and_goes_live_without_gap_or_duplicate() -> None:
    """It need not wait for the next keyframe, and gets each packet from there on exactly once."""
    scene = Scene()
    scene.show(3, key=True)
    scene.show(3)
    scene.show(4, key=True)
    start = scene.picture.keyframe_position & 0xFFFF
    scene.show(2)
    scene.say(2)
    scene.flush()
    viewer = scene.join()
    assert scene.hurried == 1
    assert scene.tick() is False
    assert scene.pictures(viewer) == unbroken(start, scene.newest(scene.picture))
    assert scene.sounds(viewer) == []
    for _ in range(5):
        scene.show(2)
        scene.say()
        scene.flush()
        scene.tick()
    assert scene.pictures(viewer) == unbroken(start, scene.newest(scene.picture))
    assert len(scene.sounds(viewer)) == 5
    assert scene.upstream.asked_s == []


def test_a_long_beginning_is_paced_while_the_stream_goes_on() -> None:
    """At most so many packets each 5 ms; what arrives meanwhile is caught up with as well."""
    scene = Scene()
    scene.show(100, key=True)
    start = scene.picture.keyframe_position & 0xFFFF
    scene.flush()
    viewer = scene.join()
    before, ticks = 0, 0
    while scene.tick():
        ticks += 1
        sent = len(scene.got(viewer))
        assert 0 < sent - before <= CATCH_UP_PACKETS
        before = sent
        scene.show(2)
        scene.flush()
    assert ticks >= 100 // CATCH_UP_PACKETS
    scene.show(1)
    scene.flush()
    scene.show(1)
    scene.flush()
    assert scene.pictures(viewer) == unbroken(start, scene.newest(scene.picture))


def test_a_joiner_without_a_keyframe_gets_sound_and_waits_for_the_picture() -> None:
    """One request goes up at once, and the next keyframe is the beginning."""
    scene = Scene()
    scene.show(2)
    scene.say()
    scene.flush()
    viewer = scene.join()
    assert scene.upstream.asked_s == [scene.now]
    first = scene.newest(scene.sound) + 1
    for _ in range(3):
        scene.show(2)
        scene.say()
        scene.flush()
        scene.tick()
    assert scene.pictures(viewer) == []
    assert scene.sounds(viewer) == unbroken(first, scene.newest(scene.sound))
    scene.show(3, key=True)
    scene.say()
    scene.flush()
    scene.tick()
    start = scene.picture.keyframe_position & 0xFFFF
    for _ in range(3):
        scene.show(2)
        scene.say()
        scene.flush()
        scene.tick()
    assert scene.pictures(viewer) == unbroken(start, scene.newest(scene.picture))
    assert scene.sounds(viewer) == unbroken(first, scene.newest(scene.sound))
    assert len(scene.upstream.asked_s) == 1


def test_a_keyframe_that_is_too_old_is_waited_out() -> None:
    """A burst of seconds of stale picture would be worse than waiting for a new one."""
    scene = Scene()
    scene.show(3, key=True)
    scene.flush()
    scene.now += MAX_KEYFRAME_AGE_S + 0.1
    viewer = scene.join()
    scene.settle()
    assert scene.pictures(viewer) == []
    assert len(scene.upstream.asked_s) == 1


def test_a_keyframe_whose_first_packet_had_come_before_the_join_is_taken() -> None:
    """A delimiter says nothing; that it began a keyframe is known with the next packet."""
    scene = Scene(audio=False)
    track = Track(Format("video", "H264"), VIDEO_SSRC)
    scene.picture, scene.stream = track, Stream("class", [track], scene)
    scene.stream.upstream = scene.upstream
    scene._put(track, 10, rows.H264_AUD)
    scene.flush()
    viewer = scene.join()
    scene._put(track, 11, rows.H264_SPS)
    scene._put(track, 12, rows.H264_IDR)
    scene.flush()
    scene.tick()
    assert scene.pictures(viewer) == [10, 11, 12]


def test_a_stream_of_sound_only_is_joined_at_once() -> None:
    """Nothing to wait for."""
    scene = Scene(video=False)
    scene.say(3)
    scene.flush()
    viewer = scene.join()
    scene.say(2)
    scene.flush()
    assert scene.sounds(viewer) == [65533, 65534]


def test_a_viewer_without_picture_does_not_wait_for_one() -> None:
    """A radio: no keyframe is asked for on its behalf."""
    scene = Scene()
    scene.show(2)
    scene.say()
    scene.flush()
    viewer = scene.join(scene.viewer(video=False))
    scene.show(2)
    scene.say(2)
    scene.flush()
    assert scene.sounds(viewer) == [65531, 65532]
    assert scene.pictures(viewer) == []
    assert scene.upstream.asked_s == []


def test_a_joiner_before_the_first_packet_gets_everything() -> None:
    """The publisher is connected, and nothing has come yet."""
    scene = Scene()
    viewer = scene.join()
    scene.say(2)
    scene.show(3, key=True)
    scene.flush()
    scene.tick()
    scene.settle()
    assert scene.pictures(viewer) == unbroken(65520, 65522)
    assert scene.sounds(viewer) == unbroken(65530, scene.newest(scene.sound))


def test_what_waits_to_be_sent_is_bounded() -> None:
    """A fan-out that cannot keep up does not fill the memory."""
    scene = Scene()
    for _ in range(MAX_PENDING + 10):
        scene.stream.push(scene.sound, b"")
    assert len(scene.stream._pending) == MAX_PENDING


Step = tuple[str, int]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["say", "show", "key", "step", "step", "step", "tick", "tick", "join", "leave"]
        ),
        st.integers(0, 40),
    ),
    max_size=120,
)


@given(STEPS)
def test_whatever_happens_in_whatever_order_each_viewer_gets_an_unbroken_line(
    steps: list[Step],
) -> None:
    """Packets, half-sent batches, ticks, joins and leaves in any order: from its keyframe on each
    viewer gets every picture packet once, and from its join on every sound packet once.
    """
    scene = Scene()
    present: list[Viewer] = []
    everybody: list[Viewer] = []
    starts = set()
    for what, number in steps:
        match what:
            case "say":
                scene.say(number % 3 + 1)
            case "show":
                scene.show(number + 1)
            case "key":
                starts.add((scene.picture.highest + 1) & 0xFFFF if scene._frame else 65520)
                scene.show(number + 1, key=True)
            case "step":
                scene.step()
            case "tick":
                scene.tick()
            case "join":
                present.append(scene.join())
                everybody.append(present[-1])
            case "leave" if present:
                scene.stream.remove_viewer(present.pop(number % len(present)))
    scene.flush()
    for _ in range(3):
        scene.settle()
    for viewer in everybody:
        pictures, sounds = scene.pictures(viewer), scene.sounds(viewer)
        if pictures:
            assert pictures[0] in starts
            assert pictures == unbroken(pictures[0], pictures[-1])
        if sounds:
            assert sounds == unbroken(sounds[0], sounds[-1])
    for viewer in present:
        assert scene.sounds(viewer)[-1] == scene.newest(scene.sound)
        if pictures := scene.pictures(viewer):
            assert pictures[-1] == scene.newest(scene.picture)
        else:
            assert viewer in scene.stream._waiting
    assert scene.stream.viewers == set(present)


# ---------------------------------------------------------------- leaving


def test_a_viewer_that_is_removed_while_a_batch_is_being_sent_leaves_after_it() -> None:
    """The group must not change under the fan-out; the recorder fails if it does."""
    scene = Scene()
    scene.show(1, key=True)
    scene.flush()
    viewers = [scene.join() for _ in range(4)]
    scene.settle()
    scene.show(2)
    scene.step()
    scene.stream.remove_viewer(viewers[2])
    scene.stream.remove_viewer(viewers[0])
    scene.flush()
    counts = [len(scene.got(viewer)) for viewer in viewers]
    assert len(set(counts)) == 1
    scene.show(2)
    scene.flush()
    assert [len(scene.got(v)) - n for v, n in zip(viewers, counts, strict=True)] == [0, 2, 0, 2]
    assert scene.stream.viewers == {viewers[1], viewers[3]}


def test_a_viewer_can_be_removed_at_any_stage() -> None:
    """While it catches up, while it waits, while it is live, twice, and if it was never added."""
    scene = Scene()
    waiting = scene.join()
    scene.show(60, key=True)
    scene.flush()
    catching_up = scene.join()
    scene.tick()
    live = scene.join(scene.viewer(video=False))
    scene.settle()
    never = scene.viewer()
    for viewer in (waiting, catching_up, live, never, live):
        scene.stream.remove_viewer(viewer)
    before = {target: len(packets) for target, packets in scene.wire.rtp.items()}
    scene.settle()
    assert {target: len(packets) for target, packets in scene.wire.rtp.items()} == before
    assert scene.stream.viewers == set()
    assert not scene.stream._groups
    assert not scene.stream._catching_up
    assert not scene.stream._waiting


def test_a_viewer_removed_before_its_turn_to_join_does_not_come_in() -> None:
    """Its join waits for the end of a batch, and it is gone by then."""
    scene = Scene()
    scene.show(1, key=True)
    scene.flush()
    scene.join()
    scene.join()
    scene.settle()
    scene.now += MAX_KEYFRAME_AGE_S + 1
    scene.show(1)
    scene.step()
    late = scene.join()
    scene.stream.remove_viewer(late)
    scene.flush()
    scene.settle()
    assert scene.got(late) == []
    assert late.group is None


def test_all_are_told_when_the_stream_ends() -> None:
    """RTCP BYE of both tracks, after an empty report as RFC 3550 section 6.1 wants it."""
    scene = Scene()
    viewers = [scene.join(), scene.join()]
    scene.stream.goodbye()
    for viewer in viewers:
        (data,) = scene.reports(viewer)
        parsed = rtcp.parse(data)
        assert not parsed.malformed
        assert parsed[-1] == Bye([AUDIO_SSRC, VIDEO_SSRC])


# ---------------------------------------------------------------- a node that changes parents


def relay_with(scene: Scene, sound: int, picture: int) -> Viewer:
    """A node that has everything up to these numbers."""
    viewer = scene.viewer(relay=True)
    have = {AUDIO_SSRC: sound & 0xFFFF, VIDEO_SSRC: picture & 0xFFFF}
    scene.stream.add_viewer(viewer, have, scene.now)
    return viewer


def test_a_node_from_another_parent_goes_on_where_it_stopped() -> None:
    """The same packets under the same numbers: late, but whole, and no keyframe is asked for."""
    scene = Scene()
    scene.show(4, key=True)
    scene.show(20)
    scene.say(10)
    scene.flush()
    viewer = relay_with(scene, 65533, 65529)
    scene.settle()
    assert scene.pictures(viewer) == unbroken(65530, scene.newest(scene.picture))
    assert scene.sounds(viewer) == unbroken(65534, scene.newest(scene.sound))
    assert scene.upstream.asked_s == []


@pytest.mark.parametrize("ahead", [0, 1, 500])
def test_a_node_that_has_all_or_more_goes_live(ahead: int) -> None:
    """Its old parent may have been quicker than we are."""
    scene = Scene()
    scene.show(4, key=True)
    scene.say(2)
    scene.flush()
    viewer = relay_with(scene, scene.sound.highest + ahead, scene.picture.highest + ahead)
    scene.settle()
    scene.show(2)
    scene.flush()
    assert scene.pictures(viewer) == unbroken(65524, 65525)


def test_a_node_that_is_quicker_than_the_first_packet_goes_on_where_it_stopped() -> None:
    """We pull the stream for its sake, and it is connected before anything has come here."""
    scene = Scene()
    viewer = relay_with(scene, 65529, 65519)
    scene.say(10)
    scene.flush()
    scene.show(6)
    scene.flush()
    scene.settle()
    scene.show(6)
    scene.flush()
    assert scene.pictures(viewer) == unbroken(65520, scene.newest(scene.picture))
    assert scene.sounds(viewer) == unbroken(65530, scene.newest(scene.sound))
    assert scene.upstream.asked_s == []


def test_a_node_does_not_hold_its_place_for_ever() -> None:
    """The picture that it had comes back long after, as another one: from a keyframe on."""
    scene = Scene()
    viewer = relay_with(scene, 65529, 65519)
    scene.say(2)
    scene.flush()
    scene.tick(COLD_S + 0.1)
    scene.say()
    scene.flush()
    scene.show(3)
    scene.flush()
    scene.settle()
    assert scene.pictures(viewer) == []
    scene.show(2, key=True)
    scene.flush()
    scene.settle()
    assert scene.pictures(viewer) == unbroken(65523, 65524)


def test_a_node_that_leaves_before_anything_came_is_forgotten() -> None:
    """Nothing is sent to it, and nothing breaks."""
    scene = Scene()
    viewer = relay_with(scene, 65529, 65519)
    scene.stream.remove_viewer(viewer)
    scene.say(2)
    scene.show(3, key=True)
    scene.flush()
    scene.settle()
    assert scene.got(viewer) == []


def test_a_node_that_stopped_too_long_ago_begins_at_the_keyframe() -> None:
    """What it lacks has left the ring, or soon will."""
    scene = Scene()
    scene.show(4)
    for _ in range(10):
        scene.show(160)
    scene.show(5, key=True)
    start = scene.picture.keyframe_position & 0xFFFF
    scene.say()
    scene.flush()
    viewer = relay_with(scene, 65530, 65521)
    scene.settle()
    assert scene.pictures(viewer) == unbroken(start, scene.newest(scene.picture))


def test_a_node_that_had_another_stream_begins_at_the_keyframe() -> None:
    """Its numbers say nothing here."""
    scene = Scene()
    scene.show(4, key=True)
    scene.say()
    scene.flush()
    viewer = scene.viewer(relay=True)
    scene.stream.add_viewer(viewer, {77: 1, 78: 2}, scene.now)
    scene.settle()
    assert scene.pictures(viewer) == unbroken(65520, 65523)


# ---------------------------------------------------------------- keyframe requests


def pli(ssrc: int = VIDEO_SSRC) -> bytes:
    return rtcp.receiver_report(1, []) + rtcp.pli(1, ssrc)


def test_keyframe_requests_are_merged_to_one_a_second() -> None:
    """However many viewers ask how often; the request that waits is sent when its second is up."""
    scene = Scene()
    scene.show(2)
    scene.flush()
    viewers = [scene.viewer() for _ in range(5)]
    begun = scene.now
    for _ in range(350):
        for viewer in viewers:
            viewer.on_rtcp(pli(), scene.now)
        scene.tick(0.01)
    asked = [at - begun for at in scene.upstream.asked_s]
    assert asked == pytest.approx([0.0, 1.0, 2.0, 3.0], abs=0.05)
    assert viewers[0].keyframe_requests == 350


def test_a_keyframe_answers_all_requests_made_so_far() -> None:
    """Those that came while it was on its way as well."""
    scene = Scene()
    scene.show(2)
    scene.flush()
    viewer = scene.viewer()
    viewer.on_rtcp(pli(), scene.now)
    scene.tick(0.1)
    scene.show(2, key=True)
    scene.flush()
    viewer.on_rtcp(pli(), scene.now)
    for _ in range(30):
        scene.tick(0.1)
    assert len(scene.upstream.asked_s) == 1
    viewer.on_rtcp(pli(), scene.now)
    assert len(scene.upstream.asked_s) == 2


def test_without_a_source_or_a_picture_nothing_is_asked() -> None:
    """A request that nobody can answer is no error."""
    scene = Scene(video=False)
    scene.stream.request_keyframe(scene.now)
    assert scene.upstream.asked_s == []
    scene = Scene()
    scene.stream.upstream = None
    scene.stream.request_keyframe(scene.now)
    scene.tick(KEYFRAME_EVERY_S)


def test_a_full_intra_request_is_a_keyframe_request() -> None:
    """RFC 5104: what some encoders and older browsers send."""
    scene = Scene()
    fir = rows.row("84 ce 0004 00000001 00000000 | 00000016 01000000")
    scene.viewer().on_rtcp(fir, scene.now)
    assert len(scene.upstream.asked_s) == 1


def test_a_full_intra_request_of_a_node_is_not_held_back_for_a_second() -> None:
    """A programme above is about to be switched to this stream. A viewer's waits as others do."""
    for relay, asked in ((True, 2), (False, 1)):
        scene = Scene()
        scene.show(2)
        scene.flush()
        viewer = scene.viewer(relay=relay)
        viewer.on_rtcp(pli(), scene.now)
        scene.tick(0.3)
        fir = rtcp.receiver_report(1, []) + rtcp.fir(1, VIDEO_SSRC, 1)
        viewer.on_rtcp(fir, scene.now)
        viewer.on_rtcp(fir, scene.now)
        assert len(scene.upstream.asked_s) == asked


def test_a_node_that_does_not_get_a_layer_cannot_have_its_keyframes_made() -> None:
    """A stream that is pushed up in its smallest layer: the nodes above wait for the others."""
    scene = Scene()
    scene.show(2)
    scene.flush()
    viewer = scene.viewer(relay=True)
    viewer.takes = frozenset({"q"})
    viewer.on_rtcp(pli(), scene.now)
    assert scene.upstream.asked_s == []


# ---------------------------------------------------------------- repair


def live_viewer(scene: Scene, **options: bool) -> Viewer:
    """A viewer that has caught up with a running stream of 300 video packets."""
    viewer = scene.join(scene.viewer(**options))
    scene.show(2, key=True)
    scene.say()
    scene.flush()
    scene.settle()
    scene.show(298)
    scene.flush()
    scene.wire.rtp.clear()
    return viewer


def ask(viewer: Viewer, sequences: list[int], now: float, ssrc: int = VIDEO_SSRC) -> None:
    numbers = [sequence & 0xFFFF for sequence in sequences]
    viewer.on_rtcp(rtcp.receiver_report(1, []) + rtcp.nack(1, ssrc, numbers), now)


def test_a_lost_packet_is_repeated_by_rtx_where_that_was_agreed() -> None:
    """Another SSRC, another line of numbers, the original number before the payload (RFC 4588)."""
    scene = Scene()
    viewer = live_viewer(scene)
    ask(viewer, [65530, 65531], scene.now)
    first, second = scene.got(viewer)
    for data, original in ((first, 65530), (second, 65531)):
        assert data[1] & 0x7F == RTX_TYPE
        assert int.from_bytes(data[8:12], "big") == RTX_SSRC
        assert rows.payload(data) == original.to_bytes(2, "big") + rows.VP8_MORE
    assert (rows.numbers(first)[0] + 1) & 0xFFFF == rows.numbers(second)[0]
    assert (viewer.nacks, viewer.resent) == (2, 2)


def test_without_rtx_the_very_same_packet_is_sent_again() -> None:
    """Byte for byte as the viewer should have had it."""
    scene = Scene()
    viewer = live_viewer(scene, rtx=False)
    kept = scene.picture.get(scene.picture.position_of(65530))
    assert kept is not None
    ask(viewer, [65530], scene.now)
    assert scene.got(viewer) == [rtp.reshape(kept, viewer.shapes["video"])]


def test_lost_sound_is_repeated_as_well() -> None:
    """Each track is asked for by its own SSRC."""
    scene = Scene()
    viewer = live_viewer(scene)
    ask(viewer, [65530], scene.now, AUDIO_SSRC)
    (data,) = scene.got(viewer)
    assert (data[1] & 0x7F, rows.numbers(data)[0]) == (AUDIO_TYPE, 65530)


@pytest.mark.parametrize(
    ("sequences", "ssrc"),
    [
        pytest.param([65519], VIDEO_SSRC, id="from before the stream began"),
        pytest.param([2000], VIDEO_SSRC, id="from the future"),
        pytest.param([65530], 12345, id="of a track that is not there"),
        pytest.param([65530], RTX_SSRC, id="of the repair itself"),
    ],
)
def test_what_cannot_be_repeated_is_passed_over(sequences: list[int], ssrc: int) -> None:
    """No answer, and nothing breaks."""
    scene = Scene()
    viewer = live_viewer(scene)
    ask(viewer, sequences, scene.now, ssrc)
    assert scene.got(viewer) == []
    assert viewer.resent == 0


def test_without_rtx_nothing_is_sent_again_that_the_cipher_would_refuse() -> None:
    """libsrtp protects old numbers only within its window; RTX has numbers of its own."""
    scene = Scene()
    plain, modern = live_viewer(scene, rtx=False), scene.viewer()
    old = 65530
    scene.show(REPLAY_WINDOW - 400)
    scene.flush()
    scene.wire.rtp.clear()
    ask(plain, [old], scene.now)
    assert len(scene.got(plain)) == 1
    scene.show(200)
    scene.flush()
    scene.wire.rtp.clear()
    ask(plain, [old], scene.now)
    ask(modern, [old], scene.now)
    assert scene.got(plain) == []
    assert len(scene.got(modern)) == 1


def test_repeating_is_bounded_per_viewer_and_comes_back_with_time() -> None:
    """A viewer that asks for everything again and again cannot double its own stream for long."""
    scene = Scene()
    viewer = live_viewer(scene)
    everything = [65520 + step for step in range(300)]
    for _ in range(10):
        ask(viewer, everything, scene.now)
    assert viewer.resent == REPAIR_BURST == 300
    scene.now += 1.0
    ask(viewer, everything, scene.now)
    assert viewer.resent == REPAIR_BURST + REPAIR_PER_S
    assert viewer.nacks == 11 * 300
    scene.now += 3600.0
    for _ in range(10):
        ask(viewer, everything, scene.now)
    assert viewer.resent == 2 * REPAIR_BURST + REPAIR_PER_S


def test_a_node_may_ask_for_more_since_it_asks_for_many() -> None:
    """A whole gap after it has changed parents, and what all its viewers lost."""
    answered = []
    for relay in (False, True):
        scene = Scene()
        viewer = live_viewer(scene, relay=relay)
        for _ in range(20):
            ask(viewer, [65520 + step for step in range(300)], scene.now)
            scene.now += 0.4
        answered.append(viewer.resent)
    assert answered[0] <= REPAIR_BURST + 8.0 * REPAIR_PER_S
    assert answered[1] == 20 * 300


def test_a_repaired_packet_reaches_all_live_viewers_once() -> None:
    """It was missing here, so it was missing for everybody below."""
    scene = Scene()
    viewer = live_viewer(scene)
    lost = scene.skip()
    scene.show(2)
    scene.flush()
    scene.late(lost)
    scene.flush()
    assert scene.pictures(viewer) == [lost + 1, lost + 2, lost]


# ---------------------------------------------------------------- reports


def test_sender_reports_are_drawn_on_from_the_publishers_last() -> None:
    """To a joiner at once, to all every two seconds; time and timestamp move on together."""
    scene = Scene()
    scene.show(2, key=True)
    scene.say(3)
    scene.flush()
    early = scene.join()
    assert scene.reports(early) == []
    scene.sound.clock = SenderClock(100 << 32, 48_000, scene.now)
    scene.picture.clock = SenderClock(100 << 32, 0xFFFFFFF0, scene.now - 1.0)
    viewer = scene.join()
    (data,) = scene.reports(viewer)
    parsed = rtcp.parse(data)
    assert not parsed.malformed
    assert list(parsed) == [
        SenderReport(AUDIO_SSRC, 100 << 32, 48_000, 3, scene.sound.bytes),
        SenderReport(VIDEO_SSRC, 101 << 32, 90_000 - 16, 2, scene.picture.bytes),
    ]
    assert data.count(b"\x01\x05class") == 2
    scene.stream.clock_changed()
    for _ in range(410):
        scene.tick(0.01)
    assert len(scene.reports(early)) == 3
    assert len(scene.reports(viewer)) == 4
    last = rtcp.parse(scene.reports(viewer)[-1])[0]
    assert isinstance(last, SenderReport)
    gone = (last.ntp - (100 << 32)) / 2**32
    assert gone == pytest.approx(2 * REPORT_EVERY_S, abs=0.05)
    assert last.rtp_timestamp == pytest.approx(48_000 * (1 + gone), abs=1)


def test_what_a_viewer_reports_is_noted() -> None:
    """Loss, jitter, round trip and what its line carries."""
    scene = Scene()
    viewer = scene.join()
    scene.picture.clock = SenderClock(1000 << 32, 0, scene.now)
    lsr = 1000 << 16
    first = ReportBlock(VIDEO_SSRC, 0, 5, 100, 0, 0, 0)
    viewer.on_rtcp(rtcp.receiver_report(1, [first]), scene.now - 0.6)
    block = ReportBlock(VIDEO_SSRC, 255, 30, 200, 900, lsr, 65536 // 2)
    sound = ReportBlock(AUDIO_SSRC, 255, 5, 100, 48_000, 0, 0)
    stranger = ReportBlock(999, 255, 5, 100, 48_000, lsr, 0)
    data = rtcp.receiver_report(1, [sound, block, stranger]) + rtcp.remb(1, 750_000, [VIDEO_SSRC])
    viewer.on_rtcp(data, scene.now + 0.6)
    assert viewer.fraction_lost == 0.25
    assert viewer.jitter_s == pytest.approx(0.01)
    assert viewer.rtt_s == pytest.approx(0.1, abs=0.001)
    assert viewer.remb_bps == 750_000


@given(st.binary(max_size=200))
def test_any_control_packet_of_a_viewer_is_taken_or_counted(data: bytes) -> None:
    """Nothing is raised, and nothing but answers to real requests leaves."""
    scene = Scene()
    viewer = scene.viewer()
    viewer.on_rtcp(data, scene.now)
    viewer.on_rtp(data, scene.now)
    assert scene.wire.rtcp == []


def test_a_malformed_control_packet_is_counted() -> None:
    """What stands before the fault is still taken."""
    scene = Scene()
    viewer = scene.viewer()
    viewer.on_rtcp(pli() + b"\x81", scene.now)
    assert viewer.bad_rtcp == 1
    assert viewer.keyframe_requests == 1


def test_a_lossy_line_whose_receiver_reports_often_keeps_its_picture() -> None:
    """Chromium reports with each request for a repeat: a packet lost, of the three since then.

    With an estimate that fell once, for its machine was busy, that was taken for a full line, and
    the only picture there is was away for five seconds.
    """
    scene = Scene()
    viewer = scene.join()
    highest, lost = 1000, 0
    viewer.on_rtcp(rtcp.remb(1, 2_000_000, [VIDEO_SSRC]), scene.now)
    scene.picture.bitrate_bps = 1_000_000
    for number in range(100):
        scene.tick(0.05)
        if number == 50:
            viewer.on_rtcp(rtcp.remb(1, 480_000, [VIDEO_SSRC]), scene.now)
        highest += 7
        fraction = 0
        if number % 3 == 0:
            highest, lost, fraction = highest - 4, lost + 1, 85
        block = ReportBlock(VIDEO_SSRC, fraction, lost, highest, 0, 0, 0)
        viewer.on_rtcp(rtcp.receiver_report(1, [block]), scene.now)
        assert not viewer.sound_only
    assert 0.03 < viewer.fraction_lost < 0.08


def test_a_viewer_who_was_there_before_the_first_packet_gets_it_at_once() -> None:
    """Not with the next slow tick: along a tree that is just being opened each hop would add it."""
    scene = Scene()
    viewer = scene.join(scene.viewer(relay=True))
    scene.tick(0.1)
    before = scene.hurried
    scene.say()
    scene.flush()
    assert scene.hurried == before + 1
    scene.tick(0.0)
    assert len(scene.got(viewer)) == 1
    scene.say()
    scene.flush()
    assert scene.hurried == before + 1
    assert len(scene.got(viewer)) == 2
