"""One picture into smaller ones: the same pictures at the same times, at the rates asked for."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from fractions import Fraction

import av
import pytest

from media.encode import VideoEncoder
from media.pictures import Picture
from media.plan import Handling, VideoPlan, Wanted
from media.scaler import DECODERS, Made, Rung, Scaler, Vp8Encoder, scaled
from media.testcard import Card
from tests.media.clips import number_of

FPS = 25
HALF, QUARTER = Rung("h", 2, 300_000), Rung("q", 4, 150_000)
NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
# So that the timestamps wrap after a second.
FIRST = 0xFFFFFFFF - 90_000


def source(codec: str, count: int, size: tuple[int, int] = (640, 360)) -> Iterator[Picture]:
    """The test card, coded, with a keyframe each second."""
    card = Card(*size, Fraction(FPS))
    plan = VideoPlan(Handling.ENCODE, *size, FPS, "")
    encoder = (
        VideoEncoder(plan, Wanted(keyframe_s=1), "ultrafast")
        if codec == "H264"
        else Vp8Encoder(*size, 1_000_000)
    )
    for number in range(count):
        if number % FPS == 0:
            encoder.want_keyframe()
        for packet in encoder.encode(card.frame(number, NOON), number * 40_000):
            stamp = (FIRST + 3600 * number) & 0xFFFFFFFF
            yield Picture(stamp, packet.is_keyframe, bytes(packet))


def shown(codec: str, made: list[Made]) -> list[tuple[int | None, int, int]]:
    """(number on it, width, height) of each picture as a viewer decodes it."""
    decoder = av.CodecContext.create(DECODERS[codec], "r")
    assert isinstance(decoder, av.VideoCodecContext)
    frames = [f for one in made for f in decoder.decode(av.Packet(one.data))]
    frames += decoder.decode(None)
    return [(number_of(frame), frame.width, frame.height) for frame in frames]


@pytest.mark.parametrize("codec", ["H264", "VP8"])
def test_each_rung_has_the_pictures_of_its_source_under_their_timestamps(codec: str) -> None:
    scaler = Scaler(codec, (QUARTER, HALF))
    made = [one for p in source(codec, 50) for one in scaler.take(p, (QUARTER, HALF))]
    for rung, width, height in ((QUARTER, 160, 90), (HALF, 320, 180)):
        own = [one for one in made if one.rung is rung]
        assert [one.timestamp for one in own] == [
            (FIRST + 3600 * n) & 0xFFFFFFFF for n in range(50)
        ]
        pictures = shown(codec, own)
        assert {(w, h) for _, w, h in pictures} == {(width, height)}
        if rung is HALF:
            assert [number for number, *_ in pictures] == list(range(50))
    assert scaler.broken == 0


@pytest.mark.parametrize("codec", ["H264", "VP8"])
def test_keyframes_follow_the_source_at_most_every_two_seconds_and_requests(codec: str) -> None:
    scaler = Scaler(codec, (HALF,))
    made: list[Made] = []
    for number, picture in enumerate(source(codec, 130)):
        if number == 67:
            scaler.want_keyframe(HALF)
        made += scaler.take(picture, (HALF,))
    # The source has one at 0, 25, 50 ...; the next after 67 that is two seconds later is 125.
    assert [n for n, one in enumerate(made) if one.keyframe] == [0, 50, 67, 125]


@pytest.mark.parametrize("codec", ["H264", "VP8"])
def test_the_rate_stays_near_what_was_asked_for(codec: str) -> None:
    scaler = Scaler(codec, (HALF,))
    made = [one for p in source(codec, 150) for one in scaler.take(p, (HALF,))]
    rate_bps = 8 * sum(len(one.data) for one in made[25:]) / 5
    assert rate_bps < 1.3 * HALF.bitrate_bps


def test_what_is_skipped_is_decoded_for_what_comes_after_it() -> None:
    scaler = Scaler("H264", (HALF,))
    made: list[Made] = []
    for number, picture in enumerate(source("H264", 20)):
        made += scaler.take(picture, (HALF,), skip=number < 15)
    assert made[0].keyframe
    assert [number for number, *_ in shown("H264", made)] == list(range(15, 20))


def test_it_waits_for_a_keyframe_and_survives_what_is_no_picture() -> None:
    scaler = Scaler("VP8", (HALF,))
    pictures = list(source("VP8", 60))
    assert scaler.take(pictures[3], (HALF,)) == []
    scaler.take(pictures[0], (HALF,))
    assert scaler.take(Picture(FIRST, True, b"\x00" * 40), (HALF,)) == []
    assert scaler.broken == 1
    made = [one for p in pictures[20:30] for one in scaler.take(p, (HALF,))]
    assert [one.timestamp for one in made] == [p.timestamp for p in pictures[25:30]]


def test_a_source_that_changes_its_size_changes_that_of_its_rungs() -> None:
    """As when the publisher turns its telephone, or starts anew with another picture."""
    scaler = Scaler("H264", (HALF,))
    made = [one for p in source("H264", 5) for one in scaler.take(p, (HALF,))]
    later = [one for p in source("H264", 5, (320, 240)) for one in scaler.take(p, (HALF,))]
    assert later[0].keyframe
    sizes = [size for _, *size in shown("H264", made + later)]
    assert sizes == [[320, 180]] * 5 + [[160, 120]] * 5


@pytest.mark.parametrize(
    ("size", "divisor", "want"),
    [
        ((1280, 720), 2, (640, 360)),
        ((1280, 720), 4, (320, 180)),
        ((854, 480), 4, (214, 120)),
        ((320, 180), 4, (160, 90)),
        ((160, 90), 2, (160, 90)),
        ((360, 640), 4, (90, 160)),
    ],
)
def test_rungs_are_even_and_large_enough_to_look_at(
    size: tuple[int, int], divisor: int, want: tuple[int, int]
) -> None:
    assert scaled(*size, divisor) == want
