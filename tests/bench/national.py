"""Measure the centre with a whole country in it: `python -m tests.bench.national [options]`.

1 centre, 31 provinces, 333 cities, 2,851 counties with a site each, 50,000 stations, a week of
2,000 occurrences, 5 million attendance rows. All is asked over HTTP of a `terrace serve` process,
while its own loops run; times are from a question to the last byte of its answer.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import platform
import secrets
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
from sqlalchemy import func, insert, select, text, update

from schedule.store import Store, insert_many, open_store
from schedule.tables import Attendance, Audit, Invitation, Message, Occurrence, Person, Series, Unit
from tests.bench import machine
from tests.live.processes import free_port
from tests.live.tree import end_process, start_process, until
from tests.schedule import national, postgres
from tests.schedule.national import ZONE, Size
from tests.web.centre.walk import Question, questions
from web.centre.pages import ADDRESSES
from web.centre.signin import Passwords

ROUNDS = 5
AT_ONCE = 16
CHANGES = 200_000
MOST_CHECK_MS, MOST_PAGE_MS, MOST_ROLL_UP_MS, MOST_MIB = 200.0, 300.0, 1000.0, 500.0
LEFT_OUT = ("see_library_course",)
"""About the library, not the schedule; there is none here."""
FILES = ("csv", "ics", "xapi")
"""Ends of the addresses of whole files, which are no pages and have no bound but are measured."""


def main() -> int:
    """Build, start, measure; one row for each question. 1 when a bound is not kept."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.national", description=__doc__)
    parser.add_argument(
        "--postgres", action="store_true", help="on a PostgreSQL server of its own, not on SQLite"
    )
    parser.add_argument("--rows", type=int, default=5_000_000, help="attendance rows (5000000)")
    parser.add_argument(
        "--keep", type=Path, metavar="FILE", help="an SQLite file to use, filled if it is not there"
    )
    arguments = parser.parse_args()
    size = replace(Size(), attended=arguments.rows)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="terrace-bench-")))
        database = str(arguments.keep or folder / "bench.db")
        if arguments.postgres:
            database = stack.enter_context(postgres.running(durable=True)).url("postgres")
        return asyncio.run(_run(database, size, folder))


async def _run(database: str, size: Size, folder: Path) -> int:
    store = await open_store(database)
    here = machine.describe()
    print(f"{here.cores} cores ({here.cpu}), Python {platform.python_version()}, "
          f"{await _version(store)}")  # fmt: skip
    try:
        week = await _fill(store, size)
        async with _centre(database, folder) as centre:
            await _measure(centre, store, size, week)
    finally:
        await store.close()
    for one in centre.over:
        print(f"OVER ITS BOUND: {one}")
    return 1 if centre.over else 0


async def _version(store: Store) -> str:
    query = "SELECT sqlite_version()" if store.kind == "sqlite" else "SHOW server_version"
    async with store.reading() as connection:
        return f"{store.kind} {await connection.scalar(text(query))}"


# ------------------------------------------------------------ what is in it


@dataclass(frozen=True, slots=True)
class Week:
    """The week that is planned, and the month in which was attended. password: of p1."""

    monday_9: datetime
    first_day: int
    password: str

    @property
    def days(self) -> tuple[str, str]:
        text = str(self.first_day)
        return f"{text[:4]}-{text[4:6]}-01", f"{text[:4]}-{text[4:6]}-20"


async def _fill(store: Store, size: Size) -> Week:
    today = datetime.now().replace(hour=9, minute=0, second=0, microsecond=0)
    # Begins in two days at the earliest: no class begins while it is measured.
    monday_9 = today + timedelta(days=2 + (5 - today.weekday()) % 7)
    week = Week(monday_9, int(f"{today:%Y%m}01"), secrets.token_hex(8))
    async with store.reading() as connection:
        filled = await connection.scalar(select(func.count()).select_from(Unit))
    if not filled:
        await _once(
            f"{size.units} units, {size.stations} stations, {size.occurrences} occurrences in",
            lambda: national.build(store, size, monday_9),
        )
        await _once(
            f"{size.attended} attendance rows in",
            lambda: national.attend(store, size, week.first_day),
        )
        await _once(f"{CHANGES} lines of the audit log in", lambda: _changed(store))
    hashed = await Passwords().make(week.password)
    async with store.writing() as connection:
        await connection.execute(update(Person).where(Person.id == 1).values(password_hash=hashed))
    return week


async def _changed(store: Store) -> None:
    rows = [
        {"at": datetime.now(UTC), "person_id": 1 + n % 500, "action": "change plan",
         "subject": f"series:{n % 2000}", "detail": {"title": f"Class {n % 2000}"}}
        for n in range(CHANGES)
    ]  # fmt: skip
    async with store.writing() as connection:
        await insert_many(connection, insert(Audit), rows)


async def _once(name: str, do: Callable[[], Awaitable[object]]) -> None:
    began = time.perf_counter()
    await do()
    print(f"{name:<66}{time.perf_counter() - began:9.1f} s", flush=True)


# ------------------------------------------------------------ the process


@dataclass
class Centre:
    """A running centre, and who asks it. over: what took longer than it may."""

    url: str
    pid: int
    http: aiohttp.ClientSession
    csrf: str = ""
    over: list[str] = field(default_factory=list)
    silent_ms: float = 0.0

    def memory(self, when: str) -> None:
        """Print how much memory the process has now, and had at most."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        now, most = (
            int(status.partition(f"{name}:")[2].split()[0]) / 1024 for name in ("VmRSS", "VmHWM")
        )
        print(f"{'memory ' + when:<66}{now:9.0f} MiB, at most {most:.0f}", flush=True)
        if most > MOST_MIB:
            self.over.append(f"memory {when}: {most:.0f} MiB")

    async def ask(self, method: str, address: str, body: object = None) -> tuple[float, bytes]:
        """Milliseconds until the whole answer was there, and the answer."""
        began = time.perf_counter()
        async with self.http.request(
            method, f"{self.url}{address}", json=body, headers={"X-CSRF-Token": self.csrf}
        ) as answer:
            data = await answer.read()
        took_ms = (time.perf_counter() - began) * 1000
        assert answer.status == 200, f"{method} {address}: {answer.status} {data[:300]!r}"
        return took_ms, data

    async def several(
        self, name: str, most_ms: float | None, method: str, address: str, body: object = None
    ) -> None:
        """The first time, and the others' median and worst."""
        times_ms, cpu_s = [], machine.cpu_time([self.pid]).stat_s
        data = b""
        for _ in range(ROUNDS):
            took_ms, data = await self.ask(method, address, body)
            times_ms.append(took_ms)
        cpu_ms = (machine.cpu_time([self.pid]).stat_s - cpu_s) * 1000 / ROUNDS
        median = statistics.median(times_ms[1:])
        over = most_ms is not None and median > most_ms
        print(
            f"{_cut(name):<66}{median:9.1f} ms, first {times_ms[0]:7.1f}, worst "
            f"{max(times_ms[1:]):7.1f}, CPU {cpu_ms:6.0f}, {len(data) / 1000:8.1f} kB"
            f"{' OVER' if over else ''}",
            flush=True,
        )
        if over:
            self.over.append(f"{name}: {median:.0f} ms")


@contextlib.asynccontextmanager
async def _centre(database: str, folder: Path) -> AsyncIterator[Centre]:
    port = free_port()
    paths = {name: json.dumps(str(folder / name)) for name in ("library", "recordings")}
    (folder / "terrace.toml").write_text(
        f"[relay]\nname = 'centre'\nrecordings = {paths['recordings']}\n"
        f"[library]\nfolder = {paths['library']}\n"
        f"[centre]\ndatabase = {json.dumps(database)}\n"
    )
    command = [sys.executable, "-m", "web.cli", "serve", "--port", str(port)]
    command += ["--config", str(folder / "terrace.toml")]
    process = start_process(command, folder / "centre.log")
    jar = aiohttp.CookieJar(unsafe=True)
    connector = aiohttp.TCPConnector(limit=0)
    try:
        async with aiohttp.ClientSession(cookie_jar=jar, connector=connector) as http:
            centre = Centre(f"http://127.0.0.1:{port}", process.pid, http)
            await _once("the centre is ready", lambda: _ready(centre, folder / "centre.log"))
            yield centre
    finally:
        end_process(process)
        faults = [
            line
            for line in (folder / "centre.log").read_text().splitlines()
            if " ERROR " in line or "Traceback" in line
        ]
        print(f"{'errors in its log':<66}{len(faults):9}", *faults[:3], sep="\n", flush=True)


async def _ready(centre: Centre, log: Path) -> None:
    async def said() -> bool:
        return "ready url" in await asyncio.to_thread(log.read_text)

    await until("the centre is ready", said, 60)
    await centre.ask("GET", "/healthz")


async def _watch(centre: Centre) -> None:
    """Note how long the process answers nobody: whatever blocks its loop delays this."""
    while True:
        took_ms, _ = await centre.ask("GET", "/healthz")
        centre.silent_ms = max(centre.silent_ms, took_ms)
        await asyncio.sleep(0.05)


# ------------------------------------------------------------ what is asked


async def _measure(centre: Centre, store: Store, size: Size, week: Week) -> None:
    centre.memory("when it is ready")
    _, said = await centre.ask("POST", "/api/session", {"login": "p1", "password": week.password})
    centre.csrf = json.loads(said)["csrf"]
    async with _phase(centre, "while it invites to 2,000 occurrences at once, its first act"):
        await _once("all units are invited, all invitations written", lambda: _invited(store))
    centre.memory("after that")
    async with _phase(centre, "while 2,851 counties join"):
        await _joins(centre, store, size)
    centre.memory("after that")
    document = json.loads((await centre.ask("GET", "/api/openapi.json"))[1])
    known = await _known(centre, store, size, week)
    asked = [one for one in questions(document, known) if one.operation not in LEFT_OUT]
    async with _phase(centre, "while one person asks"):
        await _checks(centre, size, week)
        for question in asked:
            await _one(centre, question)
        for address in ADDRESSES:
            address = address.partition("{")[0] + ("1" if "{" in address else "")
            await centre.several(f"page {address}", MOST_PAGE_MS, "GET", address)
    centre.memory("after that")
    async with _phase(centre, f"while {AT_ONCE} ask at once"):
        await _crowd(centre, asked)
    centre.memory("after that")


@contextlib.asynccontextmanager
async def _phase(centre: Centre, name: str) -> AsyncIterator[None]:
    centre.silent_ms = 0.0
    watching = asyncio.create_task(_watch(centre))
    try:
        yield
    finally:
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching
    print(f"{'longest time to /healthz ' + name:<66}{centre.silent_ms:9.0f} ms", flush=True)


async def _invited(store: Store) -> None:
    """Until the numbers of invitations and messages have stood still for a while."""
    last: list[int] = []
    async with asyncio.timeout(600):
        while True:
            async with store.reading() as connection:
                now = [
                    await connection.scalar(select(func.count()).select_from(table)) or 0
                    for table in (Invitation, Message)
                ]
            if now == last and now[0]:
                print(f"{'invitations, messages':<66}{now[0]:9}, {now[1]}")
                return
            last = now
            await asyncio.sleep(3)


async def _for_all(store: Store) -> int:
    """A class that the whole country is asked to."""
    async with store.reading() as connection:
        found = await connection.scalar(
            select(func.min(Occurrence.id))
            .join(Series, Series.id == Occurrence.series_id)
            .where(Series.unit_id == 1)
        )
    assert found is not None
    return int(found)


async def _joins(centre: Centre, store: Store, size: Size) -> None:
    """All counties join one class, first as a province's node tells, then each in one request."""
    lesson = await _for_all(store)
    at = datetime.now(UTC)

    def report(number: int, name: str) -> dict[str, object]:
        return {
            "source": f"{name}/{number}", "occurrence_id": lesson, "attendee_kind": "site",
            "attendee_id": size.county(number), "joined_at": at.isoformat(),
            "seen_at": at.isoformat(),
        }  # fmt: skip

    async def tell(reports: list[dict[str, object]]) -> None:
        await centre.ask("POST", "/api/reports/stays", {"reports": reports})

    async def together() -> None:
        for first in range(0, size.counties, 50):
            numbers = range(first, min(first + 50, size.counties))
            await tell([report(number, "node") for number in numbers])

    async def each() -> None:
        turn = asyncio.Semaphore(64)

        async def one(number: int) -> None:
            async with turn:
                await tell([report(number, "alone")])

        await asyncio.gather(*(one(number) for number in range(size.counties)))

    await _once(f"{size.counties} counties join, in reports of 50", together)
    await _once(f"{size.counties} counties join, each by itself, 64 at once", each)

    async def settled() -> None:
        async with asyncio.timeout(120):
            while True:
                async with store.reading() as connection:
                    count = await connection.scalar(
                        select(func.count(Attendance.unit_id.distinct())).where(
                            Attendance.occurrence_id == lesson
                        )
                    )
                if count == size.counties:
                    return
                await asyncio.sleep(0.2)

    await _once("until all of them are in the attendance", settled)


async def _known(
    centre: Centre, store: Store, size: Size, week: Week
) -> dict[str, tuple[str, ...]]:
    """What is asked: the top of the tree, and a county."""
    occurrence = await _for_all(store)
    async with centre.http.post(
        f"{centre.url}/api/feeds", json={"kind": "unit", "target_id": 1},
        headers={"X-CSRF-Token": centre.csrf},
    ) as answer:  # fmt: skip
        address = (await answer.json())["url"]
    county = str(size.county(700))
    monday = week.monday_9.replace(hour=0)
    return {
        "unit_id": ("1", county), "parent_id": ("1", "2"), "search": ("county X28", "nothing"),
        "site_id": (county,), "station_id": ("700",), "person_id": ("1",), "within": ("1",),
        "series_id": ("1",), "occurrence_id": (str(occurrence),), "state": ("confirmed",),
        "token": (address.rpartition("/")[2].removesuffix(".ics"),),
        "list_occurrences.from": (f"{monday.isoformat()}Z",),
        "list_occurrences.to": (f"{(monday + timedelta(days=7)).isoformat()}Z",),
        "from": (week.days[0],), "to": (week.days[1],), "subject": ("unit:1",),
        "reply": ("open", "yes"), "course": ("none",), "ballot_id": (),
    }  # fmt: skip


async def _checks(centre: Centre, size: Size, week: Week) -> None:
    county = size.county(700)
    plan: dict[str, Any] = {
        "kind": "course", "title": "New", "unit_id": county, "duration_s": 2700,
        "starts_local": week.monday_9.isoformat(), "time_zone": ZONE, "presenter_id": 3,
        "room_id": county, "audience": [{"kind": "unit", "id": county}],
    }  # fmt: skip
    everybody = plan | {"unit_id": 1, "audience": [{"kind": "subtree", "id": 1}]}
    for name, one in {
        "a county's class": plan,
        "a class for the whole country": everybody,
        "the same on 60 days": everybody | {"rule": "FREQ=DAILY;COUNT=60"},
        "the same on 365 days": everybody | {"rule": "FREQ=DAILY;COUNT=365"},
    }.items():
        await centre.several(
            f"clash check, {name}", MOST_CHECK_MS, "POST", "/api/series/check", {"plan": one}
        )


def _cut(name: str) -> str:
    return name if len(name) <= 65 else f"{name[:30]}...{name[-32:]}"


def _longest(question: Question) -> Question:
    """With the longest page that may be asked for."""
    if not question.listed and question.operation != "list_messages":
        return question
    return replace(question, query=(*question.query, ("limit", "500")))


async def _one(centre: Centre, question: Question) -> None:
    most = MOST_PAGE_MS
    if question.operation == "see_totals":
        most = MOST_ROLL_UP_MS
    bound = None if question.path.endswith(FILES) or "/roster/" in question.path else most
    address = _longest(question).address
    await centre.several(f"{question.operation} {address}", bound, "GET", address)


async def _crowd(centre: Centre, asked: list[Question]) -> None:
    """Several ask everything there is, each beginning elsewhere; how long an answer takes then."""
    times_ms: list[float] = []

    async def person(number: int) -> None:
        for at in range(len(asked)):
            question = asked[(at + number * len(asked) // AT_ONCE) % len(asked)]
            took_ms, _ = await centre.ask("GET", _longest(question).address)
            times_ms.append(took_ms)

    began = time.perf_counter()
    await asyncio.gather(*(person(number) for number in range(AT_ONCE)))
    took_s = time.perf_counter() - began
    times_ms.sort()
    print(
        f"{f'{AT_ONCE} people ask for everything at once':<66}{len(times_ms) / took_s:9.1f} "
        f"a second, median {statistics.median(times_ms):.0f} ms, worst {times_ms[-1]:.0f}",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
