"""The HTTP of a village box: what its television page, a telephone and its neighbours ask.

Two sorts of callers. The television is a browser on the box itself (loopback): it asks without a
code. A telephone in the room comes over the LAN with the code of this session, which the television
shows as a QR; it may enter attendance and read the status. Courses are open to the LAN, since
neighbours fetch from each other and every piece is verified by who takes it.

All times are Unix seconds (UTC, with fractions) of the clock that the box believes. `now` stands in
every answer, with `rate`: how many of its seconds pass in one (1.0 outside tests), so that a page
never looks at its browser's own clock.

`GET /api/station` is the screen, and `GET /api/station/events` sends the same as server-sent events
(`event: screen`) at the moment anything in it changes, at least every 15 s:

    {"now": 1795651200.25, "rate": 1.0, "revision": 17, "time_zone": "Asia/Shanghai",
     "version": "0.1.0",
     "clock": {"doubt": false, "reason": "", "source": "parent", "asked_at": 1795651190.0},
     "station": {"id": "shangping-1", "name": "...", "unit": "...", "county": "..."} | null,
     "show": "pairing" | "idle" | "course" | "live" | "fault",
     "pairing": {"state": "no-line" | "waiting" | "expired", "code": "482913",
                 "url": "http://county:8740/stations?code=482913", "expires_at": 0.0,
                 "fingerprint": "3f1c 88a0"} | null,
     "current": {"id", "title", "kind": "course" | "live", "starts_at", "ends_at", "offset_s",
                 "course", "rendition", "src": "/courses/x/480p.mp4", "poster",
                 "subtitles": [{"lang", "label", "src"}], "whep": "/whep/stream",
                 "trouble": null | "line" | "missing"} | null,
     "coming": [up to five {"id", "title", "kind", "starts_at", "duration_s",
                 "state": "ready" | "fetching" | "waiting" | "late" | "missing" | "live" |
                          "live-offline", "percent": 0-100 | null, "ready_at": float | null,
                 "poster", "src", "subtitles", "whep"}],
     "countdown_s": float | null, "changes_at": float | null,
     "line": {"up": true, "since": 0.0},
     "faults": [{"code", "about", "since", "values": {}, "sentence"}],
     "attend_url": "http://192.168.1.20:8780/attend?code=7F3K9Q" | "",
     "month": {"month": "2026-11", "hours": 12.4, "target": 20.0}}

`src`, `poster` and the like are paths at the box and "" where there is nothing. `faults` are those
of `media.faults`; pages translate `fault.<code>` with `values`.

    POST /api/station/tv          {"state": "playing" | "stalled" | "idle" | "error",
                                   "item": id | null, "position_s": float, "at": now, "why": ""}
                                  from the television, at every change and every two seconds while
                                  a picture moves: what was really played is written from these.
                                  `at` is the page's idea of the box's `now` when it was so.
    POST /api/station/time        {"code", "unix_s"}: a telephone's clock, taken only in doubt
    GET  /api/station/attendance  ?code=: {"item", "title", "head_count", "roll": [{"name",
                                  "present"}], "saved_at"} of the item that is on or was last
    POST /api/station/attendance  the same with "code"; answers the same. 403 with a wrong code
    GET  /api/station/status      {"now", "health", "faults", "line", "clock", "programme",
                                  "cache", "logbook": {"waiting", "acknowledged"}, "version"}
    GET  /api/station/logbook     ?month=2026-11: {"month", "hours", "target", "plays": [...]}
    GET  /api/station/screenshot.jpg   what the television shows now; 503 if its browser is silent
    GET  /api/time                {"unix_s", "doubt"}: for a neighbour whose clock is in doubt
    POST /whep/{stream}, PATCH, DELETE   passed on to the county with the box's token
    GET  /courses/...             as on every node
    POST /api/station/parcel      {"action": "export" | "import", "folder"}: courses to or from a
                                  stick (`media.parcel`), from this machine only -> its Outcome
    GET  /healthz                 200, or 503 when a part of the daemon hangs

A play in a logbook: {"id", "item", "title", "kind", "planned_at", "planned_s", "started_at",
"ended_at", "played_s", "gaps": [{"from", "to", "why": "late" | "line" | "missing" | "stalled" |
"error" | "no-television" | "restart" | "clock" | "other-item"}], "head_count": int | null,
"present": int | null, "absent": int | null, "acknowledged": bool}.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import logging
import re
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, Literal, TypeVar
from urllib.parse import urlsplit

import aiohttp
from aiohttp import hdrs, web
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from media import kiosk
from media.clock import EARLIEST_S, Heard
from media.errors import CacheError, MediaError, NotThere
from media.logbook import MAX_ROLL, Attendance, Present
from media.mirror import Entry, Mirror
from media.proof import Report
from media.rounds import Rounds
from media.station import Concerns, Session, Station
from media.watchdog import Notifier
from relay.access import Access
from relay.errors import SettingError
from web import distribution, station_pages
from web.cache_settings import CacheSettings

log = logging.getLogger("web.station_app")

MAX_BODY_BYTES: Final = 64 * 1024
MAX_SDP_BYTES: Final = 100_000
EVENTS_EVERY_S: Final = 15.0
MAX_WATCHERS: Final = 32
WHEP_WITHIN_S: Final = 10.0
WRONG_CODES_A_MINUTE: Final = 20
MONTH: Final = re.compile(r"20[0-9]{2}-(0[1-9]|1[0-2])", re.ASCII)
PASSED_ON: Final = ("Location", "ETag", "Link", "Retry-After", "Accept-Patch", "Terrace-Reason")
WHEP_PATH: Final = re.compile(r"/whep/[A-Za-z0-9_-]{1,64}(/[A-Za-z0-9._-]{1,100})?", re.ASCII)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_M = TypeVar("_M", bound=BaseModel)


class _Body(BaseModel):
    model_config = ConfigDict(extra="ignore")


class _Television(_Body):
    state: str = Field(pattern=r"^(playing|stalled|idle|error)$")
    item: str | None = Field(default=None, max_length=64)
    position_s: float = Field(default=0.0, allow_inf_nan=False)
    at: float = Field(allow_inf_nan=False)
    why: str = Field(default="", max_length=200)


class _Time(_Body):
    code: str = Field(max_length=16)
    unix_s: float = Field(ge=EARLIEST_S, le=32503680000, allow_inf_nan=False)


class _Attendance(_Body):
    code: str = Field(max_length=16)
    head_count: int | None = Field(default=None, ge=0, le=10_000)
    roll: tuple[Present, ...] = Field(default=(), max_length=MAX_ROLL)


class _Parcel(_Body):
    action: Literal["export", "import"]
    folder: str = Field(min_length=1, max_length=1000)


class Refusal(Exception):
    """A request that is not granted: its HTTP status and one sentence."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status, self.sentence = status, sentence


def build_app(station: Station) -> web.Application:
    """The box's HTTP server. `station` is open; its pages are added by `web.station_pages`."""
    app = web.Application(middlewares=[_local_hosts])
    box = Box(station)
    box.add_routes(app)
    courses = BoxCourses(station)
    distribution.add(app, courses)
    distribution.add_pieces(app, lambda: station.cache)
    identity = station.identity
    station_pages.add_box_pages(
        app,
        identity.name if identity is not None else station.config.name,
        pairing_url=box.pairing_url,
        attend_url=box.attend_url,
    )
    return app


class Box:
    """The handlers of one box."""

    def __init__(self, station: Station) -> None:
        self.station = station
        self._watching = 0
        self._wrong: deque[float] = deque(maxlen=WRONG_CODES_A_MINUTE)
        self._http: aiohttp.ClientSession | None = None

    def add_routes(self, app: web.Application) -> None:
        routes = [
            ("GET", "/api/station", self.screen),
            ("GET", "/api/station/events", self.events),
            ("POST", "/api/station/tv", self.television),
            ("POST", "/api/station/time", self.set_time),
            ("GET", "/api/station/attendance", self.attendance),
            ("POST", "/api/station/attendance", self.attend),
            ("GET", "/api/station/status", self.status),
            ("GET", "/api/station/logbook", self.logbook),
            ("GET", "/api/station/screenshot.jpg", self.picture),
            ("POST", "/api/station/parcel", self.parcel),
            ("GET", "/api/time", self.time),
            ("GET", "/healthz", self.healthz),
        ]
        for method, path, handler in routes:
            app.router.add_route(method, path, guard(handler))
        for method in ("POST", "PATCH", "DELETE"):
            app.router.add_route(method, "/whep/{rest:.+}", guard(self.whep))
        app.cleanup_ctx.append(self._connect)

    async def _connect(self, _app: web.Application) -> AsyncIterator[None]:
        timeout = aiohttp.ClientTimeout(total=WHEP_WITHIN_S)
        async with aiohttp.ClientSession(
            timeout=timeout, cookie_jar=aiohttp.DummyCookieJar()
        ) as self._http:
            yield

    # ------------------------------------------------------------ the screen

    async def screen(self, request: web.Request) -> web.StreamResponse:
        """What the television shows now."""
        return _json(self._state(request))

    async def events(self, request: web.Request) -> web.StreamResponse:
        """The same as server-sent events, when it changes."""
        if self._watching >= MAX_WATCHERS:
            raise Refusal(503, "Too many pages watch this box already; close some.")
        response = web.StreamResponse(
            headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"}
        )
        self._watching += 1
        try:
            with self.station.watching() as changed:
                await response.prepare(request)
                while True:
                    changed.clear()
                    text = json.dumps(self._state(request), ensure_ascii=False)
                    await response.write(f"event: screen\ndata: {text}\n\n".encode())
                    try:
                        async with asyncio.timeout(EVENTS_EVERY_S):
                            await changed.wait()
                    except TimeoutError:
                        continue
        except ConnectionError:
            return response
        finally:
            self._watching -= 1

    def _state(self, request: web.Request) -> dict[str, Any]:
        station = self.station
        now = station.now()
        screen = station.screen
        state = screen.as_json()
        # Worked out some time ago; what depends on the moment is said anew.
        if screen.current is not None:
            state["current"] = dict(state["current"]) | {  # type: ignore[call-overload]
                "offset_s": now - screen.current.starts_at
            }
        if screen.coming:
            state["countdown_s"] = max(0.0, screen.coming[0].starts_at - now)
        identity = station.identity
        month, _ = station.month()
        return {
            "now": now, "rate": station.wall.rate(), "revision": station.revision,
            "time_zone": station.time_zone, "version": station.config.version,
            "clock": self._clock(),
            "station": {
                "id": identity.station, "name": identity.name, "unit": identity.unit,
                "county": identity.county,
            } if identity is not None else None,
            "pairing": self._pairing() if identity is None else None,
            "line": {"up": station.link.up, "since": station.link.since_s},
            "faults": [one.as_json() for one in station.faults],
            "attend_url": self.attend_url(request),
            "month": {"month": month.month, "hours": month.hours, "target": month.target},
        } | state  # fmt: skip

    def _clock(self) -> dict[str, object]:
        keeper, doubt = self.station.keeper, self.station.doubt()
        return {
            "doubt": bool(doubt), "reason": doubt.value, "source": keeper.source.value,
            "asked_at": keeper.heard_s,
        }  # fmt: skip

    def _pairing(self) -> dict[str, object]:
        station = self.station
        county = station.config.parents[0] if station.config.parents else ""
        if station.offer is None:
            return {
                "state": "no-line",
                "code": "",
                "url": "",
                "expires_at": None,
                "fingerprint": "",
            }
        offer, until = station.offer
        return {
            "state": "waiting" if station.link.up else "no-line", "code": offer.code,
            "url": f"{county}/stations?code={offer.code}",
            "expires_at": station.now() + (until - time.monotonic()),
            "fingerprint": offer.fingerprint,
        }  # fmt: skip

    def pairing_url(self, _: web.Request) -> str:
        """What an operator opens to confirm this box, "" if nothing is to be confirmed."""
        return str(self._pairing()["url"]) if self.station.identity is None else ""

    def attend_url(self, request: web.Request) -> str:
        """What a telephone in the room opens for the roll-call; "" without a network.

        The code in it is for who sees the television: nobody else on the LAN is told.
        """
        if not _is_local(request):
            return ""
        base, sessions = self.station.config.lan_url, self.station.sessions
        return f"{base}/attend?code={sessions[-1].code}" if base and sessions else ""

    async def television(self, request: web.Request) -> web.StreamResponse:
        """The television page says what it does."""
        _require_local(request)
        body = await _read(request, _Television)
        self.station.television(Report(body.state, body.item or "", body.at, body.why))
        return web.Response(status=204)

    # ------------------------------------------------------------ a telephone in the room

    def _session(self, code: str) -> Session:
        now = time.monotonic()
        if len(self._wrong) == WRONG_CODES_A_MINUTE and now - self._wrong[0] < 60:
            raise Refusal(429, "Too many wrong codes; wait a minute, then scan the picture again.")
        found = self.station.session(code)
        if found is None:
            self._wrong.append(now)
            raise Refusal(
                403, "This code is not good any more: scan the picture on the television again."
            )
        return found

    async def set_time(self, request: web.Request) -> web.StreamResponse:
        """A telephone says what time it is; taken only while the clock is in doubt."""
        body = await _read(request, _Time)
        self._session(body.code)
        step_s = self.station.hear(Heard.TELEPHONE, body.unix_s)
        return _json({"now": self.station.now(), "step_s": step_s, "clock": self._clock()})

    async def attendance(self, request: web.Request) -> web.StreamResponse:
        """What was entered for the item of a code."""
        return _json(self._attended(self._session(request.query.get("code", ""))))

    async def attend(self, request: web.Request) -> web.StreamResponse:
        """A head count, a roll-call or both."""
        body = await _read(request, _Attendance)
        session = self._session(body.code)
        if not session.item:
            raise Refusal(409, "Nothing has been shown yet; enter it when the class has begun.")
        await self.station.attend(
            Attendance(
                item=session.item, title=session.title, planned_at=session.planned_at,
                head_count=body.head_count, roll=body.roll,
            )
        )  # fmt: skip
        return _json(self._attended(session))

    def _attended(self, session: Session) -> dict[str, object]:
        found, saved_at = self.station.attendance(session)
        return {
            "item": session.item, "title": session.title, "planned_at": session.planned_at,
            "head_count": found.head_count if found is not None else None,
            "roll": [one.model_dump() for one in found.roll] if found is not None else [],
            "saved_at": saved_at,
        }  # fmt: skip

    # ------------------------------------------------------------ how it is

    async def status(self, request: web.Request) -> web.StreamResponse:
        """The machine, the line, the cache, the logbook."""
        station = self.station
        machine, shelf, counters = station.health, station.cache.shelf, station.stock.fetcher
        timetable = station.timetable
        return _json(
            {
                "now": station.now(), "version": station.config.version,
                "station": station.station_id,
                "health": {
                    "disk_total_bytes": machine.disk_total_bytes,
                    "disk_free_bytes": machine.disk_free_bytes,
                    "celsius": machine.celsius, "memory_free_bytes": machine.memory_free_bytes,
                    "load": machine.load, "uptime_s": machine.uptime_s,
                },
                "television": {"heard_ago_s": self._television_ago_s()},
                "faults": [one.as_json() for one in station.faults],
                "line": {
                    "up": station.link.up, "since": station.link.since_s,
                    "bps": station.stock.rate_bps,
                    "fetched_bytes": counters.counters.parent_bytes,
                    "from_neighbours_bytes": counters.counters.neighbour_bytes,
                    "wasted_bytes": counters.counters.wasted_bytes,
                },
                "clock": self._clock(),
                "programme": {
                    "serial": timetable.serial, "items": len(timetable.items),
                    "valid_until": timetable.valid_until.timestamp(),
                } if timetable is not None else None,
                "cache": {
                    "used_bytes": shelf.used_bytes, "budget_bytes": shelf.budget_bytes,
                    "pieces": len(shelf), "trouble": counters.trouble,
                    "missing_bytes": sum(one.size_bytes for one in station.stock.plan().missing),
                },
                "logbook": {
                    "waiting": station.book.waiting_count,
                    "acknowledged": len(station.book.acknowledged),
                    "unsaved": station.book.unsaved,
                },
            }
        )  # fmt: skip

    def _television_ago_s(self) -> float | None:
        """Seconds since the television's page last reported, None before its first word."""
        heard_s = self.station.television_heard_s
        return time.monotonic() - heard_s if heard_s is not None else None

    async def logbook(self, request: web.Request) -> web.StreamResponse:
        """What was really played in a month, from the box's own logbook."""
        which = request.query.get("month", "")
        if which and not MONTH.fullmatch(which):
            raise Refusal(400, "A month is written as 2026-11.")
        station = self.station
        month, plays = station.month(which)
        done = station.book.acknowledged
        return _json(
            month.as_json() | {"plays": [one.as_json(acknowledged=one.id in done) for one in plays]}
        )

    async def picture(self, request: web.Request) -> web.StreamResponse:
        """What the television shows, as its browser draws it."""
        if not _is_local(request):
            self._session(request.query.get("code", ""))
        port = self.station.config.browser_port
        if not port:
            raise Refusal(404, "This box has no browser_port set, so there is no picture.")
        try:
            body = await kiosk.picture(port)
        except kiosk.NoPicture as error:
            raise Refusal(503, f"There is no picture: {error}.") from error
        return web.Response(
            body=body, content_type="image/jpeg", headers={"Cache-Control": "no-store"}
        )

    async def parcel(self, request: web.Request) -> web.StreamResponse:
        """Carries courses to a stick, or takes over what is on one."""
        _require_local(request)
        body = await _read(request, _Parcel)
        try:
            outcome = await self.station.carry(body.action, Path(body.folder))
        except MediaError as error:
            raise Refusal(400, f"{error}.") from error
        return _json(asdict(outcome))

    async def time(self, request: web.Request) -> web.StreamResponse:
        """What time this box believes, for a neighbour."""
        doubt = self.station.doubt()
        return _json({"unix_s": self.station.now(), "doubt": doubt.value})

    async def healthz(self, request: web.Request) -> web.StreamResponse:
        """Whether all parts of the daemon live."""
        late = self.station.heartbeats.late()
        if late:
            return web.Response(status=503, text=f"hangs: {', '.join(late)}\n")
        return web.Response(text="ok\n")

    # ------------------------------------------------------------ live

    async def whep(self, request: web.Request) -> web.StreamResponse:
        """Passes the television's WHEP on to the county; the media flows beside this box."""
        _require_local(request)
        station = self.station
        if not WHEP_PATH.fullmatch(request.path) or not station.config.parents:
            raise Refusal(404, "There is no such stream.")
        body = await _bytes(request, MAX_SDP_BYTES)
        headers = {
            name: request.headers[name] for name in ("Content-Type", "If-Match")
            if name in request.headers
        }  # fmt: skip
        if station.remembered.token:
            headers[hdrs.AUTHORIZATION] = f"Bearer {station.remembered.token}"
        assert self._http is not None
        try:
            async with self._http.request(
                request.method, station.config.parents[0] + request.path, data=body,
                headers=headers, allow_redirects=False,
            ) as answer:  # fmt: skip
                told = await answer.content.read(MAX_SDP_BYTES)
                passed = {
                    name: answer.headers[name] for name in PASSED_ON if name in answer.headers
                }
                if answer.status >= 500:
                    passed.setdefault("Retry-After", "2")
                return web.Response(
                    status=answer.status, body=told,
                    headers=passed | {"Content-Type": answer.content_type},
                )  # fmt: skip
        except (aiohttp.ClientError, TimeoutError, OSError):
            station.set_link(up=False)
            return web.Response(
                status=503, text="The county does not answer; the box tries again by itself.\n",
                headers={"Retry-After": "2"},
            )  # fmt: skip


class BoxCourses(distribution.Distribution):
    """The courses of a box, as every node serves them, out of what it holds.

    What a course is comes from the shelf, in memory: a dead line must not cost the television the
    two seconds in which a parent might answer.
    """

    def __init__(self, station: Station) -> None:
        super().__init__(_Reach(station), CacheSettings(), ())
        self._station = station

    async def mirror(self) -> Mirror:
        return self._station.mirror()

    async def _entry(self, request: web.Request) -> Entry:
        course_id = request.match_info["course"]
        found = self._station.shelf.entry(course_id)
        if found is None:
            raise NotThere(f"The course {course_id} is not at this box.")
        return found


class _Reach:
    """What `web.distribution` wants to know of a node, for a box: it has no tokens of its own."""

    parent_token = ""

    def __init__(self, station: Station) -> None:
        self.access = Access.open_mode()
        self.port = station.config.port
        self.parents = station.config.parents


# ---------------------------------------------------------------- one request


def _is_local(request: web.Request) -> bool:
    """Whether the caller is this machine's own browser."""
    try:
        return ipaddress.ip_address(request.remote or "").is_loopback
    except ValueError:
        return False


def _require_local(request: web.Request) -> None:
    if not _is_local(request):
        raise Refusal(403, "Only the television of this box may do that.")


@web.middleware
async def _local_hosts(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuses pages of other sites that have their name point here (DNS rebinding).

    A box is reached by an address, by a name without dots, or by one that the LAN gave it.
    """
    host = urlsplit(f"//{request.host}").hostname or ""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        if "." in host and not host.endswith((".local", ".lan", ".home.arpa", ".internal")):
            return web.Response(status=421, text="This box is not called that.\n")
    return await handler(request)


def _json(document: dict[str, Any]) -> web.Response:
    return web.json_response(document, headers={"Cache-Control": "no-store"})


async def _bytes(request: web.Request, limit: int) -> bytes:
    body = bytearray()
    async for chunk in request.content.iter_chunked(65536):
        body += chunk
        if len(body) > limit:
            raise Refusal(413, f"This is longer than the {limit} bytes that are read.")
    return bytes(body)


async def _read(request: web.Request, model: type[_M]) -> _M:
    """The JSON body in its model. Raises Refusal (400) that names the field."""
    # A form of another site cannot send this type, so it cannot speak for a person in the room.
    if request.content_type != "application/json":
        raise Refusal(415, "The body must be application/json.")
    try:
        return model.model_validate_json(await _bytes(request, MAX_BODY_BYTES))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the body"
        message = first["msg"].removeprefix("Value error, ")
        raise Refusal(400, f"{place}: {message}.") from None


def guard(handler: Handler) -> Handler:
    """Turns a refusal into `{"error": sentence}` with its status."""

    async def guarded(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except Refusal as error:
            return web.json_response({"error": error.sentence}, status=error.status)
        except (web.RequestPayloadError, ConnectionError):
            return web.json_response({"error": "The request broke off before its end."}, status=400)

    return guarded


async def serve(station: Station, *, host: str, port: int, stop: asyncio.Event) -> None:
    """Runs a box until `stop`. Raises `relay.errors.SettingError` when it cannot start."""
    try:
        await asyncio.to_thread(station.open)
    except (OSError, CacheError) as error:
        raise SettingError(f"the folder {station.config.folder} cannot be used: {error}") from error
    notifier = Notifier()
    runner = web.AppRunner(build_app(station), access_log=None, shutdown_timeout=0.5)
    rounds: Concerns = {}
    if station.config.parents:
        rounds["county"] = Rounds(station, station.config.parents[0]).run
    work = asyncio.create_task(station.run(rounds, notifier), name="station")
    try:
        await runner.setup()
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            raise SettingError(
                f"cannot open TCP {host}:{port}: {error.strerror}. "
                "Choose another --port or stop the program that uses it."
            ) from error
        log.info("ready url=http://%s:%d", f"[{host}]" if ":" in host else host, port)
        notifier.say("READY=1")
        stopped = asyncio.create_task(stop.wait(), name="stop")
        await asyncio.wait([work, stopped], return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if work.done():
            work.result()
    finally:
        notifier.say("STOPPING=1")
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
        await runner.cleanup()
        station.close()
