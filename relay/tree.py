"""Rules of the tree: which way requests may go, and how patiently a node tries again (pure).

Every request that a node sends up names the nodes it has come through (`Terrace-Path`). A node
that finds itself in the path is part of a loop of parents and refuses.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from relay.errors import Refused

PATH_HEADER = "Terrace-Path"
NODE_HEADER = "Terrace-Node"
PUBLISHER_HEADER = "Terrace-Publisher"
# Deeper than any country's tiers: a longer path is an error in the configuration.
MAX_HOPS = 12
# An answer to a viewer is due within two seconds; each node below keeps some of it for itself.
ANSWER_WITHIN_S = 1.8
HOP_SHARE_S = 0.12

_ID = re.compile(r"^[0-9a-f]{8,32}$")
_STREAM = re.compile(r"^[A-Za-z0-9._~-]{1,64}$")


def check_stream_name(name: str) -> str:
    """Return the name if it can stand in a URL segment as it is; else Refused 400."""
    if not _STREAM.match(name) or name in (".", ".."):
        raise Refused(
            400,
            "A stream name is 1 to 64 characters of A-Z, a-z, 0-9, dot, underscore, tilde, dash.",
        )
    return name


def parse_path(header: str) -> tuple[str, ...]:
    """The node ids of a `Terrace-Path` header, nearest the viewer first."""
    ids = tuple(part.strip() for part in header.split(",") if part.strip())
    if not all(_ID.match(i) for i in ids):
        raise Refused(400, f"The {PATH_HEADER} header holds something that is no node id.")
    return ids


def extend_path(path: tuple[str, ...], own_id: str) -> tuple[str, ...]:
    """The path of a request that this node passes up; Refused 508 when that would be a loop."""
    if own_id in path:
        raise Refused(
            508,
            "The parents form a loop: this request has already come through this node. "
            "Check --parent on each node along the way.",
        )
    if len(path) >= MAX_HOPS:
        raise Refused(508, f"The tree is deeper than {MAX_HOPS} nodes; check --parent for a loop.")
    return (*path, own_id)


def answer_time(path: tuple[str, ...]) -> float:
    """Seconds that a node may take to ask its parent, by how many nodes wait below it."""
    return max(0.4, ANSWER_WITHIN_S - HOP_SHARE_S * len(path))


@dataclass(slots=True)
class Backoff:
    """Waiting times in seconds before the next try: growing, bounded, reset by success.

    `spread` is a random number in 0..1 drawn by the caller for each wait, so that siblings do
    not try in step.
    """

    first_s: float = 0.25
    factor: float = 1.7
    longest_s: float = 3.0
    _next: float = field(default=0.0)

    def wait_s(self, spread: float) -> float:
        """How long to wait before the next try."""
        base = self._next or self.first_s
        self._next = min(self.longest_s, base * self.factor)
        return base * (0.75 + 0.5 * spread)

    def reset(self) -> None:
        """The last try worked."""
        self._next = 0.0
