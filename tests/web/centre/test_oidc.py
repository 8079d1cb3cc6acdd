"""Signing in through a provider's accounts, with a real small provider in a process of its own."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import aiohttp
import pytest
import pytest_asyncio
from pydantic import SecretStr

from schedule import audit, people
from schedule.people import NewPerson
from tests.schedule.network import Network
from tests.web.centre.people import Answer, Browser
from tests.web.centre.provider import CLIENT, SECRET
from tests.web.centre.test_signin import Open
from web.centre import oidc_routes
from web.centre.centre import Centre
from web.centre.oidc import CALLBACK, Client, Oidc, OidcError, Way
from web.centre.settings import CentreSettings

BASE = "http://centre.example"
OKAY = {"email": "p1@X.cn", "email_verified": True}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def issuer() -> AsyncIterator[str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.web.centre.provider", stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    port = int(await process.stdout.readline())
    yield f"http://127.0.0.1:{port}"
    process.terminate()
    await process.wait()


@dataclass
class Provided:
    """The provider, and a way through it by hand as a browser goes it."""

    issuer: str

    async def seat(self, **what: Any) -> int:
        """Who sits at the browser; how often the keys were asked for so far."""
        async with (
            aiohttp.ClientSession() as http,
            http.post(f"{self.issuer}/seat", json=what) as answer,
        ):
            return int((await answer.json())["asked_keys"])

    async def consent(self, address: str) -> dict[str, str]:
        """What the provider sends the browser back with."""
        async with (
            aiohttp.ClientSession() as http,
            http.get(address, allow_redirects=False) as answer,
        ):
            assert answer.status == 302, await answer.text()
            parts = urlsplit(answer.headers["Location"])
        assert parts.path == CALLBACK
        return dict(parse_qsl(parts.query))


@pytest.fixture
async def provided(issuer: str, centre: Centre) -> Provided:
    centre.oidc = Oidc(Client(issuer, CLIENT, SECRET, "email"), BASE + CALLBACK)
    found = Provided(issuer)
    await found.seat(claims=OKAY)
    return found


async def through(
    one: Browser, provided: Provided, next_: str = "/centre/calendar?view=month"
) -> Answer:
    began = await one.ask("GET", "/api/signin/oidc", next=next_)
    assert began.status == 303
    return await one.get(CALLBACK, **await provided.consent(began.headers["Location"]))


def problem(answer: Answer) -> str:
    parts = urlsplit(answer.headers["Location"])
    assert (answer.status, parts.path) == (303, "/centre/signin")
    query: dict[str, str] = dict(parse_qsl(parts.query))
    return query["problem"]


async def test_who_is_entered_here_comes_in_and_on_to_the_page_they_wanted(
    browser: Open, provided: Provided, network: Network, centre: Centre
) -> None:
    one = await browser("")
    assert (await one.get("/api/signin")).json == {"oidc": urlsplit(provided.issuer).netloc}
    answer = await through(one, provided)
    assert (answer.status, answer.headers["Location"]) == (303, "/centre/calendar?view=month")
    session = (await one.get("/api/session")).json
    assert session["person"]["login"] == "boss-P1"
    async with centre.store.reading() as connection:
        (entry, *_) = await audit.entries(connection)
    assert (entry.action, dict(entry.detail)) == (
        "sign in",
        {"by": urlsplit(provided.issuer).netloc},
    )


async def test_nobody_is_made_and_nobody_comes_in_by_an_address_that_is_not_theirs(
    browser: Open, provided: Provided, network: Network
) -> None:
    """Unknown, not verified, two people's, nobody's, switched off."""
    async with network.store.writing() as connection:
        unit = network.units["P2A"].id
        await people.add_person(connection, NewPerson(unit, "twin", "Twin", "P2A@x.cn"))
        gone = network.people["P2"]
        await people.change_person(connection, gone, {"active": False})
        before = len(await people.people_below(connection, "1/"))
    for claims in (
        {"email": "new@x.cn", "email_verified": True},
        {"email": "P1@x.cn", "email_verified": False},
        {"email": "P1@x.cn"},
        {"email": "p2a@x.cn", "email_verified": True},
        {"email": "", "email_verified": True},
        {"email": ["P1@x.cn"], "email_verified": True},
        {"email": "P2@x.cn", "email_verified": True},
        {},
    ):
        await provided.seat(claims=claims)
        one = await browser("")
        assert problem(await through(one, provided)) == "nobody", claims
        assert (await one.get("/api/session")).status == 401
    async with network.store.reading() as connection:
        assert len(await people.people_below(connection, "1/")) == before


async def test_a_claim_may_be_the_login_here_and_stand_in_userinfo(
    browser: Open, provided: Provided, centre: Centre
) -> None:
    centre.oidc = Oidc(
        Client(provided.issuer, CLIENT, SECRET, "preferred_username"), BASE + CALLBACK
    )
    await provided.seat(userinfo={"preferred_username": "boss-P2"})
    one = await browser("")
    assert (await through(one, provided)).headers["Location"].startswith("/centre/calendar")
    assert (await one.get("/api/session")).json["person"]["login"] == "boss-P2"
    await provided.seat(userinfo={"preferred_username": "boss-P2", "sub": "u-2"})
    assert problem(await through(await browser(""), provided)) == "provider"


NOW_PAST = 1_000_000_000


@pytest.mark.parametrize(
    "wrong",
    [
        {"token": {"nonce": "another"}},
        {"token": {"aud": "another"}},
        {"token": {"aud": [CLIENT, "another"]}},
        {"token": {"azp": "another"}},
        {"token": {"iss": "https://another.example"}},
        {"token": {"exp": NOW_PAST}},
        {"token": {"iat": 4_000_000_000}},
        {"algorithm": "HS256"},
        {"algorithm": "none"},
        {"foreign_key": True},
        {"answer": {"iss": "https://another.example"}},
        {"answer": {"code": "guessed"}},
    ],
    ids=str,
)
async def test_a_token_that_is_not_for_this_sign_in_opens_nothing(
    browser: Open, provided: Provided, wrong: dict[str, Any]
) -> None:
    await provided.seat(**({"claims": OKAY} | wrong))
    one = await browser("")
    assert problem(await through(one, provided)) == "provider"
    assert (await one.get("/api/session")).status == 401


async def test_an_answer_that_this_browser_did_not_ask_for_is_passed_over(
    browser: Open, provided: Provided
) -> None:
    """Somebody else's answer (a forged sign-in), one used twice, and one that was refused."""
    one, other = await browser(""), await browser("")
    began = await other.ask("GET", "/api/signin/oidc")
    theirs = await provided.consent(began.headers["Location"])
    assert problem(await one.get(CALLBACK, **theirs)) == "late"
    await one.ask("GET", "/api/signin/oidc")
    assert problem(await one.get(CALLBACK, **theirs)) == "late"
    assert (await other.get(CALLBACK, **theirs)).headers["Location"] == "/centre"
    assert problem(await other.get(CALLBACK, **theirs)) == "late"
    await provided.seat(answer={"error": "access_denied", "code": ""})
    assert problem(await through(one, provided)) == "refused"


async def test_another_key_is_asked_for_once_when_the_provider_has_a_new_one(
    browser: Open, provided: Provided, centre: Centre, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = await provided.seat(claims=OKAY)
    assert (await through(await browser(""), provided)).headers["Location"] != ""
    await provided.seat(claims=OKAY, new_key=True)
    # The keys were asked for a moment ago: not again so soon, whoever makes up tokens.
    assert problem(await through(await browser(""), provided)) == "provider"
    monkeypatch.setattr("web.centre.oidc.AGAIN_S", 0.0)
    answer = await through(await browser(""), provided)
    assert answer.headers["Location"].startswith("/centre/calendar")
    assert await provided.seat(claims=OKAY) == before + 2


async def test_a_provider_that_is_down_keeps_nobody_from_signing_in_with_a_password(
    browser: Open, provided: Provided
) -> None:
    await provided.seat(silent=True)
    one = await browser("")
    assert problem(await one.ask("GET", "/api/signin/oidc")) == "provider"
    assert (await one.sign_in("boss-P1")).status == 200


async def test_guessing_codes_is_slowed_down(
    browser: Open, provided: Provided, centre: Centre
) -> None:
    one = await browser("")
    way = Way("a" * 43)
    headers = {"Cookie": f"{oidc_routes.COOKIE}={way.secret}."}
    for _ in range(60):
        centre.limits.by_address.count("127.0.0.1", centre.clock())
    assert (
        problem(await one.ask("GET", CALLBACK, headers=headers, code="guess", state=way.state))
        == "often"
    )


@pytest.mark.parametrize(
    "address",
    [
        "//evil.example/centre",
        "https://evil.example/",
        "/centrefold",
        "/centre\\..\\x",
        "/centre/ü",
        "",
    ],
)
def test_nobody_is_sent_elsewhere_afterwards(address: str) -> None:
    assert oidc_routes.onward(address) == "/centre"


async def test_without_a_provider_there_is_no_such_way(browser: Open) -> None:
    one = await browser("")
    assert (await one.get("/api/signin")).json == {"oidc": ""}
    assert (await one.ask("GET", "/api/signin/oidc")).status == 404
    assert (await one.ask("GET", CALLBACK)).status == 404


async def test_a_provider_that_calls_itself_something_else_is_not_believed(issuer: str) -> None:
    oidc = Oidc(Client(issuer + "/", CLIENT, SECRET, "email"), BASE + CALLBACK)
    with pytest.raises(OidcError, match="calls itself"):
        await oidc.address(Way("x"))
    await oidc.close()


@pytest.mark.parametrize("address", ["http://id.example", "ftp://id.example", "https://", "x"])
def test_a_provider_is_asked_over_https_only(address: str) -> None:
    with pytest.raises(ValueError, match="https"):
        CentreSettings(oidc_issuer=address, oidc_client_id="x", oidc_client_secret=SecretStr("x"))


def test_a_provider_needs_a_client() -> None:
    with pytest.raises(ValueError, match="oidc_client_id"):
        CentreSettings(oidc_issuer="https://id.example")
