"""The ring of a track: what it keeps, what it refuses, and where a joiner can begin."""

from __future__ import annotations

import pytest

from relay import packet as rtp
from relay.packet import ExtensionIds
from relay.sdp import Format
from relay.track import AUDIO_RING, MAX_KEYFRAME_AGE_S, VIDEO_RING, SenderClock, Track
from tests.relay import rows

IDS = ExtensionIds({})
SOURCE = 0xCAFEBABE
OWN = 0x11223344


def video(codec: str = "VP8") -> Track:
    return Track(Format("video", codec), OWN)


def put(
    track: Track,
    sequence: int,
    timestamp: int = 0,
    payload: bytes = rows.VP8_DELTA,
    now: float = 0.0,
    source: int = SOURCE,
) -> bytes | None:
    data = rows.packet(sequence, timestamp, payload, ssrc=source)
    return track.insert(data, rtp.parse(data, IDS), source, 0x123456, now)


def held(track: Track) -> list[int | None]:
    """Sequence numbers in the ring from the lowest position to the highest, None for a hole."""
    size = len(track._ring)
    found = [track.get(p) for p in range(track.highest - size, track.highest + 1)]
    numbers = [None if kept is None else rows.numbers(kept)[0] for kept in found]
    first = next(i for i, number in enumerate(numbers) if number is not None)
    return numbers[first:]


def test_a_packet_is_kept_in_canonical_form_under_the_tracks_own_ssrc() -> None:
    """Header extensions of the publisher are gone, the node's own send time is in."""
    track = video()
    kept = put(track, 0x1234, 0x00010203, b"\x10\x00payload")
    assert kept == rows.row(
        "90 60 1234 00010203 11223344 | bede 0001 | 12 123456 | 10 00 7061796c6f6164"
    )
    assert track.get(track.highest) == kept
    assert (track.packets, track.bytes) == (1, len(kept or b""))


@pytest.mark.parametrize(
    ("sequences", "want"),
    [
        pytest.param([5, 6, 7], [5, 6, 7], id="in order"),
        pytest.param([5, 8], [5, None, None, 8], id="a hole"),
        pytest.param([5, 8, 6], [5, 6, None, 8], id="a late packet fills its hole"),
        pytest.param([65534, 65535, 0, 1], [65534, 65535, 0, 1], id="across the wrap"),
        pytest.param([65534, 1, 65535], [65534, 65535, None, 1], id="late across the wrap"),
    ],
)
def test_the_ring_holds_these(sequences: list[int], want: list[int | None]) -> None:
    """After a trace of arrivals; every packet of these traces is forwarded."""
    track = video()
    for sequence in sequences:
        assert put(track, sequence) is not None
    assert held(track) == want


@pytest.mark.parametrize(
    ("sequences", "again"),
    [
        pytest.param([5, 6, 7], 7, id="the newest"),
        pytest.param([5, 6, 7], 5, id="an older one"),
        pytest.param([65535, 0], 65535, id="across the wrap"),
    ],
)
def test_a_duplicate_is_not_forwarded(sequences: list[int], again: int) -> None:
    """A publisher's network, or a retransmission that was not needed, may repeat a packet."""
    track = video()
    for sequence in sequences:
        put(track, sequence)
    assert put(track, again) is None
    assert track.packets == len(sequences)


@pytest.mark.parametrize("kind", ["audio", "video"])
def test_what_is_older_than_the_ring_is_neither_kept_nor_found(kind: str) -> None:
    """The ring ends somewhere: a packet that would overwrite a newer one is refused."""
    track = Track(Format(kind, "OPUS" if kind == "audio" else "VP8"), OWN)
    size = AUDIO_RING if kind == "audio" else VIDEO_RING
    put(track, 0)
    put(track, 1)
    for sequence in range(3, size + 10):
        put(track, sequence)
    assert put(track, 2) is None
    assert track.get(track.position_of(2)) is None
    assert track.get(track.position_of(1)) is None
    newest = track.get(track.highest)
    assert newest is not None
    assert rows.numbers(newest)[0] == size + 9


def test_a_hole_does_not_show_what_was_there_one_turn_before() -> None:
    """Slots are used again every 2,048 packets; a lost packet's slot must be empty."""
    track = video()
    for sequence in range(VIDEO_RING):
        put(track, sequence)
    put(track, VIDEO_RING + 2)
    assert held(track)[-4:] == [VIDEO_RING - 1, None, None, VIDEO_RING + 2]


def test_a_jump_over_the_whole_ring_empties_it() -> None:
    """After a long outage nothing old is left that could be sent as new."""
    track = video()
    for sequence in range(VIDEO_RING):
        put(track, sequence)
    put(track, 2 * VIDEO_RING + 500)
    assert held(track) == [2 * VIDEO_RING + 500]


def test_positions_count_on_over_many_wraps() -> None:
    """`position & 0xFFFF` is the sequence number, and later is always more."""
    track = video()
    before = -1
    for step in range(0, 300_000, 100):
        put(track, step & 0xFFFF, (900 * step) & 0xFFFFFFFF, now=0.01 * step)
        assert track.highest > before
        assert track.highest & 0xFFFF == step & 0xFFFF
        before = track.highest


@pytest.mark.parametrize(
    ("newest", "asked", "distance"),
    [
        pytest.param(100, 100, 0, id="the newest"),
        pytest.param(100, 90, -10, id="an older one"),
        pytest.param(5, 65530, -11, id="before the wrap"),
        pytest.param(65530, 5, 11, id="ahead of the wrap"),
    ],
)
def test_position_of_a_sequence_number(newest: int, asked: int, distance: int) -> None:
    """A NACK names 16 bits; the position is the nearest that they can mean."""
    track = video()
    put(track, newest)
    assert track.position_of(asked) == track.highest + distance


def test_nothing_can_be_got_before_the_first_packet() -> None:
    """An empty track answers, and has no place to start at."""
    track = video()
    assert track.get(0) is None
    assert track.get(track.position_of(0)) is None
    assert track.start_position(0.0) == -1


# ---------------------------------------------------------------- keyframes

Frames = list[tuple[int, int, bytes]]


@pytest.mark.parametrize(
    ("codec", "packets", "start", "keyframes"),
    [
        pytest.param(
            "VP8",
            [(10, 1, rows.VP8_DELTA), (11, 2, rows.VP8_KEY), (12, 2, rows.VP8_MORE)],
            11,
            1,
            id="VP8: the first packet of the keyframe",
        ),
        pytest.param(
            "VP8",
            [(10, 1, rows.VP8_KEY), (11, 2, rows.VP8_DELTA), (12, 3, rows.VP8_KEY)],
            12,
            2,
            id="VP8: the last of two keyframes",
        ),
        pytest.param(
            "VP8",
            [(10, 1, rows.VP8_KEY), (12, 2, rows.VP8_DELTA), (11, 1, rows.VP8_MORE)],
            10,
            1,
            id="VP8: the rest of the keyframe comes late",
        ),
        pytest.param(
            "VP8",
            [(10, 1, rows.VP8_DELTA), (12, 2, rows.VP8_MORE), (11, 2, rows.VP8_KEY)],
            11,
            1,
            id="VP8: the first packet of the keyframe comes late",
        ),
        pytest.param(
            "VP8", [(10, 1, rows.VP8_DELTA), (11, 2, rows.VP8_DELTA)], -1, 0, id="VP8: no keyframe"
        ),
        pytest.param(
            "H264",
            [
                (10, 1, rows.H264_SLICE),
                (11, 2, rows.H264_AUD),
                (12, 2, rows.H264_SPS),
                (13, 2, rows.H264_PPS),
                (14, 2, rows.H264_IDR_FIRST),
                (15, 2, rows.H264_IDR_MORE),
                (16, 3, rows.H264_SLICE),
            ],
            11,
            1,
            id="H264: what goes before the slice, under one timestamp, is part of it",
        ),
        pytest.param(
            "H264",
            [
                (10, 2, rows.H264_SPS),
                (11, 2, rows.H264_IDR),
                (12, 2, rows.H264_IDR),
                (13, 2, rows.H264_IDR),
            ],
            10,
            1,
            id="H264: several slices are one keyframe",
        ),
        pytest.param(
            "H264",
            [
                (10, 1, rows.H264_SLICE),
                (12, 2, rows.H264_PPS),
                (13, 2, rows.H264_IDR),
                (11, 2, rows.H264_SPS),
            ],
            11,
            1,
            id="H264: the parameter set comes late",
        ),
        pytest.param(
            "H264",
            [
                (10, 1, rows.H264_SLICE),
                (12, 2, rows.H264_PPS),
                (13, 2, rows.H264_IDR),
                (14, 3, rows.H264_SLICE),
                (11, 2, rows.H264_SPS),
                (15, 4, rows.H264_SLICE),
            ],
            11,
            1,
            id="H264: the parameter set is repaired after the next frame began",
        ),
        pytest.param(
            "H264",
            [
                (10, 1, rows.H264_SLICE),
                (12, 2, rows.H264_SPS),
                (13, 2, rows.H264_IDR),
                (14, 3, rows.H264_SLICE),
                (11, 2, rows.H264_AUD),
            ],
            11,
            1,
            id="H264: the delimiter is repaired late",
        ),
        pytest.param(
            "H264",
            [
                (65534, 2, rows.H264_SPS),
                (65535, 2, rows.H264_PPS),
                (0, 2, rows.H264_IDR),
                (1, 3, rows.H264_SLICE),
            ],
            65534,
            1,
            id="H264: across the wrap",
        ),
    ],
)
def test_a_joiner_starts_at_the_begin_of_the_last_keyframe(
    codec: str, packets: Frames, start: int, keyframes: int
) -> None:
    """Rows are (sequence, timestamp, payload) in the order of arrival; -1 is nowhere."""
    track = video(codec)
    # A keyframe may be the first thing that comes; what is before it is only there in some rows.
    for sequence, timestamp, payload in packets:
        put(track, sequence, timestamp, payload)
    position = track.start_position(0.0)
    assert (position if position < 0 else position & 0xFFFF) == start
    assert track.keyframes == keyframes
    if position >= 0:
        assert track.get(position) is not None


def test_a_keyframe_that_is_too_old_is_no_start() -> None:
    """A joiner would get a long burst of stale picture; it waits for the next one instead."""
    track = video()
    put(track, 10, 1, rows.VP8_KEY, now=100.0)
    put(track, 11, 2, now=100.0 + MAX_KEYFRAME_AGE_S)
    assert track.start_position(100.0 + MAX_KEYFRAME_AGE_S) & 0xFFFF == 10
    assert track.start_position(100.01 + MAX_KEYFRAME_AGE_S) == -1


def test_a_keyframe_that_has_left_the_ring_is_no_start() -> None:
    """At a high bitrate the ring is shorter than the age limit."""
    track = video()
    put(track, 10, 1, rows.VP8_KEY)
    for sequence in range(11, 10 + VIDEO_RING - 1):
        put(track, sequence, 2)
    assert track.start_position(0.0) & 0xFFFF == 10
    put(track, 10 + VIDEO_RING - 1, 2)
    put(track, 10 + VIDEO_RING, 2)
    assert track.start_position(0.0) == -1


def test_another_publisher_goes_on_in_the_same_ring() -> None:
    """Its first packet follows the last one of the publisher before."""
    track = video()
    put(track, 100, 5000, rows.VP8_KEY, now=0.0)
    put(track, 101, 8600, now=0.04)
    put(track, 7, 1, rows.VP8_KEY, now=1.04, source=0xDEADBEEF)
    assert held(track) == [100, 101, 102]
    newest = track.get(track.highest)
    assert newest is not None
    assert rows.numbers(newest) == (102, 8600 + 90000)
    assert track.start_position(1.04) & 0xFFFF == 102


def test_sound_has_no_keyframes() -> None:
    """An audio track can be entered anywhere."""
    track = Track(Format("audio", "OPUS"), OWN)
    put(track, 1, 960, rows.VP8_KEY)
    assert track.keyframes == 0


# ---------------------------------------------------------------- sender reports


def test_the_senders_clock_is_drawn_on() -> None:
    """NTP and RTP move on together from the last report, so their relation stays."""
    track = video()
    assert track.sender_clock(0.0) is None
    track.clock = SenderClock(ntp=5 << 32, timestamp=0xFFFFFFF0, arrival_s=100.0)
    assert track.sender_clock(100.0) == (5 << 32, 0xFFFFFFF0)
    assert track.sender_clock(102.5) == ((5 << 32) + (5 << 31), 225000 - 16)
