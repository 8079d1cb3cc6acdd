"""Which source is asked next, which are left alone for a while, and how fast bytes come. Pure."""

from __future__ import annotations

import enum
import math
import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

REST_S: Final = 10.0
"""A source that failed is left alone for so long, twice as long each time that it fails again."""
MAX_REST_S: Final = 300.0
PAUSE_S: Final = 0.5
"""With nobody left to ask, so long until everybody is asked again; twice as long each time."""
MAX_PAUSE_S: Final = 30.0
REMEMBERED_S: Final = 60.0


class SourceKind(enum.StrEnum):
    """Who is asked."""

    PARENT = "parent"
    """A node above: it has everything or gets it, and serves it under the blob's path."""
    NEIGHBOUR = "neighbour"
    """A box on the same LAN: it serves `/pieces/<sha256>`, what it holds and nothing else."""


@dataclass(frozen=True, slots=True)
class Source:
    """One place to fetch from. `url` has no trailing slash; `token` is shown to parents only."""

    url: str
    kind: SourceKind = SourceKind.PARENT
    token: str = field(default="", repr=False)


def pause_s(round_: int, chance: random.Random) -> float:
    """How long to wait after the `round_`-th round (from 0) in which nobody could help.

    Jittered downwards, so that the stations of a county do not come back in one second.
    """
    return min(MAX_PAUSE_S, PAUSE_S * 2.0 ** min(round_, 16)) * chance.uniform(0.5, 1.0)


@dataclass(slots=True)
class _Record:
    failures: int = 0
    rests_until_s: float = 0.0


class Suppliers:
    """How each source has behaved; times are those of a monotonic clock."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._records: dict[str, _Record] = {}

    def order(self, now: float, sources: Iterable[Source]) -> list[Source]:
        """Whom to ask, the first first: neighbours, then parents, in the order given.

        Those that rest are left out, but for the parents when all of them rest: who rests the
        least is first then.
        """
        known = list(sources)
        near = [one for one in known if one.kind is SourceKind.NEIGHBOUR]
        above = [one for one in known if one.kind is SourceKind.PARENT]
        awake = [one for one in above if self.rests_s(now, one) <= 0]
        return [
            *(one for one in near if self.rests_s(now, one) <= 0),
            *(awake or sorted(above, key=lambda one: self.rests_s(now, one))),
        ]

    def rests_s(self, now: float, source: Source) -> float:
        """For how long a source is still left alone."""
        record = self._records.get(source.url)
        return max(0.0, record.rests_until_s - now) if record is not None else 0.0

    def answered(self, source: Source) -> None:
        """It did what was asked."""
        self._records.pop(source.url, None)

    def failed(self, now: float, source: Source, retry_after_s: float | None = None) -> None:
        """It did not answer, broke off or sent what is wrong; or it asked for so much time."""
        record = self._records.setdefault(source.url, _Record())
        if record.rests_until_s > now and retry_after_s is None:
            return  # Several pieces were on their way: that is one failure.
        rest = min(MAX_REST_S, REST_S * 2.0 ** min(record.failures, 16))
        record.failures += 1
        if retry_after_s is not None:
            rest = min(MAX_REST_S, retry_after_s)
        record.rests_until_s = now + rest * self._chance.uniform(0.75, 1.25)


class Throughput:
    """Bits a second that came while something was on its way, over about the last minute of it."""

    def __init__(self) -> None:
        self._active = 0
        self._at_s = 0.0
        self._bits = 0.0
        self._busy_s = 0.0

    @property
    def rate_bps(self) -> float:
        """0 while nothing is known."""
        return self._bits / self._busy_s if self._busy_s >= 1.0 else 0.0

    def begin(self, now: float) -> None:
        """One more transfer is under way."""
        self._pass(now)
        self._active += 1

    def end(self, now: float) -> None:
        """One less."""
        self._pass(now)
        self._active -= 1

    def came(self, now: float, size_bytes: int) -> None:
        """So much has arrived since the last call."""
        self._pass(now)
        self._bits += 8 * size_bytes

    def _pass(self, now: float) -> None:
        passed = max(0.0, now - self._at_s)
        self._at_s = now
        if self._active:
            fades = math.exp(-passed / REMEMBERED_S)
            self._bits *= fades
            self._busy_s = self._busy_s * fades + passed
