"""Lists, duty and learning records for others."""

from __future__ import annotations

import csv
import io
from datetime import timedelta

from sqlalchemy import update

from schedule import learning, units
from schedule.reports import Attendee, CountReport, StayReport, report_counts, report_stays
from schedule.settling import settle
from schedule.tables import Occurrence
from tests.schedule.network import NOW, Network, utc

STARTS = utc("2026-03-02T01:00")
VIDEO = "https://w3id.org/xapi/video/extensions"


def table(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text.removeprefix("\ufeff"))))


async def lesson(network: Network) -> int:
    """45 minutes; P1Ax saw the first half and the end, P1Ay all of it, with one by name."""
    everybody = (("subtree", network.units["C"].id),)
    await network.confirmed(network.draft("C", title="=数学", audience=everybody))
    first, second = (Attendee("site", network.sites[code]) for code in ("P1Ax", "P1Ay"))

    def stay(source: str, who: Attendee, begins: int, ends: int) -> StayReport:
        joined, left = STARTS + timedelta(minutes=begins), STARTS + timedelta(minutes=ends)
        return StayReport(source, 1, who, joined, left, left)

    async with network.store.writing() as connection:
        await connection.execute(
            update(Occurrence).values(
                on_air_at=STARTS, ended_at=STARTS + timedelta(minutes=45), state="ended"
            )
        )
        stays = [stay("a", first, 0, 20), stay("b", first, 40, 45), stay("c", second, 0, 45)]
        await report_stays(connection, stays)
        await report_counts(connection, [CountReport("d", 1, second, STARTS, 12, ("boss-P1Ay",))])
        await units.change_unit(connection, network.units["P1Ax"].id, {"duty_minutes": 30})
        await units.change_unit(connection, network.units["P1Ay"].id, {"duty_minutes": 30})
    await settle(network.store, NOW)
    return 1


async def test_the_list_of_a_class(network: Network) -> None:
    one = await lesson(network)
    async with network.store.reading() as connection:
        pieces = [piece async for piece in learning.class_csv(connection, one, "1/")]
    found = {row["attendee"]: row for row in table("".join(pieces))}
    site, boss = f"site:{network.sites['P1Ay']}", f"person:{network.people['P1Ay']}"
    assert found[site]["people"] == "11"
    assert (found[boss]["name"], found[boss]["people"]) == ("Boss P1Ay", "1")
    assert [row["minutes"] for row in found.values()] == ["25.0", "45.0", "45.0"]


async def test_hours_against_the_duty(network: Network) -> None:
    await lesson(network)
    async with network.store.reading() as connection:
        text = "".join(await learning.duty_csv(connection, "1/", 20260301, 20260331))
    found = {row["unit"]: row for row in table(text)}
    assert (found["P1Ax"]["minutes"], found["P1Ax"]["met"]) == ("25.0", "no")
    assert (found["P1Ay"]["minutes"], found["P1Ay"]["met"]) == ("45.0", "yes")
    assert (found["C"]["units_below"], found["C"]["units_met"]) == ("2", "1")
    assert len(found) == len(network.units)


async def test_learning_records_say_what_was_watched_and_have_stable_ids(
    network: Network,
) -> None:
    one = await lesson(network)
    async with network.store.reading() as connection:
        found = await learning.statements(connection, one, NOW, "https://x.example/")
        again = await learning.statements(
            connection, one, NOW + timedelta(days=1), "https://x.example/"
        )
    assert found == again
    by_name = {one["actor"]["name"]: one for one in found}
    assert len(found) == 3
    assert by_name["Boss P1Ay"]["verb"]["id"].endswith("/completed")
    half = next(one for one in found if one["verb"]["id"].endswith("/terminated"))
    extensions = half["result"]["extensions"]
    assert extensions[f"{VIDEO}/played-segments"] == "0[.]1200[,]2400[.]2700"
    assert extensions[f"{VIDEO}/progress"] == 0.556
    assert half["result"] | {"extensions": None} == {
        "completion": False,
        "duration": "PT1500S",
        "extensions": None,
    }
    assert half["object"]["id"] == f"https://x.example/occurrences/{one}"
    assert half["timestamp"] == "2026-03-02T01:45:00Z"
    assert len({one["id"] for one in found}) == 3
