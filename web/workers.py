"""`terrace relay --workers N`: one node of several processes, one for each core.

The first process is the front: it has the public HTTP port, takes publishers, and is the parent
of the others. It hands viewers to the process with the fewest, by passing their POST on to the
worker's own HTTP port on the loopback interface. The worker's answer names the worker's own UDP
port, so media never passes through the front. A session's URL gets the worker's number, so PATCH
and DELETE find their way without a table. The front owns the workers: it starts them again when
they end, and they end with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

import aiohttp
from aiohttp import hdrs, web
from multidict import CIMultiDict

from relay import endpoints, team, tree
from relay.node import Node
from web.orphans import die_with_parent

if TYPE_CHECKING:
    from web.settings import RelaySettings

log = logging.getLogger("web.workers")

NUMBER_VARIABLE = "TERRACE_WORKER"
SECRET_VARIABLE = "TERRACE_WORKER_SECRET"  # noqa: S105  a variable's name
LOOPBACK = "127.0.0.1"
ASK_EVERY_S = 0.5
START_AGAIN_S = 1.0
STOP_WITHIN_S = 3.0
# Headers of one connection (RFC 9110 section 7.6.1), and those that the front writes itself.
NOT_PASSED_ON = frozenset(
    {"connection", "host", "keep-alive", "transfer-encoding", "upgrade", "content-length", "date",
     "server", "content-encoding"}
)  # fmt: skip

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def worker_number() -> int:
    """Which worker this process is, 0 if it is none."""
    text = os.environ.get(NUMBER_VARIABLE, "")
    return int(text) if text.isdecimal() else 0


def worker_settings(settings: RelaySettings, number: int) -> RelaySettings:
    """A worker's settings: those of its node, below the front, on a UDP port of its own."""
    front = {"0.0.0.0": LOOPBACK, "::": "[::1]"}.get(settings.host, settings.host)
    front = f"[{front}]" if ":" in front and not front.startswith("[") else front
    return settings.model_copy(
        update={
            "name": f"{settings.name}#{number}",
            "port": settings.port + number,
            "parents": [f"http://{front}:{settings.port}"],
            "workers": 1,
            # The front counts for all, and speaks for all.
            "max_viewers": 0,
            "max_packets_per_s": settings.max_packets_per_s // settings.workers,
            "siblings": [],
            "public_url": "",
            "drain_s": 0.0,
        }
    )


class Team:
    """The workers of a node. `arguments` are those that this process was started with."""

    def __init__(self, node: Node, count: int, secret: str, arguments: Sequence[str]) -> None:
        self.node = node
        self.workers = [team.Worker(number) for number in range(1, count)]
        self._secret = secret
        self._arguments = list(arguments)
        self._draining = False
        self._tasks: list[asyncio.Task[None]] = []
        self._http: aiohttp.ClientSession | None = None
        node.team = self

    # ------------------------------------------------------------ life

    async def start(self) -> None:
        """Start the workers; they are ready some time later."""
        timeout = aiohttp.ClientTimeout(total=3, sock_connect=1)
        self._http = aiohttp.ClientSession(timeout=timeout, auto_decompress=False)
        for worker in self.workers:
            run = self._keep(worker)
            self._tasks.append(asyncio.create_task(run, name=f"worker-{worker.number}"))
            ask = self._ask(worker)
            self._tasks.append(asyncio.create_task(ask, name=f"ask-worker-{worker.number}"))

    async def stop(self) -> None:
        """End the workers: in order, and after STOP_WITHIN_S in any way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._http is not None:
            await self._http.close()

    async def _keep(self, worker: team.Worker) -> None:
        """Keep a worker's process running."""
        environment = os.environ | {
            NUMBER_VARIABLE: str(worker.number),
            SECRET_VARIABLE: self._secret,
        }
        while True:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "web.cli", *self._arguments,
                env=environment,
                # Ctrl-C is for the front, which then ends the workers.
                start_new_session=True,
                preexec_fn=die_with_parent(),
            )  # fmt: skip
            worker.pid = process.pid
            try:
                status = await process.wait()
            except asyncio.CancelledError:
                await _end(process)
                raise
            worker.gone()
            if self._draining:
                return
            worker.restarts += 1
            log.warning("worker-end number=%d status=%d", worker.number, status)
            await asyncio.sleep(START_AGAIN_S)

    async def _ask(self, worker: team.Worker) -> None:
        """Ask a worker how it is, again and again."""
        url = self._url(worker) + "/api/node"
        timeout = aiohttp.ClientTimeout(total=1.5)
        while True:
            await asyncio.sleep(ASK_EVERY_S)
            with contextlib.suppress(TimeoutError, aiohttp.ClientError, OSError, ValueError):
                worker.asked()
                async with self._client.get(url, timeout=timeout) as answer:
                    snapshot = await answer.json()
                    if worker.pid and isinstance(snapshot, dict):
                        worker.heard(snapshot, time.monotonic())

    @property
    def _client(self) -> aiohttp.ClientSession:
        assert self._http is not None
        return self._http

    def _url(self, worker: team.Worker) -> str:
        return f"http://{LOOPBACK}:{self.node.config.port + worker.number}"

    # ------------------------------------------------------------ what the node sees

    @property
    def viewers(self) -> int:
        """How many viewers all workers have."""
        return sum(worker.viewers for worker in self.workers)

    @property
    def room(self) -> int:
        """How many more they would take."""
        now = time.monotonic()
        return sum(max(0, worker.room) for worker in self.workers if worker.well(now))

    def merge(self, snapshot: dict[str, object]) -> dict[str, object]:
        """The front's /api/node with the workers in it."""
        return team.merge(snapshot, self.workers, time.monotonic())

    async def drain(self, seconds: float) -> None:
        """Have all workers hand their viewers over; they ask the front, which sends them on."""
        self._draining = True
        headers = {hdrs.AUTHORIZATION: f"Bearer {self._secret}"}
        order = {"seconds": seconds, "elsewhere": True}
        for worker in self.workers:
            with contextlib.suppress(TimeoutError, aiohttp.ClientError, OSError):
                url = self._url(worker) + "/api/drain"
                async with self._client.post(url, json=order, headers=headers):
                    pass

    # ------------------------------------------------------------ requests

    @web.middleware
    async def front(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Pass a viewer's request on to the worker that serves it, all others to this node."""
        match request.path.split("/"):
            case ["", "whep", _] if request.method == "POST":
                return await self._view(request, handler)
            case ["", "whep", stream, session] if request.method in ("PATCH", "DELETE"):
                number, dot, rest = session.partition(".")
                if dot and number[:1] == "w" and number[1:].isdecimal():
                    for worker in self.workers:
                        if worker.number == int(number[1:]):
                            body = await _body(request)
                            path = f"/whep/{stream}/{rest}"
                            passed = await self._pass_on(request, worker, path, body)
                            if passed is not None:
                                return passed
                return await handler(request)
            case _:
                return await handler(request)

    async def _view(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        node, now = self.node, time.monotonic()
        limit = node.config.limits.max_viewers
        own = len(node.viewers)
        full = limit and own + self.viewers >= limit
        if node.draining or full or tree.NODE_HEADER in request.headers:
            return await handler(request)
        worker = team.next_for_a_viewer(self.workers, now, own, node.crowd.own_room(now))
        if worker is None:
            return await handler(request)
        # Counted before the answer: a crowd asks within less time than that takes.
        worker.sends()
        joined = False
        try:
            passed = await self._pass_on(request, worker, request.path, await _body(request))
            joined = passed is not None and passed.status == 201
        finally:
            worker.answered(joined)
        if passed is None or passed.status >= 500:
            return await handler(request)
        location = passed.headers.get(hdrs.LOCATION, "")
        if passed.status == 201 and location:
            head, _, session = location.rpartition("/")
            passed.headers[hdrs.LOCATION] = f"{head}/w{worker.number}.{session}"
        return passed

    async def _pass_on(
        self, request: web.Request, worker: team.Worker, path: str, body: bytes
    ) -> web.Response | None:
        """The worker's answer to a request; None when it gives none."""
        try:
            async with self._client.request(
                request.method,
                self._url(worker) + path,
                data=body,
                headers=_passed_on(request.headers),
                allow_redirects=False,
            ) as answer:
                text = await answer.read()
                headers = _passed_on(answer.headers)
                return web.Response(status=answer.status, body=text, headers=headers)
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            log.warning("worker-silent number=%d why=%r", worker.number, str(error))
            return None


def new_secret() -> str:
    """What a worker shows to the front and the front to a worker."""
    return secrets.token_urlsafe(32)


def _passed_on(headers: object) -> CIMultiDict[str]:
    items = headers.items() if hasattr(headers, "items") else ()
    return CIMultiDict((k, v) for k, v in items if k.lower() not in NOT_PASSED_ON)


async def _body(request: web.Request) -> bytes:
    """The body, which is left for the node's own handler too."""
    body = await request.read()
    request[endpoints.READ_BODY] = body
    return body


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGTERM)
    try:
        async with asyncio.timeout(STOP_WITHIN_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
