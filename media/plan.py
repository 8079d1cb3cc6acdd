"""What is done with each stream of a source: passed through as it is, or encoded anew (pure).

WebRTC wants H264 without reordered pictures (RFC 7742) and Opus at 48 kHz (RFC 7874), and FFmpeg's
WHIP muxer takes nothing else. What already is that is not touched: no loss, and hardly any CPU.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Handling(Enum):
    """How a stream reaches the node."""

    COPY = "copy"
    ENCODE = "encode"


@dataclass(frozen=True, slots=True)
class VideoFacts:
    """What a source says about its picture.

    codec: FFmpeg's name ("h264"). pixel_format: FFmpeg's name, None where unknown.
    fps: mean pictures a second, None where unknown. reordered: it has B-frames.
    aspect: width by height of one pixel. rotation: degrees by which a player must turn it.
    keyframe_gap_s: the longest time between two keyframes seen, None where unknown.
    """

    codec: str
    pixel_format: str | None
    width: int
    height: int
    fps: float | None
    reordered: bool
    interlaced: bool = False
    aspect: float = 1.0
    rotation: int = 0
    keyframe_gap_s: float | None = None


@dataclass(frozen=True, slots=True)
class AudioFacts:
    """What a source says about its sound: FFmpeg's codec name, samples a second, channels."""

    codec: str
    sample_rate: int
    channels: int


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the person asked for. Sizes in pixels, rates in pictures and bits a second."""

    width: int = 1280
    height: int = 720
    fps: float = 25.0
    video_bitrate_bps: int = 1_000_000
    keyframe_s: float = 2.0
    transcode: bool = False


@dataclass(frozen=True, slots=True)
class VideoPlan:
    """What is done with the picture, with its size and rate as sent, and the reason in words.

    Before encoding: deinterlace; stretch the width by `stretch`, so that pixels become square.
    """

    handling: Handling
    width: int
    height: int
    fps: float
    sentence: str
    warning: str = ""
    deinterlace: bool = False
    stretch: float = 1.0


@dataclass(frozen=True, slots=True)
class AudioPlan:
    """What is done with the sound, and the reason in words."""

    handling: Handling
    sentence: str


# Eight bits, 4:2:0: what every browser decodes.
PLAIN_FORMATS = ("yuv420p", "yuvj420p")
# A viewer who joins starts from a keyframe. Beyond this many seconds the wait is worth a word.
LONG_KEYFRAME_GAP_S = 4.0
AUDIO_BITRATE_BPS = 64_000


def fit(width: int, height: int, most_width: int, most_height: int) -> tuple[int, int]:
    """The size that keeps the shape, is no larger than asked or than the source, and even."""
    scale = min(1.0, most_width / width, most_height / height)
    return max(2, round(width * scale / 2) * 2), max(2, round(height * scale / 2) * 2)


def plan_video(facts: VideoFacts, wanted: Wanted) -> VideoPlan:
    """Decide about the picture."""
    described = f"{_codec_name(facts.codec)} {facts.width}x{facts.height}"
    reason = _why_not_copied(facts, wanted)
    if reason is None:
        warning = ""
        gap_s = facts.keyframe_gap_s
        if gap_s is not None and gap_s > LONG_KEYFRAME_GAP_S:
            warning = (
                f"its keyframes are up to {gap_s:.0f} s apart, and a viewer who joins may wait as "
                f"long for a picture: --transcode gives one every {wanted.keyframe_s:g} s"
            )
        return VideoPlan(
            Handling.COPY,
            facts.width,
            facts.height,
            facts.fps or wanted.fps,
            f"picture: {described}, passed through as it is",
            warning,
        )
    shown = (round(facts.width * facts.aspect), facts.height)
    if facts.rotation % 180:
        shown = (shown[1], shown[0])
    width, height = fit(*shown, wanted.width, wanted.height)
    fps = min(facts.fps or wanted.fps, wanted.fps)
    return VideoPlan(
        Handling.ENCODE,
        width,
        height,
        fps,
        f"picture: {described}, encoded anew as H264 {width}x{height} because {reason}",
        deinterlace=facts.interlaced,
        stretch=facts.aspect,
    )


def plan_audio(facts: AudioFacts) -> AudioPlan:
    """Decide about the sound."""
    # RTP declares every Opus stream as two channels, a mono one too (RFC 7587 section 7).
    if facts.codec == "opus" and facts.sample_rate == 48_000 and facts.channels <= 2:
        return AudioPlan(Handling.COPY, "sound: Opus, passed through as it is")
    return AudioPlan(
        Handling.ENCODE,
        f"sound: {_codec_name(facts.codec)}, encoded anew as Opus",
    )


def _why_not_copied(facts: VideoFacts, wanted: Wanted) -> str | None:
    if wanted.transcode:
        return "--transcode asks for it"
    if facts.codec != "h264":
        return "WHIP carries H264 here"
    if facts.reordered:
        return "it has B-frames, which WebRTC cannot carry"
    if facts.interlaced:
        return "it is interlaced"
    if facts.pixel_format not in PLAIN_FORMATS:
        return f"browsers do not decode its pixel format ({facts.pixel_format})"
    if facts.rotation % 360:
        return f"it is turned by {facts.rotation % 360} degrees"
    return None


def _codec_name(codec: str) -> str:
    names = {"h264": "H264", "hevc": "H265", "vp8": "VP8", "vp9": "VP9", "av1": "AV1",
             "opus": "Opus", "aac": "AAC", "mp3": "MP3"}  # fmt: skip
    return names.get(codec, codec)
