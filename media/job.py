"""What the publisher and its feeder process say to each other; see `media/feeder.py`."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from .plan import Wanted


@dataclass(frozen=True, slots=True)
class Job:
    """What to publish, and where.

    url: of the local exchange. sound: False leaves it out. seconds: how much, None for all of it.
    start_s: where in a file or in the count of the test card to begin.
    """

    source: str
    url: str
    wanted: Wanted
    sound: bool = True
    loop: bool = False
    seconds: float | None = None
    start_s: float = 0.0

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Job:
        fields = json.loads(text)
        return cls(**{**fields, "wanted": Wanted(**fields["wanted"])})


@dataclass(slots=True)
class Progress:
    """Counts since the start.

    published_s: media that reached the node. position_s: where in this round of the file.
    size_bytes: of the encoded packets. dropped: pictures left out. late: samples sent late.
    """

    published_s: float = 0.0
    position_s: float = 0.0
    frames: int = 0
    size_bytes: int = 0
    dropped: int = 0
    late: int = 0
    round: int = 1

    def plus(self, later: Progress) -> Progress:
        """These counts and those of a feeder that took over from here."""
        return Progress(
            published_s=self.published_s + later.published_s,
            position_s=later.position_s,
            frames=self.frames + later.frames,
            size_bytes=self.size_bytes + later.size_bytes,
            dropped=self.dropped + later.dropped,
            late=self.late + later.late,
            round=self.round + later.round - 1,
        )
