"""What is left of a peer when its association has ended."""

from __future__ import annotations

import asyncio
import gc
import socket
import weakref
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import cast

import pytest

from relay.channel import Channel, Session
from relay.ice import Address
from relay.peer import NodeCertificate, Peer
from relay.port import Port
from relay.uplink import Link, Uplink
from relay.viewer import Viewer


class Silent:
    """A socket that nobody listens to."""

    family = 2

    def send_raw(self, data: bytes, address: Address) -> None:
        pass

    def call(self, function: Callable[..., object], *args: object) -> None:
        pass

    def add(self, peer: Peer) -> None:
        pass

    def remove(self, peer: Peer) -> None:
        pass


class Handler:
    """A viewer or source: it knows its peer."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer

    def on_rtp(self, data: bytes, now: float) -> None:
        pass

    def on_rtcp(self, data: bytes, now: float) -> None:
        pass


@pytest.fixture
def no_collection() -> Iterator[None]:
    """The garbage collector does not come to help."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def ended_peer() -> Peer:
    peer = Peer(
        "test", Silent(), NodeCertificate.generateCertificate(), remote_ufrag="abcd",
        remote_password="p" * 24, fingerprints=[], dtls_client=False,
    )  # fmt: skip
    peer.handler = Handler(peer)
    peer.lost("the test ends it")
    return peer


@pytest.mark.usefixtures("no_collection")
async def test_an_ended_peer_is_freed_without_a_garbage_collection() -> None:
    """Each holds some 60 kB of cipher and handshake state that the collector does not see."""
    peer = ended_peer()
    left = weakref.ref(peer)
    await peer.close("")
    del peer
    assert left() is None


@pytest.mark.usefixtures("no_collection")
async def test_nothing_is_left_of_a_viewer_who_has_left() -> None:
    """The session's task was cancelled, and what it was cancelled with knows where it stood."""
    channel = Channel("class", cast(Port, Silent()), 1.0, 1.0)
    peer = Peer(
        "test", Silent(), NodeCertificate.generateCertificate(), remote_ufrag="abcd",
        remote_password="p" * 24, fingerprints=[], dtls_client=True,
    )  # fmt: skip
    viewer = SimpleNamespace(stream=SimpleNamespace(remove_viewer=None))
    session = Session("s", "whep", channel, peer, "", viewer=cast(Viewer, viewer))
    left = weakref.ref(peer)
    channel.open(session)
    task = session.task
    assert task is not None
    # It waits for the first check by now, as it would later for the peer's end.
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task})
    del task, session, peer
    await asyncio.sleep(0)
    assert left() is None


@pytest.mark.usefixtures("no_collection")
async def test_nothing_is_left_of_an_uplink_whose_parent_has_died() -> None:
    """Taking leave fails then, and what it fails with keeps the frames that it went through."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        port = cast(Port, Silent())
        uplink = Uplink(url, "", "n" * 16, port, NodeCertificate.generateCertificate(), lambda: ())
        peer = ended_peer()
        left = weakref.ref(peer)
        link = Link(peer, [], f"{url}/whep/class/1")
        del peer
        # As a puller does it: nobody else has the link then.
        task = asyncio.create_task(uplink.leave(link))
        del link
        await task
        del task
        await uplink.close()
    assert left() is None
