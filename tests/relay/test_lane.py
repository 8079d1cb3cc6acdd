"""One line of numbers over several layers: what an end viewer sees, and what it asks for."""

from __future__ import annotations

from relay import packet as rtp
from relay.lane import Lane, Splice
from relay.packet import ExtensionIds
from relay.sdp import Format
from relay.track import SenderClock, Track

IDS = ExtensionIds({})
NTP_S = 1 << 32


def vp8(ssrc: int, seq: int, timestamp: int, picture: int, tl0: int, key: bool = False) -> bytes:
    """One VP8 frame in one packet, with a 15-bit picture id and TL0PICIDX."""
    head = bytes([0x80, 0x80 | 96]) + seq.to_bytes(2, "big") + timestamp.to_bytes(4, "big")
    descriptor = bytes([0x90, 0xC0, 0x80 | picture >> 8, picture & 0xFF, tl0])
    return head + ssrc.to_bytes(4, "big") + descriptor + bytes([0x00 if key else 0x01]) + b"frame"


def layer(rid: str, ssrc: int) -> Track:
    return Track(Format("video", "VP8"), ssrc, rid)


def feed(track: Track, data: bytes, now: float) -> None:
    track.insert(data, rtp.parse(data, IDS), track.ssrc, 0, now)


def ids_of(packet: bytes) -> tuple[int, int, int, int]:
    """Sequence number, timestamp, picture id, TL0PICIDX."""
    ids = rtp.vp8_ids(packet, rtp.payload_offset(packet))
    assert ids is not None
    timestamp = int.from_bytes(packet[4:8], "big")
    return packet[2] << 8 | packet[3], timestamp, ids.picture, ids.tl0


def out(splice: Splice, position: int) -> bytes:
    kept = splice.track.get(position)
    assert kept is not None
    return splice.apply(kept, "VP8")


def two_layers(reports: bool) -> tuple[Track, Track]:
    """Low has sent ten frames, 40 ms apart; high, with other numbers, the last three of them."""
    low, high = layer("q", 0xA), layer("f", 0xB)
    for i in range(10):
        feed(
            low,
            vp8(
                0xA, 65530 + i & 0xFFFF, 1000 + 3600 * i, 32760 + i & 0x7FFF, 250 + i & 0xFF, i == 0
            ),
            0.04 * i,
        )
    for i in range(7, 11):
        feed(high, vp8(0xB, 500 + i, 900_000 + 3600 * i, 77 + i, 3 + i, i == 10), 0.04 * i)
    if reports:
        # The same moment is 1000 on low's line and 900,000 on high's; the reports lie 1 s apart.
        low.clock = SenderClock(5 * NTP_S, 1000, 0.3)
        high.clock = SenderClock(6 * NTP_S, 990_000, 0.35)
    return low, high


def test_a_first_layer_goes_out_under_its_own_numbers() -> None:
    low, _ = two_layers(reports=True)
    splice = Lane().enter(low, low.keyframe_position)
    assert splice is not None
    assert splice.plain
    assert out(splice, low.keyframe_position) == low.get(low.keyframe_position)


def test_a_change_goes_on_by_one_and_by_the_frames_true_distance() -> None:
    low, high = two_layers(reports=True)
    lane = Lane()
    first = lane.enter(low, low.keyframe_position)
    assert first is not None
    last = ids_of(out(first, low.highest))
    lane.leave(low.highest + 1)
    second = lane.enter(high, high.keyframe_position)
    assert second is not None
    sequence, timestamp, picture, tl0 = ids_of(out(second, high.keyframe_position))
    assert sequence == (last[0] + 1) & 0xFFFF
    assert timestamp == last[1] + 3600
    assert picture == (last[2] + 1) & 0x7FFF
    assert tl0 == (last[3] + 1) & 0xFF


def test_without_reports_the_time_between_arrivals_counts() -> None:
    low, high = two_layers(reports=False)
    lane = Lane()
    first = lane.enter(low, low.keyframe_position)
    assert first is not None
    lane.leave(low.highest + 1)
    second = lane.enter(high, high.keyframe_position)
    assert second is not None
    distance = ids_of(out(second, high.keyframe_position))[1] - ids_of(out(first, low.highest))[1]
    assert abs(distance - 3600) <= 1


def test_a_keyframe_of_the_frame_that_was_just_shown_comes_one_tick_later() -> None:
    """And the next change starts from the true distance again: ticks do not add up."""
    low, high = two_layers(reports=True)
    feed(high, vp8(0xB, 511, 900_000 + 3600 * 9, 90, 20, key=True), 0.37)
    lane = Lane()
    lane.enter(low, low.keyframe_position)
    lane.leave(low.highest + 1)
    second = lane.enter(high, high.highest)
    assert second is not None
    assert second.timestamp == (second.ideal + 1) & 0xFFFFFFFF
    feed(low, vp8(0xA, 5, 1000 + 3600 * 11, 2, 9, key=True), 0.44)
    lane.leave(high.highest + 1)
    third = lane.enter(low, low.keyframe_position)
    assert third is not None
    assert third.timestamp == third.ideal == 0


def test_a_keyframe_from_long_before_is_not_taken() -> None:
    low, high = two_layers(reports=True)
    for i in range(10, 40):
        feed(low, vp8(0xA, 65530 + i & 0xFFFF, 1000 + 3600 * i, i, i), 0.04 * i)
    lane = Lane()
    lane.enter(low, low.keyframe_position)
    lane.leave(low.highest + 1)
    assert lane.enter(high, high.keyframe_position) is None
    assert lane.current is not None
    assert lane.current.track is low


def test_what_is_asked_for_again_is_found_in_the_layer_it_came_from() -> None:
    low, high = two_layers(reports=True)
    lane = Lane()
    first = lane.enter(low, low.keyframe_position)
    assert first is not None
    lane.leave(low.highest + 1)
    second = lane.enter(high, high.keyframe_position)
    assert second is not None
    for splice, position in ((first, low.highest), (second, high.keyframe_position)):
        number = ids_of(out(splice, position))[0]
        assert lane.locate(number) == (splice, position)
    before_all = low.keyframe_position - 1
    assert lane.locate(before_all & 0xFFFF) == (first, before_all)


def test_no_number_stands_for_two_packets_over_many_changes() -> None:
    """SRTP would encrypt both with one keystream."""
    low, high = two_layers(reports=True)
    lane, at = Lane(), 10
    seen: dict[int, tuple[int, int]] = {}
    lane.enter(low, low.keyframe_position)
    pair = (high, low)
    for change in range(20):
        track = pair[change % 2]
        for _ in range(change % 5 + 1):
            at += 1
            for one, base, ssrc in ((low, 65530, 0xA), (high, 500, 0xB)):
                feed(one, vp8(ssrc, base + at & 0xFFFF, 3600 * at, at, at & 0xFF, True), 0.04 * at)
        current = lane.current
        assert current is not None
        for position in range(current.start, current.track.highest + 1):
            number = (position + current.shift) & 0xFFFF
            what = (current.track.ssrc, position)
            assert seen.setdefault(number, what) == what
        lane.leave(current.track.highest + 1)
        assert lane.enter(track, track.highest) is not None


def test_a_layer_in_step_with_its_picture_keeps_the_time_however_late_it_comes() -> None:
    """A ladder works from the last keyframe on: its first picture is two seconds old."""
    picture, made = layer("f", 0xA), layer("q", 0xB)
    made.numbering.keeps_time = True
    for i in range(51):
        feed(picture, vp8(0xA, i, 1000 + 3600 * i, i, i, key=i == 0), 0.04 * i)
    lane = Lane()
    lane.enter(picture, picture.keyframe_position)
    lane.leave(picture.highest + 1)
    for i, at_s in ((0, 2.1), (52, 2.2)):
        feed(made, vp8(0xB, 500 + i, 1000 + 3600 * i, 7 + i, 7 + i, key=True), at_s)
        splice = lane.enter(made, made.keyframe_position)
        # What the viewer has seen is not shown again.
        assert (splice is None) == (i == 0)
    assert splice is not None
    assert ids_of(out(splice, made.keyframe_position))[1] == 1000 + 3600 * 52
    feed(picture, vp8(0xA, 60, 1000 + 3600 * 60, 60, 60, key=True), 2.5)
    lane.leave(made.highest + 1)
    back = lane.enter(picture, picture.keyframe_position)
    assert back is not None
    assert back.timestamp == 0
