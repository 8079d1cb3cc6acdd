"""The county's side of its stations, over HTTP: who may ask what, and what nonsense is told."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from media import pairing, programme, signed
from media.clock import SignedTime
from media.county import County
from media.programme import Item
from relay import access
from relay.access import Access
from tests.media.lessons import serving
from tests.web.village import STATION, pair, timetable
from web import stations


class Gated:
    """A county that asks for tokens; `operator` and `viewer` are two of them."""

    def __init__(self, county: County, url: str, operator: str, viewer: str) -> None:
        self.county, self.url = county, url
        self.operator, self.viewer = operator, viewer

    async def ask(
        self, method: str, path: str, token: str = "", **more: object
    ) -> tuple[int, object]:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        async with (
            aiohttp.ClientSession(self.url) as http,
            http.request(method, path, headers=headers, **more) as answer,  # type: ignore[arg-type]
        ):
            if answer.content_type == "application/json":
                return answer.status, await answer.json()
            return answer.status, await answer.text()


@pytest.fixture
async def gated(tmp_path: Path) -> AsyncIterator[Gated]:
    private, public = access.new_key_pair()
    tokens = [
        access.issue(
            private, publish=publish, view=["*"], relay=False, ttl_s=600, subject="",
            now=time.time(),
        )
        for publish in (["stations"], ["lecture"])
    ]  # fmt: skip
    county = County(tmp_path / "county", name="longhua")
    county.open()
    app = web.Application()
    gate = Access([load_pem_public_key(public)], open_to_all=False)  # type: ignore[list-item]
    stations.add(app, county, gate)
    async with serving(app) as url:
        yield Gated(county, url, *tokens)
    county.close()


OPERATORS = [
    ("GET", "/api/pairings"),
    ("POST", "/api/pairings/123456/confirm"),
    ("PUT", "/api/programmes/shangping-1"),
    ("GET", "/api/stations"),
    ("GET", "/api/stations/shangping-1"),
    ("GET", "/api/stations/shangping-1/logbook"),
    ("GET", "/api/stations/shangping-1/screenshot.jpg"),
    ("POST", "/api/stations/shangping-1/screenshot"),
    ("DELETE", "/api/stations/shangping-1"),
]


@pytest.mark.parametrize(("method", "path"), OPERATORS)
async def test_what_is_the_operator_s_is_nobody_else_s(
    gated: Gated, method: str, path: str
) -> None:
    assert (await gated.ask(method, path))[0] == 401
    status, told = await gated.ask(method, path, gated.viewer)
    assert status == 403
    assert "terrace token --publish stations" in str(told)
    assert (await gated.ask(method, path, gated.operator, json={}))[0] not in (401, 403, 500)


async def test_a_station_reads_its_own_timetable_and_no_other_s(
    gated: Gated, tmp_path: Path
) -> None:
    pair(gated.county, tmp_path / "box")
    plan = signed.sign(timetable([]), gated.county._key, programme.TYP)
    path = f"/api/programmes/{STATION}"
    status, told = await gated.ask("PUT", path, gated.operator, data=plan)
    assert (status, told) == (200, {"serial": 1, "items": 0})
    own = gated.county.token(STATION, time.time())
    assert await gated.ask("GET", path, own) == (200, plan)
    other = gated.county.token("xiaping-1", time.time())
    assert (await gated.ask("GET", path, other))[0] == 403
    # The same serial once more, and one for somebody else, are refused in words.
    status, told = await gated.ask("PUT", path, gated.operator, data=plan)
    assert status == 400
    assert "a higher one only" in str(told)
    status, told = await gated.ask("PUT", "/api/programmes/other", gated.operator, data=plan)
    assert "is for shangping-1, not for other" in str(told)


async def test_a_group_s_timetable_serves_all_its_stations(gated: Gated, tmp_path: Path) -> None:
    pair(gated.county, tmp_path / "box", group="villages")
    plan = timetable([]).model_copy(update={"station": "villages"})
    text = signed.sign(plan, gated.county._key, programme.TYP)
    assert (await gated.ask("PUT", "/api/programmes/villages", gated.operator, data=text))[0] == 200
    assert gated.county.timetable(STATION) == (text, 1)


async def test_the_time_is_signed_for_the_question(gated: Gated) -> None:
    nonce = "abcdefghijklmnop"
    _, text = await gated.ask("GET", f"/api/time?nonce={nonce}")
    said = signed.read(str(text), [gated.county.public_key], signed.TIME, SignedTime)
    assert said.nonce == nonce
    assert abs(said.unix_s - time.time()) < 30
    assert (await gated.ask("GET", "/api/time?nonce=x"))[0] == 400


NONSENSE = [
    ("POST", "/api/pairings", b"{"),
    ("POST", "/api/pairings", b'{"public_key": "x", "request": "y"}'),
    ("POST", "/api/logbook", b'{"station": "../etc", "entries": []}'),
    ("POST", "/api/logbook", b'{"station": "nobody", "entries": ["x"]}'),
    ("POST", "/api/stations/nobody/report", b'{"report": "a.b.c"}'),
    ("POST", "/api/stations/nobody/report", b"\xff" * 100),
    ("GET", "/api/pairings/..%2f..%2fetc", b""),
]


@pytest.mark.parametrize(("method", "path", "body"), NONSENSE)
async def test_nonsense_gets_a_sentence(gated: Gated, method: str, path: str, body: bytes) -> None:
    status, told = await gated.ask(method, path, data=body)
    assert status in (200, 400, 404)
    assert isinstance(told, dict)
    assert told.get("error") or told.get("state") == "expired"


async def test_what_a_station_did_not_sign_is_not_acknowledged(
    gated: Gated, tmp_path: Path
) -> None:
    pair(gated.county, tmp_path / "box")
    body = {"station": STATION, "entries": ["x.y.z", pairing.public_pem(gated.county.public_key)]}
    assert await gated.ask("POST", "/api/logbook", json=body) == (200, {"acknowledged": []})
    status, _ = await gated.ask("POST", f"/api/stations/{STATION}/report", json={"report": "x.y.z"})
    assert status == 400


async def test_a_county_says_which_of_its_timetables_play_a_course(
    gated: Gated, tmp_path: Path
) -> None:
    pair(gated.county, tmp_path / "box")
    rows = [("over", "rice", -7200.0), ("next", "rice", 3600.0), ("other", "soil", 7200.0)]
    items = tuple(
        Item.model_validate(
            {"id": id, "title": id.title(), "kind": "course", "course": course,
             "starts_at": time.time() + after_s, "duration_s": 600}
        )
        for id, course, after_s in rows
    )  # fmt: skip
    plan = timetable([]).model_copy(update={"items": items})
    gated.county.put_timetable(STATION, signed.sign(plan, gated.county._key, programme.TYP))
    [use] = await stations.uses_of(gated.county)("rice")
    assert (use.title, use.where, use.starts_at) == ("Next", STATION, items[1].starts_at)
    gated.county.remove(STATION)
    assert await stations.uses_of(gated.county)("rice") == []
