"""Recording for real: nodes, publishers and recorders as processes, browsers, SIGKILL."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import random
import signal
import statistics
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from playwright.async_api import Playwright

from media import recording
from tests.live import browser, flashes
from tests.live.processes import ROOT, Relay, relay
from tests.live.tree import until
from tests.media.clips import write_clip
from tests.patience import PATIENCE

MAX_SKEW_MS = 40
# A browser reports its sound's time when it is sent: what waits in a busy browser before that looks
# like skew, to every receiver. Measured on an idle machine it stays within MAX_SKEW_MS.
BUSY_BROWSER_MS = 150


@contextlib.asynccontextmanager
async def card(
    node: Relay, stream: str, folder: Path, source: tuple[str, ...] = ("test:",)
) -> AsyncIterator[Any]:
    """`terrace publish test:`, or of another source, as a process."""
    with (folder / f"{stream}-publish.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "web.cli", "publish", *source, f"{node.url}/whip/{stream}",
            "--size", "320x180", "--video-bitrate", "300k",
            cwd=ROOT, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(5 * PATIENCE):
                    await process.wait()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


async def call(node: Relay, method: str, path: str, **body: Any) -> tuple[int, Any]:
    """Status and JSON of a request."""
    async with (
        aiohttp.ClientSession() as http,
        http.request(method, node.url + path, json=body or None) as answer,
    ):
        text = await answer.text()
        return answer.status, json.loads(text) if text.startswith("{") else text


async def recorded(node: Relay, stream: str, seconds: float, within_s: float = 60) -> str:
    """Wait until so much of a stream is recorded; returns the recording's id."""

    async def look() -> str | None:
        _, said = await call(node, "GET", "/api/recordings")
        one = next((r for r in said["recordings"] if r["stream"] == stream), None)
        return str(one["id"]) if one is not None and one["seconds"] >= seconds else None

    return await until(f"{seconds} s of {stream} are recorded", look, within_s)


async def finished(node: Relay, id: str, within_s: float = 60) -> Any:
    """Wait until a recording is joined; returns what the node says of it."""

    async def look() -> Any:
        status, said = await call(node, "GET", f"/api/recordings/{id}")
        return said if status == 200 and said["state"] == "finished" else None

    return await until(f"{id} is joined", look, within_s)


def whole(folder: Path) -> list[recording.Part]:
    """The parts in a folder, after a look at every file in them."""
    for path in folder.glob("part-*/*.m4s"):
        assert recording.read_segment(path) is not None, path
    return recording.parts_in(folder)


async def test_a_class_is_recorded_by_itself_and_joined_when_it_ends(
    tmp_path: Path, stream: str
) -> None:
    """The publisher goes; some seconds later there is one file, in step, that FFmpeg likes."""
    options = ("--record", "test-*", "--recordings", str(tmp_path / "kept"))
    stream = stream[-40:]
    async with relay(tmp_path, *options) as node:
        async with card(node, f"test-{stream}", tmp_path):
            id = await recorded(node, f"test-{stream}", 8)
        said = await finished(node, id)
    # A publisher on a busy machine leaves out what it is too late for, and that is told as missing.
    assert said["missing_s"] < 1
    found = recording.load(tmp_path / "kept" / id)
    assert [part.video for part in found.parts] == ["H264"]
    seen = await asyncio.to_thread(flashes.look, tmp_path / "kept" / id / found.files[0].file)
    assert seen.complaints == []
    assert seen.codecs == ["h264", "opus"]
    assert found.duration_s == pytest.approx(seen.pictures_s[-1], abs=0.3)
    assert seen.holes_s < 0.003
    assert len(seen.skews_ms) >= 4
    # A busy machine leaves out pictures, and one of them may be that of a flash.
    off = [skew for skew in seen.skews_ms if abs(skew) > MAX_SKEW_MS]
    assert len(off) <= 1, seen.skews_ms


@pytest.mark.alone
@pytest.mark.parametrize("codec", ["VP8", "H264"])
async def test_a_browser_s_class_is_recorded_in_step_and_played_by_a_browser(
    codec: str, tmp_path: Path, stream: str, browsers: Playwright
) -> None:
    """Asked for by name, ended by DELETE; Chromium plays the file and goes to any place in it."""
    kept = tmp_path / "kept"
    async with relay(tmp_path, "--recordings", str(kept)) as node:
        status, made = await call(node, "POST", "/api/recordings", stream=stream, title="Flashes")
        assert status == 201
        assert (await call(node, "POST", "/api/recordings", stream=stream))[0] == 200
        publisher = await browser.Chromium.start(browsers)
        try:
            page = publisher.page
            await page.add_init_script(flashes.PAGE)
            await page.goto(f"{node.url}/present/{stream}")
            await page.select_option("#size", "360")
            await page.select_option("#codec", codec)
            await page.click("#air-button")
            assert await recorded(node, stream, 8) == made["id"]
        finally:
            await publisher.close()
        status, _ = await call(node, "DELETE", f"/api/recordings/{made['id']}")
        assert status == 202
        await finished(node, made["id"])
    found = recording.load(kept / made["id"])
    assert found.title == "Flashes"
    path = kept / made["id"] / found.files[0].file
    seen = await asyncio.to_thread(flashes.look, path, flashes.canvas_lamp)
    assert seen.complaints == []
    assert seen.codecs == sorted([codec.lower(), "opus"])
    assert seen.holes_s < 0.003
    assert len(seen.skews_ms) >= 4
    assert abs(statistics.median(seen.skews_ms)) <= BUSY_BROWSER_MS, seen.skews_ms
    await _play(browsers, path, found.duration_s)


async def _play(browsers: Playwright, path: Path, duration_s: float) -> None:
    """Let Chromium play a file by HTTP, from its begin and from two other places."""

    async def file(_: web.Request) -> web.StreamResponse:
        return web.FileResponse(path)

    async def page(_: web.Request) -> web.StreamResponse:
        text = "<!doctype html><video src=/file.mp4 preload=auto></video>"
        return web.Response(text=text, content_type="text/html")

    app = web.Application()
    app.router.add_get("/file.mp4", file)
    app.router.add_get("/", page)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    viewer = await browser.Chromium.start(browsers)
    try:
        assert runner.addresses
        await viewer.page.goto(f"http://127.0.0.1:{runner.addresses[0][1]}/")
        played = await viewer.page.evaluate(
            """async places => {
              const video = document.querySelector("video");
              video.muted = true;
              const once = name => new Promise((done, fail) => {
                video.addEventListener(name, done, {once: true});
                video.addEventListener("error", () => fail(video.error.message), {once: true});
              });
              if (video.readyState < 1) await once("loadedmetadata");
              const out = {duration: video.duration, at: []};
              for (const place of places) {
                const there = once("seeked");
                video.currentTime = place;
                await there;
                await video.play();
                const began = video.currentTime;
                while (video.currentTime < began + 0.5)
                  await new Promise(done => setTimeout(done, 20));
                video.pause();
                out.at.push(began);
              }
              out.pictures = video.getVideoPlaybackQuality().totalVideoFrames;
              return out;
            }""",
            [0.1, duration_s * 0.7, 2.5],
        )
    finally:
        await viewer.close()
        await runner.cleanup()
    assert played["duration"] == pytest.approx(duration_s, abs=0.2)
    assert played["at"] == pytest.approx([0.1, duration_s * 0.7, 2.5], abs=0.3)
    assert played["pictures"] > 20


class Recorder:
    """`terrace record --supervised` as a process of the test, and what it said."""

    def __init__(self, node: Relay, stream: str, folder: Path, id: str) -> None:
        self.folder = folder / id
        self.said: list[dict[str, Any]] = []
        self._command = [
            sys.executable, "-m", "web.cli", "record", node.url, stream,
            "--out", str(folder), "--id", id, "--supervised",
        ]  # fmt: skip
        self.process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        self.said = []
        self.process = await asyncio.create_subprocess_exec(
            *self._command, cwd=ROOT,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip

    async def until(self, event: str) -> dict[str, Any]:
        """Wait for the next event of a kind."""
        assert self.process is not None
        assert self.process.stdout is not None
        async with asyncio.timeout(90):
            while line := await self.process.stdout.readline():
                said: dict[str, Any] = json.loads(line)
                self.said.append(said)
                if said["event"] == event:
                    return said
        raise AssertionError(f"the recorder ended: {self.said}")

    async def kill(self) -> None:
        """SIGKILL; what it had said before is read."""
        assert self.process is not None
        assert self.process.stdout is not None
        self.process.kill()
        rest = await self.process.stdout.read()
        self.said += [json.loads(line) for line in rest.split(b"\n")[:-1]]
        await self.process.wait()


async def test_ten_kills_cost_at_most_the_segment_being_written(
    tmp_path: Path, stream: str
) -> None:
    """Five recorders are killed twice each at moments drawn by lot; one goes on to the end.

    Every segment that a recorder had told of is in the folder, whole, and in the joined file.
    """
    dice = random.Random(20260301)
    async with relay(tmp_path) as node, card(node, stream, tmp_path):
        await node.until("/api/node", lambda said: any(s["state"] == "live"
                         for s in said["streams"]), 60)  # fmt: skip
        ones = [Recorder(node, stream, tmp_path / "kept", f"class-{i}") for i in range(5)]
        kept: dict[Path, str] = {}

        async def cycle(one: Recorder, wait_s: float) -> None:
            before = await asyncio.to_thread(_files, one.folder)
            await one.start()
            await one.until("segment")
            await asyncio.sleep(wait_s)
            await one.kill()
            told = sum(said["event"] == "segment" for said in one.said)
            files = await asyncio.to_thread(_files, one.folder)
            assert before.items() <= files.items()
            # One more may have got its name without having been told.
            assert told <= len(files) - len(before) <= told + 1
            kept.update({one.folder / path: digest for path, digest in files.items()})

        for _ in range(2):
            async with asyncio.TaskGroup() as group:
                for one in ones:
                    group.create_task(cycle(one, dice.uniform(0, 4)))

        last = ones[0]
        await last.start()
        await last.until("segment")
        assert last.process is not None
        assert last.process.stdin is not None
        last.process.stdin.write(b"finish\n")
        await last.until("finished")
        assert await last.process.wait() == 0
    for one in ones[1:]:
        found = recording.load(one.folder)
        await asyncio.to_thread(recording.join, one.folder, found, lambda: datetime.now(UTC))
    for one in ones:
        parts = await asyncio.to_thread(whole, one.folder)
        found = recording.load(one.folder)
        assert len(parts) >= 2
        assert found.parts == parts
        there = {one.folder / s.file: s.sha256 for p in parts for s in p.segments}
        before = {path: kept[path] for path in kept if path.is_relative_to(one.folder)}
        assert before
        assert before.items() <= there.items()
        seen = await asyncio.to_thread(flashes.look, one.folder / "recording-1.mp4")
        assert seen.complaints == []
        assert found.duration_s == pytest.approx(sum(p.duration_s for p in parts), abs=0.05)
        # As above, where each part begins.
        off = [skew for skew in seen.skews_ms if abs(skew) > MAX_SKEW_MS]
        assert len(off) <= len(parts) + 1, seen.skews_ms


def _files(folder: Path) -> dict[str, str]:
    """The segments in a folder with their hashes; each must be whole."""
    out = {}
    for path in sorted(folder.glob("part-*/*.m4s")):
        data = path.read_bytes()
        assert recording.read_segment(path) is not None, path
        out[f"{path.parent.name}/{path.name}"] = hashlib.sha256(data).hexdigest()
    return out


async def test_a_node_that_is_killed_goes_on_with_the_same_recording(
    tmp_path: Path, stream: str
) -> None:
    kept = tmp_path / "kept"
    options = ("--record", "test-*", "--recordings", str(kept))
    stream = f"test-{stream[-40:]}"
    async with relay(tmp_path, *options) as node, card(node, stream, tmp_path):
        id = await recorded(node, stream, 4)
        node.process.kill()
        await node.process.wait()
        number = node.url.rpartition(":")[2]
        before = await asyncio.to_thread(_files, kept / id)
        async with relay(tmp_path, *options, "--port", number) as again:
            again.url = node.url
            # The publisher comes back by itself.
            assert await recorded(again, stream, 4) == id
            assert (await call(again, "DELETE", f"/api/recordings/{id}"))[0] == 202
            await finished(again, id)
    found = recording.load(kept / id)
    assert len(found.parts) == 2
    assert {s.file for p in found.parts for s in p.segments} >= set(before)
    assert [path.name for path in kept.iterdir()] == [id]


async def test_a_class_of_a_killed_recorder_and_two_publishers_is_one_course(
    tmp_path: Path, stream: str
) -> None:
    """The recorder is killed in the middle; then somebody goes on whose machine has no sound.

    That is another file of the recording. The course has all of it, and says what is missing.
    """
    kept, name = tmp_path / "kept", f"test-{stream[-40:]}"
    silent = write_clip(tmp_path / "silent.mp4", frames=100)
    options = ("--record", "test-*", "--recordings", str(kept))
    shelf = {"TERRACE_LIBRARY_FOLDER": str(tmp_path / "library")}
    async with relay(tmp_path, *options, **shelf) as node:
        async with card(node, name, tmp_path):
            id = await recorded(node, name, 3)
            [recorder] = await asyncio.to_thread(recorders, node.process.pid)
            os.kill(recorder, signal.SIGKILL)
            await recorded(node, name, 7)
        async with card(node, name, tmp_path, (str(silent), "--loop")):
            _, said = await call(node, "GET", f"/api/recordings/{id}")
            # FFmpeg reports its clock every five seconds, and the pause is known by that.
            await recorded(node, name, said["seconds"] + 8)
            assert (await call(node, "DELETE", f"/api/recordings/{id}"))[0] == 202

            async def whole_course() -> Any:
                _, said = await call(node, "GET", f"/api/courses/{id}")
                done = isinstance(said, dict) and said["course"]["complete"]
                return said["course"] if done else None

            course = await until("the course is whole", whole_course, 90)
    found = recording.load(kept / id)
    assert [(one.video, one.sound) for one in found.files] == [("H264", True), ("H264", False)]
    assert len(found.parts) >= 3
    assert course["duration_s"] == pytest.approx(found.duration_s, abs=0.1)
    away = [one for one in found.missing if one.kind == "away"]
    # One pause is the recorder's, one the publishers'.
    began = [(one.began_ntp_s, one.duration_s) for one in found.parts]
    assert found.files[1].start_s in [one.start_s for one in away], began
    assert len(away) == len(found.parts) - 1
    marked = {one["start_s"] for one in course["missing"]}
    assert {one.start_s for one in away} <= marked


def recorders(node_pid: int) -> list[int]:
    """The recorders of a node, by their process ids."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            parent = (path.parent / "stat").read_text().rpartition(")")[2].split()[1]
            if int(parent) == node_pid and b"\0record\0" in path.read_bytes():
                found.append(int(path.parent.name))
    return found


@pytest.mark.alone
async def test_a_programme_is_one_recording_in_step_across_its_cuts(tmp_path: Path) -> None:
    """Two publishers that heed no keyframe request take turns: what was seen decodes as one file.

    The flashes and beeps of each are at its own whole seconds, so that a cut may take one of them.
    """
    programme = "class-5"
    options = ("--record", programme, "--recordings", str(tmp_path / "kept"))
    shelf = {"TERRACE_LIBRARY_FOLDER": str(tmp_path / "library")}
    async with (
        relay(tmp_path, *options, **shelf) as node,
        card(node, "class-5.1", tmp_path),
        card(node, "class-5.2", tmp_path),
    ):
        for number in range(5):
            source = f"class-5.{1 + number % 2}"

            async def shows(source: str = source) -> bool:
                order = {"source": source}
                status, _ = await call(node, "PUT", f"/api/switch/{programme}", **order)
                return status == 200

            await until(f"{source} is on the air", shows, 15)
            await asyncio.sleep(2.2)
        id = await recorded(node, programme, 6)
        async with (
            aiohttp.ClientSession() as http,
            http.put(f"{node.url}/api/switch/{programme}", json={"source": None}) as answer,
        ):
            assert answer.status == 200
        said = await finished(node, id)
    # A publisher on a busy machine leaves out what it is too late for, and that is told as missing.
    assert said["missing_s"] < 1
    found = recording.load(tmp_path / "kept" / id)
    assert len(found.parts) == 1
    seen = await asyncio.to_thread(flashes.look, tmp_path / "kept" / id / found.files[0].file)
    assert seen.complaints == []
    assert seen.codecs == ["h264", "opus"]
    assert seen.holes_s < 0.003
    assert len(seen.skews_ms) >= 4
    gaps = [after - before for before, after in pairwise(seen.pictures_s)]
    assert min(gaps) > 0
    # The first may be the publisher's own: while it starts it leaves out pictures.
    assert max(gaps[1:]) <= 0.3
    # A beep whose flash was cut away may find one of the other source.
    assert sum(abs(skew) > MAX_SKEW_MS for skew in seen.skews_ms) <= 2, seen.skews_ms
