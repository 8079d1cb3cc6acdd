"""What of a stream goes up when it is raised, and what is told of the rest."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from relay.access import Access
from relay.channel import Channel, Layers, push_legs
from relay.node import Node, NodeConfig
from relay.sdp import Format, Layer, Leg
from tests.relay.loopback import HOST

AUDIO = Leg("0", Format("audio", "OPUS"), 111, {}, ssrc=1)
VIDEO = Leg("1", Format("video", "VP8"), 96, {}, ssrc=2)
BROWSER = replace(VIDEO, ssrc=0, layers=(Layer("q"), Layer("h"), Layer("f")))


@pytest.fixture
async def node() -> AsyncIterator[Node]:
    """A node of this process, without HTTP, whose parent is nowhere."""
    one = Node(NodeConfig(Access.open_mode(), host=HOST, port=0, parents=("http://127.0.0.1:9",)))
    await one.start()
    yield one
    await one.stop()


def channel_of(node: Node, *legs: Leg) -> Channel:
    """A stream whose publisher wants it kept here."""
    channel = node.channel_to_feed("class-5.site-1")
    channel.use_formats(list(legs), entering=True)
    channel.on_demand = True
    return channel


async def test_low_is_the_smallest_layer_and_full_all_of_them(node: Node) -> None:
    channel = channel_of(node, AUDIO, BROWSER)
    assert channel.stream is not None
    assert channel._lifted(channel.stream) == {"q"}
    channel.raised = Layers.FULL
    assert channel._lifted(channel.stream) == {"q", "h", "f"}
    for track in channel.stream.layers:
        track.bitrate_bps = 100_000.0
    legs = push_legs(channel.stream, frozenset({"q"}))
    assert [(n.rid, n.bitrate_bps) for n in legs[1].layers] == [("q", 100_000), ("h", 0), ("f", 0)]


async def test_a_picture_of_one_layer_goes_up_in_that(node: Node) -> None:
    channel = channel_of(node, AUDIO, VIDEO)
    assert channel.stream is not None
    assert channel._lifted(channel.stream) == {""}


async def test_raised_and_lowered_it_is_pushed_and_no_longer(node: Node) -> None:
    """Also when it is raised before anybody publishes, and twice in a row."""
    node.raise_up("class-5.site-1", "low")
    channel = channel_of(node, AUDIO, VIDEO)
    assert not channel.pushing
    node.raise_up("class-5.site-1", "low")
    assert channel.pushing
    node.raise_up("class-5.site-1", "full")
    assert channel.raised is Layers.FULL
    node.lower("class-5.site-1")
    assert not channel.pushing
    node.lower("class-5.site-1")
    node.lower("class-5.nobody")
    with pytest.raises(ValueError, match="middle"):
        node.raise_up("class-5.site-1", "middle")
