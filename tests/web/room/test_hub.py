"""Rooms over two real nodes: state down, names, presence and counts up, and who is let in."""

from __future__ import annotations

import pytest

from tests.web.room.nodes import Keeper, Visitor, served, until

POLL = {"id": 7, "question": "Agreed?", "options": ["yes", "no"], "open": True}


async def test_state_comes_down_and_answers_go_up_once() -> None:
    keeper = Keeper()
    async with served(root=keeper) as top, served((top.url,)) as county:
        top.hub.set(5, "meeting", {"id": 5, "title": "Spring sowing"})
        async with Visitor(county) as one, Visitor(top, seat="B") as two:
            welcome = await one.hear("welcome")
            assert welcome["node"] == county.node.id
            await one.hear_state("meeting", {"id": 5, "title": "Spring sowing"})
            top.hub.set(5, "poll", POLL)
            top.hub.set(5, "meeting", None)
            await one.hear_state("poll", POLL)
            await one.hear_state("meeting", None)
            await two.hear_state("poll", POLL)
            for _ in range(2):
                await one.say({"t": "answer", "poll": 7, "choice": 1})
                counted = await one.hear("counted")
                assert counted["receipt"] == {"node": f"{county.node.id}.0", "n": 1}
            await one.say({"t": "have", "poll": 7, "receipt": counted["receipt"]})
            await two.say({"t": "answer", "poll": 7, "choice": 0})
            await two.hear("counted")
            await until("both are counted", lambda: keeper.counts.get((5, 7)) == [1, 1])
            assert keeper.viewers == 2
        await until("both have left", lambda: keeper.viewers == 0)


async def test_what_a_site_does_by_name_is_kept_before_it_is_told_so() -> None:
    keeper = Keeper()
    keeper.fails = True
    async with served(root=keeper) as top, served((top.url,)) as county:
        top.hub.set(5, "chat", {"on": True, "items": []})
        async with Visitor(county, "site:12") as site:
            await site.hear_state("chat", {"on": True, "items": []})
            await until("the site is present", lambda: keeper.sites == {12})
            await site.say({"t": "hand", "up": True, "text": "about seeds"})
            await site.say({"t": "say", "text": "a question", "id": "q1"})
            await site.say({"t": "rollcall", "presence": "present", "people": 31, "id": "r1"})
            await site.say({"t": "linetest", "result": {"loss": 0.5}, "id": "l1"})
            await until("they are there", lambda: len(top.hub.exchange.outbox) == 4)
            keeper.fails = False
            kept = {(await site.hear("kept"))["id"] for _ in range(4)}
            assert kept == {"hand", "q1", "r1", "l1"}
    by_kind = {event.kind: event for event in keeper.events}
    assert by_kind["hand"].who == "site:12"
    assert by_kind["hand"].data == {"up": True, "text": "about seeds"}
    assert by_kind["rollcall"].data == {"presence": "present", "people": 31}
    assert by_kind["say"].at > 0
    assert len(county.hub.exchange.outbox) == len(top.hub.exchange.outbox) == 0


async def test_a_meeting_that_nobody_knows_is_refused_at_every_node() -> None:
    keeper = Keeper()
    async with served(root=keeper) as top, served((top.url,)) as county:
        for node in (top, county):
            async with Visitor(node, room=6) as one:
                code, said = await one.closed()
                assert code == 4404
                assert said[-1]["code"] == "unknown"
        top.hub.set(5, "meeting", {"id": 5})
        async with Visitor(county) as one:
            await one.hear_state("meeting", {"id": 5})
            keeper.rooms.clear()
            top.hub.end(5)
            assert (await one.closed())[0] == 4404
        assert not county.hub.exchange.desks


@pytest.mark.parametrize("message", ["", "{}", '{"t":"hand","up":true}', "[" * 999, "\\ud800"])
async def test_who_does_not_say_hello_is_shown_out(message: str) -> None:
    async with served(root=Keeper()) as top, Visitor(top, hello=message) as one:
        code, said = await one.closed()
        assert code == 4400
        assert said[-1]["code"] in ("message", "hello")
