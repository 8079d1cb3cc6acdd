"""`terrace serve` as a process of a test that may kill it, and somebody who asks its API."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp

from tests.live.tree import Node, start_process, until
from tests.schedule.receivers import Hook, Mailbox
from web import sample

READY_WITHIN_S = 30.0
CLASS_WITHIN_S = 60.0
"""From before its beginning to its course."""


class Api:
    """Somebody who is signed in at the centre."""

    def __init__(self, http: aiohttp.ClientSession, url: str) -> None:
        self._http = http
        self._url = url
        self._csrf = ""

    async def sign_in(self, login: str, password: str) -> None:
        body = {"login": login, "password": password}
        async with self._http.post(f"{self._url}/api/session", json=body) as answer:
            assert answer.status == 200, await answer.text()
            self._csrf = (await answer.json())["csrf"]

    async def get(self, path: str) -> Any:
        async with self._http.get(f"{self._url}{path}") as answer:
            assert answer.status == 200, await answer.text()
            return await answer.json()

    async def post(self, path: str) -> None:
        headers = {"X-CSRF-Token": self._csrf}
        async with self._http.post(f"{self._url}{path}", headers=headers) as answer:
            assert answer.status < 300, await answer.text()

    async def state(self, occurrence_id: int) -> str:
        return str((await self.occurrence(occurrence_id))["state"])

    async def occurrence(self, occurrence_id: int) -> dict[str, Any]:
        stage = await self.get(f"/api/occurrences/{occurrence_id}")
        return dict(stage["occurrence"])

    async def until_state(self, occurrence_id: int, wanted: str) -> None:
        async def look() -> bool:
            return await self.state(occurrence_id) == wanted

        await until(f"the class is {wanted}", look, CLASS_WITHIN_S)


@contextlib.asynccontextmanager
async def signed_in(url: str, password: str, login: str = sample.LOGIN) -> AsyncIterator[Api]:
    # The centre of a test is an address, for which a cookie jar keeps nothing by default.
    jar = aiohttp.CookieJar(unsafe=True)
    async with aiohttp.ClientSession(cookie_jar=jar) as http:
        api = Api(http, url)
        await api.sign_in(login, password)
        yield api


class Killable:
    """A centre of its own folder that can be killed and started again."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.node = Node("centre", port, folder / "centre.log")
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "web.cli", "serve"]
        command += ["--config", str(self.folder / "terrace.toml"), "--port", str(self.node.port)]
        self.node._process = start_process(command, self.node.log)

    async def ready(self) -> None:
        async def look() -> bool:
            return await asyncio.to_thread(self.node.answers)

        await until("the centre answers", look, READY_WITHIN_S)


def settings(folder: Path, database: str = "", told: tuple[Mailbox, Hook] | None = None) -> str:
    """A centre's settings file. told: who gets its messages."""
    paths = {name: json.dumps(str(folder / name)) for name in ("library", "recordings")}
    said = (
        f"[relay]\nname = 'centre'\nrecordings = {paths['recordings']}\n"
        f"[library]\nfolder = {paths['library']}\n"
        f"[centre]\ndatabase = {json.dumps(database or str(folder / 'centre.db'))}\n"
    )
    if told is None:
        return said
    mail, hook = told
    return (
        f"{said}grace_s = 1\n"
        f"smtp_host = '127.0.0.1'\nsmtp_port = {mail.port}\nsmtp_security = 'none'\n"
        f"smtp_sender = 'terrace@example.org'\nwebhook_url = '{hook.url}'\n"
    )
