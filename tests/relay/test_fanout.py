"""The fan-out on real sockets: what leaves it, opened with each viewer's key, and what does not."""

from __future__ import annotations

import ctypes
import errno
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay import fanout as module
from relay import rtcp
from relay.fanout import (
    GSO_BYTES,
    GSO_SEGMENTS,
    MAX_PACKET_SIZE,
    Abilities,
    Fanout,
    Group,
    Target,
    probe,
    runs,
)
from tests.relay import loopback
from tests.relay.loopback import CM, GCM, OVERHEAD, Receiver, receivers, sender

WAYS = [
    pytest.param(Abilities(gso=True, sendmmsg=True), id="GSO"),
    pytest.param(Abilities(gso=False, sendmmsg=True), id="no GSO"),
    pytest.param(Abilities(gso=False, sendmmsg=False), id="no sendmmsg"),
]
PROFILES = [pytest.param(GCM, id="GCM"), pytest.param(CM, id="CM")]


def packet(sequence: int, size: int, ssrc: int = 0x11223344) -> bytes:
    """A canonical packet of so many bytes, whose payload tells what it is."""
    head = bytes.fromhex("9060") + sequence.to_bytes(2, "big") + bytes(4) + ssrc.to_bytes(4, "big")
    head += bytes.fromhex("bede0001 12000000")
    return (head + f"PLAIN{sequence}".encode()).ljust(size, b".")[:size]


def batch(*sizes: int, first: int = 1) -> list[bytes]:
    return [packet((first + i) & 0xFFFF, size) for i, size in enumerate(sizes)]


FRAME = batch(1172, 1172, 1172, 1172, 400, 120, 1173, 1173, 90, first=65530)
"""Two frames and sound between them, across the wrap."""


def spend(job: Iterator[None]) -> int:
    """Run a send to its end; returns how many chunks it took."""
    return sum(1 for _ in job)


def group_of(viewers: list[Receiver]) -> Group:
    group = Group(viewers[0].target.overhead)
    for viewer in viewers:
        group.add(viewer.target)
    return group


# ---------------------------------------------------------------- runs


@pytest.mark.parametrize(
    ("sizes", "want"),
    [
        pytest.param([], [], id="nothing"),
        pytest.param([1200], [(0, 1, 1200)], id="one packet"),
        pytest.param([1200, 1200, 1200], [(0, 3, 1200)], id="equal packets are one run"),
        pytest.param([1200, 1200, 300], [(0, 3, 1200)], id="the last may be shorter"),
        pytest.param(
            [1200, 300, 300], [(0, 2, 1200), (2, 1, 300)], id="after a shorter one the run is over"
        ),
        pytest.param([300, 1200], [(0, 1, 300), (1, 1, 1200)], id="a longer one begins a run"),
        pytest.param(
            [1200, 1200, 400, 120, 1200, 1200, 90],
            [(0, 3, 1200), (3, 1, 120), (4, 3, 1200)],
            id="a frame's rest, sound, a frame",
        ),
        pytest.param(
            [1199, 1200, 1200], [(0, 1, 1199), (1, 2, 1200)], id="Chromium: one byte more later"
        ),
        pytest.param(
            [100] * (GSO_SEGMENTS + 1),
            [(0, GSO_SEGMENTS, 100), (GSO_SEGMENTS, 1, 100)],
            id="no more segments than the kernel takes",
        ),
        pytest.param(
            [1400] * 47, [(0, 46, 1400), (46, 1, 1400)], id="no more bytes than the kernel takes"
        ),
    ],
)
def test_packets_are_cut_into_runs(sizes: list[int], want: list[tuple[int, int, int]]) -> None:
    """Rows: first packet, how many, segment size."""
    assert runs(sizes, gso=True) == want


def test_without_gso_each_packet_is_a_run() -> None:
    """Where the kernel cannot segment."""
    assert runs([1200, 1200, 300], gso=False) == [(0, 1, 1200), (1, 1, 1200), (2, 1, 300)]


@given(st.lists(st.integers(20, 1472), max_size=150))
def test_runs_are_what_gso_can_carry(sizes: list[int]) -> None:
    """In order, complete, and within the kernel's rules."""
    at = 0
    for first, count, segment in runs(sizes, gso=True):
        assert first == at
        at += count
        part = sizes[first:at]
        assert all(size == segment for size in part[:-1])
        assert 0 < part[-1] <= segment
        assert count <= GSO_SEGMENTS
        assert sum(part) <= GSO_BYTES
    assert at == len(sizes)


# ---------------------------------------------------------------- what arrives


@pytest.mark.parametrize("abilities", WAYS)
@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize(
    "packets",
    [
        pytest.param(FRAME, id="two frames"),
        pytest.param(batch(1172), id="one packet"),
        pytest.param(batch(*[1200] * 70), id="more than a layout holds"),
        pytest.param(batch(*range(21, 80)), id="each longer than the one before"),
        pytest.param(batch(*range(80, 21, -1)), id="each shorter than the one before"),
        pytest.param(batch(MAX_PACKET_SIZE, MAX_PACKET_SIZE), id="the longest packets"),
    ],
)
def test_every_viewer_gets_the_very_packets(
    abilities: Abilities, profile: int, packets: list[bytes]
) -> None:
    """Each viewer's datagrams, opened with its key, are the batch in order, and nothing else."""
    with sender() as sock, receivers(7, profile) as viewers:
        fanout = Fanout(sock, abilities)
        spend(fanout.send(group_of(viewers), packets))
        for viewer in viewers:
            assert viewer.packets() == packets
        counters = fanout.counters
        assert counters.packets == 7 * len(packets)
        assert counters.bytes == 7 * sum(len(p) + OVERHEAD[profile] for p in packets)
        assert counters.dropped_full == counters.dropped_error == counters.protect_failed == 0


@pytest.mark.parametrize("abilities", WAYS)
def test_many_viewers_are_served_chunk_by_chunk(abilities: Abilities) -> None:
    """The caller gets a turn after each chunk."""
    packets = batch(*[1172] * 15, 500)
    with sender() as sock, receivers(40) as viewers:
        fanout = Fanout(sock, abilities)
        assert spend(fanout.send(group_of(viewers), packets)) == 3
        for viewer in viewers:
            assert viewer.packets() == packets


def test_the_chunk_that_goes_first_changes() -> None:
    """When the buffer is full it must not always be the same viewers who lose."""
    with sender() as sock, receivers(12) as viewers:
        fanout = Fanout(sock, Abilities(gso=True, sendmmsg=True))
        group = group_of(viewers)
        first = []
        for turn in range(3):
            job = fanout.send(group, batch(*[100] * 64, first=1 + 64 * turn))
            next(job)
            first.append({i for i, viewer in enumerate(viewers) if viewer.datagrams()})
            spend(job)
            for viewer in viewers:
                viewer.datagrams()
        assert all(len(served) == 4 for served in first)
        assert set.union(*first) == set(range(12))


@pytest.mark.parametrize("abilities", WAYS)
def test_what_is_sent_between_two_chunks_disturbs_nobody(abilities: Abilities) -> None:
    """Repairs, joiners and reports use the same slots while a batch is half sent."""
    packets = batch(*[1172] * 15, 500)
    repair = batch(*[333] * 9, first=1000)
    report = rtcp.receiver_report(7, [])
    with sender() as sock, receivers(40) as viewers, receivers(1) as (other,):
        fanout = Fanout(sock, abilities)
        for _ in fanout.send(group_of(viewers), packets):
            fanout.send_to(other.target, repair)
            fanout.send_to(other.target, repair[:2])
            fanout.send_rtcp([other.target], report)
        for viewer in viewers:
            assert viewer.packets() == packets
        got = other.datagrams()
        assert len(got) == 3 * (9 + 2 + 1)
        assert [other.rx.unprotect(data) for data in got[:9]] == repair
        assert other.rx.unprotect_rtcp(got[11]) == report


@pytest.mark.parametrize("abilities", WAYS)
def test_viewers_come_and_go_between_batches(abilities: Abilities) -> None:
    """Who left gets nothing more, who came gets the next batch."""
    with sender() as sock, receivers(9) as viewers:
        fanout = Fanout(sock, abilities)
        group = group_of(viewers[:8])
        spend(fanout.send(group, batch(100, 100, first=1)))
        group.remove(viewers[3].target)
        group.add(viewers[8].target)
        spend(fanout.send(group, batch(100, 100, first=3)))
        counts = [len(viewer.packets()) for viewer in viewers]
        assert counts == [4, 4, 4, 2, 4, 4, 4, 4, 2]


@pytest.mark.parametrize("abilities", WAYS)
@pytest.mark.parametrize("count", [1, 20])
def test_a_viewer_that_has_moved_gets_the_next_batch_there(
    abilities: Abilities, count: int
) -> None:
    """Roaming changes the address in place, without a new group."""
    with sender() as sock, receivers(3) as viewers, receivers(1) as (elsewhere,):
        fanout = Fanout(sock, abilities)
        group = group_of(viewers)
        spend(fanout.send(group, batch(*[100] * count, first=1)))
        viewers[1].target.move(elsewhere.socket.getsockname(), socket.AF_INET)
        later = batch(*[100] * count, first=100)
        spend(fanout.send(group, later))
        assert len(viewers[1].packets()) == count
        assert [viewers[1].open(data) for data in elsewhere.datagrams()] == later
        assert len(viewers[0].packets()) == len(viewers[2].packets()) == 2 * count


@pytest.mark.parametrize("abilities", WAYS)
@pytest.mark.parametrize("count", [2, 20])
def test_ipv6_viewers_get_the_very_packets(abilities: Abilities, count: int) -> None:
    """The same over ::1, with longer addresses."""
    packets = batch(*[1172] * count)
    report = rtcp.receiver_report(7, [])
    family = socket.AF_INET6
    with sender(family) as sock, receivers(5, family=family) as viewers:
        fanout = Fanout(sock, abilities)
        spend(fanout.send(group_of(viewers), packets))
        fanout.send_rtcp([viewer.target for viewer in viewers], report)
        for viewer in viewers:
            *media, control = viewer.datagrams()
            assert [viewer.rx.unprotect(data) for data in media] == packets
            assert viewer.rx.unprotect_rtcp(control) == report


@pytest.mark.parametrize("abilities", WAYS)
@pytest.mark.parametrize("sizes", [[100], [1172] * 30, [1172] * 130])
def test_one_viewer_gets_its_repair(abilities: Abilities, sizes: list[int]) -> None:
    """`send_to` for few, for some, and for more than a layout holds."""
    with sender() as sock, receivers(1) as (viewer,):
        fanout = Fanout(sock, abilities)
        fanout.send_to(viewer.target, batch(*sizes))
        assert viewer.packets() == batch(*sizes)
        assert fanout.counters.packets == len(sizes)


def test_a_report_reaches_all_viewers_and_too_long_a_one_nobody() -> None:
    """Each gets it under its own cipher."""
    report = rtcp.receiver_report(7, []) + rtcp.sdes_cname(7, "terrace")
    with sender() as sock, receivers(4) as viewers:
        fanout = Fanout(sock, Abilities(gso=True, sendmmsg=True))
        fanout.send_rtcp([viewer.target for viewer in viewers], report)
        fanout.send_rtcp([viewer.target for viewer in viewers], bytes(MAX_PACKET_SIZE + 1))
        for viewer in viewers:
            (data,) = viewer.datagrams()
            assert data != report
            assert viewer.rx.unprotect_rtcp(data) == report


# ---------------------------------------------------------------- what must not leave


def assert_no_plain_text(viewers: list[Receiver]) -> list[list[bytes]]:
    """No datagram shows a payload; returns what each viewer got, opened."""
    opened = []
    for viewer in viewers:
        data = viewer.datagrams()
        assert not [d for d in data if b"PLAIN" in d]
        opened.append([viewer.rx.unprotect(d) for d in data])
    return opened


@pytest.mark.parametrize("abilities", WAYS)
@pytest.mark.parametrize(
    "packets",
    [
        pytest.param(batch(900), id="one packet"),
        pytest.param(batch(*[900] * 12), id="one run"),
        pytest.param(batch(900, 900, 100, 100, 900, 900, 90, 80, 70), id="several runs"),
    ],
)
@pytest.mark.parametrize("profile", PROFILES)
def test_a_packet_whose_protection_failed_never_leaves(
    abilities: Abilities, packets: list[bytes], profile: int
) -> None:
    """Its slot still holds plain text. Here two ciphers refuse numbers that they have used."""
    with sender() as sock, receivers(5, profile, repeats=False) as viewers:
        fanout = Fanout(sock, abilities)
        spent = [viewers[0], viewers[3]]
        for viewer in spent:
            for data in packets:
                viewer.tx.protect(data)
        spend(fanout.send(group_of(viewers), packets))
        got = assert_no_plain_text(viewers)
        assert got == [[], packets, packets, [], packets]
        assert fanout.counters.protect_failed == 2 * len(packets)
        assert fanout.counters.packets == 3 * len(packets)


@pytest.mark.parametrize("abilities", WAYS)
@pytest.mark.parametrize("count", [3, 12])
def test_only_the_packets_that_could_not_be_protected_are_missing(
    abilities: Abilities, count: int
) -> None:
    """One viewer's cipher refuses one packet in the middle of a run: the others of it go out."""
    packets = batch(*[900] * count)
    with sender() as sock, receivers(5, repeats=False) as viewers:
        fanout = Fanout(sock, abilities)
        viewers[2].tx.protect(packets[1])
        spend(fanout.send(group_of(viewers), packets))
        got = assert_no_plain_text(viewers)
        rest = [packets[0], *packets[2:]]
        assert got == [packets, packets, rest, packets, packets]
        assert fanout.counters.protect_failed == 1
        assert fanout.counters.packets == 5 * count - 1


@pytest.mark.parametrize("count", [1, 12])
def test_a_repair_that_cannot_be_protected_never_leaves(count: int) -> None:
    """The same when only one viewer is sent to, and for reports."""
    packets = batch(*[900] * count)
    with sender() as sock, receivers(1, repeats=False) as (viewer,):
        fanout = Fanout(sock, Abilities(gso=True, sendmmsg=True))
        fanout.send_to(viewer.target, packets)
        viewer.datagrams()
        fanout.send_to(viewer.target, packets)
        assert viewer.datagrams() == []
        assert fanout.counters.protect_failed == count


@pytest.mark.parametrize("abilities", WAYS)
@pytest.mark.parametrize("count", [1, 12])
def test_a_packet_that_fits_no_slot_is_an_error_and_nothing_leaves(
    abilities: Abilities, count: int
) -> None:
    """The source refuses such packets; this is the last line."""
    packets = batch(*[900] * (count - 1), MAX_PACKET_SIZE + 1)
    with sender() as sock, receivers(7) as viewers:
        fanout = Fanout(sock, abilities)
        with pytest.raises(ValueError, match="does not fit a slot"):
            spend(fanout.send(group_of(viewers), packets))
        if count > 1:
            assert_no_plain_text(viewers)
        # And the next batch is not spoilt by it.
        spend(fanout.send(group_of(viewers), batch(*[100] * 12, first=50)))
        for viewer in viewers:
            assert viewer.packets()[-12:] == batch(*[100] * 12, first=50)


# ---------------------------------------------------------------- what cannot leave


def nowhere(like: Receiver) -> Target:
    """A destination that the kernel refuses with EINVAL: port 0."""
    return Target(like.pointer, like.target.overhead, ("127.0.0.1", 0), socket.AF_INET)


@pytest.mark.parametrize("abilities", WAYS)
@pytest.mark.parametrize("place", [0, 3, 7])
@pytest.mark.parametrize("packets", [batch(100), FRAME], ids=["one packet", "two frames"])
def test_a_bad_destination_costs_nobody_else(
    abilities: Abilities, place: int, packets: list[bytes]
) -> None:
    """The kernel stops at that message; what is behind it still goes out."""
    with sender() as sock, receivers(7) as viewers, receivers(1) as (lost,):
        fanout = Fanout(sock, abilities)
        targets = [viewer.target for viewer in viewers]
        targets.insert(place, nowhere(lost))
        group = Group(16)
        for target in targets:
            group.add(target)
        spend(fanout.send(group, packets))
        for viewer in viewers:
            assert viewer.packets() == packets
        assert fanout.counters.dropped_error == len(packets)
        assert fanout.counters.packets == 7 * len(packets)
        assert fanout.counters.bytes == 7 * sum(len(p) + 16 for p in packets)


def test_a_bad_destination_of_a_single_datagram_is_counted() -> None:
    """STUN and DTLS go this way; nothing is raised."""
    with sender() as sock:
        fanout = Fanout(sock, Abilities(gso=True, sendmmsg=True))
        fanout.send_raw(b"data", ("127.0.0.1", 0))
        assert fanout.counters.dropped_error == 1


Send = Callable[[int, int, int, int], int]


class Kernel:
    """sendmmsg of a kernel whose buffer has room for so many messages in each call.

    A loopback interface never fills a buffer, so the answers of a full one are made here; what
    there is room for is really sent.
    """

    def __init__(self, room: list[int], code: int = errno.EAGAIN) -> None:
        self.real: Any = module._find_sendmmsg()
        self.room = list(room)
        self.code = code
        self.calls: list[int] = []

    def __call__(self, fd: int, where: int, count: int, flags: int) -> int:
        self.calls.append(count)
        room = self.room.pop(0) if self.room else count
        if room == 0:
            ctypes.set_errno(self.code)
            return -1
        sent: int = self.real(fd, where, min(room, count), flags)
        return sent


@pytest.mark.parametrize("gso", [True, False])
@pytest.mark.parametrize(
    ("room", "waits"),
    [
        pytest.param([3], 0, id="a partial send"),
        pytest.param([3, 1, 1], 0, id="several partial sends"),
        pytest.param([0, 0], 1, id="full at first"),
        pytest.param([3, 0], 1, id="full in the middle"),
    ],
)
def test_a_buffer_that_fills_up_and_drains_loses_nothing(
    gso: bool, room: list[int], waits: int
) -> None:
    """The rest is sent where the kernel stopped, after one short wait if it was full."""
    with sender() as sock, receivers(7) as viewers:
        fanout = Fanout(sock, Abilities(gso=gso, sendmmsg=True))
        fanout._sendmmsg = Kernel(room)
        spend(fanout.send(group_of(viewers), FRAME))
        for viewer in viewers:
            assert viewer.packets() == FRAME
        assert fanout.counters.packets == 7 * len(FRAME)
        assert fanout.counters.bytes == 7 * sum(len(p) + 16 for p in FRAME)
        assert fanout.counters.full_waits == waits
        assert fanout.counters.dropped_full == 0


@pytest.mark.parametrize("gso", [True, False])
@pytest.mark.parametrize("code", [errno.EAGAIN, errno.ENOBUFS])
def test_a_buffer_that_stays_full_drops_the_rest_and_counts_it(gso: bool, code: int) -> None:
    """One wait for the whole call, never a stall; the next batch is tried again."""
    packets = batch(*map(len, FRAME))
    with sender() as sock, receivers(7) as viewers:
        fanout = Fanout(sock, Abilities(gso=gso, sendmmsg=True))
        per_viewer = len(runs([len(p) + 16 for p in packets], gso))
        kernel = Kernel([2 * per_viewer, 0, 0, 0], code)
        fanout._sendmmsg = kernel
        group = group_of(viewers)
        spend(fanout.send(group, packets))
        assert [len(viewer.packets()) for viewer in viewers] == [len(packets)] * 2 + [0] * 5
        assert fanout.counters.packets == 2 * len(packets)
        assert fanout.counters.dropped_full == 5 * len(packets)
        assert fanout.counters.full_waits == 1
        kernel.room = []
        later = batch(*[800] * 9, first=100)
        spend(fanout.send(group, later))
        for viewer in viewers:
            assert viewer.packets() == later


def test_an_interrupted_send_goes_on() -> None:
    """EINTR means nothing was sent."""
    with sender() as sock, receivers(7) as viewers:
        fanout = Fanout(sock, Abilities(gso=True, sendmmsg=True))
        fanout._sendmmsg = Kernel([2, 0, 0], errno.EINTR)
        spend(fanout.send(group_of(viewers), FRAME))
        for viewer in viewers:
            assert viewer.packets() == FRAME
        assert fanout.counters.full_waits == 0


def test_a_device_that_cannot_segment_is_not_asked_again() -> None:
    """EIO on a run: this batch and all that follow go packet by packet, and nothing is lost."""
    packets = batch(*[1172] * 15, 500)
    with sender() as sock, receivers(40) as viewers:
        fanout = Fanout(sock, Abilities(gso=True, sendmmsg=True))
        kernel = Kernel([0], errno.EIO)
        fanout._sendmmsg = kernel

        def without_gso(fd: int, where: int, count: int, flags: int) -> int:
            # As such a device answers: a message of one packet passes, a run does not.
            lengths = fanout._messages["iovlen"][:count]
            if any(length > 1 for length in lengths):
                ctypes.set_errno(errno.EIO)
                return -1
            sent: int = kernel.real(fd, where, count, flags)
            return sent

        fanout._sendmmsg = without_gso
        assert spend(fanout.send(group_of(viewers), packets)) == 3
        later = batch(*[1172] * 15, first=100)
        spend(fanout.send(group_of(viewers), later))
        for viewer in viewers:
            assert viewer.packets() == packets + later
        assert fanout.counters.dropped_error == 0
        assert not fanout.abilities.gso
        assert "GSO" in fanout.abilities.note


# ---------------------------------------------------------------- what the system can do


@pytest.mark.parametrize(
    ("forced", "want"),
    [("packets", Abilities(False, False, "TERRACE_SEND=packets")), ("messages", None)],
)
def test_the_slower_ways_can_be_forced(
    monkeypatch: pytest.MonkeyPatch, forced: str, want: Abilities | None
) -> None:
    """For a comparison, and for systems whose kernel says it can what it cannot."""
    monkeypatch.setenv("TERRACE_SEND", forced)
    found = probe()
    if want is not None:
        assert found == want
    assert not found.gso
    assert found.note == f"TERRACE_SEND={forced}"


def test_what_the_system_can_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Something is said where something is missing, and only there."""
    monkeypatch.delenv("TERRACE_SEND", raising=False)
    found = probe()
    assert bool(found.note) == (not found.gso)
    assert found.sendmmsg or not found.gso


def test_without_sendmmsg_the_note_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """A C library that lacks the call."""
    monkeypatch.delenv("TERRACE_SEND", raising=False)
    monkeypatch.setattr(module, "_find_sendmmsg", lambda: None)
    assert probe() == Abilities(
        False, False, "no sendmmsg on this system: one system call per packet"
    )


def test_addresses_are_packed_as_the_kernel_has_them() -> None:
    """And back, for the way without sendmmsg."""
    v4, v6 = ("192.0.2.1", 8710), ("2001:db8::1", 8710, 5, 2)
    for address, family in ((v4, socket.AF_INET), (v6, socket.AF_INET6)):
        packed = module.socket_address(address, family)
        assert module._from_socket_address(packed, family) == address
    assert len(module.socket_address(v4, socket.AF_INET)) == 16
    assert len(module.socket_address(v6, socket.AF_INET6)) == 28
    # A link-local address comes with its scope in the name as well.
    scoped = module.socket_address(("fe80::1%eth0", 1, 0, 7), socket.AF_INET6)
    assert module._from_socket_address(scoped, socket.AF_INET6) == ("fe80::1", 1, 0, 7)


def test_the_receivers_of_these_tests_reject_what_is_not_theirs() -> None:
    """The proof of the other tests: one viewer cannot open what another one got."""
    with sender() as sock, receivers(2) as (one, other):
        Fanout(sock, Abilities(gso=True, sendmmsg=True)).send_to(one.target, batch(100))
        (data,) = one.datagrams()
        assert other.open(data) is None
        assert one.open(data) == packet(1, 100)
        assert loopback.OVERHEAD[GCM] == len(data) - 100
