"""The centre's pages over a real HTTP server: both languages, the policy, names and words.

What they do in a browser is tested in tests/live/test_centre_browser.py.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from tests.web.test_pages import WEB, Node, locales, seen
from web import pages
from web.centre.pages import ADDRESSES, add_centre_pages

PATHS = [re.sub(r"\{id[^}]*\}+", "12", address) for address in ADDRESSES]

Client = TestClient[web.Request, web.Application]


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    app = web.Application()
    pages.add_pages(app, Node())
    add_centre_pages(app)
    client = TestClient(TestServer(app))
    await client.start_server()
    yield client
    await client.close()


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(("language", "tag"), [("en", "en"), ("zh", "zh-CN")])
async def test_a_page_is_wholly_in_its_language(
    client: Client, path: str, language: str, tag: str
) -> None:
    response = await client.get(path, headers={"Accept-Language": language})
    page = await seen(response)
    assert (response.status, response.headers["Content-Language"]) == (200, tag)
    assert dict(page.elements)["html"]["lang"] == tag
    here, there = locales()[language], locales()["zh" if language == "en" else "en"]
    words = {line.strip() for line in page.text.splitlines()}
    assert words & set(here.values())
    assert words & (set(there.values()) - set(here.values())) == set()


@pytest.mark.parametrize("path", PATHS)
async def test_a_page_holds_nothing_that_its_policy_refuses(client: Client, path: str) -> None:
    """No inline script or style, nothing from elsewhere, and every file that it names is there."""
    response = await client.get(path)
    page = await seen(response)
    assert "unsafe" not in response.headers["Content-Security-Policy"]
    for tag, attrs in page.elements:
        assert not [name for name in attrs if name.startswith("on") or name == "style"], tag
        assert tag != "style"
    for address in page.attributes("src") + page.attributes("href"):
        assert re.match(r"[/?#](?!/)", address), address
        if address.startswith("/static/"):
            assert (await client.get(address)).status == 200, address


@pytest.mark.parametrize("path", PATHS)
async def test_a_page_has_the_words_that_its_modules_ask_for(client: Client, path: str) -> None:
    """A key that is missing there would be shown to people instead of words."""
    page = await seen(await client.get(path))
    names = [f"{ADDRESSES_OF[path]}.js"]
    known = page.data["strings"].keys()
    for name in names:  # grows: modules that import others
        text = (WEB / "static" / name).read_text(encoding="utf-8")
        names += [one for one in re.findall(r'from "\./([\w-]+\.js)"', text) if one not in names]
        for key in re.findall(r"""\bt\(["'`](centre\.[\w.${}()-]+)["'`]""", text):
            pattern = re.sub(r"\\\$\\\{.*?\\\}", r"[\\w.-]+", re.escape(key))
            assert any(re.fullmatch(pattern, one) for one in known), f"{name} asks for {key}"


ADDRESSES_OF = dict(zip(PATHS, ADDRESSES.values(), strict=True))


@pytest.mark.parametrize("path", PATHS)
async def test_every_input_has_a_label_and_every_id_is_there_once(
    client: Client, path: str
) -> None:
    page = await seen(await client.get(path))
    ids = page.attributes("id")
    assert len(ids) == len(set(ids))
    labelled = set(page.attributes("for"))
    for tag, attrs in page.elements:
        if tag in ("input", "select", "textarea") and attrs.get("type") != "checkbox":
            wrapped = attrs["id"] in ("unit", "zone") and "calendar" in path
            assert attrs["id"] in labelled or wrapped, attrs


@pytest.mark.parametrize("path", PATHS)
async def test_every_element_that_a_module_looks_for_is_in_the_template(
    client: Client, path: str
) -> None:
    """A `byId` of what is not there stops the page."""
    page = await seen(await client.get(path))
    ids = set(page.attributes("id"))
    own = f"{ADDRESSES_OF[path]}.js"
    framed = 'from "./centre.js"' in (WEB / "static" / own).read_text(encoding="utf-8")
    for name in (own, *(framed * ["centre.js"])):
        text = (WEB / "static" / name).read_text(encoding="utf-8")
        assert set(re.findall(r'byId\("([\w-]+)"\)', text)) <= ids, name


async def test_a_number_that_is_none_is_no_page(client: Client) -> None:
    for path in ("/centre/series/0", "/centre/series/x", "/centre/occurrence/1e9", "/centre/no"):
        assert (await client.get(path)).status == 404
