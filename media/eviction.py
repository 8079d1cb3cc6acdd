"""What a full cache lets go of: the least recently used, never what is pinned. Pure.

The shelf knows sizes and the order of use, nothing of files. Keys are opaque (`media/cache.py` uses
digests of pieces and of documents' paths).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping


class NoRoom(Exception):
    """What is to come in does not fit, whatever is let go that may be let go.

    short_bytes: how much is missing. pinned_bytes: what may not be let go.
    """

    def __init__(self, short_bytes: int, pinned_bytes: int) -> None:
        super().__init__(f"{short_bytes} bytes short, {pinned_bytes} pinned")
        self.short_bytes = short_bytes
        self.pinned_bytes = pinned_bytes


class Shelf:
    """Sizes by key, in the order of their last use; `budget_bytes` bounds their sum."""

    def __init__(self, budget_bytes: int) -> None:
        self.budget_bytes = budget_bytes
        self.used_bytes = 0
        self._sizes: OrderedDict[str, int] = OrderedDict()
        self._pins: dict[str, frozenset[str]] = {}

    def __contains__(self, key: str) -> bool:
        return key in self._sizes

    def __len__(self) -> int:
        return len(self._sizes)

    def __iter__(self) -> Iterator[str]:
        """The least recently used first."""
        return iter(self._sizes)

    def size_bytes(self, key: str) -> int:
        """The size of what is there; 0 for what is not."""
        return self._sizes.get(key, 0)

    def add(self, key: str, size_bytes: int) -> None:
        """Note what has come in, as just used. The caller has made room."""
        self.remove(key)
        self._sizes[key] = size_bytes
        self.used_bytes += size_bytes

    def touch(self, key: str) -> None:
        """It was used just now."""
        if key in self._sizes:
            self._sizes.move_to_end(key)

    def remove(self, key: str) -> None:
        """It is gone."""
        self.used_bytes -= self._sizes.pop(key, 0)

    def pin(self, owner: str, keys: Iterable[str]) -> None:
        """`owner` needs these, there or not yet, in place of those that it named before."""
        wanted = frozenset(keys)
        if wanted:
            self._pins[owner] = wanted
        else:
            self._pins.pop(owner, None)

    def is_pinned(self, key: str) -> bool:
        """Whether anybody needs it."""
        return any(key in pins for pins in self._pins.values())

    @property
    def pinned_bytes(self) -> int:
        """Of what is there and pinned."""
        return sum(self._sizes.get(key, 0) for key in frozenset().union(*self._pins.values()))

    def room_for(self, size_bytes: int, *, disk_bytes: int | None = None) -> list[str]:
        """What to let go, the first first, so that `size_bytes` more fit; often nothing.

        disk_bytes: what the disk still takes, if that may be less than the budget.
        Raises NoRoom. Changes nothing: the caller removes the files, then calls `remove`.
        """
        short = self.used_bytes + size_bytes - self.budget_bytes
        if disk_bytes is not None:
            short = max(short, size_bytes - disk_bytes)
        leaving: list[str] = []
        if short <= 0:
            return leaving
        for key, size in self._sizes.items():
            if self.is_pinned(key):
                continue
            leaving.append(key)
            short -= size
            if short <= 0:
                return leaving
        raise NoRoom(short, self.pinned_bytes)


def by_use(found: Mapping[str, tuple[int, float]], budget_bytes: int) -> Shelf:
    """A shelf of what was found at the start: key -> (size in bytes, when last used)."""
    shelf = Shelf(budget_bytes)
    for key, (size, _) in sorted(found.items(), key=lambda one: one[1][1]):
        shelf.add(key, size)
    return shelf
