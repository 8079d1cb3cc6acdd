"""A small network with a name for everything, and short ways to plan in it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from schedule import people, planning, units
from schedule.people import NewPerson
from schedule.rights import Role
from schedule.series import Draft
from schedule.store import Store
from schedule.units import NewUnit, UnitInfo

# A Sunday noon in Shanghai; the week that is planned begins the day after.
NOW = datetime(2026, 3, 1, 4, tzinfo=UTC)
MONDAY_9 = datetime(2026, 3, 2, 9)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@dataclass
class Network:
    """Centre C, provinces P1, P2, cities P1A ..., counties P1Ax ... with a site and a station."""

    store: Store
    units: dict[str, UnitInfo]
    people: dict[str, int]
    sites: dict[str, int]
    stations: dict[str, int]

    def draft(self, unit: str = "P1", **more: object) -> Draft:
        values: dict[str, object] = {
            "kind": "course",
            "title": "Mathematics",
            "unit_id": self.units[unit].id,
            "starts_local": MONDAY_9,
            "duration_s": 2700,
            "time_zone": "Asia/Shanghai",
        }
        return Draft(**(values | more))  # type: ignore[arg-type]

    async def confirmed(self, draft: Draft, *, anyway: bool = False) -> planning.Saved:
        async with self.store.writing() as connection:
            saved = await planning.save(connection, draft, NOW, None)
            return await planning.submit(connection, saved.series.id, NOW, None, anyway=anyway)


TREE = [("C", None), ("P1", "C"), ("P2", "C"), ("P1A", "P1"), ("P1B", "P1"), ("P2A", "P2"),
        ("P1Ax", "P1A"), ("P1Ay", "P1A"), ("P1Bx", "P1B"), ("P2Ax", "P2A")]  # fmt: skip


async def build(store: Store) -> None:
    made: dict[str, UnitInfo] = {}
    tiers = ["centre", "province", "city", "county"]
    async with store.writing() as connection:
        for code, parent in TREE:
            above = made[parent] if parent else None
            tier = tiers[above.depth + 1 if above else 0]
            parent_id = above.id if above else None
            made[code] = await units.add_unit(connection, NewUnit(code, code, tier, parent_id))
            person = await people.add_person(
                connection, NewPerson(made[code].id, f"boss-{code}", f"Boss {code}", f"{code}@x.cn")
            )
            await people.grant(connection, person.id, made[code].id, Role.ADMINISTRATOR)
            if tier == "county":
                unit_id = made[code].id
                await units.add_place(connection, "site", unit_id, f"{code}-1", "Hall")
                await units.add_place(connection, "station", unit_id, f"{code}-s", "Box")


async def load(store: Store) -> Network:
    async with store.reading() as connection:
        found = {one.code: one for one in await units.subtree(connection, "1/")}
        known = await people.people_below(connection, "1/")
        places = {
            kind: {
                one.code.rpartition("-")[0]: one.id
                for one in await units.places_below(connection, kind, "1/")
            }
            for kind in units.PLACES
        }
    bosses = {one.login.removeprefix("boss-"): one.id for one in known}
    return Network(store, found, bosses, places["site"], places["station"])
