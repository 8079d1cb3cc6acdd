"""Fragmented MP4, written and read as far as recordings need it.

An *init segment* says what the tracks are; each *segment* after it is a `moof` with the times and
sizes of its samples and an `mdat` with the samples. The two can be concatenated to one file that
every player takes, and a segment can be moved in time by patching its `tfdt`.

Sources: ISO/IEC 14496-12 (boxes), 14496-15 (`avcC`), the VP codec binding (`vpcC`) and the
Opus binding (`dOps`).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from media.frames import Look

VIDEO_ID: Final = 1
AUDIO_ID: Final = 2
VIDEO_RATE: Final = 90_000
AUDIO_RATE: Final = 48_000
MOVIE_RATE: Final = 1000
RATES: Final = {VIDEO_ID: VIDEO_RATE, AUDIO_ID: AUDIO_RATE}
FACTS_ID: Final = bytes.fromhex("7465727261636506a5c07265636f7264")
"""The `uuid` box in which a segment says what a recording must know of it."""

_KEY: Final = 0x02000000
_NOT_KEY: Final = 0x01010000
_MATRIX: Final = struct.pack("!9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
_UNDEFINED_LANGUAGE: Final = 0x55C4
_row: Final = struct.Struct("!IIIi")
"""Of a `trun`: duration, size, flags, how much later shown than decoded."""


class BoxError(ValueError):
    """The bytes are not the boxes that they should be; the message says what is wrong."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One frame in a track: `duration` and `shown_after` (of its decoding) in the track's ticks."""

    data: bytes
    duration: int
    keyframe: bool = True
    shown_after: int = 0


@dataclass(frozen=True, slots=True)
class Run:
    """The samples of one track in one segment; the first is decoded at `start` ticks."""

    track_id: int
    start: int
    samples: Sequence[Sample]


@dataclass(frozen=True, slots=True)
class Piece:
    """One segment of a file: `size_bytes` with its `moof`, and what it covers, in seconds."""

    size_bytes: int
    start_s: float
    duration_s: float
    keyframe: bool


@dataclass(slots=True)
class Moved:
    """A segment as it stands in a joined file, and what of it was found on the way."""

    data: bytearray
    ends_s: dict[int, float] = field(default_factory=dict)
    """When each track's last sample ends."""


def box(kind: bytes, *parts: bytes) -> bytes:
    """A box: size, kind, content."""
    size = 8 + sum(map(len, parts))
    return b"".join((size.to_bytes(4, "big"), kind, *parts))


def full_box(kind: bytes, version: int, flags: int, *parts: bytes) -> bytes:
    """A box with version and flags."""
    return box(kind, (version << 24 | flags).to_bytes(4, "big"), *parts)


# ------------------------------------------------------------ what the tracks are


def init_segment(look: Look | None, *, sound: bool, duration_s: float = 0.0) -> bytes:
    """`ftyp` and `moov`: a picture that looks so, if any, and sound in Opus, if any.

    `duration_s` is that of the whole file, 0 if it is not known yet.
    """
    tracks, extends = [], []
    duration = round(duration_s * MOVIE_RATE)
    if look is not None:
        tracks.append(_video_track(look))
        extends.append(_trex(VIDEO_ID))
    if sound:
        tracks.append(_audio_track())
        extends.append(_trex(AUDIO_ID))
    whole = [full_box(b"mehd", 1, 0, duration.to_bytes(8, "big"))] if duration else []
    mvhd = full_box(
        b"mvhd", 0, 0,
        struct.pack("!IIII", 0, 0, MOVIE_RATE, 0),
        struct.pack("!IHHII", 0x10000, 0x100, 0, 0, 0),
        _MATRIX, bytes(24), struct.pack("!I", AUDIO_ID + 1),
    )  # fmt: skip
    brands = b"iso6" + (1).to_bytes(4, "big") + b"iso6isommp41"
    return box(b"ftyp", brands) + box(b"moov", mvhd, *tracks, box(b"mvex", *whole, *extends))


def _trex(track_id: int) -> bytes:
    return full_box(b"trex", 0, 0, struct.pack("!IIIII", track_id, 1, 0, 0, 0))


def _video_track(look: Look) -> bytes:
    width, height = look.width, look.height
    if look.codec == "H264":
        kind, setup = b"avc1", _avcc(look.sps, look.pps)
    else:
        # Profile 0, level unknown, 8 bit 4:2:0, studio range, colours unspecified (2).
        kind, setup = (
            b"vp08",
            full_box(b"vpcC", 1, 0, bytes((0, 0, 8 << 4 | 1 << 1, 2, 2, 2, 0, 0))),
        )
    entry = box(
        kind, bytes(6), struct.pack("!H", 1), bytes(16),
        struct.pack("!HHIIIH", width, height, 0x480000, 0x480000, 0, 1),
        bytes(32), struct.pack("!Hh", 24, -1), setup,
    )  # fmt: skip
    header = full_box(b"vmhd", 0, 1, bytes(8))
    return _track(VIDEO_ID, VIDEO_RATE, b"vide", header, entry, width, height)


def _avcc(sps: bytes, pps: bytes) -> bytes:
    more = b""
    if sps[1] in (100, 110, 122, 144):
        # High profiles say the chroma format, which WebRTC leaves at 4:2:0 with 8 bits.
        more = bytes((0xFC | 1, 0xF8, 0xF8, 0))
    return box(
        b"avcC", bytes((1, sps[1], sps[2], sps[3], 0xFF, 0xE1)),
        len(sps).to_bytes(2, "big"), sps, b"\1", len(pps).to_bytes(2, "big"), pps, more,
    )  # fmt: skip


def _audio_track() -> bytes:
    # WebRTC's Opus is always told as two channels (RFC 7587 section 7) and has no pre-skip.
    setup = box(b"dOps", struct.pack("!BBHIhB", 0, 2, 0, AUDIO_RATE, 0, 0))
    entry = box(
        b"Opus", bytes(6), struct.pack("!H", 1), bytes(8),
        struct.pack("!HHHHI", 2, 16, 0, 0, AUDIO_RATE << 16), setup,
    )  # fmt: skip
    header = full_box(b"smhd", 0, 0, bytes(4))
    return _track(AUDIO_ID, AUDIO_RATE, b"soun", header, entry, 0, 0)


def _track(
    track_id: int, rate: int, handler: bytes, header: bytes, entry: bytes, width: int, height: int
) -> bytes:
    volume = 0x100 if handler == b"soun" else 0
    tkhd = full_box(
        b"tkhd", 0, 3,
        struct.pack("!IIIII", 0, 0, track_id, 0, 0), bytes(8),
        struct.pack("!hhHH", 0, 0, volume, 0), _MATRIX,
        struct.pack("!II", width << 16, height << 16),
    )  # fmt: skip
    mdhd = full_box(b"mdhd", 0, 0, struct.pack("!IIIIHH", 0, 0, rate, 0, _UNDEFINED_LANGUAGE, 0))
    hdlr = full_box(b"hdlr", 0, 0, bytes(4), handler, bytes(12), b"terrace\0")
    # No samples here: each segment says its own.
    empty = [full_box(kind, 0, 0, bytes(4)) for kind in (b"stts", b"stsc", b"stco")]
    table = box(
        b"stbl",
        full_box(b"stsd", 0, 0, (1).to_bytes(4, "big"), entry),
        *empty,
        full_box(b"stsz", 0, 0, bytes(8)),
    )
    here = box(b"dinf", full_box(b"dref", 0, 0, (1).to_bytes(4, "big"), full_box(b"url ", 0, 1)))
    return box(b"trak", tkhd, box(b"mdia", mdhd, hdlr, box(b"minf", header, here, table)))


# ------------------------------------------------------------ segments


def segment(number: int, runs: Sequence[Run]) -> bytes:
    """`moof` and `mdat` with the samples of all runs; `number` counts from 1.

    Raises struct.error for a time or size outside its field.
    """
    runs = [run for run in runs if run.samples]
    head = _moof(number, runs, [0] * len(runs))
    offsets, at = [], len(head) + 8
    for run in runs:
        offsets.append(at)
        at += sum(len(s.data) for s in run.samples)
    return _moof(number, runs, offsets) + box(
        b"mdat", *(s.data for run in runs for s in run.samples)
    )


def _moof(number: int, runs: Sequence[Run], offsets: Sequence[int]) -> bytes:
    fragments = [_traf(run, offset) for run, offset in zip(runs, offsets, strict=True)]
    return box(b"moof", full_box(b"mfhd", 0, 0, struct.pack("!I", number)), *fragments)


def _traf(run: Run, offset: int) -> bytes:
    # Offsets count from the `moof`; duration, size, flags and shift are given for each sample.
    tfhd = full_box(b"tfhd", 0, 0x20000, struct.pack("!I", run.track_id))
    tfdt = full_box(b"tfdt", 1, 0, struct.pack("!Q", run.start))
    rows = b"".join(
        _row.pack(s.duration, len(s.data), _KEY if s.keyframe else _NOT_KEY, s.shown_after)
        for s in run.samples
    )
    trun = full_box(b"trun", 1, 0xF01, struct.pack("!Ii", len(run.samples), offset), rows)
    return box(b"traf", tfhd, tfdt, trun)


def with_duration(init: bytes, duration_s: float) -> bytes:
    """An init segment of ours that says how long the whole file is.

    Raises BoxError if it is cut or not one of ours.
    """
    whole = full_box(b"mehd", 1, 0, round(duration_s * MOVIE_RATE).to_bytes(8, "big"))
    out = b""
    for kind, begin, end in boxes(init):
        content = init[begin:end]
        if kind == b"moov":
            inner = [
                (b"mvex", whole + init[at:stop]) if name == b"mvex" else (name, init[at:stop])
                for name, at, stop in boxes(init, begin, end)
            ]
            content = b"".join(box(name, one) for name, one in inner)
        out += box(kind, content)
    return out


def facts_box(facts: bytes) -> bytes:
    """What a recording must know of a segment, in a box that players pass over."""
    return box(b"uuid", FACTS_ID, facts)


def index(track_id: int, pieces: Sequence[Piece]) -> bytes:
    """`sidx` for the segments that follow it, so that a player finds a time without a search.

    Raises ValueError for more than 65,535 pieces.
    """
    if len(pieces) > 0xFFFF:
        raise ValueError(f"{len(pieces)} segments do not fit one index")
    rate = RATES[track_id]
    first = round(pieces[0].start_s * rate) if pieces else 0
    rows = b"".join(
        struct.pack(
            "!III", p.size_bytes, round(p.duration_s * rate), 0x90000000 if p.keyframe else 0
        )
        for p in pieces
    )
    head = struct.pack("!IIQQHH", track_id, rate, first, 0, 0, len(pieces))
    return full_box(b"sidx", 1, 0, head, rows)


# ------------------------------------------------------------ reading our own


def boxes(data: bytes | bytearray, at: int = 0, end: int = -1) -> Iterator[tuple[bytes, int, int]]:
    """Kind, begin and end of the content of each box between two offsets.

    Raises BoxError where one does not fit.
    """
    end = len(data) if end < 0 else end
    while at < end:
        if at + 8 > end:
            raise BoxError("a box is cut in its header")
        size = int.from_bytes(data[at : at + 4], "big")
        if size < 8 or at + size > end:
            raise BoxError(f"a box of {size} bytes does not fit its place")
        yield bytes(data[at + 4 : at + 8]), at + 8, at + size
        at += size


def facts_of(data: bytes) -> bytes:
    """The facts of a whole segment. Raises BoxError if it is cut or not one of ours."""
    facts, kinds = b"", []
    for kind, begin, end in boxes(data):
        kinds.append(kind)
        if kind == b"uuid" and data[begin : begin + 16] == FACTS_ID:
            facts = data[begin + 16 : end]
    if kinds != [b"uuid", b"moof", b"mdat"] or not facts:
        raise BoxError("this is no segment of a recording")
    return facts


def moved(data: bytes, number: int, later_ms: int) -> Moved:
    """A segment of ours without its facts, under another number and so much later.

    Raises BoxError if it is cut or not one of ours.
    """
    out = Moved(bytearray())
    for kind, begin, end in boxes(data):
        if kind not in (b"moof", b"mdat"):
            continue
        at = len(out.data)
        out.data += data[begin - 8 : end]
        if kind == b"moof":
            _move(out, at + 8, len(out.data), number, later_ms)
    if not out.ends_s:
        raise BoxError("a segment holds no track")
    return out


def _move(out: Moved, at: int, end: int, number: int, later_ms: int) -> None:
    for kind, begin, stop in boxes(out.data, at, end):
        if kind == b"mfhd" and stop - begin == 8:
            out.data[begin + 4 : stop] = number.to_bytes(4, "big")
        elif kind == b"traf":
            track_id = 0
            for inner, start, ends in boxes(out.data, begin, stop):
                if inner == b"tfhd" and ends - start == 8:
                    track_id = int.from_bytes(out.data[start + 4 : ends], "big")
                elif inner == b"tfdt" and ends - start == 12 and track_id in RATES:
                    later = later_ms * RATES[track_id] // 1000
                    time = int.from_bytes(out.data[start + 4 : ends], "big") + later
                    if time >> 63:
                        raise BoxError("a segment's time is beyond all time")
                    out.data[start + 4 : ends] = time.to_bytes(8, "big")
                    out.ends_s[track_id] = time / RATES[track_id]
                elif inner == b"trun" and track_id in out.ends_s:
                    rows = out.data[start + 12 : ends]
                    if len(rows) % 16:
                        raise BoxError("a segment's table of samples is cut")
                    ticks = sum(row[0] for row in _row.iter_unpack(rows))
                    out.ends_s[track_id] += ticks / RATES[track_id]
