"""What an open container says about its picture and its sound, and what only a look inside tells."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import av
import av.container

from .plan import AudioFacts, VideoFacts
from .timeline import US

# How much of a file is looked at for B-frames and the distance of keyframes: half a minute.
PROBE_PACKETS = 750


def facts_of(
    container: av.container.InputContainer, *, probe: bool
) -> tuple[VideoFacts | None, AudioFacts | None]:
    video = audio = None
    if container.streams.video:
        stream = container.streams.video[0]
        codec = stream.codec_context
        # A cover picture is a video stream of one picture; it is not a film.
        cover = bool(stream.disposition & av.stream.Disposition.attached_pic)
        if codec.width and not cover:
            aspect = stream.sample_aspect_ratio
            video = VideoFacts(
                codec=codec.name,
                pixel_format=codec.pix_fmt,
                width=codec.width,
                height=codec.height,
                fps=float(stream.average_rate) if stream.average_rate else None,
                reordered=codec.has_b_frames,
                interlaced=codec.field_order > 1,
                aspect=float(aspect) if aspect else 1.0,
            )
            if probe:
                video = _probe(container, stream, video)
    if container.streams.audio:
        sound = container.streams.audio[0].codec_context
        if sound.sample_rate:
            audio = AudioFacts(sound.name, sound.sample_rate, sound.channels)
    return video, audio


def _probe(
    container: av.container.InputContainer, stream: av.VideoStream, facts: VideoFacts
) -> VideoFacts:
    """Look into the start of a file for what its headers do not say."""
    gap_us, last_key_us, last_us = 0, None, -1 << 62
    reordered = facts.reordered
    rotation = 0
    for count, packet in enumerate(container.demux(stream)):
        if count == 0:
            rotation = next((round(frame.rotation) for frame in decoded(packet)), 0)
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
        rotation=rotation % 360,
        keyframe_gap_s=gap_us / US if last_key_us is not None else None,
    )


def decoded(packet: av.Packet[Any]) -> list[Any]:
    """The frames of a packet. One that cannot be decoded costs itself and not the broadcast."""
    try:
        return list(packet.decode())
    except av.error.InvalidDataError:
        return []


def microseconds(value: int | None, time_base: Fraction | None) -> int:
    return round(value * time_base * US) if value is not None and time_base is not None else 0
