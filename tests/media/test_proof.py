"""What was really played: the page's reports against the timetable, as rows of a trace."""

from __future__ import annotations

import pytest

from media.logbook import Played, played
from media.programme import Item
from media.proof import Play, Report, Why, Witness

T = 1795665600.0
ITEM = Item.model_validate(
    {"id": "rice", "title": "Rice", "kind": "course", "course": "rice", "starts_at": T,
     "duration_s": 60}
)  # fmt: skip


def run(*rows: tuple[float, str], end_s: float = 61, trouble: str | None = None) -> Played:
    """The entry of the item, from reports (seconds, state); the box looks every second."""
    witness = Witness(T - 100)
    reports = list(rows)
    second = 0.0
    while second < end_s:
        now = T + second
        if second < 60:
            assert witness.expect(now, second, ITEM, trouble) == []
        while reports and reports[0][0] <= second:
            at_s, state = reports.pop(0)
            witness.report(now, second, Report(state, "rice", T + at_s))
        witness.look(now, second)
        second += 1.0
    (play,) = witness.expect(T + end_s, second, None)
    return played(play)


def gaps(entry: Played) -> list[tuple[float, float, str]]:
    return [(round(g.from_s - T, 3), round(g.to_s - T, 3), g.why.value) for g in entry.gaps]


def steadily(from_s: float, to_s: float) -> list[tuple[float, str]]:
    """What a page that plays reports: at its begin, then every two seconds."""
    rows, at_s = [], from_s
    while at_s < to_s:
        rows.append((at_s, "playing"))
        at_s += 2.0
    return rows


def test_an_item_that_played_has_no_gap() -> None:
    entry = run(*steadily(0.2, 60))
    assert (entry.started_at, entry.ended_at, entry.played_s) == (T + 0.2, T + 60, 59.8)
    assert gaps(entry) == []


def test_a_stall_is_a_gap_to_the_tenth_of_a_second() -> None:
    entry = run(*steadily(0.2, 20), (20.5, "stalled"), *steadily(25.3, 60))
    assert gaps(entry) == [(20.5, 25.3, "stalled")]
    assert entry.played_s == pytest.approx(60 - 0.2 - 4.8)


def test_a_page_that_died_is_a_gap_from_its_last_report() -> None:
    entry = run(*steadily(0.2, 20), *steadily(40.2, 60))
    assert gaps(entry) == [(18.2, 40.2, "no-television")]


def test_a_page_that_never_spoke_has_played_nothing() -> None:
    entry = run()
    assert (entry.started_at, entry.played_s) == (None, 0)
    assert gaps(entry)[0][2] == "late"
    assert gaps(entry)[-1][1:] == (60, "no-television")


def test_a_course_that_was_missing_is_why_nothing_played() -> None:
    entry = run(*steadily(30.0, 60), trouble="missing")
    assert gaps(entry) == [(0, 30, "missing")]


def test_reports_of_another_item_count_nothing() -> None:
    witness = Witness(T - 100)
    witness.expect(T, 0, ITEM)
    witness.report(T + 1, 1, Report("playing", "tea", T + 1))
    witness.look(T + 2, 2)
    (play,) = witness.expect(T + 60, 60, None)
    assert played(play).played_s == 0


def test_a_page_cannot_report_the_future_or_rewrite_the_past() -> None:
    witness = Witness(T - 100)
    witness.expect(T, 0, ITEM)
    witness.report(T + 10, 10, Report("playing", "rice", T + 50))
    witness.report(T + 11, 11, Report("stalled", "rice", T - 50))
    (play,) = witness.expect(T + 60, 60, None)
    assert [(s.from_s - T, s.to_s - T, s.why) for s in play.moving] == []
    assert played(play).gaps[-1].to_s == T + 60


def test_after_a_power_cut_the_same_play_goes_on_with_a_gap() -> None:
    witness = Witness(T - 100)
    witness.expect(T, 0, ITEM)
    for at_s, state in steadily(0.2, 20):
        witness.report(T + at_s, at_s, Report(state, "rice", T + at_s))
    left = witness.look(T + 19, 19)
    assert left is not None
    kept = Play.model_validate_json(left.model_dump_json())

    after = Witness(T + 30, kept)
    assert after.expect(T + 30, 0, ITEM) == []
    for at_s, state in steadily(31.0, 60):
        after.report(T + at_s, at_s - 30, Report(state, "rice", T + at_s))
    (play,) = after.expect(T + 61, 31, None)
    entry = played(play)
    assert gaps(entry) == [(18.2, 31.0, "restart")]
    assert entry.played_s == pytest.approx(18 + 29)


def test_a_box_that_came_up_too_late_closes_the_play_at_its_end() -> None:
    kept = Play(item="rice", title="Rice", kind="course", planned_at=T, planned_s=60)
    kept.go_on(T + 20, Why.PLAYING)
    (play,) = Witness(T + 5000, kept).expect(T + 5000, 0, None)
    assert play.until_s == T + 60
    assert gaps(played(play)) == [(20, 60, "restart")]


def test_a_clock_that_is_set_in_the_middle_claims_nothing_that_was_not_seen() -> None:
    witness = Witness(T - 100)
    witness.expect(T, 0, ITEM)
    witness.report(T + 1, 1, Report("playing", "rice", T + 1))
    witness.report(T + 9, 9, Report("playing", "rice", T + 9))
    (first,) = witness.clock_set(T + 10, T + 40, 10)
    assert played(first).played_s == 9
    # The clock is set forward by half a minute, and the item is still on.
    witness.expect(T + 40, 10, ITEM)
    witness.report(T + 41, 11, Report("playing", "rice", T + 41))
    (second,) = witness.expect(T + 60, 18, None)
    assert gaps(played(second)) == [(0, 40, "clock"), (40, 41, "late")]


def test_an_item_that_was_talked_over_has_two_plays_and_no_second_is_told_twice() -> None:
    other = ITEM.model_copy(update={"id": "news", "starts_at": ITEM.starts_at, "priority": 1})
    witness = Witness(T - 100)
    plays = witness.expect(T, 0, ITEM)
    for second in range(1, 60):
        item = other if 20 <= second < 30 else ITEM
        plays += witness.expect(T + second, second, item)
        witness.report(T + second, second, Report("playing", item.id, T + second))
    plays += witness.expect(T + 60, 60, None)
    told = [(one.item, played(one).played_s, gaps(played(one))) for one in plays]
    assert told == [
        ("rice", 19, [(0, 1, "late")]),
        ("news", 10, [(0, 20, "other-item")]),
        ("rice", 30, [(0, 30, "other-item")]),
    ]


def test_a_page_that_begins_a_moment_before_the_box_is_heard() -> None:
    witness = Witness(T - 100)
    witness.report(T + 0.01, 0, Report("playing", "rice", T + 0.01))
    witness.expect(T + 0.02, 0.01, ITEM)
    witness.report(T + 2, 2, Report("playing", "rice", T + 2))
    (play,) = witness.expect(T + 60, 6, None)
    assert played(play).started_at == T + 0.01
