"""Coded pictures out of RTP packets and back, without decoding: H264 and VP8.

`Reader` takes the packets of a track that `relay` keeps and puts together whole pictures, in order,
from a keyframe on; what is lost costs it the pictures up to the next keyframe. `Writer` cuts coded
pictures into packets again (RFC 6184, RFC 7741).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import av
from aiortc.codecs.h264 import H264Encoder, h264_depayload
from aiortc.codecs.vpx import Vp8Encoder, vp8_depayload

from relay.packet import payload_offset
from relay.track import Track

from .encode import VIDEO_CLOCK

# A packet that has not come after this long is asked for in vain.
GIVE_UP_S = 0.4
# More than any picture has; what a hostile line of packets may make us hold.
MAX_PACKETS = 2000
PAYLOAD_TYPE = 96


@dataclass(frozen=True, slots=True)
class Picture:
    """One coded picture. timestamp: of RTP, 32 bits at 90 kHz; data: as a decoder takes it."""

    timestamp: int
    keyframe: bool
    data: bytes


class Reader:
    """Reads pictures out of a track's ring.

    `gaps` counts how often packets were lost for good. After one, and at first, it waits for a
    keyframe.
    """

    def __init__(self, track: Track) -> None:
        self.gaps = 0
        self._track = track
        self._depayload = h264_depayload if track.format.codec == "H264" else vp8_depayload
        self._next = -1
        self._after = -1
        self._parts: list[bytes] = []
        self._timestamp = -1
        self._waits_since_s: float | None = None

    @property
    def waits_for_keyframe(self) -> bool:
        """Whether nothing can be read before the next keyframe."""
        return self._next < 0

    def stop(self) -> None:
        """Forget where it was: what is read next begins at a keyframe, an old one perhaps."""
        self._restart(after=-1)

    def read(self, now: float) -> list[Picture]:
        """The pictures that are whole since the last call."""
        track = self._track
        if self._next < 0:
            start = track.start_position(now)
            if start < 0 or start <= self._after:
                return []
            self._next = start
        pictures: list[Picture] = []
        while (kept := track.get(self._next)) is not None:
            self._waits_since_s = None
            pictures += self._take(kept, self._next)
            if self._next < 0:
                return pictures
            self._next += 1
        if self._next <= track.highest:
            since = self._waits_since_s = self._waits_since_s or now
            if now - since > GIVE_UP_S or self._next < track.oldest:
                self._lose()
        return pictures

    def _take(self, kept: bytes, position: int) -> list[Picture]:
        """One packet, in its turn: the pictures that it ends."""
        timestamp = int.from_bytes(kept[4:8], "big")
        ended: list[Picture] = []
        if self._parts and timestamp != self._timestamp:
            ended += self._end()  # a sender that sets no markers
        self._timestamp = timestamp
        try:
            part = self._depayload(_payload(kept))
        except (ValueError, IndexError, struct.error):
            self._lose()
            return ended
        self._parts.append(part)
        if len(self._parts) > MAX_PACKETS:
            self._lose()
        elif kept[1] & 0x80:
            ended += self._end()
        return ended

    def _end(self) -> list[Picture]:
        data, self._parts = b"".join(self._parts), []
        return [Picture(self._timestamp, _is_key(data, self._track.format.codec), data)]

    def _lose(self) -> None:
        self.gaps += 1
        self._restart(after=self._track.keyframe_position)

    def _restart(self, after: int) -> None:
        self._next, self._after, self._parts, self._waits_since_s = -1, after, [], None


def _payload(kept: bytes) -> bytes:
    end = len(kept) - kept[-1] if kept[0] & 0x20 else len(kept)
    return kept[payload_offset(kept) : end]


def _is_key(data: bytes, codec: str) -> bool:
    """Whether a decoder can begin with this picture (RFC 6386 section 9.1, H.264 table 7-1)."""
    if codec == "VP8":
        return bool(data) and not data[0] & 1
    at = data.find(b"\0\0\1")
    while 0 <= at < len(data) - 3:
        if data[at + 3] & 0x1F == 5:
            return True
        at = data.find(b"\0\0\1", at + 3)
    return False


class Writer:
    """Cuts the coded pictures of one layer into RTP packets. `ssrc` is what they go out under."""

    def __init__(self, codec: str, ssrc: int, sequence: int) -> None:
        self._packer: H264Encoder | Vp8Encoder = H264Encoder() if codec == "H264" else Vp8Encoder()
        self._ssrc = ssrc
        self._sequence = sequence & 0xFFFF

    def packets(self, coded: bytes, timestamp: int) -> list[bytes]:
        """The packets of one picture, the last one with the marker."""
        packet = av.Packet(coded)
        # The packer asks for a time, which is not what goes out.
        packet.pts, packet.time_base = 0, VIDEO_CLOCK
        payloads, _ = self._packer.pack(packet)
        made = []
        for left, payload in zip(range(len(payloads) - 1, -1, -1), payloads, strict=True):
            second = PAYLOAD_TYPE if left else PAYLOAD_TYPE | 0x80
            numbers = (self._sequence, timestamp & 0xFFFFFFFF, self._ssrc)
            made.append(struct.pack("!BBHII", 0x80, second, *numbers) + payload)
            self._sequence = (self._sequence + 1) & 0xFFFF
        return made
