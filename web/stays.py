"""Who is at a class, reported by the nodes by themselves: joins and leaves of their viewers.

    POST /api/reports/stays     a node's parent takes it, and takes it on to its own
    POST /api/reports/counts    likewise; head counts come from counties (`web.proofs`)

A viewer of the stream `class-{id}` is somebody by their token's subject, `person:12`, `site:3` or
`station:9`, a village box by its station's code (`station shangping-1`), or else by the node's
setting `attendee`: the room that its page is shown in. Who is nobody is not reported. A stay has
the name `{node}/{session}`, which stays the same however often it is told; it is told until it is
acknowledged, every so often while it lasts, and once more when it ends. A node that dies leaves
stays that end where they were last seen.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal, Protocol, cast

import aiohttp
from aiohttp import web

from media.county import SUBJECT
from relay.access import AccessError
from relay.endpoints import refusal
from relay.errors import Refused
from relay.node import Node

log = logging.getLogger("web.stays")

PATH: Final = "/api/reports/stays"
COUNTS: Final = "/api/reports/counts"
"""Head counts, which go the same way (`web.proofs`)."""
LOOK_EVERY_S: Final = 1.0
AGAIN_S: Final = 45.0
"""How often a stay is told while it lasts; the centre takes it as there for 90 s."""
BATCH: Final = 500
MOST: Final = 20_000
"""Stays that a node holds; more are not counted, and the log says so. 20,000 take some 10 MB."""
MOST_BYTES: Final = 4 * 1024 * 1024
LAST_WITHIN_S: Final = 1.0
RETRY_S: Final = (1.0, 2.0, 5.0, 15.0)

Kind = Literal["person", "site", "station"]
_STREAM: Final = re.compile(r"class-([1-9][0-9]{0,8})", re.ASCII)
_ATTENDEE: Final = re.compile(r"(person|site|station):([1-9][0-9]{0,8})", re.ASCII)
_BOX: Final = re.compile(SUBJECT + r"([a-z0-9][a-z0-9-]{0,63})", re.ASCII)


@dataclass(slots=True)
class Stay:
    """One viewer's stay. Times in Unix seconds. told_s: when it was acknowledged last, 0: never.

    who: an id, or the code of a station.
    """

    source: str
    occurrence_id: int
    kind: Kind
    who: int | str
    joined_s: float
    seen_s: float
    left_s: float | None = None
    told_s: float = 0.0

    def as_json(self) -> dict[str, object]:
        """The report, as the centre's API has it."""
        return {
            "source": self.source,
            "occurrence_id": self.occurrence_id,
            "attendee_kind": self.kind,
            "attendee_id" if isinstance(self.who, int) else "station_code": self.who,
            "joined_at": _iso(self.joined_s),
            "seen_at": _iso(self.seen_s),
            "left_at": None if self.left_s is None else _iso(self.left_s),
        }


def _iso(moment_s: float) -> str:
    return datetime.fromtimestamp(moment_s, UTC).isoformat()


def occurrence_of(stream: str) -> int | None:
    """The class that a stream is, None for another stream."""
    found = _STREAM.fullmatch(stream)
    return int(found[1]) if found else None


def attendee_of(subject: str, otherwise: str) -> tuple[Kind, int | str] | None:
    """Who a viewer is by the subject of a token, or by the node's setting."""
    if box := _BOX.fullmatch(subject):
        return "station", box[1]
    found = _ATTENDEE.fullmatch(subject) or _ATTENDEE.fullmatch(otherwise)
    return (cast(Kind, found[1]), int(found[2])) if found else None


@dataclass(frozen=True, slots=True)
class Seen:
    """A viewer that is there now."""

    session: str
    stream: str
    subject: str


class StayBook:
    """The stays of a node that are not told yet or still last (no clock, no sockets)."""

    def __init__(self, node_id: str, attendee: str = "") -> None:
        self._node_id = node_id
        self._attendee = attendee
        self._stays: dict[str, Stay] = {}
        self.lost = 0
        """Stays for which there was no room."""

    def look(self, viewers: Iterable[Seen], now: float) -> None:
        """Take who is there now: new ones have joined, who is missing has left."""
        there = set()
        for one in viewers:
            occurrence_id = occurrence_of(one.stream)
            who = attendee_of(one.subject, self._attendee)
            if occurrence_id is None or who is None:
                continue
            source = f"{self._node_id}/{one.session}"
            there.add(source)
            stay = self._stays.get(source)
            if stay is not None:
                # A clock that is put back must not make a stay that nobody can take.
                stay.seen_s = max(stay.seen_s, now)
            elif len(self._stays) < MOST:
                self._stays[source] = Stay(source, occurrence_id, *who, now, now)
            else:
                self.lost += 1
        for source, stay in self._stays.items():
            if source not in there and stay.left_s is None:
                # It was there at the last look.
                stay.left_s, stay.told_s = stay.seen_s, 0.0

    def due(self, now: float) -> list[Stay]:
        """What is to be told now, the oldest first, at most BATCH."""
        found = [one for one in self._stays.values() if now - one.told_s >= AGAIN_S]
        return found[:BATCH]

    def acknowledged(self, told: Sequence[dict[str, object]], now: float) -> None:
        """What was told has been kept; ends that came meanwhile are told yet."""
        for one in told:
            stay = self._stays.get(str(one["source"]))
            if stay is None:
                continue
            if one["left_at"] is not None:
                del self._stays[stay.source]
            elif stay.left_s is None:
                stay.told_s = now


class NotTold(Exception):
    """Nobody has taken a batch; it is told again. Its text says why."""


class Send(Protocol):
    """Takes a batch up, or raises NotTold."""

    async def __call__(self, reports: Sequence[dict[str, object]]) -> None: ...


class Reporter:
    """Looks at a node's viewers and tells of them."""

    def __init__(self, node: Node, attendee: str, send: Send) -> None:
        self._node = node
        self._send = send
        self.book = StayBook(node.id, attendee)
        self._lost = 0

    def _look(self) -> None:
        seen = [Seen(one.id, one.channel.name, one.subject) for one in self._node.viewers]
        self.book.look(seen, time.time())
        if self.book.lost > self._lost:
            log.warning("stays-lost count=%d most=%d", self.book.lost - self._lost, MOST)
            self._lost = self.book.lost

    async def run(self) -> None:
        """Until cancelled."""
        failures = 0
        not_before = 0.0
        while True:
            self._look()
            if time.monotonic() >= not_before:
                try:
                    while await self._tell():
                        failures = 0
                except NotTold as error:
                    wait_s = RETRY_S[min(failures, len(RETRY_S) - 1)]
                    if not failures:
                        log.warning("stays-not-told why=%r", str(error))
                    failures += 1
                    not_before = time.monotonic() + wait_s
                except Exception:
                    log.exception("stays-fault")
                    not_before = time.monotonic() + RETRY_S[-1]
            await asyncio.sleep(LOOK_EVERY_S)

    async def _tell(self) -> bool:
        """Tell one batch; whether there was one."""
        batch = [one.as_json() for one in self.book.due(time.time())]
        if batch:
            await self._send(batch)
            self.book.acknowledged(batch, time.time())
        return bool(batch)

    async def leave(self) -> None:
        """The node stops: everybody leaves."""
        self.book.look((), time.time())
        with contextlib.suppress(NotTold, TimeoutError):
            async with asyncio.timeout(LAST_WITHIN_S):
                while await self._tell():
                    pass


async def up(node: Node, body: bytes, path: str = PATH) -> tuple[int, bytes]:
    """Take a batch to the first parent that answers; its status and answer. NotTold."""
    why = "this node has no parent"
    for parent in node.parents.in_order(time.monotonic()) if node.parents is not None else []:
        headers = parent.uplink.headers((node.id,)) | {"Content-Type": "application/json"}
        try:
            url = f"{parent.uplink.url}{path}"
            async with parent.uplink.http.post(url, data=body, headers=headers) as answer:
                return answer.status, await answer.content.read(MOST_BYTES)
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            why = f"{parent.uplink.url} does not answer ({type(error).__name__})"
    raise NotTold(why)


def to_parent(node: Node) -> Send:
    """Tells the node's parent."""

    async def send(reports: Sequence[dict[str, object]]) -> None:
        status, answer = await up(node, json.dumps({"reports": reports}).encode())
        if status != 200:
            raise NotTold(f"the parent answers {status}: {answer[:200].decode(errors='replace')}")

    return send


def add_passing_on(app: web.Application, node: Node) -> None:
    """Take the reports of nodes below up to this node's parent."""

    async def handle(request: web.Request) -> web.StreamResponse:
        try:
            node.config.access.check(request.headers.get("Authorization")).require_relay()
        except AccessError as error:
            return refusal(Refused(error.status, error.sentence, reason=error.reason))
        body = bytearray()
        async for chunk in request.content.iter_chunked(65536):
            body += chunk
            if len(body) > MOST_BYTES:
                return refusal(Refused(413, f"The reports have more than {MOST_BYTES} bytes."))
        try:
            status, answer = await up(node, bytes(body), request.path)
        except NotTold as error:
            return refusal(Refused(503, f"The reports cannot go up: {error}.", 5))
        return web.Response(status=status, body=answer, content_type="application/json")

    for path in (PATH, COUNTS):
        app.router.add_post(path, handle)


def add(app: web.Application, node: Node, attendee: str, send: Send) -> None:
    """Report this node's viewers as long as the app lives."""

    async def live(_app: web.Application) -> AsyncIterator[None]:
        reporter = Reporter(node, attendee, send)
        task = asyncio.create_task(reporter.run(), name="stays")
        yield
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await reporter.leave()

    app.cleanup_ctx.append(live)
