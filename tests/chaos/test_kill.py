"""The preferred city dies or falls silent under the county's viewers, and comes back."""

from __future__ import annotations

import signal

import pytest

from tests.lab.kill import kill
from tests.lab.ports import Ports

pytestmark = pytest.mark.live

VIEWERS = 10


async def test_viewers_of_a_killed_parent_lose_nothing_nor_at_its_return() -> None:
    """Must show 2 and 3 of issue 3, once: a short stall, every packet, the same session."""
    row = await kill(1, VIEWERS, signal.SIGKILL, Ports(), lambda _: None)
    (found,) = row.rounds
    assert found.disturbed == 0
    assert found.missing == 0
    assert found.failback_missing == 0
    # What a busy machine adds is no fault of the node's.
    assert max(row.stalls_ms) <= 1000 + 2 * found.lag_max_ms


async def test_viewers_of_a_silent_parent_lose_nothing() -> None:
    """A stopped process refuses nothing and closes nothing: only its silence tells."""
    row = await kill(1, VIEWERS, signal.SIGSTOP, Ports(), lambda _: None, failback=False)
    (found,) = row.rounds
    assert found.disturbed == 0
    assert found.missing == 0
    assert max(row.stalls_ms) <= 2000 + 2 * found.lag_max_ms
