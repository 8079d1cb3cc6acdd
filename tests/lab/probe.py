"""Viewers that measure: real ICE, DTLS and SRTP, NACKs like a browser's, every arrival on record.

A probe asks again for what it misses (video by RTX, sound under the same number), reports with
receiver reports that a node can take the round trip from, and never joins twice: when its node
ends the session or falls silent, that is counted and the probe stays as it is.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from dataclasses import dataclass, field

from pylibsrtp import Error as SrtpError

from relay import rtcp as relay_rtcp
from tests.bench import rtcp, sdp, signalling, stun
from tests.bench.dtls import Identity
from tests.bench.peer import Peer
from tests.lab.arrivals import Arrivals, Figures

RTX_PT = 97
KINDS = ("audio", "video")

_TICK_S = 0.005
_REPORT_EVERY_S = 1.0
_CONSENT_EVERY_S = 2.5
_RATE_HZ = {"audio": 48_000, "video": 90_000}


class _Peer(Peer):
    """A bench peer whose offer has RTX for the picture and NACK for both."""

    async def join_with_repair(self, client: signalling.Client, path: str) -> None:
        """Enter `path` by WHEP; raises as `Peer.join` does."""
        offer = _with_repair(sdp.offer(self._local, "recvonly", {}))
        response = await client.expect(201, "POST", path, offer.encode())
        self._resource = signalling.path_of(response.headers["location"], path)
        await self._connect(sdp.parse_answer(response.body.decode()))


def _with_repair(offer: str) -> str:
    video, audio = sdp.VIDEO_PT, sdp.AUDIO_PT
    offer = offer.replace(f"SAVPF {video}\r\n", f"SAVPF {video} {RTX_PT}\r\n")
    return offer.replace(
        f"a=rtpmap:{audio} ", f"a=rtcp-fb:{audio} nack\r\na=rtpmap:{audio} "
    ).replace(
        f"a=rtpmap:{video} ",
        f"a=rtpmap:{RTX_PT} rtx/90000\r\na=fmtp:{RTX_PT} apt={video}\r\na=rtpmap:{video} ",
    )


@dataclass(slots=True)
class _Track:
    arrivals: Arrivals = field(default_factory=Arrivals)
    ssrc: int = 0
    lsr: int = 0
    lsr_at_s: float = 0.0
    expected_before: int = 0
    received_before: int = 0
    ssrcs: int = 0


class Probe:
    """One viewer. `join`, then `run` as a task; figures at any time."""

    def __init__(self, identity: Identity, name: str = "probe", host: str = "127.0.0.1") -> None:
        self.name = name
        self.tracks = {kind: _Track() for kind in KINDS}
        self.rtt_s = 0.1
        self.closed_by_node = 0
        self.bad_packets = 0
        self.keyframes_asked = 0
        self.joined_s = 0.0
        self.last_media_s = 0.0
        self._ssrc = secrets.randbits(32)
        self._peer = _Peer(identity, host)
        self._client: signalling.Client | None = None
        self._video_ssrc = 0
        self._check_sent_s = 0.0
        self._next_report_s = self._next_consent_s = 0.0
        self._task: asyncio.Task[None] | None = None

    async def join(self, url: str, stream: str) -> None:
        """Enter a node by WHEP and begin to measure; raises as the bench's `Peer.join`."""
        self._client = signalling.Client(url)
        await self._peer.join_with_repair(self._client, f"/whep/{stream}")
        now = time.monotonic()
        self.joined_s = self.last_media_s = now
        # Many that join together must not report together.
        self._next_report_s = now + secrets.randbelow(1000) / 1000
        self._next_consent_s = now
        asyncio.get_running_loop().add_reader(self._peer.sock, self._read)
        self._task = asyncio.create_task(self._tick())

    async def leave(self) -> None:
        """DELETE the session and close."""
        try:
            if self._client is not None:
                await self._peer.leave(self._client)
        except (OSError, TimeoutError, signalling.HttpError):
            pass  # The node may be gone; the viewer goes all the same.
        await self.close()

    async def close(self) -> None:
        """Go without a word."""
        if self._task is not None:
            asyncio.get_running_loop().remove_reader(self._peer.sock)
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        if self._client is not None:
            await self._client.close()
        self._peer.close()

    def figures(self, kind: str, begin_s: float, end_s: float) -> Figures:
        """What arrived of "audio" or "video" between two times (`time.monotonic`)."""
        return self.tracks[kind].arrivals.figures(begin_s, end_s)

    @property
    def disturbed(self) -> int:
        """How often the node ended the session or changed an SSRC: what a browser cannot miss."""
        changes = sum(max(0, track.ssrcs - 1) for track in self.tracks.values())
        return self.closed_by_node + changes

    # ------------------------------------------------------------ in

    def _read(self) -> None:
        sock, now = self._peer.sock, time.monotonic()
        for _ in range(256):
            try:
                data = sock.recv(2048)
            except OSError:
                return
            first = data[0] if data else 0
            if 127 < first < 192:
                try:
                    if rtcp.is_rtcp(data):
                        self._take_rtcp(self._peer.rx.unprotect_rtcp(data), now)
                    else:
                        self._take_rtp(self._peer.rx.unprotect(data), now)
                except SrtpError:
                    self.bad_packets += 1
            elif stun.is_stun(data):
                if stun.message_type(data) == stun.RESPONSE and self._check_sent_s:
                    self.rtt_s = now - self._check_sent_s
                    self._check_sent_s = 0.0
                self._peer.take_stun(data)
            elif first == 21:
                # Encrypted, but the only alert that a node sends in peace is close_notify.
                self.closed_by_node += 1

    def _take_rtp(self, data: bytes, now: float) -> None:
        self.last_media_s = now
        number = data[1] & 0x7F
        timestamp = int.from_bytes(data[4:8], "big")
        if number == RTX_PT:
            start = 12
            if data[0] & 0x10:
                start += 4 + 4 * int.from_bytes(data[14:16], "big")
            if len(data) >= start + 2:
                original = int.from_bytes(data[start : start + 2], "big")
                self.tracks["video"].arrivals.arrived(original, timestamp, now)
            return
        track = self.tracks["audio" if number == sdp.AUDIO_PT else "video"]
        ssrc = int.from_bytes(data[8:12], "big")
        if ssrc != track.ssrc:
            track.ssrc = ssrc
            track.ssrcs += 1
        track.arrivals.arrived(int.from_bytes(data[2:4], "big"), timestamp, now)

    def _take_rtcp(self, compound: bytes, now: float) -> None:
        for report in relay_rtcp.parse(compound):
            if isinstance(report, relay_rtcp.SenderReport):
                for track in self.tracks.values():
                    if track.ssrc == report.ssrc:
                        track.lsr, track.lsr_at_s = relay_rtcp.ntp_middle(report.ntp), now
            elif isinstance(report, relay_rtcp.Bye):
                self.closed_by_node += 1

    # ------------------------------------------------------------ out

    async def _tick(self) -> None:
        while True:
            now = time.monotonic()
            for track in self.tracks.values():
                ask = track.arrivals.due(now, self.rtt_s)
                if ask:
                    self._send(
                        relay_rtcp.receiver_report(self._ssrc, [])
                        + relay_rtcp.nack(self._ssrc, track.ssrc, ask)
                    )
            if now >= self._next_report_s:
                self._next_report_s = now + _REPORT_EVERY_S
                self._report(now)
            if now >= self._next_consent_s:
                self._next_consent_s = now + _CONSENT_EVERY_S
                self._check_sent_s = now
                self._peer.send_consent()
            await asyncio.sleep(_TICK_S)

    def _report(self, now: float) -> None:
        blocks = []
        for track in self.tracks.values():
            arrivals = track.arrivals
            if not arrivals.first_at:
                continue
            expected = arrivals.highest - arrivals.base + 1
            received = arrivals.received - len(arrivals.repaired)
            lost = (expected - track.expected_before) - (received - track.received_before)
            interval = expected - track.expected_before
            fraction = 256 * max(0, lost) // interval if interval > 0 else 0
            if not track.expected_before:
                fraction = 0
            track.expected_before, track.received_before = expected, received
            dlsr = int((now - track.lsr_at_s) * 65536) if track.lsr else 0
            blocks.append(
                relay_rtcp.ReportBlock(
                    track.ssrc, min(255, fraction), 0, arrivals.highest & 0xFFFFFFFF, 0,
                    track.lsr, dlsr,
                )
            )  # fmt: skip
        if blocks:
            self._send(
                relay_rtcp.receiver_report(self._ssrc, blocks)
                + relay_rtcp.sdes_cname(self._ssrc, self.name)
            )

    def _send(self, compound: bytes) -> None:
        self._peer.send(self._peer.tx.protect_rtcp(compound))
