"""Who may do what on whose unit, as a table."""

from __future__ import annotations

import pytest

from schedule.errors import Refused
from schedule.rights import (
    ALLOWED,
    Action,
    Grant,
    Role,
    demand,
    lineage,
    may,
    may_approve,
    overlap,
    parent_path,
    places,
)

CENTRE, PROVINCE, CITY, OTHER = "1/", "1/2/", "1/2/3/", "1/20/"


@pytest.mark.parametrize(
    ("role", "actions"),
    [
        (Role.ADMINISTRATOR, "see plan present control approve reply count audit"),
        (Role.PRESENTER, "see plan present control"),
        (Role.OPERATOR, "see control reply count"),
        (Role.VIEWER, "see"),
    ],
)
def test_a_role_allows_what_its_row_says_and_no_more(role: Role, actions: str) -> None:
    allowed = {Action(one) for one in actions.split()}
    rooms = {Action.KEEP_ROOMS, Action.KEEP_PEOPLE, Action.KEEP_UNITS}
    assert ALLOWED[role] - rooms == allowed
    assert (ALLOWED[role] >= rooms) == (role is Role.ADMINISTRATOR)


@pytest.mark.parametrize(
    ("granted", "asked", "allowed"),
    [
        (PROVINCE, PROVINCE, True),
        (PROVINCE, CITY, True),  # all that is below
        (PROVINCE, CENTRE, False),  # nothing above
        (PROVINCE, OTHER, False),  # nothing beside, though "1/2" begins "1/20"
    ],
)
def test_a_grant_holds_for_its_unit_and_all_below(granted: str, asked: str, allowed: bool) -> None:
    assert may([Grant(Role.ADMINISTRATOR, granted)], Action.PLAN, asked) is allowed


def test_no_grant_allows_nothing() -> None:
    with pytest.raises(Refused, match="do not allow you to see"):
        demand([], Action.SEE, CENTRE)


def test_a_plan_is_approved_by_the_unit_above() -> None:
    assert not may_approve([Grant(Role.ADMINISTRATOR, CITY)], CITY)
    assert may_approve([Grant(Role.ADMINISTRATOR, PROVINCE)], CITY)
    assert may_approve([Grant(Role.ADMINISTRATOR, CENTRE)], CENTRE)
    assert not may_approve([Grant(Role.PRESENTER, PROVINCE)], CITY)


def test_the_places_of_a_right_are_the_tops_of_its_subtrees() -> None:
    grants = [
        Grant(Role.OPERATOR, CITY),
        Grant(Role.OPERATOR, PROVINCE),
        Grant(Role.OPERATOR, OTHER),
        Grant(Role.VIEWER, CENTRE),
    ]
    assert list(places(grants, Action.COUNT)) == [PROVINCE, OTHER]


def test_paths() -> None:
    assert parent_path(CITY) == PROVINCE
    assert parent_path(CENTRE) == ""
    assert lineage(CITY) == [CENTRE, PROVINCE, CITY]
    assert overlap(CITY, CENTRE)
    assert not overlap(PROVINCE, OTHER)
