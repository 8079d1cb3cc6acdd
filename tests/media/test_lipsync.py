"""Sender reports: what they say of sound and picture together."""

from __future__ import annotations

import random

import pytest

from media.lipsync import Report, Ticks, TrackClock

NTP = 4_000_000_000


def report(at_s: float, timestamp: int) -> Report:
    return Report(round((NTP + at_s) * (1 << 32)), timestamp & 0xFFFFFFFF)


def test_ticks_go_on_over_the_turn_of_the_timestamp() -> None:
    ticks = Ticks()
    first = ticks.of(0xFFFFFF00)
    assert ticks.of(0x100) - first == 0x200
    assert ticks.of(0xFFFFFF80) - first == 0x80


def test_a_report_tells_the_publisher_s_time_of_a_tick() -> None:
    clock = TrackClock(90_000)
    tick = clock.ticks.of(5000)
    clock.report(report(10.0, 5000))
    assert clock.ntp_s(tick) == pytest.approx(NTP + 10, abs=1e-6)
    assert clock.ntp_s(tick + 45_000) == pytest.approx(NTP + 10.5, abs=1e-6)


def test_single_reports_may_be_off_by_milliseconds() -> None:
    clock, dice = TrackClock(48_000), random.Random(4)
    for second in range(60):
        tick = clock.ticks.of(48_000 * second)
        clock.report(report(second + dice.uniform(-0.01, 0.01), 48_000 * second))
    assert clock.ntp_s(tick) == pytest.approx(NTP + 59, abs=0.006)


def test_a_drift_of_a_hundred_parts_in_a_million_is_followed() -> None:
    """An hour of it would be 360 ms."""
    clock = TrackClock(48_000)
    for at_s in range(0, 3600, 2):
        timestamp = round(48_000 * at_s * 1.0001)
        tick = clock.ticks.of(timestamp)
        clock.report(report(at_s, timestamp))
    assert clock.ntp_s(tick) == pytest.approx(NTP + 3598, abs=0.002)


def test_a_step_is_another_clock() -> None:
    clock = TrackClock(48_000)
    clock.ticks.of(0)
    clock.report(report(0, 0))
    clock.report(report(100, 48_000))
    assert clock.steps == 1
    assert clock.ntp_s(clock.ticks.near(48_000)) == pytest.approx(NTP + 100, abs=1e-6)
