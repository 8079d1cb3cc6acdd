"""The ways out for messages: the log, e-mail by SMTP, a webhook, a gateway for SMS.

Each tells apart what `schedule.outbox` needs told apart: surely not sent, surely sent, unknown.
Every step has a deadline, answers are read up to a few kilobytes, and secrets are in no message.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import logging
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from email.message import EmailMessage
from email.utils import format_datetime, formataddr
from typing import Any, NoReturn

import aiohttp
import aiosmtplib

from schedule.outbox import Letter, NotSent, Unknown

logger = logging.getLogger(__name__)

ANSWER_BYTES = 4096


class LogChannel:
    """Writes messages into the log: what a centre without mail has, and a demo."""

    at_once = 1

    @contextlib.asynccontextmanager
    async def connect(self) -> AsyncIterator[LogChannel]:
        yield self

    async def deliver(self, letters: Sequence[Letter]) -> None:
        for letter in letters:
            logger.info("message to=%s subject=%s", letter.recipient, letter.subject)


# E-mail


@dataclass(frozen=True, slots=True)
class SmtpSettings:
    """A mail server. security: "tls" from the first byte, "starttls", or "none" (loopback only).

    sender: the address that messages come from. domain: the right side of their Message-IDs.
    """

    host: str
    port: int
    sender: str
    sender_name: str = "Terrace"
    security: str = "starttls"
    user: str = ""
    password: str = field(default="", repr=False)
    timeout_s: float = 30
    tls: ssl.SSLContext | None = None


class SmtpChannel:
    """E-mail: one connection for a batch, one transaction for each message."""

    at_once = 1

    def __init__(self, settings: SmtpSettings, clock: Callable[[], datetime]) -> None:
        self._settings = settings
        self._clock = clock

    @contextlib.asynccontextmanager
    async def connect(self) -> AsyncIterator[_SmtpLine]:
        settings = self._settings
        client = aiosmtplib.SMTP(
            hostname=settings.host,
            port=settings.port,
            timeout=settings.timeout_s,
            use_tls=settings.security == "tls",
            start_tls=settings.security == "starttls",
            username=settings.user or None,
            password=settings.password or None,
            tls_context=settings.tls,
        )
        try:
            await client.connect()
        except (aiosmtplib.SMTPException, OSError, TimeoutError) as error:
            client.close()
            raise NotSent(f"the mail server cannot be reached: {error}", closed=True) from error
        try:
            yield _SmtpLine(client, settings, self._clock)
        finally:
            with contextlib.suppress(aiosmtplib.SMTPException, OSError, TimeoutError):
                await client.quit()
            client.close()


class _SmtpLine:
    def __init__(
        self, client: aiosmtplib.SMTP, settings: SmtpSettings, clock: Callable[[], datetime]
    ) -> None:
        self._client = client
        self._settings = settings
        self._clock = clock

    async def deliver(self, letters: Sequence[Letter]) -> None:
        for letter in letters:
            await self._deliver(letter)

    async def _deliver(self, letter: Letter) -> None:
        message = compose(letter, self._settings, self._clock())
        try:
            await self._client.mail(self._settings.sender)
            await self._client.rcpt(letter.recipient)
        except aiosmtplib.SMTPResponseException as error:
            await self._refused(error)
        except (aiosmtplib.SMTPException, OSError, TimeoutError) as error:
            raise NotSent(f"the mail server went away: {error}", closed=True) from error
        try:
            await self._client.data(message.as_bytes())
        except aiosmtplib.SMTPResponseException as error:
            await self._refused(error)
        except (aiosmtplib.SMTPException, OSError, TimeoutError) as error:
            raise Unknown(
                f"the mail server went away while it took the message: {error}"
            ) from error

    async def _refused(self, error: aiosmtplib.SMTPResponseException) -> NoReturn:
        """RFC 5321 section 4.2.1: 5yz is for good, 4yz for now, and 421 ends the connection."""
        with contextlib.suppress(aiosmtplib.SMTPException, OSError, TimeoutError):
            await self._client.rset()
        raise NotSent(
            f"{error.code} {error.message}",
            final=500 <= error.code < 600,
            closed=error.code == 421,
        ) from error


def compose(letter: Letter, settings: SmtpSettings, now: datetime) -> EmailMessage:
    """A message as RFC 5322 wants it; an invitation is attached so that calendars act on it."""
    message = EmailMessage()
    message["From"] = formataddr((settings.sender_name, settings.sender))
    message["To"] = letter.recipient
    # A subject of several lines would be a header of its own.
    message["Subject"] = " ".join(letter.subject.split())
    message["Date"] = format_datetime(now)
    # The same message has the same id, whoever sends it and when.
    digest = hashlib.sha256(letter.id.encode()).hexdigest()[:32]
    message["Message-ID"] = f"<{digest}@{settings.sender.rpartition('@')[2]}>"
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834
    message.set_content(letter.body)
    if letter.calendar:
        method = "CANCEL" if "\nMETHOD:CANCEL" in letter.calendar else "REQUEST"
        message.add_alternative(
            letter.calendar, subtype="calendar", params={"method": method, "charset": "utf-8"}
        )
    return message


# Webhook and SMS gateway


@dataclass(frozen=True, slots=True)
class HttpSettings:
    """Where to post to. secret: signs the body. headers: what the receiver wants besides."""

    url: str
    secret: str = field(default="", repr=False)
    headers: dict[str, str] = field(default_factory=dict, repr=False)
    timeout_s: float = 20


class WebhookChannel:
    """Posts messages as JSON: {"messages": [{"id", "to", "subject", "body"}]}.

    The header Idempotency-Key is the same whenever the same messages are posted;
    Terrace-Signature is the HMAC-SHA256 of the body under the secret, in hexadecimal.
    """

    at_once = 50

    def __init__(self, settings: HttpSettings) -> None:
        self._settings = settings

    def payload(self, letters: Sequence[Letter]) -> Any:
        """The body of one request."""
        return {
            "messages": [
                {"id": one.id, "to": one.recipient, "subject": one.subject, "body": one.body}
                for one in letters
            ]
        }

    @contextlib.asynccontextmanager
    async def connect(self) -> AsyncIterator[_HttpLine]:
        timeout = aiohttp.ClientTimeout(total=self._settings.timeout_s, connect=10)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            yield _HttpLine(session, self._settings, self.payload)


class SmsChannel(WebhookChannel):
    """Posts short messages to a gateway: {"messages": [{"id", "number", "text"}]}.

    Gateways differ: another one is a subclass with a `payload` of its own.
    """

    # Longer ones are cut into several by the network, and paid for each.
    MOST_CHARACTERS = 300

    def payload(self, letters: Sequence[Letter]) -> Any:
        return {
            "messages": [
                {"id": one.id, "number": one.recipient, "text": one.body[: self.MOST_CHARACTERS]}
                for one in letters
            ]
        }


class _HttpLine:
    def __init__(
        self,
        session: aiohttp.ClientSession,
        settings: HttpSettings,
        payload: Callable[[Sequence[Letter]], Any],
    ) -> None:
        self._session = session
        self._settings = settings
        self._payload = payload

    async def deliver(self, letters: Sequence[Letter]) -> None:
        body = json.dumps(self._payload(letters), ensure_ascii=False).encode()
        digest = hashlib.sha256("\n".join(one.id for one in letters).encode()).hexdigest()
        headers = {"Content-Type": "application/json", "Idempotency-Key": digest}
        if self._settings.secret:
            signature = hmac.new(self._settings.secret.encode(), body, "sha256").hexdigest()
            headers["Terrace-Signature"] = signature
        try:
            async with self._session.post(
                self._settings.url,
                data=body,
                headers=headers | self._settings.headers,
                allow_redirects=False,
            ) as answer:
                text = (await answer.content.read(ANSWER_BYTES)).decode("utf-8", "replace")
                status = answer.status
        except (aiohttp.ClientConnectorError, aiohttp.InvalidURL) as error:
            raise NotSent(f"the receiver cannot be reached: {error}", closed=True) from error
        except (aiohttp.ClientError, TimeoutError) as error:
            raise Unknown(f"the receiver went away: {error!r:.200}") from error
        if 200 <= status < 300:
            return
        final = 300 <= status < 500 and status not in (408, 425, 429)
        first = text.strip().splitlines()[0][:200] if text.strip() else ""
        raise NotSent(
            f"the receiver answered {status} {first}".strip(), final=final, closed=not final
        )
