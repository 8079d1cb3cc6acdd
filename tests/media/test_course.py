"""The catalogue's entry of a course."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from media.course import Course, new_id
from media.manifest import CourseId

SHA = "ab" * 32


def rendition(name: str = "480p") -> dict[str, Any]:
    return {
        "name": name,
        "codecs": "avc1.64001e,mp4a.40.2",
        "bitrate_bps": 600_000,
        "peak_bitrate_bps": 700_000,
        "width": 854,
        "height": 480,
        "size_bytes": 30,
        "manifest_sha256": SHA,
    }


def document(**changes: Any) -> dict[str, Any]:
    return {
        "id": "rice",
        "revision": 1,
        "title": "水稻育秧技术",
        "created": "2026-09-21T08:00:00Z",
        "duration_s": 60.0,
        "renditions": [rendition()],
    } | changes


def subtitles(lang: str, file: str | None = None) -> dict[str, Any]:
    return {
        "lang": lang,
        "label": "中文",
        "file": file or f"{lang}.vtt",
        "size_bytes": 10,
        "sha256": SHA,
    }


def test_a_course_goes_through_json() -> None:
    course = Course.model_validate(
        document(
            subtitles=[subtitles("zh"), subtitles("en")],
            poster={"file": "poster.jpg", "size_bytes": 9, "sha256": SHA},
            chapters=[{"start_s": 0, "title": "开始"}, {"start_s": 30, "title": "Sowing"}],
            missing=[{"start_s": 5.0, "duration_s": 1.0}],
        )
    )
    assert Course.model_validate_json(course.model_dump_json()) == course
    assert course.rendition("480p") is course.renditions[0]
    assert course.rendition("720p") is None


def test_text_is_one_printable_line() -> None:
    assert Course.model_validate(document(title="  two\n lines ")).title == "two lines"
    with pytest.raises(ValidationError, match="control characters"):
        Course.model_validate(document(title="a\x07b"))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"id": "../x"}, "id"),
        ({"id": ""}, "id"),
        ({"id": "a" * 65}, "id"),
        ({"title": " "}, "title"),
        ({"created": "2026-09-21T08:00:00"}, "created"),
        ({"renditions": []}, "renditions"),
        ({"renditions": [rendition(), rendition()]}, "same name"),
        ({"renditions": [rendition("../480p")]}, "name"),
        ({"poster": {"file": "../p.jpg", "size_bytes": 9, "sha256": SHA}}, "file"),
        ({"poster": {"file": "p.html", "size_bytes": 9, "sha256": SHA}}, "file"),
        ({"subtitles": [subtitles("zh", "en.vtt")]}, "named after their language"),
        ({"subtitles": [subtitles("zh"), subtitles("zh")]}, "same name"),
        ({"subtitles": [subtitles("ZH")]}, "lang"),
        (
            {"chapters": [{"start_s": 9, "title": "b"}, {"start_s": 1, "title": "a"}]},
            "not in the order",
        ),
        ({"surprise": 1}, "Extra inputs"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Course.model_validate(document(**changes))


@given(st.text(max_size=80))
def test_any_title_makes_an_id_that_is_one(title: str) -> None:
    assert TypeAdapter(CourseId).validate_python(new_id(title))


def test_an_id_keeps_the_words_that_it_can() -> None:
    assert re.fullmatch(r"rice-sowing-2nd-[a-z2-9]{6}", new_id("Rice: sowing, 2nd!"))
    assert re.fullmatch(r"course-[a-z2-9]{6}", new_id("水稻育秧"))
    assert new_id("水稻") != new_id("水稻")
