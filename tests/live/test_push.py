"""A publisher enters anywhere, and the whole tree can watch.

The tree: a centre, two provinces below it, a county below each province.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

import pytest

from tests.bench import sdp
from tests.bench.dtls import Identity
from tests.bench.signalling import Client
from tests.live.publishers import AiortcPublisher, BarePublisher, live
from tests.live.tree import Tree, until
from tests.live.viewers import AiortcViewer, BareViewer, Kind, missing, steps

pytestmark = pytest.mark.live

BRANCHES = {
    "centre": "",
    "east": "centre",
    "west": "centre",
    "east-county": "east",
    "west-county": "west",
}
DARK, LIGHT = 50, 200
BETWEEN = 125
KINDS: tuple[Kind, ...] = ("audio", "video")
# To find out that it was superseded the first publisher's node tries its parent again.
MOVED_WITHIN_S = 10.0
# A node gives a peer so long to connect.
HANDSHAKE_S = 10.0


@pytest.fixture(scope="module")
def branches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tree]:
    with Tree(tmp_path_factory.mktemp("branches"), BRANCHES) as nodes:
        yield nodes


async def sees(viewer: AiortcViewer, shade: int, within_s: float = MOVED_WITHIN_S) -> None:
    """Wait until a viewer sees a publisher's picture and then a second more of it."""

    async def look() -> bool:
        return bool(viewer.pictures) and (viewer.pictures[-1][2] > BETWEEN) == (shade > BETWEEN)

    await until(f"the picture of shade {shade}", look, within_s)
    seen = len(viewer.pictures)

    async def more() -> bool:
        return len(viewer.pictures) > seen + 25

    await until(f"more of the picture of shade {shade}", more, 5)


async def test_a_stream_that_enters_at_a_county_is_seen_in_another_province(
    branches: Tree, stream: str
) -> None:
    """It is pushed up to the root, once an edge, and pulled down the other branch."""
    async with BarePublisher(branches["east-county"].url, stream):
        for name in ("east-county", "east", "centre"):
            await live(branches[name], stream)
        async with (
            BareViewer(branches["west-county"].url, stream) as far,
            BareViewer(branches["centre"].url, stream) as middle,
            BareViewer(branches["east-county"].url, stream) as near,
        ):
            viewers = (far, middle, near)
            await asyncio.gather(*(viewer.receiving() for viewer in viewers))
            await asyncio.sleep(3)
            said = {}
            for name, node in branches.nodes.items():
                here = await node.stream(stream)
                assert here is not None, name
                said[name] = (here["source"], here["pushed"], here["relays"])
            assert said == {
                "east-county": ("publisher", True, 0),
                "east": ("push", True, 0),
                "centre": ("push", False, 1),
                "west": ("parent", False, 1),
                "west-county": ("parent", False, 0),
            }
            for viewer in viewers:
                for kind in KINDS:
                    numbers = [packet.sequence for packet in viewer.packets[kind]]
                    assert len(numbers) > 100
                    assert missing(numbers) == 0
            # Numbered once, at the origin: the same packets under the same numbers everywhere.
            for kind in KINDS:
                lines = [
                    {(p.ssrc, p.sequence, p.timestamp): p.payload for p in viewer.packets[kind]}
                    for viewer in viewers
                ]
                common = lines[0].keys() & lines[1].keys() & lines[2].keys()
                assert len(common) > 100
                assert all(lines[0][key] == lines[1][key] == lines[2][key] for key in common)


async def test_viewers_elsewhere_wait_for_a_publisher_that_left_to_come_back(
    branches: Tree, stream: str
) -> None:
    """The push goes on from where it stopped, in the same sessions."""
    county = branches["east-county"].url
    async with contextlib.AsyncExitStack() as stack:
        async with AiortcPublisher(county, stream, shade=DARK):
            await live(branches["centre"], stream)
            far = AiortcViewer(branches["west-county"].url, stream)
            viewer = await stack.enter_async_context(far)
            await sees(viewer, DARK)
        async with AiortcPublisher(county, stream, shade=LIGHT):
            await sees(viewer, LIGHT)
        assert viewer.lost == 0
        assert len({packet.ssrc for packet in viewer.packets["video"]}) == 1


async def test_a_publisher_that_moves_to_another_branch_takes_the_stream_along(
    branches: Tree, stream: str
) -> None:
    """The newest wins: at the root, in its own branch, and where the first one was."""
    east, west = branches["east-county"].url, branches["west-county"].url
    async with AiortcPublisher(east, stream, shade=DARK) as first:
        await live(branches["centre"], stream)
        async with (
            AiortcViewer(branches["centre"].url, stream) as middle,
            AiortcViewer(west, stream) as there,
            AiortcViewer(east, stream) as here,
        ):
            viewers = {"centre": middle, "west": there, "east": here}
            await asyncio.gather(*(sees(viewer, DARK) for viewer in viewers.values()))
            async with AiortcPublisher(west, stream, shade=LIGHT):

                async def told() -> bool:
                    return first.state == "closed"

                await until("the first publisher is told", told, MOVED_WITHIN_S)
                for name, viewer in viewers.items():
                    await sees(viewer, LIGHT)
                    turns = [bright > BETWEEN for _, _, bright in viewer.pictures]
                    assert turns == sorted(turns), name
                    video = viewer.packets["video"]
                    assert len({packet.ssrc for packet in video}) == 1, name
                    assert viewer.lost == 0, name
                    assert steps([packet.timestamp for packet in video], 32).min() >= 0, name
            assert (await live_source(branches, stream)) == "push"


async def live_source(branches: Tree, stream: str) -> str:
    one = await branches["centre"].stream(stream)
    assert one is not None
    return str(one["source"])


async def test_a_publisher_that_walks_to_another_branch_takes_its_viewers_along(
    branches: Tree, stream: str
) -> None:
    """It says goodbye at one county and enters at another: those at the first one see on."""
    east, west = branches["east-county"].url, branches["west-county"].url
    async with contextlib.AsyncExitStack() as stack:
        async with AiortcPublisher(east, stream, shade=DARK):
            await live(branches["centre"], stream)
            here = await stack.enter_async_context(AiortcViewer(east, stream))
            await sees(here, DARK)
        async with AiortcPublisher(west, stream, shade=LIGHT):
            await sees(here, LIGHT)
            assert here.lost == 0
            assert len({packet.ssrc for packet in here.packets["video"]}) == 1


async def test_a_publisher_that_enters_lower_down_is_seen_by_the_viewers_already_there(
    branches: Tree, stream: str
) -> None:
    """The node pulled the stream up to now; from here on it is where the stream begins."""
    centre, county = branches["centre"].url, branches["east-county"].url
    async with AiortcPublisher(centre, stream, shade=DARK) as first:
        await live(branches["centre"], stream)
        async with (
            AiortcViewer(county, stream) as below,
            AiortcViewer(centre, stream) as above,
        ):
            await asyncio.gather(sees(below, DARK), sees(above, DARK))
            async with AiortcPublisher(county, stream, shade=LIGHT):
                await asyncio.gather(sees(below, LIGHT), sees(above, LIGHT))
                for name, viewer in (("below", below), ("above", above)):
                    turns = [bright > BETWEEN for _, _, bright in viewer.pictures]
                    assert turns == sorted(turns), name
                    assert viewer.lost == 0, name

                async def told() -> bool:
                    return first.state == "closed"

                await until("the first publisher is told", told, MOVED_WITHIN_S)


async def test_a_publisher_that_enters_lower_down_loses_no_packet_of_its_first_keyframe(
    branches: Tree, stream: str
) -> None:
    """Until its push reaches the root, the root goes on numbering the first publisher's packets."""
    centre, county = branches["centre"], branches["east-county"]
    async with BarePublisher(centre.url, stream, seed=1):
        await live(centre, stream)
        async with BareViewer(county.url, stream) as below, BareViewer(centre.url, stream) as above:
            await asyncio.gather(below.receiving(), above.receiving())
            await asyncio.sleep(1)
            async with BarePublisher(county.url, stream, seed=2) as second:

                async def arrived() -> bool:
                    return len(second.stamps) > 300

                await until("two seconds of the second publisher", arrived, 5)
                await asyncio.sleep(0.5)
                # The first keyframe is 45 packets. Sound, told by its first byte, is not replayed.
                video = [payload for payload in second.stamps if payload[0] != 0xFC]
                first = video[:60]
                for name, viewer in (("below", below), ("above", above)):
                    came = {packet.payload for packet in viewer.packets["video"]}
                    assert [at for at, payload in enumerate(first) if payload not in came] == [], (
                        name
                    )
                    for kind in KINDS:
                        numbers = [packet.sequence for packet in viewer.packets[kind]]
                        assert missing(numbers) == 0, (name, kind)
                        assert len(numbers) == len(set(numbers)), (name, kind)


async def offer_only(url: str) -> None:
    """POST a publisher's offer and leave it at that: no ICE check, no handshake."""
    identity = Identity("aes128-gcm")
    local = sdp.new_local(identity.fingerprint, "127.0.0.1", 9)
    client = Client(url.rpartition("/whip/")[0])
    path = "/whip/" + url.rpartition("/")[2]
    offer = sdp.offer(local, "sendonly", {"audio": 1, "video": 2})
    await client.expect(201, "POST", path, offer.encode())
    await client.close()


async def test_a_publisher_that_never_connects_takes_nothing_from_the_one_on_air(
    branches: Tree, stream: str
) -> None:
    """Newest wins, but only once it is really there."""
    centre, county = branches["centre"], branches["east-county"]
    async with AiortcPublisher(centre.url, stream, shade=DARK) as first:
        await live(centre, stream)
        async with (
            AiortcViewer(centre.url, stream) as above,
            AiortcViewer(county.url, stream) as below,
        ):
            await asyncio.gather(sees(above, DARK), sees(below, DARK))
            await offer_only(f"{county.url}/whip/{stream}")
            for _ in range(3):
                await asyncio.gather(sees(above, DARK), sees(below, DARK))
            assert first.state == "connected"
            assert (above.lost, below.lost) == (0, 0)


async def test_a_publisher_that_never_connected_does_not_hide_a_stream_for_long(
    branches: Tree, stream: str
) -> None:
    """Who waited at its node is told to come again, and then gets what is on air above."""
    centre, county = branches["centre"], branches["east-county"]
    await offer_only(f"{county.url}/whip/{stream}")
    async with BarePublisher(centre.url, stream):
        await live(centre, stream)
        async with BareViewer(county.url, stream) as waiting:

            async def told() -> bool:
                return waiting.alerted

            await until("the viewer is told", told, HANDSHAKE_S + 3)
        async with BareViewer(county.url, stream) as again:
            await again.receiving()
