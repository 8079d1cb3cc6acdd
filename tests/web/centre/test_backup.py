"""Backup, wipe, restore by the commands: every list of the API answers as it did before."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from schedule import invitations, planning, reminders
from schedule.room_tables import Ballot
from schedule.settling import settle
from schedule.store import Store
from schedule.tables import (
    Base,
    Invitation,
    Message,
    Occurrence,
    Person,
    Series,
    Site,
    Station,
    Unit,
)
from schedule.timetable import Edit
from tests.schedule.conftest import Source, fresh, wipe
from tests.schedule.network import MONDAY_9, NOW, Network, load
from tests.web.centre.house import opened, served
from tests.web.centre.people import Browser, Clock, give_passwords, openapi, token
from tests.web.centre.test_rights import World, build, count, stay
from tests.web.centre.walk import questions
from web.centre.centre import Centre

ROOT = Path(__file__).parents[3]
# Few of a list on a page, so that pages are turned.
PAGE = "3"
MOST_PAGES = 50


@contextlib.asynccontextmanager
async def running(database: str, clock: Clock) -> AsyncIterator[tuple[Centre, Browser]]:
    """A centre with its API, and a browser in which nobody has signed in."""
    async with opened(database, clock) as centre, served(centre) as url:
        one = Browser(url)
        try:
            yield centre, one
        finally:
            await one.close()


async def live_through(centre: Centre, network: Network, boss: Browser) -> World:
    """Something in all that people see; where there is a way over HTTP, by that."""
    world = await build(network, centre)
    store = centre.store
    weekly = network.draft(
        "P2", title="每周一课", rule="FREQ=WEEKLY;COUNT=4", agenda="=1+1",
        audience=(
            ("unit", network.units["C"].id), ("subtree", network.units["P2"].id),
            ("site", network.sites["P1Ax"]),
        ),
        material=(("书", "https://example.org/a"),),
    )  # fmt: skip
    saved = await network.confirmed(replace(weekly, starts_local=MONDAY_9.replace(hour=14)))
    async with store.writing() as connection:
        week = MONDAY_9.replace(hour=14) + timedelta(days=7)
        edit = Edit(title="第二课", starts_local=week + timedelta(hours=1))
        await planning.edit(connection, saved.series.id, week, edit, NOW, None)
        for one in await invitations.invite_ahead(connection, NOW, timedelta(days=14)):
            await reminders.send_invitations(connection, one, NOW, centre.policy)
        await reminders.remind(connection, NOW + timedelta(hours=22), centre.policy)
        # As after a mail server that was away for a day.
        await connection.execute(
            update(Message).where(Message.id % 2 == 0).values(state="failed", error="no answer")
        )
    reports = [stay(world), stay(world) | {"source": "node/2", "left_at": "2026-03-02T01:30:00Z"}]
    reports.append(stay(world) | {"source": "n/3", "attendee_id": network.sites["P1Ax"]})
    for path, body in (
        ("/api/reports/stays", {"reports": reports}),
        ("/api/reports/counts", {"reports": [count(world) | {"present": ["target", "who?"]}]}),
    ):
        told = await boss.ask("POST", path, body, headers=token(relay=True))
        assert told.status == 200, told.text
    await settle(store, NOW)
    path = f"/api/occurrences/{world.occurrence}/invitations/{world.unit}"
    answer = await boss.ask("PUT", path, {"reply": "leave", "reason": "Sports day"})
    assert answer.status == 204, answer.text
    return world


async def known(centre: Centre, boss: Browser, world: World) -> dict[str, list[str]]:
    """Some ids of everything, for the questions that need one."""
    found: dict[str, list[str]] = {}
    tables = {
        "unit_id": Unit, "site_id": Site, "station_id": Station, "person_id": Person,
        "series_id": Series, "occurrence_id": Occurrence, "ballot_id": Ballot,
    }  # fmt: skip
    async with centre.store.reading() as connection:
        for name, table in tables.items():
            key = Base.metadata.tables[table.__tablename__].c.id
            ids = (await connection.execute(select(key).order_by(key).limit(6))).scalars()
            found[name] = [str(one) for one in ids]
        replies = (await connection.execute(select(Invitation.reply).distinct())).scalars()
        assert "leave" in set(replies)
    feeds = []
    for kind, target in (("unit", found["unit_id"][0]), ("person", found["person_id"][0])):
        made = await boss.post("/api/feeds", {"kind": kind, "target_id": int(target)})
        assert made.status == 201
        feeds.append(made.json["url"].rpartition("/")[2].removesuffix(".ics"))
    return found | {
        "parent_id": found["unit_id"], "within": found["unit_id"][:2], "token": feeds,
        "search": ["P1"], "state": ["draft", "confirmed"], "reply": ["open", "leave"],
        "subject": [f"unit:{found['unit_id'][0]}"], "course": ["physics"],
        "list_occurrences.from": ["2026-03-01T00:00:00Z"],
        "list_occurrences.to": ["2026-06-01T00:00:00Z"],
        # A ballot is one of its meeting's.
        "see_ballot.occurrence_id": [str(world.occurrence)],
        "export_ballot.occurrence_id": [str(world.occurrence)],
        "from": ["2026-03-01"], "to": ["2026-03-31"],
    }  # fmt: skip


async def answers(boss: Browser, known: dict[str, list[str]]) -> dict[str, Any]:
    """What the API says to every question that changes nothing, all pages of it."""
    said: dict[str, Any] = {}
    for question in questions(openapi(), known):
        turned = {"limit": PAGE} if question.listed else {}
        for page in range(MOST_PAGES):
            answer = await boss.get(question.path, **dict(question.query), **turned)
            assert answer.status == 200, f"{question.address}: {answer.text}"
            said[f"{question.address} {page}"] = (
                answer.media_type, answer.text, answer.headers.get("ETag")
            )  # fmt: skip
            if not question.listed or answer.json["next"] is None:
                break
            turned["after"] = answer.json["next"]
        else:
            raise AssertionError(f"{question.address} has no end")
    return said


async def terrace(*arguments: str) -> str:
    """Run the command as a person does."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "web.cli", *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, cwd=ROOT,
    )  # fmt: skip
    out, _ = await process.communicate()
    assert process.returncode == 0, out.decode()
    return out.decode()


async def rows_of(store: Store) -> dict[str, int]:
    async with store.reading() as connection:
        return {
            name: len((await connection.execute(select(table))).all())
            for name, table in Base.metadata.tables.items()
        }


@pytest.mark.parametrize(
    "source",
    ["sqlite_folder", pytest.param("postgres_server", marks=pytest.mark.postgresql)],
    indirect=True,
)
async def test_every_answer_is_the_same_after_a_restore(
    source: Source, folder: Path, clock: Clock, tmp_path: Path
) -> None:
    database = await fresh(source, folder / "terrace.db", "network")
    file = tmp_path / "kept.zip"
    async with running(database, clock) as (centre, boss):
        await give_passwords(centre.store)
        await boss.sign_in("boss-C")
        world = await live_through(centre, await load(centre.store), boss)
        asked = await known(centre, boss, world)
        before = await answers(boss, asked)
        counts = await rows_of(centre.store)
        # Taken while the centre runs.
        said = await terrace("backup", str(file), "--database", database)
        cookie, csrf = boss.cookie, boss.csrf
    assert f"{sum(counts.values())} rows" in said
    await wipe(source, database)
    await terrace("restore", str(file), "--database", database)
    async with running(database, clock) as (centre, boss):
        assert await rows_of(centre.store) == counts
        boss.take(cookie, csrf)
        after = await answers(boss, asked)
    assert after == before
