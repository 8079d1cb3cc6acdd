"""Takes a voter's question for a blind signature up the tree, from the page's own node.

A page talks to the node that it came from. What it asks is between the voter and the centre: a node
passes it on as it is, with the voter's own token, and keeps and notes nothing of it.

    POST /api/occurrences/{id}/room/ballots/{id}/signatures
"""

from __future__ import annotations

import time
from typing import Final

import aiohttp
from aiohttp import hdrs, web

from relay.endpoints import refusal
from relay.errors import Refused
from relay.node import Node

_ID: Final = "[1-9][0-9]{0,9}"
PATH: Final = f"/api/occurrences/{{occurrence:{_ID}}}/room/ballots/{{ballot:{_ID}}}/signatures"
MOST_BYTES: Final = 4096
WITHIN_S: Final = 10.0


def add_passing_on(app: web.Application, node: Node) -> None:
    """Add the route to a node with a parent."""

    async def handle(request: web.Request) -> web.StreamResponse:
        if request.content_type != "application/json":
            # A page of another site can post a form or text to this machine, but not this.
            return refusal(Refused(415, "The body must be application/json."))
        body = await request.content.read(MOST_BYTES + 1)
        while not request.content.at_eof() and len(body) <= MOST_BYTES:
            body += await request.content.read(MOST_BYTES)
        if len(body) > MOST_BYTES:
            return refusal(Refused(413, f"The body has more than {MOST_BYTES} bytes."))
        headers = {"Content-Type": "application/json"}
        if hdrs.AUTHORIZATION in request.headers:
            headers[hdrs.AUTHORIZATION] = request.headers[hdrs.AUTHORIZATION]
        timeout = aiohttp.ClientTimeout(total=WITHIN_S, sock_connect=2)
        parents = node.parents.in_order(time.monotonic()) if node.parents is not None else []
        for parent in parents:
            try:
                url = f"{parent.uplink.url}{request.path}"
                async with parent.uplink.http.post(
                    url, data=body, headers=headers, timeout=timeout
                ) as answer:
                    said = await answer.content.read(MOST_BYTES)
                    return web.Response(
                        status=answer.status, body=said, content_type=answer.content_type
                    )
            except (TimeoutError, aiohttp.ClientError, OSError):
                continue
        return refusal(Refused(503, "The centre cannot be reached; try again.", 3))

    app.router.add_post(PATH, handle)
