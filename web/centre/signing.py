"""Signing in and out, and one's own password."""

from __future__ import annotations

import logging

from aiohttp import web
from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncConnection

from schedule import audit
from schedule.errors import Invalid
from schedule.people import PersonInfo
from schedule.rights import Action, Role, places
from web.centre import signin
from web.centre.doors import HEADERS, NotDone
from web.centre.models import Secret
from web.centre.table import Anyone, Ask, Body, Route, SignedIn

log = logging.getLogger("web.centre")


class Credentials(Body):
    """A login with its password."""

    login: Secret
    password: Secret


class Held(BaseModel):
    """A role of a person, for the unit at a path and all below it."""

    role: Role
    path: str


class SignedInAs(BaseModel):
    """Who is signed in. csrf: what the header X-CSRF-Token must say. may: by action, the paths of
    the units at the top of what it is allowed for.
    """

    person: PersonInfo
    csrf: str
    roles: list[Held]
    may: dict[Action, list[str]]


class NewPassword(Body):
    """One's own password, changed by whoever knows the old one."""

    old: Secret
    new: Secret


def _as(session: signin.Session) -> SignedInAs:
    return SignedInAs(
        person=session.person,
        csrf=session.csrf,
        roles=[Held(role=one.role, path=one.path) for one in session.grants],
        may={action: list(places(session.grants, action)) for action in Action},
    )


async def sign_in(ask: Ask) -> web.Response:
    """A new session each time, whatever cookie came along: nobody can plant one."""
    centre, login = ask.centre, signin.known_login(ask.body.login)
    _demand_patience(ask, ask.body.login)
    async with centre.store.reading() as connection:
        person_id, hashed = await signin.password_of(connection, login)
    # Counted before the password is looked at, so that many tries at once are not more tries.
    keys = (
        (centre.limits.by_login, ask.body.login[:100]),
        (centre.limits.by_address, ask.address),
    )
    for limit, key in keys:
        limit.count(key, ask.now)
    if not await centre.passwords.fits(hashed, ask.body.password):
        log.info("sign-in-refused login=%r address=%s", ask.body.login[:64], ask.address)
        raise NotDone(401, "the login or the password is wrong")
    for limit, key in keys:
        limit.forgive(key)
    async with centre.store.writing() as connection:
        # It may have been changed while the old one was looked at.
        if await signin.password_of(connection, login) != (person_id, hashed):
            raise NotDone(401, "the login or the password is wrong")
        session = await enter(ask, connection, person_id)
        if session is None:
            raise NotDone(401, "the login or the password is wrong")
    return _answer(ask, session)


async def enter(
    ask: Ask, connection: AsyncConnection, person_id: int, **detail: str
) -> signin.Session | None:
    """Begin a session in place of the one that came along; None for who is not active (any more).

    detail: more about it, for the audit log.
    """
    await signin.end(connection, ask.request.cookies.get(signin.COOKIE, ""))
    token = await signin.begin(connection, person_id, ask.now)
    session = await signin.session(connection, token, ask.now, ask.centre.lifetime)
    if session is None:
        await signin.end(connection, token)
        return None
    await audit.record(connection, ask.now, person_id, "sign in", f"person:{person_id}", detail)
    return session


def _demand_patience(ask: Ask, login: str) -> None:
    limits = ask.centre.limits
    wait_s = max(
        limits.by_login.wait_s(login[:100], ask.now),
        limits.by_address.wait_s(ask.address, ask.now),
    )
    if wait_s:
        raise NotDone(429, f"too many tries, wait {wait_s} seconds", Retry_After=str(wait_s))


def _answer(ask: Ask, session: signin.Session) -> web.Response:
    response = web.Response(
        text=_as(session).model_dump_json(), content_type="application/json", headers=HEADERS
    )
    keep_cookie(ask, response, session)
    return response


def keep_cookie(ask: Ask, response: web.Response, session: signin.Session) -> None:
    """Have the browser keep a session."""
    response.set_cookie(
        signin.COOKIE,
        session.token,
        httponly=True,
        samesite="Lax",
        secure=ask.centre.secure,
        path="/",
        max_age=ask.centre.settings.session_hours * 3600,
    )


async def who_am_i(ask: Ask) -> SignedInAs:
    return _as(ask.session)


async def sign_out(ask: Ask) -> web.Response:
    await signin.end(ask.connection, ask.session.token)
    response = web.Response(status=204, headers=HEADERS)
    response.del_cookie(signin.COOKIE, path="/", samesite="Lax", httponly=True)
    return response


async def change_my_password(ask: Ask) -> web.Response:
    """Ends all sessions of the person and begins a new one here."""
    centre, person = ask.centre, ask.person
    _demand_patience(ask, person.login)
    async with centre.store.reading() as connection:
        _, hashed = await signin.password_of(connection, person.login)
    centre.limits.by_login.count(person.login, ask.now)
    if not await centre.passwords.fits(hashed, ask.body.old):
        raise Invalid("the old password is wrong", "old")
    centre.limits.by_login.forgive(person.login)
    fresh = await centre.passwords.make(ask.body.new, person.login)
    async with centre.store.writing() as connection:
        await signin.set_password(connection, person.id, fresh)
        token = await signin.begin(connection, person.id, ask.now)
        session = await signin.session(connection, token, ask.now, centre.lifetime)
        if session is None:
            raise NotDone(401, "sign in first")
        await audit.record(connection, ask.now, person.id, "change password", f"person:{person.id}")
    return _answer(ask, session)


ROUTES = [
    Route(
        "POST", "/api/session", Anyone(), sign_in, "Sign in with a password.",
        answer=SignedInAs, body=Credentials, by_itself=True, also=(429,),
    ),
    Route("GET", "/api/session", SignedIn(), who_am_i, "Who is signed in.", answer=SignedInAs),
    Route("DELETE", "/api/session", SignedIn(), sign_out, "Sign out."),
    Route(
        "POST", "/api/me/password", SignedIn(), change_my_password,
        "Change one's own password; all other sessions end.",
        answer=SignedInAs, body=NewPassword, by_itself=True, also=(429,),
    ),
]  # fmt: skip
