"""The voter's side of a secret ballot in Chromium, with the centre's side in Python."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from playwright.async_api import Page, async_playwright

from tests.live.browser import executable
from tests.live.tree import ROOT, free_ports
from web.room import ballots

pytestmark = pytest.mark.live

VECTOR = ROOT / "tests/web/room/rfc9474.json"
MODULE = "import('/ballot.js')"


@asynccontextmanager
async def page_with(module: Path) -> AsyncIterator[Page]:
    """A page of this machine, which may use WebCrypto, with one module."""
    (port,) = free_ports(1)
    app = web.Application()

    async def empty(_request: web.Request) -> web.Response:
        return web.Response(text="<!doctype html>", content_type="text/html")

    async def script(_request: web.Request) -> web.Response:
        return web.Response(text=module.read_text(), content_type="text/javascript")

    app.router.add_get("/", empty)
    app.router.add_get("/ballot.js", script)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        async with async_playwright() as playwright:
            browser = await playwright.chromium.launch(
                executable_path=executable(), args=["--no-sandbox", "--disable-gpu"]
            )
            page = await browser.new_page()
            await page.goto(f"http://127.0.0.1:{port}/")
            yield page
            await browser.close()
    finally:
        await runner.cleanup()


def url64(hexadecimal: str) -> str:
    data = bytes.fromhex(hexadecimal.zfill(len(hexadecimal) + len(hexadecimal) % 2))
    return base64.urlsafe_b64encode(data.lstrip(b"\0")).rstrip(b"=").decode()


async def test_a_vote_that_chromium_makes_is_let_in_and_counted() -> None:
    """First by the RFC's own numbers, then from the paper to the box, over a reload."""
    told: dict[str, Any] = json.loads(VECTOR.read_text())
    keys = ballots.new_keys()
    ballot = {"id": 3, "signer": keys.signer, "seal": keys.seal}
    async with page_with(ROOT / "web/static/ballot.js") as page:
        made = await page.evaluate(
            f"""async ({{n, e, message, salt, inverse, signed}}) => {{
                const {{ blind, finalize, textOf, bytesOf }} = await {MODULE};
                const key = {{ n, e }};
                const over = BigInt('0x' + inverse);
                const {{ blinded }} = await blind(key, bytesOf(message), bytesOf(salt), over);
                const given = await finalize(key, bytesOf(message), bytesOf(signed), over);
                return [textOf(blinded), textOf(given)];
            }}""",
            {
                "n": url64(told["n"]),
                "e": "AQAB",
                "message": url64(told["msg_prefix"] + told["msg"]),
                "salt": ballots.text_of(bytes.fromhex(told["salt"])),
                "inverse": told["inv"],
                "signed": ballots.text_of(bytes.fromhex(told["blind_sig"])),
            },
        )
        assert made == [
            ballots.text_of(bytes.fromhex(told[name])) for name in ("blinded_msg", "sig")
        ]

        paper = f"(await (await {MODULE}).Paper.of(5, ballot))"
        asked = await page.evaluate(f"async (ballot) => {paper}.blinded", ballot)
        await page.reload()
        again = await page.evaluate(f"async (ballot) => {paper}.blinded", ballot)
        assert again == asked
        vote = await page.evaluate(
            f"async ([ballot, signed]) => {paper}.vote(1, signed)",
            [ballot, ballots.sign(keys.signer_key, asked)],
        )
        await page.evaluate(f"async (ballot) => {paper}.forget()", ballot)
        assert await page.evaluate("localStorage.length") == 0
    ballots.check(keys.signer, 3, vote)
    assert ballots.open_votes(keys.seal_key, 3, 2, [vote]) == ([0, 1], 0)
