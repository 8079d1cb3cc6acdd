"""The state of one room: keys with values, set at the root and copied below (pure).

A version is (epoch, n): the epoch is that of the root's process, in milliseconds since 1970, and n
grows by one with every key that is set. A copy takes what is newer than what it has. Each copy
counts its own revisions, by which its readers (clients and children) ask what they do not have.
"""

from __future__ import annotations

from collections.abc import Mapping

Version = tuple[int, int]


class RoomState:
    """The keys of one room. At the root `set` changes it, below `take`."""

    def __init__(self, epoch: int = 0) -> None:
        self.version: Version = (epoch, 0)
        self.revision = 0
        # Key -> the revision in which it changed, and its value; None: it was taken away.
        self._keys: dict[str, tuple[int, object]] = {}

    @property
    def known(self) -> bool:
        """Whether anything was ever set or taken."""
        return self.revision > 0

    def get(self, key: str) -> object:
        """A key's value, None if there is none."""
        found = self._keys.get(key)
        return None if found is None else found[1]

    def set(self, key: str, value: object) -> bool:
        """Set a key, None takes it away; whether that changed anything."""
        if not self._put(key, value):
            return False
        self.version = (self.version[0], self.version[1] + 1)
        return True

    def _put(self, key: str, value: object) -> bool:
        if self.get(key) == value:
            return False
        self.revision += 1
        self._keys[key] = (self.revision, value)
        return True

    def take(self, version: Version, keys: Mapping[str, object], *, whole: bool) -> bool:
        """Take what the node above has told; False if it is not newer than what is here.

        `whole`: keys that are not named have gone.
        """
        if version <= self.version and self.known:
            return False
        if version[0] != self.version[0] and not whole:
            return False
        if whole:
            for key in [key for key in self._keys if key not in keys]:
                self._put(key, None)
        for key, value in keys.items():
            self._put(key, value)
        self.version = version
        # A room without any key is known all the same.
        self.revision = max(self.revision, 1)
        return True

    def since(self, revision: int) -> dict[str, object]:
        """What has changed after a revision; 0: all keys that have a value."""
        return {
            key: value
            for key, (changed, value) in self._keys.items()
            if changed > revision and (revision or value is not None)
        }
