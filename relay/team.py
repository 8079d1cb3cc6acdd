"""Several relay processes of one machine that look like one node from outside (pure).

The first process, the front, has the public HTTP port and is the parent of the others, the
workers. Here is how their figures become the node's, and who of them takes the next viewer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

# A worker that has said nothing for this long gets no viewers.
SILENT_S = 2.5

Snapshot = dict[str, Any]


class Members(Protocol):
    """The workers of a node, as the node sees them."""

    @property
    def viewers(self) -> int:
        """How many viewers all workers have."""

    @property
    def room(self) -> int:
        """How many more they would take."""

    def merge(self, snapshot: dict[str, object]) -> dict[str, object]:
        """The front's /api/node with the workers in it."""

    async def drain(self, seconds: float) -> None:
        """Have all workers hand their viewers over."""


@dataclass(slots=True)
class Worker:
    """What the front knows of one worker.

    `sent` counts the viewers that were sent to this process, those whose answer is still to come
    among them: what it exceeds the worker's own count of viewers it let in are on their way.
    """

    number: int
    pid: int = 0
    restarts: int = 0
    snapshot: Snapshot = field(default_factory=dict)
    heard_s: float = -SILENT_S
    sent: int = 0
    _asking: int = 0
    _calm: bool = False

    @property
    def coming(self) -> int:
        """Viewers on their way there: sent, and not yet in what it said last."""
        return max(0, self.sent - self._joins)

    @property
    def viewers(self) -> int:
        """Viewers there, those on their way counted."""
        return int(self.snapshot.get("viewers", 0)) + self.coming

    @property
    def room(self) -> int:
        """How many more it takes."""
        return int(self.snapshot.get("load", {}).get("room", 0)) - self.coming

    @property
    def _joins(self) -> int:
        return int(self.snapshot.get("joins", 0))

    def sends(self) -> None:
        """A viewer's request goes there."""
        self.sent += 1
        self._asking += 1
        self._calm = False

    def answered(self, joined: bool) -> None:
        """That request has come to its end, with the viewer there or not."""
        self._asking -= 1
        if not joined:
            self.sent = max(0, self.sent - 1)

    def asked(self) -> None:
        """It is asked how it is."""
        self._calm = not self._asking

    def heard(self, snapshot: Snapshot, now: float) -> None:
        """Take what it says about itself, the answer to the last `asked`."""
        self.snapshot, self.heard_s = snapshot, now
        if self._calm:
            # Nobody was on the way. The counts differ all the same if a request was given up here
            # and granted there.
            self.sent = self._joins

    def well(self, now: float) -> bool:
        """Whether it answers."""
        return bool(self.snapshot) and now - self.heard_s < SILENT_S

    def gone(self) -> None:
        """Its process has ended, and its viewers with it."""
        self.snapshot, self.sent, self.pid = {}, 0, 0


def next_for_a_viewer(
    workers: Sequence[Worker], now: float, own_viewers: int, own_room: int
) -> Worker | None:
    """The worker with the fewest viewers; None when the front itself is to take it."""
    able = [w for w in workers if w.well(now) and w.room > 0]
    best = min(able, key=lambda w: (w.viewers, w.number), default=None)
    if best is None or (own_room > 0 and own_viewers <= best.viewers):
        return None
    return best


def merge(front: dict[str, object], workers: Sequence[Worker], now: float) -> Snapshot:
    """The front's snapshot with the workers' counts added, and each of them under "workers"."""
    merged: Snapshot = dict(front)
    snapshots = [w.snapshot for w in workers if w.snapshot]
    merged["viewers"] = _sum("viewers", [merged, *snapshots])
    totals = dict(merged.get("totals", {}))
    for key in totals:
        totals[key] = round(_sum(key, [totals, *(s.get("totals", {}) for s in snapshots)]), 3)
    merged["totals"] = totals
    merged["streams"] = [_stream(one, snapshots) for one in merged.get("streams", [])]
    merged["workers"] = [_about(front, 0, "ready", 0)] + [
        _about(w.snapshot, w.number, _state(w, now), w.restarts) | {"pid": w.pid} for w in workers
    ]
    return merged


def _stream(stream: Snapshot, snapshots: list[Snapshot]) -> Snapshot:
    """One stream of the front, with what the workers serve of it."""
    there = [s for w in snapshots for s in w.get("streams", []) if s["name"] == stream["name"]]
    merged = dict(stream)
    for key in ("viewers", "relays", "bitrate_out_bps", "packets_out"):
        merged[key] = _sum(key, [stream, *there])
    # The workers' own pulls are not nodes below.
    merged["relays"] = max(0, merged["relays"] - len(there))
    return merged


def _about(snapshot: dict[str, object], number: int, state: str, restarts: int) -> Snapshot:
    about: Snapshot = snapshot
    load, totals = about.get("load", {}), about.get("totals", {})
    return {
        "worker": number,
        "state": state,
        "restarts": restarts,
        "viewers": about.get("viewers", 0),
        "cpu": load.get("cpu", 0.0),
        "packets_per_s": load.get("packets_per_s", 0),
        "packets_out": totals.get("packets_out", 0),
        "forward_cpu_s": totals.get("forward_cpu_s", 0.0),
    }


def _state(worker: Worker, now: float) -> str:
    if worker.well(now):
        return "ready"
    return "silent" if worker.snapshot else "starting"


def _sum(key: str, parts: Sequence[Snapshot]) -> Any:
    return sum(part.get(key, 0) for part in parts)
