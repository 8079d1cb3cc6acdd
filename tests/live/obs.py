"""A publisher that offers and sends as OBS does with simulcast (32.1 and later).

What stands here was read in OBS's WHIP output: layers named 0, 1, 2, the largest first, each with
its name and the m-line's in every packet; sizes and rates in even steps; timestamps that begin at
0; one SSRC in the offer and the next ones unannounced; keyframes by the clock, whatever is asked
for; no RTX; and reports and answers to NACKs for the largest layer only.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import struct
import time
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path

from media.encode import VideoEncoder
from media.pictures import Writer
from media.plan import Handling, VideoPlan, Wanted
from media.testcard import Card
from tests.bench import rtcp, sdp, signalling, stun
from tests.bench.dtls import Identity
from tests.bench.peer import Peer
from tests.bench.signalling import Client

OFFER = Path(__file__).parents[1] / "relay" / "offers" / "obs-simulcast.sdp"
AUDIO_SSRC, VIDEO_SSRC = 771203344, 771203345
MID, RID = 1, 2
SIZES = ((480, 270), (320, 180), (160, 90))
RATES_BPS = (450_000, 300_000, 150_000)
FPS = 12.5
KEYFRAME_EVERY_S = 1.0
NTP_EPOCH_S = 2_208_988_800


class _Peer(Peer):
    """The bench's client with OBS's offer."""

    answer = ""

    async def publish(self, client: Client, path: str) -> None:
        """POST the offer, with this peer's own credentials, and connect."""
        local = self._local
        text = OFFER.read_bytes().decode()
        for pattern, value in (
            (r"a=ice-ufrag:\S+", f"a=ice-ufrag:{local.ufrag}"),
            (r"a=ice-pwd:\S+", f"a=ice-pwd:{local.pwd}"),
            (r"a=fingerprint:\S+ \S+", f"a=fingerprint:sha-256 {local.fingerprint}"),
            (r"a=candidate:.* typ host", f"a=candidate:1 1 UDP 2122317823 {local.host} "
             f"{local.port} typ host"),
        ):  # fmt: skip
            text, count = re.subn(pattern, value, text)
            assert count >= 1, pattern
        response = await client.expect(201, "POST", path, text.encode())
        self._resource = signalling.path_of(response.headers["location"], path)
        self.answer = response.body.decode()
        await self._connect(sdp.parse_answer(self.answer))


class ObsPublisher:
    """Sends the test card in three layers of H264, and silence. Use as `async with`.

    `answer` is what the node answered, `asked` counts its keyframe requests.
    """

    def __init__(self, node_url: str, stream: str) -> None:
        self.answer = ""
        self.asked = 0
        self._peer = _Peer(Identity("aes128-gcm"))
        self._client = Client(node_url)
        self._path = f"/whip/{stream}"
        self._tasks: list[asyncio.Task[None]] = []
        self._history: dict[int, bytes] = {}
        self._sent = 0
        self._began_s = 0.0

    async def __aenter__(self) -> ObsPublisher:
        try:
            await self._peer.publish(self._client, self._path)
        except BaseException:
            self._peer.close()
            await self._client.close()
            raise
        self.answer = self._peer.answer
        asyncio.get_running_loop().add_reader(self._peer.sock, self._readable)
        self._tasks = [asyncio.create_task(one()) for one in (self._picture, self._sound)]
        return self

    async def __aexit__(self, *exception: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        asyncio.get_running_loop().remove_reader(self._peer.sock)
        with contextlib.suppress(Exception):
            await self._peer.leave(self._client)
        self._peer.close()
        await self._client.close()

    async def _picture(self) -> None:
        card = Card(*SIZES[0], Fraction(FPS))
        layers = []
        for index, (size, rate_bps) in enumerate(zip(SIZES, RATES_BPS, strict=True)):
            plan = VideoPlan(Handling.ENCODE, *size, FPS, "")
            wanted = Wanted(video_bitrate_bps=rate_bps, keyframe_s=KEYFRAME_EVERY_S)
            encoder = VideoEncoder(plan, wanted, "ultrafast")
            layers.append((index, size, encoder, Writer("H264", VIDEO_SSRC + index, 0)))
        loop = asyncio.get_running_loop()
        began_s, number = loop.time(), 0
        self._began_s = time.time()
        while True:
            drawn = card.frame(number, datetime.now(UTC))
            time_us = round(number * 1e6 / FPS)
            for index, size, encoder, writer in layers:
                frame = drawn.reformat(*size, "yuv420p")
                for packet in encoder.encode(frame, time_us):
                    for data in writer.packets(bytes(packet), round(number * 90_000 / FPS)):
                        self._send(_named(data, str(index)), index)
            if number % round(FPS) == 0:
                self._report(round(number * 90_000 / FPS))
                self._peer.send_consent()
            number += 1
            await asyncio.sleep(max(0.0, began_s + number / FPS - loop.time()))

    async def _sound(self) -> None:
        loop = asyncio.get_running_loop()
        began_s, number = loop.time(), 0
        while True:
            head = struct.pack("!BBHII", 0x80, 111, number & 0xFFFF, 960 * number, AUDIO_SSRC)
            # Three bytes of Opus: a frame of 20 ms of silence.
            self._peer.send(self._peer.tx.protect(head + b"\xf8\xff\xfe"))
            number += 1
            await asyncio.sleep(max(0.0, began_s + number * 0.02 - loop.time()))

    def _send(self, data: bytes, index: int) -> None:
        datagram = self._peer.tx.protect(data)
        if index == 0:
            self._history[data[2] << 8 | data[3]] = datagram
            self._sent += 1
        self._peer.send(datagram)

    def _report(self, timestamp: int) -> None:
        ntp_ns = int((self._began_s + timestamp / 90_000) * 1e9)
        report = rtcp.sender_report(VIDEO_SSRC, ntp_ns, timestamp, self._sent, 0)
        self._peer.send(self._peer.tx.protect_rtcp(report))

    def _readable(self) -> None:
        while True:
            try:
                datagram = self._peer.sock.recv(2048)
            except OSError:
                return
            if stun.is_stun(datagram):
                self._peer.take_stun(datagram)
            elif rtcp.is_rtcp(datagram):
                for request in rtcp.feedback(self._peer.rx.unprotect_rtcp(datagram)):
                    if isinstance(request, rtcp.KeyframeRequest):
                        self.asked += 1
                    elif request.ssrc == VIDEO_SSRC:
                        for sequence in request.sequences:
                            if sequence in self._history:
                                self._peer.send(self._history[sequence])


def _named(data: bytes, rid: str) -> bytes:
    """A packet with its m-line's mid and its layer's rid as header extensions (RFC 8285)."""
    elements = bytes([MID << 4]) + b"1" + bytes([RID << 4]) + rid.encode()
    return (
        bytes([data[0] | 0x10]) + data[1:12] + struct.pack("!HH", 0xBEDE, 1) + elements + data[12:]
    )
