"""A tree as text: what each line says, and that names from elsewhere cannot harm a terminal."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer
from hypothesis import given
from hypothesis import strategies as st

from web import status

VIDEO = {"kind": "video", "codec": "H264", "packets": 100, "lost": 0}
AUDIO = {"kind": "audio", "codec": "OPUS", "packets": 100, "lost": 0}
LECTURE = {
    "name": "lecture",
    "source": "parent",
    "state": "live",
    "viewers": 0,
    "relays": 1,
    "pushed": False,
    "bitrate_in_bps": 1_020_000,
    "bitrate_out_bps": 1_020_000,
    "tracks": [AUDIO, VIDEO],
}


def node(name: str, *streams: dict[str, Any], below: tuple[Any, ...] = ()) -> dict[str, Any]:
    return {
        "name": name,
        "tier": name,
        "parent_state": "connected",
        "error": "",
        "streams": list(streams),
        "below": list(below),
    }


def test_a_tree_shows_each_node_its_streams_and_the_bitrate_of_each_edge() -> None:
    county = node("county", LECTURE | {"viewers": 1, "relays": 0})
    idle = node("idle")
    tree = node("centre", LECTURE | {"source": "publisher"}, below=(county, idle))
    assert status.render(tree) == (
        "centre\n"
        "│   lecture  live from the publisher  H264+Opus  in 1.0 Mbit/s  out 1.0 Mbit/s"
        "  0 viewers\n"
        "├─ ↓ 1.0 Mbit/s ─ county\n"
        "│     lecture  live from the parent  H264+Opus  in 1.0 Mbit/s  out 1.0 Mbit/s  1 viewer\n"
        "└── idle"
    )


def test_a_tree_that_carries_nothing_says_so() -> None:
    assert status.render(node("centre", below=(node("county"),))) == (
        "centre\n└── county\n(no stream)"
    )


def test_a_pushed_stream_is_an_edge_upwards() -> None:
    county = node("county", LECTURE | {"source": "publisher", "pushed": True})
    tree = node("centre", LECTURE | {"source": "push"}, below=(county,))
    lines = status.render(tree).splitlines()
    assert "live from below" in lines[1]
    assert lines[2] == "└─ ↑ 1.0 Mbit/s ─ county"


def test_loss_and_trouble_are_said_in_words() -> None:
    county = node("county", LECTURE | {"tracks": [VIDEO | {"lost": 12}, AUDIO | {"lost": 1}]})
    county["parent_state"] = "unreachable"
    gone = {"name": "gone", "url": "http://192.0.2.1:8710", "error": "no answer within 2 s"}
    text = status.render(node("centre", below=(county, gone)))
    assert "county  ! parent unreachable" in text
    assert "13 lost" in text
    assert "gone  ! no answer: no answer within 2 s" in text


def test_chinese_terminals_get_chinese_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LC_ALL", raising=False)
    monkeypatch.delenv("LC_MESSAGES", raising=False)
    monkeypatch.setenv("LANG", "zh_CN.UTF-8")
    assert status.language() == "zh"
    text = status.render(node("centre", LECTURE), language="zh")
    assert "直播中 来自上级" in text
    assert "0 人观看" in text


def test_a_name_cannot_steer_the_terminal() -> None:
    """A child names itself; an escape sequence in it must not reach the screen."""
    text = status.render(node("\x1b[2Jcounty\nfake", LECTURE | {"name": "a\x07b"}))
    assert all(line.isprintable() for line in text.split("\n"))
    assert "?[2Jcounty?fake" in text


@pytest.mark.parametrize(
    ("text", "columns", "shown"),
    [
        ("lecture", 7, "lecture"),
        ("lecture", 6, "lectu…"),
        ("直播中", 6, "直播中"),
        ("直播中", 5, "直播…"),
        ("直播中", 4, "直…"),
    ],
)
def test_a_line_is_cut_by_columns_not_by_characters(text: str, columns: int, shown: str) -> None:
    assert status.fit(text, columns) == shown


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["name", "tier", "streams", "below", "tracks", "lost", "error", "viewers", "url"]
            ),
            inner,
        )
    ),
    max_leaves=20,
)


@given(JSON.filter(lambda value: isinstance(value, dict)))
def test_whatever_another_node_answers_can_be_drawn(tree: dict[str, Any]) -> None:
    assert all(line.isprintable() for line in status.render(tree).split("\n"))


async def serve(answer: web.Response) -> TestServer:
    async def tree(_: web.Request) -> web.Response:
        return copy.copy(answer)

    app = web.Application()
    app.router.add_get("/api/tree", tree)
    server = TestServer(app)
    await server.start_server()
    return server


async def test_a_tree_is_fetched_and_printed(capsys: pytest.CaptureFixture[str]) -> None:
    async with await serve(web.json_response(node("centre", LECTURE))) as server:
        url = str(server.make_url("/"))
        assert await status.show(url, watch=False, as_json=False) == 0
        assert "lecture" in capsys.readouterr().out
        assert await status.show(url, watch=False, as_json=True) == 0
        assert json.loads(capsys.readouterr().out)["name"] == "centre"


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (web.Response(status=404), "answered 404: is it a Terrace node?"),
        (web.Response(status=401), "wants a token that allows it: set TERRACE_TOKEN"),
        (web.Response(text="<html>"), "did not answer with a tree: is it a Terrace node?"),
        (web.Response(text="[]"), "did not answer with a tree: is it a Terrace node?"),
    ],
)
async def test_what_is_no_tree_is_told(answer: web.Response, sentence: str) -> None:
    async with await serve(answer) as server, ClientSession() as session:
        with pytest.raises(status.Unreachable, match=sentence.replace("?", r"\?")):
            await status.fetch_tree(session, str(server.make_url("/")))


async def test_a_node_that_is_not_there_is_told(unused_tcp_port: int) -> None:
    async with ClientSession() as session:
        with pytest.raises(status.Unreachable, match="cannot be reached: Connection refused"):
            await status.fetch_tree(session, f"http://127.0.0.1:{unused_tcp_port}")
        with pytest.raises(ValueError, match="is no URL"):
            await status.fetch_tree(session, "centre")
