"""Viewers without a browser: aiortc, which decodes; a bare one, which sees every packet; and many.

The bare viewer and the many are the bench's clients: they import nothing of the node, so that a
mistake there cannot hide itself here.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
import socket
import struct
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import aiohttp
import numpy as np
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack
from aiortc.rtp import RtcpByePacket, RtcpPacket, RtcpSrPacket, RtpPacket
from av import AudioFrame, VideoFrame
from numpy.typing import NDArray
from pylibsrtp import Error as SrtpError

from media.testcard import read_stamp
from tests.bench import rtcp, stun
from tests.bench.analysis import by_viewer
from tests.bench.audience import Audience
from tests.bench.drain import Received
from tests.bench.dtls import Identity
from tests.bench.peer import Peer, enlarge
from tests.bench.sdp import AUDIO_PT, VIDEO_PT
from tests.bench.signalling import Client
from tests.live.tree import until

PROFILE = "aes128-gcm"
SWEEP_S = 0.02
RETRY_S = 2.0
CLOCK_RATES = {"audio": 48_000, "video": 90_000}
NTP_S = 2.0**-32

Kind = Literal["audio", "video"]


@dataclass(frozen=True, slots=True)
class Arrival:
    """One RTP packet as it came. `at_s`: monotonic clock."""

    at_s: float
    ssrc: int
    sequence: int
    timestamp: int
    marker: bool
    payload: bytes = b""


@dataclass(frozen=True, slots=True)
class Report:
    """A sender report: at NTP time `ntp_s`, in seconds since 1900, `timestamp` was current."""

    at_s: float
    ssrc: int
    ntp_s: float
    timestamp: int


def steps(numbers: list[int], bits: int) -> NDArray[np.int64]:
    """The distances between numbers that wrap, in order of arrival."""
    wrap, half = 1 << bits, 1 << (bits - 1)
    line = np.array(numbers, np.int64)
    return (line[1:] - line[:-1] + half) % wrap - half


def missing(sequences: list[int]) -> int:
    """How many numbers between the first and the highest never came."""
    if not sequences:
        return 0
    line = np.concatenate([[0], np.cumsum(steps(sequences, 16))])
    line = line[line >= 0]
    return int(line.max() + 1 - len(np.unique(line)))


# ------------------------------------------------------------ aiortc


class AiortcViewer:
    """aiortc's peer connection; decodes picture and sound. Use as `async with`.

    `packets` holds what came by RTP under the track's own SSRC, in order of arrival, `resent` what
    came by RTX; `pictures` is (monotonic clock, presentation time in s, mean brightness) of each
    decoded frame. Packets for which `drop` says so are thrown away before aiortc sees them.
    `line`: the UDP port of a line that leads to the node's, 0 for none.
    """

    def __init__(self, node_url: str, stream: str, line: int = 0) -> None:
        self.session = ""
        self.packets: dict[Kind, list[Arrival]] = {"audio": [], "video": []}
        self.resent = 0
        self.dropped = 0
        self.reports: list[Report] = []
        self.pictures: list[tuple[float, float, float]] = []
        self.samples = 0
        self.energy = 0.0
        self.drop: Callable[[RtpPacket], bool] = lambda packet: False
        self.nacked: list[int] = []
        self._url = f"{node_url}/whep/{stream}"
        self._base = node_url
        self._line = line
        self._pc = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> AiortcViewer:
        try:
            await self._join()
        except BaseException:
            await self._pc.close()
            raise
        return self

    async def __aexit__(self, *exception: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        async with aiohttp.ClientSession() as http:
            with contextlib.suppress(aiohttp.ClientError):
                async with http.delete(f"{self._base}{self.session}"):
                    pass
        await self._pc.close()

    async def _join(self) -> None:
        pc = self._pc
        pc.on("track", self._take)
        for kind in ("audio", "video"):
            receiver: Any = pc.addTransceiver(kind, direction="recvonly").receiver
            self._look_into(receiver, kind)
        await pc.setLocalDescription(await pc.createOffer())
        self._enlarge_buffers()
        async with (
            aiohttp.ClientSession() as http,
            http.post(
                self._url,
                data=pc.localDescription.sdp,
                headers={"Content-Type": "application/sdp"},
            ) as response,
        ):
            text = await response.text()
            assert response.status == 201, f"{self._url} answered {response.status}: {text}"
            self.session = response.headers["Location"]
        if self._line:
            port = self._base.rpartition(":")[2]
            text = text.replace(f"127.0.0.1 {port} typ", f"127.0.0.1 {self._line} typ")
        await pc.setRemoteDescription(RTCSessionDescription(text, "answer"))

    def _enlarge_buffers(self) -> None:
        """Let packets wait while this process decodes; what overflows is not the node's loss."""
        for transceiver in self._pc.getTransceivers():
            ice: Any = transceiver.receiver.transport.transport
            for protocol in ice._connection._protocols:
                enlarge(protocol.transport.get_extra_info("socket"))

    def _take(self, track: MediaStreamTrack) -> None:
        consume = self._hear if track.kind == "audio" else self._see
        self._tasks.append(asyncio.create_task(consume(track)))

    def _look_into(self, receiver: Any, kind: Kind) -> None:
        """Put ourselves before the receiver's own handlers."""
        take_rtp, take_rtcp = receiver._handle_rtp_packet, receiver._handle_rtcp_packet
        send_nack = receiver._send_rtcp_nack

        async def rtp(packet: RtpPacket, arrival_time_ms: int) -> None:
            if self.drop(packet):
                self.dropped += 1
                return
            ssrcs = {one.ssrc for one in self.packets[kind][:1]}
            if ssrcs and packet.ssrc not in ssrcs:
                self.resent += 1
            else:
                self.packets[kind].append(
                    Arrival(
                        time.monotonic(),
                        packet.ssrc,
                        packet.sequence_number,
                        packet.timestamp,
                        bool(packet.marker),
                    )
                )
            await take_rtp(packet, arrival_time_ms=arrival_time_ms)

        async def control(packet: Any) -> None:
            if isinstance(packet, RtcpSrPacket):
                self.reports.append(_report(packet))
            await take_rtcp(packet)

        async def nack(media_ssrc: int, lost: list[int]) -> None:
            self.nacked += lost
            await send_nack(media_ssrc, lost)

        receiver._handle_rtp_packet = rtp
        receiver._handle_rtcp_packet = control
        receiver._send_rtcp_nack = nack

    async def _see(self, track: MediaStreamTrack) -> None:
        with contextlib.suppress(MediaStreamError):
            while True:
                frame = await track.recv()
                assert isinstance(frame, VideoFrame)
                # The first plane is luminance; a grid of its points tells the shade.
                plane = np.frombuffer(bytes(frame.planes[0]), np.uint8)[::97]
                self.pictures.append((time.monotonic(), frame.time or 0.0, float(plane.mean())))

    async def _hear(self, track: MediaStreamTrack) -> None:
        with contextlib.suppress(MediaStreamError):
            while True:
                frame = await track.recv()
                assert isinstance(frame, AudioFrame)
                sound = frame.to_ndarray().astype(np.float64) / 32768
                self.samples += frame.samples
                self.energy += float(np.square(sound).mean()) * frame.samples / frame.sample_rate

    @property
    def lost(self) -> int:
        """Numbers that never came under the tracks' own SSRCs."""
        return sum(missing([p.sequence for p in found]) for found in self.packets.values())

    async def playing(self, within_s: float = 15) -> None:
        """Wait for picture and sound."""

        async def look() -> bool:
            return bool(self.pictures) and self.samples > 0

        await until("picture and sound in aiortc", look, within_s)


@dataclass(frozen=True, slots=True)
class Seen:
    """One picture of the test card as a viewer decoded it. `number` is what stands on it."""

    number: int
    pts: int
    width: int


class CardViewer(AiortcViewer):
    """Reads the numbers on the test card. Use as `async with`."""

    def __init__(self, node_url: str, stream: str, line: int = 0) -> None:
        super().__init__(node_url, stream, line)
        self.seen: list[Seen] = []

    async def __aenter__(self) -> CardViewer:
        await super().__aenter__()
        return self

    async def _see(self, track: MediaStreamTrack) -> None:
        with contextlib.suppress(MediaStreamError):
            while True:
                frame: Any = await track.recv()
                stamp = read_stamp(frame.to_ndarray()[: frame.height])
                if stamp is not None:
                    self.seen.append(Seen(stamp.frame, frame.pts, frame.width))

    async def sees(self, width: int, within_s: float) -> None:
        """Wait until the pictures are so wide."""

        async def look() -> bool:
            return bool(self.seen) and self.seen[-1].width == width

        await until(f"pictures {width} wide", look, within_s)


def _report(packet: RtcpSrPacket) -> Report:
    info = packet.sender_info
    return Report(time.monotonic(), packet.ssrc, info.ntp_timestamp * NTP_S, info.rtp_timestamp)


# ------------------------------------------------------------ one bare viewer


class BareViewer:
    """Sees every packet, decodes nothing, asks for nothing by itself. Use as `async with`.

    `lose`: how many of the next video packets are thrown away as if they had never come.
    `reports_back`: whether it sends receiver reports; it always sends ICE checks.
    """

    identity: Identity | None = None

    def __init__(self, node_url: str, stream: str, video: str = "VP8") -> None:
        """`video`: the codec that it offers."""
        if BareViewer.identity is None:
            BareViewer.identity = Identity(PROFILE)
        self.peer = Peer(BareViewer.identity, video=video)
        self.packets: dict[Kind, list[Arrival]] = {"audio": [], "video": []}
        self.reports: list[Report] = []
        self.byes: set[int] = set()
        self.alerted = False
        self.undecipherable = 0
        self.lose = 0
        self.reports_back = True
        self._client = Client(node_url)
        self._path = f"/whep/{stream}"
        self._ssrc = secrets.randbits(32)
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> BareViewer:
        try:
            await self.peer.join(self._client, self._path)
        except BaseException:
            self.peer.close()
            await self._client.close()
            raise
        self._listen()
        self._task = asyncio.create_task(self._keep_alive())
        return self

    async def __aexit__(self, *exception: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        with contextlib.suppress(Exception):
            await self.peer.leave(self._client)
        asyncio.get_running_loop().remove_reader(self.peer.sock)
        self.peer.close()
        await self._client.close()

    def move(self) -> None:
        """Go on from another source port, as a viewer behind a new address does."""
        old = self.peer.sock
        asyncio.get_running_loop().remove_reader(old)
        new = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        new.setblocking(False)
        new.bind(("127.0.0.1", 0))
        new.connect(old.getpeername())
        old.close()
        self.peer.sock = new
        self._listen()
        self.peer.send_consent()

    def ask_keyframe(self, kind: Kind = "video") -> None:
        """Send a PLI (RFC 4585 section 6.3.1)."""
        ssrc = self.packets[kind][-1].ssrc
        self._send_rtcp(struct.pack("!BBHII", 0x81, 206, 2, self._ssrc, ssrc))

    def ask_again(self, sequence: int, kind: Kind = "video") -> None:
        """Send a NACK for one packet (RFC 4585 section 6.2.1)."""
        ssrc = self.packets[kind][-1].ssrc
        self._send_rtcp(struct.pack("!BBHIIHH", 0x81, 205, 3, self._ssrc, ssrc, sequence, 0))

    async def receiving(self, within_s: float = 10) -> None:
        """Wait for the first packets of picture and sound."""

        async def look() -> bool:
            return all(self.packets.values())

        await until("picture and sound at a bare viewer", look, within_s)

    def _send_rtcp(self, packet: bytes) -> None:
        compound = rtcp.receiver_report(self._ssrc, []) + packet
        self.peer.send(self.peer.tx.protect_rtcp(compound))

    def _listen(self) -> None:
        asyncio.get_running_loop().add_reader(self.peer.sock, self._readable)

    def _readable(self) -> None:
        for _ in range(512):
            try:
                datagram = self.peer.sock.recv(2048)
            except (BlockingIOError, ConnectionRefusedError):
                return
            first = datagram[0] if datagram else 0
            if stun.is_stun(datagram):
                self.peer.take_stun(datagram)
            elif 20 <= first <= 63:
                # An alert is told by its record type (RFC 6347 section 4.1).
                self.alerted = self.alerted or first == 21
            elif rtcp.is_rtcp(datagram):
                self._control(datagram)
            else:
                self._media(datagram)

    def _media(self, datagram: bytes) -> None:
        if self.lose and datagram[1] & 0x7F == VIDEO_PT:
            self.lose -= 1
            return
        try:
            packet = RtpPacket.parse(self.peer.rx.unprotect(datagram))
        except SrtpError:
            self.undecipherable += 1
            return
        kind: Kind = {AUDIO_PT: "audio", VIDEO_PT: "video"}[packet.payload_type]  # type: ignore[assignment]
        self.packets[kind].append(
            Arrival(
                time.monotonic(),
                packet.ssrc,
                packet.sequence_number,
                packet.timestamp,
                bool(packet.marker),
                bytes(packet.payload),
            )
        )

    def _control(self, datagram: bytes) -> None:
        try:
            compound = self.peer.rx.unprotect_rtcp(datagram)
        except SrtpError:
            self.undecipherable += 1
            return
        for packet in RtcpPacket.parse(compound):
            if isinstance(packet, RtcpSrPacket):
                self.reports.append(_report(packet))
            elif isinstance(packet, RtcpByePacket):
                self.byes.update(packet.sources)

    async def _keep_alive(self) -> None:
        """Consent and receiver reports, as the load viewers send them."""
        await asyncio.sleep(random.random())
        while True:
            self.peer.send_consent()
            if self.reports_back:
                blocks = [
                    (found[-1].ssrc, found[-1].sequence) for found in self.packets.values() if found
                ]
                self.peer.send(self.peer.tx.protect_rtcp(rtcp.receiver_report(self._ssrc, blocks)))
            await asyncio.sleep(1)


# ------------------------------------------------------------ many


@dataclass(slots=True)
class Losses:
    """What some load viewers got. `without`: viewers that got nothing of a kind."""

    packets: int = 0
    lost: int = 0
    twice: int = 0
    without: list[tuple[int, str]] = field(default_factory=list)


class LoadViewers:
    """Many viewers of one stream in this process, sockets only."""

    def __init__(self, audience: Audience, node_url: str, stream: str) -> None:
        self.audience = audience
        self._node_url, self._stream = node_url, stream

    async def join(self, count: int, at_once: int = 10) -> None:
        """Let `count` more join; fails the test if one cannot."""
        joins = await self.audience.join(self._node_url, self._stream, count, at_once)
        assert not joins.failures, f"{len(joins.failures)} of {count} failed: {joins.failures[:3]}"

    async def join_over(self, count: int, seconds: float, patience_s: float) -> int:
        """Let `count` more join evenly over some seconds; returns how many got in at once.

        Those whom the node asks to wait (503) come again, as pages do. Fails the test if one is
        refused for another reason, or not in after `patience_s` more.
        """
        joins = await self.audience.join_over(self._node_url, self._stream, count, seconds)
        at_once = len(joins.took_ms)
        deadline = time.monotonic() + patience_s
        while joins.failures:
            others = [failure for failure in joins.failures if "answered 503" not in failure]
            assert not others, others[:3]
            assert time.monotonic() < deadline, f"{len(joins.failures)} are still refused"
            await asyncio.sleep(RETRY_S)
            left = len(joins.failures)
            joins = await self.audience.join(self._node_url, self._stream, left, 4)
        return at_once

    async def receiving(self, within_s: float = 5) -> None:
        """Wait until each of those who joined has picture and sound."""
        newest = self.audience.drain.newest_ssrc

        async def look() -> bool:
            return int((newest > 0).all(axis=1).sum()) >= len(self.audience)

        await until(f"picture and sound at {len(self.audience)} load viewers", look, within_s)

    @contextlib.asynccontextmanager
    async def recorded(self) -> AsyncIterator[list[Received]]:
        """Record while the block runs; the list holds the packets after it."""
        found: list[Received] = []
        self.audience.start_recording()
        try:
            yield found
        finally:
            found.append(self.audience.stop_recording())


@contextlib.asynccontextmanager
async def load_viewers(
    node_url: str, stream: str, capacity: int, video: str = "VP8"
) -> AsyncIterator[LoadViewers]:
    """Up to `capacity` viewers that offer the codec `video`."""
    async with Audience(Identity(PROFILE), capacity, SWEEP_S, video) as audience:
        try:
            yield LoadViewers(audience, node_url, stream)
        finally:
            await audience.leave(node_url)


def losses(received: Received, viewers: range) -> Losses:
    """Count what each viewer missed between its first packet and the last that anybody got.

    All viewers of a node get a track under the same numbers, so one that fell silent is seen. What
    came in the last half second to some only is left out: it may be on its way to the others.
    """
    result = Losses()
    for kind, payload_type in (("audio", AUDIO_PT), ("video", VIDEO_PT)):
        rows = received[(received["marker_pt"] & 0x7F) == payload_type]
        if not len(rows):
            result.without += [(viewer, kind) for viewer in viewers]
            continue
        base = int(rows["sequence"][0])
        settled = rows["t_ns"] < int(rows["t_ns"].max()) - 500_000_000
        line = (rows["sequence"].astype(np.int64) - base + 0x8000) % 0x10000 - 0x8000
        end = int(line[settled].max())
        groups = by_viewer(rows)
        for viewer in viewers:
            own = groups.get(viewer)
            if own is None:
                result.without.append((viewer, kind))
                continue
            own_line = (own["sequence"].astype(np.int64) - base + 0x8000) % 0x10000 - 0x8000
            own_line = own_line[own_line <= end]
            different = len(np.unique(own_line))
            result.packets += len(own_line)
            result.twice += len(own_line) - different
            first = int(own_line.min()) if len(own_line) else end
            result.lost += end + 1 - first - different
    return result
