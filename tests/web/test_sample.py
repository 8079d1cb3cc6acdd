"""What the demo fills a centre with can be used at once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from schedule import rooms
from schedule.store import open_store
from web import sample
from web.centre.rooms import Rooms


async def test_the_demos_meeting_is_opened_before_its_class_begins(tmp_path: Path) -> None:
    """Nobody waits: the room opens now, and the county's site is invited."""
    now = datetime.now(UTC).replace(microsecond=0)
    filled = await sample.fill(tmp_path / "centre.db", now + timedelta(seconds=110), 60)
    store = await open_store(str(tmp_path / "centre.db"))
    try:
        here = Rooms(store, lambda: now)
        await here.look_around()
        assert here.knows(filled.meeting_id)
        room = await here.open(filled.meeting_id, None)
        assert room.state == "open"
        assert filled.meeting_id != filled.occurrence_id
        async with store.reading() as connection:
            sites = await rooms.invited_sites(connection, filled.meeting_id, [], 10)
        assert sites == [filled.site_id]
    finally:
        await store.close()
