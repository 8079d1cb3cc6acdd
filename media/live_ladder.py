"""`terrace ladder URL`: lower layers for a live stream whose publisher sends one picture only.

A process beside the node where the stream enters. It holds one connection per stream to the node
(`relay/ladder.py` is the other end), gets the picture while somebody watches a lower layer, and
sends back smaller ones under the same timestamps. While nobody does, nothing flows and nothing is
decoded.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import re
import secrets
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TextIO

from relay import packet as rtp
from relay import rtcp, wish
from relay.errors import HandshakeFailed, Refused
from relay.packet import ExtensionIds
from relay.peer import NodeCertificate
from relay.port import Port
from relay.sdp import Layer
from relay.source import Source
from relay.stream import Stream
from relay.track import Track
from relay.tree import Backoff
from relay.uplink import Link, Uplink
from relay.viewer import Viewer

from .errors import MediaError, NodeError, SettingError
from .exchange import check_url
from .pictures import Reader, Writer
from .publish import bitrate_bps, check_token
from .scaler import Made, Rung, Scaler
from .workshop import Workshop

# A node says once a second what it wants; after this long without a word it wants nothing.
FORGOTTEN_S = 3.5
# An answer of the node may take this long.
ANSWER_S = 5.0
LONGEST_WAIT_S = 10.0
_NO_EXTENSIONS = ExtensionIds({})

EXAMPLE = """examples:
  terrace ladder http://127.0.0.1:8710/whip/lecture
  terrace ladder http://127.0.0.1:8710/whip/lecture --half 600k --quarter 150k
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `terrace ladder`."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EXAMPLE
    parser.add_argument(
        "urls",
        metavar="URL",
        nargs="+",
        help="WHIP address of a stream at the node where it enters: http://node:8710/whip/STREAM",
    )
    parser.add_argument(
        "--token", help="bearer token that may publish the stream; else from TERRACE_TOKEN"
    )
    parser.add_argument(
        "--half",
        type=bitrate_bps,
        default="400k",
        metavar="RATE",
        help="rate of the layer of half the width and height (default: 400k)",
    )
    parser.add_argument(
        "--quarter",
        type=bitrate_bps,
        default="120k",
        metavar="RATE",
        help="rate of the layer of a quarter of them (default: 120k)",
    )
    parser.add_argument("--quiet", action="store_true", help="say only what goes wrong")


def run(args: argparse.Namespace) -> int:
    """Serve until a signal comes; 0, or 1 with the reason on stderr."""
    rungs = (Rung("q", 4, args.quarter), Rung("h", 2, args.half))
    words = Words(sys.stdout, sys.stderr, quiet=args.quiet)
    try:
        token = args.token or os.environ.get("TERRACE_TOKEN", "")
        check_token(token)
        if args.quarter >= args.half:
            raise SettingError("--quarter must be below --half: the smaller picture costs less")
        places = [place(url) for url in args.urls]
        asyncio.run(_serve(places, token, rungs, words))
    except MediaError as error:
        words.complain("", str(error))
        return 1
    return 0


@dataclass(frozen=True, slots=True)
class Place:
    """A stream at a node: the node's base URL, its host, and the stream's name."""

    base: str
    host: str
    stream: str


def place(url: str) -> Place:
    """Take apart a WHIP address. Raises SettingError with what is wrong."""
    parts = check_url(url)
    match = re.fullmatch(r"(.*)/whip/([^/]+)/?", parts.path)
    if match is None or parts.query or parts.fragment:
        example = f"{parts.scheme}://{parts.netloc}/whip/lecture"
        raise SettingError(f"{url} is no WHIP address of a node: one looks like {example}")
    return Place(f"{parts.scheme}://{parts.netloc}{match[1]}", parts.hostname or "", match[2])


class Words:
    """What the person is told. A complaint that repeats itself is told once."""

    def __init__(self, out: TextIO, err: TextIO, *, quiet: bool) -> None:
        self._out, self._err, self._quiet = out, err, quiet
        self._last: dict[str, str] = {}

    def say(self, stream: str, text: str) -> None:
        """Tell something, unless asked to be quiet."""
        self._last.pop(stream, None)
        if not self._quiet:
            self._out.write(f"{stream}: {text}\n")
            self._out.flush()

    def complain(self, stream: str, text: str) -> None:
        """Tell what goes wrong, once; stream: "" where it is not about one."""
        if self._last.get(stream) != text:
            self._last[stream] = text
            about = f"{stream}: " if stream else ""
            self._err.write(f"terrace ladder: {about}{text}\n")
            self._err.flush()


async def _serve(places: list[Place], token: str, rungs: tuple[Rung, ...], words: Words) -> None:
    """All streams side by side, until a signal comes or one of them cannot be served."""
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        try:
            async with asyncio.TaskGroup() as group:
                for where in places:
                    group.create_task(_one(where, token, rungs, words))
        except* NodeError as errors:
            raise errors.exceptions[0] from None


async def _one(where: Place, token: str, rungs: tuple[Rung, ...], words: Words) -> None:
    """One stream: ask the node again and again to be its ladder. Raises NodeError for good."""
    loop = asyncio.get_running_loop()
    port = Port(await _any_address(where), 0, loop)
    port.start()
    certificate = NodeCertificate.generateCertificate()
    uplink = Uplink(where.base, token, secrets.token_hex(8), port, certificate, lambda: ())
    backoff = Backoff()
    try:
        while True:
            wait_s = min(LONGEST_WAIT_S, backoff.wait_s(secrets.randbelow(1000) / 1000))
            layers = tuple(_layer(rung) for rung in rungs)
            try:
                link = await uplink.climb(where.stream, layers, ANSWER_S)
            except Refused as exc:
                if exc.status in (401, 403):
                    raise NodeError(exc.sentence, final=True) from exc
                words.complain(where.stream, exc.sentence)
                wait_s = min(LONGEST_WAIT_S, exc.retry_after_s or wait_s)
            else:
                why = await _climb(where.stream, port, uplink, link, rungs, words)
                words.complain(where.stream, f"the connection ended: {why or 'no reason given'}")
            await asyncio.sleep(wait_s)
    finally:
        await uplink.close()
        port.stop()


def _layer(rung: Rung) -> Layer:
    ssrc, rtx_ssrc = (secrets.randbelow(0xFFFFFFFE) + 1 for _ in range(2))
    return Layer(rung.rid, ssrc, rtx_ssrc, rung.bitrate_bps)


async def _any_address(where: Place) -> str:
    """Where to listen, of the family in which the node is reached."""
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(where.host, None, type=socket.SOCK_DGRAM)
    except OSError:
        return "0.0.0.0"
    families = {info[0] for info in found}
    return "::" if families == {socket.AF_INET6} else "0.0.0.0"


async def _climb(
    stream: str, port: Port, uplink: Uplink, link: Link, rungs: tuple[Rung, ...], words: Words
) -> str:
    """Serve over one connection; returns why it ended."""
    climb = Climb(stream, port, link, rungs, lambda text: words.say(stream, text))
    wish.listen(link)
    try:
        await uplink.connect(link)
        port.call(climb.begin)
        words.say(stream, "ready; nothing is made until somebody needs it")
        return await uplink.watch(link.peer, lambda: 0.0)
    except HandshakeFailed as exc:
        return str(exc)
    finally:
        port.call(climb.end)
        await asyncio.shield(uplink.leave(link))


class _Inflow(Stream):
    """The picture as it comes in: a stream without viewers, read as packets arrive."""

    def __init__(self, name: str, track: Track, port: Port, arrived: Callable[[], None]) -> None:
        super().__init__(name, [track], port)
        self._arrived = arrived

    def push(self, track: Track, kept: bytes) -> None:
        """A packet is in the ring."""
        self._arrived()


class Climb:
    """One connection to the node: its peer's media handler, and the upstream of what is made.

    All methods but the constructor run on the forwarding thread.
    """

    def __init__(
        self,
        stream: str,
        port: Port,
        link: Link,
        rungs: tuple[Rung, ...],
        say: Callable[[str], None],
    ) -> None:
        picture, made = link.legs
        self.peer = link.peer
        self._port, self._say = port, say
        self._loop = asyncio.get_running_loop()
        self._track = Track(picture.format, picture.ssrc)
        self._inflow = _Inflow(stream, self._track, port, self._read)
        own_ssrc = secrets.randbelow(0xFFFFFFFE) + 1
        self._source = Source(
            self._inflow, link.peer, [picture], own_ssrc, estimate=False, from_node=True
        )
        self._source.on_need(lambda _: None)
        self._reader = Reader(self._track)
        tracks = [Track(made.format, n.ssrc, n.rid) for n in made.layers]
        self._outflow = Stream(stream, tracks, port)
        self._viewer = Viewer(self._outflow, link.peer, {"video": made}, is_relay=True)
        by_rid = {rung.rid: rung for rung in rungs}
        self._rung_of = {track: by_rid[track.rid] for track in tracks}
        self._track_of = {rung: track for track, rung in self._rung_of.items()}
        codec = made.format.codec
        self._writers = {
            rung: Writer(codec, track.ssrc, secrets.randbits(16))
            for rung, track in self._track_of.items()
        }
        self._workshop = Workshop(Scaler(codec, rungs), self._made, self._failed)
        self._wanted: frozenset[Rung] = frozenset()
        self._told_s = 0.0

    def begin(self) -> None:
        """Take what comes, and be ready to send."""
        self._workshop.start()
        for stream in (self._inflow, self._outflow):
            self._port.add_forwarder(stream)
        self._inflow.fed_by(self._source)
        self._outflow.fed_by(self)
        self._outflow.add_viewer(self._viewer)
        self.peer.serve(self)

    def end(self) -> None:
        """Stop; the thread ends with the picture in hand."""
        self._workshop.stop()
        for stream in (self._inflow, self._outflow):
            self._port.remove_forwarder(stream)

    # ------------------------------------------------------------ media handler

    def on_rtp(self, data: bytes, now: float) -> None:
        """One packet of the picture."""
        self._source.on_rtp(data, now)

    def on_rtcp(self, data: bytes, now: float) -> None:
        """The node's reports on what we send, and what it wants."""
        self._source.on_rtcp(data, now)
        self._viewer.on_rtcp(data, now)
        for report in rtcp.parse(data):
            if isinstance(report, rtcp.Remb):
                self._told_s = now
                self._want(frozenset(
                    rung for track, rung in self._rung_of.items() if track.ssrc in report.ssrcs
                ))  # fmt: skip

    def _want(self, rungs: frozenset[Rung]) -> None:
        if rungs == self._wanted:
            return
        if not self._wanted:
            # What is in the ring since its last keyframe is decoded first.
            self._reader.stop()
        self._wanted = rungs
        self._source.need(frozenset({self._track} if rungs else ()))
        self._workshop.want(rungs)
        names = " and ".join(f"1/{rung.divisor}" for rung in sorted(rungs, key=lambda r: r.divisor))
        text = f"making layers of {names} the size" if rungs else "nobody needs a layer: idle"
        self._loop.call_soon_threadsafe(self._say, text)
        self._read()

    def _read(self) -> None:
        """Hand over what has become whole."""
        if not self._wanted:
            return
        now = time.monotonic()
        for picture in self._reader.read(now):
            self._workshop.put(picture)
        if self._reader.waits_for_keyframe:
            self._inflow.request_keyframe(now, self._track)

    # ------------------------------------------------------------ upstream of what is made

    def ask_keyframe(self, track: Track, now: float, urgent: bool = False) -> None:
        """The node asks for a keyframe of a layer."""
        self._workshop.want_keyframe(self._rung_of[track])

    def tick(self, now: float) -> bool:
        """Notice a gap that is not filled, and a node that no longer says what it wants."""
        if self._wanted and now - self._told_s > FORGOTTEN_S:
            self._want(frozenset())
        self._read()
        return False

    def need(self, layers: frozenset[Track]) -> None:
        """Everything that is made is sent."""

    def retire(self) -> None:
        """There is no other source of the layers."""

    # ------------------------------------------------------------ the workshop's thread

    def _made(self, made: Made) -> None:
        packets = self._writers[made.rung].packets(made.data, made.timestamp)
        self._port.call(self._send, self._track_of[made.rung], packets)

    def _failed(self, fault: Exception) -> None:
        self._loop.call_soon_threadsafe(self.peer.lost, str(fault) or type(fault).__name__)

    def _send(self, track: Track, packets: list[bytes]) -> None:
        now = time.monotonic()
        stamp = rtp.abs_send_time(now)
        for data in packets:
            kept = track.insert(data, rtp.parse(data, _NO_EXTENSIONS), track.ssrc, stamp, now)
            if kept is not None:
                self._outflow.push(track, kept)
