"""The preferred city dies or falls silent under the county's viewers, and comes back."""

from __future__ import annotations

import signal

import pytest

from tests.lab.kill import kill
from tests.lab.ports import Ports

pytestmark = [pytest.mark.live, pytest.mark.alone]

VIEWERS = 10
LONGEST_STALL_MS = 6000.0
"""A picture that only comes back by a time-out, or not at all, is later than that."""


async def test_viewers_of_a_killed_parent_lose_nothing_nor_at_its_return() -> None:
    """Must show 2 and 3 of issue 3, once: a short stall, every packet, the same session."""
    row = await kill(1, VIEWERS, signal.SIGKILL, Ports(), lambda _: None)
    (found,) = row.rounds
    assert found.disturbed == 0
    assert found.missing == 0
    assert found.failback_missing == 0
    # How short it is on a quiet machine is measured by `python -m tests.lab kill`.
    assert max(row.stalls_ms) <= LONGEST_STALL_MS


async def test_viewers_of_a_silent_parent_lose_nothing() -> None:
    """A stopped process refuses nothing and closes nothing: only its silence tells."""
    row = await kill(1, VIEWERS, signal.SIGSTOP, Ports(), lambda _: None, failback=False)
    (found,) = row.rounds
    assert found.disturbed == 0
    assert found.missing == 0
    assert max(row.stalls_ms) <= LONGEST_STALL_MS
