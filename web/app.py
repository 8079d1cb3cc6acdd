"""Puts a node's parts on one HTTP server, and runs the two until they are told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import resource
import signal
from collections.abc import Callable

from aiohttp import web

from media.county import County
from relay import endpoints
from relay.errors import SettingError
from relay.node import Node
from web import (
    course_pages,
    courses,
    distribution,
    memory,
    pages,
    proofs,
    recordings,
    room_papers,
    station_pages,
    stations,
    stays,
    uploads,
)
from web.cache_settings import CacheSettings
from web.library import LibraryRoom
from web.recordings import Recordings
from web.room.hub import Hub
from web.room_files import RoomFiles
from web.workers import Team

log = logging.getLogger("web.app")

STOP_WITHIN_S = 3.0
"""A stopping node has told its viewers and closed its sockets after this long, or is cut off."""


def build_app(
    node: Node,
    team: Team | None = None,
    recorded: Recordings | None = None,
    cache: CacheSettings | None = None,
    room: LibraryRoom | None = None,
    county: County | None = None,
    mount: Callable[[web.Application], None] | None = None,
    attendee: str = "",
    rooms: Hub | None = None,
) -> web.Application:
    """The node's signalling and API (`relay.endpoints`), its courses and its pages as one app.

    `team` passes viewers on to the node's other processes, if it has any; `recorded` records here.
    `cache` says what a node below another keeps of the courses that pass through it; a node that
    has none above it has the library in `room`. `county` is the open book of the stations that
    belong to this node, if it has any. `mount` adds what else the process has. `attendee` is who
    a viewer without a name is in the attendance of a class. `rooms` has the events of the meetings;
    a node that is not the centre makes its own.
    """
    app = web.Application(middlewares=[team.front] if team is not None else [])
    endpoints.add_routes(app, node)
    changed: Callable[[], None] = lambda: None  # noqa: E731
    if node.config.parents:
        cache = cache or CacheSettings()
        keys = cache.read_keys(node.config.access)
        below = distribution.Distribution(node.config, cache, keys)
        distribution.add(app, below)
        node.more_metrics.append(below.metrics)
        if county is not None:
            changed = distribution.add_depot(app, below, county).nudge
        stays.add_passing_on(app, node)
        stays.add(app, node, attendee, stays.to_parent(node))
        room_papers.add_passing_on(app, node)
        RoomFiles(node, cache.room_folder_for(node.config.port), own=False).add(app)
        if county is not None:
            proofs.add(app, county, proofs.to_parent(node))
    elif room is not None:
        courses.add(app, room, node.config.access)
        if county is not None:
            room.asked_for_uses.append(stations.uses_of(county))
        uploads.add(app, room, node.config.access)
    (rooms or Hub(node)).add(app)
    rendered = pages.add_pages(app, node)
    course_pages.add(app, rendered, node.config.access)
    if county is not None:
        stations.add(app, county, node.config.access, changed)
        station_pages.add_county_pages(app, rendered)
    if recorded is not None:
        recordings.add(app, recorded)
    if mount is not None:
        mount(app)
    return app


async def serve(
    node: Node,
    *,
    host: str,
    port: int,
    drain_s: float = 0.0,
    team: Team | None = None,
    recorded: Recordings | None = None,
    room: LibraryRoom | None = None,
    cache: CacheSettings | None = None,
    county: County | None = None,
    mount: Callable[[web.Application], None] | None = None,
    attendee: str = "",
    rooms: Hub | None = None,
) -> None:
    """Runs a node until SIGTERM, SIGINT or a drain, then stops it cleanly.

    `drain_s` is how long SIGTERM lets it hand its viewers over first; a second signal cuts that
    short, and SIGINT never waits.

    Raises `relay.errors.SettingError` when the UDP or the TCP port cannot be had.
    """
    memory.prepare()
    _allow_many_connections()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def terminate() -> None:
        if drain_s > 0 and not node.draining:
            node.crowd.start_drain(drain_s)
        else:
            stop.set()

    loop.add_signal_handler(signal.SIGTERM, terminate)
    loop.add_signal_handler(signal.SIGINT, stop.set)

    # Media first: a node that answers on HTTP can take a publisher at once.
    await node.start()
    runner = web.AppRunner(
        build_app(node, team, recorded, cache, room, county, mount, attendee, rooms),
        access_log=None,
        shutdown_timeout=0.5,
    )
    try:
        await runner.setup()
        try:
            await web.TCPSite(runner, host, port, backlog=1024).start()
        except OSError as error:
            raise SettingError(
                f"cannot open TCP {host}:{port}: {os.strerror(error.errno or 0)}. "
                "Choose another --port or stop the program that uses it."
            ) from error
        if team is not None:
            await team.start()
        memory.settle()
        log.info("ready url=http://%s:%d", f"[{host}]" if ":" in host else host, port)
        await _either(stop, node.crowd.drained)
        log.info("stopping")
    finally:
        try:
            async with asyncio.timeout(STOP_WITHIN_S):
                if recorded is not None:
                    recorded.leave()
                if team is not None:
                    await team.stop()
                # The server answers until its node has said goodbye: who asks meanwhile gets a 503.
                await node.stop()
                await runner.cleanup()
        except TimeoutError:
            log.warning("stop-cut after_s=%.1f", STOP_WITHIN_S)


async def _either(*events: asyncio.Event) -> None:
    """Returns when the first of the events is set."""
    waits = [asyncio.create_task(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()


def _allow_many_connections() -> None:
    """Lifts the soft limit of open files to the hard one: every waiting HTTP request takes one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
