"""The television of a village box in Chromium: a day without a line, the program killed in class.

Whatever happens, the screen is looked at all the time: never dark, never a browser's error page.
How a day of ten minutes goes is run by hand: see `python -m tests.live.village_day --help`.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from media import pairing
from media.county import County
from tests.live import tabs
from tests.live.films import film
from tests.live.tree import free_ports, until
from tests.live.village_day import BoxProcess, Eyes, run_day
from tests.web import village
from tests.web.village import DAY, fill, give, pair, timetable

pytestmark = [pytest.mark.live, pytest.mark.alone]

HOUR = 3600.0
LATEST_S = 5.0


async def test_a_day_without_a_line_is_played_on_time_and_never_dark(tmp_path: Path) -> None:
    """Two classes back to back, one that never arrived, a live one with the line dead, and hours.

    The hours between pass in a blink, the classes at their own pace. A slow machine may be late by
    some seconds; how late it really is stands in tests/live/village_day.py's own report.
    """
    day = await run_day(tmp_path, classes=2, length_s=6)
    assert day.dark == []
    assert day.errors == []
    assert [one.item for one in day.played] == ["class-1", "class-2"]
    for one in day.played:
        assert one.late_s < LATEST_S
        assert one.drift_s < 2
    assert {"next", "missing", "live_lost"} <= day.cards
    entries = {one["item"]: one for one in day.logbook["plays"]}
    for one in day.played:
        assert entries[one.item]["played_s"] > 2
    assert entries["absent"]["started_at"] is None


async def test_the_program_killed_in_a_class_leaves_no_dark_screen(tmp_path: Path) -> None:
    """SIGKILL while a course plays: picture or words stay, and it goes on by itself."""
    key = Ed25519PrivateKey.generate()
    lesson = film("rice-1", 50, key)
    county = County(
        tmp_path / "county", name="longhua", library_keys=[pairing.public_pem(key.public_key())]
    )
    county.open()
    pair(county, tmp_path / "box")
    plan = timetable([{"id": "class-1", "course": "rice-1", "at": HOUR, "duration_s": 3000}])
    give(county, tmp_path / "box", plan)
    county.close()
    await fill(tmp_path / "box", lesson)
    village.keep_clock(tmp_path / "box", DAY, DAY)
    box = BoxProcess(tmp_path, free_ports(1)[0])
    async with tabs.chromium() as browser, tabs.person(browser) as context:
        box.start([(0, DAY + HOUR + 1)])
        try:
            await until("the box answers", box.answers, 30)
            tab = await tabs.open_tab(context, f"{box.url}/tv?lang=en")
            async with Eyes(tab.page) as eyes:
                await tab.until("s.picture === 'recorded'", 30)
                box.kill()
                await tab.until("s.silentS > 8", 30)
                await tab.until_text("#line-chip", "The box's program is restarting")
                box.start([(0, DAY + HOUR + 20)])
                await tab.until("s.silentS < 3 && s.picture === 'recorded'", 40)
                await tab.until("s.recorded.stillMs < 800 && s.recorded.positionS > 15", 20)
        finally:
            box.kill()
    assert eyes.dark == []
    assert eyes.count > 5
