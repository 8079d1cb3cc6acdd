"""Rules that people and calendars may send: any text, and any rule as python-dateutil sees it."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import datetime

from dateutil.rrule import rrulestr
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from schedule.errors import Invalid
from schedule.recurrence import FREQUENCIES, WEEKDAYS, Rule, expand, parse

START = datetime(2026, 1, 5, 9)
END = datetime(2029, 1, 5)


def numbers(least: int, most: int) -> st.SearchStrategy[tuple[int, ...]]:
    one = st.integers(least, most).filter(lambda number: number != 0 or least == 0)
    return st.lists(one, max_size=3, unique=True).map(lambda found: tuple(sorted(found)))


def weekdays(number: st.SearchStrategy[int]) -> st.SearchStrategy[tuple[tuple[int, int], ...]]:
    return st.lists(st.tuples(number, st.integers(0, 6)), max_size=3, unique=True).map(tuple)


def legal(rule: Rule) -> Rule:
    """Without the parts that do not go with its frequency."""
    yearly, monthly = rule.frequency == "YEARLY", rule.frequency == "MONTHLY"
    named = rule.weekdays or rule.hours or rule.minutes or rule.months
    if not (yearly or monthly) or rule.weeks:
        rule = replace(rule, weekdays=tuple({day: (0, day) for _, day in rule.weekdays}.values()))
    return replace(
        rule,
        weeks=rule.weeks if yearly and rule.weekdays else (),
        year_days=rule.year_days if yearly or rule.frequency == "HOURLY" else (),
        month_days=() if rule.frequency == "WEEKLY" else rule.month_days,
        # In the first week the library counts positions from the start on, not from the week's.
        positions=rule.positions if named and rule.frequency != "WEEKLY" else (),
    )


rules = st.builds(
    Rule,
    frequency=st.sampled_from(FREQUENCIES[:5]),
    interval=st.integers(1, 4),
    # Not mixed: the library wants a day to be both, where the standard says either.
    weekdays=weekdays(st.just(0)) | weekdays(st.sampled_from([1, 2, -1])),
    hours=numbers(0, 23),
    minutes=numbers(0, 59),
    month_days=st.just(()) | numbers(-31, 31),
    year_days=st.just(()) | numbers(-366, 366),
    weeks=st.just(()) | numbers(-53, 53),
    months=numbers(1, 12),
    positions=numbers(-3, 3),
    week_start=st.integers(0, 6),
).map(legal)


# Shrinking ends at rules on which the library hardly ends.
@settings(max_examples=100, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(rules)
def test_a_rule_hits_what_the_common_library_hits(rule: Rule) -> None:
    """As far as the first 30, or all that ours finds: beyond its last the library may not end.

    The two read a week's number without a weekday differently; `legal` leaves that out.
    """
    assert parse(rule.text()) == rule
    ours = list(itertools.islice(expand(rule, START, END, "UTC"), 30))
    if not ours:
        return  # here the library raises, or does not end
    theirs = list(itertools.islice(rrulestr(rule.text(), dtstart=START), len(ours)))
    assert ours == theirs


@settings(max_examples=60)
@given(
    st.text(max_size=60)
    | st.from_regex(r"FREQ=[A-Z]{5,8};[A-Z]{4,10}=[-+0-9A-Z,]{0,9}")
    | rules.map(Rule.text)
)
def test_any_text_is_a_rule_or_is_refused(text: str) -> None:
    try:
        rule = parse(text)
    except Invalid:
        return
    assert parse(rule.text()) == rule
    found = list(itertools.islice(expand(rule, START, datetime(2026, 2, 1), "UTC"), 500))
    assert found == sorted(set(found))


def test_a_week_s_number_without_a_weekday_is_the_start_s_weekday() -> None:
    found = expand(parse("FREQ=YEARLY;BYWEEKNO=20"), START, END, "UTC")
    assert [f"{one:%Y-%m-%d %a}" for one in found] == [
        "2026-05-11 Mon",
        "2027-05-17 Mon",
        "2028-05-15 Mon",
    ]


def test_all_weekdays_are_named_as_the_standard_names_them() -> None:
    every = parse("FREQ=DAILY;BYDAY=" + ",".join(WEEKDAYS))
    week = itertools.islice(expand(every, START, END, "UTC"), 7)
    assert [one.strftime("%a").upper()[:2] for one in week] == list(WEEKDAYS)
