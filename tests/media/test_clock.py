"""The believed time: wrong chips, cold starts without a line, and who may say what time it is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.clock import LONGEST_OFF_S, TRUSTED_FOR_S, Doubt, Heard, Kept, ScriptedWall, Timekeeper

T = 1795665600.0  # noon of the day of the tests
YEAR = 365 * 86400.0


def kept(wall_s: float = T, believed_s: float = T, doubt: Doubt = Doubt.NONE) -> Kept:
    return Kept(wall_s=wall_s, believed_s=believed_s, sure_s=believed_s, doubt=doubt)


STARTS = [
    # what was kept, the chip at the cold start, the believed time, the doubt
    ("right chip", kept(), T + 3600, T + 3600, Doubt.NONE),
    ("chip a year behind, as ever", kept(T - YEAR), T - YEAR + 3600, T + 3600, Doubt.NONE),
    ("chip a year ahead, as ever", kept(T + YEAR), T + YEAR + 3600, T + 3600, Doubt.NONE),
    ("chip set back a year", kept(), T - YEAR, T, Doubt.BEHIND),
    ("chip at 1970", kept(), 12.0, T, Doubt.BEHIND),
    ("chip leapt a year", kept(), T + YEAR, T, Doubt.AHEAD),
    ("never told", None, T + 5, T + 5, Doubt.NEVER_SET),
    ("doubt outlives a restart", kept(doubt=Doubt.BEHIND), T + 60, T + 60, Doubt.BEHIND),
    ("off over the summer", kept(), T + 80 * 86400, T + 80 * 86400, Doubt.OLD),
]


@pytest.mark.parametrize(("name", "left", "wall_s", "believed_s", "doubt"), STARTS)
def test_a_cold_start_without_a_line(
    name: str, left: Kept | None, wall_s: float, believed_s: float, doubt: Doubt
) -> None:
    keeper = Timekeeper(wall_s, 100.0, left)
    assert keeper.now(100.0) == pytest.approx(believed_s), name
    assert keeper.now(160.0) == pytest.approx(believed_s + 60)
    assert keeper.reason(100.0) is doubt


def test_the_time_is_later_than_the_issue_of_what_was_signed() -> None:
    keeper = Timekeeper(T - YEAR, 0.0, None, not_before_s=T)
    assert (keeper.now(0.0), keeper.reason(0.0)) == (T, Doubt.BEHIND)


def test_the_county_ends_every_doubt() -> None:
    keeper = Timekeeper(T - YEAR, 0.0, kept())
    step_s = keeper.hear(Heard.PARENT, T + 7200, 10.0, on_its_way_s=0.4)
    assert step_s == pytest.approx(7190.2)
    assert (keeper.reason(10.0), keeper.source) == (Doubt.NONE, Heard.PARENT)
    # and after the next power cut the chip, still a year behind, is understood
    again = Timekeeper(T - YEAR + 500, 0.0, keeper.keep(T - YEAR + 10, 10.0))
    assert again.now(0.0) == pytest.approx(T + 7200.2 + 490)
    assert again.reason(0.0) is Doubt.NONE


def test_a_telephone_is_believed_in_doubt_only_and_the_doubt_stays() -> None:
    sure = Timekeeper(T, 0.0, kept())
    assert sure.hear(Heard.TELEPHONE, T + 999, 0.0) == 0.0
    lost = Timekeeper(12.0, 0.0, kept())
    assert lost.hear(Heard.TELEPHONE, T + 999, 0.0) == pytest.approx(999)
    assert lost.reason(0.0) is Doubt.BORROWED
    assert lost.now(1.0) == pytest.approx(T + 1000)


def test_an_answer_that_took_long_is_not_taken() -> None:
    keeper = Timekeeper(12.0, 0.0, kept())
    assert keeper.hear(Heard.PARENT, T + 100, 0.0, on_its_way_s=6.0) == 0.0
    assert keeper.reason(0.0) is Doubt.BEHIND


def test_a_difference_within_the_answer_s_own_doubt_is_no_step() -> None:
    keeper = Timekeeper(T, 0.0, kept())
    assert keeper.hear(Heard.PARENT, T - 0.3, 0.0, on_its_way_s=0.8) == 0.0


def test_the_county_is_preferred_to_the_system_s_word() -> None:
    keeper = Timekeeper(T, 0.0, kept())
    keeper.hear(Heard.PARENT, T, 0.0)
    assert keeper.hear(Heard.NTP, T + 50, 60.0) == 0.0
    assert keeper.hear(Heard.NTP, T + 5000, 4000.0) == pytest.approx(1000)


def test_a_clock_that_nobody_has_set_for_weeks_is_in_doubt() -> None:
    keeper = Timekeeper(T, 0.0, kept())
    assert keeper.reason(TRUSTED_FOR_S - 1) is Doubt.NONE
    assert keeper.reason(TRUSTED_FOR_S + 1) is Doubt.OLD


@given(
    st.floats(0, 4e9), st.floats(0, 4e9), st.floats(T - 1e8, T + 1e8), st.floats(0, 1e6),
    st.sampled_from(Doubt),
)  # fmt: skip
def test_no_start_goes_back_behind_what_was_believed(
    wall_s: float, old_wall_s: float, believed_s: float, elapsed_s: float, doubt: Doubt
) -> None:
    keeper = Timekeeper(wall_s, elapsed_s, kept(old_wall_s, believed_s, doubt))
    assert believed_s - 1.01 <= keeper.now(elapsed_s) <= believed_s + LONGEST_OFF_S + 1.01
    if keeper.now(elapsed_s) != pytest.approx(wall_s + believed_s - old_wall_s, abs=1.1):
        assert keeper.reason(elapsed_s)


def test_a_script_compresses_a_day() -> None:
    wall = ScriptedWall([(0, T), (600, T + 86400), (601, T + 86400)], synchronised=True)
    assert wall.rate() == 144
    first = wall.wall_s()
    assert T <= first < T + 86400
    assert wall.delay_s(144) == pytest.approx(1.0)
    with pytest.raises(ValueError, match="must rise"):
        ScriptedWall([(0, T), (0, T + 1)], synchronised=True)
