"""Packets to frames: whole ones, cut ones, and hostile ones."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media import frames, h264
from media.frames import Frame, Look, depacketiser, opus_ticks
from tests.media.kept import (
    DELIMITER,
    IDR,
    OPUS_20_MS,
    PPS,
    SLICE,
    SPS,
    VP8_BEGIN,
    VP8_DELTA,
    VP8_GO_ON,
    VP8_KEY,
    kept,
)


def sized(*nals: bytes) -> bytes:
    """NAL units as a container has them."""
    return b"".join(len(nal).to_bytes(4, "big") + nal for nal in nals)


def stap(*nals: bytes) -> bytes:
    """RFC 6184 section 5.7.1."""
    return b"\x78" + b"".join(len(nal).to_bytes(2, "big") + nal for nal in nals)


def fu(nal: bytes, *cuts: int) -> list[bytes]:
    """RFC 6184 section 5.8: one NAL unit in several packets."""
    body, at, parts = nal[1:], 0, []
    for cut in (*cuts, len(body)):
        first, last = at == 0, cut == len(body)
        header = (0x80 if first else 0) | (0x40 if last else 0) | nal[0] & 0x1F
        parts.append(bytes((nal[0] & 0xE0 | 28, header)) + body[at:cut])
        at = cut
    return parts


def taken(codec: str, rows: list[tuple[bytes, int, bool] | None]) -> list[Frame]:
    """The frames of packets given as (payload, timestamp, marker); None is a loss."""
    frames_of = depacketiser(codec)
    out: list[Frame] = []
    for row in rows:
        if row is None:
            frames_of.lost()
        else:
            out += frames_of.packet(kept(row[0], row[1], marker=row[2]))
    return out


# ------------------------------------------------------------ H264


def test_parameter_sets_in_one_packet_and_a_slice_in_three_are_one_keyframe() -> None:
    parts = fu(IDR, 10, 25)
    rows = [(stap(SPS, PPS), 9000, False)] + [(p, 9000, p is parts[-1]) for p in parts]
    [frame] = taken("H264", list(rows))
    assert frame.keyframe
    assert frame.data == sized(SPS, PPS, IDR)
    assert frame.look == Look("H264", 640, 360, SPS, PPS)


def test_parameter_sets_are_remembered_for_a_keyframe_without_them() -> None:
    rows = [(stap(SPS, PPS, IDR), 0, True), (SLICE, 3600, True), (IDR, 7200, True)]
    found = taken("H264", list(rows))
    assert [f.keyframe for f in found] == [True, False, True]
    assert found[2].look == Look("H264", 640, 360, SPS, PPS)


def test_a_container_needs_no_delimiters() -> None:
    rows = [(stap(DELIMITER, SPS, PPS, IDR), 0, True)]
    assert taken("H264", list(rows))[0].data == sized(SPS, PPS, IDR)


def test_a_frame_without_a_marker_ends_with_the_next_timestamp() -> None:
    rows = [(stap(SPS, PPS, IDR), 0, False), (SLICE, 3600, False), (SLICE, 7200, True)]
    assert [f.timestamp for f in taken("H264", list(rows))] == [0, 3600, 7200]


@pytest.mark.parametrize("gone", [0, 1, 2])
def test_a_frame_that_lacks_a_packet_does_not_come_and_the_next_one_says_so(gone: int) -> None:
    parts = fu(SLICE, 6, 12)
    rows: list[tuple[bytes, int, bool] | None] = [(stap(SPS, PPS, IDR), 0, True)]
    rows += [None if i == gone else (p, 3600, i == 2) for i, p in enumerate(parts)]
    rows += [(SLICE, 7200, True), (SLICE, 10800, True)]
    found = taken("H264", rows)
    assert [(f.timestamp, f.after_loss) for f in found] == [
        (0, False), (7200, True), (10800, False),
    ]  # fmt: skip


def test_a_keyframe_that_lost_its_first_slice_is_none() -> None:
    second = b"\x65\x00\x9a" + bytes(8)
    rows: list[tuple[bytes, int, bool] | None] = [
        (stap(SPS, PPS), 0, False), None, (second, 0, True),
    ]  # fmt: skip
    assert taken("H264", rows) == []


def test_a_keyframe_without_any_parameter_sets_is_none() -> None:
    assert taken("H264", [(IDR, 0, True)]) == []


@pytest.mark.parametrize(
    ("sps", "size"),
    [
        ("6742c028da01e0089f961000000300100000030320f1832a", (1920, 1080)),
        ("6742c01fda014016e840000003004000000c83c60ca8", (1280, 720)),
        ("6742c01eda0360f79b84000003000400000300c83c58ba80", (854, 480)),
        ("6742c00dda05421e22221000000300100000030320f142aa", (322, 242)),
        ("6742c01e", None),
        ("6842c01eda0360f79b84000003000400000300c83c58ba80", None),
    ],
)
def test_the_size_of_a_picture_is_read_from_its_parameter_set(
    sps: str, size: tuple[int, int] | None
) -> None:
    """The first four were written by x264."""
    assert h264.picture_size(bytes.fromhex(sps)) == size


# ------------------------------------------------------------ VP8


def test_a_vp8_keyframe_of_two_packets_has_its_size() -> None:
    rows = [(VP8_BEGIN + VP8_KEY, 0, False), (VP8_GO_ON + b"more", 0, True)]
    [frame] = taken("VP8", list(rows))
    assert frame == Frame(0, VP8_KEY + b"more", True, Look("VP8", 640, 360))


def test_vp8_descriptors_of_every_length_are_passed_over() -> None:
    heads = [b"\x10", b"\x90\x80\x11", b"\x90\x80\x81\x11", b"\x90\xe0\x81\x11\x05\x20"]
    rows = [(head + VP8_DELTA, 3000 * i, True) for i, head in enumerate(heads)]
    assert [f.data for f in taken("VP8", list(rows))] == [VP8_DELTA] * 4


def test_a_vp8_frame_whose_begin_is_lost_does_not_come() -> None:
    rows: list[tuple[bytes, int, bool] | None] = [
        None, (VP8_GO_ON + b"rest", 0, True), (VP8_BEGIN + VP8_DELTA, 3000, True),
    ]  # fmt: skip
    [frame] = taken("VP8", rows)
    assert (frame.timestamp, frame.after_loss) == (3000, True)


def test_a_loss_between_two_whole_frames_is_said() -> None:
    """The packets that never came may have been a frame of their own."""
    rows: list[tuple[bytes, int, bool] | None] = [
        (VP8_BEGIN + VP8_DELTA, 0, True), None, (VP8_BEGIN + VP8_DELTA, 6000, True),
    ]  # fmt: skip
    assert [f.after_loss for f in taken("VP8", rows)] == [False, True]


def test_padding_probes_are_no_part_of_a_frame() -> None:
    rows = [(VP8_BEGIN + VP8_KEY, 0, False), (b"", 0, False), (VP8_GO_ON + b"x", 0, True)]
    assert taken("VP8", list(rows))[0].data == VP8_KEY + b"x"


# ------------------------------------------------------------ Opus


@pytest.mark.parametrize(
    ("packet", "ticks"),
    [
        (b"\xfc\1", 960), (b"\xf8\xff\xfe", 960), (b"\xe0\1", 120), (b"\x08\1", 960),
        (b"\x18\1", 2880), (b"\xfd\1", 1920), (b"\xff\x06", 5760), (b"\xff\x07", 0),
        (b"\xff", 0), (b"", 0),
    ],
)  # fmt: skip
def test_the_length_of_an_opus_packet(packet: bytes, ticks: int) -> None:
    assert opus_ticks(packet) == ticks


def test_each_opus_packet_is_a_frame() -> None:
    rows: list[tuple[bytes, int, bool] | None] = [
        (OPUS_20_MS, 0, True), None, (OPUS_20_MS, 1920, False), (b"", 2880, False),
    ]  # fmt: skip
    found = taken("OPUS", rows)
    assert [(f.timestamp, f.ticks, f.after_loss) for f in found] == [
        (0, 960, False), (1920, 960, True),
    ]  # fmt: skip


# ------------------------------------------------------------ hostile

PAYLOADS = st.one_of(
    st.binary(max_size=40),
    st.sampled_from(
        [SPS, PPS, IDR, SLICE, stap(SPS, PPS, IDR), *fu(IDR, 10), VP8_BEGIN + VP8_KEY, VP8_GO_ON]
    ),
    st.builds(lambda head, rest: head + rest, st.sampled_from([b"\x78", b"\x7c\x85", b"\x7c\x45",
        b"\x7c\x05", b"\x67", b"\x90\xff"]), st.binary(max_size=30)),
)  # fmt: skip


@given(
    st.sampled_from(["H264", "VP8", "OPUS"]),
    st.lists(st.tuples(PAYLOADS, st.integers(0, 3), st.booleans(), st.booleans()), max_size=40),
)
def test_no_payload_raises_and_frames_make_sense(
    codec: str, rows: list[tuple[bytes, int, bool, bool]]
) -> None:
    frames_of = depacketiser(codec)
    for payload, step, marker, lost in rows:
        if lost:
            frames_of.lost()
        for frame in frames_of.packet(kept(payload, 3000 * step, marker=marker)):
            assert frame.data
            if codec != "OPUS":
                assert frame.keyframe == (frame.look is not None)
            if frame.look is not None:
                assert 0 < frame.look.width <= 16384
                assert 0 < frame.look.height <= 16384


@given(st.binary(max_size=80))
def test_no_parameter_set_raises(data: bytes) -> None:
    size = h264.picture_size(b"\x67" + data)
    assert size is None or all(0 < side <= 16384 for side in size)


@pytest.mark.parametrize(
    ("codec", "payload"),
    [("H264", b"\x7c\x05" + bytes(1200)), ("H264", SLICE + bytes(1180)), ("VP8", bytes(1200))],
)
def test_a_frame_without_an_end_takes_bounded_memory(
    codec: str, payload: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frames, "MAX_FRAME_BYTES", 100_000)
    frames_of = depacketiser(codec)
    first = {"H264": fu(IDR, 10)[0] if payload[0] == 0x7C else SLICE, "VP8": VP8_BEGIN + VP8_KEY}
    frames_of.packet(kept(first[codec], 0))
    for _ in range(1000):
        assert frames_of.packet(kept(payload, 0)) == []
        held = [v for name in ("_nals", "_fragments", "_parts")
                for v in getattr(frames_of, name, [])]  # fmt: skip
        assert sum(map(len, held)) <= 101_200
    # And it goes on with the next frame.
    follows = VP8_BEGIN + VP8_DELTA if codec == "VP8" else SLICE
    [frame] = frames_of.packet(kept(follows, 3000, marker=True))
    assert frame.after_loss
