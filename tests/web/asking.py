"""One request of a client that goes on with something else."""

from __future__ import annotations

from typing import Any

import aiohttp


async def ask(
    http: aiohttp.ClientSession, method: str, url: str, **more: Any
) -> aiohttp.ClientResponse:
    """The answer, with its body read: what is not read would keep its connection."""
    answer = await http.request(method, url, **more)
    await answer.read()
    return answer
