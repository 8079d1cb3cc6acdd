"""Frames to segments: cuts, parts, losses, and sound with picture."""

from __future__ import annotations

import dataclasses
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.cutter import MAX_PENDING_FRAMES, Cutter
from media.fmp4 import AUDIO_ID, VIDEO_ID
from media.frames import Frame, Look
from media.lipsync import Report
from media.reel import SHORT_SILENCE, SILENCE
from tests.media.footage import LOOK, Footage, Row, captured_s

TICK_S = 1 / 48_000


def unbroken(samples: list[Row]) -> bool:
    """Whether each sample begins where the one before ends."""
    return all(abs(a.at_s + a.length_s - b.at_s) < 2 * TICK_S for a, b in pairwise(samples))


def skews_ms(footage: Footage, part: int = 1) -> list[float]:
    """By how much each picture stands later in the file than the sound captured with it."""
    sound = [r for r in footage.track(AUDIO_ID, part) if r.data not in (SILENCE, SHORT_SILENCE)]
    shift_s = sound[0].at_s - captured_s(sound[0])
    at = {round(1000 * captured_s(r)): r.at_s for r in sound}
    return [
        1000 * (r.at_s - at.get(round(1000 * captured_s(r)), captured_s(r) + shift_s))
        for r in footage.track(VIDEO_ID, part)
    ]


def test_segments_begin_with_keyframes_and_follow_each_other() -> None:
    footage = Footage(Cutter())
    footage.run(21)
    footage.finish()
    facts = [cut.facts for cut in footage.segments]
    assert [f.number for f in facts] == list(range(len(facts)))
    assert {f.part for f in facts} == {1}
    assert all(f.keyframe for f in facts)
    assert [f.duration_s for f in facts[:-1]] == pytest.approx([2.0] * (len(facts) - 1), abs=0.001)
    for before, after in pairwise(facts):
        assert after.start_s == pytest.approx(before.start_s + before.duration_s, abs=1e-5)
    assert sum(f.duration_s for f in facts) == pytest.approx(21, abs=0.05)
    assert not any(f.missing for f in facts)


def test_nothing_is_lost_between_segments() -> None:
    footage = Footage(Cutter())
    footage.run(10)
    footage.finish()
    sound, picture = footage.track(AUDIO_ID), footage.track(VIDEO_ID)
    assert len(sound) == 500
    assert len(picture) == 250
    assert unbroken(sound)
    assert unbroken(picture)


def test_a_segment_is_on_its_way_seconds_after_its_end() -> None:
    """What a crash can take is the segment being made."""
    footage = Footage(Cutter())
    footage.run(12)
    assert sum(cut.facts.duration_s for cut in footage.segments) >= 8


def test_a_picture_that_comes_late_stands_with_its_sound() -> None:
    footage = Footage(Cutter())
    footage.picture_late_s = 0.4
    footage.run(12)
    footage.finish()
    assert max(map(abs, skews_ms(footage))) < 1


def test_clocks_that_drift_apart_stay_together_in_the_file() -> None:
    """200 parts in a million over five minutes would be 60 ms."""
    footage = Footage(Cutter())
    footage.audio_ppm = 200
    footage.run(300)
    footage.finish()
    assert max(map(abs, skews_ms(footage))) < 6
    assert unbroken(footage.track(AUDIO_ID))


def test_a_publisher_without_reports_is_recorded_by_arrival() -> None:
    footage = Footage(Cutter())
    footage.run(20, reports=False)
    footage.finish()
    assert sum(cut.facts.duration_s for cut in footage.segments) == pytest.approx(20, abs=0.1)
    assert max(map(abs, skews_ms(footage))) < 25


def test_reports_that_cannot_be_are_not_believed() -> None:
    """A report that puts the picture a day from its sound must not stop the recording."""
    footage = Footage(Cutter())
    footage.run(4)
    for _ in range(5):
        footage.cutter.report("video", Report(1 << 62, 77), footage.now)
        footage.run(4)
    footage.finish()
    assert sum(cut.facts.duration_s for cut in footage.segments) > 15


def test_lost_sound_is_silence_of_the_same_length() -> None:
    footage = Footage(Cutter())
    footage.run(3)
    footage.run(0.2, lose=("audio",))
    footage.run(4)
    footage.finish()
    sound = footage.track(AUDIO_ID)
    assert unbroken(sound)
    assert sum(row.data == SILENCE for row in sound) == 10
    [gap] = [gap for cut in footage.segments for gap in cut.facts.missing]
    assert gap.kind == "audio"
    assert gap.start_s == pytest.approx(3.0, abs=0.03)
    assert gap.duration_s == pytest.approx(0.2, abs=0.001)
    assert max(map(abs, skews_ms(footage))) < 1


def test_after_a_lost_picture_the_last_good_one_stays_until_the_next_keyframe() -> None:
    footage = Footage(Cutter())
    footage.run(2.5)
    assert not footage.cutter.wants_keyframe(footage.now)
    footage.run(0.1, lose=("video",))
    footage.run(0.1)
    assert footage.cutter.wants_keyframe(footage.now)
    footage.run(5)
    footage.finish()
    picture = footage.track(VIDEO_ID)
    assert unbroken(picture)
    held = max(picture, key=lambda row: row.length_s)
    assert held.at_s + held.length_s == pytest.approx(4.0, abs=0.001)
    [gap] = [gap for cut in footage.segments for gap in cut.facts.missing]
    assert gap.kind == "video"
    assert gap.start_s == pytest.approx(held.at_s, abs=0.001)
    assert gap.duration_s == pytest.approx(held.length_s, abs=0.001)


def test_a_publisher_who_was_away_begins_a_new_part() -> None:
    footage = Footage(Cutter())
    footage.run(6)
    footage.away(4)
    footage.run(6)
    footage.finish()
    assert footage.parts() == [1, 2]
    for part in (1, 2):
        assert sum(c.facts.duration_s for c in footage.segments if c.facts.part == part) == (
            pytest.approx(6, abs=0.1)
        )
    first, second = (next(c.facts for c in footage.segments if c.facts.part == n) for n in (1, 2))
    assert second.began_ntp_s - first.began_ntp_s == pytest.approx(10, abs=0.05)


def test_what_came_before_a_long_silence_is_written_during_it() -> None:
    footage = Footage(Cutter())
    footage.run(5)
    footage.away(8)
    assert sum(c.facts.duration_s for c in footage.segments) == pytest.approx(5, abs=0.1)


def test_another_publisher_s_clock_begins_a_new_part_in_step() -> None:
    footage = Footage(Cutter())
    footage.run(6)
    footage.away(3)
    footage.another()
    footage.picture_late_s = 0.3
    footage.run(8)
    footage.finish()
    assert footage.parts() == [1, 2]
    assert max(map(abs, skews_ms(footage, 2))) < 1


@pytest.mark.parametrize(
    "look",
    [
        dataclasses.replace(LOOK, width=320, height=180),
        dataclasses.replace(LOOK, sps=b"\x67\x64\x00\x1e" + bytes(8)),
        Look("VP8", 640, 360),
    ],
)
def test_another_look_of_the_picture_begins_a_new_part(look: Look) -> None:
    footage = Footage(Cutter())
    footage.run(6)
    footage.look = look
    footage.run(6)
    footage.finish()
    assert footage.parts() == [1, 2]
    assert sum(c.facts.duration_s for c in footage.segments) == pytest.approx(12, abs=0.1)
    assert [c.facts.width for c in footage.cuts if c.init] == [640, look.width]


def test_sound_alone_is_cut_by_time() -> None:
    footage = Footage(Cutter(), picture=False)
    footage.run(10)
    footage.finish()
    assert [c.facts.video for c in footage.segments] == [""] * len(footage.segments)
    assert len(footage.segments) >= 3
    assert len(footage.track(AUDIO_ID)) == 500


def test_a_picture_without_sound_is_recorded() -> None:
    footage = Footage(Cutter(), sound=False)
    footage.run(10)
    footage.finish()
    assert not any(c.facts.sound for c in footage.segments)
    assert unbroken(footage.track(VIDEO_ID))
    assert len(footage.track(VIDEO_ID)) == 250


def test_sound_goes_on_while_the_camera_is_off() -> None:
    footage = Footage(Cutter())
    footage.run(6)
    footage.run(12, picture=False)
    # It is being written meanwhile, not at the end.
    assert sum(c.facts.duration_s for c in footage.segments) > 10
    footage.run(6)
    footage.finish()
    assert footage.parts() == [1]
    assert unbroken(footage.track(AUDIO_ID))
    assert max(map(abs, skews_ms(footage))) < 1


def test_a_camera_that_is_switched_on_later_begins_a_part_with_a_picture() -> None:
    footage = Footage(Cutter())
    footage.run(9, picture=False)
    footage.run(9)
    footage.finish()
    assert footage.parts() == [1, 2]
    assert [c.facts.video for c in footage.cuts if c.init] == ["", "H264"]


def test_a_microphone_that_falls_silent_holds_nothing_up() -> None:
    footage = Footage(Cutter())
    footage.run(6)
    footage.run(12, sound=False)
    assert sum(c.facts.duration_s for c in footage.segments) > 11
    footage.run(6)
    footage.finish()
    assert footage.parts() == [1]
    assert unbroken(footage.track(AUDIO_ID))
    assert max(map(abs, skews_ms(footage))) < 1


def test_a_publisher_without_keyframes_is_cut_all_the_same() -> None:
    footage = Footage(Cutter())
    footage.run(30, keyframes_s=1000)
    footage.finish()
    assert max(c.facts.duration_s for c in footage.segments) <= 6.1
    assert [c.facts.keyframe for c in footage.segments][1:] == [False] * (len(footage.segments) - 1)


def test_pictures_out_of_order_keep_their_time() -> None:
    """No browser sends B-frames; an encoder might."""
    cutter = Cutter()
    cutter.begin_tracks(["video"], 0.0)
    order = [0, 3, 1, 2, 6, 4, 5, 9, 7, 8]
    for at, shown in enumerate(order):
        key = at == 0
        frame = Frame(3600 * shown, bytes((shown,)), key, LOOK if key else None)
        cutter.frame("video", frame, at / 25)
    footage = Footage(Cutter())
    footage.cuts = cutter.process(1.0) + cutter.finish(1.0)
    found = footage.track(VIDEO_ID)
    assert [row.data[0] for row in found] == order
    for row in found:
        assert row.at_s == pytest.approx(row.data[0] / 25, abs=0.001)


def test_a_part_that_could_not_be_written_is_followed_by_another() -> None:
    footage = Footage(Cutter())
    footage.run(5)
    footage.cutter.abandon(1)
    footage.run(6)
    footage.finish()
    assert footage.parts() == [1, 2]


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["audio", "video", "key", "report", "lost", "wait", "begin"]),
        st.integers(0, 0xFFFFFFFF),
        st.floats(0, 20),
    ),
    max_size=120,
)


@given(EVENTS)
def test_whatever_comes_segments_stay_in_order(events: list[tuple[str, int, float]]) -> None:
    """Wild timestamps, reports and pauses: no exception, no overlap, bounded memory."""
    cutter, now, cuts = Cutter(), 0.0, []
    cuts += cutter.begin_tracks(["audio", "video"], now)
    for what, number, wait_s in events:
        match what:
            case "audio":
                cutter.frame("audio", Frame(number, b"a", True, ticks=960), now)
            case "video":
                cutter.frame("video", Frame(number, b"v", False), now)
            case "key":
                cutter.frame("video", Frame(number, b"k", True, LOOK), now)
            case "report":
                kind = "audio" if number & 1 else "video"
                cutter.report(kind, Report(number << 30, number), now)
            case "lost":
                cutter.lost("video")
            case "begin":
                cuts += cutter.begin_tracks(["audio", "video"], now)
            case _:
                now += wait_s
        cuts += cutter.process(now)
    cuts += cutter.finish(now)
    by_part: dict[int, list[float]] = {}
    for cut in cuts:
        if not cut.init:
            by_part.setdefault(cut.facts.part, []).append(cut.facts.start_s)
            assert len(cut.data) < 10_000_000
    assert all(starts == sorted(starts) for starts in by_part.values())


def test_what_waits_is_bounded() -> None:
    cutter = Cutter()
    cutter.begin_tracks(["audio", "video"], 0.0)
    for i in range(MAX_PENDING_FRAMES + 500):
        cutter.frame("audio", Frame(960 * i & 0xFFFFFFFF, b"a", True, ticks=960), 0.0)
    assert len(cutter._audio) == MAX_PENDING_FRAMES
