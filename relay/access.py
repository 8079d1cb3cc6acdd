"""Tokens: who may publish, view and relay which stream.

A token is a JWT (RFC 7519) signed with Ed25519 (RFC 8037). A node holds public keys only and
verifies offline: no node asks another, and a node at the end of a broken line still knows its
viewers. `issue` makes a token, `Access.check` reads the one that came with a request and returns
the `Grant`, and the endpoint asks the grant about the stream at hand.

Claims: `exp` (required), `iat`, `nbf`, `jti`, `sub` (a name for the log), `publish` and `view`
(lists of stream patterns, in which `*` stands for any number of characters) and `relay` (true for
the node below, which pulls and pushes whatever its own viewers and publishers need).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import math
import re
import secrets
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Self

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

ALGORITHM: Final = "EdDSA"
MAX_TOKEN_BYTES: Final = 4096
CLOCK_LEEWAY_S: Final = 30.0
"""How far `iat` and `nbf` may lie ahead: the clocks of the issuer and of a node differ a little.

`exp` gets no leeway: it is a promise to whoever issued the token.
"""

_LAST_SECOND: Final = 253_402_300_799  # the end of the year 9999, after which no date is written
_MAX_TTL_S: Final = 10 * 366 * 86400.0
_ASK: Final = "ask for a new one with `terrace token`"
_TTL: Final = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)([smhd])", re.ASCII)
_TTL_UNITS_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class AccessError(Exception):
    """A request is refused. The message is one sentence for the person who sent it.

    `status` is 401 when there is no usable token, and 403 when the token does not allow this.
    `reason` is "expired" for a token that was good once, else "".
    """

    def __init__(self, status: int, sentence: str, reason: str = "") -> None:
        super().__init__(sentence)
        self.status = status
        self.reason = reason
        self.sentence = sentence


class KeyFileError(ValueError):
    """A key of ours cannot be used; the message names the file where there is one."""


@dataclass(frozen=True, slots=True)
class Grant:
    """What the bearer of a token may do."""

    subject: str
    """Name of the bearer for the log; may be empty."""
    publish: tuple[str, ...]
    view: tuple[str, ...]
    relay: bool
    """The bearer is a node: it may publish and view every stream."""
    expires_at: float | None
    """Unix seconds; None if the grant has no end (open mode)."""

    def may_publish(self, stream: str) -> bool:
        return self.relay or any(matches(pattern, stream) for pattern in self.publish)

    def may_view(self, stream: str) -> bool:
        return self.relay or any(matches(pattern, stream) for pattern in self.view)

    def require_publish(self, stream: str) -> None:
        """Raise AccessError (403) unless this stream may be published."""
        if not self.may_publish(stream):
            raise AccessError(403, _refusal("publish", stream, self.publish))

    def require_view(self, stream: str) -> None:
        """Raise AccessError (403) unless this stream may be viewed."""
        if not self.may_view(stream):
            raise AccessError(403, _refusal("view", stream, self.view))

    def require_relay(self) -> None:
        """Raise AccessError (403) unless the bearer is a node."""
        if not self.relay:
            raise AccessError(
                403,
                "This token does not let a relay node connect; "
                "issue one with `terrace token --relay`.",
            )


def _refusal(action: str, stream: str, patterns: tuple[str, ...]) -> str:
    allowed = ", ".join(f"'{pattern}'" for pattern in patterns) or "none"
    return (
        f"This token does not allow to {action} '{stream}' (streams that it allows: {allowed}); "
        f"ask for one issued with `terrace token --{action} {stream}`."
    )


_OPEN_GRANT: Final = Grant("open", ("*",), ("*",), True, None)
WORKER_SUBJECT: Final = "terrace worker"
_WORKER_GRANT: Final = Grant(WORKER_SUBJECT, (), ("*",), True, None)


def matches(pattern: str, stream: str) -> bool:
    """Whether `pattern` covers the whole name `stream`.

    `*` stands for any number of characters, none included; every other character for itself, in
    the same case. Takes time in proportion to the name, whatever the pattern is.
    """
    head, *parts = pattern.split("*")
    if not parts:
        return stream == pattern
    tail = parts.pop()
    if len(stream) < len(head) + len(tail):
        return False
    if not stream.startswith(head) or not stream.endswith(tail):
        return False
    at, end = len(head), len(stream) - len(tail)
    for part in parts:
        found = stream.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return True


class Access:
    """The gate of one node: open, or with the public keys whose tokens it takes."""

    def __init__(self, public_keys: Iterable[Ed25519PublicKey], *, open_to_all: bool) -> None:
        self._keys = {key_id(key): key for key in public_keys}
        self._secret = ""
        self.open = open_to_all
        """True when no token is asked for; allowed on loopback only, which settings check."""

    @classmethod
    def open_mode(cls) -> Self:
        """A gate that grants everything to everybody."""
        return cls((), open_to_all=True)

    @classmethod
    def from_pem_files(cls, paths: Iterable[str | Path]) -> Self:
        """A gate with the Ed25519 public keys (SPKI, PEM) in these files, tried in this order.

        Raises KeyFileError for a file that cannot be read or holds something else, and when there
        are no files: a gate without keys would let nobody in.
        """
        keys = [read_public_key(Path(path)) for path in paths]
        if not keys:
            raise KeyFileError("no public key is given; make a pair with `terrace keygen`")
        return cls(keys, open_to_all=False)

    @property
    def public_keys(self) -> tuple[Ed25519PublicKey, ...]:
        """The keys whose tokens are good here; none in open mode."""
        return tuple(self._keys.values())

    def with_secret(self, secret: str) -> Self:
        """This gate, which also takes a secret of the processes that make up one node."""
        self._secret = secret
        return self

    def add_key(self, key: Ed25519PublicKey) -> None:
        """Take the tokens of one more key: the node's own, which it issues to its stations."""
        self._keys[key_id(key)] = key

    def check(self, authorization: str | None, *, now: float | None = None) -> Grant:
        """What the bearer of an `Authorization` header may do.

        `authorization` is the header's value, None if there was none; in open mode it is not
        looked at. `now` is in Unix seconds and defaults to the clock.

        Raises AccessError (401) for a token that is missing, malformed, forged, out of its time or
        not ours. What the grant covers is asked of the grant.
        """
        shown = (authorization or "").encode("utf-8", "replace")
        if self._secret and hmac.compare_digest(shown, f"Bearer {self._secret}".encode()):
            return _WORKER_GRANT
        if self.open:
            return _OPEN_GRANT
        claims = self._verified(_bearer_token(authorization))
        expires_at = _check_times(claims, time.time() if now is None else now)
        return Grant(
            subject=claims.get("sub") or "",
            publish=_patterns(claims, "publish"),
            view=_patterns(claims, "view"),
            relay=_flag(claims, "relay"),
            expires_at=expires_at,
        )

    def _verified(self, token: str) -> Mapping[str, Any]:
        """The claims of a token that one of our keys signed; their times are not judged here."""
        try:
            header = jwt.get_unverified_header(token)
            if header.get("alg") != ALGORITHM:
                raise AccessError(
                    401,
                    f"This token is signed with another algorithm than {ALGORITHM}, "
                    f"which this node does not take; {_ASK}.",
                )
            # The name of the key only saves trials: a token from elsewhere may name it otherwise.
            named = self._keys.get(header.get("kid", ""))
            for key in [named] if named else self._keys.values():
                try:
                    return jwt.decode(
                        token,
                        key,
                        algorithms=[ALGORITHM],
                        options={
                            "require": ["exp"],
                            "verify_exp": False,
                            "verify_nbf": False,
                            "verify_iat": False,
                        },
                    )
                except jwt.InvalidSignatureError:
                    continue
        except jwt.MissingRequiredClaimError as error:
            raise AccessError(
                401, f"This token has no '{error.claim}', so it would never end; {_ASK}."
            ) from error
        except (jwt.PyJWTError, ValueError, RecursionError) as error:
            # Older PyJWT lets the RecursionError of a deeply nested header through, and ValueError
            # is what characters beyond ASCII end in.
            raise AccessError(
                401, f"This is not a token that this node can read; {_ASK}."
            ) from error
        raise AccessError(
            401,
            "This token was not signed with a key that this node knows; "
            "ask for one from whoever runs this node, or add the key to its public_keys.",
        )


def _bearer_token(authorization: str | None) -> str:
    if not authorization:
        raise AccessError(
            401,
            "This node asks for a token; send it as 'Authorization: Bearer TOKEN', "
            "and ask whoever runs the node for one (`terrace token`).",
        )
    scheme, _, token = authorization.strip().partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token:
        raise AccessError(401, "The token is expected as 'Authorization: Bearer TOKEN'.")
    if len(token) > MAX_TOKEN_BYTES:
        raise AccessError(
            401,
            f"This token is longer than {MAX_TOKEN_BYTES} bytes; "
            "ask for one with fewer or shorter patterns.",
        )
    return token


def _check_times(claims: Mapping[str, Any], now: float) -> float:
    """Judge `exp`, `nbf` and `iat`; returns `exp`."""
    expires_at = _moment(claims, "exp")
    if expires_at <= now:
        sentence = f"This token expired at {_written(expires_at)}; {_ASK}."
        raise AccessError(401, sentence, "expired")
    for name in ("nbf", "iat"):
        starts_at = _moment(claims, name) if name in claims else 0.0
        if starts_at > now + CLOCK_LEEWAY_S:
            raise AccessError(
                401,
                f"This token is not valid before {_written(starts_at)}, and the clock of this node "
                f"says {_written(now)}; wait until then, or set the clock that is wrong.",
            )
    return expires_at


def _moment(claims: Mapping[str, Any], name: str) -> float:
    value = claims[name]
    # JSON as Python reads it has NaN and infinities, and NaN would compare as never expired.
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _bad_claim(name)
    if not 0 <= value <= _LAST_SECOND:
        raise _bad_claim(name)
    return float(value)


def _patterns(claims: Mapping[str, Any], name: str) -> tuple[str, ...]:
    value = claims.get(name, [])
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise _bad_claim(name)
    return tuple(value)


def _flag(claims: Mapping[str, Any], name: str) -> bool:
    value = claims.get(name, False)
    if not isinstance(value, bool):
        raise _bad_claim(name)
    return value


def _bad_claim(name: str) -> AccessError:
    return AccessError(401, f"The '{name}' of this token makes no sense to this node; {_ASK}.")


def _written(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def read_public_key(path: Path) -> Ed25519PublicKey:
    """The Ed25519 public key (SPKI, PEM) in a file; KeyFileError if there is none."""
    try:
        pem = path.read_bytes()
    except OSError as error:
        raise KeyFileError(f"cannot read the public key {path}: {error.strerror}") from error
    if b"PRIVATE KEY" in pem:
        raise KeyFileError(
            f"{path} holds a private key; a node needs the public one, "
            "and the private one stays where tokens are issued"
        )
    try:
        key = load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise KeyFileError(f"{path} holds no public key in PEM form") from error
    if not isinstance(key, Ed25519PublicKey):
        raise KeyFileError(f"{path} holds no Ed25519 key; make a pair with `terrace keygen`")
    return key


def key_id(key: Ed25519PublicKey) -> str:
    """The JWK thumbprint of the key (RFC 7638), which `issue` puts in the header as `kid`."""
    x = base64.urlsafe_b64encode(key.public_bytes_raw()).rstrip(b"=").decode()
    jwk = f'{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}'
    return base64.urlsafe_b64encode(hashlib.sha256(jwk.encode()).digest()).rstrip(b"=").decode()


def load_private_key(pem: bytes) -> Ed25519PrivateKey:
    """The Ed25519 private key (PKCS8, PEM, not encrypted); KeyFileError if it is something else."""
    try:
        key = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise KeyFileError("this is no private key in PEM form without a password") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyFileError("this is no Ed25519 private key; make a pair with `terrace keygen`")
    return key


def issue(
    private_key_pem: bytes,
    *,
    publish: Iterable[str],
    view: Iterable[str],
    relay: bool,
    ttl_s: float,
    subject: str,
    now: float,
) -> str:
    """Make a token that is good from `now` (Unix seconds) for `ttl_s` seconds.

    `private_key_pem` is an Ed25519 key in PKCS8 form, not encrypted; KeyFileError if it is not.
    Raises ValueError for a life that is not above zero or exceeds ten years, and for a token that
    would be longer than nodes take.
    """
    if not 0 < ttl_s <= _MAX_TTL_S:
        raise ValueError(f"a token cannot last {ttl_s} seconds: above 0 and up to ten years do")
    key = load_private_key(private_key_pem)
    claims: dict[str, object] = {
        "iat": int(now),
        "exp": math.ceil(now + ttl_s),
        "jti": secrets.token_hex(8),
        "publish": list(publish),
        "view": list(view),
        "relay": relay,
    }
    if subject:
        claims["sub"] = subject
    token = jwt.encode(claims, key, algorithm=ALGORITHM, headers={"kid": key_id(key.public_key())})
    if len(token) > MAX_TOKEN_BYTES:
        raise ValueError(
            f"the token would have {len(token)} bytes, and nodes take {MAX_TOKEN_BYTES}: "
            "give fewer or shorter patterns"
        )
    return token


def new_key_pair() -> tuple[bytes, bytes]:
    """A new Ed25519 pair: the private key (PKCS8) and the public key (SPKI), both in PEM form."""
    key = Ed25519PrivateKey.generate()
    return (
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
    )


def parse_ttl(text: str) -> float:
    """Seconds of a life written as `90s`, `30m`, `8h` or `7d`; up to ten years.

    Raises ValueError with a sentence for anything else.
    """
    found = _TTL.fullmatch(text.strip())
    ttl_s = float(found[1]) * _TTL_UNITS_S[found[2]] if found else 0.0
    if not 0 < ttl_s <= _MAX_TTL_S:
        raise ValueError(
            f"{text!r} is no life of a token; write a number above zero and a unit, up to ten "
            "years: 90s, 30m, 8h or 7d"
        )
    return ttl_s
