"""The centre's pages in Chromium: a class is planned by keyboard, clashes, and is seen again.

The whole day of one person at the keyboard, and then an equal check of every page by axe.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import BrowserContext, FilePayload
from sqlalchemy import func, insert, select

from schedule.tables import Message, SignIn
from tests.live import tabs
from tests.live.centre_house import House, barriers, house
from tests.live.tabs import Tab, open_tab
from tests.patience import PATIENCE
from tests.web.centre.people import PASSWORD

pytestmark = [pytest.mark.live, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(loop_scope="module")
async def place(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path) as opened:
        yield opened


@pytest_asyncio.fixture(loop_scope="module")
async def context() -> AsyncIterator[BrowserContext]:
    """Somebody at a desk in Shanghai, who has the pages in English."""
    async with tabs.chromium() as browser:
        yield await browser.new_context(
            viewport={"width": 1440, "height": 900}, locale="en-GB", timezone_id="Asia/Shanghai"
        )


async def focused(tab: Tab) -> str:
    """The id of what has the keyboard."""
    return str(await tab.page.evaluate("document.activeElement?.id ?? ''"))


async def tab_to(tab: Tab, wanted: str, most: int = 80) -> None:
    """Go on with the Tab key until the element with this id has the keyboard."""
    for _ in range(most):
        if await focused(tab) == wanted:
            return
        await tab.page.keyboard.press("Tab")
    raise AssertionError(f"the Tab key does not lead to {wanted}")


async def sign_in(tab: Tab, login: str) -> None:
    # A page that goes away answers no question, so the address is not asked of the page.
    await tab.page.wait_for_url("**/centre/signin*", timeout=20_000 * PATIENCE)
    await tab.until("document.activeElement?.id === 'login'")
    await tab.page.keyboard.type(login)
    await tab.page.keyboard.press("Tab")
    await tab.page.keyboard.type(PASSWORD)
    await tab.page.keyboard.press("Enter")
    await tab.page.wait_for_url(lambda url: "/centre/signin" not in url, timeout=20_000 * PATIENCE)


async def test_a_class_is_planned_by_keyboard_past_a_clash_and_seen_again(
    place: House, context: BrowserContext
) -> None:
    """The centre's own meeting goes first: the province sees that while typing, and gives way."""
    tab = await open_tab(context, f"{place.url}/centre/series/new")
    await sign_in(tab, "boss-P1")
    await tab.until("document.activeElement?.id === 'title'")
    day = await tab.page.input_value("#date")
    everybody = (("subtree", place.network.units["C"].id),)
    starts = datetime.fromisoformat(f"{day}T09:00:00")
    await place.confirmed(
        place.network.draft("C", title="Plenary", starts_local=starts, audience=everybody)
    )

    await tab.page.keyboard.type("Rice <b>growing</b>")
    assert await tab.page.input_value("#time") == "09:00"
    await tab.until("s.state === 'good'")
    # The first box of the tree of units is the province itself.
    box = tab.page.locator("#audience input").first
    await box.focus()
    await tab.page.keyboard.press("Space")
    await tab.until("s.state === 'clash' && s.isClashing")
    await tab.until_text("#findings", "Plenary")
    await tab.until_text("#findings", "The other one goes first.")
    assert not await tab.page.locator("#ways").is_hidden()
    assert await barriers(tab.page) == []

    # On to the ways out, and take the last one: later.
    await tab.page.locator("#offers button").last.focus()
    await tab.page.keyboard.press("Enter")
    await tab.until("s.state === 'good' && !document.querySelector('.finding')")
    moved = await tab.page.input_value("#time")
    assert moved != "09:00"
    await tab_to(tab, "submit")
    await tab.page.keyboard.press("Enter")
    await tab.until_text("#said", "It is confirmed")
    await tab.until("s.seriesId > 0 && location.pathname === `/centre/series/${s.seriesId}`")

    await tab.page.goto(f"{place.url}/centre/calendar?day={day}")
    await tab.until_text(".entry", "Rice <b>growing</b>")
    await tab.until_text(".entry", f"{moved}–")
    assert await barriers(tab.page) == []
    await tab.page.keyboard.press("ArrowRight")
    # The days around a week are asked for with it, so its items may have the Sunday before.
    await tab.until(f"s.day > '{day}' && !document.querySelector('.entry')")
    await tab.until_text("#empty", "Nothing takes place in this time.")
    await tab.page.keyboard.press("ArrowLeft")
    await tab.until_text(".entry", "Rice <b>growing</b>")

    await tab.page.goto(f"{place.url}/centre")
    await tab.until_text("#next-title", "Plenary")
    await tab.until_text("#coming", "Rice <b>growing</b>")
    await tab.until_text("#countdown", "in ")
    assert await barriers(tab.page) == []

    await tab.page.click("text=Rice <b>growing</b>")
    await tab.page.wait_for_url("**/centre/occurrence/*", timeout=20_000 * PATIENCE)
    await tab.until_text("#facts", moved)
    assert await barriers(tab.page) == []
    await tab.page.click("#sign-out")
    await tab.page.wait_for_url("**/centre/signin*", timeout=20_000 * PATIENCE)
    await tab.page.goto(f"{place.url}/centre")
    await tab.page.wait_for_url("**/centre/signin*", timeout=20_000 * PATIENCE)
    assert await barriers(tab.page) == []
    assert tab.errors == []


OTHERS = {
    "approvals": "#empty", "attendance": "#table tr", "logbook": "#empty",
    "units": "#tree button", "people": "#list button", "places": "#list button",
    "plans": "#empty", "feeds": "#empty", "account": "#facts dd",
}  # fmt: skip


async def test_the_pages_of_a_keeper_of_units_say_something_and_bar_nobody(
    place: House, context: BrowserContext
) -> None:
    """Each asks the API for what it shows; a file with a bad line is refused with its number."""
    tab = await open_tab(context, f"{place.url}/centre/signin")
    await sign_in(tab, "boss-P1")
    for name, seen in OTHERS.items():
        await tab.page.goto(f"{place.url}/centre/{name}")
        await tab.page.locator(seen).first.wait_for(timeout=20_000 * PATIENCE)
        assert await barriers(tab.page) == [], name
        assert await tab.page.locator("#problem").is_hidden(), name
    await tab.page.goto(f"{place.url}/centre/units")
    await tab.page.locator("#one").wait_for(timeout=20_000 * PATIENCE)
    bad: FilePayload = {
        "name": "sites.csv",
        "mimeType": "text/csv",
        "buffer": b"code,name,unit\nx,Hall,nowhere\n",
    }
    await tab.page.select_option("#kind", "sites")
    await tab.page.set_input_files("#file", bad)
    await tab.page.click("#try")
    await tab.until_text("#bad tr", "nowhere")
    assert await tab.page.locator("#apply").is_hidden()
    assert tab.errors == []


async def press(tab: Tab, wanted: str) -> None:
    """Press a button as the keyboard does."""
    await tab.page.locator(wanted).first.focus()
    await tab.page.keyboard.press("Enter")


async def test_sites_are_added_renamed_moved_and_taken_out(
    place: House, context: BrowserContext
) -> None:
    tab = await open_tab(context, f"{place.url}/centre/places")
    await sign_in(tab, "boss-P1")
    await tab.page.locator("#list button").first.wait_for(timeout=20_000 * PATIENCE)
    await tab.page.fill("#add-name", "Lecture hall")
    await tab.page.fill("#add-code", "P1-hall")
    await tab.page.press("#add-code", "Enter")
    await tab.until("s.place?.code === 'P1-hall'")
    await tab.until_text("#list", "Lecture hall")
    await tab.page.fill("#name", "Great hall")
    await tab.page.fill("#home", "P1A")
    assert await barriers(tab.page) == []
    await tab.page.press("#home", "Enter")
    await tab.until_text("#list", "P1-hall · P1A")
    await tab.until_text("#shown", "Great hall")
    # Nobody loses something by one slip: the dialog begins at "no".
    await press(tab, "#remove")
    await tab.until("document.activeElement?.id === 'sure-no'")
    assert await barriers(tab.page) == []
    await tab.page.keyboard.press("Escape")
    await tab.until("!document.querySelector('#sure').open && s.place?.name === 'Great hall'")
    await press(tab, "#remove")
    await tab.page.keyboard.press("Tab")
    await tab.page.keyboard.press("Enter")
    await tab.until_text("#said", "removed")
    await tab.until("s.places.every((one) => one.code !== 'P1-hall')")
    await tab.page.select_option("#kind", "station")
    await tab.until("s.places.length > 0 && s.places.every((one) => one.code.endsWith('-s'))")
    assert tab.errors == []


CALENDAR = b"""BEGIN:VCALENDAR
VERSION:2.0
PRODID:x
BEGIN:VEVENT
UID:1@x
DTSTART:20300304T010000Z
DTEND:20300304T020000Z
SUMMARY:From <i>a file</i>
END:VEVENT
END:VCALENDAR
"""


async def test_plans_come_from_a_file_and_from_last_week_and_go_again(
    place: House, context: BrowserContext
) -> None:
    tab = await open_tab(context, f"{place.url}/centre/plans")
    await sign_in(tab, "boss-P1")
    await tab.page.locator("#empty").wait_for(timeout=20_000 * PATIENCE)
    file: FilePayload = {"name": "x.ics", "mimeType": "text/calendar", "buffer": CALENDAR}
    await tab.page.set_input_files("#file", file)
    await press(tab, "#try")
    await tab.until_text("#outcome", "1 would become drafts, 0 would be left out.")
    await tab.until_text("#events", "From <i>a file</i>")
    assert await barriers(tab.page) == []
    assert await tab.page.locator("#list .row-line").count() == 0
    await press(tab, "#apply")
    await tab.until_text("#list", "From <i>a file</i>")
    await press(tab, "#list button >> text=Remove")
    await press(tab, "#sure-yes")
    await tab.until_text("#said", "is removed")
    await tab.until("s.plans.length === 0")

    # What was over before it was planned is no booking, so the week is one to come.
    day = datetime.fromisoformat(await tab.page.input_value("#copy-day")) + timedelta(days=14)
    starts = day.replace(hour=9)
    await place.confirmed(place.network.draft("P1", title="Last week's", starts_local=starts))
    await tab.page.fill("#copy-day", day.date().isoformat())
    await press(tab, "#copy-form button")
    await tab.until_text("#said", "1 draft was made.")
    await tab.until_text("#list", "Last week's")
    await press(tab, "#list button >> text=Submit")
    await tab.until_text("#said", "is confirmed")
    await tab.until("s.plans.length === 0")
    assert tab.errors == []


async def test_one_date_of_a_series_is_moved_cancelled_and_brought_back(
    place: House, context: BrowserContext
) -> None:
    starts = datetime.now(UTC).replace(tzinfo=None, hour=9, minute=0, second=0, microsecond=0)
    plan = place.network.draft(
        "P1", title="Weekly", starts_local=starts + timedelta(days=2), rule="FREQ=WEEKLY;COUNT=3"
    )
    await place.confirmed(plan)
    plan = place.network.draft("P1", title="In the way", starts_local=starts + timedelta(days=3))
    boss = place.network.people["P1"]
    await place.confirmed(replace(plan, presenter_id=boss))
    tab = await open_tab(context, f"{place.url}/centre")
    await sign_in(tab, "boss-P1")
    await tab.until_text("main", "Weekly")
    await press(tab, "#door")
    await tab.page.locator("#single").wait_for(timeout=20_000 * PATIENCE)
    later = (starts + timedelta(days=3)).date().isoformat()
    await tab.page.fill("#single-date", later)
    await tab.page.select_option("#single-presenter", str(boss))
    await tab.page.press("#single-minutes", "Enter")
    await tab.until_text("#single-findings", "In the way")
    assert await barriers(tab.page) == []
    await tab.page.fill("#single-time", "16:30")
    await tab.page.fill("#single-minutes", "30")
    await tab.page.press("#single-minutes", "Enter")
    await tab.until_text("#single-said", "This date is changed.")
    await tab.until_text("#facts", "16:30–17:00")
    await press(tab, "#single-cancel")
    await press(tab, "#sure-yes")
    await tab.until_text("#chip", "Cancelled")
    await press(tab, "#single-back")
    await tab.until_text("#chip", "Planned")
    await tab.until_text("#facts", "09:00–09:45")
    assert tab.errors == []


async def test_a_calendar_link_is_made_shown_once_and_renewed(
    place: House, context: BrowserContext
) -> None:
    tab = await open_tab(context, f"{place.url}/centre/feeds")
    await sign_in(tab, "boss-P1")
    await tab.page.select_option("#kind", "site")
    await tab.until("document.querySelector('#place').options.length > 0")
    await press(tab, "#add-form button")
    await tab.until("document.activeElement?.id === 'address'")
    first = await tab.page.input_value("#address")
    assert first.startswith("http://centre.example/feeds/")
    assert await barriers(tab.page) == []
    await press(tab, "#list button >> text=Renew")
    await press(tab, "#sure-yes")
    await tab.until_text("#said", "The old address is good no longer.")
    await tab.until(f"document.querySelector('#address').value !== '{first}'")
    await tab.page.reload()
    await tab.until_text("#list", "Hall")
    assert await tab.page.locator("#address-card").is_hidden()
    await press(tab, "#list button >> text=Remove")
    await press(tab, "#sure-yes")
    await tab.until("s.feeds.length === 0")
    assert tab.errors == []


async def test_the_top_sees_the_log_and_decides_about_what_stuck(
    place: House, context: BrowserContext
) -> None:
    now = place.centre.clock()
    async with place.centre.store.writing() as connection:
        for number, state in enumerate(("failed", "unknown")):
            values = {
                "key": f"k{number}", "channel": "sms", "recipient": f"+86 {number}{number}{number}",
                "subject": "A <b>reminder</b>", "body": "B", "state": state, "try_at": now,
                "expires_at": now + timedelta(days=1), "error": "500",
            }  # fmt: skip
            await connection.execute(insert(Message), values)
    tab = await open_tab(context, f"{place.url}/centre/messages")
    await sign_in(tab, "boss-C")
    await tab.until_text("#list", "A <b>reminder</b>")
    assert await barriers(tab.page) == []
    await press(tab, "#list button >> text=Let it be")
    await tab.until("s.messages.length === 1")
    await press(tab, "#list button >> text=Send again")
    await tab.until_text("#empty", "All messages were sent.")
    await tab.page.goto(f"{place.url}/centre/audit")
    await tab.until_text("#entries", "Message sent again")
    await tab.until_text("#entries", "Boss C")
    assert await barriers(tab.page) == []
    await tab.page.click("#entries a >> text=Message 2")
    await tab.until_text("#chosen", "Only: Message 2")
    await tab.until("s.entries.length === 1")
    assert tab.errors == []


async def test_another_password_is_asked_for_twice_and_keeps_this_browser_in(
    place: House, context: BrowserContext
) -> None:
    tab = await open_tab(context, f"{place.url}/centre/account")
    await sign_in(tab, "boss-P2")
    await tab.until_text("#facts", "Administrator, P2")
    wishes = [
        ("a wrong guess", "a new password", "another one", "again", "differ"),
        ("a wrong guess", "short", "short", "new", "at least 10"),
        ("a wrong guess", "a new password", "a new password", "old", "not the password"),
        (PASSWORD, "a new password", "a new password", "", "Your password is changed."),
    ]
    for old, new, again, field, words in wishes:
        await tab.page.fill("#old", old)
        await tab.page.fill("#new", new)
        await tab.page.fill("#again", again)
        await tab.page.press("#again", "Enter")
        await tab.until_text("#said", words)
        if field:
            assert await focused(tab) == field
    assert await barriers(tab.page) == []
    # The token of the new session is the one that is shown from now on.
    await tab.page.click("#sign-out")
    await tab.page.wait_for_url("**/centre/signin*", timeout=20_000 * PATIENCE)
    async with place.centre.store.reading() as connection:
        assert await connection.scalar(select(func.count()).select_from(SignIn)) == 0
    assert tab.errors == []


async def test_a_wrong_password_is_told_and_a_foreign_address_is_not_gone_to(
    place: House, context: BrowserContext
) -> None:
    tab = await open_tab(context, f"{place.url}/centre/signin?next=//evil.example/centre")
    await tab.until("document.activeElement?.id === 'login'")
    await tab.page.keyboard.type("boss-P1")
    await tab.page.keyboard.press("Tab")
    await tab.page.keyboard.type("a guess")
    await tab.page.keyboard.press("Enter")
    await tab.until_text("#problem", "wrong")
    assert await focused(tab) == "password"
    await tab.page.keyboard.type(PASSWORD)
    await tab.page.keyboard.press("Enter")
    await tab.until_text("#next-title", "Nothing is planned")
    assert tab.page.url == f"{place.url}/centre"
