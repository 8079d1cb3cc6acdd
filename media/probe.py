"""What a container says about its picture and its sound, and what only a look inside tells."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import av
import av.container
from av.stream import Disposition

from .plan import AudioFacts, VideoFacts
from .timeline import US

# How much of a file is looked at for B-frames and the distance of keyframes: half a minute.
PROBE_PACKETS = 750
# A decoder may hold back so many pictures before it gives the first one (ITU-T H.264 A.3.1).
MOST_REORDERED = 17


def video_stream(container: av.container.InputContainer) -> av.VideoStream | None:
    """The first stream of moving pictures; the cover of a record is none."""
    for stream in container.streams.video:
        # FFmpeg has no codec context for what it cannot decode, whatever the types say.
        codec: Any = stream.codec_context
        if codec and codec.width and not stream.disposition & Disposition.attached_pic:
            return stream
    return None


def facts_of(
    container: av.container.InputContainer, *, probe: bool
) -> tuple[VideoFacts | None, AudioFacts | None]:
    """The facts about picture and sound; None for what the container does not have.

    probe: also read the start of it, which a live source does not give twice.
    """
    video = audio = None
    stream = video_stream(container)
    if stream is not None:
        codec = stream.codec_context
        aspect = stream.sample_aspect_ratio
        video = VideoFacts(
            codec=codec.name,
            pixel_format=codec.pix_fmt,
            width=codec.width,
            height=codec.height,
            fps=float(stream.average_rate) if stream.average_rate else None,
            reordered=codec.has_b_frames,
            # AV_FIELD_PROGRESSIVE is 1, and 0 means that nobody knows.
            interlaced=codec.field_order > 1,
            aspect=float(aspect) if aspect else 1.0,
        )
        if probe:
            video = _probe(container, stream, video)
    if container.streams.audio:
        sound: Any = container.streams.audio[0].codec_context
        if sound and sound.sample_rate:
            audio = AudioFacts(sound.name, sound.sample_rate, sound.channels)
    return video, audio


def _probe(
    container: av.container.InputContainer, stream: av.VideoStream, facts: VideoFacts
) -> VideoFacts:
    """Look into the start of a file for what its headers do not say."""
    gap_us, last_key_us, last_us = 0, None, -1 << 62
    reordered = facts.reordered
    rotation: int | None = None
    for count, packet in enumerate(container.demux(stream)):
        if rotation is None and count < MOST_REORDERED:
            rotation = next((round(frame.rotation) for frame in decoded(packet)), None)
        if count >= PROBE_PACKETS:
            break
        if packet.pts is None:
            continue
        time_us = microseconds(packet.pts, packet.time_base)
        reordered = reordered or time_us < last_us
        if packet.is_keyframe:
            gap_us = max(gap_us, time_us - (last_key_us if last_key_us is not None else time_us))
            last_key_us = time_us
        last_us = max(last_us, time_us)
    if last_key_us is not None:
        gap_us = max(gap_us, last_us - last_key_us)
    return replace(
        facts,
        reordered=reordered,
        rotation=(rotation or 0) % 360,
        keyframe_gap_s=gap_us / US if last_key_us is not None else None,
    )


def decoded(packet: av.Packet[Any]) -> list[Any]:
    """The frames of a packet. One that cannot be decoded costs itself and not the broadcast."""
    try:
        return list(packet.decode())
    except av.error.InvalidDataError:
        return []


def microseconds(value: int | None, time_base: Fraction | None) -> int:
    """A time of FFmpeg's in microseconds; 0 where it has none."""
    return round(value * time_base * US) if value is not None and time_base is not None else 0
