"""Slides over a thin line: pages come on time while sound goes on.

A node with sixty drawn pages stands in one namespace, a site in the next, with a line of 128 kbit/s
between them: sound and pages share its queue, as they do in a county. The site does what its page
does: it has the page that is shown, then the next one ahead (`static/room-parts.js`).
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from media.slides import Slides
from relay.access import Access
from relay.endpoints import add_routes
from relay.node import Node, NodeConfig
from tests.bench.dtls import Identity
from tests.bench.peer import Peer
from tests.bench.source import AUDIO_INTERVAL_NS, Kind
from tests.lab.arrivals import Arrivals
from tests.lab.namespaces import Row
from tests.lab.probe import Probe
from tests.lab.proxy import ROOT
from tests.live.publishers import BarePublisher
from tests.media.papers import pdf
from web.room.hub import Hub
from web.room.root import Event
from web.room_files import RoomFiles

PORT = 8710
ROOM = 5
STREAM = f"class-{ROOM}"
BURST_BYTES = 2000
"""A packet: a line of copper has no credit for what it did not carry."""
SETTLE_S = 3.0
READY_WITHIN_S = 180.0


@dataclass(frozen=True, slots=True)
class SlidesRow:
    """What came of it.

    late_ms: how long after each turn its page was there. line_bps: what the line carries downwards.
    stall_ms: the longest time between two packets of sound, which are 20 ms apart; waited_ms: how
    much longer than the quickest they were under way, 99 in 100 and the longest. unrepaired: of
    `sound_packets`, those that never came.
    """

    line_bps: float
    pages: int
    every_s: float
    page_bytes: int
    late_median_ms: float
    late_max_ms: float
    sound_packets: int
    unrepaired: int
    stall_ms: float
    waited_p99_ms: float
    waited_max_ms: float


class Everybody:
    """A root that knows the room and keeps nothing."""

    def knows(self, room: int) -> bool:
        return room == ROOM

    async def take(self, room: int, events: Sequence[Event]) -> None:
        pass

    def tallied(self, room: int, poll: int, counts: list[int], voters: int) -> None:
        pass

    def present(self, room: int, sites: frozenset[int], viewers: int) -> None:
        pass


class Sound(BarePublisher):
    """A publisher without a picture."""

    def __init__(self, url: str, host: str) -> None:
        super().__init__(url, STREAM)
        self._peer = Peer(Identity("aes128-gcm"), host)

    async def __aenter__(self) -> Sound:
        await self._peer.join(self._client, self._path, "sendonly", self._source.ssrcs)
        asyncio.get_running_loop().add_reader(self._peer.sock, self._readable)
        self._tasks = [
            asyncio.create_task(self._send_media(Kind.AUDIO, AUDIO_INTERVAL_NS)),
            asyncio.create_task(self._report()),
        ]
        return self


async def node(host: str, pages: int, every_s: float, turned: int) -> None:
    """The node's process: it says when it is ready, and turns pages once something is said."""
    with tempfile.TemporaryDirectory() as name:
        _, drawn = await Slides(Path(name)).draw(pdf(pages))
        one = Node(NodeConfig(Access.open_mode(), host=host, port=PORT))
        hub = Hub(one, Everybody())
        app = web.Application()
        add_routes(app, one)
        hub.add(app)
        RoomFiles(one, Path(name), own=True).add(app)
        await one.start()
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, host, PORT).start()
        hub.set(ROOM, "deck:1", {"pages": [page.as_json() for page in drawn], "type": "pdf"})
        async with Sound(f"http://{host}:{PORT}", host):
            _say(ready=True)
            await asyncio.to_thread(sys.stdin.readline)
            for number in range(1, turned + 1):
                hub.set(ROOM, "slides", {"deck": 1, "page": number})
                await asyncio.sleep(every_s)
            hub.set(ROOM, "slides", None)
            await asyncio.to_thread(sys.stdin.readline)
        await runner.cleanup()
        await one.stop()


class Site:
    """What the site's page does with slides."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._here: dict[str, int] = {}
        self._coming: dict[str, asyncio.Task[None]] = {}
        self.late_ms: list[float] = []
        self.began_s = 0.0

    async def follow(self, begin: Callable[[], None]) -> int:
        """From the first page to the last; the bytes of a page.

        `begin` is called when the first one is here, ahead as all others: who comes to a meeting
        comes before it shows its first page.
        """
        pages: list[dict[str, Any]] = []
        turns: list[asyncio.Task[None]] = []
        async with (
            aiohttp.ClientSession() as http,
            http.ws_connect(f"{self._url}/room/{ROOM}/events") as socket,
        ):
            hello = {"t": "hello", "token": "", "as": "viewer", "seat": "s" * 22, "receipts": {}}
            await socket.send_str(json.dumps(hello))
            async for message in socket:
                told = json.loads(message.data)
                if told["t"] != "state":
                    continue
                if not pages and "deck:1" in told["set"]:
                    pages = told["set"]["deck:1"]["pages"]
                    await self._have(http, pages[0]["sha256"], "?ahead=1")
                    self.began_s = time.monotonic()
                    begin()
                if "slides" not in told["set"]:
                    continue
                slides = told["set"]["slides"]
                if slides is None:
                    break
                turn = self._turn(http, pages, slides["page"], time.monotonic())
                turns.append(asyncio.create_task(turn))
            await asyncio.gather(*turns)
        return max(self._here.values())

    async def _turn(
        self, http: aiohttp.ClientSession, pages: list[dict[str, Any]], number: int, at_s: float
    ) -> None:
        await self._have(http, pages[number - 1]["sha256"], "")
        self.late_ms.append(1000 * (time.monotonic() - at_s))
        if number < len(pages):
            await self._have(http, pages[number]["sha256"], "?ahead=1")

    async def _have(self, http: aiohttp.ClientSession, sha256: str, query: str) -> None:
        if sha256 in self._here:
            return
        if sha256 not in self._coming:
            self._coming[sha256] = asyncio.create_task(self._fetch(http, sha256, query))
        await self._coming[sha256]

    async def _fetch(self, http: aiohttp.ClientSession, sha256: str, query: str) -> None:
        async with http.get(f"{self._url}/room/files/{sha256}{query}") as answer:
            data = await answer.read()
        if hashlib.sha256(data).hexdigest() != sha256:
            raise ValueError(f"page {sha256} came damaged, with status {answer.status}")
        self._here[sha256] = len(data)


async def site(host: str, above: str) -> None:
    """The site's process: listens, follows, and says what came of it."""
    url = f"http://{above}:{PORT}"
    probe, one = Probe(Identity("aes128-gcm"), "site", host), Site(url)
    await probe.join(url, STREAM)
    await asyncio.sleep(SETTLE_S)
    page_bytes = await one.follow(lambda: _say(ready=True))
    begin_s, end_s = one.began_s, time.monotonic() - 1
    sound = probe.figures("audio", begin_s, end_s)
    waited = _waited_ms(probe.tracks["audio"].arrivals, begin_s, end_s)
    late = sorted(one.late_ms)
    _say(
        pages=len(late), page_bytes=page_bytes, late_median_ms=round(late[len(late) // 2]),
        late_max_ms=round(late[-1]), sound_packets=sound.expected, unrepaired=sound.unrepaired,
        stall_ms=sound.stall_ms, waited_p99_ms=waited[len(waited) * 99 // 100],
        waited_max_ms=waited[-1],
    )  # fmt: skip
    await probe.leave()


def _waited_ms(sound: Arrivals, begin_s: float, end_s: float) -> list[float]:
    """How much longer than the quickest each packet was under way, in order of size."""
    at = {n: seen for n, seen in sound.first_at.items() if begin_s < seen < end_s}
    first = min(at)
    way = sorted(seen - AUDIO_INTERVAL_NS / 1e9 * (n - first) for n, seen in at.items())
    return [round(1000 * (one - way[0]), 1) for one in way]


def _say(**words: object) -> None:
    print(json.dumps(words), flush=True)


def slides(*, line_bps: float, pages: int, every_s: float, turned: int = 0) -> SlidesRow:
    """Run both, with the line between them. turned: how many pages are turned to, 0: all."""
    with Row(2) as row:
        upper, lower = row.address(0), row.address(1)
        above = _start(
            row, 0, "node", upper, "--pages", str(pages), "--every", str(every_s),
            "--turned", str(turned or pages),
        )  # fmt: skip
        below: subprocess.Popen[str] | None = None
        try:
            _read(above)
            row.set_rate(0, line_bps, burst_bytes=BURST_BYTES)
            below = _start(row, 1, "site", lower, "--above", upper)
            _read(below)
            assert above.stdin is not None
            above.stdin.write("go\n")
            above.stdin.flush()
            found = _read(below)
            above.stdin.write("end\n")
            above.stdin.flush()
            above.wait(20)
        finally:
            for one in (above, below):
                if one is not None:
                    one.kill()
                    one.communicate()
    return SlidesRow(line_bps=line_bps, every_s=every_s, **found)


def _start(row: Row, number: int, *arguments: str) -> subprocess.Popen[str]:
    command = row.command(number, sys.executable, "-m", "tests.lab.slides", *arguments)
    return subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def _read(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise RuntimeError(f"the process {process.args!r} ended without a word")
    found: dict[str, Any] = json.loads(line)
    return found


def main() -> int:
    """A part of it, in its namespace; or all of it."""
    parser = argparse.ArgumentParser(prog="python -m tests.lab.slides", description=__doc__)
    parser.add_argument("part", choices=("all", "node", "site"), nargs="?", default="all")
    parser.add_argument("host", nargs="?", default="")
    parser.add_argument("--above", default="")
    parser.add_argument("--pages", type=int, default=60)
    parser.add_argument("--turned", type=int, default=0, metavar="N", help="of them (all)")
    parser.add_argument("--every", type=float, default=8.0, metavar="SECONDS", help="a page (8)")
    parser.add_argument("--rate", type=float, default=128_000, metavar="BPS", help="(128000)")
    arguments = parser.parse_args()
    if arguments.part == "node":
        asyncio.run(node(arguments.host, arguments.pages, arguments.every, arguments.turned))
    elif arguments.part == "site":
        asyncio.run(site(arguments.host, arguments.above))
    else:
        row = slides(
            line_bps=arguments.rate, pages=arguments.pages, every_s=arguments.every,
            turned=arguments.turned,
        )  # fmt: skip
        print(json.dumps(asdict(row), indent=1))
        return int(not on_time(row))
    return 0


def on_time(row: SlidesRow) -> bool:
    """Whether the pages came on time, and the sound went on."""
    # What a player's buffer bears, and longer than a page takes to be drawn.
    return row.unrepaired == 0 and row.waited_p99_ms < 200 and row.late_max_ms < 300


if __name__ == "__main__":
    sys.exit(main())
