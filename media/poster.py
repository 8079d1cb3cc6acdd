"""The picture that stands for a course in the catalogue: one that shows something."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Final

import av
import numpy as np
from av.video.reformatter import ColorRange

from .encode import Shaper
from .plan import Handling, VideoFacts, VideoPlan, fit
from .probe import decoded, video_stream

WIDTH, HEIGHT = 640, 360
MAX_BYTES: Final = 512 * 1024

# Where to look, as shares of the whole: a class begins with a test picture or an empty chair.
_LOOK_AT: Final = (0.1, 0.3, 0.5, 0.02)
_MAX_PACKETS: Final = 400


def poster(path: Path, facts: VideoFacts, duration_s: float | None) -> bytes | None:
    """A JPEG of at most 640x360 from the liveliest of a few pictures; None if none can be read."""
    best: tuple[float, av.VideoFrame] | None = None
    with av.open(str(path)) as container:
        stream = video_stream(container)
        if stream is None:
            return None
        shaper = Shaper(_plan(facts))
        for share in _LOOK_AT if duration_s else (0.0,):
            try:
                container.seek(
                    int(share * (duration_s or 0) * av.time_base) + (container.start_time or 0)
                )
            except av.FFmpegError:
                continue
            for frame in _pictures(container, stream):
                shaped = shaper.shape(frame)
                if shaped is not None:
                    liveliness = float(np.std(shaped.to_ndarray()[: shaped.height]))
                    if best is None or liveliness > best[0]:
                        best = (liveliness, shaped)
                    break
    return jpeg(best[1]) if best is not None else None


def _pictures(
    container: av.container.InputContainer, stream: av.VideoStream
) -> Iterator[av.VideoFrame]:
    """The next pictures that can be decoded, as far as is reasonable."""
    try:
        for count, packet in enumerate(container.demux(stream)):
            if count > _MAX_PACKETS:
                return
            yield from decoded(packet)
    except av.FFmpegError:
        return


def _plan(facts: VideoFacts) -> VideoPlan:
    shown = (round(facts.width * facts.aspect), facts.height)
    if facts.rotation % 180:
        shown = (shown[1], shown[0])
    width, height = fit(*shown, WIDTH, HEIGHT)
    return VideoPlan(
        Handling.ENCODE, width, height, 25.0, "", deinterlace=facts.interlaced, stretch=facts.aspect
    )


def jpeg(frame: av.VideoFrame) -> bytes | None:
    """The picture as a JPEG of a bounded size."""
    full = frame.reformat(format="yuvj420p", dst_color_range=ColorRange.JPEG)
    for quality in (4, 8, 16, 31):
        codec = av.CodecContext.create("mjpeg", "w")
        codec.width, codec.height, codec.pix_fmt = full.width, full.height, "yuvj420p"
        codec.time_base = Fraction(1, 25)
        codec.color_range = ColorRange.JPEG
        codec.options = {"qmin": str(quality), "qmax": str(quality)}
        full.pts, full.time_base = 0, Fraction(1, 25)
        data = b"".join(bytes(packet) for packet in [*codec.encode(full), *codec.encode(None)])
        if 0 < len(data) <= MAX_BYTES:
            return data
    return None
