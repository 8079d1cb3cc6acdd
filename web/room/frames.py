"""WebSocket frames as a server sends them (RFC 6455 section 5.2).

A state goes to thousands of clients: it is framed once, and written to each transport at once
without a coroutine in between. Frames are whole, so aiohttp's own may stand between them; that
needs connections without compression.
"""

from __future__ import annotations

import json
import struct
from typing import Any, Final

PING: Final = b"\x89\x00"
MAX_REASON_BYTES: Final = 123


def dump(message: dict[str, Any]) -> str:
    """A message as text."""
    return json.dumps(message, ensure_ascii=False, separators=(",", ":"))


def text(message: dict[str, Any]) -> bytes:
    """A message as one frame."""
    payload = dump(message).encode()
    size = len(payload)
    if size < 126:
        return struct.pack("!BB", 0x81, size) + payload
    if size < 65536:
        return struct.pack("!BBH", 0x81, 126, size) + payload
    return struct.pack("!BBQ", 0x81, 127, size) + payload


def pong(payload: bytes) -> bytes:
    """The answer to a ping."""
    return struct.pack("!BB", 0x8A, len(payload)) + payload


def close(code: int, reason: str) -> bytes:
    """The last frame; the reason is cut to what a close frame holds, at a whole character."""
    words = reason.encode()[:MAX_REASON_BYTES].decode("utf-8", "ignore").encode()
    return struct.pack("!BBH", 0x88, 2 + len(words), code) + words
