"""The seam between the events of a room and whoever keeps its meeting (the centre)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

Kind = Literal["hand", "say", "linetest", "rollcall", "media", "ballot"]


@dataclass(frozen=True, slots=True)
class Event:
    """Something that somebody did, or a sealed vote of nobody.

    id: the same however often it comes, at most 64 characters. who: "site:12", "person:3",
    "viewer", and "" for a ballot. at: Unix seconds by the clock of the node where it came in, 0.0
    for a ballot. data: the fields of the client's message without "t" and "id"; for a ballot
    {"ballot": id, "vote": {...}} as `web.room.ballots.Vote` has it.
    """

    id: str
    kind: Kind
    who: str
    at: float
    data: Mapping[str, object]


class Root(Protocol):
    """What the hub at the top of the tree asks of the centre."""

    def knows(self, room: int) -> bool:
        """Whether there is such a meeting, which clients may then join."""

    async def take(self, room: int, events: Sequence[Event]) -> None:
        """Keep events for good; the tree forgets them when this returns.

        May be called again with the same events. "hand" and "media" are what holds now: a newer
        one of the same place replaces an older one. Raises anything when they cannot be kept: they
        come again.
        """

    def tallied(self, room: int, poll: int, counts: list[int], voters: int) -> None:
        """The counts of a poll have changed; at most once a second."""

    def present(self, room: int, sites: frozenset[int], viewers: int) -> None:
        """Who is there has changed; sites are ids, viewers all others."""


class Pushes(Protocol):
    """What a node does with sources that wait at it to be wanted (`relay.node.Node`)."""

    def raise_up(self, stream: str, layers: str) -> None:
        """Push a stream to the parent: "low" its smallest layer, "full" all of it."""

    def lower(self, stream: str) -> None:
        """Push it no longer."""
