"""Invitations and their answers, reminders and notices, on both databases."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from sqlalchemy import select

from schedule import agenda, invitations, planning, reminders
from schedule.agenda import Whose
from schedule.errors import Conflict, Invalid, NotFound
from schedule.invitations import Answers, Reply
from schedule.reminders import Policy, due_offset
from schedule.tables import Message
from schedule.timetable import Edit
from schedule.words import say
from tests.schedule.network import MONDAY_9, NOW, Network, utc

STARTS = utc("2026-03-02T01:00")
POLICY = Policy(page_url="https://x.example/o/")


async def lesson(network: Network, *audience: tuple[str, int], **more: object) -> int:
    asked = audience or (("subtree", network.units["P1"].id),)
    await network.confirmed(network.draft("C", audience=asked, **more))
    async with network.store.reading() as connection:
        found = await agenda.occurrences(connection, Whose(), NOW, NOW + timedelta(days=9))
    return found[0].id


async def outgoing(network: Network) -> list[tuple[str, str]]:
    async with network.store.reading() as connection:
        found = await connection.execute(
            select(Message.key, Message.recipient).order_by(Message.id)
        )
    return [(key.split(":")[0], recipient) for key, recipient in found]


async def test_the_whole_audience_is_invited_and_answers_add_up(network: Network) -> None:
    site = ("site", network.sites["P2Ax"])
    one = await lesson(network, ("subtree", network.units["P1"].id), site)
    me = network.people["P1"]
    async with network.store.writing() as connection:
        assert await invitations.invite(connection, one) == 7
        assert await invitations.invite(connection, one) == 7
        for code, answer, reason in (
            ("P1Ax", Reply.YES, ""),
            ("P1Ay", Reply.LEAVE, "停电"),
            ("P2Ax", Reply.NO, ""),
        ):
            unit_id = network.units[code].id
            await invitations.reply(connection, one, unit_id, answer, reason, NOW, me)
        with pytest.raises(Invalid, match="reason"):
            await invitations.reply(
                connection, one, network.units["P1B"].id, Reply.LEAVE, " ", NOW, me
            )
        with pytest.raises(NotFound, match="not invited"):
            await invitations.reply(connection, one, network.units["P2"].id, Reply.YES, "", NOW, me)
        path = network.units["P1"].path
        assert await invitations.answers(connection, one, "1/") == Answers(7, 1, 1, 1)
        assert await invitations.answers(connection, one, path) == Answers(6, 1, 0, 1)
        waiting = await invitations.listed(connection, one, path, most=3)
        assert [found.unit_name for found in waiting] == ["P1", "P1A", "P1B"]
        rest = await invitations.listed(connection, one, path, after=waiting[-1].unit_path)
        assert [found.unit_name for found in rest] == ["P1Bx"]
        [excused] = await invitations.listed(connection, one, path, Reply.LEAVE)
        assert (excused.unit_name, excused.reason) == ("P1Ay", "停电")


async def test_a_changed_audience_keeps_answers_and_drops_open_invitations(
    network: Network,
) -> None:
    one = await lesson(network)
    async with network.store.writing() as connection:
        await invitations.invite(connection, one)
        unit_id = network.units["P1Ax"].id
        await invitations.reply(connection, one, unit_id, Reply.YES, "", NOW, None)
        found = await agenda.occurrence(connection, one)
        plan = network.draft("C", audience=(("unit", network.units["P2"].id),))
        await planning.save(connection, plan, NOW, None, series_id=found.series_id)
        assert await invitations.invite(connection, one) == 2
        await planning.cancel(connection, found.series_id, NOW, None)
        with pytest.raises(Conflict, match="cancelled"):
            await invitations.reply(connection, one, unit_id, Reply.NO, "", NOW, None)


async def test_invitations_go_out_once_for_each_state_of_the_plan(network: Network) -> None:
    one = await lesson(
        network, ("unit", network.units["P1Ax"].id), ("unit", network.units["P1Ay"].id)
    )
    async with network.store.writing() as connection:
        for expected in ([one], []):
            ahead = await invitations.invite_ahead(connection, NOW, timedelta(days=14))
            assert ahead == expected
        for _ in range(2):
            await reminders.send_invitations(connection, one, NOW, POLICY)
    assert await outgoing(network) == [("invite", "P1Ax@x.cn"), ("invite", "P1Ay@x.cn")]
    async with network.store.writing() as connection:
        calendar = await connection.scalar(select(Message.calendar).limit(1))
        assert "METHOD:REQUEST" in str(calendar)
        found = await agenda.occurrence(connection, one)
        await invitations.reply(connection, one, network.units["P1Ax"].id, Reply.YES, "", NOW, None)
        later = Edit(starts_local=MONDAY_9 + timedelta(hours=1))
        await planning.edit(connection, found.series_id, MONDAY_9, later, NOW, None)
        assert await invitations.invite_ahead(connection, NOW, timedelta(days=14)) == [one]
        await reminders.send_invitations(connection, one, NOW, POLICY)
    assert (await outgoing(network))[2:] == [("invite", "P1Ay@x.cn")]


async def test_a_plan_that_was_changed_just_now_is_invited_to_when_it_rests(
    network: Network,
) -> None:
    one = await lesson(network, ("unit", network.units["P1Ax"].id))
    ahead, rest = timedelta(days=14), timedelta(minutes=5)

    async def invited(now: datetime, most: int = 9) -> list[int]:
        async with network.store.writing() as connection:
            return await invitations.invite_ahead(connection, now, ahead, rest=rest, most=most)

    assert await invited(NOW + timedelta(minutes=4)) == []
    assert await invited(NOW + timedelta(minutes=5), most=0) == []
    assert await invited(NOW + timedelta(minutes=5)) == [one]
    assert await invited(NOW + timedelta(minutes=6)) == []
    async with network.store.writing() as connection:
        found = await agenda.occurrence(connection, one)
        now = STARTS - invitations.URGENT
        edit = Edit(title="Another")
        await planning.edit(connection, found.series_id, MONDAY_9, edit, now, None)
    # It begins so soon that there is no time to wait.
    assert await invited(now) == [one]


async def test_who_was_not_invited_yet_is_reminded_all_the_same(network: Network) -> None:
    """A meeting that is planned half an hour before it begins."""
    await lesson(network, ("unit", network.units["P1Ax"].id))
    async with network.store.writing() as connection:
        assert await reminders.remind(connection, STARTS - timedelta(minutes=20), POLICY) == 1
    assert await outgoing(network) == [("remind", "P1Ax@x.cn")]


async def test_a_reminder_is_put_in_once_and_again_only_when_the_lesson_moves(
    network: Network,
) -> None:
    county = ("unit", network.units["P1Ax"].id)
    no = ("unit", network.units["P1Ay"].id)
    one = await lesson(network, county, no, presenter_id=network.people["P2"])
    async with network.store.writing() as connection:
        await invitations.invite(connection, one)
        await invitations.reply(connection, one, no[1], Reply.NO, "", NOW, None)

    async def remind(now: datetime) -> int:
        async with network.store.writing() as connection:
            return await reminders.remind(connection, now, POLICY)

    half = STARTS - timedelta(minutes=30)
    assert await remind(STARTS - timedelta(days=1, seconds=1)) == 0
    assert await remind(STARTS - timedelta(hours=20)) == 1
    assert await remind(STARTS - timedelta(hours=19)) == 0
    assert await outgoing(network) == [("remind", "P2@x.cn"), ("remind", "P1Ax@x.cn")]
    assert await remind(half) == 1
    assert await remind(half + timedelta(minutes=5)) == 0
    async with network.store.writing() as connection:
        found = await agenda.occurrence(connection, one)
        later = Edit(starts_local=MONDAY_9 + timedelta(minutes=10))
        await planning.edit(connection, found.series_id, MONDAY_9, later, NOW, None)
    assert await remind(half + timedelta(minutes=15)) == 1
    assert len(await outgoing(network)) == 6


@pytest.mark.parametrize(
    ("minutes_before", "offset_minutes"),
    [(1441, None), (1440, 1440), (31, 1440), (30, 30), (1, 30), (0, None), (-5, None)],
)
def test_of_the_reminders_that_are_due_only_the_last_is_sent(
    minutes_before: int, offset_minutes: int | None
) -> None:
    found = due_offset(STARTS - timedelta(minutes=minutes_before), STARTS, POLICY.offsets)
    assert found == (None if offset_minutes is None else timedelta(minutes=offset_minutes))


async def test_the_lower_organiser_is_told(network: Network) -> None:
    county = (("unit", network.units["P1Ax"].id),)
    await network.confirmed(network.draft("P1A", title="Lower {0}", audience=county))
    higher = await network.confirmed(network.draft("C", audience=county))
    async with network.store.writing() as connection:
        for _ in range(2):
            await reminders.tell_overridden(connection, higher.overridden, NOW, POLICY)
        subject = await connection.scalar(select(Message.subject))
    assert await outgoing(network) == [("overridden", "P1A@x.cn")]
    assert subject == "时间冲突：Lower {0} 2026-03-02 09:00"


def test_what_people_write_is_never_read_as_a_pattern() -> None:
    values = {"title": "{link.__class__}", "when": "now", "link": "L"}
    subject, _ = say("overridden", "en-GB", values)
    assert subject == "Clash: {link.__class__}, now"
