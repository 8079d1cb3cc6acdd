"""Numbers for nodes and edges, free for TCP and UDP when they are given out."""

from __future__ import annotations

import socket
from collections.abc import Iterable


class Ports:
    """Gives out each number once."""

    def __init__(self, candidates: Iterable[int] | None = None) -> None:
        """`candidates`: numbers to choose from, in order; None lets the system choose."""
        self._candidates = iter(candidates) if candidates is not None else None
        self._given: set[int] = set()

    def take(self) -> int:
        """The next free number. Raises LookupError when there is none left."""
        while True:
            wanted = 0
            if self._candidates is not None:
                found = next(self._candidates, None)
                if found is None:
                    raise LookupError("no port is left")
                wanted = found
            number = _free(wanted)
            if number and number not in self._given:
                self._given.add(number)
                return number


def _free(wanted: int) -> int:
    with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tcp.bind(("127.0.0.1", wanted))
            number: int = tcp.getsockname()[1]
            udp.bind(("127.0.0.1", number))
        except OSError:
            return 0
        return number
