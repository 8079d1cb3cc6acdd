"""The pages about a village station: those of the box itself, and those of its county.

The box has the television, the phone's roll-call, its state and its logbook; the county has the
list of its stations, one page for each, and the same logbook. They are the same for everybody, like
all pages; what changes they ask the JSON interfaces for (web/station_app.py, web/stations.py). The
QR pictures are made here: a phone that scans one must not need the internet, and the pages'
policy loads pictures from the box alone.
"""

from __future__ import annotations

import io
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import segno
from aiohttp import web

from web import pages

MAX_QR_CHARACTERS: Final = 512

STATION: Final = "{station:[a-z0-9][a-z0-9-]{0,63}}"

QR_HEADERS: Final = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'",
}


def qr_code(text: str, kind: str = "svg") -> bytes:
    """Return `text` as a QR picture with the quiet zone around it that scanners need.

    text: at most `MAX_QR_CHARACTERS`, a URL
    kind: "svg", or "png" with 10 pixels a module

    Raises `ValueError` for a text that is too long or empty.
    """
    if not 0 < len(text) <= MAX_QR_CHARACTERS:
        raise ValueError(f"a QR code holds 1 to {MAX_QR_CHARACTERS} characters, not {len(text)}")
    out = io.BytesIO()
    # Level M: a quarter of a television's glare and dust is more than enough, and the modules stay
    # large enough for a cheap phone at three metres.
    segno.make(text, error="m", micro=False).save(
        out, kind=kind, scale=10, border=4, dark="#1c2622", light="#ffffff"
    )
    return out.getvalue()


def qr_response(text: str, kind: str) -> web.Response:
    """The picture as an answer; 404 while there is nothing to show."""
    if not text:
        raise web.HTTPNotFound(text="There is nothing to scan now.\n")
    return web.Response(
        body=qr_code(text, kind),
        content_type="image/svg+xml" if kind == "svg" else "image/png",
        headers=QR_HEADERS,
    )


@dataclass(frozen=True, slots=True)
class _Identity:
    """A box as the renderer of pages sees a node."""

    name: str
    tier: str = "village"


@dataclass(frozen=True, slots=True)
class _Box:
    config: _Identity


Handler = Callable[[web.Request], Awaitable[web.Response]]


def add_box_pages(
    app: web.Application,
    name: str,
    *,
    pairing_url: Callable[[web.Request], str],
    attend_url: Callable[[web.Request], str],
) -> None:
    """Add the box's pages and QR pictures to `app`.

    name:        of the station, as it stands in the titles of its pages
    pairing_url: what the QR of the pairing screen says now, "" when the box is paired
    attend_url:  what a phone in the room opens for the roll-call, "" for who may not know it
    """
    rendered = pages.add_common(app, _Box(_Identity(name)))
    rendered.use("tv", "attend", "box", "logbook")

    def page(name: str) -> Handler:
        async def answer(request: web.Request) -> web.Response:
            return rendered.answer(request, name)

        return answer

    def picture(text: Callable[[web.Request], str]) -> Handler:
        async def answer(request: web.Request) -> web.Response:
            return qr_response(text(request), request.match_info["kind"])

        return answer

    async def home(request: web.Request) -> web.Response:
        raise web.HTTPFound("/status")

    app.router.add_get("/", home)
    app.router.add_get("/tv", page("tv"))
    app.router.add_get("/attend", page("attend"))
    app.router.add_get("/status", page("box"))
    app.router.add_get("/logbook", page("logbook"))
    app.router.add_get("/qr/pairing.{kind:svg|png}", picture(pairing_url))
    app.router.add_get("/qr/attend.{kind:svg|png}", picture(attend_url))


def add_county_pages(app: web.Application, rendered: pages.Pages) -> None:
    """Add the operator's pages to a county's `app`.

    rendered: what `pages.add_pages` returned
    """
    rendered.use("stations", "site", "logbook")

    async def stations(request: web.Request) -> web.Response:
        return rendered.answer(request, "stations")

    def about(page: str) -> Handler:
        async def answer(request: web.Request) -> web.Response:
            return rendered.answer(request, page, request.match_info["station"])

        return answer

    app.router.add_get("/stations", stations)
    app.router.add_get(f"/stations/{STATION}", about("site"))
    app.router.add_get(f"/stations/{STATION}/logbook", about("logbook"))
