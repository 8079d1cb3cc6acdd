"""`/api/switch/{stream}` of a node in this process: who may, what may be sent, what comes back."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relay import access, director
from relay.access import Access
from relay.endpoints import add_routes
from relay.errors import Refused
from relay.node import Node, NodeConfig
from relay.programme import Cue, Programme
from relay.sdp import node_leg
from tests.relay.loopback import HOST

Client = TestClient[web.Request, web.Application]


@asynccontextmanager
async def serving(
    gate: Access | None = None, parents: tuple[str, ...] = ()
) -> AsyncIterator[tuple[Node, Client]]:
    """A node with its endpoints."""
    node = Node(NodeConfig(gate or Access.open_mode(), host=HOST, port=0, parents=parents))
    await node.start()
    app = web.Application()
    add_routes(app, node)
    try:
        async with TestClient(TestServer(app)) as client:
            yield node, client
    finally:
        await node.stop()


@pytest.fixture
def in_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits long for a source that does not come."""
    monkeypatch.setattr(director, "WITHIN_S", 0.05)


def bearer(private: bytes, *, view: tuple[str, ...] = (), relay: bool = False) -> dict[str, str]:
    token = access.issue(
        private, publish=(), view=view, relay=relay, ttl_s=60, subject="somebody", now=time.time()
    )
    return {"Authorization": f"Bearer {token}"}


@pytest.mark.usefixtures("in_a_moment")
async def test_only_who_may_relay_can_switch_and_who_may_view_can_look(tmp_path: Path) -> None:
    private, public = access.new_key_pair()
    path = tmp_path / "public.pem"
    path.write_bytes(public)
    gate = Access.from_pem_files([path])
    order = {"source": "class-5.presenter"}
    async with serving(gate) as (node, client):
        node.channel_to_feed("class-5")
        url = "/api/switch/class-5"
        viewer, director_of = bearer(private, view=("class-5",)), bearer(private, relay=True)
        for headers, status in (({}, 401), (viewer, 403), (director_of, 504)):
            async with client.put(url, json=order, headers=headers) as answer:
                assert answer.status == status, await answer.text()
        stranger = bearer(private, view=("class-6",))
        for headers, status in (({}, 401), (stranger, 403), (viewer, 200), (director_of, 200)):
            async with client.get(url, headers=headers) as answer:
                assert answer.status == status, await answer.text()


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        (b"", 400, "body"),
        (b"[]", 400, "body"),
        (b"{}", 400, "source: Field required"),
        (b'{"source": 5}', 400, "source: Input should be a valid string"),
        (b'{"source": "a", "muted": "no"}', 400, "muted: Input should be a valid boolean"),
        (b'{"source": "a", "mute": true}', 400, "mute: Extra inputs are not permitted"),
        (b'{"source": "a/b"}', 400, "A stream name is"),
        (b'{"source": "class-5"}', 400, "A programme cannot be its own source."),
        (b'{"source": "' + b"a" * 2000 + b'"}', 400, "body"),
        (b'{"source": "class-5.file"}', 504, "'class-5.file' did not come to this node"),
        (b'{"source": null}', 200, '"source": null'),
    ],
)
@pytest.mark.usefixtures("in_a_moment")
async def test_what_is_sent_is_judged_and_a_refusal_says_why(
    body: bytes, status: int, says: str
) -> None:
    async with serving() as (node, client):
        headers = {"Content-Type": "application/json"}
        async with client.put("/api/switch/class-5", data=body, headers=headers) as answer:
            assert answer.status == status
            assert says in await answer.text()
        assert "class-5" not in node.channels


async def test_a_form_of_another_site_cannot_switch() -> None:
    async with serving() as (_, client):
        async with client.put("/api/switch/class-5", data={"source": "a"}) as answer:
            assert answer.status == 415
        async with client.get("/api/switch/class-5") as answer:
            assert answer.status == 404


async def test_below_the_root_nothing_is_switched() -> None:
    async with serving(parents=("http://127.0.0.1:9",)) as (node, _):
        with pytest.raises(Refused, match="this node has a parent") as refused:
            await node.switch("class-5", "class-5.file")
        assert refused.value.status == 409


async def test_a_newer_switch_ends_one_that_waits() -> None:
    async with serving() as (node, _):
        first = asyncio.create_task(node.switch("class-5", "class-5.file"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await node.switch("class-5", None)
        with pytest.raises(Refused, match="switched again") as refused:
            await first
        assert refused.value.status == 409


async def test_who_asked_and_has_gone_leaves_nothing_behind() -> None:
    async with serving() as (node, _):
        before = asyncio.all_tasks()
        asking = asyncio.create_task(node.switch("class-5", "class-5.file"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == before


async def test_a_programme_that_ends_lets_go_of_its_sources() -> None:
    """Else their packets would go on into a stream that nobody has."""
    async with serving() as (node, _):
        legs = [node_leg("0", director.SOUND), node_leg("1", director.PICTURE)]
        source, channel = (node.channel_to_feed(name) for name in ("class-5.1", "class-5"))
        streams = [one.use_formats(legs) for one in (source, channel)]
        programme = channel.programme = Programme(streams[1])
        cue = Cue("class-5.1", streams[0], False, time.monotonic(), lambda at: None)
        node.port.call(programme.cue, cue)
        await node.port.finished()
        assert streams[0].taps == [programme]
        await channel.end("the class is over")
        await node.port.finished()
        assert streams[0].taps == []


async def test_a_node_that_stops_gives_up_the_switches_that_wait() -> None:
    async with serving() as (node, _):
        asking = asyncio.create_task(node.switch("class-5", "class-5.file"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    with pytest.raises(Refused):
        await asking
    with pytest.raises(Refused, match="stopping"):
        await node.switch("class-5", "class-5.file")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=80),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=6,
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    body=st.binary(max_size=200)
    | st.fixed_dictionaries({"source": JSON}, optional={"muted": JSON}).map(
        lambda o: json.dumps(o).encode()
    )
)
def test_no_body_is_a_fault_of_ours(body: bytes) -> None:
    """Whatever comes is answered with 4xx and a sentence, 504, or done."""

    async def ask() -> None:
        async with serving() as (node, client):
            headers = {"Content-Type": "application/json"}
            async with client.put("/api/switch/class-5", data=body, headers=headers) as answer:
                assert answer.status in (200, 400, 504), await answer.text()
            assert node.port.errors == 0

    before, director.WITHIN_S = director.WITHIN_S, 0.01
    try:
        asyncio.run(ask())
    finally:
        director.WITHIN_S = before
