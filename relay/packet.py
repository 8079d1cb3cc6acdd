"""RTP packets as bytes: what arrives, what is kept, what is sent.

The path of a packet through this module:

1. *Ingest.* `parse` reads the header of a decrypted packet once, and the few header extensions
   that the node uses (RFC 8285). Nothing is copied.
2. *Canonical form.* `canonical` writes the packet as the node keeps it in its ring and hands it to
   every viewer: no CSRC list, no padding, and a header extension block of fixed layout. A packet
   that came as a retransmission is first turned back by `rtx_original`.
3. *Egress.* Viewers differ in their payload type and extension ids only. `reshape` patches these
   in place, at fixed offsets; `rtx` makes the retransmission of a packet (RFC 4588); `pad` makes
   packets equally long, so that they can leave in one message.

Canonical layout (RFC 3550 section 5.1, RFC 8285 section 4.2)::

     0  0x90, marker and payload type, sequence number
     4  timestamp
     8  SSRC
    12  0xBEDE, words of extension content: 1 or 2
    16  0x12, abs-send-time (24 bits)
    20  0x20 and audio level, or 0x30 and orientation, then two zero bytes   (two words only)
    20 or 24  payload

So the payload begins at 20, or at 24 when there is an audio level or an orientation.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

AUDIO_LEVEL: Final = "urn:ietf:params:rtp-hdrext:ssrc-audio-level"
ABS_SEND_TIME: Final = "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time"
VIDEO_ORIENTATION: Final = "urn:3gpp:video-orientation"
MID: Final = "urn:ietf:params:rtp-hdrext:sdes:mid"
RID: Final = "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id"
REPAIRED_RID: Final = "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id"

CANONICAL_ABS_SEND_TIME: Final = 1
CANONICAL_AUDIO_LEVEL: Final = 2
CANONICAL_ORIENTATION: Final = 3

_ROLE_ABS_SEND_TIME: Final = 1
_ROLE_AUDIO_LEVEL: Final = 2
_ROLE_ORIENTATION: Final = 3
_ROLE_MID: Final = 4
_ROLE_RID: Final = 5
_ROLE_REPAIRED_RID: Final = 6
_ROLES: Final[Mapping[str, int]] = {
    ABS_SEND_TIME: _ROLE_ABS_SEND_TIME,
    AUDIO_LEVEL: _ROLE_AUDIO_LEVEL,
    VIDEO_ORIENTATION: _ROLE_ORIENTATION,
    MID: _ROLE_MID,
    RID: _ROLE_RID,
    REPAIRED_RID: _ROLE_REPAIRED_RID,
}

_ONE_BYTE_PROFILE: Final = 0xBEDE
_TWO_BYTE_PROFILE: Final = 0x1000
_MAX_ONE_BYTE_ID: Final = 14

_unpack_fixed = struct.Struct("!BBHII").unpack_from
_unpack_extension = struct.Struct("!HH").unpack_from
_unpack_u16 = struct.Struct("!H").unpack_from
_pack_one_word = struct.Struct("!BBHIIHHI").pack
_pack_two_words = struct.Struct("!BBHIIHHIBBH").pack
_pack_rtx_start = struct.Struct("!BBH").pack
_pack_u32 = struct.Struct("!I").pack

_ABS_SEND_TIME_WORD: Final = (CANONICAL_ABS_SEND_TIME << 4 | 2) << 24
_AUDIO_LEVEL_HEAD: Final = CANONICAL_AUDIO_LEVEL << 4
_ORIENTATION_HEAD: Final = CANONICAL_ORIENTATION << 4
# With our own header a longer one would not fit a slot of the fan-out.
MAX_INGEST_SIZE: Final = 1460
# How a canonical packet begins: a header extension, neither CSRCs nor padding.
FIRST_OCTET: Final = 0x90
# Its header with abs-send-time as the one element.
SHORT_HEADER_SIZE: Final = 20


class PacketError(ValueError):
    """The bytes are not an RTP packet; the message says what is wrong with them."""


class ExtensionIds:
    """Which header extension stands under which id on one ingest association.

    `negotiated` maps ids (1 to 255) to URIs, as the answer's `a=extmap` lines have them. URIs that
    the node does not use, and ids outside the range, are left out.
    """

    __slots__ = ("roles", "send_time_alone")

    roles: bytes
    """256 bytes: the role that each id has, 0 for none."""
    send_time_alone: bytes
    """How a block begins that has abs-send-time and nothing else: 5 bytes, 4 if not negotiated."""

    def __init__(self, negotiated: Mapping[int, str]) -> None:
        roles = bytearray(256)
        for identifier, uri in negotiated.items():
            if 0 < identifier < 256:
                roles[identifier] = _ROLES.get(uri, 0)
        self.roles = bytes(roles)
        identifier = self.roles[: _MAX_ONE_BYTE_ID + 1].find(_ROLE_ABS_SEND_TIME)
        head = bytes((identifier << 4 | 2,)) if identifier > 0 else b""
        self.send_time_alone = b"\xbe\xde\0\1" + head


class Ingest(NamedTuple):
    """What the header of one arrived packet says. Offsets are into the packet that was parsed."""

    seq: int
    timestamp: int
    ssrc: int
    payload_type: int
    marker: bool
    payload_start: int
    payload_end: int
    """End of the payload, padding not included; equal to `payload_start` for a padding probe."""
    audio_level: int
    """The raw byte of RFC 6464: voice activity in the top bit, -dBov below; -1 if absent."""
    orientation: int
    """The raw byte of 3GPP TS 26.114 section 7.4.5; -1 if absent."""
    abs_send_time: int
    """24 bits, 6.18 fixed point seconds; -1 if absent."""
    mid: str | None
    rid: str | None
    repaired_rid: str | None


def parse(data: bytes, extension_ids: ExtensionIds) -> Ingest:
    """Read the header of one decrypted RTP packet (RFC 3550 section 5.1).

    Reads one-byte and two-byte header extensions (RFC 8285 sections 4.2 and 4.3); a block of
    another profile is skipped. An element that runs over the end of its block ends the reading of
    the block, the packet itself stays good.

    Raises PacketError if the fixed header, the CSRC list, the extension block or the padding does
    not fit into `data`.
    """
    size = len(data)
    if size < 12:
        raise PacketError(f"{size} bytes are too few for an RTP header")
    first, second, seq, timestamp, ssrc = _unpack_fixed(data)
    if first & 0xC0 != 0x80:
        raise PacketError(f"RTP version is {first >> 6}, not 2")
    start = 12 + 4 * (first & 0x0F)

    audio_level = orientation = send_time = -1
    mid = rid = repaired_rid = None
    if first & 0x10:
        if start + 4 > size:
            raise PacketError("the packet ends before its header extension")
        profile, words = _unpack_extension(data, start)
        at = start + 4
        start = stop = at + 4 * words
        if stop > size:
            raise PacketError("the header extension is longer than the packet")
        two_byte = profile & 0xFFF0 == _TWO_BYTE_PROFILE
        if not two_byte and profile != _ONE_BYTE_PROFILE:
            at = stop
        roles = extension_ids.roles
        while at < stop:
            identifier = data[at]
            if identifier == 0:
                at += 1
                continue
            if two_byte:
                begin = at + 2
                if begin > stop:
                    break
                at = begin + data[at + 1]
            else:
                begin = at + 1
                at = begin + (identifier & 0x0F) + 1
                identifier >>= 4
                # 15 ends the block; so does id 0 with a length (RFC 8285 section 4.2).
                if identifier == 15 or identifier == 0:
                    break
            if at > stop:
                break
            role = roles[identifier]
            if role == 0 or begin == at:
                continue
            if role == _ROLE_ABS_SEND_TIME:
                if at - begin == 3:
                    send_time = data[begin] << 16 | data[begin + 1] << 8 | data[begin + 2]
            elif role == _ROLE_AUDIO_LEVEL:
                audio_level = data[begin]
            elif role == _ROLE_ORIENTATION:
                orientation = data[begin]
            elif role == _ROLE_MID:
                mid = _text(data[begin:at])
            elif role == _ROLE_RID:
                rid = _text(data[begin:at])
            else:
                repaired_rid = _text(data[begin:at])
    elif start > size:
        raise PacketError("the CSRC list is longer than the packet")

    end = size
    if first & 0x20:
        padding = data[-1]
        end -= padding
        if padding == 0 or end < start:
            raise PacketError(f"{padding} bytes of padding do not fit the packet")
    return Ingest(
        seq,
        timestamp,
        ssrc,
        second & 0x7F,
        second >= 0x80,
        start,
        end,
        audio_level,
        orientation,
        send_time,
        mid,
        rid,
        repaired_rid,
    )


def _text(value: bytes) -> str | None:
    """The text of a MID or RID element (RFC 7941); None if it is empty."""
    # Latin-1 decodes any byte; a value outside the token alphabet matches no negotiated name.
    return value.rstrip(b"\0").decode("latin-1") or None


def canonical(
    data: bytes, p: Ingest, seq: int, timestamp: int, ssrc: int, abs_send_time: int
) -> bytes:
    """Write an arrived packet in the node's own form, under the given numbers.

    `data` is the packet that `p` was read from; payload type and marker are kept.
    `abs_send_time` is the 24-bit value that this node stamps (see the function of that name).
    Values outside their field's range raise struct.error.
    """
    second = p.payload_type | 0x80 if p.marker else p.payload_type
    if p.audio_level >= 0:
        element, value = _AUDIO_LEVEL_HEAD, p.audio_level
    elif p.orientation >= 0:
        element, value = _ORIENTATION_HEAD, p.orientation
    else:
        return (
            _pack_one_word(
                FIRST_OCTET,
                second,
                seq,
                timestamp,
                ssrc,
                _ONE_BYTE_PROFILE,
                1,
                _ABS_SEND_TIME_WORD | abs_send_time,
            )
            + data[p.payload_start : p.payload_end]
        )
    return (
        _pack_two_words(
            FIRST_OCTET,
            second,
            seq,
            timestamp,
            ssrc,
            _ONE_BYTE_PROFILE,
            2,
            _ABS_SEND_TIME_WORD | abs_send_time,
            element,
            value,
            0,
        )
        + data[p.payload_start : p.payload_end]
    )


def short_header_end(abs_send_time: int) -> bytes:
    """The last word of a canonical header that has one element, under our own id."""
    return _pack_u32(_ABS_SEND_TIME_WORD | abs_send_time)


def read(packet: bytes) -> Ingest:
    """What `parse` would say of a packet in canonical form, at a fraction of its cost.

    So a packet of one stream can be given to a track of another.
    """
    first, second, seq, timestamp, ssrc = _unpack_fixed(packet)
    start, end = 16 + 4 * packet[15], len(packet)
    if first & 0x20:
        end -= packet[-1]
    audio_level = orientation = -1
    if start == 24:
        if packet[20] == _AUDIO_LEVEL_HEAD:
            audio_level = packet[21]
        else:
            orientation = packet[21]
    return Ingest(
        seq, timestamp, ssrc, second & 0x7F, second >= 0x80, start, end,
        audio_level, orientation, int.from_bytes(packet[17:20], "big"), None, None, None,
    )  # fmt: skip


def payload_offset(packet: bytes) -> int:
    """Where the payload of a canonical or reshaped packet begins: 20 or 24."""
    return 16 + 4 * packet[15]


@dataclass(frozen=True, slots=True)
class Shape:
    """What distinguishes the packets of one kind of viewer.

    Extension ids are 1 to 14, the range of the one-byte form; 0 means not negotiated.
    """

    payload_type: int
    abs_send_time_id: int
    audio_level_id: int
    orientation_id: int

    def __post_init__(self) -> None:
        if not 0 <= self.payload_type <= 127:
            raise ValueError(f"payload type {self.payload_type} is not within 0 to 127")
        for identifier in (self.abs_send_time_id, self.audio_level_id, self.orientation_id):
            if not 0 <= identifier <= _MAX_ONE_BYTE_ID:
                raise ValueError(f"header extension id {identifier} is not within 0 to 14")

    @classmethod
    def negotiated(cls, payload_type: int, extensions: Mapping[int, str]) -> Shape:
        """The shape for a viewer that agreed on `extensions` ({id: URI}).

        An extension under an id above 14 counts as not negotiated: it would need the two-byte
        form, and a canonical packet has no room for that.
        """
        ids = {uri: i for i, uri in extensions.items() if 1 <= i <= _MAX_ONE_BYTE_ID}
        return cls(
            payload_type,
            ids.get(ABS_SEND_TIME, 0),
            ids.get(AUDIO_LEVEL, 0),
            ids.get(VIDEO_ORIENTATION, 0),
        )


def reshape(packet: bytes, shape: Shape) -> bytes:
    """A canonical packet as viewers of this shape get it: same length, same payload.

    Elements that were not negotiated become zero bytes, which are padding between elements
    (RFC 8285 section 4.2).
    """
    out = bytearray(packet)
    out[1] = out[1] & 0x80 | shape.payload_type
    identifier = shape.abs_send_time_id
    if identifier:
        out[16] = identifier << 4 | 2
    else:
        out[16:20] = b"\0\0\0\0"
    if out[15] == 2:
        identifier = shape.audio_level_id if out[20] == _AUDIO_LEVEL_HEAD else shape.orientation_id
        if identifier:
            out[20] = identifier << 4
        else:
            out[20:22] = b"\0\0"
    return bytes(out)


def stamped(packet: bytes, shape: Shape, abs_send_time: int) -> bytes:
    """A reshaped packet with another abs-send-time: it leaves later than it came.

    A receiver would take the wait for a queue on the line. Only for packets that never go out
    again under the same SSRC and number: SRTP must not encrypt two texts with one keystream.
    """
    if not shape.abs_send_time_id:
        return packet
    return packet[:17] + abs_send_time.to_bytes(3, "big") + packet[20:]


def under(packet: bytes, ssrc: int) -> bytes:
    """The packet under another SSRC."""
    return packet[:8] + _pack_u32(ssrc) + packet[12:]


def rtx(packet: bytes, payload_type: int, ssrc: int, seq: int) -> bytes:
    """The retransmission of a reshaped packet (RFC 4588 section 4): two bytes longer.

    `payload_type`, `ssrc` and `seq` are those of the retransmission stream; timestamp, marker and
    header extensions stay, and the original sequence number goes before the payload.
    """
    offset = 16 + 4 * packet[15]
    return b"".join(
        (
            _pack_rtx_start(packet[0], packet[1] & 0x80 | payload_type, seq),
            packet[4:8],
            _pack_u32(ssrc),
            packet[12:offset],
            packet[2:4],
            packet[offset:],
        )
    )


def rtx_original(data: bytes, p: Ingest, payload_type: int, ssrc: int) -> Ingest | None:
    """Undo RFC 4588: what `parse` would have returned for the original of a retransmission.

    `data` is the retransmission and `p` what was read from it; `payload_type` and `ssrc` are those
    of the media stream. The result has the original sequence number in `seq`, and its payload is
    `data[payload_start:payload_end]`, so it goes to `canonical` with the same `data`.

    Returns None when there is no original: padding probes have an empty payload.
    """
    start = p.payload_start
    if p.payload_end - start < 2:
        return None
    (seq,) = _unpack_u16(data, start)
    return p._replace(seq=seq, payload_type=payload_type, ssrc=ssrc, payload_start=start + 2)


def abs_send_time(now_s: float) -> int:
    """The abs-send-time of `now_s`: seconds modulo 64 in 6.18 fixed point, 24 bits.

    Any clock will do: receivers use differences only.
    """
    return int(now_s * 262144.0) & 0xFFFFFF


def is_rtcp(data: bytes) -> bool:
    """Whether a datagram of an RTP and RTCP socket is RTCP: RFC 5761 section 4.

    RTCP types 192 to 223 are RTP's payload types 64 to 95, which are not negotiated then.
    """
    return len(data) > 1 and 192 <= data[1] <= 223


def seq_delta(a: int, b: int) -> int:
    """How far sequence number `a` is ahead of `b`: -32768 to 32767, modulo 2^16."""
    return ((a - b + 0x8000) & 0xFFFF) - 0x8000


def ts_delta(a: int, b: int) -> int:
    """How far timestamp `a` is ahead of `b`: -2^31 to 2^31 - 1, modulo 2^32."""
    return ((a - b + 0x80000000) & 0xFFFFFFFF) - 0x80000000


class Vp8Ids(NamedTuple):
    """Where a VP8 payload descriptor has its running numbers (RFC 7741 section 4.2).

    Offsets are into the packet; `picture_bits` is 15, 7 or 0 (absent), `tl0_at` 0 when absent.
    """

    picture_at: int
    picture_bits: int
    picture: int
    tl0_at: int
    tl0: int


def vp8_ids(packet: bytes, offset: int) -> Vp8Ids | None:
    """The running numbers of a VP8 packet whose payload begins at `offset`; None without any."""
    size = len(packet)
    if offset + 3 > size or not packet[offset] & 0x80:
        return None
    fields = packet[offset + 1]
    at = offset + 2
    picture_at = picture_bits = picture = tl0_at = tl0 = 0
    if fields & 0x80:
        picture_at = at
        if packet[at] & 0x80:
            if at + 2 > size:
                return None
            picture_bits, picture = 15, (packet[at] & 0x7F) << 8 | packet[at + 1]
            at += 2
        else:
            picture_bits, picture = 7, packet[at]
            at += 1
    if fields & 0x40:
        if at >= size:
            return None
        tl0_at, tl0 = at, packet[at]
    if not picture_bits and not tl0_at:
        return None
    return Vp8Ids(picture_at, picture_bits, picture, tl0_at, tl0)


def shift_vp8(out: bytearray, ids: Vp8Ids, picture: int, tl0: int) -> None:
    """Add to the running numbers of a VP8 packet in place; `ids` is what `vp8_ids` said of it."""
    if ids.picture_bits == 15:
        number = ids.picture + picture & 0x7FFF | 0x8000
        out[ids.picture_at : ids.picture_at + 2] = number.to_bytes(2, "big")
    elif ids.picture_bits:
        out[ids.picture_at] = ids.picture + picture & 0x7F
    if ids.tl0_at:
        out[ids.tl0_at] = ids.tl0 + tl0 & 0xFF


KeyframeDetector = Callable[[bytes, int], bool]
"""Takes a packet and the offset of its payload; see `keyframe_detector`."""


def keyframe_detector(codec: str) -> KeyframeDetector:
    """The function that tells whether a packet belongs to the begin of a keyframe.

    `codec` is VP8, VP9, H264 or AV1, in any case; ValueError for others. The function takes an
    unpadded packet and the offset of its payload, and returns False for payloads that are too
    short or make no sense.

    With VP8, VP9 and AV1 the packet is the first one of a frame that a decoder can start at. With
    H264 it carries an SPS or the begin of an IDR slice, and several packets of one frame may: SPS
    and IDR slices share one timestamp, and a delimiter or SEI may precede them. So the caller
    takes the first packet *of that timestamp* as the place to start at, and counts one keyframe
    for each timestamp.
    """
    try:
        return _DETECTORS[codec.upper()]
    except KeyError:
        known = ", ".join(_DETECTORS)
        raise ValueError(f"no keyframe detection for {codec!r}; known are {known}") from None


def _vp8_keyframe(packet: bytes, offset: int) -> bool:
    """RFC 7741 sections 4.2 and 4.3: begin of partition 0, P bit of the frame header 0."""
    size = len(packet)
    if offset >= size:
        return False
    first = packet[offset]
    if first & 0x17 != 0x10:
        return False
    offset += 1
    if first & 0x80:
        if offset >= size:
            return False
        fields = packet[offset]
        offset += 1
        if fields & 0x80:
            if offset >= size:
                return False
            offset += 2 if packet[offset] & 0x80 else 1
        if fields & 0x40:
            offset += 1
        if fields & 0x30:
            offset += 1
    return offset < size and not packet[offset] & 0x01


def _vp9_keyframe(packet: bytes, offset: int) -> bool:
    """RFC 9628 section 4.2: begin of a frame, not inter-picture predicted, spatial layer 0."""
    size = len(packet)
    if offset >= size:
        return False
    first = packet[offset]
    if first & 0x48 != 0x08:
        return False
    offset += 1
    if first & 0x80:
        if offset >= size:
            return False
        offset += 2 if packet[offset] & 0x80 else 1
    if first & 0x20:
        return offset < size and not packet[offset] & 0x0E
    return offset < size


_H264_START_TYPES: Final = (5, 7)


def _h264_keyframe(packet: bytes, offset: int) -> bool:
    """RFC 6184: an IDR slice (NAL type 5) or SPS (7), alone, in a STAP-A, or the first FU-A."""
    size = len(packet)
    if offset >= size:
        return False
    nal_type = packet[offset] & 0x1F
    if nal_type == 28:
        if offset + 2 >= size:
            return False
        fragment = packet[offset + 1]
        return fragment & 0x80 != 0 and fragment & 0x1F in _H264_START_TYPES
    if nal_type == 24:
        offset += 1
        while offset + 2 < size:
            length = packet[offset] << 8 | packet[offset + 1]
            offset += 2
            if length == 0 or offset + length > size:
                return False
            if packet[offset] & 0x1F in _H264_START_TYPES:
                return True
            offset += length
        return False
    return nal_type in _H264_START_TYPES


_AV1_SEQUENCE_HEADER: Final = 1


def _av1_keyframe(packet: bytes, offset: int) -> bool:
    """AV1 RTP payload, sections 4.3 and 4.4: N bit, or an OBU that is a sequence header."""
    size = len(packet)
    if offset + 1 >= size:
        return False
    aggregation = packet[offset]
    continues = aggregation & 0x80
    if aggregation & 0x08:
        # A coded video sequence cannot begin with the rest of an earlier OBU.
        return not continues
    count = aggregation >> 4 & 0x03
    offset += 1
    element = 0
    while offset < size:
        element += 1
        if element == count:
            length = size - offset
        else:
            length = shift = 0
            while True:
                if offset >= size or shift > 28:
                    return False
                byte = packet[offset]
                offset += 1
                length |= (byte & 0x7F) << shift
                shift += 7
                if byte < 0x80:
                    break
            if offset + length > size:
                return False
        is_begin = length > 0 and not (continues and element == 1)
        if is_begin and packet[offset] >> 3 & 0x0F == _AV1_SEQUENCE_HEADER:
            return True
        if element == count:
            return False
        offset += length
    return False


_DETECTORS: Final[Mapping[str, KeyframeDetector]] = {
    "VP8": _vp8_keyframe,
    "VP9": _vp9_keyframe,
    "H264": _h264_keyframe,
    "AV1": _av1_keyframe,
}
