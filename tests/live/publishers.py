"""Publishers without a browser: FFmpeg's WHIP muxer, aiortc, and a bare one with a known clock."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import struct
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import MediaStreamTrack
from aiortc.rtcrtpsender import RTCRtpSender
from av import AudioFrame, VideoFrame

from tests.bench import rtcp, stun
from tests.bench.dtls import Identity
from tests.bench.peer import Peer
from tests.bench.signalling import Client
from tests.bench.source import AUDIO_INTERVAL_NS, FRAME_INTERVAL_NS, Kind, Packet, Source
from tests.live.tree import Node, end_process, start_process, until

FPS = 25
# So much noise costs some 150 kbit/s and is no change of scene for the encoder.
PATCH = 24
NTP_EPOCH_S = 2_208_988_800
# Of what the bench sends: RTP header, then header extensions of twelve bytes.
_HEADER_BYTES = 24


async def live(node: Node, stream: str, within_s: float = 15) -> dict[str, Any]:
    """Wait until a node gets picture and sound of a stream; what it says about it then."""

    async def look() -> dict[str, Any] | None:
        one = await node.stream(stream)
        ready = one is not None and one["state"] == "live"
        return one if one and ready and all(t["packets"] for t in one["tracks"]) else None

    return await until(f"'{stream}' is live at {node.name}", look, within_s)


# ------------------------------------------------------------ FFmpeg


class FfmpegPublisher:
    """`terrace publish test:` as a process: H264 640x360 and sound by FFmpeg's WHIP muxer."""

    def __init__(self, node_url: str, stream: str, log: Path) -> None:
        self.log = log
        command = [sys.executable, "-m", "web.cli", "publish", "test:", f"{node_url}/whip/{stream}"]
        command += ["--size", "640x360", "--video-bitrate", "600k"]
        self._process: subprocess.Popen[bytes] = start_process(command, log)

    def kill(self) -> float:
        """SIGKILL to it and its media process; returns when, on the monotonic clock."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        return time.monotonic()

    def close(self) -> None:
        end_process(self._process)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)


# ------------------------------------------------------------ aiortc


class _Clocked(MediaStreamTrack):
    """Frames at a steady rate by the clock."""

    def __init__(self, rate: int, ticks: int) -> None:
        super().__init__()
        self._rate, self._ticks, self._count, self._began_s = rate, ticks, 0, 0.0

    async def tick(self) -> int:
        """Wait for the next frame's time; returns its presentation time in ticks."""
        now = asyncio.get_running_loop().time()
        if not self._count:
            self._began_s = now
        pts = self._count * self._ticks
        self._count += 1
        await asyncio.sleep(max(0.0, self._began_s + pts / self._rate - now))
        return pts


class Picture(_Clocked):
    """A shade with a patch of noise that moves, 320x240, 25 frames a second.

    `shade`: luminance, 16 to 235, by which a viewer knows whose picture it sees.
    """

    kind = "video"

    def __init__(self, shade: int = 90) -> None:
        super().__init__(90_000, 90_000 // FPS)
        self._shade = shade
        self._random = np.random.default_rng(shade)

    async def recv(self) -> VideoFrame:
        pts = await self.tick()
        plane = np.full((360, 320), 128, np.uint8)
        plane[:240] = self._shade
        # Something to encode: a patch of noise that wanders.
        at = 4 * (self._count % 64)
        patch = self._random.integers(-15, 16, (PATCH, PATCH)) + self._shade
        plane[96 : 96 + PATCH, at : at + PATCH] = patch
        frame = VideoFrame.from_ndarray(plane, format="yuv420p")
        frame.pts, frame.time_base = pts, Fraction(1, 90_000)
        return frame


class Tone(_Clocked):
    """A tone, 20 ms a frame. `hz` 0 is silence, of which Opus makes packets of a few bytes."""

    kind = "audio"

    def __init__(self, hz: int = 440) -> None:
        super().__init__(48_000, 960)
        self._hz = hz

    async def recv(self) -> AudioFrame:
        pts = await self.tick()
        wave = np.sin((np.arange(960) + pts) * (2 * np.pi * self._hz / 48_000)) * 8000
        frame = AudioFrame.from_ndarray(wave.astype(np.int16)[None, :], layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 48_000, pts, Fraction(1, 48_000)
        return frame


class AiortcPublisher:
    """aiortc's peer connection sending VP8 and Opus. Use as `async with`."""

    def __init__(
        self,
        node_url: str,
        stream: str,
        shade: int = 90,
        *,
        on_demand: bool = False,
        tone_hz: int = 440,
    ) -> None:
        """`on_demand`: the stream stays at the node until it is raised."""
        self.session = ""
        self._tone_hz = tone_hz
        self._headers = {"Content-Type": "application/sdp"}
        if on_demand:
            self._headers["Terrace-Push"] = "on-demand"
        self._base = node_url
        self._url = f"{node_url}/whip/{stream}"
        self._shade = shade
        self._pc = RTCPeerConnection(RTCConfiguration(iceServers=[]))

    async def __aenter__(self) -> AiortcPublisher:
        try:
            await self._enter()
        except BaseException:
            await self._pc.close()
            raise
        return self

    async def __aexit__(self, *exception: object) -> None:
        async with aiohttp.ClientSession() as http:
            with contextlib.suppress(aiohttp.ClientError):
                async with http.delete(f"{self._base}{self.session}"):
                    pass
        await self._pc.close()

    async def _enter(self) -> None:
        pc = self._pc
        pc.addTransceiver(Tone(self._tone_hz), direction="sendonly")
        video = pc.addTransceiver(Picture(self._shade), direction="sendonly")
        wanted = ("video/VP8", "video/rtx")
        codecs = RTCRtpSender.getCapabilities("video").codecs
        video.setCodecPreferences([codec for codec in codecs if codec.mimeType in wanted])
        await pc.setLocalDescription(await pc.createOffer())
        async with (
            aiohttp.ClientSession() as http,
            http.post(
                self._url,
                data=pc.localDescription.sdp,
                headers=self._headers,
            ) as response,
        ):
            text = await response.text()
            assert response.status == 201, f"{self._url} answered {response.status}: {text}"
            self.session = response.headers["Location"]
        await pc.setRemoteDescription(RTCSessionDescription(text, "answer"))

    @property
    def state(self) -> str:
        """Of the connection: "connected", "closed", ..."""
        return self._pc.connectionState


# ------------------------------------------------------------ bare


class BarePublisher:
    """Sends what the bench sends, VP8 and Opus to look at, by a clock that is known exactly.

    Use as `async with`. Its NTP time runs `ahead_s` before this machine's, and the picture was
    taken `picture_late_s` before the sound that is sent with it, so a viewer that puts sound and
    picture together by anything but its sender reports is found out. NACKs are answered,
    keyframe requests noted (`asked_s`, monotonic clock) and not obeyed unless it `obeys`: a
    keyframe is due every two seconds. Two with the same `seed` have the same SSRCs and first
    sequence numbers. `stamps` tells the RTP timestamp under which a payload was sent.
    """

    def __init__(
        self,
        node_url: str,
        stream: str,
        *,
        seed: int = 7,
        ahead_s: float = 0.0,
        picture_late_s: float = 0.0,
        obeys: bool = False,
    ) -> None:
        self._obeys = obeys
        self.asked_s: list[float] = []
        self.nacked = 0
        self.sent: dict[Kind, int] = dict.fromkeys(Kind, 0)
        self.stamps: dict[bytes, int] = {}
        self._source = Source(seed)
        self._offset_s = {Kind.AUDIO: ahead_s, Kind.VIDEO: ahead_s - picture_late_s}
        self._peer = Peer(Identity("aes128-gcm"))
        self._client = Client(node_url)
        self._path = f"/whip/{stream}"
        self._first: dict[Kind, tuple[float, int]] = {}
        self._history: dict[tuple[int, int], bytes] = {}
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> BarePublisher:
        try:
            await self._peer.join(self._client, self._path, "sendonly", self._source.ssrcs)
        except BaseException:
            self._peer.close()
            await self._client.close()
            raise
        asyncio.get_running_loop().add_reader(self._peer.sock, self._readable)
        self._tasks = [
            asyncio.create_task(self._send_media(Kind.VIDEO, FRAME_INTERVAL_NS)),
            asyncio.create_task(self._send_media(Kind.AUDIO, AUDIO_INTERVAL_NS)),
            asyncio.create_task(self._report()),
        ]
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.vanish()
        with contextlib.suppress(Exception):
            await self._peer.leave(self._client)
        await self._client.close()

    async def vanish(self) -> None:
        """Fall silent without a word, as a process that is killed."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._peer.sock.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._peer.sock)
            self._peer.close()

    def ntp_s(self, kind: Kind, timestamp: int) -> float:
        """The NTP time in seconds at which an RTP timestamp of a track was current."""
        began_s, first = self._first[kind]
        rate = 90_000 if kind is Kind.VIDEO else 48_000
        ahead = (timestamp - first + 0x80000000) % 0x100000000 - 0x80000000
        return began_s + ahead / rate + self._offset_s[kind] + NTP_EPOCH_S

    async def _send_media(self, kind: Kind, interval_ns: int) -> None:
        loop = asyncio.get_running_loop()
        began_s, count = loop.time(), 0
        while True:
            now_ns = time.time_ns()
            packets = (
                self._source.frame(now_ns) if kind is Kind.VIDEO else [self._source.sound(now_ns)]
            )
            for packet in packets:
                self._first.setdefault(kind, (time.time(), packet.timestamp))
                self._send(packet)
            count += 1
            await asyncio.sleep(max(0.0, began_s + count * interval_ns / 1e9 - loop.time()))

    def _send(self, packet: Packet) -> None:
        self.stamps[packet.data[_HEADER_BYTES:]] = packet.timestamp
        datagram = self._peer.tx.protect(packet.data)
        self._history[packet.kind, packet.sequence % 1024] = datagram
        self.sent[packet.kind] += 1
        self._peer.send(datagram)

    async def _report(self) -> None:
        """Sender reports each half second, and consent."""
        while True:
            await asyncio.sleep(0.5)
            for kind, (began_s, first) in self._first.items():
                rate = 90_000 if kind is Kind.VIDEO else 48_000
                now = time.time()
                timestamp = (first + round((now - began_s) * rate)) & 0xFFFFFFFF
                ssrc = self._source.ssrcs[kind.name.lower()]
                ntp_ns = int((now + self._offset_s[kind]) * 1e9)
                report = rtcp.sender_report(ssrc, ntp_ns, timestamp, self.sent[kind], 0)
                self._peer.send(self._peer.tx.protect_rtcp(report))
            self._peer.send_consent()

    def _readable(self) -> None:
        while True:
            try:
                datagram = self._peer.sock.recv(2048)
            except OSError:
                return
            if stun.is_stun(datagram):
                self._peer.take_stun(datagram)
            elif rtcp.is_rtcp(datagram):
                self._obey(self._peer.rx.unprotect_rtcp(datagram))

    def _obey(self, compound: bytes) -> None:
        for request in rtcp.feedback(compound):
            if isinstance(request, rtcp.KeyframeRequest):
                self.asked_s.append(time.monotonic())
                if self._obeys:
                    self._source.begin_anew()
                continue
            self.nacked += len(request.sequences)
            kind = Kind.VIDEO if request.ssrc == self._source.ssrcs["video"] else Kind.AUDIO
            for sequence in request.sequences:
                datagram = self._history.get((kind, sequence % 1024))
                if datagram and struct.unpack_from("!H", datagram, 2)[0] == sequence:
                    self._peer.send(datagram)
