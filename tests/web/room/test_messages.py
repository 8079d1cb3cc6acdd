"""Whatever comes over a socket is refused with a sentence or is what the model says."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.web.room.nodes import SEAT
from web.room import messages
from web.room.messages import BadMessage

JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=12,
)
GOOD: tuple[dict[str, Any], ...] = (
    {"t": "hello", "token": "", "as": "site:12", "seat": SEAT + "A", "receipts": {}},
    {"t": "hand", "up": True, "text": "种子"},
    {"t": "answer", "poll": 7, "choice": 1},
    {"t": "have", "poll": 7, "receipt": {"node": "0123456789abcdef.0", "n": 1}},
    {"t": "ballot", "ballot": 3, "vote": {"key": "AAAA"}},
    {"t": "say", "text": "?", "id": "x"},
    {"t": "linetest", "result": {"loss": 0.1, "words": ["a"]}, "id": "x"},
    {"t": "rollcall", "presence": "leave", "people": 0, "id": "x"},
    {"t": "media", "camera": True, "microphone": False, "hidden": False},
)


@pytest.mark.parametrize("message", GOOD, ids=lambda one: one["t"])
def test_what_the_readme_says_is_taken(message: dict[str, Any]) -> None:
    assert messages.parse(json.dumps(message)).t == message["t"]


@settings(max_examples=300)
@given(st.text() | JSON.map(json.dumps))
def test_nonsense_is_refused_with_a_sentence(text: str) -> None:
    for parse in (messages.parse, messages.parse_up, messages.parse_down):
        with pytest.raises(BadMessage) as refused:
            parse(text)
        assert refused.value.sentence
        assert len(refused.value.sentence) < 300


@settings(max_examples=300)
@given(st.sampled_from(GOOD), st.data())
def test_a_message_that_was_tampered_with_is_refused_or_means_the_same(
    message: dict[str, Any], data: st.DataObject
) -> None:
    """One field is another thing, is missing, or is one too many."""
    name = data.draw(st.sampled_from([*message, "more"]))
    changed = {**message, name: data.draw(JSON)}
    if data.draw(st.booleans()):
        changed.pop(name)
    try:
        taken = messages.parse(json.dumps(changed))
    except BadMessage:
        return
    again = json.loads(taken.model_dump_json(by_alias=True))
    assert {k: again[k] for k in changed} == json.loads(json.dumps(changed))


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000, '{"t":' * 5000, '{"t":"say","text":"' + "x" * 20_000 + '","id":"a"}',
        '{"t":"say","text":"\\ud800","id":"a"}', '{"t":"answer","poll":1e400,"choice":0}',
        '{"t":"answer","poll":true,"choice":0}', '{"t":"answer","poll":1.0,"choice":0}',
        '{"t":"answer","poll":1,"choice":0,"choice2":0}', '{"t":"answer","poll":-1,"choice":0}',
        '{"t":"answer","poll":1,"choice":16}', '{"t":"hand","up":1}', "NaN", "\x00",
        '{"t":"hand","up":true,"text":"' + "x" * 201 + '"}',
        '{"t":"linetest","id":"a","result":' + '{"a":' * 2000 + "1" + "}" * 2000 + "}",
    ],
    ids=range(15),
)  # fmt: skip
def test_what_is_too_large_too_deep_or_of_another_type_is_refused(text: str) -> None:
    with pytest.raises(BadMessage):
        messages.parse(text)
