"""A room through its API: what the tree is told, what the node is asked, and what outlasts it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import pytest
from sqlalchemy import select, update

from relay.errors import Refused
from schedule import invitations
from schedule.tables import Occurrence
from tests.schedule.network import NOW, Network
from tests.web.centre.people import Browser, Clock
from tests.web.centre.test_signin import Open
from web.centre.centre import Centre
from web.centre.rooms import Rooms
from web.room.root import Event


@dataclass
class Told:
    """What clients of the room would have: keys and values."""

    state: dict[str, Any] = field(default_factory=dict)

    def set(self, room: int, key: str, value: object) -> None:
        if value is None:
            self.state.pop(key, None)
        else:
            self.state[key] = value


@dataclass
class Node:
    """Streams that flow, and what was cut to what. A source that does not flow is refused."""

    streams: set[str] = field(default_factory=set)
    cuts: list[tuple[str | None, bool]] = field(default_factory=list)
    slow: asyncio.Event | None = None
    waits: asyncio.Event = field(default_factory=asyncio.Event)

    async def switch(self, stream: str, source: str | None, *, muted: bool) -> None:
        name = source and source.partition(".")[2]
        if self.slow is not None and not muted:
            self.waits.set()
            await self.slow.wait()
        if source is not None and source not in self.streams and not muted:
            raise Refused(504, f"'{source}' has not come within 2 s; the programme stays.")
        self.cuts.append((name, muted))

    def flowing(self, streams: Iterable[str]) -> frozenset[str]:
        return frozenset(streams) & self.streams


@dataclass
class Meeting:
    """An open room with presenter and two sites."""

    id: int
    rooms: Rooms
    host: Browser
    told: Told
    node: Node
    clock: Clock
    sites: tuple[int, int]

    def flow(self, *sources: str) -> None:
        self.node.streams = {f"class-{self.id}.{one}" for one in sources}

    async def ask(self, method: str, rest: str, body: Any = None) -> Any:
        answer = await self.host.ask(method, f"/api/occurrences/{self.id}/room{rest}", body)
        assert answer.status < 300, answer.text
        return answer.json

    async def status(self, method: str, rest: str, body: Any = None) -> int:
        answer = await self.host.ask(method, f"/api/occurrences/{self.id}/room{rest}", body)
        return int(answer.status)

    async def hand(self, site: int, id: str, text: str = "", *, up: bool = True) -> None:
        data: dict[str, object] = {"up": up, "text": text}
        at = self.clock().timestamp()
        await self.rooms.take(self.id, [Event(id, "hand", f"site:{site}", at, data)])

    async def look(self) -> None:
        await self.rooms.look(await self.rooms.room(self.id))
        await self.rooms.settled()


async def enter(network: Network, centre: Centre, rooms: Rooms | None = None) -> int:
    await network.confirmed(network.draft("C", kind="meeting", audience=(("subtree", 1),)))
    async with network.store.writing() as connection:
        found = await connection.scalar(select(Occurrence.id))
        assert found is not None
        await invitations.invite(connection, found)
    return int(found)


@pytest.fixture
async def meeting(network: Network, centre: Centre, browser: Open, clock: Clock) -> Meeting:
    id = await enter(network, centre)
    told, node = Told(), Node()
    centre.rooms.hub, centre.rooms.scene = told, node
    made = Meeting(
        id, centre.rooms, await browser("boss-C"), told, node, clock,
        (network.sites["P1Ax"], network.sites["P2Ax"]),
    )  # fmt: skip
    await made.ask("POST", "/open")
    made.flow("presenter", *(f"site-{one}" for one in made.sites))
    centre.rooms.present(id, frozenset(made.sites), 40)
    return made


async def test_a_hand_becomes_a_turn(meeting: Meeting) -> None:
    one, other = meeting.sites
    await meeting.hand(one, "a", "About the water")
    meeting.clock.forward(seconds=30)
    await meeting.hand(other, "b")
    found = await meeting.ask("GET", "")
    assert [(h["site_id"], h["unit"], h["text"], h["there"]) for h in found["hands"]] == [
        (one, "P1Ax", "About the water", True),
        (other, "P2Ax", "", True),
    ]
    assert meeting.told.state["counts"] == {"sites": 2, "viewers": 40, "hands": 2}
    given = await meeting.ask("PUT", f"/floor/site-{one}", {"programme": True})
    assert given == {"source": f"site-{one}", "shown": True}
    state = meeting.told.state
    assert state["floor"][f"site-{one}"]["heard"] is True
    assert state["programme"]["name"] == "Hall"
    assert state["hands"] == [other]
    assert state["wanted"] == {f"site-{one}": "full"}
    assert meeting.node.cuts == [(f"site-{one}", False)]
    await meeting.ask("DELETE", f"/floor/site-{one}")
    # Silent first, then the presenter.
    assert meeting.node.cuts[1:] == [(f"site-{one}", True), ("presenter", False)]
    assert meeting.told.state["floor"] == {}
    assert meeting.told.state["programme"]["muted"] is False


async def test_a_hand_that_comes_twice_is_not_raised_again(meeting: Meeting) -> None:
    await meeting.hand(meeting.sites[0], "a")
    await meeting.ask("DELETE", f"/hands/{meeting.sites[0]}")
    await meeting.hand(meeting.sites[0], "a")
    assert meeting.told.state["hands"] == []


async def test_a_source_that_does_not_come_leaves_what_was_there(meeting: Meeting) -> None:
    await meeting.ask("PUT", "/programme", {"source": "presenter"})
    meeting.flow("presenter")
    asked = {"source": f"site-{meeting.sites[0]}"}
    answer = await meeting.host.ask("PUT", f"/api/occurrences/{meeting.id}/room/programme", asked)
    assert answer.status == 409
    assert "has not come" in answer.json["error"]
    assert meeting.told.state["programme"]["source"] == "presenter"
    assert meeting.told.state["wanted"] == {}


async def test_silence_does_not_wait_for_a_cut(meeting: Meeting) -> None:
    site = f"site-{meeting.sites[0]}"
    await meeting.ask("PUT", f"/floor/{site}", {"programme": True})
    meeting.node.slow = asyncio.Event()
    cut = asyncio.create_task(meeting.ask("PUT", "/programme", {"source": "presenter"}))
    await meeting.node.waits.wait()
    await meeting.ask("PUT", "/programme", {"source": site, "muted": True})
    assert meeting.told.state["programme"]["muted"] is True
    assert not cut.done()
    meeting.node.slow.set()
    await cut


async def test_a_site_that_vanishes_on_the_floor(meeting: Meeting) -> None:
    site = f"site-{meeting.sites[0]}"
    await meeting.ask("PUT", f"/floor/{site}", {"programme": True})
    await meeting.look()
    meeting.flow("presenter")
    for _ in range(5):
        await meeting.look()
        meeting.clock.forward(seconds=0.5)
    programme = meeting.told.state["programme"]
    assert (programme["source"], programme["instead_of"]) == ("presenter", site)
    assert meeting.told.state["floor"][site]["lost"] is True
    (button,) = (await meeting.ask("GET", ""))["attention"]
    assert (button["source"], button["what"], button["do"]) == (site, "replaced", "take floor")
    # It comes back, and finds its floor; the host decides.
    meeting.flow("presenter", site)
    await meeting.look()
    assert meeting.told.state["floor"][site]["lost"] is False
    assert meeting.told.state["programme"]["source"] == "presenter"
    (button,) = (await meeting.ask("GET", ""))["attention"]
    assert (button["source"], button["what"], button["do"]) == (site, "back", "cut")
    await meeting.ask("PUT", "/programme", {"source": site})
    assert (await meeting.ask("GET", ""))["attention"] == []


async def test_a_centre_that_starts_again_goes_on(meeting: Meeting, centre: Centre) -> None:
    one, other = meeting.sites
    await meeting.ask("PUT", f"/floor/site-{one}", {"programme": True})
    await meeting.hand(other, "b", "Later")
    await meeting.ask("PUT", "/order", {"sites": [other]})
    await meeting.ask("POST", "/polls", {"question": "Heard?", "options": ["Yes", "No"]})
    before = dict(meeting.told.state)
    told, node = Told(), Node(set(meeting.node.streams))
    after = Rooms(centre.store, meeting.clock, told, node)
    assert not after.knows(meeting.id)
    await after.look_around()
    assert after.knows(meeting.id)
    room = await after.room(meeting.id)
    await after.look(room)
    await after.settled()
    # Its node forwards nothing yet: the programme is cut again.
    assert node.cuts == [(f"site-{one}", False)]
    after.present(meeting.id, frozenset(meeting.sites), 40)
    changing = {"programme", "sources"}
    assert {k: v for k, v in told.state.items() if k not in changing} == {
        k: v for k, v in before.items() if k not in changing
    }
    # What was acknowledged before is not raised again.
    await after.take(
        meeting.id, [Event("b", "hand", f"site:{other}", NOW.timestamp(), {"up": False})]
    )
    assert told.state["hands"] == [other]


@pytest.mark.parametrize(("comes", "shown"), [(True, "presenter"), (False, "file")])
async def test_a_centre_that_stops_keeps_what_is_decided(
    comes: bool, shown: str, meeting: Meeting, centre: Centre, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A film ends in the last moment; who waits for the presenter then is not waited for."""
    monkeypatch.setattr("web.centre.rooms.STOP_WITHIN_S", 10.0 if comes else 0.05)
    meeting.flow("presenter", "file")
    await meeting.ask("PUT", "/programme", {"source": "file"})
    meeting.flow("presenter")
    if not comes:
        meeting.node.slow = asyncio.Event()
    meeting.rooms.file_over(meeting.id)
    await meeting.rooms.stop()
    after = Rooms(centre.store, meeting.clock, Told(), Node())
    assert (await after.room(meeting.id)).floor.programme.source == shown


async def test_a_roll_call(meeting: Meeting) -> None:
    one, other = meeting.sites
    # Two of the four county sites are there.
    begun = await meeting.ask("POST", "/rollcall", {})
    assert begun["total"] == 4
    seen = []
    while (called := await meeting.ask("POST", "/rollcall/next"))["site_id"] is not None:
        seen.append((called["unit"], called["shown"]))
        assert meeting.told.state["rollcall"]["unit"] == called["unit"]
        presence = "present" if called["shown"] else "absent"
        await meeting.ask("PUT", f"/rollcall/{called['site_id']}", {"presence": presence})
    assert seen == [("P1Ax", True), ("P1Ay", False), ("P1Bx", False), ("P2Ax", True)]
    assert "rollcall" not in meeting.told.state
    at = meeting.clock().timestamp()
    said = {"presence": "leave", "people": 3}
    await meeting.rooms.take(meeting.id, [Event("r", "rollcall", f"site:{one}", at, said)])
    marks = {m["site_id"]: m["presence"] for m in (await meeting.ask("GET", ""))["marks"]}
    assert (marks[one], marks[other]) == ("present", "present"), "the host's word holds"


async def test_line_tests_are_judged(meeting: Meeting) -> None:
    one, other = meeting.sites
    at = meeting.clock().timestamp()
    good = {"camera": True, "microphone": True, "speaker": True, "uplink_bps": 2_000_000,
            "delay_ms": 30, "loss": 0.0, "skew_ms": 5}  # fmt: skip
    await meeting.ask("POST", "/linetest")
    assert meeting.told.state["linetest"]["asked_at"]
    await meeting.rooms.take(
        meeting.id,
        [
            Event("1", "linetest", f"site:{one}", at, {"result": good}),
            Event("2", "linetest", f"site:{other}", at, {
                "result": good | {"camera": False, "uplink_bps": 300_000, "loss": "much"}}),
        ],
    )  # fmt: skip
    tests = {t["site_id"]: t for t in (await meeting.ask("GET", ""))["tests"]}
    assert tests[one]["ready"] is True
    assert tests[other]["todo"] == ["camera", "uplink"]


async def test_questions_and_words(meeting: Meeting) -> None:
    asked = await meeting.ask("POST", "/polls", {"question": "Heard?", "options": ["Yes", "No"]})
    meeting.rooms.tallied(meeting.id, asked["id"], [30, 9], 39)
    poll = meeting.told.state["poll"]
    assert (poll["voters"], poll["counts"]) == (39, []), "hidden until it is shown"
    await meeting.ask("PUT", f"/polls/{asked['id']}", {"open": False, "shown": True})
    assert meeting.told.state["poll"]["counts"] == [30, 9]
    words = [Event("w", "say", f"site:{meeting.sites[0]}", NOW.timestamp(), {"text": "Hello"})]
    await meeting.rooms.take(meeting.id, words)
    assert (await meeting.ask("GET", ""))["words"] == [], "off by default"
    await meeting.ask("PUT", "/chat", {"on": True})
    await meeting.rooms.take(meeting.id, words)
    (word,) = (await meeting.ask("GET", ""))["words"]
    assert meeting.told.state["chat"]["items"] == []
    await meeting.ask("PUT", f"/chat/{word['id']}", {"approved": True})
    assert [one["text"] for one in meeting.told.state["chat"]["items"]] == ["Hello"]


async def test_a_closed_room_takes_no_commands(meeting: Meeting) -> None:
    await meeting.ask("PUT", "/programme", {"source": "presenter"})
    await meeting.ask("POST", "/close")
    assert meeting.node.cuts[-1] == (None, False)
    assert meeting.told.state["meeting"]["room"] == "closed"
    assert await meeting.status("PUT", "/programme", {"source": "presenter"}) == 409
    assert await meeting.status("PUT", "/floor/site-1", {}) == 409


async def test_a_closed_room_hears_that_its_meeting_has_ended(
    meeting: Meeting, network: Network
) -> None:
    await meeting.ask("POST", "/close")
    assert meeting.told.state["meeting"]["state"] == "planned"
    async with network.store.writing() as connection:
        of = update(Occurrence).where(Occurrence.id == meeting.id)
        await connection.execute(of.values(state="ended"))
    await meeting.rooms.look_around()
    assert meeting.told.state["meeting"]["state"] == "ended"
