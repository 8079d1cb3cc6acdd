"""Signing in: sessions, forged requests, fixed sessions, guessing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
from sqlalchemy import select

from schedule.tables import SignIn
from tests.web.centre.people import PASSWORD, Browser, Clock
from web.centre.centre import Centre
from web.centre.signin import digest

Open = Callable[[str], Awaitable[Browser]]


async def test_who_signed_in_is_known_until_they_sign_out(browser: Open) -> None:
    one = await browser("boss-P1")
    answer = await one.get("/api/session")
    assert answer.json["person"]["login"] == "boss-P1"
    assert answer.json["roles"] == [{"role": "administrator", "path": "1/2/"}]
    assert (await one.ask("DELETE", "/api/session")).status == 204
    assert (await one.get("/api/session")).status == 401


async def test_the_cookie_is_for_http_only_and_this_site(browser: Open) -> None:
    one = await browser("")
    answer = await one.sign_in("boss-P1")
    said = answer.headers["Set-Cookie"]
    assert "HttpOnly" in said
    assert "SameSite=Lax" in said
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("login", ["boss-P1", "nobody", "", "' OR 1=1 --", "a\x00b", "x" * 999])
async def test_a_wrong_password_and_a_wrong_login_get_the_same_answer(
    browser: Open, login: str
) -> None:
    answer = await (await browser("")).sign_in(login, "wrong password")
    assert answer.status == 401
    assert answer.json["error"] == "the login or the password is wrong"


async def test_the_database_does_not_have_the_cookie(browser: Open, centre: Centre) -> None:
    one = await browser("boss-P1")
    async with centre.store.reading() as connection:
        kept = (await connection.execute(select(SignIn.token_hash))).scalars().all()
    assert kept == [digest(one.cookie)]
    assert one.cookie not in kept


async def test_a_planted_cookie_is_not_taken_over(browser: Open) -> None:
    """Session fixation: whoever planted a cookie, their own session's too, has nothing."""
    attacker = await browser("boss-P2")
    planted = attacker.cookie
    victim = await browser("")
    answer = await victim.ask(
        "POST",
        "/api/session",
        {"login": "boss-P1", "password": PASSWORD},
        headers={"Cookie": f"terrace_session={planted}"},
    )
    assert answer.status == 200
    assert victim.cookie != planted
    # The planted session is over, it has not become the victim's.
    assert (await attacker.get("/api/session")).status == 401


@pytest.mark.parametrize("token", ["", "0" * 64, "é"])
async def test_a_request_without_the_sessions_token_changes_nothing(
    browser: Open, token: str
) -> None:
    one = await browser("boss-P1")
    one.csrf = token
    assert (await one.ask("DELETE", "/api/session")).status == 403
    assert (await one.get("/api/session")).status == 200


async def test_another_sessions_token_is_of_no_use(browser: Open) -> None:
    one, other = await browser("boss-P1"), await browser("boss-P1")
    assert one.csrf != other.csrf
    one.csrf = other.csrf
    assert (await one.ask("DELETE", "/api/session")).status == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
async def test_another_sites_page_cannot_change_anything_nor_sign_in(
    browser: Open, headers: dict[str, str]
) -> None:
    one = await browser("boss-P1")
    assert (await one.ask("DELETE", "/api/session", headers=headers)).status == 403
    credentials = {"login": "boss-P1", "password": PASSWORD}
    answer = await one.ask("POST", "/api/session", credentials, headers=headers)
    assert answer.status == 403


async def test_a_form_cannot_sign_in(browser: Open) -> None:
    """A form of another site can send text/plain without asking first."""
    one = await browser("")
    answer = await one.ask(
        "POST",
        "/api/session",
        data=b'{"login": "boss-P1", "password": "x"}',
        headers={"Content-Type": "text/plain"},
    )
    assert answer.status == 415


async def test_a_session_ends_when_it_is_idle_and_when_it_is_old(
    browser: Open, clock: Clock
) -> None:
    one = await browser("boss-P1")
    clock.forward(hours=7)
    assert (await one.get("/api/session")).status == 200
    clock.forward(hours=7)
    assert (await one.get("/api/session")).status == 200
    clock.forward(hours=8.1)
    assert (await one.get("/api/session")).status == 401
    await one.sign_in("boss-P1")
    for _ in range(5):
        clock.forward(hours=5)
        answer = await one.get("/api/session")
    assert answer.status == 401


async def test_a_new_password_ends_all_other_sessions(browser: Open) -> None:
    one, other = await browser("boss-P1"), await browser("boss-P1")
    wish = {"old": PASSWORD, "new": "another long password"}
    answer = await one.post("/api/me/password", wish)
    assert answer.status == 200
    assert (await one.get("/api/session")).status == 200
    assert (await other.get("/api/session")).status == 401
    assert (await other.sign_in("boss-P1")).status == 401
    assert (await other.sign_in("boss-P1", "another long password")).status == 200


@pytest.mark.parametrize("new", ["short", "", "x" * 257])
async def test_a_bad_new_password_is_refused(browser: Open, new: str) -> None:
    one = await browser("boss-P1")
    answer = await one.post("/api/me/password", {"old": PASSWORD, "new": new})
    assert answer.status == 400
    assert answer.json["field"] == "password"


async def test_guessing_is_slowed_down_and_the_owner_comes_in_later(
    browser: Open, clock: Clock
) -> None:
    one = await browser("")
    for _ in range(10):
        assert (await one.sign_in("boss-P1", "a wrong guess")).status == 401
    answer = await one.sign_in("boss-P1")
    assert answer.status == 429
    assert int(answer.headers["Retry-After"]) == 60
    assert (await one.sign_in("boss-P2")).status == 200
    clock.forward(seconds=61)
    assert (await one.sign_in("boss-P1")).status == 200


async def test_one_address_cannot_try_the_whole_country(browser: Open) -> None:
    one = await browser("")
    statuses = [(await one.sign_in(f"boss-{at}", "a wrong guess")).status for at in range(61)]
    assert statuses == [401] * 60 + [429]
