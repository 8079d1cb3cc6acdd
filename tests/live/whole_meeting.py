"""A whole meeting through the pages, as people use them, over a real tree with three counties.

Five sites are Chromium processes of their own with small fake pictures; the director, two
presenters and the hall are tabs of a sixth. Every step leaves pictures for eyes in SHOTS.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.async_api import Browser, BrowserContext, Playwright, async_playwright

from tests.lab import namespaces
from tests.live import meeting, tabs
from tests.live.browser import executable
from tests.live.meeting import LOGIN, PASSWORD, SITES, House, Meeting
from tests.live.tabs import SHOTS, Keys, Tab, open_tab
from tests.live.tree import until
from tests.media.papers import pdf
from tests.patience import PATIENCE

pytestmark = [pytest.mark.live, pytest.mark.alone]

FLAGS = [
    *(flag for flag in tabs.FLAGS if flag != tabs.FAKE_DEVICES),
    # Five encoders and six decoders share two cores with the tree.
    "--use-fake-device-for-media-stream=fps=6",
]
SMALL = "localStorage.setItem('terrace.room.size', '180');"
WITHIN_S = 15.0


async def chromium(playwright: Playwright, program: str = "", flags: Sequence[str] = ()) -> Browser:
    return await playwright.chromium.launch(
        executable_path=program or executable(), args=[*FLAGS, *flags]
    )


async def processes(browser: Browser) -> list[int]:
    """The processes of a browser, by their ids."""
    session = await browser.new_browser_cdp_session()
    found = (await session.send("SystemInfo.getProcessInfo"))["processInfo"]
    await session.detach()
    return [int(one["id"]) for one in found]


class Far:
    """A line of its own for the browser of one site.

    Its county is reached by an address that others could reach too, so it asks for tokens.
    """

    def __init__(self, folder: Path, spur: namespaces.Spur) -> None:
        self.spur = spur
        self.keys = Keys.make(folder)
        self.program = folder / "far-chromium"
        self.program.write_text(f'#!/bin/sh\nexec {shlex.join(spur.command(executable()))} "$@"\n')
        self.program.chmod(0o755)

    def county(self) -> list[str]:
        """The arguments of its county."""
        key = str(self.keys.public_file)
        return ["--host", "0.0.0.0", "--advertise", self.spur.above, "--public-key", key]


@dataclass
class Room:
    """The tree, the meeting, and everybody in it by name."""

    house: House
    meeting: Meeting
    playwright: Playwright
    desk: Browser
    sites: dict[str, Tab] = field(default_factory=dict)
    browsers: dict[str, Browser] = field(default_factory=dict)
    tabs: dict[str, Tab] = field(default_factory=dict)
    shots: int = 0
    began: float = field(default_factory=time.monotonic)

    @property
    def console(self) -> Tab:
        return self.tabs["console"]

    def site(self, code: str) -> int:
        return self.meeting.sites[code]

    async def context(self, browser: Browser, wide: int, high: int) -> BrowserContext:
        made = await browser.new_context(
            viewport={"width": wide, "height": high}, locale="zh-CN", timezone_id="Asia/Shanghai"
        )
        await made.add_init_script(SMALL)
        return made

    async def enter(self, code: str, far: Far | None = None) -> Tab:
        """A site opens its page at its county, in a browser of its own, at the end of a line."""
        county = self.house[SITES[code][0]]
        path = f"/room/{self.meeting.occurrence}?site={self.site(code)}"
        if far is None:
            self.browsers[code] = await chromium(self.playwright)
            url = f"{county.url}{path}"
        else:
            origin = f"http://{far.spur.above}:{county.port}"
            # No camera without TLS, except where this says so.
            flag = f"--unsafely-treat-insecure-origin-as-secure={origin}"
            self.browsers[code] = await chromium(self.playwright, str(far.program), [flag])
            stream = f"class-{self.meeting.occurrence}"
            token = far.keys.issue(publish=(f"{stream}.site-{self.site(code)}",), view=("*",))
            url = f"{origin}{path}#token={token}"
        context = await self.context(self.browsers[code], 960, 640)
        tab = await open_tab(context, url)
        self.sites[code] = tab
        await tab.until("s.link === 'up' && s.sender === 'up'", WITHIN_S)
        return tab

    async def open(self, name: str, path: str, wide: int = 960, high: int = 600) -> Tab:
        """A page at the centre, in a profile of its own."""
        context = await self.context(self.desk, wide, high)
        url = f"{self.house['centre'].url}/room/{self.meeting.occurrence}{path}"
        self.tabs[name] = await open_tab(context, url)
        return self.tabs[name]

    def note(self, what: str) -> None:
        """Write down when something was so."""
        with (SHOTS / "meeting.txt").open("a") as times:
            times.write(f"{time.monotonic() - self.began:6.1f} s  {what}\n")

    async def shoot(self, step: str, *names: str) -> None:
        """Pictures of these pages as they are now."""
        SHOTS.mkdir(parents=True, exist_ok=True)
        if self.shots == 0:
            (SHOTS / "meeting.txt").unlink(missing_ok=True)
        self.shots += 1
        self.note(step)
        for name in names:
            tab = self.tabs.get(name) or self.sites[name]
            path = SHOTS / f"meeting-{self.shots:02}-{step}-{name}.png"
            await tab.page.screenshot(path=path, animations="disabled", timeout=120_000)

    async def press(self, keys: str) -> None:
        """The director presses keys, one after the other; nothing has the keyboard before."""
        await self.console.page.evaluate("document.activeElement?.blur()")
        for key in keys.split():
            await self.console.page.keyboard.press(key)

    async def on_air(self, source: str) -> None:
        """Cut to a source by its key, as the director does, and wait until all are told."""
        bank = "[...document.querySelectorAll('.source .source-name')]"
        found = f"{bank}.findIndex((one) => one.textContent === '{source}')"
        await self.console.until(f"{found} >= 0", WITHIN_S)
        number = int(await self.console.page.evaluate(found)) + 1
        await self.press(str(number))
        await self.console.until("s.previewState === 'playing'", WITHIN_S)
        await self.press("Enter")

    async def programme(self, source: str) -> None:
        """Wait until everybody is told that this is the programme."""
        for tab in [*self.tabs.values(), *self.sites.values()]:
            await tab.until(f"s.state.programme?.source === '{source}'", WITHIN_S)


@contextlib.asynccontextmanager
async def room(
    folder: Path, more: Mapping[str, Sequence[str]] = meeting.NOTHING_MORE
) -> AsyncIterator[Room]:
    """The tree and a meeting that begins now; everything ends with the block."""
    planned = await meeting.plan(folder / "centre.db")
    with meeting.house(folder, more) as house:
        await house.ready()
        async with async_playwright() as playwright:
            one = Room(house, planned, playwright, await chromium(playwright))
            try:
                yield one
            except Exception as error:
                error.add_note(house.logs())
                with contextlib.suppress(Exception):
                    await one.shoot("failed", *one.tabs, *one.sites)
                raise
            finally:
                for browser in [one.desk, *one.browsers.values()]:
                    with contextlib.suppress(Exception):
                        await browser.close()


async def begin(one: Room) -> None:
    """The director signs in and opens the room; the presenter and the hall come in."""
    console = await one.open("console", "/console", 1536, 864)
    await console.page.wait_for_url("**/centre/signin*", timeout=20_000 * PATIENCE)
    await console.page.fill("#login", LOGIN)
    await console.page.fill("#password", PASSWORD)
    await console.page.keyboard.press("Enter")
    await console.page.wait_for_url("**/console", timeout=20_000 * PATIENCE)
    await console.until("s.link === 'up' && s.state.meeting", WITHIN_S)
    await one.shoot("before", "console")
    await console.page.click("#open")
    await console.until("s.state.meeting.room === 'open'", WITHIN_S)
    presenter = await one.open("presenter", "?as=presenter")
    await presenter.until("s.sender === 'up'", WITHIN_S)
    await console.until("document.querySelector('.source')", WITHIN_S)
    await one.on_air("李老师")
    await one.programme("presenter")
    hall = await one.open("hall", "/hall", 960, 540)
    await hall.until("s.programme === 'playing'", WITHIN_S)


async def watches(tab: Tab) -> None:
    """The programme moves on this page."""
    await tab.until("s.programme === 'playing'", WITHIN_S)
    before = (await tab.stats())["framesDecoded"]
    # A machine that is shared makes a line look full, and then its picture waits for its sound.
    await tab.until(f"s.framesDecoded > {before} + 5", 2 * WITHIN_S)


# Ten minutes where others share the machine, one and a half on a quiet one.
@pytest.mark.timeout(1200)
async def test_a_meeting_from_line_test_to_its_recording(tmp_path: Path) -> None:
    await asyncio.to_thread(meeting.put_in_a_film, tmp_path, 60)
    async with room(tmp_path) as one:
        await begin(one)
        await asyncio.gather(*(one.enter(code) for code in SITES))
        for tab in one.sites.values():
            await watches(tab)
        console, hall = one.console, one.tabs["hall"]
        await console.until("s.state.counts.sites === 5", WITHIN_S)
        await one.press("g w")
        playing = "document.querySelectorAll('#wall .frame[data-picture=playing]').length"
        await console.until(f"{playing} === 5", WITHIN_S)
        await one.shoot("patrol", "console", "longhua-hall", "hall")
        await one.press("w")

        await line_test(one)
        await roll_call(one)
        await two_presenters(one)
        await floor(one)
        await film(one)
        await slides(one)
        await poll(one)
        await ballot(one)
        for tab in [*one.tabs.values(), *one.sites.values()]:
            assert tab.errors == []
        assert (await hall.stats())["reconnects"] == 0, "the hall's session was made once"
        await adjourn(one)
        await recorded(one)


async def line_test(one: Room) -> None:
    tab = one.sites["longhua-hall"]
    await tab.page.keyboard.press("1")
    await tab.page.keyboard.press("t")
    await tab.page.click("#speaker-yes", timeout=20_000 * PATIENCE)
    await tab.until("s.test !== null", WITHIN_S)
    await one.press("g")
    await one.console.until("s.told.tests.length === 1", WITHIN_S)
    await one.shoot("line-test", "longhua-hall", "console")
    await tab.page.keyboard.press("2")


async def roll_call(one: Room) -> None:
    """Four answer themselves; one is marked absent by the host."""
    console = one.console
    await one.press("r")
    await console.page.click("#roll-start")
    by_site = {one.site(code): code for code in SITES}
    for done in range(len(SITES)):
        await console.until(f"s.state.rollcall?.done === {done} && s.state.rollcall.site", WITHIN_S)
        called = (await console.stats())["state"]["rollcall"]["site"]
        code = by_site[called]
        tab = one.sites[code]
        await tab.page.locator("#rollcall-card").wait_for(timeout=20_000 * PATIENCE)
        await one.tabs["hall"].until("s.scene.startsWith('rollcall')", WITHIN_S)
        if done in (0, 1):
            await one.shoot("roll-call", "console", "hall", code)
        if code == "fengning-town":
            await one.press("n")
        else:
            await tab.page.fill("#people", str(10 + done))
            await tab.page.click("#rollcall-form button")
        await console.until(f"s.told.marks.some((one) => one.site_id === {called})", WITHIN_S)
        await one.press("j")
    await one.shoot("roll-called", "console")
    marks = {by_site[m["site_id"]]: m["presence"] for m in (await console.stats())["told"]["marks"]}
    assert marks == dict.fromkeys(SITES, "present") | {"fengning-town": "absent"}
    # The last "next" is the end of it.
    await console.until("!s.state.rollcall", WITHIN_S)
    await one.press("0")
    await one.programme("presenter")


async def two_presenters(one: Room) -> None:
    second = await one.open("second", "?as=second")
    await second.until("s.sender === 'up'", WITHIN_S)
    await one.on_air("第二主讲人")
    await one.programme("second")
    await second.until("s.standing.isLive", WITHIN_S)
    await watches(one.sites["luanping-hall"])
    await one.shoot("second-presenter", "console", "second", "hall", "luanping-hall")
    await one.on_air("李老师")
    await one.programme("presenter")


async def floor(one: Room) -> None:
    """A hand goes up in one county; the site is seen and heard by all, and then no more."""
    asks = one.sites["fengning-hall"]
    await asks.page.fill("#hand-text", "前进段堤坝渗水，请求支援")
    await asks.page.click("#hand-button")
    console = one.console
    source = f"site-{one.site('fengning-hall')}"
    await console.until("s.told.hands.length === 1", WITHIN_S)
    await console.until(
        "document.querySelector('.hand-row .frame').dataset.picture === 'playing'", WITHIN_S
    )
    await asks.until("s.standing.seen === 'host'", WITHIN_S)
    await one.shoot("hand", "console", "fengning-hall")
    await one.press("h")
    await one.programme(source)
    await asks.until("s.standing.isLive && s.standing.heard === 'all'", WITHIN_S)
    assert (await asks.stats())["programmeQuiet"], "a site never hears itself"
    for code in ("longhua-hall", "luanping-hall"):
        await watches(one.sites[code])
    await one.shoot("floor", "console", "fengning-hall", "longhua-hall", "hall")
    await one.press("t")
    await one.programme("presenter")
    await asks.until("!s.standing.isLive && s.standing.heard !== 'all'", WITHIN_S)
    await one.shoot("taken-back", "console", "fengning-hall")


async def film(one: Room) -> None:
    """A course of the library is played in, and the presenter follows."""
    console = one.console
    await one.press("v")
    await console.page.locator("#films button").first.click(timeout=20_000 * PATIENCE)
    await console.until("s.preview === 'file' && s.previewState === 'playing'", 2 * WITHIN_S)
    await one.press("Enter")
    await one.programme("file")
    await watches(one.sites["luanping-hall"])
    await one.shoot("film", "console", "hall", "luanping-hall")
    await one.press("0")
    await one.programme("presenter")
    # It may have ended by itself on a machine that is shared.
    await console.page.evaluate("document.querySelector('#film-stop').click()")
    await console.until("s.told.file === ''", WITHIN_S)


async def slides(one: Room) -> None:
    """A file of three pages is sent, flipped, and taken off again."""
    console = one.console
    await console.page.set_input_files(
        "#deck-file", {"name": "部署.pdf", "mimeType": "application/pdf", "buffer": pdf(3)}
    )
    await console.until_text("#deck-said", "已就绪")
    for number in (1, 2):
        await one.press("ArrowRight")
        for tab in (one.tabs["hall"], one.sites["luanping-hall"]):
            await tab.until(f"s.state.slides?.page === {number}", WITHIN_S)
            await tab.until(
                "document.querySelector('#slide').naturalWidth > 0 && "
                f"document.querySelector('#slide').alt.includes('{number}')",
                WITHIN_S,
            )
    await one.shoot("slides", "console", "hall", "luanping-hall")
    await console.page.click("#slides-off")
    await console.until("!s.state.slides", WITHIN_S)


async def poll(one: Room) -> None:
    """Six answer, of which one loads its page anew: each counts once."""
    console = one.console
    phone = await one.open("phone", "/phone", 390, 844)
    await phone.until("s.link === 'up'", WITHIN_S)
    await one.press("q")
    await console.page.fill("#poll-text", "今晚能否完成转移?")
    await console.page.fill("#poll-answers", "能\n不能\n需要支援")
    await console.page.click("#poll-form button")
    answers = [0, 0, 2, 1, 0]
    for tab, choice in zip(one.sites.values(), answers, strict=True):
        await tab.page.click(f"#poll-options button >> nth={choice}", timeout=20_000 * PATIENCE)
        await tab.until_text("#poll-card", "已计入")
    await phone.page.locator("#poll-options button").first.wait_for(timeout=20_000 * PATIENCE)
    await one.shoot("poll", "console", "phone", "hall", "longhua-hall")
    await phone.page.click("#poll-options button >> nth=2")
    await phone.until_text("#poll-card", "已计入")
    await phone.page.reload()
    await phone.until_text("#poll-card", "已计入")
    await console.until("s.told.polls[0]?.voters === 6", WITHIN_S)
    await console.page.click("#poll-show")
    await one.tabs["hall"].until("s.state.poll?.shown", WITHIN_S)
    told = (await console.stats())["told"]["polls"][0]
    assert told["counts"] == [3, 1, 2]
    await one.tabs["hall"].until_text("#side", "3 · 50%")
    await one.shoot("poll-shown", "console", "phone", "hall", "longhua-hall")
    await console.page.click("#poll-end")
    await console.until("s.told.polls[0]?.open === false", WITHIN_S)
    await console.page.click("#poll-end")
    await console.until("!s.state.poll?.shown", WITHIN_S)


VOTES = {"longhua-hall": 0, "fengning-hall": 1, "luanping-hall": 0}


async def ballot(one: Room) -> None:
    """Six units have a vote each. Three counties cast theirs, and not from two rooms."""
    console, hall = one.console, one.tabs["hall"]
    await one.press("b")
    await console.page.fill("#vote-text", "是否启用大洼蓄滞洪区?")
    await console.page.fill("#vote-answers", "同意\n反对\n弃权")
    await console.page.fill("#vote-minutes", "15")
    await console.page.click("#vote-form button")
    await hall.until("s.scene.startsWith('ballot')", WITHIN_S)
    for code, choice in VOTES.items():
        page = one.sites[code].page
        await page.click(f"#ballot-options label >> nth={choice}", timeout=20_000 * PATIENCE)
        if code == "longhua-hall":
            await one.shoot("ballot-chosen", code)
        await page.click("#ballot-cast")
        await one.sites[code].until_text("#ballot-hint", "已密封入箱")
    late = one.sites["longhua-town"]
    await late.page.click("#ballot-options label >> nth=1")
    await late.page.click("#ballot-cast")
    await late.until_text("#ballot-hint", "本单位已领过选票")
    await console.until_text("#vote-ring", "3 / 6")
    await one.shoot("ballot", "console", "hall", "longhua-hall", "longhua-town")
    assert (await console.stats())["told"]["ballots"][0]["result"] is None, (
        "sealed until it is over"
    )

    await console.page.click("#vote-end")
    await hall.until("s.state.ballot?.result", 2 * WITHIN_S)
    assert (await hall.stats())["state"]["ballot"]["result"] == [2, 1, 0]
    await console.until_text("#vote-bars", "2 · 67%")
    await hall.until_text("#side", "2 · 67%")
    await one.sites["luanping-hall"].until_text("#ballot-result", "2 · 67%")
    await one.shoot("ballot-result", "console", "hall", "luanping-hall")


async def adjourn(one: Room) -> None:
    """The director ends the meeting; every page says so, and they all go home."""
    console = one.console
    await console.page.click("#close")
    await one.shoot("adjourn", "console")
    await console.page.click("#close-yes")
    for tab in [one.tabs["hall"], *one.sites.values()]:
        await tab.until("s.state.meeting.room === 'closed'", WITHIN_S)
    await console.until("s.programme === 'off'", WITHIN_S)
    await one.shoot("over", "console", "hall", "longhua-hall", "phone")
    for code in list(one.sites):
        await one.browsers.pop(code).close()
        del one.sites[code]
    for name in ("presenter", "second", "hall", "phone"):
        await one.tabs.pop(name).page.context.close()


async def recorded(one: Room) -> None:
    """What all have seen stands in the library, is found there, and is played."""
    console = one.console
    await console.page.click("#minutes")
    await console.page.wait_for_url("**/centre/occurrence/*", timeout=20_000 * PATIENCE)
    await console.until("s.stage?.occurrence.state === 'published'", 120)
    await one.shoot("published", "console")
    course = (await console.stats())["stage"]["occurrence"]["course"]
    library = await open_tab(console.page.context, f"{one.house['luanping'].url}/courses")
    await library.page.locator(f"a[href*='{course}']").wait_for(timeout=20_000 * PATIENCE)
    one.tabs["library"] = library
    posters = "[...document.querySelectorAll('.poster img')]"
    await library.until(f"{posters}.every((one) => one.hidden || one.naturalWidth)", WITHIN_S)
    assert not await library.page.evaluate(f"{posters}.some((one) => one.hidden)")
    await one.shoot("library", "library")
    await console.page.click("#recording")
    played = "window.terrace?.state?.() ?? {ready: 0}"
    await until_played(console, f"({played}).ready >= 1")
    await one.shoot("course", "console")
    await console.page.keyboard.press("5")
    await console.page.keyboard.press("k")
    began = (await console.page.evaluate(played))["duration"] / 2
    await until_played(console, f"({played}).at > {began} + 3 && ({played}).width > 0")
    assert (await console.page.evaluate(played))["error"] == ""
    await one.shoot("course-plays", "console")


async def until_played(tab: Tab, condition: str) -> None:
    """Wait until the player's state fits."""

    async def look() -> bool:
        return bool(await tab.page.evaluate(condition))

    await until(condition, look, 30 * PATIENCE)


@pytest.mark.timeout(1200)
async def test_a_site_that_vanishes_on_the_floor_leaves_one_button(tmp_path: Path) -> None:
    """Put to sleep, loaded anew, closed: everybody sees the presenter, the host has one button."""
    async with room(tmp_path) as one:
        await begin(one)
        site = await one.enter("longhua-hall")
        source = f"site-{one.site('longhua-hall')}"
        for how in ("asleep", "reloaded", "closed"):
            await give(one, site, source)
            asleep = await processes(one.browsers["longhua-hall"])
            if how == "asleep":
                send(asleep, signal.SIGSTOP)
            elif how == "reloaded":
                await site.page.goto("about:blank")
            else:
                await one.browsers["longhua-hall"].close()
                del one.sites["longhua-hall"]
            began = time.monotonic()
            await one.console.until("s.told.attention.length === 1", WITHIN_S)
            await one.console.until("s.state.programme.source === 'presenter'", WITHIN_S)
            await one.tabs["hall"].until("s.state.programme.source === 'presenter'", WITHIN_S)
            took_s = time.monotonic() - began
            await one.console.page.locator("#lost-button").wait_for(timeout=20_000 * PATIENCE)
            await one.shoot(f"lost-{how}", "console", "hall")
            assert took_s < 5.0 * PATIENCE, f"{how}: the programme was back after {took_s:.1f} s"
            if how == "asleep":
                send(asleep, signal.SIGCONT)
                await back(one, source)
            elif how == "reloaded":
                await site.page.go_back()
                await site.until("s.link === 'up' && s.sender === 'up'", WITHIN_S)
                await back(one, source)
            else:
                await one.press("z")
                await one.console.until("s.told.attention.length === 0", WITHIN_S)
                await one.console.until(f"!('{source}' in s.state.floor)", WITHIN_S)
        assert one.console.errors == []


@pytest.mark.skipif(bool(namespaces.refusal()), reason=namespaces.refusal() or "-")
@pytest.mark.timeout(1200)
async def test_a_site_that_loses_its_line_on_the_floor_knows_it_and_comes_back(
    tmp_path: Path,
) -> None:
    """Its browser lives, but no packet passes either way; everybody sees something sensible.

    A short cut is over before the sessions are given up, a long one is not.
    """
    with namespaces.Spur() as spur:
        far = Far(tmp_path, spur)
        async with room(tmp_path, {"longhua": far.county()}) as one:
            await begin(one)
            site = await one.enter("longhua-hall", far)
            source = f"site-{one.site('longhua-hall')}"
            loaded = await site.page.evaluate("performance.timeOrigin")
            for cut_s in (6, 40):
                await give(one, site, source)
                await site.until_text("#lamp-live", "您正在直播")
                await one.shoot("line-whole", "longhua-hall")
                spur.cut()
                began = time.monotonic()
                known_s = await line_is_cut(one, site, began)
                await asyncio.sleep(max(0.0, began + cut_s - time.monotonic()))
                await site.until("s.link !== 'up' && !s.standing.isLive", 0.5)
                await one.shoot(f"line-cut-for-{cut_s}-s", "longhua-hall")
                spur.mend()
                began = time.monotonic()
                await site.until("s.link === 'up' && s.sender === 'up' && !s.problem", WITHIN_S)
                await site.until("s.programme === 'playing'", WITHIN_S)
                back_s = time.monotonic() - began
                one.note(f"cut for {cut_s} s: known in {known_s:.1f} s, back in {back_s:.1f} s")
                await one.shoot("line-mended", "longhua-hall")
                assert known_s < 5.0 * PATIENCE, f"all knew it after {known_s:.1f} s"
                assert back_s < 15.0 * PATIENCE, f"the site was back after {back_s:.1f} s"
                await back(one, source)
                await site.until("!s.standing.isLive && !s.standing.hasFloor", WITHIN_S)
            assert await site.page.evaluate("performance.timeOrigin") == loaded, "loaded anew"
            assert one.console.errors == []


async def line_is_cut(one: Room, site: Tab, began: float) -> float:
    """Wait until the host, the hall and the site itself know; the seconds until the last did."""
    presenter = "s.state.programme.source === 'presenter'"
    known = await asyncio.gather(
        since(began, one.console.until(f"{presenter} && s.told.attention.length === 1", WITHIN_S)),
        since(began, one.console.until_text("#lost-button", "收回发言权")),
        since(began, one.tabs["hall"].until(presenter, WITHIN_S)),
        since(began, site.until("s.link !== 'up' && !s.standing.isLive", WITHIN_S)),
        since(began, site.until_text("#lamp-live", "您未在直播")),
        since(began, site.until_text("#lamp-seen", "与节点的线路不通")),
        since(began, site.until_text("#lamp-heard", "无人听见您")),
        since(began, site.until_text("#problem", "正在自动重新连接")),
        since(began, site.until_text("#hand-card", "现在没有人能听到您")),
    )
    await one.shoot("line-cut", "longhua-hall", "console", "hall")
    return max(known)


async def since(began: float, work: Awaitable[None]) -> float:
    """When something was done, in seconds after `began`."""
    await work
    return time.monotonic() - began


async def give(one: Room, site: Tab, source: str) -> None:
    """The site asks for the floor and gets it."""
    # A hand that goes up while the page still has the floor goes down with it.
    await site.until("!s.handUp && !s.standing.hasFloor && s.view === 'live'", WITHIN_S)
    await site.page.evaluate("document.activeElement?.blur()")
    await site.page.keyboard.press("h")
    await one.console.until("s.told.hands.length === 1", WITHIN_S)
    await one.press("h")
    await one.console.until(f"s.state.programme?.source === '{source}'", WITHIN_S)
    await site.until("s.standing.isLive", WITHIN_S)


async def back(one: Room, source: str) -> None:
    """It is there again: the same button puts it on air, and T takes the floor back."""
    await one.console.until("s.told.attention[0]?.what === 'back'", 2 * WITHIN_S)
    await one.shoot("back", "console")
    await one.press("z")
    await one.console.until(f"s.state.programme.source === '{source}'", WITHIN_S)
    await one.console.until("s.told.attention.length === 0", WITHIN_S)
    await one.press("t")
    await one.console.until("s.state.programme.source === 'presenter'", WITHIN_S)


def send(processes: list[int], number: signal.Signals) -> None:
    """With SIGSTOP a browser says nothing and hears nothing, as on a line that was cut."""
    for one in processes:
        os.kill(one, number)
