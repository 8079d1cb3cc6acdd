"""The fetch engine: brings verified pieces of courses into this machine's cache.

A county node (`web/distribution.py`) and a village station use the same engine. It is given a
cache, a list of sources and what to fetch; the rest is its business:

* A *blob* (`media/blob.py`) is fetched, verified, kept and evicted as a whole: a piece of a
  rendition, a manifest, a poster.
* *Sources* are asked in order: LAN neighbours, then parents, as `sources()` gives them at that
  moment. One that does not answer costs `ANSWER_WITHIN_S`, and is left alone for a while after.
* A cut blob goes on with a Range request from the byte where it stopped, from whichever source is
  next, also after the process was killed. One whose digest is wrong is thrown away and fetched
  anew, from another source if there is one.
* One flight per blob: who asks for a blob that is on its way waits for the same flight.
* `fetch` tries for ever (capped, jittered pauses) unless it is given an end.
* An `Allowance` (hours, byte budget, rate cap: `media/window.py`) may hold up what parents send.

    async with Fetcher(cache, lambda: [Source("http://county:8710", token=token)]) as fetcher:
        answer = await fetcher.document("/courses/rice-1/course.jws")  # as it came, not verified
        path = await fetcher.fetch(blob)                               # a verified file
        await fetcher.stock(plan)                                      # for ever, first need first
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import logging
import random
import re
import time
import weakref
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Final, Protocol, Self

import aiohttp

from .blob import Blob
from .cache import Cache, Intake
from .errors import BadBlob, CacheError, DiskFull, FetchError, NoSource, NotThere, Refusal
from .signed import MAX_DOCUMENT_BYTES
from .suppliers import Source, SourceKind, Suppliers, Throughput, pause_s

__all__ = ["Allowance", "Answer", "Blob", "FetchCounters", "Fetcher", "Source", "SourceKind"]

log = logging.getLogger("media.fetch")

ANSWER_WITHIN_S: Final = 2.0
"""A source has answered (connection, status and headers) after this long, or is dead for now."""
FIRST_BYTE_WITHIN_S: Final = 30.0
"""A parent that has answered may have to fetch the piece itself before its first byte comes."""
SILENCE_S: Final = 8.0
"""Bytes that stop coming: a lossy line is silent for seconds, so a lone source gets some more."""
SILENCE_WITH_OTHERS_S: Final = 2.0
WRITE_BYTES: Final = 64 * 1024
WRITE_WITHIN_S: Final = 0.1
MAX_FLIGHTS: Final = 32
"""Blobs on their way at once; more wait for their turn."""
LONG_S: Final = 60.0
IDLE_S: Final = 2.0
SCRUB_EVERY_S: Final = 60.0
DISK_FULL_S: Final = 30.0
_SENTENCE_BYTES: Final = 400
_CONTENT_RANGE: Final = re.compile(r"bytes (\d{1,15})-(\d{1,15})/(\d{1,15}|\*)", re.ASCII)


class Allowance(Protocol):
    """What holds the engine up; `media.window.Line` is one. Times are Unix seconds."""

    def wait_s(self, now: float) -> float:
        """Seconds until anything may be taken from the line; 0 when it may be now."""
        ...

    def take(self, now: float, size_bytes: int) -> None:
        """Count what has come."""
        ...


@dataclass(frozen=True, slots=True)
class Answer:
    """A small document as a source gave it, not verified, of at most `MAX_DOCUMENT_BYTES`.

    body is None when the source says that what has the `etag` that was shown is still right (304).
    """

    body: bytes | None
    etag: str
    content_type: str
    source: Source


@dataclass(slots=True)
class FetchCounters:
    """What the engine has done since its start; bytes are those of bodies."""

    parent_bytes: int = 0
    neighbour_bytes: int = 0
    wasted_bytes: int = 0
    """Of blobs whose digest was wrong."""
    blobs: int = 0
    bad_blobs: int = 0
    cuts: int = 0
    dead: int = 0
    """How often a source did not answer."""


class _End(enum.Enum):
    """How one try at one source ended."""

    DONE = enum.auto()
    ABSENT = enum.auto()
    REFUSED = enum.auto()
    CUT = enum.auto()
    """Some or all of it is missing; another try may bring the rest."""
    BAD = enum.auto()
    HELD_UP = enum.auto()
    """The line may not be used now."""


@dataclass(slots=True)
class _Words:
    """What sources said last about one blob, for the error in the end."""

    absent: str = ""
    refused: str = ""
    last: str = "no source is known"


@dataclass(slots=True)
class _Flight:
    task: asyncio.Task[Path]
    words: _Words
    waiters: int = 0


class Fetcher:
    """One engine per cache. Use as `async with`; all methods belong to one asyncio loop."""

    def __init__(
        self,
        cache: Cache,
        sources: Callable[[], Sequence[Source]],
        *,
        line: Allowance | None = None,
        observe: Callable[[Source, int], None] | None = None,
        chance: random.Random | None = None,
    ) -> None:
        """An engine that fetches into an open `cache`.

        sources: whom to ask at this moment, parents in order of preference.
        line: what parents may send, and when; None: anything at any time.
        observe: told the size of every chunk that comes, and from whom.
        """
        self.cache = cache
        self.counters = FetchCounters()
        self.trouble = ""
        """Why `stock` cannot go on, as a sentence; empty while it can."""
        self._sources = sources
        self._line = line
        self._observe = observe
        self._chance = chance or random.Random()
        self._suppliers = Suppliers(self._chance)
        self._throughput = Throughput()
        self._flights: dict[str, _Flight] = {}
        # A blob's turn is kept by those who wait for it, and forgotten with the last of them.
        self._turns: weakref.WeakValueDictionary[str, asyncio.Lock] = weakref.WeakValueDictionary()
        self._slots = asyncio.Semaphore(MAX_FLIGHTS)
        self._http: aiohttp.ClientSession | None = None
        self._news = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._http = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=ANSWER_WITHIN_S),
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=30),
            headers={"Accept-Encoding": "identity", "User-Agent": "terrace"},
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        return self

    async def __aexit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        flights = [flight.task for flight in self._flights.values()]
        for task in flights:
            task.cancel()
        await asyncio.gather(*flights, return_exceptions=True)
        if self._http is not None:
            await self._http.close()

    @property
    def rate_bps(self) -> float:
        """What came in bits a second while something was on its way, lately; 0: not known yet."""
        return self._throughput.rate_bps

    def nudge(self) -> None:
        """Something has changed (a neighbour came, the plan is another): try again at once."""
        self._news.set()

    # ------------------------------------------------------------ documents

    async def document(self, path: str, *, etag: str = "") -> Answer:
        """GET a small document from the first parent that answers.

        path: at every parent, with the query if there is one. etag: of the copy that is at hand.

        Raises NotThere when every parent that answered says so, Refusal when they want another
        token, NoSource when none answers.
        """
        parents = [one for one in self._sources() if one.kind is SourceKind.PARENT]
        words = _Words(last="no parent is known" if not parents else "")
        for source in self._suppliers.order(time.monotonic(), parents):
            headers = _credentials(source)
            if etag:
                headers["If-None-Match"] = etag
            try:
                async with self._ask(source, source.url + path, headers) as response:
                    if response.status == HTTPStatus.NOT_MODIFIED and etag:
                        self._suppliers.answered(source)
                        return Answer(None, etag, "", source)
                    if response.status != HTTPStatus.OK:
                        await self._note_refusal(source, response, words)
                        continue
                    body = await self._read_document(source, response)
                    self._suppliers.answered(source)
                    return Answer(
                        body, response.headers.get("ETag", ""), response.content_type, source
                    )
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                words.last = self._dead(source, error)
            except BadBlob as error:
                words.last = str(error)
        raise _sentence(words)

    async def _read_document(self, source: Source, response: aiohttp.ClientResponse) -> bytes:
        body = bytearray()
        while True:
            async with asyncio.timeout(FIRST_BYTE_WITHIN_S if not body else SILENCE_S):
                chunk = await response.content.readany()
            if not chunk:
                return bytes(body)
            self._came(source, len(chunk))
            body += chunk
            if len(body) > MAX_DOCUMENT_BYTES:
                raise BadBlob(f"{source.url} sends more than {MAX_DOCUMENT_BYTES} bytes")

    # ------------------------------------------------------------ blobs

    async def fetch(self, blob: Blob, *, within_s: float | None = None) -> Path:
        """The verified file of a blob, fetched if the cache does not hold it.

        Tries for ever, or raises NoSource after `within_s`. Raises NotThere and Refusal when all
        sources that answer agree on it, DiskFull when there is no room, CacheError for a bad disk.
        """
        found = await self.cache.find(blob)
        if found is not None:
            return found
        flight = self._flights.get(blob.sha256)
        if flight is None:
            words = _Words()
            task = asyncio.create_task(self._bring(blob, words), name=f"fetch-{blob.sha256[:8]}")
            flight = self._flights[blob.sha256] = _Flight(task, words)
            task.add_done_callback(lambda task: self._land(blob.sha256, task))
        flight.waiters += 1
        try:
            done, _ = await asyncio.wait([flight.task], timeout=within_s)
            if not done:
                raise NoSource(f"{blob.path} did not come in {within_s:g} s: {flight.words.last}")
            return flight.task.result()
        finally:
            flight.waiters -= 1
            if not flight.waiters and not flight.task.done():
                # Nobody wants it any more. What has come stays a partial.
                flight.task.cancel()
                self._land(blob.sha256, flight.task)

    def _land(self, digest: str, task: asyncio.Task[Path]) -> None:
        flight = self._flights.get(digest)
        if flight is not None and flight.task is task:
            del self._flights[digest]
        if task.done() and not task.cancelled():
            task.exception()  # Who waited has it; a flight that nobody waits for may fail.

    async def _bring(self, blob: Blob, words: _Words) -> Path:
        # A flight that was just given up may still be closing its partial.
        turn = self._turns.setdefault(blob.sha256, asyncio.Lock())
        async with turn, self._slots:
            found = await self.cache.find(blob)
            if found is not None:
                return found
            async with await self.cache.intake(blob) as intake:
                return await self._bring_into(intake, words)

    async def _bring_into(self, intake: Intake, words: _Words) -> Path:
        if intake.is_full:
            # Killed between the last byte and the renaming.
            with contextlib.suppress(BadBlob):
                return await intake.keep()
        spoilers: set[str] = set()
        fruitless = 0
        while True:
            before = intake.received_bytes
            known = self._sources()
            sources = self._suppliers.order(time.monotonic(), known)
            closed_s = self._line.wait_s(time.time()) if self._line is not None else 0.0
            if closed_s > LONG_S:
                sources = [one for one in sources if one.kind is SourceKind.NEIGHBOUR]
                words.last = "the line may not be used now"
            sources = [one for one in sources if one.url not in spoilers] or sources
            ends: dict[str, _End] = {}
            for source in sources:
                end = await self._try(source, intake, words, others=len(sources) > 1)
                if end is _End.DONE:
                    try:
                        path = await intake.keep()
                    except BadBlob:
                        end = _End.BAD
                    else:
                        self.counters.blobs += 1
                        return path
                if end is _End.BAD:
                    self._note_bad(source, intake, words)
                    spoilers.add(source.url)
                if end is _End.HELD_UP:
                    closed_s = LONG_S + 1
                    break
                ends[source.url] = end
            if closed_s > LONG_S:
                raise NoSource(f"{intake.blob.path}: {words.last}")
            parents = [one.url for one in known if one.kind is SourceKind.PARENT]
            if parents and all(ends.get(u) in (_End.ABSENT, _End.REFUSED) for u in parents):
                raise _sentence(words)
            fruitless = 0 if intake.received_bytes > before else fruitless + 1
            await self._pause(pause_s(max(0, fruitless - 1), self._chance))

    async def _try(self, source: Source, intake: Intake, words: _Words, *, others: bool) -> _End:
        """Ask one source for what is missing. OSError of the disk comes out as CacheError."""
        url, headers = _request(source, intake)
        self._throughput.begin(time.monotonic())
        try:
            async with self._ask(source, url, headers) as response:
                # A neighbour's URL is that of the blob itself, a parent's may be that of its file.
                near = source.kind is SourceKind.NEIGHBOUR
                is_whole = near or intake.blob.offset_bytes is None
                if response.status == HTTPStatus.OK and is_whole:
                    if intake.received_bytes:
                        await intake.restart()
                elif response.status != HTTPStatus.PARTIAL_CONTENT:
                    return await self._judge(source, response, intake, words)
                elif not _is_range(response, intake, near=near):
                    words.last = f"{source.url} sends another part of {intake.blob.path}"
                    await intake.restart()
                    return _End.BAD
                intake.etag = response.headers.get("ETag", "")
                return await self._receive(source, response, intake, words, others=others)
        except BadBlob as error:
            words.last = f"{source.url}: {error}"
            return _End.BAD
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            words.last = self._dead(source, error)
            return _End.CUT
        finally:
            self._throughput.end(time.monotonic())

    async def _receive(
        self,
        source: Source,
        response: aiohttp.ClientResponse,
        intake: Intake,
        words: _Words,
        *,
        others: bool,
    ) -> _End:
        pending = bytearray()
        try:
            return await self._collect(source, response, intake, words, pending, others=others)
        finally:
            await _flush(intake, pending)

    async def _collect(
        self,
        source: Source,
        response: aiohttp.ClientResponse,
        intake: Intake,
        words: _Words,
        pending: bytearray,
        *,
        others: bool,
    ) -> _End:
        """Read to the end of an answer; what is not written yet stands in `pending`.

        A lossy line delivers packet by packet, and a thread's turn for each would cost more than
        all the rest. What a SIGKILL takes is what came within `WRITE_WITHIN_S`.
        """
        of_parent = source.kind is SourceKind.PARENT
        patience = FIRST_BYTE_WITHIN_S if of_parent else ANSWER_WITHIN_S
        since_s = time.monotonic()
        while True:
            try:
                async with asyncio.timeout(patience):
                    chunk = await response.content.readany()
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                words.last = f"{source.url} broke off: {_reason(error)}"
                self.counters.cuts += 1
                self._suppliers.failed(time.monotonic(), source)
                return _End.CUT
            if not chunk:
                await _flush(intake, pending)
                if 0 < intake.received_bytes < intake.blob.size_bytes:
                    words.last = f"{source.url} sent less than it should"
                    return _End.CUT
                self._suppliers.answered(source)
                return _End.DONE
            self._came(source, len(chunk))
            pending += chunk
            if len(pending) >= WRITE_BYTES or time.monotonic() - since_s >= WRITE_WITHIN_S:
                await _flush(intake, pending)
                since_s = time.monotonic()
            patience = SILENCE_WITH_OTHERS_S if others else SILENCE_S
            if of_parent and self._line is not None:
                self._line.take(time.time(), len(chunk))
                wait = self._line.wait_s(time.time())
                if wait > LONG_S:
                    words.last = "the line may not be used now"
                    return _End.HELD_UP
                await asyncio.sleep(wait)

    async def _judge(
        self, source: Source, response: aiohttp.ClientResponse, intake: Intake, words: _Words
    ) -> _End:
        """A source that answered, but not with the bytes."""
        status = response.status
        if source.kind is SourceKind.NEIGHBOUR and status in (404, 504):
            return _End.ABSENT
        if status in (HTTPStatus.OK, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE):
            # If-Range did not hold, or the file is shorter: it is another file than the manifest's.
            words.last = f"{source.url} has another version of {intake.blob.path}"
            await intake.restart()
            return _End.BAD
        return await self._note_refusal(source, response, words)

    async def _note_refusal(
        self, source: Source, response: aiohttp.ClientResponse, words: _Words
    ) -> _End:
        said = await _said(response)
        status = response.status
        if status in (HTTPStatus.NOT_FOUND, HTTPStatus.GONE):
            words.absent = said or f"{source.url} has no such thing"
            return _End.ABSENT
        if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            words.refused = said or f"{source.url} wants another token"
            return _End.REFUSED
        words.last = f"{source.url} answers {status}{': ' + said if said else ''}"
        after = response.headers.get("Retry-After", "")
        asked = float(after) if after.isascii() and after.isdecimal() and len(after) < 6 else None
        self._suppliers.failed(time.monotonic(), source, asked)
        return _End.CUT

    def _note_bad(self, source: Source, intake: Intake, words: _Words) -> None:
        self.counters.bad_blobs += 1
        self.counters.wasted_bytes += intake.wasted_bytes
        intake.wasted_bytes = 0
        words.last = f"{source.url} sends something else than {intake.blob.path} should hold"
        log.warning("blob-bad source=%s path=%s", source.url, intake.blob.path)

    # ------------------------------------------------------------ a plan

    async def stock(
        self,
        plan: Callable[[], Sequence[Blob]],
        *,
        parallel: int = 2,
    ) -> None:
        """Fetch what `plan()` lists and the cache does not hold, first things first, for ever.

        `plan` is asked again before every blob, so it may change at any time; when nothing of it
        is left, it is asked again after `IDLE_S`, or at a `nudge`. `trouble` says why it stands.
        What is held is looked at from time to time, so that a rotten piece is fetched again.
        """
        busy: set[str] = set()
        aside: dict[str, float] = {}

        async def work() -> None:
            while True:
                await self._until_allowed()
                now = time.monotonic()
                blob = next(
                    (
                        one
                        for one in plan()
                        if not self.cache.holds(one.sha256)
                        and one.sha256 not in busy
                        and aside.get(one.sha256, 0.0) <= now
                    ),
                    None,
                )
                if blob is None:
                    await self._pause(IDLE_S)
                    continue
                busy.add(blob.sha256)
                try:
                    await self.fetch(blob)
                    self.trouble = ""
                    aside.pop(blob.sha256, None)
                except DiskFull as error:
                    self.trouble = str(error)
                    await self._pause(DISK_FULL_S)
                except (FetchError, CacheError) as error:
                    self.trouble = str(error)
                    aside[blob.sha256] = time.monotonic() + LONG_S
                finally:
                    busy.discard(blob.sha256)

        async def look_after() -> None:
            # What has gone bad on the disk is not held any more, and so fetched again in time.
            while True:
                await self.cache.scrub()
                await asyncio.sleep(SCRUB_EVERY_S)

        async with asyncio.TaskGroup() as group:
            group.create_task(look_after(), name="scrub")
            for _ in range(parallel):
                group.create_task(work(), name="stock")

    async def _until_allowed(self) -> None:
        """Wait for the line, unless somebody on the LAN may be asked."""
        while self._line is not None:
            wait = self._line.wait_s(time.time())
            near = any(one.kind is SourceKind.NEIGHBOUR for one in self._sources())
            if wait <= 0 or near:
                return
            # Not in one go: the clock may be set, or the hours changed.
            await self._pause(min(wait, LONG_S))

    async def _pause(self, seconds: float) -> None:
        """Sleep, or until the next `nudge`."""
        self._news.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._news.wait()

    # ------------------------------------------------------------ one request

    @contextlib.asynccontextmanager
    async def _ask(
        self, source: Source, url: str, headers: dict[str, str]
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The response once its headers are there. What was not read is cut off at the end."""
        assert self._http is not None
        response: aiohttp.ClientResponse | None = None
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                # No redirects: they would take the token elsewhere.
                response = await self._http.get(url, headers=headers, allow_redirects=False)
            yield response
        finally:
            if response is not None and response.content.at_eof():
                response.release()
            elif response is not None:
                response.close()

    def _came(self, source: Source, size_bytes: int) -> None:
        if source.kind is SourceKind.PARENT:
            self.counters.parent_bytes += size_bytes
        else:
            self.counters.neighbour_bytes += size_bytes
        self._throughput.came(time.monotonic(), size_bytes)
        if self._observe is not None:
            self._observe(source, size_bytes)

    def _dead(self, source: Source, error: BaseException) -> str:
        self.counters.dead += 1
        self._suppliers.failed(time.monotonic(), source)
        return f"{source.url} does not answer: {_reason(error)}"


def _credentials(source: Source) -> dict[str, str]:
    if source.token and source.kind is SourceKind.PARENT:
        return {"Authorization": f"Bearer {source.token}"}
    return {}


def _request(source: Source, intake: Intake) -> tuple[str, dict[str, str]]:
    """URL and headers that ask a source for what is missing of a blob."""
    blob, received = intake.blob, intake.received_bytes
    headers = _credentials(source)
    if source.kind is SourceKind.NEIGHBOUR:
        url = f"{source.url}/pieces/{blob.sha256}"
        if received:
            headers["Range"] = f"bytes={received}-"
        return url, headers
    if blob.offset_bytes is not None:
        last = blob.offset_bytes + blob.size_bytes - 1
        headers["Range"] = f"bytes={blob.offset_bytes + received}-{last}"
    elif received:
        headers["Range"] = f"bytes={received}-"
    if received and intake.etag and not intake.etag.startswith("W/"):
        headers["If-Range"] = intake.etag
    return source.url + blob.path, headers


async def _flush(intake: Intake, pending: bytearray) -> None:
    """Write what has come; what cannot be written is not kept for another try."""
    chunk = bytes(pending)
    pending.clear()
    if chunk:
        await intake.write(chunk)


def _is_range(response: aiohttp.ClientResponse, intake: Intake, *, near: bool) -> bool:
    """Whether a 206 brings the bytes that are missing (RFC 9110 section 14.4)."""
    blob = intake.blob
    match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
    if match is None:
        return False
    base = 0 if near else blob.offset_bytes or 0
    first, last = int(match[1]), int(match[2])
    if first != base + intake.received_bytes:
        return False
    return not blob.size_bytes or last < base + blob.size_bytes


async def _said(response: aiohttp.ClientResponse) -> str:
    """The first line of an error's text, for the person who reads ours."""
    if response.content_type != "text/plain":
        return ""
    try:
        async with asyncio.timeout(ANSWER_WITHIN_S):
            text = await response.content.read(_SENTENCE_BYTES)
    except (aiohttp.ClientError, TimeoutError, OSError):
        return ""
    line = text.decode("utf-8", "replace").partition("\n")[0].strip()
    return line if line.isprintable() else ""


def _sentence(words: _Words) -> FetchError:
    """What to raise when no source has helped: the answer that can be acted on comes first."""
    if words.refused:
        return Refusal(words.refused)
    return NotThere(words.absent) if words.absent else NoSource(words.last)


def _reason(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, aiohttp.ClientConnectorError) and error.os_error.strerror:
        return error.os_error.strerror
    return str(error)[:200] or type(error).__name__
