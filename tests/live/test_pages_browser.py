"""Watching in a real Chromium what another tab sends through a real node: line and player."""

from __future__ import annotations

import re
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext

from tests.live import tabs
from tests.live.tabs import Relay, open_tab, present

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


# ---------------------------------------------------------------- the line


@pytest.mark.parametrize("codec", ["H264", "VP8"])
async def test_what_a_presenter_sends_is_seen_and_heard(
    relay: Relay, context: BrowserContext, codec: str
) -> None:
    """25 frames a second, none lost, sound decoded; both pages say so in numbers."""
    presenter = await present(context, f"{relay.url}/present/lecture", codec)
    viewer = await open_tab(context, f"{relay.url}/watch/lecture")
    await viewer.until("s.state === 'playing' && s.framesPerSecond >= 24")
    # What is muted counts as silent; the button comes to the keyboard by itself.
    await viewer.until("document.activeElement.id === 'tap'")
    await viewer.page.keyboard.press("Enter")
    await viewer.until("s.totalAudioEnergy > 0")
    # A viewer begins with the smallest layer, and gets the larger ones as its line shows itself.
    await viewer.until("s.width >= 640")
    shown = await viewer.stats()
    assert (shown["videoCodec"], shown["audioCodec"]) == (codec, "opus")
    assert (shown["packetsLost"], shown["reconnects"]) == (0, 0)

    await presenter.until("s.watching === 1")
    assert (await presenter.stats())["videoCodec"] == codec
    assert await presenter.page.inner_text("#watching") == "1 site"
    # The browser's rate is that of its last second, in which it may have been short of time.
    await presenter.until_text("#sent", re.compile(r"\d+ × \d+, 2\d frames a second"))
    assert "bit/s" in await presenter.page.inner_text("#sent")
    assert presenter.errors == viewer.errors == []


async def test_only_the_node_itself_is_asked_for_anything(
    relay: Relay, context: BrowserContext
) -> None:
    presenter = await present(context, f"{relay.url}/present/lecture")
    viewer = await open_tab(context, f"{relay.url}/watch/lecture")
    await viewer.until("s.state === 'playing'")
    index = await open_tab(context, f"{relay.url}/")
    await index.until("s.streams.includes('lecture')")
    for tab in (presenter, viewer, index):
        assert {re.match(r"\w+://[^/]+", r.url)[0] for r in tab.requests} == {relay.url}  # type: ignore[index]
        assert tab.errors == []


async def test_a_viewer_who_is_early_is_told_and_sees_the_start(
    relay: Relay, context: BrowserContext
) -> None:
    viewer = await open_tab(context, f"{relay.url}/watch/lecture")
    await viewer.until("s.state === 'absent'")
    assert await viewer.page.inner_text("#headline") == "Nobody is broadcasting ‘lecture’ yet"
    await viewer.until_text("#countdown", "Trying again in")
    await present(context, f"{relay.url}/present/lecture")
    await viewer.until("s.state === 'playing'")


async def test_a_pause_of_the_presenter_keeps_the_viewers_session(
    relay: Relay, context: BrowserContext
) -> None:
    """The node holds the stream for a while, so nobody has anything to connect anew."""
    presenter = await present(context, f"{relay.url}/present/lecture")
    viewer = await open_tab(context, f"{relay.url}/watch/lecture")
    await viewer.until("s.framesDecoded > 10")
    await presenter.page.click("#air-button")
    await presenter.until("s.state === 'off'")
    await viewer.until("s.state === 'paused'")
    assert "is interrupted" in await viewer.page.inner_text("#headline")
    frames = (await viewer.stats())["framesDecoded"]
    await presenter.page.click("#air-button")
    await viewer.until(f"s.state === 'playing' && s.framesDecoded > {frames + 10}")
    assert (await viewer.stats())["reconnects"] == 0


async def test_a_presenter_whose_line_is_silent_is_told_before_it_is_given_up(
    relay: Relay, context: BrowserContext
) -> None:
    """Nobody is left to speak to a line that is gone; one that comes back goes on as it was."""
    presenter = await present(context, f"{relay.url}/present/lecture")
    await presenter.until("s.state === 'on' && s.framesSent > 10")
    relay.send(signal.SIGSTOP)
    await presenter.until("s.state === 'broken'")
    relay.send(signal.SIGCONT)
    await presenter.until("s.state === 'on'")
    assert (await presenter.stats())["reconnects"] == 0
    assert presenter.errors == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_both_sides_come_back_by_themselves_when_the_node_restarts(
    relay: Relay, context: BrowserContext, number: signal.Signals
) -> None:
    presenter = await present(context, f"{relay.url}/present/lecture")
    viewer = await open_tab(context, f"{relay.url}/watch/lecture")
    await viewer.until("s.framesDecoded > 10")
    relay.stop(number)
    await viewer.until("['lost', 'unreachable'].includes(s.state)")
    await viewer.until_text("#countdown", "Trying again")
    await presenter.until("s.state === 'broken'")
    await relay.start()
    await presenter.until("s.state === 'on'", 30)
    await viewer.until("s.state === 'playing' && s.framesDecoded > 10", 30)
    assert (await viewer.stats())["reconnects"] == 1
    assert (await presenter.stats())["reconnects"] == 1
    assert viewer.errors == presenter.errors == []


async def test_a_goodbye_of_the_node_is_noticed_at_once(
    relay: Relay, context: BrowserContext
) -> None:
    """A node that stops in order says so (DTLS close_notify): no 4 s of a still picture."""
    await present(context, f"{relay.url}/present/lecture")
    viewer = await open_tab(context, f"{relay.url}/watch/lecture")
    await viewer.until("s.framesDecoded > 10")
    relay.stop(signal.SIGTERM)
    await viewer.until("['lost', 'unreachable'].includes(s.state)", 2)


async def test_a_node_that_hangs_is_left_and_found_again(
    relay: Relay, context: BrowserContext
) -> None:
    """No packet and no answer: the line counts as lost, and comes back with the node."""
    presenter = await present(context, f"{relay.url}/present/lecture")
    viewer = await open_tab(context, f"{relay.url}/watch/lecture")
    await viewer.until("s.framesDecoded > 10")
    relay.send(signal.SIGSTOP)
    await viewer.until("s.state === 'lost'")
    await presenter.until("s.state === 'broken'")
    relay.send(signal.SIGCONT)
    await presenter.until("s.state === 'on' && s.framesSent > 10", 30)
    await viewer.until("s.state === 'playing' && s.framesDecoded > 10", 30)


# ---------------------------------------------------------------- the player


async def test_sound_needs_one_tap_or_enter(relay: Relay, context: BrowserContext) -> None:
    """The one button has the focus, so that a remote control's Enter does it."""
    await present(context, f"{relay.url}/present/lecture")
    viewer = await open_tab(context, f"{relay.url}/watch/lecture")
    await viewer.until_text("#tap", "Tap for sound")
    assert (await viewer.stats())["muted"] is True
    await viewer.page.keyboard.press("Enter")
    await viewer.until("s.muted === false")
    await viewer.page.locator("#tap").wait_for(state="hidden")
    await viewer.page.keyboard.press("m")
    await viewer.until("s.muted === true")
    await viewer.page.locator("#tap").click()
    await viewer.until("s.muted === false")
    assert await viewer.page.get_attribute("#sound-button", "aria-pressed") == "true"


async def test_the_numbers_are_behind_a_key_and_a_button(
    relay: Relay, context: BrowserContext
) -> None:
    await present(context, f"{relay.url}/present/lecture")
    viewer = await open_tab(context, f"{relay.url}/watch/lecture")
    await viewer.until("s.framesPerSecond > 20")
    details = viewer.page.locator("#details")
    assert not await details.is_visible()
    await viewer.page.keyboard.press("i")
    await details.wait_for()
    assert await viewer.page.get_attribute("#details-button", "aria-expanded") == "true"
    await viewer.until_text("#numbers", "bit/s")
    text = await details.inner_text()
    for words in ("Packets lost", "Round trip", "Frames decoded", "Freezes", "H264 + opus", " ms"):
        assert words in text
    await viewer.page.click("#details-button")
    await details.wait_for(state="hidden")


async def test_full_screen_by_key(relay: Relay, context: BrowserContext) -> None:
    viewer = await open_tab(context, f"{relay.url}/watch/lecture")
    await viewer.until("s.state === 'absent'")
    await viewer.page.keyboard.press("f")
    await viewer.until("document.fullscreenElement?.id === 'stage'")
    await viewer.page.keyboard.press("f")
    await viewer.until("document.fullscreenElement === null")


FOCUS = """() => {
  const { id } = document.activeElement;
  const { outlineStyle, outlineWidth } = getComputedStyle(document.activeElement);
  return [id, outlineStyle, parseFloat(outlineWidth)];
}"""


@pytest.mark.parametrize("key", ["Tab", "ArrowRight"])
async def test_every_control_is_reached_by_keyboard_and_shows_the_focus(
    relay: Relay, context: BrowserContext, key: str
) -> None:
    """Tab on a keyboard, arrows on a television's remote control."""
    viewer = await open_tab(context, f"{relay.url}/watch/lecture")
    await viewer.until("s.state === 'absent'")
    wanted, reached = {"retry", "sound-button", "details-button", "full-button"}, set()
    # One is not there while the page asks again by itself.
    for _ in range(24):
        await viewer.page.keyboard.press(key)
        id, outline, width = await viewer.page.evaluate(FOCUS)
        if not id:
            continue  # past the last one
        reached.add(id)
        assert outline == "solid"
        assert width >= 2
        if reached >= wanted:
            break
    assert reached >= wanted


async def test_a_stream_without_a_picture_says_so(relay: Relay, context: BrowserContext) -> None:
    """Never black without words."""
    presenter = await open_tab(context, f"{relay.url}/present/lecture")
    await presenter.until("s.levelDb !== null")
    await presenter.page.get_by_text("None", exact=True).click()
    await presenter.page.click("#air-button")
    await presenter.until("s.state === 'on' && s.audioBytesSent > 0")
    viewer = await open_tab(context, f"{relay.url}/watch/lecture")
    await viewer.until("s.state === 'soundonly'")
    assert await viewer.page.inner_text("#headline") == "Only sound is being broadcast"
    await presenter.page.get_by_text("Camera", exact=True).first.click()
    await viewer.until("s.state === 'playing'")
    assert (await viewer.stats())["reconnects"] == 0
