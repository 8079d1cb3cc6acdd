"""Looks into a video before it becomes a course: what it is, and where it can be cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import av
import av.container

from . import h264
from .errors import SourceError
from .ladder import Cuts, Made, Scan, cut_at, frame_rate, made_of, why_not_passed
from .plan import AudioFacts, VideoFacts
from .probe import facts_of, video_stream

MAX_PIXELS: Final = 8192 * 4320
MOST_APART_S: Final = 2.0
"""Sound that begins this much before or after the picture still goes with a picture passed on."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is made of a source.

    origin_s:   the time in the source at which the course begins
    duration_s: of the course, None where the source does not say
    starts_s:   where to cut, if the source's own keyframes say so
    """

    video: VideoFacts | None
    sound: AudioFacts | None
    origin_s: float
    duration_s: float | None
    made: tuple[Made, ...]
    starts_s: tuple[float, ...] | None
    sentence: str

    def cuts(self) -> Cuts:
        """Where segments begin."""
        return Cuts(frame_rate(self.video.fps if self.video else None), self.starts_s)

    def passes(self) -> list[list[Made]]:
        """The renditions by turns: the best one alone first, so that it can be played early."""
        first, others = list(self.made[:1]), list(self.made[1:])
        # Sound alone is no reason to read a file twice.
        return [first, others] if any(one.width for one in others) else [first + others]


@dataclass(frozen=True, slots=True)
class Source:
    """One file of those that a course is made of; `start_s`: where in the course it begins."""

    path: Path
    start_s: float = 0.0


def plan_of_all(sources: Sequence[Source]) -> Plan:
    """Decide what is made of files that follow each other, as a recorder has left them.

    They differ in what their tracks are, so nothing is passed through. Their times begin at 0. The
    largest picture says what is made; raises SourceError as `plan_of`.
    """
    if len(sources) == 1:
        return plan_of(sources[0].path)
    video: VideoFacts | None = None
    sound: AudioFacts | None = None
    duration_s: float | None = None
    for one in sources:
        with open_source(one.path) as container:
            seen, heard = facts_of(container, probe=True)
            length_s = container.duration / av.time_base if container.duration else None
        if seen is not None:
            _check_size(one.path, seen)
            if video is None or seen.width * seen.height > video.width * video.height:
                video = seen
        sound = sound or heard
        duration_s = one.start_s + length_s if length_s is not None else None
    if video is None and sound is None:
        raise SourceError(f"{sources[0].path.name} has neither picture nor sound that can be read")
    made = made_of(video, has_sound=sound is not None)
    sentence = (
        f"{len(sources)} files are joined, so the picture is encoded anew"
        if video is not None
        else "sound alone"
    )
    return Plan(video, sound, 0.0, duration_s, tuple(made), None, sentence)


def plan_of(path: Path) -> Plan:
    """Decide what is made of a file.

    Raises SourceError with one sentence when it is no video and no sound, or cannot be read.
    """
    with open_source(path) as container:
        video, sound = facts_of(container, probe=True)
    if video is None and sound is None:
        raise SourceError(f"{path.name} has neither picture nor sound that can be read")
    if video is not None:
        _check_size(path, video)
    with open_source(path) as container:
        begins = [
            float(stream.start_time * stream.time_base)
            if stream.start_time is not None and stream.time_base
            else 0.0
            for stream in (video_stream(container), *container.streams.audio[:1])
            if stream is not None
        ]
        duration_s = container.duration / av.time_base if container.duration else None
        scan = _scan(container) if video is not None and video.codec == "h264" else None
    made = made_of(video, has_sound=sound is not None)
    if video is None or scan is None:
        reason = "it is not H264"
    else:
        reason = why_not_passed(video, scan[0]) or ""
        if not reason and max(begins) - min(begins) > MOST_APART_S:
            reason = "its sound begins at another time than its picture"
    if video is None:
        sentence = "sound alone"
    elif reason or scan is None:
        sentence = f"the picture is encoded anew because {reason}"
    else:
        made = made_of(video, has_sound=sound is not None, passed=True)
        return Plan(
            video,
            sound,
            scan[1],
            duration_s,
            tuple(made),
            tuple(cut_at(scan[0].keyframes_s)),
            "the best rendition has the source's own picture, passed through",
        )
    return Plan(video, sound, min(begins), duration_s, tuple(made), None, sentence)


def _check_size(path: Path, video: VideoFacts) -> None:
    if video.width * video.height > MAX_PIXELS:
        raise SourceError(
            f"the picture of {path.name} has {video.width}x{video.height} pixels, which is too "
            "large: make it smaller and try again"
        )


def open_source(path: Path) -> av.container.InputContainer:
    """Open a file of the person's. Raises SourceError with one sentence."""
    try:
        # Nothing but this one file is read, whatever it says: no playlist, no address.
        return av.open(str(path), options={"protocol_whitelist": "file"})
    except FileNotFoundError:
        raise SourceError(f"there is no file {path}") from None
    except (IsADirectoryError, PermissionError) as error:
        raise SourceError(f"{path} cannot be read: {error.strerror}") from error
    except (av.FFmpegError, ValueError) as error:
        raise SourceError(
            f"{path.name} is no video or sound that can be read: give a file such as MP4, MKV, "
            "MOV, AVI, TS, WebM or MP3, and check that it is whole"
        ) from error


def _scan(container: av.container.InputContainer) -> tuple[Scan, float] | None:
    """Read all packets of the picture; also tells when the first one begins. None if it cannot."""
    stream = video_stream(container)
    if stream is None:
        return None
    keyframes: list[float] = []
    size_bytes = 0
    first = end = None
    last = -1 << 62
    sizes: set[tuple[int, int] | None] = set()
    is_open = (stream.codec_context.extradata or b"")[:1] != b"\1"
    try:
        for packet in container.demux(stream):
            if packet.size == 0:
                continue
            if packet.pts is None or packet.dts is None or packet.time_base is None:
                return None
            if any(side.data_type == "NewExtradata" for side in packet.iter_sidedata()):
                is_open = True
            if first is None:
                if not packet.is_keyframe:
                    return None
                first = packet.pts
            if packet.is_keyframe:
                keyframes.append(float((packet.pts - first) * packet.time_base))
                sizes |= _sizes(bytes(packet))
            is_open = is_open or packet.pts < last
            last = packet.pts
            size_bytes += packet.size
            end = max(end or 0.0, float((packet.pts - first + (packet.duration or 0))
                                        * packet.time_base))  # fmt: skip
    except av.FFmpegError:
        return None
    if first is None or end is None or stream.time_base is None:
        return None
    scan = Scan(tuple(keyframes), end, size_bytes, is_open or len(sizes) > 1)
    return scan, float(first * stream.time_base)


def _sizes(keyframe: bytes) -> set[tuple[int, int] | None]:
    """The sizes that the parameter sets within a picture speak of: a recording may change its."""
    found, at = set(), 0
    while at + 5 <= len(keyframe):
        size = int.from_bytes(keyframe[at : at + 4], "big")
        unit = keyframe[at + 4 : at + 4 + size]
        if unit and unit[0] & 0x1F == h264.SPS:
            found.add(h264.picture_size(unit))
        at += 4 + size
    return found
