"""What is left of a peer when its association has ended."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable

from relay.ice import Address
from relay.peer import NodeCertificate, Peer


class Silent:
    """A socket that nobody listens to."""

    family = 2

    def send_raw(self, data: bytes, address: Address) -> None:
        pass

    def call(self, function: Callable[..., object], *args: object) -> None:
        pass


class Handler:
    """A viewer or source: it knows its peer."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer

    def on_rtp(self, data: bytes, now: float) -> None:
        pass

    def on_rtcp(self, data: bytes, now: float) -> None:
        pass


async def test_an_ended_peer_is_freed_without_a_garbage_collection() -> None:
    """Each holds some 60 kB of cipher and handshake state that the collector does not see."""
    peer = Peer(
        "test", Silent(), NodeCertificate.generateCertificate(), remote_ufrag="abcd",
        remote_password="p" * 24, fingerprints=[], dtls_client=False,
    )  # fmt: skip
    peer.handler = Handler(peer)
    left = weakref.ref(peer)
    gc.collect()
    gc.disable()
    try:
        peer.lost("the test ends it")
        await peer.close("")
        del peer
        assert left() is None
    finally:
        gc.enable()
