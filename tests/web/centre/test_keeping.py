"""Reports that wait together are kept together, and each is answered for itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import event, func, select

from schedule.errors import Invalid
from schedule.tables import Join
from tests.schedule.network import Network
from web.centre.centre import Centre
from web.centre.keeping import Keeper
from web.centre.reported import Stay

AT = datetime(2026, 3, 2, 1, tzinfo=UTC)


def stay(source: str, occurrence: int, site: int, **more: Any) -> Stay:
    fields: dict[str, Any] = {
        "source": source, "occurrence_id": occurrence, "attendee_kind": "site",
        "attendee_id": site, "station_code": "", "joined_at": AT, "seen_at": AT, "left_at": None,
        "from_s": None, "to_s": None,
    }  # fmt: skip
    return Stay.model_construct(**fields | more)


@pytest.fixture
async def lesson(network: Network) -> int:
    saved = await network.confirmed(network.draft("P1"))
    return saved.series.id


@pytest.fixture
async def commits(centre: Centre) -> AsyncIterator[list[str]]:
    """What the database was told to make lasting."""
    seen: list[str] = []

    def committed(_connection: object) -> None:
        seen.append("commit")

    event.listen(centre.store.engine.sync_engine, "commit", committed)
    yield seen
    event.remove(centre.store.engine.sync_engine, "commit", committed)


async def kept(centre: Centre) -> int:
    async with centre.store.reading() as connection:
        return await connection.scalar(select(func.count()).select_from(Join)) or 0


async def test_what_comes_at_once_is_written_at_once(
    centre: Centre, network: Network, lesson: int, commits: list[str]
) -> None:
    site = network.sites["P1Ax"]
    keeper = Keeper(centre.store)
    told = [keeper.keep([stay(f"n/{n}", lesson, site)]) for n in range(50)]
    assert {one.kept for one in await asyncio.gather(*told)} == {1}
    assert len(commits) == 1
    assert await kept(centre) == 50


async def test_each_hears_of_its_own_only(centre: Centre, network: Network, lesson: int) -> None:
    site = network.sites["P1Ax"]
    keeper = Keeper(centre.store)
    good, bad = await asyncio.gather(
        keeper.keep([stay("a/1", lesson, site), stay("a/2", lesson, site)]),
        keeper.keep([stay("b/1", lesson, site), stay("b/2", lesson, 9999)]),
    )
    assert (good.kept, good.unknown) == (2, ())
    assert (bad.kept, bad.unknown) == (1, ("b/2",))


async def test_what_cannot_be_kept_takes_nothing_along(
    centre: Centre, network: Network, lesson: int
) -> None:
    site = network.sites["P1Ax"]
    keeper = Keeper(centre.store)
    one, other, last = await asyncio.gather(
        keeper.keep([stay("a/1", lesson, site)]),
        keeper.keep([stay("b/1", lesson, site, from_s=9)]),
        keeper.keep([stay("c/1", lesson, site)]),
        return_exceptions=True,
    )
    assert isinstance(other, Invalid)
    assert not isinstance(one, BaseException)
    assert not isinstance(last, BaseException)
    assert await kept(centre) == 2


async def test_news_of_one_stay_is_kept_in_its_order(
    centre: Centre, network: Network, lesson: int
) -> None:
    """A report of the same name is not merged with one that waits before it, but comes after it."""
    site, later = network.sites["P1Ax"], AT + timedelta(minutes=5)
    keeper = Keeper(centre.store)
    await asyncio.gather(
        keeper.keep([stay("a/1", lesson, site)]),
        keeper.keep([stay("a/1", lesson, site, seen_at=later, left_at=later)]),
        keeper.keep([stay("a/1", lesson, site, seen_at=AT + timedelta(minutes=1))]),
    )
    async with centre.store.reading() as connection:
        rows = (await connection.execute(select(Join.seen_at, Join.left_at))).all()
    assert [tuple(row) for row in rows] == [(later, later)]


async def test_a_closed_keeper_has_kept_what_waited(
    centre: Centre, network: Network, lesson: int
) -> None:
    keeper = Keeper(centre.store)
    waiting = asyncio.create_task(keeper.keep([stay("a/1", lesson, network.sites["P1Ax"])]))
    await asyncio.sleep(0)
    await keeper.close()
    assert (await waiting).kept == 1
