"""At which hop a complaint begins: literal trees in, findings out."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.diagnosis import Finding, Severity, diagnose


def track(loss: float = 0.0, unrepaired: float = 0.0, jitter: float = 2.0) -> dict[str, Any]:
    return {"loss_percent": loss, "unrepaired_percent": unrepaired, "jitter_ms": jitter}


def stream(source: str, *tracks: dict[str, Any], **more: Any) -> dict[str, Any]:
    base = {"name": "lecture", "source": source, "state": "live", "tracks": list(tracks)}
    return base | {"viewers": 0, "publisher_gone_s": None, "rtt_ms": 5.0, "skew_ms": 3.0} | more


def node(name: str, *streams: dict[str, Any], below: Any = (), **more: Any) -> Any:
    base = {"id": f"id-{name}", "name": name, "time": 1000.0, "parent_state": "connected"}
    load = {"room": 100, "cpu": 0.1}
    return base | {"load": load, "viewers": 0, "streams": list(streams), "below": below} | more


def chain(city: dict[str, Any], county: dict[str, Any], **county_more: Any) -> dict[str, Any]:
    """centre -> city -> county, with these streams."""
    lowest = node("county", county, viewers=50, **county_more)
    middle = node("city", city, below=[lowest])
    top = node("centre", stream("publisher", track()), below=[middle], parent_state="none")
    return dict(top)


def codes(tree: dict[str, Any]) -> list[tuple[str, str]]:
    return [(one.code, one.values.get("node", "")) for one in diagnose(tree)]


def test_a_tree_without_a_fault_is_said_to_be_fine() -> None:
    (found,) = diagnose(chain(stream("parent", track()), stream("parent", track())))
    assert found == Finding("fine", Severity.FINE, "id-centre", {"nodes": 3, "viewers": 50})


def test_a_lossy_line_is_named_by_both_its_ends() -> None:
    """The county is fine, its line from the city loses 4 %, and all of it is repaired."""
    (found,) = diagnose(chain(stream("parent", track()), stream("parent", track(loss=4.0))))
    assert (found.code, found.severity) == ("line_loss_repaired", Severity.WARN)
    assert (found.values["node"], found.values["above"]) == ("county", "city")
    assert found.values["percent"] == 4.0


def test_what_was_lost_above_is_not_blamed_on_the_line_below() -> None:
    """The city lost 3 % for good: the county lacks them too, and its line is good."""
    lossy = track(loss=5.0, unrepaired=3.0)
    (found,) = diagnose(
        chain(stream("parent", lossy), stream("parent", track(loss=3.0, unrepaired=3.0)))
    )
    assert (found.code, found.values["node"], found.values["above"]) == (
        "line_loss", "city", "centre",
    )  # fmt: skip
    assert found.values["unrepaired"] == 3.0


def test_loss_of_the_publisher_s_line_is_the_publisher_s() -> None:
    top = node("centre", stream("publisher", track(loss=6.0, unrepaired=0.5)))
    assert codes(top) == [("publisher_loss", "centre")]


def test_a_publisher_that_is_gone_is_the_cause_of_all_silence_below() -> None:
    waiting = {"state": "waiting"}
    below = node("county", stream("parent", track(), **waiting))
    top = node(
        "centre", stream("publisher", track(), publisher_gone_s=12.4, **waiting), below=[below]
    )
    (found,) = diagnose(top)
    assert (found.code, found.values) == (
        "publisher_gone", {"node": "centre", "stream": "lecture", "seconds": 12},
    )  # fmt: skip


def test_a_silent_line_under_a_live_stream_is_the_line_s_fault() -> None:
    tree = chain(stream("parent", track()), stream("parent", track(), state="waiting"))
    assert codes(tree) == [("line_silent", "county")]


def test_a_node_that_does_not_answer_is_named_with_its_silence() -> None:
    dead = {"id": "id-city", "name": "city", "url": "http://c", "error": "x", "last_seen_s": 12.2}
    (found,) = diagnose(node("centre", below=[dead]))
    assert (found.code, found.values) == (
        "no_answer", {"node": "city", "above": "centre", "seconds": 12},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"parent_state": "loop", "parent": "http://c", "error": "loop"}, "loop"),
        ({"parent_state": "refused", "parent": "http://c", "error": "no token"}, "refused"),
        ({"parent_state": "unreachable", "parent": "http://c"}, "parent_gone"),
        ({"load": {"room": 5, "cpu": 0.92}}, "busy"),
        ({"load": {"room": 0, "cpu": 0.1}, "viewers": 300}, "full"),
        ({"load": {"room": 0, "cpu": 0.1, "draining": True}}, "draining"),
        ({"load": {"room": 5, "send_dropped_recent": 40}}, "dropped"),
        ({"workers": [{"worker": 1, "state": "silent"}]}, "worker"),
    ],
)
def test_a_node_in_trouble_says_which(more: dict[str, Any], code: str) -> None:
    assert codes(node("city", **more)) == [(code, "city")]


def test_a_wrong_clock_is_told_from_the_node_above() -> None:
    top = node("centre", below=[node("county", time=1090.0)], parent_state="none")
    (found,) = diagnose(top)
    assert (found.code, found.values["seconds"], found.values["above"]) == ("clock", 90, "centre")


def test_lip_sync_is_blamed_on_the_hop_where_it_begins() -> None:
    tree = chain(stream("parent", track(), skew_ms=180.0), stream("parent", track(), skew_ms=190.0))
    assert codes(tree) == [("picture_late", "city")]


def test_viewers_with_bad_lines_of_their_own_are_counted_at_a_node_that_is_fine() -> None:
    lossy = stream("parent", track(), viewers=50, viewers_lossy=3, viewers_loss_percent=8.5)
    (found,) = diagnose(chain(stream("parent", track()), lossy))
    assert found.code == "viewers_loss"
    assert (found.values["count"], found.values["viewers"]) == (3, 50)


def test_a_node_under_two_parents_is_told_of_once() -> None:
    county = node("county", stream("parent", track(loss=4.0)))
    cities = [node(name, stream("parent", track()), below=[county]) for name in ("east", "west")]
    tree = node("centre", stream("publisher", track()), below=cities)
    assert codes(tree) == [("line_loss_repaired", "county")]


def test_the_worst_comes_first() -> None:
    dead = {"id": "id-b", "name": "b", "url": "http://b", "last_seen_s": 9}
    tree = node("centre", below=[node("a", time=2000.0), dead])
    assert [one.severity for one in diagnose(tree)] == [Severity.BAD, Severity.WARN]


values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5) | st.integers(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
keys = st.sampled_from(
    ["id", "name", "streams", "below", "load", "time", "tracks", "loss_percent", "state", "source",
     "viewers", "workers", "skew_ms", "parent_state", "cpu"]
)  # fmt: skip


@given(st.recursive(values, lambda inner: st.dictionaries(keys, inner | st.lists(inner))))
def test_whatever_a_node_below_sends_gives_findings_that_can_be_sent_on(sent: Any) -> None:
    """The tree is put together from what other machines say."""
    findings = diagnose({"streams": [], "below": [sent]} if not isinstance(sent, dict) else sent)
    assert findings
    assert json.dumps([one.as_json() for one in findings])
