"""A minute of the soak: `python -m tests.lab soak` runs it for as long as one likes."""

from __future__ import annotations

import pytest

from tests.lab.ports import Ports
from tests.lab.soak import soak

pytestmark = pytest.mark.live


async def test_nothing_is_left_of_viewers_and_parents_that_came_and_went() -> None:
    row = await soak(0.3, 8.0, Ports(), 1, lambda _: None)
    assert row.joins >= 5
    assert row.kills >= 1
    assert row.disturbed == 0
    assert row.unexplained == []
    for life in row.lives:
        # A session has two tasks and, under way, an HTTP connection: count what is beyond those.
        sessions = [sample.sessions for sample in life.samples]
        allowed = 4 + 3 * max(0, max(sessions) - sessions[0])
        for first, last in (life.descriptors, life.threads, life.tasks):
            assert last <= first + allowed, f"{life.name}: {life.samples}"
