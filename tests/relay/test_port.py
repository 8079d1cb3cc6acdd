"""The one socket: who gets which datagram, and that no datagram does any harm."""

from __future__ import annotations

import asyncio
import random
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from functools import partial

import pytest
from aioice import stun
from hypothesis import given, settings
from hypothesis import strategies as st

from relay import ice, rtcp
from relay.fanout import Target
from relay.packet import ABS_SEND_TIME, AUDIO_LEVEL, MID
from relay.peer import MAX_ADDRESSES, MAX_DTLS_QUEUE, MAX_EARLY, ROAM_AFTER_S, Peer
from relay.port import Port
from relay.sdp import Format, Leg
from relay.source import MAX_LINES, Source
from relay.stream import Stream
from relay.track import Track
from relay.viewer import Viewer
from tests.patience import PATIENCE
from tests.relay import rows
from tests.relay.loopback import HOST, Notes, Pair, Receiver, certificate, open_port, until

CERTIFICATE = certificate()


def new_peer(port: Port, *, controlling: bool = False) -> Peer:
    """A peer as an answered offer makes it."""
    return Peer(
        "peer",
        port,
        CERTIFICATE,
        remote_ufrag="theirs",
        remote_password="their password of 24 chars",
        fingerprints=[("sha-256", CERTIFICATE.fingerprint)],
        dtls_client=False,
        controlling=controlling,
    )


def check_for(peer: Peer, *, nominate: bool = True, password: str = "") -> bytes:
    """The binding request with which somebody reaches a peer."""
    request = stun.Message(message_method=stun.Method.BINDING, message_class=stun.Class.REQUEST)
    request.attributes["USERNAME"] = f"{peer.ufrag}:theirs"
    if nominate:
        request.attributes["USE-CANDIDATE"] = None
    request.add_message_integrity((password or peer.password).encode())
    return bytes(request)


class Client:
    """A socket that talks to a port, with SRTP keys of its own in both directions."""

    def __init__(self, port: Port) -> None:
        self.port = port
        self.receiver = Receiver()
        self.sending = Receiver()
        self.socket = self.receiver.socket
        self.there = (HOST, port.number)

    @property
    def address(self) -> tuple[str, int]:
        name: tuple[str, int] = self.socket.getsockname()
        return name

    def send(self, *datagrams: bytes) -> None:
        for data in datagrams:
            self.socket.sendto(data, self.there)

    def protect(self, data: bytes) -> bytes:
        return self.sending.tx.protect(data)

    def connect(self, peer: Peer) -> None:
        """What a finished handshake leads to, without the handshake."""
        target = self.receiver.target
        peer.target = target
        peer._use(self.sending.rx, target)

    def answers(self) -> list[bytes]:
        return self.receiver.datagrams()

    def close(self) -> None:
        self.receiver.close()
        self.sending.close()


class Bench:
    """A port whose thread's work the test does itself, at the times that it wants."""

    def __init__(self, port: Port) -> None:
        self.port = port
        self.now = 1000.0
        self.clients: list[Client] = []

    def client(self) -> Client:
        self.clients.append(Client(self.port))
        return self.clients[-1]

    def peer(self) -> Peer:
        peer = new_peer(self.port)
        self.port._add(peer)
        return peer

    def work(self, seconds: float = 0.0) -> None:
        """Time passes, and what has arrived is taken."""
        self.now += seconds
        self.port._drain(self.now)

    def joined(self) -> tuple[Client, Peer, Notes]:
        """A client whose association is complete."""
        client, peer, notes = self.client(), self.peer(), Notes()
        client.send(check_for(peer))
        self.work()
        client.connect(peer)
        peer.serve(notes)
        client.answers()
        return client, peer, notes


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    with open_port(start=False) as port:
        made = Bench(port)
        yield made
        for client in made.clients:
            client.close()


def media(sequence: int = 1, ssrc: int = 0xCAFEBABE, payload_type: int = 96) -> bytes:
    return rows.packet(sequence, 90, rows.VP8_KEY, ssrc=ssrc, payload_type=payload_type)


# ---------------------------------------------------------------- checks


async def test_a_check_with_the_right_password_is_answered(bench: Bench) -> None:
    """The answer tells the client its own address, and the peer's address is known from then on."""
    client, peer = bench.client(), bench.peer()
    request = check_for(peer)
    client.send(request)
    bench.work()
    (data,) = client.answers()
    answer = stun.parse_message(data)
    assert answer.transaction_id == request[8:20]
    assert answer.attributes["XOR-MAPPED-ADDRESS"] == client.address
    assert peer.address == client.address
    assert peer.last_heard_s == bench.now
    await asyncio.sleep(0)
    assert peer.reachable.is_set()


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda peer: check_for(peer, password="x" * 24), id="another password"),
        pytest.param(lambda peer: check_for(new_peer(peer._port)), id="another name"),
        pytest.param(lambda peer: check_for(peer)[:-1], id="cut"),
        pytest.param(lambda peer: b"\0\1" + bytes(18), id="no cookie"),
        pytest.param(
            lambda peer: bytes(
                stun.Message(message_method=stun.Method.BINDING, message_class=stun.Class.RESPONSE)
            ),
            id="an answer that nobody asked for",
        ),
    ],
)
async def test_a_bad_check_is_counted_and_not_answered(
    bench: Bench, spoil: Callable[[Peer], bytes]
) -> None:
    """Whoever scans ports learns nothing."""
    client, peer = bench.client(), bench.peer()
    client.send(spoil(peer))
    bench.work()
    assert client.answers() == []
    assert bench.port.bad_checks == 1
    assert peer.address is None
    assert not bench.port._by_address


async def test_the_answer_to_our_own_check_makes_a_parent_known(bench: Bench) -> None:
    """Only with the right password, for the check that was sent, and with its round trip."""
    peer = new_peer(bench.port, controlling=True)
    parent = bench.client()
    peer.remote_candidates = [parent.address]
    peer.check_transaction = ice.new_transaction()
    peer.check_began_s = bench.now
    bench.port._add(peer)
    right = ice.Message(ice.REQUEST, peer.check_transaction, "", False, 0)
    wrong = ice.Message(ice.REQUEST, ice.new_transaction(), "", False, 0)
    parent.send(
        ice.answer(right, ("127.0.0.1", 1), b"another password"),
        ice.answer(wrong, ("127.0.0.1", 1), peer.remote_password.encode()),
    )
    bench.work(0.01)
    assert peer.address is None
    parent.send(ice.answer(right, ("127.0.0.1", 1), peer.remote_password.encode()))
    bench.work(0.01)
    assert peer.address == parent.address
    assert peer.rtt_s == pytest.approx(0.02)


async def test_a_peer_that_is_told_of_later_is_found_for_a_quick_check(bench: Bench) -> None:
    """The answer may reach the client before the thread has taken the new peer in."""
    client, peer = bench.client(), new_peer(bench.port)
    bench.port.add(peer)
    client.send(check_for(peer))
    bench.work()
    assert peer.address == client.address


async def test_after_an_ice_restart_only_the_new_credentials_count(bench: Bench) -> None:
    """RFC 8445 section 9."""
    client, peer, _ = bench.joined()
    old = check_for(peer)
    bench.port.rename(peer, "newufrag", "a new password of 24 characters")
    client.send(old)
    bench.work()
    assert client.answers() == []
    client.send(check_for(peer))
    bench.work()
    assert len(client.answers()) == 1


# ---------------------------------------------------------------- who is who


async def test_media_reaches_its_peers_handler(bench: Bench) -> None:
    """RTP and RTCP apart, opened; others' addresses are strays."""
    client, _, notes = bench.joined()
    report = rtcp.receiver_report(5, [])
    client.send(client.protect(media()), client.sending.tx.protect_rtcp(report))
    bench.client().send(client.protect(media(2)))
    bench.work()
    assert (notes.rtp, notes.rtcp) == ([media()], [report])
    assert bench.port.strays == 1


@pytest.mark.parametrize(
    ("first", "counted"),
    [
        *[pytest.param(first, "bad_checks", id=f"{first}: STUN") for first in (0, 3)],
        *[pytest.param(first, "strays", id=f"{first}: nothing") for first in (4, 16, 19)],
        *[pytest.param(first, "", id=f"{first}: DTLS") for first in (20, 22, 63)],
        *[pytest.param(first, "strays", id=f"{first}: nothing") for first in (64, 79, 127)],
        *[pytest.param(first, "", id=f"{first}: RTP") for first in (128, 191)],
        *[pytest.param(first, "strays", id=f"{first}: nothing") for first in (192, 255)],
    ],
)
async def test_datagrams_are_told_apart_by_their_first_byte(
    bench: Bench, first: int, counted: str
) -> None:
    """RFC 7983 section 7, for what comes from a known address."""
    client, peer, _ = bench.joined()
    client.send(bytes([first]) + bytes(30))
    bench.work()
    counts = {"bad_checks": bench.port.bad_checks, "strays": bench.port.strays}
    assert counts == {name: int(name == counted) for name in counts}
    await asyncio.sleep(0)
    assert peer._transport.queue.qsize() == int(19 < first < 64)
    assert peer.bad_packets == int(127 < first < 192)


async def test_several_peers_at_one_address_are_told_apart_by_ssrc(bench: Bench) -> None:
    """The streams of one node below: each packet reaches the one whose cipher it fits."""
    here = bench.client()
    streams = []
    for _ in range(3):
        other, peer, notes = bench.client(), bench.peer(), Notes()
        here.send(check_for(peer))
        bench.work()
        other.connect(peer)
        peer.serve(notes)
        streams.append((other, peer, notes))
    for turn in range(1, 4):
        for number, (keys, _, _) in enumerate(streams):
            here.send(keys.protect(media(turn, ssrc=1000 + number)))
            report = rtcp.receiver_report(2000 + number, [])
            here.send(keys.sending.tx.protect_rtcp(report))
        bench.work()
    for number, (_, peer, notes) in enumerate(streams):
        assert notes.rtp == [media(turn, ssrc=1000 + number) for turn in range(1, 4)]
        assert notes.rtcp == [rtcp.receiver_report(2000 + number, [])] * 3
        assert peer.ssrcs == {1000 + number, 2000 + number}
    # Once known, a packet is tried on its own peer only.
    failed = [peer.bad_packets for _, peer, _ in streams]
    here.send(streams[2][0].protect(media(4, ssrc=1002)))
    bench.work()
    assert [peer.bad_packets for _, peer, _ in streams] == failed
    assert bench.port.strays == 0


async def test_two_peers_at_one_address_may_have_the_same_ssrc(bench: Bench) -> None:
    """Two publishers behind one node chose alike: the cipher decides."""
    here = bench.client()
    streams = []
    for _ in range(2):
        other, peer, notes = bench.client(), bench.peer(), Notes()
        here.send(check_for(peer))
        bench.work()
        other.connect(peer)
        peer.serve(notes)
        peer.ssrcs.add(7)
        streams.append((other, notes))
    for keys, _ in streams:
        here.send(keys.protect(media(1, ssrc=7)), keys.protect(media(2, ssrc=7)))
    bench.work()
    for _, notes in streams:
        assert notes.rtp == [media(1, ssrc=7), media(2, ssrc=7)]


async def test_early_media_of_one_of_several_peers_is_kept_by_its_ssrc(bench: Bench) -> None:
    """A node's next stream begins while its handshake is still being finished here."""
    here, late = bench.client(), bench.client()
    _, first, notes = late, bench.peer(), Notes()
    second = bench.peer()
    for peer in (first, second):
        here.send(check_for(peer))
    bench.work()
    bench.client().connect(first)
    first.serve(Notes())
    second.ssrcs.add(77)
    here.send(late.protect(media(1, ssrc=77)), late.protect(media(2, ssrc=77)))
    bench.work()
    assert len(second._early) == 2
    late.connect(second)
    second.serve(notes)
    assert notes.rtp == [media(1, ssrc=77), media(2, ssrc=77)]


async def test_garbage_from_a_shared_address_is_a_stray(bench: Bench) -> None:
    """It fits none of the peers, and none of them learns its SSRC."""
    here = bench.client()
    peers = []
    for _ in range(2):
        other, peer = bench.client(), bench.peer()
        here.send(check_for(peer))
        bench.work()
        other.connect(peer)
        peer.serve(Notes())
        peers.append(peer)
    for ssrc in range(200):
        here.send(media(1, ssrc=ssrc) + bytes(16))
    bench.work()
    assert bench.port.strays == 200
    assert all(not peer.ssrcs for peer in peers)


async def test_a_removed_peer_leaves_nothing_behind(bench: Bench) -> None:
    """Its addresses and its name are free again."""
    client, peer, notes = bench.joined()
    bench.port._remove(peer)
    client.send(client.protect(media()), check_for(peer))
    bench.work()
    assert notes.rtp == []
    assert client.answers() == []
    assert not bench.port._by_address
    assert not bench.port._by_ufrag


# ---------------------------------------------------------------- roaming


async def test_a_viewer_that_roams_is_followed_after_a_while(bench: Bench) -> None:
    """A nominating check from elsewhere counts once the old address has been silent for 3 s."""
    client, peer, _ = bench.joined()
    elsewhere = bench.client()
    elsewhere.send(check_for(peer))
    bench.work(1.0)
    assert peer.address == client.address
    elsewhere.send(check_for(peer, nominate=False))
    bench.work(ROAM_AFTER_S)
    assert peer.address == client.address
    elsewhere.send(check_for(peer))
    bench.work(0.1)
    assert peer.address == elsewhere.address
    assert peer.target is not None
    assert peer.target.address == elsewhere.address


async def test_media_from_another_address_of_the_peer_is_followed_at_once(bench: Bench) -> None:
    """It has proven to be there, and it is there that it sends now."""
    client, peer, notes = bench.joined()
    elsewhere = bench.client()
    elsewhere.send(check_for(peer))
    bench.work()
    elsewhere.send(client.protect(media()))
    bench.work()
    assert notes.rtp == [media()]
    assert peer.address == elsewhere.address
    assert peer.target is not None
    bench.port.fanout.send_to(peer.target, [media()])
    assert [client.receiver.open(data) for data in elsewhere.answers()[1:]] == [media()]


async def test_a_replayed_packet_moves_nobody(bench: Bench) -> None:
    """Recorded on the way and sent from elsewhere: not even from an address of another peer."""
    client, peer, notes = bench.joined()
    data = client.protect(media())
    client.send(data)
    bench.work()
    other, _, _ = bench.joined()
    bench.client().send(data)
    other.send(data)
    client.send(data)
    bench.work()
    assert notes.rtp == [media()]
    assert peer.address == client.address


async def test_a_peer_with_many_addresses_keeps_the_one_in_use(bench: Bench) -> None:
    """A machine with many network cards checks from all of them; the table stays small."""
    client, peer, notes = bench.joined()
    for number in range(10):
        bench.client().send(check_for(peer, nominate=False))
        bench.work()
        client.send(client.protect(media(number + 1)))
        bench.work()
        assert len(peer.addresses) <= MAX_ADDRESSES
        assert len(bench.port._by_address) <= MAX_ADDRESSES
    assert len(notes.rtp) == 10
    assert peer.address == client.address


# ---------------------------------------------------------------- hostile datagrams


def first_bytes() -> st.SearchStrategy[bytes]:
    """Of STUN, DTLS, RTP, RTCP and everything else."""
    return st.binary(max_size=60) | st.builds(
        lambda first, rest: bytes([first]) + rest,
        st.sampled_from([0, 1, 2, 3, 20, 21, 22, 23, 63, 127, 128, 144, 191, 192, 255]),
        st.binary(max_size=100),
    )


@given(
    strangers=st.lists(first_bytes(), max_size=10),
    known=st.lists(first_bytes(), max_size=10),
    sealed=st.lists(st.binary(min_size=10, max_size=100), max_size=10),
)
async def test_any_datagrams_are_taken_or_counted(
    strangers: list[bytes], known: list[bytes], sealed: list[bytes]
) -> None:
    """From nobody, from a known address, and under the right cipher: no error, no growth."""
    with open_port(start=False) as port:
        bench = Bench(port)
        client, _, _ = bench.joined()
        handshaking, peer = bench.client(), bench.peer()
        handshaking.send(check_for(peer))
        task = asyncio.create_task(peer.connect())
        stranger = bench.client()
        stranger.send(*strangers)
        client.send(*known)
        handshaking.send(*known)
        for data in sealed:
            head = bytes([0x80 | data[0] & 0x3F]) + data[1:]
            if len(head) >= 12 and not head[0] & 0x1F:
                client.send(client.protect(head))
        bench.work()
        for _ in range(3):
            await asyncio.sleep(0)
        assert port.errors == 0
        assert len(port._by_address) == 2
        assert len(port._by_ufrag) == 2
        assert stranger.answers() == []
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        for one in bench.clients:
            one.close()


class Feed:
    """A publisher with a good cipher at a real stream: its source, and a viewer below."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.client, self.peer, _ = bench.joined()
        audio = Leg("0", Format("audio", "OPUS"), 111, {1: AUDIO_LEVEL, 2: ABS_SEND_TIME, 4: MID})
        video = Leg("1", Format("video", "VP8"), 96, {2: ABS_SEND_TIME, 4: MID}, rtx_type=97)
        self.tracks = [Track(leg.format, ssrc) for leg, ssrc in ((audio, 11), (video, 22))]
        self.stream = Stream("class", self.tracks, bench.port)
        self.source = Source(self.stream, self.peer, [audio, video], 5, estimate=True)
        self.source.attach(None)
        self.below, below, _ = bench.joined()
        legs = {"audio": audio, "video": video}
        self.viewer = Viewer(self.stream, below, legs, is_relay=False)
        self.stream.add_viewer(self.viewer, now=bench.now)

    def turn(self, packets: list[bytes], reports: list[bytes]) -> None:
        """The publisher and the viewer send; everything that is due is done."""
        for data in packets:
            self.source.on_rtp(data, self.bench.now)
        for data in reports:
            self.source.on_rtcp(data, self.bench.now)
            self.viewer.on_rtcp(data, self.bench.now)
        self.bench.now += 0.05
        for _ in self.stream.flush(self.bench.now):
            pass
        self.stream.tick(self.bench.now)

    def assert_bounded(self) -> None:
        assert len(self.source._lines) <= MAX_LINES
        assert len(self.stream._pending) == 0
        for line in self.source._lines.values():
            assert len(line.missing._wants) <= 2000


@st.composite
def hostile_packets(draw: st.DrawFn) -> bytes:
    """RTP as a publisher in the worst of moods would send it."""
    head = bytes(
        [
            draw(st.sampled_from([0x80, 0x90, 0xA0, 0x8F, 0xB1])),
            draw(st.sampled_from([96, 97, 111])),
        ]
    )
    sequence = draw(st.sampled_from([0, 1, 2, 3, 600, 5000, 30000, 32768, 65535]))
    timestamp = draw(st.sampled_from([0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]))
    ssrc = draw(st.integers(0, 40))
    extension = b"\xbe\xde" + draw(st.integers(0, 3)).to_bytes(2, "big")
    body = draw(st.binary(max_size=60))
    fixed = sequence.to_bytes(2, "big") + timestamp.to_bytes(4, "big") + ssrc.to_bytes(4, "big")
    return head + fixed + (extension if head[0] & 0x10 else b"") + body


@st.composite
def hostile_reports(draw: st.DrawFn) -> bytes:
    """RTCP of every kind about the SSRCs at hand, and any bytes."""
    ssrc = draw(st.sampled_from([5, 11, 22, 0]) | st.integers(0, 40))
    words = draw(st.lists(st.integers(0, 0xFFFFFFFF), min_size=6, max_size=6))
    block = rtcp.ReportBlock(ssrc, words[0] & 255, 0, words[1], words[2], words[3], words[4])
    sequences = draw(st.lists(st.integers(0, 0xFFFF), min_size=1, max_size=30))
    return draw(
        st.sampled_from(
            [
                rtcp.sender_report(ssrc, words[0] << 32 | words[1], words[2], 0, 0, [block]),
                rtcp.receiver_report(ssrc, [block] * 31),
                rtcp.nack(1, ssrc, sequences),
                rtcp.pli(1, ssrc),
                rtcp.remb(1, words[5] << 20, [ssrc]),
                rtcp.bye([ssrc]),
            ]
        )
        | st.binary(max_size=100)
    )


@given(
    st.lists(
        st.tuples(st.lists(hostile_packets(), max_size=8), st.lists(hostile_reports(), max_size=3)),
        max_size=3,
    )
)
@settings(max_examples=60)
async def test_a_hostile_publisher_with_a_good_cipher_does_no_harm(
    turns: list[tuple[list[bytes], list[bytes]]],
) -> None:
    """Any RTP and RTCP behind the cipher, through source, tracks, viewer and fan-out."""
    with open_port(start=False) as port:
        bench = Bench(port)
        feed = Feed(bench)
        for packets, reports in turns:
            feed.turn(packets, reports)
            feed.assert_bounded()
        for data in feed.below.answers():
            assert 127 < data[0] < 192
        assert port.errors == 0
        for client in bench.clients:
            client.close()


async def settled(port: Port, count: int) -> None:
    await until(lambda: port.datagrams_in >= count, port)


@pytest.mark.parametrize("seed", range(2))
async def test_a_flood_of_every_kind_leaves_the_thread_alive_and_media_flowing(seed: int) -> None:
    """20,000 seeded datagrams from strangers and from the peer's own address."""
    draw = random.Random(seed)
    with open_port() as here, open_port() as there, ExitStack() as sockets:
        pair = Pair(here, there)
        await pair.connect()
        genuine = check_for(pair.callee)
        report = rtcp.receiver_report(5, []) + rtcp.nack(5, 6, [1, 2, 3])
        strangers = [
            sockets.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            for _ in range(20)
        ]
        seeds = [
            genuine,
            genuine[:20],
            ice.check("a:b", b"password", ice.new_transaction(), 1),
            bytes.fromhex("16fefd 0000 000000000000 0040 01000034 0000 000000 000034") + bytes(52),
            bytes.fromhex("15fefd 0000 000000000001 0002 0228"),
            bytes.fromhex("17fefd 0001 000000000001 0020") + bytes(32),
            media() + bytes(16),
            report + bytes(20),
            bytes(12),
            b"",
            b"\xff" * 1500,
        ]
        sent, known = there.datagrams_in, 0
        for _ in range(100):
            for _ in range(200):
                data = bytearray(draw.choice(seeds))
                for _ in range(draw.choice([0, 1, 1, 3, 20]) if data else 0):
                    data[draw.randrange(len(data))] = draw.randrange(256)
                del data[draw.choice([len(data), len(data), draw.randrange(len(data) + 1)]) :]
                if draw.random() < 0.2:
                    known += 1
                    here.send_raw(bytes(data), pair.address)
                else:
                    draw.choice(strangers).sendto(data, pair.address)
            sent += 200
            await settled(there, sent)
        assert there.errors == here.errors == 0
        assert there._thread.is_alive()
        # Addresses that sent the one genuine check untouched are the peer's own: a few are kept.
        assert len(there._by_address) <= MAX_ADDRESSES
        assert len(there._by_ufrag) == 1
        assert len(pair.callee._early) <= MAX_EARLY
        target = pair.caller.target
        assert target is not None
        before = len(pair.at_callee.rtp)
        here.call(here.fanout.send_to, target, [media(5), media(6)])
        await until(lambda: len(pair.at_callee.rtp) == before + 2, there)
        await pair.close()


async def test_a_flood_of_handshakes_for_one_peer_is_bounded() -> None:
    """A peer's queue for the loop takes so many DTLS datagrams and drops the rest."""
    with open_port(start=False) as port:
        bench = Bench(port)
        client, peer, _ = bench.joined()
        for _ in range(50):
            client.send(*[b"\x16\xfe\xfd" + bytes(200)] * 20)
            bench.work()
        await asyncio.sleep(0)
        assert peer._transport.queue.qsize() == MAX_DTLS_QUEUE
        client.close()


# ---------------------------------------------------------------- the thread


class Forwarder:
    """A stream as the port sees it; `script` is what each flush does."""

    def __init__(self, script: Callable[[], Iterator[None]] | None = None) -> None:
        self.script = script
        self.flushed = 0
        self.ticks = 0
        self.soon = False

    def has_flushed(self, times: int) -> bool:
        return self.flushed >= times

    def flush(self, now: float) -> Iterator[None]:
        if self.script is not None:
            yield from self.script()
        self.flushed += 1

    def tick(self, now: float) -> bool:
        self.ticks += 1
        return self.soon


async def test_calls_run_in_order_on_the_forwarding_thread() -> None:
    """And `finished` waits for all of them."""
    with open_port() as port:
        seen: list[tuple[int, int]] = []
        for number in range(1000):
            port.call(lambda number=number: seen.append((number, threading.get_ident())))
        await port.finished()
        assert [number for number, _ in seen] == list(range(1000))
        assert {thread for _, thread in seen} == {port._thread.ident}


async def test_a_fault_in_a_call_ends_nothing() -> None:
    """It is counted, logged, and the next call runs."""
    with open_port() as port:
        port.call(int, "no number")
        await port.finished()
        assert port.errors == 1
        assert port._thread.is_alive()


async def test_a_stream_that_fails_costs_no_other_stream_anything() -> None:
    """In its flush, in its tick, again and again."""

    def broken() -> Iterator[None]:
        yield
        raise RuntimeError

    class Broken(Forwarder):
        def tick(self, now: float) -> bool:
            super().tick(now)
            raise RuntimeError

    with open_port() as port:
        bad, good = Broken(broken), Forwarder()
        for forwarder in (bad, good):
            port.call(port.add_forwarder, forwarder)
        for _ in range(3):
            before = good.flushed
            for forwarder in (bad, good):
                port.call(port.mark, forwarder)
            port.call(port.hurry)
            await until(partial(good.has_flushed, before + 1), port)
        await until(lambda: bad.ticks >= 3 and good.ticks >= 3, port)
        assert port.errors >= 3
        assert port._thread.is_alive()


async def test_packets_that_come_during_a_flush_leave_with_the_next_one() -> None:
    """A stream's flushes never overlap."""
    with open_port() as port:
        running: list[bool] = []

        def once_more() -> Iterator[None]:
            assert not running
            running.append(True)
            port.mark(forwarder)
            yield
            yield
            running.clear()

        forwarder = Forwarder(once_more)
        port.call(port.mark, forwarder)
        await until(lambda: forwarder.flushed >= 5, port)
        forwarder.script = None
        await port.finished()
        assert port.errors == 0


async def test_a_stream_that_asks_for_it_is_called_every_few_milliseconds() -> None:
    """And one that has nothing to do ten times a second."""
    with open_port() as port:
        forwarder = Forwarder()
        forwarder.soon = True
        loop = asyncio.get_running_loop()
        port.call(port.add_forwarder, forwarder)
        port.call(port.hurry)
        began = loop.time()
        await until(lambda: forwarder.ticks >= 20, port)
        assert loop.time() - began < 1.0 * PATIENCE
        port.call(port.remove_forwarder, forwarder)
        await port.finished()
        ticks = forwarder.ticks
        port.call(port.hurry)
        await port.finished()
        await port.finished()
        assert forwarder.ticks == ticks


async def test_a_stopped_port_has_run_what_was_called_and_frees_its_number() -> None:
    """So viewers are told before the socket closes."""
    seen: list[int] = []
    with open_port() as port:
        for number in range(50):
            port.call(seen.append, number)
    assert len(seen) == 50
    assert not port._thread.is_alive()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as again:
        again.bind((HOST, port.number))


async def test_a_taken_number_is_an_error_that_leaves_no_socket_open() -> None:
    """The node says which setting to change; see test_command."""
    loop = asyncio.get_running_loop()
    # An open one would be reported as a ResourceWarning, which is an error here.
    with open_port() as port, pytest.raises(OSError, match="in use"):
        Port(HOST, port.number, loop)


async def test_a_port_for_both_families_takes_both() -> None:
    """`::` serves IPv4 clients under mapped addresses, and tells them their real ones."""
    loop = asyncio.get_running_loop()
    port = Port("::", 0, loop)
    peer = new_peer(port)
    port._add(peer)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.bind((HOST, 0))
        client.settimeout(5)
        client.sendto(check_for(peer), (HOST, port.number))
        port._drain(1.0)
        answer = stun.parse_message(client.recv(2048))
        assert answer.attributes["XOR-MAPPED-ADDRESS"] == client.getsockname()
        receiver = Receiver()
        peer.target = Target(receiver.pointer, 16, peer.address or (), port.family)
        port.fanout.send_to(peer.target, [media(number) for number in range(10)])
        got = [receiver.open(client.recv(2048)) for _ in range(10)]
        assert got == [media(number) for number in range(10)]
        receiver.close()
    port.stop()
