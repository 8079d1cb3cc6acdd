"""Finding courses in Chinese and in English."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.course import Course
from media.search import Index, Query
from tests.media.test_course import document


def course(course_id: str, title: str, day: int = 1, **more: object) -> Course:
    created = f"2026-09-{day:02d}T08:00:00Z"
    return Course.model_validate(document(id=course_id, title=title, created=created, **more))


@pytest.fixture
def index() -> Index:
    index = Index()
    index.put(course("rice", "水稻育秧技术", 1, tags=["农业", "水稻"], unit="龙华农校"))
    index.put(course("tea", "Tea: pruning and picking", 2, teacher="Li Na", tags=["农业"]))
    index.put(course("cafe", "Café culture", 3, description="Not about rice at all"))
    index.put(course("party", "党员教育第一课", 4, unit="市委组织部"))
    return index


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("水稻", ["rice"]),
        ("稻", ["rice"]),
        ("水稻技术", ["rice"]),  # not as it stands, but two of its three pairs
        ("育秧 水稻", ["rice"]),
        ("水稻 茶", []),
        ("小麦技术", []),
        ("TEA", ["tea"]),
        ("ｔｅａ", ["tea"]),  # full width, as an input method leaves it
        ("pick prun", ["tea"]),
        ("cafe", ["cafe"]),
        ("li na", ["tea"]),
        ("RICE", ["cafe", "rice"]),  # in the text and in the id: the newer one first
        ("", ["party", "cafe", "tea", "rice"]),
        ("   ", ["party", "cafe", "tea", "rice"]),
    ],
)
def test_what_people_type_finds_what_they_mean(index: Index, typed: str, found: list[str]) -> None:
    assert [one.id for one in index.find(Query(typed))] == found


def test_a_title_comes_before_a_mention(index: Index) -> None:
    index.put(course("new", "Something new", 20, description="tea is mentioned"))
    assert [one.id for one in index.find(Query("tea"))] == ["tea", "new"]


def test_filters_narrow(index: Index) -> None:
    assert [one.id for one in index.find(Query(tag="农业"))] == ["tea", "rice"]
    assert [one.id for one in index.find(Query(tag="农业", unit="龙华农校"))] == ["rice"]
    assert [one.id for one in index.find(Query(teacher="Li Na"))] == ["tea"]
    assert index.find(Query("水稻", tag="没有")) == []


def test_tags_and_units_are_counted(index: Index) -> None:
    assert index.tags() == [("农业", 2), ("水稻", 1)]
    assert index.units() == [("市委组织部", 1), ("龙华农校", 1)]


def test_a_course_is_replaced_and_removed(index: Index) -> None:
    index.put(course("rice", "Wheat"))
    assert [one.id for one in index.find(Query("水稻"))] == []
    index.remove("rice")
    index.remove("rice")
    assert len(index) == 3


@given(st.text(max_size=300))
def test_any_query_is_answered(typed: str) -> None:
    index = Index()
    index.put(course("rice", "水稻育秧技术"))
    assert len(index.find(Query(typed))) <= 1
