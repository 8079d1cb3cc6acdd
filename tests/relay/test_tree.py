"""The rules of the tree: paths, names, time to answer, and how patiently a node tries again."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay import tree
from relay.errors import Refused

A, B, C = "aaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbb", "cccccccccccccccc"


@pytest.mark.parametrize("name", ["class", "Class-7_b.2~x", "a", "7", "x" * 64, "...", "a.."])
def test_these_are_stream_names(name: str) -> None:
    """Characters that need no escape in a URL (RFC 3986 section 2.3)."""
    assert tree.check_stream_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "x" * 65,
        "a b",
        "a/b",
        "a%20b",
        "语文",
        "é",
        "²",
        "a\n",
        "\na",
        "a\r\nX: y",
        "a\0",
        "a?b",
        "*",
    ],
)
def test_these_are_no_stream_names(name: str) -> None:
    """The name goes into paths, headers and labels as it is; the answer says what may be in it."""
    with pytest.raises(Refused) as caught:
        tree.check_stream_name(name)
    assert caught.value.status == 400
    assert caught.value.retry_after_s is None
    assert "1 to 64 characters" in caught.value.sentence


@pytest.mark.parametrize(
    ("header", "want"),
    [
        pytest.param("", (), id="from a viewer"),
        pytest.param(A, (A,), id="one node"),
        pytest.param(f"{A},{B}", (A, B), id="nearest the viewer first"),
        pytest.param(f" {A} , {B} ,", (A, B), id="blanks and a trailing comma"),
        pytest.param("01234567", ("01234567",), id="the shortest id"),
    ],
)
def test_path_headers_are_read(header: str, want: tuple[str, ...]) -> None:
    """`Terrace-Path` names the nodes that a request has come through."""
    assert tree.parse_path(header) == want


@pytest.mark.parametrize(
    "header", ["node", "0123456", "g" * 16, "A" * 16, "0" * 33, f"{A};{B}", f"{A},x", "²" * 16]
)
def test_path_headers_with_anything_else_are_refused(header: str) -> None:
    """A request with a made-up path is a fault of whoever sent it."""
    with pytest.raises(Refused, match="Terrace-Path") as caught:
        tree.parse_path(header)
    assert caught.value.status == 400


def test_each_node_adds_itself_to_the_path() -> None:
    """The order is that of the way up."""
    assert tree.extend_path((), A) == (A,)
    assert tree.extend_path((A, B), C) == (A, B, C)


@pytest.mark.parametrize("path", [(A,), (A, B), (B, A)])
def test_a_node_that_finds_itself_in_the_path_refuses(path: tuple[str, ...]) -> None:
    """508 names the cause and what to look at."""
    with pytest.raises(Refused, match=r"form a loop.*--parent") as caught:
        tree.extend_path(path, A)
    assert caught.value.status == 508


def test_a_tree_deeper_than_any_country_is_refused() -> None:
    """Even if ids change on the way: the path cannot grow without end."""
    path: tuple[str, ...] = ()
    for number in range(tree.MAX_HOPS):
        path = tree.extend_path(path, f"{number:016x}")
    with pytest.raises(Refused, match="12 nodes") as caught:
        tree.extend_path(path, A)
    assert caught.value.status == 508


def test_nodes_higher_up_take_less_time_to_answer() -> None:
    """So each has its parent's answer before its child gives up; a viewer waits less than 2 s."""
    times = [tree.answer_time(tuple("x" * hops)) for hops in range(tree.MAX_HOPS)]
    assert times[0] < 2.0
    assert all(b < a for a, b in pairwise(times))
    assert min(times) >= 0.4


@pytest.mark.parametrize(
    ("header", "want"),
    [
        pytest.param("", {}, id="nothing"),
        pytest.param("11:65535, 22:0", {11: 65535, 22: 0}, id="two tracks"),
        pytest.param("4294967295:1", {4294967295: 1}, id="the highest SSRC"),
        pytest.param("11:70000", {11: 70000 & 0xFFFF}, id="a number beyond 16 bits"),
        pytest.param("11:1,x:2,3,:,4:-1, 5: 6", {11: 1}, id="made-up parts"),
        pytest.param("²:1, 1:²", {}, id="what only looks like digits"),
        pytest.param(
            ",".join(f"{n}:1" for n in range(100)), dict.fromkeys(range(16), 1), id="many"
        ),
    ],
)
def test_what_a_node_has_already_is_read(header: str, want: dict[int, int]) -> None:
    """`Terrace-Have` comes from a node that changes parents; nonsense in it is passed over."""
    assert tree.parse_have(header) == want


def test_what_a_node_has_already_is_written_as_it_is_read() -> None:
    """Last sequence number by SSRC."""
    have = {11: 65535, 4294967295: 0}
    assert tree.parse_have(tree.format_have(have)) == have


def test_waits_grow_up_to_a_limit() -> None:
    """Without spread the row of waits is known."""
    backoff = tree.Backoff(first_s=0.25, factor=2.0, longest_s=3.0)
    waits = [backoff.wait_s(0.5) for _ in range(7)]
    assert waits == pytest.approx([0.25, 0.5, 1.0, 2.0, 3.0, 3.0, 3.0])


def test_success_begins_the_waits_anew() -> None:
    """A link that worked and broke is tried again soon."""
    backoff = tree.Backoff()
    first = backoff.wait_s(0.5)
    backoff.wait_s(0.5)
    backoff.reset()
    assert backoff.wait_s(0.5) == first


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40))
def test_siblings_do_not_try_in_step(draws: list[float]) -> None:
    """Each wait is spread by a quarter up and down, and never leaves its bounds."""
    backoff = tree.Backoff()
    for draw in draws:
        wait = backoff.wait_s(draw)
        assert 0.75 * backoff.first_s <= wait <= 1.25 * backoff.longest_s
    assert tree.Backoff().wait_s(0.0) < tree.Backoff().wait_s(1.0)


def test_a_publisher_may_ask_to_be_kept_and_a_node_may_say_that_it_is_on_air() -> None:
    """Neither may say the other's word, and nobody anything else."""
    assert tree.check_push("", from_node=False) == ""
    assert tree.check_push("on-demand", from_node=False) == "on-demand"
    assert tree.check_push("on-air", from_node=True) == "on-air"
    for header, from_node in (("on-air", False), ("on-demand", True), ("yes", False)):
        with pytest.raises(Refused, match="Terrace-Push") as refused:
            tree.check_push(header, from_node=from_node)
        assert refused.value.status == 400
