"""What `terrace publish` shows: a line of what is being sent, and sentences about what happens."""

from __future__ import annotations

import math
import shutil
import time
from collections import deque
from typing import TextIO

from .job import Progress

LINE_EVERY_S = 10.0
REPEAT_AFTER_S = 60.0
RATE_OVER_S = 4.0


def clock(seconds: float) -> str:
    """Seconds as 0:02:05."""
    whole = int(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


def status_line(progress: Progress, fps: float, rate_bps: float, duration_s: float | None) -> str:
    """What is being sent, in one line."""
    parts = [f"on air {clock(progress.published_s)}"]
    if duration_s is not None:
        place = f"{clock(progress.position_s)} of {clock(duration_s)}"
        parts.append(place if progress.round == 1 else f"{place}, round {progress.round}")
    parts += [f"{fps:.1f} pictures/s", f"{rate_bps / 1e6:.2f} Mbit/s"]
    if progress.dropped:
        parts.append(f"{progress.dropped} dropped")
    if progress.late:
        parts.append(f"{progress.late} late")
    return " · ".join(parts)


class Rates:
    """Pictures and bits a second over the last seconds (pure)."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int, int]] = deque()

    def add(self, now_s: float, frames: int, size_bytes: int) -> tuple[float, float]:
        """Take in the counts so far; return pictures a second and bits a second."""
        self._seen.append((now_s, frames, size_bytes))
        while now_s - self._seen[0][0] > RATE_OVER_S:
            self._seen.popleft()
        then_s, then_frames, then_bytes = self._seen[0]
        span_s = now_s - then_s
        if span_s <= 0:
            return 0.0, 0.0
        return (frames - then_frames) / span_s, (size_bytes - then_bytes) * 8 / span_s


class Screen:
    """What the person sees: a status line in place on a terminal, else a line now and then."""

    def __init__(self, out: TextIO, err: TextIO, *, quiet: bool) -> None:
        self._out, self._err, self._quiet = out, err, quiet
        self._in_place = out.isatty()
        self._open = False
        self._line_at: float | None = None
        self._said: dict[str, float] = {}

    def say(self, text: str) -> None:
        """Tell something, unless asked to be quiet."""
        if not self._quiet:
            self._clear()
            self._write(text + "\n")

    def complain(self, text: str) -> None:
        """Tell what goes wrong."""
        self._clear()
        self._err.write(f"terrace publish: {text}\n")
        self._err.flush()

    def repeat(self, text: str, topic: str) -> None:
        """Complain, but of the same topic only once a minute: a node may be away for hours."""
        now = time.monotonic()
        if now - self._said.get(topic, -math.inf) >= REPEAT_AFTER_S:
            self._said[topic] = now
            self.complain(text)

    def forget(self) -> None:
        """What was complained about is over."""
        self._said.clear()

    def status(self, text: str) -> None:
        """Show how it goes."""
        if self._quiet:
            return
        now = time.monotonic()
        if self._in_place:
            # A line that wraps could not be written over.
            room = shutil.get_terminal_size().columns - 1
            self._write(f"\r{text[:room]}\x1b[K")
            self._open = True
        elif self._line_at is None:
            self._line_at = now
        elif now - self._line_at >= LINE_EVERY_S:
            self._line_at = now
            self._write(text + "\n")

    def close(self) -> None:
        """Leave the terminal at the start of a line."""
        if self._open:
            self._write("\n")
            self._open = False

    def _clear(self) -> None:
        if self._open:
            self._write("\r\x1b[K")
            self._open = False

    def _write(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()
