"""One direction of a bad line: which packets are lost, and when the others arrive. Pure, seeded."""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Conditions:
    """What a line does to packets in one direction; the default is a perfect line.

    `loss` is the share of packets lost; `burst` the mean length of a run of losses in packets
    (1: each on its own; above: a Gilbert model). A packet takes `delay_ms` and a random part of
    `jitter_ms`, in order; a share `reorder` of them is held back for another `reorder_ms`, so that
    later ones overtake. `rate_bps` (0: any) is how fast the line is, `queue_bytes` how much may
    wait for it; what does not fit is dropped. `cut` is a black hole.
    """

    loss: float = 0.0
    burst: float = 1.0
    delay_ms: float = 0.0
    jitter_ms: float = 0.0
    reorder: float = 0.0
    reorder_ms: float = 15.0
    rate_bps: float = 0.0
    queue_bytes: int = 64_000
    cut: bool = False


@dataclass(slots=True)
class Tally:
    """Packets that came, and those that were lost by chance, to a full queue, and to a cut."""

    packets: int = 0
    lost: int = 0
    overflowed: int = 0
    cut: int = 0


class Line:
    """Decides on each packet in turn; `conditions` may be changed at any time."""

    def __init__(self, seed: int, conditions: Conditions | None = None) -> None:
        self.conditions = conditions or Conditions()
        self.tally = Tally()
        self._random = random.Random(seed)
        self._bad = False
        # When the last bit of what waits will have left, and when the last in-order packet arrives.
        self._free_s = 0.0
        self._last_s = 0.0

    def arrival(self, now: float, size: int) -> float | None:
        """When a packet of `size` bytes that is sent now arrives; None when it never does."""
        weather, tally, chance = self.conditions, self.tally, self._random.random
        tally.packets += 1
        if weather.cut:
            tally.cut += 1
            return None
        if weather.loss and self._lost():
            tally.lost += 1
            return None
        at = now
        if weather.rate_bps:
            begin = max(now, self._free_s)
            waiting = (begin - now) * weather.rate_bps / 8
            if waiting + size > weather.queue_bytes:
                tally.overflowed += 1
                return None
            at = self._free_s = begin + size * 8 / weather.rate_bps
        at += weather.delay_ms / 1000
        if weather.jitter_ms:
            at += chance() * weather.jitter_ms / 1000
        if weather.reorder and chance() < weather.reorder:
            return at + weather.reorder_ms / 1000
        self._last_s = at = max(at, self._last_s)
        return at

    def _lost(self) -> bool:
        """The Gilbert model: every packet in the bad state is lost, none in the good one."""
        weather = self.conditions
        if weather.burst <= 1 or weather.loss >= 1:
            return self._random.random() < weather.loss
        leave = 1 / weather.burst
        # The share of time in the bad state is enter / (enter + leave), and that is the loss.
        enter = leave * weather.loss / (1 - weather.loss)
        self._bad = self._random.random() < ((1 - leave) if self._bad else enter)
        return self._bad
