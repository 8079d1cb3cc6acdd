"""Who may do what on whose unit, asked of the real HTTP API for every route there is.

Each row says, for a thing of the city P1A, who may: `^` the administrator of the province above it,
`A P O V` its own administrator, presenter, operator, viewer, `b` the administrator of a county
below it, `s` that of a city in another province, `n` somebody without any role, `-` nobody signed
in. A route without a row fails.
"""

from __future__ import annotations

import asyncio
import base64
import functools
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from schedule import ballots, invitations, people, planning, rooms, units
from schedule.people import NewPerson
from schedule.rights import Role
from schedule.tables import Occurrence
from tests.media.test_library import published
from tests.schedule.network import NOW, Network, load
from tests.web.centre.house import opened, served
from tests.web.centre.people import PASSWORD, Browser, Clock, give_passwords, token
from tests.web.centre.test_signin import Open
from web.centre.centre import Centre
from web.centre.routes import ROUTES
from web.library import LibraryRoom
from web.library_settings import LibrarySettings
from web.room import ballots as secret
from web.room.root import Event

LOGINS = {
    "^": "boss-P1", "A": "boss-P1A", "P": "presenter-P1A", "O": "operator-P1A", "V": "viewer-P1A",
    "b": "boss-P1Ax", "s": "boss-P2A", "n": "nothing-P2A", "-": "",
}  # fmt: skip
EVERYBODY = "^APOVbsn"


@dataclass(frozen=True)
class World:
    """The ids of what there is at P1A."""

    unit: int
    above: int
    child: int
    empty: int
    site: int
    station: int
    person: int
    draft: int
    submitted: int
    confirmed: int
    occurrence: int
    word: int = 0
    poll: int = 0
    deck: int = 0
    ballot: int = 0


@dataclass(frozen=True)
class Row:
    """Who may, and how to ask; a function, where the address or the body names something."""

    who: str
    path: str | Callable[[World], str]
    body: Callable[[World], Any] | None = None
    query: Callable[[World], dict[str, Any]] = lambda _: {}
    data: bytes | None = None
    media_type: str = "text/csv"


async def build(network: Network, centre: Centre, library: Path | None = None) -> World:
    world = await store_world(network, centre)
    if library is not None:
        await fill_library(library)
        centre.library = LibraryRoom(LibrarySettings(folder=library))
    return await open_room(centre, world)


async def fill_library(folder: Path) -> None:
    """The recording of the class, and a film that was no class."""
    library = await LibraryRoom(LibrarySettings(folder=folder)).library()
    for course_id in ("physics", "film"):
        await published(library, folder / "file", course_id)


async def store_world(network: Network, centre: Centre) -> World:
    """What of it stands in the database: all but its room."""
    unit, above = network.units["P1A"], network.units["P1"]
    async with network.store.writing() as connection:
        for role in (Role.PRESENTER, Role.OPERATOR, Role.VIEWER):
            made = await people.add_person(
                connection, NewPerson(unit.id, f"{role.value}-P1A", role.value)
            )
            await people.grant(connection, made.id, unit.id, role)
        other = NewPerson(network.units["P2A"].id, "nothing-P2A", "Nothing")
        await people.add_person(connection, other)
        target = await people.add_person(connection, NewPerson(unit.id, "target", "Target"))
        site = await units.add_place(connection, "site", unit.id, "room", "Room")
        station = await units.add_place(connection, "station", unit.id, "box", "Box")
        plan = network.draft("P1A", audience=(("subtree", unit.id),))
        draft = await planning.save(connection, plan, NOW, None)
        saved = await planning.save(connection, replace(plan, title="Physics"), NOW, None)
        confirmed = await planning.submit(connection, saved.series.id, NOW, None)
        await units.change_unit(connection, above.id, {"asks_approval": True})
        later = replace(plan, title="Later", starts_local=plan.starts_local.replace(hour=20))
        submitted = await planning.save(connection, later, NOW, None)
        await planning.submit(connection, submitted.series.id, NOW, None)
        occurrence = await connection.scalar(
            select(Occurrence.id).where(Occurrence.series_id == confirmed.series.id)
        )
        assert occurrence is not None
        await invitations.invite(connection, occurrence)
        # Its recording stands in the library.
        mine = Occurrence.id == occurrence
        await connection.execute(update(Occurrence).where(mine).values(course="physics"))
        # After that: who is invited somewhere is not taken out.
        empty = await units.add_unit(connection, units.NewUnit("empty", "Empty", "county", unit.id))
    await give_passwords(centre.store)
    return World(
        unit.id, above.id, network.units["P1Ax"].id, empty.id, site.id, station.id, target.id,
        draft.series.id, submitted.series.id, confirmed.series.id, occurrence,
    )  # fmt: skip


async def open_room(centre: Centre, world: World) -> World:
    """A room in which every command finds what it is about, ballot and slides among it."""
    occurrence, site = world.occurrence, world.site
    room = await centre.rooms.open(occurrence, None)
    room.floor.chat_on = True
    room.floor.set_order([site])
    room.floor.call_roll([site])
    room.floor.give("presenter", NOW)
    who = f"site:{site}"
    events = [
        Event("1", "hand", who, NOW.timestamp(), {"up": True, "text": "Water"}),
        Event("2", "say", who, NOW.timestamp(), {"text": "Good morning"}),
    ]
    await centre.rooms.take(occurrence, events)

    async def write(connection: AsyncConnection) -> rooms.PollInfo:
        return await rooms.add_poll(connection, occurrence, "Seen?", ["Yes", "No"], NOW)

    poll = await centre.rooms.keep(room, write)
    assert poll is not None
    room.polls[poll.id] = poll
    page = {"sha256": "0" * 64, "bytes": 1, "width": 16, "height": 9}
    async with centre.store.writing() as connection:
        deck = await rooms.add_deck(
            connection, occurrence, "Slides", "image/png", [page], NOW, None
        )
    room.decks[deck.id] = deck
    async with centre.store.writing() as connection:
        info = await ballots.add(
            connection, occurrence, "Agreed?", ["Yes", "No"], "units", 60, ballot_keys(), NOW
        )
    centre.rooms.take_ballot(room, info)
    return replace(world, word=room.said[0].id, poll=poll.id, deck=deck.id, ballot=info.id)


@functools.cache
def ballot_keys() -> ballots.Keys:
    """Made once: it takes a second."""
    made = secret.new_keys()
    return ballots.Keys(made.signer, made.seal, made.signer_key, made.seal_key)


def plan(world: World) -> dict[str, Any]:
    return {
        "kind": "meeting", "title": "Plan", "unit_id": world.unit, "duration_s": 600,
        "starts_local": "2026-03-03T15:00", "time_zone": "Asia/Shanghai",
    }  # fmt: skip


def of_unit(world: World) -> dict[str, Any]:
    return {"unit_id": world.unit}


def period(_world: World) -> dict[str, Any]:
    return {"from_": "2026-03-01", "to": "2026-03-31"}


def stay(world: World) -> dict[str, Any]:
    return {
        "source": "node/1", "occurrence_id": world.occurrence, "attendee_kind": "site",
        "attendee_id": world.site, "joined_at": "2026-03-02T01:00:00Z",
        "seen_at": "2026-03-02T01:10:00Z",
    }  # fmt: skip


def count(world: World) -> dict[str, Any]:
    known = {name: value for name, value in stay(world).items() if not name.endswith("_at")}
    return known | {"counted_at": "2026-03-02T01:10:00Z", "people": 30}


# A grey picture of 16 by 9.
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAABAAAAAJCAAAAAAeQfPuAAAAD0lEQVR4nGNoQAMMg0QAAIXUSAEMc2GTAAAAAElFTk"
    "SuQmCC"
)
ICS = b"""BEGIN:VCALENDAR
VERSION:2.0
PRODID:x
BEGIN:VEVENT
UID:1@x
DTSTART:20260304T010000Z
DTEND:20260304T020000Z
SUMMARY:From a file
END:VEVENT
END:VCALENDAR
"""


def room(rest: str) -> Callable[[World], str]:
    """The address of something in the room; {site}, {word}, {poll}, {deck}, {ballot} stand for their ids."""
    return lambda w: (
        f"/api/occurrences/{w.occurrence}/room"
        + rest.format(site=w.site, word=w.word, poll=w.poll, deck=w.deck, ballot=w.ballot)
    )


ROWS: dict[str, Row] = {
    "sign_in": Row("^APOVbsn-", "/api/session", lambda _: {"login": "target", "password": PASSWORD}),
    "see_ways_in": Row("^APOVbsn-", "/api/signin"),
    "begin_oidc": Row("^APOVbsn-", "/api/signin/oidc"),
    "end_oidc": Row("^APOVbsn-", "/api/signin/oidc/callback"),
    "who_am_i": Row(EVERYBODY, "/api/session"),
    "sign_out": Row(EVERYBODY, "/api/session"),
    "change_my_password": Row(EVERYBODY, "/api/me/password", lambda _: {"old": PASSWORD, "new": PASSWORD}),
    "list_units": Row("^APOV", "/api/units", query=lambda w: {"parent_id": w.unit}),
    "add_unit": Row("^A", "/api/units", lambda w: {"code": "new", "name": "New", "tier": "county", "parent_id": w.unit}),
    "see_unit": Row("^APOV", lambda w: f"/api/units/{w.unit}"),
    "see_units_above": Row("^APOV", lambda w: f"/api/units/{w.unit}/above"),
    "change_unit": Row("^A", lambda w: f"/api/units/{w.unit}", lambda _: {"name": "Another"}),
    "remove_unit": Row("^A", lambda w: f"/api/units/{w.empty}"),
    "move_unit": Row("^A", lambda w: f"/api/units/{w.empty}/move", lambda w: {"parent_id": w.unit}),
    "list_sites": Row("^APOV", "/api/sites", query=of_unit),
    "add_site": Row("^AO", "/api/sites", lambda w: {"unit_id": w.unit, "code": "s", "name": "S"}),
    "see_site": Row("^APOV", lambda w: f"/api/sites/{w.site}"),
    "change_site": Row("^AO", lambda w: f"/api/sites/{w.site}", lambda _: {"name": "Another"}),
    "remove_site": Row("^AO", lambda w: f"/api/sites/{w.site}"),
    "list_stations": Row("^APOV", "/api/places/stations", query=of_unit),
    "add_station": Row("^AO", "/api/places/stations", lambda w: {"unit_id": w.unit, "code": "s", "name": "S"}),
    "see_station": Row("^APOV", lambda w: f"/api/places/stations/{w.station}"),
    "change_station": Row("^AO", lambda w: f"/api/places/stations/{w.station}", lambda _: {"name": "Another"}),
    "remove_station": Row("^AO", lambda w: f"/api/places/stations/{w.station}"),
    "list_people": Row("^A", "/api/people", query=of_unit),
    "list_presenters": Row("^AP", "/api/presenters", query=of_unit),
    "add_person": Row("^A", "/api/people", lambda w: {"unit_id": w.unit, "login": "new", "name": "New"}),
    "see_person": Row("^A", lambda w: f"/api/people/{w.person}"),
    "change_person": Row("^A", lambda w: f"/api/people/{w.person}", lambda _: {"name": "Another"}),
    "give_role": Row("^A", lambda w: f"/api/people/{w.person}/roles", lambda w: {"unit_id": w.unit, "role": "viewer"}),
    "take_role": Row("^A", lambda w: f"/api/people/{w.person}/roles", lambda w: {"unit_id": w.unit, "role": "viewer"}),
    "give_password": Row("^A", lambda w: f"/api/people/{w.person}/password", lambda _: {"password": "a new password"}),
    "export_units": Row("^APOV", "/api/roster/units", query=of_unit),
    "export_sites": Row("^APOV", "/api/roster/sites", query=of_unit),
    "export_stations": Row("^APOV", "/api/roster/stations", query=of_unit),
    "export_people": Row("^A", "/api/roster/people", query=of_unit),
    # Whoever keeps something somewhere; that they stay within it is tested below.
    "import_units": Row("^Abs", "/api/roster/units", data=b"code,parent,name,tier\n"),
    "import_sites": Row("^AObs", "/api/roster/sites", data=b"code,unit,name\n"),
    "import_stations": Row("^AObs", "/api/roster/stations", data=b"code,unit,name\n"),
    "import_people": Row("^Abs", "/api/roster/people", data=b"login,unit,name\n"),
    "list_series": Row("^APOV", "/api/series", query=of_unit),
    "write_series": Row("^AP", "/api/series", plan),
    "check_series": Row("^AP", "/api/series/check", lambda w: {"plan": plan(w)}),
    "copy_week": Row("^AP", "/api/series/copy-week", lambda w: {"unit_id": w.unit, "monday": "2026-03-02T00:00", "weeks": 1}),
    "import_calendar": Row("^AP", "/api/series/import", query=of_unit, data=ICS, media_type="text/calendar"),
    # Asked to attend, so that the county below sees it.
    "see_series": Row("^APOVb", lambda w: f"/api/series/{w.confirmed}"),
    "change_series": Row("^AP", lambda w: f"/api/series/{w.draft}", plan),
    "submit_series": Row("^AP", lambda w: f"/api/series/{w.draft}/submit", query=lambda _: {"anyway": "1"}),
    "approve_series": Row("^", lambda w: f"/api/series/{w.submitted}/approve"),
    "refuse_series": Row("^", lambda w: f"/api/series/{w.submitted}/refuse", lambda _: {"reason": "No"}),
    "cancel_series": Row("^AP", lambda w: f"/api/series/{w.confirmed}/cancel"),
    "remove_series": Row("^AP", lambda w: f"/api/series/{w.draft}"),
    "list_approvals": Row("^", "/api/approvals", query=lambda w: {"unit_id": w.above}),
    "see_today": Row(EVERYBODY, "/api/today"),
    "list_occurrences": Row("^APOV", "/api/occurrences", query=lambda w: {"from_": "2026-03-01T00:00:00Z", "to": "2026-03-09T00:00:00Z", "unit_id": w.unit}),
    "see_occurrence": Row("^APOVb", lambda w: f"/api/occurrences/{w.occurrence}"),
    "change_occurrence": Row("^AP", lambda w: f"/api/occurrences/{w.occurrence}", lambda _: {"title": "Another"}),
    "start_occurrence": Row("^APO", lambda w: f"/api/occurrences/{w.occurrence}/start"),
    "end_occurrence": Row("^APO", lambda w: f"/api/occurrences/{w.occurrence}/end"),
    "extend_occurrence": Row("^APO", lambda w: f"/api/occurrences/{w.occurrence}/extend", lambda _: {"minutes": 10}),
    "list_invitations": Row("^APOV", lambda w: f"/api/occurrences/{w.occurrence}/invitations"),
    "reply_to_invitation": Row("^AO", lambda w: f"/api/occurrences/{w.occurrence}/invitations/{w.unit}", lambda _: {"reply": "yes"}),
    "see_attendance": Row("^APOV", lambda w: f"/api/occurrences/{w.occurrence}/attendance"),
    "export_attendance": Row("^APOV", lambda w: f"/api/occurrences/{w.occurrence}/attendance.csv"),
    "export_statements": Row("^APOV", lambda w: f"/api/occurrences/{w.occurrence}/xapi"),
    "see_room": Row("^APO", room("")),
    "open_room": Row("^APO", room("/open")),
    "close_room": Row("^APO", room("/close")),
    "cut_programme": Row("^APO", room("/programme"), lambda _: {"source": "presenter"}),
    "give_floor": Row("^APO", room("/floor/site-{site}"), lambda _: {"programme": True}),
    "take_floor": Row("^APO", room("/floor/presenter")),
    "lower_hand": Row("^APO", room("/hands/{site}")),
    "set_order": Row("^APO", room("/order"), lambda w: {"sites": [w.site]}),
    "call_next_speaker": Row("^APO", room("/order/next"), lambda _: {}),
    "set_stage": Row("^APO", room("/stage"), lambda _: {"sources": ["presenter"]}),
    "want_sources": Row("^APO", room("/wanted"), lambda w: {f"site-{w.site}": "low"}),
    "begin_rollcall": Row("^APO", room("/rollcall"), lambda w: {"unit_ids": [w.unit]}),
    "call_next_site": Row("^APO", room("/rollcall/next")),
    "mark_site": Row("^APO", room("/rollcall/{site}"), lambda _: {"presence": "present"}),
    "end_rollcall": Row("^APO", room("/rollcall")),
    "ask_linetest": Row("^APO", room("/linetest")),
    "set_chat": Row("^APO", room("/chat"), lambda _: {"on": True}),
    "judge_word": Row("^APO", room("/chat/{word}"), lambda _: {"approved": True}),
    "ask_poll": Row("^APO", room("/polls"), lambda _: {"question": "Heard?", "options": ["Yes", "No"]}),
    "change_poll": Row("^APO", room("/polls/{poll}"), lambda _: {"shown": True}),
    "add_deck": Row("^APO", room("/decks"), data=PNG, media_type="image/png"),
    "remove_deck": Row("^APO", room("/decks/{deck}")),
    # One is open already.
    "open_ballot": Row("^APO", room("/ballots"), lambda _: {"question": "Agreed?", "options": ["Yes", "No"]}),
    "see_ballot": Row("^APO", room("/ballots/{ballot}")),
    "export_ballot": Row("^APO", room("/ballots/{ballot}/result.csv")),
    "close_ballot": Row("^APO", room("/ballots/{ballot}/close")),
    # For the unit that they answer for; what they ask to have signed is nothing, for which no
    # paper is used up.
    "sign_paper": Row("^AO", room("/ballots/{ballot}/signatures"), lambda w: {"unit_id": w.unit, "blinded": "AAAA"}),
    # A centre of these tests has no node: see tests/live/test_room.py.
    "play_file": Row("^APO", room("/file"), lambda _: {"course_id": "physics"}),
    "stop_file": Row("^APO", room("/file")),
    "show_slide": Row("^APO", room("/slides"), lambda w: {"deck": w.deck, "page": 1}),
    # Of a site for whoever answers for it; another role's is asked for below.
    "see_pass": Row("^APO", room("/pass"), query=lambda w: {"site_id": w.site}),
    "report_stays": Row("", "/api/reports/stays", lambda w: {"reports": [stay(w)]}),
    "report_counts": Row("", "/api/reports/counts", lambda w: {"reports": [count(w)]}),
    "export_logbook": Row("^APOV", lambda w: f"/api/attendance/{w.unit}/logbook.csv", query=period),
    "see_totals": Row("^APOV", "/api/attendance/totals", query=lambda w: period(w) | of_unit(w)),
    "export_duty": Row("^APOV", "/api/attendance/duty.csv", query=lambda w: period(w) | of_unit(w)),
    "see_logbook": Row("^APOV", lambda w: f"/api/attendance/{w.unit}/logbook", query=period),
    "list_feeds": Row(EVERYBODY, "/api/feeds"),
    "make_feed": Row("^APOV", "/api/feeds", lambda w: {"kind": "unit", "target_id": w.unit}),
    # Of one's own feeds only: see test_feeds.py.
    "remove_feed": Row(EVERYBODY, "/api/feeds/1"),
    "renew_feed": Row(EVERYBODY, "/api/feeds/1/renew"),
    "read_feed": Row("^APOVbsn-", "/feeds/guessed.ics"),
    # Whether one may is its answer. A film that was no class is the root's: see below.
    "see_library_course": Row(EVERYBODY, "/api/library/courses/physics"),
    "change_library_course": Row("^AP", "/api/library/courses/physics", lambda _: {"title": "New"}),
    "remove_library_course": Row("^AP", "/api/library/courses/physics", query=lambda _: {"anyway": "1"}),
    "list_audit": Row("", "/api/audit"),
    "list_messages": Row("", "/api/messages"),
    "send_message_again": Row("", "/api/messages/1/send"),
    "ignore_message": Row("", "/api/messages/1/ignore"),
}  # fmt: skip

# Rows whose thing is not there, or not in the state, when it is allowed.
NOT_THERE = {
    "begin_oidc",
    "end_oidc",
    "remove_feed",
    "renew_feed",
    "read_feed",
    "end_occurrence",
    "extend_occurrence",
    "play_file",
    "stop_file",
    "open_ballot",
    "sign_paper",
}
AT_THE_TOP = {"list_audit", "list_messages", "send_message_again", "ignore_message"}


def test_every_route_has_a_row() -> None:
    assert ROWS.keys() == {route.name for route in ROUTES}


async def ask(browser: Browser, method: str, row: Row, world: World, **more: Any) -> int:
    path = row.path if isinstance(row.path, str) else row.path(world)
    headers = dict(more.get("headers", {}))
    if row.data is not None:
        headers["Content-Type"] = row.media_type
    body = row.body(world) if row.body is not None else None
    answer = await browser.ask(
        method, path, body, data=row.data, headers=headers, **row.query(world)
    )
    return answer.status


@dataclass(frozen=True)
class Prepared:
    """A folder with a database in which everybody has signed in, and a library.

    keys: cookie and token, by the signs of LOGINS.
    """

    folder: Path
    world: World
    keys: dict[str, tuple[str, str]]


@pytest.fixture(scope="module")
def prepared(sqlite_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """Made once: each route gets a copy, in which all is as it was."""
    folder = tmp_path_factory.mktemp("rights")
    shutil.copy(sqlite_folder / "network", folder / "world.db")
    return asyncio.run(_prepare(folder))


async def _prepare(folder: Path) -> Prepared:
    keys = {}
    await fill_library(folder / "library")
    database = str(folder / "world.db")
    async with opened(database, Clock(), folder) as centre, served(centre) as url:
        world = await store_world(await load(centre.store), centre)
        for one, login in LOGINS.items():
            browser = Browser(url)
            if login:
                assert (await browser.sign_in(login)).status == 200
            keys[one] = (browser.cookie, browser.csrf)
            await browser.close()
    return Prepared(folder, world, keys)


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.name)
async def test_who_may(prepared: Prepared, folder: Path, clock: Clock, route: Any) -> None:
    database, library = folder / "world.db", folder / "library"
    shutil.copy(prepared.folder / "world.db", database)
    shutil.copytree(prepared.folder / "library", library)
    row = ROWS[route.name]
    async with opened(str(database), clock, folder) as centre, served(centre) as url:
        centre.library = LibraryRoom(LibrarySettings(folder=library))
        world = await open_room(centre, prepared.world)
        # Those who may not come first: they find everything as it was.
        for one in sorted(LOGINS, key=lambda one: one in row.who):
            browser = Browser(url)
            browser.take(*prepared.keys[one])
            try:
                status = await ask(browser, route.method, row, world)
            finally:
                await browser.close()
            if one in row.who:
                assert status not in (401, 403), f"{LOGINS[one] or 'nobody'} may not"
                if route.name not in NOT_THERE and one == row.who[0]:
                    assert status < 300, f"{LOGINS[one]} could not"
            else:
                hidden = not row.who and route.name not in AT_THE_TOP
                wanted = 401 if one == "-" or hidden else 403
                assert status == wanted, f"{LOGINS[one] or 'nobody'} may"


@pytest.mark.parametrize("name", ["report_stays", "report_counts"])
async def test_only_nodes_report(
    network: Network, centre: Centre, browser: Open, name: str, tmp_path: Path
) -> None:
    world, nobody = await build(network, centre, tmp_path / "library"), await browser("")
    assert await ask(nobody, "POST", ROWS[name], world, headers=token(relay=False)) == 403
    assert await ask(nobody, "POST", ROWS[name], world, headers=token(relay=True)) == 200


@pytest.mark.parametrize("name", ["list_audit", "list_messages"])
async def test_the_top_sees_everything(browser: Open, name: str) -> None:
    path = ROWS[name].path
    assert isinstance(path, str)
    assert (await (await browser("boss-C")).get(path)).status == 200


async def test_an_account_with_a_higher_role_is_not_taken_over(
    network: Network, centre: Centre, browser: Open, tmp_path: Path
) -> None:
    """Whoever keeps its home unit's people cannot set the password of the centre's administrator."""
    world = await build(network, centre, tmp_path / "library")
    async with network.store.writing() as connection:
        await people.grant(connection, world.person, network.units["C"].id, Role.ADMINISTRATOR)
        await people.change_person(connection, world.person, {"active": False})
    one = await browser("boss-P1A")
    where = f"/api/people/{world.person}"
    assert (await one.post(where + "/password", {"password": "a new password"})).status == 403
    assert (await one.ask("PATCH", where, {"active": True})).status == 403
    assert (await (await browser("boss-C")).ask("PATCH", where, {"active": True})).status == 200


async def test_nothing_is_moved_into_or_out_of_what_one_keeps(
    network: Network, centre: Centre, browser: Open, tmp_path: Path
) -> None:
    world, one = await build(network, centre, tmp_path / "library"), await browser("boss-P1A")
    other = network.units["P2A"].id
    moves = [
        ("POST", f"/api/units/{world.empty}/move", {"parent_id": other}),
        ("PATCH", f"/api/people/{world.person}", {"unit_id": other}),
        ("PATCH", f"/api/sites/{world.site}", {"unit_id": other}),
        ("PUT", f"/api/series/{world.draft}", plan(world) | {"unit_id": other}),
        ("PUT", f"/api/people/{world.person}/roles", {"unit_id": other, "role": "viewer"}),
        ("POST", "/api/feeds", {"kind": "unit", "target_id": other}),
        ("POST", "/api/feeds", {"kind": "site", "target_id": network.sites["P2Ax"]}),
    ]
    for method, path, body in moves:
        assert (await one.ask(method, path, body)).status == 403, path


async def test_an_import_stays_within_what_one_keeps(
    network: Network, centre: Centre, browser: Open, tmp_path: Path
) -> None:
    await build(network, centre, tmp_path / "library")
    one = await browser("boss-P1A")
    lines = b"code,unit,name\nfine,P1A,Fine\nnot,P2A,Not\n"
    answer = await one.ask(
        "POST", "/api/roster/sites", data=lines, headers={"Content-Type": "text/csv"}
    )
    assert answer.json["bad"] == [
        {"line": 3, "column": "unit", "reason": "you may not add to this unit"}
    ]
    assert answer.json["bad_lines"] == 1


async def test_a_role_that_is_taken_away_is_gone_at_once(
    network: Network, centre: Centre, browser: Open, clock: Clock, tmp_path: Path
) -> None:
    world = await build(network, centre, tmp_path / "library")
    viewer, boss = await browser("viewer-P1A"), await browser("boss-P1A")
    assert (await viewer.get(f"/api/units/{world.unit}")).status == 200
    who = (await viewer.get("/api/session")).json["person"]["id"]
    wish = {"unit_id": world.unit, "role": "viewer"}
    assert (await boss.ask("DELETE", f"/api/people/{who}/roles", wish)).status == 200
    assert (await viewer.get(f"/api/units/{world.unit}")).status == 403
    assert (await boss.ask("PATCH", f"/api/people/{who}", {"active": False})).status == 200
    assert (await viewer.get("/api/session")).status == 401


async def test_a_course_is_changed_by_those_whose_class_it_was(
    network: Network, centre: Centre, browser: Open, tmp_path: Path
) -> None:
    """What was no class is the root's; what is changed is in the library, and in the audit log."""
    await build(network, centre, tmp_path / "library")
    city, top = await browser("presenter-P1A"), await browser("boss-C")
    physics, film = "/api/library/courses/physics", "/api/library/courses/film"
    assert (await city.get(physics)).json["may_edit"] is True
    assert (await city.get(film)).json == {"may_edit": False, "uses": []}
    assert (await city.ask("PATCH", film, {"title": "Mine"})).status == 403
    said = await city.ask("PATCH", physics, {"title": "Force", "revision": 1})
    assert (said.status, said.json) == (200, {"revision": 2})
    assert (await city.ask("PATCH", physics, {"title": "Late", "revision": 1})).status == 409
    beyond = {"chapters": [{"start_s": 90_000, "title": "x"}]}
    assert (await city.ask("PATCH", physics, beyond)).json["field"] == "chapters"
    assert (await city.ask("DELETE", film)).status == 403
    assert (await top.ask("PATCH", film, {"title": "Ours"})).status == 200
    assert (await top.ask("DELETE", "/api/library/courses/nothing")).status == 404
    assert centre.library is not None
    library = await centre.library.library()
    titles = [(await library.course(one)).course.title for one in ("physics", "film")]
    assert titles == ["Force", "Ours"]
    noted = (await top.get("/api/audit")).json["items"]
    assert {"library:physics", "library:film"} <= {one["subject"] for one in noted}
