"""Frames of a source into what WebRTC carries: H264 without B-frames, and Opus."""

from __future__ import annotations

from fractions import Fraction

import av
import av.filter
import numpy as np
from av.video.frame import PictureType

from .plan import AUDIO_BITRATE_BPS, VideoPlan, Wanted
from .timeline import US, SoundLine

MICROSECOND = Fraction(1, US)
VIDEO_CLOCK = Fraction(1, 90_000)
AUDIO_CLOCK = Fraction(1, SoundLine.RATE)
LOOK_AHEAD = 312
"""Samples by which libopus dates a packet before its frame: what a decoder leaves out at first."""


class Shaper:
    """Turns pictures of any size, format and rotation into YUV 4:2:0 of one size.

    A picture of another shape than planned (a camera that switched) is shown whole, between bars.
    """

    def __init__(self, plan: VideoPlan) -> None:
        self._plan = plan
        self._shape: tuple[int, int, str, int] | None = None
        self._graph = av.filter.Graph()

    def shape(self, frame: av.VideoFrame) -> av.VideoFrame | None:
        """Return the picture in the planned shape; None while a deinterlacer waits for its next."""
        shape = (frame.width, frame.height, frame.format.name, frame.rotation)
        if shape != self._shape:
            self._build(frame)
            self._shape = shape
        self._graph.vpush(frame)
        try:
            return self._graph.vpull()
        except av.error.BlockingIOError:
            return None

    def _build(self, frame: av.VideoFrame) -> None:
        w, h = self._plan.width, self._plan.height
        steps = [("yadif", "deint=interlaced")] if self._plan.deinterlace else []
        steps += [("scale", f"trunc(iw*{self._plan.stretch:.6f}/2)*2:ih")]
        # PyAV gives the angle counterclockwise, as the display matrix has it.
        steps += {
            90: [("transpose", "cclock")],
            180: [("hflip", ""), ("vflip", "")],
            270: [("transpose", "clock")],
        }.get(round(frame.rotation) % 360, [])
        steps += [
            ("scale", f"{w}:{h}:force_original_aspect_ratio=decrease:out_range=tv"),
            ("pad", f"{w}:{h}:-1:-1"),
            ("setsar", "1"),
            ("format", "yuv420p"),
        ]
        graph = av.filter.Graph()
        graph.threads = 1
        last = graph.add_buffer(
            width=frame.width,
            height=frame.height,
            format=frame.format,
            time_base=frame.time_base or MICROSECOND,
        )
        for name, arguments in steps:
            step = graph.add(name, arguments)
            last.link_to(step)
            last = step
        last.link_to(graph.add("buffersink"))
        graph.configure()
        self._graph = graph


class VideoEncoder:
    """x264 for a live line: no reordering, no look-ahead, keyframes by the clock.

    preset: x264's word for how hard it tries.
    """

    def __init__(self, plan: VideoPlan, wanted: Wanted, preset: str) -> None:
        bitrate = wanted.video_bitrate_bps
        codec = av.CodecContext.create("libx264", "w")
        codec.width, codec.height, codec.pix_fmt = plan.width, plan.height, "yuv420p"
        codec.time_base = VIDEO_CLOCK
        codec.framerate = Fraction(plan.fps).limit_denominator(1001)
        codec.bit_rate = bitrate
        codec.options = {
            "preset": preset,
            "tune": "zerolatency",
            "profile": "baseline",
            # Keyframes are placed here and not by x264: every `keyframe_s`, whatever the rate.
            "g": "100000",
            "sc_threshold": "0",
            "forced-idr": "1",
            # Half a second of buffer: a keyframe does not fill a thin line for longer.
            "maxrate": str(bitrate),
            "bufsize": str(bitrate // 2),
            # zerolatency cuts a picture into a slice for each thread; one is enough up to 720p.
            "threads": "1" if plan.width * plan.height <= 1280 * 720 else "2",
        }
        codec.open()
        self._codec = codec
        self._keyframe_us = int(wanted.keyframe_s * US)
        self._last_key_us: int | None = None

    def want_keyframe(self) -> None:
        """The next picture becomes a keyframe."""
        self._last_key_us = None

    def encode(self, frame: av.VideoFrame, time_us: int) -> list[av.Packet[av.VideoStream]]:
        """Encode one picture of the planned size."""
        since = self._last_key_us
        # Half a frame of slack, or rounding would put off a keyframe by a whole frame.
        key = since is None or time_us - since >= self._keyframe_us - 10_000
        if key:
            self._last_key_us = time_us
        frame.pict_type = PictureType.I if key else PictureType.NONE
        frame.pts = round(time_us * VIDEO_CLOCK.denominator / US)
        frame.time_base = VIDEO_CLOCK
        return self._codec.encode(frame)


class AudioEncoder:
    """Opus at 48 kHz, stereo, in frames of 20 ms, from sound of any kind."""

    def __init__(self) -> None:
        codec = av.CodecContext.create("libopus", "w")
        codec.sample_rate, codec.layout, codec.format = SoundLine.RATE, "stereo", "s16"
        codec.bit_rate = AUDIO_BITRATE_BPS
        # In-band error correction costs a little and hides single lost packets.
        codec.options = {"application": "audio", "frame_duration": "20", "fec": "1",
                         "packet_loss": "5"}  # fmt: skip
        codec.open()
        self._codec = codec
        self._line = SoundLine()
        self._resampler = av.AudioResampler("s16", "stereo", SoundLine.RATE)

    def reset(self) -> None:
        """A new session begins: start at the time of the next sound."""
        self._line.reset()

    def encode(self, frame: av.AudioFrame, time_us: int) -> list[av.Packet[av.AudioStream]]:
        """Encode what is whole of the sound so far. time_us: where this frame's first sample is."""
        frame.pts = None
        try:
            shaped = self._resampler.resample(frame)
        except ValueError:
            # Another rate or layout than before: the resampler is made for one of each.
            self._resampler = av.AudioResampler("s16", "stereo", SoundLine.RATE)
            shaped = self._resampler.resample(frame)
        packets: list[av.Packet[av.AudioStream]] = []
        for part in shaped:
            samples = part.to_ndarray().reshape(-1, 2).astype(np.int16, copy=False)
            for count, block in self._line.add(time_us, samples):
                sound = av.AudioFrame.from_ndarray(block.reshape(1, -1), "s16", "stereo")
                sound.sample_rate, sound.pts, sound.time_base = SoundLine.RATE, count, AUDIO_CLOCK
                for packet in self._codec.encode(sound):
                    # A frame gives a packet. The encoder would date the first one after a break by
                    # what it held before, and a listener fill the break with silence.
                    packet.pts = packet.dts = count - LOOK_AHEAD
                    packets.append(packet)
            time_us += len(samples) * US // SoundLine.RATE
        return packets
