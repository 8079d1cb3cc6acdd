"""iCalendar (RFC 5545): feeds out, invitations out, files in.

A course is one event with its rule and exceptions, not a hundred events, so a calendar that
subscribes shows it as what it is. Its UID never changes; SEQUENCE counts its changes; time stamps
are those of the plan, so a feed is the same bytes, and has the same ETag, until a plan changes.

What comes in is hostile until shown otherwise: the size is bounded, and time zone definitions are
taken out before the file is parsed. A zone is known by its name or not at all: working a foreign
definition out can be made to take hours.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

from icalendar import Calendar, Event, Timezone, vCalAddress, vRecur, vText
from icalendar.timezone.windows_to_olson import WINDOWS_TO_OLSON

from schedule import fields, recurrence, timetable
from schedule.errors import Invalid
from schedule.series import Draft, SeriesInfo
from schedule.timetable import Edit, wall_clock

PRODUCT = "-//Terrace//Terrace//EN"
MOST_BYTES = 4 << 20
MOST_EVENTS = 2_000
# Zone definitions in a feed reach so far behind and ahead of its events.
_ZONE_MARGIN = timedelta(days=366)
_ZONES_AHEAD = timedelta(days=5 * 366)


@dataclass(frozen=True, slots=True)
class Names:
    """What ids are called in a calendar, and where a page about a plan is."""

    units: Mapping[int, str] = field(default_factory=dict)
    rooms: Mapping[int, str] = field(default_factory=dict)
    people: Mapping[int, str] = field(default_factory=dict)
    page_url: str = ""  # a series' page is this and its id


@dataclass(frozen=True, slots=True)
class Feed:
    """A calendar as bytes, with its ETag (RFC 9110 section 8.8.3, quotes included)."""

    body: bytes
    etag: str


# Out


def feed(
    title: str,
    plans: Iterable[SeriesInfo],
    names: Names,
    now: datetime,
    *,
    presenter_id: int | None = None,
    recurrences: Mapping[int, Sequence[datetime]] | None = None,
) -> Feed:
    """A calendar of plans. `now` only decides how far ahead time zones are defined, by years.

    presenter_id: only what this person presents; a lesson that somebody else gives is left out of
    their course. recurrences: for plans of which only single occurrences belong in the feed.
    """
    calendar = _calendar(title)
    events: list[Event] = []
    for info in sorted(plans, key=lambda one: one.uid):
        only = (recurrences or {}).get(info.id)
        events.extend(_events(info, names, presenter_id, only))
    _add(calendar, events, now)
    body = bytes(calendar.to_ical())
    return Feed(body, f'"{hashlib.sha256(body).hexdigest()[:32]}"')


def invitation(
    info: SeriesInfo,
    names: Names,
    now: datetime,
    organiser: tuple[str, str],
    attendee: tuple[str, str],
    *,
    cancelled: bool = False,
) -> bytes:
    """An invitation that calendars understand (RFC 5546), or its cancellation.

    organiser, attendee: name and e-mail address.
    """
    calendar = _calendar("")
    calendar.add("method", "CANCEL" if cancelled else "REQUEST")
    events = _events(info, names, None, None)
    for event in events:
        event.add("organizer", _address(*organiser))
        guest = _address(*attendee)
        guest.params["PARTSTAT"] = vText("NEEDS-ACTION")
        guest.params["RSVP"] = vText("TRUE")
        event.add("attendee", guest)
        if cancelled:
            event["STATUS"] = vText("CANCELLED")
    _add(calendar, events, now)
    return bytes(calendar.to_ical())


def _calendar(title: str) -> Calendar:
    calendar = Calendar()
    calendar.add("prodid", PRODUCT)
    calendar.add("version", "2.0")
    calendar.add("calscale", "GREGORIAN")
    if title:
        calendar.add("x-wr-calname", title)
        calendar.add("refresh-interval", timedelta(minutes=30), parameters={"VALUE": "DURATION"})
    return calendar


def _address(name: str, email: str) -> vCalAddress:
    address = vCalAddress(f"mailto:{email}")
    # Quotes cannot stand in a parameter at all (RFC 5545 section 3.2).
    address.params["CN"] = vText(name.replace('"', "'"))
    return address


def _add(calendar: Calendar, events: Sequence[Event], now: datetime) -> None:
    starts = [event.decoded("dtstart") for event in events]
    for event in events:
        calendar.add_component(event)
    if starts:
        first = min(start.date() for start in starts) - _ZONE_MARGIN
        # A whole year, so that a feed does not change from day to day.
        last = max(*(start.date() for start in starts), (now + _ZONES_AHEAD).date())
        zones = [
            _definition(name, first.year, last.year)
            # In one order, so that a feed is the same bytes from every process.
            for name in sorted(calendar.get_missing_tzids())
        ]
        calendar.subcomponents[:0] = [one for one in zones if one is not None]


@lru_cache(maxsize=256)
def _definition(name: str, first_year: int, last_year: int) -> Timezone | None:
    """The definition of a zone, None for UTC and others that need none; it is not to be changed.

    Working one out takes up to 10 ms, and each invitation has one.
    """
    try:
        return Timezone.from_tzid(
            name, first_date=date(first_year, 1, 1), last_date=date(last_year + 1, 1, 1)
        )
    except ValueError:
        return None


def _events(
    info: SeriesInfo,
    names: Names,
    presenter_id: int | None,
    only: Sequence[datetime] | None,
) -> list[Event]:
    plan = info.plan
    changed = {
        when: edit for when, edit in info.edits.items() if not edit.cancelled and edit != Edit()
    }
    left_out = {when for when, edit in info.edits.items() if edit.cancelled} | set(plan.excluded)
    has_master = only is None
    if presenter_id is not None:
        has_master = plan.presenter_id == presenter_id
        theirs = {
            when
            for when, edit in changed.items()
            if (edit.presenter_id or plan.presenter_id) == presenter_id
        }
        left_out |= changed.keys() - theirs
        changed = {when: edit for when, edit in changed.items() if when in theirs}
    if only is not None:
        changed = {when: changed.get(when, Edit()) for when in only}
    events = []
    if has_master:
        master = _event(info, names, plan.starts_local, Edit())
        zone = fields.zone(plan.time_zone)
        if plan.rule:
            master.add("rrule", vRecur.from_ical(_rule_out(plan)))
        if left_out:
            master.add("exdate", [_local(when, zone) for when in sorted(left_out)])
        if plan.added:
            master.add("rdate", [_local(when, zone) for when in sorted(plan.added)])
        events.append(master)
    for when, edit in sorted(changed.items()):
        event = _event(info, names, when, edit)
        event.add("recurrence-id", _local(when, fields.zone(plan.time_zone)))
        events.append(event)
    return events


def _local(clock: datetime, zone: ZoneInfo) -> datetime:
    return clock.replace(tzinfo=zone)


def _rule_out(plan: Draft) -> str:
    """The rule with UNTIL in UTC, as the start has a time zone (section 3.3.10)."""
    rule = recurrence.parse(plan.rule)
    if rule.until:
        last = recurrence.last_wall_clock(rule.until, plan.time_zone)
        moment = timetable.instant(last, plan.time_zone)
        rule = replace(rule, until=f"{moment:%Y%m%dT%H%M%SZ}")
    return rule.text()


def _event(info: SeriesInfo, names: Names, when: datetime, edit: Edit) -> Event:
    plan = info.plan
    zone = fields.zone(plan.time_zone)
    starts = edit.starts_local or when
    ends_at = timetable.instant(starts, plan.time_zone) + timedelta(
        seconds=edit.duration_s or plan.duration_s
    )
    event = Event()
    event.add("uid", info.uid)
    event.add("sequence", info.revision)
    event.add("dtstamp", info.changed_at.replace(microsecond=0))
    event.add("last-modified", info.changed_at.replace(microsecond=0))
    event.add("dtstart", _local(starts, zone))
    event.add("dtend", ends_at.astimezone(zone))
    event.add("summary", edit.title or plan.title)
    description = _description(info, names, edit)
    if description:
        event.add("description", description)
    room = names.rooms.get(edit.room_id or plan.room_id or 0)
    if room:
        event.add("location", room)
    if names.page_url:
        event.add("url", f"{names.page_url}{info.id}")
    event.add("categories", [plan.kind])
    event.add("status", "CANCELLED" if info.state == "cancelled" else "CONFIRMED")
    return event


def _description(info: SeriesInfo, names: Names, edit: Edit) -> str:
    plan = info.plan
    lines = [
        names.units.get(plan.unit_id, ""),
        names.people.get(edit.presenter_id or plan.presenter_id or 0, ""),
        plan.agenda,
        *(f"{title}: {url}" for title, url in plan.material),
    ]
    return "\n".join(line for line in lines if line)


# In


@dataclass(frozen=True, slots=True)
class Imported:
    """One event of a file, with its single changes."""

    uid: str
    draft: Draft
    edits: Mapping[datetime, Edit]


@dataclass(frozen=True, slots=True)
class Skipped:
    """An event that cannot be a course or meeting, and why."""

    title: str
    reason: str


_ZONE_BLOCK = re.compile(
    r"^BEGIN:VTIMEZONE[ \t]*$.*?^END:VTIMEZONE[ \t]*$\n?", re.MULTILINE | re.DOTALL | re.IGNORECASE
)


def read(
    data: bytes, unit_id: int, time_zone: str, kind: str = "meeting"
) -> tuple[list[Imported], list[Skipped]]:
    """The events of a calendar file as drafts of a unit; Invalid for what is no calendar.

    time_zone: for times that say none.
    """
    if len(data) > MOST_BYTES:
        raise Invalid(f"the calendar is larger than {MOST_BYTES >> 20} MiB")
    text = data.decode("utf-8-sig", "replace").replace("\r\n", "\n").replace("\r", "\n")
    if "BEGIN:VCALENDAR" not in text.upper():
        raise Invalid("this is no calendar file (.ics)")
    if not text.upper().rstrip().endswith("END:VCALENDAR"):
        raise Invalid("the calendar is cut off at its end")
    try:
        calendars = Calendar.from_ical(_ZONE_BLOCK.sub("", text), multiple=True)
        events = [event for one in calendars for event in one.walk("VEVENT")]
    # The parser lets through whatever its value types raise.
    except Exception as error:
        reason = str(error).splitlines()[0][:100] if str(error) else type(error).__name__
        raise Invalid(f"the calendar cannot be read: {reason}") from error
    if len(events) > MOST_EVENTS:
        raise Invalid(f"the calendar has {len(events)} events, at most {MOST_EVENTS} are imported")
    by_uid: dict[str, list[Any]] = {}
    for number, event in enumerate(events):
        by_uid.setdefault(str(event.get("uid", f"event {number}")), []).append(event)
    imported: list[Imported] = []
    skipped: list[Skipped] = []
    for uid, group in by_uid.items():
        try:
            imported.append(_imported(uid, group, unit_id, time_zone, kind))
        except Invalid as error:
            skipped.append(Skipped(_title(group[0]), str(error)))
        except Exception as error:  # as above, but for the values of one event
            skipped.append(Skipped(_title(group[0]), f"it cannot be read: {error!r:.100}"))
    return imported, skipped


def _imported(uid: str, group: Sequence[Any], unit_id: int, time_zone: str, kind: str) -> Imported:
    masters = [event for event in group if "RECURRENCE-ID" not in event]
    if len(masters) != 1:
        raise Invalid("it is only a change of a series that is not in the file")
    master = masters[0]
    if str(master.get("status", "")).upper() == "CANCELLED":
        raise Invalid("it is cancelled")
    start, zone = _clock(master, "DTSTART", time_zone)
    rule = master.get("RRULE")
    if isinstance(rule, list):
        raise Invalid("it has several rules of recurrence")
    draft = Draft(
        kind=kind,
        title=_title(master),
        unit_id=unit_id,
        starts_local=start,
        duration_s=_duration_s(master, start, zone),
        time_zone=zone,
        rule=timetable.checked_rule(rule.to_ical().decode()) if rule is not None else "",
        agenda=_prose(str(master.get("description", ""))),
        excluded=_dates(master, "EXDATE", zone),
        added=_dates(master, "RDATE", zone),
    )
    edits = {}
    for event in group:
        if event is not master:
            when = _in_zone(event.get("RECURRENCE-ID"), zone)
            edits[when] = _edit(event, draft, zone)
    return Imported(fields.line(uid, "uid", 255), draft, edits)


def _edit(event: Any, draft: Draft, zone: str) -> Edit:
    if str(event.get("status", "")).upper() == "CANCELLED":
        return Edit(cancelled=True)
    start = _in_zone(event.get("DTSTART"), zone)
    title = _title(event)
    duration_s = _duration_s(event, start, zone)
    return Edit(
        starts_local=start,
        duration_s=duration_s if duration_s != draft.duration_s else None,
        title=title if title != draft.title else None,
    )


def _title(event: Any) -> str:
    words = "".join(
        one if one.isprintable() else " " for one in str(event.get("summary", ""))
    ).split()
    return " ".join(words)[:200] or "?"


def _prose(text: str) -> str:
    clean = "".join(one for one in text if one.isprintable() or one in "\n\t")
    return fields.prose(clean[:20_000], "agenda")


def _zone_name(name: str) -> str | None:
    """The time zone that a TZID means: by its name, its end, or what Windows calls it."""
    parts = name.split("/")
    for known in (name, WINDOWS_TO_OLSON.get(name), "/".join(parts[-2:]), parts[-1]):
        if known:
            try:
                return fields.time_zone(known)
            except Invalid:
                continue
    return None


def _clock(event: Any, name: str, default: str) -> tuple[datetime, str]:
    """A time of an event as a wall clock and the name of its time zone."""
    value = event.get(name)
    moment = getattr(value, "dt", None)
    if not isinstance(moment, datetime):
        raise Invalid("it has no time of day" if moment else f"it has no {name}")
    named = str(value.params.get("TZID", "")) or getattr(moment.tzinfo, "key", "")
    if moment.tzinfo is not None and moment.utcoffset() == timedelta(0) and named in ("", "UTC"):
        return timetable.read_wall_clock(_text(wall_clock(moment, default)), name), default
    zone = default if not named else _zone_name(named)
    if zone is None:
        raise Invalid(f"its time zone {named[:60]!r} is not known")
    return timetable.read_wall_clock(_text(moment.replace(tzinfo=None)), name), zone


def _text(clock: datetime) -> str:
    return timetable.stored(clock)


def _in_zone(value: Any, zone: str) -> datetime:
    """A time of an event as a wall clock in the zone of its series."""
    moment = getattr(value, "dt", value)
    if not isinstance(moment, datetime):
        raise Invalid("one of its times has no time of day")
    if moment.tzinfo is not None:
        moment = wall_clock(moment, zone)
    return timetable.read_wall_clock(_text(moment))


def _duration_s(event: Any, start: datetime, zone: str) -> int:
    if "DURATION" in event:
        seconds = event.decoded("DURATION").total_seconds()
    elif "DTEND" in event:
        ends = timetable.instant(_in_zone(event.get("DTEND"), zone), zone)
        seconds = (ends - timetable.instant(start, zone)).total_seconds()
    else:
        raise Invalid("it has no duration")
    return fields.within(round(seconds), "duration_s", 60, timetable.LONGEST_S)


def _dates(event: Any, name: str, zone: str) -> tuple[datetime, ...]:
    values = event.get(name, [])
    lists = values if isinstance(values, list) else [values]
    return tuple(sorted({_in_zone(one, zone) for values in lists for one in values.dts}))
