"""Which renditions are made of a source, and where they are cut."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.ladder import (
    LONGEST_S,
    SHORTEST_S,
    Cuts,
    Scan,
    Voice,
    cut_at,
    frame_rate,
    made_of,
    why_not_passed,
)
from media.plan import VideoFacts


def facts(width: int, height: int, codec: str = "h264", **more: object) -> VideoFacts:
    return VideoFacts(codec, "yuv420p", width, height, 25.0, False, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("width", "height", "made"),
    [
        (1920, 1080, [("720p", 1280, 720), ("480p", 854, 480), ("240p", 426, 240)]),
        (1280, 720, [("720p", 1280, 720), ("480p", 854, 480), ("240p", 426, 240)]),
        (1024, 576, [("720p", 1024, 576), ("480p", 854, 480), ("240p", 426, 240)]),
        (854, 480, [("480p", 854, 480), ("240p", 428, 240)]),
        (860, 484, [("480p", 852, 480), ("240p", 426, 240)]),
        (640, 480, [("480p", 640, 480), ("240p", 320, 240)]),
        (320, 240, [("240p", 320, 240)]),
        (160, 120, [("240p", 160, 120)]),
        (720, 1280, [("720p", 720, 1280), ("480p", 480, 854), ("240p", 240, 426)]),
        (2560, 1080, [("720p", 1280, 540), ("480p", 854, 360), ("240p", 428, 180)]),
    ],
)
def test_no_rendition_is_larger_than_its_source(
    width: int, height: int, made: list[tuple[str, int, int]]
) -> None:
    renditions = made_of(facts(width, height), has_sound=True)
    assert [(one.name, one.width, one.height) for one in renditions[:-1]] == made
    assert (renditions[-1].name, renditions[-1].voice) == ("sound", Voice.MONO)


def test_pixels_become_square_and_pictures_upright() -> None:
    # A DVD: 720x576 shown as 16 by 9.
    assert made_of(facts(720, 576, aspect=64 / 45), has_sound=False)[0].width == 1024
    turned = made_of(facts(1280, 720, rotation=90), has_sound=False)[0]
    assert (turned.width, turned.height) == (720, 1280)


def test_bitrates_are_those_of_the_ladder_with_the_sound() -> None:
    made = {one.name: one for one in made_of(facts(1280, 720), has_sound=True)}
    assert made["720p"].video_bps + Voice.STEREO.bitrate_bps == 1_200_000
    assert made["480p"].video_bps + Voice.STEREO.bitrate_bps == 600_000
    assert made["240p"].video_bps + Voice.MONO.bitrate_bps == 200_000
    silent = made_of(facts(1280, 720), has_sound=False)
    assert [one.name for one in silent] == ["720p", "480p", "240p"]
    assert silent[0].video_bps == 1_200_000


def test_sound_alone_becomes_one_rendition() -> None:
    assert [one.name for one in made_of(None, has_sound=True)] == ["sound"]


@pytest.mark.parametrize(
    ("mean", "rate"),
    [
        (25.0, Fraction(25)),
        (29.97, Fraction(30000, 1001)),
        (29.3, Fraction(30000, 1001)),  # a browser that dropped some
        (50.0, Fraction(25)),
        (59.94, Fraction(30000, 1001)),
        (120.0, Fraction(30)),
        (17.4, Fraction(18)),
        (1.0, Fraction(5)),
        (None, Fraction(25)),
        (1e9, Fraction(25)),
    ],
)
def test_the_rate_is_even_and_at_most_thirty(mean: float | None, rate: Fraction) -> None:
    assert frame_rate(mean) == rate


# ------------------------------------------------------------ passing through


def scan(gap_s: float = 4.0, bitrate_bps: float = 1e6, **more: object) -> Scan:
    times = tuple(index * gap_s for index in range(10))
    end_s = 10 * gap_s
    return Scan(times, end_s, int(bitrate_bps * end_s / 8), bool(more.get("open")))


@pytest.mark.parametrize(
    ("source", "found", "said"),
    [
        (facts(1280, 720), scan(), None),
        (facts(1280, 720), scan(bitrate_bps=2.3e6), None),
        (facts(1280, 720), scan(bitrate_bps=2.5e6), "bitrate"),
        (facts(1920, 1080), scan(), "larger"),
        (facts(1280, 720, "vp8"), scan(), "not H264"),
        (facts(1280, 720), scan(gap_s=7.0), "keyframes"),
        (facts(1280, 720), scan(open=True), "reordered"),
        (facts(1280, 720, interlaced=True), scan(), "everywhere"),
        (facts(1280, 720, rotation=90), scan(), "turned"),
    ],
)
def test_the_source_passes_through_where_it_can(
    source: VideoFacts, found: Scan, said: str | None
) -> None:
    reason = why_not_passed(source, found)
    assert reason is None if said is None else said in (reason or "")


def test_cuts_are_close_to_four_seconds() -> None:
    assert cut_at([0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0]) == [0.0, 4.0, 8.0]
    assert cut_at([0.0, 3.0, 6.0, 9.0]) == [0.0, 3.0, 6.0, 9.0]
    assert cut_at([0.0, 0.5, 6.4, 12.8]) == [0.0, 6.4, 12.8]
    assert cut_at([]) == []


@given(st.lists(st.floats(0.04, 6.0), min_size=1, max_size=60))
def test_cuts_are_keyframes_at_least_two_seconds_apart(gaps: list[float]) -> None:
    keyframes = [0.0]
    for gap in gaps:
        keyframes.append(keyframes[-1] + gap)
    cuts = cut_at(keyframes)
    assert cuts[0] == 0.0
    assert set(cuts) <= set(keyframes)
    assert all(b - a >= SHORTEST_S for a, b in pairwise(cuts))
    # Two of the longest gaps that pass cannot add up to more than this.
    assert all(b - a <= LONGEST_S + SHORTEST_S for a, b in pairwise(cuts))


# ------------------------------------------------------------ cuts and grids


@pytest.mark.parametrize("fps", [Fraction(25), Fraction(30000, 1001), Fraction(25, 2), Fraction(7)])
def test_even_cuts_are_the_same_for_pictures_and_sound(fps: Fraction) -> None:
    cuts = Cuts(fps)
    for index in range(50):
        frame = cuts.first_frame(index)
        assert cuts.of_frame(frame) == index
        assert frame == 0 or cuts.of_frame(frame - 1) == index - 1
        assert abs(float(frame / fps) - cuts.start_s(index)) < 1e-9
    for block in range(0, 10_000, 7):
        index = cuts.of_sound(block)
        assert cuts.start_s(index) - 1e-6 <= block * 1024 / 48_000 < cuts.start_s(index + 1) + 1e-6


def test_given_cuts_are_kept_and_the_last_one_has_no_end() -> None:
    cuts = Cuts(Fraction(25), [0.0, 4.1, 8.0])
    assert [cuts.of_frame(n) for n in (0, 101, 102, 103, 199, 200, 9999)] == [0, 0, 1, 1, 1, 2, 2]
    assert [cuts.of_sound(n) for n in (0, 192, 193, 374, 375, 9999)] == [0, 0, 1, 1, 2, 2]
    assert cuts.start_s(3) == float("inf")
