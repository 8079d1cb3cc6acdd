"""What the pages of a room show for a state that a node told, in both languages and all sizes.

The events are those of a scripted socket in the browser, so that each state can be looked at; the
pages and their media are a real node's. The whole meeting over real nodes is in
whole_meeting.py. Pictures for eyes go to SHOTS.
"""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, Route, WebSocketRoute

from tests.live import tabs
from tests.live.centre_house import House, barriers, house
from tests.live.tabs import Relay, Tab, photograph
from tests.live.tree import until
from tests.patience import PATIENCE
from web.room import ballots

pytestmark = [pytest.mark.live, pytest.mark.asyncio(loop_scope="module")]

LANGUAGES = ("en", "zh")
ROOM = 7
NOW = datetime.now(UTC)


def ago(seconds: float) -> str:
    return (NOW - timedelta(seconds=seconds)).isoformat()


def source(name: str, title: str = "", unit: str = "") -> dict[str, Any]:
    kind = "site" if name.startswith("site-") else name
    return {"id": name, "name": title, "unit": unit, "kind": kind, "live": True}


MEETING = {
    "id": ROOM, "title": "防汛工作部署会", "unit": "河北省", "presenter": "李老师",
    "starts_at": ago(600), "ends_at": ago(-3000), "state": "on_air", "room": "open",
    "codec": "VP8",
}  # fmt: skip
SOURCES = [
    source("presenter"), source("second"), source("screen"),
    source("site-12", "隆化县会议室", "隆化县"), source("site-13", "丰宁县礼堂", "丰宁县"),
]  # fmt: skip
OPEN: dict[str, Any] = {
    "meeting": MEETING,
    "programme": {"source": "presenter", "name": "", "muted": False, "since": ago(125),
                  "lost": False, "instead_of": "", "instead_of_name": ""},
    "sources": SOURCES, "floor": {}, "order": {"sites": [13, 12], "at": 0}, "stage": [],
    "wanted": {"site-12": "low"}, "slides": None, "poll": None, "ballot": None,
    "rollcall": None, "linetest": None, "chat": {"on": True, "items": [
        {"id": 3, "text": "请问下午的材料在哪里下载?", "name": "隆化县会议室", "at": ago(40)}]},
    "counts": {"sites": 212, "viewers": 103_418, "hands": 3},
}  # fmt: skip
ASKED = {
    "id": 4, "question": "Which day suits the next meeting?",
    "options": ["Monday morning", "Wednesday afternoon", "Friday, all day"],
    "open": True, "shown": False, "counts": [], "voters": 0,
}  # fmt: skip
SHOWN = ASKED | {"open": True, "shown": True, "counts": [1804, 61_220, 4012], "voters": 67_036}
BALLOT = {
    "id": 2, "question": "Shall the plan be carried out as proposed?", "options": ["Yes", "No",
    "Abstain"], "voters": "units", "open": True, "until": ago(-340), "signer": {}, "seal": {},
    "result": None,
}  # fmt: skip
RESULT = BALLOT | {"open": False, "result": [171, 22, 19]}
CALL = {"site": 12, "unit": "隆化县", "name": "隆化县会议室", "done": 4, "total": 212}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def relay(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Relay]:
    async with tabs.relay(
        tmp_path_factory.mktemp("node"), "--name", "longhua", "--tier", "county"
    ) as node:
        yield node


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with tabs.chromium() as browser:
        yield browser


@pytest_asyncio.fixture(loop_scope="module")
async def context(browser: Browser) -> AsyncIterator[BrowserContext]:
    async with tabs.person(browser) as context:
        yield context


class Told:
    """The socket of a page's room: it takes the hello, and tells what the test says."""

    def __init__(self, **welcome: Any) -> None:
        self.said: list[dict[str, Any]] = []
        self.silent = False
        self._welcome = {"t": "welcome", "node": "0123456789abcdef", **welcome}
        self._socket: WebSocketRoute | None = None
        self._revision = 0

    def take(self, socket: WebSocketRoute) -> None:
        self._socket = socket
        socket.on_message(self._heard)

    def _heard(self, message: str | bytes) -> None:
        said = json.loads(message)
        self.said.append(said)
        if self.silent:
            return
        if said["t"] == "hello":
            self._send(self._welcome | {"now": NOW.timestamp()})
        elif said["t"] == "answer":
            receipt = {"node": "0123456789abcdef", "n": 5}
            self._send({"t": "counted", "poll": said["poll"], "receipt": receipt})
        elif "id" in said:
            self._send({"t": "kept", "id": said["id"]})

    @property
    def hellos(self) -> list[dict[str, Any]]:
        return [one for one in self.said if one["t"] == "hello"]

    async def beat(self) -> None:
        """Be heard, as a node is."""
        while True:
            self._send({"t": "beat"})
            await asyncio.sleep(0.5)

    def tell(self, state: dict[str, Any]) -> None:
        self._revision += 1
        self._send({"t": "state", "v": [1, self._revision], "set": state})

    def _send(self, message: dict[str, Any]) -> None:
        assert self._socket is not None
        self._socket.send(json.dumps(message))


async def enter(context: BrowserContext, url: str, **welcome: Any) -> tuple[Tab, Told]:
    """A page that is in the open meeting. welcome: what else its node says first."""
    told = Told(**welcome)
    tab = Tab(await context.new_page())
    await tab.page.route_web_socket("**/room/*/events", told.take)
    await tab.page.goto(url)
    await tab.until("s.link === 'up'")
    told.tell(OPEN)
    await tab.until("s.state.meeting")
    return tab, told


async def test_a_site_can_never_doubt_who_sees_and_hears_it(
    relay: Relay, context: BrowserContext
) -> None:
    """Words, symbols and colours follow the state; its own programme makes no sound there."""
    tab, told = await enter(context, f"{relay.url}/room/{ROOM}?site=12")
    await tab.until("s.sender === 'up' && s.view === 'live'")
    await tab.until_text("#lamp-seen", "by the director only")
    await tab.until_text("#lamp-live", "You are not live")
    assert not (await tab.stats())["programmeQuiet"]
    told.tell({"floor": FLOOR})
    await tab.until_text("#lamp-heard", "You are heard")
    await tab.until_text("#lamp-heard", "by everybody")
    await tab.until_text("#lamp-live", "you have the floor")
    told.tell({"programme": OPEN["programme"] | {"source": "site-12", "name": "隆化县会议室"}})
    await tab.until_text("#lamp-live", "You are live")
    await tab.until_text("#lamp-seen", "by everybody")
    assert (await tab.stats())["programmeQuiet"]
    assert await barriers(tab.page) == []
    await tab.page.keyboard.press("m")
    await tab.until_text("#lamp-heard", "your microphone is off")
    await tab.page.keyboard.press("m")
    told.tell({"programme": OPEN["programme"] | {"source": "site-12", "muted": True}})
    await tab.until_text("#lamp-heard", "the director has muted you")
    told.tell({"programme": OPEN["programme"], "floor": {}, "wanted": {}})
    await tab.until_text("#lamp-seen", "You are not seen")
    await tab.until_text("#lamp-heard", "You are not heard")
    assert tab.errors == []


async def test_a_site_whose_line_goes_silent_says_so_and_asks_anew(
    relay: Relay, context: BrowserContext
) -> None:
    """Nothing comes of events or media any more, and nobody has closed anything."""
    url = f"{relay.url}/room/{ROOM}?site=12"
    tab, told = await enter(context, url, silent_s=4.0)
    on_air = {"programme": OPEN["programme"] | {"source": "site-12"}, "floor": FLOOR}
    beating = asyncio.create_task(told.beat())
    try:
        told.tell(on_air)
        await tab.until_text("#lamp-live", "You are live")
        await tab.until("performance.now() > 12000 && s.link === 'up' && s.standing.isLive")
        assert len(told.hellos) == 1, "beats are enough to hear"
        beating.cancel()
        told.silent = True
        relay.send(signal.SIGSTOP)
        await tab.until_text("#lamp-live", "no line to the node")
        await tab.until_text("#lamp-seen", "You are not seen")
        await tab.until_text("#hand-card", "Nobody hears you now")
        await tab.until_text("#problem", "it connects again by itself")
        assert await barriers(tab.page) == []
        await tab.until_text("#programme-title", "The line is interrupted")
        await photograph(tab, "room-site-cut", whole=True)
    finally:
        beating.cancel()
        relay.send(signal.SIGCONT)
    told.silent = False
    await tab.until("s.link === 'up' && s.sender === 'up'")
    told.tell(OPEN | on_air)
    await tab.until_text("#lamp-seen", "You are seen")
    await tab.page.locator("#problem").wait_for(state="hidden")
    assert tab.errors == []


async def test_a_site_hears_the_floor_but_never_itself(
    relay: Relay, context: BrowserContext
) -> None:
    tab, told = await enter(context, f"{relay.url}/room/{ROOM}?site=12")
    turn = {"heard": True, "muted": False, "since": ago(0), "lost": False}
    told.tell({"floor": {"site-12": turn, "site-13": turn, "presenter": turn,
                         "site-14": turn | {"muted": True}}})  # fmt: skip
    await tab.until(f"Object.keys(s.ears).join() === 'class-{ROOM}.site-13'")


async def test_hand_answers_and_roll_call_are_given_by_keyboard(
    relay: Relay, context: BrowserContext
) -> None:
    tab, told = await enter(context, f"{relay.url}/room/{ROOM}?site=12")
    await tab.until("s.view === 'live'")
    await tab.page.fill("#hand-text", "The dyke at Qianjin")
    await tab.page.press("#hand-text", "Tab")
    await tab.page.keyboard.press("h")
    await tab.until_text("#hand-card", "Your hand is up")
    assert {"t": "hand", "up": True, "text": "The dyke at Qianjin"} in told.said
    await tab.page.keyboard.press("h")
    await tab.until_text("#hand-card", "Ask to speak")
    told.tell({"rollcall": CALL, "poll": ASKED})
    await tab.until_text("#rollcall-card", "Your site is being called")
    await tab.page.keyboard.press("p")
    await tab.until("!document.querySelector('#rollcall-card').offsetParent")
    await tab.page.focus("#poll-options button:nth-child(2)")
    await tab.page.keyboard.press("Enter")
    await tab.until_text("#poll-card", "Counted")
    said = [one for one in told.said if one["t"] in ("rollcall", "answer", "have")]
    assert [one["t"] for one in said] == ["rollcall", "answer", "have"]
    assert said[1] == {"t": "answer", "poll": 4, "choice": 1}
    told.tell({"poll": SHOWN})
    await tab.until_text("#poll-options", "61,220 · 91 %")


@pytest.mark.parametrize("language", LANGUAGES)
async def test_pictures_of_a_site(relay: Relay, context: BrowserContext, language: str) -> None:
    tab, told = await enter(context, f"{relay.url}/room/{ROOM}?site=12&lang={language}")
    await tab.until("s.sender === 'up'")
    await tab.page.keyboard.press("1")
    await photograph(tab, f"room-site-green-{language}", whole=True)
    assert await barriers(tab.page) == []
    await tab.page.keyboard.press("2")
    told.tell({"poll": SHOWN, "ballot": BALLOT})
    await photograph(tab, f"room-site-live-{language}", whole=True)
    assert await barriers(tab.page) == []
    told.tell({"programme": OPEN["programme"] | {"source": "site-12", "name": "隆化县会议室"},
               "rollcall": CALL, "poll": None, "ballot": None})  # fmt: skip
    await tab.until("s.standing.isLive")
    await photograph(tab, f"room-site-onair-{language}", whole=True)
    assert await barriers(tab.page) == []
    await tab.page.keyboard.press("3")
    await photograph(tab, f"room-site-today-{language}", whole=True)
    assert await barriers(tab.page) == []
    assert tab.errors == []


@pytest.mark.parametrize("language", LANGUAGES)
async def test_pictures_of_the_hall_and_the_phone(
    relay: Relay, context: BrowserContext, language: str
) -> None:
    hall, told = await enter(context, f"{relay.url}/room/{ROOM}/hall?lang={language}")
    scenes: list[tuple[str, dict[str, Any]]] = [
        ("programme", {}), ("call", {"rollcall": CALL}),
        ("poll", {"rollcall": None, "poll": SHOWN}), ("ballot", {"poll": None, "ballot": RESULT}),
        ("stage", {"ballot": None, "stage": ["presenter", "site-12", "site-13"]}),
    ]  # fmt: skip
    for name, state in scenes:
        told.tell(state)
        wanted = {"call": "rollcall"}.get(name, name)
        await hall.until(f"s.scene.startsWith('{wanted}')")
        await photograph(hall, f"room-hall-{name}-{language}")
        assert await barriers(hall.page) == []
    phone, told = await enter(context, f"{relay.url}/room/{ROOM}/phone?lang={language}")
    await photograph(phone, f"room-phone-quiet-{language}", whole=True)
    told.tell({"poll": ASKED, "ballot": BALLOT})
    await phone.page.locator("#poll-options button").first.wait_for()
    await photograph(phone, f"room-phone-asked-{language}", whole=True)
    assert await barriers(phone.page) == []
    assert hall.errors == []
    assert phone.errors == []


STATIONS = {
    "now": NOW.timestamp(), "month": "2026-11",
    "stations": [
        {"id": f"village-{n}", "name": name, "unit": "隆化县", "group": "", "paired_at": 0,
         "seen_at": NOW.timestamp() - 20 - 400 * (state == "grey"), "state": state,
         "why": [{"code": "programme-none"}] if state == "red" else [],
         "current": {"item": item, "title": title, "show": "live"} if item else None,
         "next": None, "month": {"month": "2026-11", "hours": 3, "target": 20, "plays": 2,
         "missed": 0, "head_count": 20, "counted": 1, "expected": 20, "present": 18,
         "turnout": 0.9}}
        for n, (name, state, item, title) in enumerate([
            ("尚坪村活动室", "green", f"class-{ROOM}", "防汛工作部署会"),
            ("八达营村", "red", "", ""), ("偏坡营村", "grey", "", ""),
            ("步古沟村", "amber", f"class-{ROOM}", "防汛工作部署会"),
        ])
    ],
}  # fmt: skip


@pytest.mark.parametrize("language", LANGUAGES)
async def test_pictures_of_the_villages(
    relay: Relay, context: BrowserContext, language: str
) -> None:
    async def answer(route: Route) -> None:
        await route.fulfill(json=STATIONS)

    await context.route("**/api/stations", answer)
    tab, _ = await enter(context, f"{relay.url}/room/{ROOM}/villages?lang={language}")
    await tab.page.locator(".box").first.wait_for(timeout=20_000 * PATIENCE)
    await tab.until("document.querySelectorAll('.box[data-follows=yes]').length === 2")
    await photograph(tab, f"room-villages-{language}", whole=True)
    assert await barriers(tab.page) == []
    assert tab.errors == []


# ---------------------------------------------------------------- the console

HANDS = [
    {"site_id": 13, "source": "site-13", "name": "丰宁县礼堂", "unit": "丰宁县",
     "text": "The dyke at Qianjin leaks", "since": ago(131), "there": True},
    {"site_id": 14, "source": "site-14", "name": "滦平县二楼会议室", "unit": "滦平县", "text": "",
     "since": ago(44), "there": True},
]  # fmt: skip
TOLD: dict[str, Any] = {
    "now": ago(0), "stream": f"class-{ROOM}", "room": "open", "state": OPEN, "attention": [],
    "hands": HANDS, "sources": SOURCES, "viewers": 103_418,
    "sites": [
        {"site_id": 12, "source": "site-12", "name": "隆化县会议室", "unit": "隆化县",
         "live": True, "camera": True, "microphone": True, "hidden": False},
        {"site_id": 14, "source": "site-14", "name": "滦平县二楼会议室", "unit": "滦平县",
         "live": False, "camera": False, "microphone": True, "hidden": False},
    ],
    "tests": [{"site_id": 12, "name": "隆化县会议室", "unit": "隆化县", "at": ago(3000),
               "ready": True, "todo": [], "result": {}}],
    "marks": [{"site_id": 12, "name": "隆化县会议室", "unit": "隆化县", "presence": "present",
               "people": 23, "by_site": True, "at": ago(300)}],
    "words": [{"id": 4, "who": "site:12", "name": "隆化县会议室", "text": "声音偏小",
               "at": ago(30), "state": ""}],
    "polls": [SHOWN | {"asked_at": ago(60)}], "ballots": [], "decks": [], "file": "",
}  # fmt: skip
FLOOR = {"site-12": {"heard": True, "muted": False, "since": ago(65), "lost": False}}


@pytest_asyncio.fixture(loop_scope="module")
async def place(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path) as opened:
        yield opened


async def directs(
    context: BrowserContext, path: str, answer: Callable[[Route], Awaitable[None]]
) -> None:
    """Whoever opens the console is signed in; what it asks for under `path` is answered."""

    async def session(route: Route) -> None:
        await route.fulfill(json={"csrf": "x", "person": {}, "roles": [], "may": {}})

    await context.route(path, answer)
    await context.route("**/api/session", session)


@pytest.mark.parametrize("language", LANGUAGES)
async def test_pictures_of_the_console(
    place: House, context: BrowserContext, language: str
) -> None:
    commands: list[tuple[str, str, Any]] = []
    told_now = dict(TOLD)

    async def answer(route: Route) -> None:
        request = route.request
        path = request.url.split("/room", 1)[1]
        if request.method != "GET":
            commands.append((request.method, path, request.post_data_json))
            await route.fulfill(status=204)
        elif path == "":
            await route.fulfill(json=told_now)
        else:
            await route.fulfill(json={"token": "", "publish": "", "view": "", "expires_at": None})

    await directs(context, "**/api/occurrences/*/room**", answer)
    tab, told = await enter(context, f"{place.url}/room/{ROOM}/console?lang={language}")
    told.tell({"floor": FLOOR, "programme": OPEN["programme"] | {"source": "site-12"}})
    await tab.page.locator(".hand-row").first.wait_for()
    await tab.page.keyboard.press("2")
    await tab.until("s.preview === 'second'")
    await photograph(tab, f"room-console-{language}", whole=True)
    assert await barriers(tab.page) == []
    await tab.page.keyboard.press("Enter")
    await tab.page.keyboard.press("h")
    await tab.page.keyboard.press("t")
    wanted = [
        ("PUT", "/programme", {"source": "second", "muted": False}),
        ("PUT", "/floor/site-13", {"heard": True, "muted": False, "programme": True}),
        ("DELETE", "/floor/site-12", None),
    ]

    def given() -> list[tuple[str, str, Any]]:
        return [one for one in commands if one[1] != "/wanted"]

    async def all_given() -> bool:
        return len(given()) >= len(wanted)

    await until("the commands are given", all_given, 20)
    assert given() == wanted
    told_now["attention"] = [
        {"source": "site-12", "name": "隆化县会议室", "what": "replaced", "do": "take floor",
         "since": ago(3)}
    ]  # fmt: skip
    told.tell({"programme": OPEN["programme"] | {"instead_of": "site-12"}, "rollcall": CALL})
    await tab.page.locator("#lost-button").wait_for(timeout=20_000 * PATIENCE)
    await tab.page.keyboard.press("r")
    await photograph(tab, f"room-console-lost-{language}", whole=True)
    assert await barriers(tab.page) == []
    for key in "bgocvk":
        await tab.page.keyboard.press(key)
        assert await barriers(tab.page) == [], key
    await tab.page.keyboard.press("g")
    await photograph(tab, f"room-console-sites-{language}", whole=True)
    assert tab.errors == []


@pytest.mark.parametrize("ends", [True, False])
async def test_a_director_who_closes_the_room_ends_the_meeting_or_leaves_it_for_later(
    place: House, context: BrowserContext, ends: bool
) -> None:
    commands: list[str] = []

    async def answer(route: Route) -> None:
        path = route.request.url.split(f"/occurrences/{ROOM}/", 1)[1]
        if route.request.method == "POST":
            commands.append(path)
            await route.fulfill(status=204)
        else:
            await route.fulfill(json=TOLD if path == "room" else {"token": ""})

    await directs(context, "**/api/occurrences/**", answer)
    tab, told = await enter(context, f"{place.url}/room/{ROOM}/console")
    await tab.page.click("#close")
    if not ends:
        await tab.page.uncheck("#close-ends")
    async with tab.page.expect_response("**/end" if ends else "**/room/close"):
        await tab.page.click("#close-yes")
    assert commands == ["room/close", "end"][: 1 + ends]
    told.tell({"meeting": MEETING | {"room": "closed"}, "programme": None})
    await tab.page.locator("#minutes").wait_for()
    assert await tab.page.is_visible("#open") is not ends
    assert await tab.page.get_attribute("#minutes", "href") == f"/centre/occurrence/{ROOM}"
    assert tab.errors == []


async def test_what_is_said_of_a_ballot_is_of_that_ballot(
    relay: Relay, context: BrowserContext
) -> None:
    """A unit's second room is told why it has no vote; of the next ballot nothing is said yet."""

    async def refuse(route: Route) -> None:
        await route.fulfill(status=409, json={"error": "this voter has been given a ballot paper"})

    await context.route("**/signatures", refuse)
    tab, told = await enter(context, f"{relay.url}/room/{ROOM}?site=12")
    keys = ballots.new_keys()
    ballot = BALLOT | {"signer": keys.signer, "seal": keys.seal}
    told.tell({"ballot": ballot})
    await tab.page.click("#ballot-options label >> nth=1")
    await tab.page.click("#ballot-cast")
    await tab.until_text("#ballot-hint", "Your unit has been given its ballot paper already")
    told.tell({"ballot": ballot | {"open": False}})
    await tab.until_text("#ballot-hint", "the votes are being counted")
    told.tell({"ballot": ballot | {"open": False, "result": [171, 22, 19]}})
    await tab.until_text("#ballot-result", "171 · 81 %")
    told.tell({"ballot": ballot | {"id": 3}})
    await tab.until_text("#ballot-hint", "Nobody can find out")
    assert tab.errors == []


async def test_sites_are_brought_on_stage_together_and_heard(
    place: House, context: BrowserContext
) -> None:
    """One button for each site: the stage, and the floor for who has not got it."""
    commands: list[tuple[str, str, Any]] = []

    async def answer(route: Route) -> None:
        request = route.request
        path = request.url.split("/room", 1)[1]
        if request.method != "GET":
            if path != "/wanted":
                commands.append((request.method, path, request.post_data_json))
            await route.fulfill(status=204)
        else:
            await route.fulfill(json=TOLD if path == "" else {"token": ""})

    await directs(context, "**/api/occurrences/*/room**", answer)
    tab, told = await enter(context, f"{place.url}/room/{ROOM}/console")
    told.tell({"floor": FLOOR, "stage": ["site-12"]})
    await tab.page.keyboard.press("g")
    sites = tab.page.locator("#sites")
    await sites.get_by_role("button", name="Off the stage").wait_for()
    await sites.get_by_role("button", name="Onto the stage").first.focus()
    async with tab.page.expect_response("**/room/floor/site-14"):
        await tab.page.keyboard.press("Enter")
    assert commands == [
        ("PUT", "/stage", {"sources": ["site-12", "site-14"]}),
        ("PUT", "/floor/site-14", {"heard": True, "muted": False, "programme": False}),
    ]
    told.tell({"stage": ["site-12", "site-14"]})
    off = tab.page.locator("#speakers").get_by_role("button", name="Off the stage")
    await sites.get_by_role("button", name="Off the stage").nth(1).wait_for()
    async with tab.page.expect_response("**/room/stage"):
        await off.first.click()
    assert commands[2:] == [("PUT", "/stage", {"sources": ["site-14"]})]
    await photograph(tab, "room-console-stage", whole=True)
    assert tab.errors == []
