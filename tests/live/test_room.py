"""A meeting's rights, its lost sites and its files, at the real endpoints with real media."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from relay.access import Access, issue
from tests.live.meetings import House, meeting
from tests.live.publishers import BarePublisher
from tests.media.clips import write_clip
from tests.patience import PATIENCE
from tests.web.centre.people import KEY

pytestmark = pytest.mark.live


@pytest.fixture
async def locked(tmp_path: Path) -> AsyncIterator[House]:
    """Whoever has no token is nobody."""
    async with meeting(tmp_path, Access([KEY.public_key()], open_to_all=False)) as house:
        yield house


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    """As on one machine: no tokens are asked for."""
    async with meeting(tmp_path, Access.open_mode()) as one:
        yield one


async def status(url: str, method: str, path: str, token: str, body: Any = None) -> int:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    if not isinstance(body, dict):
        headers["Content-Type"] = "application/sdp"
    async with (
        aiohttp.ClientSession(headers=headers) as http,
        http.request(
            method,
            url + path,
            data=body if isinstance(body, str) else None,
            json=body if isinstance(body, dict) else None,
        ) as answer,
    ):
        return answer.status


async def test_everybody_does_what_their_pass_allows_and_no_more(locked: House) -> None:
    """A viewer cannot speak, a site cannot switch, an expired token cannot listen."""
    house, stream = locked, locked.stream
    site, other = house.network.sites["P1Ax"], house.network.sites["P2Ax"]
    await house.ask("POST", "/open")
    viewer = (await house.ask("GET", "/pass", role="viewer"))["token"]
    at_site = (await house.ask("GET", "/pass", site_id=site))["token"]
    presenter = (await house.ask("GET", "/pass", role="presenter"))["token"]
    pem = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    expired = issue(
        pem, publish=[f"{stream}.site-{site}"], view=[stream, f"{stream}.*"], relay=False,
        ttl_s=60, subject=f"site:{site}", now=time.time() - 120,
    )  # fmt: skip
    offer, cut = "no offer", {"source": f"{stream}.site-{site}", "muted": False}
    own, others = f"/whip/{stream}.site-{site}", f"/whip/{stream}.site-{other}"
    programme = f"/api/occurrences/{house.id}/room/programme"
    # 400: they may, but this is no offer; 404: they may, but nobody publishes yet.
    rows: list[tuple[str, str, str, Any, int]] = [
        (viewer, "POST", f"/whep/{stream}", offer, 400),
        (viewer, "POST", f"/whip/{stream}", offer, 403),
        (viewer, "POST", own, offer, 403),
        (viewer, "POST", f"/whip/{stream}.presenter", offer, 403),
        (viewer, "PUT", f"/api/switch/{stream}", cut, 403),
        (at_site, "POST", own, offer, 400),
        (at_site, "POST", others, offer, 403),
        (at_site, "POST", f"/whip/{stream}", offer, 403),
        (at_site, "POST", f"/whip/{stream}.presenter", offer, 403),
        (at_site, "POST", "/whep/class-999", offer, 403),
        (at_site, "PUT", f"/api/switch/{stream}", cut, 403),
        (at_site, "PUT", programme, {"source": "presenter"}, 401),
        (presenter, "POST", f"/whip/{stream}.presenter", offer, 400),
        (presenter, "POST", own, offer, 403),
        (presenter, "PUT", f"/api/switch/{stream}", cut, 403),
        (expired, "POST", f"/whep/{stream}", offer, 401),
        (expired, "POST", own, offer, 401),
        (expired, "GET", f"/room/files/{'0' * 64}", None, 401),
        (viewer, "GET", f"/room/files/{'0' * 64}", None, 404),
        ("", "POST", f"/whep/{stream}", offer, 401),
        ("", "PUT", f"/api/switch/{stream}", cut, 401),
        ("", "GET", f"/room/files/{'0' * 64}", None, 401),
    ]
    for token, method, path, body, wanted in rows:
        assert await status(house.url, method, path, token, body) == wanted, (method, path)
    for who, token, code in (
        ("viewer", viewer, 0),
        (f"site:{site}", at_site, 0),
        (f"site:{site}", viewer, 4403),
        (f"site:{other}", at_site, 4403),
        ("person:1", viewer, 0),  # the host's own pass
        ("person:2", viewer, 4403),
        ("viewer", expired, 4401),
        ("viewer", "", 4401),
    ):
        async with house.client(who, token) as one:
            assert await one.settled() == code, (who, code)


async def test_a_site_that_vanishes_in_the_middle_of_its_floor(house: House) -> None:
    """Everybody sees the presenter within 5 s; the host has one button; the site comes back."""
    site = house.network.sites["P1Ax"]
    source = f"site-{site}"
    await house.ask("POST", "/open")
    async with (
        house.client("viewer") as viewer,
        BarePublisher(house.url, f"{house.stream}.presenter", seed=1, obeys=True),
        BarePublisher(house.url, f"{house.stream}.{source}", seed=2, obeys=True) as gone,
    ):
        async with house.client(f"site:{site}") as at_site:
            await house.ask("PUT", "/programme", {"source": "presenter"})
            await at_site.say(t="hand", up=True, text="The road is closed")
            await viewer.until(lambda state: state["counts"]["hands"] == 1)
            given = await house.ask("PUT", f"/floor/{source}", {"programme": True})
            assert given["shown"]
            await viewer.until(lambda state: state["programme"]["source"] == source)
            began_s = time.monotonic()
            await gone.vanish()
        await viewer.until(lambda state: state["programme"]["source"] == "presenter")
        took_s = time.monotonic() - began_s
        logging.getLogger(__name__).info("back after %.2f s", took_s)
        assert took_s < 5.0 * PATIENCE
        switched = house.node.director.state(house.stream)
        assert (switched["source"], switched["state"]) == (f"{house.stream}.presenter", "live")
        programme = viewer.state["programme"]
        assert (programme["instead_of"], programme["instead_of_name"]) == (source, "Hall")
        assert viewer.state["floor"][source]["lost"] is True
        (button,) = (await house.ask("GET", ""))["attention"]
        assert (button["what"], button["do"]) == ("replaced", "take floor")
        # The same site again, at another seat: it finds its floor, and the host may cut to it.
        async with (
            house.client(f"site:{site}") as back,
            BarePublisher(house.url, f"{house.stream}.{source}", seed=3, obeys=True),
        ):
            await back.until(lambda state: source in state.get("floor", {}))
            await viewer.until(lambda state: not state["floor"][source]["lost"])
            (button,) = (await house.ask("GET", ""))["attention"]
            assert (button["what"], button["do"]) == ("back", "cut")
            await house.ask("PUT", "/programme", {"source": source})
            await viewer.until(lambda state: state["programme"]["source"] == source)
            assert (await house.ask("GET", ""))["attention"] == []
        await house.ask("DELETE", f"/floor/{source}")
        await viewer.until(lambda state: state["programme"]["source"] == "presenter")
        assert viewer.state["floor"] == {}


async def test_a_file_is_played_to_its_end(house: House, tmp_path: Path) -> None:
    """A file of the usual kind, H264, becomes a source that can be cut to, and ends."""
    clip = await asyncio.to_thread(write_clip, tmp_path / "clip.mp4", audio="aac", frames=150)
    room = await house.centre.rooms.open(house.id, None)
    assert house.centre.files is not None
    async with (
        house.client("viewer") as viewer,
        BarePublisher(house.url, f"{house.stream}.presenter", seed=1),
    ):
        await house.ask("PUT", "/programme", {"source": "presenter"})
        await house.centre.files.start(room.id, clip)
        room.file_name = "A clip"
        await house.ask("PUT", "/programme", {"source": "file"})
        await viewer.until(lambda state: state["programme"]["source"] == "file")
        stream = house.node.channels[f"{house.stream}.file"].stream
        assert stream is not None
        assert stream.tracks["video"].format.codec == "VP8"
        await viewer.until(lambda state: state["programme"]["source"] == "presenter", 30)
        assert viewer.state["programme"]["instead_of"] == ""
        assert not await house.centre.files.stop(room.id), "it has ended by itself"
