"""Puts a node's parts on one HTTP server, and runs the two until they are told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import resource
import signal

from aiohttp import web

from relay import endpoints
from relay.errors import SettingError
from relay.node import Node
from web import pages

log = logging.getLogger("web.app")

STOP_WITHIN_S = 3.0
"""A stopping node has told its viewers and closed its sockets after this long, or is cut off."""


def build_app(node: Node) -> web.Application:
    """The node's signalling and API (`relay.endpoints`) and its pages (`web.pages`) as one app."""
    app = web.Application()
    endpoints.add_routes(app, node)
    pages.add_pages(app, node)
    return app


async def serve(node: Node, *, host: str, port: int) -> None:
    """Runs a node until SIGTERM or SIGINT, then stops it cleanly.

    Raises `relay.errors.SettingError` when the UDP or the TCP port cannot be had.
    """
    _allow_many_connections()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)

    # Media first: a node that answers on HTTP can take a publisher at once.
    await node.start()
    runner = web.AppRunner(build_app(node), access_log=None, shutdown_timeout=0.5)
    try:
        await runner.setup()
        try:
            await web.TCPSite(runner, host, port, backlog=1024).start()
        except OSError as error:
            raise SettingError(
                f"cannot open TCP {host}:{port}: {os.strerror(error.errno or 0)}. "
                "Choose another --port or stop the program that uses it."
            ) from error
        _settle_memory()
        log.info("ready url=http://%s:%d", f"[{host}]" if ":" in host else host, port)
        await stop.wait()
        log.info("stopping")
    finally:
        try:
            async with asyncio.timeout(STOP_WITHIN_S):
                # The server answers until its node has said goodbye: who asks meanwhile gets a 503.
                await node.stop()
                await runner.cleanup()
        except TimeoutError:
            log.warning("stop-cut after_s=%.1f", STOP_WITHIN_S)


def _settle_memory() -> None:
    """Takes what the start has made out of garbage collection for good.

    A full collection held up both threads for 50 ms, most of it spent on modules; and because it
    waits for new objects to grow with the old ones, ended peers (they are cycles) stayed for long.
    """
    gc.collect()
    gc.freeze()


def _allow_many_connections() -> None:
    """Lifts the soft limit of open files to the hard one: every waiting HTTP request takes one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
