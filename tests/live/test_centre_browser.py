"""The centre's pages in Chromium: a class is planned by keyboard, clashes, and is seen again.

The whole day of one person at the keyboard, and then an equal check of every page by axe.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import BrowserContext, FilePayload

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
    await tab.until("s.items.length === 0 && !document.querySelector('.entry')")
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
    "units": "#tree button", "people": "#list button",
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
    await tab.page.fill("#site-name", "Lecture hall")
    await tab.page.fill("#site-code", "P1-hall")
    await tab.page.press("#site-code", "Enter")
    await tab.until_text("#sites", "Lecture hall")
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
