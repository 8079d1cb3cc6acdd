"""RTP over bytes: reading, the canonical form, shapes, retransmission, keyframes."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from relay import packet as rtp
from relay.packet import ExtensionIds, Ingest, PacketError, Shape

# The ids that Chromium gives by default, and one beyond the one-byte form.
IDS = ExtensionIds(
    {
        1: rtp.AUDIO_LEVEL,
        2: rtp.ABS_SEND_TIME,
        4: rtp.MID,
        10: rtp.RID,
        11: rtp.REPAIRED_RID,
        13: rtp.VIDEO_ORIENTATION,
        7: "urn:ietf:params:rtp-hdrext:toffset",
        200: rtp.MID,
    }
)

PLAIN = "80 6f 1234 00010203 cafebabe"


def row(text: str) -> bytes:
    return bytes.fromhex(text.replace("|", " "))


def expected(**fields: object) -> Ingest:
    base: dict[str, object] = {
        "seq": 0x1234,
        "timestamp": 0x00010203,
        "ssrc": 0xCAFEBABE,
        "payload_type": 111,
        "marker": False,
        "payload_start": 12,
        "payload_end": 15,
        "audio_level": -1,
        "orientation": -1,
        "abs_send_time": -1,
        "mid": None,
        "rid": None,
        "repaired_rid": None,
    }
    return Ingest(**{**base, **fields})  # type: ignore[arg-type]  # fields come by name


@pytest.mark.parametrize(
    ("text", "want"),
    [
        pytest.param(PLAIN + "| 010203", expected(), id="no extension"),
        pytest.param(
            "80 ef 1234 00010203 cafebabe | 010203", expected(marker=True), id="marker bit"
        ),
        pytest.param(
            "82 6f 1234 00010203 cafebabe | 00000001 00000002 | 010203",
            expected(payload_start=20, payload_end=23),
            id="two contributing sources",
        ),
        pytest.param(
            "90 6f 1234 00010203 cafebabe | bede 0003 | 10 85 | 22 aabbcc | 40 30 | 0000 0000"
            "| 010203",
            expected(
                payload_start=28, payload_end=31, audio_level=0x85, abs_send_time=0xAABBCC, mid="0"
            ),
            id="one-byte elements and padding between them",
        ),
        pytest.param(
            "90 6f 1234 00010203 cafebabe | bede 0002 | a0 68 | b0 6d | d0 03 | 0000 | 010203",
            expected(payload_start=24, payload_end=27, rid="h", repaired_rid="m", orientation=0x03),
            id="stream ids and orientation",
        ),
        pytest.param(
            "90 6f 1234 00010203 cafebabe | bede 0001 | f0 00 10 85 | 010203",
            expected(payload_start=20, payload_end=23),
            id="id 15 ends the block",
        ),
        pytest.param(
            "90 6f 1234 00010203 cafebabe | bede 0002 | 01 0000 | 10 85 | 000000 | 010203",
            expected(payload_start=24, payload_end=27),
            id="id 0 with a length ends the block",
        ),
        pytest.param(
            "90 6f 1234 00010203 cafebabe | bede 0001 | 10 85 2f aa | 010203",
            expected(payload_start=20, payload_end=23, audio_level=0x85),
            id="an element over the end of its block is left out",
        ),
        pytest.param(
            "90 6f 1234 00010203 cafebabe | bede 0001 | 21 aabb 00 | 010203",
            expected(payload_start=20, payload_end=23),
            id="abs-send-time of a wrong size is left out",
        ),
        pytest.param(
            "90 6f 1234 00010203 cafebabe | 1000 0003 | 01 01 7f | 02 03 aabbcc | c8 01 61 | 00"
            "| 010203",
            expected(
                payload_start=28, payload_end=31, audio_level=0x7F, abs_send_time=0xAABBCC, mid="a"
            ),
            id="two-byte elements, one with an id above 14",
        ),
        pytest.param(
            "90 6f 1234 00010203 cafebabe | 100a 0001 | 04 00 01 01 | 010203",
            expected(payload_start=20, payload_end=23),
            id="two-byte elements: an empty one, and one over the end",
        ),
        pytest.param(
            "90 6f 1234 00010203 cafebabe | abcd 0001 | 10 85 00 00 | 010203",
            expected(payload_start=20, payload_end=23),
            id="a block of another profile is skipped",
        ),
        pytest.param(
            "90 6f 1234 00010203 cafebabe | bede 0000 | 010203",
            expected(payload_start=16, payload_end=19),
            id="an empty block",
        ),
        pytest.param("a0 6f 1234 00010203 cafebabe | 010203 0002", expected(), id="padding"),
        pytest.param(
            "a0 6f 1234 00010203 cafebabe | 00 00 03",
            expected(payload_end=12),
            id="nothing but padding",
        ),
    ],
)
def test_header_is_read(text: str, want: Ingest) -> None:
    """Every field of the header, and the payload's place, come out of literal packets."""
    assert rtp.parse(row(text), IDS) == want


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param("", "0 bytes are too few", id="empty"),
        pytest.param("80 6f 1234 00010203 cafeba", "11 bytes are too few", id="11 bytes"),
        pytest.param("40 6f 1234 00010203 cafebabe", "version is 1", id="version 1"),
        pytest.param("81 6f 1234 00010203 cafebabe 0000", "CSRC list", id="CSRC cut off"),
        pytest.param(
            "90 6f 1234 00010203 cafebabe bede", "ends before its header extension", id="X cut off"
        ),
        pytest.param(
            "90 6f 1234 00010203 cafebabe bede 0002 10850000",
            "extension is longer than the packet",
            id="extension cut off",
        ),
        pytest.param("a0 6f 1234 00010203 cafebabe 0100", "0 bytes of padding", id="padding 0"),
        pytest.param(
            "a0 6f 1234 00010203 cafebabe 0003", "3 bytes of padding", id="padding over the header"
        ),
    ],
)
def test_malformed_packet_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(PacketError, match=reason):
        rtp.parse(row(text), IDS)


@given(st.binary(max_size=80))
@example(row("9f 6f 1234 00010203 cafebabe") + b"\xff" * 64)
def test_arbitrary_bytes_are_read_or_refused(data: bytes) -> None:
    """Nothing but PacketError escapes, and the payload always lies within the packet."""
    try:
        p = rtp.parse(data, IDS)
    except PacketError:
        return
    assert 12 <= p.payload_start <= p.payload_end <= len(data)


@given(st.sampled_from([0xBEDE, 0x1000, 0x100F, 0x1234]), st.binary(max_size=48))
def test_arbitrary_extension_block_leaves_the_payload_alone(profile: int, block: bytes) -> None:
    """Whatever the block holds, the payload behind it is found."""
    block += bytes(-len(block) % 4)
    head = row("90 6f 1234 00010203 cafebabe") + profile.to_bytes(2, "big")
    data = head + (len(block) // 4).to_bytes(2, "big") + block + b"payload"
    p = rtp.parse(data, IDS)
    assert data[p.payload_start : p.payload_end] == b"payload"
    assert -1 <= p.audio_level <= 255
    assert -1 <= p.abs_send_time <= 0xFFFFFF


AUDIO = row("90 ef 1234 00010203 cafebabe | bede 0001 | 10 85 00 00 | 010203")
VIDEO = row("b1 e0 1234 00010203 cafebabe | 00000009 | bede 0001 | d0 02 00 00 | 0102030405 0002")
BARE = row("80 60 1234 00010203 cafebabe | 010203")


@pytest.mark.parametrize(
    ("data", "want"),
    [
        pytest.param(
            AUDIO,
            "90 ef 0007 00000008 00000009 | bede 0002 | 12 aabbcc | 20 85 0000 | 010203",
            id="audio level",
        ),
        pytest.param(
            VIDEO,
            "90 e0 0007 00000008 00000009 | bede 0002 | 12 aabbcc | 30 02 0000 | 0102030405",
            id="orientation; contributing source and padding go",
        ),
        pytest.param(
            BARE,
            "90 60 0007 00000008 00000009 | bede 0001 | 12 aabbcc | 010203",
            id="neither",
        ),
    ],
)
def test_canonical_form_is_laid_out_as_documented(data: bytes, want: str) -> None:
    packet = rtp.canonical(data, rtp.parse(data, IDS), 7, 8, 9, 0xAABBCC)
    assert packet == row(want)
    assert packet[rtp.payload_offset(packet) :] == row(want.rsplit("|", 1)[1])


CANONICAL_IDS = ExtensionIds(
    {
        rtp.CANONICAL_ABS_SEND_TIME: rtp.ABS_SEND_TIME,
        rtp.CANONICAL_AUDIO_LEVEL: rtp.AUDIO_LEVEL,
        rtp.CANONICAL_ORIENTATION: rtp.VIDEO_ORIENTATION,
    }
)

u7 = st.integers(0, 0x7F)
u8 = st.integers(0, 0xFF)
u16 = st.integers(0, 0xFFFF)
u24 = st.integers(0, 0xFFFFFF)
u32 = st.integers(0, 0xFFFFFFFF)
payloads = st.binary(max_size=40)
extension_id = st.integers(0, 14)


@st.composite
def canonical_packets(draw: st.DrawFn) -> bytes:
    """Canonical packets of every kind, with any payload."""
    payload = draw(payloads)
    level = draw(st.just(-1) | u8)
    orientation = draw(st.just(-1) | u8)
    p = Ingest(
        0, 0, 0, draw(u7), draw(st.booleans()), 0, len(payload), level, orientation, -1, *[None] * 3
    )
    return rtp.canonical(payload, p, draw(u16), draw(u32), draw(u32), draw(u24))


@given(u7, st.booleans(), st.just(-1) | u8, u16, u32, u32, u24, payloads)
def test_canonical_packet_reads_back(
    payload_type: int,
    marker: bool,
    level: int,
    seq: int,
    timestamp: int,
    ssrc: int,
    send_time: int,
    payload: bytes,
) -> None:
    """What a node wrote, the next node reads: every number, and the payload bit for bit."""
    data = b"head" + payload + b"tail"
    end = 4 + len(payload)
    p = Ingest(0, 0, 0, payload_type, marker, 4, end, level, -1, -1, None, None, None)
    packet = rtp.canonical(data, p, seq, timestamp, ssrc, send_time)
    q = rtp.parse(packet, CANONICAL_IDS)
    assert (q.seq, q.timestamp, q.ssrc, q.payload_type, q.marker) == (
        seq,
        timestamp,
        ssrc,
        payload_type,
        marker,
    )
    assert (q.audio_level, q.abs_send_time) == (level, send_time)
    assert q.payload_start == rtp.payload_offset(packet)
    assert packet[q.payload_start : q.payload_end] == payload


CANONICAL_AUDIO = row("90 ef 0007 00000008 00000009 | bede 0002 | 12 aabbcc | 20 85 0000 | 010203")
CANONICAL_VIDEO = row("90 60 0007 00000008 00000009 | bede 0002 | 12 aabbcc | 30 01 0000 | 010203")


@pytest.mark.parametrize(
    ("packet", "shape", "want"),
    [
        pytest.param(
            CANONICAL_AUDIO,
            Shape(109, 5, 14, 6),
            "90 ed 0007 00000008 00000009 | bede 0002 | 52 aabbcc | e0 85 0000 | 010203",
            id="audio",
        ),
        pytest.param(
            CANONICAL_VIDEO,
            Shape(120, 5, 14, 6),
            "90 78 0007 00000008 00000009 | bede 0002 | 52 aabbcc | 60 01 0000 | 010203",
            id="video",
        ),
        pytest.param(
            CANONICAL_AUDIO,
            Shape(109, 0, 0, 6),
            "90 ed 0007 00000008 00000009 | bede 0002 | 00 000000 | 00 00 0000 | 010203",
            id="nothing negotiated for audio",
        ),
        pytest.param(
            CANONICAL_VIDEO,
            Shape(109, 0, 14, 0),
            "90 6d 0007 00000008 00000009 | bede 0002 | 00 000000 | 00 00 0000 | 010203",
            id="nothing negotiated for video",
        ),
    ],
)
def test_shape_changes_payload_type_and_ids_only(packet: bytes, shape: Shape, want: str) -> None:
    assert rtp.reshape(packet, shape) == row(want)


@given(canonical_packets(), u7, extension_id, extension_id, extension_id)
def test_reshape_keeps_length_and_payload(
    packet: bytes, payload_type: int, send_time: int, level: int, orientation: int
) -> None:
    out = rtp.reshape(packet, Shape(payload_type, send_time, level, orientation))
    offset = rtp.payload_offset(packet)
    assert len(out) == len(packet)
    assert out[offset:] == packet[offset:]
    assert out[2:16] == packet[2:16]
    q = rtp.parse(out, ExtensionIds({}))
    assert (q.payload_type, q.marker) == (payload_type, packet[1] >= 0x80)
    assert q.payload_start == offset


def test_shape_takes_negotiated_ids_that_fit_the_one_byte_form() -> None:
    """An extension under id 15 or more is left out, so that its bytes become padding."""
    extensions = {2: rtp.ABS_SEND_TIME, 15: rtp.AUDIO_LEVEL, 14: rtp.VIDEO_ORIENTATION, 4: rtp.MID}
    assert Shape.negotiated(96, extensions) == Shape(96, 2, 0, 14)


@pytest.mark.parametrize("fields", [(128, 0, 0, 0), (-1, 0, 0, 0), (96, 15, 0, 0), (96, 0, 0, -1)])
def test_shape_with_numbers_that_do_not_fit_is_refused(fields: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError, match="is not within"):
        Shape(*fields)


def test_retransmission_is_laid_out_as_rfc_4588_has_it() -> None:
    """Own type, sequence and SSRC; marker, timestamp and extensions of the original; then OSN."""
    assert rtp.rtx(CANONICAL_AUDIO, 97, 0x0A0B0C0D, 0x1122) == row(
        "90 e1 1122 00000008 0a0b0c0d | bede 0002 | 12 aabbcc | 20 85 0000 | 0007 | 010203"
    )


@given(canonical_packets(), u7, u32, u16)
def test_retransmission_round_trip(packet: bytes, payload_type: int, ssrc: int, seq: int) -> None:
    """A node that is sent a retransmission recovers the very packet."""
    sent = rtp.rtx(packet, payload_type, ssrc, seq)
    p = rtp.parse(sent, CANONICAL_IDS)
    assert (p.seq, p.ssrc, p.payload_type) == (seq, ssrc, payload_type)
    original = rtp.parse(packet, CANONICAL_IDS)
    restored = rtp.rtx_original(sent, p, original.payload_type, original.ssrc)
    assert restored is not None
    assert (
        rtp.canonical(
            sent, restored, restored.seq, restored.timestamp, restored.ssrc, p.abs_send_time
        )
        == packet
    )


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("80 61 1234 00010203 cafebabe", id="empty"),
        pytest.param("80 61 1234 00010203 cafebabe 07", id="half a sequence number"),
        pytest.param("a0 61 1234 00010203 cafebabe 000003", id="padding only"),
    ],
)
def test_padding_probe_has_no_original(text: str) -> None:
    data = row(text)
    assert rtp.rtx_original(data, rtp.parse(data, IDS), 96, 1) is None


@pytest.mark.parametrize(
    ("now_s", "want"),
    [(0.0, 0), (1.0, 1 << 18), (63.5, 0xFE0000), (64.0, 0), (1_790_000_000.25, 0x010000)],
)
def test_abs_send_time_is_6_18_fixed_point_modulo_64_s(now_s: float, want: int) -> None:
    assert rtp.abs_send_time(now_s) == want & 0xFFFFFF


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("80 c8", True),
        ("80 c0", True),
        ("80 df", True),
        ("80 bf", False),
        ("80 e0", False),
        ("80 6f", False),
        ("80", False),
        ("", False),
    ],
)
def test_rtcp_is_told_by_its_second_byte(text: str, want: bool) -> None:
    assert rtp.is_rtcp(row(text)) is want


@pytest.mark.parametrize(
    ("a", "b", "want"),
    [
        (5, 3, 2),
        (3, 5, -2),
        (1, 0xFFFF, 2),
        (0xFFFF, 1, -2),
        (0x8000, 0, -0x8000),
        (0x7FFF, 0, 0x7FFF),
    ],
)
def test_sequence_distance_survives_the_wrap(a: int, b: int, want: int) -> None:
    assert rtp.seq_delta(a, b) == want


@given(u32, st.integers(-(2**31), 2**31 - 1))
def test_timestamp_distance_survives_the_wrap(b: int, distance: int) -> None:
    assert rtp.ts_delta((b + distance) & 0xFFFFFFFF, b) == distance


@pytest.mark.parametrize(
    ("codec", "payload", "want"),
    [
        # VP8: descriptor, then the frame header, whose lowest bit is 0 in a keyframe.
        ("VP8", "10 50429d012a", True),
        ("VP8", "10 514200", False),
        ("VP8", "30 50429d012a", True),
        ("VP8", "00 50429d012a", False),
        ("VP8", "11 50429d012a", False),
        ("VP8", "90 80 01 50429d012a", True),
        ("VP8", "90 80 01 51", False),
        ("VP8", "90 80 8001 50429d012a", True),
        ("VP8", "90 e0 8101 05 40 50429d012a", True),
        ("VP8", "90 e0 8101 05 40 51", False),
        ("VP8", "90 e0 8101 05 40", False),
        ("VP8", "90 80", False),
        ("VP8", "90", False),
        ("VP8", "10", False),
        # VP9: I P L F B E V Z, picture id, layer indices.
        ("VP9", "8c 05 a2", True),
        ("VP9", "8c 8105 a2", True),
        ("VP9", "08 a2", True),
        ("VP9", "ac 8105 00 07 a2", True),
        ("VP9", "ac 8105 02 07 a2", False),
        ("VP9", "cc 05 a2", False),
        ("VP9", "84 05 a2", False),
        ("VP9", "8c", False),
        ("VP9", "2c", False),
        ("VP9", "08", False),
        # H264
        ("H264", "65 8884", True),
        ("H264", "67 42e01f", True),
        ("H264", "61 e0", False),
        ("H264", "68 ce", False),
        ("H264", "06 05", False),
        ("H264", "78 0004 6742e01f 0002 68ce", True),
        ("H264", "78 0002 09f0 0003 658884", True),
        ("H264", "78 0002 68ce 0002 0605", False),
        ("H264", "78 0000 0002 6742", False),
        ("H264", "78 00ff 6742", False),
        ("H264", "78 00", False),
        ("H264", "7c 85 8884", True),
        ("H264", "7c 87 42e0", True),
        ("H264", "7c 05 8884", False),
        ("H264", "7c 45 8884", False),
        ("H264", "7c 81 e0", False),
        ("H264", "7c 85", False),
        ("H264", "7c", False),
        # AV1: Z Y WW N, then elements with a length, the last of W without.
        ("AV1", "08 0a", True),
        ("AV1", "88 0a", False),
        ("AV1", "10 0a0b0c", True),
        ("AV1", "10 320b0c", False),
        ("AV1", "20 02 1200 0a0b", True),
        ("AV1", "20 02 1200 320b", False),
        ("AV1", "00 02 1200 02 0a0b", True),
        ("AV1", "00 02 1200 02 320b", False),
        ("AV1", "90 0a0b0c", False),
        ("AV1", "a0 02 0a0a 0a0b", True),
        ("AV1", "20 ff", False),
        ("AV1", "20 ffffffffffff01 0a", False),
        ("AV1", "20 7f 0a", False),
        ("AV1", "20 00 0a", True),
        ("AV1", "08", False),
    ],
)
def test_keyframe_begin_is_recognised(codec: str, payload: str, want: bool) -> None:
    detect = rtp.keyframe_detector(codec)
    assert detect(row(payload), 0) is want
    assert detect(CANONICAL_VIDEO[:20] + row(payload), 20) is want


@pytest.mark.parametrize("codec", ["VP8", "VP9", "H264", "AV1"])
def test_empty_payload_begins_no_keyframe(codec: str) -> None:
    assert rtp.keyframe_detector(codec)(CANONICAL_VIDEO[:20], 20) is False


@given(st.sampled_from(["VP8", "vp9", "h264", "Av1"]), st.binary(max_size=40), st.integers(0, 48))
def test_hostile_payload_is_no_error(codec: str, payload: bytes, offset: int) -> None:
    assert rtp.keyframe_detector(codec)(payload, offset) in (True, False)


def test_unknown_codec_is_named_in_the_error() -> None:
    with pytest.raises(ValueError, match="'H265'; known are VP8, VP9, H264, AV1"):
        rtp.keyframe_detector("H265")
