"""A viewer's address changes, as behind a router that gives out a new port, and it watches on."""

from __future__ import annotations

import asyncio
import secrets
import socket

import pytest

from tests.bench import stun
from tests.live.publishers import BarePublisher, live
from tests.live.tree import Tree, until
from tests.live.viewers import BareViewer, missing

pytestmark = pytest.mark.live


@pytest.mark.parametrize(
    ("reports", "within_s"),
    [pytest.param(True, 2.0, id="reports"), pytest.param(False, 5.0, id="checks only")],
)
async def test_a_viewer_that_comes_from_another_port_goes_on_receiving(
    chain: Tree, stream: str, reports: bool, within_s: float
) -> None:
    """An authentic report from the new port moves it at once; without one the node waits until
    the old port has been silent for three seconds.
    """
    county = chain["county"]
    async with BarePublisher(chain["centre"].url, stream):
        await live(chain["centre"], stream)
        async with BareViewer(county.url, stream) as viewer:
            await viewer.receiving()
            viewer.reports_back = reports
            await asyncio.sleep(1)
            viewer.move()
            seen = {kind: len(found) for kind, found in viewer.packets.items()}

            async def goes_on() -> bool:
                return all(len(viewer.packets[kind]) > count for kind, count in seen.items())

            await until("packets at the new port", goes_on, within_s)
            here = {kind: len(found) for kind, found in viewer.packets.items()}
            await asyncio.sleep(2)
            for kind, found in viewer.packets.items():
                assert len(found) > here[kind] + 50
                assert missing([packet.sequence for packet in found[here[kind] :]]) == 0
            one = await county.stream(stream)
            assert one is not None
            assert one["viewers"] == 1


async def test_a_stranger_who_does_not_know_the_password_moves_nobody(
    chain: Tree, stream: str
) -> None:
    county = chain["county"]
    async with BarePublisher(chain["centre"].url, stream):
        await live(chain["centre"], stream)
        async with BareViewer(county.url, stream) as viewer:
            await viewer.receiving()
            keys = viewer.peer.credentials
            forged = stun.Credentials(
                keys.local_ufrag, keys.local_pwd, keys.remote_ufrag, secrets.token_hex(12)
            )
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
                stranger.bind(("127.0.0.1", 0))
                stranger.setblocking(False)
                # As long as the node waits for a silent address, and longer.
                for _ in range(40):
                    check = stun.binding_request(forged, 1, nominate=True)
                    stranger.sendto(check, ("127.0.0.1", county.port))
                    await asyncio.sleep(0.1)
                with pytest.raises(BlockingIOError):
                    stranger.recv(2048)
            for found in viewer.packets.values():
                assert missing([packet.sequence for packet in found]) == 0
                assert len(found) > 100
