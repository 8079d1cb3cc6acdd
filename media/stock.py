"""Fills the shelf of a station by its timetable: what to fetch next, and whether it will be there.

Puts together the parts of the distribution: `media.needs` decides, `media.fetch` brings,
`media.cache` keeps, `media.shelf` knows the courses. One owner task, `run`.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Sequence
from typing import Final

from media import needs, programme
from media.blob import Blob
from media.cache import Cache
from media.errors import CacheError, DiskFull, FetchError, NotThere
from media.faults import Code, Faults
from media.fetch import Fetcher, Source
from media.needs import Need, Outlook, Plan
from media.playout import Ahead, State
from media.programme import Item
from media.shelf import Shelf
from media.window import Line

log = logging.getLogger("media.stock")

PLAN_GOOD_S: Final = 5.0
PLAN_GOOD_IDLE_S: Final = 60.0
LOOK_EVERY_S: Final = 600.0
"""How often a course that is known is asked for again: its subtitles may have been corrected."""
LOOK_AGAIN_S: Final = 30.0
ASSUMED_BPS: Final = 256_000.0
"""What a line brings before anything was measured: a thin one."""


class Believed:
    """The line as the fetch engine asks it, by the believed clock in place of the system's."""

    def __init__(self, line: Line, now: Callable[[], float]) -> None:
        self._line, self._now = line, now

    def wait_s(self, now: float) -> float:
        del now
        return self._line.wait_s(self._now())

    def take(self, now: float, size_bytes: int) -> None:
        del now
        self._line.take(self._now(), size_bytes)


class Stock:
    """The courses of a station, on their way and on the disk.

    items:   of the timetable in force.
    parents: whom to ask besides the neighbours, in this order.
    changed: called when something new is known.
    """

    def __init__(
        self,
        cache: Cache,
        shelf: Shelf,
        line: Line,
        faults: Faults,
        now: Callable[[], float],
        items: Callable[[], Sequence[Item]],
        parents: Callable[[], Sequence[Source]],
        changed: Callable[[], None],
    ) -> None:
        self.cache, self.shelf, self.line = cache, shelf, line
        self.neighbours: Callable[[], Sequence[Source]] = tuple
        """The boxes next door that are there at this moment."""
        self.known_bps = 0.0
        """What the line brought before this start."""
        self._faults, self._now, self._items, self._parents = faults, now, items, parents
        self._changed = changed
        self.fetcher = Fetcher(cache, self._sources, line=Believed(line, now))
        self._plan: Plan | None = None
        self._planned: tuple[object, float] = (None, -math.inf)
        self._looked: dict[str, float] = {}
        self._absent: set[str] = set()

    @property
    def rate_bps(self) -> float:
        """What the line brings, measured now or before; 0 while nothing is known."""
        return self.fetcher.rate_bps or self.known_bps

    @property
    def revision(self) -> tuple[int, ...]:
        """Another one whenever what is on the disk may have changed."""
        counters = self.cache.counters
        return (
            self.shelf.revision, len(self.cache.shelf), counters.spoiled, counters.evicted,
            self.fetcher.counters.blobs,
        )  # fmt: skip

    def _sources(self) -> Sequence[Source]:
        return [*self.neighbours(), *self._parents()]

    # ------------------------------------------------------------ the plan

    def plan(self) -> Plan:
        """What to fetch and keep now; worked out anew when anything changed, or is old."""
        items = self._items()
        key = (self.revision, id(items), len(items))
        if self._plan is not None and self._planned[0] == key:
            good_s = PLAN_GOOD_S if self._plan.missing else PLAN_GOOD_IDLE_S
            if time.monotonic() - self._planned[1] < good_s:
                return self._plan
        now = self._now()
        due = programme.due_courses(items, now)
        wanted = [
            Need(one.id, one.course or "", one.start_s, one.end_s, one.renditions, one.priority)
            for one in due
        ]
        courses = self.shelf.renditions([one.course for one in wanted])
        plan = needs.plan(
            wanted, courses, self.cache.holds, now, self.line, self.rate_bps or ASSUMED_BPS
        )
        self._plan, self._planned = plan, (key, time.monotonic())
        self._pin(plan)
        return plan

    def _pin(self, plan: Plan) -> None:
        digests, documents = set(plan.pinned), set()
        for one in plan.forecasts:
            more, paths = self.shelf.pinned(one.need.course)
            digests.update(more)
            documents.update(paths)
        self.cache.pin("timetable", digests, documents)

    def _missing(self) -> Sequence[Blob]:
        return self.plan().missing

    def ahead(self, *, line_up: bool) -> dict[str, Ahead]:
        """Will it play? By item id, for what is due within a week."""
        now = self._now()
        may_fetch = line_up and self.line.hours.opens_in_s(now, self.line.zone) <= 0
        found: dict[str, Ahead] = {}
        coming: dict[str, Ahead] = {}
        """What is fetched for an earlier item is not there yet for the later one."""
        for one in self.plan().forecasts:
            ready_at = one.done_s if math.isfinite(one.done_s) else None
            match one.outlook:
                case Outlook.READY:
                    state = State.READY
                case Outlook.RED:
                    state = State.LATE
                case Outlook.UNKNOWN:
                    known = one.need.course not in self._absent and line_up
                    state = State.WAITING if known else State.MISSING
                case _:
                    state = State.FETCHING if may_fetch else State.WAITING
            ahead = Ahead(state, ready_at)
            if state is State.READY:
                ahead = coming.get(one.need.course, ahead)
            else:
                coming.setdefault(one.need.course, ahead)
            found[one.need.id] = ahead
        return found

    def judge(self, ahead: dict[str, Ahead]) -> None:
        """Sets the faults that the forecast and the disk call for."""
        now = self._now()
        for one in self.plan().forecasts:
            course, need = one.need.course, one.need
            late = ahead[need.id].state is State.LATE and need.due_s > now
            if late and need.due_s < now + 86400:
                self._faults.set(
                    Code.COURSE_LATE, now, need.id, course=course,
                    left_mb=round(one.bytes_left / 1e6, 1),
                    rate_kbit=round((self.rate_bps or ASSUMED_BPS) / 1000),
                )  # fmt: skip
            else:
                self._faults.clear(Code.COURSE_LATE, need.id)

    # ------------------------------------------------------------ fetching

    async def run(self) -> None:
        """Fetches for ever."""
        async with self.fetcher, asyncio.TaskGroup() as group:
            group.create_task(self.fetcher.stock(self._missing), name="stock")
            group.create_task(self._learn(), name="learn")

    def nudge(self) -> None:
        """The timetable is another, or the line came back: go on at once."""
        self._looked.clear()
        self.fetcher.nudge()

    async def _learn(self) -> None:
        """Keeps the entries of the courses that are needed up to date."""
        while True:
            for course in dict.fromkeys(one.need.course for one in self.plan().forecasts):
                if time.monotonic() < self._looked.get(course, -math.inf):
                    continue
                if self.line.wait_s(self._now()) > 0:
                    break
                await self._learn_one(course)
            await asyncio.sleep(1.0)

    async def _learn_one(self, course: str) -> None:
        again_s = LOOK_EVERY_S
        try:
            if await self.shelf.learn(course, self.fetcher):
                self.fetcher.nudge()
                self._changed()
            self._absent.discard(course)
        except NotThere as error:
            self._absent.add(course)
            again_s = LOOK_AGAIN_S
            log.info("course-absent course=%s why=%r", course, str(error))
        except (FetchError, CacheError) as error:
            again_s = LOOK_AGAIN_S
            if isinstance(error, DiskFull):
                self._faults.set(Code.DISK_FULL, self._now(), "cache")
            log.info("course-not-learnt course=%s why=%r", course, str(error))
        self._looked[course] = time.monotonic() + again_s
