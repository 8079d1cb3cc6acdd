"""A stream taken from a node as a node below takes it, for a recorder.

The machinery is the relay's own: a `Port` with its thread, a `Channel` that pulls (`relay.pull`),
the tracks' rings with their repair. In place of viewers stands a reader: it goes through the rings
in the order of the positions, waits at a hole until nobody asks for it any more, and hands on what
there is. It runs on this process' forwarding thread and does nothing slow there.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import secrets
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from media.lipsync import Report
from relay import packet as rtp
from relay.channel import Channel
from relay.errors import Refused
from relay.parents import Parents
from relay.peer import NodeCertificate
from relay.port import Port
from relay.repair import MAX_AGE_S
from relay.stream import Stream
from relay.track import SenderClock, Track
from relay.uplink import Uplink

log = logging.getLogger("media.tap")

# A missing packet is asked for during MAX_AGE_S; the answer may take a little longer.
REPAIR_WAIT_S = MAX_AGE_S + 0.3
# What waits between the two threads: at 1,000 packets a second half a minute.
MAX_WAITING = 30_000
# A layer that has fallen silent is left for a smaller one after this, and taken again after that.
LEAVE_LAYER_S = 2.0
TAKE_LAYER_S = 3.0
_STAMP_TURN = 1 << 24
_STAMP_HZ = 262_144


@dataclass(frozen=True, slots=True)
class Begin:
    """Other tracks are read from here on: their codecs by kind ("audio", "video")."""

    codecs: dict[str, str]


@dataclass(frozen=True, slots=True)
class Taken:
    """One thing read from a track, in order: a packet, a loss, or a sender report.

    `kept` is None for one or more packets that will not come any more.
    """

    kind: str
    kept: bytes | None = None
    report: Report | None = None


class Reader:
    """Reads one stream's rings on the forwarding thread, as one of the port's forwarders."""

    def __init__(self, loop: asyncio.AbstractEventLoop, port: Port) -> None:
        self.news = asyncio.Event()
        self.lost = 0
        self.overrun = 0
        """Things that were dropped because nobody took them: the writer could not keep up."""
        self._loop = loop
        self._port = port
        self._out: deque[Taken | Begin] = deque()
        self._stream: Stream | None = None
        self._next: dict[Track, int] = {}
        self._clock: dict[Track, SenderClock] = {}
        self._picture: Track | None = None
        self._better_s = 0.0

    # ------------------------------------------------------------ asyncio loop

    def take(self) -> list[Taken | Begin]:
        """What has been read since the last time."""
        self.news.clear()
        out = self._out
        return [out.popleft() for _ in range(len(out))]

    # ------------------------------------------------------------ forwarding thread

    def follow(self, stream: Stream | None) -> None:
        """Read this stream from now on."""
        self._stream = stream
        self._next, self._picture = {}, None
        self._begin()

    def _begin(self) -> None:
        """Say that other tracks follow, and tell their clocks anew."""
        self._clock = {}
        if self._stream is not None:
            tracks = self._stream.tracks.values()
            self._put(Begin({track.kind: track.format.codec for track in tracks}))

    def keyframe(self) -> None:
        """Ask for a keyframe; the stream sees to it that this is not too often."""
        if self._stream is not None and self._picture is not None:
            self._stream.request_keyframe(time.monotonic(), self._picture)

    def flush(self, now: float) -> Iterator[None]:
        """Nothing is sent from here."""
        return iter(())

    def tick(self, now: float) -> bool:
        """Read on; every 100 ms is soon enough."""
        stream = self._stream
        if stream is None:
            return False
        self._choose(stream, now)
        had = len(self._out)
        for track in (stream.tracks.get("audio"), self._picture):
            if track is not None:
                self._read(track, now)
        if len(self._out) != had:
            self._loop.call_soon_threadsafe(self.news.set)
        return False

    def _choose(self, stream: Stream, now: float) -> None:
        """Read the largest layer that there is."""
        if not stream.layers:
            return
        live = [track for track in stream.layers if track.live(now)]
        best = live[-1] if live else stream.layers[-1]
        present = self._picture
        if present is None or present not in stream.layers:
            self._picture = present = best
        elif best is present:
            self._better_s = now
        elif self._changes_layer(present, best, now):
            self._picture = present = best
            self._next[best] = best.keyframe_position
            self._begin()
        stream.held = frozenset((present, best))

    def _changes_layer(self, present: Track, best: Track, now: float) -> bool:
        """Whether to go on with another layer, from a keyframe that is in its ring."""
        waits_s = TAKE_LAYER_S if present.live(now) else LEAVE_LAYER_S
        fresh = best.keyframe_at_s > self._better_s and best.start_position(now) >= 0
        if not fresh and now - self._better_s > waits_s and self._stream is not None:
            self._stream.request_keyframe(now, best)
        return fresh and now - self._better_s > waits_s

    def _read(self, track: Track, now: float) -> None:
        highest = track.highest
        if highest < 0:
            return
        at = self._next.get(track, -1)
        if at < 0:
            at = next(p for p in range(track.oldest, highest + 1) if track.get(p) is not None)
        clock = track.clock
        if clock is not None and clock is not self._clock.get(track):
            self._clock[track] = clock
            self._put(Taken(track.kind, report=Report(clock.ntp, clock.timestamp)))
        if at < track.oldest:
            self.lost += track.oldest - at
            at = track.oldest
            self._put(Taken(track.kind))
        while at <= highest:
            kept = track.get(at)
            if kept is not None:
                self._put(Taken(track.kind, kept))
                at += 1
                continue
            end = at
            while end <= highest and track.get(end) is None:
                end += 1
            after = track.get(end)
            if after is not None and _age_s(after, now) < REPAIR_WAIT_S:
                # What shows that these are missing is not old enough: they may still come.
                break
            self.lost += end - at
            self._put(Taken(track.kind))
            at = end
        self._next[track] = at

    def _put(self, taken: Taken | Begin) -> None:
        if len(self._out) < MAX_WAITING:
            self._out.append(taken)
        else:
            self.overrun += 1


def _age_s(kept: bytes, now: float) -> float:
    """How long ago a kept packet came, by the send time that it got on arrival; modulo 64 s."""
    stamp = int.from_bytes(kept[17:20], "big")
    return ((rtp.abs_send_time(now) - stamp) % _STAMP_TURN) / _STAMP_HZ


class Tap:
    """Pulls one stream from one node for as long as it runs."""

    def __init__(self, url: str, stream: str, token: str) -> None:
        """`url` is the node's base URL; `token` must allow to relay where the node asks for one."""
        self.url = url.rstrip("/")
        self.stream = stream
        self._token = token
        self._id = secrets.token_hex(8)
        self._channel: Channel | None = None
        self._parents: Parents | None = None
        self._followed: Stream | None = None

    async def open(self) -> Reader:
        """Open the socket; nothing is asked of the node yet."""
        loop = asyncio.get_running_loop()
        host = await self._own_host(loop)
        self._port = Port(host, 0, loop)
        self._port.start()
        certificate = NodeCertificate.generateCertificate()
        candidates = ((host if host not in ("0.0.0.0", "::") else "127.0.0.1", self._port.number),)
        uplink = Uplink(
            self.url, self._token, self._id, self._port, certificate, lambda: candidates
        )
        self._parents = Parents([uplink], self._id, dict, lambda _answer, _now: None)
        self.reader = Reader(loop, self._port)
        self._port.call(self._port.add_forwarder, self.reader)
        return self.reader

    async def _own_host(self, loop: asyncio.AbstractEventLoop) -> str:
        """Where to open the socket: on the loopback interface if the node is there."""
        parts = urlsplit(self.url)
        infos = await loop.getaddrinfo(parts.hostname or "", parts.port or 80)
        address = str(infos[0][4][0])
        is_v6 = ":" in address
        if ipaddress.ip_address(address.partition("%")[0]).is_loopback:
            return "::1" if is_v6 else "127.0.0.1"
        return "::" if is_v6 else "0.0.0.0"

    async def pull(self) -> None:
        """Ask for the stream; Refused with the node's own sentence when it has none."""
        assert self._parents is not None
        channel = Channel(self.stream, self._port, 3600.0, 0.0)
        try:
            await channel.start_pull(self._parents, (self._id,), {})
        except Refused:
            await channel.end("refused")
            raise
        self._channel = channel
        self.look()

    def look(self) -> None:
        """Follow the stream when it has been replaced: its codec has changed."""
        channel = self._channel
        stream = channel.stream if channel is not None else None
        if stream is not self._followed:
            self._followed = stream
            self._port.call(self.reader.follow, stream)

    def want_keyframe(self) -> None:
        """Ask the publisher for a keyframe."""
        self._port.call(self.reader.keyframe)

    @property
    def over(self) -> bool:
        """Whether the node has not had the stream for so long that it is not asked any more."""
        return self._channel is not None and not self._channel.pulled

    async def close(self) -> None:
        """Take leave of the node and close the socket."""
        if self._channel is not None:
            await self._channel.end("the recording has ended")
        if self._parents is not None:
            await self._parents.close()
        self._port.stop()
