"""Packets that came in one message: the outcome is that of the same packets one by one."""

from __future__ import annotations

import random
import struct
from collections.abc import AsyncIterator, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay import packet as rtp
from relay.fanout import SOL_UDP, UDP_GRO, UDP_SEGMENT, runs
from relay.packet import ABS_SEND_TIME, MAX_INGEST_SIZE, Shape
from relay.port import Port
from relay.run import DATAGRAM_SIZE, MESSAGE_SIZE, Room, Run
from relay.sdp import Format, Leg
from relay.source import Source
from relay.stream import Stream
from relay.track import Track
from tests.relay import rows
from tests.relay.loopback import open_port
from tests.relay.test_port import Client, check_for, new_peer

VIDEO = Leg("1", Format("video", "VP8"), 96, {2: ABS_SEND_TIME}, ssrc=100)
AUDIO = Leg("0", Format("audio", "OPUS"), 111, {})
SHAPE = Shape.negotiated(96, VIDEO.extensions)
OVERHEAD = 16


def from_node(
    sequence: int, timestamp: int, payload: bytes, *, marker: bool = False, ssrc: int = 100
) -> bytes:
    """A packet as a node above sends it."""
    sequence &= 0xFFFF
    plain = rows.packet(sequence, timestamp, payload, ssrc=ssrc, marker=marker)
    parsed = rtp.parse(plain, rtp.ExtensionIds({}))
    return rtp.reshape(rtp.canonical(plain, parsed, sequence, timestamp, ssrc, 77), SHAPE)


def frame(
    first: int, timestamp: int, count: int, *, key: bool = False, size: int = 90, ssrc: int = 100
) -> list[bytes]:
    """The packets of one frame."""
    heads = [rows.VP8_KEY if key else rows.VP8_DELTA] + [rows.VP8_MORE] * (count - 1)
    bodies = [head + bytes(size - len(head)) for head in heads]
    return [
        from_node(first + i, timestamp, body, marker=i == count - 1, ssrc=ssrc)
        for i, body in enumerate(bodies)
    ]


class Below:
    """A node below another: one pulled stream at a port, and the parent's socket."""

    def __init__(self, port: Port) -> None:
        self.port = port
        self.client, peer = Client(port), new_peer(port)
        port._add(peer)
        self.client.send(check_for(peer))
        port._drain(1000.0)
        self.client.connect(peer)
        self.client.answers()
        self.peer = peer
        self.picture, self.sound = Track(VIDEO.format, 100), Track(AUDIO.format, 11)
        self.stream = Stream("class", [self.sound, self.picture], port)
        self.source = Source(self.stream, peer, [AUDIO, VIDEO], 5, estimate=False, from_node=True)
        self.source.attach(None)
        self.runs: list[int] = []
        take = self.source.on_run

        def noted(run: Run, now: float) -> None:
            self.runs.append(run.count)
            take(run, now)

        self.source.on_run = noted  # type: ignore[method-assign]

    def one_by_one(self, packets: list[bytes]) -> None:
        self.client.send(*map(self.client.protect, packets))

    def joined(self, packets: list[bytes], *, spoil: int = -1) -> None:
        """As a node sends them: one message for each run of equally long packets."""
        sent = [bytearray(self.client.protect(p)) for p in packets]
        if spoil >= 0:
            sent[spoil][-1] ^= 1
        for first, count, segment in runs([len(p) for p in sent], gso=True):
            control = [(SOL_UDP, UDP_SEGMENT, struct.pack("H", segment))] if count > 1 else []
            self.client.socket.sendmsg(
                [b"".join(sent[first : first + count])], control, 0, self.client.there
            )

    def state(self) -> list[object]:
        """All that packets leave behind at a node."""
        track, line = self.picture, self.source._lines[100]
        return [
            [track.get(p) for p in range(track.oldest, track.highest + 1)],
            [track.highest, track.packets, track.bytes, track.last_arrival_s],
            [track.keyframe_position, track.keyframes, track.keyframe_at_s, track.late],
            track.numbering,
            line.missing,
            [line.received, line.highest, line.cycles, line.jitter, line.transit],
            [line.expected_base, line.last_timestamp],
            [kept for _, kept in self.stream._pending],
            [self.source.bytes, self.source.last_media_s, self.source.bad_packets],
            self.peer.bad_packets,
        ]


@pytest.fixture
async def below() -> AsyncIterator[Callable[[], Below]]:
    with open_port(start=False) as port:
        made: list[Below] = []

        def make() -> Below:
            made.append(Below(port))
            return made[-1]

        yield make
        for one in made:
            one.client.close()


def work(node: Below, now: float) -> None:
    """What has arrived is taken."""
    node.port._drain(now)


@pytest.mark.parametrize("seed", range(12))
async def test_a_run_leaves_what_its_packets_leave_one_by_one(
    below: Callable[[], Below], seed: int
) -> None:
    """Frames of all sizes, across the turn of the numbers, with gaps, repeats and late packets."""
    chance = random.Random(seed)
    alone, together = below(), below()
    sequence, timestamp, now = 0xFFFF - chance.randrange(60), 2**32 - 9000 * seed - 1, 1000.0
    held_back: list[bytes] = []
    for _ in range(60):
        packets = frame(
            sequence, timestamp & 0xFFFFFFFF, chance.choice([1, 2, 3, 8, 45, 70]),
            key=chance.random() < 0.2, size=chance.choice([90, 400]),
        )  # fmt: skip
        sequence, timestamp, now = sequence + len(packets), timestamp + 3600, now + 0.04
        if chance.random() < 0.3:
            # The last packet is shorter, as encoders cut.
            packets[-1] = packets[-1][: -chance.randrange(1, 60)]
        if chance.random() < 0.2 and len(packets) > 1:
            held_back.append(packets.pop(chance.randrange(len(packets))))
        elif chance.random() < 0.2:
            packets += held_back
            held_back.clear()
        elif chance.random() < 0.1:
            sequence += 3
        alone.one_by_one(packets)
        together.joined(packets)
        for node in (alone, together):
            work(node, now)
    assert together.state() == alone.state()
    assert not alone.runs
    assert len(together.runs) > 10, "the frames were to come as runs"


@pytest.mark.parametrize("ssrc", [200, 100])
async def test_two_streams_of_one_node_are_told_apart(
    below: Callable[[], Below], ssrc: int
) -> None:
    """They come from one address; were their SSRCs the same, the ciphers would still differ."""
    first, second = below(), below()
    from_there = first.client.socket
    from_there.sendto(check_for(second.peer), first.client.there)
    second.client.socket, own = from_there, second.client.socket
    for turn in range(4):
        number = 10 * turn
        first.joined(frame(number, 3600 * turn, 10))
        second.joined(frame(number, 3600 * turn, 10, ssrc=ssrc))
        work(first, 1000.0 + turn)
    own.close()
    assert first.picture.packets == second.picture.packets == 40
    assert bool(first.runs and second.runs) == (ssrc == 200)


async def test_a_forged_packet_costs_itself_alone(below: Callable[[], Below]) -> None:
    """Its neighbours in the message are kept, and it is asked for again."""
    node = below()
    node.one_by_one(frame(1, 90, 2))
    work(node, 1000.0)
    node.joined(frame(3, 3690, 10, key=True), spoil=4)
    work(node, 1000.04)
    assert node.peer.bad_packets == 1
    assert node.source._lines[100].missing.due(1000.1) == [7]
    kept = [node.picture.get(p) for p in range(0x10000 + 3, 0x10000 + 13)]
    assert [k is None for k in kept] == [i == 4 for i in range(10)]
    assert node.runs == []


async def test_what_was_had_before_is_not_taken_again(below: Callable[[], Below]) -> None:
    """A message that is repeated on the way leaves nothing."""
    node = below()
    node.one_by_one(frame(1, 90, 2))
    packets = frame(3, 3690, 10)
    sent = [node.client.protect(p) for p in packets]
    whole = b"".join(sent)
    for _ in range(2):
        control = [(SOL_UDP, UDP_SEGMENT, struct.pack("H", len(sent[0])))]
        node.client.socket.sendmsg([whole], control, 0, node.client.there)
    work(node, 1000.0)
    assert node.runs == [10]
    assert node.picture.packets == 12


async def test_checks_and_reports_in_one_message_are_each_answered(
    below: Callable[[], Below],
) -> None:
    """Joined is what is equally long: that may be anything."""
    node = below()
    checks = [check_for(node.peer) for _ in range(3)]
    assert len({len(c) for c in checks}) == 1
    control = [(SOL_UDP, UDP_SEGMENT, struct.pack("H", len(checks[0])))]
    node.client.socket.sendmsg([b"".join(checks)], control, 0, node.client.there)
    work(node, 1000.0)
    assert len(node.client.answers()) == 3


def put(room: Room, packets: list[bytes]) -> tuple[int, int]:
    """Let a room have received these; returns the message's size and its segments'."""
    message = b"".join(packets)
    room.memory[: len(message)] = message
    return len(message), len(packets[0])


GOOD = [p + bytes(OVERHEAD) for p in frame(65534, 900, 5)]


def test_a_frame_is_a_run() -> None:
    """Its numbers may turn on the way; the last packet may be shorter, and has the marker."""
    room = Room()
    run = room.run(*put(room, [*GOOD[:-1], GOOD[-1][:-7]]))
    assert run is not None
    assert (run.count, run.sequence, run.timestamp, run.ssrc) == (5, 65534, 900, 100)
    assert run.marker
    assert run.extension == rtp.ExtensionIds({2: ABS_SEND_TIME}).send_time_alone
    longest = [p + bytes(MAX_INGEST_SIZE - len(p)) for p in GOOD]
    assert room.run(*put(room, longest)) is not None


def changed(index: int, at: int, value: int) -> list[bytes]:
    """The frame with one byte of one packet changed."""
    packets = list(map(bytearray, GOOD))
    packets[index][at] = value
    return list(map(bytes, packets))


@pytest.mark.parametrize(
    "packets",
    [
        pytest.param(GOOD[:1], id="one packet"),
        pytest.param([*GOOD[:2], *GOOD[3:]], id="a gap"),
        pytest.param([GOOD[1], GOOD[0]], id="out of order"),
        pytest.param([GOOD[0], GOOD[0]], id="twice the same"),
        pytest.param(changed(2, 1, 96 | 128), id="a frame's end in the middle"),
        pytest.param(changed(0, 1, 96 | 128), id="a frame's end at the begin"),
        pytest.param(changed(3, 1, 97), id="two payload types"),
        pytest.param(changed(4, 1, 200), id="a report at the end"),
        pytest.param(changed(1, 7, 1), id="two frames"),
        pytest.param(changed(1, 11, 1), id="two lines"),
        pytest.param(changed(1, 0, 0xB0), id="padding"),
        pytest.param(changed(0, 0, 0x80), id="no extension"),
        pytest.param(changed(4, 0, 0x91), id="a contributing source"),
        pytest.param(changed(2, 15, 2), id="a longer extension"),
        pytest.param(changed(2, 16, 0x12), id="another element"),
        pytest.param([GOOD[0], GOOD[1][:20]], id="no payload"),
        pytest.param(
            [p + bytes(MAX_INGEST_SIZE + 1 - len(p)) for p in GOOD],
            id="longer than a packet may be",
        ),
        pytest.param([p + bytes(DATAGRAM_SIZE) for p in GOOD], id="longer than a datagram may be"),
    ],
)
def test_what_is_no_run(packets: list[bytes]) -> None:
    """It goes the ordinary way, datagram by datagram."""
    room = Room()
    size, segment = put(room, packets)
    assert room.run(size, segment) is None
    assert room.datagrams(size, segment) == [p[:DATAGRAM_SIZE] for p in packets]


@given(st.binary(max_size=4096), st.integers(1, 5000))
def test_no_message_does_harm(message: bytes, segment: int) -> None:
    """Whatever the bytes and the kernel's word on where to cut them."""
    room = Room()
    room.memory[: len(message)] = message
    room.run(len(message), segment)
    datagrams = room.datagrams(len(message), segment)
    if segment <= DATAGRAM_SIZE:
        assert b"".join(datagrams) == message
    assert all(len(d) <= DATAGRAM_SIZE for d in datagrams)


def test_the_longest_message_fits() -> None:
    """The last datagram ends within the room, though it is looked at as if it were whole."""
    room = Room()
    for segment in (21, 500, 1200, DATAGRAM_SIZE):
        room.run(MESSAGE_SIZE, segment)
        assert b"".join(room.datagrams(MESSAGE_SIZE, segment)) == bytes(MESSAGE_SIZE)


async def test_the_socket_joins_where_the_system_can(below: Callable[[], Below]) -> None:
    """As `terrace doctor` says."""
    port = below().port
    assert port.fanout.abilities.gro
    assert port._sock.getsockopt(SOL_UDP, UDP_GRO)
