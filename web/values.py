"""The kinds of values that settings have, as validators that say in words what is right."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit


def printable(value: str) -> str:
    """A text of one line. Raises ValueError."""
    if not value.isprintable():
        raise ValueError("it must have no line breaks or control characters")
    return value


def host(value: str) -> str:
    """An IP address of this machine, localhost included. Raises ValueError."""
    if value == "localhost":
        return "127.0.0.1"
    try:
        return str(ipaddress.ip_address(value))
    except ValueError:
        raise ValueError(
            "it must be an IP address of this machine, or 0.0.0.0 for all of them"
        ) from None


def parent(value: str) -> str:
    """The base URL of a node above. Raises ValueError."""
    return url(value, "a parent")


def url(value: str, what: str) -> str:
    """A base URL without a password; `what` is its name in the sentence. Raises ValueError."""
    try:
        parts = urlsplit(value)
        port_is_good = parts.port is None or parts.port > 0
    except ValueError:
        port_is_good = False
    if not port_is_good or parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{what} must be a URL such as http://192.0.2.10:8710")
    if parts.username is not None or parts.password is not None:
        raise ValueError(f"{what}'s URL must not carry a password, set parent_token instead")
    if parts.query or parts.fragment:
        raise ValueError(f"{what}'s URL must end before '?' and '#'")
    return value.rstrip("/")


def sibling(value: str) -> str:
    """The base URL of a node of the same tier. Raises ValueError."""
    return url(value, "a sibling")


def public_url(value: str) -> str:
    """A base URL, or nothing. Raises ValueError."""
    return url(value, "public_url") if value else ""


def address(value: str) -> str:
    """An IP address that others can send to. Raises ValueError."""
    try:
        one = ipaddress.ip_address(value)
    except ValueError:
        raise ValueError("it must be a list of IP addresses, such as 192.0.2.10") from None
    if one.is_unspecified:
        raise ValueError(f"{value} is no address that a viewer could send to")
    return str(one)
