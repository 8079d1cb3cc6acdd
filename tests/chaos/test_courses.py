"""A course reaches a station over a line that is cut, and a village shares it; in short.

At full size, in network namespaces: `python -m tests.lab thin`, `county` and `village`.
"""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.lab.distribution import is_whole, pieces, received
from tests.lab.proxy import ROOT
from tests.lab.tcpline import TcpLine
from tests.media.lessons import Library, lesson, library
from tests.web.test_distribution import county

pytestmark = pytest.mark.live

SEGMENTS, SEGMENT_BYTES = 120, 4000
COURSE = lesson(segments=SEGMENTS, segment_bytes=SEGMENT_BYTES)


class Box:
    """A station's process; `left` is how many pieces it lacked when it last said so."""

    def __init__(self, folder: Path, parent: str, *arguments: str) -> None:
        self.folder = folder
        self.log = folder.with_suffix(f".{time.monotonic_ns()}.log")
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                [
                    sys.executable, "-m", "tests.lab.box", "station", "--folder", str(folder),
                    "--parent", parent, "--segments", str(SEGMENTS),
                    "--segment-bytes", str(SEGMENT_BYTES), *arguments,
                ],
                cwd=ROOT, stdout=output, stderr=subprocess.STDOUT,
            )  # fmt: skip

    @property
    def left(self) -> int:
        said = [json.loads(line) for line in self.log.read_text().splitlines() if line[:1] == "{"]
        return min((one["left"] for one in said if "left" in one), default=10**9)

    async def until_whole(self) -> None:
        deadline = time.monotonic() + 90
        while self.left or not is_whole(COURSE, self.folder):
            assert self.process.poll() is None, self.log.read_text()[-2000:]
            assert time.monotonic() < deadline, self.log.read_text()[-2000:]
            await asyncio.sleep(0.1)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@asynccontextmanager
async def tree(folder: Path) -> AsyncIterator[tuple[Library, str]]:
    """A library and a county below it, whose URL it gives."""
    async with library(COURSE) as above, county(folder, above.url, lesson=COURSE) as node:
        yield above, node.url


async def test_a_course_arrives_over_a_line_that_is_cut_ten_times(tmp_path: Path) -> None:
    """Must show 3 of issue 4: ten cuts, three SIGKILLs, a piece spoilt in flight, one on disk."""
    chance, folder = random.Random(1), tmp_path / "station"
    steps = sorted(
        [(chance.uniform(0.05, 0.95), "cut") for _ in range(10)]
        + [(chance.uniform(0.3, 0.9), "kill") for _ in range(3)]
        + [(0.25, "disk"), (0.1, "flight")]
    )
    async with tree(tmp_path) as (above, url):
        port = int(url.rpartition(":")[2])
        async with TcpLine("127.0.0.1", port, rate_bps=1_500_000) as line:
            box = Box(folder, line.url)
            try:
                deadline = time.monotonic() + 120
                while steps:
                    assert time.monotonic() < deadline, box.log.read_text()[-2000:]
                    held = sum(1 for _ in pieces(folder)) / len(COURSE.blobs)
                    if held < steps[0][0]:
                        await asyncio.sleep(0.01)
                        continue
                    match steps.pop(0)[1]:
                        case "cut":
                            await line.cut()
                            line.heal()
                        case "kill":
                            box.kill()
                            box = Box(folder, line.url)
                        case "flight":
                            line.spoil(0)
                        case "disk":
                            victim = chance.choice(sorted(pieces(folder)))
                            victim.write_bytes(victim.read_bytes()[:-1] + b"\0\0")
                await box.until_whole()
            finally:
                box.kill()
            assert line.tally.cuts == 10
            assert line.tally.spoilt == 1
        small = sum(len(COURSE.files[f"/courses/rice-1/{name}"]) for name in
                    ("course.jws", "240p.manifest", "poster.jpg"))  # fmt: skip
        wanted = COURSE.size_bytes + small
        # Each start asks for the entry of the course once more.
        entries = 3 * len(COURSE.files["/courses/rice-1/course.jws"])
        assert sum(received(folder).values()) - entries <= 1.03 * wanted
        assert above.sent[COURSE.media_path] == COURSE.size_bytes


async def test_the_second_station_of_a_village_takes_the_course_from_the_first(
    tmp_path: Path,
) -> None:
    """Must show 8 of issue 4: they find each other by themselves, which is waited for here."""
    async with tree(tmp_path) as (_, url):
        first = Box(tmp_path / "first", url, "--address", "127.0.0.1")
        try:
            await first.until_whole()
            second = Box(tmp_path / "second", url, "--address", "127.0.0.1", "--after-neighbour")
            try:
                await second.until_whole()
            finally:
                second.kill()
        finally:
            first.kill()
    got = received(tmp_path / "second")
    assert got["neighbour"] >= 0.95 * sum(got.values())
