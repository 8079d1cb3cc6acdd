"""Events on their way up, kept until the root has them (pure)."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from web.room.root import Event

MOST: Final = 20_000
"""Events that a node holds; no more are taken then, and whoever sends one is told."""
BATCH: Final = 500
_LATEST: Final = frozenset({"hand", "media"})


@dataclass(slots=True)
class Held:
    """An event. origin: whom to tell when it is kept, by `name` if it is a client's."""

    room: int
    event: Event
    origin: object
    name: str
    sent: bool = False


class Outbox:
    """The events of a node and those below it, in the order in which they came."""

    def __init__(self) -> None:
        self._held: dict[str, Held] = {}
        self._latest: dict[tuple[int, str, str], str] = {}

    def __len__(self) -> int:
        return len(self._held)

    def add(self, room: int, event: Event, origin: object, name: str) -> list[Held] | None:
        """Hold an event; those that it replaces, which nobody needs any more. None: it is full."""
        known = self._held.get(event.id)
        if known is not None:
            known.origin, known.name = origin, name
            return []
        if len(self._held) >= MOST:
            return None
        self._held[event.id] = Held(room, event, origin, name)
        if event.kind not in _LATEST:
            return []
        place = (room, event.kind, event.who)
        before = self._held.pop(self._latest.get(place, ""), None)
        self._latest[place] = event.id
        return [] if before is None else [before]

    def due(self) -> list[Held]:
        """What is to be sent now, at most BATCH; it counts as sent."""
        found = []
        for held in self._held.values():
            if not held.sent:
                held.sent = True
                found.append(held)
                if len(found) >= BATCH:
                    break
        return found

    def again(self, ids: Iterable[str] | None = None) -> None:
        """Send these again, or all: whoever had them has not kept them."""
        for held in self._held.values() if ids is None else map(self._held.get, ids):
            if held is not None:
                held.sent = False

    def kept(self, ids: Iterable[str]) -> list[Held]:
        """The root has these."""
        found = [held for id in ids if (held := self._held.pop(id, None)) is not None]
        for held in found:
            place = (held.room, held.event.kind, held.event.who)
            if self._latest.get(place) == held.event.id:
                del self._latest[place]
        return found


def name_of(*parts: object) -> str:
    """A name for what these say, 22 characters that nobody can read back."""
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).digest()
    return base64.urlsafe_b64encode(digest[:16]).decode().rstrip("=")


def vote_name(ballot: int, vote: Mapping[str, object]) -> str:
    """The name of a sealed vote: the same vote has the same name, whichever way it comes."""
    return name_of("ballot", ballot, dict(vote))
