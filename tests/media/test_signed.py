"""Signed documents: what is believed, and what is not."""

from __future__ import annotations

import base64
import json

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from media import signed
from media.signed import BadDocument, BadSignature, read, sign, verify
from relay import access

PRIVATE, PUBLIC_PEM = access.new_key_pair()
OTHER_PRIVATE, _ = access.new_key_pair()
PUBLIC = load_pem_public_key(PUBLIC_PEM)
assert isinstance(PUBLIC, Ed25519PublicKey)
KEYS = [PUBLIC]
TEXT = sign(b'{"a":1}', PRIVATE, signed.MANIFEST)


class Note(BaseModel):
    a: int


def test_what_was_signed_comes_back() -> None:
    assert verify(TEXT, KEYS, signed.MANIFEST) == b'{"a":1}'
    assert verify(TEXT.encode() + b"\n", KEYS, signed.MANIFEST) == b'{"a":1}'
    assert read(TEXT, KEYS, signed.MANIFEST, Note) == Note(a=1)
    assert read(sign(Note(a=2), PRIVATE, signed.TIME), KEYS, signed.TIME, Note).a == 2


def test_a_document_of_one_kind_is_not_taken_for_another() -> None:
    with pytest.raises(BadSignature, match=r"'terrace-manifest', and 'terrace-timetable'"):
        verify(TEXT, KEYS, signed.TIMETABLE)


def test_a_token_is_no_document() -> None:
    token = access.issue(
        PRIVATE, publish=[], view=["*"], relay=False, ttl_s=60, subject="", now=0.0
    )
    with pytest.raises(BadSignature, match="signed as 'JWT'"):
        verify(token, KEYS, signed.MANIFEST)


def test_another_key_is_not_believed() -> None:
    with pytest.raises(BadSignature, match="not signed by a key that is known here"):
        verify(sign(b"{}", OTHER_PRIVATE, signed.MANIFEST), KEYS, signed.MANIFEST)
    with pytest.raises(BadSignature, match="not signed by a key that is known here"):
        verify(TEXT, [], signed.MANIFEST)


def test_a_document_that_names_its_key_otherwise_is_still_checked_by_ours() -> None:
    key = access.load_private_key(PRIVATE)
    text = jwt.PyJWS(algorithms=["EdDSA"]).encode(
        b"{}", key, "EdDSA", headers={"typ": signed.COURSE, "kid": "elsewhere"}
    )
    assert verify(text, KEYS, signed.COURSE) == b"{}"


def test_changed_contents_are_refused() -> None:
    head, _, tail = TEXT.split(".")
    forged = base64.urlsafe_b64encode(b'{"a":2}').rstrip(b"=").decode()
    with pytest.raises(BadSignature):
        verify(f"{head}.{forged}.{tail}", KEYS, signed.MANIFEST)


@pytest.mark.parametrize("alg", ["none", "HS256"])
def test_another_algorithm_is_refused(alg: str) -> None:
    header = base64.urlsafe_b64encode(json.dumps({"alg": alg, "typ": signed.MANIFEST}).encode())
    text = header.rstrip(b"=").decode() + "." + ".".join(TEXT.split(".")[1:])
    with pytest.raises(BadSignature, match="not signed with EdDSA"):
        verify(text, KEYS, signed.MANIFEST)


def test_a_text_beyond_the_limit_is_not_read() -> None:
    with pytest.raises(BadSignature, match="longer than"):
        verify(b"a" * (signed.MAX_DOCUMENT_BYTES + 1), KEYS, signed.MANIFEST)
    with pytest.raises(ValueError, match="readers take"):
        sign(b"a" * signed.MAX_DOCUMENT_BYTES, PRIVATE, signed.MANIFEST)


def test_a_good_signature_over_something_else_names_what_does_not_fit() -> None:
    with pytest.raises(BadDocument, match="the signed manifest cannot be used: a: Input should"):
        read(sign(b'{"a":"x"}', PRIVATE, signed.MANIFEST), KEYS, signed.MANIFEST, Note)


@given(st.text() | st.binary())
def test_any_text_is_refused_in_words(text: str | bytes) -> None:
    with pytest.raises(BadSignature):
        verify(text, KEYS, signed.MANIFEST)


@given(st.integers(0, len(TEXT) - 1), st.characters(min_codepoint=33, max_codepoint=126))
def test_no_changed_letter_changes_what_is_read(at: int, letter: str) -> None:
    """The last letter of a part may carry unused bits; then the bytes are still the same."""
    changed = TEXT[:at] + letter + TEXT[at + 1 :]
    try:
        assert verify(changed, KEYS, signed.MANIFEST) == b'{"a":1}'
    except BadSignature:
        assert changed != TEXT
