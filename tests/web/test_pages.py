"""The pages over a real HTTP server: headers, languages, names from outside, and the locale files.

What the pages do in a browser is tested in tests/live/test_pages_browser.py.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from aiohttp import ClientResponse, web
from aiohttp.test_utils import TestClient, TestServer
from hypothesis import given
from hypothesis import strategies as st

from web import pages

WEB = Path(pages.__file__).parent
HOSTILE = """</script><img src=x onerror="alert('1')">&{stream}\u2028"""


@dataclass(frozen=True)
class Identity:
    name: str = "longhua"
    tier: str = "county"


@dataclass(frozen=True)
class Node:
    config: Identity = Identity()


async def serve(node: Node) -> TestClient[web.Request, web.Application]:
    app = web.Application()
    pages.add_pages(app, node)
    client = TestClient(TestServer(app))
    await client.start_server()
    return client


@pytest.fixture
async def client() -> AsyncIterator[TestClient[web.Request, web.Application]]:
    client = await serve(Node())
    yield client
    await client.close()


class Seen(HTMLParser):
    """What a browser would take from a page: elements, text, the data for its modules."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._data = ""
        self._open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] == "script":
            self._data += data
        else:
            self.text += data

    @property
    def data(self) -> dict[str, Any]:
        parsed: dict[str, Any] = json.loads(self._data)
        return parsed

    def attributes(self, name: str) -> list[str]:
        return [value for _, attrs in self.elements if (value := attrs.get(name)) is not None]


async def seen(response: ClientResponse) -> Seen:
    return Seen(await response.text())


# ---------------------------------------------------------------- headers

PAGES = ("/", "/watch/lecture", "/present/lecture", "/nothing/here", "/watch/two%20words")


@pytest.mark.parametrize("path", PAGES)
async def test_every_page_allows_nothing_foreign_and_nothing_inline(
    client: TestClient[web.Request, web.Application], path: str
) -> None:
    """The policy names no host but our own, and the page holds nothing that it would refuse."""
    response = await client.get(path)
    policy = dict(
        part.strip().split(" ", 1)
        for part in response.headers["Content-Security-Policy"].split(";")
    )
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["img-src"] == "'self'"
    # Only a player is sent on to other nodes, which no policy can name beforehand.
    beyond = " http: https:" if path == "/watch/lecture" else ""
    assert policy["connect-src"] == f"'self'{beyond}"
    assert policy["base-uri"] == policy["frame-ancestors"] == "'none'"
    assert "unsafe" not in response.headers["Content-Security-Policy"]
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Referrer-Policy"] == "same-origin"

    page = await seen(response)
    for tag, attrs in page.elements:
        assert not [name for name in attrs if name.startswith("on") or name == "style"], (
            tag,
            attrs,
        )
        assert tag != "style"
        if tag == "script":
            assert attrs["type"] == "application/json" or attrs["src"]
    for address in page.attributes("src") + page.attributes("href"):
        assert re.match(r"[/?#](?!/)", address), address


@pytest.mark.parametrize("path", PAGES)
async def test_no_page_is_kept_without_asking(
    client: TestClient[web.Request, web.Application], path: str
) -> None:
    """It depends on language and cookie, and names the files of this version."""
    response = await client.get(path)
    assert response.headers["Cache-Control"] == "no-cache"
    assert {"Accept-Language", "Cookie"} <= set(response.headers["Vary"].split(", "))


async def test_an_unchanged_page_is_not_sent_twice(
    client: TestClient[web.Request, web.Application],
) -> None:
    first = await client.get("/watch/lecture")
    tag = first.headers["ETag"]
    again = await client.get("/watch/lecture", headers={"If-None-Match": tag})
    assert (again.status, await again.read()) == (304, b"")
    other = await client.get("/watch/lecture?lang=zh", headers={"If-None-Match": tag})
    assert other.status == 200


async def test_a_page_is_compressed_for_who_can_read_it(
    client: TestClient[web.Request, web.Application],
) -> None:
    """A county's sites all open it at once, over the line that then carries the picture."""
    plain = await client.get(
        "/watch/lecture", headers={"Accept-Encoding": "identity"}, auto_decompress=False
    )
    small = await client.get(
        "/watch/lecture", headers={"Accept-Encoding": "gzip"}, auto_decompress=False
    )
    assert "Content-Encoding" not in plain.headers
    assert small.headers["Content-Encoding"] == "gzip"
    packed = await small.read()
    assert gzip.decompress(packed) == await plain.read()
    assert len(packed) < 8000


async def test_static_files_are_kept_for_ever_under_the_address_of_their_version(
    client: TestClient[web.Request, web.Application],
) -> None:
    page = await seen(await client.get("/watch/lecture"))
    addresses = [a for a in page.attributes("src") + page.attributes("href") if "/static/" in a]
    assert {a.rsplit("/", 1)[1] for a in addresses} >= {"watch.js", "whip.js", "base.css"}
    for address in addresses:
        response = await client.get(address)
        assert response.status == 200, address
        assert response.headers["Cache-Control"] == "public, max-age=31536000, immutable"
        tag = response.headers["ETag"]
        again = await client.get(address, headers={"If-None-Match": tag})
        assert again.status == 304
    script = await client.get(next(a for a in addresses if a.endswith("whip.js")))
    assert script.headers["Content-Type"] == "text/javascript; charset=utf-8"


async def test_a_page_of_an_older_version_gets_files_that_it_may_not_keep(
    client: TestClient[web.Request, web.Application],
) -> None:
    """A browser that loads across an upgrade must not pin a new file to the old address."""
    response = await client.get("/static/0123456789ab/watch.js")
    assert (response.status, response.headers["Cache-Control"]) == (200, "no-cache")


@pytest.mark.parametrize(
    "name", ["nothing.js", "..%2Fpages.py", "%2e%2e%2fpages.py", "%2Fetc%2Fpasswd", "watch.js%00"]
)
async def test_nothing_but_the_static_files_is_served(
    client: TestClient[web.Request, web.Application], name: str
) -> None:
    page = await seen(await client.get("/"))
    version = next(a for a in page.attributes("href") if a.startswith("/static/")).split("/")[2]
    response = await client.get(f"/static/{version}/{name}")
    assert response.status == 404
    assert "html" not in response.headers["Content-Type"]


async def test_modules_import_only_each_other() -> None:
    """No build step and no foreign code: every import is a file beside it."""
    for module in (WEB / "static").glob("*.js"):
        text = module.read_text(encoding="utf-8")
        for source in re.findall(r"""\b(?:from|import)(?:\s+|\()["']([^"']+)["']""", text):
            assert (module.parent / source).is_file(), f"{module.name} imports {source}"
        assert not re.search(r"https?://", text), module.name
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", text)


# ---------------------------------------------------------------- languages


@pytest.mark.parametrize(
    ("asked", "cookie", "header", "chosen"),
    [
        (None, None, "", "en"),
        (None, None, "zh-CN,zh;q=0.9,en;q=0.8", "zh"),
        (None, None, "en-GB,en;q=0.9,zh;q=0.8", "en"),
        (None, None, "fr;q=1.0, zh;q=0.3, en;q=0.2", "zh"),
        (None, None, "fr", "en"),
        (None, None, "zh;q=0", "en"),
        (None, None, "zh;q=many, en", "en"),
        (None, "zh", "en", "zh"),
        (None, "fr", "zh", "zh"),
        ("en", "zh", "zh", "en"),
        ("xx", "zh", "en", "zh"),
        ("xx", None, "zh-Hant-TW", "zh"),
    ],
)
def test_language_is_what_was_asked_then_kept_then_preferred(
    asked: str | None, cookie: str | None, header: str, chosen: str
) -> None:
    assert pages.choose_language(asked, cookie, header) == chosen


@given(st.text(max_size=200))
def test_no_header_breaks_the_choice_of_language(header: str) -> None:
    assert pages.choose_language(None, None, header) in pages.LANGUAGES


@pytest.mark.parametrize("path", ["/", "/watch/lecture", "/present/lecture", "/nothing/here"])
@pytest.mark.parametrize(("language", "tag"), [("en", "en"), ("zh", "zh-CN")])
async def test_a_page_is_wholly_in_its_language_and_leads_to_the_other(
    client: TestClient[web.Request, web.Application], path: str, language: str, tag: str
) -> None:
    response = await client.get(path, headers={"Accept-Language": language})
    page = await seen(response)
    assert response.headers["Content-Language"] == tag
    assert dict(page.elements)["html"]["lang"] == tag
    assert page.data["lang"] == tag
    other = "zh" if language == "en" else "en"
    here, there = locales()[language], locales()[other]
    words = {line.strip() for line in page.text.splitlines()}
    assert words & set(here.values())
    assert words & set(there.values()) - set(here.values()) == set()
    switch = next(attrs for _, attrs in page.elements if attrs.get("hreflang"))
    assert (switch["href"], switch["hreflang"]) == (f"?lang={other}", other)


async def test_a_language_that_was_chosen_stays_chosen(
    client: TestClient[web.Request, web.Application],
) -> None:
    english = {"Accept-Language": "en"}
    chosen = await client.get("/?lang=zh", headers=english)
    assert chosen.cookies["terrace_lang"]["samesite"] == "Lax"
    assert (await client.get("/watch/x", headers=english)).headers["Content-Language"] == "zh-CN"
    refused = await client.get("/?lang=%0d%0aSet-Cookie:x", headers=english)
    assert "terrace_lang" not in refused.cookies


def locales() -> dict[str, dict[str, str]]:
    return {
        code: json.loads((WEB / "locale" / f"{code}.json").read_text(encoding="utf-8"))
        for code in pages.LANGUAGES
    }


def test_both_languages_have_the_same_strings_with_the_same_places() -> None:
    english, chinese = locales()["en"], locales()["zh"]
    assert list(english) == list(chinese)
    for key, text in english.items():
        places = sorted(re.findall(r"\{\w+\}", text))
        assert places == sorted(re.findall(r"\{\w+\}", chinese[key])), key
        assert text.strip(), key
        assert chinese[key].strip(), key


def test_no_key_is_written_twice() -> None:
    for code in pages.LANGUAGES:
        text = (WEB / "locale" / f"{code}.json").read_text(encoding="utf-8")
        keys = [key for key, _ in json.loads(text, object_pairs_hook=list)]
        assert len(keys) == len(set(keys)), code


def test_every_string_that_is_used_exists_and_every_one_that_exists_is_used() -> None:
    """Keys that modules put together (`watch.${name}.title`) count as patterns."""
    keys = set(locales()["en"])
    used: set[str] = set()
    sources = [*(WEB / "static").glob("*.js"), *(WEB / "templates").glob("*.html")]
    call = re.compile(r"""\b(?:t|tn|has)\((?:[^()"'`]*\?\s*)?(["'`])([\w.${}-]+)\1""")
    rooms = "|".join(sorted({key.partition(".")[0] for key in keys}))
    quoted = re.compile(rf"""(["'`])((?:{rooms})\.[\w.${{}}-]+)\1""")
    for source in sources:
        text = source.read_text(encoding="utf-8")
        for _, name in call.findall(text) + quoted.findall(text):
            pattern = re.sub(r"\\\$\\\{[^}]*\\\}", r"[\\w.-]+", re.escape(name))
            found = {k for k in keys if re.fullmatch(rf"{pattern}(?:\.one|\.other)?", k)}
            assert found, f"{source.name} asks for {name}"
            used |= found
    used |= {key for key in keys if key.startswith("tier.")}
    assert keys - used == set()


# ---------------------------------------------------------------- names from outside


@pytest.mark.parametrize("name", ["lecture", "a", "x" * 64, "Math.2026_09-01~b", "..."])
async def test_a_stream_name_reaches_the_page(
    client: TestClient[web.Request, web.Application], name: str
) -> None:
    for path in (f"/watch/{name}", f"/present/{name}"):
        response = await client.get(path)
        page = await seen(response)
        assert (response.status, page.data["stream"]) == (200, name)
        assert name in page.text


@pytest.mark.parametrize(
    "name", ["two words", "x" * 65, "梯田", "a/b", "<b>", "a\n", "a\0", "%", "lecture\r\nX: y"]
)
@pytest.mark.parametrize("language", pages.LANGUAGES)
async def test_what_is_no_stream_name_is_told_so_in_words(
    client: TestClient[web.Request, web.Application], name: str, language: str
) -> None:
    for page_name in ("watch", "present"):
        response = await client.get(f"/{page_name}/{quote(name, safe='')}?lang={language}")
        page = await seen(response)
        assert response.status == 404
        assert locales()[language]["error.stream.title"] in page.text
        assert not [a for a in page.attributes("src") if a.endswith(".js")]


async def test_a_hostile_stream_name_is_text(
    client: TestClient[web.Request, web.Application],
) -> None:
    response = await client.get("/watch/" + quote(HOSTILE, safe=""))
    html = await response.text()
    page = Seen(html)
    assert response.status == 404
    assert "<img" not in html
    assert html.count("</script>") == 1
    assert HOSTILE[:80] in page.text
    assert page.data["stream"] == HOSTILE[:80]


@pytest.mark.parametrize("path", ["/", "/watch/lecture", "/present/lecture", "/nothing/here"])
@pytest.mark.parametrize("language", pages.LANGUAGES)
async def test_a_hostile_node_name_and_tier_are_text(path: str, language: str) -> None:
    client = await serve(Node(Identity(name=HOSTILE, tier="<script>1</script>")))
    try:
        html = await (await client.get(f"{path}?lang={language}")).text()
    finally:
        await client.close()
    page = Seen(html)
    assert "<img" not in html
    assert "<script>" not in html
    scripts = [attrs for tag, attrs in page.elements if tag == "script"]
    assert html.count("</script>") == len(scripts)
    assert page.data["node"] == HOSTILE
    assert HOSTILE in page.text


@given(st.recursive(st.text() | st.none(), lambda v: st.dictionaries(st.text(), v, max_size=3)))
def test_data_for_a_script_survives_and_cannot_end_it(value: object) -> None:
    text = str(pages.json_for_script(value))
    assert json.loads(text) == value
    assert not set(text) & set("<>&\u2028\u2029")


async def test_a_page_that_is_not_there_is_a_page_to_people_and_plain_to_programs(
    client: TestClient[web.Request, web.Application],
) -> None:
    for path in ("/nothing", "/watch/", "/watch/a/b", "/present"):
        response = await client.get(path)
        assert (response.status, response.content_type) == (404, "text/html")
        assert locales()["en"]["error.title"] in (await seen(response)).text
    for path in ("/api/nothing", "/whip/x", "/metrics/x"):
        response = await client.get(path)
        assert (response.status, response.content_type) == (404, "text/plain")
    response = await client.post("/nothing")
    assert (response.status, response.content_type) == (404, "text/plain")


async def test_known_tiers_are_translated_and_others_shown_as_they_are() -> None:
    for tier, language, words in [
        ("county", "en", "County"),
        ("county", "zh", "县级"),
        ("hamlet", "zh", "hamlet"),
    ]:
        client = await serve(Node(Identity(tier=tier)))
        try:
            page = await seen(await client.get(f"/?lang={language}"))
        finally:
            await client.close()
        assert words in page.text


# ---------------------------------------------------------------- what it costs


async def test_many_different_names_leave_no_more_than_a_bounded_number_of_pages() -> None:
    """Whoever asks for made-up names costs a render each, and no memory."""
    shown = pages.add_pages(web.Application(), Node())
    for number in range(pages.RENDERED_PAGES + 50):
        shown._page("watch", "en", f"x{number}", 200)
    assert shown._page.cache_info().currsize == pages.RENDERED_PAGES


def test_a_page_that_was_rendered_is_sent_again_as_it_is() -> None:
    """Two thousand sites that open one page together cost one render."""
    shown = pages.add_pages(web.Application(), Node())
    assert shown._page("watch", "zh", "lecture", 200) is shown._page("watch", "zh", "lecture", 200)


# ---------------------------------------------------------------- colours


def tokens() -> list[dict[str, str]]:
    """The colours of the light pages and of the player, by token."""
    text = (WEB / "static" / "tokens.css").read_text(encoding="utf-8")
    found = re.compile(r"--([\w-]+):\s*(#[0-9a-f]{6});")
    light = dict(found.findall(text[text.index(":root {") : text.index("}")]))
    start = text.index(".page-watch {")
    return [light, light | dict(found.findall(text[start : text.index("}", start)]))]


def luminance(colour: str) -> float:
    """Relative luminance (WCAG 2.2), 0 to 1."""
    channels = [int(colour[at:end], 16) / 255 for at, end in pairwise((1, 3, 5, 7))]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("night", [False, True], ids=["light pages", "player"])
@pytest.mark.parametrize(
    ("text", "ground", "ratio"),
    [
        *[
            (t, g, 4.5)
            for t in ("text", "text-soft")
            for g in ("ground", "surface", "surface-sunk")
        ],
        *[(s, f"{s}-ground", 4.5) for s in ("good", "busy", "bad", "calm")],
        ("on-accent", "accent", 4.5),
        ("on-accent", "accent-over", 4.5),
        ("accent", "ground", 4.5),
        ("text", "bad-ground", 4.5),
        ("edge-strong", "surface", 3.0),
        ("focus", "ground", 3.0),
        ("focus", "surface", 3.0),
    ],
)
def test_colours_have_the_contrast_of_wcag_aa(
    text: str, ground: str, ratio: float, night: bool
) -> None:
    colours = tokens()[night]
    light, dark = sorted((luminance(colours[text]), luminance(colours[ground])), reverse=True)
    assert (light + 0.05) / (dark + 0.05) >= ratio
