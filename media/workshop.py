"""The thread of a ladder that decodes, scales and encodes.

Bounded on both sides: what comes in is dropped up to the next keyframe when too much waits, and
pictures that are late are decoded but not made, so that a slow machine makes fewer, not later ones.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable

from .pictures import Picture
from .scaler import Made, Rung, Scaler

log = logging.getLogger("media.workshop")

# A ring of pictures since an old keyframe is decoded at the start: five seconds at 30 a second.
MAX_WAITING = 200
# With more than this behind it a picture is late.
BACKLOG = 2
# However slow the machine: a late picture is better than none for this long.
AT_LEAST_EVERY_S = 0.25


class Workshop:
    """Makes the rungs that are wanted. All methods may be called from any thread.

    `made` is called with each picture made, `failed` with the fault that ended the thread; both on
    its own thread. `left_out` counts pictures that came too late to be made.
    """

    def __init__(
        self,
        scaler: Scaler,
        made: Callable[[Made], None],
        failed: Callable[[Exception], None],
    ) -> None:
        self.left_out = 0
        self._scaler = scaler
        self._made, self._failed = made, failed
        self._inbox: queue.SimpleQueue[Picture | None] = queue.SimpleQueue()
        self._wanted: frozenset[Rung] = frozenset()
        self._keys: queue.SimpleQueue[Rung | None] = queue.SimpleQueue()
        self._overrun = False
        self._thread = threading.Thread(target=self._run, name="ladder", daemon=True)

    def start(self) -> None:
        """Begin; costs nothing until pictures come."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread after the picture in hand."""
        self.want(())
        self._inbox.put(None)

    def want(self, rungs: Iterable[Rung]) -> None:
        """Make these rungs from now on, each from a keyframe; none: drop what waits."""
        before, self._wanted = self._wanted, frozenset(rungs)
        if not before:
            # What comes now does not follow what came before the pause.
            self._keys.put(None)
        for rung in self._wanted - before:
            self._keys.put(rung)

    def want_keyframe(self, rung: Rung) -> None:
        """The next picture of a rung becomes a keyframe."""
        self._keys.put(rung)

    def put(self, picture: Picture) -> None:
        """Hand over the next picture of the source."""
        if self._overrun and not picture.keyframe:
            return
        self._overrun = self._inbox.qsize() >= MAX_WAITING
        if self._overrun:
            self.left_out += 1
        else:
            self._inbox.put(picture)

    def _run(self) -> None:
        made_s = 0.0
        try:
            while (picture := self._inbox.get()) is not None:
                wanted = self._wanted
                if not wanted:
                    continue
                while not self._keys.empty():
                    rung = self._keys.get()
                    if rung is None:
                        self._scaler.restart()
                    else:
                        self._scaler.want_keyframe(rung)
                now = time.monotonic()
                late = self._inbox.qsize() > BACKLOG and now - made_s < AT_LEAST_EVERY_S
                self.left_out += late
                for made in self._scaler.take(picture, wanted, skip=late):
                    made_s = now
                    self._made(made)
        except Exception as exc:
            log.debug("workshop ended", exc_info=True)
            self._failed(exc)
