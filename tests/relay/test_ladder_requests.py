"""A ladder asks a node: whom it takes, whom it refuses and why, and what the layers are named."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from relay import sdp
from relay.access import Access, Grant
from relay.channel import Channel, lasting_layers, push_legs
from relay.errors import Refused
from relay.node import Node, NodeConfig, Request
from relay.sdp import Format, Layer, Leg
from tests.relay.loopback import HOST
from tests.relay.test_sdp_layers import MADE, OFFERER

GRANT = Grant("tester", ("*",), ("*",), False, 2e9)
AUDIO = Leg("0", Format("audio", "OPUS"), 111, {}, ssrc=1)
VIDEO = Leg("1", Format("video", "VP8"), 96, {}, ssrc=2)
BROWSER = replace(VIDEO, ssrc=0, layers=(Layer("q"), Layer("h"), Layer("f")))
OBS = replace(VIDEO, ssrc=0, layers=(Layer("2"), Layer("1"), Layer("0")))


@pytest.fixture
async def node() -> AsyncIterator[Node]:
    """A node of this process, without HTTP."""
    one = Node(NodeConfig(Access.open_mode(), host=HOST, port=0))
    await one.start()
    yield one
    await one.stop()


async def stream_at(node: Node, *legs: Leg) -> Channel:
    """A stream whose publisher is about to enter."""
    channel = Channel("class", node.port, 5.0, 60.0)
    channel.use_formats(list(legs), entering=True)
    node.channels["class"] = channel
    await node.port.finished()
    return channel


def offer(made: tuple[Layer, ...] = MADE) -> str:
    return sdp.write_ladder_offer(OFFERER, made, "class", 1)


async def refused(node: Node, text: str) -> Refused:
    with pytest.raises(Refused) as caught:
        await node.climb("class", text, Request(GRANT))
    return caught.value


def rids(channel: Channel) -> list[str]:
    assert channel.stream is not None
    return [t.rid for t in channel.stream.layers]


async def test_a_ladders_layers_lie_below_the_picture(node: Node) -> None:
    channel = await stream_at(node, AUDIO, VIDEO)
    session = await node.climb("class", offer(), Request(GRANT))
    await node.port.finished()
    assert rids(channel) == ["q", "h", "f"]
    assert channel.stream is not None
    assert channel.stream.tracks["video"].rid == "f"
    assert [t.ssrc for t in channel.stream.layers] == [11, 21, 2]
    assert channel.ladder is session
    answer = sdp.parse(session.answer)
    assert [m.direction for m in answer.media] == ["sendonly", "recvonly"]


async def test_there_is_one_ladder_at_a_time(node: Node) -> None:
    channel = await stream_at(node, AUDIO, VIDEO)
    await node.climb("class", offer(), Request(GRANT))
    again = await refused(node, offer())
    assert (again.status, again.retry_after_s) == (409, 2)
    channel.end_ladder("for a test")
    await node.climb("class", offer(), Request(GRANT))


async def test_without_a_publisher_there_is_nothing_to_make_layers_of(node: Node) -> None:
    none = await refused(node, offer())
    assert (none.status, none.retry_after_s) == (404, 2)


@pytest.mark.parametrize(
    ("legs", "words"),
    [
        pytest.param([AUDIO], "has no picture", id="sound only"),
        pytest.param(
            [replace(VIDEO, format=Format("video", "AV1"))], "H264 and VP8 only", id="AV1"
        ),
    ],
)
async def test_what_a_ladder_cannot_help_is_said(node: Node, legs: list[Leg], words: str) -> None:
    await stream_at(node, *legs)
    error = await refused(node, offer())
    assert error.status == 409
    assert words in error.sentence


async def test_a_stream_from_a_parent_has_its_ladder_where_it_enters(node: Node) -> None:
    channel = await stream_at(node, AUDIO, VIDEO)
    channel.fed_by = "parent"
    assert (await refused(node, offer())).status == 409


@pytest.mark.parametrize(
    "made",
    [
        pytest.param((), id="none"),
        pytest.param((Layer("q", 11, 12, 1), Layer("q", 21, 22, 1)), id="one name twice"),
        pytest.param((Layer("q", 11, 12, 1), Layer("h", 11, 22, 1)), id="one SSRC twice"),
        pytest.param((Layer("f", 11, 12, 1),), id="the picture's name"),
        pytest.param((Layer("q", 2, 12, 1),), id="the picture's SSRC"),
        pytest.param((Layer("q", 1, 12, 1),), id="the sound's SSRC"),
        pytest.param((Layer("q", 0, 12, 1),), id="no SSRC"),
        pytest.param(tuple(Layer(f"x{n}", n, n + 50, 1) for n in range(10, 14)), id="too many"),
    ],
)
async def test_layers_that_could_be_taken_for_others_are_refused(
    node: Node, made: tuple[Layer, ...]
) -> None:
    channel = await stream_at(node, AUDIO, VIDEO)
    assert (await refused(node, offer(made))).status == 400
    assert rids(channel) == [""]
    assert channel.ladder is None


@pytest.mark.parametrize("text", ["", "v=0\r\n", "hello"])
async def test_an_offer_that_is_none_is_refused(node: Node, text: str) -> None:
    await stream_at(node, AUDIO, VIDEO)
    assert (await refused(node, text)).status == 400


async def test_an_offer_without_one_of_its_two_lines_is_refused(node: Node) -> None:
    await stream_at(node, AUDIO, VIDEO)
    for text in (
        offer().replace("a=recvonly", "a=sendonly"),
        offer().replace("a=sendonly", "a=recvonly"),
        offer().replace("VP8/90000", "VP7/90000"),
    ):
        assert (await refused(node, text)).status == 400


async def test_what_is_made_on_demand_is_not_pushed_and_told_to_no_node_at_first(
    node: Node,
) -> None:
    channel = await stream_at(node, AUDIO, VIDEO)
    session = await node.climb("class", offer(), Request(GRANT))
    assert session.ladder is not None
    assert channel.stream is not None
    node.port.call(session.ladder.begin)
    await node.port.finished()
    assert [t.rid for t in lasting_layers(channel.stream)] == ["f"]
    assert [leg.layers for leg in push_legs(channel.stream)] == [(), ()]


async def test_names_of_the_next_publisher_are_taken_over_from_the_largest_down(
    node: Node,
) -> None:
    """A browser, then OBS, then no layers and a ladder: the same tracks, the same SSRCs."""
    channel = await stream_at(node, AUDIO, BROWSER)
    assert channel.stream is not None
    before = [t.ssrc for t in channel.stream.layers]
    channel.use_formats([AUDIO, OBS], entering=True)
    await node.port.finished()
    assert rids(channel) == ["2", "1", "0"]
    channel.use_formats([AUDIO, VIDEO], entering=True)
    await node.climb("class", offer(), Request(GRANT))
    await node.port.finished()
    assert rids(channel) == ["q", "h", "0"]
    assert [t.ssrc for t in channel.stream.layers] == before


async def test_between_nodes_a_layer_is_known_by_its_ssrc(node: Node) -> None:
    first = tuple(Layer(rid, ssrc) for rid, ssrc in (("q", 31), ("h", 32), ("f", 33)))
    channel = await stream_at(node, AUDIO, replace(VIDEO, layers=first))
    assert channel.stream is not None
    renamed = tuple(Layer(rid, ssrc) for rid, ssrc in (("2", 31), ("1", 32), ("0", 33)))
    channel.extend(channel.stream, replace(VIDEO, layers=renamed))
    await node.port.finished()
    assert [(t.rid, t.ssrc) for t in channel.stream.layers] == [("2", 31), ("1", 32), ("0", 33)]
