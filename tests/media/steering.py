"""The two ends of the feeder: the publisher that steers it, and a line that keeps what it sends."""

from __future__ import annotations

import json
import os
import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

import av

from media.feeder import Feeder, Link
from media.job import Job
from media.plan import VideoPlan
from media.whip import Certificate
from tests.media.clips import numbers_in


class Session:
    """Takes the place of a WHIP session: keeps what is sent, and breaks off when told."""

    def __init__(self, break_after: int | None) -> None:
        self.sent: list[tuple[str, int, bytes]] = []
        self.closed = False
        self._break_after = break_after

    def send(self, kind: str, packet: av.Packet[Any], time_us: int) -> None:
        if self._break_after is not None and len(self.sent) >= self._break_after:
            raise ConnectionRefusedError(111, "Connection refused")
        self.sent.append((kind, time_us, bytes(packet)))

    def close(self) -> None:
        self.closed = True

    def times(self, kind: str) -> list[int]:
        return [time_us for k, time_us, _ in self.sent if k == kind]

    def pictures(self) -> list[int | None]:
        return numbers_in([data for kind, _, data in self.sent if kind == "video"])


class Line:
    """A line that gives a new session at every call."""

    def __init__(self, *break_after: int | None) -> None:
        self._break_after = iter(break_after)
        self.sessions: list[Session] = []

    def __call__(
        self, url: str, certificate: Certificate, *, video: VideoPlan | None, audio: bool
    ) -> Session:
        self.sessions.append(Session(next(self._break_after, None)))
        return self.sessions[-1]


class Steering:
    """The publisher's end of the link."""

    def __init__(self, words: TextIO, events: TextIO) -> None:
        self._words = words
        self._events: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, args=(events,))
        self._reader.start()

    def say(self, word: str) -> None:
        self._words.write(word + "\n")
        self._words.flush()

    def heard(self, event: str) -> dict[str, Any]:
        """Wait for an event of this name; what came before it is dropped."""
        while True:
            told = self._events.get(timeout=20)
            if told["event"] == event:
                return told

    def _read(self, events: TextIO) -> None:
        for line in events:
            self._events.put(json.loads(line))


@contextmanager
def feeding(job: Job, line: Line) -> Iterator[Steering]:
    to_read, to_write = os.pipe()
    from_read, from_write = os.pipe()
    with (
        os.fdopen(to_read) as incoming,
        os.fdopen(to_write, "w") as words,
        os.fdopen(from_read) as events,
        os.fdopen(from_write, "w") as outgoing,
    ):
        steering = Steering(words, events)
        worker = threading.Thread(target=Feeder(job, Link(incoming, outgoing), line).run)
        worker.start()
        try:
            yield steering
        finally:
            steering.say("stop")
            worker.join(10)
            outgoing.close()
            steering._reader.join(10)
        assert not worker.is_alive()
