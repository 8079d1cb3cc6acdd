"""A programme and its sources: what its line looks like across cuts, with a hand-driven port."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import cast

from hypothesis import given, settings
from hypothesis import strategies as st

from relay import packet as rtp
from relay.fanout import Fanout
from relay.packet import ExtensionIds, seq_delta, ts_delta
from relay.programme import (
    ASK_AGAIN_S,
    BETTER_S,
    MAX_LAG_S,
    PATIENCE_S,
    RECENT_S,
    SILENCE,
    Cue,
    Programme,
)
from relay.sdp import Format
from relay.stream import Stream
from relay.track import SenderClock, Track
from tests.relay import rows

IDS = ExtensionIds({1: rtp.ABS_SEND_TIME, 2: rtp.AUDIO_LEVEL})
FRAME_S, SOUND_S = 0.04, 0.02
NTP_S = 1 << 32
AUDIO_TYPE, VIDEO_TYPE = 111, 96


class Port:
    """Runs marked streams at once, in the order in which they were marked."""

    def __init__(self) -> None:
        self.fanout = cast(Fanout, None)
        self.marked: list[Stream] = []

    def mark(self, forwarder: Stream) -> None:
        self.marked.append(forwarder)

    def hurry(self) -> None:
        pass

    def run(self, now: float) -> None:
        while self.marked:
            stream = self.marked.pop(0)
            for _ in stream.flush(now):
                pass


class Asked:
    """A source's publisher: notes keyframe requests."""

    def __init__(self) -> None:
        self.at_s: list[float] = []

    def ask_keyframe(self, track: Track, now: float, urgent: bool = False) -> None:
        self.at_s.append(now)

    def tick(self, now: float) -> bool:
        return False

    def need(self, layers: frozenset[Track]) -> None:
        pass

    def retire(self) -> None:
        pass


class Source:
    """A publisher of sound and picture with numbers and a clock of its own.

    Its sound needs `sound_s` from capture to arrival, its picture `picture_s`; `epoch` is what its
    clock, in NTP seconds, is ahead of the test's.
    """

    def __init__(
        self,
        port: Port,
        name: str,
        *,
        base: int,
        epoch: float,
        sound_s: float = 0.03,
        picture_s: float = 0.05,
        reports: bool = True,
        ids: int = 100,
        layers: int = 1,
    ) -> None:
        self.base, self.epoch = base, epoch
        self.sound_s, self.picture_s, self.reports = sound_s, picture_s, reports
        self.sound = Track(Format("audio", "OPUS"), base + 1)
        self.pictures = [
            Track(Format("video", "VP8"), base + 2 + n, f"l{n}") for n in range(layers)
        ]
        self.stream = Stream(name, [self.sound, *reversed(self.pictures)], port)
        self.stream.layers = list(self.pictures)
        self.asked = Asked()
        self.stream.upstream = self.asked
        self.sequences = dict.fromkeys((self.sound, *self.pictures), base * 7 & 65535)
        self.captured_s: dict[Track, float] = {}
        self.picture_id = ids

    def _timestamp(self, captured_s: float, rate: int) -> int:
        return int(captured_s * rate + 0.5) + self.base * 1_000_003 & 0xFFFFFFFF

    def say(self, now: float, level: int = 30) -> None:
        """A packet of sound arrives that was recorded a while ago."""
        captured = self.captured_s[self.sound] = now - self.sound_s
        timestamp = self._timestamp(captured, 48000)
        sequence = self._number(self.sound)
        head = rows.row("90 6f") + sequence.to_bytes(2, "big") + timestamp.to_bytes(4, "big")
        data = head + (self.base + 90).to_bytes(4, "big") + rows.row("be de 00 01 20")
        data += bytes([level, 0, 0]) + rows.OPUS
        self._put(self.sound, data, now)
        if self.reports:
            self._clock(self.sound, captured, timestamp, now)

    def show(
        self, now: float, *, key: bool = False, packets: int = 2, lose: int = -1, layer: int = -1
    ) -> bytes:
        """A frame arrives; the packet `lose` of it does not and is returned."""
        track = self.pictures[layer]
        captured = self.captured_s[track] = now - self.picture_s
        timestamp = self._timestamp(captured, 90000)
        self.picture_id = self.picture_id + 1 & 0x7FFF
        lost = b""
        for number in range(packets):
            kind = (rows.VP8_KEY if key else rows.VP8_DELTA) if not number else rows.VP8_MORE
            # X, then I with 15 bits.
            payload = bytes([kind[0] | 0x80, 0x80]) + (self.picture_id | 0x8000).to_bytes(2, "big")
            data = rows.packet(
                self._number(track), timestamp, payload + kind[1:], ssrc=self.base + 91,
                marker=number == packets - 1,
            )  # fmt: skip
            if number == lose:
                lost = data
            else:
                self._put(track, data, now)
        if self.reports:
            self._clock(track, captured, timestamp, now)
        return lost

    def put_late(self, data: bytes, now: float) -> None:
        """A lost packet of the picture comes after all."""
        self._put(self.pictures[-1], data, now)

    def _number(self, track: Track) -> int:
        self.sequences[track] = self.sequences[track] + 1 & 0xFFFF
        return self.sequences[track]

    def _clock(self, track: Track, captured: float, timestamp: int, now: float) -> None:
        ntp = int((captured + self.epoch) * NTP_S)
        track.clock = SenderClock(ntp, timestamp, now)

    def _put(self, track: Track, data: bytes, now: float) -> None:
        parsed = rtp.parse(data, IDS)
        kept = track.insert(data, parsed, self.base + 90, rtp.abs_send_time(now), now)
        if kept is not None:
            self.stream.push(track, kept)


@dataclass(frozen=True, slots=True)
class Out:
    """One packet of the programme, in the order in which it went out."""

    at_s: float
    kind: str
    sequence: int
    timestamp: int
    payload: bytes
    kept: bytes


class House:
    """A programme, its port and its clock."""

    def __init__(self) -> None:
        self.now = 5000.0
        self.port = Port()
        self.sound = Track(Format("audio", "OPUS"), 7)
        self.picture = Track(Format("video", "VP8"), 8)
        self.stream = Stream("class", [self.sound, self.picture], self.port)
        self.programme = Programme(self.stream)
        self.out: list[Out] = []
        self.cut: list[str] = []
        self._push = self.stream.push
        self.stream.push = self._note  # type: ignore[method-assign]

    def _note(self, track: Track, kept: bytes) -> None:
        sequence, timestamp = rows.numbers(kept)
        self.out.append(Out(self.now, track.kind, sequence, timestamp, rows.payload(kept), kept))
        self._push(track, kept)

    def run(self, seconds: float, *sources: Source, keys: bool = False) -> None:
        """Let all sources send, 50 packets of sound and 25 frames a second."""
        for _ in range(round(seconds / SOUND_S)):
            self.now += SOUND_S
            for source in sources:
                source.say(self.now)
                if round(self.now / SOUND_S) % 2:
                    source.show(self.now, key=keys)
            self.port.run(self.now)
            self.programme.tick(self.now)

    def cue(self, source: Source, muted: bool = False) -> Cue:
        name = source.stream.name
        cue = Cue(name, source.stream, muted, self.now, lambda at: self.cut.append(name))
        self.programme.cue(cue, self.now)
        return cue

    def begin(self, source: Source) -> None:
        """Put a first source on the air."""
        self.run(0.2, source)
        self.cue(source)
        source.show(self.now, key=True)
        self.run(0.4, source)
        assert self.cut == [source.stream.name]

    def kind(self, kind: str) -> list[Out]:
        return [one for one in self.out if one.kind == kind]

    def skew_s(self, source: Source) -> float:
        """How much later a player shows the source's picture than its sound, by the reports."""
        shown = []
        for track, theirs in ((self.sound, source.sound), (self.picture, source.pictures[-1])):
            kept = track.get(track.highest)
            assert track.clock is not None
            assert kept is not None
            since = ts_delta(rows.numbers(kept)[1], track.clock.timestamp)
            ntp_s = track.clock.ntp / NTP_S + since / track.format.clock_rate
            shown.append(ntp_s - source.captured_s[theirs])
        return shown[1] - shown[0]


def unbroken(packets: list[Out]) -> bool:
    """Whether numbers count on by one, and time never runs back."""
    return all(
        seq_delta(b.sequence, a.sequence) == 1 and ts_delta(b.timestamp, a.timestamp) >= 0
        for a, b in pairwise(packets)
    )


def pair(house: House, **second: object) -> tuple[Source, Source]:
    one = Source(house.port, "one", base=1000, epoch=3.9e9)
    two = Source(house.port, "two", base=2000, epoch=3.7e9, **second)  # type: ignore[arg-type]
    return one, two


def test_the_old_source_goes_on_until_all_of_a_keyframe_of_the_new_one_is_here() -> None:
    house = House()
    one, two = pair(house)
    house.begin(one)
    house.run(0.4, one, two)
    house.cue(two)
    house.run(0.2, one, two)
    assert house.cut == ["one"]
    assert house.programme.source == "one"
    lost = two.show(house.now, key=True, packets=4, lose=2)
    house.run(0.06, one, two)
    assert house.cut == ["one"]
    two.put_late(lost, house.now)
    house.run(0.04, one, two)
    assert house.cut == ["one", "two"]
    gaps = [b.at_s - a.at_s for a, b in pairwise(house.kind("video"))]
    assert max(gaps) < 2.5 * FRAME_S


def test_a_keyframe_is_asked_for_at_once_and_again_until_it_is_there() -> None:
    house = House()
    one, two = pair(house)
    house.begin(one)
    house.run(0.4, one, two)
    two.asked.at_s.clear()
    cued_s = house.now
    house.cue(two)
    assert two.asked.at_s == [cued_s]
    house.run(2 * ASK_AGAIN_S + 0.1, one, two)
    assert len(two.asked.at_s) == 3


def test_a_keyframe_that_came_just_before_serves_and_an_older_one_does_not() -> None:
    house = House()
    one, two = pair(house)
    house.begin(one)
    two.show(house.now, key=True)
    house.run(RECENT_S - 0.04, one, two)
    house.cue(two)
    assert house.cut == ["one", "two"]
    one.show(house.now, key=True)
    house.run(RECENT_S + 0.04, one, two)
    house.cue(one)
    assert house.cut == ["one", "two"]


def test_numbers_go_on_by_one_and_sound_has_no_gap_across_cuts() -> None:
    house = House()
    one, two = pair(house)
    house.begin(one)
    for source in (two, one, two, one):
        house.run(0.5, one, two)
        house.cue(source)
        house.run(0.1, one, two)
        source.show(house.now, key=True)
        house.run(0.5, one, two)
    assert house.cut == ["one", "two", "one", "two", "one"]
    sound, picture = house.kind("audio"), house.kind("video")
    assert unbroken(sound)
    assert unbroken(picture)
    assert {ts_delta(b.timestamp, a.timestamp) for a, b in pairwise(sound)} == {960}


def test_picture_ids_count_on_and_every_frame_has_one_timestamp() -> None:
    house = House()
    one, two = pair(house, ids=0x7FF0)
    house.begin(one)
    house.run(0.5, one, two)
    house.cue(two)
    two.show(house.now, key=True)
    house.run(1.5, one, two)
    ids = [int.from_bytes(one.payload[2:4], "big") & 0x7FFF for one in house.kind("video")]
    assert {(b - a) & 0x7FFF for a, b in pairwise(ids)} == {0, 1}
    by_id: dict[int, set[int]] = {}
    for number, one_out in zip(ids, house.kind("video"), strict=True):
        by_id.setdefault(number, set()).add(one_out.timestamp)
    assert all(len(found) == 1 for found in by_id.values())


def test_sound_and_picture_keep_their_step_though_clocks_and_delays_differ() -> None:
    house = House()
    one, two = pair(house, sound_s=0.12, picture_s=0.22)
    house.begin(one)
    assert abs(house.skew_s(one)) < 0.001
    for source in (two, one):
        house.run(0.5, one, two)
        house.cue(source)
        source.show(house.now, key=True)
        house.run(1.0, one, two)
        assert house.programme.source == source.stream.name
        assert abs(house.skew_s(source)) < 0.001
    assert unbroken(house.kind("video"))
    assert unbroken(house.kind("audio"))


def test_a_picture_behind_its_sound_is_caught_up_with_and_never_runs_back() -> None:
    house = House()
    one, two = pair(house, picture_s=0.35)
    house.begin(one)
    house.run(0.5, one, two)
    house.cue(two)
    two.show(house.now, key=True)
    house.run(1.0, one, two)
    assert house.cut == ["one", "two"]
    picture = house.kind("video")
    assert unbroken(picture)
    steps = [ts_delta(b.timestamp, a.timestamp) for a, b in pairwise(picture)]
    assert 90 in steps
    assert set(steps[-10:]) == {0, 3600}


def test_without_reports_a_source_is_laid_by_arrival_and_set_right_by_the_first() -> None:
    house = House()
    one, two = pair(house, sound_s=0.05, picture_s=0.09, reports=False)
    house.begin(one)
    house.run(0.5, one, two)
    house.cue(two)
    two.show(house.now, key=True)
    house.run(0.5, one, two)
    assert house.cut == ["one", "two"]
    # Its picture is 40 ms slower than its sound; that of the first was 20 ms slower.
    assert abs(house.skew_s(two) - 0.02) < 0.001
    two.reports = True
    house.run(0.5, one, two)
    assert abs(house.skew_s(two)) < 0.001
    assert unbroken(house.kind("audio"))


def test_muted_sound_is_silence_at_once_under_the_same_numbers() -> None:
    house = House()
    one, _ = pair(house)
    house.begin(one)
    house.programme.mute(True)
    house.out.clear()
    house.run(0.1, one)
    house.programme.mute(False)
    house.run(0.1, one)
    sound = house.kind("audio")
    assert [len(p.payload) for p in sound] == [3] * 5 + [4] * 5
    assert sound[0].payload == SILENCE
    # No voice, and as quiet as can be (RFC 6464).
    assert sound[0].kept[21] == 127
    assert unbroken(sound)


def test_a_source_that_dies_leaves_the_programme_and_another_takes_over_in_time() -> None:
    house = House()
    one, two = pair(house)
    house.begin(one)
    house.run(3.0, two)
    assert house.programme.source == "one"
    house.cue(two)
    two.show(house.now, key=True)
    house.run(0.3, two)
    assert house.cut == ["one", "two"]
    sound = house.kind("audio")
    gaps = [ts_delta(b.timestamp, a.timestamp) / 48000 for a, b in pairwise(sound)]
    waited = [b.at_s - a.at_s for a, b in pairwise(sound)]
    assert abs(max(gaps) - max(waited)) < 0.03
    assert all(seq_delta(b.sequence, a.sequence) == 1 for a, b in pairwise(sound))


def test_a_publisher_that_heeds_no_request_is_cut_to_at_an_older_keyframe() -> None:
    house = House()
    one, two = pair(house)
    house.begin(one)
    two.show(house.now, key=True)
    house.run(RECENT_S + 0.2, one, two)
    house.cue(two)
    house.run(PATIENCE_S - 0.1, one, two)
    assert house.cut == ["one"]
    house.run(0.2, one, two)
    assert house.cut == ["one", "two"]
    assert unbroken(house.kind("video"))


def test_a_stale_keyframe_that_a_new_chain_brings_first_is_not_cut_to() -> None:
    house = House()
    one, two = pair(house)
    house.begin(one)
    house.cue(two)
    two.picture_s += MAX_LAG_S + 0.1
    two.say(house.now)
    two.show(house.now, key=True)
    two.picture_s -= MAX_LAG_S + 0.1
    house.run(0.2, one, two)
    assert house.cut == ["one"]
    two.show(house.now, key=True)
    house.run(0.1, one, two)
    assert house.cut == ["one", "two"]


def test_a_source_without_a_picture_is_heard_and_seen_once_it_has_one() -> None:
    house = House()
    one, two = pair(house)
    house.begin(one)
    house.cue(two)
    for _ in range(round((PATIENCE_S + 0.2) / SOUND_S)):
        house.now += SOUND_S
        two.say(house.now)
        house.port.run(house.now)
        house.programme.tick(house.now)
    assert house.cut == ["one", "two"]
    house.out.clear()
    house.run(0.2, two)
    assert not house.kind("video")
    two.show(house.now, key=True)
    house.run(0.2, two)
    assert house.kind("video")


def test_the_largest_layer_goes_in_and_another_takes_over_where_it_ends() -> None:
    house = House()
    one, two = pair(house, layers=2)
    house.begin(one)
    house.cue(two)

    def both(seconds: float, *layers: int) -> None:
        for _ in range(round(seconds / FRAME_S)):
            house.now += FRAME_S
            two.say(house.now - SOUND_S)
            two.say(house.now)
            for layer in layers:
                two.show(house.now, layer=layer, packets=1 + layer)
            house.port.run(house.now)
            house.programme.tick(house.now)

    both(0.2, 0, 1)
    two.show(house.now, key=True, layer=0)
    two.show(house.now, key=True, layer=1)
    both(0.4, 0, 1)
    assert house.programme.needs(two.stream) >= {two.pictures[1]}
    marks = [p.kept[1] >> 7 for p in house.kind("video")[-6:]]
    assert sum(marks) == 3
    both(0.6, 0)
    two.show(house.now, key=True, layer=0)
    both(0.4, 0)
    marks = [p.kept[1] >> 7 for p in house.kind("video")[-6:]]
    assert sum(marks) == 6
    both(BETTER_S + 0.1, 0, 1)
    two.show(house.now, key=True, layer=1)
    both(0.2, 0, 1)
    assert sum(p.kept[1] >> 7 for p in house.kind("video")[-6:]) == 3
    assert unbroken(house.kind("video"))


def test_what_was_lost_before_a_cut_still_fills_its_place_after_it() -> None:
    house = House()
    one, two = pair(house)
    house.begin(one)
    house.run(0.4, one, two)
    lost = one.show(house.now, packets=3, lose=1)
    house.run(0.04, one, two)
    house.cue(two)
    two.show(house.now, key=True)
    house.run(0.1, one, two)
    assert house.cut == ["one", "two"]
    house.out.clear()
    one.put_late(lost, house.now)
    house.port.run(house.now)
    (filled,) = house.out
    position = house.picture.position_of(filled.sequence)
    around = [house.picture.get(p) for p in (position - 1, position, position + 1)]
    stamps = {rows.numbers(kept)[1] for kept in around if kept is not None}
    assert stamps == {filled.timestamp}
    # What comes of the old source from then on is not taken.
    one.show(house.now)
    house.port.run(house.now)
    assert len(house.out) == 1


def test_a_source_that_is_no_longer_needed_is_no_longer_listened_to() -> None:
    house = House()
    one, two = pair(house)
    house.begin(one)
    house.cue(two)
    two.show(house.now, key=True)
    house.run(2.5, one, two)
    assert one.stream.taps == []
    assert two.stream.taps == [house.programme]
    house.programme.retire()
    assert two.stream.taps == []


def test_a_cue_that_is_given_up_leaves_what_is_on_the_air() -> None:
    house = House()
    one, two = pair(house)
    house.begin(one)
    cue = house.cue(two)
    house.programme.uncue(cue)
    two.show(house.now, key=True)
    house.run(0.2, one, two)
    assert house.cut == ["one"]
    assert two.stream.taps == []


def test_a_publisher_that_comes_again_goes_on_with_its_new_clock() -> None:
    house = House()
    one, _ = pair(house)
    house.begin(one)
    for track in (one.sound, *one.pictures):
        # What `Source.attach` does with another publisher.
        track.clock = None
        track.numbering.restart()
    one.epoch += 4000.0
    one.sequences = dict.fromkeys(one.sequences, 5)
    house.run(0.2, one)
    one.show(house.now, key=True)
    house.run(0.3, one)
    assert unbroken(house.kind("audio"))
    assert unbroken(house.kind("video"))
    assert abs(house.skew_s(one)) < 0.001


@settings(max_examples=40, deadline=None)
@given(
    cuts=st.lists(st.sampled_from([0, 1, 2]), min_size=1, max_size=6),
    delays=st.lists(st.floats(0.0, 0.3), min_size=6, max_size=6),
    lost=st.sets(st.integers(0, 300), max_size=30),
    reports=st.lists(st.booleans(), min_size=3, max_size=3),
)
def test_whatever_comes_no_number_is_used_twice_and_no_time_runs_back(
    cuts: list[int], delays: list[float], lost: set[int], reports: list[bool]
) -> None:
    """Any order of cuts, any delays, any loss: SRTP and players bear nothing else."""
    house = House()
    sources = [
        Source(
            house.port, str(n), base=1000 * (n + 1), epoch=3.9e9 + 7.0 * n,
            sound_s=delays[2 * n], picture_s=delays[2 * n + 1], reports=reports[n],
        )
        for n in range(3)
    ]  # fmt: skip
    steps = iter(range(100_000))
    for cut in cuts:
        house.cue(sources[cut])
        for step in range(20):
            house.now += SOUND_S
            for source in sources:
                number = next(steps)
                if number not in lost:
                    source.say(house.now)
                if step % 2:
                    key = step == 9 and source is sources[cut]
                    source.show(house.now, key=key, lose=0 if number in lost else -1)
            house.port.run(house.now)
            house.programme.tick(house.now)
    for kind in ("audio", "video"):
        packets = house.kind(kind)
        assert len({p.sequence for p in packets}) == len(packets)
        in_order = sorted(packets, key=lambda p: seq_delta(p.sequence, packets[0].sequence))
        assert all(ts_delta(b.timestamp, a.timestamp) >= 0 for a, b in pairwise(in_order))


def test_no_packet_of_a_stream_without_a_programme_is_looked_at_twice() -> None:
    """The whole price is one empty list, once a batch."""
    port = Port()
    source = Source(port, "alone", base=1000, epoch=0.0)
    assert source.stream.taps == []

    def chunks() -> Iterator[None]:
        return source.stream.flush(1.0)

    source.say(1.0)
    assert list(chunks()) == []
