"""A class that runs by itself, with real processes and Chromium (issue 5, must show 1 and 2)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import sys
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from playwright.async_api import Playwright

from media import pairing, signed
from media.programme import TYP, Kind, Programme, parse
from tests.live.browser import ChromiumViewer
from tests.live.publishers import FfmpegPublisher, live
from tests.live.test_minute import demo_port
from tests.live.tree import Node, end_process, free_ports, start_process, until
from tests.schedule.receivers import Hook, Mailbox, smtp_server, webhook_receiver
from web import sample
from web.library import open_library
from web.library_settings import LibrarySettings

pytestmark = pytest.mark.live

READY_WITHIN_S = 30.0
CLASS_WITHIN_S = 60.0
"""From before its beginning to its course."""


class Api:
    """Somebody who is signed in at the centre."""

    def __init__(self, http: aiohttp.ClientSession, url: str) -> None:
        self._http = http
        self._url = url
        self._csrf = ""

    async def sign_in(self, password: str) -> None:
        body = {"login": sample.LOGIN, "password": password}
        async with self._http.post(f"{self._url}/api/session", json=body) as answer:
            assert answer.status == 200, await answer.text()
            self._csrf = (await answer.json())["csrf"]

    async def get(self, path: str) -> Any:
        async with self._http.get(f"{self._url}{path}") as answer:
            assert answer.status == 200, await answer.text()
            return await answer.json()

    async def post(self, path: str) -> None:
        headers = {"X-CSRF-Token": self._csrf}
        async with self._http.post(f"{self._url}{path}", headers=headers) as answer:
            assert answer.status < 300, await answer.text()

    async def state(self, occurrence_id: int) -> str:
        return str((await self.occurrence(occurrence_id))["state"])

    async def occurrence(self, occurrence_id: int) -> dict[str, Any]:
        stage = await self.get(f"/api/occurrences/{occurrence_id}")
        return dict(stage["occurrence"])

    async def until_state(self, occurrence_id: int, wanted: str) -> None:
        async def look() -> bool:
            return await self.state(occurrence_id) == wanted

        await until(f"the class is {wanted}", look, CLASS_WITHIN_S)


@contextlib.asynccontextmanager
async def signed_in(url: str, password: str) -> AsyncIterator[Api]:
    # The centre of a test is an address, for which a cookie jar keeps nothing by default.
    jar = aiohttp.CookieJar(unsafe=True)
    async with aiohttp.ClientSession(cookie_jar=jar) as http:
        api = Api(http, url)
        await api.sign_in(password)
        yield api


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


class Killable:
    """A centre of its own folder that can be killed and started again."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.node = Node("centre", port, folder / "centre.log")
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "web.cli", "serve"]
        command += ["--config", str(self.folder / "terrace.toml"), "--port", str(self.node.port)]
        self.node._process = start_process(command, self.node.log)

    async def ready(self) -> None:
        async def look() -> bool:
            return await asyncio.to_thread(self.node.answers)

        await until("the centre answers", look, READY_WITHIN_S)


def settings(folder: Path, mail: Mailbox, hook: Hook) -> str:
    """A centre's settings file."""
    paths = {
        name: json.dumps(str(folder / name)) for name in ("centre.db", "library", "recordings")
    }
    return (
        f"[relay]\nname = 'centre'\nrecordings = {paths['recordings']}\n"
        f"[library]\nfolder = {paths['library']}\n"
        f"[centre]\ndatabase = {paths['centre.db']}\n"
        f"smtp_host = '127.0.0.1'\nsmtp_port = {mail.port}\nsmtp_security = 'none'\n"
        f"smtp_sender = 'terrace@example.org'\nwebhook_url = '{hook.url}'\n"
    )


async def test_a_killed_centre_goes_on_with_its_class(tmp_path: Path, browsers: Playwright) -> None:
    """The picture comes back, the recording goes on, and nobody is told anything twice."""
    port, county_port = free_ports(2)
    first_at = datetime.now(UTC) + timedelta(seconds=3)
    filled = await sample.fill(tmp_path / "centre.db", first_at, 60)
    stream = f"class-{filled.occurrence_id}"
    async with smtp_server() as mail, webhook_receiver() as hook:
        (tmp_path / "terrace.toml").write_text(settings(tmp_path, mail, hook))
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
