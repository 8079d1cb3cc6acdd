"""Switches the programmes of a node: which source a stream shows, on the asyncio side.

A programme is a stream like any other to who watches it. `switch` waits until the source is there
and its picture can begin, has the forwarding thread make the cut (`programme`), and tells when that
was. What is on the air stays until then, and stays if it takes too long.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from relay import tree
from relay.channel import Channel
from relay.errors import Refused
from relay.programme import Cue, Programme
from relay.sdp import Format, node_leg
from relay.stream import Stream

if TYPE_CHECKING:
    from relay.node import Node

log = logging.getLogger("relay.director")

WITHIN_S = 2.0
RETRY_S = 2
# What a programme has if its first source lacks one of them: those to come will not.
SOUND = Format("audio", "OPUS")
PICTURE = Format("video", "VP8")


@dataclass(frozen=True, slots=True)
class Switched:
    """What a switch came to. `cut_at` is in Unix seconds, `waited_ms` how long it took."""

    stream: str
    source: str | None
    muted: bool
    cut_at: float
    waited_ms: int

    def as_json(self) -> dict[str, object]:
        """The answer of `PUT /api/switch/{stream}`."""
        return {
            "stream": self.stream, "source": self.source, "muted": self.muted,
            "cut_at": round(self.cut_at, 3), "waited_ms": self.waited_ms,
        }  # fmt: skip


class Director:
    """Keeps the programmes of one node."""

    def __init__(self, node: Node) -> None:
        self._node = node
        # Set and replaced whenever a publisher arrives.
        self._news = asyncio.Event()
        self._turns: dict[str, asyncio.Task[Switched]] = {}

    async def switch(self, name: str, source: str | None, muted: bool = False) -> Switched:
        """Let a stream show a source, or None for whoever publishes it; Refused with a sentence.

        A switch of the same stream that still waits is given up for the newer one.
        """
        node = self._node
        tree.check_stream_name(name)
        if node.stopping.is_set():
            raise Refused(503, "This node is stopping.", RETRY_S, reason="stopping")
        if node.parents is not None:
            sentence = "A programme is switched at the root of the tree; this node has a parent."
            raise Refused(409, sentence)
        if (before := self._turns.get(name)) is not None:
            before.cancel()
        turn = asyncio.create_task(self._switch(name, source, muted), name=f"switch-{name}")
        self._turns[name] = turn
        try:
            return await asyncio.shield(turn)
        except asyncio.CancelledError:
            present = asyncio.current_task()
            if present is not None and not present.cancelling():
                raise Refused(409, f"'{name}' was switched again meanwhile.") from None
            turn.cancel()
            raise
        finally:
            if self._turns.get(name) is turn:
                del self._turns[name]

    def stop(self) -> None:
        """Give up the switches that still wait."""
        for turn in self._turns.values():
            turn.cancel()

    def state(self, name: str) -> dict[str, object]:
        """What a stream shows now; Refused 404 when there is no such stream."""
        channel = self._node.channels.get(tree.check_stream_name(name))
        if channel is None:
            raise Refused(404, f"There is no stream '{name}' here.", RETRY_S)
        programme = channel.on_programme
        return {
            "stream": name,
            "source": programme.source if programme is not None else None,
            "muted": programme is not None and programme.muted,
            "state": channel.state,
        }

    def arrived(self, name: str) -> None:
        """A publisher has brought a stream, perhaps one that somebody waits for, or that was lost.

        What comes back after long, or in another format, is another stream of the same name.
        """
        news, self._news = self._news, asyncio.Event()
        news.set()
        stream = self._node.channels[name].stream
        for channel in self._node.channels.values():
            programme = channel.on_programme
            if programme is None or programme.source != name or channel.name in self._turns:
                continue
            if stream is not None and not programme.plays(stream):
                _ = channel.spawn(self._again(channel.name, name, programme.muted), "again")

    async def _again(self, name: str, source: str, muted: bool) -> None:
        try:
            await self.switch(name, source, muted)
        except Refused as exc:
            log.info("not-again stream=%s source=%s why=%r", name, source, exc.sentence)

    # ------------------------------------------------------------ one switch

    async def _switch(self, name: str, source: str | None, muted: bool) -> Switched:
        began_s = time.monotonic()
        channel = self._node.channels.get(name)
        if source is None:
            if channel is not None:
                channel.leave_programme()
            cut_at = time.time()
        elif self._shows(channel, source):
            assert channel is not None
            assert channel.programme is not None
            self._node.port.call(channel.programme.mute, muted)
            await self._node.port.finished()
            cut_at = time.time()
        else:
            self._check(name, source)
            try:
                async with asyncio.timeout(WITHIN_S):
                    cut_at = await self._cut(name, source, muted, began_s)
            except TimeoutError:
                raise self._late(source) from None
        waited_ms = round(1000 * (time.monotonic() - began_s))
        log.info(
            "switched stream=%s source=%s muted=%s waited_ms=%d", name, source, muted, waited_ms
        )
        return Switched(name, source, muted, cut_at, waited_ms)

    def _shows(self, channel: Channel | None, source: str) -> bool:
        """Whether a source is on the air already, and is what goes by that name now."""
        programme = channel.on_programme if channel is not None else None
        if programme is None or programme.source != source:
            return False
        here = self._node.channels.get(source)
        return here is None or here.stream is None or programme.plays(here.stream)

    def _check(self, name: str, source: str) -> None:
        tree.check_stream_name(source)
        if source == name:
            raise Refused(400, "A programme cannot be its own source.")
        channel = self._node.channels.get(source)
        if channel is not None and channel.programme is not None:
            raise Refused(409, f"'{source}' is a programme itself: switch to its source.")

    async def _cut(self, name: str, source: str, muted: bool, began_s: float) -> float:
        """Wait for the source and for its picture; returns when it was cut to (Unix seconds)."""
        loop = asyncio.get_running_loop()
        stream = await self._source(source)
        channel = self._channel(name, source, stream)
        programme = channel.programme
        if programme is None or programme.stream is not channel.stream:
            assert channel.stream is not None
            programme = channel.programme = Programme(channel.stream)
        cut: asyncio.Future[float] = loop.create_future()

        def made(at: float) -> None:
            channel.begin_programme()
            if not cut.done():
                cut.set_result(at)

        def done(at: float) -> None:
            loop.call_soon_threadsafe(made, at)

        cue = Cue(source, stream, muted, began_s, done)
        self._node.port.call(programme.cue, cue)
        try:
            return await cut
        finally:
            # It is over, or it comes too late: what has been cut to by now stays.
            self._node.port.call(programme.uncue, cue)
            if not cut.done() or cut.cancelled():
                channel.drop_programme()

    async def _source(self, name: str) -> Stream:
        """The source's stream, once somebody is there who publishes it."""
        while True:
            news = self._news
            channel = self._node.channels.get(name)
            if channel is not None and not channel.over(time.monotonic()):
                await channel.on_air.wait()
                if channel.stream is not None:
                    return channel.stream
            await news.wait()

    def _channel(self, name: str, source: str, stream: Stream) -> Channel:
        """The programme's own channel, with the formats of its sources."""
        channel = self._node.channel_to_feed(name)
        present = {} if channel.stream is None else _formats(channel.stream)
        wanted = {"audio": SOUND, "video": PICTURE} | _formats(stream) | present
        for kind, fmt in _formats(stream).items():
            if wanted[kind].codec != fmt.codec:
                sentence = (
                    f"'{source}' is {fmt.codec} and '{name}' is {wanted[kind].codec}: "
                    "all sources of a programme have one codec."
                )
                raise Refused(409, sentence)
        if len(present) < len(wanted):
            kinds = ("audio", "video")
            channel.use_formats([node_leg(str(n), wanted[kind]) for n, kind in enumerate(kinds)])
        return channel

    def _late(self, source: str) -> Refused:
        channel = self._node.channels.get(source)
        if channel is None or channel.stream is None or not channel.on_air.is_set():
            sentence = f"'{source}' did not come to this node in {WITHIN_S:g} s."
            return Refused(504, sentence, RETRY_S, reason="no-source")
        sentence = f"'{source}' brought no picture to begin with in {WITHIN_S:g} s."
        return Refused(504, sentence, RETRY_S, reason="no-picture")


def _formats(stream: Stream) -> dict[str, Format]:
    return {kind: track.format for kind, track in stream.tracks.items()}
