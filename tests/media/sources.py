"""Source files for the library's tests, made by FFmpeg itself: each with something unusual.

The picture is a lamp: white for a fifth of a second at every whole second, black else. The sound
beeps at the same moments. So what comes out tells whether the two are still in step.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Final

import av
import numpy as np
import numpy.typing as npt

RATE: Final = 48_000
ON_S: Final = 0.2


def write_source(
    path: Path,
    *,
    seconds: float = 10.0,
    fps: int = 25,
    size: tuple[int, int] = (320, 240),
    video: str | None = "libx264",
    audio: str | None = "aac",
    options: dict[str, str] | None = None,
    sound_late_s: float = 0.0,
    picture_late_s: float = 0.0,
    keep: tuple[int, ...] = (),
    hole_s: tuple[float, float] | None = None,
) -> Path:
    """A file of lamp and beep.

    sound_late_s, picture_late_s: where the first one of its stream stands; what it shows is right
                                  for its time
    keep:   the numbers of the pictures of each second that are kept, all if empty: an uneven rate
    hole_s: from when to when nothing was recorded, neither picture nor sound
    """
    with av.open(str(path), "w") as out:
        picture = out.add_stream(video, rate=fps, options=options or {}) if video else None
        if isinstance(picture, av.VideoStream):
            picture.width, picture.height, picture.pix_fmt = *size, "yuv420p"
            picture.codec_context.time_base = Fraction(1, fps)
        sound = out.add_stream(audio, rate=RATE, layout="stereo") if audio else None
        number = block = 0
        length = sound.codec_context.frame_size if isinstance(sound, av.AudioStream) else 0
        length = length or 1024
        while number / fps < seconds:
            now = number / fps
            missing = hole_s is not None and hole_s[0] <= now < hole_s[1]
            kept = not keep or number % fps in keep
            kept = kept and now >= picture_late_s and not missing
            if isinstance(picture, av.VideoStream) and kept:
                frame = _lamp(size, lit=now % 1.0 < ON_S and now >= 1.0, number=number)
                frame.pts, frame.time_base = number, Fraction(1, fps)
                out.mux(picture.encode(frame))
            number += 1
            while isinstance(sound, av.AudioStream) and block * length / RATE < number / fps:
                at = block * length / RATE
                lost = hole_s is not None and hole_s[0] <= at < hole_s[1]
                if at >= sound_late_s and not lost:
                    heard = _beep(block * length, length)
                    heard.pts, heard.time_base = block * length, Fraction(1, RATE)
                    out.mux(sound.encode(heard))
                block += 1
        for stream in (picture, sound):
            if isinstance(stream, av.VideoStream | av.AudioStream):
                out.mux(stream.encode(None))
    return path


def _lamp(size: tuple[int, int], *, lit: bool, number: int) -> av.VideoFrame:
    width, height = size
    grey = np.full((height * 3 // 2, width), 128, np.uint8)
    grey[:height] = 235 if lit else 16
    # Something that moves, or an encoder would have nothing to do.
    grey[height - 8 : height, (number * 4) % (width - 8) : (number * 4) % (width - 8) + 8] = 120
    return av.VideoFrame.from_ndarray(grey, "yuv420p")


def _beep(first: int, count: int) -> av.AudioFrame:
    at = (first + np.arange(count)) / RATE
    loud = ((at % 1.0) < ON_S) & (at >= 1.0)
    tone = (np.sin(2 * np.pi * 1000 * at) * loud * 0.5).astype(np.float32)
    frame = av.AudioFrame.from_ndarray(np.stack((tone, tone)), "fltp", "stereo")
    frame.sample_rate = RATE
    return frame


def lamp_times(path: Path | str) -> list[float]:
    """When the lamp goes on, by the times of the pictures shown, in seconds."""
    times, was = [], False
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            lit = float(frame.to_ndarray(format="gray")[: frame.height // 2].mean()) > 128
            if lit and not was and frame.time is not None:
                times.append(frame.time)
            was = lit
    return times


def beep_times(path: Path | str) -> list[float]:
    """When the beeps begin, in seconds: the first of a run of loud milliseconds."""
    sound, starts_s = decoded_sound(path)
    step = RATE // 1000
    whole = len(sound) // step * step
    loud = np.abs(sound[:whole].reshape(-1, step)).max(axis=1) > 0.15
    edges = np.flatnonzero(loud & ~np.concatenate(([False], loud[:-1])))
    times: list[float] = []
    for edge in edges:
        at = starts_s + int(edge) / 1000
        # A beep has no gaps of over 50 ms; a wave's zero crossings are no new beginning.
        if not times or at - times[-1] > ON_S + 0.1:
            times.append(at)
    return times


def decoded_sound(path: Path | str) -> tuple[npt.NDArray[np.float32], float]:
    """All of the sound, one channel, on one line of time, and when it begins."""
    parts, start = [], None
    with av.open(str(path)) as container:
        for frame in container.decode(audio=0):
            start = float(frame.time or 0.0) if start is None else start
            parts.append(frame.to_ndarray()[0].astype(np.float32))
    return np.concatenate(parts), start or 0.0
