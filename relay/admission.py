"""Whether this node takes one more viewer, and who could take it instead (pure).

A node refuses before it harms those it serves. It looks at four things: how many viewers it was
told to hold, packets per second out, the share of a core that its forwarding thread uses, and
memory. What is measured lags behind a crowd by seconds, so each viewer who was let in counts with
the load it will bring until that load must have shown.
"""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

# Load is a mean over this long, and a join shows in it wholly after the handshake and this long.
WINDOW_S = 2.0
SHORTEST_S = 0.01
AHEAD_S = 3.5
# The forwarding thread at this share of a core still sends every packet within milliseconds.
MAX_CPU = 0.85
# A node below feeds many: it may still enter where a single viewer may not.
RELAY_RESERVE = 1.1
# Before a node has measured its own cost per packet; bench/README.md has the figures.
USUAL_COST_S = 8e-6
USUAL_PACKETS_PER_S = 160.0
# Below this rate the thread's fixed work would be taken for cost per packet: with 50 viewers a
# packet costs twice what it costs with 400.
ENOUGH_PACKETS_PER_S = 12_000.0
UNLIMITED_ROOM = 10_000
RETRY_FIRST_S = 2
RETRY_SPREAD_S = 4
# So many who were refused lately may come back in a second.
RETURN_PER_S = 25
REFUSED_FOR_S = 10.0
SIBLING_FRESH_S = 12.0


class Reason(Enum):
    """Why a viewer is refused; the values go out in the `Terrace-Reason` header."""

    FULL = "full"
    PACKETS = "packets"
    CPU = "cpu"
    MEMORY = "memory"

    @property
    def sentence(self) -> str:
        """What the viewer's operator reads."""
        return _SENTENCES[self]


_SENTENCES = {
    Reason.FULL: "This node has as many viewers as it was set to hold.",
    Reason.PACKETS: "This node sends as many packets a second as it was set to send.",
    Reason.CPU: "This node's processor has no time for one more viewer.",
    Reason.MEMORY: "This node's memory has no room for one more viewer.",
}


@dataclass(frozen=True, slots=True)
class Limits:
    """What a node may take on; 0 stands for no limit.

    `max_cpu` is a share of one core, `max_memory_bytes` is of the process's resident memory.
    """

    max_viewers: int = 0
    max_packets_per_s: int = 0
    max_cpu: float = MAX_CPU
    max_memory_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Usage:
    """Counters of a node at one moment: packets sent and forwarding time since its start."""

    packets: int
    busy_s: float
    memory_bytes: int = 0


class Admission:
    """Decides by what was measured and by who has come since."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.packets_per_s = 0.0
        self.cpu = 0.0
        self.memory_bytes = 0
        self.refused = 0
        self._cost_s = USUAL_COST_S
        self._samples: deque[tuple[float, Usage]] = deque()
        # Who has come lately, oldest first: when, and how many packets a second it will bring.
        self._ahead: dict[int, tuple[float, float]] = {}
        self._tickets = itertools.count()
        self._refused: deque[float] = deque(maxlen=4096)

    def sample(self, now: float, usage: Usage) -> None:
        """Take the counters; due about twice a second."""
        samples = self._samples
        samples.append((now, usage))
        while len(samples) > 2 and now - samples[1][0] >= WINDOW_S:
            samples.popleft()
        began_s, first = samples[0]
        gone = now - began_s
        if gone < SHORTEST_S:
            return
        self.memory_bytes = usage.memory_bytes
        self.packets_per_s = max(0.0, usage.packets - first.packets) / gone
        self.cpu = max(0.0, usage.busy_s - first.busy_s) / gone
        if self.packets_per_s > ENOUGH_PACKETS_PER_S:
            measured = min(max(self.cpu / self.packets_per_s, 2e-6), 50e-6)
            self._cost_s += (measured - self._cost_s) / 4

    def joined(self, now: float, packets_per_s: float = USUAL_PACKETS_PER_S) -> int:
        """Count a viewer ahead: it will get this many packets a second. For `left`, its ticket."""
        ticket = next(self._tickets)
        self._ahead[ticket] = now, packets_per_s
        return ticket

    def left(self, ticket: int) -> None:
        """A viewer has gone: nothing more is to come from it."""
        self._ahead.pop(ticket, None)

    def refuse(
        self,
        now: float,
        viewers: int,
        packets_per_s: float = USUAL_PACKETS_PER_S,
        *,
        relay: bool = False,
    ) -> Reason | None:
        """Why one more may not enter, None if it may.

        `viewers` are those who are here or shaking hands, nodes below not counted;
        `packets_per_s` is what the new one would get; `relay` says that it is a node.
        """
        reason = self._reason(now, viewers, packets_per_s, relay)
        if reason is not None:
            self.refused += 1
            self._refused.append(now)
        return reason

    def _reason(self, now: float, viewers: int, packets_per_s: float, relay: bool) -> Reason | None:
        limits = self.limits
        reserve = RELAY_RESERVE if relay else 1.0
        if limits.max_viewers and viewers >= limits.max_viewers and not relay:
            return Reason.FULL
        coming = self.ahead(now) + packets_per_s
        most = limits.max_packets_per_s * reserve
        if most and self.packets_per_s + coming > most:
            return Reason.PACKETS
        if limits.max_cpu and self.cpu + coming * self._cost_s > limits.max_cpu * reserve:
            return Reason.CPU
        if limits.max_memory_bytes and self.memory_bytes > limits.max_memory_bytes * reserve:
            return Reason.MEMORY
        return None

    def ahead(self, now: float) -> float:
        """Packets a second that recent joins will bring and that no measurement shows yet.

        The mean that is measured shows a join bit by bit, over the last WINDOW_S of AHEAD_S.
        """
        ahead = self._ahead
        while ahead and now - ahead[oldest := next(iter(ahead))][0] > AHEAD_S:
            del ahead[oldest]
        return sum(
            packets * min(1.0, (AHEAD_S - (now - joined_s)) / WINDOW_S)
            for joined_s, packets in ahead.values()
        )

    def room(self, now: float, viewers: int, packets_per_s: float = USUAL_PACKETS_PER_S) -> int:
        """How many more viewers this node would take now, 0 to UNLIMITED_ROOM."""
        limits, room = self.limits, float(UNLIMITED_ROOM)
        if limits.max_memory_bytes and self.memory_bytes > limits.max_memory_bytes:
            return 0
        if limits.max_viewers:
            room = min(room, limits.max_viewers - viewers)
        each, coming = max(packets_per_s, 1.0), self.ahead(now)
        if limits.max_packets_per_s:
            left = limits.max_packets_per_s - self.packets_per_s - coming
            room = min(room, left / each)
        if limits.max_cpu:
            left = limits.max_cpu - self.cpu - coming * self._cost_s
            room = min(room, left / (each * self._cost_s))
        return max(0, math.floor(room))

    def retry_after_s(self, now: float, spread: float) -> int:
        """Seconds after which a refused one may ask again.

        `spread` is random, 0 to 1, drawn anew for each: those who were refused together do not
        come back together, and the more they are, the longer the time they are spread over.
        """
        while self._refused and now - self._refused[0] > REFUSED_FOR_S:
            self._refused.popleft()
        over_s = max(RETRY_SPREAD_S, len(self._refused) / RETURN_PER_S)
        return RETRY_FIRST_S + round(spread * min(over_s, 60))


@dataclass(slots=True)
class _Sibling:
    room: int
    heard_s: float


class Siblings:
    """Nodes that could serve a viewer in our place, by URL, and how much room they told of."""

    def __init__(self) -> None:
        self._known: dict[str, _Sibling] = {}

    def heard(self, url: str, room: int, now: float) -> None:
        """A sibling said at `now` (or it was said about it) that it takes `room` more viewers."""
        self._known[url.rstrip("/")] = _Sibling(room, now)

    def forget(self, now: float) -> None:
        """Drop what has not been heard of for long."""
        stale = [u for u, s in self._known.items() if now - s.heard_s > 10 * SIBLING_FRESH_S]
        for url in stale:
            del self._known[url]

    def choose(self, now: float, avoid: Iterable[str] = ()) -> str:
        """The sibling with the most room, which is counted one less; "" if none has any."""
        url = self._best(now, frozenset(avoid))
        if url:
            self._known[url].room -= 1
        return url

    def room(self, now: float) -> int:
        """How many viewers all siblings together would take."""
        return sum(max(0, s.room) for s in self._fresh(now).values())

    def _best(self, now: float, avoid: frozenset[str]) -> str:
        open_ones = [
            (sibling.room, url)
            for url, sibling in self._fresh(now).items()
            if sibling.room > 0 and url not in avoid
        ]
        return max(open_ones, default=(0, ""))[1]

    def _fresh(self, now: float) -> dict[str, _Sibling]:
        return {u: s for u, s in self._known.items() if now - s.heard_s <= SIBLING_FRESH_S}


def handover_group(left: int, remaining_s: float, step_s: float) -> int:
    """How many of `left` viewers to hand over in this step of `step_s`, so that all go in time."""
    steps = max(1.0, remaining_s / step_s)
    return math.ceil(left / steps)
