"""The test picture says which one it is, and its flash and beep come together."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from fractions import Fraction

import av
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from media.testcard import (
    BEEP_HZ,
    BLOCK,
    SAMPLE_RATE,
    Card,
    Stamp,
    Tone,
    lamp_box,
    read_stamp,
    stamp_rows,
)

NOON = datetime(2026, 1, 2, 12, 0, 0, 250_000, tzinfo=UTC)
NOON_MS = 12 * 3600 * 1000 + 250


@pytest.mark.parametrize("size", [(1280, 720), (640, 360), (320, 180), (640, 480), (854, 480)])
def test_every_picture_says_its_number_and_when_it_was_drawn(size: tuple[int, int]) -> None:
    card = Card(*size)
    for frame in (0, 1, 24, 25, 123_456, (1 << 24) - 1):
        picture = card.draw(frame, NOON)
        assert read_stamp(picture[: size[1]]) == Stamp(frame, NOON_MS)


def test_the_stamp_survives_scaling_and_a_thin_line() -> None:
    """100 kbit/s at 640x360, shown at 320x180."""
    codec = av.CodecContext.create("libx264", "w")
    codec.width, codec.height, codec.pix_fmt = 640, 360, "yuv420p"
    codec.time_base, codec.framerate = Fraction(1, 25), Fraction(25)
    codec.bit_rate = 100_000
    codec.options = {"preset": "ultrafast", "tune": "zerolatency", "maxrate": "100000",
                     "bufsize": "50000"}  # fmt: skip
    decoder = av.CodecContext.create("h264", "r")
    card = Card(1280, 720)
    seen = []
    for number in range(25):
        frame = card.frame(number, NOON).reformat(640, 360)
        frame.pts, frame.time_base = number, Fraction(1, 25)
        for packet in codec.encode(frame):
            for shown in decoder.decode(packet):
                small = shown.reformat(320, 180, "gray").to_ndarray()
                seen.append(read_stamp(small))
    assert seen == [Stamp(number, NOON_MS) for number in range(25)]


def test_a_picture_without_a_stamp_has_none() -> None:
    assert read_stamp(np.zeros((720, 1280), np.uint8)) is None
    assert read_stamp(np.full((720, 1280), 235, np.uint8)) is None
    noise = np.random.default_rng(1).integers(0, 256, (720, 1280), dtype=np.uint8)
    assert read_stamp(noise) is None


@given(st.integers(0, (1 << 24) - 1), st.integers(0, 86_399_999), st.integers(0, 63))
@example(0, 0, 37)
def test_one_wrong_cell_is_noticed(frame: int, utc_ms: int, cell: int) -> None:
    rows = list(stamp_rows(Stamp(frame, utc_ms)))
    rows[cell // 32] ^= 1 << cell % 32
    grid = np.array([[row >> (31 - i) & 1 for i in range(32)] for row in rows], np.uint8)
    luma = np.zeros((24, 40), np.uint8)
    luma[1:3, 4:36] = grid * 255
    assert read_stamp(luma.repeat(10, 0).repeat(10, 1)) is None


def test_the_flash_and_the_beep_come_together() -> None:
    """Over three seconds, to the picture: what is off between the two is off in the line."""
    fps = 25
    card, tone = Card(640, 360, Fraction(fps)), Tone()
    lamp = lamp_box(640, 360)
    lit = [bool(card.draw(n, NOON)[:360][lamp].mean() > 200) for n in range(3 * fps)]
    sound = np.concatenate([tone.block(n) for n in range(3 * SAMPLE_RATE // BLOCK)])[:, 0]
    # The share of 1 kHz in the sound of each picture's time.
    span = SAMPLE_RATE // fps
    wave = np.exp(-2j * np.pi * BEEP_HZ * np.arange(span) / SAMPLE_RATE)
    beeps = [abs(sound[n * span : (n + 1) * span] @ wave) / span > 1000 for n in range(3 * fps)]
    assert lit == beeps
    assert [n for n in range(3 * fps) if lit[n]] == [0, 1, 25, 26, 50, 51]


def test_the_beep_starts_on_the_sample() -> None:
    """Between the beeps there is a tone, so that a lost line is heard too."""
    sound = np.concatenate([Tone().block(n) for n in range(100)])[:, 0].astype(int)
    loud = np.flatnonzero(abs(sound) > 4000)
    assert 0 < loud[0] < 100
    starts = loud[np.flatnonzero(np.diff(loud) > SAMPLE_RATE // 2) + 1]
    assert len(starts) == 1
    assert abs(starts[0] - SAMPLE_RATE - loud[0]) <= 1
    quiet = sound[SAMPLE_RATE // 2 : SAMPLE_RATE // 2 + 960]
    assert 200 < abs(quiet).max() < 1500


def test_what_moves_leaves_no_trace() -> None:
    """A card that has drawn many pictures draws the next like one that has drawn none."""
    used = Card(640, 360)
    for number in range(60):
        used.draw(number, NOON + timedelta(milliseconds=40 * number))
    at = NOON + timedelta(seconds=9)
    assert (used.draw(1234, at) == Card(640, 360).draw(1234, at)).all()


def test_the_ball_moves() -> None:
    card = Card(640, 360)
    pictures = [card.draw(number, NOON).copy()[:360] for number in (5, 30)]
    changed = np.flatnonzero((pictures[0] != pictures[1])[280:330].any(axis=0))
    assert len(changed) > 20
