"""Somebody has the database, all its files, all logs and all that the centre took: who voted what?

Twelve sites get their papers and vote over a county, in another order than they were asked in. The
store is the centre's own; the desk and the box are `schedule.ballots`. What is tried: names,
times, the order of rows, the bytes of the files, every number that the desk has seen, the logs,
and algebra (tests/web/room/test_ballots.py: every vote fits every paper).
"""

from __future__ import annotations

import hashlib
import json
import logging
import random
import sqlite3
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from schedule import ballots as box
from schedule.store import Store, open_store
from tests.schedule.network import build
from tests.web.room.nodes import SEAT, Keeper, Visitor, served, until
from web.room import ballots
from web.room.ballots import Keys, Paper
from web.room.root import Event

BALLOT = 1
VOTERS = 12
PAGE_BYTES = 4096
ROOM = 5
SEATS = "ABCDEFGHIJKLMNOP"


class BoxKeeper(Keeper):
    """A centre that keeps votes in its database."""

    def __init__(self, store: Store, keys: Keys) -> None:
        super().__init__()
        self.store = store
        self.keys = keys
        self.batches: list[list[Event]] = []
        self.broken = True

    async def take(self, room: int, events: Sequence[Event]) -> None:
        if self.broken:
            self.broken = False
            raise OSError(f"cannot keep {events}")  # as a database would say it
        self.batches.append(list(events))
        async with self.store.writing() as connection:
            for event in events:
                told: Any = event.data["vote"]
                vote = ballots.check(self.keys.signer, BALLOT, told)
                await box.keep_vote(connection, BALLOT, vote.token_sha256, told)
        await super().take(room, events)


def open_ballot(path: Path, keys: Keys) -> None:
    """A ballot without its meeting, which is nothing to this test."""
    now = datetime.now(UTC).replace(tzinfo=None).isoformat(" ")
    with sqlite3.connect(path) as database:
        database.execute(
            "INSERT INTO ballots (id, occurrence_id, question, options, voters, signer, seal,"
            " signer_key, seal_key, opened_at, until, spoilt) VALUES (?,?,?,?,?,?,?,?,?,?,?,?)",
            (
                BALLOT, 1, "Who?", '["a","b"]', "units", json.dumps(keys.signer),
                json.dumps(keys.seal), keys.signer_key, keys.seal_key, now, now, 0,
            ),
        )  # fmt: skip
    database.close()


async def test_who_has_everything_that_is_kept_cannot_tell_who_voted_what(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # All that the program ever logs, see web.command.configure_logging.
    caplog.set_level(logging.INFO)
    for package in ("relay", "media", "schedule", "web"):
        caplog.set_level(logging.DEBUG, package)
    path = tmp_path / "terrace.db"
    store = await open_store(str(path))
    await build(store)
    keys = ballots.new_keys()
    open_ballot(path, keys)
    keeper = BoxKeeper(store, keys)
    order = list(range(VOTERS))
    random.Random(7).shuffle(order)
    papers, desk, cast = {}, {}, []

    # The desk: who asks is known, and written down with what was asked.
    for number in range(VOTERS):
        paper = papers[number] = Paper(keys.signer)
        asked = hashlib.sha256(paper.blinded.encode()).hexdigest()
        async with store.writing() as connection:
            await box.give_paper(connection, BALLOT, f"unit:{number + 1}", 1, asked)
        desk[number] = (paper.blinded, ballots.sign(keys.signer_key, paper.blinded), asked)

    async with served(root=keeper) as top, served((top.url,)) as county:
        state = {"id": BALLOT, "question": "Who?", "options": ["a", "b"], "open": True}
        top.hub.set(ROOM, "ballot", state)
        for number in order:
            vote = papers[number].vote(keys.seal, BALLOT, number % 2, desk[number][1])
            cast.append(vote)
            before = len(keeper.events)
            async with Visitor(county, f"site:{number + 1}", SEATS[number]) as one:
                await one.hear_state("ballot", state)
                await one.say({"t": "ballot", "ballot": BALLOT, "vote": vote.as_json()})
                if number == order[-1]:
                    assert (await one.hear("kept"))["id"] == f"ballot {BALLOT}"
                else:
                    await until(
                        "it is on its way",
                        lambda before=before: (
                            county.hub.exchange.outbox or len(keeper.events) > before
                        ),
                    )
        await until("all are kept", lambda: len(keeper.events) == VOTERS)

    async with store.reading() as connection:
        votes = await box.votes(connection, BALLOT)
    counts, spoilt = ballots.open_votes(keys.seal_key, BALLOT, 2, votes)
    assert (counts, spoilt) == ([VOTERS // 2, VOTERS // 2], 0)
    async with store.writing() as connection:
        await box.close(connection, BALLOT, counts, spoilt, datetime.now(UTC))
    await store.close()

    # 1. What the centre took has no name, no time and no order but that of its own bytes.
    for batch in keeper.batches:
        assert [event.id for event in batch] == sorted(event.id for event in batch)
        for event in batch:
            assert (event.who, event.at) == ("", 0.0)
            assert set(event.data) == {"ballot", "vote"}

    # 2. No table but the box has anything of a vote; the box has nothing of a voter.
    tokens = [vote.token_sha256 for vote in cast]
    with sqlite3.connect(path) as database:
        names = [row[0] for row in database.execute("SELECT name FROM sqlite_master "
                                                    "WHERE type = 'table'")]  # fmt: skip
        for name in names:
            rows = repr(database.execute(f'SELECT * FROM "{name}"').fetchall())
            of_votes = [v for vote in cast for v in (vote.token_sha256, *vote.as_json().values())]
            if name != "ballot_votes":
                assert not [one for one in of_votes if one in rows], name
            else:
                seen = [text for told in desk.values() for text in told]
                assert not [one for one in seen if one in rows]
                assert "unit:" not in rows
                assert "site:" not in rows
        columns = [row[1] for row in database.execute("PRAGMA table_info(ballot_votes)")]
        assert columns == ["ballot_id", "token_sha256", "vote"]
        columns = [row[1] for row in database.execute("PRAGMA table_info(ballot_papers)")]
        assert columns == ["ballot_id", "voter", "unit_id", "asked_sha256"]
        # 3. Rows come in the order of their hashes, whatever is asked for.
        found = database.execute("SELECT token_sha256 FROM ballot_votes").fetchall()
        assert [row[0] for row in found] == sorted(tokens)
    database.close()

    # 4. In the bytes of the files a vote stands once, on each page in the order of the hashes, so
    # that nothing is left of the order in which they came.
    for file in tmp_path.iterdir():
        data = file.read_bytes()
        by_page: dict[int, list[tuple[int, str]]] = {}
        for token in tokens:
            found = _places(data, token.encode())
            assert len(found) <= 1, (file.name, token, found)
            for place in found:
                by_page.setdefault(place // PAGE_BYTES, []).append((place, token))
        for on_page in by_page.values():
            there = [token for _, token in sorted(on_page)]
            assert there in (sorted(there), sorted(there, reverse=True)), file.name

    # 5. No log has a vote, a seat, or anything of the desk.
    said = caplog.text
    assert "room-events-not-kept" in said
    for vote in cast:
        for secret in (vote.token_sha256, *vote.as_json().values()):
            assert secret not in said
    for number in range(VOTERS):
        assert SEAT + SEATS[number] not in said
        assert not [text for text in desk[number] if text in said]
    assert "site:" not in said


def _places(data: bytes, what: bytes) -> list[int]:
    found, at = [], data.find(what)
    while at >= 0:
        found.append(at)
        at = data.find(what, at + 1)
    return found
