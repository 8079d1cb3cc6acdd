"""The node under test: a real `terrace relay` process on this machine, pinned to one core."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO

from tests.bench import machine
from tests.bench.signalling import Client, HttpError

ROOT = Path(__file__).resolve().parents[2]
_START_TIMEOUT_S = 15.0
_STOP_TIMEOUT_S = 5.0


class NodeError(Exception):
    """The node did not start or ended by itself; the text holds the end of its log."""


class Node:
    """One running node. Use as `async with`."""

    def __init__(
        self,
        core: int,
        parent: "Node | None" = None,
        *,
        parent_url: str = "",
        workers: int = 1,
    ) -> None:
        """`parent`: the node above, for a chain; or `parent_url`, of something else.

        `workers`: processes that the node is made of, all of them on its one core.
        """
        self.port = _free_port(workers)
        self._workers = workers
        self.url = f"http://127.0.0.1:{self.port}"
        self._core = core
        self._parent_url = parent.url if parent is not None else parent_url
        self._process: subprocess.Popen[bytes] | None = None
        self._folder = tempfile.TemporaryDirectory(prefix="terrace-bench-")
        self._log: IO[bytes] | None = None

    @property
    def pids(self) -> list[int]:
        """All processes of the node."""
        return machine.process_tree(self._running().pid)

    async def __aenter__(self) -> "Node":
        self._process = self._start()
        try:
            # Before Python has started a thread; all of them inherit it.
            machine.pin(self._process.pid, self._core)
            await self._until_ready()
            machine.pin(self._process.pid, self._core)
        except BaseException:
            self._end()
            raise
        return self

    async def __aexit__(self, *_exception: object) -> None:
        self._end()

    def check(self) -> None:
        """Raise NodeError when the process has ended."""
        if self._running().poll() is not None:
            raise NodeError(f"the node ended by itself:\n{self._log_end()}")

    def _start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "web.cli", "relay", "--port", str(self.port)]
        command += ["--host", "127.0.0.1", "--name", f"bench-{self.port}"]
        if self._parent_url:
            command += ["--parent", self._parent_url]
        if self._workers > 1:
            command += ["--workers", str(self._workers)]
        # An empty folder and no TERRACE_ variables: settings of this machine must not get in.
        environment = {k: v for k, v in os.environ.items() if not k.startswith("TERRACE_")}
        environment["PYTHONPATH"] = str(ROOT)
        environment["XDG_CACHE_HOME"] = self._folder.name
        self._log = (Path(self._folder.name) / "node.log").open("wb")
        return subprocess.Popen(
            command,
            cwd=self._folder.name,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    async def _until_ready(self) -> None:
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
        raise NodeError(f"the node did not answer in {_START_TIMEOUT_S:g} s:\n{self._log_end()}")

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError("not started")
        return self._process

    def _log_end(self) -> str:
        log = Path(self._folder.name) / "node.log"
        return log.read_text(errors="replace")[-2000:]

    def _end(self) -> None:
        process = self._running()
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(_STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if self._log is not None:
            self._log.close()
        self._folder.cleanup()


def _free_port(count: int = 1) -> int:
    """A number that is free for TCP and UDP now, and so are those after it."""
    while True:
        with contextlib.ExitStack() as stack:
            first = 0
            try:
                for index in range(count):
                    tcp = stack.enter_context(socket.socket())
                    udp = stack.enter_context(socket.socket(type=socket.SOCK_DGRAM))
                    tcp.bind(("127.0.0.1", first + index if index else 0))
                    first = first or tcp.getsockname()[1]
                    udp.bind(("127.0.0.1", first + index))
            except (OSError, OverflowError):
                continue
            return first
