"""Which renditions a video becomes, and where they are cut (pure).

A rung is one size and bitrate. Nothing is made larger than the source is. All renditions are cut
at the same moments, so that a player may change between them at any segment. Where the best
rendition is the source's own H264, passed through, its keyframes say where; else every 4 s.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction
from itertools import pairwise
from typing import Final

from .plan import PLAIN_FORMATS, VideoFacts, fit

SEGMENT_S: Final = 4.0
SHORTEST_S, LONGEST_S = 2.0, 6.0
TOLERATED_S: Final = 6.5
"""A source whose keyframes are further apart than this is encoded anew, not passed through."""
MOST_FPS: Final = 30

AAC_SAMPLES: Final = 1024
SAMPLES_PER_S: Final = 48_000

# What cameras, browsers and films run at. Something close to one of them is meant to be it.
_KNOWN_FPS: Final = tuple(
    Fraction(one)
    for one in ("10", "12", "12.5", "15", "20", "24000/1001", "24", "25", "30000/1001", "30")
)


class Voice(Enum):
    """A way to encode the sound; renditions of like quality share one."""

    STEREO = "stereo"
    MONO = "mono"

    @property
    def channels(self) -> int:
        return 2 if self is Voice.STEREO else 1

    @property
    def bitrate_bps(self) -> int:
        return 64_000 if self is Voice.STEREO else 32_000


@dataclass(frozen=True, slots=True)
class Rung:
    """One rendition as it is wished for; `height` counts lines of a picture 16 by 9."""

    name: str
    height: int
    total_bps: int
    voice: Voice
    preset: str

    @property
    def width(self) -> int:
        return -(-self.height * 8 // 9) * 2


RUNGS: Final = (
    Rung("720p", 720, 1_200_000, Voice.STEREO, "veryfast"),
    Rung("480p", 480, 600_000, Voice.STEREO, "veryfast"),
    Rung("240p", 240, 200_000, Voice.MONO, "veryfast"),
)
SOUND: Final = "sound"


@dataclass(frozen=True, slots=True)
class Made:
    """One rendition that will be made.

    width, height: in pixels, 0 where there is no picture
    video_bps:     at most, over two seconds
    voice:         None where there is no sound
    passed:        the picture is the source's own
    """

    name: str
    width: int
    height: int
    video_bps: int
    voice: Voice | None
    preset: str = ""
    passed: bool = False


class Cuts:
    """Where segments begin, in seconds: at given moments, or for ever at even distances."""

    def __init__(self, fps: Fraction, starts: Sequence[float] | None = None) -> None:
        self.fps = fps
        self._frames = max(1, round(SEGMENT_S * fps))
        self._starts = list(starts) if starts is not None else None
        self._first_frames = [round(start * fps) for start in starts or ()]

    def start_s(self, index: int) -> float:
        """When segment `index` begins; infinite after the last one."""
        if self._starts is None:
            return float(index * self._frames / self.fps)
        return self._starts[index] if index < len(self._starts) else float("inf")

    def first_frame(self, index: int) -> int:
        """The picture with which segment `index` begins, counted at `fps`."""
        if self._starts is None:
            return index * self._frames
        return self._first_frames[index]

    def of_frame(self, number: int) -> int:
        """The segment to which picture `number` belongs."""
        if self._starts is None:
            return number // self._frames
        return max(0, bisect_right(self._first_frames, number) - 1)

    def of_sound(self, block: int) -> int:
        """The segment to which a block of 1024 samples belongs: the one in which it begins."""
        moment_s = block * AAC_SAMPLES / SAMPLES_PER_S
        if self._starts is None:
            return int(moment_s * self.fps) // self._frames
        return max(0, bisect_right(self._starts, moment_s) - 1)


def made_of(facts: VideoFacts | None, *, has_sound: bool, passed: bool = False) -> list[Made]:
    """The renditions of a source, the best first; the first one is passed through if so said."""
    made: list[Made] = []
    if facts is not None:
        shown = (round(facts.width * facts.aspect), facts.height)
        if facts.rotation % 180:
            shown = (shown[1], shown[0])
        for rung in reversed(RUNGS):
            box = (rung.width, rung.height)
            # A picture taller than wide gets the same number of pixels, turned.
            width, height = fit(*shown, *(box if shown[0] >= shown[1] else box[::-1]))
            if made and width * height < 1.2 * made[-1].width * made[-1].height:
                break  # hardly larger than the one below: it would only cost bytes
            voice = rung.voice if has_sound else None
            video_bps = rung.total_bps - (voice.bitrate_bps if voice else 0)
            made.append(Made(rung.name, width, height, video_bps, voice, rung.preset))
        made.reverse()
        if passed:
            best = made[0]
            made[0] = Made(
                best.name, facts.width, facts.height, best.video_bps, best.voice, passed=True
            )
    if has_sound:
        made.append(Made(SOUND, 0, 0, 0, Voice.MONO))
    return made


def frame_rate(mean_fps: float | None) -> Fraction:
    """The even rate at which pictures are encoded: the source's, halved above 30."""
    fps = mean_fps if mean_fps and 0.5 <= mean_fps <= 1000 else 25.0
    while fps > MOST_FPS * 1.03:
        fps /= 2
    nearest = min(_KNOWN_FPS, key=lambda one: abs(float(one) - fps))
    if abs(float(nearest) - fps) <= 0.03 * fps:
        return nearest
    return Fraction(min(MOST_FPS, max(5, -int(-fps // 1))))


@dataclass(frozen=True, slots=True)
class Scan:
    """What reading all packets of an H264 picture told.

    keyframes_s:  when pictures begin that need none before them, from the first picture on
    end_s:        when the last picture ends, from the first picture on
    size_bytes:   of all pictures
    open:         pictures are not in the order in which they are shown, or their setup changes
    """

    keyframes_s: tuple[float, ...]
    end_s: float
    size_bytes: int
    open: bool


def why_not_passed(facts: VideoFacts, scan: Scan) -> str | None:
    """Why the source's own picture cannot be the best rendition; None if it can."""
    best = RUNGS[0]
    if facts.codec != "h264":
        return "it is not H264"
    if facts.pixel_format not in PLAIN_FORMATS or facts.interlaced:
        return "its kind of picture does not play everywhere"
    if facts.rotation % 360 or facts.aspect != 1.0:
        return "it must be turned or stretched"
    if facts.height > best.height or facts.width > best.width:
        return f"it is larger than {best.width}x{best.height}"
    if scan.open or not scan.keyframes_s or scan.end_s <= 0:
        return "its pictures are reordered, or change their size"
    # Twice as much is worth the quality and the time that it saves; more is not on thin lines.
    if scan.size_bytes * 8 / scan.end_s > 2 * best.total_bps:
        return f"its bitrate is above {2 * best.total_bps / 1e6:g} Mbit/s"
    if any(b - a > TOLERATED_S for a, b in pairwise((*scan.keyframes_s, scan.end_s))):
        return f"its keyframes are more than {TOLERATED_S:g} s apart"
    return None


def cut_at(keyframes_s: Sequence[float]) -> list[float]:
    """The keyframes at which to cut: 2 to 6 s apart where there are such, close to 4 s."""
    starts = list(keyframes_s[:1])
    best: float | None = None
    for moment in keyframes_s[1:]:
        if best is not None:
            since_s, best_s = moment - starts[-1], best - starts[-1]
            if since_s > LONGEST_S or abs(since_s - SEGMENT_S) > abs(best_s - SEGMENT_S):
                starts.append(best)
                best = None
        if moment - starts[-1] >= SHORTEST_S:
            best = moment
    if best is not None:
        starts.append(best)
    return starts
