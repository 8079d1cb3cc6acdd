"""The pages people see: the node's index, the watch page and the presenter's page.

A page is one template rendered in one language for at most one stream name; nothing in it depends
on the viewer, so what was rendered is kept and sent again. Everything that changes (streams,
viewers, the media itself) is fetched by the page's ES modules from the node's own HTTP interface.

Static files are read once at start and served from memory under a path that holds the digest of
all of them: a browser may keep them for ever, and after an upgrade no page can mix modules of two
versions, since relative imports stay under the same digest.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import json
import mimetypes
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import quote

import jinja2
from aiohttp import hdrs, web
from aiohttp.helpers import ETag
from markupsafe import Markup

from relay import tree
from relay.errors import Refused

HERE: Final = Path(__file__).parent

LANGUAGES: Final = {"en": "en", "zh": "zh-CN"}
"""Language code in URLs, cookies and file names -> the tag of `<html lang>`."""

DEFAULT_LANGUAGE: Final = "en"
LANGUAGE_COOKIE: Final = "terrace_lang"
TIERS: Final = ("centre", "province", "city", "county", "township", "village")

# Rendered pages kept in memory. A page is about 20 kB with its gzip twin, so this is bounded at
# some 10 MB however many stream names are asked for.
RENDERED_PAGES: Final = 512

PAGE_HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "media-src 'self' blob:; connect-src 'self'; base-uri 'none'; form-action 'self'; "
        "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    "Permissions-Policy": (
        "camera=(self), microphone=(self), display-capture=(self), autoplay=(self), "
        "fullscreen=(self), geolocation=()"
    ),
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
    "Vary": "Accept-Language, Cookie, Accept-Encoding",
}

# A full or draining node names a sibling, which the watch page then asks; which one is not known
# when the page is sent.
WATCH_HEADERS: Final = PAGE_HEADERS | {
    "Content-Security-Policy": PAGE_HEADERS["Content-Security-Policy"].replace(
        "connect-src 'self'", "connect-src 'self' http: https:"
    )
}

# The picture of a station's television is fetched with the operator's token and shown from memory.
SITE_HEADERS: Final = PAGE_HEADERS | {
    "Content-Security-Policy": PAGE_HEADERS["Content-Security-Policy"].replace(
        "img-src 'self'", "img-src 'self' blob:"
    )
}

SITE_PAGES: Final = ("room-site", "room-hall", "room-phone", "room-villages")
ROOM_PAGES: Final = (*SITE_PAGES, "room-console")
"""The pages of a meeting; slides are fetched with the page's token and shown from memory."""

HEADERS: Final = {"watch": WATCH_HEADERS, "site": SITE_HEADERS} | dict.fromkeys(
    ROOM_PAGES, SITE_HEADERS
)
"""What a page is sent with, if not with PAGE_HEADERS."""

# Paths whose callers are programs: they get the node's own plain answers, never a page.
PROGRAM_PATHS: Final = ("/whip", "/whep", "/api", "/static", "/qr", "/healthz", "/metrics")

# The pages about a village station have words in common, beside those of each.
MORE_STRINGS: Final[Mapping[str, tuple[str, ...]]] = {
    "tv": ("station.",),
    "attend": ("station.",),
    "box": ("station.",),
    "logbook": ("station.", "stations.", "site.", "box."),
    "stations": ("station.",),
    "site": ("station.", "stations."),
    "centre-signin": ("centre.all.", "centre.signin."),
    "centre-today": ("centre.all.", "centre.today."),
    "centre-calendar": ("centre.all.", "centre.calendar."),
    "centre-editor": ("centre.all.", "centre.editor."),
    "centre-occurrence": ("centre.all.", "centre.occurrence.", "centre.today.", "centre.editor."),
    "centre-approvals": ("centre.all.", "centre.approvals."),
    "centre-attendance": ("centre.all.", "centre.attendance."),
    "centre-logbook": ("centre.all.", "centre.attendance."),
    "centre-units": ("centre.all.", "centre.units."),
    "centre-people": ("centre.all.", "centre.people."),
    "room-site": ("room.", "present."),
    "room-hall": ("room.",),
    "room-phone": ("room.",),
    "room-villages": ("room.", "station.", "stations.", "box."),
    "room-console": ("room.", "present."),
    "centre-places": ("centre.all.", "centre.places."),
    "centre-plans": ("centre.all.", "centre.plans."),
    "centre-feeds": ("centre.all.", "centre.feeds."),
    "centre-audit": ("centre.all.", "centre.audit."),
    "centre-messages": ("centre.all.", "centre.messages."),
    "centre-account": ("centre.all.", "centre.account."),
}

ROOM: Final = "/room/{id:[1-9][0-9]{0,9}}"
"""The address of a meeting's pages; `id` is the occurrence's."""

_PLACEHOLDER: Final = re.compile(r"\{([a-z_]+)\}")
_UNSAFE_IN_SCRIPT: Final = str.maketrans(
    {
        "<": "\\u003c",
        ">": "\\u003e",
        "&": "\\u0026",
        "\u2028": "\\u2028",
        "\u2029": "\\u2029",
    }
)


class NodeIdentity(Protocol):
    """The part of a node's configuration that pages show."""

    @property
    def name(self) -> str: ...
    @property
    def tier(self) -> str: ...


class PageNode(Protocol):
    """A node as the pages see it; `relay.node.Node` is one."""

    @property
    def config(self) -> NodeIdentity: ...


@dataclass(frozen=True, slots=True)
class Document:
    """One answer held in memory: a rendered page or a static file.

    body:         the bytes as they are
    gzipped:      the same bytes, compressed
    etag:         opaque, without quotes; sent as a weak tag because it stands for both encodings
    content_type: with the charset
    """

    body: bytes
    gzipped: bytes
    etag: str
    content_type: str

    @classmethod
    def of(cls, body: bytes, content_type: str) -> Document:
        """Compress `body` and tag it by its digest."""
        digest = hashlib.sha256(body).hexdigest()[:20]
        return cls(body, gzip.compress(body, 9, mtime=0), digest, content_type)

    def response(
        self, request: web.Request, headers: Mapping[str, str], status: int = HTTPStatus.OK
    ) -> web.Response:
        """Answer `request`: 304 where its If-None-Match names this document, else `status`."""
        known = request.if_none_match or ()
        if status == HTTPStatus.OK and any(tag.value in (self.etag, "*") for tag in known):
            response = web.Response(status=HTTPStatus.NOT_MODIFIED, headers=headers)
        elif "gzip" in request.headers.get(hdrs.ACCEPT_ENCODING, ""):
            response = web.Response(body=self.gzipped, status=status, headers=headers)
            response.headers[hdrs.CONTENT_ENCODING] = "gzip"
            response.headers[hdrs.CONTENT_TYPE] = self.content_type
        else:
            response = web.Response(body=self.body, status=status, headers=headers)
            response.headers[hdrs.CONTENT_TYPE] = self.content_type
        if status == HTTPStatus.OK:
            response.etag = ETag(self.etag, is_weak=True)
        return response


def choose_language(asked: str | None, cookie: str | None, accept_language: str) -> str:
    """Return the code in `LANGUAGES` to answer in.

    asked:           the `lang` of the query, None if absent; wins if it is one of ours
    cookie:          what an earlier answer kept, None if absent
    accept_language: the header (RFC 9110 section 12.5.4), "" if absent; unreadable parts are
                     passed over
    """
    for choice in (asked, cookie):
        if choice in LANGUAGES:
            return choice
    best, best_weight = DEFAULT_LANGUAGE, 0.0
    for part in accept_language.split(","):
        tag, _, parameter = part.strip().partition(";")
        code = tag.strip().lower().partition("-")[0]
        try:
            weight = float(parameter.strip().removeprefix("q=") or 1)
        except ValueError:
            continue
        if code in LANGUAGES and weight > best_weight:
            best, best_weight = code, weight
    return best


def fill(text: str, values: Mapping[str, object]) -> str:
    """Put `values` in the `{name}` places of a locale string; the modules do the same."""
    return _PLACEHOLDER.sub(lambda place: str(values.get(place[1], place[0])), text)


def json_for_script(value: object) -> Markup:
    """Return `value` as JSON that no browser can take for the end of a script element."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return Markup(text.translate(_UNSAFE_IN_SCRIPT))  # noqa: S704  escaped by the line above


@functools.cache
def load_locales(folder: Path = HERE / "locale") -> dict[str, dict[str, str]]:
    """Read the strings of every language: code -> key -> text."""
    return {
        code: json.loads((folder / f"{code}.json").read_text(encoding="utf-8"))
        for code in LANGUAGES
    }


@functools.cache
def load_static(folder: Path = HERE / "static") -> dict[str, Document]:
    """Read the static files, by file name."""
    documents = {}
    for path in sorted(folder.iterdir()):
        if not path.is_file():
            continue
        # Some systems' tables call .js text/plain, and a browser then refuses the module.
        kind = {".js": "text/javascript"}.get(path.suffix) or mimetypes.guess_type(path.name)[0]
        charset = "; charset=utf-8" if kind and kind.startswith("text/") else ""
        documents[path.name] = Document.of(
            path.read_bytes(), (kind or "application/octet-stream") + charset
        )
    return documents


@functools.cache
def _templates() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE / "templates"),
        autoescape=True,
        auto_reload=False,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


class Pages:
    """Renders and serves the pages of one node."""

    def __init__(self, node: PageNode) -> None:
        self._node_name = node.config.name
        self._tier = node.config.tier
        self._locales = load_locales()
        self._static = load_static()
        every_tag = "".join(document.etag for document in self._static.values())
        self._version = hashlib.sha256(every_tag.encode()).hexdigest()[:12]
        self._templates: dict[str, jinja2.Template] = {}
        self._page = functools.lru_cache(RENDERED_PAGES)(self._render)

    def use(self, *pages: str) -> None:
        """Compile the templates of pages that are served here: at the start, so that none is later
        and that a broken one stops it. Some 10 ms each, which a node does not spend on others'.
        """
        for page in pages:
            self._templates[page] = _templates().get_template(f"{page}.html")

    def _render(self, page: str, language: str, stream: str, status: int = 200) -> Document:
        """Render one page.

        page:   a template's name
        stream: the stream's name, "" where the page is not about one; untrusted
        status: an error page's status
        """
        strings = self._locales[language]

        def t(key: str, **values: object) -> str:
            return fill(strings[key], values)

        own = ("common.", "tier.", f"{page}.", *MORE_STRINGS.get(page, ()))
        tier = t(f"tier.{self._tier}") if self._tier in TIERS else self._tier
        data = {
            "page": page,
            "lang": LANGUAGES[language],
            "stream": stream,
            "node": self._node_name,
            "strings": {key: text for key, text in strings.items() if key.startswith(own)},
        }
        html = self._templates[page].render(
            t=t,
            page=page,
            language=language,
            html_lang=LANGUAGES[language],
            other_language="zh" if language == "en" else "en",
            static=f"/static/{self._version}",
            node_name=self._node_name,
            tier=tier,
            stream=stream,
            stream_segment=quote(stream, safe=""),
            status=status,
            data=json_for_script(data),
        )
        return Document.of(html.encode(), "text/html; charset=utf-8")

    def answer(
        self, request: web.Request, page: str, stream: str = "", status: int = 200
    ) -> web.Response:
        """Answer with a page in the language of this request.

        page:   one that is in use
        stream: the name of what the page is about, "" for none; untrusted
        """
        asked = request.query.get("lang")
        language = choose_language(
            asked,
            request.cookies.get(LANGUAGE_COOKIE),
            request.headers.get(hdrs.ACCEPT_LANGUAGE, ""),
        )
        # An error page shows whatever name was asked for; keeping those would push out good ones.
        make = self._page if status == HTTPStatus.OK else self._render
        document = make(page, language, stream, status)
        headers = HEADERS.get(page, PAGE_HEADERS)
        response = document.response(request, headers, status)
        response.headers["Content-Language"] = LANGUAGES[language]
        if asked == language:
            response.set_cookie(
                LANGUAGE_COOKIE, language, max_age=365 * 86400, path="/", samesite="Lax"
            )
        return response

    async def index(self, request: web.Request) -> web.Response:
        """`GET /`: this node and the streams that are live here."""
        return self.answer(request, "index")

    async def watch(self, request: web.Request) -> web.Response:
        """`GET /watch/{stream}`: the player."""
        return self._about_stream(request, "watch")

    async def present(self, request: web.Request) -> web.Response:
        """`GET /present/{stream}`: the presenter's desk."""
        return self._about_stream(request, "present")

    async def room(self, request: web.Request) -> web.Response:
        """`GET /room/{id}`: a site in a meeting; its other pages below that address."""
        page = request.path.removeprefix(f"/room/{request.match_info['id']}").strip("/")
        return self.answer(request, f"room-{page or 'site'}", request.match_info["id"])

    async def tree(self, request: web.Request) -> web.Response:
        """`GET /tree`: this node and all below it, and where a complaint begins."""
        return self.answer(request, "tree")

    def _about_stream(self, request: web.Request, page: str) -> web.Response:
        stream = request.match_info["stream"]
        try:
            tree.check_stream_name(stream)
        except Refused:
            return self.answer(request, "error", stream[:80], HTTPStatus.NOT_FOUND)
        return self.answer(request, page, stream)

    async def static(self, request: web.Request) -> web.Response:
        """`GET /static/{version}/{name}`: a module, a style sheet or a picture."""
        document = self._static.get(request.match_info["name"])
        if document is None:
            raise web.HTTPNotFound(text="There is no such file.\n")
        # A page of the version before may still ask: it gets today's file, but must not keep it.
        current = request.match_info["version"] == self._version
        return document.response(
            request,
            {
                "Cache-Control": "public, max-age=31536000, immutable" if current else "no-cache",
                "X-Content-Type-Options": "nosniff",
                "Vary": "Accept-Encoding",
            },
        )

    @web.middleware
    async def error_page(
        self,
        request: web.Request,
        handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
    ) -> web.StreamResponse:
        """Turn "not found" into a page in words where a person is reading."""
        try:
            return await handler(request)
        except web.HTTPNotFound:
            if request.path.startswith(PROGRAM_PATHS) or request.method not in ("GET", "HEAD"):
                raise
            return self.answer(request, "error", status=HTTPStatus.NOT_FOUND)


RENDERER: Final = web.AppKey("RENDERER", Pages)
"""What renders the pages of an app, for parts that add pages of their own to it."""


def add_common(app: web.Application, node: PageNode) -> Pages:
    """Add to `app` what all pages need: static files and the error page; returns the renderer.

    Strings and static files are read here, so that a broken one stops the start.
    """
    pages = Pages(node)
    pages.use("error")
    app[RENDERER] = pages
    app.middlewares.append(pages.error_page)
    app.router.add_get("/static/{version}/{name}", pages.static)
    return pages


def add_pages(app: web.Application, node: PageNode) -> Pages:
    """Add a node's pages to `app`; returns what renders them, for pages that others add."""
    pages = add_common(app, node)
    pages.use("index", "watch", "present", "tree", *SITE_PAGES)
    # Not aiohttp's own pattern for a segment: it passes over names with braces.
    app.router.add_get("/", pages.index)
    app.router.add_get("/tree", pages.tree)
    app.router.add_get("/watch/{stream:[^/]+}", pages.watch)
    app.router.add_get("/present/{stream:[^/]+}", pages.present)
    for page in ("", "/hall", "/phone", "/villages"):
        app.router.add_get(ROOM + page, pages.room)
    return pages
