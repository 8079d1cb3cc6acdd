"""The fetch engine: brings verified pieces of courses into this machine's cache.

A county node (`web/distribution.py`) and a village station (`media/station.py`) use the same
engine. It is given a cache, a list of sources and what to fetch; the rest is its business:

* A *piece* is one run of bytes of a rendition file (its header, or one segment of its manifest)
  with size and SHA-256. It is fetched, verified, kept and evicted as a whole.
* *Sources* are asked in order: LAN neighbours, then parents, as `sources()` gives them at that
  moment. One that does not answer costs `ANSWER_WITHIN_S` and is left alone for a while after.
* A cut piece is resumed with a Range request from the byte where it stopped, from whichever source
  is next, also after the process was killed. A piece whose digest is wrong is thrown away and
  fetched anew, from another source if there is one.
* One flight per piece: who asks for a piece that is on its way waits for the same flight.
* `fetch` tries for ever (capped, jittered pauses) unless it is given an end.
* An `Allowance` (bandwidth window, byte budget, rate cap; `media/window.py`) may hold everything up.

    async with Fetcher(cache, sources=lambda: [Source("http://county:8710", token=...)]) as fetcher:
        answer = await fetcher.document("/courses/algebra/course.jws")   # bytes + ETag, not verified
        path = await fetcher.fetch(piece)                                # verified file in the cache
        await fetcher.stock(plan)                                        # for ever, first need first
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

ANSWER_WITHIN_S = 2.0
"""A source has answered (connection, status and headers) after this long, or is dead for now."""


class SourceKind(enum.StrEnum):
    """Who is asked."""

    PARENT = "parent"
    """A node above: has everything or gets it; serves ranges of `/courses/<id>/<rendition>.mp4`."""
    NEIGHBOUR = "neighbour"
    """A station on the same LAN: serves `/pieces/<sha256>`, only what it holds, to anyone who
    knows the digest (and only who holds a manifest does)."""


@dataclass(frozen=True, slots=True)
class Source:
    """One place to fetch from. `url` has no trailing slash; `token` is shown to parents only."""

    url: str
    kind: SourceKind = SourceKind.PARENT
    token: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Piece:
    """One run of bytes of a rendition file.

    sha256: 64 hex digits of the bytes. path: `/courses/<id>/<rendition>.mp4`, at every parent.
    offset_bytes: where it begins in that file.
    """

    sha256: str
    size_bytes: int
    path: str
    offset_bytes: int


@dataclass(frozen=True, slots=True)
class Answer:
    """A small document as a source gave it: not yet verified, bounded by `MAX_DOCUMENT_BYTES`.

    body is None when the source says that what has this `etag` is still right (304).
    """

    body: bytes | None
    etag: str
    content_type: str
    source: Source


@dataclass(slots=True)
class Counters:
    """What the engine has done since its start; bytes are those of bodies."""

    parent_bytes: int = 0
    neighbour_bytes: int = 0
    wasted_bytes: int = 0
    """Of pieces whose digest was wrong."""
    pieces: int = 0
    bad_pieces: int = 0
    cuts: int = 0
    dead_sources: int = 0


class Allowance(Protocol):
    """What holds the engine up; `media.window.Line` is one. Times are Unix seconds."""

    def wait_s(self, now: float, size_bytes: int) -> float:
        """Seconds until `size_bytes` may be taken from the line; 0 takes them at once."""
        ...


class FetcherInterface(Protocol):
    """What station and node may rely on; `Fetcher` is the class (same names)."""

    counters: Counters

    @property
    def rate_bps(self) -> float:
        """Measured goodput of the last pieces in bits a second; 0 while nothing is known."""
        ...

    async def document(self, path: str, *, etag: str = "") -> Answer:
        """GET a small document from the first parent that answers.

        Raises `NotThere` when the parents say 404, `Refusal` for 401 and 403 (with the node's own
        sentence), `NoSource` when none answers.
        """
        ...

    async def fetch(self, piece: Piece, *, within_s: float | None = None) -> Path:
        """The verified file of a piece, fetched if the cache does not hold it.

        Tries for ever, or raises `NoSource` after `within_s`. Raises `DiskFull` when there is no
        room for it (everything else in the cache is pinned, or the disk is full).
        """
        ...

    async def stock(self, plan: Callable[[], Sequence[Piece]], *, parallel: int = 2) -> None:
        """Fetch what `plan()` lists and the cache does not hold, first things first, for ever.

        `plan` is asked again before every piece, so it may change at any time; when it has nothing
        left, it is asked again after a few seconds.
        """
        ...
