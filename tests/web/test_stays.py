"""The stays of a node's viewers: told until they are kept, once more when they end."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from relay.access import Access
from web import stays
from web.stays import Seen, StayBook, attendee_of, occurrence_of

NODE = "0123456789abcdef"


def seen(session: str, stream: str = "class-7", subject: str = "site:3") -> Seen:
    return Seen(session, stream, subject)


@pytest.mark.parametrize(
    ("stream", "occurrence_id"),
    [("class-7", 7), ("class-0", None), ("class-x", None), ("lecture", None), ("class-7-2", None)],
)
def test_only_a_class_has_an_attendance(stream: str, occurrence_id: int | None) -> None:
    assert occurrence_of(stream) == occurrence_id


@pytest.mark.parametrize(
    ("subject", "otherwise", "who"),
    [
        ("person:12", "site:3", ("person", 12)),
        ("", "site:3", ("site", 3)),
        ("somebody", "", None),
        ("station shangping-1", "site:3", ("station", "shangping-1")),
        ("station Shangping 1", "", None),
        ("person:12x", "", None),
    ],
)
def test_who_a_viewer_is(subject: str, otherwise: str, who: tuple[str, int | str] | None) -> None:
    assert attendee_of(subject, otherwise) == who


def test_a_stay_is_told_until_it_is_kept_and_again_while_it_lasts() -> None:
    book = StayBook(NODE)
    book.look([seen("a")], 1000.0)
    told = [one.as_json() for one in book.due(1000.0)]
    assert [one["source"] for one in told] == [f"{NODE}/a"]
    assert len(book.due(1001.0)) == 1  # nobody has kept it yet
    book.acknowledged(told, 1001.0)
    assert book.due(1002.0) == []
    book.look([seen("a")], 1001.0 + stays.AGAIN_S)
    (again,) = book.due(1001.0 + stays.AGAIN_S)
    assert (again.source, again.joined_s, again.left_s) == (f"{NODE}/a", 1000.0, None)


def test_an_end_that_comes_while_a_batch_is_on_its_way_is_told_too() -> None:
    book = StayBook(NODE)
    book.look([seen("a")], 1000.0)
    told = [one.as_json() for one in book.due(1000.0)]
    book.look([], 1001.0)
    book.acknowledged(told, 1001.0)
    (end,) = book.due(1001.0)
    assert end.left_s == 1000.0
    book.acknowledged([end.as_json()], 1002.0)
    assert book.due(9999.0) == []


def test_a_clock_put_back_does_not_make_a_stay_end_before_it_began() -> None:
    book = StayBook(NODE)
    book.look([seen("a")], 1000.0)
    book.look([seen("a")], 500.0)
    book.look([], 501.0)
    (one,) = book.due(1000.0)
    assert one.joined_s <= one.seen_s
    assert one.left_s is not None
    assert one.joined_s <= one.left_s


def test_a_node_holds_a_bounded_number_and_counts_what_is_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stays, "MOST", 2)
    book = StayBook(NODE)
    book.look([seen("a"), seen("b"), seen("c")], 1000.0)
    assert (len(book.due(1000.0)), book.lost) == (2, 1)


class Uplink:
    """A line to a parent that is one of this test."""

    def __init__(self, url: str, http: aiohttp.ClientSession) -> None:
        self.url, self.http = url, http

    def headers(self, _path: tuple[str, ...]) -> dict[str, str]:
        return {"Authorization": "Bearer up"}


@pytest.mark.parametrize("path", [stays.PATH, stays.COUNTS])
async def test_a_node_in_between_takes_reports_up_where_they_are_meant_for(path: str) -> None:
    """With its own token, and the parent's answer comes back down as it is."""
    got: list[tuple[str, str, bytes]] = []

    async def take(request: web.Request) -> web.Response:
        body = await request.read()
        got.append((request.path, request.headers["Authorization"], body))
        return web.json_response({"kept": 0, "unknown": ["a"]})

    parent, between = web.Application(), web.Application()
    parent.router.add_post("/{path:.*}", take)
    async with TestServer(parent) as above, aiohttp.ClientSession() as http:
        line = SimpleNamespace(uplink=Uplink(str(above.make_url("")).rstrip("/"), http))
        parents = SimpleNamespace(in_order=lambda _now: [line])
        config = SimpleNamespace(access=Access.open_mode())
        node: Any = SimpleNamespace(id=NODE, parents=parents, config=config)
        stays.add_passing_on(between, node)
        async with TestClient(TestServer(between)) as below:
            answer = await below.post(path, data=b'{"reports": []}')
            assert (answer.status, await answer.json()) == (200, {"kept": 0, "unknown": ["a"]})
    assert got == [(path, "Bearer up", b'{"reports": []}')]
