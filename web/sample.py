"""What `terrace demo` fills a centre with: four units, their people and rooms, a week of plans."""

from __future__ import annotations

import asyncio
import secrets
import time
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from media import pairing
from media.county import County
from schedule import agenda, invitations, people, planning, units
from schedule.agenda import Whose
from schedule.people import NewPerson
from schedule.rights import Role
from schedule.series import Draft
from schedule.store import open_store
from schedule.units import NewUnit
from web.centre import signin

ZONE = "Asia/Shanghai"
STATION = "longhua-1"
LOGIN = "admin"
MEETING_AFTER_S = 600
"""Today's meeting begins so long after the first class, which has the same teacher."""
_TIERS = (
    ("centre", "国家中心"),
    ("province", "河北省"),
    ("city", "承德市"),
    ("county", "隆化县"),
)


@dataclass(frozen=True, slots=True)
class Sample:
    """What was filled in. occurrence_id: of the class that begins first. site_id: the county's.

    meeting_id: of the meeting of today, whose room can be opened at once.
    """

    occurrence_id: int
    meeting_id: int
    password: str
    site_id: int


async def fill(database: Path, first_at: datetime, duration_s: int) -> Sample:
    """Make a database with a class that begins at `first_at`, and a week of plans after it."""
    store = await open_store(str(database))
    try:
        password = secrets.token_urlsafe(12)
        hashed = await signin.Passwords().make(password)
        async with store.writing() as connection:
            parent: int | None = None
            made = []
            for code, name in _TIERS:
                one = await units.add_unit(connection, NewUnit(code, name, code, parent, ZONE))
                made.append(one)
                parent = one.id
            centre, county = made[0], made[-1]
            admin = await people.add_person(
                connection, NewPerson(centre.id, LOGIN, "管理员", "admin@example.org")
            )
            await people.grant(connection, admin.id, centre.id, Role.ADMINISTRATOR)
            await signin.set_password(connection, admin.id, hashed)
            teacher = await people.add_person(
                connection, NewPerson(centre.id, "teacher", "李老师", "teacher@example.org")
            )
            await people.grant(connection, teacher.id, centre.id, Role.PRESENTER)
            operator = await people.add_person(
                connection, NewPerson(county.id, "longhua", "王站长", "longhua@example.org")
            )
            await people.grant(connection, operator.id, county.id, Role.OPERATOR)
            hall = await units.add_place(
                connection, "site", county.id, "longhua-hall", "隆化县会议室"
            )
            await units.add_place(connection, "station", county.id, STATION, "尚坪村活动室")
            now = datetime.now(first_at.tzinfo)
            local = first_at.astimezone(ZoneInfo(ZONE)).replace(tzinfo=None)
            every = Draft(
                "course",
                "今天的课: 水稻育秧",
                centre.id,
                local,
                duration_s,
                ZONE,
                presenter_id=teacher.id,
                audience=(("subtree", centre.id),),
            )
            drafts = [
                every,
                replace(
                    every, title="水稻栽培", starts_local=_tomorrow(local, 9),
                    duration_s=45 * 60, rule="FREQ=DAILY;COUNT=7", rehearsal_s=900,
                ),
                replace(
                    every, kind="meeting", title="今天的会: 春耕视频会",
                    starts_local=local + timedelta(seconds=MEETING_AFTER_S), duration_s=60 * 60,
                ),
                replace(
                    every, kind="meeting", title="每周例会", starts_local=_tomorrow(local, 15),
                    duration_s=60 * 60, rule="FREQ=DAILY;INTERVAL=3;COUNT=3", rehearsal_s=1800,
                ),
            ]  # fmt: skip
            for draft in drafts:
                saved = await planning.save(connection, draft, now, admin.id)
                await planning.submit(connection, saved.series.id, now, admin.id)
            until = first_at + timedelta(seconds=MEETING_AFTER_S + 1)
            first, meeting = await agenda.occurrences(
                connection, Whose(), now - timedelta(days=1), until
            )
            # Nobody waits for the centre's own round: the meeting's room may be opened at once.
            await invitations.invite_ahead(connection, now, until - now)
        return Sample(first.id, meeting.id, password, hall.id)
    finally:
        await store.close()


def _tomorrow(local: datetime, hour: int) -> datetime:
    day = local + timedelta(days=1)
    return day.replace(hour=hour, minute=0, second=0, microsecond=0)


async def enter_station(folder: Path, box: Path) -> None:
    """A county's book with one station in it, as its pairing would have left it."""

    def enter() -> None:
        county = County(folder, name="隆化县")
        county.open()
        try:
            box.mkdir(parents=True, exist_ok=True)
            key, _ = pairing.box_key(box)
            pem = pairing.public_pem(key.public_key())
            now = time.time()
            one = pairing.Open(secrets.token_hex(12), "000000", pem, "", "", "", now)
            county.confirm(one, STATION, "尚坪村活动室", "隆化县", "", now)
        finally:
            county.close()

    await asyncio.to_thread(enter)
