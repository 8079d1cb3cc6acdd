"""Mounts the centre on an aiohttp app."""

from __future__ import annotations

import functools
import json

from aiohttp import web

from relay import __version__
from web.centre.centre import Centre
from web.centre.doors import HEADERS, door
from web.centre.openapi import document
from web.centre.routes import ROUTES


def add(app: web.Application, centre: Centre) -> None:
    """Add the API of an open centre."""
    for route in ROUTES:
        app.router.add_route(route.method, route.path, door(centre, route))
    app.router.add_route("GET", "/api/openapi.json", _openapi)


@functools.cache
def _said() -> bytes:
    """The document. It is the same for every centre, and takes a tenth of a second to make."""
    return json.dumps(document(ROUTES, __version__), ensure_ascii=False).encode()


async def _openapi(_request: web.Request) -> web.Response:
    return web.Response(body=_said(), content_type="application/json", headers=HEADERS)
