"""Who asks the centre in these tests: browsers with a cookie, whose every answer is checked."""

from __future__ import annotations

import functools
import io
import re
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import jsonschema_rs
from argon2 import PasswordHasher
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from sqlalchemy import update
from yarl import URL

from relay import __version__
from relay.access import issue
from schedule.store import Store
from schedule.tables import Person
from tests.schedule.network import NOW
from web.centre.openapi import document
from web.centre.routes import ROUTES
from web.centre.signin import COOKIE, Passwords

PASSWORD = "correct horse battery"
# As cheap as argon2 can be: what is tested is that it is asked.
HASHER = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
PASSWORDS = Passwords(HASHER)
KEY = Ed25519PrivateKey.generate()


def pem() -> bytes:
    """KEY's private half, with which tokens are made."""
    return KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def key_file(folder: Path) -> Path:
    """KEY as a file, with which the centre makes tokens."""
    file = folder / "token-key.pem"
    file.write_bytes(pem())
    return file


def token(*, relay: bool) -> dict[str, str]:
    """The header of a node, or of somebody who may only watch."""
    pem = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    said = issue(pem, publish=[], view=["*"], relay=relay, ttl_s=3600, subject="n", now=time.time())
    return {"Authorization": f"Bearer {said}"}


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now

    def forward(self, **by: float) -> None:
        self.now += timedelta(**by)


async def give_passwords(store: Store) -> None:
    """Everybody's password is PASSWORD."""
    async with store.writing() as connection:
        await connection.execute(update(Person).values(password_hash=HASHER.hash(PASSWORD)))


@functools.cache
def openapi() -> dict[str, Any]:
    return document(ROUTES, __version__)


@functools.cache
def _operations() -> list[tuple[str, re.Pattern[str], dict[str, Any]]]:
    return [
        (method.upper(), re.compile(re.sub(r"{[a-z_]+}", "[^/]+", path)), operation)
        for path, methods in openapi()["paths"].items()
        for method, operation in methods.items()
    ]


@functools.cache
def _validator(name: str, status: int) -> jsonschema_rs.Validator:
    operation = next(one for _, _, one in _operations() if one["operationId"] == name)
    schema = operation["responses"][str(status)]["content"]["application/json"]["schema"]
    return jsonschema_rs.validator_for(
        {"$schema": "https://json-schema.org/draft/2020-12/schema"}
        | schema
        | {"components": openapi()["components"]},
        validate_formats=True,
    )


def demand_documented(method: str, path: str, answer: Answer) -> None:
    """AssertionError unless the document says that this may be answered."""
    found = [one for verb, known, one in _operations() if verb == method and known.fullmatch(path)]
    assert found, f"{method} {path} is not in the document"
    name, responses = found[0]["operationId"], found[0]["responses"]
    assert str(answer.status) in responses, f"{name} answered {answer.status}: {answer.text[:300]}"
    content = responses[str(answer.status)].get("content")
    if content is None:
        assert answer.text == "", f"{name} answered a body: {answer.text[:300]}"
    else:
        assert answer.media_type in content, f"{name} answered {answer.media_type}"
        if answer.media_type == "application/json":
            _validator(name, answer.status).validate(answer.json)


class Answer:
    """What came back."""

    def __init__(self, status: int, headers: Any, text: str, media_type: str, json: Any) -> None:
        self.status = status
        self.headers = headers
        self.text = text
        self.media_type = media_type
        self.json = json


class Browser:
    """Keeps cookies and the token against forged requests, as the pages do."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.csrf = ""
        self._http = aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True))

    async def close(self) -> None:
        await self._http.close()

    async def sign_in(self, login: str, password: str = PASSWORD) -> Answer:
        answer = await self.post("/api/session", {"login": login, "password": password})
        if answer.status == 200:
            self.csrf = answer.json["csrf"]
        return answer

    @property
    def cookie(self) -> str:
        return next((one.value for one in self._http.cookie_jar), "")

    def take(self, cookie: str, csrf: str) -> None:
        """Go on with the session of another browser; "" for none."""
        if cookie:
            self._http.cookie_jar.update_cookies({COOKIE: cookie}, URL(self.url))
        self.csrf = csrf

    async def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        data: bytes | io.BytesIO | None = None,
        headers: dict[str, str] | None = None,
        **query: Any,
    ) -> Answer:
        own = {"X-CSRF-Token": self.csrf} if self.csrf else {}
        parameters = {name.rstrip("_"): str(value) for name, value in query.items()}
        async with self._http.request(
            method,
            self.url + path,
            params=parameters,
            json=body if data is None else None,
            data=data,
            headers=own | (headers or {}),
            allow_redirects=False,
        ) as response:
            text = await response.text()
            is_json = response.content_type == "application/json"
            json = await response.json() if is_json else None
            media_type = response.content_type if text else ""
            answer = Answer(response.status, response.headers, text, media_type, json)
        demand_documented(method, path, answer)
        return answer

    async def get(self, path: str, **query: Any) -> Answer:
        return await self.ask("GET", path, **query)

    async def post(self, path: str, body: Any = None, **query: Any) -> Answer:
        return await self.ask("POST", path, body, **query)
