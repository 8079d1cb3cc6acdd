"""A county with its stations, a library of random bytes, and a television that says what it shows.

Everything is real but the picture: sockets, files, signatures. The day is compressed by a clock
script in which the moments that matter pass at their own pace and the dull hours in a blink.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from media import pairing, programme, signed
from media.clock import ScriptedWall, Wall
from media.county import County
from media.programme import Programme
from media.rounds import Rounds
from media.station import Concerns, Station, StationConfig
from media.watchdog import Notifier
from relay.access import Access
from tests.media.lessons import Lesson, serving
from tests.patience import PATIENCE
from web import station_app, stations

DAY = 1795651200.0  # 2026-11-26T00:00:00Z, eight o'clock in Shanghai
STATION = "shangping-1"


def timetable(items: Sequence[dict[str, object]], *, serial: int = 1) -> Programme:
    """A timetable for STATION; an item's `at` is in seconds after DAY."""
    made = []
    for one in items:
        rest = {key: value for key, value in one.items() if key != "at"}
        at = float(str(one["at"]))
        made.append(
            {"title": str(one["id"]).title(), "kind": "course", "starts_at": DAY + at} | rest
        )
    return Programme.model_validate(
        {
            "station": STATION,
            "serial": serial,
            "issued_at": DAY - 86400,
            "valid_until": DAY + 30 * 86400,
            "items": made,
        }
    )


def script(moments: Sequence[tuple[float, float]], *, blink_s: float = 0.15) -> ScriptedWall:
    """A clock that passes these stretches (seconds after DAY) at its own pace, the rest quickly."""
    points: list[tuple[float, float]] = []
    real = 0.0
    for begin, end in moments:
        points.append((real, DAY + begin))
        points.append((real + end - begin, DAY + end))
        real += end - begin + blink_s
    return ScriptedWall(points, synchronised=False)


class CountyNode:
    """A county as HTTP; `fail` lets deliveries be taken and their answers be lost."""

    def __init__(self, folder: Path, lesson: Lesson | None) -> None:
        keys = [pairing.public_pem(lesson.key.public_key())] if lesson is not None else []
        self.county = County(folder, name="longhua", library_keys=keys)
        self.county.open()
        self.url = ""
        self.lost_answers = 0
        self.deliveries = 0
        self.down = False

    def app(self) -> web.Application:
        app = web.Application(middlewares=[self._trouble])
        stations.add(app, self.county, Access.open_mode())
        return app

    @web.middleware
    async def _trouble(self, request: web.Request, handler: Any) -> web.StreamResponse:
        if self.down:
            assert request.transport is not None
            request.transport.abort()
        answer = await handler(request)
        if request.path == "/api/logbook":
            self.deliveries += 1
            if self.lost_answers > 0:
                self.lost_answers -= 1
                assert request.transport is not None
                request.transport.abort()
        return answer  # type: ignore[no-any-return]


@contextlib.asynccontextmanager
async def county_node(folder: Path, lesson: Lesson | None = None) -> AsyncIterator[CountyNode]:
    """A running county."""
    node = CountyNode(folder, lesson)
    try:
        async with serving(node.app()) as url:
            node.url = url
            yield node
    finally:
        node.county.close()


def pair(county: County, folder: Path, *, group: str = "") -> Ed25519PrivateKey:
    """What pairing leaves in a box's folder, without the asking."""
    folder.mkdir(parents=True, exist_ok=True)
    key, _ = pairing.box_key(folder)
    one = pairing.Open(
        "x" * 24, "123456", pairing.public_pem(key.public_key()), "", "", "", time.time()
    )
    text = county.confirm(one, STATION, "上坪村", "龙华县", group, time.time())
    (folder / "identity.jws").write_text(text)
    (folder / "county.pem").write_text(pairing.public_pem(county.public_key))
    return key


def give(county: County, folder: Path, plan: Programme) -> None:
    """The timetable of a box, signed by its county, on its disk."""
    text = signed.sign(plan, county._key, programme.TYP)
    (folder / "timetable.jws").write_text(text)


def keep_clock(folder: Path, wall_s: float, believed_s: float) -> None:
    """What a box that knew the time has written down."""
    kept = {"wall_s": wall_s, "believed_s": believed_s, "sure_s": believed_s}
    (folder / "clock.json").write_text(json.dumps(kept))


@dataclass
class Seen:
    """One stretch of an item on the television, in the box's time."""

    item: str
    from_s: float
    to_s: float


@dataclass
class Television:
    """The page: follows the events, reports every change at once and every half second."""

    url: str
    shows: list[tuple[float, str, str]] = field(default_factory=list)
    """When (box time), show, item."""
    seen: list[Seen] = field(default_factory=list)
    states: list[dict[str, Any]] = field(default_factory=list)

    async def run(self) -> None:
        timeout = aiohttp.ClientTimeout(total=None, sock_read=30)
        async with aiohttp.ClientSession(timeout=timeout) as http:
            reporting: asyncio.Task[None] | None = None
            try:
                async with http.get(f"{self.url}/api/station/events") as events:
                    async for line in events.content:
                        if line.startswith(b"data: ") and self._changes(json.loads(line[6:])):
                            if reporting is not None:
                                reporting.cancel()
                            reporting = self._report(http)
            finally:
                if reporting is not None:
                    reporting.cancel()

    def _changes(self, state: dict[str, Any]) -> bool:
        """Take in a state; whether something else is to be seen."""
        self.states.append(state)
        item = state["current"]["id"] if state["current"] else ""
        if self.shows and self.shows[-1][1:] == (state["show"], item):
            return False
        self.shows.append((state["now"], state["show"], item))
        return True

    def _report(self, http: aiohttp.ClientSession) -> asyncio.Task[None] | None:
        """Play what is to be seen now, if it is a course, and say so."""
        state = self.states[-1]
        if state["show"] != "course":
            return None
        current = state["current"]
        self.seen.append(Seen(current["id"], state["now"], state["now"]))
        play = self._play(http, current["id"], current["src"], self.seen[-1])
        return asyncio.create_task(play)

    async def _play(self, http: aiohttp.ClientSession, item: str, src: str, seen: Seen) -> None:
        headers = {"Range": "bytes=0-999"}
        async with http.get(self.url + src, headers=headers) as answer:
            state = "playing" if answer.status == 206 and len(await answer.read()) else "error"
        async with http.get(f"{self.url}/api/station") as answer:
            now = (await answer.json())["now"]
        seen.from_s = now
        while True:
            body = {"state": state, "item": item, "at": now, "position_s": 0.0}
            async with http.post(f"{self.url}/api/station/tv", json=body) as answer:
                assert answer.status == 204, await answer.text()
            seen.to_s = now
            await asyncio.sleep(0.2)
            async with http.get(f"{self.url}/api/station") as answer:
                now = (await answer.json())["now"]


@dataclass
class Box:
    """A running box with its television."""

    station: Station
    url: str
    television: Television

    async def get(self, path: str = "/api/station") -> Any:
        async with aiohttp.ClientSession() as http, http.get(self.url + path) as answer:
            return await answer.json()

    async def post(self, path: str, body: object) -> tuple[int, Any]:
        async with aiohttp.ClientSession() as http, http.post(self.url + path, json=body) as answer:
            return answer.status, await answer.json() if answer.status != 204 else None

    async def until(self, fits: Callable[[Any], bool], path: str = "/api/station") -> Any:
        """Asks until the answer fits; fails after two minutes."""
        found: Any = None
        try:
            async with asyncio.timeout(30 * PATIENCE):
                while True:
                    found = await self.get(path)
                    if fits(found):
                        return found
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(f"never so: {found}") from None


@contextlib.asynccontextmanager
async def box(
    folder: Path, wall: Wall, *parents: str, television: bool = True, **more: Any
) -> AsyncIterator[Box]:
    """A running box; its county is the first parent. It is stopped with the block."""
    station = Station(StationConfig(folder=folder, parents=parents, **more), wall)
    await asyncio.to_thread(station.open)
    rounds: Concerns = {"county": Rounds(station, parents[0]).run} if parents else {}
    work = asyncio.create_task(station.run(rounds, Notifier({})))
    try:
        async with serving(station_app.build_app(station)) as url:
            screen = Television(url)
            watching = asyncio.create_task(screen.run()) if television else None
            try:
                yield Box(station, url, screen)
            finally:
                if watching is not None:
                    watching.cancel()
                    await asyncio.gather(watching, return_exceptions=True)
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
        station.close()


async def fill(station_folder: Path, lesson: Lesson) -> None:
    """A course in a box's cache, as a night's fetching leaves it."""
    from media.blob import course_path, manifest_blob, small_blobs
    from media.cache import Cache, Kept

    store = Cache(station_folder / "cache", 1_000_000_000)
    store.open()
    try:
        course = lesson.course
        path = course_path(course.id)
        await store.keep_document(Kept(path, lesson.files[path], '"x"', "application/jose", DAY))
        for one in course.renditions:
            manifest = manifest_blob(course.id, one)
            await store.put(manifest, lesson.files[manifest.path])
        for small in small_blobs(course):
            await store.put(small, lesson.files[small.path])
        for piece in lesson.blobs:
            await store.put(piece, lesson.body(piece))
    finally:
        store.close()


def at(seconds: float) -> datetime:
    """DAY and so many seconds."""
    return datetime.fromtimestamp(DAY + seconds, UTC)
