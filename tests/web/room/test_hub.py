"""Rooms over two real nodes: state down, names, presence and counts up, and who is let in."""

from __future__ import annotations

import time
from typing import Any

import pytest
from aiohttp import ClientSession
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from relay import tree
from relay.access import Access, issue
from tests.patience import PATIENCE
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


async def test_a_site_hears_often_enough_to_know_that_its_line_has_gone() -> None:
    """More than once within the time after which it is to believe that."""
    async with served(root=Keeper()) as top:
        top.hub.set(5, "meeting", {"id": 5})
        async with Visitor(top, "site:12") as site, Visitor(top, seat="B") as viewer:
            silent_s = (await site.hear("welcome"))["silent_s"]
            assert (await viewer.hear("welcome"))["silent_s"] > 10 * silent_s
            for _ in range(2):
                await site.hear("beat", silent_s / 2)


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


def token(key: Ed25519PrivateKey, subject: str, **rights: Any) -> str:
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    given: dict[str, Any] = {"publish": (), "view": (), "relay": False, "ttl_s": 3600.0} | rights
    return issue(pem, subject=subject, now=time.time(), **given)


async def test_each_is_who_the_token_says_and_only_as_long() -> None:
    """A viewer is no site, a site no other site, a person nobody else; at its end it is shut."""
    key = Ed25519PrivateKey.generate()
    access = Access((key.public_key(),), open_to_all=False)
    site = token(key, "site:12", publish=("class-5.site-12",), view=("class-5",))
    viewer = token(key, "", view=("class-5",))
    person = token(key, "person:3", view=("class-5",))
    other = token(key, "", view=("class-6",))
    refused = [
        ("site:12", viewer, "rights"),
        ("site:13", site, "rights"),
        ("person:4", person, "rights"),
        ("person:3", viewer, "rights"),
        ("viewer", other, "rights"),
        ("viewer", "", "token"),
        ("viewer", "x.y.z", "token"),
        ("viewer", token(Ed25519PrivateKey.generate(), "", view=("*",)), "token"),
    ]
    async with served(root=Keeper(), access=access) as top:
        for who, shown, code in refused:
            async with Visitor(top, who, token=shown) as one:
                end, said = await one.closed()
                assert (end, said[-1]["code"]) == (4401 if code == "token" else 4403, code)
        for who, shown in (("site:12", site), ("viewer", viewer), ("person:3", person)):
            async with Visitor(top, who, token=shown) as one:
                await one.hear("welcome")
        short = token(key, "", view=("class-5",), ttl_s=5)
        async with Visitor(top, token=short) as one:
            await one.hear("welcome")
            end, said = await one.closed(within_s=5 * PATIENCE)
            assert (end, said[-1]["code"]) == (4401, "expired")
        async with Visitor(top, token=short) as one:
            end, said = await one.closed()
            assert (end, said[-1]["code"]) == (4401, "expired")
        async with ClientSession() as http:
            for shown in (viewer, site):
                headers = {"Authorization": f"Bearer {shown}", tree.NODE_HEADER: "0123456789abcdef"}
                async with http.get(f"{top.url}/room/link", headers=headers) as answer:
                    assert answer.status == 403


async def test_a_viewer_cannot_do_what_sites_do_and_nobody_answers_what_is_not_asked() -> None:
    keeper = Keeper()
    async with served(root=keeper) as top, Visitor(top) as one:
        await one.hear("welcome")
        for message, code in (
            ({"t": "hand", "up": True}, "rights"),
            ({"t": "rollcall", "presence": "present", "people": 1, "id": "a"}, "rights"),
            ({"t": "linetest", "result": {}, "id": "a"}, "rights"),
            ({"t": "media", "camera": True, "microphone": True, "hidden": False}, "rights"),
            ({"t": "say", "text": "?", "id": "a"}, "chat-off"),
            ({"t": "answer", "poll": 7, "choice": 0}, "closed"),
            ({"t": "ballot", "ballot": 3, "vote": {"key": "AAAA"}}, "closed"),
        ):
            await one.say(message)
            assert (await one.hear("error"))["code"] == code
        top.hub.set(5, "poll", {**POLL, "open": False})
        await one.hear("state")
        await one.say({"t": "answer", "poll": 7, "choice": 0})
        assert (await one.hear("error"))["code"] == "closed"
        top.hub.set(5, "poll", POLL)
        await one.hear_state("poll", POLL)
        await one.say({"t": "answer", "poll": 7, "choice": 2})
        assert (await one.hear("error"))["code"] == "choice"
    assert keeper.events == []


async def test_who_says_too_much_is_told_and_then_shown_out() -> None:
    async with served(root=Keeper()) as top, Visitor(top, "site:12") as one:
        await one.hear("welcome")
        for _ in range(300):
            await one.say({"t": "hand", "up": True})
        end, said = await one.closed()
        assert end == 1008
        assert {"slow"} == {told["code"] for told in said if told["t"] == "error"}


async def test_a_client_that_moves_brings_its_receipt_and_counts_once() -> None:
    """From a node that lives, and from one that is gone without having told anybody."""
    keeper = Keeper()
    async with served(root=keeper) as top, served((top.url,)) as west, served((top.url,)) as east:
        top.hub.set(5, "poll", POLL)
        async with Visitor(west) as one:
            await one.hear_state("poll", POLL)
            await one.say({"t": "answer", "poll": 7, "choice": 1})
            receipt = {**(await one.hear("counted"))["receipt"], "choice": 1}
        await until("it is counted", lambda: keeper.counts.get((5, 7)) == [0, 1])
        async with Visitor(east, receipts={"7": receipt}) as one:
            counted = await one.hear("counted", within_s=10)
            assert counted["receipt"]["node"] == receipt["node"]
        # The first node is gone; of the second answer nobody has heard.
        gone = {"node": "00000000deadbeef", "n": 3, "choice": 0}
        async with Visitor(east, seat="B", receipts={"7": gone}) as one:
            counted = await one.hear("counted", within_s=15)
            assert counted["receipt"]["node"] == f"{east.node.id}.0"
        await until("both are counted", lambda: keeper.counts.get((5, 7)) == [1, 1])
