"""Signing in through a provider's accounts (`web.centre.oidc`): the two ends of the way.

Whoever comes back is somebody who is entered here already, by e-mail or login, or nobody: no person
is made. Browsers are sent here and back, so every end of the way is a page in words, no JSON.
"""

from __future__ import annotations

import base64
import binascii
import logging
import re
import secrets
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.ext.asyncio import AsyncConnection

from schedule import people
from schedule.errors import NotFound
from web.centre import signin
from web.centre.doors import HEADERS
from web.centre.oidc import CALLBACK, Oidc, OidcError, Way
from web.centre.signing import enter, keep_cookie
from web.centre.table import Anyone, Ask, Query, Redirect, Route

log = logging.getLogger("web.centre")

COOKIE: Final = "terrace_oidc"
PATH: Final = "/api/signin/oidc"
GOOD_FOR_S: Final = 600
_OURS: Final = re.compile(r"/centre([/?][!-\[\]-~]*)?", re.ASCII)
_COOKIE: Final = re.compile(r"([A-Za-z0-9_-]{43})\.([A-Za-z0-9_=-]{0,800})", re.ASCII)


class WaysIn(BaseModel):
    """How one can sign in beside a password. oidc: whose accounts are good here, "" for none's."""

    oidc: str


class Onward(Query):
    """Where to go then: a page of the centre."""

    next: str = Field(default="/centre", max_length=500)


class CameBack(BaseModel):
    """What the provider sends the browser back with; some add more, which is passed over.

    All of it together fits into the line of a request, escaped: 8190 bytes are read.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    code: str = Field(default="", max_length=1800, pattern=r"^[ -~]*$")
    state: str = Field(default="", max_length=100, pattern=r"^[ -~]*$")
    iss: str = Field(default="", max_length=300, pattern=r"^[ -~]*$")
    error: str = Field(default="", max_length=100, pattern=r"^[ -~]*$")


def onward(next_: str) -> str:
    """A page of the centre, whatever was asked for."""
    return next_ if _OURS.fullmatch(next_) else "/centre"


async def see_ways_in(ask: Ask) -> WaysIn:
    return WaysIn(oidc=ask.centre.oidc.host if ask.centre.oidc is not None else "")


def _provider(ask: Ask) -> Oidc:
    if ask.centre.oidc is None:
        raise NotFound("no other accounts are good here")
    return ask.centre.oidc


async def begin_oidc(ask: Ask) -> web.Response:
    oidc, going = _provider(ask), onward(ask.query.next)
    way = Way(secrets.token_urlsafe(32))
    try:
        address = await oidc.address(way)
    except OidcError as error:
        log.warning("oidc-failed why=%r", str(error))
        return _back("provider", going)
    response = _to(address)
    kept = base64.urlsafe_b64encode(going.encode()).decode()
    response.set_cookie(
        COOKIE,
        f"{way.secret}.{kept}",
        httponly=True,
        # The way back is a navigation that begins at the provider: Strict would keep it from us.
        samesite="Lax",
        secure=ask.centre.secure,
        path=PATH,
        max_age=GOOD_FOR_S,
    )
    return response


async def end_oidc(ask: Ask) -> web.Response:
    response = await _end(ask, _provider(ask), ask.query)
    response.del_cookie(COOKIE, path=PATH, samesite="Lax", httponly=True)
    return response


async def _end(ask: Ask, oidc: Oidc, said: CameBack) -> web.Response:
    centre = ask.centre
    cookie = _COOKIE.fullmatch(ask.request.cookies.get(COOKIE, ""))
    if cookie is None or not signin.same(said.state, Way(cookie[1]).state):
        return _back("late", "/centre")
    way, going = Way(cookie[1]), _going(cookie[2])
    if said.iss and said.iss != oidc.client.issuer:
        log.warning("oidc-failed why=%r", f"an answer of {said.iss!r}")
        return _back("provider", going)
    if said.error or not said.code:
        return _back("refused", going)
    # Anybody can make up a cookie and its state, and each try is a request of ours to the provider.
    if centre.limits.by_address.wait_s(ask.address, ask.now):
        return _back("often", going)
    centre.limits.by_address.count(ask.address, ask.now)
    try:
        claims = await oidc.claims(way, said.code)
    except OidcError as error:
        log.warning("oidc-failed why=%r", str(error))
        return _back("provider", going)
    async with centre.store.writing() as connection:
        person_id = await _person_of(connection, claims, oidc.client.claim)
        session = await enter(ask, connection, person_id, by=oidc.host) if person_id else None
    if session is None:
        log.info("oidc-nobody subject=%r address=%s", str(claims["sub"])[:100], ask.address)
        return _back("nobody", going)
    centre.limits.by_address.forgive(ask.address)
    response = _to(going)
    keep_cookie(ask, response, session)
    return response


async def _person_of(connection: AsyncConnection, claims: Mapping[str, Any], claim: str) -> int:
    """Whose account the claims are about, 0 for nobody's.

    An e-mail address that the provider has not verified may be anybody's.
    """
    value = claims.get(claim)
    if not isinstance(value, str):
        return 0
    try:
        if claim == "email":
            if claims.get("email_verified") not in (True, "true"):
                return 0
            return (await people.person_by_email(connection, value)).id
        login = signin.known_login(value)
        found = await people.person_by_login(connection, login)
        return found.id if found.active else 0
    except NotFound:
        return 0


def _going(kept: str) -> str:
    try:
        return onward(base64.urlsafe_b64decode(kept).decode("ascii"))
    except (binascii.Error, ValueError):
        return "/centre"


def _to(address: str) -> web.Response:
    return web.Response(status=303, headers=HEADERS | {"Location": address})


def _back(problem: str, going: str) -> web.Response:
    """To the sign-in page, which has the words for it."""
    return _to(f"/centre/signin?problem={problem}&next={quote(going, safe='')}")


ROUTES = [
    Route("GET", "/api/signin", Anyone(), see_ways_in, "How one can sign in here.",
          answer=WaysIn, by_itself=True),
    Route("GET", PATH, Anyone(), begin_oidc, "Sign in through a provider's accounts.",
          answer=Redirect("To the provider, or back to the sign-in page."), query=Onward,
          status=303, by_itself=True),
    Route("GET", CALLBACK, Anyone(), end_oidc, "Where the provider sends the browser back to.",
          answer=Redirect("To the page that was asked for, or back to the sign-in page."),
          query=CameBack, status=303, by_itself=True),
]  # fmt: skip
