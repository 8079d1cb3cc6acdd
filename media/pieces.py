"""The segments of one rendition while it is made: each one a file that is whole or not there.

A worker that was killed goes on after the last whole segment. When all are there, `assemble` joins
them to the rendition's file: `ftyp`, `moov`, `sidx`, then the segments.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from . import fmp4, moov
from .errors import MediaError
from .manifest import Manifest, Piece, Segment

_NAME: Final = re.compile(r"(\d{6})-(\d{1,15})-(\d{1,12})\.m4s")
_US: Final = 1_000_000
_COPY_BYTES: Final = 1 << 20


@dataclass(slots=True)
class _Run:
    """Samples of one track in one segment; the first begins at `start` of the track's ticks."""

    start: int
    samples: list[fmp4.Sample] = field(default_factory=list)


class Pieces:
    """Takes samples of one or two tracks in order, and writes a file per segment."""

    def __init__(self, folder: Path, *, picture: bool, sound: bool, first: int) -> None:
        """`first` is the number of the first segment that is written; those before it are there."""
        self._folder = folder
        tracks = [fmp4.VIDEO_ID] * picture + [fmp4.AUDIO_ID] * sound
        self._waiting: dict[int, dict[int, _Run]] = {track: {} for track in tracks}
        self._at = dict.fromkeys(tracks, first)
        self._next = first

    def add(self, track: int, segment: int, start: int, sample: fmp4.Sample) -> None:
        """Take one sample. `segment` never goes back in a track; `start` is when it is decoded."""
        runs = self._waiting[track]
        if segment < self._at[track]:
            raise ValueError(f"segment {segment} of track {track} is closed")
        self._at[track] = segment
        runs.setdefault(segment, _Run(start)).samples.append(sample)
        while self._next < min(self._at.values()):
            self._write(self._next)
            self._next += 1

    def end(self) -> int:
        """Write what is left, and return the number of segments that there are.

        Sound that goes on after the last picture's segment is put into that one.
        """
        main = next(iter(self._waiting))
        if not self._waiting[main]:
            return self._next
        last = max(self._waiting[main])
        for runs in self._waiting.values():
            for segment in sorted(segment for segment in runs if segment > last):
                late = runs.pop(segment)
                runs.setdefault(last, _Run(late.start)).samples.extend(late.samples)
        while self._next <= last:
            self._write(self._next)
            self._next += 1
        return self._next

    def _write(self, number: int) -> None:
        runs = {track: waiting.pop(number, None) for track, waiting in self._waiting.items()}
        main = next((track, run) for track, run in runs.items() if run is not None)
        rate, ticks = fmp4.RATES[main[0]], sum(sample.duration for sample in main[1].samples)
        start_us = round(main[1].start * _US / rate)
        end_us = round((main[1].start + ticks) * _US / rate)
        data = fmp4.segment(
            number + 1,
            [fmp4.Run(track, run.start, run.samples) for track, run in runs.items() if run],
        )
        name = f"{number:06d}-{start_us}-{end_us - start_us}.m4s"
        write_whole(self._folder / name, data)


def write_whole(path: Path, data: bytes) -> None:
    """Write a file that is there whole or not at all, also after a power cut."""
    part = path.with_name(f".{path.name}.part")
    with part.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    part.rename(path)


def pieces_in(folder: Path) -> list[tuple[Path, float, float]]:
    """The whole segments there, in order up to the first gap: file, start and duration in seconds.

    Another file under the number of one that is listed is left over from before and is removed.
    """
    found: dict[int, tuple[Path, float, float]] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        name = _NAME.fullmatch(path.name)
        if name is None:
            continue
        if int(name[1]) in found:
            path.unlink()
            continue
        found[int(name[1])] = (path, int(name[2]) / _US, int(name[3]) / _US)
    in_order: list[tuple[Path, float, float]] = []
    while (one := found.get(len(in_order))) is not None:
        in_order.append(one)
    return in_order


def forget_from(folder: Path, number: int) -> None:
    """Remove the segments from `number` on, which are about to be made again."""
    for path in folder.iterdir() if folder.is_dir() else ():
        name = _NAME.fullmatch(path.name)
        if path.name.endswith(".part") or (name is not None and int(name[1]) >= number):
            path.unlink(missing_ok=True)


def assemble(
    folder: Path,
    out: Path,
    *,
    course: str,
    rendition: str,
    picture: moov.Picture | None,
    sound: moov.Sound | None,
    on_bytes: Callable[[int], None] = lambda _: None,
) -> Manifest:
    """Join the segments in `folder` to the file `out`, and return its manifest.

    `on_bytes` is told how much was written. Raises MediaError when there is no segment.
    """
    found = pieces_in(folder)
    if not found:
        raise MediaError(f"the rendition {rendition} came out empty")
    duration_s = found[-1][1] + found[-1][2]
    sizes = [path.stat().st_size for path, _, _ in found]
    head = moov.header(picture, sound, duration_s)
    track = fmp4.VIDEO_ID if picture is not None else fmp4.AUDIO_ID
    init = head + fmp4.index(
        track,
        [
            # A hole in time would shift all after it: the index knows durations only.
            fmp4.Piece(size, start_s, _until_next(found, i) - start_s, True)
            for i, ((_, start_s, _), size) in enumerate(zip(found, sizes, strict=True))
        ],
    )
    segments = []
    offset = len(init)
    with out.open("wb") as file:
        file.write(init)
        for number, ((path, start_s, length_s), size) in enumerate(zip(found, sizes, strict=True)):
            data = path.read_bytes()
            file.write(data)
            segments.append(
                Segment(
                    index=number,
                    offset_bytes=offset,
                    size_bytes=size,
                    sha256=hashlib.sha256(data).hexdigest(),
                    start_s=start_s,
                    duration_s=length_s,
                )
            )
            offset += size
            on_bytes(offset)
        file.flush()
        os.fsync(file.fileno())
    return Manifest(
        course=course,
        rendition=rendition,
        codecs=",".join(one.codec for one in (picture, sound) if one is not None),
        bitrate_bps=round(offset * 8 / duration_s),
        peak_bitrate_bps=max(round(one.size_bytes * 8 / one.duration_s) for one in segments),
        width=picture.width if picture else 0,
        height=picture.height if picture else 0,
        duration_s=duration_s,
        init=Piece(offset_bytes=0, size_bytes=len(init), sha256=hashlib.sha256(init).hexdigest()),
        map_size_bytes=len(head),
        segments=tuple(segments),
    )


def _until_next(found: list[tuple[Path, float, float]], index: int) -> float:
    if index + 1 < len(found):
        return found[index + 1][1]
    return found[index][1] + found[index][2]
