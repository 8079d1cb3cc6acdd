"""The index, names from outside, what the modules decide, and pictures of every page for eyes.

The pictures go to the folder in SHOTS (default tests/live/output/shots).
"""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext

from tests.live import tabs
from tests.live.tabs import Keys, Relay, open_tab, photograph, present

LANGUAGES = ("en", "zh")

# One browser for the file: its start takes longer than most of these tests.
pytestmark = [pytest.mark.live, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(loop_scope="module")
async def relay(tmp_path: Path) -> AsyncIterator[Relay]:
    """A county node in open mode."""
    async with tabs.relay(tmp_path, "--name", "longhua", "--tier", "county") as node:
        yield node


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with tabs.chromium() as browser:
        yield browser


@pytest_asyncio.fixture(loop_scope="module")
async def context(browser: Browser) -> AsyncIterator[BrowserContext]:
    async with tabs.person(browser) as context:
        yield context


@pytest_asyncio.fixture(loop_scope="module")
async def keyed(tmp_path: Path) -> AsyncIterator[tuple[Relay, Keys]]:
    """A node that asks for tokens, and the keys to issue them."""
    keys = Keys.make(tmp_path)
    async with tabs.relay(
        tmp_path, "--name", "longhua", "--public-key", str(keys.public_file)
    ) as node:
        yield node, keys


# ---------------------------------------------------------------- the index


async def test_the_index_leads_to_what_is_live(relay: Relay, context: BrowserContext) -> None:
    await present(context, f"{relay.url}/present/lecture")
    index = await open_tab(context, f"{relay.url}/")
    await index.until_text("#streams", "On air")
    assert "County" in await index.page.inner_text(".tier")
    await index.page.click("#streams >> text=Watch")
    await index.until("s.state === 'playing'")
    assert index.page.url == f"{relay.url}/watch/lecture"


async def test_a_name_is_checked_before_it_is_asked_for(
    relay: Relay, context: BrowserContext
) -> None:
    index = await open_tab(context, f"{relay.url}/")
    await index.page.fill("#name", "two words")
    await index.page.keyboard.press("Enter")
    await index.until_text("#name-hint", "This is not a stream name")
    await index.page.fill("#name", "lecture")
    await index.page.click("#go >> text=Present")
    await index.page.wait_for_url(f"{relay.url}/present/lecture")


async def test_the_index_says_when_its_node_is_gone(relay: Relay, context: BrowserContext) -> None:
    index = await open_tab(context, f"{relay.url}/")
    await index.until_text("#node-chip", "Running")
    relay.stop()
    await index.until_text("#node-chip", "No answer")
    await relay.start()
    await index.until_text("#node-chip", "Running")


async def test_a_hostile_node_name_runs_nothing(tmp_path: Path, context: BrowserContext) -> None:
    async with tabs.relay(tmp_path, "--name", "<img src=x onerror=window.bitten=1>") as node:
        for path in ("/", "/watch/lecture", "/present/lecture"):
            tab = await open_tab(context, node.url + path)
            assert "<img" in await tab.page.inner_text("body")
            assert await tab.page.evaluate("window.bitten") is None
            assert await tab.page.locator("img").count() == 0


# ---------------------------------------------------------------- decisions of the modules


async def run(relay: Relay, context: BrowserContext, module: str, expression: str) -> Any:
    """Evaluate `expression` with `m`, one of the pages' modules."""
    tab = await open_tab(context, f"{relay.url}/watch/lecture")
    return await tab.page.evaluate(
        f"""async () => {{
            const base = document.querySelector('script[src]').src;
            const m = await import(new URL('{module}', base));
            return {expression};
        }}"""
    )


async def test_waits_grow_and_obey_the_node(relay: Relay, context: BrowserContext) -> None:
    got = await run(
        relay,
        context,
        "line.js",
        """{
            lowest: [...Array(9).keys()].map((n) => m.waitBefore(n, null, 0)),
            highest: m.waitBefore(8, null, 1),
            asked: [m.waitBefore(0, 7, 0), m.waitBefore(8, 7, 1), m.waitBefore(0, 0, 0)],
        }""",
    )
    assert got["lowest"] == [1, 2, 3, 5, 8, 12, 15, 15, 15]
    assert got["highest"] == 18.75
    assert got["asked"] == [7, 8.75, 0.5]


async def test_a_hurry_in_the_middle_of_an_attempt_shortens_the_wait_after_it(
    relay: Relay, context: BrowserContext
) -> None:
    """The line may be there again although this attempt still hangs in the old one."""
    got = await run(
        relay,
        context,
        "line.js",
        """await new Promise((resolve) => {
            const waits = [];
            let made = 0;
            const line = new m.Line({
                connect: async () => {
                    made += 1;
                    if (made === 2) line.hurry();
                    throw new Error("no line");
                },
                hold: () => {}, hasToken: () => false,
                show: (phase, failed, seconds) => {
                    if (phase === "waiting") waits.push([made, seconds]);
                    if (made < 2 || phase !== "waiting") return;
                    line.stop();
                    resolve(waits.filter(([of]) => of === made)[0][1]);
                },
            });
            line.start();
        })""",
    )
    assert got == 2, "1 to 1.25 s as after the first attempt, rounded up"


async def test_silence_is_too_long_only_for_who_could_have_heard(
    relay: Relay, context: BrowserContext
) -> None:
    """Looked at twice a second; the last one of each row is the first that is too long."""
    got = await run(
        relay,
        context,
        "line.js",
        """(() => {
            const first = (from, silence) => {
                let now = from;
                while (!silence.isTooLong(now)) now += 500;
                return now;
            };
            const quiet = new m.Silence(3500, 0);
            const heard = new m.Silence(3500, 0);
            heard.isTooLong(500);
            heard.heard(900);
            const slept = new m.Silence(3500, 0);
            slept.isTooLong(500);
            return [first(0, quiet), first(1000, heard), first(60_000, slept)];
        })()""",
    )
    assert got == [4000, 4500, 64_000]


async def test_retry_after_is_read_as_seconds_or_as_a_date(
    relay: Relay, context: BrowserContext
) -> None:
    """RFC 9110 section 10.2.3."""
    got = await run(
        relay,
        context,
        "whip.js",
        """['3', '', null, 'soon', '99999', 'Thu, 01 Jan 1970 00:00:12 GMT',
            'Thu, 01 Jan 1970 00:00:01 GMT'].map((one) => m.retryAfter(one, 2000))""",
    )
    assert got == [3, None, None, None, 300, 10, 0]


async def test_offers_and_answers_are_changed_only_where_meant(
    relay: Relay, context: BrowserContext
) -> None:
    sdp = (
        "v=0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111 63\r\na=rtpmap:111 opus/48000/2\r\n"
        "a=fmtp:111 minptime=10;useinbandfec=1\r\na=rtpmap:63 red/48000/2\r\n"
        "a=fmtp:63 111/111\r\nm=video 9 UDP/TLS/RTP/SAVPF 96 97\r\na=rtpmap:96 VP8/90000\r\n"
        "a=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\n"
        "a=candidate:1 1 udp 2130706431 192.0.2.7 8710 typ host\r\n"
    )
    got = await run(
        relay,
        context,
        "whip.js",
        f"""[m.withStereoOpus({sdp!r}), m.withStartBitrate({sdp!r}, 900), m.mediaAddress({sdp!r}),
            m.mediaAddress('v=0')]""",
    )
    assert got[0] == sdp.replace(
        "minptime=10;useinbandfec=1", "minptime=10;stereo=1;sprop-stereo=1;useinbandfec=1"
    )
    assert got[1] == sdp.replace(
        "a=rtpmap:96 VP8/90000\r\n",
        "a=rtpmap:96 VP8/90000\r\na=fmtp:96 x-google-start-bitrate=900\r\n",
    )
    assert got[2:] == ["192.0.2.7:8710", ""]


# ---------------------------------------------------------------- pictures for eyes


@pytest.mark.parametrize("language", LANGUAGES)
async def test_pictures_of_the_pages_at_rest(
    relay: Relay, context: BrowserContext, language: str
) -> None:
    query = f"?lang={language}"
    for page, path, ready in [
        ("index-empty", "/", "document.querySelector('#node-chip[data-state=live]')"),
        ("watch-absent", "/watch/lecture", "s.state === 'absent'"),
        ("present-off", "/present/lecture", "s.levelDb !== null"),
        ("error-page", "/nothing", "true"),
        ("error-stream", "/watch/two%20words", "true"),
    ]:
        tab = await open_tab(context, f"{relay.url}{path}{query}")
        await tab.until(ready)
        await photograph(tab, f"{page}-{language}", whole=page == "present-off")
        assert tab.errors == []


@pytest.mark.parametrize("language", LANGUAGES)
async def test_pictures_of_the_pages_on_air(
    relay: Relay, context: BrowserContext, language: str
) -> None:
    query = f"?lang={language}"
    presenter = await present(context, f"{relay.url}/present/lecture{query}")
    viewer = await open_tab(context, f"{relay.url}/watch/lecture{query}")
    await viewer.until("s.state === 'playing' && s.framesPerSecond >= 20")
    await viewer.page.locator("#tap").wait_for()
    await photograph(viewer, f"watch-tap-{language}")
    await viewer.page.keyboard.press("Enter")
    await viewer.page.keyboard.press("i")
    await viewer.until_text("#numbers", "bit/s")
    await photograph(viewer, f"watch-details-{language}")
    await viewer.page.keyboard.press("i")

    index = await open_tab(context, f"{relay.url}/{query}")
    await index.until("s.streams.includes('lecture')")
    await photograph(index, f"index-live-{language}")
    await presenter.page.bring_to_front()
    await presenter.until("s.watching === 1")
    await photograph(presenter, f"present-on-{language}", whole=True)

    relay.stop(signal.SIGTERM)
    await viewer.page.bring_to_front()
    await viewer.until("s.state === 'unreachable'")
    await photograph(viewer, f"watch-unreachable-{language}")
    await presenter.page.bring_to_front()
    await presenter.until("s.state === 'broken' && s.problem !== ''")
    await photograph(presenter, f"present-broken-{language}", whole=True)


@pytest.mark.parametrize("language", LANGUAGES)
async def test_pictures_of_the_pages_without_a_token(
    keyed: tuple[Relay, Keys], context: BrowserContext, language: str
) -> None:
    relay, _ = keyed
    for page, ready in [("watch", "s.state === 'refused'"), ("present", "s.problem === 'refused'")]:
        tab = await open_tab(context, f"{relay.url}/{page}/lecture?lang={language}")
        await tab.until(ready)
        await photograph(tab, f"{page}-token-{language}", whole=page == "present")
