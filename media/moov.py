"""`ftyp` and `moov` of a rendition: H264 as an encoder or a container describes it, and AAC.

Beside `fmp4`, which writes the segments and the index. Sources: ISO/IEC 14496-12 (boxes),
14496-14 (`esds`), 14496-15 (`avcC`), RFC 6381 (codec strings).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from .fmp4 import AUDIO_ID, AUDIO_RATE, MOVIE_RATE, VIDEO_ID, VIDEO_RATE, BoxError, box, full_box

AVC_PLAIN_PROFILES: Final = (66, 77, 88)
_MATRIX: Final = struct.pack("!9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
_UNDEFINED_LANGUAGE: Final = 0x55C4
_SPS, _PPS = 7, 8


@dataclass(frozen=True, slots=True)
class Picture:
    """A video track: its size in pixels, and the content of its `avcC` box."""

    width: int
    height: int
    avcc: bytes

    @property
    def codec(self) -> str:
        """As in RFC 6381: `avc1.64001e`."""
        return f"avc1.{self.avcc[1:4].hex()}"


@dataclass(frozen=True, slots=True)
class Sound:
    """An audio track in AAC at 48 kHz: its AudioSpecificConfig, channels and bitrate."""

    config: bytes
    channels: int
    bitrate_bps: int

    codec = "mp4a.40.2"


def header(picture: Picture | None, sound: Sound | None, duration_s: float) -> bytes:
    """`ftyp` and `moov` of a file that lasts so long."""
    tracks, extends = [], []
    if picture is not None:
        tracks.append(_video_track(picture))
        extends.append(_extends(VIDEO_ID))
    if sound is not None:
        tracks.append(_audio_track(sound))
        extends.append(_extends(AUDIO_ID))
    whole = full_box(b"mehd", 1, 0, round(duration_s * MOVIE_RATE).to_bytes(8, "big"))
    movie = full_box(
        b"mvhd", 0, 0,
        struct.pack("!IIIIIHHII", 0, 0, MOVIE_RATE, 0, 0x10000, 0x100, 0, 0, 0),
        _MATRIX, bytes(24), struct.pack("!I", AUDIO_ID + 1),
    )  # fmt: skip
    brands = b"iso6" + bytes(4) + b"iso6cmfcisommp41"
    return box(b"ftyp", brands) + box(b"moov", movie, *tracks, box(b"mvex", whole, *extends))


def avcc_of(extradata: bytes) -> bytes:
    """The content of `avcC`, from what FFmpeg calls extradata: that, or NAL units in Annex B.

    Raises BoxError where it is neither.
    """
    if extradata[:1] == b"\1" and len(extradata) >= 7:
        return extradata
    units = list(nal_units(extradata))
    sps = [unit for unit in units if unit[0] & 0x1F == _SPS]
    pps = [unit for unit in units if unit[0] & 0x1F == _PPS]
    if len(sps) != 1 or len(pps) != 1 or len(sps[0]) < 4:
        raise BoxError("this H264 does not say what it is")
    profile = sps[0][1:4]
    # High profiles say chroma and depth, which are 4:2:0 with 8 bits here.
    more = b"" if profile[0] in AVC_PLAIN_PROFILES else b"\xfd\xf8\xf8\x00"
    return b"".join((
        b"\1", profile, b"\xff\xe1", len(sps[0]).to_bytes(2, "big"), sps[0],
        b"\1", len(pps[0]).to_bytes(2, "big"), pps[0], more,
    ))  # fmt: skip


def nal_units(data: bytes) -> Iterator[bytes]:
    """The NAL units of a byte stream (ITU-T H.264 Annex B), without start codes."""
    at = data.find(b"\0\0\1")
    while at >= 0:
        begin = at + 3
        at = data.find(b"\0\0\1", begin)
        # A zero before a start code belongs to it; a NAL unit never ends in one.
        unit = data[begin : at if at >= 0 else len(data)].rstrip(b"\0")
        if unit:
            yield unit


def access_unit(data: bytes) -> bytes:
    """A picture as MP4 holds it: each NAL unit behind its length; Annex B is turned into that."""
    if data[:3] != b"\0\0\1" and data[:4] != b"\0\0\0\1":
        return data
    return b"".join(len(unit).to_bytes(4, "big") + unit for unit in nal_units(data))


def _video_track(picture: Picture) -> bytes:
    width, height = picture.width, picture.height
    entry = box(
        b"avc1", bytes(6), struct.pack("!H", 1), bytes(16),
        struct.pack("!HHIIIH", width, height, 0x480000, 0x480000, 0, 1),
        bytes(32), struct.pack("!Hh", 24, -1), box(b"avcC", picture.avcc),
        box(b"pasp", struct.pack("!II", 1, 1)),
    )  # fmt: skip
    media_header = full_box(b"vmhd", 0, 1, bytes(8))
    return _track(VIDEO_ID, VIDEO_RATE, b"vide", media_header, entry, (width, height))


def _audio_track(sound: Sound) -> bytes:
    decoder = struct.pack("!BBBHII", 0x40, 0x15, 0, 0, sound.bitrate_bps, sound.bitrate_bps)
    about = decoder + _descriptor(5, sound.config)
    setup = _descriptor(3, bytes(3) + _descriptor(4, about) + _descriptor(6, b"\2"))
    entry = box(
        b"mp4a", bytes(6), struct.pack("!H", 1), bytes(8),
        struct.pack("!HHHHI", sound.channels, 16, 0, 0, AUDIO_RATE << 16),
        full_box(b"esds", 0, 0, setup),
    )  # fmt: skip
    return _track(AUDIO_ID, AUDIO_RATE, b"soun", full_box(b"smhd", 0, 0, bytes(4)), entry)


def _descriptor(tag: int, content: bytes) -> bytes:
    return bytes((tag, len(content))) + content


def _extends(track_id: int) -> bytes:
    return full_box(b"trex", 0, 0, struct.pack("!IIIII", track_id, 1, 0, 0, 0))


def _track(
    track_id: int,
    rate: int,
    handler: bytes,
    media_header: bytes,
    entry: bytes,
    size: tuple[int, int] = (0, 0),
) -> bytes:
    volume = 0x100 if handler == b"soun" else 0
    tkhd = full_box(
        b"tkhd", 0, 3,
        struct.pack("!IIIII", 0, 0, track_id, 0, 0), bytes(8),
        struct.pack("!hhHH", 0, 0, volume, 0), _MATRIX,
        struct.pack("!II", size[0] << 16, size[1] << 16),
    )  # fmt: skip
    mdhd = full_box(b"mdhd", 0, 0, struct.pack("!IIIIHH", 0, 0, rate, 0, _UNDEFINED_LANGUAGE, 0))
    hdlr = full_box(b"hdlr", 0, 0, bytes(4), handler, bytes(12), b"terrace\0")
    table = box(
        b"stbl",
        full_box(b"stsd", 0, 0, (1).to_bytes(4, "big"), entry),
        *(full_box(kind, 0, 0, bytes(4)) for kind in (b"stts", b"stsc", b"stco")),
        full_box(b"stsz", 0, 0, bytes(8)),
    )
    here = box(b"dinf", full_box(b"dref", 0, 0, (1).to_bytes(4, "big"), full_box(b"url ", 0, 1)))
    media = box(b"mdia", mdhd, hdlr, box(b"minf", media_header, here, table))
    return box(b"trak", tkhd, media)
