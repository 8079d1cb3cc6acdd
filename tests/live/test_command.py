"""`terrace relay` and `terrace demo` as processes: how they start, and that nothing is left."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from tests.patience import PATIENCE
from web import demo

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.live


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
    """Waits for a line with these words and returns all lines up to it."""
    assert process.stdout is not None
    lines = []
    async with asyncio.timeout(60):
        while line := (await process.stdout.readline()).decode():
            lines.append(line)
            if words in line:
                return "".join(lines)
    raise AssertionError(f"{words!r} was not said:\n{''.join(lines)}")


async def answers(url: str) -> bool:
    async with aiohttp.ClientSession() as session:
        try:
            async with session.get(url) as response:
                return response.status == 200
        except aiohttp.ClientConnectionError:
            return False


def free_ports() -> int:
    """A base port whose four ports are free at this moment."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            base: int = probe.getsockname()[1]
        with contextlib.suppress(demo.DemoFailed, OverflowError):
            demo.ports(base)
            return base


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_node_answers_when_it_says_ready_and_stops_within_3_s(
    number: signal.Signals, unused_tcp_port: int
) -> None:
    url = f"http://127.0.0.1:{unused_tcp_port}"
    async with terrace("relay", "--name", "longhua", "--port", str(unused_tcp_port)) as node:
        await said(node, f"ready url={url}")
        assert await answers(f"{url}/healthz")
        node.send_signal(number)
        async with asyncio.timeout(3 * PATIENCE):
            rest, _ = await node.communicate()
        assert node.returncode == 0
        assert b"Traceback" not in rest
        assert not await answers(f"{url}/healthz")


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM], ids=["TCP", "UDP"])
async def test_a_node_whose_port_is_taken_ends_with_one_sentence(kind: socket.SocketKind) -> None:
    """Status 2: no new start puts it right (deploy/terrace-relay.service relies on that)."""
    with socket.socket(socket.AF_INET, kind) as other:
        other.bind(("127.0.0.1", 0))
        if kind == socket.SOCK_STREAM:
            other.listen()
        taken = other.getsockname()[1]
        async with terrace("relay", "--port", str(taken)) as node:
            text = (await node.communicate())[0].decode()
    assert node.returncode == 2
    assert "Traceback" not in text
    last = text.splitlines()[-1]
    assert last.startswith("terrace relay: cannot open ")
    assert f"127.0.0.1:{taken}: Address already in use" in last


async def test_a_misspelt_variable_is_warned_of(unused_tcp_port: int) -> None:
    async with terrace("relay", "--port", str(unused_tcp_port), TERRACE_PROT="1") as node:
        assert "WARNING web.cli setting-unknown variable=TERRACE_PROT" in await said(node, "ready")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGKILL])
async def test_nothing_of_the_demo_outlives_it(number: signal.Signals, tmp_path: Path) -> None:
    """However it ends, even killed without a chance to clean up, every node ends with it."""
    base = free_ports()
    arguments = ("demo", "--no-publish", "--base-port", str(base))
    async with terrace(*arguments, TMPDIR=str(tmp_path)) as process:
        await said(process, "county")
        nodes = [
            await asyncio.open_connection("127.0.0.1", base + step) for step in range(0, 40, 10)
        ]
        process.send_signal(number)
        async with asyncio.timeout(10 * PATIENCE):
            text = (await process.communicate())[0].decode()
            for reader, writer in nodes:
                # A connection that nobody uses ends when the node does.
                with contextlib.suppress(ConnectionError):
                    assert await reader.read() == b""
                writer.close()
    assert "Traceback" not in text
    if number != signal.SIGKILL:
        assert process.returncode == 0
        assert list(tmp_path.iterdir()) == []


async def test_the_demo_is_a_complete_tree_and_stops_by_itself() -> None:
    base = free_ports()
    arguments = ("demo", "--no-publish", "--base-port", str(base), "--seconds", "1")
    async with terrace(*arguments) as process:
        text = (await process.communicate())[0].decode()
    assert process.returncode == 0
    assert (
        "centre\n"  # the picture, drawn once for a pipe
        "└── province\n"
        "  └── city\n"
        "    └── county\n"
        "(no stream)\n"
    ) in text
    assert f"http://127.0.0.1:{base}/present/class" in text
