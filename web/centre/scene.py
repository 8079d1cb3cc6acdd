"""The streams of this node, as the rooms see them (`rooms.Scene`)."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Final

from relay.node import Node

FLOWS_S: Final = 1.0
"""Sound alone brings fifty packets a second: after so long without one, something is wrong."""


class NodeScene:
    """A node with its programmes."""

    def __init__(self, node: Node) -> None:
        self._node = node

    async def switch(self, stream: str, source: str | None, *, muted: bool) -> None:
        """Cut a programme to a source; relay.errors.Refused, and then all is as it was."""
        channel = self._node.channels.get(stream)
        programme = channel.on_programme if channel is not None else None
        if programme is not None and programme.source == source and programme.muted != muted:
            # Not by the way of a cut, which would be in place of one that is under way.
            self._node.port.call(programme.mute, muted)
            await self._node.port.finished()
            return
        await self._node.switch(stream, source, muted)

    def flowing(self, streams: Iterable[str]) -> frozenset[str]:
        """Those of these streams in which media flow now."""
        now = time.monotonic()
        found = set()
        for name in streams:
            channel = self._node.channels.get(name)
            source = channel.source if channel is not None else None
            if source is not None and now - source.last_media_s < FLOWS_S:
                found.add(name)
        return frozenset(found)
