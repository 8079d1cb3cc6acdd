"""Two peers over two ports: ICE, DTLS and SRTP through real sockets, and how that may fail."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from functools import partial

import pytest
from aiortc.rtcdtlstransport import (
    SRTP_AEAD_AES_128_GCM,
    SRTP_AEAD_AES_256_GCM,
    SRTP_AES128_CM_SHA1_80,
    SRTPProtectionProfile,
    generate_certificate,
)
from cryptography.hazmat.primitives.asymmetric import ec

from relay import peer as module
from relay import rtcp
from relay.errors import HandshakeFailed
from relay.peer import MAX_EARLY, OVERHEAD, PROFILES, NodeCertificate
from tests.patience import PATIENCE
from tests.relay import rows
from tests.relay.loopback import Judge, Pair, Wire, certificate, open_port, until

REPORT = rtcp.receiver_report(5, []) + rtcp.pli(5, 6)


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    """A caller that begins the handshake, and a callee; not connected yet."""
    with open_port() as here, open_port() as there:
        made = Pair(here, there)
        yield made
        await made.close()


def media(count: int, first: int = 1) -> list[bytes]:
    return [rows.packet(first + i, 3600 * i, rows.VP8_DELTA * 20) for i in range(count)]


async def exchange(pair: Pair) -> None:
    """Send media and reports both ways, and see them come out."""
    packets = media(5)
    for port, peer in zip(pair.ports, (pair.caller, pair.callee), strict=True):
        target = peer.target
        assert target is not None
        port.call(port.fanout.send_to, target, packets)
        port.call(port.fanout.send_rtcp, [target], REPORT)
    for port, notes in zip(pair.ports, (pair.at_caller, pair.at_callee), strict=True):
        await until(partial(bool, notes.rtcp), port)
        assert notes.rtp == packets
        assert notes.rtcp == [REPORT]


async def exchange_more(pair: Pair, first: int = 100) -> None:
    """Let a few more packets pass, and with them whatever else was under way."""
    for number in range(first, first + 5):
        port, target = pair.ports[0], pair.caller.target
        assert target is not None
        (data,) = media(1, number)
        port.call(port.fanout.send_to, target, [data])
        await until(partial(pair.at_callee.rtp.__contains__, data), pair.ports[1])


@pytest.mark.parametrize("caller_begins", [True, False], ids=["caller", "callee"])
@pytest.mark.parametrize("profile", PROFILES, ids=lambda p: p.openssl_profile.decode())
async def test_media_flows_both_ways(caller_begins: bool, profile: SRTPProtectionProfile) -> None:
    """Whoever is the DTLS client, with each SRTP profile, and the tag's length is known."""
    with open_port() as here, open_port() as there:
        pair = Pair(here, there, caller_begins=caller_begins)
        pair.caller._dtls._srtp_profiles = [profile]
        await pair.connect()
        assert pair.caller.profile == pair.callee.profile == profile.openssl_profile.decode()
        for peer in (pair.caller, pair.callee):
            assert peer.target is not None
            assert peer.target.overhead == OVERHEAD[profile]
            assert peer.connected.is_set()
        await exchange(pair)
        await pair.close()


async def test_ipv6_peers_connect() -> None:
    """The same over ::1."""
    with open_port("::1") as here, open_port("::1") as there:
        pair = Pair(here, there)
        # As recvfrom gives it: flow and scope are part of the address.
        pair.address = ("::1", there.number, 0, 0)  # type: ignore[assignment]
        await pair.connect()
        await exchange(pair)
        await pair.close()


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        (PROFILES, SRTP_AEAD_AES_128_GCM),
        ([SRTP_AES128_CM_SHA1_80, SRTP_AEAD_AES_256_GCM], SRTP_AEAD_AES_256_GCM),
        ([SRTP_AES128_CM_SHA1_80], SRTP_AES128_CM_SHA1_80),
    ],
)
async def test_the_cheapest_profile_that_both_know_is_taken(
    pair: Pair, offered: list[SRTPProtectionProfile], chosen: SRTPProtectionProfile
) -> None:
    """AES-128 before AES-256, and CM for old encoders only."""
    pair.caller._dtls._srtp_profiles = offered
    await pair.connect()
    assert pair.caller.profile.encode() == chosen.openssl_profile


async def test_all_peers_of_a_node_share_one_tls_context() -> None:
    """A fresh one would cost more than the rest of a join."""
    ours = certificate()
    with open_port() as here, open_port() as there:
        pairs = [Pair(here, there, callee_certificate=ours) for _ in range(2)]
        for pair in pairs:
            await pair.connect()
        first, second = (pair.callee._dtls._connection.get_context() for pair in pairs)
        assert first is second
        for pair in pairs:
            await pair.close()


# ---------------------------------------------------------------- lost and strange datagrams


def is_dtls(data: bytes) -> bool:
    return 19 < data[0] < 64


def dropping(*numbers: int, up: bool) -> Judge:
    """Drops the DTLS datagrams with these numbers in one direction."""
    count = 0

    def passes(data: bytes, upwards: bool) -> bool:
        nonlocal count
        if not is_dtls(data) or upwards != up:
            return True
        count += 1
        return count not in numbers

    return passes


@pytest.mark.parametrize("caller_begins", [True, False], ids=["caller begins", "callee begins"])
@pytest.mark.parametrize("up", [True, False], ids=["up", "down"])
@pytest.mark.parametrize("numbers", [(1,), (1, 2, 3), (2,), (3,)], ids=str)
async def test_a_lost_flight_is_sent_again_soon(
    caller_begins: bool, up: bool, numbers: tuple[int, ...]
) -> None:
    """FFmpeg swallows the first ClientHello; aiortc's own timer would take a second each time."""
    with open_port() as here, open_port() as there:
        pair = Pair(here, there, caller_begins=caller_begins)
        wire = await Wire.open(pair.address, dropping(*numbers, up=up))
        pair.use(wire)
        await pair.reach()
        began = time.monotonic()
        await pair.shake()
        # The node as client of an encoder is patient with its last flight, for FFmpeg's sake.
        # On a slow machine the flight before is repeated, and its last is the third datagram.
        patient = not caller_begins and numbers in {(2,), (3,)}
        assert time.monotonic() - began < (1.8 if patient else 0.8) * PATIENCE / 2
        pair.serve()
        await exchange(pair)
        # And both fall silent, once all has come that is under way: no repeat answers a repeat.
        await exchange_more(pair, first=50)
        spoken = sum(is_dtls(data) for data, _ in wire.seen)
        assert spoken < 40
        await exchange_more(pair)
        assert sum(is_dtls(data) for data, _ in wire.seen) == spoken
        await pair.close()
        wire.close()


async def test_a_lost_last_flight_of_a_foreign_server_is_asked_for_anew(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has had our datagrams and passes the very same over: OpenSSL's own timer, which gives
    them new record numbers, helps after a second or two.
    """
    monkeypatch.setattr(pair.callee._dtls, "repeat_of", lambda data: [])
    wire = await Wire.open(pair.address, dropping(2, up=False))
    pair.use(wire)
    began = time.monotonic()
    await pair.connect()
    assert time.monotonic() - began < 5
    await exchange(pair)
    wire.close()


async def test_repeats_do_not_answer_repeats_for_ever() -> None:
    """On a network that doubles datagrams, the second ones late, both sides fall silent in the end.

    The copies arrive when their receiver is through with its handshake.
    """
    with open_port() as here, open_port() as there:
        pair = Pair(here, there)

        copies: list[tuple[bytes, bool]] = []

        def passes(data: bytes, up: bool) -> bool:
            if is_dtls(data):
                copies.append((data, up))
            return True

        def deliver() -> int:
            late, copies[:] = list(copies), []
            assert wire._transport is not None
            for data, up in late:
                wire._transport.sendto(data, wire.there if up else wire.caller)
            return len(late)

        wire = await Wire.open(pair.address, passes)
        pair.use(wire)
        await pair.connect()
        await exchange(pair)
        delivered = []
        for turn in range(8):
            delivered.append(deliver())
            await exchange_more(pair, first=100 + 10 * turn)
        assert delivered[0] > 0
        assert delivered[-1] == 0
        await pair.close()
        wire.close()


@pytest.mark.parametrize("seed", range(3))
async def test_a_handshake_survives_heavy_loss_reorder_and_duplicates(seed: int) -> None:
    """A third of all DTLS datagrams is lost, another is repeated."""
    draw = random.Random(seed)
    with open_port() as here, open_port() as there:
        pair = Pair(here, there)

        def passes(data: bytes, up: bool) -> bool:
            if not is_dtls(data):
                return True
            if draw.random() < 0.3:
                (there if up else here).send_raw(data, wire.there if up else wire.caller)
            return draw.random() > 0.33

        wire = await Wire.open(pair.address, passes)
        pair.use(wire)
        await pair.connect()
        await exchange(pair)
        await pair.close()
        wire.close()


async def test_garbage_among_the_handshake_is_passed_over() -> None:
    """Bytes that look like DTLS and are not, from the right address, at every stage."""
    draw = random.Random(4)
    with open_port() as here, open_port() as there:
        pair = Pair(here, there)

        def passes(data: bytes, up: bool) -> bool:
            if is_dtls(data):
                assert wire._transport is not None
                for size in (1, 13, 60, 1400):
                    garbage = bytes([draw.randrange(20, 64)]) + draw.randbytes(size)
                    wire._transport.sendto(garbage, wire.there if up else wire.caller)
                # A record of a later epoch, and one that says it is longer than it is.
                broken = data[:3] + b"\0\7" + data[5:11] + b"\xff\xff" + data[13:]
                wire._transport.sendto(broken, wire.there if up else wire.caller)
            return True

        wire = await Wire.open(pair.address, passes)
        pair.use(wire)
        await pair.connect()
        await exchange(pair)
        assert here.errors == there.errors == 0
        await pair.close()
        wire.close()


async def test_a_flight_is_cut_at_record_borders_and_fits_any_path() -> None:
    """OpenSSL's memory buffer joins its records; each datagram must hold whole ones."""
    with open_port() as here, open_port() as there:
        pair = Pair(here, there)
        wire = await Wire.open(pair.address)
        pair.use(wire)
        await pair.connect()
        for data, _ in wire.seen:
            if is_dtls(data):
                assert len(data) <= 1200
                at = 0
                while at < len(data):
                    at += 13 + int.from_bytes(data[at + 11 : at + 13], "big")
                assert at == len(data)
        await pair.close()
        wire.close()


# ---------------------------------------------------------------- what fails


async def failures(pair: Pair) -> tuple[str, str]:
    """Connect both, and say why caller and callee failed; empty for a side that did not."""
    results = await asyncio.gather(
        pair.caller.connect(), pair.callee.connect(), return_exceptions=True
    )
    for result in results:
        assert result is None or isinstance(result, HandshakeFailed)
    caller, callee = (str(result) if result else "" for result in results)
    return caller, callee


async def test_a_wrong_fingerprint_is_refused_with_a_reason(pair: Pair) -> None:
    """Somebody in between: the certificate is not the one that the description announced."""
    pair.callee.fingerprints = [("sha-256", certificate().fingerprint)]
    await pair.reach()
    _, callee = await failures(pair)
    assert callee == "DTLS failed: the fingerprint or SRTP profile does not match"
    assert pair.callee.target is None
    assert not pair.callee.connected.is_set()


async def test_one_wrong_fingerprint_of_two_is_refused(pair: Pair) -> None:
    """All those of a known hash must fit."""
    pair.callee.fingerprints.append(("sha-512", "AB:CD"))
    await pair.reach()
    assert "fingerprint" in (await failures(pair))[1]


async def test_fingerprints_of_unknown_hashes_do_not_count(pair: Pair) -> None:
    """Besides one that fits they are passed over."""
    pair.callee.fingerprints.append(("md2", "AB:CD"))
    await pair.connect()
    await exchange(pair)


async def test_no_common_srtp_profile_is_refused_with_a_reason(pair: Pair) -> None:
    """The handshake itself succeeds then, without a profile."""
    pair.caller._dtls._srtp_profiles = [SRTP_AEAD_AES_256_GCM]
    pair.callee._dtls._srtp_profiles = [SRTP_AES128_CM_SHA1_80]
    await pair.reach()
    for reason in await failures(pair):
        assert reason == "DTLS failed: the fingerprint or SRTP profile does not match"


async def test_both_sides_in_the_same_role_do_not_wait_for_ever(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two servers say nothing; the time-out says where it broke."""
    monkeypatch.setattr(module, "HANDSHAKE_TIMEOUT_S", 0.3)
    pair.caller.dtls_client = False
    pair.caller._dtls._set_role("server")
    await pair.reach()
    for reason in await failures(pair):
        assert reason == "DTLS did not finish within 0 s"


async def test_a_peer_that_never_checks_is_given_up(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A publisher behind a firewall: no ICE check came, and that is what is said."""
    monkeypatch.setattr(module, "HANDSHAKE_TIMEOUT_S", 0.2)
    for peer in (pair.caller, pair.callee):
        with pytest.raises(HandshakeFailed, match="no ICE check arrived within"):
            await peer.connect()


async def test_a_refused_curve_is_named_with_what_to_do() -> None:
    """FFmpeg built with GnuTLS makes P-224 certificates."""
    key = ec.generate_private_key(ec.SECP224R1())
    old = NodeCertificate(key, generate_certificate(key))
    with open_port() as here, open_port() as there:
        pair = Pair(here, there, caller_certificate=old)
        await pair.reach()
        reasons = await failures(pair)
        if reasons == ("", ""):
            # An OpenSSL before 4 takes the curve.
            pair.serve()
            await exchange(pair)
        else:
            assert "P-256" in reasons[1]
        await pair.close()


async def test_a_handshake_that_is_cancelled_leaves_nothing_running(pair: Pair) -> None:
    """DELETE or a stop of the node in the middle of it."""
    await pair.reach()
    task = asyncio.create_task(pair.callee.connect())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await pair.callee.close("the client said goodbye")
    assert pair.callee.closed.is_set()
    assert pair.callee.why == "the client said goodbye"


# ---------------------------------------------------------------- the end


async def test_the_other_side_learns_that_a_peer_closed(pair: Pair) -> None:
    """DTLS close_notify, at once."""
    await pair.connect()
    await pair.caller.close("left")
    async with asyncio.timeout(2):
        await pair.callee.closed.wait()
    assert pair.callee.why == "the peer closed the connection"
    assert pair.caller.why == "left"


async def test_the_first_reason_stays(pair: Pair) -> None:
    """What ends a peer is what its summary line says, not what came after."""
    await pair.connect()
    await pair.caller.close("left")
    await pair.caller.close("the session ended")
    pair.caller.lost("nothing was heard")
    assert pair.caller.why == "left"


async def test_a_lost_peer_ends_without_a_word_to_it() -> None:
    """Nobody would hear it; the other side finds out by itself."""
    with open_port() as here, open_port() as there:
        pair = Pair(here, there)
        wire = await Wire.open(pair.address)
        pair.use(wire)
        await pair.connect()
        await exchange_more(pair)
        before = len(wire.seen)
        pair.caller.lost("nothing was heard for 30 s")
        await asyncio.sleep(0)
        await pair.settle()
        assert len(wire.seen) == before
        assert pair.caller.closed.is_set()
        await pair.close()
        wire.close()


@pytest.mark.parametrize("junk", [b"\x15", b"\x15\xfe\xfd" + bytes(20), b"\x17\xfe\xfd" + bytes(9)])
async def test_a_forged_record_does_not_end_a_connection(pair: Pair, junk: bytes) -> None:
    """An alert without the cipher's blessing, cut records: the association goes on."""
    await pair.connect()
    for _ in range(100):
        pair.caller.send_raw(junk)
    await pair.settle()
    await exchange(pair)
    assert not pair.callee.closed.is_set()


# ---------------------------------------------------------------- early media


async def test_media_that_comes_before_the_handler_is_kept_in_order(pair: Pair) -> None:
    """The first packet that a publisher sends is its keyframe."""
    await pair.reach()
    await pair.shake()
    packets = media(20)
    port, target = pair.ports[0], pair.caller.target
    assert target is not None
    port.call(port.fanout.send_to, target, packets)
    await until(lambda: len(pair.callee._early) == 20, pair.ports[1])
    pair.serve()
    await pair.settle()
    assert pair.at_callee.rtp == packets


async def test_what_is_kept_early_is_bounded(pair: Pair) -> None:
    """A peer that sends without end before it is served fills nothing."""
    await pair.reach()
    await pair.shake()
    port, target = pair.ports[0], pair.caller.target
    assert target is not None
    for first in range(1, MAX_EARLY + 100, 100):
        port.call(port.fanout.send_to, target, media(100, first))
        await pair.settle()
    await until(lambda: pair.ports[1].datagrams_in > MAX_EARLY + 10, pair.ports[1])
    assert len(pair.callee._early) == MAX_EARLY
    pair.serve()
    await pair.settle()
    assert len(pair.at_callee.rtp) == MAX_EARLY


async def test_a_forged_packet_is_counted_and_dropped() -> None:
    """From the right address, under the right SSRC, but not by the right hand; replays as well."""
    with open_port() as here, open_port() as there:
        connected = Pair(here, there)
        wire = await Wire.open(connected.address)
        connected.use(wire)
        await connected.connect()
        await exchange(connected)
        genuine = [data for data, up in wire.seen if up and 127 < data[0] < 192]
        for data in genuine:
            connected.caller.send_raw(data[:-1] + bytes([data[-1] ^ 1]))
            connected.caller.send_raw(data)
            connected.caller.send_raw(data[:12])
        await until(lambda: connected.callee.bad_packets == 3 * len(genuine), there)
        assert len(connected.at_callee.rtp) == 5
        assert there.errors == 0
        await connected.close()
        wire.close()
