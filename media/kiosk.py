"""A picture of what the television shows, taken from its browser itself.

The kiosk browser is started with a debugging port on this machine only
(`--remote-debugging-port`); the picture is asked for in its DevTools protocol
(`Page.captureScreenshot`), so it is what the browser draws, not what the daemon believes.
"""

from __future__ import annotations

import asyncio
import base64
from typing import Any, Final

import aiohttp

from media.errors import MediaError

WITHIN_S: Final = 8.0
MAX_MESSAGE_BYTES: Final = 16 * 1024 * 1024
WIDTH: Final = 640


class NoPicture(MediaError):
    """The browser of the television gives no picture."""


async def picture(port: int, *, width: int = WIDTH, quality: int = 60) -> bytes:
    """A JPEG of the television, `width` pixels wide. Raises NoPicture."""
    try:
        async with asyncio.timeout(WITHIN_S), aiohttp.ClientSession() as http:
            async with http.get(f"http://127.0.0.1:{port}/json/list") as answer:
                pages = await answer.json(content_type=None)
            url = _first_page(pages)
            async with http.ws_connect(url, max_msg_size=MAX_MESSAGE_BYTES) as browser:
                size = await _call(browser, 1, "Page.getLayoutMetrics", {})
                view = size["cssLayoutViewport"]
                wide, high = float(view["clientWidth"]), float(view["clientHeight"])
                clip = {"x": 0, "y": 0, "width": wide, "height": high, "scale": width / wide}
                shot = await _call(
                    browser, 2, "Page.captureScreenshot",
                    {"format": "jpeg", "quality": quality, "clip": clip},
                )  # fmt: skip
                return base64.b64decode(shot["data"], validate=True)
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise NoPicture(f"the television's browser does not answer on port {port}") from error
    except (KeyError, ValueError, TypeError, ZeroDivisionError) as error:
        raise NoPicture("the television's browser says something else than a picture") from error


def _first_page(pages: Any) -> str:
    for one in pages:
        if one.get("type") == "page" and str(one.get("webSocketDebuggerUrl", "")).startswith("ws:"):
            return str(one["webSocketDebuggerUrl"])
    raise NoPicture("the television's browser shows no page")


async def _call(
    browser: aiohttp.ClientWebSocketResponse, number: int, method: str, params: dict[str, Any]
) -> dict[str, Any]:
    await browser.send_json({"id": number, "method": method, "params": params})
    while True:
        answer = await browser.receive_json()
        if answer.get("id") == number:
            return dict(answer["result"])
