"""A chain of real nodes with a bad line at every hop, measured by a viewer at its end."""

from __future__ import annotations

import pytest

from tests.lab.line import Conditions
from tests.lab.loss import LossRow, loss
from tests.lab.ports import Ports
from tests.lab.probe import KINDS

pytestmark = [pytest.mark.live, pytest.mark.alone]


async def run(conditions: Conditions, *, hops: int = 4, seconds: float = 8.0) -> LossRow:
    row = await loss(hops, conditions, seconds, 1, Ports(), 1, lambda _: None)
    for kind in KINDS:
        assert row.tracks[kind][0].expected > 40 * seconds, f"hardly any {kind} arrived"
    assert row.disturbed == 0
    return row


async def test_four_hops_of_10_percent_leave_half_a_percent_at_most() -> None:
    """Must show 1 of issue 3, in short; every hop also has 30 ms of delay."""
    row = await run(Conditions(loss=0.10, delay_ms=30))
    assert row.unrepaired_share("video") <= 0.005
    assert row.unrepaired_share("audio") <= 0.005
    # The lines were really bad: four times ten percent cannot pass unnoticed.
    assert row.tracks["video"][0].repaired > 0.2 * row.tracks["video"][0].expected


async def test_bursts_jitter_and_reordering_are_repaired_without_a_flood_of_repeats() -> None:
    conditions = Conditions(loss=0.03, burst=4, delay_ms=15, jitter_ms=10, reorder=0.02)
    row = await run(conditions, hops=2)
    for kind in KINDS:
        assert row.unrepaired_share(kind) <= 0.005
        figures = row.tracks[kind][0]
        assert figures.duplicates <= 0.1 * figures.expected
