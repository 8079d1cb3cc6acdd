"""The signed list of pieces of one rendition.

A rendition is one fragmented MP4 file (ISO/IEC 14496-12) and can be checked piece by piece:

```
 0            init.size_bytes
 ├─ init ─────┼─ segment 0 ─┼─ segment 1 ─┼─ ... ─┤
 │ ftyp moov  │             │             │
 │      sidx  │  moof mdat  │  moof mdat  │
```

A segment begins with a keyframe and plays alone after `ftyp` and `moov`. It is the unit of fetch,
check, resume and eviction. Everything here comes from outside and is bounded.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import Annotated, Final, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

MAX_SEGMENTS: Final = 60_000
MAX_SEGMENT_BYTES: Final = 64 * 1024 * 1024
MAX_INIT_BYTES: Final = 4 * 1024 * 1024
MAX_SEGMENT_S: Final = 120.0
MAX_DURATION_S: Final = 48 * 3600.0

# Names become parts of keys, paths and URLs, so they have no dot, no slash and no letter case.
CourseId = Annotated[str, Field(pattern=r"\A[a-z0-9][a-z0-9-]{0,63}\z")]
RenditionName = Annotated[str, Field(pattern=r"\A[a-z0-9][a-z0-9-]{0,31}\z")]
Sha256 = Annotated[str, Field(pattern=r"\A[0-9a-f]{64}\z")]
Seconds = Annotated[float, Field(ge=0, le=MAX_DURATION_S, allow_inf_nan=False)]
Bitrate = Annotated[int, Field(ge=0, le=1_000_000_000)]
Pixels = Annotated[int, Field(ge=0, le=16_384)]
Codecs = Annotated[str, Field(max_length=100, pattern=r"\A[A-Za-z0-9.,-]*\z")]
"""As in RFC 6381: `avc1.64001f,mp4a.40.2`."""

# Times are kept in seconds and made from clocks of 90 kHz and 48 kHz: rounding, not a gap.
_ROUNDING_S: Final = 0.001


class Document(BaseModel):
    """A model of something from outside: unknown fields are refused, and it does not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Piece(Document):
    """A range of a rendition's file, and what must stand in it."""

    offset_bytes: int = Field(ge=0)
    size_bytes: int = Field(gt=0, le=MAX_SEGMENT_BYTES)
    sha256: Sha256

    @property
    def end_bytes(self) -> int:
        """The first byte after the piece."""
        return self.offset_bytes + self.size_bytes


class Segment(Piece):
    """One piece of media, from a keyframe to just before another."""

    index: int = Field(ge=0, lt=MAX_SEGMENTS)
    start_s: Seconds
    """Since the beginning of the course, in the time of the pictures shown."""
    duration_s: float = Field(gt=0, le=MAX_SEGMENT_S, allow_inf_nan=False)


class Manifest(Document):
    """One rendition: what it is, and its pieces in the order of the file, without holes."""

    version: int = Field(default=1, ge=1, le=1)
    course: CourseId
    rendition: RenditionName
    codecs: Codecs
    bitrate_bps: Bitrate
    """Mean over the whole file."""
    peak_bitrate_bps: Bitrate
    """Of the busiest segment."""
    width: Pixels
    """0 where there is no picture."""
    height: Pixels
    duration_s: Seconds
    init: Piece
    map_size_bytes: int = Field(gt=0, le=MAX_INIT_BYTES)
    """How much of `init` is `ftyp` and `moov`; the rest is the index, which HLS does not want."""
    segments: tuple[Segment, ...] = Field(min_length=1, max_length=MAX_SEGMENTS)

    @model_validator(mode="after")
    def _pieces_fit(self) -> Self:
        if self.init.offset_bytes or self.init.size_bytes > MAX_INIT_BYTES:
            raise ValueError("init does not begin the file, or is too large")
        if self.map_size_bytes > self.init.size_bytes:
            raise ValueError("map_size_bytes is larger than init")
        end_bytes, end_s = self.init.end_bytes, 0.0
        for index, segment in enumerate(self.segments):
            if segment.index != index:
                raise ValueError(f"segment {index} is numbered {segment.index}")
            if segment.offset_bytes != end_bytes:
                raise ValueError(f"segment {index} leaves a hole or overlaps the piece before")
            if segment.start_s < end_s - _ROUNDING_S:
                raise ValueError(f"segment {index} begins before the one before it ends")
            end_bytes, end_s = segment.end_bytes, segment.start_s + segment.duration_s
        if end_s > self.duration_s + _ROUNDING_S:
            raise ValueError("duration_s is shorter than the segments")
        return self

    @property
    def size_bytes(self) -> int:
        """Of the whole file."""
        return self.segments[-1].end_bytes

    def pieces(self) -> tuple[Piece, ...]:
        """All of the file, in order: `init`, then the segments."""
        return (self.init, *self.segments)

    def covering(self, start_bytes: int, end_bytes: int) -> tuple[Piece, ...]:
        """The pieces that hold bytes `start_bytes` up to, not including, `end_bytes`."""
        pieces = self.pieces()
        offsets = [piece.offset_bytes for piece in pieces]
        first = max(0, bisect_right(offsets, start_bytes) - 1)
        return tuple(
            piece
            for piece in pieces[first:]
            if piece.offset_bytes < end_bytes and piece.end_bytes > start_bytes
        )

    def segment_at(self, moment_s: float) -> Segment:
        """The segment that is played at this moment of the course; the last one after its end."""
        starts = [segment.start_s for segment in self.segments]
        return self.segments[max(0, bisect_right(starts, moment_s) - 1)]
