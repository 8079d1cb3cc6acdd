"""Whatever the diagnosis finds can be said, in both languages, with all its values in place."""

from __future__ import annotations

import inspect
import re

import pytest

from relay import diagnosis
from web import status
from web.pages import LANGUAGES, load_locales

SOURCE = inspect.getsource(diagnosis)
CODES = {
    *re.findall(r'(?:Finding|found)\(\s*"([a-z_]+)"', SOURCE),
    *re.findall(r'_loss\([^)]*"([a-z_]+)"', SOURCE),
    *(f"{code}_repaired" for code in re.findall(r'_loss\([^)]*"([a-z_]+)"', SOURCE)),
    "loop", "refused", "parent_gone", "picture_late", "sound_late",
}  # fmt: skip


def test_the_codes_are_found() -> None:
    assert {"fine", "nobody", "line_loss", "line_loss_repaired", "publisher_gone"} <= CODES
    assert len(CODES) > 20


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("code", sorted(CODES))
def test_every_finding_has_words(code: str, language: str) -> None:
    assert f"tree.finding.{code}" in load_locales()[language]


def test_both_languages_use_the_same_values() -> None:
    texts = load_locales()
    for key, text in texts["en"].items():
        if key.startswith("tree."):
            places = re.findall(r"\{[a-z]+\}", text)
            assert sorted(places) == sorted(re.findall(r"\{[a-z]+\}", texts["zh"][key])), key


def test_the_terminal_says_at_which_hop_a_complaint_begins() -> None:
    track = {"kind": "video", "codec": "VP8", "loss_percent": 4.0, "unrepaired_percent": 0.0}
    stream = {"name": "hall", "source": "parent", "state": "live", "tracks": [track]}
    county = {"id": "c", "name": "county", "parent_state": "connected", "streams": [stream]}
    city = {"id": "b", "name": "city", "parent_state": "none", "streams": [], "below": [county]}
    said = status.render(city).splitlines()[-1]
    assert said == " ! county is fine, its line from city loses 4.0 %; all of it is repaired."
    said = status.render(city, language="zh").splitlines()[-1]
    assert said == " ! county 本身正常，从 city 来的线路丢包 4.0%，已全部补回。"


def test_names_from_other_machines_cannot_steer_the_terminal() -> None:
    node = {"id": "x", "name": "a\x1b[2J\nb", "parent_state": "loop", "streams": []}
    assert "\x1b" not in status.render(node)
