"""What the bench publishes: RTP that a relay cannot tell from a browser's, without an encoder.

Video looks like VP8 at 25 frames a second with a keyframe of 45 packets every 2 s (RFC 7741
descriptors, so that a node finds the keyframes); audio looks like Opus, 50 packets a second at
64 kbit/s. Together they make 1 Mbit/s in about 160 packets a second. Frame sizes vary by a seeded
random walk: they are what a received packet is matched by.
"""

import enum
import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tests.bench.sdp import AUDIO_PT, MID_EXTENSION, TIME_EXTENSION, VIDEO_PT

FRAME_INTERVAL_NS = 40_000_000
AUDIO_INTERVAL_NS = 20_000_000
KEYFRAME_EVERY = 50

_FRAME_TICKS = 3600
_AUDIO_TICKS = 960
_KEYFRAME_PACKETS = 45
# Chromium's limit of 1,200 bytes a packet, less the header, its extensions and the descriptor.
_MAX_PART_BYTES = 1172
# 1 Mbit/s in two seconds, less the sound and the keyframe, over 49 frames, give or take a quarter.
_DELTA_BYTES = (2700, 4680)
_AUDIO_BYTES = (140, 180)


class Kind(enum.IntEnum):
    """A track's kind, as the arrays store it."""

    AUDIO = 0
    VIDEO = 1


class Cut(enum.Enum):
    """How a frame is cut into packets.

    EVEN as Chromium does: sizes differ by at most one byte, the larger ones last. FULL as aiortc
    and FFmpeg do: full packets and a rest.
    """

    EVEN = "even"
    FULL = "full"


@dataclass(frozen=True, slots=True)
class Packet:
    """One RTP packet, not yet protected; `data` is the whole packet, header included."""

    kind: Kind
    sequence: int
    timestamp: int
    marker: bool
    data: bytes


class Source:
    """An endless publisher: `frame(now)` and `sound(now)` make the next packets of each track."""

    def __init__(self, seed: int, cut: Cut = Cut.EVEN) -> None:
        random = np.random.default_rng(seed)
        self.cut = cut
        self.ssrcs = {
            "audio": int(random.integers(1, 1 << 32)),
            "video": int(random.integers(1, 1 << 32)),
        }
        self._random = random
        self._noise = random.bytes(1 << 17)
        self._sequence = [int(value) for value in random.integers(0, 1 << 16, 2)]
        self._timestamp = [int(value) for value in random.integers(0, 1 << 32, 2)]
        self._picture = int(random.integers(0, 1 << 15))
        self._frames = 0

    def frame(self, now_ns: int) -> list[Packet]:
        """The packets of the next frame, the last one with the marker bit."""
        key = self._frames % KEYFRAME_EVERY == 0
        self._frames += 1
        self._picture = (self._picture + 1) & 0x7FFF
        size = _KEYFRAME_PACKETS * _MAX_PART_BYTES
        if not key:
            size = int(self._random.integers(*_DELTA_BYTES))
        payload = _vp8_header(key) + self._some_noise(size)[10:]
        packets = []
        first = True
        for begin, end in cut_points(size, self.cut):
            # X=1 and I=1 with a 15-bit PictureID; S=1 at the start of the frame (RFC 7741 4.2).
            descriptor = struct.pack("!BBH", 0x90 if first else 0x80, 0x80, 0x8000 | self._picture)
            part = descriptor + payload[begin:end]
            packets.append(self._packet(Kind.VIDEO, part, end == size, now_ns))
            first = False
        self._timestamp[Kind.VIDEO] = (self._timestamp[Kind.VIDEO] + _FRAME_TICKS) & 0xFFFFFFFF
        return packets

    def begin_anew(self) -> None:
        """Let the next frame be a keyframe."""
        self._frames = 0

    def sound(self, now_ns: int) -> Packet:
        """The next 20 ms of sound: TOC of a full-band CELT stereo frame, then noise."""
        size = int(self._random.integers(*_AUDIO_BYTES))
        packet = self._packet(Kind.AUDIO, b"\xfc" + self._some_noise(size), False, now_ns)
        self._timestamp[Kind.AUDIO] = (self._timestamp[Kind.AUDIO] + _AUDIO_TICKS) & 0xFFFFFFFF
        return packet

    def _some_noise(self, size: int) -> bytes:
        start = int(self._random.integers(0, len(self._noise) - size))
        return self._noise[start : start + size]

    def _packet(self, kind: Kind, payload: bytes, marker: bool, now_ns: int) -> Packet:
        sequence, timestamp = self._sequence[kind], self._timestamp[kind]
        self._sequence[kind] = (sequence + 1) & 0xFFFF
        number = VIDEO_PT if kind is Kind.VIDEO else AUDIO_PT
        ssrc = self.ssrcs["video" if kind is Kind.VIDEO else "audio"]
        second = number | (0x80 if marker else 0)
        header = struct.pack("!BBHII", 0x90, second, sequence, timestamp, ssrc)
        data = header + _extensions(kind, now_ns) + payload
        return Packet(kind, sequence, timestamp, marker, data)


def cut_points(size: int, cut: Cut) -> Iterator[tuple[int, int]]:
    """Where a frame of `size` bytes is cut: (begin, end) of each packet's part."""
    count = math.ceil(size / _MAX_PART_BYTES)
    begin = 0
    for index in range(count):
        if cut is Cut.FULL:
            end = min(begin + _MAX_PART_BYTES, size)
        else:
            end = begin + size // count + (1 if index >= count - size % count else 0)
        yield begin, end
        begin = end


def _vp8_header(key: bool) -> bytes:
    """The first ten bytes of a VP8 frame: tag, then for a keyframe start code and 1280x720."""
    # Bit 0 is 0 for a keyframe, bit 4 shows the frame, the rest is the first partition's size.
    tag = (0 if key else 1) | 1 << 4 | 400 << 5
    start = tag.to_bytes(3, "little")
    if not key:
        return start + bytes(7)
    return start + b"\x9d\x01\x2a" + struct.pack("<HH", 1280, 720)


def _extensions(kind: Kind, now_ns: int) -> bytes:
    """One-byte header extensions (RFC 8285): the mid, and abs-send-time in 6.18 seconds."""
    mid = b"1" if kind is Kind.VIDEO else b"0"
    sent = ((now_ns << 18) // 1_000_000_000) & 0xFFFFFF
    elements = bytes([MID_EXTENSION << 4]) + mid
    elements += bytes([TIME_EXTENSION << 4 | 2]) + sent.to_bytes(3, "big")
    return struct.pack("!HH", 0xBEDE, 2) + elements + bytes(8 - len(elements))
