"""Rules of the tree: which way requests may go, and how patiently a node tries again (pure).

Every request that a node sends up names the nodes it has come through (`Terrace-Path`). A node
that finds itself in the path is part of a loop of parents and refuses.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import Enum

from relay.errors import Refused

PATH_HEADER = "Terrace-Path"
NODE_HEADER = "Terrace-Node"
HAVE_HEADER = "Terrace-Have"
PUBLISHER_HEADER = "Terrace-Publisher"
LADDER_HEADER = "Terrace-Ladder"
PUSH_HEADER = "Terrace-Push"
# From a publisher: the stream stays at the node where it enters until it is raised.
ON_DEMAND = "on-demand"
# From a node: the publisher is there already, nobody need wait for it before connecting further.
ON_AIR = "on-air"
# Deeper than any country's tiers: a longer path is an error in the configuration.
MAX_HOPS = 12
# An answer to a viewer is due within two seconds; each node below keeps some of it for itself.
ANSWER_WITHIN_S = 1.8
HOP_SHARE_S = 0.12

_ID = re.compile(r"[0-9a-f]{8,32}")
_STREAM = re.compile(r"[A-Za-z0-9._~-]{1,64}")


def check_stream_name(name: str) -> str:
    """Return the name if it can stand in a URL segment as it is; else Refused 400."""
    if not _STREAM.fullmatch(name) or name in (".", ".."):
        raise Refused(
            400,
            "A stream name is 1 to 64 characters of A-Z, a-z, 0-9, dot, underscore, tilde, dash.",
        )
    return name


def parse_path(header: str) -> tuple[str, ...]:
    """The node ids of a `Terrace-Path` header, nearest the viewer first."""
    ids = tuple(part.strip() for part in header.split(",") if part.strip())
    if not all(_ID.fullmatch(i) for i in ids):
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


def check_push(header: str, *, from_node: bool) -> str:
    """The value of a `Terrace-Push` header, "" for none; Refused 400 for what is not known."""
    if header not in ("", ON_AIR if from_node else ON_DEMAND):
        raise Refused(400, f"The {PUSH_HEADER} header of a publisher is '{ON_DEMAND}' or absent.")
    return header


def parse_have(header: str) -> dict[int, int]:
    """What a node that changes parents has already: the last sequence number by SSRC."""
    have: dict[int, int] = {}
    for part in header.split(",")[:16] if header.isascii() else ():
        ssrc, _, sequence = part.strip().partition(":")
        if ssrc.isdecimal() and sequence.isdecimal() and len(ssrc) <= 10 and len(sequence) <= 5:
            have[int(ssrc)] = int(sequence) & 0xFFFF
    return have


def format_have(have: dict[int, int]) -> str:
    """The header's value for `parse_have`."""
    return ", ".join(f"{ssrc}:{sequence}" for ssrc, sequence in have.items())


def answer_time(path: tuple[str, ...]) -> float:
    """Seconds that a node may take to ask its parent, by how many nodes wait below it."""
    return max(0.4, ANSWER_WITHIN_S - HOP_SHARE_S * len(path))


# A stream that ran and is silent for this long makes its parent suspect; a suspect that answers
# no ICE check within the next figure (or some round trips) is left.
SILENT_S = 0.3
PROBE_S = 0.25
# The same where its HTTP connection broke as well: its process is dead, or so short of time that
# another parent serves better.
PROBE_BROKEN_S = 0.12
PROBE_EVERY_S = 0.06
# A parent that answers but brings no media may have lost its own: another one is tried beside it.
SEEK_AFTER_S = 2.5
SEEK_EVERY_S = 8.0
# A preferred parent must have been well for this long (times 1 to 2, drawn per node).
FAILBACK_AFTER_S = 8.0


class Verdict(Enum):
    """What to do about the parent that a stream is pulled from."""

    STAY = "stay"
    PROBE = "probe"
    LEAVE = "leave"
    SEEK = "seek"


@dataclass(slots=True)
class Watch:
    """Judges one pull every few hundredths of a second. All times in seconds of one clock."""

    probing_since: float = 0.0
    cleared_at: float = 0.0
    sought_at: float = 0.0

    def judge(
        self, now: float, *, media: float, heard: float, suspected: float, rtt: float
    ) -> Verdict:
        """Say what to do now.

        `media` is when the last packet came (0: none yet), `heard` the last authentic sign of the
        parent of any kind, `suspected` when something else cast doubt on it (0: nothing).
        """
        silent = bool(media) and now - media > SILENT_S
        doubted = suspected > max(self.cleared_at, heard - 0.02)
        if not silent and not doubted:
            self.probing_since = 0.0
            return Verdict.STAY
        if self.probing_since:
            if heard > self.probing_since:
                self.probing_since = 0.0
                self.cleared_at = now
            elif now - self.probing_since > max(PROBE_BROKEN_S if doubted else PROBE_S, 4 * rtt):
                return Verdict.LEAVE
            else:
                return Verdict.PROBE
        elif now - self.cleared_at > 0.5 or doubted:
            self.probing_since = now
            return Verdict.PROBE
        if silent and now - media > SEEK_AFTER_S and now - self.sought_at > SEEK_EVERY_S:
            self.sought_at = now
            return Verdict.SEEK
        return Verdict.STAY


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
