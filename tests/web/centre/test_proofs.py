"""A village's evening at the centre: watched live in part, replayed, counted, corrected."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import select, update

from media.county import County
from media.logbook import Logbook
from schedule import settling, units
from schedule.tables import Attendance, Occurrence
from tests.schedule.network import NOW, Network, utc
from tests.web.centre.people import token
from tests.web.centre.test_plans import BOTH
from tests.web.centre.test_signin import Open
from tests.web.test_proofs import gap, played, present
from tests.web.village import DAY, STATION, pair
from web.centre.centre import Centre
from web.proofs import Report, Teller
from web.serve import _keep_proofs

BEGINS = utc("2026-03-02T01:00")


async def a_class(network: Network) -> int:
    """A class of 45 minutes that the village was asked to, and that was on the air."""
    async with network.store.writing() as connection:
        unit = network.units["P1Ax"].id
        await units.add_place(connection, "station", unit, STATION, "Shangping")
    saved = await network.confirmed(
        network.draft("P1", audience=(("subtree", network.units["P1"].id),))
    )
    async with network.store.writing() as connection:
        own = Occurrence.series_id == saved.series.id
        values = {"state": "ended", "on_air_at": BEGINS, "ended_at": BEGINS + timedelta(minutes=45)}
        await connection.execute(update(Occurrence).where(own).values(values))
        found = await connection.scalar(select(Occurrence.id).where(own))
    assert found is not None
    return found


async def row(network: Network) -> Any:
    await settling.settle(network.store, NOW + timedelta(days=3))
    async with network.store.reading() as connection:
        query = select(Attendance.people, Attendance.live_s, Attendance.replay_s, Attendance.seen_s)
        return tuple((await connection.execute(query)).one())


@BOTH
async def test_a_replay_counts_once_with_what_was_seen_live_and_heads_are_corrected(
    network: Network, browser: Open, tmp_path: Path
) -> None:
    lesson, node = await a_class(network), await browser("")
    live = {
        "source": "node/1", "occurrence_id": lesson, "attendee_kind": "station",
        "station_code": STATION, "joined_at": "2026-03-02T01:00:00Z",
        "seen_at": "2026-03-02T01:10:00Z", "left_at": "2026-03-02T01:10:00Z",
    }  # fmt: skip
    await node.ask("POST", "/api/reports/stays", {"reports": [live]}, headers=token(relay=True))

    async def send(path: str, reports: Sequence[Report]) -> Sequence[str]:
        answer = await node.ask("POST", path, {"reports": reports}, headers=token(relay=True))
        assert answer.status == 200, answer.text
        unknown: list[str] = answer.json["unknown"]
        return unknown

    county = County(tmp_path / "county", name="longhua")
    county.open()
    book = Logbook(tmp_path / "box", pair(county, tmp_path / "box"))
    item = f"replay-{lesson}"
    for body in (played(item, gaps=(gap(900, 1500),)), present(item, 30), present(item, 25, "Li")):
        book.add(STATION, DAY + len(book.lines), "", body)
    county.deliver(STATION, [line.text for line in book.lines], DAY)
    teller = Teller(county, send)
    assert await teller.tell()
    # Ten minutes live, and in the replay 10 s to 900 s and 1500 s to the end: 600 + 300 + 1200.
    assert await row(network) == (25, 600, 2090, 2100)
    # The county's book is lost: the box sends everything again, and nothing counts twice.
    county.told(0)
    assert await teller.tell()
    assert await row(network) == (25, 600, 2090, 2100)
    county.close()


async def test_the_centres_own_boxes_count_without_a_line(
    network: Network, centre: Centre, tmp_path: Path
) -> None:
    lesson = await a_class(network)
    county = County(tmp_path / "county", name="here")
    county.open()
    book = Logbook(tmp_path / "box", pair(county, tmp_path / "box"))
    for body in (played(f"course-{lesson}"), present(f"course-{lesson}", 4), played("course-999")):
        book.add(STATION, DAY, "", body)
    county.deliver(STATION, [line.text for line in book.lines], DAY)
    assert await Teller(county, _keep_proofs(centre)).tell()
    assert await row(network) == (4, 0, 2690, 2690)
    county.close()
