"""Presenting in a real Chromium to a real node: devices, access, on air and off."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, Dialog

from tests.live import tabs
from tests.live.tabs import Keys, Relay, open_tab, present
from tests.live.tree import until

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


# ---------------------------------------------------------------- tokens


async def test_a_token_is_taken_from_the_fragment_and_seen_by_nobody_else(
    keyed: tuple[Relay, Keys], context: BrowserContext
) -> None:
    """Out of the address bar at once, in no URL that is asked for, kept over a reload."""
    relay, keys = keyed
    secret = keys.issue(publish=("lecture",), view=("lecture",))
    await present(context, f"{relay.url}/present/lecture#token={secret}")
    viewer = await open_tab(context, f"{relay.url}/watch/lecture#token={secret}")
    await viewer.until("s.state === 'playing'")
    assert viewer.page.url == f"{relay.url}/watch/lecture"
    await viewer.page.reload()
    await viewer.until("s.state === 'playing'")
    asked = [request for request in viewer.requests if "/whep/" in request.url]
    assert {r.headers["authorization"] for r in asked} == {f"Bearer {secret}"}
    # A fragment is never sent; what is left of each URL holds no token.
    assert not [r for r in viewer.requests if secret in r.url.partition("#")[0]]


async def test_a_viewer_without_a_token_is_asked_for_one(
    keyed: tuple[Relay, Keys], context: BrowserContext
) -> None:
    relay, keys = keyed
    await present(context, f"{relay.url}/present/lecture#token={keys.issue(publish=('*',))}")
    viewer = await open_tab(context, f"{relay.url}/watch/lecture")
    await viewer.until("s.state === 'refused'")
    assert await viewer.page.inner_text("#headline") == "An access token is needed"
    await viewer.page.fill("#token", keys.issue(view=("other-*",)))
    await viewer.page.keyboard.press("Enter")
    await viewer.until("s.state === 'forbidden'")
    assert "does not open ‘lecture’" in await viewer.page.inner_text("#headline")
    assert "The node says:" in await viewer.page.inner_text("#says")
    await viewer.page.fill("#token", f"Bearer {keys.issue(view=('lecture',))} ")
    await viewer.page.keyboard.press("Enter")
    await viewer.until("s.state === 'playing'")
    assert not await viewer.page.locator("#token-form").is_visible()


async def test_a_presenter_learns_before_the_lesson_that_a_token_is_missing(
    keyed: tuple[Relay, Keys], context: BrowserContext
) -> None:
    relay, keys = keyed
    tab = await open_tab(context, f"{relay.url}/present/lecture")
    await tab.until("s.problem === 'refused'")
    await tab.page.fill("#token", keys.issue(view=("*",)))
    await tab.page.keyboard.press("Enter")
    await tab.until("s.problem === 'forbidden'")
    await tab.page.fill("#token", keys.issue(publish=("lecture",)))
    await tab.page.keyboard.press("Enter")
    await tab.until("s.problem === '' && s.levelDb !== null")
    await tab.page.click("#air-button")
    await tab.until("s.state === 'on'")


async def test_a_name_that_somebody_else_uses_is_refused_in_words(
    keyed: tuple[Relay, Keys], context: BrowserContext
) -> None:
    relay, keys = keyed
    anna, boris = keys.issue(publish=("*",), who="anna"), keys.issue(publish=("*",), who="boris")
    await present(context, f"{relay.url}/present/lecture#token={anna}")
    second = await open_tab(context, f"{relay.url}/present/lecture#token={boris}")
    await second.until("s.levelDb !== null")
    await second.page.click("#air-button")
    await second.until("s.problem === 'conflict' && s.state === 'off'")
    assert await second.page.inner_text("#problem-title") == (
        "Somebody else is broadcasting ‘lecture’"
    )


async def test_two_presenters_do_not_throw_each_other_out_for_ever(
    relay: Relay, context: BrowserContext
) -> None:
    """The one who was replaced says so and stays off the air; the viewer's session goes on."""
    first = await present(context, f"{relay.url}/present/lecture")
    viewer = await open_tab(context, f"{relay.url}/watch/lecture")
    await viewer.until("s.framesDecoded > 10")
    second = await present(context, f"{relay.url}/present/lecture")
    await first.until("s.problem === 'taken_over' && s.state === 'off'")
    assert (await second.stats())["reconnects"] == 0
    frames = (await viewer.stats())["framesDecoded"]
    await viewer.until(f"s.state === 'playing' && s.framesDecoded > {frames + 10}")
    assert (await viewer.stats())["reconnects"] == 0


# ---------------------------------------------------------------- the desk


@pytest.mark.parametrize("leave", ["button", "page"])
async def test_going_off_air_ends_the_session_at_the_node(
    relay: Relay, context: BrowserContext, leave: str
) -> None:
    """By DELETE, also when the page goes away: nobody waits for a time-out."""
    tab = await present(context, f"{relay.url}/present/lecture")
    asked: list[str] = []

    async def accept(dialog: Dialog) -> None:
        asked.append(dialog.type)
        await dialog.accept()

    tab.page.on("dialog", accept)
    if leave == "button":
        await tab.page.click("#air-button")
    else:
        await tab.page.goto(f"{relay.url}/")
        assert asked == ["beforeunload"]

    async def gone() -> bool:
        here = relay.stream("lecture")
        return here is None or here["publisher_gone_s"] is not None

    await until("the node has no publisher", gone, 5)


async def test_leaving_while_on_air_asks_first(relay: Relay, context: BrowserContext) -> None:
    tab = await present(context, f"{relay.url}/present/lecture")
    async with tab.page.expect_event("dialog") as event:
        await tab.page.close(run_before_unload=True)
    dialog = await event.value
    assert dialog.type == "beforeunload"
    await dialog.dismiss()
    assert (await tab.stats())["onAir"] is True
    assert not tab.page.is_closed()


async def test_a_screen_is_shown_in_place_of_the_camera_without_a_new_session(
    relay: Relay, context: BrowserContext
) -> None:
    tab = await present(context, f"{relay.url}/present/lecture")
    viewer = await open_tab(context, f"{relay.url}/watch/lecture")
    await viewer.until("s.framesDecoded > 10")
    await tab.page.bring_to_front()
    await tab.page.get_by_text("Screen", exact=True).click()
    await tab.until("document.getElementById('preview-box').dataset.picture === 'screen'")
    frames = (await viewer.stats())["framesDecoded"]
    await viewer.until(f"s.framesDecoded > {frames + 5}")
    # As when the person presses the browser's own "Stop sharing".
    await tab.page.evaluate(
        "document.getElementById('preview').srcObject.getVideoTracks()[0]"
        ".dispatchEvent(new Event('ended'))"
    )
    await tab.until("s.problem === 'screen.ended' && s.state === 'on'")
    assert (await viewer.stats())["reconnects"] == (await tab.stats())["reconnects"] == 0


async def test_mute_is_said_in_words(relay: Relay, context: BrowserContext) -> None:
    tab = await open_tab(context, f"{relay.url}/present/lecture")
    await tab.until("s.levelDb !== null")
    await tab.until_text("#meter-text", "dB")
    await tab.page.click("#mic-mute")
    await tab.until_text("#meter-text", "Muted")
    assert await tab.page.get_attribute("#mic-mute", "aria-pressed") == "true"
    assert await tab.page.inner_text("#mic-mute") == "Unmute"


async def test_a_refused_permission_is_explained(relay: Relay) -> None:
    async with tabs.chromium(without=tabs.FAKE_CONSENT) as browser:
        context = await browser.new_context(locale="en")
        tab = await open_tab(context, f"{relay.url}/present/lecture")
        await tab.page.click("#turn-on")
        await tab.until("s.problem === 'denied'")
        assert "address bar" in await tab.page.inner_text("#problem-help")
        assert (await tab.stats())["state"] == "off"


async def test_a_machine_without_a_camera_can_still_broadcast_sound(relay: Relay) -> None:
    async with tabs.chromium(
        "--use-fake-device-for-media-stream=device-count=0", without=tabs.FAKE_DEVICES
    ) as browser:
        context = await browser.new_context(locale="en")
        tab = await open_tab(context, f"{relay.url}/present/lecture")
        await tab.until("s.problem === 'missing.camera' && s.levelDb !== null")
        assert await tab.page.inner_text("#problem-title") == "No camera found"
        await tab.page.click("#air-button")
        await tab.until("s.state === 'on' && s.audioBytesSent > 0")


@pytest.mark.parametrize(
    ("error", "device", "problem"),
    [
        ("NotReadableError", "video", "busy.camera"),
        ("NotReadableError", "audio", "busy.microphone"),
        ("OverconstrainedError", "video", "missing.camera"),
        ("NotFoundError", "audio", "missing.microphone"),
        ("TypeError", "video", "failed"),
    ],
)
async def test_each_fault_of_a_device_has_its_own_words(
    relay: Relay, context: BrowserContext, error: str, device: str, problem: str
) -> None:
    """The browser's errors (Media Capture 10.2); a camera in use cannot be had for a test."""
    await context.add_init_script(f"""
        const real = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
        navigator.mediaDevices.getUserMedia = async (wanted) => {{
            if (wanted.{device}) throw new DOMException("as tested", "{error}");
            return real(wanted);
        }};
    """)
    tab = await open_tab(context, f"{relay.url}/present/lecture")
    await tab.until(f"s.problem === '{problem}'")
    assert len(await tab.page.inner_text("#problem-help")) > 20
    assert tab.errors == []


async def test_an_address_without_cameras_is_explained(
    relay: Relay, context: BrowserContext
) -> None:
    """Browsers give no camera to plain http:// from another machine."""
    url = relay.url.replace("127.0.0.1", "terrace.test")
    tab = await open_tab(context, f"{url}/present/lecture")
    await tab.until("s.problem === 'insecure'")
    assert "https://" in await tab.page.inner_text("#problem-help")
    assert await tab.page.is_disabled("#air-button")


async def test_a_node_that_does_not_answer_is_told_before_the_first_word(
    relay: Relay, context: BrowserContext
) -> None:
    tab = await open_tab(context, f"{relay.url}/present/lecture")
    await tab.until("s.levelDb !== null")
    relay.stop()
    await tab.page.click("#air-button")
    await tab.until("s.problem === 'unreachable' && s.state === 'off'")
