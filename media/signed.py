"""Signed documents: what a library, a county or a station says, so that any copy can be checked.

A document is JSON in a compact JWS (RFC 7515) signed with Ed25519 (RFC 8037): one line of ASCII
that a file, an HTTP answer and a USB stick carry alike. Its header names what kind of document it
is (`typ`), and the reader names the kind it wants, so a timetable can never be taken for a
manifest, nor a token for either.

`sign` makes one, `verify` gives back the bytes that were signed, `read` also puts them in a model.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, TypeVar

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from pydantic import BaseModel, ValidationError

from relay import access

from .errors import MediaError

COURSE: Final = "terrace-course"
MANIFEST: Final = "terrace-manifest"
TIMETABLE: Final = "terrace-timetable"
LOGBOOK: Final = "terrace-logbook"
TIME: Final = "terrace-time"

MAX_DOCUMENT_BYTES: Final = 8 * 1024 * 1024
"""The longest text that is looked at. The manifest of a day of pieces of 4 s has about 5 MB."""

_JWS: Final = jwt.PyJWS(algorithms=[access.ALGORITHM])
_Model = TypeVar("_Model", bound=BaseModel)


class BadSignature(MediaError):
    """A document is not what its sender would have signed; the message says what is wrong."""


class BadDocument(MediaError):
    """A document bears a good signature, and its contents still cannot be used."""


def sign(payload: bytes | BaseModel, private_key: bytes | Ed25519PrivateKey, typ: str) -> str:
    """Sign a document.

    payload:     JSON, or a model that becomes JSON
    private_key: Ed25519, as a key or in PEM form (PKCS8, not encrypted)
    typ:         the kind of document, one of the names above

    Raises `relay.access.KeyFileError` for a key that is none of ours, and ValueError for a document
    that no reader would take.
    """
    if isinstance(payload, BaseModel):
        payload = payload.model_dump_json().encode()
    if isinstance(private_key, bytes):
        private_key = access.load_private_key(private_key)
    text = _JWS.encode(
        payload,
        private_key,
        access.ALGORITHM,
        headers={"typ": typ, "kid": access.key_id(private_key.public_key())},
    )
    if len(text) > MAX_DOCUMENT_BYTES:
        raise ValueError(
            f"the document would have {len(text)} bytes, and readers take {MAX_DOCUMENT_BYTES}"
        )
    return text


def verify(text: str | bytes, public_keys: Iterable[Ed25519PublicKey], typ: str) -> bytes:
    """The bytes that were signed as a document of this kind by one of these keys.

    Raises BadSignature otherwise. Nothing of `text` is believed before its signature is checked.
    """
    if len(text) > MAX_DOCUMENT_BYTES:
        raise BadSignature(
            f"the document is longer than {MAX_DOCUMENT_BYTES} bytes, so it is not read"
        )
    try:
        raw = text.encode("ascii") if isinstance(text, str) else text
        header = jwt.get_unverified_header(raw.strip())
        if header.get("alg") != access.ALGORITHM:
            raise BadSignature(f"the document is not signed with {access.ALGORITHM}")
        by_id = {access.key_id(key): key for key in public_keys}
        # The name of the key only saves trials: another program may name it otherwise.
        named = by_id.get(str(header.get("kid", "")))
        for key in [named] if named else by_id.values():
            try:
                found = _JWS.decode_complete(raw.strip(), key, algorithms=[access.ALGORITHM])
            except jwt.InvalidSignatureError:
                continue
            # Read again from what was signed. Only now is it known who says so.
            if found["header"].get("typ") != typ:
                raise BadSignature(
                    f"the document is signed as {str(found['header'].get('typ'))[:40]!r}, "
                    f"and {typ!r} is wanted"
                )
            payload: bytes = found["payload"]
            return payload
    except (jwt.PyJWTError, ValueError, RecursionError) as error:
        raise BadSignature("the document is no signed document that can be read") from error
    raise BadSignature(
        "the document is not signed by a key that is known here: it was changed on its way, "
        "or the public key of its library is missing"
    )


def read(
    text: str | bytes, public_keys: Iterable[Ed25519PublicKey], typ: str, model: type[_Model]
) -> _Model:
    """The document in its model.

    Raises BadSignature as `verify` does, and BadDocument when what was signed does not fit the
    model: a newer version, most likely.
    """
    payload = verify(text, public_keys, typ)
    try:
        return model.model_validate_json(payload)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "its contents"
        raise BadDocument(
            f"the signed {typ.removeprefix('terrace-')} cannot be used: {place}: {first['msg']}"
        ) from error
