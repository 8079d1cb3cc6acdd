"""Many viewers in one process: they join by WHEP, are drained by sweeps and kept alive.

Each viewer sends what a browser that loses nothing sends: a consent check every five seconds
(RFC 7675) and one SRTCP receiver report per second, spread evenly over time.
"""

import asyncio
import secrets
import time
from dataclasses import dataclass, field

from tests.bench import rtcp, stun
from tests.bench.drain import Drain, Received
from tests.bench.dtls import DtlsError, Identity
from tests.bench.peer import Peer
from tests.bench.sdp import AnswerError
from tests.bench.signalling import Client, HttpError

JOIN_ERRORS = (OSError, TimeoutError, HttpError, DtlsError, AnswerError)

_REPORT_INTERVAL_S = 1.0
_CONSENT_REPORTS = 5
_KEEPALIVE_TICK_S = 0.05


@dataclass(slots=True)
class Joins:
    """How some joins went.

    `took_ms`: from before the POST to DTLS done; `resent`: joins in which a check or a DTLS flight
    went unanswered and was sent again.
    """

    took_ms: list[float] = field(default_factory=list)
    resent: int = 0
    failures: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Viewer:
    """One viewer after its join."""

    peer: Peer
    ssrc: int
    next_report_s: float
    reports: int = 0
    # Per kind: newest sequence number reported, and how often it wrapped.
    reported: list[int] = field(default_factory=lambda: [0, 0])
    cycles: list[int] = field(default_factory=lambda: [0, 0])


class Audience:
    """The viewers of a run. Use as `async with`."""

    def __init__(
        self, identity: Identity, capacity: int, sweep_s: float, video: str = "VP8"
    ) -> None:
        """`capacity`: how many viewers at most; `sweep_s`: pause between two sweeps.

        `video`: the codec that they offer, VP8 or H264.
        """
        self._identity = identity
        self._video = video
        self._sweep_s = sweep_s
        self._viewers: dict[int, _Viewer] = {}
        self._peers: list[Peer] = []
        self.drain = Drain(capacity, self._take_other)
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> "Audience":
        self._tasks = [asyncio.create_task(self._sweep()), asyncio.create_task(self._keep_alive())]
        return self

    async def __aexit__(self, *_exception: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.drain.forget_all()
        for peer in self._peers:
            peer.close()

    def __len__(self) -> int:
        return len(self._viewers)

    async def join(self, node_url: str, stream: str, count: int, at_once: int) -> Joins:
        """Let `count` more viewers join, `at_once` at a time; returns when all have or failed."""
        joins = Joins()
        remaining = iter(range(count))

        async def worker() -> None:
            client = Client(node_url)
            for _ in remaining:
                await self._join_one(client, stream, joins)
            await client.close()

        async with asyncio.TaskGroup() as group:
            for _ in range(min(at_once, count)):
                group.create_task(worker())
        return joins

    async def join_over(self, node_url: str, stream: str, count: int, seconds: float) -> Joins:
        """Let `count` viewers come evenly over some seconds, each on a connection of its own."""
        joins = Joins()

        async def arrive(after_s: float) -> None:
            await asyncio.sleep(after_s)
            client = Client(node_url)
            await self._join_one(client, stream, joins)
            await client.close()

        async with asyncio.TaskGroup() as group:
            for index in range(count):
                group.create_task(arrive(index * seconds / count))
        return joins

    async def leave(self, node_url: str) -> None:
        """Let all say goodbye to the node; their sockets stay open until the end."""
        client = Client(node_url)
        for peer in self._peers:
            try:
                await peer.leave(client)
            except JOIN_ERRORS:
                continue
        await client.close()

    def start_recording(self) -> None:
        """Keep a record of every packet from now on."""
        self.drain.sweep()
        self.drain.take_records()
        self.drain.recording = True

    def stop_recording(self) -> Received:
        """Stop, and return what was recorded."""
        self.drain.sweep()
        self.drain.recording = False
        return self.drain.take_records()

    async def _join_one(self, client: Client, stream: str, joins: Joins) -> None:
        number = len(self._peers)
        peer = Peer(self._identity, video=self._video)
        self._peers.append(peer)
        begin = time.monotonic()
        try:
            await peer.join(client, f"/whep/{stream}")
        except JOIN_ERRORS as error:
            joins.failures.append(f"{type(error).__name__}: {error}")
            return
        now = time.monotonic()
        joins.took_ms.append(1000 * (now - begin))
        joins.resent += peer.resent > 0
        self.drain.add(number, peer.sock)
        # Viewers that joined together must not report together.
        first = now + _REPORT_INTERVAL_S * (number * 0.618 % 1)
        self._viewers[number] = _Viewer(peer, secrets.randbits(32), first)

    async def _sweep(self) -> None:
        while True:
            self.drain.sweep()
            await asyncio.sleep(self._sweep_s)

    async def _keep_alive(self) -> None:
        while True:
            now = time.monotonic()
            for number, viewer in self._viewers.items():
                if viewer.next_report_s <= now:
                    viewer.next_report_s += _REPORT_INTERVAL_S
                    viewer.reports += 1
                    self._report(number, viewer)
                    if (viewer.reports + number) % _CONSENT_REPORTS == 0:
                        viewer.peer.send_consent()
            await asyncio.sleep(_KEEPALIVE_TICK_S)

    def _report(self, number: int, viewer: _Viewer) -> None:
        blocks = []
        for kind, ssrc in enumerate(self.drain.newest_ssrc[number].tolist()):
            if not ssrc:
                continue
            sequence = int(self.drain.newest_sequence[number, kind])
            if sequence < viewer.reported[kind] - 0x8000:
                viewer.cycles[kind] += 1
            viewer.reported[kind] = sequence
            blocks.append((ssrc, viewer.cycles[kind] << 16 | sequence))
        viewer.peer.send(viewer.peer.tx.protect_rtcp(rtcp.receiver_report(viewer.ssrc, blocks)))

    def _take_other(self, number: int, datagram: bytes) -> None:
        if stun.is_stun(datagram):
            self._viewers[number].peer.take_stun(datagram)
