"""The picture that stands for a class of sound alone: how loud it was, from its begin to its end.

Drawn, not typed: no font of any machine has to have the title's letters, which stand below the
picture wherever it is shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

import av
import numpy as np
import numpy.typing as npt

from .errors import SourceError
from .poster import HEIGHT, WIDTH, jpeg
from .probe import decoded
from .scan import Source, open_source

BARS: Final = 72
RATE: Final = 8000
MOST_BLOCKS: Final = 60_000
"""A block is a tenth of a second; of what is longer the beginning is drawn."""

_BAR, _STEP = 4, 8
_TALLEST: Final = 220
_LOUD: Final = 90.0
"""The percentile of loudness that reaches the top: a cough must not make the class look silent."""
_GROUND_TOP, _GROUND_END = np.array((30, 58, 46)), np.array((14, 24, 20))
_BAR_TOP, _BAR_END = np.array((214, 239, 220)), np.array((123, 168, 134))


def sound_card(sources: Sequence[Source]) -> bytes | None:
    """A JPEG of 640x360 with the loudness of these files; None when nothing in them is heard."""
    blocks: list[float] = []
    for one in sources:
        blocks += _loudness(one)
    if not blocks:
        return None
    picture = draw(np.array(blocks[:MOST_BLOCKS], np.float64))
    return jpeg(av.VideoFrame.from_ndarray(picture, "rgb24"))


def _loudness(one: Source) -> list[float]:
    """The loudness (root mean square, 0 to 1) of each tenth of a second that can be decoded."""
    found: list[float] = []
    rest = np.zeros(0, np.float32)
    size = RATE // 10
    try:
        with open_source(one.path) as container:
            resampler = av.AudioResampler("flt", "mono", RATE)
            for packet in container.demux(container.streams.audio[:1]):
                for frame in decoded(packet):
                    frame.pts = None
                    try:
                        heard = resampler.resample(frame)
                    except ValueError:
                        resampler = av.AudioResampler("flt", "mono", RATE)
                        heard = resampler.resample(frame)
                    parts = [part.to_ndarray().reshape(-1) for part in heard]
                    rest = np.concatenate((rest, *parts)).astype(np.float32)
                    whole = len(rest) // size * size
                    if whole:
                        squares = np.square(rest[:whole].reshape(-1, size)).mean(axis=1)
                        found += np.sqrt(squares).tolist()
                        rest = rest[whole:]
                if len(found) >= MOST_BLOCKS:
                    break
    except (av.FFmpegError, SourceError):
        pass  # What could be read is drawn; the ladder says what is wrong with the file.
    return found


def draw(loudness: npt.NDArray[np.float64]) -> npt.NDArray[np.uint8]:
    """RGB of 360 rows: `BARS` bars from left to right, each as tall as its share was loud."""
    edges = np.linspace(0, len(loudness), BARS + 1).astype(int)
    heard = np.array(
        [
            loudness[a:b].mean() if b > a else loudness[min(a, len(loudness) - 1)]
            for a, b in pairwise(edges)
        ]
    )
    top = max(float(np.percentile(heard, _LOUD)), 1e-4)
    # The ear hears ratios: the root keeps what is soft visible.
    heights = np.sqrt(np.clip(heard / top, 0.0, 1.0)) * (_TALLEST - _BAR) + _BAR
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float64)
    down = (rows / HEIGHT)[:, :, None]
    picture = _GROUND_TOP * (1 - down) + _GROUND_END * down
    left = (WIDTH - (BARS * _STEP - (_STEP - _BAR))) / 2 + _BAR / 2
    number = np.clip(np.round((columns - left) / _STEP), 0, BARS - 1).astype(int)
    # Distance to the middle line of the nearest bar, whose ends are round; its edge is one pixel.
    aside = columns - (left + number * _STEP)
    beyond = np.maximum(np.abs(rows - HEIGHT / 2) - (heights[number] - _BAR) / 2, 0.0)
    inside = np.clip(_BAR / 2 + 0.5 - np.hypot(aside, beyond), 0.0, 1.0)[:, :, None]
    away = (np.abs(rows - HEIGHT / 2) / (_TALLEST / 2))[:, :, None].clip(0.0, 1.0)
    colour = _BAR_TOP * (1 - away) + _BAR_END * away
    return np.asarray(picture * (1 - inside) + colour * inside).round().astype(np.uint8)
