"""`terrace publish` into a real node, seen through an aiortc viewer."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack

from media.testcard import BEEP_HZ, SAMPLE_RATE, lamp_box, read_stamp
from tests.live.tree import ROOT, Node, Tree, end_process, free_ports, until
from tests.live.viewers import CLOCK_RATES, AiortcViewer, Kind
from tests.media.clips import write_clip
from tests.patience import PATIENCE

pytestmark = pytest.mark.live


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[Node]:
    """One real node."""
    with Tree(tmp_path, {"centre": ""}) as tree:
        yield tree.root


@contextlib.asynccontextmanager
async def terrace(*arguments: str, **variables: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """`terrace` as a process, with standard output and error as one stream; killed at the end."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "web.cli",
        *arguments,
        cwd=ROOT,
        env=os.environ | {"PYTHONUNBUFFERED": "1", "TERRACE_CONFIG": os.devnull} | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


async def said(process: asyncio.subprocess.Process, words: str) -> str:
    """Wait for a line with these words and return all lines up to it."""
    assert process.stdout is not None
    lines = []
    async with asyncio.timeout(40 * PATIENCE):
        while line := (await process.stdout.readline()).decode():
            lines.append(line)
            if words in line:
                return "".join(lines)
    raise AssertionError(f"{words!r} was not said:\n{''.join(lines)}")


async def ends(process: asyncio.subprocess.Process) -> tuple[int | None, str]:
    """Wait for the process to end; return its exit code and what it said last."""
    async with asyncio.timeout(30 * PATIENCE):
        rest, _ = await process.communicate()
    return process.returncode, rest.decode()


class Viewer(AiortcViewer):
    """Reads the numbers of the pictures, and when lamp and beep go on.

    `lamp`, `beep`: (RTP time by the track's own count, on or off) of each picture, of each stretch
    of sound.
    """

    def __init__(self, node_url: str, stream: str) -> None:
        super().__init__(node_url, stream)
        self.numbers: list[int] = []
        self.unreadable = 0
        self.lamp: list[tuple[int, bool]] = []
        self.beep: list[tuple[int, bool]] = []

    async def __aenter__(self) -> Viewer:
        await super().__aenter__()
        return self

    async def _see(self, track: MediaStreamTrack) -> None:
        with contextlib.suppress(MediaStreamError):
            while True:
                frame: Any = await track.recv()
                luma = frame.to_ndarray()[: frame.height]
                stamp = read_stamp(luma)
                if stamp is None:
                    self.unreadable += 1
                    continue
                self.numbers.append(stamp.frame)
                lit = luma[lamp_box(frame.width, frame.height)].mean() > 150
                self.lamp.append((frame.pts, bool(lit)))

    async def _hear(self, track: MediaStreamTrack) -> None:
        piece = 240  # 5 ms: five waves of the beep
        wave = np.exp(-2j * np.pi * BEEP_HZ * np.arange(piece) / SAMPLE_RATE)
        with contextlib.suppress(MediaStreamError):
            while True:
                frame: Any = await track.recv()
                left = frame.to_ndarray().reshape(-1, 2)[:, 0].astype(float)
                for start in range(0, len(left) - piece + 1, piece):
                    loud = abs(left[start : start + piece] @ wave) / piece > 1000
                    self.beep.append((frame.pts + start, bool(loud)))

    async def sees(self, count: int) -> list[int]:
        """Wait until so many more pictures were seen; return their numbers."""
        before = len(self.numbers)

        async def look() -> bool:
            return len(self.numbers) >= before + count

        await until(f"{count} more pictures", look, 30)
        return self.numbers[before : before + count]

    def wall_clock_s(self, kind: Kind, pts: int) -> float:
        """The sender's time of a moment of a track, by its sender reports (RFC 3550 6.4.1)."""
        first = self.packets[kind][0]
        report = [r for r in self.reports if r.ssrc == first.ssrc][-1]
        ahead = (first.timestamp + pts - report.timestamp + (1 << 31)) % (1 << 32) - (1 << 31)
        return report.ntp_s + ahead / CLOCK_RATES[kind]


def goes_on(seen: list[tuple[int, bool]]) -> list[int]:
    """When it goes on: where False is followed by True."""
    pairs = itertools.pairwise(seen)
    return [after for (_, was), (after, is_on) in pairs if is_on and not was]


async def test_the_test_card_arrives_and_its_flash_and_beep_together(relay: Node) -> None:
    """No picture is damaged or comes twice; picture and sound are within 20 ms of each other."""
    arguments = ("publish", "test:", f"{relay.url}/whip/lesson", "--size", "640x360")
    async with terrace(*arguments) as publisher:
        await said(publisher, "on air")
        async with Viewer(relay.url, "lesson") as watching:
            numbers = await watching.sees(100)

            async def reported() -> bool:
                return {p[0].ssrc for p in watching.packets.values()} <= {
                    report.ssrc for report in watching.reports
                }

            await until("a sender report of both tracks", reported, 15)
        video = await relay.track("lesson", "video")
        audio = await relay.track("lesson", "audio")
    assert (video["codec"], audio["codec"].upper()) == ("H264", "OPUS")
    assert watching.unreadable == 0
    assert numbers == sorted(set(numbers))
    # A machine under load leaves out pictures at the source, and rather those than the clock.
    assert numbers[-1] - numbers[0] <= 99 + 25 * PATIENCE
    flashes = [watching.wall_clock_s("video", pts) for pts in goes_on(watching.lamp)]
    beeps = [watching.wall_clock_s("audio", pts) for pts in goes_on(watching.beep)]
    # Who joins gets the picture since the last keyframe, and the sound of now.
    flashes = [flash for flash in flashes if flash > beeps[0] - 0.5]
    assert len(flashes) >= 2
    apart = [min((beep - flash for beep in beeps), key=abs) for flash in flashes[:-1]]
    # The very picture of one flash may be among those that were left out.
    assert sum(abs(one) > 0.02 for one in apart) <= 1, apart


@pytest.mark.parametrize(
    ("name", "options", "word"),
    [
        ("clip.mp4", {"bf": "0", "g": "25"}, "passed through as it is"),
        ("clip.ts", {"bf": "2", "g": "25"}, "it has B-frames"),
    ],
)
async def test_a_file_arrives_in_a_loop(
    relay: Node, tmp_path: Path, name: str, options: dict[str, str], word: str
) -> None:
    """Two seconds of film, seen for four: the numbers go round, and none is missing."""
    path = write_clip(tmp_path / name, options=options, audio="aac")
    async with terrace("publish", str(path), f"{relay.url}/whip/film", "--loop") as publisher:
        assert word in await said(publisher, "on air")
        async with Viewer(relay.url, "film") as watching:
            numbers = await watching.sees(100)
    assert watching.unreadable == 0
    assert watching.lost == 0, f"lost on the line; asked for {watching.nacked}"
    assert numbers == [(numbers[0] + i) % 50 for i in range(100)]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_a_node_that_starts_again_is_published_to_again(
    tmp_path: Path, number: signal.Signals
) -> None:
    """The publisher says so, and the picture goes on with the time that passed.

    A node that is stopped closes the session by DTLS, which FFmpeg's muxer does not understand.
    """
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    nodes = [Node(name, port, tmp_path / f"{name}.log") for name in ("first", "second")]

    async def run(node: Node) -> None:
        async def answers() -> bool:
            return node.answers()

        node.start([], {})
        await until(f"the {node.name} node answers", answers, 30)

    await run(nodes[0])
    try:
        arguments = ("publish", "test:", f"{url}/whip/lesson", "--size", "320x180")
        async with terrace(*arguments) as publisher:
            await said(publisher, "on air:")
            async with Viewer(url, "lesson") as watching:
                before = (await watching.sees(10))[-1]
            nodes[0].process.send_signal(number)
            nodes[0].process.wait()
            told = await said(publisher, "trying again in 1 s")
            assert f"terrace publish: the connection to {url}/whip/lesson " in told
            await run(nodes[1])
            assert re.search(r"on air again after \d+\.\d s", await said(publisher, "on air again"))
            async with Viewer(url, "lesson") as watching:
                numbers = await watching.sees(25)
        assert numbers[0] > before
        assert numbers == sorted(set(numbers))
    finally:
        end_process(nodes[0].process)
        if nodes[1].log.exists():
            end_process(nodes[1].process)


async def test_a_feeder_that_dies_is_replaced_where_it_was(relay: Node, tmp_path: Path) -> None:
    """FFmpeg crashes, or hangs and is ended by its own alarm: the broadcast goes on."""
    path = write_clip(
        tmp_path / "film.mp4", options={"bf": "0", "g": "25"}, audio="aac", frames=750
    )
    async with terrace("publish", str(path), f"{relay.url}/whip/film") as publisher:
        await said(publisher, "on air:")
        async with Viewer(relay.url, "film") as watching:
            before = (await watching.sees(40))[-1]
            children = Path(f"/proc/{publisher.pid}/task/{publisher.pid}/children").read_text()
            os.kill(int(children), signal.SIGKILL)
            told = await said(publisher, "trying again in 1 s")
            assert "the media process ended unexpectedly, by signal 9" in told
            await said(publisher, "on air again")
            after = (await watching.sees(25))[-1]
    # From the keyframe before the place where it was, as last told half a second before.
    assert before - 40 <= after - 25 <= before + 30 * PATIENCE


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
async def test_a_signal_ends_the_session_at_the_node(relay: Node, number: signal.Signals) -> None:
    """Within 3 s, with status 0, and by WHIP's DELETE."""
    arguments = ("publish", "test:", f"{relay.url}/whip/lesson", "--size", "320x180")
    async with terrace(*arguments) as publisher:
        await said(publisher, "on air")
        async with Viewer(relay.url, "lesson") as watching:
            await watching.sees(25)
        began = time.monotonic()
        publisher.send_signal(number)
        code, rest = await ends(publisher)
        assert time.monotonic() - began < 3 * PATIENCE
    assert code == 0
    assert re.search(r"published 0:0\d:\d\d: \d+ pictures", rest)
    assert "Traceback" not in rest
    stream = await relay.stream("lesson")
    assert stream is not None
    assert stream["publisher_gone_s"] is not None
    log = relay.log.read_text()
    assert re.search(r"session-end kind=whip .* why='the client said goodbye'", log)


async def test_a_publisher_that_is_killed_takes_its_feeder_along(relay: Node) -> None:
    """Standard error is shared with the feeder: it ends with the last of them."""
    arguments = ("publish", "test:", f"{relay.url}/whip/lesson", "--size", "320x180")
    async with terrace(*arguments) as publisher:
        await said(publisher, "on air")
        publisher.kill()
        code, _ = await ends(publisher)
        assert code == -signal.SIGKILL


async def test_a_signal_while_the_node_is_away_ends_at_once() -> None:
    url = f"http://127.0.0.1:{free_ports(1)[0]}"
    arguments = ("publish", "test:", f"{url}/whip/lesson", "--size", "320x180")
    async with terrace(*arguments) as publisher:
        told = await said(publisher, "trying again")
        assert f"{url} cannot be reached: connection refused" in told
        publisher.terminate()
        async with asyncio.timeout(3 * PATIENCE):
            assert (await ends(publisher))[0] == 0


async def test_a_token_that_does_not_fit_ends_with_a_sentence(tmp_path: Path) -> None:
    """No token, a token for another stream, and the right one, by option and by environment."""
    async with terrace("keygen", "--out", str(tmp_path)) as keygen:
        assert (await ends(keygen))[0] == 0
    private, public = sorted(tmp_path.glob("*.pem"))
    if "PRIVATE" not in private.read_text():
        private, public = public, private
    arguments = ("token", "--key", str(private), "--publish", "lesson", "--ttl", "5m")
    async with terrace(*arguments) as issue:
        token = (await ends(issue))[1].split()[-1]
    small = ("--size", "320x180", "--seconds", "1")
    with Tree(tmp_path, {"centre": ""}, ["--public-key", str(public)]) as tree:
        url = tree.root.url
        async with terrace("publish", "test:", f"{url}/whip/lesson", *small) as publisher:
            code, told = await ends(publisher)
            assert code == 1
            assert re.search(r"terrace publish: the node says: .+ \(401\)\n", told)
        other = f"{url}/whip/other"
        async with terrace("publish", "test:", other, "--token", token, *small) as publisher:
            code, told = await ends(publisher)
            assert code == 1
            assert "(403)" in told
        lesson = f"{url}/whip/lesson"
        async with terrace("publish", "test:", lesson, *small, TERRACE_TOKEN=token) as publisher:
            code, told = await ends(publisher)
            assert code == 0, told
