"""The recent past: what it counts, what it forgets, and what a change of source does to it."""

from __future__ import annotations

from relay.sdp import Format
from relay.sight import RECENT_S, Recent, skew_s
from relay.track import SenderClock, Track


def test_only_the_last_ten_seconds_count() -> None:
    recent = Recent()
    for second in range(60):
        # A line that lost 5 packets a second for half a minute, and none since.
        recent.add(float(second), {"lost": 5 * min(second, 30), "packets": 100 * second})
    assert recent.gained("lost") == 0
    assert recent.gained("packets") == 100 * RECENT_S


def test_what_is_new_counts_from_its_first_sample() -> None:
    recent = Recent()
    recent.add(0.0, {"a": 5})
    recent.add(1.0, {"a": 6, "b": 1000})
    recent.add(2.0, {"a": 7, "b": 1003})
    assert (recent.gained("a"), recent.gained("b"), recent.gained("c")) == (2, 3, 0)


def test_counters_that_begin_anew_with_another_source_are_no_gain_and_no_loss() -> None:
    recent = Recent()
    for at, lost in enumerate((40, 50, 0, 2)):
        recent.add(float(at), {"lost": lost})
    assert recent.gained("lost") == 2


def kept(timestamp: int) -> bytes:
    return b"\x90\x60\x00\x01" + timestamp.to_bytes(4, "big") + bytes(24)


def track(kind: str, codec: str, timestamp: int, arrival_s: float, clock: SenderClock) -> Track:
    one = Track(Format(kind, codec, ""), 1)
    one.highest = 0
    assert one.fill(0, kept(timestamp), arrival_s)
    one.last_arrival_s, one.clock = arrival_s, clock
    return one


def test_skew_is_how_much_longer_the_picture_took_than_its_sound() -> None:
    """Both captured at NTP 100.5 s; the picture arrives 80 ms after the sound."""
    audio = track("audio", "OPUS", 24_000, 7.020, SenderClock(100 << 32, 0, 0.0))
    video = track("video", "VP8", 45_000, 7.100, SenderClock(100 << 32, 0, 0.0))
    skew = skew_s(audio, video)
    assert skew is not None
    assert abs(skew - 0.080) < 1e-6


def test_skew_holds_for_reports_of_different_moments() -> None:
    """The video's report is two seconds younger than the audio's."""
    audio = track("audio", "OPUS", 3 * 48_000, 10.0, SenderClock(100 << 32, 0, 0.0))
    video = track("video", "VP8", 90_000, 9.95, SenderClock(102 << 32, 0, 0.0))
    skew = skew_s(audio, video)
    assert skew is not None
    assert abs(skew + 0.050) < 1e-6


def test_there_is_no_skew_before_both_have_told_their_clocks() -> None:
    audio = track("audio", "OPUS", 0, 7.0, SenderClock(100 << 32, 0, 0.0))
    video = track("video", "VP8", 0, 7.0, SenderClock(100 << 32, 0, 0.0))
    video.clock = None
    assert skew_s(audio, video) is None
