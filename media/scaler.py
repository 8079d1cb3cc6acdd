"""One picture into several smaller ones: decode once, then scale and encode what is wanted.

What comes out keeps the timestamps of what went in. Keyframes follow those of the source, at most
one every two seconds, and come when they are asked for.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Protocol

import av
from av.codec.context import Flags
from av.video.frame import PictureType
from av.video.reformatter import Interpolation, VideoReformatter

from .encode import VIDEO_CLOCK, VideoEncoder
from .errors import MediaError
from .pictures import Picture
from .plan import Handling, VideoPlan, Wanted
from .timeline import US

KEYFRAME_EVERY_S = 2.0
# Rate control thinks in pictures of this rate; the time between them is what their stamps say.
FPS = 25.0
# A picture that is smaller than this on one side shows nothing any more.
LEAST_SIDE = 64
DECODERS = {"H264": "h264", "VP8": "vp8"}


@dataclass(frozen=True, slots=True)
class Rung:
    """One smaller picture: its layer's name, how many times smaller, and bits a second."""

    rid: str
    divisor: int
    bitrate_bps: int


@dataclass(frozen=True, slots=True)
class Made:
    """One coded picture of one rung. timestamp: of RTP, that of the picture it is made of."""

    rung: Rung
    timestamp: int
    keyframe: bool
    data: bytes


class Encoder(Protocol):
    """What encodes the pictures of one rung at one size."""

    def want_keyframe(self) -> None:
        """The next picture becomes a keyframe."""

    def encode(self, frame: av.VideoFrame, time_us: int) -> list[av.Packet[av.VideoStream]]:
        """Encode one picture."""


class Vp8Encoder:
    """libvpx for a live line. Sizes in pixels, rate in bits a second."""

    def __init__(self, width: int, height: int, bitrate_bps: int) -> None:
        codec = av.CodecContext.create("libvpx", "w")
        codec.width, codec.height, codec.pix_fmt = width, height, "yuv420p"
        codec.time_base, codec.framerate = VIDEO_CLOCK, Fraction(FPS)
        codec.bit_rate, codec.gop_size, codec.thread_count = bitrate_bps, 100_000, 1
        rate = str(bitrate_bps)
        codec.options = {
            "deadline": "realtime",
            "cpu-used": "-8",
            "lag-in-frames": "0",
            # Equal bounds make the rate constant; half a second of buffer, as for x264.
            "minrate": rate,
            "maxrate": rate,
            "bufsize": str(bitrate_bps // 2),
            "undershoot-pct": "95",
            "max-intra-rate": "300",
        }
        codec.open()
        self._codec = codec
        self._key = True

    def want_keyframe(self) -> None:
        """The next picture becomes a keyframe."""
        self._key = True

    def encode(self, frame: av.VideoFrame, time_us: int) -> list[av.Packet[av.VideoStream]]:
        """Encode one picture."""
        frame.pict_type = PictureType.I if self._key else PictureType.NONE
        self._key = False
        frame.pts = round(time_us * VIDEO_CLOCK.denominator / US)
        frame.time_base = VIDEO_CLOCK
        return self._codec.encode(frame)


def _encoder(codec: str, rung: Rung, width: int, height: int) -> Encoder:
    if codec == "VP8":
        return Vp8Encoder(width, height, rung.bitrate_bps)
    plan = VideoPlan(Handling.ENCODE, width, height, FPS, "")
    # Keyframes are placed by the scaler.
    wanted = Wanted(video_bitrate_bps=rung.bitrate_bps, keyframe_s=1e9)
    return VideoEncoder(plan, wanted, "veryfast")


@dataclass(slots=True)
class _Step:
    """What makes one rung."""

    rung: Rung
    encoder: Encoder | None = None
    size: tuple[int, int] = (0, 0)
    key_us: int | None = None
    wants_key: bool = True
    reformatter: VideoReformatter = field(default_factory=VideoReformatter)


class Scaler:
    """Makes the rungs of one video track. `codec` is H264 or VP8, for both sides.

    `broken` counts pictures that the decoder refused.
    """

    def __init__(self, codec: str, rungs: Iterable[Rung]) -> None:
        self.broken = 0
        self._codec = codec
        self._steps = {rung: _Step(rung) for rung in rungs}
        self._decoder: av.VideoCodecContext | None = None
        self._extended: int | None = None

    def want_keyframe(self, rung: Rung) -> None:
        """The next picture of a rung becomes a keyframe."""
        self._steps[rung].wants_key = True

    def restart(self) -> None:
        """What comes next does not follow what came: it begins with a keyframe."""
        self._decoder = None

    def take(self, picture: Picture, wanted: Iterable[Rung], *, skip: bool = False) -> list[Made]:
        """Decode one picture and make the wanted rungs of it.

        `skip`: only decode it, for later ones depend on it; it is too late to be shown.
        Raises MediaError when a rung cannot be encoded.
        """
        if self._decoder is None:
            if not picture.keyframe:
                return []
            self._decoder = _decoder(self._codec)
        packet = av.Packet(picture.data)
        packet.pts, packet.time_base = self._unwrap(picture.timestamp), VIDEO_CLOCK
        try:
            frames = self._decoder.decode(packet)
        except av.FFmpegError:
            self.broken += 1
            self._decoder = None
            return []
        if skip:
            return []
        return [
            made
            for frame in frames
            for rung in wanted
            for made in self._make(self._steps[rung], frame, picture.keyframe)
        ]

    def _unwrap(self, timestamp: int) -> int:
        """Timestamps on without a wrap, as decoders and encoders want them."""
        if self._extended is None:
            self._extended = (1 << 32) + timestamp
        else:
            ahead = (timestamp - self._extended + (1 << 31)) % (1 << 32) - (1 << 31)
            self._extended += ahead
        return self._extended

    def _make(self, step: _Step, frame: av.VideoFrame, source_key: bool) -> list[Made]:
        rung = step.rung
        size = scaled(frame.width, frame.height, rung.divisor)
        assert frame.pts is not None
        ticks = frame.pts
        time_us = ticks * US // VIDEO_CLOCK.denominator
        if step.encoder is None or size != step.size:
            try:
                step.encoder = _encoder(self._codec, rung, *size)
            except (av.FFmpegError, ValueError) as error:
                what = f"{self._codec} {size[0]}x{size[1]}"
                raise MediaError(f"{what} cannot be encoded here: {error}") from error
            step.size, step.wants_key = size, True
        due = step.key_us is None or time_us - step.key_us >= KEYFRAME_EVERY_S * US - 100_000
        if step.wants_key or (source_key and due):
            step.encoder.want_keyframe()
            step.key_us, step.wants_key = time_us, False
        small = step.reformatter.reformat(
            frame, size[0], size[1], "yuv420p", interpolation=Interpolation.AREA
        )
        return [
            Made(rung, ticks & 0xFFFFFFFF, packet.is_keyframe, bytes(packet))
            for packet in step.encoder.encode(small, time_us)
        ]


def _decoder(codec: str) -> av.VideoCodecContext:
    context = av.CodecContext.create(DECODERS[codec], "r")
    assert isinstance(context, av.VideoCodecContext)
    # A picture comes out as soon as it is in; WebRTC has none that are out of order.
    context.flags |= Flags.low_delay
    context.thread_count = 1
    return context


def scaled(width: int, height: int, divisor: int) -> tuple[int, int]:
    """The size that is so many times smaller, even, and no smaller than can be looked at."""
    while divisor > 1 and min(width, height) / divisor < LEAST_SIDE:
        divisor -= 1
    return max(2, round(width / divisor / 2) * 2), max(2, round(height / divisor / 2) * 2)
