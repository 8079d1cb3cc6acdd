"""Courses as people use them: entered by the command, found, played and uploaded in Chromium.

FFmpeg reads the same files and playlists without a warning. The pictures for eyes go where those of
the other pages go.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import av
import av.logging
import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, Route

from tests.live import tabs
from tests.live.tabs import Relay, Tab, open_tab, photograph
from tests.live.tree import until
from tests.media.clips import number_of, write_clip
from tests.media.sources import write_source

pytestmark = [pytest.mark.live, pytest.mark.asyncio(loop_scope="module")]

SRT = "1\n00:00:01,000 --> 00:00:07,500\n先把种子浸一夜\n"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library with three courses, one of sound alone, made by the command."""
    folder = tmp_path_factory.mktemp("library")
    (folder / "zh.srt").write_text(SRT, encoding="utf-8")
    rice = write_clip(folder / "rice.mp4", frames=25 * 16, size=(480, 270), audio="aac")
    await command(
        folder, str(rice), "--id", "rice", "--title", "水稻育秧技术", "--teacher", "李老师",
        "--unit", "龙华农校", "--tag", "水稻", "--tag", "农业", "--chapter", "0=选种",
        "--chapter", "0:08=播种", "--subtitles", f"zh={folder / 'zh.srt'}",
        "--description", "从选种到移栽，一亩田怎样育秧。",
    )  # fmt: skip
    talk = write_source(folder / "talk.mp3", video=None, audio="libmp3lame", seconds=12.0)
    await command(folder, str(talk), "--id", "talk", "--title", "Radio talk: weather for farmers")
    tea = write_source(folder / "tea.mkv", seconds=5.0, audio="libopus")
    await command(folder, str(tea), "--id", "tea", "--title", "Tea: pruning and picking")
    return folder


async def command(folder: Path, *arguments: str) -> None:
    """`terrace ingest`, to its end."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "web.cli", "ingest", "--config", os.devnull,
        "--library", str(folder / "library"), *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    said, _ = await asyncio.wait_for(process.communicate(), 120)
    assert process.returncode == 0, said.decode()
    assert "the course is in the library: /courses/" in said.decode()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def centre(library: Path) -> AsyncIterator[Relay]:
    settings = library / "terrace.toml"
    settings.write_text(f'[relay]\nname = "centre"\n[library]\nfolder = "{library / "library"}"\n')
    async with tabs.relay(library, "--config", str(settings)) as node:
        yield node


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with tabs.chromium() as browser:
        yield browser


@pytest_asyncio.fixture(loop_scope="module")
async def context(browser: Browser) -> AsyncIterator[BrowserContext]:
    async with tabs.person(browser) as context:
        yield context


async def player(context: BrowserContext, url: str) -> Tab:
    """A player that knows its course."""
    tab = await open_tab(context, url)
    await at(tab, lambda s: s["ready"] >= 1)
    return tab


async def at(tab: Tab, fits: Any) -> dict[str, Any]:
    """Wait until the player's state fits."""

    async def look() -> dict[str, Any] | None:
        state: dict[str, Any] = await tab.page.evaluate("window.terrace.state?.() ?? {ready: 0}")
        return state if fits(state) else None

    return await until("the player's state", look, 30)


async def test_chromium_plays_a_course_by_ranges_and_seeks(
    centre: Relay, context: BrowserContext
) -> None:
    tab = await player(context, f"{centre.url}/courses/rice")
    state = await at(tab, lambda s: s["width"] > 0)
    assert state["duration"] == pytest.approx(16.0, abs=0.1)
    answers = [await one.response() for one in tab.requests if one.url.endswith(".mp4")]
    assert [one.status for one in answers if one] == [206] * len(answers)
    await tab.page.keyboard.press("k")
    await at(tab, lambda s: s["at"] > 1)
    # Seek by the chapter, and by the keys: what is shown is what belongs there.
    await tab.page.click("#chapters button >> text=播种")
    await at(tab, lambda s: 8 <= s["at"] < 12 and not s["seeking"])
    current = await tab.page.get_attribute("#chapters li:nth-child(2) button", "aria-current")
    assert current == "true"
    await tab.page.keyboard.press("k")
    await tab.page.keyboard.press("5")
    await at(tab, lambda s: s["paused"] and not s["seeking"] and abs(s["at"] - 8) < 0.1)
    # Its number is read from the picture that Chromium shows: 8 s are 200 pictures.
    shown = await tab.page.evaluate(GRAB)
    grey = av.VideoFrame(640, 360, "gray")
    grey.planes[0].update(bytes(shown))
    assert number_of(grey) in (199, 200, 201)
    await tab.page.keyboard.press(">")
    assert await tab.page.evaluate("document.querySelector('video').playbackRate") == 1.25
    await tab.page.keyboard.press("c")
    await tab.page.keyboard.press("1")
    cues = "[...(document.querySelector('video').textTracks[0].activeCues ?? [])].map(c => c.text)"

    async def subtitles() -> bool:
        return bool(await tab.page.evaluate(cues) == ["先把种子浸一夜"])

    await until("the subtitles show", subtitles, 15)
    assert tab.errors == []


GRAB = """() => {
    const video = document.querySelector('video');
    const canvas = new OffscreenCanvas(640, 360);
    const context = canvas.getContext('2d', {willReadFrequently: true});
    context.drawImage(video, 0, 0, 640, 360);
    const {data} = context.getImageData(0, 0, 640, 360);
    return Array.from({length: 640 * 360}, (_, i) => data[i * 4 + 1]);
}"""


async def test_a_course_goes_on_where_somebody_was(centre: Relay, context: BrowserContext) -> None:
    tab = await player(context, f"{centre.url}/courses/rice")
    # Near the beginning and the end there is nothing to remember: 16 s are too short for both.
    await tab.page.evaluate("localStorage.setItem('terrace.seen', '{\"rice\": {\"at\": 12.5}}')")
    catalogue = await open_tab(context, f"{centre.url}/courses")
    seen = catalogue.page.locator("li[data-id=rice] progress")
    assert await seen.get_attribute("aria-label") == "You were at 0:12"
    again = await player(context, f"{centre.url}/courses/rice")
    await again.until_text("#over-words", "Going on at 0:12")
    await at(again, lambda s: abs(s["at"] - 12.5) < 0.5)
    await again.page.click("#restart")
    await at(again, lambda s: s["at"] < 5)


async def test_ffmpeg_reads_files_and_playlists_without_a_warning(centre: Relay) -> None:
    def read(url: str, from_s: float) -> tuple[list[Any], int, float]:
        av.logging.set_level(av.logging.WARNING)
        try:
            with av.logging.Capture(local=False) as said, av.open(url) as container:
                if from_s:
                    container.seek(int(from_s * av.time_base))
                frames = list(container.decode(video=0))
        finally:
            av.logging.set_level(None)
        return list(said), len(frames), float(frames[0].time or 0.0)

    for name in ("480p.mp4", "240p.mp4", "480p.m3u8", "master.m3u8"):
        url = f"{centre.url}/courses/rice/{name}"
        said, frames, first_s = await asyncio.to_thread(read, url, 0.0)
        assert (said, frames, first_s) == ([], 400, 0.0), name
        said, frames, first_s = await asyncio.to_thread(read, url, 9.0)
        # It begins at the keyframe before: each segment has one. (FFmpeg's HLS reads `moov` again
        # after a seek, and warns of that itself.)
        assert first_s == 8.0, name
        assert said == [] or name.endswith(".m3u8"), name


async def test_an_upload_in_chromium_becomes_a_course(
    centre: Relay, library: Path, context: BrowserContext
) -> None:
    clip = write_clip(library / "Compost.mp4", frames=50, audio="aac")
    tab = await open_tab(context, f"{centre.url}/upload")
    await tab.page.click("#start")
    await tab.until_text("#said", "Choose a video file first")
    await tab.page.set_input_files("#file", clip)
    assert await tab.page.input_value("#title") == "Compost"
    await tab.page.fill("#chapters", "now")
    await tab.page.click("#start")
    await tab.until_text("#said", "Line 1 of the chapters")
    await tab.page.fill("#chapters", "0:01 Turning")
    await tab.page.click("#start")
    await tab.until_text("#said", "The file is there")

    catalogue = await open_tab(context, f"{centre.url}/courses")
    await catalogue.page.fill("#q", "compost")

    async def there() -> bool:
        await catalogue.page.keyboard.press("Enter")
        await asyncio.sleep(0.3)
        return await catalogue.page.locator("#cards li").count() == 1

    await until("the upload is in the catalogue", there, 60)
    assert tab.errors + catalogue.errors == []


@pytest.mark.parametrize("language", ["en", "zh"])
async def test_pictures_of_catalogue_player_and_upload(
    centre: Relay, context: BrowserContext, language: str
) -> None:
    catalogue = await open_tab(context, f"{centre.url}/courses?lang={language}")
    await catalogue.page.locator("#cards li").first.wait_for()
    await photograph(catalogue, f"courses-{language}")
    await catalogue.page.fill("#q", "没有这个词")
    await catalogue.until_text("#note", "没有符合" if language == "zh" else "No course fits")
    await photograph(catalogue, f"courses-none-{language}")
    tab = await player(context, f"{centre.url}/courses/rice?lang={language}")
    await tab.page.keyboard.press("c")
    await tab.page.keyboard.press("3")
    await at(tab, lambda s: s["ready"] >= 2 and not s["seeking"] and s["at"] > 4)
    await photograph(tab, f"course-{language}")
    missing = await open_tab(context, f"{centre.url}/courses/nothing?lang={language}")
    await missing.until_text("#title", "没有这门课程" if language == "zh" else "no such course")
    await photograph(missing, f"course-none-{language}")
    upload = await open_tab(context, f"{centre.url}/upload?lang={language}")
    await upload.until_text("#file-hint", "20")
    await photograph(upload, f"upload-{language}", whole=True)
    assert catalogue.errors + tab.errors + upload.errors == []


@pytest.mark.parametrize("language", ["en", "zh"])
async def test_pictures_of_correcting_and_removing(
    centre: Relay, context: BrowserContext, language: str
) -> None:
    tab = await player(context, f"{centre.url}/courses/rice?lang={language}")
    await tab.page.click("#edit-open")
    await photograph(tab, f"course-edit-{language}")
    shown = {
        "where": "shangping-1", "title": "水稻育秧技术", "starts_at": "2026-12-01T01:00:00+00:00",
    }  # fmt: skip
    await tab.page.click("#edit-cancel")

    async def used(route: Route) -> None:
        told = {"may_edit": True, "centre": False, "uses": [shown] * 8}
        await route.fulfill(json=told)

    await tab.page.route("**/uses", used)
    await tab.page.reload()
    await tab.page.click("#edit-open")
    await tab.page.click("#remove-open")
    await photograph(tab, f"course-remove-{language}")
    await tab.page.click("#remove-no")
    assert tab.errors == []


async def test_a_course_is_corrected_and_removed_in_chromium(
    centre: Relay, library: Path, context: BrowserContext
) -> None:
    """What plays goes on while its title is corrected; what is not right is said at its field."""
    clip = write_clip(library / "plum.mp4", frames=75, audio="aac")
    await command(library, str(clip), "--id", "plum", "--title", "Pulms")
    tab = await player(context, f"{centre.url}/courses/plum")
    page = tab.page
    await page.click("#edit-open")
    assert await page.input_value("#edit-name") == "Pulms"
    await page.fill("#edit-name", "Plums")
    await page.fill("#edit-tags", "fruit，trees")
    await page.fill("#edit-chapters", "0:01 Picking\n0:50 Drying")
    await page.click("#edit-form [type=submit]")
    await tab.until_text("#edit-said", "Line 2 of the chapters lies beyond")
    await page.fill("#edit-chapters", "0:01 Picking")
    await page.click("#edit-form [type=submit]")
    await tab.until_text("#title", "Plums")
    assert await page.inner_text("#chapters button span") == "Picking"
    assert "fruit · trees" in await page.inner_text("#facts")
    catalogue = await open_tab(context, f"{centre.url}/courses?q=plums")
    await catalogue.page.locator("#cards li[data-id=plum]").wait_for()
    await page.click("#edit-open")
    await page.click("#remove-open")
    await tab.until_text("#remove-unused", "No timetable that is known here needs it")
    await page.click("#remove-yes")
    await page.wait_for_url("**/courses")
    await page.locator("#cards li[data-id=rice]").wait_for()
    assert await page.locator("#cards li[data-id=plum]").count() == 0
    assert tab.errors + catalogue.errors == []
