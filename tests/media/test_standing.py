"""Whether somebody must look after a station: its last report in, a colour and the reasons out."""

from __future__ import annotations

import pytest

from media import standing
from media.report import AheadRow, ClockRow, FaultRow, Report, ShownRow
from media.standing import Standing

T = 1795665600.0


def report(*faults: str, state: str = "ready", in_s: float = 3600, trouble: str = "") -> Report:
    """A report of a box whose clock is an hour off, with one item to come."""
    now = T - 3600
    return Report(
        station="shangping-1", sequence=1, now=now,
        shown=ShownRow(show="idle", trouble=trouble),
        coming=(AheadRow(id="a", title="A", kind="course", starts_at=now + in_s, duration_s=60,
                         state=state),),
        faults=tuple(FaultRow(code=one, since=now) for one in faults),
        clock=ClockRow(doubt=False),
    )  # fmt: skip


ROWS = [
    # the report, seconds since it came, how the station stands
    (report(), 10, Standing.GREEN),
    (report("clock-doubt"), 10, Standing.AMBER),
    (report("disk-full", "clock-doubt"), 10, Standing.RED),
    (report(state="late"), 10, Standing.RED),
    (report(state="missing", in_s=90_000), 10, Standing.GREEN),
    (report(state="live-offline"), 10, Standing.GREEN),
    (report(trouble="missing"), 10, Standing.RED),
    (report(), 181, Standing.GREY),
    (report("line-down"), 181, Standing.GREY),
    (report(state="late"), 86_400, Standing.RED),
    (None, 0, Standing.GREY),
]


@pytest.mark.parametrize(("one", "ago_s", "stands"), ROWS)
def test_a_station_stands_as_its_last_report_says(
    one: Report | None, ago_s: float, stands: Standing
) -> None:
    assert standing.judge(one, T - ago_s, T)[0] is stands


def test_the_gravest_reason_comes_first() -> None:
    _, why = standing.judge(report("clock-doubt", "disk-full"), T, T)
    assert [one.code for one in why] == ["disk-full", "clock-doubt"]
