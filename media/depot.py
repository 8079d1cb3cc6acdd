"""What a county keeps ready for its stations: the courses of their next seven days.

The stations' signed timetables say what plays when (`media.county`); this fetches it before they
ask, over the county's line, and pins it, so that what passes through the cache meanwhile does not
push it out. `reserve` decides and is pure; `Depot` is the task around it.

A station takes the rendition that its own line can bring, which the county does not know. So first
comes, need by need, the best one that is in time here, then, while there is room, the others: the
smaller ones first, for thin lines are what a county's cache is for.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from . import needs, programme, signed
from .blob import Blob, course_path, manifest_blob, small_blobs
from .county import County
from .errors import CacheError, FetchError, NotThere
from .mirror import Mirror
from .needs import Need, Renditions
from .programme import Item, Programme, ProgrammeError
from .signed import BadDocument, BadSignature
from .window import Line

log = logging.getLogger("media.depot")

OWNER: Final = "stations"
"""Under this name the cache keeps the pins."""
ROOM: Final = 0.9
"""This share of the cache may be reserved; the rest is for what else passes through it."""
MOST_COURSES: Final = 200
"""More are not held ready: the lists of pieces of so many take some 100 MB of memory."""
ASSUMED_BPS: Final = 2_000_000.0
"""What a county's line brings before anything was measured."""
PLAN_EVERY_S: Final = 5.0
IDLE_EVERY_S: Final = 60.0
LOOK_EVERY_S: Final = 600.0
"""How often the entry of a course that is known is asked for again."""
LOOK_AGAIN_S: Final = 30.0
LEARN_FOR_S: Final = 5.0
MANIFEST_WITHIN_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Reserve:
    """What to fetch, in order, and what must stay.

    size_bytes: of what is pinned, there or not. missing_bytes: of it, what is not there.
    too_large: courses for which there is no room in the cache.
    """

    missing: tuple[Blob, ...] = ()
    pinned: frozenset[str] = frozenset()
    size_bytes: int = 0
    missing_bytes: int = 0
    too_large: tuple[str, ...] = ()


def needs_of(timetables: Iterable[Sequence[Item]], now: float) -> list[Need]:
    """What all these timetables need, each course once for each choice of renditions.

    It is due when the first station plays it, and needed until the last has. At most MOST_COURSES
    courses, those that are due first.
    """
    merged: dict[tuple[str, tuple[str, ...]], Need] = {}
    for items in timetables:
        for one in programme.due_courses(items, now):
            key = one.course or "", one.renditions
            seen = merged.get(key)
            merged[key] = Need(
                one.id if seen is None else seen.id,
                key[0],
                min(one.start_s, seen.due_s if seen else math.inf),
                max(one.end_s, seen.until_s if seen else -math.inf),
                one.renditions,
                max(one.priority, seen.priority if seen else one.priority),
            )
    ordered = needs.in_order(merged.values(), now)
    courses = set(list(dict.fromkeys(one.course for one in ordered))[:MOST_COURSES])
    return [one for one in ordered if one.course in courses]


def reserve(
    wanted: Sequence[Need],
    courses: Mapping[str, Renditions],
    holds: Callable[[str], bool],
    now: float,
    rate_bps: float,
    room_bytes: int,
) -> Reserve:
    """What to fetch and pin for these needs, of at most `room_bytes`.

    courses: what is known of them. holds: whether a piece is on the disk. rate_bps: above 0.
    """
    plan = needs.plan(wanted, courses, holds, now, Line(), rate_bps)
    first = [(one.need.course, one.rendition) for one in plan.forecasts if one.rendition]
    others = [
        (one.course, name)
        for one in wanted
        for name in reversed(one.renditions or tuple(courses.get(one.course, ())))
        if name in courses.get(one.course, ())
    ]
    pinned: dict[str, Blob] = {}
    size = 0
    served: set[str] = set()
    for course, name in dict.fromkeys([*first, *others]):
        more = {b.sha256: b for b in courses[course][name] if b.sha256 not in pinned}
        more_bytes = sum(blob.size_bytes for blob in more.values())
        if size + more_bytes <= room_bytes:
            pinned |= more
            size += more_bytes
            served.add(course)
    missing = tuple(blob for blob in pinned.values() if not holds(blob.sha256))
    return Reserve(
        missing,
        frozenset(pinned),
        size,
        sum(blob.size_bytes for blob in missing),
        tuple(dict.fromkeys(one for one, _ in first if one not in served)),
    )


class Depot:
    """Keeps a county's cache filled. `run` it; `nudge` it when a timetable is another."""

    def __init__(
        self,
        county: County,
        mirror: Callable[[], Awaitable[Mirror]],
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        """county: open. mirror: opens the node's cache, which one without courses does not have."""
        self.state = Reserve()
        self._county = county
        self._open = mirror
        self._now = now
        self._news = asyncio.Event()
        self._programmes: dict[str, tuple[str, Programme | None]] = {}
        self._known: dict[str, tuple[int, dict[str, tuple[Blob, ...]], frozenset[str]]] = {}
        """Of a course its revision, its pieces by rendition, and digests that it has besides."""
        self._look_at: dict[str, float] = {}

    def nudge(self) -> None:
        """A timetable or a station is another: look now."""
        self._news.set()

    def look_again(self) -> None:
        """The library's catalogue is another: ask for the courses' entries now."""
        self._look_at.clear()
        self._news.set()

    async def run(self) -> None:
        """For ever. What fails is logged and tried again."""
        stocking: asyncio.Task[None] | None = None
        try:
            while True:
                self._news.clear()
                try:
                    mirror = await self._round()
                    if stocking is not None and stocking.done():
                        ended, stocking = stocking, None
                        await ended
                    if mirror is not None and stocking is None:
                        work = mirror.fetcher.stock(lambda: self.state.missing)
                        stocking = asyncio.create_task(work, name="depot-stock")
                except (CacheError, FetchError, OSError) as error:
                    log.warning("depot-trouble why=%r", str(error))
                await self._pause()
        finally:
            if stocking is not None:
                stocking.cancel()
                await asyncio.gather(stocking, return_exceptions=True)

    async def _pause(self) -> None:
        """Until something may be due, or a `nudge`."""
        now = time.monotonic()
        pause_s = PLAN_EVERY_S if self.state.missing else IDLE_EVERY_S
        pause_s = min([pause_s, *(at - now for at in self._look_at.values())])
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(1.0, pause_s)):
                await self._news.wait()

    async def _round(self) -> Mirror | None:
        """Learn, decide, pin. None while no timetable names a course."""
        now = self._now()
        timetables = await asyncio.to_thread(self._read)
        wanted = needs_of([one.items for one in timetables], now)
        if not wanted and not self.state.pinned:
            return None
        mirror = await self._open()
        names = {one.course for one in wanted}
        for gone in (self._known.keys() | self._look_at.keys()) - names:
            self._known.pop(gone, None)
            self._look_at.pop(gone, None)
        # What is known is pinned before anything is asked for, which takes long over a dead line.
        await self._decide(mirror, wanted, now)
        if await self._learn(mirror, wanted):
            await self._decide(mirror, wanted, now)
        return mirror

    def _read(self) -> list[Programme]:
        """The timetables in force; each is read once."""
        found = self._county.timetables_in_force()
        keys = self._county.timetable_keys
        known, self._programmes = self._programmes, {}
        for target, text in found:
            one = known.get(target)
            if one is None or one[0] != text:
                try:
                    one = text, programme.parse(signed.verify(text, keys, programme.TYP))
                except (BadSignature, BadDocument, ProgrammeError) as error:
                    # It was good when it was taken; its signer is not believed any more, perhaps.
                    log.warning("depot-timetable-unread target=%s why=%r", target, str(error))
                    one = text, None
            self._programmes[target] = one
        return [one for _, one in self._programmes.values() if one is not None]

    async def _decide(self, mirror: Mirror, wanted: Sequence[Need], now: float) -> None:
        cache = mirror.cache
        courses = {course: known[1] for course, known in self._known.items()}
        rate_bps = mirror.fetcher.rate_bps or ASSUMED_BPS
        room_bytes = int(cache.shelf.budget_bytes * ROOM)
        before = self.state
        # In a thread: some hundred thousand pieces are gone through, and the node forwards live.
        self.state = await asyncio.to_thread(
            reserve, wanted, courses, cache.holds, now, rate_bps, room_bytes
        )
        small = {digest for one in self._known.values() for digest in one[2]}
        documents = [course_path(one) for one in dict.fromkeys(one.course for one in wanted)]
        cache.pin(OWNER, self.state.pinned | small, documents)
        if self.state.missing and not before.missing:
            mirror.fetcher.nudge()
        if (before.size_bytes, bool(before.missing), before.too_large) != (
            self.state.size_bytes, bool(self.state.missing), self.state.too_large,
        ):  # fmt: skip
            log.info(
                "depot courses=%d mb=%.0f missing_mb=%.0f too_large=%s",
                len(courses), self.state.size_bytes / 1e6, self.state.missing_bytes / 1e6,
                ",".join(self.state.too_large) or "-",
            )  # fmt: skip

    async def _learn(self, mirror: Mirror, wanted: Sequence[Need]) -> bool:
        """Asks for what is not known, or was long ago; the first due first. True for news."""
        news, began_s = False, time.monotonic()
        for course in dict.fromkeys(one.course for one in wanted):
            if time.monotonic() < self._look_at.get(course, -math.inf):
                continue
            again_s = LOOK_EVERY_S
            try:
                news |= await self._learn_one(mirror, course)
            except NotThere as error:
                again_s = LOOK_AGAIN_S
                news |= self._known.pop(course, None) is not None
                log.info("depot-course-absent course=%s why=%r", course, str(error))
            except (FetchError, CacheError, BadSignature, BadDocument) as error:
                again_s = LOOK_AGAIN_S
                log.info("depot-course-unknown course=%s why=%r", course, str(error))
            self._look_at[course] = time.monotonic() + again_s
            if time.monotonic() - began_s > LEARN_FOR_S:
                # What is known by now is fetched meanwhile; the rest is learnt in the next round.
                self._news.set()
            if self._news.is_set():
                break
        return news

    async def _learn_one(self, mirror: Mirror, course_id: str) -> bool:
        course = (await mirror.entry(course_id)).course
        known = self._known.get(course_id)
        if known is not None and known[0] == course.revision:
            return False
        pieces: dict[str, tuple[Blob, ...]] = {}
        for one in course.renditions:
            listing = await mirror.listing(course, one.name, within_s=MANIFEST_WITHIN_S)
            pieces[one.name] = listing.blobs
        small = small_blobs(course)
        digests = {manifest_blob(course_id, one).sha256 for one in course.renditions}
        digests |= {one.sha256 for one in small}
        self._known[course_id] = course.revision, pieces, frozenset(digests)
        for blob in small:
            # A class plays without its poster.
            with contextlib.suppress(FetchError):
                await mirror.fetcher.fetch(blob, within_s=MANIFEST_WITHIN_S)
        return True
