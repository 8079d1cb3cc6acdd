"""`terrace relay` whose pushes on demand a test commands: `python -m tests.live.raising relay ...`

In a room the node's own hub commands them, in process. Here `PUT /test/raised/{stream}` with a
body of "low", "full" or nothing does, at a node that listens on loopback.
"""

from __future__ import annotations

import sys

from aiohttp import web

from relay import endpoints
from relay.node import Node
from web.cli import main

_add_routes = endpoints.add_routes


def _with_command(app: web.Application, node: Node) -> None:
    async def raised(request: web.Request) -> web.StreamResponse:
        name, layers = request.match_info["stream"], (await request.read()).decode()
        if layers:
            node.raise_up(name, layers)
        else:
            node.lower(name)
        return web.Response(text="done")

    _add_routes(app, node)
    app.router.add_put("/test/raised/{stream}", raised)


if __name__ == "__main__":
    endpoints.add_routes = _with_command
    sys.exit(main(sys.argv[1:]))
