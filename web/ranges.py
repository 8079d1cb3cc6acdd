"""Byte ranges of a file in HTTP (RFC 9110 section 14), as players and nodes use them. Pure."""

from __future__ import annotations

import re
from typing import Final

_RANGE: Final = re.compile(r"bytes=[ \t]*(\d{0,18})-(\d{0,18})[ \t]*", re.ASCII | re.IGNORECASE)


class Unsatisfiable(ValueError):
    """The range lies outside of the file: 416."""


def parse(header: str | None, size_bytes: int) -> tuple[int, int] | None:
    """What a Range header asks for: first byte, and the one after the last; None for the whole.

    Other units, several ranges and what cannot be read are passed over, as the RFC allows.
    Raises Unsatisfiable.
    """
    match = _RANGE.fullmatch(header.strip()) if header else None
    if match is None or not (match[1] or match[2]):
        return None
    if not match[1]:
        length = min(int(match[2]), size_bytes)
        if length == 0:
            raise Unsatisfiable
        return size_bytes - length, size_bytes
    first = int(match[1])
    if match[2] and int(match[2]) < first:
        return None
    if first >= size_bytes:
        raise Unsatisfiable
    end = min(int(match[2]) + 1, size_bytes) if match[2] else size_bytes
    return first, end


def holds(header: str | None, etag: str) -> bool:
    """Whether a range may be sent: there is no If-Range, or it names this strong `etag`.

    etag: with its quotes. A date never holds: pieces have none.
    """
    return header is None or header.strip() == etag


def matches(header: str | None, etag: str) -> bool:
    """Whether If-None-Match names this `etag` (with its quotes), compared weakly."""
    if header is None:
        return False
    tags = [tag.strip().removeprefix("W/") for tag in header.split(",")]
    return "*" in tags or etag.removeprefix("W/") in tags
