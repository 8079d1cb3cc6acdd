"""STUN over bytes: RFC 5769's vectors, aioice as the other side, and anything at all."""

from __future__ import annotations

import string

import pytest
from aioice import stun
from hypothesis import example, given
from hypothesis import strategies as st

from relay import ice
from tests.relay.rows import row

# RFC 5769 section 2.1, and the password from its section 2.
SAMPLE = row(
    "0001 0058 2112a442 b7e7a701bc34d686fa87dfae"
    "| 8022 0010 5354554e207465737420636c69656e74"
    "| 0024 0004 6e0001ff"
    "| 8029 0008 932ff9b151263b36"
    "| 0006 0009 6576746a3a68367659 202020"
    "| 0008 0014 9aeaa70cbfd8cb56781ef2b5b2d3f249c1b571a2"
    "| 8028 0004 e57a3bcf"
)
PASSWORD = b"VOkJxbRl1RmTxUk/WvJxBt"
TRANSACTION = bytes.fromhex("b7e7a701bc34d686fa87dfae")


def test_the_sample_request_of_rfc_5769_is_read() -> None:
    """Section 2.1: USERNAME with blanks as padding, attributes that we do not use."""
    message = ice.parse(SAMPLE)
    assert message == ice.Message(
        kind=ice.REQUEST,
        transaction=TRANSACTION,
        username="evtj:h6vY",
        use_candidate=False,
        integrity_at=20 + 20 + 8 + 12 + 16,
    )


def test_the_sample_request_is_believed_with_its_password_only() -> None:
    """MESSAGE-INTEGRITY covers the header with the length up to itself (RFC 8489 14.5)."""
    message = ice.parse(SAMPLE)
    assert ice.verify(SAMPLE, message, PASSWORD)
    assert not ice.verify(SAMPLE, message, b"VOkJxbRl1RmTxUk/WvJxBT")
    assert not ice.verify(SAMPLE, message, b"")


def test_no_authenticated_byte_can_be_changed() -> None:
    """Up to MESSAGE-INTEGRITY and in it; a change is a malformed message or one not believed."""
    believed = []
    for at in range(SAMPLE.index(row("8028 0004"))):
        changed = SAMPLE[:at] + bytes([SAMPLE[at] ^ 0x01]) + SAMPLE[at + 1 :]
        try:
            message = ice.parse(changed)
        except ice.StunError:
            continue
        if ice.verify(changed, message, PASSWORD):
            believed.append(at)
    assert believed == []


def test_what_follows_the_integrity_is_not_believed() -> None:
    """A USE-CANDIDATE that somebody appended does not count (RFC 8489 section 9.1.4)."""
    added = SAMPLE[:2] + (len(SAMPLE) - 20 + 4).to_bytes(2, "big") + SAMPLE[4:] + row("0025 0000")
    message = ice.parse(added)
    assert not message.use_candidate
    assert ice.verify(added, message, PASSWORD)


def test_a_message_without_integrity_is_never_believed() -> None:
    """The plain binding request that any scanner sends."""
    data = row("0001 0000 2112a442 000000000000000000000000")
    message = ice.parse(data)
    assert message.integrity_at == 0
    assert not ice.verify(data, message, PASSWORD)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param("", "0 bytes", id="empty"),
        pytest.param("0001 0000 2112a442 0000", "10 bytes", id="cut header"),
        pytest.param("0001 0000 2112a443 000000000000000000000000", "cookie", id="other cookie"),
        pytest.param("0001 0004 2112a442 000000000000000000000000", "length", id="length beyond"),
        pytest.param(
            "0001 0002 2112a442 000000000000000000000000 0000", "length", id="length not in words"
        ),
        pytest.param("0003 0000 2112a442 000000000000000000000000", "0x0003", id="allocate"),
        pytest.param(
            "0001 0008 2112a442 000000000000000000000000 0006 0008 61626364",
            "cut short",
            id="an attribute over the end",
        ),
        pytest.param(
            "0001 0008 2112a442 000000000000000000000000 0008 0004 61626364",
            "20 bytes",
            id="a short integrity",
        ),
        pytest.param(
            "0001 0510 2112a442 000000000000000000000000" + "00" * 1296, "1316 bytes", id="too long"
        ),
    ],
)
def test_malformed_messages_are_refused_with_a_reason(text: str, reason: str) -> None:
    """Each row is one way in which a datagram is no STUN message."""
    with pytest.raises(ice.StunError, match=reason):
        ice.parse(row(text))


@pytest.mark.parametrize(
    ("text", "want"),
    [
        pytest.param("0001 0000 2112a442 000000000000000000000000", True, id="request"),
        pytest.param("0101 0000 2112a442 000000000000000000000000", True, id="response"),
        pytest.param("0001 0000 2112a440 000000000000000000000000", False, id="no cookie"),
        pytest.param("16fe fd00 2112a442 000000000000000000000000", False, id="DTLS"),
        pytest.param("8060 0000 2112a442 000000000000000000000000", False, id="RTP"),
        pytest.param("0001 0000 2112a442", False, id="short"),
    ],
)
def test_stun_is_told_apart(text: str, want: bool) -> None:
    """First byte below 4 and the cookie (RFC 7983)."""
    assert ice.is_stun(row(text)) is want


# ---------------------------------------------------------------- aioice is the other side


@pytest.mark.parametrize(
    ("address", "want"),
    [
        pytest.param(("192.0.2.1", 32853), ("192.0.2.1", 32853), id="IPv4"),
        pytest.param(("2001:db8::1", 32853, 0, 0), ("2001:db8::1", 32853), id="IPv6"),
        pytest.param(("fe80::1%eth0", 5000, 0, 2), ("fe80::1", 5000), id="IPv6 with a scope"),
        pytest.param(("::ffff:192.0.2.1", 1, 0, 0), ("192.0.2.1", 1), id="IPv4 on a dual socket"),
    ],
)
def test_an_answer_is_believed_by_aioice(address: ice.Address, want: tuple[str, int]) -> None:
    """aioice checks FINGERPRINT while it parses, MESSAGE-INTEGRITY when asked."""
    answer = stun.parse_message(ice.answer(ice.parse(SAMPLE), address, PASSWORD))
    assert "FINGERPRINT" in answer.attributes
    assert answer.check_message_integrity(PASSWORD)
    assert not answer.check_message_integrity(b"another password")
    assert answer.message_class == stun.Class.RESPONSE
    assert answer.message_method == stun.Method.BINDING
    assert answer.transaction_id == TRANSACTION
    assert answer.attributes["XOR-MAPPED-ADDRESS"] == want


def test_the_answer_of_rfc_5769_section_2_2_has_the_same_address_bytes() -> None:
    """XOR-MAPPED-ADDRESS of 192.0.2.1 port 32853, as the RFC has it."""
    answer = ice.answer(ice.parse(SAMPLE), ("192.0.2.1", 32853), PASSWORD)
    assert row("0020 0008 0001a147e112a643") in answer


def test_the_answer_of_rfc_5769_section_2_3_has_the_same_address_bytes() -> None:
    """XOR-MAPPED-ADDRESS of an IPv6 address, whose mask holds the transaction."""
    address = ("2001:db8:1234:5678:11:2233:4455:6677", 32853, 0, 0)
    answer = ice.answer(ice.parse(SAMPLE), address, PASSWORD)
    assert row("0020 0014 0002a147 0113a9faa5d3f179bc25f4b5bed2b9d9") in answer


def test_a_check_is_believed_by_aioice_and_nominates() -> None:
    """The controlling side of an uplink: all that RFC 8445 section 7.1.1 asks for."""
    data = ice.check("remote:local", PASSWORD, TRANSACTION, 0x0123456789ABCDEF)
    request = stun.parse_message(data)
    assert "FINGERPRINT" in request.attributes
    assert request.check_message_integrity(PASSWORD)
    assert request.message_class == stun.Class.REQUEST
    assert request.attributes["USERNAME"] == "remote:local"
    assert request.attributes["USE-CANDIDATE"] is None
    assert request.attributes["ICE-CONTROLLING"] == 0x0123456789ABCDEF
    assert request.attributes["PRIORITY"] == 0x6E7F1EFF


def test_our_own_check_is_read_and_answered() -> None:
    """A child's check at its parent, and the answer back at the child."""
    data = ice.check("parent:child", b"password of the parent", TRANSACTION, 1)
    request = ice.parse(data)
    assert (request.username, request.use_candidate) == ("parent:child", True)
    assert ice.verify(data, request, b"password of the parent")
    back = ice.answer(request, ("127.0.0.1", 8710), b"password of the parent")
    response = ice.parse(back)
    assert (response.kind, response.transaction) == (ice.SUCCESS, TRANSACTION)
    assert ice.verify(back, response, b"password of the parent")


def test_a_request_of_aioice_is_read() -> None:
    """What aiortc sends as a controlling agent."""
    request = stun.Message(
        message_method=stun.Method.BINDING,
        message_class=stun.Class.REQUEST,
        transaction_id=TRANSACTION,
    )
    request.attributes["USERNAME"] = "abcdefgh:ijkl"
    request.attributes["PRIORITY"] = 1
    request.attributes["ICE-CONTROLLING"] = 1
    request.attributes["USE-CANDIDATE"] = None
    request.add_message_integrity(PASSWORD)
    message = ice.parse(bytes(request))
    assert (message.username, message.use_candidate) == ("abcdefgh:ijkl", True)
    assert ice.verify(bytes(request), message, PASSWORD)


def test_an_error_answer_is_read() -> None:
    """487 Role Conflict and the like carry their number in two fields."""
    response = stun.Message(
        message_method=stun.Method.BINDING,
        message_class=stun.Class.ERROR,
        transaction_id=TRANSACTION,
    )
    response.attributes["ERROR-CODE"] = (487, "Role Conflict")
    message = ice.parse(bytes(response))
    assert (message.kind, message.error) == (ice.ERROR, 487)


def test_credentials_have_the_length_and_letters_of_rfc_8445() -> None:
    """At least 4 and 22 characters of ice-char, and never the same twice."""
    letters = set(string.ascii_letters + string.digits + "+/")
    seen = set()
    for _ in range(100):
        ufrag, password = ice.new_credentials()
        assert len(ufrag) >= 4
        assert len(password) >= 22
        assert set(ufrag + password) <= letters
        seen.add((ufrag, password))
    assert len(seen) == 100


# ---------------------------------------------------------------- anything at all


@given(st.binary(max_size=200))
@example(SAMPLE)
@example(SAMPLE[:-1])
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    """Nothing but StunError comes out."""
    try:
        message = ice.parse(data)
    except ice.StunError:
        return
    ice.verify(data, message, PASSWORD)


@given(
    st.sampled_from([ice.REQUEST, ice.SUCCESS, ice.ERROR]),
    st.lists(
        st.tuples(
            st.sampled_from([0x0006, 0x0008, 0x0009, 0x0020, 0x0025, 0x8022, 0x8028]),
            st.binary(max_size=40),
            st.integers(-8, 8),
        ),
        max_size=6,
    ),
)
def test_any_attributes_are_read_or_refused(
    kind: int, attributes: list[tuple[int, bytes, int]]
) -> None:
    """Attributes that we use with any content, and with lengths that are wrong."""
    body = b""
    for name, value, wrong_by in attributes:
        size = max(0, len(value) + wrong_by)
        body += ice.ATTRIBUTE.pack(name, size) + value + bytes(-len(value) & 3)
    data = ice.HEADER.pack(kind, len(body), ice.COOKIE, TRANSACTION) + body
    try:
        message = ice.parse(data)
    except ice.StunError:
        return
    assert not ice.verify(data, message, PASSWORD)


@given(st.binary(min_size=12, max_size=12), st.ip_addresses(v=4), st.integers(0, 65535))
def test_any_address_comes_back_from_aioice(transaction: bytes, ip: object, port: int) -> None:
    """Whatever the mask of the transaction does to it."""
    request = ice.Message(ice.REQUEST, transaction, "", False, 0)
    data = ice.answer(request, (str(ip), port), PASSWORD)
    answer = stun.parse_message(data)
    assert answer.check_message_integrity(PASSWORD)
    assert answer.attributes["XOR-MAPPED-ADDRESS"] == (str(ip), port)
