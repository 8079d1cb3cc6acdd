"""One unbroken line of RTP numbers per track, whatever its publishers do."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.numbering import MAX_CLOCK_JUMP_S, MAX_SEQUENCE_JUMP, Numbering

DROPPED = -1
FIRST, SECOND = 0xCAFEBABE, 0xDEADBEEF

Row = tuple[float, int, int, int]
"""When, which source, its sequence number, its timestamp."""


def place_all(numbering: Numbering, rows: list[Row]) -> list[tuple[int, int] | None]:
    """What the line gives each packet: (sequence, timestamp), None for a dropped one."""
    placed = []
    for now, source, sequence, timestamp in rows:
        number = numbering.place(source, sequence, timestamp, now)
        placed.append(None if number == DROPPED else (number >> 32, number & 0xFFFFFFFF))
    return placed


@pytest.mark.parametrize(
    ("clock_rate", "rows", "want"),
    [
        pytest.param(
            90000,
            [(0.00, FIRST, 100, 5000), (0.04, FIRST, 101, 8600), (0.08, FIRST, 102, 12200)],
            [(100, 5000), (101, 8600), (102, 12200)],
            id="the first source keeps its own numbers",
        ),
        pytest.param(
            90000,
            [(0.00, FIRST, 100, 5000), (0.00, FIRST, 102, 5000), (0.01, FIRST, 101, 5000)],
            [(100, 5000), (102, 5000), (101, 5000)],
            id="reordered packets keep their places",
        ),
        pytest.param(
            90000,
            [(0.00, FIRST, 100, 5000), (0.01, FIRST, 99, 5000), (0.02, FIRST, 101, 8600)],
            [(100, 5000), None, (101, 8600)],
            id="what is older than the first packet is dropped",
        ),
        pytest.param(
            90000,
            [(10.0, FIRST, 65535, 5000), (10.04, FIRST, 0, 8600), (10.08, FIRST, 1, 12200)],
            [(65535, 5000), (0, 8600), (1, 12200)],
            id="sequence numbers wrap at 16 bits",
        ),
        pytest.param(
            90000,
            [(0.00, FIRST, 7, 0xFFFFF000), (0.04, FIRST, 8, 0xFFFFFE10), (0.08, FIRST, 9, 0xC20)],
            [(7, 0xFFFFF000), (8, 0xFFFFFE10), (9, 0xC20)],
            id="timestamps wrap at 32 bits",
        ),
        pytest.param(
            90000,
            [(0.0, FIRST, 100, 5000), (2.0, SECOND, 40000, 777), (2.04, SECOND, 40001, 4377)],
            [(100, 5000), (101, 5000 + 2 * 90000), (102, 5000 + 2 * 90000 + 3600)],
            id="another source goes on one number later, at the wall clock's distance",
        ),
        pytest.param(
            48000,
            [(0.0, FIRST, 100, 5000), (0.0, SECOND, 1, 1)],
            [(100, 5000), (101, 5001)],
            id="a source that takes over at once is one tick later",
        ),
        pytest.param(
            90000,
            [(0.0, FIRST, 65535, 0xFFFFFFFF), (1.0, SECOND, 65000, 5), (1.0, SECOND, 65001, 5)],
            [(65535, 0xFFFFFFFF), (0, 89999), (1, 89999)],
            id="a takeover across both wraps",
        ),
        pytest.param(
            90000,
            [
                (0.0, FIRST, 100, 5000),
                (1.0, SECOND, 500, 1),
                (1.0, SECOND, 499, 1),
                (1.0, SECOND, 501, 1),
            ],
            [(100, 5000), (101, 95000), None, (102, 95000)],
            id="packets before a takeover's first one are dropped: their numbers are given away",
        ),
        pytest.param(
            90000,
            [(0.0, FIRST, 100, 5000), (0.0, FIRST, 103, 5000), (1.0, SECOND, 9, 1)],
            [(100, 5000), (103, 5000), (104, 95000)],
            id="a takeover goes on after the highest number, losses included",
        ),
        pytest.param(
            90000,
            [
                (0.0, FIRST, 100, 5000),
                (0.1, FIRST, 101, 14000),
                (0.1, FIRST, 100, 5000),
                (1.1, SECOND, 9, 1),
            ],
            [(100, 5000), (101, 14000), (100, 5000), (102, 14000 + 90000)],
            id="a late duplicate does not set the line back",
        ),
        pytest.param(
            90000,
            [(0.0, FIRST, 100, 5000), (0.5, FIRST, 100 + MAX_SEQUENCE_JUMP + 1, 50000)],
            [(100, 5000), (101, 50000)],
            id="a jump ahead within one source is a restart",
        ),
        pytest.param(
            90000,
            [(0.0, FIRST, 100, 5000), (0.5, FIRST, 100 + MAX_SEQUENCE_JUMP, 50000)],
            [(100, 5000), (100 + MAX_SEQUENCE_JUMP, 50000)],
            id="a gap that a burst of loss can make is kept",
        ),
        pytest.param(
            90000,
            [(0.0, FIRST, 30000, 5000), (0.5, FIRST, 30000 - MAX_SEQUENCE_JUMP - 1, 50000)],
            [(30000, 5000), (30001, 50000)],
            id="a jump back within one source is a restart",
        ),
        pytest.param(
            90000,
            [(0.0, FIRST, 100, 5000), (0.04, FIRST, 101, 900_000_000)],
            [(100, 5000), (101, 5000 + 3600)],
            id="a timestamp that leaves the wall clock is a restart",
        ),
        pytest.param(
            90000,
            [(0.0, FIRST, 100, 900_000_000), (0.04, FIRST, 101, 5000)],
            [(100, 900_000_000), (101, 900_000_000 + 3600)],
            id="a timestamp that falls back behind the wall clock is a restart",
        ),
        pytest.param(
            90000,
            [(0.0, FIRST, 100, 5000), (60.0, FIRST, 101, 5000 + 60 * 90000)],
            [(100, 5000), (101, 5000 + 60 * 90000)],
            id="a pause after which the timestamp has moved as well is no restart",
        ),
        pytest.param(
            90000,
            [(0.0, FIRST, 100, 5000), (2.0, SECOND, 9, 1), (4.0, FIRST, 150, 9000)],
            [(100, 5000), (101, 185000), (102, 365000)],
            id="a source that comes back is placed anew",
        ),
    ],
)
def test_packets_get_these_places(
    clock_rate: int, rows: list[Row], want: list[tuple[int, int] | None]
) -> None:
    """Each row is a trace of arrivals, and the numbers under which they go on."""
    assert place_all(Numbering(clock_rate), rows) == want


def test_an_unbroken_source_is_never_shifted_over_many_wraps() -> None:
    """So the nodes of a tree hold the same packets under the same numbers, however long it runs."""
    numbering = Numbering(90000)
    timestamp = 0xFFF00000
    for step in range(200_000):
        sequence = (65000 + step) & 0xFFFF
        stamp = (timestamp + 900 * step) & 0xFFFFFFFF
        assert numbering.place(FIRST, sequence, stamp, 0.01 * step) == sequence << 32 | stamp
    assert numbering.rebases == 0


def test_loss_beyond_half_the_range_after_a_long_time_is_not_taken_for_old_packets() -> None:
    """Numbers below the first one are legal again once the line has moved on."""
    numbering = Numbering(48000)
    for step in range(40_000):
        assert numbering.place(FIRST, step, 960 * step, 0.02 * step) != DROPPED
    assert numbering.place(FIRST, 39_990, 960 * 39_990, 800.0) != DROPPED


def test_takeovers_are_counted() -> None:
    """`rebases` says how often a publisher reconnected or was replaced."""
    numbering = Numbering(90000)
    assert not numbering.begun
    place_all(numbering, [(0.0, FIRST, 1, 1), (1.0, SECOND, 1, 1), (2.0, FIRST, 1, 1)])
    assert numbering.begun
    assert numbering.rebases == 2
    assert numbering.source == FIRST


def test_sender_reports_are_mapped_like_packets() -> None:
    """A report's timestamp moves by the same shift as the packets around it."""
    numbering = Numbering(90000)
    assert numbering.timestamp(12345) == 12345
    place_all(numbering, [(0.0, FIRST, 1, 1000), (1.0, SECOND, 1, 0xFFFFFFF0)])
    assert numbering.timestamp(0xFFFFFFF0) == 91000
    assert numbering.timestamp(0x10) == 91000 + 0x20


@given(
    st.lists(
        st.tuples(
            st.integers(0, 0xFFFF), st.integers(0, 0xFFFFFFFF), st.integers(1, 50), st.floats(0, 15)
        ),
        min_size=1,
        max_size=8,
    )
)
def test_any_succession_of_publishers_is_one_line(
    publishers: list[tuple[int, int, int, float]],
) -> None:
    """However each begins, sequence numbers count on by one and time never goes back."""
    numbering = Numbering(90000)
    now, before = 100.0, None
    for source, (sequence, timestamp, count, pause_s) in enumerate(publishers):
        now += pause_s
        for step in range(count):
            number = numbering.place(
                source, (sequence + step) & 0xFFFF, (timestamp + 3600 * step) & 0xFFFFFFFF, now
            )
            now += 0.04
            if before is not None:
                assert number >> 32 == ((before >> 32) + 1) & 0xFFFF
                ahead = (number - before) & 0xFFFFFFFF
                assert 0 < ahead <= (pause_s + 0.05) * 90000
            before = number


def test_jump_limits_leave_room_for_what_really_happens() -> None:
    """A screen share may stand still for seconds, and a burst of loss takes hundreds of packets."""
    assert MAX_SEQUENCE_JUMP > 2048
    assert MAX_CLOCK_JUMP_S > 10


def test_another_ladder_goes_on_in_number_and_keeps_the_picture_s_time() -> None:
    """Its layers have the picture's timestamps already, whoever makes them."""
    numbering = Numbering(90000, keeps_time=True)
    numbering.place(1, 100, 5000, 10.0)
    placed = numbering.place(2, 40_000, 5000 + 90_000, 30.0)
    assert (placed >> 32, placed & 0xFFFFFFFF) == (101, 95_000)
