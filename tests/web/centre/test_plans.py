"""A plan's way through the API, from the editor to the calendar; on both databases."""

from __future__ import annotations

from typing import Any

import pytest

from tests.schedule.network import Network
from tests.web.centre.people import Clock
from tests.web.centre.test_signin import Open

BOTH = pytest.mark.parametrize(
    "source",
    ["sqlite_folder", pytest.param("postgres_server", marks=pytest.mark.postgresql)],
    indirect=True,
)


def plan(network: Network, unit: str, **more: Any) -> dict[str, Any]:
    return {
        "kind": "course", "title": "Mathematics", "unit_id": network.units[unit].id,
        "starts_local": "2026-03-02T09:00", "duration_s": 2700, "time_zone": "Asia/Shanghai",
        "audience": [{"kind": "subtree", "id": network.units["P1A"].id}],
    } | more  # fmt: skip


@BOTH
async def test_a_plan_is_written_checked_confirmed_and_in_the_calendar(
    network: Network, browser: Open
) -> None:
    higher, lower = await browser("boss-P1"), await browser("boss-P1A")
    made = await higher.post("/api/series", plan(network, "P1"))
    series_id = made.json["series"]["id"]
    assert made.json["series"]["state"] == "draft"
    done = await higher.post(f"/api/series/{series_id}/submit")
    assert (done.json["series"]["state"], done.json["occurrences"]) == ("confirmed", 1)
    # The city's own plan at the same time is told while it is written, with a way out.
    found = (await lower.post("/api/series/check", {"plan": plan(network, "P1A")})).json
    assert [one["clash"] for one in found["findings"]] == ["audience"]
    assert found["findings"][0]["mine_yields"] is True
    assert found["ways"]["later"] == "2026-03-02T01:45:00Z"
    other = (await lower.post("/api/series", plan(network, "P1A"))).json["series"]["id"]
    refused = await lower.post(f"/api/series/{other}/submit")
    assert refused.status == 409
    assert refused.json["clashes"]["findings"][0]["other"]["series_id"] == series_id
    assert (await lower.post(f"/api/series/{other}/submit", anyway="1")).status == 200
    week = await lower.get(
        "/api/occurrences", from_="2026-03-01T00:00:00Z", to="2026-03-08T00:00:00+08:00",
        unit_id=network.units["P1A"].id,
    )  # fmt: skip
    assert {one["series_id"] for one in week.json["items"]} == {series_id, other}
    assert week.json["items"][0]["recurrence"] == "2026-03-02T09:00:00"
    today = await (await browser("boss-P1Ax")).get("/api/today")
    assert [one["series_id"] for one in today.json["items"]] == [series_id, other]


@BOTH
async def test_lists_come_in_pages(network: Network, browser: Open) -> None:
    one = await browser("boss-C")
    seen, after = [], ""
    for _ in range(6):
        page = await one.get("/api/people", unit_id=1, limit="3", after=after)
        seen += [person["login"] for person in page.json["items"]]
        after = page.json["next"]
        if after is None:
            break
    assert len(seen) == len(network.units)
    assert seen == sorted(set(seen))
    log = await one.get("/api/audit", limit="1")
    assert log.json["items"][0]["action"] == "sign in"


@BOTH
async def test_a_feed_is_read_without_signing_in_while_its_owner_may_see_it(
    network: Network, browser: Open, url: str, clock: Clock
) -> None:
    boss, nobody = await browser("boss-P1A"), await browser("")
    unit = network.units["P1A"].id
    made = (await boss.post("/api/series", plan(network, "P1A"))).json["series"]["id"]
    await boss.post(f"/api/series/{made}/submit")
    feed = (await boss.post("/api/feeds", {"kind": "unit", "target_id": unit})).json
    assert feed["url"].startswith("http://centre.example/feeds/")
    path = feed["url"].removeprefix("http://centre.example")
    answer = await nobody.get(path)
    assert answer.status == 200
    assert "SUMMARY:Mathematics" in answer.text
    same = await nobody.ask("GET", path, headers={"If-None-Match": answer.headers["ETag"]})
    assert same.status == 304
    clock.forward(minutes=1)
    await boss.post(f"/api/series/{made}/cancel")
    fresh = await nobody.ask("GET", path, headers={"If-None-Match": answer.headers["ETag"]})
    assert fresh.status == 200
    assert "STATUS:CANCELLED" in fresh.text
    # It is the owner's alone to remove.
    other = await browser("boss-C")
    assert (await other.ask("DELETE", f"/api/feeds/{feed['id']}")).status == 404
    assert [one["id"] for one in (await boss.get("/api/feeds")).json] == [feed["id"]]
    who = (await boss.get("/api/session")).json["person"]["id"]
    wish = {"unit_id": unit, "role": "administrator"}
    assert (await other.ask("DELETE", f"/api/people/{who}/roles", wish)).status == 200
    assert (await nobody.get(path)).status == 404
