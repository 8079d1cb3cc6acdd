"""`--workers N`: several processes behind one HTTP port, with real processes and viewers."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.bench.dtls import Identity
from tests.bench.peer import Peer
from tests.bench.signalling import Client
from tests.live.processes import relay
from tests.live.test_crowd import STREAM, publishing
from tests.live.wanderers import Crowd
from tests.patience import PATIENCE

pytestmark = pytest.mark.live


def ready(count: int) -> Any:
    """Whether all processes of a node are there."""
    return lambda node: [w["state"] for w in node.get("workers", [])] == ["ready"] * count


async def test_viewers_are_spread_over_the_workers_of_one_port(tmp_path: Path) -> None:
    async with relay(tmp_path, "--workers", "3") as node, publishing(node.url):
        await node.until("/api/node", ready(3))
        async with Crowd(node.url, STREAM) as crowd:
            await crowd.come(12, within_s=0.6)
            await crowd.until(12, 15)
            shown = await node.until("/api/node", lambda one: one["viewers"] == 12)
            assert [w["viewers"] for w in shown["workers"]] == [4, 4, 4]
            assert [s["viewers"] for s in shown["streams"]] == [12]
            assert shown["streams"][0]["relays"] == 0
            assert shown["children"] == []
            assert (await node.get("/api/tree"))["below"] == []
            text = await node.text("/metrics")
            assert 'terrace_worker_viewers{worker="2"} 4' in text


async def test_a_session_of_a_worker_is_ended_at_the_public_port(tmp_path: Path) -> None:
    async with relay(tmp_path, "--workers", "2") as node, publishing(node.url):
        await node.until("/api/node", ready(2))
        client, peers = Client(node.url), []
        for _ in range(2):
            peers.append(Peer(Identity("aes128-gcm")))
            await peers[-1].join(client, f"/whep/{STREAM}")
        shown = await node.until("/api/node", lambda one: one["viewers"] == 2)
        assert [w["viewers"] for w in shown["workers"]] == [1, 1]
        for peer in peers:
            await peer.leave(client)
            peer.close()
        await node.until("/api/node", lambda one: one["viewers"] == 0)
        await client.close()


async def test_a_worker_that_dies_is_started_again_and_its_viewers_come_back(
    tmp_path: Path,
) -> None:
    """The viewers of the others notice nothing."""
    async with relay(tmp_path, "--workers", "2") as node, publishing(node.url):
        shown = await node.until("/api/node", ready(2))
        os.kill(shown["workers"][1]["pid"], signal.SIGKILL)
        async with Crowd(node.url, STREAM) as crowd:
            await crowd.come(4, within_s=0.2)
            await crowd.until(4, 10)
            shown = await node.until(
                "/api/node", lambda one: ready(2)(one) and one["workers"][1]["restarts"] == 1
            )
            assert shown["viewers"] == 4
            await crowd.come(4, within_s=0.2)
            await crowd.until(8, 10)
            shown = await node.until("/api/node", lambda one: one["viewers"] == 8)
            assert [w["viewers"] for w in shown["workers"]] == [4, 4]


async def test_a_node_of_several_processes_holds_what_it_was_set_to_hold(tmp_path: Path) -> None:
    arguments = ("--workers", "2", "--max-viewers", "6")
    async with relay(tmp_path, *arguments) as node, publishing(node.url):
        await node.until("/api/node", ready(2))
        async with Crowd(node.url, STREAM, again=False) as crowd:
            await crowd.come(10, within_s=0.1)
            await crowd.until(6, 10)
            await node.until("/api/node", lambda one: one["viewers"] == 6)

            def answered(_: object) -> bool:
                return sum(len(v.failures) for v in crowd.viewers) == 4

            await node.until("/api/node", answered)
            # Nobody more is let in afterwards, once every process has told of its viewers.
            await asyncio.sleep(1)
            assert (await node.get())["viewers"] == 6


async def test_the_workers_end_with_the_front_however_it_ends(tmp_path: Path) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        async with relay(tmp_path, "--workers", "2") as node:
            shown = await node.until("/api/node", ready(2))
            pid = shown["workers"][1]["pid"]
            node.process.send_signal(number)
            async with asyncio.timeout(6 * PATIENCE):
                await node.process.wait()
                await _ended(pid)


async def _ended(pid: int) -> None:
    """Wait until a process that is not our child has ended."""
    while True:
        try:
            if ") Z " in Path(f"/proc/{pid}/stat").read_text():
                return
        except (FileNotFoundError, ProcessLookupError):
            return
        await asyncio.sleep(0.05)


async def test_viewers_of_workers_are_handed_over_too(tmp_path: Path) -> None:
    async with (
        relay(tmp_path, "--name", "centre") as centre,
        publishing(centre.url),
        relay(tmp_path, "--name", "b", "--tier", "county", "--parent", centre.url) as b,
        relay(
            tmp_path, "--name", "a", "--tier", "county", "--parent", centre.url, "--workers", "2"
        ) as a,
    ):
        await a.until("/api/node", ready(2))
        await a.until("/api/node", lambda node: node["load"]["siblings_room"] > 0)
        async with Crowd(a.url, STREAM) as crowd:
            await crowd.come(8, within_s=0.4)
            await crowd.until(8, 10)
            async with (
                aiohttp.ClientSession() as http,
                http.post(f"{a.url}/api/drain", json={"seconds": 6}) as answer,
            ):
                assert answer.status == 202
            async with asyncio.timeout(10 * PATIENCE):
                assert await a.process.wait() == 0
            await crowd.until_moved(b.url, 5)
            assert max(stall for v in crowd.viewers for stall in v.stalls) <= 1.0 * PATIENCE
