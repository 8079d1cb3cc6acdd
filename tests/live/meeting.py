"""A meeting for browsers: a centre with people and rooms, and a tree of relays with three counties.

centre (terrace serve) ── province ── city ── longhua, fengning, luanping
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from schedule import agenda, invitations, people, planning, units
from schedule.agenda import Whose
from schedule.people import NewPerson
from schedule.rights import Role
from schedule.series import Draft
from schedule.store import open_store
from schedule.units import NewUnit
from tests.live import films
from tests.live.tree import ROOT, Node, end_process, free_ports, start_process, until
from web.centre import signin

ZONE = "Asia/Shanghai"
LOGIN, PASSWORD = "host", "rice in the terraces"
TITLE = "防汛工作部署会"
COUNTIES = {"longhua": "隆化县", "fengning": "丰宁县", "luanping": "滦平县"}
SITES = {
    "longhua-hall": ("longhua", "隆化县会议室"), "longhua-town": ("longhua", "隆化镇会议室"),
    "fengning-hall": ("fengning", "丰宁县礼堂"), "fengning-town": ("fengning", "大阁镇会议室"),
    "luanping-hall": ("luanping", "滦平县会议室"),
}  # fmt: skip
READY_WITHIN_S = 40.0
NOTHING_MORE: Mapping[str, Sequence[str]] = {}


@dataclass
class Meeting:
    """What was planned. sites: the id of each by its code."""

    occurrence: int
    sites: dict[str, int]


async def plan(database: Path, minutes: int = 60) -> Meeting:
    """A meeting that begins now, with the five rooms of three counties."""
    store = await open_store(str(database))
    try:
        hashed = await signin.Passwords().make(PASSWORD)
        async with store.writing() as connection:
            centre = await units.add_unit(
                connection, NewUnit("centre", "国家中心", "centre", None, ZONE)
            )
            above = centre.id
            for tier, name in (("province", "河北省"), ("city", "承德市")):
                made = await units.add_unit(connection, NewUnit(tier, name, tier, above, ZONE))
                above = made.id
            counties = {
                code: await units.add_unit(connection, NewUnit(code, name, "county", above, ZONE))
                for code, name in COUNTIES.items()
            }
            host = await people.add_person(
                connection, NewPerson(centre.id, LOGIN, "李老师", "host@example.org")
            )
            await people.grant(connection, host.id, centre.id, Role.ADMINISTRATOR)
            await signin.set_password(connection, host.id, hashed)
            sites = {
                code: (
                    await units.add_place(connection, "site", counties[county].id, code, name)
                ).id
                for code, (county, name) in SITES.items()
            }
            now = datetime.now(UTC)
            local = now.astimezone(ZoneInfo(ZONE)).replace(tzinfo=None, microsecond=0)
            draft = Draft(
                "meeting", TITLE, centre.id, local - timedelta(seconds=30), minutes * 60, ZONE,
                presenter_id=host.id, audience=(("subtree", centre.id),),
            )  # fmt: skip
            saved = await planning.save(connection, draft, now, host.id)
            await planning.submit(connection, saved.series.id, now, host.id)
            first = await agenda.occurrences(
                connection, Whose(), now - timedelta(days=1), now + timedelta(days=1)
            )
            # What begins now is beyond the invitations that go out ahead.
            await invitations.invite(connection, first[0].id)
        return Meeting(first[0].id, sites)
    finally:
        await store.close()


FILM = "蓄滞洪区的一天"


def put_in_a_film(folder: Path, seconds: int) -> None:
    """A course in the library of a centre that does not run yet."""
    path = folder / "film.mp4"
    path.write_bytes(films.encoded(seconds))
    command = [sys.executable, "-m", "web.cli", "ingest", str(path), "--title", FILM]
    command += ["--library", str(folder / "library")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


class House:
    """The processes: the centre, its relays, by name."""

    def __init__(self, folder: Path, more: Mapping[str, Sequence[str]]) -> None:
        names = ("centre", "province", "city", *COUNTIES)
        self.folder = folder
        self._more = more
        self.nodes = {
            name: Node(name, port, folder / f"{name}.log")
            for name, port in zip(names, free_ports(len(names)), strict=True)
        }
        self.processes: list[subprocess.Popen[bytes]] = []

    def __getitem__(self, name: str) -> Node:
        return self.nodes[name]

    def start(self) -> None:
        """Start the centre out of its folder, and the relays below it."""
        paths = {
            name: json.dumps(str(self.folder / name))
            for name in ("library", "recordings", "slides")
        }
        (self.folder / "terrace.toml").write_text(
            f"[relay]\nname = 'centre'\nrecordings = {paths['recordings']}\n"
            f"[library]\nfolder = {paths['library']}\n"
            f"[centre]\ndatabase = {json.dumps(str(self.folder / 'centre.db'))}\n"
            f"slides = {paths['slides']}\n"
        )
        self._run("centre", "serve", "--config", str(self.folder / "terrace.toml"))
        above = {"province": "centre", "city": "province"} | dict.fromkeys(COUNTIES, "city")
        for name, parent in above.items():
            parts = ["--name", name, "--tier", "county" if name in COUNTIES else name]
            parts += ["--parent", self[parent].url, *self._more.get(name, ())]
            self._run(name, "relay", "--config", os.devnull, *parts)

    def _run(self, name: str, *arguments: str) -> None:
        node = self.nodes[name]
        command = [sys.executable, "-m", "web.cli", *arguments, "--port", str(node.port)]
        folder = {"TERRACE_CACHE_FOLDER": str(self.folder / f"cache-{name}")}
        node._process = start_process(command, node.log, folder)
        self.processes.append(node.process)

    async def ready(self) -> None:
        """Wait until all answer and have found their parents."""

        async def look() -> bool:
            if not all(node.answers() for node in self.nodes.values()):
                return False
            below = [node for name, node in self.nodes.items() if name != "centre"]
            return all([(await one.about())["parent_state"] == "connected" for one in below])

        await until("the tree is joined", look, READY_WITHIN_S)

    def logs(self) -> str:
        """The last lines of all."""
        return "\n".join(f"--- {name}\n{one.log_end(40)}" for name, one in self.nodes.items())


@contextlib.contextmanager
def house(folder: Path, more: Mapping[str, Sequence[str]] = NOTHING_MORE) -> Iterator[House]:
    """A house with its processes started; they end with the block, the lowest first.

    more: further arguments of relays, by their names.
    """
    one = House(folder, more)
    try:
        one.start()
        yield one
    finally:
        for process in reversed(one.processes):
            end_process(process)
