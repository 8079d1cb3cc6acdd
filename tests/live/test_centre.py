"""A class that runs by itself, with real processes and Chromium."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
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
    signed_in,
)
from tests.live.test_minute import demo_port
from tests.live.tree import Node, end_process, start_process, until
from web import sample

pytestmark = [pytest.mark.live, pytest.mark.alone]


# ------------------------------------------------------------ the demo


@pytest.fixture
def demonstration(tmp_path: Path) -> Iterator[tuple[Node, Node]]:
    """Centre and county of a demo whose class begins soon."""
    base = demo_port()
    log = tmp_path / "demo.log"
    command = [sys.executable, "-m", "web.cli", "demo", "--base-port", str(base)]
    process = start_process([*command, "--class-in", "20"], log)
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
