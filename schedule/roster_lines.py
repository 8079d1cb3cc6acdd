"""The lines of a file that is imported: which are good, and why the others are not (pure)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from schedule import fields
from schedule.errors import Invalid

MOST_BAD_LINES = 1_000


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that cannot be imported: its number in the file, its column or "", and the reason."""

    line: int
    column: str
    reason: str


@dataclass(slots=True)
class Outcome:
    """What an import did, or would do. bad: the first MOST_BAD_LINES of all `bad_lines`."""

    added: int = 0
    changed: int = 0
    unchanged: int = 0
    bad_lines: int = 0
    bad: list[BadLine] = field(default_factory=list)

    def refuse(self, line: int, column: str, reason: str) -> None:
        self.bad_lines += 1
        if len(self.bad) < MOST_BAD_LINES:
            self.bad.append(BadLine(line, column, reason))


Line = tuple[int, dict[str, str]]


def checked(
    lines: Iterable[Line],
    key: str,
    outcome: Outcome,
    check: Callable[[int, dict[str, str]], dict[str, Any]],
) -> Iterator[tuple[int, dict[str, str], dict[str, Any]]]:
    """The lines that are good by themselves, with the values that they stand for."""
    seen: dict[str, int] = {}
    for line, row in lines:
        try:
            code = fields.code(row[key], key)
            if code in seen:
                raise Invalid(f"the {key} {code!r} is in line {seen[code]} already", key)
            values = check(line, row)
        except Invalid as error:
            outcome.refuse(line, error.field, str(error))
            continue
        seen[code] = line
        yield line, row, values | {key: code}


def allowed(path: str, within: Sequence[str] | None) -> bool:
    return within is None or any(path.startswith(top) for top in within)


def count(
    outcome: Outcome,
    good: Mapping[str, tuple[int, dict[str, Any]]],
    before: Mapping[str, Mapping[str, Any]],
) -> None:
    for code, (_line, values) in good.items():
        if code not in before:
            outcome.added += 1
        elif any(before[code].get(name) != value for name, value in values.items()):
            outcome.changed += 1
        else:
            outcome.unchanged += 1
