"""Tokens: what is let in, what is refused, and with which sentence."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)
from hypothesis import example, given
from hypothesis import strategies as st

from relay import access
from relay.access import Access, AccessError, Grant, KeyFileError

NOW = 1_790_000_000.0  # 2026-09-21 14:13:20 UTC
PRIVATE_PEM, PUBLIC_PEM = access.new_key_pair()
OTHER_PRIVATE_PEM, OTHER_PUBLIC_PEM = access.new_key_pair()


def gate(directory: Path, *public_pems: bytes) -> Access:
    paths = []
    for i, pem in enumerate(public_pems or (PUBLIC_PEM,)):
        path = directory / f"key{i}.pem"
        path.write_bytes(pem)
        paths.append(str(path))
    return Access.from_pem_files(paths)


@pytest.fixture
def closed(tmp_path: Path) -> Access:
    return gate(tmp_path)


def token(private_key_pem: bytes = PRIVATE_PEM, **changes: Any) -> str:
    fields: dict[str, Any] = {
        "publish": [],
        "view": ["*"],
        "relay": False,
        "ttl_s": 3600.0,
        "subject": "",
        "now": NOW,
    }
    return access.issue(private_key_pem, **{**fields, **changes})


def signed(claims: dict[str, Any], headers: dict[str, Any] | None = None) -> str:
    """A token with our key's signature and any claims at all."""
    key = load_pem_private_key(PRIVATE_PEM, password=None)
    assert isinstance(key, Ed25519PrivateKey)
    return jwt.encode(claims, key, algorithm="EdDSA", headers=headers)


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def refusal(gate: Access, authorization: str | None, now: float = NOW) -> str:
    with pytest.raises(AccessError) as caught:
        gate.check(authorization, now=now)
    assert caught.value.status == 401
    assert str(caught.value) == caught.value.sentence
    return caught.value.sentence


def test_token_grants_what_it_was_issued_for(closed: Access) -> None:
    text = token(publish=["lecture-*"], view=["lecture-*", "news"], subject="Mrs Wang")
    grant = closed.check(f"Bearer {text}", now=NOW)
    assert grant == Grant(
        "Mrs Wang", ("lecture-*",), ("lecture-*", "news"), relay=False, expires_at=NOW + 3600
    )
    assert grant.may_publish("lecture-1")
    assert not grant.may_publish("news")
    assert grant.may_view("news")
    assert not grant.may_view("exam")


def test_scheme_is_taken_in_any_case_and_with_spaces(closed: Access) -> None:
    assert closed.check(f" bearer   {token()} ", now=NOW).view == ("*",)


def test_node_may_publish_and_view_every_stream(closed: Access) -> None:
    """The relay scope stands for both: a node pulls and pushes for others."""
    grant = closed.check(f"Bearer {token(view=[], relay=True)}", now=NOW)
    assert grant.may_publish("anything")
    assert grant.may_view("anything")
    grant.require_publish("anything")
    grant.require_view("anything")
    grant.require_relay()


@pytest.mark.parametrize("authorization", [None, "", "Bearer rubbish", "Basic dXNlcjpwYXNz"])
def test_open_gate_grants_everything_whatever_is_sent(authorization: str | None) -> None:
    gate = Access.open_mode()
    assert gate.open
    grant = gate.check(authorization)
    assert (grant.subject, grant.relay, grant.expires_at) == ("open", True, None)
    assert grant.may_publish("a")
    assert grant.may_view("a")


def test_gate_with_keys_is_not_open(closed: Access) -> None:
    assert not closed.open


def test_clock_of_the_machine_is_the_default(closed: Access) -> None:
    """A token of long ago is refused, and one of the far future too, with no time given."""
    with pytest.raises(AccessError, match="expired at 2001"):
        closed.check(f"Bearer {token(now=1_000_000_000)}")
    with pytest.raises(AccessError, match="not valid before 2128"):
        closed.check(f"Bearer {token(now=5_000_000_000)}")


def test_token_ends_to_the_second(closed: Access) -> None:
    header = f"Bearer {token(ttl_s=60.0)}"
    closed.check(header, now=NOW + 59.9)
    assert refusal(closed, header, NOW + 60) == (
        "This token expired at 2026-09-21 14:14:20 UTC; ask for a new one with `terrace token`."
    )


@pytest.mark.parametrize("claim", ["iat", "nbf"])
def test_token_of_the_future_waits_but_for_a_small_difference_of_clocks(
    closed: Access, claim: str
) -> None:
    header = f"Bearer {signed({'exp': NOW + 3600, claim: NOW + 100})}"
    closed.check(header, now=NOW + 70)
    assert refusal(closed, header, NOW + 69) == (
        "This token is not valid before 2026-09-21 14:15:00 UTC, and the clock of this node says "
        "2026-09-21 14:14:29 UTC; wait until then, or set the clock that is wrong."
    )


@pytest.mark.parametrize("authorization", [None, ""])
def test_missing_token_is_asked_for(closed: Access, authorization: str | None) -> None:
    assert refusal(closed, authorization) == (
        "This node asks for a token; send it as 'Authorization: Bearer TOKEN', "
        "and ask whoever runs the node for one (`terrace token`)."
    )


@pytest.mark.parametrize("authorization", ["Basic dXNlcjpwYXNz", "Bearer", "Bearer  ", "abc", " "])
def test_header_of_another_form_is_refused(closed: Access, authorization: str) -> None:
    assert refusal(closed, authorization) == (
        "The token is expected as 'Authorization: Bearer TOKEN'."
    )


UNKNOWN_KEY = (
    "This token was not signed with a key that this node knows; "
    "ask for one from whoever runs this node, or add the key to its public_keys."
)
UNREADABLE = "This is not a token that this node can read; ask for a new one with `terrace token`."
OTHER_ALGORITHM = (
    "This token is signed with another algorithm than EdDSA, which this node does not take; "
    "ask for a new one with `terrace token`."
)


def test_token_of_another_key_is_refused(closed: Access) -> None:
    assert refusal(closed, f"Bearer {token(OTHER_PRIVATE_PEM)}") == UNKNOWN_KEY


def test_token_of_another_key_under_our_key_id_is_refused(closed: Access) -> None:
    """The key id in the header is the sender's word; the signature decides."""
    other = load_pem_private_key(OTHER_PRIVATE_PEM, password=None)
    assert isinstance(other, Ed25519PrivateKey)
    ours = jwt.get_unverified_header(token())["kid"]
    forged = jwt.encode({"exp": NOW + 60}, other, algorithm="EdDSA", headers={"kid": ours})
    assert refusal(closed, f"Bearer {forged}") == UNKNOWN_KEY


def test_changed_claims_are_refused(closed: Access) -> None:
    head, _, signature = token().split(".")
    claims = {"exp": NOW + 3600, "relay": True}
    forged = f"{head}.{b64(json.dumps(claims).encode())}.{signature}"
    assert refusal(closed, f"Bearer {forged}") == UNKNOWN_KEY


def test_token_without_signature_is_refused(closed: Access) -> None:
    forged = (
        b64(b'{"alg":"none","typ":"JWT"}') + "." + b64(b'{"exp":1890000000,"relay":true}') + "."
    )
    assert refusal(closed, f"Bearer {forged}") == OTHER_ALGORITHM


def public_key_forms() -> list[bytes]:
    key = load_pem_public_key(PUBLIC_PEM)
    return [PUBLIC_PEM, PUBLIC_PEM.strip(), key.public_bytes(Encoding.Raw, PublicFormat.Raw)]


@pytest.mark.parametrize("secret", public_key_forms(), ids=["pem", "stripped", "raw"])
def test_public_key_is_no_shared_secret(closed: Access, secret: bytes) -> None:
    """HS256 with our public key as the secret: anybody could make such a token."""
    body = b64(b'{"alg":"HS256","typ":"JWT"}') + "." + b64(b'{"exp":1890000000,"relay":true}')
    forged = f"{body}.{b64(hmac.digest(secret, body.encode(), hashlib.sha256))}"
    assert refusal(closed, f"Bearer {forged}") == OTHER_ALGORITHM


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("garbage", id="a word"),
        pytest.param("a.b.c", id="three words"),
        pytest.param("..", id="two dots"),
        pytest.param("e30.e30.", id="empty objects"),
        pytest.param(f"{b64(b'[]')}.e30.AA", id="header that is no object"),
        pytest.param(b64(b"[" * 2900), id="deeply nested, no dots"),
        pytest.param(f"{b64(b'[' * 2900)}.e30.AA", id="deeply nested header"),
        pytest.param(b64(b'{"alg":"EdDSA","kid":["x"]}') + ".e30.AA", id="key id of a wrong type"),
        pytest.param("téken.téken.téken", id="not ASCII"),
        pytest.param("\udcff.a.b", id="bytes that were no text"),
    ],
)
def test_garbage_is_refused(closed: Access, text: str) -> None:
    assert refusal(closed, f"Bearer {text}") in (UNREADABLE, OTHER_ALGORITHM)


@given(st.text(max_size=60), st.binary(max_size=60), st.binary(max_size=60))
@example(head="", claims=b"", signature=b"")
def test_arbitrary_headers_are_refused_and_never_an_error(
    head: str, claims: bytes, signature: bytes
) -> None:
    gate = Access([Ed25519PrivateKey.generate().public_key()], open_to_all=False)
    for text in (head, f"Bearer {head}", f"Bearer {b64(head.encode())}.{b64(claims)}."):
        refusal(gate, text)
    ours = b64(b'{"alg":"EdDSA"}')
    refusal(gate, f"Bearer {ours}.{b64(claims)}.{b64(signature)}")


def test_token_of_more_than_4096_bytes_is_refused_unread(closed: Access) -> None:
    long = signed({"exp": NOW + 3600, "view": ["x" * 4000]})
    assert refusal(closed, f"Bearer {long}") == (
        "This token is longer than 4096 bytes; ask for one with fewer or shorter patterns."
    )


def test_token_that_never_ends_is_refused(closed: Access) -> None:
    assert refusal(closed, f"Bearer {signed({'relay': True})}") == (
        "This token has no 'exp', so it would never end; ask for a new one with `terrace token`."
    )


@pytest.mark.parametrize(
    ("claims", "name"),
    [
        pytest.param({"exp": "tomorrow"}, "exp", id="exp is text"),
        pytest.param({"exp": True}, "exp", id="exp is a truth value"),
        pytest.param({"exp": float("nan")}, "exp", id="exp is no number"),
        pytest.param({"exp": float("inf")}, "exp", id="exp is infinite"),
        pytest.param({"exp": 10**400}, "exp", id="exp is beyond floating point"),
        pytest.param({"exp": -1}, "exp", id="exp is before 1970"),
        pytest.param({"nbf": "now"}, "nbf", id="nbf is text"),
        pytest.param({"iat": None}, "iat", id="iat is null"),
        pytest.param({"publish": "*"}, "publish", id="publish is text"),
        pytest.param({"view": ["a", 1]}, "view", id="view holds a number"),
        pytest.param({"relay": "no"}, "relay", id="relay is text"),
        pytest.param({"relay": 1}, "relay", id="relay is a number"),
    ],
)
def test_claim_of_a_wrong_form_is_named(closed: Access, claims: dict[str, Any], name: str) -> None:
    """A signed token may come from another tool; nothing in it is taken for what it is not."""
    assert refusal(closed, f"Bearer {signed({'exp': NOW + 3600, **claims})}") == (
        f"The '{name}' of this token makes no sense to this node; "
        "ask for a new one with `terrace token`."
    )


@pytest.mark.parametrize("claims", [{"sub": 5}, {"jti": 5}, {"aud": "somebody else"}])
def test_token_for_something_else_is_refused(closed: Access, claims: dict[str, Any]) -> None:
    assert refusal(closed, f"Bearer {signed({'exp': NOW + 3600, **claims})}") == UNREADABLE


def test_token_without_scopes_allows_nothing(closed: Access) -> None:
    grant = closed.check(f"Bearer {signed({'exp': NOW + 3600})}", now=NOW)
    assert grant == Grant("", (), (), relay=False, expires_at=NOW + 3600)
    assert not grant.may_view("a")
    assert not grant.may_publish("a")


@pytest.mark.parametrize("private_pem", [PRIVATE_PEM, OTHER_PRIVATE_PEM])
@pytest.mark.parametrize("kid", [None, "another tool's name"])
def test_every_key_of_the_node_is_tried(
    tmp_path: Path, private_pem: bytes, kid: str | None
) -> None:
    """Two keys are good at once while one replaces the other, however the token names its own."""
    both = gate(tmp_path, PUBLIC_PEM, OTHER_PUBLIC_PEM)
    key = load_pem_private_key(private_pem, password=None)
    assert isinstance(key, Ed25519PrivateKey)
    headers = None if kid is None else {"kid": kid}
    text = jwt.encode({"exp": NOW + 60, "relay": True}, key, algorithm="EdDSA", headers=headers)
    assert both.check(f"Bearer {text}", now=NOW).relay
    assert both.check(f"Bearer {token(private_pem)}", now=NOW).view == ("*",)


def test_refused_scope_says_what_the_token_allows() -> None:
    grant = Grant("", ("maths-*", "news"), (), relay=False, expires_at=None)
    with pytest.raises(AccessError) as publish:
        grant.require_publish("physics")
    assert publish.value.status == 403
    assert publish.value.sentence == (
        "This token does not allow to publish 'physics' (streams that it allows: 'maths-*', "
        "'news'); ask for one issued with `terrace token --publish physics`."
    )
    with pytest.raises(AccessError) as view:
        grant.require_view("maths-1")
    assert view.value.status == 403
    assert view.value.sentence == (
        "This token does not allow to view 'maths-1' (streams that it allows: none); "
        "ask for one issued with `terrace token --view maths-1`."
    )
    with pytest.raises(AccessError) as relay:
        grant.require_relay()
    assert relay.value.status == 403
    assert relay.value.sentence == (
        "This token does not let a relay node connect; issue one with `terrace token --relay`."
    )
    grant.require_publish("maths-1")


@pytest.mark.parametrize(
    ("pattern", "stream", "want"),
    [
        ("*", "lecture", True),
        ("*", "", True),
        ("lecture", "lecture", True),
        ("lecture", "lecture2", False),
        ("lecture", "Lecture", False),
        ("lec*", "lecture", True),
        ("lec*", "lec", True),
        ("lec*", "elec", False),
        ("*ture", "lecture", True),
        ("*ture", "lectures", False),
        ("l*c*e", "lecture", True),
        ("l*x*e", "lecture", False),
        ("a*a", "a", False),
        ("a*a", "aa", True),
        ("*ab*ab*", "ab", False),
        ("*ab*ab*", "xabyab", True),
        ("a*bc*c", "abc", False),
        ("**", "x", True),
        ("", "", True),
        ("", "x", False),
        # Nothing but the star is special.
        ("lectur?", "lecture", False),
        ("[l]ecture", "lecture", False),
        ("a.c", "abc", False),
    ],
)
def test_pattern_covers_the_whole_name(pattern: str, stream: str, want: bool) -> None:
    assert access.matches(pattern, stream) is want


def slow_matches(pattern: str, stream: str) -> bool:
    """The definition, literally."""
    if not pattern:
        return not stream
    if pattern[0] == "*":
        return any(slow_matches(pattern[1:], stream[i:]) for i in range(len(stream) + 1))
    return stream[:1] == pattern[0] and slow_matches(pattern[1:], stream[1:])


@given(st.text("ab*", max_size=7), st.text("ab", max_size=7))
def test_pattern_agrees_with_its_definition(pattern: str, stream: str) -> None:
    assert access.matches(pattern, stream) is slow_matches(pattern, stream)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("30m", 1800), ("8h", 28800), ("7d", 604800), ("1.5h", 5400), (" 8h ", 28800)],
)
def test_life_is_read(text: str, seconds: float) -> None:
    assert access.parse_ttl(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "8",
        "h",
        "8 h",
        "-8h",
        "0h",
        "0.0s",
        "8H",
        "8h30m",
        "1e3s",
        "nanh",
        "٣h",
        "3661d",
        "9" * 400 + "s",
    ],
)
def test_life_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="write a number above zero and a unit"):
        access.parse_ttl(text)


@pytest.mark.parametrize("ttl_s", [0.0, -1.0, float("nan"), float("inf"), 4e8])
def test_token_of_an_impossible_life_is_not_issued(ttl_s: float) -> None:
    with pytest.raises(ValueError, match="a token cannot last"):
        token(ttl_s=ttl_s)


def test_token_that_nodes_would_refuse_for_its_length_is_not_issued() -> None:
    with pytest.raises(ValueError, match="give fewer or shorter patterns"):
        token(view=["x" * 64] * 60)


def test_two_tokens_differ_in_their_id() -> None:
    first, second = (jwt.decode(token(), options={"verify_signature": False}) for _ in range(2))
    assert first["jti"] != second["jti"]
    assert first["iat"] == NOW


def ec_private_pem() -> bytes:
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )


@pytest.mark.parametrize(
    ("pem", "reason"),
    [
        pytest.param(b"rubbish", "no private key in PEM form", id="rubbish"),
        pytest.param(PUBLIC_PEM, "no private key in PEM form", id="public key"),
        pytest.param(ec_private_pem(), "no Ed25519 private key", id="another kind of key"),
    ],
)
def test_token_is_issued_with_an_ed25519_private_key_only(pem: bytes, reason: str) -> None:
    with pytest.raises(KeyFileError, match=reason):
        token(pem)


def ed448_public_pem() -> bytes:
    key = ed448.Ed448PrivateKey.generate().public_key()
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


@pytest.mark.parametrize(
    ("pem", "reason"),
    [
        pytest.param(b"rubbish", "key0.pem holds no public key", id="rubbish"),
        pytest.param(PRIVATE_PEM, "key0.pem holds a private key", id="private key"),
        pytest.param(ed448_public_pem(), "key0.pem holds no Ed25519 key", id="Ed448"),
    ],
)
def test_key_file_that_cannot_be_used_stops_the_start(
    tmp_path: Path, pem: bytes, reason: str
) -> None:
    with pytest.raises(KeyFileError, match=reason):
        gate(tmp_path, pem)


def test_key_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match=r"none\.pem: No such file"):
        Access.from_pem_files([tmp_path / "none.pem"])


def test_gate_without_keys_is_refused() -> None:
    """An empty list must not mean open."""
    with pytest.raises(KeyFileError, match="no public key is given"):
        Access.from_pem_files([])
