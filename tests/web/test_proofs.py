"""What a county's book says to the centre, and that it says it until it is kept (no sockets)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from media.county import County
from media.logbook import Attendance, Entry, Gap, Logbook, Played, Present
from media.proof import Why
from tests.web.village import DAY, STATION, pair
from web.proofs import Report, Senseless, Teller, moving, told
from web.stays import COUNTS, PATH, NotTold


def played(item: str = "replay-7", **more: Any) -> Played:
    values = {
        "item": item, "title": "Rice", "kind": "course", "planned_at": DAY, "planned_s": 2700.0,
        "started_at": DAY + 10, "ended_at": DAY + 2700, "played_s": 2690.0,
    }  # fmt: skip
    return Played(**(values | more))


def present(item: str = "replay-7", head_count: int | None = 12, *names: str) -> Attendance:
    roll = tuple(Present(name=one, present=not one.startswith("-")) for one in names)
    return Attendance(item=item, title="Rice", planned_at=DAY, head_count=head_count, roll=roll)


def entry(body: Played | Attendance, serial: int = 1) -> Entry:
    return Entry(
        id=f"0123456789ab-{serial}", station=STATION, serial=serial, written_at=DAY + 3000 + serial,
        body=body,
    )  # fmt: skip


def gap(from_s: float, to_s: float) -> Gap:
    return Gap(from_s=DAY + from_s, to_s=DAY + to_s, why=Why.STALLED)


@pytest.mark.parametrize(
    ("gaps", "stretches"),
    [
        ((), [(10, 2700)]),
        ((gap(0, 10),), [(10, 2700)]),
        ((gap(100, 160), gap(20, 40)), [(10, 20), (40, 100), (160, 2700)]),
        ((gap(100, 160), gap(160.5, 200)), [(10, 100), (200, 2700)]),
        ((gap(2600, 2800),), [(10, 2600)]),
        ((gap(50, 200), gap(100, 150)), [(10, 50), (200, 2700)]),
    ],
)
def test_only_the_stretches_with_a_moving_picture_count(
    gaps: tuple[Gap, ...], stretches: list[tuple[float, float]]
) -> None:
    assert [(a - DAY, b - DAY) for a, b in moving(played(gaps=gaps))] == stretches


def test_a_replay_is_the_part_of_the_recording_that_was_seen() -> None:
    (one, other) = told([entry(played(gaps=(gap(100, 160),)))]).stays
    assert (one["from_s"], one["to_s"], other["from_s"], other["to_s"]) == (10, 100, 160, 2700)
    assert one["source"] == "box/0123456789ab-1/0"
    assert (one["occurrence_id"], one["station_code"]) == (7, STATION)
    assert one["joined_at"] == "2026-11-26T00:00:10+00:00"
    assert one["left_at"] == one["seen_at"] == "2026-11-26T00:01:40+00:00"


@pytest.mark.parametrize(
    "item", ["class-7", "by-hand", "replay-0", "replay-7x", "replay-99999999999"]
)
def test_what_was_live_or_is_not_the_centres_is_no_replay(item: str) -> None:
    assert told([entry(played(item))]).stays == []


def test_what_was_not_seen_or_has_no_time_says_nothing() -> None:
    unseen = played(started_at=None, ended_at=None, played_s=0.0)
    no_clock = played(planned_at=10.0, started_at=20.0, ended_at=90.0)
    assert told([entry(unseen), entry(no_clock, 2)]).stays == []


def test_a_recorded_lesson_counts_as_itself_and_heads_count_live_too() -> None:
    said = told([entry(played("course-9")), entry(present("class-7"), 2)])
    assert [one["occurrence_id"] for one in said.stays] == [9]
    assert [one["occurrence_id"] for one in said.counts] == [7]


def test_a_correction_has_the_name_of_the_count_before_it() -> None:
    first, second = told([entry(present()), entry(present(head_count=9), 2)]).counts
    assert first["source"] == second["source"]
    assert first["counted_at"] < second["counted_at"]
    (called,) = told([entry(present("class-7", None, "Li", "-Wang", "Zhao"))]).counts
    assert (called["people"], called["present"]) == (2, ["Li", "Zhao"])
    assert told([entry(present("class-7", None))]).counts == []


# The book, and the way up


@pytest.fixture
def county(tmp_path: Path) -> Iterator[County]:
    opened = County(tmp_path / "county", name="longhua")
    opened.open()
    yield opened
    opened.close()


def deliver(county: County, key: Ed25519PrivateKey, folder: Path, *bodies: Any) -> None:
    book = Logbook(folder, key)
    before = len(book.lines)
    for body in bodies:
        book.add(STATION, DAY + 3000 + len(book.lines), "", body)
    county.deliver(STATION, [line.text for line in book.lines[before:]], DAY)


class Centre:
    """Takes what is told, or is away, or finds one report senseless."""

    def __init__(self) -> None:
        self.got: list[tuple[str, Report]] = []
        self.away = False
        self.senseless = 0

    async def __call__(self, path: str, reports: Sequence[Report]) -> Sequence[str]:
        if self.away:
            raise NotTold("away")
        if any(one["occurrence_id"] == self.senseless for one in reports):
            raise Senseless("no")
        self.got += [(path, one) for one in reports]
        return ()


async def test_what_came_into_the_book_is_told_once_it_can_be_and_then_not_again(
    county: County, tmp_path: Path
) -> None:
    key, centre = pair(county, tmp_path / "box"), Centre()
    teller = Teller(county, centre)
    assert not await teller.tell()
    deliver(county, key, tmp_path / "box", played(), present())
    centre.away = True
    with pytest.raises(NotTold):
        await teller.tell()
    centre.away = False
    assert await teller.tell()
    assert [path for path, _ in centre.got] == [PATH, COUNTS]
    assert not await teller.tell()
    # Another process of the county goes on from there; news goes up alone.
    deliver(county, key, tmp_path / "box", played("replay-8"))
    assert await Teller(county, centre).tell()
    assert [one["occurrence_id"] for _, one in centre.got] == [7, 7, 8]


async def test_a_report_that_the_centre_cannot_take_holds_up_no_other(
    county: County, tmp_path: Path
) -> None:
    key, centre = pair(county, tmp_path / "box"), Centre()
    centre.senseless = 8
    deliver(county, key, tmp_path / "box", played(), played("replay-8"), played("replay-9"))
    assert await Teller(county, centre).tell()
    assert [one["occurrence_id"] for _, one in centre.got] == [7, 9]
