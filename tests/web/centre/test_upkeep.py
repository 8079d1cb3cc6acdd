"""What people look after: their feeds, drafts that go, files that come in, messages that stuck."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import insert, select, update

from schedule import rooms
from schedule.tables import Attendance, Message, Occurrence, Series
from tests.schedule.network import NOW, Network
from tests.web.centre.test_plans import BOTH, plan
from tests.web.centre.test_rights import ICS
from tests.web.centre.test_signin import Open
from web.centre.centre import Centre


@BOTH
async def test_a_feed_gets_another_address_and_the_old_one_is_gone(
    network: Network, browser: Open
) -> None:
    boss, nobody = await browser("boss-P1A"), await browser("")
    unit = network.units["P1A"].id
    made = (await boss.post("/api/feeds", {"kind": "unit", "target_id": unit})).json
    assert (made["title"], made["created_at"]) == ("P1A", "2026-03-01T04:00:00Z")
    fresh = (await boss.post(f"/api/feeds/{made['id']}/renew")).json
    assert fresh["id"] == made["id"]
    old, new = (one["url"].removeprefix("http://centre.example") for one in (made, fresh))
    assert (await nobody.get(old)).status == 404
    assert (await nobody.get(new)).status == 200
    (listed,) = (await boss.get("/api/feeds")).json
    assert (listed["title"], listed["url"]) == ("P1A", None)
    other = await browser("boss-C")
    assert (await other.post(f"/api/feeds/{made['id']}/renew")).status == 404


async def in_state(network: Network, browser: Open, state: str) -> int:
    boss = await browser("boss-P1A")
    made = int((await boss.post("/api/series", plan(network, "P1A"))).json["series"]["id"])
    if state != "draft":
        await boss.post(f"/api/series/{made}/submit")
    if state == "cancelled":
        await boss.post(f"/api/series/{made}/cancel")
    return made


@BOTH
async def test_pages_of_slides_are_named_as_long_as_a_deck_has_them(
    network: Network, browser: Open
) -> None:
    await in_state(network, browser, "confirmed")
    async with network.store.writing() as connection:
        meeting = int(await connection.scalar(select(Occurrence.id)) or 0)
        one, two = ([{"sha256": sign * 64}, {"sha256": "f" * 64}] for sign in "ab")
        deck = await rooms.add_deck(connection, meeting, "a", "application/pdf", one, NOW, None)
        await rooms.add_deck(connection, meeting, "b", "application/pdf", two, NOW, None)
        assert await rooms.named_pages(connection) == {"a" * 64, "b" * 64, "f" * 64}
        await rooms.remove_deck(connection, meeting, deck.id)
        assert await rooms.named_pages(connection) == {"b" * 64, "f" * 64}


@BOTH
async def test_a_draft_and_what_was_cancelled_before_it_began_can_be_taken_out(
    network: Network, browser: Open
) -> None:
    boss = await browser("boss-P1A")
    for state in ("draft", "cancelled"):
        made = await in_state(network, browser, state)
        assert (await boss.ask("DELETE", f"/api/series/{made}")).status == 204, state
        assert (await boss.get(f"/api/series/{made}")).status == 404
    async with network.store.reading() as connection:
        assert (await connection.execute(select(Series.id))).first() is None
        assert (await connection.execute(select(Occurrence.id))).first() is None


@BOTH
@pytest.mark.parametrize("kept", ["confirmed", "began", "attended"])
async def test_what_concerns_others_or_the_record_is_not_taken_out(
    network: Network, browser: Open, kept: str
) -> None:
    boss = await browser("boss-P1A")
    made = await in_state(network, browser, "confirmed" if kept == "confirmed" else "cancelled")
    own = Occurrence.series_id == made
    async with network.store.writing() as connection:
        if kept == "began":
            await connection.execute(update(Occurrence).where(own).values(state="ended"))
        if kept == "attended":
            occurrence = await connection.scalar(select(Occurrence.id).where(own))
            row = {
                "occurrence_id": occurrence, "unit_id": 1, "attendee": "site:1",
                "day": 20260302, "people": 1, "live_s": 9, "replay_s": 0, "seen_s": 9, "class_s": 9,
                "first": 1,
            }  # fmt: skip
            await connection.execute(insert(Attendance), row)
    answer = await boss.ask("DELETE", f"/api/series/{made}")
    assert answer.status == 409
    assert (await boss.get(f"/api/series/{made}")).status == 200


@BOTH
async def test_a_calendar_file_is_tried_before_it_is_entered(
    network: Network, browser: Open
) -> None:
    boss, unit = await browser("boss-P1A"), network.units["P1A"].id

    async def send(dry_run: int) -> Any:
        headers = {"Content-Type": "text/calendar"}
        answer = await boss.ask(
            "POST", "/api/series/import", data=ICS, headers=headers, unit_id=unit, dry_run=dry_run
        )
        return answer.json

    async def titles() -> list[str]:
        found = await boss.get("/api/series", unit_id=unit)
        return [one["plan"]["title"] for one in found.json["items"]]

    tried = await send(1)
    assert [one["plan"]["title"] for one in tried["saved"]] == ["From a file"]
    assert await titles() == []
    assert len((await send(0))["saved"]) == 1
    assert await titles() == ["From a file"]
    again = await send(1)
    assert (again["saved"], [one["title"] for one in again["skipped"]]) == ([], ["From a file"])


async def test_what_cannot_be_read_is_told_in_the_trial(network: Network, browser: Open) -> None:
    boss, unit = await browser("boss-P1A"), network.units["P1A"].id
    headers = {"Content-Type": "text/calendar"}
    answer = await boss.ask(
        "POST", "/api/series/import", data=b"no calendar", headers=headers, unit_id=unit, dry_run=1
    )
    assert answer.status == 400


@BOTH
async def test_a_stuck_message_is_sent_again_or_let_be(
    network: Network, centre: Centre, browser: Open
) -> None:
    boss = await browser("boss-C")
    async with network.store.writing() as connection:
        for number, state in enumerate(("failed", "unknown", "sent")):
            values = {
                "key": f"k{number}", "channel": "email", "recipient": "a@b.cn", "subject": "S",
                "body": "B", "state": state, "try_at": NOW, "expires_at": NOW + timedelta(days=1),
                "error": "550 no",
            }  # fmt: skip
            await connection.execute(insert(Message), values)
    items = (await boss.get("/api/messages")).json["items"]
    assert [one["state"] for one in items] == ["unknown", "failed"]
    assert items[0]["try_at"] == "2026-03-01T04:00:00Z"
    assert (await boss.post(f"/api/messages/{items[0]['id']}/ignore")).status == 204
    assert (await boss.post(f"/api/messages/{items[0]['id']}/ignore")).status == 409
    assert (await boss.post(f"/api/messages/{items[1]['id']}/send")).status == 204
    assert (await boss.get("/api/messages")).json["items"] == []
    entries = (await boss.get("/api/audit", limit=2)).json["items"]
    assert [(one["action"], one["person_name"]) for one in entries] == [
        ("send again", "Boss C"), ("ignore", "Boss C"),
    ]  # fmt: skip


@BOTH
async def test_a_units_logbook_goes_out_as_a_file_of_its_classes_only(
    network: Network, browser: Open
) -> None:
    boss, unit = await browser("boss-P1A"), network.units["P1A"].id
    saved = await network.confirmed(network.draft("P1A", title="=1+1"))
    async with network.store.writing() as connection:
        own = Occurrence.series_id == saved.series.id
        occurrence = await connection.scalar(select(Occurrence.id).where(own))
        for place, attendee in ((unit, "site:1"), (network.units["P1Ax"].id, "site:2")):
            row = {
                "occurrence_id": occurrence, "unit_id": place, "attendee": attendee,
                "day": 20260302, "people": 12, "live_s": 1800, "replay_s": 600, "seen_s": 2400,
                "class_s": 2400, "first": 1,
            }  # fmt: skip
            await connection.execute(insert(Attendance), row)
    where = f"/api/attendance/{unit}/logbook.csv"
    answer = await boss.get(where, from_="2026-03-01", to="2026-03-31")
    assert answer.headers["Content-Disposition"] == f'attachment; filename="logbook-{unit}.csv"'
    assert answer.text.removeprefix("\ufeff").splitlines() == [
        "starts,time_zone,title,people,live_minutes,replay_minutes,minutes",
        "2026-03-02 09:00,Asia/Shanghai,'=1+1,12,30.0,10.0,40.0",
    ]
