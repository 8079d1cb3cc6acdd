"""Feeds and invitations as other programs read them, and calendar files as they come in."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from dateutil.rrule import rrule, rruleset, rrulestr
from hypothesis import given
from hypothesis import strategies as st
from icalendar import Calendar

from schedule import calendar, feeds, planning
from schedule.agenda import Whose
from schedule.calendar import Imported, Names
from schedule.errors import Invalid
from schedule.series import Draft, SeriesInfo, as_plan
from schedule.timetable import Edit, slots
from tests.schedule.network import MONDAY_9, NOW, Network

BERLIN = "Europe/Berlin"
SECOND, THIRD = MONDAY_9 + timedelta(days=7), MONDAY_9 + timedelta(days=14)
PLAN = Draft(
    "course",
    '数学, part 1; "x"\\',
    1,
    MONDAY_9,
    2700,
    BERLIN,
    rule="FREQ=WEEKLY;UNTIL=20260430T070000Z",
    agenda="一\n二",
    presenter_id=7,
    room_id=5,
    excluded=(THIRD,),
    added=(datetime(2026, 3, 11, 14),),
    material=(("Slides", "https://example.org/"),),
)
EDITS = {
    SECOND: Edit(starts_local=datetime(2026, 3, 10, 8), duration_s=600, title="Moved"),
    MONDAY_9 + timedelta(days=21): Edit(cancelled=True),
}
INFO = SeriesInfo(3, "abc@terrace", "confirmed", 4, 1, "", NOW, PLAN, EDITS)
NAMES = Names({1: "Centre"}, {5: "Hall"}, {7: "Ms Wang"}, "https://x.example/plans/")


def starts(plan: Draft, edits: dict[datetime, Edit]) -> list[datetime]:
    found = slots(as_plan(plan, edits), NOW, NOW + timedelta(days=200))
    return [slot.starts_at for slot in found]


def parsed(body: bytes) -> Any:
    return Calendar.from_ical(body)


def expanded(body: bytes) -> list[datetime]:
    """The starts of a feed's occurrences as another program sees them."""
    events = parsed(body).walk("VEVENT")
    [master] = [event for event in events if "RECURRENCE-ID" not in event]
    changed = {
        event["RECURRENCE-ID"].dt: event["DTSTART"].dt for event in events if event is not master
    }
    rules = rruleset()
    rule = rrulestr(master["RRULE"].to_ical().decode(), dtstart=master["DTSTART"].dt)
    assert isinstance(rule, rrule)
    rules.rrule(rule)
    for name, add in (("EXDATE", rules.exdate), ("RDATE", rules.rdate)):
        for one in master[name].dts:
            add(one.dt)
    return sorted(changed.get(one, one).astimezone(UTC) for one in rules)


def test_a_feed_says_to_others_what_it_says_to_us() -> None:
    """Over the clock change of March 29: nine o'clock is 08:00 UTC before and 07:00 after."""
    body = calendar.feed("Mine", [INFO], NAMES, NOW).body
    assert expanded(body) == starts(PLAN, EDITS)
    assert {one.hour for one in expanded(body)} == {7, 8, 13}


def test_a_feed_brings_its_time_zone_and_a_stable_identity() -> None:
    found = calendar.feed("Mine", [INFO], NAMES, NOW)
    read = parsed(found.body)
    assert [str(zone["TZID"]) for zone in read.walk("VTIMEZONE")] == [BERLIN]
    assert read.walk("VTIMEZONE")[0].walk("DAYLIGHT")
    events = read.walk("VEVENT")
    assert {(str(one["UID"]), int(one["SEQUENCE"])) for one in events} == {("abc@terrace", 4)}
    assert str(events[0]["SUMMARY"]) == PLAN.title
    assert str(events[0]["LOCATION"]) == "Hall"
    assert str(events[0]["DESCRIPTION"]) == "Centre\nMs Wang\n一\n二\nSlides: https://example.org/"
    assert all(len(line) <= 75 for line in found.body.split(b"\r\n"))


def test_the_tag_changes_with_the_plan_and_with_nothing_else() -> None:
    first = calendar.feed("Mine", [INFO], NAMES, NOW)
    later = calendar.feed("Mine", [INFO], NAMES, NOW + timedelta(days=30))
    changed = calendar.feed("Mine", [replace(INFO, revision=5)], NAMES, NOW)
    assert first == later
    assert first.etag != changed.etag
    assert first.etag[0] == first.etag[-1] == '"'


def test_a_presenter_s_feed_leaves_out_what_somebody_else_gives() -> None:
    edits = {SECOND: Edit(presenter_id=8)}
    info = replace(INFO, edits=edits)
    body = calendar.feed("Wang", [info], NAMES, NOW, presenter_id=7).body
    assert NOW + timedelta(days=8, hours=4) not in expanded(body)
    assert len(expanded(body)) == len(starts(PLAN, edits)) - 1
    other = calendar.feed("Li", [info], NAMES, NOW, presenter_id=8).body
    [event] = parsed(other).walk("VEVENT")
    assert event["RECURRENCE-ID"].dt.replace(tzinfo=None) == SECOND


def test_an_invitation_is_one_that_calendars_understand() -> None:
    guest = ('Wang "Bo"', "wang@example.org")
    body = calendar.invitation(INFO, NAMES, NOW, ("Centre", "c@example.org"), guest)
    read = parsed(body)
    assert str(read["METHOD"]) == "REQUEST"
    event = read.walk("VEVENT")[0]
    assert str(event["ATTENDEE"]) == "mailto:wang@example.org"
    assert event["ATTENDEE"].params["RSVP"] == "TRUE"
    ended = calendar.invitation(INFO, NAMES, NOW, ("C", "c@x.cn"), guest, cancelled=True)
    read = parsed(ended)
    assert str(read["METHOD"]) == "CANCEL"
    assert {str(one["STATUS"]) for one in read.walk("VEVENT")} == {"CANCELLED"}


def test_what_goes_out_comes_in_again() -> None:
    body = calendar.feed("Mine", [INFO], Names(), NOW).body
    [found], skipped = calendar.read(body, 1, "Asia/Shanghai", "course")
    assert skipped == []
    agenda = f"{PLAN.agenda}\nSlides: https://example.org/"
    plain = replace(PLAN, presenter_id=None, room_id=None, material=(), agenda=agenda)
    # The cancelled occurrence is an exception in the file.
    plain = replace(plain, excluded=tuple(sorted((THIRD, MONDAY_9 + timedelta(days=21)))))
    assert found == Imported("abc@terrace", plain, {SECOND: EDITS[SECOND]})


HEAD = "BEGIN:VCALENDAR\nVERSION:2.0\nBEGIN:VEVENT\nUID:u\nSUMMARY:S\n"
TAIL = "\nEND:VEVENT\nEND:VCALENDAR\n"


@pytest.mark.parametrize(
    ("lines", "clock", "zone"),
    [
        ("DTSTART:20260302T010000Z\nDURATION:PT45M", "2026-03-02T09:00", "Asia/Shanghai"),
        ("DTSTART:20260302T090000\nDTEND:20260302T094500", "2026-03-02T09:00", "Asia/Shanghai"),
        (
            "DTSTART;TZID=Europe/Berlin:20260302T090000\nDTEND;TZID=Europe/Berlin:20260302T094500",
            "2026-03-02T09:00",
            BERLIN,
        ),
        (
            "DTSTART;TZID=/example.org/Europe/Berlin:20260302T090000\nDURATION:PT45M",
            "2026-03-02T09:00",
            BERLIN,
        ),
        (
            "DTSTART;TZID=China Standard Time:20260302T090000\nDURATION:PT45M",
            "2026-03-02T09:00",
            "Asia/Shanghai",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:Timezone .* is a globally unique TZID")
def test_times_as_programs_write_them(lines: str, clock: str, zone: str) -> None:
    [found], _ = calendar.read((HEAD + lines + TAIL).encode(), 1, "Asia/Shanghai")
    assert (found.draft.starts_local, found.draft.time_zone) == (
        datetime.fromisoformat(clock),
        zone,
    )
    assert found.draft.duration_s == 2700


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ("DTSTART;VALUE=DATE:20260302", "no time of day"),
        ("DURATION:PT1H", "no DTSTART"),
        ("DTSTART:20260302T010000Z", "no duration"),
        ("DTSTART;TZID=Mars/Base:20260302T010000\nDURATION:PT1H", "time zone"),
        ("DTSTART:20260302T010000Z\nDURATION:PT1H\nRRULE:FREQ=SECONDLY", "FREQ="),
        ("DTSTART:20260302T010000Z\nDURATION:PT1H\nSTATUS:CANCELLED", "cancelled"),
        ("DTSTART:20260302T010000Z\nDURATION:PT1H\nRECURRENCE-ID:20260302T010000Z", "change"),
    ],
)
def test_what_cannot_be_a_meeting_is_skipped_with_a_reason(lines: str, reason: str) -> None:
    found, [skipped] = calendar.read((HEAD + lines + TAIL).encode(), 1, "Asia/Shanghai")
    assert found == []
    assert reason in skipped.reason


def test_a_zone_definition_that_never_ends_is_never_worked_out() -> None:
    evil = (
        "BEGIN:VTIMEZONE\nTZID:Evil\nBEGIN:STANDARD\nDTSTART:19700101T000000\n"
        "RRULE:FREQ=DAILY;INTERVAL=7;BYDAY=WE\nTZOFFSETFROM:+0100\nTZOFFSETTO:+0100\n"
        "END:STANDARD\nEND:VTIMEZONE\n"
    )
    lines = "DTSTART;TZID=Evil:20260302T010000\nDURATION:PT1H"
    text = HEAD.replace("BEGIN:VEVENT", evil + "BEGIN:VEVENT") + lines + TAIL
    _, [skipped] = calendar.read(text.encode(), 1, "Asia/Shanghai")
    assert "time zone" in skipped.reason


@pytest.mark.parametrize(
    "data", [b"", b"\xff\xfe", HEAD.encode() + b"DTSTART:2026", b"x" * 5_000_000]
)
def test_what_is_no_calendar_is_refused(data: bytes) -> None:
    with pytest.raises(Invalid):
        calendar.read(data, 1, "Asia/Shanghai")


NAMES_OF_LINES = ["DTSTART", "DTEND", "DURATION", "RRULE", "EXDATE", "RDATE", "UID", "SUMMARY",
                  "RECURRENCE-ID", "STATUS", "BEGIN", "END", "X"]  # fmt: skip
PARAMETERS = ["", ";TZID=Europe/Berlin", ";VALUE=DATE", ";VALUE=PERIOD", ";=", ";A"]
VALUES = ["20260302T090000", "20260302T090000Z", "20260302", "PT1H", "-P1D", "FREQ=DAILY",
          "FREQ=WEEKLY;BYDAY=1MO", "VEVENT", "", "99999999T999999"]  # fmt: skip


@given(
    st.lists(
        st.tuples(
            st.sampled_from(NAMES_OF_LINES),
            st.sampled_from(PARAMETERS),
            st.sampled_from(VALUES) | st.text(max_size=10),
        ),
        max_size=12,
    )
)
def test_any_lines_are_read_or_refused(lines: list[tuple[str, str, str]]) -> None:
    text = HEAD + "\n".join(f"{name}{params}:{value}" for name, params, value in lines) + TAIL
    try:
        found, skipped = calendar.read(text.encode(), 1, "Asia/Shanghai")
    except Invalid:
        return
    assert len(found) + len(skipped) <= len(lines) + 1


async def test_feeds_out_of_the_store(network: Network) -> None:
    teacher = network.people["P1"]
    draft = network.draft(
        "P1",
        presenter_id=teacher,
        rule="FREQ=WEEKLY;COUNT=4",
        audience=(("unit", network.units["P1Ax"].id),),
    )
    saved = await network.confirmed(draft)
    await network.confirmed(network.draft("P2", title="Others"))
    async with network.store.writing() as connection:
        other = Edit(presenter_id=network.people["P2"])
        await planning.edit(connection, saved.series.id, SECOND, other, NOW, None)

    async def seen(whose: Whose, now: datetime = NOW) -> list[str]:
        async with network.store.reading() as connection:
            body = (await feeds.feed(connection, whose, "x", now)).body
        return [
            f"{one['SUMMARY']} {'single' if 'RECURRENCE-ID' in one else 'whole'}"
            for one in parsed(body).walk("VEVENT")
        ]

    assert await seen(Whose(person_id=teacher)) == ["Mathematics whole"]
    assert await seen(Whose(person_id=network.people["P2"])) == ["Mathematics single"]
    whole = ["Mathematics whole", "Mathematics single"]
    assert await seen(Whose(unit_path=network.units["P1Ax"].path)) == whole
    assert await seen(Whose(site_id=network.sites["P1Ax"])) == whole
    assert await seen(Whose(site_id=network.sites["P1Bx"])) == []
    async with network.store.writing() as connection:
        await planning.cancel(connection, saved.series.id, NOW, None)
    assert await seen(Whose(unit_path=network.units["P1Ax"].path)) == whole
    assert await seen(Whose(person_id=teacher), NOW + timedelta(days=40)) == []


@pytest.mark.programs
def test_a_calendar_program_shows_the_lessons(tmp_path: Path) -> None:
    """khal, from Debian: imports the feed into its own store and lists what it sees."""
    khal = shutil.which("khal")
    assert khal, "this test needs khal (Debian: apt install khal)"
    (tmp_path / "feed.ics").write_bytes(calendar.feed("Mine", [INFO], NAMES, NOW).body)
    (tmp_path / "store").mkdir()
    (tmp_path / "khal.conf").write_text(
        f"[calendars]\n[[mine]]\npath = {tmp_path}/store\n"
        f"[sqlite]\npath = {tmp_path}/khal.db\n"
        "[locale]\nlocal_timezone = UTC\ndefault_timezone = UTC\ntimeformat = %H:%M\n"
        "dateformat = %Y-%m-%d\nlongdateformat = %Y-%m-%d\n"
        "datetimeformat = %Y-%m-%d %H:%M\nlongdatetimeformat = %Y-%m-%d %H:%M\n"
    )

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [khal, "-c", str(tmp_path / "khal.conf"), *arguments],
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
            env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
        )
        return done.stdout

    run("import", "--batch", str(tmp_path / "feed.ics"))
    listed = run("list", "--format", "@{start-date-long} {start-time}", "2026-03-01", "70d")
    shown = sorted(line[1:].strip() for line in listed.splitlines() if line.startswith("@"))
    assert shown == [f"{one:%Y-%m-%d %H:%M}" for one in starts(PLAN, EDITS)]
