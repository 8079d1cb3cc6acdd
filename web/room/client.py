"""One client of a room: its socket, its rate and how far it has the state."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from web.room import frames
from web.room.messages import ShownReceipt

BURST: Final = 20
PER_S: Final = 4.0
"""Messages that a client may send at once, and each second; one more is refused."""
MOST_REFUSED: Final = 200
"""Who goes on after so many refusals is shown out."""
BEHIND_BYTES: Final = 64 * 1024
"""A client that has not read so much yet gets no new state before it has."""
STUCK_BYTES: Final = 1024 * 1024


class Rate:
    """A token bucket. Times in seconds of any clock."""

    __slots__ = ("_at_s", "_left", "refused")

    def __init__(self, now: float) -> None:
        self._left = float(BURST)
        self._at_s = now
        self.refused = 0

    def take(self, now: float) -> bool:
        """Whether one more is within the rate."""
        self._left = min(BURST, self._left + (now - self._at_s) * PER_S)
        self._at_s = now
        if self._left < 1:
            self.refused += 1
            return False
        self._left -= 1
        return True


class Client:
    """A guest of the exchange on a socket. heard_s, ended_s: of the monotonic clock."""

    __slots__ = (
        "_transport",
        "ended_s",
        "expires_at",
        "heard_s",
        "pinged_s",
        "rate",
        "receipts",
        "revision",
        "room",
        "seat",
        "who",
    )

    def __init__(
        self,
        transport: asyncio.Transport,
        room: int,
        who: str,
        seat: str,
        receipts: Mapping[str, ShownReceipt],
        expires_at: float | None,
        now: float,
    ) -> None:
        self._transport = transport
        self.room = room
        self.who = who
        self.seat = seat
        self.receipts: Mapping[str, ShownReceipt] = receipts
        self.expires_at = expires_at
        self.revision = 0
        self.heard_s = now
        self.pinged_s = now
        self.ended_s = 0.0
        self.rate = Rate(now)

    @property
    def is_site(self) -> bool:
        """Whether it is a place that may send, and not one of the many that watch."""
        return self.who.startswith("site:")

    def tell(self, message: dict[str, Any]) -> None:
        """Send a message."""
        self.write(frames.text(message))

    def write(self, frame: bytes) -> None:
        """Send a frame; who does not read is cut off, and comes back to a whole state."""
        if self.ended_s or self._transport.is_closing():
            return
        if self._transport.get_write_buffer_size() > STUCK_BYTES:
            self._transport.abort()
            return
        self._transport.write(frame)

    @property
    def behind(self) -> bool:
        """Whether it has not read what it was sent."""
        return self._transport.get_write_buffer_size() > BEHIND_BYTES

    def end(self, code: int, sentence: str, now: float) -> None:
        """Close, saying why."""
        if not self.ended_s:
            self.write(frames.close(code, sentence))
            self.ended_s = now

    def abort(self) -> None:
        """Close without a word."""
        self._transport.abort()
