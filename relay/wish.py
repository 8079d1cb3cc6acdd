"""Which layers this node takes from its parent: told when that changes, and now and then.

The parent's answer says which layers there are, at what bitrates, so that a viewer here can climb
to a layer that does not flow to this node yet, and a layer that begins later becomes known.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from relay.sdp import Layer
from relay.source import Source
from relay.stream import Stream
from relay.track import Track
from relay.uplink import Link, Uplink

if TYPE_CHECKING:
    from relay.channel import Channel

TELL_EVERY_S = 4.0


class Wish:
    """What one stream's viewers at and below this node watch, for all its pulls."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._loop = asyncio.get_running_loop()
        self._rids: list[str] = []
        self._changed: set[asyncio.Event] = set()

    def need(self, layers: frozenset[Track]) -> None:
        """Take the layers that are watched (called on the forwarding thread)."""
        self._loop.call_soon_threadsafe(self._need, sorted(t.rid for t in layers))

    def _need(self, rids: list[str]) -> None:
        self._rids = rids
        for changed in self._changed:
            changed.set()

    async def tell(self, uplink: Uplink, link: Link, source: Source) -> None:
        """Keep one parent told; runs as long as the pull from it."""
        changed = asyncio.Event()
        self._changed.add(changed)
        try:
            # At once: there may be layers that the answer to the offer did not name.
            changed.set()
            while True:
                try:
                    async with asyncio.timeout(TELL_EVERY_S):
                        await changed.wait()
                except TimeoutError:
                    pass
                changed.clear()
                report = await uplink.take_layers(link, self._rids)
                stream = self._channel.stream
                if report is not None and stream is source.stream:
                    self._known(stream, link, source, report)
        finally:
            self._changed.discard(changed)

    def _known(self, stream: Stream, link: Link, source: Source, report: list[Layer]) -> None:
        """Take over what the parent says of its layers."""
        now = time.monotonic()
        leg = next((g for g in link.legs if g.format.kind == "video"), None)
        if leg is None:
            return
        if len(report) > 1:
            self._channel.extend(stream, replace(leg, layers=tuple(report)))
        by_ssrc = {t.ssrc: t for t in stream.layers}
        for layer in report:
            track = by_ssrc.get(layer.ssrc)
            if track is not None:
                track.on_demand = layer.on_demand
                if layer.on_demand or layer.bitrate_bps:
                    track.numbering.keeps_time = layer.on_demand
                # Zero: the parent has it no longer.
                track.announced_s = now if layer.bitrate_bps else -1e9
                track.announced_bps = layer.bitrate_bps or track.announced_bps
            link.peer.ssrcs.update(n for n in (layer.ssrc, layer.rtx_ssrc) if n)
            if len(report) > 1:
                self._channel.run(source.know, leg, layer)


def listen(link: Link) -> None:
    """Let the peer of a link know the SSRCs of all layers."""
    for leg in link.legs:
        pairs: list[tuple[int, int]] = [(leg.ssrc, leg.rtx_ssrc)]
        pairs += [(n.ssrc, n.rtx_ssrc) for n in leg.layers]
        link.peer.ssrcs.update(ssrc for pair in pairs for ssrc in pair if ssrc)
