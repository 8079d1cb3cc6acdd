"""How often somebody may try: token buckets in bounded memory (pure)."""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime

MOST_KEYS = 10_000


@dataclass(slots=True)
class _Bucket:
    left: float
    at: datetime


class Limit:
    """Each key may do something `burst` times at once, and then once every `every_s` seconds.

    Of more than MOST_KEYS keys, those that were not used for longest are forgotten.
    """

    def __init__(self, burst: int, every_s: float) -> None:
        self._burst = burst
        self._every_s = every_s
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def wait_s(self, key: str, now: datetime) -> int:
        """Seconds until the key may try again, 0 when it may now. Counts nothing."""
        bucket = self._refilled(key, now)
        return 0 if bucket.left >= 1 else math.ceil((1 - bucket.left) * self._every_s)

    def count(self, key: str, now: datetime) -> None:
        """Note one try."""
        bucket = self._refilled(key, now)
        bucket.left = max(0.0, bucket.left - 1)
        self._buckets[key] = bucket
        self._buckets.move_to_end(key)
        if len(self._buckets) > MOST_KEYS:
            self._buckets.popitem(last=False)

    def forgive(self, key: str) -> None:
        """Forget the tries of a key, which got it right."""
        self._buckets.pop(key, None)

    def _refilled(self, key: str, now: datetime) -> _Bucket:
        bucket = self._buckets.get(key)
        if bucket is None:
            return _Bucket(self._burst, now)
        passed_s = max(0.0, (now - bucket.at).total_seconds())
        return _Bucket(min(self._burst, bucket.left + passed_s / self._every_s), now)
