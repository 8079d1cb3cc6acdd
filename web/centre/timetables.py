"""The stations' timetables: what the plans say, signed and taken to the counties that have them.

Each station plays the live classes that it is in the audience of, recorded lessons at their time,
and the recording of a live class some hours after it (`replay_hours`), when nothing else is on.
The library's key signs. A county takes a timetable whose signer is among its `library_keys`; the
centre's own book takes it directly. What a county has taken is remembered; what it has not is
brought again at the next round.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any, Final, Protocol
from urllib.parse import quote

import aiohttp
from sqlalchemy import select

from media.county import County
from media.errors import MediaError
from media.programme import MAX_ITEM_S, TYP, Item, Kind, Programme, ProgrammeError
from media.signed import BadSignature
from relay.node import Node
from schedule import agenda, bookings
from schedule.agenda import OccurrenceInfo, Whose
from schedule.clashes import Reach, Reaches
from schedule.rights import lineage
from schedule.store import Store
from schedule.tables import Station, Unit
from web.library import LibraryRoom

log = logging.getLogger("web.centre.timetables")

BEFORE: Final = timedelta(hours=12)
AHEAD: Final = timedelta(days=14)
VALID: Final = timedelta(days=60)
MOST_ITEMS: Final = 1000
MOST_OCCURRENCES: Final = 20_000
AT_ONCE: Final = 16
MOST_ANSWER: Final = 8_000_000
TIMEOUT: Final = aiohttp.ClientTimeout(total=8)
LIVE, RECORDED, REPLAY = 10, 5, -10
"""Priorities: who is live goes before what is recorded, and that before what is shown again."""

_ID: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")


def stream_of(occurrence_id: int) -> str:
    """The stream of a class."""
    return f"class-{occurrence_id}"


@dataclass(frozen=True, slots=True)
class Place:
    """A station as the schedule knows it. path: of its unit."""

    id: int
    code: str
    unit_id: int
    path: str
    time_zone: str


class Reached:
    """Which series each station is asked to, looked up and not searched for.

    A country has 50,000 stations and 2,000 series: each with each would be 100 million questions.
    """

    def __init__(self, audiences: Mapping[int, Sequence[Reach]]) -> None:
        """audiences: by series."""
        self._below: dict[str, set[int]] = {}
        self._units: dict[int, set[int]] = {}
        self._stations: dict[int, set[int]] = {}
        for series_id, audience in audiences.items():
            for one in audience:
                match one.kind:
                    case Reaches.STATION:
                        self._stations.setdefault(one.target_id, set()).add(series_id)
                    case Reaches.UNIT:
                        self._units.setdefault(one.target_id, set()).add(series_id)
                    case Reaches.SUBTREE:
                        self._below.setdefault(one.path, set()).add(series_id)
                    case _:
                        pass
        self._of_unit: dict[int, frozenset[int]] = {}

    def series_of(self, place: Place) -> frozenset[int]:
        """The series that have this station in their audience."""
        known = self._of_unit.get(place.unit_id)
        if known is None:
            found = set(self._units.get(place.unit_id, ()))
            for path in lineage(place.path):
                found |= self._below.get(path, set())
            known = self._of_unit[place.unit_id] = frozenset(found)
        own = self._stations.get(place.id)
        return known | own if own else known


def items_of(one: OccurrenceInfo, replay: timedelta) -> list[Item]:
    """What a station plays of an occurrence that concerns it."""
    made: list[Item] = []
    length_s = int((one.ends_at - one.starts_at).total_seconds())
    duration_s = max(1, min(MAX_ITEM_S, length_s))
    title = "".join(c if c.isprintable() else " " for c in one.title).strip()[:200] or "-"
    course = one.course if _ID.fullmatch(one.course) else None
    if one.source == "live" and one.state != "missed":
        made.append(
            Item(
                id=stream_of(one.id), title=title, kind=Kind.LIVE, starts_at=one.starts_at,
                duration_s=duration_s, stream=stream_of(one.id), priority=LIVE,
            )
        )  # fmt: skip
    elif one.source != "live" and course is not None:
        made.append(
            Item(
                id=f"course-{one.id}", title=title, kind=Kind.COURSE, starts_at=one.starts_at,
                duration_s=duration_s, course=course, priority=RECORDED,
            )
        )  # fmt: skip
    if one.source == "live" and course is not None and replay:
        made.append(
            Item(
                id=f"replay-{one.id}", title=title, kind=Kind.COURSE,
                starts_at=one.starts_at + replay, duration_s=duration_s, course=course,
                priority=REPLAY,
            )
        )  # fmt: skip
    return made


def in_order(found: Iterable[Item], since: datetime) -> tuple[Item, ...]:
    """What is not over by then, in order of time, as many as a timetable holds."""
    coming = [one for one in found if one.starts_at + timedelta(seconds=one.duration_s) > since]
    return tuple(sorted(coming, key=lambda one: (one.starts_at, one.id))[:MOST_ITEMS])


class Book(Protocol):
    """A county's stations, here or elsewhere."""

    name: str

    async def stations(self) -> list[str]: ...
    async def put(self, station: str, signed: str) -> None: ...


class NotTaken(Exception):
    """A county has not taken a timetable. Its text is a sentence."""


class Away(NotTaken):
    """It cannot be reached, for its other stations neither."""


@dataclass(slots=True)
class OwnBook:
    """The centre's own stations."""

    county: County
    name: str = "here"

    async def stations(self) -> list[str]:
        rows = await asyncio.to_thread(self.county.stations)
        return [one.id for one in rows]

    async def put(self, station: str, signed: str) -> None:
        try:
            await asyncio.to_thread(self.county.put_timetable, station, signed)
        except (BadSignature, ProgrammeError) as error:
            raise NotTaken(str(error)) from error


@dataclass(slots=True)
class CountyBook:
    """The stations of a node below, over its HTTP (`web.stations`)."""

    http: aiohttp.ClientSession
    name: str
    """Its URL."""
    token: str = field(repr=False)

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}

    async def stations(self) -> list[str]:
        try:
            async with self.http.get(f"{self.name}/api/stations", headers=self._headers()) as got:
                if got.status == 404:
                    return []
                if got.status != 200:
                    raise NotTaken(f"it answers {got.status} to the list of its stations")
                body = bytearray()
                async for chunk in got.content.iter_chunked(65536):
                    body += chunk
                    if len(body) > MOST_ANSWER:
                        raise NotTaken("its list of stations is too long")
            return [str(one["id"]) for one in json.loads(body)["stations"]]
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError, KeyError, TypeError) as e:
            raise NotTaken(f"it does not say which stations it has ({type(e).__name__})") from e

    async def put(self, station: str, signed: str) -> None:
        url = f"{self.name}/api/programmes/{quote(station)}"
        headers = self._headers() | {"Content-Type": "application/jose"}
        try:
            async with self.http.put(url, data=signed.encode(), headers=headers) as got:
                if got.status >= 300:
                    said = (await got.content.read(500)).decode(errors="replace")
                    raise NotTaken(f"it answers {got.status}: {said}")
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise Away(f"it does not answer ({type(error).__name__})") from error


class Timetables:
    """Brings every station what the plans say, as soon as it changes."""

    def __init__(
        self,
        store: Store,
        node: Node,
        room: LibraryRoom,
        clock: Callable[[], datetime],
        *,
        own: County | None,
        token: str,
        counties: Sequence[str],
        replay: timedelta,
    ) -> None:
        """`own` is the centre's own book of stations, `token` an operator's at `counties`."""
        self._store = store
        self._node = node
        self._room = room
        self._clock = clock
        self._own = own
        self._token = token
        self._counties = tuple(counties)
        self._replay = replay
        self._taken: dict[tuple[str, str], tuple[Item, ...]] = {}
        self._serial = 0
        self._turn = asyncio.Lock()

    async def issue(self) -> int:
        """Bring what has changed to whoever can be reached; how many timetables were taken."""
        async with self._turn, aiohttp.ClientSession(timeout=TIMEOUT) as http:
            planned = await self._planned()
            if not planned:
                return 0
            books: list[Book] = [OwnBook(self._own)] if self._own is not None else []
            tree = await self._node.tree()
            books += [CountyBook(http, url, self._token_for(url)) for url in _urls(tree)]
            turn = asyncio.Semaphore(AT_ONCE)

            async def bring(book: Book) -> int:
                async with turn:
                    try:
                        return await self._bring(book, planned)
                    except (NotTaken, MediaError) as error:
                        log.warning("timetables-not-taken county=%s why=%r", book.name, str(error))
                        return 0

            return sum(await asyncio.gather(*(bring(book) for book in books)))

    def _token_for(self, url: str) -> str:
        """Nodes say themselves where they are: the token is for those that the settings name."""
        return self._token if any(fnmatchcase(url, one) for one in self._counties) else ""

    async def _bring(
        self, book: Book, planned: Mapping[str, tuple[Place, tuple[Item, ...]]]
    ) -> int:
        taken = 0
        for station in await book.stations():
            if station not in planned:
                continue
            place, wanted = planned[station]
            known = (book.name, station)
            # A station that no plan names keeps the timetable that its county has made by hand.
            if self._taken.get(known, ()) == wanted:
                continue
            try:
                await book.put(station, await self._signed(place, wanted))
            except Away:
                raise
            except NotTaken as error:
                log.warning("timetable-not-taken station=%s why=%r", station, str(error))
                continue
            self._taken[known] = wanted
            taken += 1
        if taken:
            log.info("timetables-taken county=%s stations=%d", book.name, taken)
        return taken

    async def _signed(self, place: Place, wanted: tuple[Item, ...]) -> str:
        now = self._clock()
        # Time in milliseconds grows over a restart as well, without anything to remember.
        self._serial = max(self._serial + 1, int(now.timestamp() * 1000))
        one = Programme(
            station=place.code, serial=self._serial, issued_at=now, valid_until=now + VALID,
            time_zone=place.time_zone, items=wanted,
        )  # fmt: skip
        library = await self._room.library()
        return await asyncio.to_thread(library.sign, one, TYP)

    async def _planned(self) -> dict[str, tuple[Place, tuple[Item, ...]]]:
        """By station, what it is to play."""
        now = self._clock()
        since = now - BEFORE
        async with self._store.reading() as connection:
            rows = await connection.execute(
                select(Station.id, Station.code, Unit.id, Unit.path, Unit.time_zone).join(
                    Unit, Unit.id == Station.unit_id
                )
            )
            places = [Place(*row) for row in rows if _ID.fullmatch(row[1])]
            if not places:
                return {}
            found = await agenda.occurrences(
                connection, Whose(), since - self._replay, now + AHEAD, most=MOST_OCCURRENCES
            )
            audiences = await bookings.audiences_of(
                connection, list({one.series_id for one in found})
            )
        return await asyncio.to_thread(_by_station, places, found, audiences, since, self._replay)


def _by_station(
    places: Sequence[Place],
    found: Sequence[OccurrenceInfo],
    audiences: Mapping[int, Sequence[Reach]],
    since: datetime,
    replay: timedelta,
) -> dict[str, tuple[Place, tuple[Item, ...]]]:
    """Stations of one unit mostly play the same: worked out once for each set of series."""
    by_series: dict[int, list[Item]] = {}
    for one in found:
        by_series.setdefault(one.series_id, []).extend(items_of(one, replay))
    reached = Reached(audiences)
    made: dict[frozenset[int], tuple[Item, ...]] = {}
    planned = {}
    for place in places:
        series = reached.series_of(place)
        if series not in made:
            made[series] = in_order(
                (item for id in series for item in by_series.get(id, ())), since
            )
        planned[place.code] = (place, made[series])
    return planned


def _urls(tree: Mapping[str, Any]) -> Iterator[str]:
    """The addresses of all nodes below a node, out of its tree."""
    below = tree.get("below")
    for one in below if isinstance(below, list) else []:
        if isinstance(one, dict):
            if isinstance(one.get("url"), str):
                yield one["url"]
            yield from _urls(one)
