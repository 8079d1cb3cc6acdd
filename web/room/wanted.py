"""Which sources are pushed up from this node: those that the room's state says are wanted.

The state's key `wanted` is {source: "low" | "full"}. Every node below the root hears it; only where
a source has entered with `Terrace-Push: on-demand` does raising it do anything.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Final

from relay.errors import Refused
from web.room.root import Pushes

log = logging.getLogger("web.room.wanted")

MOST_WANTED: Final = 64
"""Of one room; the centre sets far fewer."""
LAYERS: Final = ("low", "full")


class Wanted:
    """What each room has this node raise. `pushes` does it."""

    def __init__(self, pushes: Pushes) -> None:
        self._pushes = pushes
        self._raised: dict[int, dict[str, str]] = {}

    def take(self, room: int, value: object) -> None:
        """Raise and lower what differs from what was wanted before; anything else is nothing."""
        wanted = _read(room, value)
        before = self._raised.get(room, {})
        for stream in before.keys() - wanted.keys():
            self._pushes.lower(stream)
        done = {stream: layers for stream, layers in before.items() if stream in wanted}
        for stream, layers in wanted.items():
            if before.get(stream) == layers:
                continue
            try:
                self._pushes.raise_up(stream, layers)
            except Refused as error:
                log.warning("not-raised stream=%s why=%r", stream, error.sentence)
            else:
                done[stream] = layers
        if done:
            self._raised[room] = done
        else:
            self._raised.pop(room, None)


def _read(room: int, value: object) -> dict[str, str]:
    if not isinstance(value, Mapping):
        return {}
    found = {f"class-{room}.{source}": layers for source, layers in value.items()}
    fits = [(stream, layers) for stream, layers in found.items() if layers in LAYERS]
    return dict(fits[:MOST_WANTED])
