"""Real UDP sockets and SRTP sessions on this machine, for tests that look at the wire."""

from __future__ import annotations

import contextlib
import secrets
import socket
from collections.abc import Iterator
from typing import Any

import pylibsrtp
from pylibsrtp import Policy, Session

from relay.fanout import Target

GCM = Policy.SRTP_PROFILE_AEAD_AES_128_GCM
CM = Policy.SRTP_PROFILE_AES128_CM_SHA1_80
OVERHEAD = {GCM: 16, CM: 10}
KEY_SIZE = {GCM: 28, CM: 30}


def session(key: bytes, profile: int, *, sends: bool, repeats: bool = True) -> Session:
    """One direction of an association, set up as aiortc does."""
    policy = Policy(
        key=key,
        ssrc_type=Policy.SSRC_ANY_OUTBOUND if sends else Policy.SSRC_ANY_INBOUND,
        srtp_profile=profile,
    )
    policy.allow_repeat_tx = repeats
    policy.window_size = 1024
    return Session(policy)


class Receiver:
    """A viewer's socket with the key to what is sent to it.

    `target` is how the fan-out knows it. With `repeats=False` its sender's cipher refuses to
    protect a number twice, which is how a protect fails in earnest.
    """

    def __init__(
        self, profile: int = GCM, *, family: int = socket.AF_INET, repeats: bool = True
    ) -> None:
        key = secrets.token_bytes(KEY_SIZE[profile])
        self.tx = session(key, profile, sends=True, repeats=repeats)
        self.rx = session(key, profile, sends=False)
        self.socket = socket.socket(family, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self.socket.bind(("::1" if family == socket.AF_INET6 else "127.0.0.1", 0))
        self.socket.setblocking(False)
        self.target = Target(self.pointer, OVERHEAD[profile], self.socket.getsockname(), family)

    @property
    def pointer(self) -> Any:
        """libsrtp's context, as `Target` wants it."""
        return self.tx._srtp[0]

    def datagrams(self) -> list[bytes]:
        """Everything that has arrived; on loopback that is everything that was sent."""
        found = []
        with contextlib.suppress(BlockingIOError):
            while True:
                found.append(self.socket.recv(65536))
        return found

    def packets(self) -> list[bytes]:
        """The RTP packets that have arrived, opened."""
        return [self.rx.unprotect(data) for data in self.datagrams()]

    def open(self, data: bytes) -> bytes | None:
        """One datagram opened, None if it is not for us."""
        try:
            return self.rx.unprotect(data)
        except pylibsrtp.Error:
            return None

    def close(self) -> None:
        """Close the socket."""
        self.socket.close()


@contextlib.contextmanager
def receivers(
    count: int, profile: int = GCM, *, family: int = socket.AF_INET, repeats: bool = True
) -> Iterator[list[Receiver]]:
    """So many viewers, closed at the end."""
    made = [Receiver(profile, family=family, repeats=repeats) for _ in range(count)]
    try:
        yield made
    finally:
        for one in made:
            one.close()


@contextlib.contextmanager
def sender(family: int = socket.AF_INET) -> Iterator[socket.socket]:
    """The socket of a node, as the port makes it."""
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.bind(("::1" if family == socket.AF_INET6 else "127.0.0.1", 0))
        sock.setblocking(False)
        yield sock
