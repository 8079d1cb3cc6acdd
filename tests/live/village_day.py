"""A village's day on its television, compressed by a clock script, with Chromium as the television.

    python -m tests.live.village_day --minutes 10 --shots FOLDER

runs a long one and prints how late each class began, how far the picture was from the timetable,
and how bright the darkest screenshot was. The box is a process of its own without any line. With
`--cut` (as root) box and television are in a network namespace that has no way out: no route, no
other device than loopback.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import av
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from playwright.async_api import Error, Page

from media import pairing
from media.county import County
from tests.live import tabs
from tests.live.films import film
from tests.live.tree import free_ports, start_process, until
from tests.web import village
from tests.web.village import DAY, fill, give, pair, timetable

HOUR = 3600.0
DARK_BELOW = 60.0
"""Mean luma, 0 to 255. The darkest of our own screens has more than twice this."""
BLINK_S = 1.0
LAND_S, LAND = 1.5, 90.0
"""How the clock lands after a blink, in real seconds and its own: a page's clock is as far off as
the box's answer is old, times the clock's pace, and would pass the moment it lands at."""
CUT = "TERRACE_VILLAGE_CUT"
"""Set where `--cut` has done its work."""
BEGIN_S = 8.0
"""Real seconds from the start of the box to the day's first scripted moment."""


class BoxProcess:
    """`terrace station` on a folder, with a clock script, and a county that nobody answers at."""

    def __init__(self, folder: Path, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._folder = folder
        self._port = port
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, points: list[tuple[float, float]]) -> None:
        """`points`: real seconds from now, Unix seconds."""
        clock = self._folder / "clock-script.json"
        clock.write_text(
            json.dumps({"points": points, "synchronised": False, "began": time.monotonic()})
        )
        command = [
            *(sys.executable, "-m", "web.cli", "station", "--config", os.devnull),
            *("--folder", str(self._folder / "box"), "--port", str(self._port)),
            *("--parent", "http://127.0.0.1:9", "--neighbours", "no", "--browser-port", "0"),
        ]
        self._process = start_process(
            command, self._folder / "station.log", {"TERRACE_TEST_CLOCK": str(clock)}
        )

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(self.url + path, timeout=5) as answer:
            return json.load(answer)

    async def answers(self) -> bool:
        """Whether it answers; fails with its log if it has ended."""
        assert self._process is not None
        log = self._folder / "station.log"
        assert self._process.poll() is None, log.read_text()[-3000:]
        try:
            await asyncio.to_thread(self.get, "/api/station")
        except OSError:
            return False
        return True

    def kill(self) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGKILL)
            self._process.wait(10)


def luma(picture: bytes) -> float:
    """The mean luma of a JPEG, 0 to 255."""
    with av.open(io.BytesIO(picture), "r") as file:
        frame = next(file.decode(video=0)).reformat(64, 36, "gray")
    return float(frame.to_ndarray().mean())


class Eyes:
    """Looks at a page all the time it is open: how dark it is, and whether it is ours at all."""

    def __init__(self, page: Page, every_s: float = 0.7, shots: Path | None = None) -> None:
        self._page = page
        self._every_s = every_s
        self._shots = shots
        self._task: asyncio.Task[None] | None = None
        self.count = 0
        self.darkest = 255.0
        self.dark: list[str] = []
        """What was wrong with a screen, one line each."""

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._look())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._task is not None
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def _look(self) -> None:
        while True:
            with contextlib.suppress(Error):
                picture = await self._page.screenshot(type="jpeg", quality=60)
                screen = await self._page.evaluate("document.getElementById('tv')?.dataset.screen")
                bright = await asyncio.to_thread(luma, picture)
                self.count += 1
                self.darkest = min(self.darkest, bright)
                if self._shots is not None:
                    (self._shots / f"{self.count:04}.jpg").write_bytes(picture)
                if bright < DARK_BELOW:
                    self.dark.append(f"screenshot {self.count}: luma {bright:.0f} on {screen}")
                if screen is None:
                    self.dark.append(
                        f"screenshot {self.count}: {self._page.url} is no page of ours"
                    )
            await asyncio.sleep(self._every_s)


@dataclass
class Played:
    """A class as the page showed it. Seconds."""

    item: str
    late_s: float
    drift_s: float


@dataclass
class Day:
    """What was seen of a day."""

    played: list[Played] = field(default_factory=list)
    cards: set[str] = field(default_factory=set)
    dark: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    logbook: dict[str, Any] = field(default_factory=dict)
    screenshots: int = 0
    darkest: float = 0.0


def _plan(classes: int, length_s: int) -> tuple[list[dict[str, object]], list[tuple[float, float]]]:
    """The items of a day and its clock: hours in a blink, classes and their edges in full."""
    items: list[dict[str, object]] = []
    points: list[tuple[float, float]] = [(0.0, DAY)]
    real = BEGIN_S

    def moment(begin: float, end: float) -> None:
        nonlocal real
        points.append((real, DAY + begin - LAND))
        real += LAND_S
        points.append((real, DAY + begin))
        real += end - begin
        points.append((real, DAY + end))
        real += BLINK_S

    for n in range(1, classes + 1):
        # Every second class follows the one before at once.
        begin = ((n + 1) // 2) * HOUR + (length_s if n % 2 == 0 else 0)
        name = {"id": f"class-{n}", "title": f"Class {n}", "course": f"film-{n}"}
        items.append(name | {"at": begin, "duration_s": length_s})
    for pair_n in range(1, (classes + 1) // 2 + 1):
        both = 2 if 2 * pair_n <= classes else 1
        moment(pair_n * HOUR - 4, pair_n * HOUR + both * length_s + 3)
    evening = 12 * HOUR
    items.append(
        {"id": "absent", "title": "Never arrived", "course": "film-0"}
        | {"at": evening, "duration_s": 60}
    )
    # The page learns of a leap of the clock when the box next answers, late on a busy machine.
    moment(evening - 2, evening + 12)
    items.append(
        {"id": "live", "title": "Live", "kind": "live", "stream": "lecture"}
        | {"at": evening + HOUR, "duration_s": 60}
    )
    moment(evening + HOUR - 2, evening + HOUR + 14)
    moment(evening + 2 * HOUR, evening + 2 * HOUR + 3)
    return items, points


async def run_day(folder: Path, *, classes: int, length_s: int, shots: Path | None = None) -> Day:
    """Runs a day on the television; nothing of it needs a line."""
    key = Ed25519PrivateKey.generate()
    county = County(
        folder / "county", name="longhua", library_keys=[pairing.public_pem(key.public_key())]
    )
    county.open()
    pair(county, folder / "box")
    items, points = _plan(classes, length_s)
    give(county, folder / "box", timetable(items))
    county.close()
    for n in range(1, classes + 1):
        await fill(folder / "box", await asyncio.to_thread(film, f"film-{n}", length_s, key))
    village.keep_clock(folder / "box", DAY, DAY)
    starts = {str(one["id"]): DAY + float(str(one["at"])) for one in items}

    box = BoxProcess(folder, free_ports(1)[0])
    day = Day()
    size = {"width": 1920, "height": 1080} if shots else {"width": 960, "height": 540}
    async with tabs.chromium() as browser:
        context = await browser.new_context(viewport=size, locale="zh-CN")  # type: ignore[arg-type]
        box.start(points)
        try:
            await until("the box answers", box.answers, 30)
            tab = await tabs.open_tab(context, f"{box.url}/tv")
            async with Eyes(tab.page, 0.7 if shots is None else 2.0, shots) as eyes:
                await _follow(tab, day, starts, points[-1][1])
            day.logbook = await asyncio.to_thread(box.get, "/api/station/logbook?month=2026-11")
            day.dark, day.errors = eyes.dark, tab.errors
            day.screenshots, day.darkest = eyes.count, eyes.darkest
        finally:
            box.kill()
    return day


async def _follow(tab: tabs.Tab, day: Day, starts: dict[str, float], end_s: float) -> None:
    """Notes what the page says of itself until the box's clock is at `end_s`."""
    last = ""
    while True:
        said = await tab.stats()
        now = said["now"] or 0.0
        if now >= end_s:
            return
        card = said["card"]
        if card:
            day.cards.add(card["kind"])
        if said["picture"] == "recorded":
            item = str(said["recorded"]["key"]).split(" ")[0]
            at = now - starts[item]
            if item != last:
                day.played.append(Played(item, at, 0.0))
                last = item
            elif at > 2.5 and said["recorded"]["state"] == "playing":
                drift = abs(said["recorded"]["positionS"] - at)
                day.played[-1].drift_s = max(day.played[-1].drift_s, drift)
        await asyncio.sleep(0.05)


def _cut_off() -> None:
    """Goes on in a network namespace of its own, in which loopback is all there is."""
    if os.environ.get(CUT):
        for family in ("-4", "-6"):
            routes = subprocess.run(
                ["ip", family, "route", "show"], capture_output=True, text=True, check=True
            ).stdout.strip()
            devices = [one.name for one in Path("/sys/class/net").iterdir()]
            sys.stdout.write(f"ip {family} route: {routes or 'none'}; devices seen: {devices}\n")
            assert not routes, routes
        return
    words = ["-m", "tests.live.village_day", *sys.argv[1:]]
    # sysfs shows the devices of the namespace in which it was mounted.
    inside = 'mount -t sysfs none /sys && ip link set lo up && exec "$@"'
    command = ["unshare", "--net", "--mount", "sh", "-c", inside, "sh", sys.executable, *words]
    os.execvpe("unshare", command, os.environ | {CUT: "1"})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--minutes", type=float, default=10.0, help="how long the day may take")
    parser.add_argument("--shots", type=Path, help="a folder for the screenshots")
    parser.add_argument("--cut", action="store_true", help="in a namespace without any route")
    arguments = parser.parse_args()
    if arguments.cut:
        _cut_off()
    classes = 12
    length_s = max(4, int((arguments.minutes * 60 - 45) / classes - 4) // 2 * 2)
    if arguments.shots:
        arguments.shots.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        day = asyncio.run(
            run_day(Path(folder), classes=classes, length_s=length_s, shots=arguments.shots)
        )
    for one in day.played:
        sys.stdout.write(
            f"{one.item}: {one.late_s:.2f} s late, drift {one.drift_s:.2f} s at most\n"
        )
    sys.stdout.write(
        f"{day.screenshots} screenshots, darkest luma {day.darkest:.0f}, wrong: {day.dark}\n"
        f"cards: {sorted(day.cards)}; errors of the page: {day.errors}\n"
    )
    for play in day.logbook["plays"]:
        sys.stdout.write(f"{play['item']}: {play['played_s']} s, gaps {play['gaps']}\n")


if __name__ == "__main__":
    main()
