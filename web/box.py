"""`terrace station`: from settings to a running village box."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path

import aiohttp
import ifaddr

from media.clock import ScriptedWall, SystemWall, Wall
from media.station import Station, StationConfig
from media.window import Hours, Line
from relay import __version__
from relay.access import KeyFileError, read_public_key
from relay.errors import SettingError
from web import station_app
from web.station_settings import StationSettings

log = logging.getLogger("web.box")

TEST_CLOCK = "TERRACE_TEST_CLOCK"
"""Names a script of `media.clock.ScriptedWall`: tests compress a day into minutes by it."""


async def run(settings: StationSettings, environ: Mapping[str, str]) -> None:
    """Runs a box until SIGTERM or SIGINT. Raises SettingError."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_signal_handler(signal.SIGINT, stop.set)
    station = Station(await asyncio.to_thread(config, settings), wall(environ))
    await station_app.serve(station, host=settings.host, port=settings.port, stop=stop)


class NotCarried(Exception):
    """No courses went to the stick or came from it. The text is one sentence."""


async def carry(settings: StationSettings, action: str, stick: Path) -> str:
    """Has the running box carry its courses to or from a stick; what came of it, in words.

    Raises NotCarried.
    """
    host = settings.host if settings.is_loopback else "127.0.0.1"
    url = f"http://{f'[{host}]' if ':' in host else host}:{settings.port}/api/station/parcel"
    body = {"action": action, "folder": str(await asyncio.to_thread(stick.resolve))}
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=5)
    try:
        async with aiohttp.ClientSession(timeout=timeout) as http, http.post(url, json=body) as got:
            told = await got.json()
            if got.status != HTTPStatus.OK:
                raise NotCarried(str(told.get("error", f"the box answers {got.status}")))
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
        raise NotCarried(
            f"no box answers at {url}: start it, or give its --port ({error})"
        ) from error
    lines = [
        f"{len(told['courses'])} courses, {told['copied']} pieces copied "
        f"({told['copied_bytes'] / 1e6:.1f} MB), {told['present']} were there already, "
        f"{told['bad']} were bad",
        *told["problems"],
    ]
    return "\n".join(lines)


def wall(environ: Mapping[str, str]) -> Wall:
    """The machine's clocks, or those of a test. Raises SettingError."""
    script = environ.get(TEST_CLOCK, "")
    if not script:
        return SystemWall()
    try:
        return ScriptedWall.read(Path(script))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SettingError(f"{TEST_CLOCK} names {script}, which is no clock: {error}") from error


def config(settings: StationSettings) -> StationConfig:
    """What the daemon is told. Raises SettingError."""
    county_key = None
    if settings.county_key is not None:
        try:
            county_key = read_public_key(settings.county_key)
        except KeyFileError as error:
            raise SettingError(f"county_key cannot be used: {error}") from error
    return StationConfig(
        folder=settings.folder,
        name=settings.name,
        parents=tuple(settings.parents),
        county_key=county_key,
        cache_bytes=settings.cache_mb * 1_000_000,
        keep_free_bytes=settings.keep_free_mb * 1_000_000,
        line=Line(
            hours=Hours.parse(settings.hours),
            day_bytes=settings.day_mb * 1_000_000,
            rate_bps=settings.rate_kbit * 1000.0,
        ),
        target_hours=settings.target_hours,
        browser_port=settings.browser_port,
        update_command=tuple(settings.update_command),
        version=__version__,
        port=settings.port,
        neighbours=settings.neighbours,
        lan_url="" if settings.is_loopback else _lan_url(settings.host, settings.port),
    )


def _lan_url(host: str, port: int) -> str:
    """Where a telephone in the room reaches the box: the first private address it has."""
    if host not in ("0.0.0.0", "::"):
        return f"http://{f'[{host}]' if ':' in host else host}:{port}"
    found = [
        address.ip
        for card in ifaddr.get_adapters()
        for address in card.ips
        if isinstance(address.ip, str) and not address.ip.startswith(("127.", "169.254."))
    ]
    return f"http://{found[0]}:{port}" if found else f"http://{socket.gethostname()}.local:{port}"
