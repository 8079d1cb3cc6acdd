"""The recorder's reader: order, holes, layers. Tracks are the relay's own; no socket is opened."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest

from media.tap import MAX_WAITING, REPAIR_WAIT_S, Begin, Reader, Taken
from relay import packet as rtp
from relay.port import Port
from relay.sdp import Format
from relay.stream import Stream
from relay.track import SenderClock, Track
from tests.media.kept import VP8_BEGIN, VP8_DELTA, VP8_KEY


class Loop:
    """Calls at once."""

    def call_soon_threadsafe(self, call: Callable[[], object]) -> None:
        call()


class Quiet:
    """A port that sends nothing."""

    fanout: Any = None

    def mark(self, forwarder: Stream) -> None: ...

    def hurry(self) -> None: ...


class Asked:
    """Where a stream's packets come from: notes what is asked for."""

    def __init__(self) -> None:
        self.keyframes: list[str] = []

    def ask_keyframe(self, track: Track, now: float, urgent: bool = False) -> None:
        self.keyframes.append(track.rid)

    def tick(self, now: float) -> bool:
        return False

    def need(self, layers: frozenset[Track]) -> None: ...

    def retire(self) -> None: ...


class Scene:
    """A stream with sound and a picture in two layers, and a reader of it."""

    def __init__(self) -> None:
        self.sound = Track(Format("audio", "OPUS"), 1)
        self.low = Track(Format("video", "VP8"), 2, "q")
        self.top = Track(Format("video", "VP8"), 3, "f")
        self.stream = Stream("x", [self.sound, self.low, self.top], Quiet())
        self.asked = Asked()
        self.stream.fed_by(self.asked)
        self.reader = Reader(cast(Any, Loop()), cast(Port, Quiet()))
        self.reader.follow(self.stream)
        self.now = 50.0

    def put(self, track: Track, sequence: int, *, key: bool = False) -> None:
        """A packet comes; on a picture's track it is a whole frame."""
        payload = VP8_BEGIN + (VP8_KEY if key else VP8_DELTA)
        if track.kind == "audio":
            payload = b"\xfc" + bytes((sequence & 0xFF,))
        raw = bytes((0x80, 0xE0)) + (sequence & 0xFFFF).to_bytes(2, "big")
        raw += (3000 * sequence & 0xFFFFFFFF).to_bytes(4, "big") + b"\0\0\0\1" + payload
        parsed = rtp.parse(raw, rtp.ExtensionIds({}))
        track.insert(raw, parsed, track.ssrc, rtp.abs_send_time(self.now), self.now)

    def read(self, after_s: float = 0.1) -> list[Taken | Begin]:
        self.now += after_s
        self.reader.tick(self.now)
        return self.reader.take()

    def sequences(self, kind: str, after_s: float = 0.1) -> list[int | None]:
        """Sequence numbers of what was read of a kind; None for a loss."""
        return [
            None if one.kept is None else int.from_bytes(one.kept[2:4], "big")
            for one in self.read(after_s)
            if isinstance(one, Taken) and one.kind == kind and one.report is None
        ]


def test_a_stream_begins_with_its_codecs() -> None:
    scene = Scene()
    assert scene.read() == [Begin({"audio": "OPUS", "video": "VP8"})]


def test_packets_are_read_in_order_and_once() -> None:
    scene = Scene()
    for sequence in (65533, 65535, 65534, 65536, 65537):
        scene.put(scene.sound, sequence)
    assert scene.sequences("audio") == [65533, 65534, 65535, 0, 1]
    assert scene.sequences("audio") == []


def test_a_hole_is_waited_for_until_it_will_not_be_filled() -> None:
    scene = Scene()
    for sequence in (10, 11, 13, 14):
        scene.put(scene.sound, sequence)
    assert scene.sequences("audio") == [10, 11]
    assert scene.sequences("audio", REPAIR_WAIT_S - 0.2) == []
    assert scene.sequences("audio", 0.2) == [None, 13, 14]
    assert scene.reader.lost == 1


def test_a_hole_that_is_repaired_is_none() -> None:
    scene = Scene()
    for sequence in (10, 11, 13, 14):
        scene.put(scene.sound, sequence)
    assert scene.sequences("audio") == [10, 11]
    scene.now += 1
    scene.put(scene.sound, 12)
    assert scene.sequences("audio") == [12, 13, 14]
    assert scene.reader.lost == 0


def test_what_the_ring_has_lost_is_a_loss() -> None:
    """The reader's thread was held up for longer than the ring reaches back."""
    scene = Scene()
    scene.put(scene.sound, 1)
    scene.read()
    for sequence in range(2, 1000):
        scene.put(scene.sound, sequence)
    seen = scene.sequences("audio")
    assert seen[0] is None
    assert seen[1:] == list(range(1000 - len(seen) + 1, 1000))


def test_a_sender_report_comes_before_the_packets_after_it() -> None:
    scene = Scene()
    scene.put(scene.sound, 1)
    scene.read()
    scene.sound.clock = SenderClock(7 << 32, 55, scene.now)
    scene.put(scene.sound, 2)
    first, second = scene.read()
    assert isinstance(first, Taken)
    assert first.report is not None
    assert (first.report.ntp, first.report.timestamp) == (7 << 32, 55)
    assert isinstance(second, Taken)
    assert second.kept is not None


def test_the_largest_layer_is_read_and_held() -> None:
    scene = Scene()
    scene.put(scene.low, 100, key=True)
    scene.put(scene.top, 200, key=True)
    assert scene.sequences("video") == [200]
    assert scene.stream.held == {scene.top}


def test_a_layer_that_falls_silent_is_left_for_a_smaller_one_and_taken_again() -> None:
    scene = Scene()
    scene.put(scene.top, 200, key=True)
    assert scene.sequences("video") == [200]
    begins: list[int] = []
    seen: list[int | None] = []

    def go_on(steps: int, *tracks: Track) -> None:
        for _ in range(steps):
            number = round(scene.now * 10)
            for track in tracks:
                scene.put(track, number, key=number % 10 == 0)
            for one in scene.read():
                if isinstance(one, Begin):
                    begins.append(number)
                elif one.kept is not None and one.kind == "video":
                    seen.append(int.from_bytes(one.kept[2:4], "big"))
                    ssrcs.append(int.from_bytes(one.kept[8:12], "big"))

    ssrcs: list[int] = []
    go_on(60, scene.low)
    assert len(begins) == 1
    assert set(ssrcs) == {scene.low.ssrc}
    assert scene.stream.held == {scene.low}
    # A beginning is a keyframe.
    assert seen[0] is not None
    assert seen[0] % 10 == 0
    go_on(60, scene.low, scene.top)
    assert len(begins) == 2
    assert ssrcs[-1] == scene.top.ssrc
    assert ssrcs == sorted(ssrcs)


def test_what_nobody_takes_is_dropped_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("media.tap.MAX_WAITING", 5)
    assert MAX_WAITING > 5
    scene = Scene()
    for sequence in range(20):
        scene.put(scene.sound, sequence)
    assert len(scene.read()) == 5
    assert scene.reader.overrun == 16
