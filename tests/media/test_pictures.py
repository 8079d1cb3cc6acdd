"""RTP packets to coded pictures and back: in order, whole, from a keyframe on."""

from __future__ import annotations

import random
from collections.abc import Iterable
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.encode import VideoEncoder
from media.pictures import GIVE_UP_S, Picture, Reader, Writer
from media.plan import Handling, VideoPlan, Wanted
from media.scaler import Vp8Encoder
from media.testcard import Card
from relay import packet as rtp
from relay.packet import ExtensionIds
from relay.sdp import Format
from relay.track import Track

IDS = ExtensionIds({})
SIZE = (320, 240)
FPS = 25
NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


def coded(codec: str, count: int, keyframes: Iterable[int] = (0,)) -> list[Picture]:
    """So many real coded pictures, with keyframes where they are asked for."""
    width, height = SIZE
    plan = VideoPlan(Handling.ENCODE, width, height, FPS, "")
    wanted = Wanted(video_bitrate_bps=800_000, keyframe_s=1e9)
    encoder = (
        VideoEncoder(plan, wanted, "ultrafast")
        if codec == "H264"
        else Vp8Encoder(width, height, 800_000)
    )
    card, pictures = Card(width, height), []
    for number in range(count):
        if number in keyframes:
            encoder.want_keyframe()
        for packet in encoder.encode(card.frame(number, NOON), number * 40_000):
            timestamp = (0xFFFFFFFF - 7200 + 3600 * number) & 0xFFFFFFFF
            pictures.append(Picture(timestamp, packet.is_keyframe, bytes(packet)))
    return pictures


class Way:
    """Packets of a writer on their way into a track, read as they come."""

    def __init__(self, codec: str) -> None:
        self.track = Track(Format("video", codec), 7)
        self.reader = Reader(self.track)
        self.now = 50.0
        self.read: list[Picture] = []

    def put(self, data: bytes) -> None:
        self.track.insert(data, rtp.parse(data, IDS), 9, 0, self.now)
        self.look()

    def look(self) -> None:
        self.read += self.reader.read(self.now)


@pytest.mark.parametrize("codec", ["H264", "VP8"])
def test_pictures_come_back_as_they_went(codec: str) -> None:
    """Over a wrap of sequence numbers and timestamps, out of order within each picture."""
    sent, way = coded(codec, 12, {0, 6}), Way(codec)
    writer, chance = Writer(codec, 9, 0xFFFC), random.Random(3)
    for picture in sent:
        packets = writer.packets(picture.data, picture.timestamp)
        assert max(map(len, packets)) <= 1312
        assert [p[1] >> 7 for p in packets] == [0] * (len(packets) - 1) + [1]
        if picture is not sent[0]:
            chance.shuffle(packets)
        for data in packets:
            way.put(data)
    assert [p.timestamp for p in way.read] == [p.timestamp for p in sent]
    assert [p.keyframe for p in way.read] == [p.keyframe for p in sent]
    if codec == "VP8":
        assert [p.data for p in way.read] == [p.data for p in sent]
    assert way.reader.gaps == 0


@pytest.mark.parametrize("codec", ["H264", "VP8"])
def test_a_packet_that_never_comes_costs_the_pictures_up_to_the_next_keyframe(codec: str) -> None:
    sent, way = coded(codec, 10, {0, 6}), Way(codec)
    writer = Writer(codec, 9, 100)
    for number, picture in enumerate(sent):
        packets = writer.packets(picture.data, picture.timestamp)
        for data in packets[1:] if number == 3 else packets:
            way.put(data)
        way.now += 0.04
        way.look()
        if number == 5:
            way.now += GIVE_UP_S + 0.01
            way.look()
            assert way.reader.waits_for_keyframe
    stamps = [p.timestamp for p in sent]
    assert [stamps.index(p.timestamp) for p in way.read] == [0, 1, 2, 6, 7, 8, 9]
    assert way.reader.gaps == 1


def test_a_reader_that_stopped_begins_again_at_the_last_keyframe() -> None:
    sent, way = coded("VP8", 10, {0, 6}), Way("VP8")
    writer = Writer("VP8", 9, 100)
    for picture in sent:
        for data in writer.packets(picture.data, picture.timestamp):
            way.put(data)
    way.read.clear()
    way.reader.stop()
    way.look()
    assert [p.timestamp for p in way.read] == [p.timestamp for p in sent[6:]]


@given(st.lists(st.binary(max_size=60), max_size=30), st.sampled_from(["H264", "VP8"]))
def test_whatever_the_packets_hold_reading_them_does_not_fail(
    payloads: list[bytes], codec: str
) -> None:
    way = Way(codec)
    for number, payload in enumerate(payloads):
        # Something that looks like the beginning of a keyframe, or all would be passed over.
        head = b"\x65" if codec == "H264" else b"\x10\x00"
        body = head + payload if number % 5 == 0 else payload
        data = bytes([0x80, 0xE0]) + number.to_bytes(2, "big") + (90 * number).to_bytes(4, "big")
        way.put(data + (9).to_bytes(4, "big") + body)
    way.now += 1
    way.look()
    assert all(np.diff([p.timestamp for p in way.read]) > 0)
