"""Kept RTP packets into frames, without decoding: H264, VP8 and Opus.

The packets of one track come in the order of their positions, in the node's canonical form
(`relay.packet`). What is missing has been asked for by then; `lost` says that it will not come any
more. A frame comes out whole or not at all, so that a file made of frames holds nothing that a
decoder would complain about; the frame after a loss says so (`after_loss`).

Nothing here trusts a packet: lengths are checked before use, a frame has an upper size, and no
payload raises.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

from media import h264
from relay.packet import payload_offset

# A keyframe of 4K video at a high bitrate has one megabyte.
MAX_FRAME_BYTES: Final = 8 << 20
MAX_NALS: Final = 1024
MAX_OPUS_TICKS: Final = 5760
"""RFC 6716 section 3.2.5: no Opus packet is longer than 120 ms, in ticks of 48 kHz."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame as a file holds it.

    `timestamp`: RTP, 32 bits. `data`: H264 as NAL units with four bytes of length each, VP8 and
    Opus as they are. `look` is set for keyframes: what the picture is like. `ticks`: duration at
    48 kHz for sound, 0 for pictures. `after_loss`: packets before it never came, so a picture that
    is no keyframe cannot be decoded.
    """

    timestamp: int
    data: bytes
    keyframe: bool
    look: Look | None = None
    ticks: int = 0
    after_loss: bool = False


@dataclass(frozen=True, slots=True)
class Look:
    """What a file must say of a picture before its first frame.

    `codec` is "H264" or "VP8"; `sps` and `pps` are H264's parameter sets, without start codes.
    """

    codec: str
    width: int
    height: int
    sps: bytes = b""
    pps: bytes = b""


class Depacketiser(Protocol):
    """Turns the packets of one track into frames."""

    def packet(self, kept: bytes) -> list[Frame]:
        """Take the next packet, in canonical form; returns the frames that it completes."""

    def lost(self) -> None:
        """Note that at least one packet is missing here for good."""


def depacketiser(codec: str) -> Depacketiser:
    """The one for a codec, by its SDP name in capitals. Raises ValueError for others."""
    match codec:
        case "H264":
            return H264()
        case "VP8":
            return Vp8()
        case "OPUS":
            return Opus()
        case _:
            raise ValueError(f"{codec} cannot be recorded; H264, VP8 and Opus can")


class Opus:
    """RFC 7587: each packet is a frame."""

    def __init__(self) -> None:
        self._after_loss = False

    def lost(self) -> None:
        """Note that at least one packet is missing here for good."""
        self._after_loss = True

    def packet(self, kept: bytes) -> list[Frame]:
        """One frame, or none for a payload that is no Opus."""
        data = kept[payload_offset(kept) :]
        ticks = opus_ticks(data)
        if not ticks:
            return []
        after_loss, self._after_loss = self._after_loss, False
        return [Frame(_timestamp(kept), data, True, ticks=ticks, after_loss=after_loss)]


def opus_ticks(data: bytes) -> int:
    """How long an Opus packet sounds, in ticks of 48 kHz; 0 if it is none (RFC 6716 3.1)."""
    if not data:
        return 0
    config = data[0] >> 3
    if config < 12:
        ticks = (480, 960, 1920, 2880)[config & 3]
    elif config < 16:
        ticks = (480, 960)[config & 1]
    else:
        ticks = (120, 240, 480, 960)[config & 3]
    match data[0] & 3:
        case 0:
            count = 1
        case 1 | 2:
            count = 2
        case _:
            count = data[1] & 0x3F if len(data) > 1 else 0
    ticks *= count
    return ticks if ticks <= MAX_OPUS_TICKS else 0


class _Picture:
    """What H264 and VP8 have in common: a frame ends with the marker or with another timestamp."""

    def __init__(self) -> None:
        self._timestamp = -1
        self._size = 0
        self._broken = True
        self._after_loss = False

    def lost(self) -> None:
        """Note that at least one packet is missing here for good."""
        # It may have belonged to the frame under way or to the next: both are looked at anew.
        self._broken = True
        self._after_loss = True

    def packet(self, kept: bytes) -> list[Frame]:
        """Take the next packet; returns none, one or two frames."""
        offset = payload_offset(kept)
        if offset >= len(kept):
            # A padding probe: it has a number and nothing else.
            return []
        frames: list[Frame] = []
        timestamp = _timestamp(kept)
        if timestamp != self._timestamp:
            frames += self._end()
            self._timestamp = timestamp
            self._size = 0
            self._broken = not self._begin(kept, offset)
        elif not self._broken:
            self._broken = not self._go_on(kept, offset)
        self._size += len(kept) - offset
        if self._size > MAX_FRAME_BYTES:
            self._broken = True
            self._clear()
        if kept[1] & 0x80:
            frames += self._end()
            # What comes under this timestamp after the marker belongs to no frame.
            self._broken = True
        return frames

    def _end(self) -> list[Frame]:
        if self._size == 0:
            return []
        frame = None if self._broken else self._whole()
        self._clear()
        self._size = 0
        if frame is None:
            self._after_loss = True
            return []
        self._after_loss = False
        return [frame]

    def _begin(self, kept: bytes, offset: int) -> bool:
        raise NotImplementedError

    def _go_on(self, kept: bytes, offset: int) -> bool:
        raise NotImplementedError

    def _whole(self) -> Frame | None:
        raise NotImplementedError

    def _clear(self) -> None:
        raise NotImplementedError


class Vp8(_Picture):
    """RFC 7741."""

    def __init__(self) -> None:
        super().__init__()
        self._parts: list[bytes] = []

    def _begin(self, kept: bytes, offset: int) -> bool:
        # S is set and the partition index is 0: a frame begins.
        return kept[offset] & 0x17 == 0x10 and self._go_on(kept, offset)

    def _go_on(self, kept: bytes, offset: int) -> bool:
        start = _vp8_payload(kept, offset)
        if start < 0:
            return False
        self._parts.append(kept[start:])
        return True

    def _whole(self) -> Frame | None:
        data = b"".join(self._parts)
        if len(data) < 3:
            return None
        if data[0] & 1:
            return Frame(self._timestamp, data, False, after_loss=self._after_loss)
        # RFC 6386 section 9.1: start code, then 14 bits of width and of height, 2 of scale each.
        if len(data) < 10 or data[3:6] != b"\x9d\x01\x2a":
            return None
        width = int.from_bytes(data[6:8], "little") & 0x3FFF
        height = int.from_bytes(data[8:10], "little") & 0x3FFF
        if not width or not height:
            return None
        look = Look("VP8", width, height)
        return Frame(self._timestamp, data, True, look, after_loss=self._after_loss)

    def _clear(self) -> None:
        self._parts = []


def _vp8_payload(kept: bytes, offset: int) -> int:
    """Where the VP8 data of a packet begin (RFC 7741 section 4.2), -1 if nowhere."""
    size = len(kept)
    at = offset + 1
    if kept[offset] & 0x80:
        if at >= size:
            return -1
        fields = kept[at]
        at += 1
        if fields & 0x80:
            if at >= size:
                return -1
            at += 2 if kept[at] & 0x80 else 1
        at += (1 if fields & 0x40 else 0) + (1 if fields & 0x30 else 0)
    return at if at < size else -1


class H264(_Picture):
    """RFC 6184, packetization modes 0 and 1: single NAL units, STAP-A and FU-A."""

    def __init__(self) -> None:
        super().__init__()
        self._nals: list[bytes] = []
        self._fragments: list[bytes] = []
        self._sps = b""
        self._pps = b""
        self._size_of: tuple[bytes, tuple[int, int] | None] = (b"", None)

    def _begin(self, kept: bytes, offset: int) -> bool:
        return self._go_on(kept, offset)

    def _go_on(self, kept: bytes, offset: int) -> bool:
        kind = kept[offset] & 0x1F
        if self._fragments and kind != 28:
            return False
        if 0 < kind < 24:
            return self._nal(kept[offset:])
        if kind == 24:
            return self._aggregate(kept, offset + 1)
        return kind == 28 and self._fragment(kept, offset)

    def _aggregate(self, kept: bytes, at: int) -> bool:
        size = len(kept)
        while at + 2 <= size:
            length = kept[at] << 8 | kept[at + 1]
            at += 2
            if length == 0 or at + length > size or not self._nal(kept[at : at + length]):
                return False
            at += length
        return at == size

    def _fragment(self, kept: bytes, offset: int) -> bool:
        if offset + 2 >= len(kept):
            return False
        header = kept[offset + 1]
        if header & 0x80:
            if self._fragments:
                return False
            self._fragments = [bytes((kept[offset] & 0xE0 | header & 0x1F,))]
        elif not self._fragments:
            return False
        self._fragments.append(kept[offset + 2 :])
        if header & 0x40:
            nal, self._fragments = b"".join(self._fragments), []
            return self._nal(nal)
        return True

    def _nal(self, nal: bytes) -> bool:
        kind = nal[0] & 0x1F
        if kind == h264.SPS:
            self._sps = nal
        elif kind == h264.PPS:
            self._pps = nal
        elif kind in h264.OF_NO_USE:
            return True
        self._nals.append(nal)
        return len(self._nals) <= MAX_NALS

    def _whole(self) -> Frame | None:
        slices = [nal for nal in self._nals if 1 <= nal[0] & 0x1F <= 5]
        # The first slice begins at macroblock 0; one that does not has lost those before it.
        if self._fragments or not slices or len(slices[0]) < 2 or not slices[0][1] & 0x80:
            return None
        data = b"".join(len(nal).to_bytes(4, "big") + nal for nal in self._nals)
        if slices[0][0] & 0x1F != h264.IDR:
            return Frame(self._timestamp, data, False, after_loss=self._after_loss)
        if self._size_of[0] != self._sps:
            self._size_of = (self._sps, h264.picture_size(self._sps))
        size = self._size_of[1]
        if size is None or len(self._sps) < 4 or not self._pps:
            return None
        look = Look("H264", *size, self._sps, self._pps)
        return Frame(self._timestamp, data, True, look, after_loss=self._after_loss)

    def _clear(self) -> None:
        self._nals = []
        self._fragments = []


def _timestamp(kept: bytes) -> int:
    return int.from_bytes(kept[4:8], "big")
