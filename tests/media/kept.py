"""RTP packets as a track's ring keeps them, written by hand."""

from __future__ import annotations

from relay import packet as rtp

START = 1_000_000


def kept(payload: bytes, timestamp: int, *, marker: bool = False, sequence: int = 0) -> bytes:
    """A canonical packet with this payload."""
    raw = bytes((0x80, 96 | (0x80 if marker else 0))) + sequence.to_bytes(2, "big")
    raw += (timestamp & 0xFFFFFFFF).to_bytes(4, "big") + b"\0\0\0\1" + payload
    return rtp.canonical(
        raw, rtp.parse(raw, rtp.ExtensionIds({})), sequence, timestamp & 0xFFFFFFFF, 1, 0
    )


# Constrained baseline, 640x360, as x264 writes it.
SPS = bytes.fromhex("6742c01eda0280bfe584000003000400000300c83c58ba80")
PPS = bytes.fromhex("68ce0fc8")
IDR = b"\x65\x88" + bytes(40)
SLICE = b"\x41\x9a" + bytes(20)
DELIMITER = b"\x09\x10"

# RFC 6386 section 9.1: a keyframe of 640x360, and the begin of a frame that is none.
VP8_KEY = b"\x50\x01\x00\x9d\x01\x2a" + (640).to_bytes(2, "little") + (360).to_bytes(2, "little")
VP8_DELTA = b"\x51\x01\x00\x00\x00\x00"
VP8_BEGIN = b"\x90\x80\x11"
"""Payload descriptor: extended, a partition begins, a picture id of one byte."""
VP8_GO_ON = b"\x80\x80\x11"

OPUS_20_MS = b"\xfc" + bytes(10)
