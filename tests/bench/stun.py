"""The few STUN messages that an ICE client sends and answers (RFC 8489, RFC 8445).

Only Binding is spoken, always with MESSAGE-INTEGRITY (HMAC-SHA1, short-term credentials) and
FINGERPRINT.
"""

import hashlib
import hmac
import secrets
import socket
import struct
import zlib
from dataclasses import dataclass

MAGIC = 0x2112A442
REQUEST, RESPONSE, ERROR = 0x0001, 0x0101, 0x0111

_USERNAME = 0x0006
_INTEGRITY = 0x0008
_XOR_MAPPED_ADDRESS = 0x0020
_PRIORITY = 0x0024
_USE_CANDIDATE = 0x0025
_FINGERPRINT = 0x8028
_ICE_CONTROLLING = 0x802A
# Type preference 126 (host), local preference 65535, component 1 (RFC 8445 section 5.1.2.1).
_HOST_PRIORITY = 2130706431


@dataclass(frozen=True, slots=True)
class Credentials:
    """The two halves' user fragments and passwords, as SDP carried them."""

    local_ufrag: str
    local_pwd: str
    remote_ufrag: str
    remote_pwd: str


def is_stun(datagram: bytes) -> bool:
    """Whether a datagram is STUN by its first byte (RFC 7983) and its cookie."""
    return len(datagram) >= 20 and datagram[0] < 4 and datagram[4:8] == MAGIC.to_bytes(4, "big")


def message_type(datagram: bytes) -> int:
    """REQUEST, RESPONSE, ERROR or another method's number; `datagram` must be STUN."""
    return int.from_bytes(datagram[:2], "big")


def transaction(datagram: bytes) -> bytes:
    """The 12 bytes that tie a response to its request."""
    return datagram[8:20]


def binding_request(keys: Credentials, tie_breaker: int, *, nominate: bool) -> bytes:
    """One check of the controlling side; `nominate` adds USE-CANDIDATE (aggressive nomination)."""
    username = f"{keys.remote_ufrag}:{keys.local_ufrag}".encode()
    body = _attribute(_USERNAME, username)
    body += _attribute(_PRIORITY, struct.pack("!I", _HOST_PRIORITY))
    body += _attribute(_ICE_CONTROLLING, struct.pack("!Q", tie_breaker))
    if nominate:
        body += _attribute(_USE_CANDIDATE, b"")
    return _sealed(REQUEST, secrets.token_bytes(12), body, keys.remote_pwd)


def binding_response(request: bytes, source: tuple[str, int], keys: Credentials) -> bytes:
    """The success answer to a check that came from `source` (IPv4 address, port)."""
    port = source[1] ^ (MAGIC >> 16)
    address = struct.unpack("!I", socket.inet_aton(source[0]))[0] ^ MAGIC
    body = _attribute(_XOR_MAPPED_ADDRESS, struct.pack("!BBHI", 0, 1, port, address))
    return _sealed(RESPONSE, transaction(request), body, keys.local_pwd)


def is_authentic(datagram: bytes, password: str) -> bool:
    """Whether MESSAGE-INTEGRITY is there and was made with `password`."""
    offset = 20
    while offset + 4 <= len(datagram):
        kind, length = struct.unpack_from("!HH", datagram, offset)
        if kind == _INTEGRITY:
            signed = datagram[:2] + struct.pack("!H", offset + 4) + datagram[4:offset]
            digest = hmac.digest(password.encode(), signed, hashlib.sha1)
            return hmac.compare_digest(digest, datagram[offset + 4 : offset + 24])
        offset += 4 + (length + 3 & ~3)
    return False


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("!HH", kind, len(value)) + value + bytes(-len(value) % 4)


def _sealed(kind: int, transaction_id: bytes, body: bytes, password: str) -> bytes:
    """Header, body, integrity, fingerprint; each length counts up to the end of its own part."""
    tail = struct.pack("!I", MAGIC) + transaction_id + body
    signed = struct.pack("!HH", kind, len(body) + 24) + tail
    digest = hmac.digest(password.encode(), signed, hashlib.sha1)
    tail += _attribute(_INTEGRITY, digest)
    checked = struct.pack("!HH", kind, len(body) + 32) + tail
    return checked + _attribute(_FINGERPRINT, struct.pack("!I", zlib.crc32(checked) ^ 0x5354554E))
