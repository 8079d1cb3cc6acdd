"""The pages of courses: the catalogue, the player, and the upload. The same on every node.

What they show they ask of the node, by the URLs of `web/courses.py`.
"""

from __future__ import annotations

from http import HTTPStatus

from aiohttp import web

from relay.access import Access
from web import bearer
from web.courses import COURSE, guard
from web.pages import Pages


def add(app: web.Application, pages: Pages, access: Access) -> None:
    """Add the pages to a node's app."""
    pages.use("courses", "course", "upload")

    async def catalogue(request: web.Request) -> web.StreamResponse:
        return pages.answer(request, "courses")

    async def player(request: web.Request) -> web.StreamResponse:
        return pages.answer(request, "course", request.match_info["course"])

    async def upload(request: web.Request) -> web.StreamResponse:
        return pages.answer(request, "upload")

    async def session(request: web.Request) -> web.StreamResponse:
        """`POST /courses/session`: keep the page's token for its pictures and videos."""
        access.check(bearer.authorization(request))
        response = web.Response(status=HTTPStatus.NO_CONTENT, headers={"Cache-Control": "no-store"})
        bearer.keep(request, response)
        return response

    app.router.add_get("/courses", catalogue)
    app.router.add_post("/courses/session", guard(session))
    app.router.add_get(f"/courses/{COURSE}", player)
    app.router.add_get("/upload", upload)
