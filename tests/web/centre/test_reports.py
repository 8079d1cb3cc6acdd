"""What nodes report of who was there: rooms by their ids, village boxes by their codes."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import select

from schedule.tables import Join, Occurrence
from tests.schedule.network import Network
from tests.web.centre.people import token
from tests.web.centre.test_plans import BOTH
from tests.web.centre.test_signin import Open


@BOTH
async def test_a_village_box_is_known_by_its_code(network: Network, browser: Open) -> None:
    """What cannot be anybody is named in the answer, and holds up nobody else's report."""
    saved = await network.confirmed(network.draft("P1"))
    async with network.store.reading() as connection:
        mine = Occurrence.series_id == saved.series.id
        occurrence = (await connection.execute(select(Occurrence.id).where(mine))).scalar_one()

    def stay(source: str, **who: Any) -> dict[str, Any]:
        return {
            "source": source, "occurrence_id": occurrence, "attendee_kind": "station",
            "joined_at": "2026-03-02T01:00:00Z", "seen_at": "2026-03-02T01:10:00Z",
        } | who  # fmt: skip

    reports = [stay("a", station_code="P1Ax-s"), stay("b", station_code="nobody-s")]
    node = await browser("")
    answer = await node.ask(
        "POST", "/api/reports/stays", {"reports": reports}, headers=token(relay=True)
    )
    assert (answer.status, answer.json) == (200, {"kept": 1, "unknown": ["b"]})
    async with network.store.reading() as connection:
        kept = (await connection.execute(select(Join.source, Join.attendee))).all()
    assert [tuple(one) for one in kept] == [("a", f"station:{network.stations['P1Ax']}")]


@pytest.mark.parametrize(
    "who",
    [
        {},
        {"attendee_id": 1, "station_code": "P1Ax-s"},
        {"attendee_kind": "site", "station_code": "P1Ax-s"},
    ],
    ids=["nobody", "two at once", "a room by a station's code"],
)
async def test_a_report_of_nobody_is_refused(
    network: Network, browser: Open, who: dict[str, Any]
) -> None:
    one = {
        "source": "a", "occurrence_id": 1, "attendee_kind": "station",
        "joined_at": "2026-03-02T01:00:00Z", "seen_at": "2026-03-02T01:10:00Z",
    } | who  # fmt: skip
    node = await browser("")
    answer = await node.ask(
        "POST", "/api/reports/stays", {"reports": [one]}, headers=token(relay=True)
    )
    assert answer.status == 400
