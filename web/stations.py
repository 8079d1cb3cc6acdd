"""The stations below a county: pairing, timetables, logbooks and how they are, as HTTP.

    POST /api/pairings                {"public_key": PEM, "request": JWS signed with that key}
                                      -> 201 {"id", "code": "482913", "good_for_s", "expires_at",
                                      "fingerprint"}
    GET  /api/pairings/{id}           -> {"state": "waiting" | "confirmed" | "expired",
                                      "identity": JWS, "county_key"}; only the box knows the id
    GET  /api/pairings                operator -> {"pairings": [{"version", "name", "address",
                                      "asked_at", "expires_at"}], "fingerprint"}
    POST /api/pairings/{code}/confirm operator, {"station": id, "name", "unit", "group"}
                                      -> {"station": {...}}. 404 no such code, 409 the id is taken
    GET  /api/programmes/{station}    the signed timetable, ETag, 304; 404 while there is none
    PUT  /api/programmes/{station}    operator: a signed timetable, for a station or a group
    POST /api/logbook                 {"station", "entries": [JWS]} -> {"acknowledged": [ids]}
    POST /api/stations/{id}/report    {"report": JWS} (`media.report`) -> ReportAnswer
    GET  /api/stations                operator -> {"now", "month", "stations": [Station]}
    GET  /api/stations/{id}           operator -> Station with "logbook" and "health"
    GET  /api/stations/{id}/logbook   operator, ?month= -> {"month", "plays": [...], "hours", ...}
    GET  /api/stations/{id}/screenshot.jpg   operator; the newest, 404 while there is none
    POST /api/stations/{id}/screenshot       operator: asks the box for a new one
    DELETE /api/stations/{id}         operator: the box's key is good no longer
    GET  /api/time                    ?nonce= -> a signed time (`media.clock`)

An operator is who bears a token with the publish scope for `stations` (a node that is open on
loopback asks for none).

Station: {"id", "name", "unit", "group", "paired_at", "seen_at", "state": "green" | "amber" | "red"
| "grey", "why": [fault], "current": {"item", "title", "show"} | null, "next": {"item", "title",
"starts_at", "state", "ready_at"} | null, "month": {"month", "hours", "target", "plays", "missed",
"head_count", "counted", "expected", "present", "turnout": 0-1 | null}, "health": {...}, "clock":
{...}, "version", "lan_url", "waiting", "picture_at"}. `GET /api/stations/{id}` adds "report" (the
whole of `media.report.Report`) and "logbook" (plays of this month, as web/station_app.py has them).
Grey: nothing heard for three minutes; red: an item of the next 24 h will not play, or a fault that
keeps the box from playing; amber: any other fault.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import re
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

from aiohttp import web
from aiohttp.helpers import ETag
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from media import pairing, programme, signed, standing
from media.county import SUBJECT, County, Stale, StationRow, Unknown
from media.pairing import Desk, PairingError
from media.programme import Id, Text
from media.report import MAX_BYTES as MAX_REPORT_BYTES
from relay.access import Access, AccessError, Grant
from web.library import Use, UsesOf

log = logging.getLogger("web.stations")

SCOPE: Final = "stations"
"""An operator's token may publish this; no stream has the name."""
MAX_DELIVERY_BYTES: Final = 16 * 1024 * 1024
MAX_SMALL_BYTES: Final = 16 * 1024
MONTH: Final = re.compile(r"20[0-9]{2}-(0[1-9]|1[0-2])", re.ASCII)
STATION: Final = r"{station:[a-z0-9][a-z0-9-]*}"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_M = TypeVar("_M", bound=BaseModel)


class _Body(BaseModel):
    model_config = ConfigDict(extra="ignore")


class _Ask(_Body):
    public_key: str = Field(max_length=400)
    request: str = Field(max_length=4000)


class _Confirm(_Body):
    station: Id
    name: Text
    unit: str = Field(default="", max_length=100)
    group: str = Field(default="", max_length=64, pattern=r"^[a-z0-9-]*$")


class _Reported(_Body):
    public_key: str = Field(default="", max_length=400)
    report: str = Field(max_length=MAX_REPORT_BYTES)


class _Delivery(_Body):
    station: Id
    entries: list[str] = Field(max_length=200)


def add(
    app: web.Application,
    county: County,
    access: Access,
    changed: Callable[[], None] = lambda: None,
) -> None:
    """Adds the routes; `county` is open already.

    changed: called when what the stations will play may be another.
    """
    access.add_key(county.public_key)
    Stations(county, access, changed).add_routes(app)


def uses_of(county: County) -> UsesOf:
    """Says when the stations of a county play a course, by the timetables in force."""

    def look(course_id: str) -> list[Use]:
        found: list[Use] = []
        for target, text in county.timetables_in_force():
            try:
                one = programme.parse(signed.verify(text, county.timetable_keys, programme.TYP))
            except (signed.BadSignature, signed.BadDocument, programme.ProgrammeError):
                continue
            now = time.time()
            found += [
                Use(item.title, target, item.starts_at)
                for item in one.items
                if item.course == course_id and item.end_s > now
            ]
        return found

    async def uses(course_id: str) -> list[Use]:
        return await asyncio.to_thread(look, course_id)

    return uses


class Stations:
    """The handlers of one county."""

    def __init__(self, county: County, access: Access, changed: Callable[[], None]) -> None:
        self.county = county
        self.desk = Desk()
        self._access = access
        self._changed = changed

    def add_routes(self, app: web.Application) -> None:
        routes = [
            ("POST", "/api/pairings", self.ask_pairing),
            ("GET", "/api/pairings", self.pairings),
            ("GET", "/api/pairings/{id}", self.pairing_state),
            ("POST", "/api/pairings/{code:[0-9]+}/confirm", self.confirm),
            ("GET", f"/api/programmes/{STATION}", self.timetable),
            ("PUT", f"/api/programmes/{STATION}", self.put_timetable),
            ("POST", "/api/logbook", self.deliver),
            ("GET", "/api/stations", self.stations),
            ("GET", f"/api/stations/{STATION}", self.station),
            ("DELETE", f"/api/stations/{STATION}", self.remove),
            ("POST", f"/api/stations/{STATION}/report", self.report),
            ("GET", f"/api/stations/{STATION}/logbook", self.logbook),
            ("GET", f"/api/stations/{STATION}/screenshot.jpg", self.picture),
            ("POST", f"/api/stations/{STATION}/screenshot", self.want_picture),
            ("GET", "/api/time", self.time),
        ]
        for method, path, handler in routes:
            app.router.add_route(method, path, _guard(handler))

    # ------------------------------------------------------------ boxes

    async def ask_pairing(self, request: web.Request) -> web.StreamResponse:
        """A new box asks for its six figures."""
        body = await _read(request, _Ask, MAX_SMALL_BYTES)
        one = self.desk.ask(body.public_key, body.request, request.remote or "", time.time())
        log.info("pairing-asked address=%s", one.address)
        good_for_s = one.asked_s + pairing.GOOD_FOR_S - time.time()
        return web.json_response(
            {
                "id": one.id, "code": one.code, "good_for_s": max(1.0, good_for_s),
                "expires_at": one.asked_s + pairing.GOOD_FOR_S,
                "fingerprint": pairing.fingerprint(self.county.public_key),
            },
            status=201,
        )  # fmt: skip

    async def pairing_state(self, request: web.Request) -> web.StreamResponse:
        """A box asks whether its operator has confirmed."""
        one = self.desk.get(request.match_info["id"], time.time())
        if one is None:
            return web.json_response({"state": "expired"})
        if not one.identity:
            return web.json_response({"state": "waiting"})
        return web.json_response(
            {
                "state": "confirmed", "identity": one.identity,
                "county_key": pairing.public_pem(self.county.public_key),
            }
        )  # fmt: skip

    async def report(self, request: web.Request) -> web.StreamResponse:
        """A station says how it is."""
        station = request.match_info["station"]
        body = await _read(request, _Reported, MAX_REPORT_BYTES + MAX_SMALL_BYTES)
        now = time.time()
        try:
            answer = await asyncio.to_thread(self.county.report, station, body.report, now)
        except Unknown:
            identity = _identity_in(body.report)
            if not identity or not body.public_key:
                raise
            await asyncio.to_thread(self.county.recognise, identity, body.public_key, now)
            answer = await asyncio.to_thread(self.county.report, station, body.report, now)
        return web.json_response(answer.model_dump(mode="json"))

    async def deliver(self, request: web.Request) -> web.StreamResponse:
        """A station brings entries of its logbook; those that came before are not taken twice."""
        body = await _read(request, _Delivery, MAX_DELIVERY_BYTES)
        ids = await asyncio.to_thread(self.county.deliver, body.station, body.entries, time.time())
        return web.json_response({"acknowledged": ids})

    async def time(self, request: web.Request) -> web.StreamResponse:
        """What time it is, signed for this question."""
        nonce = request.query.get("nonce", "")
        try:
            text = self.county.signed_time(nonce, time.time())
        except ValidationError:
            raise _refusal(400, "The question needs a nonce of 16 to 64 letters.") from None
        return web.Response(
            text=text, content_type="application/jose", headers={"Cache-Control": "no-store"}
        )

    async def timetable(self, request: web.Request) -> web.StreamResponse:
        """The signed timetable of a station."""
        station = request.match_info["station"]
        grant = self._grant(request)
        if grant.subject != SUBJECT + station:
            _require_operator(grant)
        found = await asyncio.to_thread(self.county.timetable, station)
        if found is None:
            raise _refusal(404, f"No timetable was issued for {station} yet.")
        text, serial = found
        tag = ETag(f"{station}-{serial}")
        if any(one.value == tag.value for one in request.if_none_match or ()):
            answer = web.Response(status=304)
        else:
            answer = web.Response(text=text, content_type="application/jose")
        answer.etag = tag
        return answer

    # ------------------------------------------------------------ operators

    async def pairings(self, request: web.Request) -> web.StreamResponse:
        """The boxes that wait to be paired. Their figures are not told: the operator is."""
        self._operator(request)
        return web.json_response(
            {
                "pairings": [
                    {
                        "version": one.version, "name": one.name, "address": one.address,
                        "asked_at": one.asked_s, "expires_at": one.asked_s + pairing.GOOD_FOR_S,
                    }
                    for one in self.desk.waiting(time.time())
                ],
                "fingerprint": pairing.fingerprint(self.county.public_key),
            }
        )  # fmt: skip

    async def confirm(self, request: web.Request) -> web.StreamResponse:
        """The operator has read the six figures of a box, and says which station it is."""
        self._operator(request)
        body = await _read(request, _Confirm, MAX_SMALL_BYTES)
        now = time.time()
        one = self.desk.find(request.match_info["code"], now)
        await asyncio.to_thread(
            self.county.confirm, one, body.station, body.name, body.unit, body.group, now
        )
        log.info("paired station=%s address=%s", body.station, one.address)
        self._changed()
        row = await asyncio.to_thread(self.county.station, body.station)
        return web.json_response({"station": await self._shown(row, now)})

    async def put_timetable(self, request: web.Request) -> web.StreamResponse:
        """A signed timetable for a station or a group."""
        self._operator(request)
        text = (await _bytes(request, programme.MAX_BYTES * 2)).decode("ascii", "replace")
        one = await asyncio.to_thread(
            self.county.put_timetable, request.match_info["station"], text.strip()
        )
        self._changed()
        return web.json_response({"serial": one.serial, "items": len(one.items)})

    async def stations(self, request: web.Request) -> web.StreamResponse:
        """All stations: how they stand, what is on, what is next, their month."""
        self._operator(request)
        now = time.time()
        rows = await asyncio.to_thread(self.county.stations)
        return web.json_response(
            {"now": now, "stations": [await self._shown(row, now) for row in rows]}
        )

    async def station(self, request: web.Request) -> web.StreamResponse:
        """One station, with its whole last report and the plays of this month."""
        self._operator(request)
        now = time.time()
        row = await asyncio.to_thread(self.county.station, request.match_info["station"])
        shown = await self._shown(row, now)
        _, plays = await asyncio.to_thread(self.county.month, row.id, _this_month(now))
        shown["report"] = row.report.model_dump(mode="json") if row.report is not None else None
        shown["logbook"] = [one.as_json() for one in plays]
        shown["picture_at"] = row.picture_at
        return web.json_response(shown)

    async def logbook(self, request: web.Request) -> web.StreamResponse:
        """What was really played at a station in a month, and who was there."""
        self._operator(request)
        which = request.query.get("month", _this_month(time.time()))
        if not MONTH.fullmatch(which):
            raise _refusal(400, "A month is written as 2026-11.")
        row = await asyncio.to_thread(self.county.station, request.match_info["station"])
        month, plays = await asyncio.to_thread(self.county.month, row.id, which)
        return web.json_response(
            month.as_json() | {"station": row.id, "plays": [one.as_json() for one in plays]}
        )

    async def picture(self, request: web.Request) -> web.StreamResponse:
        """The newest picture of a station's television."""
        self._operator(request)
        found = await asyncio.to_thread(self.county.picture, request.match_info["station"])
        if found is None:
            raise _refusal(404, "No picture has come from this station yet; ask for one.")
        body, _ = found
        headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
        return web.Response(body=body, content_type="image/jpeg", headers=headers)

    async def want_picture(self, request: web.Request) -> web.StreamResponse:
        """Asks a station for a picture, which comes within a minute."""
        self._operator(request)
        await asyncio.to_thread(self.county.want_picture, request.match_info["station"])
        return web.json_response({}, status=202)

    async def remove(self, request: web.Request) -> web.StreamResponse:
        """A station's box is good no longer, stolen perhaps; its logbook stays."""
        self._operator(request)
        await asyncio.to_thread(self.county.remove, request.match_info["station"])
        self._changed()
        return web.Response(status=204)

    # ------------------------------------------------------------ parts

    def _grant(self, request: web.Request) -> Grant:
        return self._access.check(request.headers.get("Authorization"))

    def _operator(self, request: web.Request) -> None:
        _require_operator(self._grant(request))

    async def _shown(self, row: StationRow, now: float) -> dict[str, Any]:
        month, _ = await asyncio.to_thread(self.county.month, row.id, _this_month(now))
        state, why = standing.judge(row.report, row.seen_at, now)
        report = row.report
        first = report.coming[0] if report is not None and report.coming else None
        shown = report.shown if report is not None else None
        return {
            "id": row.id, "name": row.name, "unit": row.unit, "group": row.group,
            "paired_at": row.paired_at, "seen_at": row.seen_at,
            "state": state.value,
            "why": [one.model_dump(mode="json") for one in why],
            "current": shown.model_dump(mode="json") if shown is not None else None,
            "next": first.model_dump(mode="json") if first is not None else None,
            "month": month.as_json(),
            "health": report.health.model_dump(mode="json") if report is not None else None,
            "clock": report.clock.model_dump(mode="json") if report is not None else None,
            "version": report.version if report is not None else "",
            "lan_url": report.lan_url if report is not None else "",
            "waiting": report.waiting if report is not None else 0,
            "picture_at": row.picture_at,
        }  # fmt: skip


def _require_operator(grant: Grant) -> None:
    if not grant.may_publish(SCOPE):
        raise AccessError(
            403,
            "This token does not let you see to stations; "
            f"ask for one issued with `terrace token --publish {SCOPE}`.",
        )


def _this_month(now: float) -> str:
    return programme.month_of(now, "Asia/Shanghai")


def _identity_in(text: str) -> str:
    """The identity in a report that cannot be checked yet: the identity itself is signed."""
    try:
        payload = text.split(".")[1]
        found = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        return str(found.get("identity", ""))
    except (IndexError, ValueError, AttributeError):
        return ""


async def _bytes(request: web.Request, limit: int) -> bytes:
    """The body. Raises a 413 for a longer one."""
    if (request.content_length or 0) > limit:
        raise _refusal(413, f"This is longer than the {limit} bytes that are read.")
    body = bytearray()
    async for chunk in request.content.iter_chunked(65536):
        body += chunk
        if len(body) > limit:
            raise _refusal(413, f"This is longer than the {limit} bytes that are read.")
    return bytes(body)


async def _read(request: web.Request, model: type[_M], limit: int) -> _M:
    """The JSON body in its model. Raises a 400 that names the field."""
    try:
        return model.model_validate_json(await _bytes(request, limit))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the body"
        raise _refusal(400, f"{place}: {first['msg'].removeprefix('Value error, ')}.") from None


class _Refusal(Exception):
    def __init__(self, status: int, sentence: str, told: dict[str, object] | None = None) -> None:
        super().__init__(sentence)
        self.status, self.sentence, self.told = status, sentence, told or {}


def _refusal(status: int, sentence: str, **told: object) -> _Refusal:
    return _Refusal(status, sentence, told)


def _guard(handler: Handler) -> Handler:
    """Turns what is wrong into a JSON answer `{"error": sentence}` with its status."""

    async def guarded(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except (_Refusal, PairingError, AccessError) as error:
            told: dict[str, object] = error.told if isinstance(error, _Refusal) else {}
            status, sentence = error.status, error.sentence
        except Unknown as error:
            status, sentence, told = 404, str(error), {}
        except Stale as error:
            status, sentence, told = 409, f"{error}.", {"sequence": error.sequence}
        except (signed.BadSignature, signed.BadDocument, programme.ProgrammeError) as error:
            status, sentence, told = 400, f"This is refused: {error}.", {}
        except (ConnectionError, web.RequestPayloadError):
            status, sentence, told = 400, "The request broke off before its end.", {}
        headers = {"WWW-Authenticate": "Bearer"} if status == 401 else None
        return web.json_response({"error": sentence} | told, status=status, headers=headers)

    return guarded
