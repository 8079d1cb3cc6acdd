"""A node between a library and stations: one copy comes down, whole and right, to whoever asks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from aiohttp import web

from relay.access import Access
from tests.media.lessons import Lesson, lesson, library, serving
from web import distribution
from web.cache_settings import CacheSettings
from web.distribution import Distribution


@dataclass(frozen=True)
class Config:
    parents: tuple[str, ...]
    access: Access
    port: int = 8740
    parent_token: str = ""


@dataclass
class County:
    url: str
    distribution: Distribution
    http: aiohttp.ClientSession

    async def get(self, path: str, **headers: str) -> tuple[int, bytes, dict[str, str]]:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.http.get(self.url + path, headers=names) as response:
            return response.status, await response.read(), dict(response.headers)


@asynccontextmanager
async def county(
    folder: Path, *parents: str, lesson: Lesson | None = None, access: Access | None = None
) -> AsyncIterator[County]:
    settings = CacheSettings(folder=folder / "cache", keep_free_mb=0)
    keys = [lesson.key.public_key()] if lesson else []
    config = Config(parents, access or Access.open_mode())
    made, app = Distribution(config, settings, keys), web.Application()
    distribution.add(app, made)
    async with serving(app) as url, aiohttp.ClientSession() as http:
        yield County(url, made, http)


async def test_a_course_comes_through_the_county_once(tmp_path: Path) -> None:
    """Thirty askers of a whole file: the library sends each byte of it once."""
    one = lesson(segments=8)
    async with library(one) as above, county(tmp_path, above.url, lesson=one) as node:
        answers = await asyncio.gather(*(node.get(one.media_path) for _ in range(30)))
        assert {status for status, _, _ in answers} == {200}
        assert all(body == one.files[one.media_path] for _, body, _ in answers)
        assert above.sent[one.media_path] == one.size_bytes
        assert above.sent["/courses/rice-1/course.jws"] == len(
            one.files["/courses/rice-1/course.jws"]
        )
