"""Small real files, drawn by the test card, so that every picture says which one it is."""

from __future__ import annotations

from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path

import av

from media.testcard import BLOCK, SAMPLE_RATE, Card, Tone, read_stamp

FPS = 25


def write_clip(
    path: Path,
    *,
    video: str | None = "libx264",
    options: dict[str, str] | None = None,
    audio: str | None = None,
    frames: int = 50,
    size: tuple[int, int] = (320, 180),
    pix_fmt: str = "yuv420p",
) -> Path:
    """A clip of the test card and its tone; its container follows from the path's ending."""
    card, tone = Card(*size, Fraction(FPS)), Tone()
    at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    with av.open(str(path), "w") as container:
        picture = container.add_stream(video, rate=FPS, options=options or {}) if video else None
        if isinstance(picture, av.VideoStream):
            picture.width, picture.height, picture.pix_fmt = *size, pix_fmt
        sound = container.add_stream(audio, rate=SAMPLE_RATE, layout="stereo") if audio else None
        block = 0
        for frame in range(frames):
            if isinstance(picture, av.VideoStream):
                drawn = card.frame(frame, at)
                drawn.pts, drawn.time_base = frame, Fraction(1, FPS)
                container.mux(picture.encode(drawn))
            while isinstance(sound, av.AudioStream) and block * 0.02 < (frame + 1) / FPS:
                heard = av.AudioFrame.from_ndarray(
                    tone.block(block).reshape(1, -1), "s16", "stereo"
                )
                heard.sample_rate = SAMPLE_RATE
                heard.pts, heard.time_base = block * BLOCK, Fraction(1, SAMPLE_RATE)
                container.mux(sound.encode(heard))
                block += 1
        if isinstance(picture, av.VideoStream):
            container.mux(picture.encode())
        if isinstance(sound, av.AudioStream):
            container.mux(sound.encode())
    return path


def number_of(frame: av.VideoFrame) -> int | None:
    """The number on a decoded picture."""
    grey = frame.reformat(format="gray").to_ndarray()
    stamp = read_stamp(grey)
    return None if stamp is None else stamp.frame


def numbers_in(packets: list[bytes]) -> list[int | None]:
    """The numbers on the pictures of an H264 stream in Annex B."""
    decoder = av.CodecContext.create("h264", "r")
    frames = [frame for data in packets for frame in decoder.decode(av.Packet(data))]
    frames += decoder.decode(None)
    return [number_of(frame) for frame in frames]
