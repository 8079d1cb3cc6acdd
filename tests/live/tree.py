"""A tree of real nodes: one `terrace relay` process each, on free ports of this machine.

A tree is started and stopped without an event loop, so that a fixture of any scope can own it. What
the nodes log is kept in files, shown with a test that fails, and looked through at the end: a node
that ends by itself or logs an error fails the test that used it.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from tests.lab.ports import Ports
from tests.patience import PATIENCE

ROOT = Path(__file__).parents[2]
CHAIN = {"centre": "", "province": "centre", "city": "province", "county": "city"}
READY_WITHIN_S = 30.0
STOP_WITHIN_S = 5.0
POLL_S = 0.05
LOG_LINES = 60

RUNNING: list[Tree] = []
"""Trees that are up now, for the report of a test that fails."""

_PR_SET_PDEATHSIG = 1
_FAULT = re.compile(r"Traceback|^\S+ (ERROR|CRITICAL) ", re.MULTILINE)
_LEFT = "why='the client said goodbye'"
_libc = ctypes.CDLL(None, use_errno=True)

T = TypeVar("T")


async def until(what: str, look: Callable[[], Awaitable[T | None]], within_s: float) -> T:
    """Look again and again until something true is seen, and return it.

    Fails the test with `what` and what was seen last when that takes longer than `within_s`, times
    `PATIENCE`.
    """
    deadline = time.monotonic() + within_s * PATIENCE
    while True:
        seen = await look()
        if seen:
            return seen
        if time.monotonic() > deadline:
            raise AssertionError(
                f"not within {within_s * PATIENCE:g} s: {what}; last seen: {seen!r}"
            )
        await asyncio.sleep(POLL_S)


async def holds(what: str, look: Callable[[], Awaitable[object]], for_s: float) -> None:
    """Look again and again for a while, and fail the test as soon as it is not true."""
    deadline = time.monotonic() + for_s
    while time.monotonic() < deadline:
        seen = await look()
        assert seen, f"held not for {for_s:g} s: {what}; seen: {seen!r}"
        await asyncio.sleep(POLL_S)


class Node:
    """One node of a tree."""

    def __init__(self, name: str, port: int, log: Path) -> None:
        self.name = name
        self.port = port
        self.log = log
        self.url = f"http://127.0.0.1:{port}"
        self.killed = False
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None
        return self._process

    def start(
        self, arguments: Sequence[str], environment: Mapping[str, str], program: str = "web.cli"
    ) -> None:
        command = [sys.executable, "-m", program, "relay", "--config", os.devnull]
        command += ["--name", self.name, "--tier", self.name, "--port", str(self.port), *arguments]
        self._process = start_process(command, self.log, environment)

    def kill(self) -> None:
        """SIGKILL: it says nothing to anybody."""
        self.process.kill()
        self.process.wait()
        self.killed = True

    async def ended(self, within_s: float) -> int:
        """Wait for the end of the process; its status."""
        status = await until(f"{self.name} ends", lambda: asyncio.to_thread(self._poll), within_s)
        return status - 1

    def _poll(self) -> int | None:
        status = self.process.poll()
        # One up, so that status 0 is something that `until` sees.
        return None if status is None else status + 1

    def answers(self) -> bool:
        """Whether it is ready; raises AssertionError when it has ended."""
        status = self.process.poll()
        assert status is None, f"{self.name} ended with status {status}:\n{self.log_end()}"
        try:
            self._get("/healthz")
        except OSError:
            return False
        return True

    def about_now(self) -> dict[str, Any]:
        """/api/node."""
        return dict(json.loads(self._get("/api/node")))

    async def about(self) -> dict[str, Any]:
        """/api/node, while the event loop goes on."""
        return await asyncio.to_thread(self.about_now)

    async def stream(self, name: str) -> dict[str, Any] | None:
        """What /api/node says about one stream, None when it has none of that name."""
        streams = (await self.about())["streams"]
        return next((dict(one) for one in streams if one["name"] == name), None)

    async def track(self, name: str, kind: str) -> dict[str, Any]:
        """What /api/node says about one track of a stream that must be there."""
        stream = await self.stream(name)
        assert stream is not None, f"{self.name} has no stream '{name}'"
        return next(dict(one) for one in stream["tracks"] if one["kind"] == kind)

    def _get(self, path: str) -> bytes:
        with urllib.request.urlopen(f"{self.url}{path}", timeout=3 * PATIENCE) as response:
            return bytes(response.read())

    def log_end(self, lines: int = LOG_LINES) -> str:
        """The last lines that the node has logged, without viewers that left as they should."""
        said = self.log.read_text(errors="replace").splitlines()
        return "\n".join([line for line in said if _LEFT not in line][-lines:])


class Tree:
    """Nodes by name. `parents`: each node's parent by name, "" for the root. Use as `with`.

    `arguments` and `environment` go to every node; `program` is the module that is run.
    """

    def __init__(
        self,
        folder: Path,
        parents: Mapping[str, str] = CHAIN,
        arguments: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        program: str = "web.cli",
    ) -> None:
        self._program = program
        self.nodes = {
            name: Node(name, port, folder / f"{name}.log")
            for name, port in zip(parents, free_ports(len(parents)), strict=True)
        }
        self._parents = dict(parents)
        self._arguments = list(arguments)
        self._environment = dict(environment or {})

    def __getitem__(self, name: str) -> Node:
        return self.nodes[name]

    @property
    def root(self) -> Node:
        """The node without a parent."""
        return next(self.nodes[name] for name, parent in self._parents.items() if not parent)

    def __enter__(self) -> Tree:
        RUNNING.append(self)
        try:
            for name, node in self.nodes.items():
                parent = self._parents[name]
                above = ["--parent", self.nodes[parent].url] if parent else []
                node.start([*above, *self._arguments], self._environment, self._program)
            self._wait("are ready", lambda: all(node.answers() for node in self.nodes.values()))
            self._wait("found their parents", self._joined)
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop()

    def _joined(self) -> bool:
        return all(
            node.about_now()["parent_state"] == ("connected" if self._parents[name] else "none")
            for name, node in self.nodes.items()
        )

    def _wait(self, what: str, look: Callable[[], bool]) -> None:
        deadline = time.monotonic() + READY_WITHIN_S
        while not look():
            assert time.monotonic() < deadline, f"not within {READY_WITHIN_S:g} s: nodes {what}"
            time.sleep(POLL_S)

    def _stop(self) -> None:
        """End all nodes, the lowest first, and fail for what they logged or how they ended."""
        nodes = list(self.nodes.values())
        ended = [n.name for n in nodes if n.process.poll() not in (None, 0) and not n.killed]
        for node in reversed(nodes):
            end_process(node.process)
        RUNNING.remove(self)
        assert not ended, f"ended by themselves: {ended}\n{self.logs()}"
        faults = [
            node.name for node in nodes if _FAULT.search(node.log.read_text(errors="replace"))
        ]
        assert not faults, f"errors in the logs of {faults}\n{self.logs()}"

    def logs(self) -> str:
        """The last lines of all nodes' logs."""
        return "\n".join(f"--- {n.name} {n.url}\n{n.log_end()}" for n in self.nodes.values())


def start_process(
    command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start a process in a session of its own, which ends with this one whatever ends this one."""
    own = {k: v for k, v in os.environ.items() if not k.startswith("TERRACE_")}
    if "TERRACE_SEND" in os.environ:
        own["TERRACE_SEND"] = os.environ["TERRACE_SEND"]
    with log.open("ab") as output:
        return subprocess.Popen(
            command,
            cwd=ROOT,
            env=own | {"PYTHONUNBUFFERED": "1"} | dict(environment or {}),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_die_with_parent,
        )


def end_process(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM, and SIGKILL to one that does not heed it."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_WITHIN_S * PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _die_with_parent() -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def free_ports(count: int) -> list[int]:
    """Numbers that are free for TCP and UDP, below those that the kernel gives out by itself."""
    ports = Ports()
    return [ports.take() for _ in range(count)]
