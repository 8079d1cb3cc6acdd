"""ICE over bytes: the checks a lite agent answers and the checks an uplink sends.

The first datagrams of every peer are STUN binding requests (RFC 8489). A viewer's request names
our fragment, proves that it knows our password, and thereby tells us its address; we answer and
never probe ourselves (ICE-lite, RFC 8445 section 2.5). Towards a parent the roles turn: there we
are the controlling side and send the same requests, first to connect, then as consent
(RFC 7675). Everything here is pure: bytes in, bytes out.
"""

from __future__ import annotations

import binascii
import hmac
import ipaddress
import secrets
import struct
from dataclasses import dataclass
from typing import TypeAlias

COOKIE = 0x2112A442
HEADER = struct.Struct("!HHI12s")
ATTRIBUTE = struct.Struct("!HH")
REQUEST, SUCCESS, ERROR = 0x0001, 0x0101, 0x0111
USERNAME, MESSAGE_INTEGRITY, ERROR_CODE = 0x0006, 0x0008, 0x0009
XOR_MAPPED_ADDRESS, PRIORITY, USE_CANDIDATE = 0x0020, 0x0024, 0x0025
FINGERPRINT, ICE_CONTROLLING = 0x8028, 0x802A
FINGERPRINT_XOR = 0x5354554E
INTEGRITY_SIZE = 24
MAX_MESSAGE = 1280

Address: TypeAlias = "tuple[str, int] | tuple[str, int, int, int]"


class StunError(ValueError):
    """The datagram is no STUN message that we can use."""


@dataclass(frozen=True, slots=True)
class Message:
    """One STUN binding message, taken apart but not yet believed.

    `username` is what the sender put before and after the colon (`local:remote` as we see it).
    `integrity_at` is the offset of MESSAGE-INTEGRITY, or 0 when the message carries none.
    """

    kind: int
    transaction: bytes
    username: str
    use_candidate: bool
    integrity_at: int
    error: int = 0


def is_stun(data: bytes) -> bool:
    """Say whether a datagram is STUN by its first byte and cookie (RFC 7983 section 7)."""
    return len(data) >= 20 and data[0] < 4 and data[4:8] == b"\x21\x12\xa4\x42"


def parse(data: bytes) -> Message:
    """Take a binding request, success or error apart; raise StunError when it is malformed.

    What follows MESSAGE-INTEGRITY is not authenticated and is passed over (RFC 8489 section 9).
    """
    size = len(data)
    if not 20 <= size <= MAX_MESSAGE:
        raise StunError(f"{size} bytes are no STUN message")
    kind, length, cookie, transaction = HEADER.unpack_from(data)
    if cookie != COOKIE or length != size - 20 or length & 3:
        raise StunError("wrong cookie or length")
    if kind not in (REQUEST, SUCCESS, ERROR):
        raise StunError(f"message type {kind:#06x} is not a binding")
    username, use_candidate, integrity_at, error = "", False, 0, 0
    at = 20
    while at + 4 <= size and not integrity_at:
        name, length = ATTRIBUTE.unpack_from(data, at)
        end = at + 4 + length
        if end > size:
            raise StunError("an attribute is cut short")
        if name == MESSAGE_INTEGRITY:
            if length != 20:
                raise StunError("MESSAGE-INTEGRITY is not 20 bytes")
            integrity_at = at
        elif name == USERNAME:
            username = data[at + 4 : end].decode("ascii", "replace")
        elif name == USE_CANDIDATE:
            use_candidate = True
        elif name == ERROR_CODE and length >= 4:
            error = (data[at + 6] & 7) * 100 + data[at + 7]
        at = end + (-length & 3)
    return Message(kind, transaction, username, use_candidate, integrity_at, error)


def verify(data: bytes, message: Message, password: bytes) -> bool:
    """Check MESSAGE-INTEGRITY with the short-term password (RFC 8489 section 14.5)."""
    at = message.integrity_at
    if not at:
        return False
    covered = data[:2] + (at + INTEGRITY_SIZE - 20).to_bytes(2, "big") + data[4:at]
    return hmac.compare_digest(hmac.digest(password, covered, "sha1"), data[at + 4 : at + 24])


def _seal(kind: int, transaction: bytes, body: bytes, password: bytes) -> bytes:
    """Add header, MESSAGE-INTEGRITY and FINGERPRINT to the attributes in `body`."""
    head = HEADER.pack(kind, len(body) + INTEGRITY_SIZE, COOKIE, transaction)
    digest = hmac.digest(password, head + body, "sha1")
    signed = (
        HEADER.pack(kind, len(body) + INTEGRITY_SIZE + 8, COOKIE, transaction)
        + body
        + ATTRIBUTE.pack(MESSAGE_INTEGRITY, 20)
        + digest
    )
    crc = binascii.crc32(signed) ^ FINGERPRINT_XOR
    return signed + struct.pack("!HHI", FINGERPRINT, 4, crc)


def _xor_address(address: Address, transaction: bytes) -> bytes:
    """XOR-MAPPED-ADDRESS (RFC 8489 section 14.2); a v4 address mapped into v6 is told as v4."""
    ip = ipaddress.ip_address(address[0].partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped:
        ip = ip.ipv4_mapped
    mask = COOKIE.to_bytes(4, "big") + transaction
    packed = bytes(a ^ b for a, b in zip(ip.packed, mask, strict=False))
    family = 1 if ip.version == 4 else 2
    value = struct.pack("!BBH", 0, family, address[1] ^ (COOKIE >> 16)) + packed
    return ATTRIBUTE.pack(XOR_MAPPED_ADDRESS, len(value)) + value


def answer(request: Message, address: Address, password: bytes) -> bytes:
    """Build the success response to a verified request that came from `address`."""
    body = _xor_address(address, request.transaction)
    return _seal(SUCCESS, request.transaction, body, password)


def check(username: str, password: bytes, transaction: bytes, tie_breaker: int) -> bytes:
    """Build a binding request as the controlling side; it nominates at once.

    The peer of an uplink is a lite agent with one address, so there is nothing to choose between
    (RFC 8445 section 8.1.1). `username` is `remote:local`, `password` the remote one.
    """
    name = username.encode("ascii")
    body = (
        ATTRIBUTE.pack(USERNAME, len(name))
        + name
        + bytes(-len(name) & 3)
        + struct.pack("!HHI", PRIORITY, 4, 0x6E7F1EFF)
        + struct.pack("!HHQ", ICE_CONTROLLING, 8, tie_breaker)
        + ATTRIBUTE.pack(USE_CANDIDATE, 0)
    )
    return _seal(REQUEST, transaction, body, password)


def new_transaction() -> bytes:
    """Twelve unguessable bytes (RFC 8489 section 5)."""
    return secrets.token_bytes(12)


def new_credentials() -> tuple[str, str]:
    """A user fragment (8 characters) and a password (24), RFC 8445 section 5.3."""
    # URL-safe base64 but for two characters is what ICE allows (RFC 8839 section 5.4).
    text = secrets.token_urlsafe(24).replace("-", "+").replace("_", "/")
    return text[:8], text[8:]
