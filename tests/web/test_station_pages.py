"""The pages of a box and of its county over HTTP: what is there, and names from outside."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from tests.web.test_pages import HOSTILE, Node, locales, seen
from web import pages, station_pages

BOX_PAGES = {"/tv": "tv", "/attend": "attend", "/status": "box", "/logbook": "logbook"}
COUNTY_PAGES = {
    "/stations": "stations",
    "/stations/shangping-1": "site",
    "/stations/shangping-1/logbook": "logbook",
}
Client = TestClient[web.Request, web.Application]


@dataclass
class Said:
    """What the box would have its QR pictures say."""

    pairing: str = "http://192.0.2.40:8710/stations?code=482913"
    attend: str = "http://192.168.1.20:8780/attend?code=7F3K9Q"


@pytest.fixture
def said() -> Said:
    return Said()


@pytest.fixture
async def box(said: Said) -> AsyncIterator[Client]:
    app = web.Application()
    station_pages.add_box_pages(
        app,
        HOSTILE,
        pairing_url=lambda _: said.pairing,
        attend_url=lambda _: said.attend,
    )
    async with TestClient(TestServer(app)) as client:
        yield client


@pytest.fixture
async def county() -> AsyncIterator[Client]:
    app = web.Application()
    station_pages.add_county_pages(app, pages.add_pages(app, Node()))
    async with TestClient(TestServer(app)) as client:
        yield client


@pytest.mark.parametrize(("path", "page"), BOX_PAGES.items())
@pytest.mark.parametrize("language", pages.LANGUAGES)
async def test_the_box_has_its_pages_in_both_languages(
    box: Client, path: str, page: str, language: str
) -> None:
    response = await box.get(f"{path}?lang={language}")
    found = await seen(response)
    assert (response.status, found.data["page"]) == (200, page)
    assert found.data["node"] == HOSTILE
    assert locales()[language]["common.other_language"] in found.text
    assert "connect-src 'self';" in response.headers["Content-Security-Policy"]
    script = next(src for src in found.attributes("src") if src.endswith(f"/{page}.js"))
    assert (await box.get(script)).status == 200
    for sheet in found.attributes("href"):
        if sheet.endswith(".css"):
            assert (await box.get(sheet)).status == 200, sheet


@pytest.mark.parametrize(("path", "page"), COUNTY_PAGES.items())
async def test_the_county_has_its_pages(county: Client, path: str, page: str) -> None:
    found = await seen(await county.get(path))
    assert found.data["page"] == page
    assert found.data["stream"] == ("" if path == "/stations" else "shangping-1")


@pytest.mark.parametrize("station", ["Shangping", "a.b", "..%2f", "a" * 65, "%3Cb%3E", "-a"])
async def test_what_is_no_station_has_no_page(county: Client, station: str) -> None:
    for path in (f"/stations/{station}", f"/stations/{station}/logbook"):
        response = await county.get(path)
        assert (response.status, response.content_type) == (404, "text/html")


@pytest.mark.parametrize("page", sorted({*BOX_PAGES.values(), *COUNTY_PAGES.values()}))
async def test_a_page_is_sent_all_the_words_that_its_modules_use(page: str) -> None:
    """A module names keys of its own page and of those that the page's strings come with."""
    rooms = {"common", "tier", page, *(one.rstrip(".") for one in pages.MORE_STRINGS[page])}
    every = {key.partition(".")[0] for key in locales()["en"]}
    static = pages.HERE / "static"
    todo, modules = [f"{page}.js"], set()
    while todo:
        name = todo.pop()
        if name not in modules:
            modules.add(name)
            text = (static / name).read_text(encoding="utf-8")
            todo += re.findall(r'from "\./([a-z]+\.js)"', text)
    for name in modules:
        text = (static / name).read_text(encoding="utf-8")
        for key in re.findall(r"""\bt\(\s*(?:[^()"'`]*\?\s*)?["'`]([\w-]+)\.""", text):
            assert key not in every or key in rooms, f"{name} of {page} asks for {key}"


async def test_a_qr_picture_says_what_the_box_says_now(box: Client, said: Said) -> None:
    first = await (await box.get("/qr/pairing.svg")).read()
    assert first.startswith(b"<?xml")
    assert first == station_pages.qr_code(said.pairing)
    said.pairing = said.pairing.replace("482913", "482914")
    response = await box.get("/qr/pairing.svg")
    assert await response.read() not in (b"", first)
    assert response.content_type == "image/svg+xml"
    assert response.headers["Cache-Control"] == "no-store"
    assert (await (await box.get("/qr/attend.png")).read()).startswith(b"\x89PNG")


async def test_there_is_no_qr_picture_of_nothing(box: Client, said: Said) -> None:
    said.pairing = said.attend = ""
    for path in ("/qr/pairing.svg", "/qr/attend.png", "/qr/other.svg", "/qr/attend.gif"):
        response = await box.get(path)
        assert (response.status, response.content_type) == (404, "text/plain")


@pytest.mark.parametrize("text", ["", "x" * 513])
def test_a_qr_code_holds_an_address_and_no_more(text: str) -> None:
    with pytest.raises(ValueError, match="512 characters"):
        station_pages.qr_code(text)


async def test_the_box_begins_with_its_state(box: Client) -> None:
    response = await box.get("/", allow_redirects=False)
    assert (response.status, response.headers["Location"]) == (302, "/status")
