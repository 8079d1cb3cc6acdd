"""Pictures of any kind into H264 of several sizes at an even rate, cut at the same moments.

Picture `n` is shown at `n / fps` of the course: the last one of the source that had begun by then,
to half a picture. So a source of uneven rate, with gaps or with a late start comes out even, and
in step with the sound. Segments begin with a keyframe and refer to nothing before it.

There are no B-frames, so a picture is decoded when it is shown. They would save a tenth of the
bytes, but players disagree about a file in fragments that has them: FFmpeg, and with it Chromium,
shows it two pictures late with negative offsets, and seeks to the segment before with an edit list.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import av
from av.codec.context import Flags
from av.video.frame import PictureType
from av.video.reformatter import Interpolation, VideoReformatter

from . import fmp4, moov
from .encode import Shaper
from .ladder import Cuts, Made
from .plan import Handling, VideoFacts, VideoPlan

QUALITY: Final = 23
"""x264's constant quality; the bitrate caps it. Slides and board take a fraction of the bitrate."""


@dataclass(frozen=True, slots=True)
class Coded:
    """One encoded picture: its rendition, segment, time of decoding in ticks, and sample."""

    rendition: str
    segment: int
    start: int
    sample: fmp4.Sample


class Pictures:
    """One decoded picture track, encoded in one or more sizes."""

    def __init__(
        self, made: Sequence[Made], facts: VideoFacts, cuts: Cuts, *, first_segment: int = 0
    ) -> None:
        """`made` are the renditions with a picture that is encoded, the largest first."""
        self._cuts = cuts
        self._shaper = Shaper(_shape(made[0], facts, cuts.fps))
        self._encoders = [_Encoder(one, cuts) for one in made]
        self._next = cuts.first_frame(first_segment)
        self._current: av.VideoFrame | None = None
        self._shown_s = -math.inf

    def about(self) -> dict[str, moov.Picture]:
        """What the header of each rendition's file says about its picture."""
        return {one.made.name: one.about() for one in self._encoders}

    def show(self, frame: av.VideoFrame, origin_s: float) -> Iterator[Coded]:
        """Take the next picture of the source, whose times begin at `origin_s`."""
        shaped = self._shaper.shape(frame)
        if shaped is None or shaped.pts is None or shaped.time_base is None:
            return
        time_s = float(shaped.pts * shaped.time_base) - origin_s
        if time_s <= self._shown_s:
            return  # a clock that goes back; what is shown already stays
        self._shown_s = time_s
        if self._current is not None:
            # Half a picture early is as good as half a picture late, and does not jump over one.
            yield from self._up_to(math.ceil(time_s * self._cuts.fps - 0.5))
        self._current = shaped

    def finish(self, end_s: float) -> Iterator[Coded]:
        """The source is over; its last picture stays until `end_s`."""
        if self._current is not None:
            yield from self._up_to(max(1, math.ceil(end_s * self._cuts.fps - 0.01)))
        for encoder in self._encoders:
            yield from encoder.flush()

    def _up_to(self, end: int) -> Iterator[Coded]:
        """Encode what is current as every picture that is due before picture `end`."""
        while self._next < end:
            assert self._current is not None
            frame = self._current
            for encoder in self._encoders:
                frame = encoder.fit(frame)
                yield from encoder.encode(frame, self._next)
            self._next += 1


class Passed:
    """The source's own H264 pictures, moved to the course's time and cut at its keyframes."""

    def __init__(self, made: Made, starts_s: Sequence[float], origin_s: float) -> None:
        self._name = made.name
        self._starts = [round(start * fmp4.VIDEO_RATE) for start in starts_s]
        self._origin = round(origin_s * fmp4.VIDEO_RATE)
        self._held: tuple[int, av.Packet[av.VideoStream]] | None = None
        self._duration = fmp4.VIDEO_RATE // 25

    def take(self, packet: av.Packet[av.VideoStream]) -> Iterator[Coded]:
        """Take the next packet; it comes out when the one after it tells how long it lasts."""
        if packet.pts is None or packet.time_base is None:
            return
        start = round(packet.pts * fmp4.VIDEO_RATE * packet.time_base) - self._origin
        if self._held is not None:
            if start <= self._held[0]:
                return  # a clock that goes back
            yield self._coded(*self._held, start - self._held[0])
        self._held = (start, packet)

    def finish(self) -> Iterator[Coded]:
        """The source is over."""
        if self._held is not None:
            yield self._coded(*self._held, self._duration)

    def _coded(self, start: int, packet: av.Packet[av.VideoStream], duration: int) -> Coded:
        self._duration = duration
        # A tick of slack: keyframes were found in seconds.
        segment = max(0, bisect_right(self._starts, start + 1) - 1)
        sample = fmp4.Sample(bytes(packet), duration, packet.is_keyframe)
        return Coded(self._name, segment, start, sample)


class _Encoder:
    """x264 for one rendition."""

    def __init__(self, made: Made, cuts: Cuts) -> None:
        self.made = made
        self._cuts = cuts
        self._tick = fmp4.VIDEO_RATE / cuts.fps
        self._reformatter = VideoReformatter()
        codec = av.CodecContext.create("libx264", "w")
        codec.width, codec.height, codec.pix_fmt = made.width, made.height, "yuv420p"
        codec.time_base, codec.framerate = 1 / cuts.fps, cuts.fps
        codec.flags |= Flags.global_header
        codec.options = {
            "preset": made.preset,
            "crf": str(QUALITY),
            "maxrate": str(made.video_bps),
            "bufsize": str(2 * made.video_bps),
            "profile": "high",
            "bf": "0",
            # Where segments begin is said picture by picture; x264 may put in more at a new scene.
            "g": "600",
            "forced-idr": "1",
        }
        codec.open()
        self._codec = codec

    def about(self) -> moov.Picture:
        return moov.Picture(
            self.made.width, self.made.height, moov.avcc_of(self._codec.extradata or b"")
        )

    def fit(self, frame: av.VideoFrame) -> av.VideoFrame:
        """The picture in this rendition's size."""
        return self._reformatter.reformat(
            frame, self.made.width, self.made.height, "yuv420p", interpolation=Interpolation.BICUBIC
        )

    def encode(self, frame: av.VideoFrame, number: int) -> Iterator[Coded]:
        first = self._cuts.first_frame(self._cuts.of_frame(number)) == number
        frame.pict_type = PictureType.I if first else PictureType.NONE
        frame.pts, frame.time_base = number, 1 / self._cuts.fps
        yield from self._coded(self._codec.encode(frame))

    def flush(self) -> Iterator[Coded]:
        yield from self._coded(self._codec.encode(None))

    def _coded(self, packets: Iterable[av.Packet[av.VideoStream]]) -> Iterator[Coded]:
        for packet in packets:
            number = packet.pts or 0
            start = round(number * self._tick)
            sample = fmp4.Sample(
                moov.access_unit(bytes(packet)),
                duration=round((number + 1) * self._tick) - start,
                keyframe=packet.is_keyframe,
            )
            yield Coded(self.made.name, self._cuts.of_frame(number), start, sample)


def _shape(made: Made, facts: VideoFacts, fps: Fraction) -> VideoPlan:
    return VideoPlan(
        Handling.ENCODE,
        made.width,
        made.height,
        float(fps),
        "",
        deinterlace=facts.interlaced,
        stretch=facts.aspect,
    )
