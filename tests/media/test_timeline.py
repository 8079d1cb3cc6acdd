"""Time from a source to the node: loops, pacing, order, sound without clicks, back-off."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.timeline import (
    US,
    FrameRate,
    Lateness,
    Merge,
    Pacer,
    PacketLine,
    SoundLine,
    Timeline,
    back_off_s,
    opus_samples,
)


def sound(count: int, value: int = 1) -> np.ndarray:
    return np.full((count, 2), value, np.int16)


def test_a_loop_goes_on_where_the_longest_stream_ended() -> None:
    """The file starts at 5 s by its own clock; its sound is 20 ms longer than its picture."""
    line = Timeline()
    placed = []
    for _ in range(2):
        for kind, time_us, duration_us in [
            ("video", 5_000_000, 40_000),
            ("audio", 5_000_000, 20_000),
            ("video", 5_040_000, 40_000),
            ("audio", 5_080_000, 20_000),
        ]:
            placed.append((kind, line.place(kind, time_us, duration_us)))
        line.restart()
    assert placed == [
        ("video", 0),
        ("audio", 0),
        ("video", 40_000),
        ("audio", 80_000),
        ("video", 100_000),
        ("audio", 100_000),
        ("video", 140_000),
        ("audio", 180_000),
    ]


def test_a_camera_that_comes_back_leaves_the_gap_that_there_was() -> None:
    line = Timeline()
    assert line.place("video", 90 * US, 40_000) == 0
    line.restart(gap_us=3 * US)
    assert line.place("video", 7 * US, 40_000) == 3 * US + 40_000


def test_a_sample_that_goes_back_is_left_out() -> None:
    line = Timeline()
    assert line.place("video", 1000, 0) == 0
    assert line.place("video", 3000, 0) == 2000
    assert line.place("video", 2000, 0) is None
    assert line.place("video", 3000, 0) is None
    assert line.place("audio", 2000, 0) == 1000, "each kind has a clock of its own"


@given(st.lists(st.lists(st.integers(0, 10**9), min_size=1, max_size=20), max_size=5))
def test_times_never_go_back_over_any_rounds(rounds: list[list[int]]) -> None:
    line = Timeline()
    placed = []
    for times in rounds:
        placed += [line.place("video", t, 40_000) for t in times]
        line.restart()
    kept = [t for t in placed if t is not None]
    assert kept == sorted(set(kept))


def test_a_file_is_paced_by_the_clock() -> None:
    pacer = Pacer()
    assert pacer.wait_s(7 * US, now_s=100.0) == 0
    assert pacer.wait_s(7 * US + 40_000, now_s=100.01) == pytest.approx(0.03)
    assert pacer.wait_s(7 * US + 80_000, now_s=100.2) == pytest.approx(-0.12)


def test_a_sleep_of_the_machine_is_not_caught_up_with() -> None:
    pacer = Pacer()
    pacer.wait_s(0, now_s=100.0)
    assert pacer.wait_s(40_000, now_s=160.0) == 0
    assert pacer.wait_s(80_000, now_s=160.0) == pytest.approx(0.04)


def test_lateness_is_measured_against_the_promptest_sample() -> None:
    late = Lateness()
    assert late.late_s(0, 50.0) == 0
    assert late.late_s(US, 51.2) == pytest.approx(0.2)
    assert late.late_s(2 * US, 51.9) == 0
    assert late.late_s(3 * US, 53.0) == pytest.approx(0.1)


def test_a_camera_whose_clock_is_slow_is_not_late() -> None:
    """200 ppm for an hour is 0.7 s; within the window of a minute it is 12 ms."""
    late = Lateness()
    worst = max(late.late_s(i * US, i * 1.0002) for i in range(3600))
    assert worst < 0.02


def test_samples_of_a_badly_interleaved_file_leave_in_order() -> None:
    merge: Merge[str] = Merge(["video", "audio"])
    for i in range(3):
        merge.add("video", i * 40_000, f"v{i}")
    assert list(merge.ready()) == []
    for i in range(4):
        merge.add("audio", i * 20_000, f"a{i}")
    assert list(merge.ready()) == ["v0", "a0", "a1", "v1", "a2", "a3"]
    assert list(merge.rest()) == ["v2"]


def test_a_kind_that_falls_silent_does_not_hold_up_the_other() -> None:
    merge: Merge[int] = Merge(["video", "audio"], read_ahead_us=100_000)
    left = []
    for i in range(5):
        merge.add("video", i * 40_000, i)
        left += list(merge.ready())
    assert left == [0, 1]


@given(
    st.lists(st.tuples(st.sampled_from(["video", "audio"]), st.integers(0, 50_000)), max_size=60)
)
def test_nothing_is_lost_or_doubled_in_the_merge(steps: list[tuple[str, int]]) -> None:
    merge: Merge[tuple[str, int]] = Merge(["video", "audio"])
    clocks = {"video": 0, "audio": 0}
    added, left = [], []
    for kind, step in steps:
        clocks[kind] += step
        added.append((kind, clocks[kind]))
        merge.add(kind, clocks[kind], added[-1])
        left += list(merge.ready())
    left += list(merge.rest())
    assert sorted(left) == sorted(added)


def test_sound_leaves_in_frames_of_20_ms_with_an_unbroken_count() -> None:
    line = SoundLine()
    frames = []
    for i in range(10):  # AAC frames of 1024 samples, stamps rounded to milliseconds
        frames += line.add(round(i * 1024 / 48) * 1000, sound(1024))
    assert [count for count, _ in frames] == [i * 960 for i in range(10)]
    assert all(block.shape == (960, 2) for _, block in frames)


def test_a_hole_in_the_sound_becomes_silence() -> None:
    line = SoundLine()
    first = line.add(0, sound(960))
    later = line.add(120_000, sound(960))
    assert [count for count, _ in first + later] == [960 * i for i in range(7)]
    assert [bool(block.any()) for _, block in first + later] == [True, *[False] * 5, True]


def test_sound_that_runs_ahead_loses_what_overlaps() -> None:
    line = SoundLine()
    line.add(0, sound(9600, 1))
    frames = line.add(100_000, sound(9600, 2))
    assert [count for count, _ in frames] == [9600 + 960 * i for i in range(5)]


def test_after_a_long_hole_the_count_jumps() -> None:
    line = SoundLine()
    line.add(0, sound(1000))
    assert line.add(10 * US, sound(960))[0][0] == 480_000


@given(st.lists(st.tuples(st.integers(0, 3_000_000), st.integers(1, 4000)), max_size=40))
def test_frames_never_overlap_whatever_the_stamps(steps: list[tuple[int, int]]) -> None:
    line = SoundLine()
    counts = [count for at, n in steps for count, _ in line.add(at, sound(n))]
    assert all(b - a >= 960 for a, b in itertools.pairwise(counts))


def test_stamps_rounded_to_milliseconds_come_out_even() -> None:
    """Matroska rounds; RTP stamps that step by 1008 and 912 are heard as clicks."""
    line = PacketLine()
    placed = [line.place(t * 1000, 960) for t in (0, 21, 40, 61, 79, 100)]
    assert placed == [0, 20_000, 40_000, 60_000, 80_000, 100_000]


def test_a_jump_of_the_stamps_is_followed_and_a_doubled_packet_left_out() -> None:
    line = PacketLine()
    assert line.place(0, 960) == 0
    assert line.place(500_000, 960) == 500_000
    assert line.place(400_000, 960) is None


@pytest.mark.parametrize(
    ("packet", "samples"),
    [
        (b"\xfc\xff\xfe", 960),  # CELT, 20 ms, one frame: what libopus makes by default
        (b"\x08\x00", 960),  # SILK, 20 ms
        (b"\x18\x00", 2880),  # SILK, 60 ms
        (b"\x60\x00", 480),  # hybrid, 10 ms
        (b"\xe0\x00", 120),  # CELT, 2.5 ms
        (b"\xfd\x00", 1920),  # two frames
        (b"\xff\x03\x00", 2880),  # three frames by count
        (b"\xff", 0),
        (b"", 0),
    ],
)
def test_the_length_of_an_opus_packet(packet: bytes, samples: int) -> None:
    assert opus_samples(packet) == samples


@pytest.mark.parametrize(
    ("source_fps", "most_fps", "kept"), [(25, 25, 100), (50, 25, 50), (30, 25, 83), (10, 25, 100)]
)
def test_pictures_beyond_the_wanted_rate_are_left_out(
    source_fps: int, most_fps: int, kept: int
) -> None:
    rate = FrameRate(most_fps)
    # Rounded to milliseconds, as Matroska has them.
    assert sum(rate.keep(round(i * 1000 / source_fps) * 1000) for i in range(100)) == kept


def test_the_rate_survives_a_jump_back_in_time() -> None:
    rate = FrameRate(25)
    assert rate.keep(100 * US)
    assert rate.keep(0)
    assert not rate.keep(10_000)
    assert rate.keep(40_000)


def test_back_off_grows_to_ten_seconds() -> None:
    assert [back_off_s(n) for n in range(1, 11)] == [1, 1, 2, 2, 4, 4, 8, 8, 10, 10]
    assert back_off_s(10**6) == 10
