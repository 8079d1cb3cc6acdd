"""Numbers for nodes and edges, free for TCP and UDP when they are given out."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterable, Iterator


class Ports:
    """Gives out each number once."""

    def __init__(self, candidates: Iterable[int] | None = None) -> None:
        """`candidates`: numbers to choose from, in order; None for any that is seldom used."""
        self._candidates = iter(seldom() if candidates is None else candidates)
        self._given: set[int] = set()

    def take(self) -> int:
        """The next free number. Raises LookupError when there is none left."""
        for number in self._candidates:
            if number not in self._given and is_free(number):
                self._given.add(number)
                return number
        raise LookupError("no port is left")


def seldom() -> Iterator[int]:
    """Numbers below those that the system gives out by itself, to whatever else runs here."""
    while True:
        yield random.randrange(20_000, 32_000)


def is_free(number: int) -> bool:
    """Whether nobody has this number now, neither for TCP nor for UDP."""
    with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tcp.bind(("127.0.0.1", number))
            udp.bind(("127.0.0.1", number))
        except OSError:
            return False
    return True
