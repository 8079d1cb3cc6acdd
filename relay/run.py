"""A run: packets of one frame that came in one message, as a node above sends them.

The kernel hands on what a sender sent by GSO, or what the network card has joined, as one block
(UDP_GRO): datagrams of equal length, the last one perhaps shorter. If it holds consecutive packets
of one frame, with the header that nodes write, one look at the headers serves them all, and each
costs a fraction of what a packet costs that comes alone. Anything else goes the ordinary way,
datagram by datagram, with the same outcome.

Headers can be judged before the packets are opened: SRTP leaves them in the clear (RFC 3711
section 3.1). What they say counts only once every packet has proved authentic.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pylibsrtp._binding import ffi, lib

from relay.packet import FIRST_OCTET, MAX_INGEST_SIZE, SHORT_HEADER_SIZE, short_header_end

# Datagrams in one message: the kernel joins 64, a sender's GSO on the same machine may join 128.
MAX_JOINED: Final = 128
# No datagram of a peer is longer; what is gets cut, and is refused by whoever it is for.
DATAGRAM_SIZE: Final = 2048
# The most that one message holds.
MESSAGE_SIZE: Final = 65_535


class Room:
    """Where the port receives: one message at a time, opened in place."""

    def __init__(self) -> None:
        # The last datagram of a block may be shorter, but is looked at as if it were not.
        self.memory = bytearray(MESSAGE_SIZE + DATAGRAM_SIZE)
        self.view = memoryview(self.memory)
        self.octets: NDArray[np.uint8] = np.frombuffer(self.memory, np.uint8)
        self.base = ffi.from_buffer("char[]", self.memory)
        self._sizes = ffi.new("int[]", MAX_JOINED)
        self.size_pointers = [self._sizes + i for i in range(MAX_JOINED)]

    def datagrams(self, size: int, segment: int) -> list[bytes]:
        """The datagrams of a message of `size` bytes, each by itself."""
        most = min(segment, DATAGRAM_SIZE)
        return [bytes(self.view[at : min(at + most, size)]) for at in range(0, size, segment)]

    def run(self, size: int, segment: int) -> Run | None:
        """The packets in a message of `size` bytes if they are a run, else None."""
        count = -(-size // segment)
        last = size - (count - 1) * segment
        if not 1 < count <= MAX_JOINED or last <= SHORT_HEADER_SIZE or segment > MAX_INGEST_SIZE:
            return None
        heads = self.octets[: count * segment].reshape(count, segment)[:, :SHORT_HEADER_SIZE]
        first = heads[0]
        if first[0] != FIRST_OCTET or (heads[:, 0] != FIRST_OCTET).any():
            return None
        # Timestamp, SSRC and the head of the extension block.
        if (heads[1:, 4:17] != first[4:17]).any():
            return None
        marks = heads[:, 1]
        if marks[:-1].max() > 127 or (marks[1:] & 127 != first[1]).any():
            return None
        numbers = heads[:, 2].astype(np.uint16) << 8 | heads[:, 3]
        if (numbers - numbers[0] != np.arange(count, dtype=np.uint16)).any():
            return None
        return Run(self, heads, segment, last)


class Run:
    """Two or more consecutive packets of one frame, where they were received.

    `sequence`, `timestamp`, `ssrc` are the first one's, `marker` the last one's. `extension` is the
    head of the extension block and of the one element in it.
    """

    __slots__ = (
        "_heads", "_last", "_room", "_segment", "count", "extension", "marker", "sequence", "ssrc",
        "timestamp",
    )  # fmt: skip

    def __init__(self, room: Room, heads: NDArray[np.uint8], segment: int, last: int) -> None:
        first = bytes(heads[0])
        self._room, self._heads, self._segment, self._last = room, heads, segment, last
        self.count = len(heads)
        self.sequence = first[2] << 8 | first[3]
        self.timestamp = int.from_bytes(first[4:8], "big")
        self.ssrc = int.from_bytes(first[8:12], "big")
        self.extension = first[12:17]
        self.marker = bool(heads[-1, 1] & 128)

    def open(self, session: Any) -> list[int]:
        """Let libsrtp open the packets in place; returns its status for each, 0 for authentic."""
        base, cells, segment = self._room.base, self._room.size_pointers, self._segment
        count = self.count
        for cell in cells[: count - 1]:
            cell[0] = segment
        cells[count - 1][0] = self._last
        return list(
            map(
                lib.srtp_unprotect,
                [session] * count,
                [base + at for at in range(0, count * segment, segment)],
                cells[:count],
            )
        )

    def packets(self) -> list[bytes]:
        """The packets as they are now, each by itself; for opened ones only."""
        view, sizes = self._room.view, [cell[0] for cell in self._room.size_pointers[: self.count]]
        starts = range(0, self.count * self._segment, self._segment)
        return [bytes(view[at : at + n]) for at, n in zip(starts, sizes, strict=True)]

    def canonical(self, ssrc: int, abs_send_time: int) -> list[bytes]:
        """The opened packets in the node's own form (`packet.canonical`), numbers unchanged."""
        self._heads[:, 8:12] = np.frombuffer(ssrc.to_bytes(4, "big"), np.uint8)
        self._heads[:, 16:20] = np.frombuffer(short_header_end(abs_send_time), np.uint8)
        return self.packets()
