"""What the village boxes of a county have played, and who was there, told up to the centre.

    box ── /api/logbook ──▶ county's book ── POST /api/reports/stays, /counts ──▶ parent ──▶ centre

The county's book holds every entry of its boxes' logbooks for good; it is read in the order in
which entries came, and a mark is moved on when the parent has said that they are kept. So a report
may go up twice and is never lost; the centre counts it once, by its name.

A replay is told in stretches of moving picture, as the part of the recording that was seen: a box
plays by the timetable, so the part begins where the wall clock stood in the item's time. What it
played live is told by the node that it watched at (`web.stays`). A head count that was corrected
has the name of the one before, and the newer one holds.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from aiohttp import web

from media.county import County
from media.logbook import Attendance, Entry, Played
from relay.node import Node
from web.stays import COUNTS, PATH, NotTold, up

log = logging.getLogger("web.proofs")

LOOK_EVERY_S: Final = 5.0
RETRY_S: Final = (1.0, 2.0, 5.0, 15.0, 60.0)
ENTRIES: Final = 100
MOST_STAYS: Final = 500
MOST_COUNTS: Final = 10
"""A roll-call of 300 names has some 70 kB, and a body at most a megabyte."""
LEAST_S: Final = 1.0
"""A shorter stretch of picture is a flicker."""
_ITEM: Final = re.compile(r"(class|course|replay)-([1-9][0-9]{0,8})", re.ASCII)
# A box without a clock writes what its clock shows; the centre takes no such moment.
_FIRST_S, _LAST_S = (datetime(year, 1, 1, tzinfo=UTC).timestamp() for year in (1990, 2190))

Report = dict[str, Any]


@dataclass(slots=True)
class Told:
    """What some entries say to the centre."""

    stays: list[Report] = field(default_factory=list)
    counts: list[Report] = field(default_factory=list)

    def add(self, entry: Entry) -> None:
        """Take one entry; one that is about nothing of the centre's says nothing."""
        body = entry.body
        found = _ITEM.fullmatch(body.item)
        if found is None or not _FIRST_S < body.planned_at < _LAST_S:
            return
        occurrence_id = int(found[2])
        if isinstance(body, Played):
            if found[1] != "class":
                self.stays += _stays(entry, body, occurrence_id)
        elif (count := _count(entry, body, occurrence_id)) is not None:
            self.counts.append(count)


def told(entries: Sequence[Entry]) -> Told:
    """What entries say to the centre (pure)."""
    made = Told()
    for one in entries:
        made.add(one)
    return made


def moving(body: Played) -> Iterator[tuple[float, float]]:
    """The stretches in which a picture moved, in Unix seconds (pure)."""
    if body.started_at is None or body.ended_at is None:
        return
    at = body.started_at
    for gap in sorted(body.gaps, key=lambda one: one.from_s):
        if gap.to_s <= at or gap.from_s >= body.ended_at:
            continue
        if gap.from_s - at >= LEAST_S:
            yield at, gap.from_s
        at = gap.to_s
    if body.ended_at - at >= LEAST_S:
        yield at, body.ended_at


def _stays(entry: Entry, body: Played, occurrence_id: int) -> Iterator[Report]:
    for number, (from_s, to_s) in enumerate(moving(body)):
        if not _FIRST_S < from_s < to_s < _LAST_S:
            continue
        begins, ends = round(from_s - body.planned_at), round(to_s - body.planned_at)
        if not 0 <= begins < ends:
            continue
        yield {
            "source": f"box/{entry.id}/{number}",
            "occurrence_id": occurrence_id,
            "attendee_kind": "station",
            "station_code": entry.station,
            "joined_at": _iso(from_s),
            "seen_at": _iso(to_s),
            "left_at": _iso(to_s),
            "from_s": begins,
            "to_s": ends,
        }


def _count(entry: Entry, body: Attendance, occurrence_id: int) -> Report | None:
    present = [one.name for one in body.roll if one.present]
    if (body.head_count is None and not body.roll) or not _FIRST_S < entry.written_at < _LAST_S:
        return None
    return {
        "source": f"box/{entry.station}/{body.item}/{body.planned_at:.0f}",
        "occurrence_id": occurrence_id,
        "attendee_kind": "station",
        "station_code": entry.station,
        "counted_at": _iso(entry.written_at),
        "people": len(present) if body.head_count is None else body.head_count,
        "present": present,
    }


def _iso(moment_s: float) -> str:
    return datetime.fromtimestamp(moment_s, UTC).isoformat()


# On the way up


class Senseless(Exception):
    """The centre will never take these reports. Its text says why."""


class Send(Protocol):
    """Takes reports up to a path; the names of those that are about nobody. NotTold, Senseless."""

    async def __call__(self, path: str, reports: Sequence[Report]) -> Sequence[str]: ...


class Teller:
    """Tells what comes into a county's book."""

    def __init__(self, county: County, send: Send) -> None:
        self._county = county
        self._send = send

    async def run(self) -> None:
        """Until cancelled."""
        failures = 0
        while True:
            wait_s = LOOK_EVERY_S
            try:
                while await self.tell():
                    failures = 0
            except NotTold as error:
                if not failures:
                    log.warning("proofs-not-told why=%r", str(error))
                wait_s = RETRY_S[min(failures, len(RETRY_S) - 1)]
                failures += 1
            except Exception:
                log.exception("proofs-fault")
                wait_s = RETRY_S[-1]
            await asyncio.sleep(wait_s)

    async def tell(self) -> bool:
        """Tell some entries; whether there were any. NotTold."""
        found = await asyncio.to_thread(self._county.untold, ENTRIES)
        if not found:
            return False
        said = told([entry for _, entry in found])
        for path, reports, most in (
            (PATH, said.stays, MOST_STAYS),
            (COUNTS, said.counts, MOST_COUNTS),
        ):
            for start in range(0, len(reports), most):
                await self._some(path, reports[start : start + most])
        await asyncio.to_thread(self._county.told, found[-1][0])
        return True

    async def _some(self, path: str, reports: Sequence[Report]) -> None:
        try:
            unknown = await self._send(path, reports)
        except Senseless as error:
            if len(reports) > 1:
                # It must not take the others along.
                for one in reports:
                    await self._some(path, [one])
                return
            log.error("proof-refused source=%s why=%r", reports[0]["source"], str(error))
            return
        if unknown:
            log.warning("proofs-of-nobody count=%d first=%s", len(unknown), unknown[0])


def to_parent(node: Node) -> Send:
    """Tells the node's parent."""

    async def send(path: str, reports: Sequence[Report]) -> Sequence[str]:
        body = json.dumps({"reports": reports}, ensure_ascii=False).encode()
        status, answer = await up(node, body, path)
        words = answer[:200].decode(errors="replace")
        if status in (400, 413, 422):
            raise Senseless(f"{status}: {words}")
        if status != 200:
            raise NotTold(f"the parent answers {status}: {words}")
        try:
            return [str(one) for one in json.loads(answer)["unknown"]]
        except (ValueError, KeyError, TypeError) as error:
            raise NotTold(f"the parent answers no such thing: {words}") from error

    return send


def add(app: web.Application, county: County, send: Send) -> None:
    """Tell what comes into the book, which is open, as long as the app lives."""

    async def live(_app: web.Application) -> AsyncIterator[None]:
        task = asyncio.create_task(Teller(county, send).run(), name="proofs")
        yield
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    app.cleanup_ctx.append(live)
