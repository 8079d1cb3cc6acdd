"""Redundant audio: RFC 2198 packets from the ring, read back block by block."""

from __future__ import annotations

from relay import packet as rtp
from relay import red
from relay.packet import ExtensionIds
from relay.sdp import Format
from relay.track import Track

IDS = ExtensionIds({})
RED, OPUS = 63, 111


def ring(
    sizes: list[int], missing: tuple[int, ...] = (), step: int = 960
) -> tuple[Track, list[bytes]]:
    """A track with packets of these payload sizes; their canonical forms."""
    track = Track(Format("audio", "OPUS"), 7)
    kept = []
    for i, size in enumerate(sizes):
        if i in missing:
            continue
        data = bytes([0x80, OPUS]) + (65534 + i & 0xFFFF).to_bytes(2, "big")
        data += (i * step).to_bytes(4, "big") + bytes([0, 0, 0, 7]) + bytes([i]) * size
        one = track.insert(data, rtp.parse(data, IDS), 7, 0, 0.02 * i)
        assert one is not None
        kept.append(one)
    return track, kept


def blocks(packet: bytes) -> list[tuple[int, int, bytes]]:
    """(payload type, timestamp offset, data) of each block, the primary last."""
    at, heads = rtp.payload_offset(packet), []
    while packet[at] & 0x80:
        word = int.from_bytes(packet[at : at + 4], "big")
        heads.append((word >> 24 & 0x7F, word >> 10 & 0x3FFF, word & 0x3FF))
        at += 4
    primary = packet[at]
    at += 1
    found = []
    for kind, ago, size in heads:
        found.append((kind, ago, packet[at : at + size]))
        at += size
    return [*found, (primary, 0, packet[at:])]


def test_a_packet_carries_the_two_before_it_oldest_first() -> None:
    track, kept = ring([40, 50, 60, 70])
    out = red.wrap(kept[-1], kept[-1], track, RED)
    assert out[1] & 0x7F == RED
    assert out[2:12] == kept[-1][2:12]
    assert blocks(out) == [
        (OPUS, 1920, b"\x01" * 50),
        (OPUS, 960, b"\x02" * 60),
        (OPUS, 0, b"\x03" * 70),
    ]


def test_the_first_packet_goes_alone() -> None:
    track, kept = ring([40])
    assert blocks(red.wrap(kept[0], kept[0], track, RED)) == [(OPUS, 0, b"\x00" * 40)]


def test_a_missing_packet_is_left_out() -> None:
    track, kept = ring([40, 50, 60, 70], missing=(2,))
    found = blocks(red.wrap(kept[-1], kept[-1], track, RED))
    assert [(ago, len(data)) for _, ago, data in found] == [(1920, 50), (0, 70)]


def test_what_does_not_fit_in_size_or_time_is_left_out() -> None:
    track, kept = ring([900, 900, 300])
    assert [len(d) for _, _, d in blocks(red.wrap(kept[-1], kept[-1], track, RED))] == [300]
    track, kept = ring([1100, 60, 60])
    assert [len(d) for _, _, d in blocks(red.wrap(kept[-1], kept[-1], track, RED))] == [60, 60]
    track, kept = ring([60, 60, 60], step=9600)
    assert [len(d) for _, _, d in blocks(red.wrap(kept[-1], kept[-1], track, RED))] == [60, 60]


def test_every_loss_of_two_in_a_row_is_whole_again() -> None:
    track, kept = ring([50] * 30)
    sent = [red.wrap(k, k, track, RED) for k in kept]
    arrived = [p for i, p in enumerate(sent) if i % 6 not in (2, 3)]
    heard = {data for packet in arrived for _, _, data in blocks(packet)}
    assert heard == {bytes([i]) * 50 for i in range(30)}
