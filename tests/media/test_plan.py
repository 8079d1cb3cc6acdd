"""What is passed through and what is encoded anew."""

from __future__ import annotations

from dataclasses import replace

import pytest

from media.plan import AudioFacts, Handling, VideoFacts, Wanted, fit, plan_audio, plan_video

H264 = VideoFacts(
    codec="h264", pixel_format="yuv420p", width=1920, height=1080, fps=25.0, reordered=False
)


def test_h264_without_b_frames_passes_through_at_its_own_size() -> None:
    plan = plan_video(H264, Wanted(width=1280, height=720))
    assert (plan.handling, plan.width, plan.height) == (Handling.COPY, 1920, 1080)
    assert plan.sentence == "picture: H264 1920x1080, passed through as it is"
    assert plan.warning == ""


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        (replace(H264, codec="vp8"), "WHIP carries H264 here"),
        (replace(H264, reordered=True), "it has B-frames, which WebRTC cannot carry"),
        (replace(H264, interlaced=True), "it is interlaced"),
        (replace(H264, pixel_format="yuv420p10le"), "do not decode its pixel format (yuv420p10le)"),
        (replace(H264, rotation=90), "it is turned by 90 degrees"),
    ],
)
def test_what_a_browser_could_not_show_is_encoded_anew_and_the_reason_said(
    facts: VideoFacts, reason: str
) -> None:
    plan = plan_video(facts, Wanted())
    assert plan.handling is Handling.ENCODE
    assert plan.sentence.endswith(reason)


def test_transcode_asks_for_encoding_in_any_case() -> None:
    plan = plan_video(H264, Wanted(transcode=True))
    assert (plan.handling, plan.width, plan.height) == (Handling.ENCODE, 1280, 720)


def test_rare_keyframes_are_warned_of() -> None:
    plan = plan_video(replace(H264, keyframe_gap_s=10.0), Wanted())
    assert plan.handling is Handling.COPY
    assert "up to 10 s apart" in plan.warning
    assert "--transcode" in plan.warning


def test_a_turned_or_stretched_picture_gets_the_size_that_is_seen() -> None:
    turned = plan_video(replace(H264, rotation=90), Wanted())
    assert (turned.width, turned.height) == (404, 720)
    # PAL for a wide screen: 720x576 with pixels of 64:45.
    pal = replace(H264, width=720, height=576, aspect=64 / 45, interlaced=True)
    wide = plan_video(pal, Wanted())
    assert (wide.width, wide.height) == (1024, 576)
    assert wide.deinterlace


@pytest.mark.parametrize(
    ("source", "most", "sent"),
    [
        ((1920, 1080), (1280, 720), (1280, 720)),
        ((640, 480), (1280, 720), (640, 480)),
        ((1440, 1080), (1280, 720), (960, 720)),
        ((721, 405), (1280, 720), (720, 404)),
        ((10_000, 10), (1280, 720), (1280, 2)),
    ],
)
def test_sizes_keep_their_shape_are_even_and_never_grow(
    source: tuple[int, int], most: tuple[int, int], sent: tuple[int, int]
) -> None:
    assert fit(*source, *most) == sent


def test_the_rate_is_the_sources_up_to_the_wanted_one() -> None:
    vp8 = replace(H264, codec="vp8")
    assert plan_video(replace(vp8, fps=60.0), Wanted(fps=25)).fps == 25
    assert plan_video(replace(vp8, fps=10.0), Wanted(fps=25)).fps == 10
    assert plan_video(replace(vp8, fps=None), Wanted(fps=25)).fps == 25


@pytest.mark.parametrize(
    ("facts", "handling"),
    [
        (AudioFacts("opus", 48_000, 2), Handling.COPY),
        (AudioFacts("opus", 48_000, 1), Handling.COPY),
        (AudioFacts("opus", 48_000, 6), Handling.ENCODE),
        (AudioFacts("aac", 44_100, 2), Handling.ENCODE),
    ],
)
def test_opus_for_two_ears_passes_through(facts: AudioFacts, handling: Handling) -> None:
    assert plan_audio(facts).handling is handling
