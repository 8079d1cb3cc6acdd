"""Which ways messages go out by, from the settings to what a gateway gets."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from pydantic import SecretStr

from schedule import people, reminders
from schedule.outbox import Outbox
from tests.schedule.network import Network
from web.centre.centre import Centre
from web.centre.settings import CentreSettings
from web.serve import channels_of, fields_of

Receive = Callable[[], Awaitable[str]]


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        (CentreSettings(), ["log"]),
        (CentreSettings(sms_url="https://sms.example/send"), ["sms"]),
        (
            CentreSettings(
                smtp_host="mail.example",
                smtp_sender="a@b.cn",
                sms_url="http://g/",
                webhook_url="http://w/",
            ),
            ["email", "webhook", "sms"],
        ),
    ],
)
async def test_the_ways_are_those_that_are_set(
    centre: Centre, settings: CentreSettings, names: list[str]
) -> None:
    assert list(channels_of(settings, centre)) == names


async def test_an_invitation_reaches_a_telephone_through_the_gateway(
    centre: Centre, network: Network
) -> None:
    """Only people with a number get one, with the operator's own header, once."""
    got: list[tuple[dict[str, str], Any]] = []

    async def take(request: web.Request) -> web.Response:
        got.append((dict(request.headers), await request.json()))
        return web.Response(status=202)

    app = web.Application()
    app.router.add_post("/send", take)
    async with TestServer(app) as gateway:
        settings = CentreSettings(
            sms_url=str(gateway.make_url("/send")), sms_authorization=SecretStr("Key 123")
        )
        channels = channels_of(settings, centre)
        policy = replace(centre.policy, by=fields_of(channels), offsets=(timedelta(days=2),))
        async with network.store.writing() as connection:
            await people.change_person(connection, network.people["P1"], {"phone": "+86 138 0000"})
        await network.confirmed(network.draft("P1", presenter_id=network.people["P1"]))
        async with network.store.writing() as connection:
            assert await reminders.remind(connection, centre.clock(), policy) == 1
        outbox = Outbox(centre.store, channels, "one", centre.clock)
        assert await outbox.work() == 1
        assert await outbox.work() == 0
    ((headers, body),) = got
    assert headers["Authorization"] == "Key 123"
    assert [one["number"] for one in body["messages"]] == ["+86 138 0000"]
    assert "Mathematics" in body["messages"][0]["text"]
