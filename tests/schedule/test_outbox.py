"""Messages go out once: batches, patience, crashes and broken lines, with real receivers."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Mapping
from datetime import datetime, timedelta

import pytest
from sqlalchemy import select, update

from schedule import outbox
from schedule.channels import (
    HttpSettings,
    LogChannel,
    SmsChannel,
    SmtpChannel,
    SmtpSettings,
    WebhookChannel,
)
from schedule.errors import Conflict
from schedule.outbox import CLAIM, Channel, Outbox, Outgoing
from schedule.store import Store
from schedule.tables import Message
from tests.live.tree import free_ports
from tests.schedule.network import NOW
from tests.schedule.receivers import smtp_server, webhook_receiver

DAY = timedelta(days=1)


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


def letter(key: str, channel: str = "email", to: str = "", **more: object) -> Outgoing:
    values = {
        "subject": f"About {key}",
        "body": "Body\n.dot",
        "due_at": NOW,
        "expires_at": NOW + DAY,
    }
    return Outgoing(key, channel, to or f"{key}@x.cn", **(values | more))  # type: ignore[arg-type]


async def put(store: Store, *letters: Outgoing) -> None:
    async with store.writing() as connection:
        await outbox.put(connection, letters)


async def states(store: Store) -> dict[str, str]:
    async with store.reading() as connection:
        return dict((await connection.execute(select(Message.key, Message.state))).all())


def sender(
    store: Store, channels: Mapping[str, Channel], clock: Clock, owner: str = "me"
) -> Outbox:
    return Outbox(store, channels, owner, clock)


def mail(port: int, clock: Clock, timeout_s: float = 30) -> dict[str, Channel]:
    settings = SmtpSettings("127.0.0.1", port, "t@x.cn", security="none", timeout_s=timeout_s)
    return {"email": SmtpChannel(settings, clock)}


async def test_a_batch_of_mail_goes_through_one_connection_and_once(store: Store) -> None:
    clock = Clock()
    async with smtp_server() as mailbox:
        box = sender(store, mail(mailbox.port, clock), clock)
        for _ in range(2):
            await put(store, *(letter(f"k{n}") for n in range(7)))
            await box.work()
        assert mailbox.recipients() == [f"k{n}@x.cn" for n in range(7)]
        assert mailbox.connections == 1
        assert set((await states(store)).values()) == {"sent"}
        message = mailbox.taken[0]
        assert message["Subject"] == "About k0"
        assert message.get_content() == "Body\r\n.dot\r\n"
        assert message["Message-ID"].endswith("@x.cn>")


async def test_an_invitation_travels_as_one(store: Store) -> None:
    clock = Clock()
    async with smtp_server() as mailbox:
        ics = "BEGIN:VCALENDAR\r\nMETHOD:REQUEST\r\nSUMMARY:数学\r\nEND:VCALENDAR\r\n"
        await put(store, letter("k", calendar=ics, subject="两\r\nBcc: evil@x.cn"))
        await sender(store, mail(mailbox.port, clock), clock).work()
        [message] = mailbox.taken
        assert message["Bcc"] is None
        text, invitation = message.iter_parts()
        assert text.get_content_type() == "text/plain"
        assert invitation.get_content_type() == "text/calendar"
        assert invitation.get_param("method") == "REQUEST"
        assert "数学" in invitation.get_content()


async def test_what_is_refused_for_now_is_tried_again_and_for_good_is_given_up(
    store: Store,
) -> None:
    clock = Clock()
    async with smtp_server() as mailbox:
        mailbox.refuse = {"a@x.cn": "450 busy", "b@x.cn": "550 unknown"}
        await put(store, letter("a"), letter("b"), letter("c"))
        box = sender(store, mail(mailbox.port, clock), clock)
        await box.work()
        assert await states(store) == {"a": "waiting", "b": "failed", "c": "sent"}
        mailbox.refuse = {}
        assert await box.work() == 0  # not yet
        clock.now += timedelta(seconds=31)
        await box.work()
        assert mailbox.recipients() == ["a@x.cn", "c@x.cn"]
        async with store.writing() as connection:
            [stuck] = await outbox.stuck(connection, NOW - DAY)
            assert (stuck.state, stuck.error) == ("failed", "550 unknown")
            await outbox.send_again(connection, stuck.id, clock.now)
            with pytest.raises(Conflict):
                await outbox.send_again(connection, stuck.id, clock.now)
        await box.work()
        assert mailbox.recipients() == ["a@x.cn", "b@x.cn", "c@x.cn"]


async def test_a_server_that_is_away_costs_nothing_but_time(store: Store) -> None:
    clock = Clock()
    (port,) = free_ports(1)
    await put(store, letter("a"), letter("late", expires_at=NOW + timedelta(seconds=20)))
    box = sender(store, mail(port, clock), clock)
    await box.work()
    assert await states(store) == {"a": "waiting", "late": "waiting"}
    clock.now += timedelta(seconds=31)
    async with smtp_server(port) as mailbox:
        await box.work()
        assert mailbox.recipients() == ["a@x.cn"]
    assert await states(store) == {"a": "sent", "late": "failed"}


async def test_a_line_that_breaks_after_the_last_byte_is_not_sent_again(store: Store) -> None:
    """The server has it and the sender does not know: a person is asked, nothing is doubled."""
    clock = Clock()
    async with smtp_server() as mailbox:
        mailbox.cut = {"b@x.cn"}
        await put(store, *(letter(key) for key in "abc"))
        box = sender(store, mail(mailbox.port, clock), clock)
        await box.work()
        assert await states(store) == {"a": "sent", "b": "unknown", "c": "waiting"}
        clock.now += timedelta(hours=2)
        await box.work()
        assert mailbox.recipients() == ["a@x.cn", "b@x.cn", "c@x.cn"]


async def test_a_sender_that_was_killed_is_taken_over_without_a_double(store: Store) -> None:
    """Killed in the middle: what was not begun is sent by another, what was begun is not."""
    clock = Clock()
    await put(store, letter("a"), letter("b"))
    async with store.writing() as connection:
        # As the killed process left it: one in hand, one claimed.
        rows = (await connection.execute(select(Message.id).order_by(Message.id))).all()
        for (message_id,), state in zip(rows, ("sending", "claimed"), strict=True):
            await connection.execute(
                update(Message)
                .where(Message.id == message_id)
                .values(state=state, owner="dead", claimed_until=NOW + CLAIM)
            )
    async with smtp_server() as mailbox:
        box = sender(store, mail(mailbox.port, clock), clock)
        assert await box.work() == 0
        clock.now += CLAIM + timedelta(seconds=1)
        await box.work()
        assert mailbox.recipients() == ["b@x.cn"]
    assert await states(store) == {"a": "unknown", "b": "sent"}


async def test_two_senders_at_once_send_each_message_once(store: Store) -> None:
    clock = Clock()
    async with smtp_server() as mailbox:
        await put(store, *(letter(f"k{n:03}") for n in range(150)))
        boxes = [
            sender(store, mail(mailbox.port, clock), clock, owner) for owner in ("one", "other")
        ]

        async def drain(box: Outbox) -> None:
            while await box.work():
                pass

        await asyncio.gather(*(drain(box) for box in boxes))
        assert mailbox.recipients() == [f"k{n:03}@x.cn" for n in range(150)]


async def test_webhooks_are_signed_batched_and_tried_again(store: Store) -> None:
    clock = Clock()
    async with webhook_receiver() as hook:
        hook.answers = [503]
        channels = {"webhook": WebhookChannel(HttpSettings(hook.url, secret="s3cret"))}
        await put(store, *(letter(f"k{n}", "webhook") for n in range(60)))
        box = sender(store, channels, clock)
        await box.work()
        assert set((await states(store)).values()) == {"waiting"}
        clock.now += timedelta(seconds=31)
        await box.work()
        assert [len(body["messages"]) for body in hook.bodies] == [50, 50, 10]
        assert hook.bodies[0] == hook.bodies[1]
        keys = [headers["Idempotency-Key"] for headers in hook.headers]
        assert keys[0] == keys[1] != keys[2]
        expected = hmac.new(b"s3cret", hook.raw[0], "sha256").hexdigest()
        assert hook.headers[0]["Terrace-Signature"] == expected
        assert set((await states(store)).values()) == {"sent"}


@pytest.mark.parametrize(("status", "state"), [(0, "unknown"), (404, "failed"), (302, "failed")])
async def test_a_webhook_s_answers(store: Store, status: int, state: str) -> None:
    clock = Clock()
    async with webhook_receiver() as hook:
        hook.answers = [status]
        await put(store, letter("k", "webhook"))
        box = sender(store, {"webhook": WebhookChannel(HttpSettings(hook.url))}, clock)
        await box.work()
        clock.now += timedelta(hours=1)
        await box.work()
        assert await states(store) == {"k": state}
        assert hook.ids() == ["k"]


async def test_short_messages_and_the_log(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    async with webhook_receiver() as hook:
        channels: dict[str, Channel] = {
            "sms": SmsChannel(HttpSettings(hook.url)),
            "log": LogChannel(),
        }
        await put(store, letter("k", "sms", "+86 1", body="x" * 999), letter("l", "log"))
        with caplog.at_level("INFO"):
            await sender(store, channels, clock).work()
        [body] = hook.bodies
        assert body == {"messages": [{"id": "k", "number": "+86 1", "text": "x" * 300}]}
        assert "message to=l@x.cn subject=About l" in caplog.text
    assert await states(store) == {"k": "sent", "l": "sent"}
