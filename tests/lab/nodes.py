"""Real `terrace relay` processes on fixed ports, to be killed, stopped and started again."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench.signalling import Client, HttpError
from tests.lab.proxy import ROOT
from web.orphans import die_with_parent

_START_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 5.0


class NodeError(Exception):
    """The node did not start or ended by itself; the text holds the end of its log."""


@dataclass(frozen=True, slots=True)
class Use:
    """What a node process holds of the machine.

    `memory_bytes` is its own memory, counted page by page: VmRSS has the pages of files in it, as
    many as the system likes, and is itself off by some hundred kB.
    """

    memory_bytes: int
    descriptors: int
    sockets: int
    threads: int


class Node:
    """One node of a tree. `parents` are URLs, of nodes or of a proxy's edges. `async with`.

    `program` is the module that is run.
    """

    def __init__(
        self, name: str, port: int, parents: tuple[str, ...] = (), program: str = "web.cli"
    ) -> None:
        self._program = program
        self.name = name
        self.port = port
        self.parents = parents
        self.url = f"http://127.0.0.1:{port}"
        self.starts = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._folder = tempfile.TemporaryDirectory(prefix="terrace-lab-")
        self.log_path = Path(self._folder.name) / "node.log"

    async def __aenter__(self) -> Node:
        try:
            await self.start()
        except BaseException:
            self.end()
            raise
        return self

    async def __aexit__(self, *_exception: object) -> None:
        self.end()

    async def start(self) -> None:
        """Start the process and wait until it answers; the log goes on in the same file."""
        command = [sys.executable, "-m", self._program, "relay", "--port", str(self.port)]
        command += ["--host", "127.0.0.1", "--name", self.name, "--tier", self.name]
        for parent in self.parents:
            command += ["--parent", parent]
        environment = {k: v for k, v in os.environ.items() if not k.startswith("TERRACE_")}
        environment["PYTHONPATH"] = str(ROOT)
        self.starts += 1
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                cwd=self._folder.name,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=die_with_parent(),
            )
        client = Client(self.url)
        deadline = time.monotonic() + _START_TIMEOUT_S
        while time.monotonic() < deadline:
            self.check()
            try:
                await client.expect(200, "GET", "/healthz")
            except (OSError, HttpError):
                await asyncio.sleep(0.05)
            else:
                await client.close()
                return
        raise NodeError(f"{self.name} did not answer:\n{self.log()[-2000:]}")

    @property
    def pid(self) -> int:
        """The process id."""
        return self._running().pid

    @property
    def alive(self) -> bool:
        """Whether the process runs (a stopped one does)."""
        return self._process is not None and self._process.poll() is None

    def check(self) -> None:
        """Raise NodeError when the process has ended."""
        if not self.alive:
            raise NodeError(f"{self.name} ended by itself:\n{self.log()[-2000:]}")

    def signal(self, number: int) -> None:
        """Send a signal (SIGSTOP, SIGCONT, SIGTERM)."""
        self._running().send_signal(number)

    def kill(self) -> None:
        """End the process at once, without a word to anyone."""
        process = self._running()
        process.kill()
        process.wait()

    async def get(self, path: str) -> Any:
        """GET a JSON document, such as /api/node. Raises OSError, HttpError or TimeoutError."""
        client = Client(self.url)
        try:
            return json.loads((await client.expect(200, "GET", path)).body)
        finally:
            await client.close()

    def use(self) -> Use:
        """Memory, descriptors and threads of the process, from /proc."""
        folder = Path("/proc") / str(self.pid)
        status = dict(
            line.split(":", 1) for line in (folder / "status").read_text().splitlines() if line
        )
        rollup = (folder / "smaps_rollup").read_text().splitlines()
        (own,) = [line.split()[1] for line in rollup if line.startswith("Anonymous:")]
        links = []
        for link in (folder / "fd").iterdir():
            try:
                links.append(str(link.readlink()))
            except OSError:
                continue
        return Use(
            memory_bytes=int(own) * 1024,
            descriptors=len(links),
            sockets=sum(link.startswith("socket:") for link in links),
            threads=int(status["Threads"]),
        )

    def log(self) -> str:
        """Everything that the node has said, over all its starts."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def end(self) -> None:
        """Stop the process in order, or else by force."""
        process = self._process
        if process is not None and process.poll() is None:
            process.send_signal(signal.SIGCONT)
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(_STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._folder.cleanup()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError("not started")
        return self._process
