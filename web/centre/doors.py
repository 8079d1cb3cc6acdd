"""From an HTTP request to a handler of the table, and from what it returns or raises to an answer.

The order is: who is it, is the request one of ours, is its body small and well made, and then, in
one transaction, may they, and do it. A request that changes something with a cookie must carry the
token of its session and come from a page of this origin.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web
from pydantic import TypeAdapter, ValidationError
from sqlalchemy.ext.asyncio import AsyncConnection

from relay.access import AccessError
from schedule.errors import Conflict, Invalid, NotFound, Refused
from schedule.planning import Clashing
from schedule.rights import Action, places
from web.centre import signin
from web.centre.centre import Centre
from web.centre.models import Clashes, Problem
from web.centre.table import (
    JSON_BYTES,
    MOST_ID,
    Anyone,
    Ask,
    Node,
    On,
    Passed,
    Raw,
    Redirect,
    Route,
    Somewhere,
)

log = logging.getLogger("web.centre")

HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}
CSRF_HEADER = "X-CSRF-Token"


class NotDone(Exception):
    """A request that ends here, with its status."""

    def __init__(self, status: int, sentence: str, **headers: str) -> None:
        super().__init__(sentence)
        self.status = status
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


@functools.cache
def _writer(answer: Any) -> TypeAdapter[Any]:
    """Writes answers of a type as JSON: one for all routes that answer it."""
    return TypeAdapter(answer)


def door(centre: Centre, route: Route) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """The aiohttp handler of a row."""
    plain = isinstance(route.answer, Raw | Redirect) or route.answer is None
    adapter = None if plain else _writer(route.answer)

    async def enter(request: web.Request) -> web.StreamResponse:
        try:
            answer = await _do(centre, route, request)
        except Exception as error:
            return _refused(error)
        if isinstance(answer, web.StreamResponse):
            if not answer.prepared:
                answer.headers.update({k: v for k, v in HEADERS.items() if k not in answer.headers})
            return answer
        if adapter is None:
            return web.Response(status=204, headers=HEADERS)
        text = adapter.dump_json(answer)
        return web.Response(
            body=text, status=route.status, content_type="application/json", headers=HEADERS
        )

    return enter


async def _do(centre: Centre, route: Route, request: web.Request) -> Any:
    ask = Ask(centre, centre.clock(), request, _path(request), _query(route, request), None)
    if isinstance(route.who, Node):
        grant = centre.access.check(request.headers.get("Authorization"))
        grant.require_relay()
    elif isinstance(route.who, Passed) and _shows_pass(centre, request):
        # Not by cookie: a page of another origin cannot have it.
        ask.grant = centre.access.check(request.headers.get("Authorization"))
    elif route.changes and not isinstance(route.who, Anyone):
        # Before a body is read from whoever it may be.
        async with centre.store.reading() as connection:
            session = await _session(ask, connection)
        demand_ours(centre, request)
        _demand_token(session, request)
        await _touch(ask, session)
    elif route.changes:
        demand_ours(centre, request)
    ask.body = await _body(route, request)
    answer = await _handled(ask, route)
    if ask.signed_in is not None and not route.changes:
        # After its transaction: each request has one connection to the database at a time.
        await _touch(ask, ask.signed_in)
    return answer


async def _handled(ask: Ask, route: Route) -> Any:
    if route.by_itself and (ask.grant is not None or isinstance(route.who, Anyone | Node)):
        return await route.handler(ask)
    async with _transaction(ask.centre, route) as connection:
        if not isinstance(route.who, Anyone | Node):
            # In the transaction of the change: roles may have been taken away a moment ago.
            ask.signed_in = await _session(ask, connection)
        ask.transaction = connection
        if isinstance(route.who, On):
            path = await route.who.where(ask)
            if path is not None:
                ask.demand(route.who.action, path)
        elif isinstance(route.who, Somewhere):
            _demand_somewhere(ask.session, route.who.action)
        if not route.by_itself:
            return await route.handler(ask)
    ask.transaction = None
    return await route.handler(ask)


@contextlib.asynccontextmanager
async def _transaction(centre: Centre, route: Route) -> AsyncIterator[AsyncConnection]:
    store = centre.store
    reads = route.by_itself or route.only_reads or not route.changes
    begun = store.reading() if reads else store.writing()
    async with begun as connection:
        yield connection


# Who it is


def _shows_pass(centre: Centre, request: web.Request) -> bool:
    """Whether somebody comes by a pass; where none are given, whoever has no cookie."""
    if "Authorization" in request.headers:
        return True
    return centre.access.open and signin.COOKIE not in request.cookies


async def _session(ask: Ask, connection: AsyncConnection) -> signin.Session:
    cookie = ask.request.cookies.get(signin.COOKIE, "")
    found = await signin.session(connection, cookie, ask.now, ask.centre.lifetime)
    if found is None:
        raise NotDone(401, "sign in first")
    return found


async def _touch(ask: Ask, session: signin.Session) -> None:
    if ask.now - session.seen_at >= signin.TOUCH:
        async with ask.centre.store.writing() as connection:
            await signin.touch(connection, session.token, ask.now)


def demand_ours(centre: Centre, request: web.Request) -> None:
    """Raise a 403 when a browser says that a page of another origin sent this."""
    origin = request.headers.get("Origin")
    if origin is not None:
        known = {urlsplit(centre.public_url).netloc, request.host}
        if urlsplit(origin).netloc not in known:
            raise NotDone(403, "this request comes from another site's page")
    elif request.headers.get("Sec-Fetch-Site", "none") not in ("same-origin", "none"):
        raise NotDone(403, "this request comes from another site's page")


def _demand_token(session: signin.Session, request: web.Request) -> None:
    shown = request.headers.get(CSRF_HEADER, "")
    if not signin.same(shown, session.csrf):
        raise NotDone(403, f"the header {CSRF_HEADER} is missing or of another session")


def _demand_somewhere(session: signin.Session, action: Action) -> None:
    if not places(session.grants, action):
        raise Refused(f"your roles do not allow you to {action} anywhere")


# What it says


def _path(request: web.Request) -> Mapping[str, Any]:
    found: dict[str, Any] = {}
    for name, text in request.match_info.items():
        if not name.endswith("_id"):
            found[name] = text
        elif text.isascii() and text.isdecimal() and 1 <= int(text[:11]) <= MOST_ID:
            found[name] = int(text[:11])
        else:
            raise NotFound("there is no such thing")
    return found


def _query(route: Route, request: web.Request) -> Any:
    fields = route.query.model_fields if route.query is not None else {}
    known = {field.alias or name for name, field in fields.items()}
    passes_over = route.query is not None and route.query.model_config.get("extra") == "ignore"
    given: dict[str, str] = {}
    for name, value in request.query.items():
        if name in given:
            raise Invalid(f"{name[:40]!r} is given twice", name[:40])
        if name not in known:
            if passes_over:
                continue
            raise Invalid(f"{name[:40]!r} is unknown here", name[:40])
        given[name] = value
    return route.query.model_validate_strings(given) if route.query is not None else None


async def _body(route: Route, request: web.Request) -> Any:
    if route.body is None:
        return None
    raw = isinstance(route.body, Raw)
    taken = route.body.media_types if isinstance(route.body, Raw) else ("application/json",)
    if request.content_type not in taken:
        raise NotDone(415, f"the body must be {' or '.join(taken)}")
    data = await _bytes(
        request, route.body.most_bytes if isinstance(route.body, Raw) else JSON_BYTES
    )
    if raw:
        return data
    assert not isinstance(route.body, Raw)
    return route.body.model_validate_json(data)


async def _bytes(request: web.Request, most: int) -> bytes:
    if (request.content_length or 0) > most:
        raise NotDone(413, f"the body is longer than the {most} bytes that are read")
    body = bytearray()
    async for chunk in request.content.iter_chunked(65536):
        body += chunk
        if len(body) > most:
            raise NotDone(413, f"the body is longer than the {most} bytes that are read")
    return bytes(body)


# What is wrong with it


def _refused(error: Exception) -> web.Response:
    headers: Mapping[str, str] = {}
    problem = Problem(error=str(error))
    match error:
        case NotDone():
            status, headers = error.status, error.headers
        case ValidationError():
            status, problem = 400, _invalid(error)
        case Invalid():
            status, problem = 400, Problem(error=str(error), field=error.field or None)
        case Clashing():
            status = 409
            problem = Problem(error=str(error), clashes=Clashes.of(error.checked))
        case Conflict():
            status = 409
        case NotFound():
            status = 404
        case Refused():
            status = 403
        case AccessError():
            status = error.status
        case ConnectionError() | web.RequestPayloadError():
            status, problem = 400, Problem(error="the request broke off before its end")
        case _:
            raise error
    body = json.dumps(problem.model_dump(mode="json"), ensure_ascii=False)
    return web.Response(
        text=body, status=status, content_type="application/json", headers=HEADERS | dict(headers)
    )


def _invalid(error: ValidationError) -> Problem:
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    sentence = f"{place}: {message}" if place else message
    return Problem(error=sentence, field=str(first["loc"][0]) if first["loc"] else None)
