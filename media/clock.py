"""What time it is at a box whose own clock may be wrong by a year.

A village box has a cheap clock chip with a flat battery, and often no line when it starts. So the
time is not read from the system but believed by `Timekeeper`, which is pure: it takes readings and
returns the time, with a doubt that the television shows.

* A county says the time signed, over a nonce (`media.signed`, typ TIME): that ends every doubt.
* The kernel's word that its clock is synchronised (NTP) counts as much.
* What was last believed is kept on disk with what the chip said at that moment. So a chip that is
  wrong by a constant is right again after a cold start, and one that was set back or leapt is found
  out: the time then goes on from the last that was believed, in doubt.
* A neighbour or a telephone in the room may say the time in doubt; it is shown as borrowed.

`Wall` is the thin part: it reads the system's clocks, or a script in their place (tests compress a
day into minutes by it).
"""

from __future__ import annotations

import asyncio
import ctypes
import itertools
import json
import math
import time
from bisect import bisect_right
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Final, Protocol

from pydantic import BaseModel, ConfigDict, Field

LONGEST_OFF_S: Final = 90 * 86400.0
"""A box that seems to have been off for longer than a summer has a wrong clock instead."""
TRUSTED_FOR_S: Final = 45 * 86400.0
"""A clock chip drifts by up to 50 ppm: after this long it may be wrong by three minutes."""
SLOW_ANSWER_S: Final = 5.0
"""A time that was this long on its way says too little."""
PREFER_PARENT_S: Final = 3600.0
EARLIEST_S: Final = 1735689600.0
"""The beginning of 2025: every earlier time is the chip's, not the world's."""


class Heard(StrEnum):
    """Where the believed time comes from."""

    SYSTEM = "system"
    LAST = "last-seen"
    NTP = "ntp"
    PARENT = "parent"
    NEIGHBOUR = "neighbour"
    TELEPHONE = "telephone"


class Doubt(StrEnum):
    """Why the time may be wrong; NONE is empty, and false."""

    NONE = ""
    NEVER_SET = "never-set"
    """Nobody has ever said what time it is."""
    BEHIND = "behind"
    """The chip says an earlier time than was believed before."""
    AHEAD = "ahead"
    """The chip says that the box was off for more than LONGEST_OFF_S."""
    OLD = "old"
    """Nobody has said what time it is for TRUSTED_FOR_S."""
    BORROWED = "borrowed"
    """A neighbour or a telephone said it."""


class Kept(BaseModel):
    """What is on disk of the clock: the chip's and the believed time of one moment."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    wall_s: float = Field(allow_inf_nan=False)
    believed_s: float = Field(allow_inf_nan=False)
    sure_s: float = Field(default=0.0, allow_inf_nan=False)
    """The last moment at which somebody trustworthy said the time, 0 if never."""
    doubt: Doubt = Doubt.NONE


class SignedTime(BaseModel):
    """What a county signs when it is asked for the time."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    unix_s: float = Field(ge=EARLIEST_S, le=32503680000, allow_inf_nan=False)
    nonce: str = Field(min_length=16, max_length=64, pattern=r"^[A-Za-z0-9_-]+$")


class Timekeeper:
    """The believed time. `wall_s` is the chip's time, `elapsed_s` seconds that never jump.

    not_before_s: the issue of the newest signed document at hand; the time is later than that.
    """

    def __init__(
        self, wall_s: float, elapsed_s: float, kept: Kept | None, *, not_before_s: float = 0.0
    ) -> None:
        self.heard_s: float | None = None
        """When somebody last said the time, by the believed one; None if nobody did since start."""
        self._parent_at_s = -math.inf
        self._sure_s = kept.sure_s if kept is not None else 0.0
        self.source = Heard.SYSTEM
        believed_s, self.doubt = wall_s, Doubt.NONE
        floor_s = not_before_s
        if kept is None or kept.sure_s <= 0:
            self.doubt = Doubt.NEVER_SET
        if kept is not None:
            believed_s = wall_s + kept.believed_s - kept.wall_s
            floor_s = max(floor_s, kept.believed_s)
            if kept.doubt:
                self.doubt = kept.doubt
            if believed_s > kept.believed_s + LONGEST_OFF_S:
                believed_s, self.doubt, self.source = floor_s, Doubt.AHEAD, Heard.LAST
        if believed_s < floor_s - 1.0:
            believed_s, self.doubt, self.source = floor_s, Doubt.BEHIND, Heard.LAST
        self._offset_s = believed_s - elapsed_s

    def now(self, elapsed_s: float) -> float:
        """The believed time in Unix seconds."""
        return elapsed_s + self._offset_s

    def reason(self, elapsed_s: float) -> Doubt:
        """Why the time is in doubt at this moment; empty if it is not."""
        if not self.doubt and self.now(elapsed_s) - self._sure_s > TRUSTED_FOR_S:
            return Doubt.OLD
        return self.doubt

    def hear(
        self, source: Heard, unix_s: float, elapsed_s: float, on_its_way_s: float = 0.0
    ) -> float:
        """Somebody says the time; returns by how many seconds the believed one steps (0: it fits).

        on_its_way_s: between question and answer; the answer is right somewhere in that time.
        """
        if on_its_way_s > SLOW_ANSWER_S or unix_s < EARLIEST_S:
            return 0.0
        trusted = source in (Heard.PARENT, Heard.NTP)
        if not trusted and not self.reason(elapsed_s):
            return 0.0
        if source is Heard.NTP and elapsed_s - self._parent_at_s < PREFER_PARENT_S:
            return 0.0
        if source is Heard.PARENT:
            self._parent_at_s = elapsed_s
        said_s = unix_s + on_its_way_s / 2
        step_s = said_s - self.now(elapsed_s)
        if abs(step_s) <= on_its_way_s / 2 + 0.05:
            step_s = 0.0
        self._offset_s += step_s
        self.heard_s = self.now(elapsed_s)
        self.source = source
        self.doubt = Doubt.NONE if trusted else Doubt.BORROWED
        if trusted:
            self._sure_s = self.heard_s
        elif self._sure_s > self.heard_s:
            self._sure_s = 0.0
        return step_s

    def keep(self, wall_s: float, elapsed_s: float) -> Kept:
        """What to write to disk now."""
        return Kept(
            wall_s=wall_s, believed_s=self.now(elapsed_s), sure_s=self._sure_s, doubt=self.doubt
        )


# ------------------------------------------------------------ the system's clocks


class Wall(Protocol):
    """The clocks of this machine."""

    def wall_s(self) -> float:
        """What the machine takes for the Unix time."""
        ...

    def elapsed_s(self) -> float:
        """Seconds that never jump; they go on while the machine sleeps."""
        ...

    def rate(self) -> float:
        """How many of these seconds pass in a real one."""
        ...

    def synchronised(self) -> bool:
        """Whether the system knows that its clock is right."""
        ...

    def delay_s(self, seconds: float) -> float:
        """Real seconds to sleep until so many of ours have passed; at most a minute."""
        ...


class SystemWall:
    """The clocks as Linux has them."""

    def wall_s(self) -> float:
        return time.time()

    def elapsed_s(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def rate(self) -> float:
        return 1.0

    def synchronised(self) -> bool:
        return _kernel_is_synchronised()

    def delay_s(self, seconds: float) -> float:
        return min(max(seconds, 0.0), 60.0)


class ScriptedWall:
    """Clocks that follow a script: pairs of real seconds since the start and Unix seconds.

    Between two pairs time passes evenly, before the first and after the last as a real clock does.
    """

    def __init__(self, points: Sequence[tuple[float, float]], *, synchronised: bool) -> None:
        rising = all(a < c and b <= d for (a, b), (c, d) in itertools.pairwise(points))
        if not points or not rising:
            raise ValueError("the points of a clock script must rise")
        self._real = [one for one, _ in points]
        self._unix = [one for _, one in points]
        self._synchronised = synchronised
        self._began = time.monotonic()

    @classmethod
    def read(cls, file: Path) -> ScriptedWall:
        """Reads `{"points": [[0, 1795651200], [600, 1795737600]], "synchronised": true}`.

        `"began"`, the value of CLOCK_MONOTONIC at 0, lets several processes share one clock.
        Raises ValueError, OSError.
        """
        script = json.loads(file.read_text())
        points = [(float(real), float(unix)) for real, unix in script["points"]]
        wall = cls(points, synchronised=bool(script.get("synchronised", False)))
        wall._began = float(script.get("began", wall._began))
        return wall

    def wall_s(self) -> float:
        real = time.monotonic() - self._began
        at = self._segment(real)
        return self._unix[max(at, 0)] + (real - self._real[max(at, 0)]) * self._rate(at)

    def elapsed_s(self) -> float:
        return self.wall_s()

    def rate(self) -> float:
        return self._rate(self._segment(time.monotonic() - self._began))

    def synchronised(self) -> bool:
        return self._synchronised

    def delay_s(self, seconds: float) -> float:
        """As above, and never past the end of an even stretch, at which the rate changes."""
        real = time.monotonic() - self._began
        at = self._segment(real)
        stretch = self._real[at + 1] - real if at + 1 < len(self._real) else 60.0
        return min(max(seconds, 0.0) / max(self._rate(at), 1e-9), stretch + 0.001, 60.0)

    def _segment(self, real: float) -> int:
        return bisect_right(self._real, real) - 1

    def _rate(self, at: int) -> float:
        if not 0 <= at < len(self._real) - 1:
            return 1.0
        return (self._unix[at + 1] - self._unix[at]) / (self._real[at + 1] - self._real[at])


async def sleep(wall: Wall, seconds: float) -> None:
    """Sleeps so many of the clock's seconds."""
    end = wall.elapsed_s() + seconds
    while (left := end - wall.elapsed_s()) > 0:  # noqa: ASYNC110 - no event is told by a clock
        await asyncio.sleep(wall.delay_s(left))


_TIME_ERROR: Final = 5  # TIME_ERROR of adjtimex(2): the clock is not synchronised


def _kernel_is_synchronised() -> bool:
    """What adjtimex(2) says of the clock, asked without changing anything."""
    libc = ctypes.CDLL(None, use_errno=True)
    # struct timex has 208 bytes on 64-bit Linux; `modes`, its first field, stays 0: only read.
    state = libc.adjtimex(ctypes.create_string_buffer(256))
    return bool(0 <= state != _TIME_ERROR)
