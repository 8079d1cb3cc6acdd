"""The process that plays a file into a meeting: `python -m media.play`, a job on its stdin.

A meeting's sources all have one codec, VP8, so that they can be cut to each other; FFmpeg's WHIP
speaks H264 only. So the file is decoded and sent by aiortc, at the pace of its own time, at most
854x480 and 25 pictures a second: what one core has to spare beside a relay. Ends with the file.

It says on standard output: {"event": "on air"}, {"event": "ended"} or {"failed": sentence}.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import Callable
from typing import Any, Final

import aiohttp
import av
from aiortc import (
    MediaStreamTrack,
    RTCConfiguration,
    RTCPeerConnection,
    RTCRtpSender,
    RTCSessionDescription,
)
from aiortc.contrib.media import MediaPlayer
from aiortc.mediastreams import MediaStreamError
from yarl import URL

from .errors import MediaError

WIDTH, HEIGHT = 854, 480
FPS: Final = 25.0
NICENESS: Final = 5
CONNECT_WITHIN_S: Final = 10.0
SDP: Final = "application/sdp"


class Fitted(MediaStreamTrack):
    """A picture track that is made small enough, with no more pictures a second than can be."""

    kind = "video"

    def __init__(self, track: MediaStreamTrack) -> None:
        super().__init__()
        self._track = track
        self._next_s = 0.0

    async def recv(self) -> av.VideoFrame:
        """The next picture that is sent."""
        while True:
            frame = await self._track.recv()
            assert isinstance(frame, av.VideoFrame)
            time_s = frame.time or 0.0
            if time_s < self._next_s - 0.5 / FPS:
                continue
            self._next_s = max(self._next_s + 1 / FPS, time_s)
            scale = min(WIDTH / frame.width, HEIGHT / frame.height, 1.0)
            if scale == 1.0 and frame.format.name == "yuv420p":
                return frame
            # Even sides, as yuv420p has them.
            width, height = (max(2, round(one * scale / 2) * 2) for one in _sides(frame))
            small = frame.reformat(width=width, height=height, format="yuv420p")
            small.pts, small.time_base = frame.pts, frame.time_base
            return small


def _sides(frame: av.VideoFrame) -> tuple[int, int]:
    return frame.width, frame.height


def _say(**event: Any) -> None:
    sys.stdout.write(json.dumps(event) + "\n")
    sys.stdout.flush()


async def play(source: str, url: str, token: str, say: Callable[..., None] = _say) -> None:
    """Play a file to a WHIP address until it ends; MediaError."""
    try:
        player = MediaPlayer(source)
    except (av.FFmpegError, OSError) as error:
        raise MediaError(f"the file cannot be opened: {error}") from error
    tracks = [one for one in (player.audio, player.video) if one is not None]
    if not tracks:
        raise MediaError("the file has neither picture nor sound")
    connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    over = asyncio.Event()
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        for track in tracks:
            track.add_listener("ended", over.set)
        if player.audio is not None:
            connection.addTransceiver(player.audio, direction="sendonly")
        if player.video is not None:
            video = connection.addTransceiver(Fitted(player.video), direction="sendonly")
            known = RTCRtpSender.getCapabilities("video").codecs
            wanted = ("video/VP8", "video/rtx")
            video.setCodecPreferences([one for one in known if one.mimeType in wanted])
        await connection.setLocalDescription(await connection.createOffer())
        async with aiohttp.ClientSession(headers=headers) as http:
            session = await _enter(http, url, connection)
            try:
                await _connected(connection, over)
                say(event="on air")
                await over.wait()
            finally:
                with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
                    async with http.delete(session):
                        pass
    finally:
        await connection.close()


async def _enter(http: aiohttp.ClientSession, url: str, connection: RTCPeerConnection) -> str:
    """POST the offer; the address of the session."""
    offer = connection.localDescription.sdp
    try:
        async with http.post(url, data=offer, headers={"Content-Type": SDP}) as answer:
            text = await answer.text()
            if answer.status != 201:
                raise MediaError(text.strip()[:300] or f"the node answered {answer.status}")
            session = str(answer.url.join(URL(answer.headers["Location"])))
    except (aiohttp.ClientError, OSError) as error:
        raise MediaError(f"the node does not answer: {error}") from error
    await connection.setRemoteDescription(RTCSessionDescription(text, "answer"))
    return session


async def _connected(connection: RTCPeerConnection, over: asyncio.Event) -> None:
    """Wait for the connection; from then on, its end is the end."""
    up = asyncio.Event()

    def changed() -> None:
        if connection.connectionState == "connected":
            up.set()
        elif connection.connectionState in ("failed", "closed"):
            up.set()
            over.set()

    connection.add_listener("connectionstatechange", changed)
    changed()
    try:
        async with asyncio.timeout(CONNECT_WITHIN_S):
            await up.wait()
    except TimeoutError:
        raise MediaError("no media connection to the node came about") from None
    if over.is_set():
        raise MediaError("the media connection to the node failed")


async def _until_told(source: str, url: str, token: str) -> None:
    """Play; whoever closes our standard input ends it."""
    loop = asyncio.get_running_loop()
    playing = asyncio.ensure_future(play(source, url, token))
    loop.add_reader(sys.stdin.fileno(), _stop, playing, loop)
    with contextlib.suppress(asyncio.CancelledError, MediaStreamError):
        await playing


def _stop(playing: asyncio.Future[None], loop: asyncio.AbstractEventLoop) -> None:
    if not os.read(sys.stdin.fileno(), 1024):
        loop.remove_reader(sys.stdin.fileno())
        playing.cancel()


def main() -> int:
    """0 when the file has ended or somebody has ended it, 1 with a sentence on standard output."""
    # A line of its own: what comes after it in the pipe is not read into a buffer.
    line = b""
    while not line.endswith(b"\n") and (one := os.read(sys.stdin.fileno(), 1)):
        line += one
    job = json.loads(line)
    os.nice(NICENESS)
    try:
        asyncio.run(_until_told(job["source"], job["url"], job["token"]))
    except MediaError as error:
        _say(failed=str(error))
        return 1
    _say(event="ended")
    return 0


if __name__ == "__main__":
    sys.exit(main())
