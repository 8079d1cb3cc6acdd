"""Courses over bad lines, in network namespaces: a thin line, a county with thirty stations, a LAN.

The nodes are real: `terrace relay` at the county, the fetch engine at the stations. The library is
a small server with a course of random bytes, signed as a library signs. Everything that a station
ends up with is hashed by this program.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.lab.loss import Say
from tests.lab.namespaces import Row
from tests.lab.proxy import ROOT
from tests.media.lessons import Lesson, lesson

LIBRARY_PORT, COUNTY_PORT, LINE_PORT = 8700, 8710, 8711
START_WITHIN_S = 60.0


class LabError(Exception):
    """A part did not start, or did not come to an end; the text holds what it said last."""


@dataclass(slots=True)
class ThinRow:
    """One course over a thin, lossy line to a station that is killed.

    received_bytes: of bodies, over all the station's lives. whole: every hash is right.
    line_bytes: frames that went down the line. busy_s: time for which the line was not cut.
    """

    line_bps: float
    loss: float
    course_bytes: int
    seconds: float = 0.0
    busy_s: float = 0.0
    cuts: int = 0
    kills: int = 0
    spoilt_on_disk: int = 0
    spoilt_in_flight: int = 0
    received_bytes: int = 0
    line_bytes: int = 0
    whole: bool = False

    @property
    def twice_share(self) -> float:
        """Of the course's bytes, those that were fetched more than once."""
        return self.received_bytes / self.course_bytes - 1


@dataclass(slots=True)
class CountyRow:
    """Many stations under one county ask for the same course at once.

    sum_bps: body bytes at the stations over the time from the first request to the last piece.
    possible_bps: what the lines allow in sum. county_cpu_s: of the county's process.
    """

    stations: int
    up_bps: float
    down_bps: float
    course_bytes: int
    seconds: float = 0.0
    sum_bps: float = 0.0
    possible_bps: float = 0.0
    library_bytes: int = 0
    up_bytes: int = 0
    down_bytes: int = 0
    county_cpu_s: float = 0.0
    whole: int = 0

    @property
    def share(self) -> float:
        """Of what the lines allow."""
        return self.sum_bps / self.possible_bps if self.possible_bps else 0.0


@dataclass(slots=True)
class LanRow:
    """The second station of a village, with the first next to it; bytes of bodies."""

    course_bytes: int
    from_neighbour: int = 0
    from_parent: int = 0
    seconds: float = 0.0
    whole: bool = False

    @property
    def neighbour_share(self) -> float:
        """Of all that the second station received."""
        total = self.from_neighbour + self.from_parent
        return self.from_neighbour / total if total else 0.0


@dataclass(slots=True)
class _Part:
    """A process in a namespace and what it has said, in lines of JSON."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path
    said: list[dict[str, Any]] = field(default_factory=list)

    def hear(self) -> list[dict[str, Any]]:
        """All that it has said."""
        lines = self.log.read_bytes().split(b"\n")[:-1]
        self.said = []
        for line in lines:
            with contextlib.suppress(ValueError):
                found = json.loads(line)
                if isinstance(found, dict):
                    self.said.append(found)
        return self.said

    def tail(self) -> str:
        return self.log.read_text(errors="replace")[-1500:]

    def cpu_s(self) -> float:
        """CPU time of the process, from /proc."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class _Lab:
    """Namespaces in a row, and the processes in them; all end with the block."""

    def __init__(self, count: int) -> None:
        self.row = Row(count)
        self._folder = tempfile.TemporaryDirectory(prefix="terrace-lab-")
        self.folder = Path(self._folder.name)
        self._parts: list[_Part] = []

    def __enter__(self) -> _Lab:
        self.row.__enter__()
        return self

    def __exit__(self, *exception: Any) -> None:
        for part in self._parts:
            if part.process.poll() is None:
                part.process.kill()
                part.process.wait()
        self.row.__exit__(*exception)
        self._folder.cleanup()

    def start(self, number: int, name: str, *arguments: str) -> _Part:
        """A module of this project in namespace `number`."""
        environment = {k: v for k, v in os.environ.items() if not k.startswith("TERRACE_")}
        environment |= {
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            "TERRACE_CONFIG": os.devnull,
            "TERRACE_CACHE_FOLDER": str(self.folder / f"{name}-cache"),
            "TERRACE_CACHE_KEEP_FREE_MB": "0",
        }
        log = self.folder / f"{name}-{len(self._parts)}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                self.row.command(number, sys.executable, "-m", *arguments),
                cwd=self.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        part = _Part(name, process, log)
        self._parts.append(part)
        return part

    def library(self, number: int, size: tuple[int, int]) -> str:
        """A library in a namespace; its URL from below."""
        address = self.row.address(number)
        self.start(
            number, "library", "tests.lab.box", "library", "--host", address,
            "--port", str(LIBRARY_PORT), *_size(size),
        )  # fmt: skip
        return f"http://{address}:{LIBRARY_PORT}"

    def county(self, number: int, parent: str) -> _Part:
        """A real node in a namespace, below `parent`. It runs open, and so on loopback alone."""
        return self.start(
            number, "county", "web.cli", "relay", "--port", str(COUNTY_PORT), "--name", "county",
            "--parent", parent,
        )  # fmt: skip

    def ask(self, number: int, url: str) -> Any:
        """GET a JSON document from inside a namespace."""
        code = (
            "import sys,urllib.request as u;print(u.urlopen(sys.argv[1],timeout=5).read().decode())"
        )
        return json.loads(self.row.run(self.row.names[number], sys.executable, "-c", code, url))

    async def answers(self, number: int, url: str) -> None:
        """Wait until a node answers."""
        deadline = time.monotonic() + START_WITHIN_S
        while time.monotonic() < deadline:
            with contextlib.suppress(Exception):
                await asyncio.to_thread(
                    self.row.run, self.row.names[number], sys.executable, "-c",
                    "import sys,urllib.request as u;u.urlopen(sys.argv[1],timeout=2)", url,
                )  # fmt: skip
                return
            await asyncio.sleep(0.2)
        raise LabError(f"{url} does not answer:\n" + "\n".join(p.tail() for p in self._parts))


def _size(size: tuple[int, int]) -> tuple[str, ...]:
    return ("--segments", str(size[0]), "--segment-bytes", str(size[1]))


def pieces(folder: Path) -> Iterator[Path]:
    """The files of the pieces in a station's folder."""
    return (folder / "cache" / "pieces").glob("??/*")


def is_whole(course: Lesson, folder: Path) -> bool:
    """Whether every piece is there and right, by our own hashing."""
    for blob in course.blobs:
        file = folder / "cache" / "pieces" / blob.sha256[:2] / blob.sha256
        if not file.is_file() or hashlib.sha256(file.read_bytes()).hexdigest() != blob.sha256:
            return False
    return True


def received(folder: Path) -> Counter[str]:
    """Body bytes by the kind of their source, as the station noted them chunk by chunk."""
    total: Counter[str] = Counter()
    for line in (folder / "received").read_text().splitlines():
        kind, _, size = line.partition(" ")
        total[kind] += int(size)
    return total


async def thin(
    line_bps: float, loss: float, size: tuple[int, int], cuts: int, kills: int, seed: int, say: Say
) -> ThinRow:
    """Must show 3 of issue 4: a line that is cut, a station that is killed, pieces that spoil."""
    chance = random.Random(seed)
    course = lesson(segments=size[0], segment_bytes=size[1])
    wanted_bytes = course.size_bytes + sum(
        len(body)
        for path, body in course.files.items()
        if path.endswith(("manifest", "jpg", "jws"))
    )
    row = ThinRow(line_bps, loss, wanted_bytes)
    with _Lab(3) as lab:
        library = lab.library(0, size)
        await lab.answers(0, f"{library}/counters")
        lab.county(1, library)
        # A line that changes one byte stands before the county.
        county = f"http://{lab.row.address(1)}:{LINE_PORT}"
        spoiling = lab.start(
            1, "line", "tests.lab.box", "line", "--host", lab.row.address(1),
            "--port", str(LINE_PORT), "--above", f"127.0.0.1:{COUNTY_PORT}",
            "--spoil-after", str(round(course.size_bytes * 0.4)),
        )  # fmt: skip
        await lab.answers(1, f"{county}/healthz")
        lab.row.set_rate(1, line_bps)
        lab.row.set_loss(1, loss, protocols="{ tcp, udp }")
        before, _ = lab.row.crossed_bytes(1)
        folder = lab.folder / "station"
        arguments = (
            "tests.lab.box", "station", "--folder", str(folder), "--parent", county, *_size(size),
        )  # fmt: skip
        station = lab.start(2, "station", *arguments)
        total = len(course.blobs)
        steps = sorted(
            [(chance.uniform(0.03, 0.95), "cut") for _ in range(cuts)]
            + [(chance.uniform(0.05, 0.9), "kill") for _ in range(kills)]
            + [(0.5, "disk")]
        )
        begin = time.monotonic()
        dark_s = 0.0
        deadline = begin + 20 * 8 * course.size_bytes / line_bps + 120
        while True:
            if time.monotonic() > deadline:
                raise LabError(f"it takes too long:\n{station.tail()}")
            held = sum(1 for _ in pieces(folder)) if folder.exists() else 0
            if steps and held / total >= steps[0][0]:
                _, what = steps.pop(0)
                say(f"{time.monotonic() - begin:.0f} s, {held} of {total}: {what}")
                if what == "cut":
                    dark = chance.uniform(2, 12)
                    lab.row.set_loss(1, 1.0, protocols="{ tcp, udp }")
                    await asyncio.sleep(dark)
                    lab.row.set_loss(1, loss, protocols="{ tcp, udp }")
                    dark_s += dark
                    row.cuts += 1
                elif what == "kill":
                    _kill(station)
                    row.kills += 1
                    station = lab.start(2, "station", *arguments)
                else:
                    victim = chance.choice(sorted(pieces(folder)))
                    body = victim.read_bytes()
                    victim.write_bytes(body[:-1] + bytes([body[-1] ^ 1]))
                    row.spoilt_on_disk += 1
            elif not steps and held >= total and is_whole(course, folder):
                break
            await asyncio.sleep(0.2)
        row.seconds = round(time.monotonic() - begin, 1)
        row.busy_s = round(row.seconds - dark_s, 1)
        row.line_bytes = lab.row.crossed_bytes(1)[0] - before
        row.received_bytes = sum(received(folder).values())
        row.spoilt_in_flight = sum("spoilt" in one for one in spoiling.hear())
        row.whole = is_whole(course, folder)
    return row


def _kill(part: _Part) -> None:
    """SIGKILL to the station itself: `ip netns exec` has become it."""
    part.process.send_signal(signal.SIGKILL)
    part.process.wait()


async def county(
    stations: int, up_bps: float, down_bps: float, size: tuple[int, int], say: Say
) -> CountyRow:
    """Must show 4 of issue 4: one copy crosses the edge above, and the line below is full."""
    course = lesson(segments=size[0], segment_bytes=size[1])
    row = CountyRow(stations, up_bps, down_bps, course.size_bytes)
    bounds = [bps for bps in (down_bps, up_bps * stations) if bps]
    row.possible_bps = min(bounds) if bounds else 0.0
    with _Lab(3) as lab:
        library = lab.library(0, size)
        await lab.answers(0, f"{library}/counters")
        node = lab.county(1, library)
        _publish_port(lab, 1)
        url = f"http://{lab.row.address(1)}:{COUNTY_PORT}"
        await lab.answers(2, f"{url}/healthz")
        if up_bps:
            lab.row.set_rate(0, up_bps, queue_bytes=256_000)
        if down_bps:
            lab.row.set_rate(1, down_bps, queue_bytes=512_000)
        up, down = lab.row.crossed_bytes(0)[0], lab.row.crossed_bytes(1)[0]
        cpu_s = node.cpu_s()
        processes = 2
        parts: list[_Part] = []
        for number in range(processes):
            count = stations // processes + (number < stations % processes)
            name = f"stations-{number}"
            arguments = ("--folder", str(lab.folder / name), "--parent", url)
            parts.append(
                lab.start(
                    2, name, "tests.lab.box", "station", *arguments,
                    "--count", str(count), *_size(size),
                )
            )  # fmt: skip
        begin = 0.0
        deadline = time.monotonic() + 600
        done = 0
        while done < stations:
            if time.monotonic() > deadline:
                raise LabError(f"{done} stations are done:\n{parts[0].tail()}\n{node.tail()}")
            said = [one for part in parts for one in part.hear()]
            if not begin and said:
                begin = time.monotonic()
            done = sum(one.get("left") == 0 for one in said)
            await asyncio.sleep(0.1)
        row.seconds = round(time.monotonic() - begin, 2)
        row.county_cpu_s = round(node.cpu_s() - cpu_s, 2)
        row.up_bytes = lab.row.crossed_bytes(0)[0] - up
        row.down_bytes = lab.row.crossed_bytes(1)[0] - down
        lab.row.set_rate(0, 0)
        row.library_bytes = lab.ask(0, f"{library}/counters")["sent"][course.media_path]
        folders = [
            one for number in range(processes)
            for one in (lab.folder / f"stations-{number}").iterdir()
        ]  # fmt: skip
        total = sum(sum(received(one).values()) for one in folders)
        row.sum_bps = round(8 * total / row.seconds)
        row.whole = sum(is_whole(course, one) for one in folders)
        say(f"{row.whole} of {stations} whole, {row.sum_bps / 1e6:.1f} Mbit/s in sum")
    return row


def _publish_port(lab: _Lab, number: int) -> None:
    """Let those below reach a node that runs open, and therefore listens on loopback alone."""
    name = lab.row.names[number]
    lab.row.run(name, "sysctl", "-q", "net.ipv4.conf.all.route_localnet=1")
    rules = (
        "table ip open { chain in { type nat hook prerouting priority -100;"
        f' iifname "d{number}" tcp dport {COUNTY_PORT} dnat to 127.0.0.1; }}; }}\n'
    )
    lab.row.run(name, "nft", "-f", "-", text=rules)


async def village(size: tuple[int, int], say: Say) -> LanRow:
    """Must show 8 of issue 4: the second station of a village takes a course from the first."""
    course = lesson(segments=size[0], segment_bytes=size[1])
    row = LanRow(course.size_bytes)
    with _Lab(3) as lab:
        library = lab.library(0, size)
        await lab.answers(2, f"{library}/counters")
        lab.row.set_rate(0, 2_000_000)
        folders = [lab.folder / "first", lab.folder / "second"]
        # The first box's address on the LAN is that of its line below.
        for number, address in ((1, lab.row.address(1)), (2, lab.row.address(2))):
            folder = folders[number - 1]
            begin = time.monotonic()
            box = lab.start(
                number, folder.name, "tests.lab.box", "station", "--folder", str(folder),
                "--parent", library, "--address", address, *_size(size),
            )  # fmt: skip
            while not any(one.get("left") == 0 for one in box.hear()):
                if time.monotonic() > begin + 300:
                    raise LabError(box.tail())
                await asyncio.sleep(0.2)
            say(f"{folder.name} whole after {time.monotonic() - begin:.1f} s")
        row.seconds = round(time.monotonic() - begin, 1)
        got = received(folders[1])
        row.from_neighbour, row.from_parent = got["neighbour"], got["parent"]
        row.whole = is_whole(course, folders[1])
    return row
