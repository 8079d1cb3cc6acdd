"""A real SMTP server and a real webhook receiver, which can be made to fail at chosen moments."""

from __future__ import annotations

import asyncio
import contextlib
import email
import email.policy
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from email.message import EmailMessage
from typing import Any

from aiohttp import web
from aiosmtpd.smtp import SMTP, Envelope, Session


def _set() -> asyncio.Event:
    event = asyncio.Event()
    event.set()
    return event


@dataclass
class Mailbox:
    """What an SMTP server took. refuse: recipient to the answer that it gets. cut: hang up on.

    answering: cleared, it has messages and does not say so.
    """

    port: int = 0
    taken: list[EmailMessage] = field(default_factory=list)
    refuse: dict[str, str] = field(default_factory=dict)
    cut: set[str] = field(default_factory=set)
    connections: int = 0
    answering: asyncio.Event = field(default_factory=_set)

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if address in self.refuse:
            return self.refuse[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        content = envelope.content
        assert isinstance(content, bytes)
        message = email.message_from_bytes(content, policy=email.policy.default)
        assert isinstance(message, EmailMessage)
        self.taken.append(message)
        await self.answering.wait()
        if self.cut & set(envelope.rcpt_tos):
            transport: Any = server.transport
            transport.abort()
        return "250 taken"

    def recipients(self) -> list[str]:
        return sorted(str(message["To"]) for message in self.taken)


@contextlib.asynccontextmanager
async def smtp_server(port: int = 0) -> AsyncIterator[Mailbox]:
    mailbox = Mailbox()

    def connected() -> SMTP:
        mailbox.connections += 1
        return SMTP(mailbox, hostname="test", loop=asyncio.get_running_loop(), enable_SMTPUTF8=True)

    server = await asyncio.get_running_loop().create_server(connected, "127.0.0.1", port)
    mailbox.port = server.sockets[0].getsockname()[1]
    try:
        yield mailbox
    finally:
        server.close()


@dataclass
class Hook:
    """What a webhook receiver got. answers: statuses of the next requests; 0 hangs up.

    answering: cleared, it has requests and does not answer.
    """

    url: str = ""
    bodies: list[Any] = field(default_factory=list)
    headers: list[Any] = field(default_factory=list)
    raw: list[bytes] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    answering: asyncio.Event = field(default_factory=_set)

    async def post(self, request: web.Request) -> web.Response:
        self.raw.append(await request.read())
        self.bodies.append(await request.json())
        self.headers.append(request.headers)
        await self.answering.wait()
        status = self.answers.pop(0) if self.answers else 200
        if status == 0:
            assert request.transport is not None
            request.transport.abort()
            status = 200
        return web.Response(status=status, text="no\nsecond line")

    def ids(self) -> list[str]:
        return sorted(one["id"] for body in self.bodies for one in body["messages"])


@contextlib.asynccontextmanager
async def webhook_receiver() -> AsyncIterator[Hook]:
    hook = Hook()
    app = web.Application()
    app.router.add_post("/hook", hook.post)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    assert runner.addresses
    hook.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
    try:
        yield hook
    finally:
        await runner.cleanup()
