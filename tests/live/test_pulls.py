"""A stream is pulled once over each edge, when somebody asks (issue 2, must show 6)."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator

import aiohttp
import pytest

from tests.bench.sdp import VIDEO_PT
from tests.live.publishers import BarePublisher, live
from tests.live.tree import Tree, holds, until
from tests.live.viewers import BareViewer, load_viewers, losses, missing
from tests.patience import PATIENCE

pytestmark = pytest.mark.live

LINGER_S = 2.5
MANY = 50
BELOW = ("province", "city", "county")


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tree]:
    """Four nodes that let a pull go sooner than they would."""
    folder = tmp_path_factory.mktemp("chain")
    with Tree(folder, arguments=["--linger-s", str(LINGER_S)]) as nodes:
        yield nodes


async def relays(chain: Tree, stream: str) -> list[int]:
    """How many nodes pull the stream over each edge, from the centre down."""
    seen = await asyncio.gather(*(node.stream(stream) for node in chain.nodes.values()))
    return [one["relays"] if one else 0 for one in seen][:-1]


async def held_below(chain: Tree, stream: str) -> list[str]:
    """The nodes below the centre that have the stream."""
    return [name for name in BELOW if await chain[name].stream(stream)]


async def test_a_stream_is_pulled_when_somebody_watches_and_let_go_after(
    chain: Tree, stream: str
) -> None:
    """0 pulls with no viewer, 1 an edge with 1 and with 50, 0 again after the linger."""
    async with BarePublisher(chain["centre"].url, stream):
        await live(chain["centre"], stream)

        async def idle() -> bool:
            return await relays(chain, stream) == [0, 0, 0] and not await held_below(chain, stream)

        await holds("nobody pulls what nobody watches", idle, 1.0)

        async with BareViewer(chain["county"].url, stream) as one:
            await one.receiving()
            assert await relays(chain, stream) == [1, 1, 1]
            async with load_viewers(chain["county"].url, stream, MANY) as load:
                await load.join(MANY)
                assert await relays(chain, stream) == [1, 1, 1]
                here = await chain["county"].stream(stream)
                assert here is not None
                assert here["viewers"] == MANY + 1
                async with load.recorded() as recorded:
                    await asyncio.sleep(2)
                many = losses(recorded[0], range(MANY))
                assert (many.lost, many.without) == (0, [])
        left_s = time.monotonic()

        # From below each node lets go after its own linger.
        await until("all pulls are let go", idle, len(BELOW) * LINGER_S + 5)
        assert time.monotonic() - left_s >= LINGER_S
        assert (await live(chain["centre"], stream))["source"] == "publisher"


async def test_a_viewer_who_comes_back_within_the_linger_finds_the_stream_there(
    chain: Tree, stream: str
) -> None:
    """The line of packets goes on: nothing was pulled anew."""
    async with BarePublisher(chain["centre"].url, stream):
        await live(chain["centre"], stream)
        async with BareViewer(chain["county"].url, stream) as first:
            await first.receiving()
        before = await chain["county"].track(stream, "video")
        async with BareViewer(chain["county"].url, stream) as second:
            await second.receiving()
        after = await chain["county"].track(stream, "video")
        assert after["ssrc"] == before["ssrc"]
        assert after["packets"] >= before["packets"]
        assert after["keyframes"] >= before["keyframes"]


async def test_fifty_who_ask_at_once_for_a_cold_stream_all_get_a_picture(
    chain: Tree, stream: str
) -> None:
    """And together they cost one pull an edge."""
    async with BarePublisher(chain["centre"].url, stream):
        await live(chain["centre"], stream)
        async with load_viewers(chain["county"].url, stream, MANY) as load:
            async with load.recorded() as recorded:
                await load.join(MANY, at_once=MANY)
                assert await relays(chain, stream) == [1, 1, 1]
                await load.receiving()
                await asyncio.sleep(1)
            rows = recorded[0][(recorded[0]["marker_pt"] & 0x7F) == VIDEO_PT]
            assert sorted(set(rows["viewer"].tolist())) == list(range(MANY))
            many = losses(recorded[0], range(MANY))
            assert (many.lost, many.without) == (0, [])


@pytest.mark.parametrize("seeds", [(1, 2, 3), (5, 5, 5)], ids=["own SSRCs", "the same SSRCs"])
async def test_three_streams_over_the_same_edge_all_play(
    chain: Tree, stream: str, seeds: tuple[int, ...]
) -> None:
    """Between two nodes they share both addresses, so only keys and SSRCs tell them apart.

    They are asked for at the same moment: their handshakes on each edge meet.
    """
    names = [f"{number}-{stream}"[:64] for number in range(len(seeds))]
    county = chain["county"].url
    async with contextlib.AsyncExitStack() as stack:
        for seed, name in zip(seeds, names, strict=True):
            centre = chain["centre"].url
            await stack.enter_async_context(BarePublisher(centre, name, seed=seed))
        await asyncio.gather(*(live(chain["centre"], name) for name in names))
        viewers = await asyncio.gather(
            *(stack.enter_async_context(BareViewer(county, name)) for name in names)
        )
        await asyncio.gather(*(viewer.receiving() for viewer in viewers))
        await asyncio.sleep(3)
        for name, viewer in zip(names, viewers, strict=True):
            for kind, least in (("video", 100), ("audio", 100)):
                packets = [p for k, found in viewer.packets.items() if k == kind for p in found]
                assert len(packets) >= least, (name, kind)
                assert missing([p.sequence for p in packets]) == 0, (name, kind)
                assert len({p.ssrc for p in packets}) == 1, (name, kind)
            assert viewer.undecipherable == 0
            assert await relays(chain, name) == [1, 1, 1]
        sources = {viewer.packets["video"][0].ssrc for viewer in viewers}
        assert len(sources) == len(set(seeds))


async def test_one_stream_goes_and_the_other_over_the_same_edge_stays(
    chain: Tree, stream: str
) -> None:
    """The goodbye of one association must not end its neighbour at the same address."""
    gone, kept = f"gone-{stream}"[:64], f"kept-{stream}"[:64]
    centre, county = chain["centre"].url, chain["county"].url
    async with BarePublisher(centre, gone, seed=1), BarePublisher(centre, kept, seed=2):
        await asyncio.gather(live(chain["centre"], gone), live(chain["centre"], kept))
        async with BareViewer(county, kept) as staying:
            async with BareViewer(county, gone) as leaving:
                await asyncio.gather(staying.receiving(), leaving.receiving())

            async def let_go() -> bool:
                return await relays(chain, gone) == [0, 0, 0]

            await until("the one is let go", let_go, len(BELOW) * LINGER_S + 5)
            seen = len(staying.packets["video"])

            async def goes_on() -> bool:
                return len(staying.packets["video"]) > seen + 50

            await until("the other goes on", goes_on, 3)
            assert missing([p.sequence for p in staying.packets["video"]]) == 0
            assert await relays(chain, kept) == [1, 1, 1]


@pytest.mark.parametrize("tier", ["centre", "county"])
async def test_a_stream_that_nobody_publishes_is_refused_within_two_seconds(
    chain: Tree, stream: str, tier: str
) -> None:
    """404 with a sentence and when to come again, however far the question has to go."""
    began_s = time.monotonic()
    with pytest.raises(Exception, match="answered 404: Nobody is publishing") as refused:
        async with BareViewer(chain[tier].url, stream):
            pass
    assert time.monotonic() - began_s < 2 * PATIENCE
    assert f"'{stream}'" in str(refused.value)


async def test_a_refusal_says_when_to_come_again(chain: Tree, stream: str) -> None:
    """Retry-After comes down with the parent's answer, and the stream is there when it is live."""
    county = chain["county"].url
    offer = await offer_of_a_viewer()
    async with aiohttp.ClientSession() as http:
        headers = {"Content-Type": "application/sdp"}
        async with http.post(f"{county}/whep/{stream}", data=offer, headers=headers) as answer:
            assert answer.status == 404
            assert int(answer.headers["Retry-After"]) <= 5
    async with BarePublisher(chain["centre"].url, stream):
        await live(chain["centre"], stream)
        async with BareViewer(county, stream) as viewer:
            await viewer.receiving()


async def offer_of_a_viewer() -> str:
    from aiortc import RTCPeerConnection

    pc = RTCPeerConnection()
    pc.addTransceiver("video", direction="recvonly")
    sdp: str = (await pc.createOffer()).sdp
    await pc.close()
    return sdp
