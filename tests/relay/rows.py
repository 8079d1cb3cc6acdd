"""RTP packets for tests: literal rows and small builders."""

from __future__ import annotations

import struct

from relay import packet as rtp

VP8_KEY = bytes.fromhex("10 00 9d 01 2a")
"""Begin of a VP8 keyframe: S bit, first partition, P bit of the frame header 0."""
VP8_DELTA = bytes.fromhex("10 01")
VP8_MORE = bytes.fromhex("00 ff")
"""A later packet of any VP8 frame: no S bit."""

H264_AUD = bytes.fromhex("09 30")
H264_SPS = bytes.fromhex("67 42 e0 1f")
H264_PPS = bytes.fromhex("68 ce 3c 80")
H264_IDR = bytes.fromhex("65 88 80")
H264_IDR_FIRST = bytes.fromhex("7c 85 88")
"""FU-A with start bit, type 5."""
H264_IDR_MORE = bytes.fromhex("7c 05 88")
H264_SLICE = bytes.fromhex("41 9a 00")

OPUS = bytes.fromhex("78 01 02 03")


def row(text: str) -> bytes:
    """Bytes of a hexadecimal row; `|` and spaces are for the eye."""
    return bytes.fromhex(text.replace("|", " "))


def packet(
    sequence: int,
    timestamp: int,
    payload: bytes,
    *,
    ssrc: int = 0xCAFEBABE,
    payload_type: int = 96,
    marker: bool = False,
) -> bytes:
    """An RTP packet as a publisher without header extensions sends it."""
    second = payload_type | 0x80 if marker else payload_type
    return struct.pack("!BBHII", 0x80, second, sequence, timestamp, ssrc) + payload


def numbers(data: bytes) -> tuple[int, int]:
    """Sequence number and timestamp of a packet."""
    sequence, timestamp = struct.unpack_from("!HI", data, 2)
    return sequence, timestamp


def payload(data: bytes) -> bytes:
    """What a canonical or reshaped packet carries."""
    return data[rtp.payload_offset(data) :]
