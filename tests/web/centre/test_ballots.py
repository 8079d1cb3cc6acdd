"""A secret ballot through the API: one paper each, votes that belong to nobody, a result."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from relay.access import issue
from schedule.room_tables import BallotPaper, BallotVote
from tests.schedule.network import Network
from tests.web.centre.people import Browser, Clock, pem
from tests.web.centre.test_rights import ballot_keys
from tests.web.centre.test_rooms import Told, enter
from tests.web.centre.test_signin import Open
from web.centre.centre import Centre
from web.room import ballots as secret
from web.room.ballots import Paper
from web.room.root import Event


@dataclass
class Booth:
    """An open ballot, and its host."""

    centre: Centre
    network: Network
    host: Browser
    told: Told
    meeting: int
    ballot: dict[str, Any]
    clock: Clock

    @property
    def path(self) -> str:
        return f"/api/occurrences/{self.meeting}/room/ballots/{self.ballot['id']}"

    async def sign(self, who: Browser, paper: Paper, **body: Any) -> tuple[int, Any]:
        asked = {"blinded": paper.blinded} | body
        answer = await who.post(f"{self.path}/signatures", asked)
        return answer.status, answer.json

    def paper(self) -> Paper:
        return Paper(self.told.state["ballot"]["signer"])

    def vote(self, paper: Paper, choice: int, signed: str) -> Event:
        made = paper.vote(self.told.state["ballot"]["seal"], self.ballot["id"], choice, signed)
        data = {"ballot": self.ballot["id"], "vote": made.as_json()}
        return Event(made.token_sha256, "ballot", "", 0.0, data)

    async def cast(self, votes: Sequence[Event]) -> None:
        await self.centre.rooms.take(self.meeting, votes)

    async def counted(self) -> Any:
        """Close it, and see what comes of it."""
        assert (await self.host.post(f"{self.path}/close")).status == 204
        room = await self.centre.rooms.room(self.meeting)
        await self.centre.rooms.look(room)
        assert self.told.state["ballot"]["result"] is None, "votes may be on their way"
        self.clock.forward(seconds=10)
        await self.centre.rooms.look(room)
        await self.centre.rooms.settled()
        return (await self.host.get(self.path)).json


@pytest.fixture
def voters() -> str:
    return "units"


@pytest.fixture
async def booth(
    network: Network, centre: Centre, browser: Open, clock: Clock, voters: str,
    monkeypatch: pytest.MonkeyPatch,
) -> Booth:  # fmt: skip
    keys = ballot_keys()
    made = secret.Keys(dict(keys.signer), dict(keys.seal), keys.signer_key, keys.seal_key)
    monkeypatch.setattr(secret, "new_keys", lambda: made)
    meeting, told = await enter(network, centre), Told()
    centre.rooms.hub = told
    host = await browser("boss-C")
    path = f"/api/occurrences/{meeting}/room"
    assert (await host.post(f"{path}/open")).status == 200
    question = {"question": "Agreed?", "options": ["Yes", "No", "Abstain"], "voters": voters}
    answer = await host.post(f"{path}/ballots", question)
    assert answer.status == 200, answer.text
    return Booth(centre, network, host, told, meeting, answer.json, clock)


async def test_units_vote_once_each_and_in_secret(booth: Booth, browser: Open) -> None:
    votes = []
    for login, choice in (("boss-P1A", 0), ("boss-P2A", 0), ("boss-P1Ax", 1)):
        one, paper = await browser(login), booth.paper()
        status, said = await booth.sign(one, paper)
        assert status == 200
        # A line that broke: the same question has the same answer.
        assert await booth.sign(one, paper) == (200, said)
        status, refused = await booth.sign(one, booth.paper())
        assert status == 409
        assert "already" in refused["error"]
        votes.append(booth.vote(paper, choice, said["signed"]))
    await booth.cast(votes)
    await booth.cast(votes[:2])
    assert booth.told.state["ballot"]["open"] is True
    found = await booth.counted()
    assert (found["votes"], found["result"], found["spoilt"]) == (3, [2, 1, 0], 0)
    assert booth.told.state["ballot"]["result"] == [2, 1, 0]
    assert booth.told.state["ballot"]["open"] is False
    turnout = {one["unit"]: one["papers"] for one in found["turnout"] if one["papers"]}
    assert turnout == {"P1A": 1, "P2A": 1, "P1Ax": 1}
    assert sum(one["invited"] for one in found["turnout"]) == 10
    # Nobody gets a paper any more, and a vote that comes now does not count.
    status, _ = await booth.sign(await browser("boss-P1B"), booth.paper())
    assert status == 409


async def test_what_is_kept_of_a_vote_names_nobody(booth: Booth, browser: Open) -> None:
    one, paper = await browser("boss-P1A"), booth.paper()
    _, said = await booth.sign(one, paper)
    await booth.cast([booth.vote(paper, 0, said["signed"])])
    async with booth.centre.store.reading() as connection:
        papers = (await connection.execute(select(BallotPaper.__table__))).mappings().all()
        votes = (await connection.execute(select(BallotVote.__table__))).mappings().all()
    assert set(papers[0]) == {"ballot_id", "voter", "unit_id", "asked_sha256"}
    assert set(votes[0]) == {"ballot_id", "token_sha256", "vote"}
    seen = {paper.blinded, said["signed"], str(papers[0]["asked_sha256"])}
    assert not [value for value in votes[0]["vote"].values() if value in seen]


async def test_votes_that_no_voter_made_are_left_out(booth: Booth, browser: Open) -> None:
    one, paper = await browser("boss-P1A"), booth.paper()
    _, said = await booth.sign(one, paper)
    good = booth.vote(paper, 0, said["signed"])
    vote = dict(good.data["vote"])  # type: ignore[call-overload]
    other = secret.text_of(bytes(384))
    bad = [
        {"ballot": booth.ballot["id"], "vote": vote | {"sealed": other}},
        {"ballot": booth.ballot["id"], "vote": vote | {"signature": other}},
        {"ballot": booth.ballot["id"] + 1, "vote": vote},
        {"ballot": "1", "vote": "x"},
    ]
    await booth.cast([Event(str(n), "ballot", "", 0.0, one) for n, one in enumerate(bad)])
    await booth.cast([good])
    assert (await booth.counted())["result"] == [1, 0, 0]


async def test_who_has_a_paper_for_what(booth: Booth, browser: Open) -> None:
    p1 = booth.network.units["P1A"].id
    # An administrator of the province answers for the city below it, and not for another one.
    one = await browser("boss-P1")
    assert (await booth.sign(one, booth.paper(), unit_id=p1))[0] == 200
    assert (await booth.sign(one, booth.paper(), unit_id=booth.network.units["P2A"].id))[0] == 403
    assert (await one.post(f"{booth.path}/signatures", {"blinded": "AAAA"})).status == 400
    assert (await booth.sign(await browser(""), booth.paper()))[0] == 401


def site_pass(booth: Booth, site: int) -> dict[str, str]:
    stream = f"class-{booth.meeting}"
    said = issue(
        pem(), publish=[f"{stream}.site-{site}"], view=[stream], relay=False, ttl_s=60,
        subject=f"site:{site}", now=time.time(),
    )  # fmt: skip
    return {"Authorization": f"Bearer {said}"}


async def test_a_site_votes_for_its_unit_by_its_pass(booth: Booth, browser: Open) -> None:
    site, nobody = booth.network.sites["P1Ax"], await browser("")
    shown = site_pass(booth, site)

    async def ask(paper: Paper, **more: Any) -> int:
        body = {"blinded": paper.blinded} | more
        answer = await nobody.ask("POST", f"{booth.path}/signatures", body, headers=shown)
        return answer.status

    other = booth.network.sites["P2Ax"]
    assert await ask(booth.paper(), **{"as": f"site:{other}"}) == 403
    assert await ask(booth.paper(), **{"as": "person:1"}) == 403
    assert await ask(booth.paper(), **{"as": f"site:{site}"}) == 200
    assert await ask(booth.paper()) == 409, "the unit has its paper"


@pytest.mark.parametrize("voters", ["people"])
async def test_people_vote_for_themselves(booth: Booth, browser: Open) -> None:
    votes = []
    for login in ("boss-P1A", "boss-P2A"):
        paper = booth.paper()
        status, said = await booth.sign(await browser(login), paper)
        assert status == 200
        votes.append(booth.vote(paper, 2, said["signed"]))
    await booth.cast(votes)
    assert (await booth.counted())["result"] == [0, 0, 2]
    answer = await booth.host.get(f"{booth.path}/result.csv")
    rows = list(csv.reader(io.StringIO(answer.text.lstrip("\ufeff"))))
    assert rows[:5] == [["question", "Agreed?"], ["Yes", "0"], ["No", "0"], ["Abstain", "2"],
                        ["spoilt", "0"]]  # fmt: skip
    assert [row[1:3] for row in rows if row[1:3] == ["P1A", "1"]]


async def test_a_ballot_ends_by_itself_and_after_a_restart(booth: Booth, clock: Clock) -> None:
    clock.now += timedelta(minutes=5, seconds=1)
    room = await booth.centre.rooms.room(booth.meeting)
    await booth.centre.rooms.look(room)
    assert booth.told.state["ballot"]["open"] is False
    clock.forward(seconds=10)
    await booth.centre.rooms.look(room)
    await booth.centre.rooms.settled()
    assert booth.told.state["ballot"]["result"] == [0, 0, 0]
