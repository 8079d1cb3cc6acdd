"""The publisher: a process of its own that enters the node by WHIP and sends `source`.

It logs each packet with the wall clock read just before `send`, so that the parent process can
match what the viewers got. NACKs are answered as a real sender would; keyframe requests are
counted and not obeyed, because the amount sent must not depend on the node.
"""

import asyncio
import multiprocessing
import os
import select
import signal
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pylibsrtp import Error as SrtpError

from tests.bench import rtcp, stun
from tests.bench.dtls import Identity
from tests.bench.peer import Peer
from tests.bench.signalling import Client, HttpError
from tests.bench.source import AUDIO_INTERVAL_NS, FRAME_INTERVAL_NS, Cut, Kind, Packet, Source

# One sent packet. `size`: the whole datagram in bytes, after protection.
SENT = np.dtype(
    [
        ("t_ns", "<i8"),
        ("kind", "u1"),
        ("marker", "?"),
        ("sequence", "<u2"),
        ("timestamp", "<u4"),
        ("size", "<u2"),
    ]
)
Sent = NDArray[np.void]

_REPORT_INTERVAL_NS = 1_000_000_000
_CONSENT_REPORTS = 4
_HISTORY = 1024
_START_TIMEOUT_S = 20.0
_CLOCK_RATE_HZ = {Kind.AUDIO: 48_000, Kind.VIDEO: 90_000}


@dataclass(frozen=True, slots=True)
class Plan:
    """What a publisher process is to do; it is pickled to it."""

    node_url: str
    stream: str
    cores: tuple[int, ...]
    profile: str
    cut: Cut
    seed: int = 7


@dataclass(frozen=True, slots=True)
class Log:
    """What was sent since the publisher started, and what it was asked for."""

    sent: Sent
    nacked: int
    keyframe_requests: int
    send_failed: int


class Publisher:
    """The parent's handle on the publisher process."""

    def __init__(self, plan: Plan) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_main, args=(plan, theirs), daemon=True)
        self._process.start()
        theirs.close()
        if not self._pipe.poll(_START_TIMEOUT_S):
            self.stop()
            raise TimeoutError("the publisher did not connect in time")
        try:
            refused = self._pipe.recv()
        except EOFError:
            refused = "its process died"
        if refused:
            self._process.join()
            raise ConnectionError(f"the publisher could not enter the node: {refused}")

    @property
    def pid(self) -> int:
        """The process id, for CPU accounting."""
        return self._process.pid or 0

    def log(self) -> Log:
        """Everything sent so far. Raises EOFError when the publisher died."""
        self._pipe.send("log")
        log: Log = self._pipe.recv()
        return log

    def stop(self) -> None:
        """Leave the node and end the process."""
        try:
            self._pipe.send("quit")
        except OSError:
            pass
        self._process.join(3)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


def _main(plan: Plan, pipe: "Connection[Any, Any]") -> None:
    # Ctrl-C reaches the whole terminal; the parent still wants to end this process in order.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.sched_setaffinity(0, plan.cores)
    source = Source(plan.seed, plan.cut)
    peer = Peer(Identity(plan.profile))
    try:
        asyncio.run(_enter(peer, plan, source))
    except Exception as error:  # the parent reports it; any failure here means no publisher
        pipe.send(f"{type(error).__name__}: {error}")
        return
    pipe.send("")
    try:
        _Sending(peer, source).run(pipe)
    except EOFError:
        pass  # The parent is gone.
    asyncio.run(_leave(peer, plan))


async def _enter(peer: Peer, plan: Plan, source: Source) -> None:
    client = Client(plan.node_url)
    await peer.join(client, f"/whip/{plan.stream}", "sendonly", source.ssrcs)
    await client.close()


async def _leave(peer: Peer, plan: Plan) -> None:
    client = Client(plan.node_url)
    try:
        await peer.leave(client)
    except (OSError, TimeoutError, HttpError):
        pass  # The node may be gone already; this process ends either way.
    await client.close()
    peer.close()


@dataclass(slots=True)
class _Total:
    """One track's line in a sender report."""

    packets: int = 0
    size_bytes: int = 0
    last_timestamp: int = 0
    last_ns: int = 0


class _Sending:
    """The loop of the publisher process."""

    def __init__(self, peer: Peer, source: Source) -> None:
        self._peer, self._source = peer, source
        self._sent = np.zeros(1 << 14, SENT)
        self._count = 0
        self._history: dict[tuple[int, int], bytes] = {}
        self._totals = {kind: _Total() for kind in Kind}
        self._nacked = self._keyframe_requests = self._send_failed = 0

    def run(self, pipe: "Connection[Any, Any]") -> None:
        """Send by the clock until the parent says quit."""
        start = time.time_ns() + 50_000_000
        # Sound starts 7 ms after the picture, so that the two do not always fall together.
        next_frame, next_sound, next_report = start, start + 7_000_000, start + 500_000_000
        media, control = self._peer.sock.fileno(), pipe.fileno()
        reports = 0
        while True:
            now = time.time_ns()
            wait_s = max(0, min(next_frame, next_sound, next_report) - now) / 1e9
            ready, _, _ = select.select([media, control], [], [], wait_s)
            if control in ready:
                if pipe.recv() == "quit":
                    return
                pipe.send(self._log())
            if media in ready:
                self._read()
            now = time.time_ns()
            if now >= next_frame:
                next_frame += FRAME_INTERVAL_NS
                for packet in self._source.frame(now):
                    self._send(packet)
            if now >= next_sound:
                next_sound += AUDIO_INTERVAL_NS
                self._send(self._source.sound(now))
            if now >= next_report:
                next_report += _REPORT_INTERVAL_NS
                reports += 1
                self._report(now)
                if reports % _CONSENT_REPORTS == 0:
                    self._peer.send_consent()

    def _send(self, packet: Packet) -> None:
        datagram = self._peer.tx.protect(packet.data)
        now = time.time_ns()
        if not self._peer.send(datagram):
            self._send_failed += 1
            return
        self._history[packet.kind, packet.sequence % _HISTORY] = datagram
        total = self._totals[packet.kind]
        total.packets += 1
        total.size_bytes += len(packet.data)
        total.last_timestamp, total.last_ns = packet.timestamp, now
        if self._count == len(self._sent):
            self._sent = np.concatenate([self._sent, np.zeros_like(self._sent)])
        self._sent[self._count] = (
            now,
            packet.kind,
            packet.marker,
            packet.sequence,
            packet.timestamp,
            len(datagram),
        )
        self._count += 1

    def _report(self, now_ns: int) -> None:
        """One sender report per track."""
        for kind, total in self._totals.items():
            elapsed = (now_ns - total.last_ns) * _CLOCK_RATE_HZ[kind] // 1_000_000_000
            timestamp = (total.last_timestamp + elapsed) & 0xFFFFFFFF
            ssrc = self._source.ssrcs[kind.name.lower()]
            report = rtcp.sender_report(ssrc, now_ns, timestamp, total.packets, total.size_bytes)
            self._peer.send(self._peer.tx.protect_rtcp(report))

    def _read(self) -> None:
        """Take everything that waits in the socket."""
        while True:
            try:
                datagram = self._peer.sock.recv(2048)
            except BlockingIOError:
                return
            except OSError:
                self._send_failed += 1
                return
            if stun.is_stun(datagram):
                self._peer.take_stun(datagram)
            elif rtcp.is_rtcp(datagram):
                try:
                    self._obey(self._peer.rx.unprotect_rtcp(datagram))
                except SrtpError:
                    continue

    def _obey(self, compound: bytes) -> None:
        for request in rtcp.feedback(compound):
            if isinstance(request, rtcp.KeyframeRequest):
                self._keyframe_requests += 1
                continue
            self._nacked += len(request.sequences)
            is_video = request.ssrc == self._source.ssrcs["video"]
            kind = Kind.VIDEO if is_video else Kind.AUDIO
            for sequence in request.sequences:
                datagram = self._history.get((kind, sequence % _HISTORY))
                if datagram and datagram[2:4] == sequence.to_bytes(2, "big"):
                    self._peer.send(datagram)

    def _log(self) -> Log:
        return Log(
            self._sent[: self._count].copy(),
            self._nacked,
            self._keyframe_requests,
            self._send_failed,
        )
