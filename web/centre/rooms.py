"""The rooms of this centre: the state of each in memory, told to the tree and kept in the database.

While a room is open it lives here. A command changes the floor (`schedule.floor`), the tree is told
in the same moment, and before the host is answered the change is in the database; so a centre that
starts again goes on where it was. Silence does not wait for a disk, nor for a cut that is under
way. What the tree sends up comes in by `take`, `tallied` and `present` (`web.room.root.Root`).

Two things are behind small protocols: `Hub`, which takes the state down the tree, and `Scene`,
which knows the streams of this node.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol, TypeVar

from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from relay.errors import Refused
from schedule import audit, ballots, rooms
from schedule.errors import Conflict, NotFound, StoreError
from schedule.floor import FALLBACKS, Floor, Programme
from schedule.linetest import judge
from schedule.rooms import NewEvent
from schedule.store import Store
from schedule.tables import Occurrence
from web.centre.room_state import BallotTold, Cue, LineTest, Room, changes, state_of
from web.room import ballots as secret
from web.room.root import Event

log = logging.getLogger("web.centre.rooms")

LOOK_EVERY_S: Final = 0.5
KNOWN_EVERY_S: Final = 10.0
AHEAD: Final = timedelta(hours=24)
"""A room can be entered so long before its meeting: line tests are run the evening before."""
BALLOT_GRACE: Final = timedelta(seconds=8)
"""Votes go up by one report a second and node: what was cast before the end is here by then."""
MOST_KNOWN: Final = 5_000
MOST_LOADED: Final = 200
BEFORE: Final = ("planned", "rehearsal", "on_air")
AT_ONCE_S: Final = 3.0
STOP_WITHIN_S: Final = 1.0
_T = TypeVar("_T")


class Hub(Protocol):
    """Takes the state of rooms down the tree."""

    def set(self, room: int, key: str, value: object) -> None:
        """Tell everybody in a room; None takes the key out."""


class Scene(Protocol):
    """The streams of this node."""

    async def switch(self, stream: str, source: str | None, *, muted: bool) -> None:
        """Cut a programme to a source; relay.errors.Refused, and then all is as it was."""

    def flowing(self, streams: Iterable[str]) -> frozenset[str]:
        """Those of these streams in which media flow now."""


class Nowhere:
    """A hub and a scene for a centre without a node: nobody is told, and nothing is switched."""

    def set(self, room: int, key: str, value: object) -> None:
        """Nobody is there."""

    async def switch(self, stream: str, source: str | None, *, muted: bool) -> None:
        """Nothing is there."""

    def flowing(self, streams: Iterable[str]) -> frozenset[str]:
        """As if all were there: nobody is said to be lost."""
        return frozenset(streams)


class Rooms:
    """All rooms of one centre. Belongs to the event loop."""

    def __init__(
        self,
        store: Store,
        clock: Callable[[], datetime],
        hub: Hub | None = None,
        scene: Scene | None = None,
    ) -> None:
        nowhere = Nowhere()
        self._store = store
        self._clock = clock
        self.hub: Hub = hub or nowhere
        self.scene: Scene = scene or nowhere
        self._rooms: dict[int, Room] = {}
        self._loading: dict[int, asyncio.Task[Room]] = {}
        self._known: frozenset[int] = frozenset()
        self._work: set[asyncio.Task[None]] = set()
        self.ballot_grace = BALLOT_GRACE

    # ------------------------------------------------------------ rooms

    async def room(self, occurrence_id: int) -> Room:
        """A room, from memory or from the database; NotFound."""
        known = self._rooms.get(occurrence_id)
        if known is not None:
            return known
        loading = self._loading.get(occurrence_id)
        if loading is None:
            loading = asyncio.create_task(self._load(occurrence_id), name=f"room-{occurrence_id}")
            self._loading[occurrence_id] = loading
            loading.add_done_callback(lambda _: self._loading.pop(occurrence_id, None))
        return await asyncio.shield(loading)

    async def opened(self, occurrence_id: int) -> Room:
        """A room that is open; Conflict, NotFound."""
        room = await self.room(occurrence_id)
        if room.state != "open":
            raise Conflict("the room is not open")
        return room

    async def _load(self, occurrence_id: int) -> Room:
        async with self._store.reading() as connection:
            about = await rooms.meeting(connection, occurrence_id)
            state, document = await rooms.room(connection, occurrence_id)
            floor = Floor.read(document) if document else Floor(Programme(self._clock()))
            room = Room(occurrence_id, about, state, floor)
            room.marks = {one.site_id: one for one in await rooms.marks(connection, occurrence_id)}
            for said in await rooms.said(connection, occurrence_id, "linetest", rooms.MOST_LISTED):
                _note_test(room, said.who, said.at, said.detail)
            room.said.extend(await rooms.said(connection, occurrence_id, "say"))
            room.polls = {one.id: one for one in await rooms.polls(connection, occurrence_id)}
            room.decks = {one.id: one for one in await rooms.decks(connection, occurrence_id)}
            room.ballots = {
                one.id: ballot_told(one, self._clock())
                for one in await ballots.listed(connection, occurrence_id)
            }
            await self._name(connection, room)
        self._make_room()
        self._rooms[occurrence_id] = room
        self.tell(room)
        return room

    def _make_room(self) -> None:
        """Forget rooms in which nobody is, the oldest first, when there are many."""
        for id, room in list(self._rooms.items()):
            if len(self._rooms) < MOST_LOADED:
                return
            if room.state != "open" and not room.sites and not room.viewers:
                del self._rooms[id]

    async def _name(self, connection: AsyncConnection, room: Room) -> None:
        missing = room.named - room.places.keys()
        if missing:
            room.places |= await rooms.places(connection, missing)

    async def learn_names(self, room: Room) -> None:
        """Have the names of all sites that the room speaks of."""
        if room.named - room.places.keys():
            async with self._store.reading() as connection:
                await self._name(connection, room)

    def tell(self, room: Room) -> None:
        """Tell the tree what has changed since it was told last."""
        now = state_of(room)
        for key, value in changes(room.told, now).items():
            self.hub.set(room.id, key, value)
        room.told = now

    async def keep(
        self,
        room: Room,
        write: Callable[[AsyncConnection], Awaitable[_T]] | None = None,
    ) -> _T | None:
        """Put the room into the database, with what else belongs to the change."""
        async with room.keeping, self._store.writing() as connection:
            done = await write(connection) if write is not None else None
            document = room.floor.document()
            await rooms.put_room(connection, room.id, room.state, document, self._clock())
            return done

    async def change(
        self,
        occurrence_id: int,
        person_id: int | None,
        action: str,
        do: Callable[[Room], _T],
        **detail: Any,
    ) -> _T:
        """Do something in an open room: at once in the tree, and then in the database.

        Whatever `do` raises changes nothing. Conflict, NotFound.
        """
        room = await self.opened(occurrence_id)
        answer = do(room)
        self.tell(room)
        await self._noted(room, person_id, action, detail)
        return answer

    async def _noted(
        self, room: Room, person_id: int | None, action: str, detail: Mapping[str, Any]
    ) -> None:
        async def write(connection: AsyncConnection) -> None:
            await self._name(connection, room)
            subject = f"occurrence:{room.id}"
            await audit.record(connection, self._clock(), person_id, action, subject, detail)

        await self.keep(room, write)
        self.tell(room)

    async def note(
        self, room: Room, person_id: int | None, action: str, detail: Mapping[str, Any]
    ) -> None:
        """Write down what somebody did in a room, and keep the room."""
        await self._noted(room, person_id, action, detail)

    # ------------------------------------------------------------ open and close

    async def open(self, occurrence_id: int, person_id: int | None) -> Room:
        """Open a room, or open it again; Conflict when its meeting is over, NotFound."""
        await self._refresh(occurrence_id)
        room = await self.room(occurrence_id)
        if room.meeting.state not in BEFORE:
            raise Conflict(f"the meeting is {room.meeting.state}")
        if room.state != "open":
            room.state = "open"
            room.floor.cut(None, self._clock())
            room.cut_made = True
            self._known |= {occurrence_id}
            self.tell(room)
            await self._noted(room, person_id, "open room", {})
        return room

    async def close(self, occurrence_id: int, person_id: int | None) -> None:
        """Close a room: the programme is the publishers' again, nobody has the floor. NotFound."""
        await self._refresh(occurrence_id)
        room = await self.room(occurrence_id)
        if room.state != "open":
            return
        now = self._clock()
        for one in [one for one in room.ballots.values() if one.open]:
            await self.end_ballot(room, one.id)
        room.state, room.cue = "closed", None
        room.floor = Floor(Programme(now), slides=room.floor.slides)
        self.tell(room)
        await self._noted(room, person_id, "close room", {})
        with contextlib.suppress(Refused, TimeoutError):
            async with asyncio.timeout(AT_ONCE_S):
                await self.scene.switch(room.stream, None, muted=False)

    async def _refresh(self, occurrence_id: int) -> None:
        """Read a meeting's own fields anew, if it is here."""
        room = self._rooms.get(occurrence_id)
        if room is not None:
            async with self._store.reading() as connection:
                room.meeting = await rooms.meeting(connection, occurrence_id)
            self.tell(room)

    # ------------------------------------------------------------ programme

    async def cut(
        self,
        room: Room,
        source: str | None,
        *,
        muted: bool = False,
        instead_of: str = "",
        person_id: int | None = None,
    ) -> None:
        """Make a source the programme, once it is there; Conflict when it does not come.

        What was the programme stays until the cut is made. A cut that waits is given up for a newer
        one.
        """
        if room.state != "open":
            raise Conflict("the room is not open")
        cue = room.cue = Cue(source or "")
        self.tell(room)
        try:
            name = room.stream_of(source) if source is not None else None
            await self.scene.switch(room.stream, name, muted=muted)
            room.floor.cut(source, self._clock(), muted=muted, instead_of=instead_of)
            room.cut_made = True
        except Refused as error:
            raise Conflict(error.sentence.rstrip(".")) from error
        finally:
            if room.cue is cue:
                room.cue = None
            self.tell(room)
        await self._noted(room, person_id, "cut", {"source": source or "", "muted": muted})

    async def mute(self, room: Room, muted: bool, person_id: int | None = None) -> None:
        """Silence the programme, or let it be heard; at once, whatever cut is under way."""
        source = room.floor.programme.source
        if source is None:
            raise Conflict("the programme has no source that could be muted")
        room.floor.programme.muted = muted
        self.tell(room)
        try:
            await self.scene.switch(room.stream, room.stream_of(source), muted=muted)
        except Refused as error:
            raise Conflict(error.sentence.rstrip(".")) from error
        await self._noted(room, person_id, "mute" if muted else "unmute", {"source": source})

    async def take_floor(self, room: Room, source: str, person_id: int | None) -> None:
        """Take the floor back: silence at once, then the presenter, if it was in the programme."""
        had = room.floor.take(source)
        shown = room.floor.programme.source == source
        if not had and not shown:
            raise NotFound("this source does not have the floor")
        if shown:
            room.floor.programme.muted = True
        self.tell(room)
        if shown:
            # Both of these may be refused where the source has just gone: then it is silent, too.
            with contextlib.suppress(Refused):
                await self.scene.switch(room.stream, room.stream_of(source), muted=True)
            await self._back(room, source, person_id)
        await self._noted(room, person_id, "take floor", {"source": source})

    async def file_ended(self, occurrence_id: int) -> None:
        """A file has ended: the presenter, or the second one, takes its place in the programme."""
        room = self._rooms.get(occurrence_id)
        if room is None:
            return
        room.file_name = ""
        self.tell(room)
        if room.state == "open" and room.floor.programme.source == "file":
            await self._back(room, "file", None)

    def file_over(self, occurrence_id: int) -> None:
        """The same, told by the player."""
        self._begin(self.file_ended(occurrence_id))

    async def _back(self, room: Room, source: str, person_id: int | None) -> None:
        """Bring the presenter, or the second one, into the programme in place of a source."""
        alive = self._alive(room) - {source}
        for one in [one for one in FALLBACKS if one in alive]:
            with contextlib.suppress(Conflict):
                await self.cut(room, one, person_id=person_id)
                return

    def _alive(self, room: Room) -> frozenset[str]:
        """The sources in which media flow."""
        floor = room.floor
        asked = {*FALLBACKS, "screen", "file", *floor.floor, *floor.stage, *floor.wanted()}
        asked |= {one for one in (floor.programme.source, floor.programme.instead_of) if one}
        streams = {room.stream_of(one): one for one in asked}
        return frozenset(streams[one] for one in self.scene.flowing(streams))

    # ------------------------------------------------------------ again and again

    async def run(self) -> None:
        """Watch over the open rooms until cancelled."""
        next_known = 0.0
        loop = asyncio.get_running_loop()
        while True:
            try:
                if loop.time() >= next_known:
                    await self.look_around()
                    next_known = loop.time() + KNOWN_EVERY_S
                for room in list(self._rooms.values()):
                    if room.state == "open":
                        await self.look(room)
                    else:
                        self._look_at_ballots(room)
            except (SQLAlchemyError, StoreError, OSError):
                log.exception("rooms-failed")
            await asyncio.sleep(LOOK_EVERY_S)

    async def look_around(self) -> None:
        """Find out which rooms there are, and take up those that are open."""
        now = self._clock()
        async with self._store.reading() as connection:
            open_ids = await rooms.open_rooms(connection)
            found = await connection.execute(
                select(Occurrence.id)
                .where(
                    Occurrence.state.in_(BEFORE),
                    Occurrence.starts_at <= now + AHEAD,
                    Occurrence.ends_at >= now - AHEAD,
                )
                .order_by(Occurrence.starts_at)
                .limit(MOST_KNOWN)
            )
            self._known = frozenset(open_ids) | {row[0] for row in found}
        for id in open_ids:
            if id not in self._rooms:
                with contextlib.suppress(NotFound):
                    await self.room(id)
            else:
                await self._refresh(id)
        # A room that was closed hears later that its meeting has ended.
        for room in list(self._rooms.values()):
            if room.state == "closed" and room.meeting.state in BEFORE:
                await self._refresh(room.id)

    async def look(self, room: Room) -> None:
        """See who is lost and who is back, and keep counts that have come."""
        alive = self._alive(room)
        room.live = alive
        room.floor.look(alive, self._clock())
        if room.named - room.places.keys():
            await self.learn_names(room)
        self.tell(room)
        stand_in = room.floor.stand_in(alive)
        if room.cue is None:
            if stand_in is not None:
                lost = room.floor.programme.source or ""
                log.warning("room-source-lost room=%d source=%s", room.id, lost)
                self._begin(self._stand_in(room, stand_in, lost))
            elif not room.cut_made and room.floor.programme.source in alive:
                self._begin(self._cut_again(room))
        if room.uncounted:
            await self._keep_counts(room)
        self._look_at_ballots(room)
        self.tell(room)

    def _begin(self, work: Any) -> None:
        task = asyncio.create_task(work, name="room-cut")
        self._work.add(task)
        task.add_done_callback(self._work.discard)

    async def _stand_in(self, room: Room, stand_in: str, lost: str) -> None:
        with contextlib.suppress(Conflict):
            await self.cut(room, stand_in, instead_of=lost)

    async def _cut_again(self, room: Room) -> None:
        """After a restart of the centre: its node forwards nothing into the programme yet."""
        one = room.floor.programme
        with contextlib.suppress(Conflict):
            await self.cut(room, one.source, muted=one.muted, instead_of=one.instead_of)

    async def _keep_counts(self, room: Room) -> None:
        ids, room.uncounted = room.uncounted, set()
        async with self._store.writing() as connection:
            for id in ids & room.polls.keys():
                poll = room.polls[id]
                values = {"counts": poll.counts, "voters": poll.voters}
                await rooms.change_poll(connection, room.id, id, values)

    async def settled(self) -> None:
        """Wait for the cuts that are under way without anybody having asked for them."""
        await asyncio.gather(*self._work)

    async def stop(self) -> None:
        """Keep what is not kept yet."""
        for room in self._rooms.values():
            if room.uncounted:
                await self._keep_counts(room)
        if self._work:
            # What is decided is written down at once; a cut that waits for its source is given up.
            _, waiting = await asyncio.wait(self._work, timeout=STOP_WITHIN_S)
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    # ------------------------------------------------------------ what comes up the tree

    def knows(self, room: int) -> bool:
        """Whether people may enter this room now."""
        return room in self._known

    async def take(self, room: int, events: Sequence[Event]) -> None:
        """Keep events for good; what came before is kept once."""
        here = await self.room(room)
        votes = [one.data for one in events if one.kind == "ballot"]
        if votes:
            await self._take_votes(here, votes)
        known = [one for one in events if one.kind in ("hand", "say", "linetest", "rollcall")]
        if known:
            await self._take_named(here, [_new_event(one) for one in known])
        for one in events:
            site = _site(one.who)
            if one.kind == "media" and site is not None:
                words = ("camera", "microphone", "hidden")
                here.media[site] = {word: one.data.get(word) is True for word in words}

    async def _take_named(self, room: Room, events: Sequence[NewEvent]) -> None:
        if not room.floor.chat_on:
            events = [one for one in events if one.kind != "say"]

        async def write(connection: AsyncConnection) -> list[NewEvent]:
            new = await rooms.keep_events(connection, room.id, events)
            for one in new:
                site = _site(one.who)
                if one.kind == "rollcall" and site is not None:
                    await self._mark_itself(connection, room, site, one)
                elif room.state == "open" and one.kind == "hand" and site is not None:
                    self._hand(room, site, one)
                elif one.kind == "linetest":
                    _note_test(room, one.who, one.at, one.detail)
            if any(one.kind == "say" for one in new):
                room.said.clear()
                room.said.extend(await rooms.said(connection, room.id, "say"))
            await self._name(connection, room)
            return new

        if room.state:
            await self.keep(room, write)
        else:
            async with self._store.writing() as connection:
                await write(connection)
        self.tell(room)

    async def _mark_itself(
        self, connection: AsyncConnection, room: Room, site: int, said: NewEvent
    ) -> None:
        presence, people = said.detail.get("presence"), said.detail.get("people")
        if presence not in ("present", "absent", "leave"):
            return
        count = people if isinstance(people, int) and 0 <= people <= 100_000 else 0
        if not await rooms.places(connection, [site]):
            return
        await rooms.mark(connection, room.id, site, presence, said.at, people=count)
        room.marks = {one.site_id: one for one in await rooms.marks(connection, room.id)}

    @staticmethod
    def _hand(room: Room, site: int, said: NewEvent) -> None:
        if said.detail.get("up") is True:
            if not room.floor.raise_hand(site, str(said.detail.get("text", "")), said.at):
                log.warning("room-hands-full room=%d", room.id)
        else:
            room.floor.lower_hand(site)

    # ------------------------------------------------------------ secret ballots

    def take_ballot(self, room: Room, info: ballots.BallotInfo) -> None:
        """A ballot was opened."""
        room.ballots[info.id] = ballot_told(info, self._clock())
        self.tell(room)

    async def end_ballot(self, room: Room, ballot_id: int) -> None:
        """Close a ballot; it is counted a little later. Conflict, NotFound."""
        if ballot_id not in room.ballots:
            raise NotFound("there is no such ballot here")
        now = self._clock()
        async with self._store.writing() as connection:
            await ballots.end(connection, ballot_id, now)
        room.ballots[ballot_id].until = now
        self._look_at_ballots(room)
        self.tell(room)

    def _look_at_ballots(self, room: Room) -> None:
        """Close what is over, and count it when nothing can be on its way any more."""
        now = self._clock()
        for one in room.ballots.values():
            one.open = one.open and now < one.until
            if not one.open and not one.counted and now >= one.until + self.ballot_grace:
                one.counted = True
                self._begin(self._count(room, one))

    async def _count(self, room: Room, told: BallotTold) -> None:
        try:
            async with self._store.reading() as connection:
                keys = await ballots.keys_of(connection, told.id)
                votes = await ballots.votes(connection, told.id)
            result, spoilt = await asyncio.to_thread(
                secret.open_votes, keys.seal_key, told.id, len(told.options), votes
            )
            async with self._store.writing() as connection:
                await ballots.close(connection, told.id, result, spoilt, self._clock())
        except Conflict:
            # Another process was faster.
            async with self._store.reading() as connection:
                found = await ballots.ballot(connection, room.id, told.id)
            result = found.result or []
        except (SQLAlchemyError, OSError):
            log.exception("ballot-uncounted ballot=%d", told.id)
            told.counted = False
            return
        told.result = result
        self.tell(room)
        log.info("ballot-counted room=%d ballot=%d votes=%d", room.id, told.id, len(votes))

    async def _take_votes(self, room: Room, votes: Sequence[Mapping[str, object]]) -> None:
        """Put sealed votes into their boxes; what is none, or comes too late, is left out."""
        known = {one.id: one.signer for one in room.ballots.values() if not one.counted}
        good = await asyncio.to_thread(_checked, known, votes)
        if len(good) < len(votes):
            log.warning("votes-refused room=%d count=%d", room.id, len(votes) - len(good))
        async with self._store.writing() as connection:
            for ballot_id, vote in good:
                with contextlib.suppress(Conflict):
                    told = vote.as_json()
                    await ballots.keep_vote(connection, ballot_id, vote.token_sha256, told)

    def tallied(self, room: int, poll: int, counts: list[int], voters: int) -> None:
        """The counts of a question have changed."""
        here = self._rooms.get(room)
        known = here.polls.get(poll) if here is not None else None
        if here is None or known is None or len(counts) != len(known.options):
            return
        here.polls[poll] = replace(known, counts=list(counts), voters=voters)
        here.uncounted.add(poll)
        self.tell(here)

    def present(self, room: int, sites: frozenset[int], viewers: int) -> None:
        """Who is there has changed."""
        here = self._rooms.get(room)
        if here is None:
            if room in self._known:
                self._begin(self._enter(room, sites, viewers))
            return
        here.sites, here.viewers = sites, viewers
        self.tell(here)

    async def _enter(self, room: int, sites: frozenset[int], viewers: int) -> None:
        with contextlib.suppress(NotFound):
            here = await self.room(room)
            here.sites, here.viewers = sites, viewers
            await self.learn_names(here)
            self.tell(here)


@contextlib.asynccontextmanager
async def running(one: Rooms) -> AsyncIterator[None]:
    """Watch over the rooms for as long as the block lasts."""
    task = asyncio.create_task(one.run(), name="rooms")
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await one.stop()


def ballot_told(one: ballots.BallotInfo, now: datetime) -> BallotTold:
    """What pages are told of a ballot."""
    return BallotTold(
        one.id,
        one.question,
        one.options,
        one.voters,
        one.until,
        one.signer,
        one.seal,
        one.closed_at is None and now < one.until,
        one.closed_at is not None,
        one.result,
    )


def _site(who: str) -> int | None:
    kind, _, number = who.partition(":")
    is_id = number.isascii() and number.isdecimal() and len(number) < 10
    return int(number) if kind == "site" and is_id else None


def _checked(
    signers: Mapping[int, Mapping[str, object]], votes: Sequence[Mapping[str, object]]
) -> list[tuple[int, secret.Vote]]:
    """Those of the votes that voters of these ballots made, in no order that tells anything."""
    good: list[tuple[int, secret.Vote]] = []
    for one in votes:
        ballot_id, told = one.get("ballot"), one.get("vote")
        if isinstance(ballot_id, int) and ballot_id in signers and isinstance(told, Mapping):
            with contextlib.suppress(secret.BallotError):
                good.append((ballot_id, secret.check(signers[ballot_id], ballot_id, told)))
    return sorted(good, key=lambda pair: pair[1].token_sha256)


def _new_event(one: Event) -> NewEvent:
    id = one.id if len(one.id) <= 100 else hashlib.sha256(one.id.encode()).hexdigest()
    at = datetime.fromtimestamp(one.at, UTC)
    return NewEvent(id, at, one.kind, one.who[:32], dict(one.data))


def _note_test(room: Room, who: str, at: datetime, detail: Mapping[str, Any]) -> None:
    site = _site(who)
    result = detail.get("result")
    if site is None or not isinstance(result, Mapping):
        return
    verdict = judge(result)
    todo = tuple(one.value for one in verdict.todo)
    room.tests[site] = LineTest(site, at, dict(result), verdict.ready, todo)
