"""RTCP: literal compounds in, objects out, and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay import rtcp
from relay.rtcp import Bye, Fir, Nack, Pli, ReceiverReport, Remb, ReportBlock, SenderReport


def row(text: str) -> bytes:
    return bytes.fromhex(text.replace("|", " "))


PLI = "81 ce 0002 00000001 cafebabe"
BLOCK = "cafebabe 40 fffffe 00011234 00000010 aabbccdd 00010000"
BLOCK_READ = ReportBlock(0xCAFEBABE, 0x40, -2, 0x11234, 16, 0xAABBCCDD, 0x10000)


@pytest.mark.parametrize(
    ("text", "want"),
    [
        pytest.param(
            "80 c8 0006 00000001 e0000000 80000000 00015f90 00000064 00002710",
            [SenderReport(1, 0xE000000080000000, 90000, 100, 10000, [])],
            id="sender report",
        ),
        pytest.param(
            "81 c8 000c 00000001 e0000000 80000000 00015f90 00000064 00002710" + BLOCK,
            [SenderReport(1, 0xE000000080000000, 90000, 100, 10000, [BLOCK_READ])],
            id="sender report with a block",
        ),
        pytest.param(
            "81 c9 0007 00000001" + BLOCK, [ReceiverReport(1, [BLOCK_READ])], id="receiver report"
        ),
        pytest.param("80 c9 0001 00000001", [ReceiverReport(1, [])], id="empty receiver report"),
        pytest.param(
            "81 c9 0008 00000001" + BLOCK + "deadbeef",
            [ReceiverReport(1, [BLOCK_READ])],
            id="profile-specific extension is skipped",
        ),
        pytest.param(
            "81 cd 0003 00000001 cafebabe | fffe 8005",
            [Nack(0xCAFEBABE, [65534, 65535, 1, 14])],
            id="NACK across the wrap",
        ),
        pytest.param(
            "81 cd 0004 00000001 cafebabe | 0005 0001 | 0006 0001",
            [Nack(0xCAFEBABE, [5, 6, 7])],
            id="NACK that asks twice",
        ),
        pytest.param(PLI, [Pli(0xCAFEBABE)], id="PLI"),
        pytest.param(
            "84 ce 0006 00000001 00000000 | cafebabe 01000000 | cafebabf 02000000",
            [Fir([0xCAFEBABE, 0xCAFEBABF])],
            id="FIR",
        ),
        pytest.param(
            "8f ce 0006 00000001 00000000 | 52454d42 | 02 0bd090 | cafebabe cafebabf",
            [Remb(1_000_000, [0xCAFEBABE, 0xCAFEBABF])],
            id="REMB",
        ),
        pytest.param("82 cb 0002 00000001 00000002", [Bye([1, 2])], id="BYE"),
        pytest.param("81 cb 0003 00000001 | 03 6f6666 00000000", [Bye([1])], id="BYE with reason"),
        pytest.param(
            "a1 ce 0003 00000001 cafebabe 00000004", [Pli(0xCAFEBABE)], id="packet with padding"
        ),
        pytest.param(
            "80 c9 0001 00000001 | 81 ca 0002 00000001 01 00 00 00 |" + PLI,
            [ReceiverReport(1, []), Pli(0xCAFEBABE)],
            id="compound; SDES is skipped",
        ),
        pytest.param(
            "80 cc 0002 00000001 6e616d65 | 80 cf 0001 00000001 | 8f cd 0002 00000001 00000002"
            "| 8f ce 0003 00000001 00000002 74657374 |" + PLI,
            [Pli(0xCAFEBABE)],
            id="APP, XR and other feedback are skipped",
        ),
    ],
)
def test_compound_is_read(text: str, want: list[rtcp.Packet]) -> None:
    found = rtcp.parse(row(text))
    assert found == want
    assert not found.malformed


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param("81", id="one byte"),
        pytest.param("41 ce 0002 00000001 cafebabe", id="version 1"),
        pytest.param("81 ce 0003 00000001 cafebabe", id="longer than the datagram"),
        pytest.param("81 ce 0001 00000001", id="PLI without media source"),
        pytest.param("81 cd 0001 00000001", id="NACK without media source"),
        pytest.param("81 c9 0001 00000001", id="report block missing"),
        pytest.param("80 c9 0000", id="receiver report without reporter"),
        pytest.param("80 c8 0001 00000001", id="sender report without numbers"),
        pytest.param("82 cb 0001 00000001", id="BYE with a source missing"),
        pytest.param("8f ce 0003 00000001 00000000 52454d42", id="REMB without bitrate"),
        pytest.param(
            "8f ce 0004 00000001 00000000 52454d42 02000001", id="REMB without its sources"
        ),
        pytest.param("a1 ce 0003 00000001 cafebabe 00000000", id="padding of 0"),
        pytest.param("a1 ce 0003 00000001 cafebabe 00000010", id="padding over the header"),
        pytest.param("a0 cf 0000", id="padding without room"),
    ],
)
def test_fault_keeps_what_came_before_it(fault: str) -> None:
    found = rtcp.parse(row(PLI + fault))
    assert found == [Pli(0xCAFEBABE)]
    assert found.malformed


def test_nothing_is_read_behind_a_fault() -> None:
    """Behind a wrong version the lengths mean nothing any more."""
    found = rtcp.parse(row("41 ce 0002 00000001 cafebabe" + PLI))
    assert found == []
    assert found.malformed


def test_at_most_32_packets_are_read() -> None:
    assert not rtcp.parse(row(PLI) * 32).malformed
    found = rtcp.parse(row(PLI) * 33)
    assert len(found) == 32
    assert found.malformed


@pytest.mark.parametrize("size", [0, 1504])
def test_datagram_of_a_size_that_cannot_be_is_not_read(size: int) -> None:
    found = rtcp.parse((row(PLI) * 200)[:size])
    assert found == []
    assert found.malformed


def test_nack_yields_at_most_1000_numbers() -> None:
    """A datagram full of full bitmasks would ask for six thousand packets."""
    entries = b"".join((i * 17).to_bytes(2, "big") + b"\xff\xff" for i in range(370))
    data = row("81 cd") + (2 + 370).to_bytes(2, "big") + row("00000001 cafebabe") + entries
    found = rtcp.parse(data)
    assert found == [Nack(0xCAFEBABE, list(range(1000)))]


@given(st.binary(max_size=120))
def test_arbitrary_bytes_are_no_error(data: bytes) -> None:
    assert len(rtcp.parse(data)) <= 32


kinds = st.sampled_from([200, 201, 202, 203, 204, 205, 206, 207])


@given(st.lists(st.tuples(st.integers(0, 63), kinds, st.binary(max_size=40)), max_size=6))
def test_well_framed_packets_of_arbitrary_content_are_no_error(
    parts: list[tuple[int, int, bytes]],
) -> None:
    """Right lengths bring the fuzzer behind the framing, into each kind's own fields."""
    data = b""
    for flags, kind, content in parts:
        content += bytes(-len(content) % 4)
        data += bytes((0x80 | flags, kind)) + (len(content) // 4).to_bytes(2, "big") + content
    assert len(rtcp.parse(data)) <= len(parts)


u8 = st.integers(0, 0xFF)
u16 = st.integers(0, 0xFFFF)
u32 = st.integers(0, 0xFFFFFFFF)
u64 = st.integers(0, 0xFFFFFFFFFFFFFFFF)
blocks = st.builds(ReportBlock, u32, u8, st.integers(-(2**23), 2**23 - 1), u32, u32, u32, u32)
block_lists = st.lists(blocks, max_size=31)
ssrc_lists = st.lists(u32, max_size=31)


@given(u32, u64, u32, u32, u32, block_lists)
def test_sender_report_round_trip(
    ssrc: int, ntp: int, timestamp: int, packets: int, octets: int, reports: list[ReportBlock]
) -> None:
    data = rtcp.sender_report(ssrc, ntp, timestamp, packets, octets, reports)
    assert rtcp.parse(data) == [SenderReport(ssrc, ntp, timestamp, packets, octets, reports)]


@given(u32, block_lists)
def test_receiver_report_round_trip(ssrc: int, reports: list[ReportBlock]) -> None:
    assert rtcp.parse(rtcp.receiver_report(ssrc, reports)) == [ReceiverReport(ssrc, reports)]


@given(u32, u32)
def test_pli_round_trip(sender: int, media: int) -> None:
    assert rtcp.parse(rtcp.pli(sender, media)) == [Pli(media)]


@given(u32, u32, st.integers(0, 1000))
def test_fir_round_trip(sender: int, media: int, number: int) -> None:
    assert rtcp.parse(rtcp.fir(sender, media, number)) == [Fir([media])]


@given(ssrc_lists)
def test_bye_round_trip(ssrcs: list[int]) -> None:
    assert rtcp.parse(rtcp.bye(ssrcs)) == [Bye(ssrcs)]


@given(st.integers(0, 0x3FFFF), st.integers(0, 45), ssrc_lists)
def test_remb_round_trip(mantissa: int, exponent: int, ssrcs: list[int]) -> None:
    """Bitrates of 18 significant bits come back exactly."""
    data = rtcp.remb(1, mantissa << exponent, ssrcs)
    assert rtcp.parse(data) == [Remb(mantissa << exponent, ssrcs)]


@given(st.integers(0, 10**12))
def test_remb_is_rounded_down_by_little(bitrate_bps: int) -> None:
    """A rounded-up estimate would invite more than the line carries."""
    (found,) = rtcp.parse(rtcp.remb(1, bitrate_bps, [2]))
    assert isinstance(found, Remb)
    assert bitrate_bps * (1 - 2**-17) <= found.bitrate_bps <= bitrate_bps


@given(u16, st.sets(st.integers(0, 2000), min_size=1, max_size=200), st.randoms())
def test_nack_round_trip_across_the_wrap(start: int, distances: set[int], order: object) -> None:
    """Whatever order they were given in, the numbers come back oldest first."""
    want = [(start + d) & 0xFFFF for d in sorted(distances)]
    given_order = list(want)
    order.shuffle(given_order)  # type: ignore[attr-defined]  # a random.Random
    assert rtcp.parse(rtcp.nack(1, 2, given_order)) == [Nack(2, want)]


@pytest.mark.parametrize(
    ("seqs", "entries"),
    [
        pytest.param([5], "0005 0000", id="one"),
        pytest.param(range(5, 22), "0005 ffff", id="seventeen in a row"),
        pytest.param(range(5, 23), "0005 ffff | 0016 0000", id="eighteen in a row"),
        pytest.param([65535, 0, 15], "ffff 8001", id="across the wrap"),
        pytest.param([0, 65535], "ffff 0001", id="given in the wrong order"),
        pytest.param([7, 7, 7], "0007 0000", id="given three times"),
    ],
)
def test_nack_is_packed_tightly(seqs: list[int], entries: str) -> None:
    want = row(entries)
    length = (2 + len(want) // 4).to_bytes(2, "big")
    assert rtcp.nack(1, 2, seqs) == row("81 cd") + length + row("00000001 00000002") + want


def test_nack_too_large_for_a_datagram_leaves_out_the_newest() -> None:
    seqs = [i * 20 for i in range(400)]
    data = rtcp.nack(1, 2, seqs)
    assert len(data) == 1172
    assert rtcp.parse(data) == [Nack(2, seqs[: rtcp.MAX_NACK_ENTRIES])]


@pytest.mark.parametrize(
    ("cname", "want"),
    [
        ("", "81 ca 0002 00000001 01 00 0000"),
        ("a", "81 ca 0002 00000001 01 01 61 00"),
        ("ab", "81 ca 0003 00000001 01 02 6162 00000000"),
        ("abc", "81 ca 0003 00000001 01 03 616263 000000"),
    ],
)
def test_sdes_ends_with_zero_bytes_up_to_a_whole_word(cname: str, want: str) -> None:
    assert rtcp.sdes_cname(1, cname) == row(want)


def test_counters_that_ran_over_are_sent_as_their_low_bits() -> None:
    (found,) = rtcp.parse(rtcp.sender_report(1, 2, 3, 2**32 + 4, 2**33 + 5))
    assert found == SenderReport(1, 2, 3, 4, 5, [])


@pytest.mark.parametrize(("lost", "want"), [(2**23, 2**23 - 1), (-(2**23) - 1, -(2**23))])
def test_total_loss_stays_at_its_limits(lost: int, want: int) -> None:
    (found,) = rtcp.parse(rtcp.receiver_report(1, [ReportBlock(2, 0, lost, 0, 0, 0, 0)]))
    assert isinstance(found, ReceiverReport)
    assert found.reports[0].packets_lost == want


def test_what_does_not_fit_a_packet_is_refused() -> None:
    block = ReportBlock(2, 0, 0, 0, 0, 0, 0)
    with pytest.raises(ValueError, match="31 entries, not 32"):
        rtcp.receiver_report(1, [block] * 32)
    with pytest.raises(ValueError, match="31 entries, not 32"):
        rtcp.bye([1] * 32)
    with pytest.raises(ValueError, match="256 bytes does not fit"):
        rtcp.sdes_cname(1, "x" * 256)
    with pytest.raises(ValueError, match="at least one"):
        rtcp.nack(1, 2, [])
    with pytest.raises(ValueError, match="REMB of -1 bit/s"):
        rtcp.remb(1, -1, [2])


def test_ntp_time_of_a_unix_time() -> None:
    """1970 began 2,208,988,800 s after 1900; half a second is half the fraction."""
    ntp = rtcp.ntp_from_unix(1_000_000_000.5)
    assert ntp == (3_208_988_800 << 32) + 2**31
    assert rtcp.ntp_middle(ntp) == ((3_208_988_800 & 0xFFFF) << 16) + 0x8000


def test_a_plain_report_is_read_like_any_other() -> None:
    """The short way and the long way find the same in a report with SDES."""
    blocks = [
        rtcp.ReportBlock(7, 3, 11, 0x10005, 90, 0xAABBCCDD, 655),
        rtcp.ReportBlock(8, 0, 0, 5, 0, 0, 0),
    ]
    data = rtcp.receiver_report(1, blocks) + rtcp.sdes_cname(1, "viewer")
    assert rtcp.plain_report(data) == blocks


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(rtcp.pli(1, 2), id="no report"),
        pytest.param(rtcp.receiver_report(1, []) + rtcp.pli(1, 2), id="a request follows"),
        pytest.param(rtcp.receiver_report(1, []) + rtcp.nack(1, 2, [3]), id="a NACK follows"),
        pytest.param(rtcp.receiver_report(1, [])[:6], id="cut short"),
        pytest.param(b"\x82" + rtcp.receiver_report(1, [])[1:], id="fewer blocks than it says"),
    ],
)
def test_what_is_more_than_a_plain_report_is_left_to_the_parser(data: bytes) -> None:
    """A request must not be passed over because a report stands before it."""
    assert rtcp.plain_report(data) is None


@given(st.binary(max_size=200))
def test_no_bytes_break_the_plain_reading(data: bytes) -> None:
    """Whatever it is, it is a list of blocks or left to the parser."""
    found = rtcp.plain_report(b"\x81\xc9" + data)
    assert found is None or len(found) == 1
