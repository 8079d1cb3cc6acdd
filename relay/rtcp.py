"""RTCP: compound packets to small objects, and back.

A node reads what its peers report and ask for (`parse`), and writes reports, requests and byes.
Each function that writes returns one RTCP packet; a compound is their concatenation, reports
first (RFC 3550 section 6.1). Packets that a relay has no use for (APP, XR, SDES, transport-wide
feedback) are skipped.

Sources: RFC 3550 section 6 (SR, RR, SDES, BYE), RFC 4585 section 6 (NACK, PLI), RFC 5104 section
4.3.1 (FIR), draft-alvestrand-rmcat-remb-03 (REMB), RFC 5506 (a compound need not begin with a
report).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

MAX_COMPOUND_BYTES: Final = 1500
MAX_COMPOUND_PACKETS: Final = 32
MAX_NACK_SEQS: Final = 1000
MAX_NACK_ENTRIES: Final = 290
"""Entries that `nack` puts in one packet: 1,172 bytes, which fits any path with SRTCP on top."""

_SR: Final = 200
_RR: Final = 201
_SDES: Final = 202
_BYE: Final = 203
_RTPFB: Final = 205
_PSFB: Final = 206

_FMT_NACK: Final = 1
_FMT_PLI: Final = 1
_FMT_FIR: Final = 4
_FMT_APPLICATION: Final = 15

_unpack_head = struct.Struct("!BBH").unpack_from
_unpack_u32 = struct.Struct("!I").unpack_from
_unpack_sender = struct.Struct("!IQIII").unpack_from
_unpack_block = struct.Struct("!IIIIII").unpack_from
_unpack_entry = struct.Struct("!HH").unpack_from
_pack_head = struct.Struct("!BBH").pack
_pack_sender = struct.Struct("!IQIII").pack
_pack_block = struct.Struct("!IIIIII").pack
_pack_feedback = struct.Struct("!BBHII").pack
_pack_entry = struct.Struct("!HH").pack

_UNIX_TO_NTP_S: Final = 2_208_988_800
_U32: Final = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class ReportBlock:
    """What a receiver says about one stream (RFC 3550 section 6.4.1)."""

    ssrc: int
    fraction_lost: int
    """Lost since the previous report, in 1/256."""
    packets_lost: int
    """Lost in total: signed 24 bits, negative when there were duplicates."""
    highest_seq: int
    """32 bits: cycles, then the highest sequence number."""
    jitter: int
    """In timestamp units."""
    lsr: int
    """Middle 32 bits of the NTP time of the last sender report; 0 if there was none."""
    dlsr: int
    """Delay since then in 1/65536 s."""


@dataclass(frozen=True, slots=True)
class SenderReport:
    """RFC 3550 section 6.4.1."""

    ssrc: int
    ntp: int
    """64 bits: seconds since 1900 in 32.32 fixed point; the same moment as `rtp_timestamp`."""
    rtp_timestamp: int
    packets: int
    octets: int
    reports: list[ReportBlock] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class ReceiverReport:
    """RFC 3550 section 6.4.2; `ssrc` is the reporter."""

    ssrc: int
    reports: list[ReportBlock]


@dataclass(frozen=True, slots=True)
class Nack:
    """Generic NACK (RFC 4585 section 6.2.1): the sequence numbers asked for, each once."""

    media_ssrc: int
    seqs: list[int]


@dataclass(frozen=True, slots=True)
class Pli:
    """Picture loss indication (RFC 4585 section 6.3.1): a keyframe is asked for."""

    media_ssrc: int


@dataclass(frozen=True, slots=True)
class Fir:
    """Full intra request (RFC 5104 section 4.3.1): keyframes of these streams are asked for."""

    media_ssrcs: list[int]


@dataclass(frozen=True, slots=True)
class Remb:
    """Receiver's estimate of the bitrate for all of `ssrcs` together (REMB)."""

    bitrate_bps: int
    ssrcs: list[int]


@dataclass(frozen=True, slots=True)
class Bye:
    """These sources end (RFC 3550 section 6.6)."""

    ssrcs: list[int]


Packet = SenderReport | ReceiverReport | Nack | Pli | Fir | Remb | Bye


class Compound(list[Packet]):
    """The packets of one compound, in order.

    `malformed` is True when something in it was wrong; the packets before the fault are there.
    """

    __slots__ = ("malformed",)

    malformed: bool

    def __init__(self) -> None:
        super().__init__()
        self.malformed = False


def parse(data: bytes) -> Compound:
    """Read one decrypted RTCP datagram; never raises.

    The datagram is malformed, and reading stops, at a packet that is not version 2, does not fit,
    or whose content does not fit it, and after MAX_COMPOUND_PACKETS. A datagram of more than
    MAX_COMPOUND_BYTES or none is not read at all.
    """
    found = Compound()
    size = len(data)
    if not 0 < size <= MAX_COMPOUND_BYTES:
        found.malformed = True
        return found
    at = 0
    for _ in range(MAX_COMPOUND_PACKETS):
        if at + 4 > size:
            break
        first, kind, words = _unpack_head(data, at)
        stop = end = at + 4 + 4 * words
        if first & 0xC0 != 0x80 or end > size:
            break
        if first & 0x20:
            end -= data[end - 1]
            if end == stop or end < at + 4:
                break
        try:
            packet = _parse_one(data, kind, first & 0x1F, at + 4, end)
        except _ContentError:
            break
        if packet is not None:
            found.append(packet)
        at = stop
        if at == size:
            return found
    found.malformed = True
    return found


def plain_report(data: bytes) -> list[ReportBlock] | None:
    """The blocks of a compound that is one receiver report and SDES, or None for anything else.

    Most of what a viewer sends is this, once a second. `parse` takes the rest, and longer.
    """
    size = len(data)
    if size < 8 or data[1] != _RR:
        return None
    first = data[0]
    end = 4 + 4 * (data[2] << 8 | data[3])
    count = first & 0x1F
    # No padding, and room for all blocks; what follows may only be one SDES to the end.
    if first & 0xE0 != 0x80 or end > size or 8 + 24 * count > end:
        return None
    if end != size and (
        end + 4 > size
        or data[end + 1] != _SDES
        or end + 4 + 4 * (data[end + 2] << 8 | data[end + 3]) != size
    ):
        return None
    return _blocks(data, 8, count)


class _ContentError(Exception):
    """A packet's content does not fit it."""


def _parse_one(data: bytes, kind: int, count: int, at: int, end: int) -> Packet | None:
    """One packet: `count` is the five-bit field of its header, [at, end) what follows it."""
    if kind == _RR:
        _need(at + 4 + 24 * count <= end)
        return ReceiverReport(_unpack_u32(data, at)[0], _blocks(data, at + 4, count))
    if kind == _SR:
        _need(at + 24 + 24 * count <= end)
        ssrc, ntp, timestamp, packets, octets = _unpack_sender(data, at)
        reports = _blocks(data, at + 24, count)
        return SenderReport(ssrc, ntp, timestamp, packets, octets, reports)
    if kind == _RTPFB:
        _need(at + 8 <= end)
        if count != _FMT_NACK:
            return None
        return Nack(_unpack_u32(data, at + 4)[0], _nack_seqs(data, at + 8, end))
    if kind == _PSFB:
        _need(at + 8 <= end)
        if count == _FMT_PLI:
            return Pli(_unpack_u32(data, at + 4)[0])
        if count == _FMT_FIR:
            return Fir([_unpack_u32(data, i)[0] for i in range(at + 8, end - 7, 8)])
        if count == _FMT_APPLICATION and data[at + 8 : at + 12] == b"REMB":
            return _remb(data, at + 12, end)
        return None
    if kind == _BYE:
        _need(at + 4 * count <= end)
        return Bye(_ssrcs(data, at, count))
    return None


def _need(fits: bool) -> None:
    if not fits:
        raise _ContentError


def _ssrcs(data: bytes, at: int, count: int) -> list[int]:
    return list(struct.unpack_from(f"!{count}I", data, at))


def _blocks(data: bytes, at: int, count: int) -> list[ReportBlock]:
    blocks = []
    for i in range(at, at + 24 * count, 24):
        ssrc, loss, highest_seq, jitter, lsr, dlsr = _unpack_block(data, i)
        lost = loss & 0xFFFFFF
        if lost & 0x800000:
            lost -= 0x1000000
        blocks.append(ReportBlock(ssrc, loss >> 24, lost, highest_seq, jitter, lsr, dlsr))
    return blocks


def _nack_seqs(data: bytes, at: int, end: int) -> list[int]:
    """Expand entries of packet id and bitmask; at most MAX_NACK_SEQS numbers, the first ones."""
    seqs: dict[int, None] = {}
    for i in range(at, end - 3, 4):
        pid, mask = _unpack_entry(data, i)
        seqs[pid] = None
        while mask:
            pid = (pid + 1) & 0xFFFF
            if mask & 1:
                seqs[pid] = None
            mask >>= 1
        if len(seqs) >= MAX_NACK_SEQS:
            break
    return list(seqs)[:MAX_NACK_SEQS]


def _remb(data: bytes, at: int, end: int) -> Remb:
    """The part of a REMB behind its name: number of SSRCs, exponent and mantissa, SSRCs."""
    _need(at + 4 <= end)
    (word,) = _unpack_u32(data, at)
    count = word >> 24
    _need(at + 4 + 4 * count <= end)
    return Remb((word & 0x3FFFF) << (word >> 18 & 0x3F), _ssrcs(data, at + 4, count))


def sender_report(
    ssrc: int,
    ntp: int,
    rtp_timestamp: int,
    packets: int,
    octets: int,
    reports: Sequence[ReportBlock] = (),
) -> bytes:
    """SR (RFC 3550 section 6.4.1). The counters may run over: their low 32 bits are sent.

    Raises ValueError for more than 31 reports.
    """
    content = _pack_sender(ssrc, ntp, rtp_timestamp, packets & _U32, octets & _U32)
    return _packet(_SR, len(reports), content + _pack_blocks(reports))


def receiver_report(sender_ssrc: int, blocks: Sequence[ReportBlock]) -> bytes:
    """RR (RFC 3550 section 6.4.2); also right with no blocks. ValueError for more than 31."""
    return _packet(_RR, len(blocks), struct.pack("!I", sender_ssrc) + _pack_blocks(blocks))


def sdes_cname(ssrc: int, cname: str) -> bytes:
    """SDES with one CNAME (RFC 3550 section 6.5.1). ValueError if it exceeds 255 bytes."""
    text = cname.encode()
    if len(text) > 255:
        raise ValueError(f"a CNAME of {len(text)} bytes does not fit: 255 do")
    item = struct.pack("!IBB", ssrc, 1, len(text)) + text
    # One to four zero bytes end the chunk, up to a whole word.
    return _packet(_SDES, 1, item + bytes(4 - len(item) % 4))


def nack(sender_ssrc: int, media_ssrc: int, seqs: Iterable[int]) -> bytes:
    """Generic NACK (RFC 4585 section 6.2.1) in as few entries as possible, oldest first.

    `seqs` lie within half the number range of each other, in any order, across a wrap or not. When
    they need more than MAX_NACK_ENTRIES, the newest are left out: they can be asked for later.
    Raises ValueError when there are none.
    """
    wanted = list(seqs)
    if not wanted:
        raise ValueError("a NACK needs at least one sequence number")
    base = wanted[0] - 0x8000
    # Distances from a point half a range before the first, so that order survives the wrap.
    distances = sorted({(seq - base) & 0xFFFF for seq in wanted})
    entries: list[bytes] = []
    pid = distances[0]
    mask = 0
    for distance in distances[1:]:
        ahead = distance - pid
        if ahead <= 16:
            mask |= 1 << (ahead - 1)
            continue
        entries.append(_pack_entry((pid + base) & 0xFFFF, mask))
        pid, mask = distance, 0
    entries.append(_pack_entry((pid + base) & 0xFFFF, mask))
    del entries[MAX_NACK_ENTRIES:]
    head = _pack_feedback(0x80 | _FMT_NACK, _RTPFB, 2 + len(entries), sender_ssrc, media_ssrc)
    return head + b"".join(entries)


def pli(sender_ssrc: int, media_ssrc: int) -> bytes:
    """Picture loss indication (RFC 4585 section 6.3.1)."""
    return _pack_feedback(0x80 | _FMT_PLI, _PSFB, 2, sender_ssrc, media_ssrc)


def fir(sender_ssrc: int, media_ssrc: int, number: int) -> bytes:
    """Full intra request (RFC 5104 section 4.3.1); each new one has another `number`."""
    head = _pack_feedback(0x80 | _FMT_FIR, _PSFB, 4, sender_ssrc, 0)
    return head + media_ssrc.to_bytes(4, "big") + bytes([number & 0xFF, 0, 0, 0])


def remb(sender_ssrc: int, bitrate_bps: int, ssrcs: Sequence[int]) -> bytes:
    """REMB (draft-alvestrand-rmcat-remb-03 section 2.2), rounded down to 18 significant bits.

    Raises ValueError for more than 255 SSRCs or a negative bitrate.
    """
    if bitrate_bps < 0 or len(ssrcs) > 255:
        raise ValueError(f"REMB of {bitrate_bps} bit/s for {len(ssrcs)} streams is not possible")
    exponent = min(max(bitrate_bps.bit_length() - 18, 0), 63)
    mantissa = min(bitrate_bps >> exponent, 0x3FFFF)
    word = len(ssrcs) << 24 | exponent << 18 | mantissa
    content = struct.pack(f"!II4sI{len(ssrcs)}I", sender_ssrc, 0, b"REMB", word, *ssrcs)
    return _packet(_PSFB, _FMT_APPLICATION, content)


def bye(ssrcs: Sequence[int]) -> bytes:
    """BYE (RFC 3550 section 6.6) without a reason. ValueError for more than 31 SSRCs."""
    return _packet(_BYE, len(ssrcs), struct.pack(f"!{len(ssrcs)}I", *ssrcs))


def _packet(kind: int, count: int, content: bytes) -> bytes:
    if count > 31:
        raise ValueError(f"an RTCP packet has room for 31 entries, not {count}")
    return _pack_head(0x80 | count, kind, len(content) // 4) + content


def _pack_blocks(blocks: Iterable[ReportBlock]) -> bytes:
    packed = []
    for b in blocks:
        # The counter stays at its limits and does not wrap (RFC 3550 appendix A.3).
        lost = max(-0x800000, min(b.packets_lost, 0x7FFFFF)) & 0xFFFFFF
        loss = (b.fraction_lost & 0xFF) << 24 | lost
        packed.append(_pack_block(b.ssrc, loss, b.highest_seq, b.jitter, b.lsr, b.dlsr))
    return b"".join(packed)


def ntp_from_unix(seconds: float) -> int:
    """NTP time of a Unix time: 64 bits, seconds since 1900 in 32.32 fixed point."""
    whole = int(seconds // 1)
    fraction = int((seconds - whole) * 4294967296.0)
    return ((whole + _UNIX_TO_NTP_S) << 32 | fraction) & 0xFFFFFFFFFFFFFFFF


def ntp_middle(ntp: int) -> int:
    """The middle 32 bits of an NTP time, as `lsr` has them: 1/65536 s, wraps after 18 h."""
    return ntp >> 16 & _U32
