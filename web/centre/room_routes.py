"""The host's commands in a room, and the tokens of those who take part."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import select

from relay.access import KeyFileError, issue
from schedule import audit, rooms, units
from schedule import floor as floors
from schedule.errors import Conflict, NotFound
from schedule.rights import Action, may
from schedule.tables import Occurrence
from web.centre import finding
from web.centre.room_models import (
    SOURCE,
    Called,
    FloorSaid,
    Judged,
    NextSaid,
    OnSaid,
    OrderSaid,
    Pass,
    PassAsked,
    PollAnswer,
    PollChanged,
    PollSaid,
    PresenceSaid,
    ProgrammeSaid,
    RollCallSaid,
    RoomAnswer,
    Spoken,
    StageSaid,
    Wanted,
)
from web.centre.room_state import Room
from web.centre.table import Ask, On, Route

# A pass lasts the meeting and a little more; a page asks for another when it is loaded again.
PASS_BEFORE = timedelta(days=1)
PASS_AFTER = timedelta(hours=2)
LONGEST_PASS = timedelta(hours=12)


async def _room(ask: Ask) -> Room:
    return await ask.centre.rooms.opened(ask.at["occurrence_id"])


async def see_room(ask: Ask) -> RoomAnswer:
    room = await ask.centre.rooms.room(ask.at["occurrence_id"])
    await ask.centre.rooms.learn_names(room)
    return RoomAnswer.of(room, ask.now)


async def open_room(ask: Ask) -> RoomAnswer:
    room = await ask.centre.rooms.open(ask.at["occurrence_id"], ask.person.id)
    return RoomAnswer.of(room, ask.now)


async def close_room(ask: Ask) -> None:
    await ask.centre.rooms.close(ask.at["occurrence_id"], ask.person.id)


# Programme and floor


async def _demand_place(ask: Ask, source: str) -> None:
    """NotFound for a site that there is not."""
    site = floors.site_of(source)
    if site is not None:
        async with ask.centre.store.reading() as connection:
            await units.place(connection, "site", site)


async def _demand_sites(ask: Ask, sites: list[int]) -> None:
    async with ask.centre.store.reading() as connection:
        known = await rooms.places(connection, sites)
    if missing := set(sites) - known.keys():
        raise NotFound(f"there is no site {min(missing)}")


async def cut_programme(ask: Ask) -> None:
    said, room = ask.body, await _room(ask)
    if said.source is not None and said.source == room.floor.programme.source and room.cut_made:
        await ask.centre.rooms.mute(room, said.muted, ask.person.id)
        return
    if said.source is not None:
        await _demand_place(ask, said.source)
    await ask.centre.rooms.cut(room, said.source, muted=said.muted, person_id=ask.person.id)


async def give_floor(ask: Ask) -> Spoken:
    source, said, room = floors.source(ask.at["source"]), ask.body, await _room(ask)
    await _demand_place(ask, source)
    await ask.centre.rooms.change(
        room.id,
        ask.person.id,
        "give floor",
        lambda here: here.floor.give(source, ask.now, heard=said.heard, muted=said.muted),
        source=source,
    )
    shown = room.floor.programme.source == source
    if shown and room.floor.programme.muted != said.muted:
        await ask.centre.rooms.mute(room, said.muted, ask.person.id)
    elif said.programme and not shown:
        await ask.centre.rooms.cut(room, source, muted=said.muted, person_id=ask.person.id)
        shown = True
    return Spoken(source=source, shown=shown)


async def take_floor(ask: Ask) -> None:
    source, room = floors.source(ask.at["source"]), await _room(ask)
    await ask.centre.rooms.take_floor(room, source, ask.person.id)


async def lower_hand(ask: Ask) -> None:
    site = ask.at["site_id"]

    def do(room: Room) -> None:
        if not room.floor.lower_hand(site):
            raise NotFound("this site has not raised its hand")

    await ask.centre.rooms.change(
        ask.at["occurrence_id"], ask.person.id, "lower hand", do, site_id=site
    )


async def set_order(ask: Ask) -> None:
    await _demand_sites(ask, ask.body.sites)
    await ask.centre.rooms.change(
        ask.at["occurrence_id"],
        ask.person.id,
        "speaking order",
        lambda room: room.floor.set_order(ask.body.sites),
        sites=len(ask.body.sites),
    )


async def call_next_speaker(ask: Ask) -> Spoken:
    room = await _room(ask)
    source = await ask.centre.rooms.change(
        room.id, ask.person.id, "next speaker", lambda here: here.floor.next_in_order(ask.now)
    )
    shown = False
    if ask.body.programme:
        shown = await _try_cut(ask, room, source)
    return Spoken(source=source, shown=shown)


async def _try_cut(ask: Ask, room: Room, source: str) -> bool:
    """Cut to a source if it comes; a site that is not there is no fault of the host's."""
    try:
        await ask.centre.rooms.cut(room, source, person_id=ask.person.id)
    except Conflict:
        return False
    return True


async def set_stage(ask: Ask) -> None:
    for source in ask.body.sources:
        await _demand_place(ask, source)
    await ask.centre.rooms.change(
        ask.at["occurrence_id"],
        ask.person.id,
        "stage",
        lambda room: room.floor.set_stage(ask.body.sources),
        sources=list(ask.body.sources),
    )


async def want_sources(ask: Ask) -> None:
    """Not in the audit log, and not in the database: what a director looks at is no decision."""
    room = await _room(ask)
    room.floor.set_asked(ask.body.root)
    ask.centre.rooms.tell(room)


# Roll-call and line tests


async def begin_rollcall(ask: Ask) -> Called:
    room = await _room(ask)
    async with ask.centre.store.reading() as connection:
        sites = await rooms.invited_sites(
            connection, room.id, ask.body.unit_ids, floors.MOST_CALLED + 1
        )
        room.places |= await rooms.places(connection, sites)
    await ask.centre.rooms.change(
        room.id,
        ask.person.id,
        "begin roll-call",
        lambda here: here.floor.call_roll(sites),
        sites=len(sites),
    )
    return _called(room, shown=False)


async def call_next_site(ask: Ask) -> Called:
    room = await _room(ask)
    site = await ask.centre.rooms.change(
        room.id, ask.person.id, "call next site", lambda here: here.floor.call_next()
    )
    shown = False
    if site is not None and site in room.sites:
        shown = await _try_cut(ask, room, floors.source_of(site))
    return _called(room, shown=shown)


def _called(room: Room, *, shown: bool) -> Called:
    call = room.floor.rollcall
    site = call.called if call is not None else None
    place = room.places.get(site) if site is not None else None
    return Called(
        site_id=site,
        name=place.name if place is not None else "",
        unit=place.unit if place is not None else "",
        done=max(call.at, 0) if call is not None else 0,
        total=len(call.sites) if call is not None else 0,
        shown=shown,
    )


async def mark_site(ask: Ask) -> None:
    room, site = await _room(ask), ask.at["site_id"]

    async def write(connection: Any) -> None:
        await units.place(connection, "site", site)
        await rooms.mark(
            connection, room.id, site, ask.body.presence, ask.now, person_id=ask.person.id
        )
        room.marks = {one.site_id: one for one in await rooms.marks(connection, room.id)}
        await audit.record(
            connection,
            ask.now,
            ask.person.id,
            "mark site",
            f"occurrence:{room.id}",
            {"site_id": site, "presence": ask.body.presence},
        )

    await ask.centre.rooms.keep(room, write)
    await ask.centre.rooms.learn_names(room)


async def end_rollcall(ask: Ask) -> None:
    def do(room: Room) -> None:
        if room.floor.rollcall is None:
            raise Conflict("no roll-call is on")
        room.floor.rollcall = None

    await ask.centre.rooms.change(ask.at["occurrence_id"], ask.person.id, "end roll-call", do)


async def ask_linetest(ask: Ask) -> None:
    def do(room: Room) -> None:
        room.floor.linetest_at = ask.now

    await ask.centre.rooms.change(ask.at["occurrence_id"], ask.person.id, "line test", do)


# Words and quick questions


async def set_chat(ask: Ask) -> None:
    def do(room: Room) -> None:
        room.floor.chat_on = ask.body.on

    await ask.centre.rooms.change(
        ask.at["occurrence_id"], ask.person.id, "chat", do, on=ask.body.on
    )


async def judge_word(ask: Ask) -> None:
    room = await _room(ask)

    async def write(connection: Any) -> None:
        await rooms.judge(connection, room.id, ask.at["say_id"], ask.body.approved)
        said = await rooms.said(connection, room.id, "say")
        room.said.clear()
        room.said.extend(said)

    await ask.centre.rooms.keep(room, write)
    ask.centre.rooms.tell(room)


async def ask_poll(ask: Ask) -> PollAnswer:
    room = await _room(ask)

    async def write(connection: Any) -> rooms.PollInfo:
        made = await rooms.add_poll(
            connection, room.id, ask.body.question, ask.body.options, ask.now
        )
        room.polls = {one.id: one for one in await rooms.polls(connection, room.id)}
        return made

    made = await ask.centre.rooms.keep(room, write)
    ask.centre.rooms.tell(room)
    assert made is not None
    return PollAnswer.of(made)


async def change_poll(ask: Ask) -> None:
    room, poll = await _room(ask), ask.at["poll_id"]
    values = ask.body.model_dump(exclude_none=True)
    if not values:
        raise Conflict("say whether it is to be open, or shown")
    if values.get("open") and poll != max(room.polls, default=0):
        raise Conflict("only the newest question can be opened again")

    async def write(connection: Any) -> None:
        await rooms.change_poll(connection, room.id, poll, values)
        kept = {one.id: one for one in await rooms.polls(connection, room.id)}
        # The counts in memory are newer.
        room.polls = {
            id: rooms.with_counts(one, room.polls.get(id, one)) for id, one in kept.items()
        }

    await ask.centre.rooms.keep(room, write)
    ask.centre.rooms.tell(room)


# Tokens


async def _pass_place(ask: Ask) -> str | None:
    """Whoever controls the meeting may give any pass; a site's own people take its own."""
    query: PassAsked = ask.query
    path = await finding.of_occurrence(ask)
    if may(ask.session.grants, Action.CONTROL, path):
        return path
    if query.site_id is not None:
        place = await units.place(ask.connection, "site", query.site_id)
        site_path = (await units.unit(ask.connection, place.unit_id)).path
        seen = await finding.occurrence_seen(ask)
        asked = seen is None or may(ask.session.grants, Action.SEE, seen)
        if asked and may(ask.session.grants, Action.REPLY, site_path):
            return None
        return path
    presenter = await ask.connection.scalar(
        select(Occurrence.presenter_id).where(Occurrence.id == ask.at["occurrence_id"])
    )
    if presenter is not None and presenter == ask.person.id:
        return None
    if query.role == "viewer":
        seen = await finding.occurrence_seen(ask)
        return None if seen is None or may(ask.session.grants, Action.SEE, seen) else path
    return path


async def see_pass(ask: Ask) -> Pass:
    query: PassAsked = ask.query
    about = await rooms.meeting(ask.connection, ask.at["occurrence_id"])
    stream = f"class-{about.id}"
    if query.site_id is not None:
        await units.place(ask.connection, "site", query.site_id)
        subject, publish = f"site:{query.site_id}", f"{stream}.{floors.source_of(query.site_id)}"
    else:
        subject = f"person:{ask.person.id}"
        publish = f"{stream}.{query.role}" if query.role != "viewer" else ""
    view = f"{stream}*"
    if ask.centre.access.open:
        return Pass(token="", publish=publish, view=view, expires_at=None)
    opens = about.starts_at - PASS_BEFORE
    if not opens <= ask.now <= about.ends_at + PASS_AFTER:
        raise Conflict("passes are given from a day before the meeting until two hours after it")
    left = max(about.ends_at - ask.now, timedelta()) + PASS_AFTER
    ttl = min(left, LONGEST_PASS)
    key = ask.centre.settings.token_key
    if key is None:
        raise Conflict("this centre makes no tokens: set token_key under [centre]")
    # By the wall clock, for nodes judge it by theirs.
    now_s = time.time()
    token = _issue(key, [publish] if publish else [], [stream, f"{stream}.*"], ttl, subject, now_s)
    expires_at = datetime.fromtimestamp(now_s, UTC) + ttl
    return Pass(token=token, publish=publish, view=view, expires_at=expires_at)


def _issue(
    key: Path, publish: list[str], view: list[str], ttl: timedelta, subject: str, now_s: float
) -> str:
    try:
        return issue(
            key.read_bytes(),
            publish=publish,
            view=view,
            relay=False,
            ttl_s=ttl.total_seconds(),
            subject=subject,
            now=now_s,
        )
    except (OSError, KeyFileError) as error:
        raise Conflict(f"the centre's token_key cannot be used: {error}") from error


_ROOM = "/api/occurrences/{occurrence_id}/room"
_CONTROL = On(Action.CONTROL, finding.of_occurrence)
_WORDS = {"source": {"type": "string", "pattern": SOURCE, "maxLength": 20}}
ROUTES = [
    Route("GET", _ROOM, _CONTROL, see_room, "The room of a meeting, as its host sees it.",
          answer=RoomAnswer, by_itself=True),
    Route("POST", _ROOM + "/open", _CONTROL, open_room,
          "Open the room: from now on the host says what is seen and heard.",
          answer=RoomAnswer, by_itself=True),
    Route("POST", _ROOM + "/close", _CONTROL, close_room, "Close the room.", by_itself=True),
    Route("PUT", _ROOM + "/programme", _CONTROL, cut_programme,
          "Cut the programme to a source, once that is there; or mute it at once.",
          body=ProgrammeSaid, by_itself=True),
    Route("PUT", _ROOM + "/floor/{source}", _CONTROL, give_floor,
          "Give a source the floor, or change how it has it.",
          answer=Spoken, body=FloorSaid, by_itself=True, words=_WORDS),
    Route("DELETE", _ROOM + "/floor/{source}", _CONTROL, take_floor,
          "Take the floor back: silence at once, then the presenter.",
          by_itself=True, words=_WORDS),
    Route("DELETE", _ROOM + "/hands/{site_id}", _CONTROL, lower_hand,
          "Take a hand down.", by_itself=True),
    Route("PUT", _ROOM + "/order", _CONTROL, set_order,
          "Set who speaks after whom.", body=OrderSaid, by_itself=True),
    Route("POST", _ROOM + "/order/next", _CONTROL, call_next_speaker,
          "Give the floor to the next in the order, and take it from the one before.",
          answer=Spoken, body=NextSaid, by_itself=True),
    Route("PUT", _ROOM + "/stage", _CONTROL, set_stage,
          "Set who is seen together, nine at most.", body=StageSaid, by_itself=True),
    Route("PUT", _ROOM + "/wanted", _CONTROL, want_sources,
          "Fetch these sites up the tree for the host to see or hear, 16 at most.",
          body=Wanted, by_itself=True),
    Route("POST", _ROOM + "/rollcall", _CONTROL, begin_rollcall,
          "Begin a roll-call.", answer=Called, body=RollCallSaid, by_itself=True),
    Route("POST", _ROOM + "/rollcall/next", _CONTROL, call_next_site,
          "Call the next site, and show it.", answer=Called, by_itself=True),
    Route("PUT", _ROOM + "/rollcall/{site_id:(?!next$)[^/]+}", _CONTROL, mark_site,
          "Mark a site as present, absent or on leave.", body=PresenceSaid, by_itself=True),
    Route("DELETE", _ROOM + "/rollcall", _CONTROL, end_rollcall,
          "End the roll-call.", by_itself=True),
    Route("POST", _ROOM + "/linetest", _CONTROL, ask_linetest,
          "Ask all sites to test their lines.", by_itself=True),
    Route("PUT", _ROOM + "/chat", _CONTROL, set_chat,
          "Let people write, or not.", body=OnSaid, by_itself=True),
    Route("PUT", _ROOM + "/chat/{say_id}", _CONTROL, judge_word,
          "Show what somebody wrote to all, or hide it.", body=Judged, by_itself=True),
    Route("POST", _ROOM + "/polls", _CONTROL, ask_poll,
          "Ask a quick question; the one before is closed.",
          answer=PollAnswer, body=PollSaid, by_itself=True),
    Route("PUT", _ROOM + "/polls/{poll_id}", _CONTROL, change_poll,
          "Open or close a question, show or hide its result.",
          body=PollChanged, by_itself=True),
    Route("GET", _ROOM + "/pass", On(Action.CONTROL, _pass_place), see_pass,
          "A token for a site, or for a role of the meeting.",
          answer=Pass, query=PassAsked, also=(409,)),
]  # fmt: skip
