"""A class that runs by itself, with real processes and Chromium; its centre is killed."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from playwright.async_api import Playwright

from media import pairing, signed
from media.programme import TYP, Kind, Programme, parse
from tests.live.browser import ChromiumViewer
from tests.live.centres import (
    CLASS_WITHIN_S,
    READY_WITHIN_S,
    Killable,
    settings,
    signed_in,
)
from tests.live.publishers import FfmpegPublisher, live
from tests.live.test_minute import demo_port
from tests.live.tree import Node, end_process, free_ports, start_process, until
from tests.schedule.receivers import Hook, Mailbox, smtp_server, webhook_receiver
from web import sample
from web.library import open_library
from web.library_settings import LibrarySettings

pytestmark = pytest.mark.live


# ------------------------------------------------------------ the demo


@pytest.fixture
def demonstration(tmp_path: Path) -> Iterator[tuple[Node, Node]]:
    """Centre and county of a demo whose class begins soon."""
    base = demo_port()
    log = tmp_path / "demo.log"
    command = [sys.executable, "-m", "web.cli", "demo", "--base-port", str(base)]
    process = start_process([*command, "--class-in", "12"], log)
    try:
        yield Node("centre", base, log), Node("county", base + 30, log)
    finally:
        end_process(process)
    assert process.returncode == 0, log.read_text()


async def test_a_class_of_the_demo_runs_by_itself(
    demonstration: tuple[Node, Node], browsers: Playwright
) -> None:
    """It begins, is watched at the county, ends, and stands in the library and on a timetable."""
    centre, county = demonstration

    async def said() -> tuple[str, str] | None:
        text = county.log.read_text(errors="replace")
        password = re.search(rf"{sample.LOGIN} / (\S+)", text)
        stream = re.search(r"/watch/(class-[0-9]+)", text)
        return (password[1], stream[1]) if password and stream else None

    password, stream = await until("the demo says what there is", said, READY_WITHIN_S)
    occurrence_id = int(stream.removeprefix("class-"))
    async with signed_in(centre.url, password) as api:
        page = await ChromiumViewer.open(browsers, county.url, stream)
        await page.playing(CLASS_WITHIN_S)
        await api.until_state(occurrence_id, "on_air")
        await page.advance(30, 20)
        await api.until_state(occurrence_id, "published")
        course = (await api.occurrence(occurrence_id))["course"]
        courses = (await api.get("/api/courses"))["courses"]

        async def look() -> Any:
            shown = await api.get(f"/api/occurrences/{occurrence_id}/attendance")
            return shown if shown["items"] else None

        attended = await until("the attendance is worked out", look, READY_WITHIN_S)
    assert course in [one["id"] for one in courses]
    # The county's room was there, counted by its node.
    assert [one["attendee"] for one in attended["items"]] == ["site:1"]

    programme = await _programme(county)
    by_id = {one.id: one for one in programme.items}
    assert (by_id[stream].kind, by_id[stream].stream) == (Kind.LIVE, stream)
    replay = by_id[f"replay-{occurrence_id}"]
    assert (replay.kind, replay.course) == (Kind.COURSE, course)


async def _programme(county: Node) -> Programme:
    """The timetable that the county has for the sample's station, signed by the demo's library."""
    folder = re.search(r"(/\S*terrace-demo-\S+)", county.log.read_text(errors="replace"))
    assert folder is not None
    key = pairing.read_pem((Path(folder[1]) / "library-public.pem").read_text())
    url = f"{county.url}/api/programmes/{sample.STATION}"
    async with aiohttp.ClientSession() as http, http.get(url) as answer:
        text = await answer.text()
        assert answer.status == 200, text
    return parse(signed.verify(text, [key], TYP))


# ------------------------------------------------------------ the centre is killed


async def test_a_killed_centre_goes_on_with_its_class(tmp_path: Path, browsers: Playwright) -> None:
    """The picture comes back, the recording goes on, and nobody is told anything twice."""
    port, county_port = free_ports(2)
    first_at = datetime.now(UTC) + timedelta(seconds=3)
    filled = await sample.fill(tmp_path / "centre.db", first_at, 60)
    stream = f"class-{filled.occurrence_id}"
    async with smtp_server() as mail, webhook_receiver() as hook:
        (tmp_path / "terrace.toml").write_text(settings(tmp_path, told=(mail, hook)))
        centre = Killable(tmp_path, port)
        county = Node("county", county_port, tmp_path / "county.log")
        publisher = None
        try:
            county.start(["--parent", centre.node.url], {})
            await centre.ready()
            publisher = FfmpegPublisher(centre.node.url, stream, tmp_path / "teacher.log")
            await live(centre.node, stream)
            page = await ChromiumViewer.open(browsers, county.url, stream)
            await page.playing()
            async with signed_in(centre.node.url, filled.password) as api:
                await api.until_state(filled.occurrence_id, "on_air")
                before = await _recorded(centre.node, stream, above=0.0)
                await until("messages went out", _told(mail, hook), READY_WITHIN_S)

                centre.node.kill()
                centre.start()
                await centre.ready()
                await live(centre.node, stream, READY_WITHIN_S)
                await page.advance(30, READY_WITHIN_S)
                # The sign-in outlives the process, as all else in the database.
                assert await api.state(filled.occurrence_id) == "on_air"
                after = await _recorded(centre.node, stream, above=float(before["seconds"]))
                assert after["id"] == before["id"]

                await api.post(f"/api/occurrences/{filled.occurrence_id}/end")
                await api.until_state(filled.occurrence_id, "published")
                shown = await api.occurrence(filled.occurrence_id)
            assert shown["course"] == before["id"]
        finally:
            if publisher is not None:
                publisher.close()
            end_process(county.process)
            end_process(centre.node.process)
        assert hook.ids()
        assert len(hook.ids()) == len(set(hook.ids()))
        ids = [one["Message-ID"] for one in mail.taken]
        assert ids
        assert len(ids) == len(set(ids))
    library = await asyncio.to_thread(open_library, LibrarySettings(folder=tmp_path / "library"))
    course = (await library.course(before["id"])).course
    # Every segment that was whole when the process was killed.
    assert course.duration_s >= float(before["seconds"])


def _told(mail: Mailbox, hook: Hook) -> Any:
    async def look() -> bool:
        return bool(mail.taken and hook.ids())

    return look


async def _recorded(centre: Node, stream: str, above: float) -> dict[str, Any]:
    """The recording of a stream that is being made, with more than so many seconds in it."""

    async def look() -> dict[str, Any] | None:
        shown = json.loads(await asyncio.to_thread(centre._get, "/api/recordings"))["recordings"]
        found = [one for one in shown if one["stream"] == stream and one["state"] == "recording"]
        return dict(found[0]) if found and found[0]["seconds"] > above else None

    return await until(f"more than {above:g} s of {stream} are recorded", look, READY_WITHIN_S)
