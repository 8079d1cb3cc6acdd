"""The pages around a village box in Chromium: pairing, roll-call, the county's view, and pictures.

A real box and a real county talk to each other; people are played by clicks and keys. The pictures
go to the folder in SHOTS (default tests/live/output/shots).
"""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from playwright.async_api import Browser, BrowserContext

from media import programme, signed
from media.clock import ScriptedWall
from tests.live import tabs
from tests.live.films import film
from tests.live.tabs import Tab, open_tab, photograph
from tests.media.lessons import Lesson, library, serving
from tests.web import village
from tests.web.test_pages import Node
from tests.web.village import DAY, STATION, Box, CountyNode, box, timetable
from web import pages, station_pages

HOUR = 3600.0
LENGTH_S = 20

pytestmark = [pytest.mark.live, pytest.mark.asyncio(loop_scope="module")]


@pytest.fixture(scope="module")
def rice() -> Lesson:
    return film("rice-1", LENGTH_S, Ed25519PrivateKey.generate())


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with tabs.chromium() as browser:
        yield browser


@pytest_asyncio.fixture(loop_scope="module")
async def context(browser: Browser) -> AsyncIterator[BrowserContext]:
    async with tabs.person(browser) as context:
        yield context


@dataclass
class Village:
    """A county with its pages, and a box below it that is not paired yet."""

    county: CountyNode
    county_url: str
    here: Box


@pytest_asyncio.fixture(loop_scope="module")
async def place(tmp_path: Path, rice: Lesson) -> AsyncIterator[Village]:
    """The box's second parent has the course of its timetable; its clock is right."""
    node = CountyNode(tmp_path / "county", rice)
    app = node.app()
    station_pages.add_county_pages(app, pages.add_pages(app, Node()))
    async with AsyncExitStack() as stack:
        stack.callback(node.county.close)
        url = await stack.enter_async_context(serving(app))
        above = await stack.enter_async_context(library(rice))
        wall = ScriptedWall([(0, time.time())], synchronised=True)
        here = await stack.enter_async_context(
            box(
                tmp_path / "box",
                wall,
                url,
                above.url,
                television=False,
                lan_url="http://192.0.2.20:8780",
            )
        )
        yield Village(node, url, here)


def put_timetable(place: Village, starts_in_s: float) -> None:
    """A class that begins so soon, one that never arrives and a live one."""
    begin = time.time() - DAY + starts_in_s
    items: list[dict[str, object]] = [
        {"id": "rice", "title": "水稻种植", "course": "rice-1", "at": begin,
         "duration_s": LENGTH_S},
        {"id": "gone", "title": "Never arrived", "course": "none", "at": begin + 5 * HOUR,
         "duration_s": 2400},
        {"id": "live", "title": "Reading aloud", "kind": "live", "stream": "reading",
         "at": begin + 6 * HOUR, "duration_s": 2700},
    ]  # fmt: skip
    plan = timetable(items).model_copy(update={"issued_at": village.at(begin - HOUR)})
    county = place.county.county
    county.timetable_keys.append(county.public_key)
    county.put_timetable(STATION, signed.sign(plan, county._key, programme.TYP))


async def pair_by_hand(place: Village, context: BrowserContext) -> tuple[Tab, Tab]:
    """Read the figures off the television and enter them at the county; both pages."""
    tv = await open_tab(context, f"{place.here.url}/tv?lang=en")
    await tv.until("s.screen === 'pairing' && s.told.pairing.state === 'waiting'", 30)
    await tv.until("/\\d{3} \\d{3}/.test(document.getElementById('pairing-code').textContent)")
    figures = re.sub(r"\D", "", await tv.page.inner_text("#pairing-code"))
    await tv.until("document.getElementById('pairing-qr').naturalWidth > 0")
    operator = await open_tab(context, f"{place.county_url}/stations?code={figures}")
    await operator.until_text("#waiting", "waits since")
    # The same mark on both, so that neither is taken in by a third.
    mark = (await tv.page.inner_text("#pairing-print")).split(": ")[1]
    await operator.until_text("#pair-print", mark)
    assert await operator.page.input_value("#code") == f"{figures[:3]} {figures[3:]}"
    await operator.page.fill("#pair-name", "上坪村")
    await operator.page.fill("#pair-id", "Shangping 1")
    await operator.page.keyboard.press("Enter")
    await operator.until_text("#pair-hint", "The id may have small letters")
    await operator.page.fill("#pair-id", STATION)
    await operator.page.keyboard.press("Enter")
    await operator.until_text("#pair-hint", "is paired")
    return tv, operator


async def test_a_box_is_paired_plays_and_its_roll_is_called(
    place: Village, context: BrowserContext
) -> None:
    """Six figures from the television to the operator; then a class, a roll-call and the county."""
    put_timetable(place, 25)
    tv, operator = await pair_by_hand(place, context)
    await tv.until("s.picture === 'recorded' && s.recorded.stillMs < 500", 60)

    said = await tv.stats()
    phone = await open_tab(
        context, f"{place.here.url}/attend?lang=en&code={said['told']['attendUrl'].split('=')[1]}"
    )
    await phone.until_text("#what", "水稻种植")
    await phone.page.fill("#count", "23")
    for name in ("Wu Xiuying", "Shi Yulan"):
        await phone.page.fill("#name", name)
        await phone.page.keyboard.press("Enter")
    await phone.page.click("text=Shi Yulan")
    await phone.page.click("#save")
    await phone.until_text("#saved", "Saved at")
    await phone.until_text("#roll-sum", "1 of 2 here")
    for tab in (tv, operator, phone):
        assert tab.errors == []


async def test_an_old_code_says_what_to_do(place: Village, context: BrowserContext) -> None:
    phone = await open_tab(context, f"{place.here.url}/attend?lang=en&code=AAAAAA")
    await phone.until_text("#problem", "Scan the picture on the television again")
    assert await phone.page.locator("#form").is_hidden()


async def test_pictures_of_the_station_and_of_its_county(
    place: Village, context: BrowserContext
) -> None:
    box_url, county_url = place.here.url, place.county_url
    for language in pages.LANGUAGES:
        tv = await open_tab(context, f"{box_url}/tv?lang={language}")
        await tv.until("s.screen === 'pairing' && s.told.pairing.state === 'waiting'", 30)
        await tv.until("document.getElementById('pairing-qr').naturalWidth > 0")
        await photograph(tv, f"tv-pairing-{language}")
        await tv.page.close()
    put_timetable(place, 3600)
    await pair_by_hand(place, context)
    await place.here.until(lambda state: state["coming"])
    code = place.here.station.sessions[-1].code
    views = [
        ("tv-idle", f"{box_url}/tv", "s.screen === 'idle' && s.told.coming.length > 0"),
        ("box", f"{box_url}/status", "s.told !== null"),
        ("attend", f"{box_url}/attend?code={code}", "s.isDirty === false && s.savedAt === null"),
        ("stations", f"{county_url}/stations", "s.stations.length === 1"),
        ("site", f"{county_url}/stations/{STATION}", "s.station !== null"),
        ("logbook", f"{county_url}/stations/{STATION}/logbook", "s.logbook !== null"),
    ]
    for language in pages.LANGUAGES:
        for name, url, ready in views:
            tab = await open_tab(context, f"{url}{'&' if '?' in url else '?'}lang={language}")
            await tab.until(ready, 30)
            await photograph(tab, f"{name}-{language}", whole=not name.startswith("tv"))
            assert tab.errors == []
            await tab.page.close()
