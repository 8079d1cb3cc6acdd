"""Time on the way from a source to the node: one line over loops, pacing, order, back-off.

All of it is pure: times come in, decisions go out. A media time is an integer of microseconds,
which is fine enough that both RTP clocks (90 kHz and 48 kHz) come back exactly.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

US = 1_000_000

T = TypeVar("T")


class Timeline:
    """Puts the samples of a source that starts over (a loop, a camera back again) on one line.

    The first sample of every run lands where the run before it ended. Samples of one kind never
    go back, because RTP time must not.
    """

    def __init__(self) -> None:
        self._origin: int | None = None
        self._offset = 0
        self._end = 0
        self._last: dict[str, int] = {}

    @property
    def end_us(self) -> int:
        """Where the latest sample so far ends."""
        return self._end

    def place(self, kind: str, time_us: int, duration_us: int) -> int | None:
        """The time of a sample on the line, or None if it lies before one of its kind.

        time_us: the source's own time, from any origin. duration_us: 0 where unknown.
        """
        if self._origin is None:
            self._origin = time_us
        placed = self._offset + time_us - self._origin
        if placed <= self._last.get(kind, -1 << 62):
            return None
        self._last[kind] = placed
        self._end = max(self._end, placed + duration_us)
        return placed

    def restart(self, gap_us: int = 0) -> None:
        """The source starts over: its next sample lands `gap_us` after the end of the last one."""
        self._origin = None
        self._offset = self._end + gap_us


class Pacer:
    """When a sample of a file is due, on the monotonic clock.

    A sender that fell behind by more than `GIVE_UP_US` (the machine slept, the node was away) does
    not rush to catch up: it goes on from now.
    """

    GIVE_UP_US = US

    def __init__(self) -> None:
        self._anchor: tuple[int, float] | None = None

    def wait_s(self, time_us: int, now_s: float) -> float:
        """Seconds until the sample is due; negative: it is late by so much."""
        if self._anchor is not None:
            media_us, clock_s = self._anchor
            wait = clock_s + (time_us - media_us) / US - now_s
            if wait * US >= -self.GIVE_UP_US:
                return wait
        self._anchor = (time_us, now_s)
        return 0.0

    def reset(self) -> None:
        """The next sample is due at once, and the following ones from there."""
        self._anchor = None


class Lateness:
    """How late the samples of a live source are against the promptest one of the last minute.

    The minute's window lets the clock of a camera drift against ours without being taken for
    lateness.
    """

    WINDOW_S = 30.0

    def __init__(self) -> None:
        self._best: float | None = None
        self._before: float | None = None
        self._since = 0.0

    def late_s(self, time_us: int, now_s: float) -> float:
        """Seconds that this sample is later than the promptest one."""
        offset = now_s - time_us / US
        if self._best is None:
            self._best, self._since = offset, now_s
        elif now_s - self._since > self.WINDOW_S:
            self._before, self._best, self._since = self._best, offset, now_s
        self._best = min(self._best, offset)
        prompt = self._best if self._before is None else min(self._best, self._before)
        return offset - prompt

    def reset(self) -> None:
        """Forget what was seen: the source or the line started over."""
        self._best = self._before = None


class Merge(Generic[T]):
    """Brings samples of several kinds into one order of time.

    A file may carry a second of sound and then a second of picture; sent in that order, one of
    them would always be late. A sample leaves when every kind has one waiting, or when more than
    `read_ahead_us` is held (one kind is sparse or has ended).
    """

    def __init__(self, kinds: Sequence[str], read_ahead_us: int = 2 * US) -> None:
        self._queues: dict[str, deque[tuple[int, T]]] = {kind: deque() for kind in kinds}
        self._read_ahead_us = read_ahead_us
        self._latest = -1 << 62

    def add(self, kind: str, time_us: int, item: T) -> None:
        self._queues[kind].append((time_us, item))
        self._latest = max(self._latest, time_us)

    def ready(self) -> Iterator[T]:
        """The items that can leave now, earliest first."""
        while True:
            queue = self._first()
            if queue is None:
                return
            held_us = self._latest - queue[0][0]
            if held_us <= self._read_ahead_us and not all(self._queues.values()):
                return
            yield queue.popleft()[1]

    def rest(self) -> Iterator[T]:
        """All that is left, earliest first: the source has ended."""
        while (queue := self._first()) is not None:
            yield queue.popleft()[1]

    def _first(self) -> deque[tuple[int, T]] | None:
        filled = [queue for queue in self._queues.values() if queue]
        return min(filled, key=lambda queue: queue[0][0]) if filled else None


class SoundLine:
    """Cuts sound into Opus frames of 20 ms with an unbroken count of samples.

    The count is kept over loops and over jitter of the source's time stamps: a browser turns a
    step other than 960 into a click. Sound that drifts by more than `SLACK` from its time is
    brought back by silence or by leaving samples out; after a gap of `JUMP` and more the count
    jumps instead.
    """

    RATE = 48_000
    FRAME = 960
    SLACK = RATE * 40 // 1000
    JUMP = RATE // 2

    def __init__(self) -> None:
        self._held: npt.NDArray[np.int16] = np.zeros((0, 2), np.int16)
        self._next = 0  # count of the first held sample
        self._started = False

    def add(
        self, time_us: int, samples: npt.NDArray[np.int16]
    ) -> list[tuple[int, npt.NDArray[np.int16]]]:
        """Take in sound; return the frames that are whole.

        samples: int16, shape (n, 2), 48 kHz. Returned: (count of the first sample, shape (960, 2)).
        """
        at = round(time_us * self.RATE / US)
        drift = at - (self._next + len(self._held))
        if not self._started or drift >= self.JUMP:
            self._held, self._next, self._started = self._held[:0], at, True
        elif drift > self.SLACK:
            silence = np.zeros((drift, 2), np.int16)
            self._held = np.concatenate([self._held, silence])
        elif drift < -self.SLACK:
            samples = samples[-drift:]
        self._held = np.concatenate([self._held, samples])
        whole = len(self._held) // self.FRAME
        frames = [
            (self._next + i * self.FRAME, self._held[i * self.FRAME : (i + 1) * self.FRAME])
            for i in range(whole)
        ]
        self._held = self._held[whole * self.FRAME :]
        self._next += whole * self.FRAME
        return frames

    def reset(self) -> None:
        """Start at the time of the next samples, whatever was held."""
        self._held, self._started = self._held[:0], False


class PacketLine:
    """Counts samples over Opus packets that pass through, as `SoundLine` does over samples.

    The stamps of a container may be rounded to a millisecond, and jump by some at a loop. The
    packets follow each other without a gap all the same.
    """

    def __init__(self) -> None:
        self._next: int | None = None

    def place(self, time_us: int, samples: int) -> int | None:
        """The time in microseconds of a packet of so many samples; None if it must be left out."""
        at = round(time_us * SoundLine.RATE / US)
        if self._next is None or at - self._next > SoundLine.SLACK:
            self._next = at
        elif self._next - at > SoundLine.SLACK:
            return None
        placed = self._next
        self._next += samples
        return round(placed * US / SoundLine.RATE)

    def reset(self) -> None:
        """Start at the time of the next packet."""
        self._next = None


def opus_samples(packet: bytes) -> int:
    """How many samples at 48 kHz an Opus packet holds (RFC 6716 section 3.1); 0 if it is none."""
    if not packet:
        return 0
    configuration, code = packet[0] >> 3, packet[0] & 3
    if configuration < 12:
        frame = (480, 960, 1920, 2880)[configuration & 3]
    elif configuration < 16:
        frame = (480, 960)[configuration & 1]
    else:
        frame = (120, 240, 480, 960)[configuration & 3]
    if code == 3:
        return frame * (packet[1] & 0x3F) if len(packet) > 1 else 0
    return frame * (1 if code == 0 else 2)


class FrameRate:
    """Leaves out pictures of a source that has more of them than wanted."""

    def __init__(self, most_fps: float) -> None:
        self._step_us = US / most_fps
        self._due_us: float | None = None

    def keep(self, time_us: int) -> bool:
        # A quarter of a step of slack: the stamps of a source at just the wanted rate jitter by
        # the rounding of its container (1 ms in Matroska).
        if self._due_us is None or abs(time_us - self._due_us) > US:
            self._due_us = time_us
        if time_us < self._due_us - self._step_us / 4:
            return False
        self._due_us = max(self._due_us + self._step_us, time_us - self._step_us)
        return True


def back_off_s(attempt: int) -> float:
    """Seconds to wait before the next try after `attempt` failures: 1, 1, 2, 2, 4, 4, 8, 8, 10 ...

    Whoever waits so has waited little longer than what it waits for was away.
    """
    return float(min(10, 2 ** min((max(attempt, 1) - 1) // 2, 4)))
