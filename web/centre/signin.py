"""Who somebody is: passwords, and the sessions of those who signed in.

A session is a random cookie; the database has only its hash, so that a stolen backup opens no door.
The token against forged requests (CSRF) follows from the cookie: it is worked out, not kept, and a
page that is not ours can read neither.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy import delete, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from schedule import fields, people
from schedule.errors import Invalid
from schedule.people import PersonInfo
from schedule.rights import Grant
from schedule.tables import Person, SignIn

COOKIE = "terrace_session"
LEAST_PASSWORD, MOST_PASSWORD = 10, 256
# A session's last use is written down so often, not with each request.
TOUCH = timedelta(minutes=1)
MOST_SESSIONS = 20
# Each hash takes 64 MiB while it is worked out.
HASHES_AT_ONCE = 2


@dataclass(frozen=True, slots=True)
class Session:
    """A signed-in person. grants: their roles now, not those of when they signed in."""

    token: str
    person: PersonInfo
    grants: tuple[Grant, ...]
    seen_at: datetime

    @property
    def csrf(self) -> str:
        return csrf_of(self.token)


@dataclass(frozen=True, slots=True)
class Lifetime:
    """How long a session lasts, and how long without a request."""

    whole: timedelta
    idle: timedelta


def digest(token: str) -> str:
    """What stands in the database for a secret that is random itself."""
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()


def csrf_of(token: str) -> str:
    """The token that shows that a request comes from a page of ours."""
    return hmac.digest(token.encode(), b"terrace csrf", "sha256").hex()


def same(shown: str, known: str) -> bool:
    """Whether two tokens are the same, in a time that does not depend on where they differ."""
    return hmac.compare_digest(shown.encode("utf-8", "replace"), known.encode())


class Passwords:
    """Makes and checks argon2id hashes, off the event loop, a few at a time."""

    def __init__(self, hasher: PasswordHasher | None = None) -> None:
        self._hasher = hasher or PasswordHasher()
        self._turn = asyncio.Semaphore(HASHES_AT_ONCE)
        self._nobodys = ""

    async def make(self, password: str, login: str = "") -> str:
        """The hash of a new password; Invalid for one that is too short, too long or the login."""
        if not LEAST_PASSWORD <= len(password) <= MOST_PASSWORD:
            raise Invalid(
                f"a password has {LEAST_PASSWORD} to {MOST_PASSWORD} characters", "password"
            )
        if login and password.casefold() == login.casefold():
            raise Invalid("the password must not be the login", "password")
        async with self._turn:
            return await asyncio.to_thread(self._hasher.hash, password)

    async def fits(self, stored: str, password: str) -> bool:
        """Whether a password is the one that was hashed; "" stands for nobody's.

        Takes as long for nobody as for somebody, so that the time does not tell who is here.
        """
        if len(password) > MOST_PASSWORD:
            return False
        if not stored and not self._nobodys:
            self._nobodys = await self.make(secrets.token_hex(16))
        async with self._turn:
            return await asyncio.to_thread(self._check, stored, password)

    def _check(self, stored: str, password: str) -> bool:
        try:
            self._hasher.verify(stored or self._nobodys, password)
        except (VerificationError, InvalidHashError):
            return False
        return bool(stored)


async def password_of(connection: AsyncConnection, login: str) -> tuple[int, str]:
    """The id and the hash of an active person, (0, "") where there is none."""
    row = (
        await connection.execute(
            select(Person.id, Person.password_hash).where(Person.login == login, Person.active)
        )
    ).first()
    return (row.id, row.password_hash) if row is not None else (0, "")


async def set_password(connection: AsyncConnection, person_id: int, hashed: str) -> None:
    """Give a person another password, which ends all their sessions."""
    await connection.execute(
        update(Person).where(Person.id == person_id).values(password_hash=hashed)
    )
    await end_all(connection, person_id)


async def begin(connection: AsyncConnection, person_id: int, now: datetime) -> str:
    """Begin a session; the cookie, which is new each time. The oldest of too many end."""
    token = secrets.token_urlsafe(32)
    await connection.execute(
        insert(SignIn),
        {"token_hash": digest(token), "person_id": person_id, "created_at": now, "seen_at": now},
    )
    newest = (
        select(SignIn.token_hash)
        .where(SignIn.person_id == person_id)
        .order_by(SignIn.seen_at.desc(), SignIn.created_at.desc())
        .limit(MOST_SESSIONS)
    )
    await connection.execute(
        delete(SignIn).where(
            SignIn.person_id == person_id, SignIn.token_hash.not_in(newest.scalar_subquery())
        )
    )
    return token


async def session(
    connection: AsyncConnection, token: str, now: datetime, lifetime: Lifetime
) -> Session | None:
    """Whose cookie this is; None when it is nobody's (any more)."""
    if not token or len(token) > 100:
        return None
    query = (
        select(*people.PERSON_COLUMNS, SignIn.seen_at)
        .join(SignIn, SignIn.person_id == Person.id)
        .where(
            SignIn.token_hash == digest(token),
            SignIn.created_at > now - lifetime.whole,
            SignIn.seen_at > now - lifetime.idle,
            Person.active,
        )
    )
    row = (await connection.execute(query)).first()
    if row is None:
        return None
    person = PersonInfo(*row[:-1])
    return Session(token, person, await people.grants_of(connection, person.id), row.seen_at)


async def touch(connection: AsyncConnection, token: str, now: datetime) -> None:
    """Note that a session was used."""
    await connection.execute(
        update(SignIn).where(SignIn.token_hash == digest(token)).values(seen_at=now)
    )


async def end(connection: AsyncConnection, token: str) -> None:
    """End one session; nothing happens when it has ended."""
    await connection.execute(delete(SignIn).where(SignIn.token_hash == digest(token)))


async def end_all(connection: AsyncConnection, person_id: int) -> None:
    """End all sessions of a person."""
    await connection.execute(delete(SignIn).where(SignIn.person_id == person_id))


async def sweep(connection: AsyncConnection, now: datetime, lifetime: Lifetime) -> int:
    """Take out sessions whose time is over; how many. To be called once an hour."""
    done = await connection.execute(
        delete(SignIn).where(
            or_(SignIn.created_at <= now - lifetime.whole, SignIn.seen_at <= now - lifetime.idle)
        )
    )
    return int(done.rowcount)


def known_login(text: str) -> str:
    """A login as it may stand in the database, "" for what no login can be."""
    try:
        return fields.code(text, "login")
    except Invalid:
        return ""
