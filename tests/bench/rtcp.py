"""The RTCP of a sender and a viewer, and the feedback that a sender reads (RFC 3550, RFC 4585)."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

_SENDER_REPORT, _RECEIVER_REPORT, _DESCRIPTION = 200, 201, 202
_TRANSPORT_FEEDBACK, _PAYLOAD_FEEDBACK = 205, 206
_NTP_EPOCH_S = 2_208_988_800


@dataclass(frozen=True, slots=True)
class Nack:
    """A generic NACK: `sequences` of `ssrc` that did not arrive (RFC 4585 section 6.2.1)."""

    ssrc: int
    sequences: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class KeyframeRequest:
    """A PLI or an FIR."""


def is_rtcp(datagram: bytes) -> bool:
    """Whether a datagram of the RTP range is RTCP by its second byte (RFC 5761 section 4)."""
    return len(datagram) >= 8 and 192 <= datagram[1] <= 223


def sender_report(ssrc: int, now_ns: int, timestamp: int, packets: int, size_bytes: int) -> bytes:
    """A compound of SR and SDES; `now_ns` is the wall clock at which `timestamp` was current."""
    seconds, rest = divmod(now_ns, 1_000_000_000)
    ntp = (seconds + _NTP_EPOCH_S, (rest << 32) // 1_000_000_000)
    report = struct.pack(
        "!BBHIIIIII", 0x80, _SENDER_REPORT, 6, ssrc, *ntp, timestamp, packets, size_bytes
    )
    return report + _description(ssrc)


def receiver_report(ssrc: int, highest: list[tuple[int, int]]) -> bytes:
    """A compound of RR and SDES that says: nothing lost.

    `highest`: per received SSRC, that SSRC and its extended highest sequence number.
    """
    head = struct.pack("!BBHI", 0x80 | len(highest), _RECEIVER_REPORT, 1 + 6 * len(highest), ssrc)
    blocks = (struct.pack("!IIIIII", source, 0, last, 16, 0, 0) for source, last in highest)
    return head + b"".join(blocks) + _description(ssrc)


def feedback(compound: bytes) -> Iterator[Nack | KeyframeRequest]:
    """What a decrypted compound asks of the sender; anything else in it is passed over."""
    offset = 0
    while offset + 12 <= len(compound):
        first, kind, words = struct.unpack_from("!BBH", compound, offset)
        end = offset + 4 * (words + 1)
        fmt = first & 31
        if kind == _PAYLOAD_FEEDBACK and fmt in (1, 4):
            yield KeyframeRequest()
        elif kind == _TRANSPORT_FEEDBACK and fmt == 1:
            (source,) = struct.unpack_from("!I", compound, offset + 8)
            lost: list[int] = []
            for at in range(offset + 12, min(end, len(compound)) - 3, 4):
                base, mask = struct.unpack_from("!HH", compound, at)
                lost.append(base)
                lost += [(base + bit + 1) & 0xFFFF for bit in range(16) if mask >> bit & 1]
            yield Nack(source, tuple(lost))
        offset = end


def _description(ssrc: int) -> bytes:
    return struct.pack("!BBHI", 0x81, _DESCRIPTION, 3, ssrc) + b"\x01\x05bench\0"
