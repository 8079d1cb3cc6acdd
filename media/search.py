"""Finding a course by what people type, in Chinese and in English (pure).

Text is folded first: width, case and accents do not matter. Each word of a query must be found in
a course. Chinese is written without spaces, so a run of it that is not found as it stands counts
as found when most of its pairs of characters are: 水稻技术 finds 水稻育秧技术.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from .course import Course

MAX_QUERY_CHARACTERS: Final = 200
MOST_PAIRS: Final = 0.6
"""The share of a Chinese run's pairs that must be found: two of three, three of five."""

_TITLE, _ELSEWHERE, _PAIRS = 8.0, 3.0, 1.0
_IDEOGRAPHS: Final = re.compile(r"[\u3400-\u9fff\uf900-\ufaff]+")


def fold(text: str) -> str:
    """The text as it is compared: full width and half, capital and small, é and e are one."""
    apart = unicodedata.normalize("NFKD", text.casefold())
    return "".join(one for one in apart if not unicodedata.combining(one))


@dataclass(frozen=True, slots=True)
class Query:
    """What is looked for; empty parts ask for nothing."""

    text: str = ""
    tag: str = ""
    unit: str = ""
    teacher: str = ""


@dataclass(frozen=True, slots=True)
class _Entry:
    course: Course
    title: str
    rest: str


class Index:
    """The courses in memory, ready to be searched; ten thousand take some milliseconds."""

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def put(self, course: Course) -> None:
        """Take a course in, in the place of an older revision."""
        chapters = " ".join(one.title for one in course.chapters)
        rest = (course.teacher, course.unit, *course.tags, course.description, chapters, course.id)
        self._entries[course.id] = _Entry(course, fold(course.title), fold("\n".join(rest)))

    def remove(self, course_id: str) -> None:
        """Forget a course; one that is not here is passed over."""
        self._entries.pop(course_id, None)

    def find(self, query: Query) -> list[Course]:
        """The courses that fit: the best first, among equals the newest."""
        words = fold(query.text[:MAX_QUERY_CHARACTERS]).split()
        scored = []
        for entry in self._entries.values():
            course = entry.course
            if (
                (query.tag and query.tag not in course.tags)
                or (query.unit and query.unit != course.unit)
                or (query.teacher and query.teacher != course.teacher)
            ):
                continue
            scores = [_score(word, entry) for word in words]
            if all(scores):
                scored.append((sum(scores), course.created, course.id, course))
        scored.sort(key=lambda one: one[:3], reverse=True)
        return [one[3] for one in scored]

    def tags(self) -> list[tuple[str, int]]:
        """Every tag with the number of its courses, the most frequent first."""
        return _counted(tag for entry in self._entries.values() for tag in entry.course.tags)

    def units(self) -> list[tuple[str, int]]:
        """Every unit with the number of its courses, the most frequent first."""
        found = (entry.course.unit for entry in self._entries.values())
        return _counted(unit for unit in found if unit)


def _score(word: str, entry: _Entry) -> float:
    """How well one folded word fits, 0 if it does not."""
    if word in entry.title:
        return _TITLE
    if word in entry.rest:
        return _ELSEWHERE
    runs = _IDEOGRAPHS.findall(word)
    if not runs or "".join(runs) != word:
        return 0.0
    pairs = {run[i : i + 2] for run in runs for i in range(len(run) - 1)}
    found = sum(pair in entry.title or pair in entry.rest for pair in pairs)
    return _PAIRS if len(pairs) > 1 and found >= MOST_PAIRS * len(pairs) else 0.0


def _counted(names: Iterable[str]) -> list[tuple[str, int]]:
    counts: dict[str, int] = {}
    for name in names:
        counts[name] = counts.get(name, 0) + 1
    return sorted(counts.items(), key=lambda one: (-one[1], one[0]))
