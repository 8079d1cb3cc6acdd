"""A class whose recorder, node and library die again and again, and what of it is in the course.

The publisher shows the test card, whose pictures tell when they were drawn: so a hole in the course
says what a death has cost, and how much of that was in the segment that was being written.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import av

from media import recording
from media.testcard import DAY_MS, read_stamp
from tests.lab.loss import Say
from tests.live.processes import ROOT, Relay, free_port, relay

STREAM = "class"
THERE_WITHIN_S = 60.0
SEGMENTS_WITHIN_S = 120.0
WHOLE_WITHIN_S = 600.0
SETTLED_S = 6.0
"""From one death to the next at least, so that each finds a class that goes on; and up to as much
again, by lot."""
PUBLISH = ("--size", "640x360", "--video-bitrate", "600k", "--keyframe-seconds", "2")


@dataclass(slots=True)
class Death:
    """One SIGKILL. Seconds.

    segment_s: of what had come, what was lost with the segment that was being written.
    away_s: from then to the first picture that was recorded again; 0 after the class.
    """

    what: str
    segment_s: float = 0.0
    away_s: float = 0.0
    utc_ms: int = 0


@dataclass(slots=True)
class ClassRow:
    """All deaths of one class.

    segments: finished before some death. changed: of these, those that are gone or have other bytes
    in the end. pictures: in these segments. lacking: of these, those that the course does not have,
    byte by byte.
    """

    deaths: list[Death] = field(default_factory=list)
    segments: int = 0
    changed: int = 0
    pictures: int = 0
    lacking: int = 0
    recorded_s: float = 0.0
    course_s: float = 0.0
    marked_s: float = 0.0
    """What the course itself says is missing of it."""


class _House:
    """A node with its recordings and its library, in a folder; it can die and come back."""

    def __init__(self, folder: Path, say: Say) -> None:
        self.folder, self.say = folder, say
        self.kept = folder / "kept"
        self.port = free_port()
        self._stack = contextlib.AsyncExitStack()
        self.node: Relay | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        options = ("--record", STREAM, "--recordings", str(self.kept), "--port", str(self.port))
        shelf = {"TERRACE_LIBRARY_FOLDER": str(self.folder / "library")}
        self.node = await self._stack.enter_async_context(relay(self.folder, *options, **shelf))

    async def kill_node(self) -> None:
        assert self.node is not None
        self.node.process.kill()
        await self.node.process.wait()
        await self.start()

    async def close(self) -> None:
        await self._stack.aclose()

    def child(self, word: bytes) -> int | None:
        """The process of the node in whose command line a word stands."""
        assert self.node is not None
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError, IndexError):
                stat = (path.parent / "stat").read_text().rpartition(")")[2].split()
                if int(stat[1]) == self.node.process.pid and word in path.read_bytes():
                    return int(path.parent.name)
        return None

    async def json(self, path: str) -> Any:
        with contextlib.suppress(aiohttp.ClientError):
            async with aiohttp.ClientSession() as http, http.get(self.url + path) as answer:
                return await answer.json(content_type=None) if answer.status == 200 else None
        return None

    def segments(self) -> dict[Path, str]:
        """All segments on the disk, with their digests."""
        found = {}
        for path in self.kept.glob("*/part-*/*.m4s"):
            found[path] = hashlib.sha256(path.read_bytes()).hexdigest()
        return found


async def class_kills(kills: int, seed: int, say: Say) -> ClassRow:
    """Kill so many processes of a class; two of five while its course is made."""
    dice = random.Random(seed)
    later = max(1, 2 * kills // 5)
    live = [("recorder", "node")[i % 2] for i in range(kills - later)]
    after = [("library", "library", "node")[i % 3] for i in range(later)]
    dice.shuffle(live)
    dice.shuffle(after)
    row = ClassRow()
    with tempfile.TemporaryDirectory(prefix="class-") as text:
        house = _House(Path(text), say)
        try:
            await house.start()
            known = await _class(house, live, dice, row)
            await _making(house, after, dice, row)
            await _judge(house, known, row)
        finally:
            await house.close()
    return row


async def _class(
    house: _House, deaths: list[str], dice: random.Random, row: ClassRow
) -> dict[Path, str]:
    """The class itself; the segments that were finished at some death."""
    known: dict[Path, str] = {}
    async with _publisher(house):
        for what in deaths:
            await _more(house, 1)
            await asyncio.sleep(SETTLED_S * (1 + dice.random()))
            known |= await asyncio.to_thread(house.segments)
            died = Death(what, utc_ms=_utc_ms())
            if what == "node":
                await house.kill_node()
            else:
                os.kill(await _there(house, b"\0record\0"), signal.SIGKILL)
            row.deaths.append(died)
            house.say(f"{what} killed, {len(known)} segments were finished")
        await _more(house, 2)
        known |= await asyncio.to_thread(house.segments)
    # The publisher has gone: else the node would begin another recording of it.
    async with (
        aiohttp.ClientSession() as http,
        http.delete(f"{house.url}/api/recordings/{_id(known)}") as answer,
    ):
        answer.raise_for_status()
    return known


async def _making(house: _House, deaths: list[str], dice: random.Random, row: ClassRow) -> None:
    """While the recording becomes a course."""
    for what in deaths:
        worker = await _there(house, b"media.ladder_worker")
        await asyncio.sleep(dice.random())
        with contextlib.suppress(ProcessLookupError):
            if what == "node":
                await house.kill_node()
            else:
                os.kill(worker, signal.SIGKILL)
        row.deaths.append(Death(what))
        house.say(f"{what} killed while the course was made")


async def _judge(house: _House, known: dict[Path, str], row: ClassRow) -> None:
    id = _id(known)
    course: Any = None
    async with asyncio.timeout(WHOLE_WITHIN_S):
        while not course or not course["course"]["complete"]:
            await asyncio.sleep(0.2)
            course = await house.json(f"/api/courses/{id}")
    course = course["course"]
    found = recording.load(house.kept / id)
    now = await asyncio.to_thread(house.segments)
    row.segments = len(known)
    row.changed = sum(now.get(path) != digest for path, digest in known.items())
    row.recorded_s, row.course_s = found.duration_s, course["duration_s"]
    row.marked_s = round(sum(one["duration_s"] for one in course["missing"]), 3)
    best = course["renditions"][0]["name"]
    file = house.folder / "course.mp4"
    async with (
        aiohttp.ClientSession() as http,
        http.get(f"{house.url}/courses/{id}/{best}.mp4") as answer,
    ):
        file.write_bytes(await answer.read())
    await asyncio.to_thread(_compare, file, known, row)
    await asyncio.to_thread(_holes, file, row)


def _id(known: dict[Path, str]) -> str:
    """The recording to which these segments belong: there is one, whatever has died."""
    [id] = {path.parent.parent.name for path in known}
    return id


def _compare(file: Path, known: dict[Path, str], row: ClassRow) -> None:
    """Which pictures of the finished segments are in the course."""
    with av.open(str(file)) as container:
        there = {bytes(packet) for packet in container.demux(video=0) if packet.size}
    for path in known:
        init = (path.parent / recording.INIT_FILE).read_bytes()
        with av.open(io.BytesIO(init + path.read_bytes()), "r") as container:
            for packet in container.demux(video=0):
                if packet.size:
                    row.pictures += 1
                    row.lacking += bytes(packet) not in there


def _holes(file: Path, row: ClassRow) -> None:
    """What each death has cost, by the clock in the pictures around it."""
    drawn: list[int] = []
    with av.open(str(file)) as container:
        container.streams.video[0].thread_type = "AUTO"
        for frame in container.decode(video=0):
            stamp = read_stamp(frame.to_ndarray(format="gray"))
            if stamp is not None:
                drawn.append(stamp.utc_ms)
    for one in row.deaths:
        if not one.utc_ms:
            continue
        before = [at for at in drawn if (at - one.utc_ms + DAY_MS // 2) % DAY_MS < DAY_MS // 2]
        last = max(before, key=lambda at: (at - one.utc_ms + DAY_MS // 2) % DAY_MS)
        after = [at for at in drawn if at not in set(before)]
        first = min(after, key=lambda at: (at - one.utc_ms) % DAY_MS)
        one.segment_s = ((one.utc_ms - last) % DAY_MS) / 1000
        one.away_s = ((first - one.utc_ms) % DAY_MS) / 1000


@contextlib.asynccontextmanager
async def _publisher(house: _House) -> AsyncIterator[None]:
    with (house.folder / "publish.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "web.cli", "publish", "test:", f"{house.url}/whip/{STREAM}",
            *PUBLISH, cwd=ROOT, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


async def _there(house: _House, word: bytes) -> int:
    """A child of the node, as soon as there is one."""
    async with asyncio.timeout(THERE_WITHIN_S):
        while (found := await asyncio.to_thread(house.child, word)) is None:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    return found


async def _more(house: _House, count: int) -> None:
    """Until so many more segments are finished."""
    before = len(await asyncio.to_thread(house.segments))
    async with asyncio.timeout(SEGMENTS_WITHIN_S):
        while len(await asyncio.to_thread(house.segments)) < before + count:  # noqa: ASYNC110
            await asyncio.sleep(0.1)


def _utc_ms() -> int:
    return int(time.time() * 1000) % DAY_MS
