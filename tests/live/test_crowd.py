"""More viewers than a node holds, and a node that is taken out of service under its viewers."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from tests.bench.publisher import Plan, Publisher
from tests.bench.source import Cut
from tests.live.processes import ROOT, Relay, relay
from tests.live.wanderers import Crowd
from tests.patience import PATIENCE

pytestmark = pytest.mark.live

STREAM = "lecture"


@contextlib.asynccontextmanager
async def publishing(url: str) -> AsyncIterator[None]:
    """A publisher of 1 Mbit/s at a node, in a process of its own."""
    cores = tuple(sorted(os.sched_getaffinity(0)))
    publisher = await asyncio.to_thread(Publisher, Plan(url, STREAM, cores, "aes128-gcm", Cut.EVEN))
    try:
        yield
    finally:
        await asyncio.to_thread(publisher.stop)


@contextlib.asynccontextmanager
async def two_counties(folder: Path, *first: str) -> AsyncIterator[tuple[Relay, Relay, Relay]]:
    """A centre with a publisher, and two counties below it that know of each other."""
    async with (
        relay(folder, "--name", "centre") as centre,
        publishing(centre.url),
        relay(folder, "--name", "a", "--tier", "county", "--parent", centre.url, *first) as a,
        relay(folder, "--name", "b", "--tier", "county", "--parent", centre.url) as b,
    ):
        await a.until("/api/node", lambda node: node["load"]["siblings_room"] > 0)
        yield centre, a, b


async def test_a_full_node_serves_whom_it_holds_and_a_sibling_serves_the_rest(
    tmp_path: Path,
) -> None:
    """The parent told the node of its sibling; nobody had to set it."""
    async with (
        two_counties(tmp_path, "--max-viewers", "10") as (_, a, b),
        Crowd(a.url, STREAM) as crowd,
    ):
        await crowd.come(20, within_s=0.5)
        await crowd.until(20, 15)
        assert (await a.get())["viewers"] == 10
        assert (await b.get())["viewers"] == 10
        assert not [v.failures for v in crowd.viewers if v.failures]


async def test_a_full_node_without_siblings_says_when_to_come_again(tmp_path: Path) -> None:
    """503 with Retry-After, spread, and a word for programs; those inside are not disturbed."""
    async with (
        relay(tmp_path, "--max-viewers", "5") as node,
        publishing(node.url),
        Crowd(node.url, STREAM, again=False) as crowd,
    ):
        await crowd.come(5, within_s=0.2)
        await crowd.until(5, 10)
        waits = set()
        async with aiohttp.ClientSession() as http:
            for _ in range(20):
                async with http.post(
                    f"{node.url}/whep/{STREAM}",
                    data=b"v=0",
                    headers={"Content-Type": "application/sdp"},
                    allow_redirects=False,
                ) as answer:
                    assert answer.status == 503
                    assert answer.headers["Terrace-Reason"] == "full"
                    assert "Link" not in answer.headers
                    waits.add(int(answer.headers["Retry-After"]))
        assert len(waits) > 1
        assert len(crowd.playing()) == 5


async def test_a_drained_node_hands_its_viewers_over_and_stops(tmp_path: Path) -> None:
    """Each plays on at the sibling after at most a second; the process then ends by itself."""
    async with two_counties(tmp_path) as (_, a, b), Crowd(a.url, STREAM) as crowd:
        await crowd.come(20, within_s=1.0)
        await crowd.until(20, 15)
        async with (
            aiohttp.ClientSession() as http,
            http.post(f"{a.url}/api/drain", json={"seconds": 6}) as answer,
        ):
            assert answer.status == 202
            assert await answer.json() == {"viewers": 20, "seconds": 6}
        async with asyncio.timeout(8 * PATIENCE):
            assert await a.process.wait() == 0
        await crowd.until_moved(b.url, 5)
        await crowd.until(20, 5)
        stalls = [stall for v in crowd.viewers for stall in v.stalls]
        assert len(stalls) == 20
        assert max(stalls) <= 1.0 * PATIENCE
        await b.until("/api/node", lambda node: node["viewers"] == 20)


async def test_sigterm_drains_where_the_settings_say_so(tmp_path: Path) -> None:
    async with (
        two_counties(tmp_path, "--drain-s", "4") as (_, a, b),
        Crowd(a.url, STREAM) as crowd,
    ):
        await crowd.come(5, within_s=0.2)
        await crowd.until(5, 10)
        a.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(6 * PATIENCE):
            assert await a.process.wait() == 0
        await crowd.until_moved(b.url, 5)


async def test_a_page_of_another_site_cannot_drain_a_node(tmp_path: Path) -> None:
    """A form can be posted across origins without being asked; JSON cannot."""
    async with relay(tmp_path) as node, aiohttp.ClientSession() as http:
        async with http.post(f"{node.url}/api/drain", data={"seconds": "0"}) as answer:
            assert answer.status == 415
        assert (await node.get())["load"]["draining"] is False


async def test_the_command_drains_a_node_and_says_how_it_goes(tmp_path: Path) -> None:
    async with two_counties(tmp_path) as (_, a, _b), Crowd(a.url, STREAM) as crowd:
        await crowd.come(4, within_s=0.2)
        await crowd.until(4, 10)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "web.cli", "drain", a.url, "--seconds", "4",
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        said, _ = await process.communicate()
        lines = said.decode().splitlines()
        assert process.returncode == 0, lines
        assert lines[0] == "4 viewers, at most 4 s"
        assert lines[-1] == "The node has stopped."
        assert await a.process.wait() == 0


async def test_a_child_changes_its_parent_while_the_parent_drains(tmp_path: Path) -> None:
    """Viewers below keep their session: they renegotiate nothing and miss nothing."""
    async with (
        relay(tmp_path, "--name", "centre") as centre,
        publishing(centre.url),
        relay(tmp_path, "--name", "city", "--parent", centre.url) as city,
        relay(tmp_path, "--name", "spare", "--parent", centre.url) as spare,
        relay(tmp_path, "--name", "low", "--parent", city.url, "--parent", spare.url) as low,
        Crowd(low.url, STREAM) as crowd,
        aiohttp.ClientSession() as http,
    ):
        await crowd.come(3, within_s=0.2)
        await crowd.until(3, 10)
        await asyncio.sleep(1)
        for viewer in crowd.viewers:
            viewer.longest_gap_s = 0.0
        async with http.post(f"{city.url}/api/drain", json={"seconds": 15}) as answer:
            assert answer.status == 202
        async with asyncio.timeout(20 * PATIENCE):
            assert await city.process.wait() == 0
        await asyncio.sleep(1)
        await crowd.until(3, 5)
        assert [viewer.joins for viewer in crowd.viewers] == [1, 1, 1]
        assert max(viewer.longest_gap_s for viewer in crowd.viewers) <= 0.5 * PATIENCE
        shown = await low.get()
        assert shown["streams"][0]["parent"] == spare.url
