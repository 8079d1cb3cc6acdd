"""`terrace serve`: the centre in one process: root relay, schedule, library and web.

The node and its HTTP server are those of `terrace relay` (`web.app`); this adds the open database,
the API and pages over it, and what runs by the timetable. The database is opened before the node
and closed after it. A centre that is killed has nothing to tidy up: leases run out, recordings are
gone on with, and the machine takes up each class at the step that was not noted yet.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import replace
from datetime import timedelta

from aiohttp import web
from pydantic import ValidationError
from sqlalchemy.exc import SQLAlchemyError

from media.county import County
from relay.node import Node, NodeConfig
from schedule import showings
from schedule.channels import (
    HttpSettings,
    LogChannel,
    SmsChannel,
    SmtpChannel,
    SmtpSettings,
    WebhookChannel,
)
from schedule.errors import Invalid, ScheduleError
from schedule.life import Policy
from schedule.outbox import Channel, Outbox
from web import app as node_app
from web import proofs, stays
from web.centre import app as centre_app
from web.centre import background, rooms
from web.centre.centre import Centre
from web.centre.file_player import FilePlayer
from web.centre.machinery import Live
from web.centre.pages import add_centre_pages
from web.centre.reported import Counts, Stays, keep_counts
from web.centre.scene import NodeScene
from web.centre.settings import CentreSettings
from web.centre.timetables import Timetables
from web.library import LibraryRoom, Use, UsesOf
from web.recordings import Recordings
from web.room.hub import Hub
from web.room_files import RoomFiles
from web.settings import RelaySettings, Settings


def channels_of(settings: CentreSettings, centre: Centre) -> dict[str, Channel]:
    """The ways that messages go out by; the log where nothing else is set."""
    made: dict[str, Channel] = {}
    if settings.smtp_host:
        mail = SmtpSettings(
            settings.smtp_host,
            settings.smtp_port,
            settings.smtp_sender,
            security=settings.smtp_security,
            user=settings.smtp_user,
            password=settings.smtp_password.get_secret_value(),
        )
        made["email"] = SmtpChannel(mail, centre.clock)
    if settings.webhook_url:
        secret = settings.webhook_secret.get_secret_value()
        made["webhook"] = WebhookChannel(HttpSettings(settings.webhook_url, secret))
    if settings.sms_url:
        secret = settings.sms_secret.get_secret_value()
        wanted = settings.sms_authorization.get_secret_value()
        headers = {"Authorization": wanted} if wanted else {}
        made["sms"] = SmsChannel(HttpSettings(settings.sms_url, secret, headers))
    return made or {"log": LogChannel()}


def fields_of(channels: Iterable[str]) -> dict[str, str]:
    """By channel, the field of a person that it sends to."""
    return {name: "phone" if name == "sms" else "email" for name in channels}


async def run(
    settings: Settings, config: NodeConfig, secret: str, county: County | None, room: LibraryRoom
) -> None:
    """Run the centre until SIGTERM or SIGINT.

    `secret` is what the node takes from its recorders. `county` is the centre's own book of
    stations, open. Raises `schedule.errors.StoreError`, `relay.errors.SettingError`.
    """
    relay = settings.relay
    centre = await Centre.open(settings.centre, public_url=_public_url(relay), access=config.access)
    try:
        centre.library, room.has_centre = room, True
        replay = timedelta(hours=settings.centre.replay_hours)
        room.asked_for_uses.append(_uses(centre, replay))
        channels = channels_of(settings.centre, centre)
        centre.policy = replace(centre.policy, by=fields_of(channels))
        node = Node(config)
        hub = Hub(node, centre.rooms)
        centre.rooms.hub, centre.rooms.scene = hub, NodeScene(node)
        centre.files = FilePlayer(_own_url(relay), secret, centre.rooms.file_over)
        recorded = Recordings(node, relay.recordings, relay.record, secret, ingest=room)
        timetables = Timetables(
            centre.store, node, room, centre.clock, own=county,
            token=settings.centre.county_token.get_secret_value(),
            counties=settings.centre.counties,
            replay=replay,
        )  # fmt: skip
        owner = f"{config.name}-{secrets.token_hex(8)}"
        policy = Policy(silence_s=settings.centre.silence_s, grace_s=settings.centre.grace_s)
        work = background.loops(
            centre,
            Live(centre, node, recorded, room, timetables),
            timetables,
            Outbox(centre.store, channels, owner, centre.clock),
            owner,
            policy,
        )

        def mount(app: web.Application) -> None:
            centre_app.add(app, centre)
            RoomFiles(node, settings.centre.slides, own=True).add(app)
            add_centre_pages(app)
            stays.add(app, node, relay.attendee, _keep(centre))
            if county is not None:
                proofs.add(app, county, _keep_proofs(centre))

            async def live(_app: web.Application) -> AsyncIterator[None]:
                async with rooms.running(centre.rooms):
                    running = asyncio.create_task(background.run(work), name="centre")
                    yield
                    running.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        await running
                    if centre.files is not None:
                        await centre.files.close()

            # After the recordings' own: what a crash has left must be known before a class is
            # recorded again.
            app.cleanup_ctx.append(live)

        await node_app.serve(
            node, host=relay.host, port=relay.port, drain_s=relay.drain_s, recorded=recorded,
            cache=settings.cache, county=county, room=room, mount=mount, rooms=hub,
        )  # fmt: skip
    finally:
        await centre.close()


def _uses(centre: Centre, replay: timedelta) -> UsesOf:
    """Says when the plans play a course."""

    async def uses(course_id: str) -> list[Use]:
        async with centre.store.reading() as connection:
            found = await showings.planned(connection, course_id, centre.clock(), replay)
        return [Use(one.title, one.unit, one.starts_at) for one in found]

    return uses


def _keep(centre: Centre) -> stays.Send:
    """Keeps what the centre's own node reports."""

    async def send(reports: Sequence[dict[str, object]]) -> None:
        found = Stays.model_validate({"reports": list(reports)}).reports
        try:
            await centre.keeper.keep(found)
        except (ScheduleError, SQLAlchemyError) as error:
            raise stays.NotTold(f"the database does not take it: {error}") from error

    return send


def _keep_proofs(centre: Centre) -> proofs.Send:
    """Keeps what the centre's own boxes have played."""

    async def send(path: str, reports: Sequence[proofs.Report]) -> Sequence[str]:
        try:
            if path == stays.PATH:
                found = Stays.model_validate_json(json.dumps({"reports": reports})).reports
                return (await centre.keeper.keep(found)).unknown
            counts = Counts.model_validate_json(json.dumps({"reports": reports})).reports
            async with centre.store.writing() as connection:
                return (await keep_counts(connection, counts)).unknown
        except (ValidationError, Invalid) as error:
            raise proofs.Senseless(str(error)) from error
        except (ScheduleError, SQLAlchemyError) as error:
            raise stays.NotTold(f"the database does not take it: {error}") from error

    return send


def _own_url(relay: RelaySettings) -> str:
    """Where processes of this machine reach the node."""
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(relay.host)
    return f"http://{host or (f'[{relay.host}]' if ':' in relay.host else relay.host)}:{relay.port}"


def _public_url(relay: RelaySettings) -> str:
    host = f"[{relay.host}]" if ":" in relay.host else relay.host
    return relay.public_url or f"http://{host}:{relay.port}"
