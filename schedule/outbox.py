"""The outbox: messages are put in with what causes them, and sent once, in batches, with patience.

A message has a key; putting the same key in twice keeps one. Whoever sends claims a batch, so two
centre processes never send the same. Between "about to send" and "sent" lies a moment in which
nobody can know: a process that dies there, or a line that breaks after the last byte, leaves the
message in the state "unknown". It is not sent again by itself (never twice), a person sees it in
a list and decides. That moment is one message with SMTP, one request with a webhook. Whatever
failed before that moment is tried again, later and later, until the message is of no use any more.

    waiting -> claimed -> sending -> sent
       ^          |          |-----> unknown   (nobody can know)
       |          |          |-----> failed    (refused for good, or too late)
       +----------+----------+                 (will be tried again)

What is unknown or failed a person sends again, or lets be: then it is "ignored".
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from sqlalchemy import and_, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from schedule.errors import Conflict
from schedule.store import Store, insert_many, upsert
from schedule.tables import Message

logger = logging.getLogger(__name__)

# One channel's batch, and how long a claim lasts without a sign of life.
BATCH = 100
CLAIM = timedelta(minutes=5)
PATIENCE = tuple(
    timedelta(seconds=one) for one in (30, 120, 600, 1800, 3600, 3600, 3600, 7200, 14400)
)


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message as it is put in. key: what makes it the same message. calendar: an .ics or "".

    due_at: not sent before. expires_at: of no use after.
    """

    key: str
    channel: str
    recipient: str
    subject: str
    body: str
    due_at: datetime
    expires_at: datetime
    calendar: str = ""


@dataclass(frozen=True, slots=True)
class Letter:
    """A message as a channel gets it. id: stable, for receivers that can tell a double."""

    id: str
    recipient: str
    subject: str
    body: str
    calendar: str


class NotSent(Exception):
    """It was surely not sent.

    final: trying again cannot help. closed: the line is of no use for other letters either.
    """

    def __init__(self, reason: str, *, final: bool = False, closed: bool = False) -> None:
        super().__init__(reason)
        self.final = final
        self.closed = closed


class Unknown(Exception):
    """It may have been sent or not; the line broke at the one moment that matters."""


class Line(Protocol):
    """An open way out. deliver: all letters or none; NotSent, Unknown."""

    async def deliver(self, letters: Sequence[Letter]) -> None: ...


class Channel(Protocol):
    """A way out. at_once: how many letters one `deliver` takes. connect: NotSent."""

    @property
    def at_once(self) -> int: ...

    def connect(self) -> AbstractAsyncContextManager[Line]: ...


async def put(connection: AsyncConnection, messages: Sequence[Outgoing]) -> None:
    """Put messages in, in the transaction of what causes them. Known keys are left as they are."""
    rows = [
        {
            "key": one.key,
            "channel": one.channel,
            "recipient": one.recipient,
            "subject": one.subject[:300],
            "body": one.body,
            "calendar": one.calendar,
            "state": "waiting",
            "attempts": 0,
            "try_at": one.due_at,
            "expires_at": one.expires_at,
            "owner": "",
            "error": "",
        }
        for one in messages
    ]
    statement = upsert(Message, connection.dialect.name)
    await insert_many(connection, statement.on_conflict_do_nothing(index_elements=["key"]), rows)


class Outbox:
    """Sends what is due. owner: a name of this process that no other has, nor had."""

    def __init__(
        self,
        store: Store,
        channels: Mapping[str, Channel],
        owner: str,
        clock: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._channels = channels
        self._owner = owner
        self._clock = clock

    async def work(self) -> int:
        """Send one batch on each channel; how many letters were taken in hand."""
        await self._tidy()
        done = 0
        for name, channel in self._channels.items():
            claimed = await self._claim(name)
            if claimed:
                done += len(claimed)
                await self._send(name, channel, claimed)
        return done

    async def _tidy(self) -> None:
        """Take over from processes that died, and give up what is too late."""
        now = self._clock()
        stale = Message.claimed_until < now
        async with self._store.writing() as connection:
            await connection.execute(
                update(Message)
                .where(Message.state == "sending", stale)
                .values(state="unknown", error="the process that was sending it ended")
            )
            await connection.execute(
                update(Message)
                .where(Message.state == "claimed", stale)
                .values(state="waiting", owner="")
            )
            await connection.execute(
                update(Message)
                .where(Message.state == "waiting", Message.expires_at <= now)
                .values(state="failed", error=_late(Message.error))
            )

    async def _claim(self, channel: str) -> list[tuple[int, Letter]]:
        now = self._clock()
        due = (
            select(Message.id)
            .where(Message.state == "waiting", Message.channel == channel, Message.try_at <= now)
            .order_by(Message.try_at, Message.id)
            .limit(BATCH)
            .with_for_update(skip_locked=True)
        )
        async with self._store.writing() as connection:
            found = await connection.execute(
                update(Message)
                .where(Message.id.in_(due))
                .values(state="claimed", owner=self._owner, claimed_until=now + CLAIM)
                .returning(
                    Message.id,
                    Message.key,
                    Message.recipient,
                    Message.subject,
                    Message.body,
                    Message.calendar,
                )
            )
            return sorted((row[0], Letter(*row[1:])) for row in found)

    async def _send(
        self, name: str, channel: Channel, claimed: Sequence[tuple[int, Letter]]
    ) -> None:
        at = 0
        try:
            async with channel.connect() as line:
                while at < len(claimed):
                    some = claimed[at : at + channel.at_once]
                    at += len(some)
                    await self._deliver(name, line, some)
        except NotSent as error:
            # The way out is closed: what was not begun waits.
            await self._failed([one for one, _ in claimed[at:]], error)
        finally:
            # Cancelled: what is claimed and not begun goes back at once.
            await self._mark([one for one, _ in claimed[at:]], "claimed", state="waiting", owner="")

    async def _deliver(self, name: str, line: Line, some: Sequence[tuple[int, Letter]]) -> None:
        ids = [one for one, _ in some]
        ours = await self._mark(
            ids, "claimed", state="sending", claimed_until=self._clock() + CLAIM
        )
        letters = [letter for one, letter in some if one in ours]
        if not letters:
            return
        try:
            await line.deliver(letters)
        except NotSent as error:
            await self._failed(sorted(ours), error)
            if error.closed:
                raise
        except Unknown as error:
            await self._mark(ours, "sending", state="unknown", error=str(error)[:500])
            logger.warning("message_unknown channel=%s count=%d", name, len(ours))
            raise NotSent(str(error), closed=True) from error
        else:
            await self._mark(ours, "sending", state="sent", sent_at=self._clock(), error="")

    async def _failed(self, ids: Sequence[int], error: NotSent) -> None:
        """Try again later, or give up."""
        now = self._clock()
        async with self._store.writing() as connection:
            found = await connection.execute(
                select(Message.id, Message.attempts).where(
                    Message.id.in_(ids), Message.owner == self._owner
                )
            )
            for message_id, attempts in found.all():
                last = error.final or attempts + 1 >= len(PATIENCE)
                await connection.execute(
                    update(Message)
                    .where(Message.id == message_id)
                    .values(
                        state="failed" if last else "waiting",
                        attempts=attempts + 1,
                        try_at=now + PATIENCE[min(attempts, len(PATIENCE) - 1)],
                        owner="",
                        error=str(error)[:500],
                    )
                )

    async def _mark(self, ids: Sequence[int] | set[int], before: str, **values: object) -> set[int]:
        """Move messages of ours from one state on; which of them were still in it."""
        if not ids:
            return set()
        async with self._store.writing() as connection:
            found = await connection.execute(
                update(Message)
                .where(Message.id.in_(ids), Message.state == before, Message.owner == self._owner)
                .values(**values)
                .returning(Message.id)
            )
            return {message_id for (message_id,) in found}


def _late(error: object) -> object:
    return func.substr(func.coalesce(error, "") + " (too late)", 1, 500)


# What people see and decide


@dataclass(frozen=True, slots=True)
class Stuck:
    """A message that was not sent, or of which nobody knows. try_at: when it was due last."""

    id: int
    channel: str
    recipient: str
    subject: str
    state: str
    error: str
    try_at: datetime


async def stuck(connection: AsyncConnection, since: datetime, most: int = 200) -> list[Stuck]:
    """Messages that failed or are unknown, due since then, the newest first."""
    found = await connection.execute(
        select(
            Message.id,
            Message.channel,
            Message.recipient,
            Message.subject,
            Message.state,
            Message.error,
            Message.try_at,
        )
        .where(or_(Message.state == "failed", Message.state == "unknown"), Message.try_at >= since)
        .order_by(Message.id.desc())
        .limit(most)
    )
    return [Stuck(*row) for row in found]


async def send_again(connection: AsyncConnection, message_id: int, now: datetime) -> None:
    """A person wants a stuck message sent (again). Conflict when it is not stuck."""
    done = await connection.execute(
        update(Message)
        .where(
            and_(Message.id == message_id, Message.state.in_(("failed", "unknown"))),
        )
        .values(
            state="waiting",
            attempts=0,
            try_at=now,
            owner="",
            expires_at=now + timedelta(days=1),
        )
    )
    if done.rowcount != 1:
        raise Conflict("the message is not stuck")


async def ignore(connection: AsyncConnection, message_id: int) -> None:
    """A person has seen a stuck message and lets it be. Conflict when it is not stuck."""
    done = await connection.execute(
        update(Message)
        .where(Message.id == message_id, Message.state.in_(("failed", "unknown")))
        .values(state="ignored", owner="")
    )
    if done.rowcount != 1:
        raise Conflict("the message is not stuck")
