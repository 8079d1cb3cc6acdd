"""The centre's pages: the same for everybody; what they show they ask the JSON API for.

Nothing of a person's stands in a page, so that one rendering serves all: its modules ask
`/api/session` who is signed in, and go to the sign-in page when nobody is.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web

from web.pages import RENDERER, Pages

ADDRESSES: Final = {
    "/centre/signin": "centre-signin",
    "/centre": "centre-today",
    "/centre/calendar": "centre-calendar",
    "/centre/series/new": "centre-editor",
    "/centre/series/{id:[1-9][0-9]{0,9}}": "centre-editor",
    "/centre/occurrence/{id:[1-9][0-9]{0,9}}": "centre-occurrence",
    "/centre/approvals": "centre-approvals",
    "/centre/attendance": "centre-attendance",
    "/centre/logbook": "centre-logbook",
    "/centre/units": "centre-units",
    "/centre/people": "centre-people",
    "/room/{id:[1-9][0-9]{0,9}}/console": "room-console",
    "/centre/places": "centre-places",
    "/centre/plans": "centre-plans",
    "/centre/feeds": "centre-feeds",
    "/centre/audit": "centre-audit",
    "/centre/messages": "centre-messages",
    "/centre/account": "centre-account",
}
"""The address of a page, with the id that it is about, and the page's template."""


def add_centre_pages(app: web.Application) -> None:
    """Add them to an app that has the common pages already."""
    pages = app[RENDERER]
    pages.use(*ADDRESSES.values())
    for address, page in ADDRESSES.items():
        app.router.add_get(address, _shower(pages, page))


def _shower(pages: Pages, page: str) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def show(request: web.Request) -> web.Response:
        return pages.answer(request, page, request.match_info.get("id", ""))

    return show
