"""Pages of slides come down the tree: once, whole, and to whom a token allows it."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from aiohttp import web

from relay.access import Access
from relay.node import Node, NodeConfig
from tests.media.lessons import serving
from tests.patience import PATIENCE
from tests.web.centre.people import KEY, token
from web.room_files import RoomFiles


@dataclass
class Served:
    url: str
    folder: Path
    asked: list[str]


@contextlib.asynccontextmanager
async def served(
    folder: Path,
    parent: str = "",
    *,
    locked: bool = False,
    slow_s: float = 0.0,
    answers: asyncio.Event | None = None,
) -> AsyncIterator[Served]:
    """A node with files: the top one, or one below `parent`; it waits for `answers`, if given."""
    access = Access([KEY.public_key()], open_to_all=False) if locked else Access.open_mode()
    parents = (parent,) if parent else ()
    shown = token(relay=True)["Authorization"].removeprefix("Bearer ")
    node = Node(NodeConfig(access, port=0, parents=parents, parent_token=shown))
    asked: list[str] = []

    @web.middleware
    async def note(request: web.Request, handler: object) -> web.StreamResponse:
        if request.path.startswith("/room/"):
            asked.append(request.path)
            await asyncio.sleep(slow_s)
            if answers is not None:
                await answers.wait()
        return await handler(request)  # type: ignore[operator,no-any-return]

    app = web.Application(middlewares=[note])
    folder.mkdir(exist_ok=True)
    RoomFiles(node, folder, own=not parent).add(app)
    await node.start()
    try:
        async with serving(app) as url:
            yield Served(url, folder, asked)
    finally:
        await node.stop()


def page(folder: Path, size: int = 30_000) -> tuple[str, bytes]:
    data = secrets.token_bytes(size)
    name = hashlib.sha256(data).hexdigest()
    (folder / name).write_bytes(data)
    return name, data


async def get(url: str, name: str, query: str = "", **headers: str) -> tuple[int, bytes]:
    async with (
        aiohttp.ClientSession() as http,
        http.get(f"{url}/room/files/{name}{query}", headers=headers) as answer,
    ):
        if answer.status == 200:
            assert "immutable" in answer.headers["Cache-Control"]
            assert answer.content_type == "image/webp"
        return answer.status, await answer.read()


async def test_a_page_comes_down_once_for_all_who_ask(tmp_path: Path) -> None:
    async with (
        served(tmp_path / "top", slow_s=0.1) as top,
        served(tmp_path / "city", top.url) as city,
        served(tmp_path / "county", city.url) as county,
    ):
        name, data = page(top.folder)
        answers = await asyncio.gather(*(get(county.url, name) for _ in range(20)))
        assert answers == [(200, data)] * 20
        assert (len(top.asked), len(city.asked)) == (1, 1)
        assert await get(county.url, name, "?ahead=1") == (200, data)
        assert len(city.asked) == 1


async def test_a_page_that_went_wrong_on_the_disk_is_fetched_again(tmp_path: Path) -> None:
    async with (
        served(tmp_path / "top") as top,
        served(tmp_path / "county", top.url) as county,
    ):
        name, data = page(top.folder)
        await get(county.url, name)
        (county.folder / name).write_bytes(b"x" + data[1:])
        assert await get(county.url, name) == (200, data)
        assert len(top.asked) == 2


async def test_what_is_wrong_or_missing_above_is_not_handed_on(tmp_path: Path) -> None:
    async with (
        served(tmp_path / "top") as top,
        served(tmp_path / "county", top.url) as county,
    ):
        name, _ = page(top.folder)
        (top.folder / name).write_bytes(b"another")
        status, said = await get(county.url, name)
        assert status == 503
        assert said
        assert (await get(county.url, "0" * 64))[0] == 404
        assert not list(county.folder.iterdir())


async def test_what_is_shown_goes_before_what_is_fetched_ahead(tmp_path: Path) -> None:
    answers = asyncio.Event()

    async def until_asked(count: int) -> None:
        async with asyncio.timeout(10 * PATIENCE):
            while len(top.asked) < count:  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    async with (
        served(tmp_path / "top", answers=answers) as top,
        served(tmp_path / "county", top.url) as county,
    ):
        names = [page(top.folder)[0] for _ in range(6)]
        ahead = [asyncio.create_task(get(county.url, one, "?ahead=1")) for one in names[:5]]
        await until_asked(1)
        shown = asyncio.create_task(get(county.url, names[5]))
        await until_asked(2)
        assert top.asked[1] == f"/room/files/{names[5]}"
        answers.set()
        assert [status for status, _ in await asyncio.gather(shown, *ahead)] == [200] * 6


async def test_without_a_token_there_are_no_pages(tmp_path: Path) -> None:
    async with served(tmp_path / "top", locked=True) as top:
        name, data = page(top.folder)
        assert (await get(top.url, name))[0] == 401
        assert (await get(top.url, name, Authorization="Bearer x"))[0] == 401
        assert await get(top.url, name, **token(relay=False)) == (200, data)
