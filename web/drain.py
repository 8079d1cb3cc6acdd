"""`terrace drain`: tells a node to hand its viewers over and stop, and says how it goes."""

from __future__ import annotations

import asyncio
import time

import aiohttp

POLL_S = 0.5
ANSWER_WITHIN_S = 5.0
# The node ends its sessions and closes its sockets within this long after the time that it had.
STOP_WITHIN_S = 5.0


class NotDrained(Exception):
    """The node did not do it. Its text is one sentence."""


async def run(url: str, seconds: float, token: str = "") -> None:
    """Have the node at `url` drain; returns when it has stopped.

    Raises `NotDrained`, and `ValueError` when `url` is no URL.
    """
    url = url.rstrip("/")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    timeout = aiohttp.ClientTimeout(total=ANSWER_WITHIN_S)
    async with aiohttp.ClientSession(timeout=timeout, headers=headers) as http:
        try:
            async with http.post(f"{url}/api/drain", json={"seconds": seconds}) as answer:
                if answer.status in (401, 403):
                    raise NotDrained(f"{url} wants a token that may relay: set TERRACE_TOKEN")
                if answer.status != 202:
                    said = (await answer.text())[:200].strip()
                    raise NotDrained(f"{url} answered {answer.status}: {said}")
                viewers = (await answer.json())["viewers"]
        except aiohttp.InvalidURL:
            raise ValueError(f"{url} is no URL: write one such as http://127.0.0.1:8710") from None
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise NotDrained(f"{url} cannot be reached: {error}") from error
        print(f"{viewers} viewers, at most {seconds:g} s")
        await _until_gone(http, url, time.monotonic() + seconds + STOP_WITHIN_S)


async def _until_gone(http: aiohttp.ClientSession, url: str, deadline: float) -> None:
    left = -1
    while time.monotonic() < deadline:
        await asyncio.sleep(POLL_S)
        try:
            async with http.get(f"{url}/api/node") as answer:
                node = await answer.json()
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError):
            print("The node has stopped.")
            return
        if node.get("viewers") != left:
            left = node.get("viewers")
            moved = node.get("load", {}).get("handed_over", 0)
            print(f"{moved} handed over, {left} left")
    raise NotDrained(f"{url} still answers: something keeps it from stopping")
