"""Who may do what on whose unit (pure).

A grant is a role for a unit; it holds for that unit and all that is below it. What a role may do
stands in one table, and nothing is allowed that does not stand there. Being asked to attend gives
the right to see and attend, whatever the roles: that is decided by the audience, not here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from schedule.errors import Refused


class Role(StrEnum):
    """What a person is for a unit."""

    ADMINISTRATOR = "administrator"
    PRESENTER = "presenter"
    OPERATOR = "operator"
    VIEWER = "viewer"


class Action(StrEnum):
    """What somebody may want to do on a unit."""

    SEE = "see"  # its plans, its rooms, its attendance
    PLAN = "plan"  # courses and meetings that it organises
    PRESENT = "present"  # go on air in its courses and meetings
    CONTROL = "control"  # begin, end, extend what it organises
    APPROVE = "approve"  # what units below it planned
    REPLY = "reply"  # to invitations in its name
    COUNT = "count"  # head counts and roll-calls in its rooms
    KEEP_ROOMS = "keep rooms"  # its sites and stations
    KEEP_PEOPLE = "keep people"  # its people and their roles
    KEEP_UNITS = "keep units"  # itself and the units below
    AUDIT = "audit"  # read who changed what


ALLOWED: dict[Role, frozenset[Action]] = {
    Role.ADMINISTRATOR: frozenset(Action),
    Role.PRESENTER: frozenset({Action.SEE, Action.PLAN, Action.PRESENT, Action.CONTROL}),
    Role.OPERATOR: frozenset(
        {Action.SEE, Action.REPLY, Action.COUNT, Action.KEEP_ROOMS, Action.CONTROL}
    ),
    Role.VIEWER: frozenset({Action.SEE}),
}


@dataclass(frozen=True, slots=True)
class Grant:
    """A role for the unit at `path` and all below it."""

    role: Role
    path: str


def may(grants: Iterable[Grant], action: Action, path: str) -> bool:
    """Whether one of the grants allows the action on the unit at `path`."""
    return any(path.startswith(one.path) and action in ALLOWED[one.role] for one in grants)


def demand(grants: Iterable[Grant], action: Action, path: str) -> None:
    """Refused, unless the action is allowed."""
    if not may(grants, action, path):
        raise Refused(f"your roles do not allow you to {action} here")


def may_approve(grants: Iterable[Grant], organiser_path: str) -> bool:
    """Whether somebody may approve a plan of this unit: for the unit above, not for itself.

    The root's own plans are approved by whoever may approve at the root.
    """
    return may(grants, Action.APPROVE, parent_path(organiser_path) or organiser_path)


def places(grants: Iterable[Grant], action: Action) -> Sequence[str]:
    """The tops of all subtrees on which the action is allowed: sorted, none within another."""
    tops: list[str] = []
    for path in sorted({one.path for one in grants if action in ALLOWED[one.role]}):
        if not tops or not path.startswith(tops[-1]):
            tops.append(path)
    return tops


# Paths: the ids from the root down, each followed by a slash.


def parent_path(path: str) -> str:
    """The path of the unit above, "" for a root."""
    return path[: path.rstrip("/").rfind("/") + 1]


def lineage(path: str) -> list[str]:
    """The paths of the unit and all above it, the root first."""
    return [path[: at + 1] for at, one in enumerate(path) if one == "/"]


def overlap(one: str, other: str) -> bool:
    """Whether two subtrees have a unit in common: then one is within the other."""
    return one.startswith(other) or other.startswith(one)
