"""A centre that is killed in the middle of its class, with real processes and Chromium.

By hand, for it is not steady enough beside other work: `pytest tests/live/killed_centre.py`.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from playwright.async_api import Playwright
from sqlalchemy import func, select, update

from schedule import people, planning
from schedule.people import NewPerson
from schedule.rights import Role
from schedule.series import Draft
from schedule.store import open_store
from schedule.tables import Message, Occurrence
from schedule.units import unit_by_code
from tests.live.browser import ChromiumViewer
from tests.live.centres import (
    CLASS_WITHIN_S,
    READY_WITHIN_S,
    Killable,
    settings,
    signed_in,
)
from tests.live.publishers import FfmpegPublisher, live
from tests.live.tree import Node, end_process, free_ports, until
from tests.patience import PATIENCE
from tests.schedule.receivers import Hook, Mailbox, smtp_server, webhook_receiver
from web import sample
from web.library import open_library
from web.library_settings import LibrarySettings

pytestmark = [pytest.mark.live, pytest.mark.alone]

CLASS_S = 25
OPERATORS = 12
"""Who are told of everything, by mail and by the webhook."""


async def test_a_killed_centre_goes_on_with_its_class(tmp_path: Path, browsers: Playwright) -> None:
    """Killed while it tells by mail, and while it posts: the picture never stops, the recording
    goes on, the class ends by itself at its time, and nobody is told anything twice.

    The presenter is in the province, so that the class lives while its centre does not.
    """
    ports = free_ports(3)
    database = tmp_path / "centre.db"
    first_at = datetime.now(UTC) + timedelta(seconds=3)
    filled = await sample.fill(database, first_at, 60)
    ends_at = first_at + timedelta(seconds=CLASS_S)
    await _shorten(database, filled.occurrence_id, ends_at)
    stream = f"class-{filled.occurrence_id}"
    async with smtp_server() as mail, webhook_receiver() as hook:
        (tmp_path / "terrace.toml").write_text(settings(tmp_path, told=(mail, hook)))
        centre = Killable(tmp_path, ports[0])
        province = Node("province", ports[1], tmp_path / "province.log")
        county = Node("county", ports[2], tmp_path / "county.log")
        publisher = None
        try:
            province.start(["--parent", centre.node.url], {})
            county.start(["--parent", province.url], {})
            await centre.ready()
            publisher = FfmpegPublisher(province.url, stream, tmp_path / "teacher.log")
            await live(centre.node, stream, READY_WITHIN_S)
            page = await ChromiumViewer.open(browsers, county.url, stream)
            await page.playing()
            async with signed_in(centre.node.url, filled.password) as api:
                await api.until_state(filled.occurrence_id, "on_air")
                before = await _recorded(centre.node, stream, above=0.0)
                for receiver in (mail, hook):
                    await _killed_while_it_tells(centre, receiver, database, page)
                await live(centre.node, stream, READY_WITHIN_S)
                # The sign-in outlives the process, as all else in the database.
                assert await api.state(filled.occurrence_id) == "on_air"
                after = await _recorded(centre.node, stream, above=float(before["seconds"]))
                assert after["id"] == before["id"]
                await page.advance(30, READY_WITHIN_S)

                # The presenter goes on to the end; nobody ends the class.
                await asyncio.sleep((ends_at - datetime.now(UTC)).total_seconds())
                publisher.close()
                stopped_at = datetime.now(UTC)
                await api.until_state(filled.occurrence_id, "published")
                stage = await api.get(f"/api/occurrences/{filled.occurrence_id}")
            assert stage["occurrence"]["course"] == before["id"]
            ended_at = datetime.fromisoformat(stage["ended_at"])
            assert abs(ended_at - stopped_at) < timedelta(seconds=5 * PATIENCE)
            await _nobody_twice(database, mail, hook)
        finally:
            if publisher is not None:
                publisher.close()
            for node in (county, province, centre.node):
                end_process(node.process)
    library = await asyncio.to_thread(open_library, LibrarySettings(folder=tmp_path / "library"))
    course = (await library.course(before["id"])).course
    # Every segment that was whole when the process was killed.
    assert course.duration_s >= float(before["seconds"])


async def _shorten(database: Path, occurrence_id: int, ends_at: datetime) -> None:
    """Let a class be over sooner than any plan may be; its county has many to tell."""
    store = await open_store(str(database))
    async with store.writing() as connection:
        await connection.execute(
            update(Occurrence).where(Occurrence.id == occurrence_id).values(ends_at=ends_at)
        )
        county = await unit_by_code(connection, "county")
        for number in range(OPERATORS):
            one = NewPerson(county.id, f"op{number}", f"Op {number}", f"op{number}@example.org")
            person = await people.add_person(connection, one)
            await people.grant(connection, person.id, county.id, Role.OPERATOR)
    await store.close()


async def _killed_while_it_tells(
    centre: Killable, receiver: Mailbox | Hook, database: Path, page: ChromiumViewer
) -> None:
    """Kill the centre when a receiver has something and has not said so; the class goes on.

    What it has in hand then is taken over after five minutes by whoever lives: the clock of these
    is put forward.
    """
    await _remind_of_another(database)
    receiver.answering.clear()
    had = _received(receiver)

    async def more() -> bool:
        return _received(receiver) > had

    await until("a receiver has something", more, READY_WITHIN_S)
    centre.node.kill()
    receiver.answering.set()
    await page.advance(50, READY_WITHIN_S)
    store = await open_store(str(database))
    async with store.writing() as connection:
        caught = await connection.scalar(
            select(func.count()).select_from(Message).where(Message.state == "sending")
        )
        await connection.execute(
            update(Message)
            .where(Message.state.in_(("claimed", "sending")))
            .values(claimed_until=datetime.now(UTC))
        )
    await store.close()
    assert caught, "it was not caught in the act"
    centre.start()
    await centre.ready()


def _received(receiver: Mailbox | Hook) -> int:
    return len(receiver.taken if isinstance(receiver, Mailbox) else receiver.bodies)


async def _remind_of_another(database: Path) -> None:
    """Plan a meeting in some minutes, of which everybody is reminded now."""
    store = await open_store(str(database))
    now = datetime.now(UTC)
    local = now.astimezone(ZoneInfo(sample.ZONE)).replace(tzinfo=None, microsecond=0)
    async with store.writing() as connection:
        top = (await unit_by_code(connection, "centre")).id
        draft = Draft(
            "meeting", "Reminded", top, local + timedelta(minutes=20), 600, sample.ZONE,
            audience=(("subtree", top),),
        )  # fmt: skip
        saved = await planning.save(connection, draft, now, None)
        await planning.submit(connection, saved.series.id, now, None, anyway=True)
    await store.close()


def _reminds(key: str) -> bool:
    return key.partition(":")[0] == "remind"


async def _nobody_twice(database: Path, mail: Mailbox, hook: Hook) -> None:
    """When all is told, each has what was sent once, and what was cut off at most once."""
    store = await open_store(str(database))

    async def told() -> list[tuple[str, str, str]]:
        async with store.reading() as connection:
            rows = await connection.execute(select(Message.key, Message.channel, Message.state))
            found = [(key, channel, state) for key, channel, state in rows]
        under_way = ("waiting", "claimed", "sending")
        if any(state in under_way for _, _, state in found):
            return []
        # Those that the last start has yet to write are awaited, too: of two meetings.
        written = Counter(channel for key, channel, _ in found if _reminds(key))
        return found if min(written["email"], written["webhook"]) >= 2 * OPERATORS else []

    found = await until("everything is told", told, CLASS_WITHIN_S)
    await store.close()
    got = {
        "email": Counter(str(one["Message-ID"]) for one in mail.taken),
        "webhook": Counter(one["id"] for body in hook.bodies for one in body["messages"]),
    }
    reminders: Counter[tuple[str, str, str]] = Counter()
    for key, channel, state in found:
        name = key
        if channel == "email":
            name = f"<{hashlib.sha256(key.encode()).hexdigest()[:32]}@example.org>"
        times = got[channel].pop(name, 0)
        # One that was cut off had arrived: a person sees it in a list, and nobody gets it again.
        most = {"sent": (1,), "unknown": (0, 1), "failed": (0,)}[state]
        assert times in most, f"{key} is {state} and came {times} times"
        reminders[channel, state, key.partition(":")[0]] += 1
    assert not any(got.values()), f"nobody has sent {got}"
    for channel in ("email", "webhook"):
        assert reminders[channel, "unknown", "remind"] + reminders[channel, "unknown", "invite"]
        # A webhook takes fifty at once: all reminders may be in the body that was cut off.
        assert reminders[channel, "sent", "remind"] + reminders[channel, "sent", "invite"]
    assert reminders["email", "sent", "remind"] >= OPERATORS


async def _recorded(centre: Node, stream: str, above: float) -> dict[str, Any]:
    """The recording of a stream that is being made, with more than so many seconds in it."""

    async def look() -> dict[str, Any] | None:
        shown = json.loads(await asyncio.to_thread(centre._get, "/api/recordings"))["recordings"]
        found = [one for one in shown if one["stream"] == stream and one["state"] == "recording"]
        return dict(found[0]) if found and found[0]["seconds"] > above else None

    return await until(f"more than {above:g} s of {stream} are recorded", look, READY_WITHIN_S)
