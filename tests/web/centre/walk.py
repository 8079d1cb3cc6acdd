"""Every question that the API's document lets somebody ask without changing anything."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

PAGING = ("after", "limit")
# A token is another one each time.
MADE_ANEW = ("see_pass",)


@dataclass(frozen=True, slots=True)
class Question:
    """A GET. operation: its name in the document; listed: it has pages."""

    operation: str
    path: str
    query: tuple[tuple[str, str], ...]
    listed: bool

    @property
    def address(self) -> str:
        return f"{self.path}?{urlencode(self.query)}" if self.query else self.path


def questions(document: Mapping[str, Any], known: Mapping[str, Sequence[str]]) -> list[Question]:
    """All GETs of an OpenAPI document that answer something, with every known value of what they
    need.

    known: values by the name of a parameter, or of "operation.parameter" where it is not the same
    everywhere. What need not be said is left out, and then said, one after the other, with the
    first two values that are known. AssertionError for something that must be said and is not
    known: a route that nobody asks would not be tested.
    """
    return [
        question
        for path, methods in document["paths"].items()
        if "200" in methods.get("get", {"responses": ()})["responses"]
        and methods["get"]["operationId"] not in MADE_ANEW
        for question in _of(path, methods["get"], known)
    ]


def _of(
    path: str, operation: Mapping[str, Any], known: Mapping[str, Sequence[str]]
) -> Iterator[Question]:
    name = operation["operationId"]
    parameters = operation["parameters"]

    def values(parameter: str) -> Sequence[str]:
        return known.get(f"{name}.{parameter}", known.get(parameter, ()))

    needed = [one["name"] for one in parameters if one["required"]]
    for one in needed:
        # None is given where there is none: then there is nothing to ask.
        is_known = f"{name}.{one}" in known or one in known
        assert is_known, f"what should {name} be asked as {one!r}?"
    more = [one["name"] for one in parameters if not one["required"] and one["name"] not in PAGING]
    listed = any(one["name"] == "after" for one in parameters)
    in_path = {one["name"] for one in parameters if one["in"] == "path"}
    for said in itertools.product(*map(values, needed)):
        pairs = dict(zip(needed, said, strict=True))
        where = path.format(**pairs)
        base = tuple((key, value) for key, value in pairs.items() if key not in in_path)
        yield Question(name, where, base, listed)
        for one in more:
            for value in values(one)[:2]:
                yield Question(name, where, (*base, (one, value)), listed)
