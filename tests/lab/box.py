"""Ends of a distribution tree as processes: a library, a spoiling line, stations that fetch.

    python -m tests.lab.box library --port 8700 --segments 150 --segment-bytes 100000
    python -m tests.lab.box line --port 8711 --above 127.0.0.1:8710 --spoil-after 4000000
    python -m tests.lab.box station --folder F --parent URL --segments 150 --segment-bytes 100000

A station is the fetch engine with its cache, plan and neighbours, and nothing around it: it fetches
the whole course, says how much is left in lines of JSON, and goes on serving its neighbours. Every
chunk that it receives is noted in `received` in its folder, in a way that outlives a SIGKILL.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import sys
from pathlib import Path

from aiohttp import web

from media.blob import Blob, manifest_blob
from media.cache import Cache
from media.errors import FetchError
from media.fetch import Fetcher, Source
from media.mirror import Mirror
from media.neighbours import Neighbours
from tests.lab.tcpline import TcpLine
from tests.media.lessons import Lesson, Library, lesson
from web import distribution

TELL_EVERY_S = 0.2


def main() -> None:
    """Run one of them until it is killed."""
    parser = argparse.ArgumentParser(prog="python -m tests.lab.box", description=__doc__)
    commands = parser.add_subparsers(required=True, dest="command")
    for name in ("library", "line", "station"):
        one = commands.add_parser(name)
        one.add_argument("--host", default="127.0.0.1")
        one.add_argument("--port", type=int, default=0)
        one.add_argument("--segments", type=int, default=10)
        one.add_argument("--segment-bytes", type=int, default=20_000)
        one.add_argument("--above", default="")
        one.add_argument("--spoil-after", type=int, default=0)
        one.add_argument("--folder", type=Path)
        one.add_argument("--parent", action="append", default=[])
        one.add_argument("--count", type=int, default=1, help="stations in this process")
        one.add_argument("--address", default="", help="own address on the LAN, for neighbours")
        one.add_argument("--after-neighbour", action="store_true", help="wait for one at first")
        one.add_argument("--parallel", type=int, default=2)
    arguments = parser.parse_args()
    run = {"library": _library, "line": _line, "station": _stations}[arguments.command]
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(run(arguments))


def _say(**words: object) -> None:
    print(json.dumps(words), flush=True)


def _lesson(arguments: argparse.Namespace) -> Lesson:
    return lesson(segments=arguments.segments, segment_bytes=arguments.segment_bytes)


async def _serve(app: web.Application, host: str, port: int) -> int:
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, host, port, backlog=256).start()
    number: int = runner.addresses[0][1]
    return number


async def _library(arguments: argparse.Namespace) -> None:
    here = Library(_lesson(arguments).files)

    async def counters(_: web.Request) -> web.Response:
        return web.json_response({"sent": here.sent, "requests": len(here.ranges)})

    app = web.Application()
    app.router.add_get("/counters", counters)
    app.router.add_get("/{path:.*}", here.answer)
    _say(port=await _serve(app, arguments.host, arguments.port))
    await asyncio.Event().wait()


async def _line(arguments: argparse.Namespace) -> None:
    host, _, port = arguments.above.rpartition(":")
    line = TcpLine(host, int(port))
    await line.listen(arguments.host, arguments.port)
    line.spoil(arguments.spoil_after)
    _say(port=int(line.url.rpartition(":")[2]))
    await line.spoilt.wait()
    _say(spoilt=line.tally.spoilt)
    await asyncio.Event().wait()


async def _stations(arguments: argparse.Namespace) -> None:
    wanted = _lesson(arguments)
    async with asyncio.TaskGroup() as group:
        for number in range(arguments.count):
            folder = arguments.folder / str(number) if arguments.count > 1 else arguments.folder
            group.create_task(_station(arguments, wanted, folder, number))


async def _station(
    arguments: argparse.Namespace, wanted: Lesson, folder: Path, number: int
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    noted = os.open(folder / "received", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    parents = [Source(url) for url in arguments.parent]
    near: list[Neighbours] = []

    def sources() -> list[Source]:
        return [*parents, *(near[0].sources() if near else [])]

    found = asyncio.Event()

    def changed() -> None:
        found.set()
        fetcher.nudge()

    cache = Cache(folder / "cache", 1 << 40)
    cache.open()
    async with contextlib.AsyncExitStack() as stack:
        fetcher = await stack.enter_async_context(
            Fetcher(
                cache,
                sources,
                observe=lambda source, size: void(os.write(noted, b"%s %d\n" % (
                    source.kind.encode(), size))),
            )
        )  # fmt: skip
        if arguments.address:
            app = web.Application()
            distribution.add_pieces(app, lambda: cache)
            port = await _serve(app, arguments.address, 0)
            near.append(
                await stack.enter_async_context(
                    Neighbours(
                        f"box-{os.getpid()}", port,
                        interfaces=[arguments.address], changed=changed,
                    )
                )
            )  # fmt: skip
        if arguments.after_neighbour:
            await found.wait()
        await _fill(arguments, wanted, cache, fetcher, number)


def void(_: object) -> None:
    """Nothing, of anything."""


async def _fill(
    arguments: argparse.Namespace, wanted: Lesson, cache: Cache, fetcher: Fetcher, number: int
) -> None:
    mirror = Mirror(cache, fetcher, [wanted.key.public_key()])
    while True:
        with contextlib.suppress(FetchError):
            entry = await mirror.entry(wanted.course.id)
            break
        await asyncio.sleep(1.0)
    course = entry.course
    _say(station=number, entry=course.id)
    await fetcher.fetch(manifest_blob(course.id, course.renditions[0]))
    blobs: tuple[Blob, ...] = await mirror.pieces(course, course.renditions[0].name)
    async with asyncio.TaskGroup() as group:
        group.create_task(fetcher.stock(lambda: blobs, parallel=arguments.parallel))
        left = -1
        while True:
            now = sum(not cache.holds(blob.sha256) for blob in blobs)
            if now != left:
                left = now
                _say(station=number, left=left, rate_bps=round(fetcher.rate_bps))
            await asyncio.sleep(TELL_EVERY_S)


if __name__ == "__main__":
    main()
    sys.exit(0)
