"""The village box: what it believes, what its television shows, what it writes down.

`Station` holds everything and answers the box's own HTTP server (web/station_app.py) from memory.
It runs one owner task per concern:

    screen     what the television shows, at the moment it changes; the logbook's witness
    stock      courses by the timetable onto the disk (`media.stock`)
    county     pairing, time, timetable, report, logbook (`media.rounds`)
    care       the disk, the heat, what must be written down
    watchdog   tells systemd that the others live
    updates    brings a new version, outside of programme time

No concern can end another: one that fails is logged and begun again, and what is on the disk plays
on. Everything on the disk is written whole or not at all (`media.keep`, `media.logbook`), and what
a power cut damaged is put aside with a fault that says so.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import secrets
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pydantic import BaseModel, ConfigDict, Field

from media import health, keep, logbook, pairing, parcel, playout, programme, rollup, signed
from media.cache import Cache
from media.clock import Doubt, Heard, Kept, Timekeeper, Wall
from media.errands import Errands, NoLine, Turned
from media.errors import NotThere
from media.faults import Code, Faults
from media.fetch import Source
from media.logbook import Attendance, Logbook
from media.mirror import Mirror
from media.neighbours import Neighbours
from media.pairing import Identity, Offer
from media.parcel import Outcome
from media.playout import Screen, Show
from media.programme import Programme
from media.proof import Play, Report, Witness
from media.shelf import Shelf
from media.stock import Stock
from media.watchdog import Heartbeats, Notifier
from media.window import Line
from relay import access

log = logging.getLogger("media.station")

_M = TypeVar("_M", bound=BaseModel)

LOOK_EVERY_S: Final = 1.0
STEP_S: Final = 2.0
"""A clock that is set by more than this ends the open play."""
REST_S: Final = 15.0
"""With nothing on and nothing on its way, the screen is worked out anew this often."""
WRITE_PLAY_EVERY_S: Final = 10.0
CARE_EVERY_S: Final = 30.0
KEEP_CLOCK_EVERY_S: Final = 300.0
BEGIN_AGAIN_S: Final = 3.0
TELEVISION_SILENT_S: Final = 60.0
NEIGHBOUR_TIME_EVERY_S: Final = 20.0
UPDATE_MARGIN_S: Final = 1800.0
UPDATE_EVERY_S: Final = 86400.0
UPDATE_WITHIN_S: Final = 900.0
CODE_LETTERS: Final = "23456789ABCDEFGHJKMNPQRSTVWXYZ"
CODE_LENGTH: Final = 6
CODES_KEPT: Final = 3


Concerns = dict[str, Callable[[], Awaitable[None]]]
"""Owner tasks by name."""


@dataclass(frozen=True, slots=True)
class StationConfig:
    """What a station is told at start. `parents`: base URLs, its county first."""

    folder: Path
    name: str = "station"
    parents: tuple[str, ...] = ()
    county_key: Ed25519PublicKey | None = None
    cache_bytes: int = 50_000_000_000
    keep_free_bytes: int = 500_000_000
    line: Line = field(default_factory=Line)
    target_hours: float = rollup.TARGET_HOURS
    browser_port: int = 0
    update_command: tuple[str, ...] = ()
    version: str = ""
    port: int = 8780
    neighbours: bool = False
    """Whether boxes on the same LAN are looked for, and this one is announced."""
    lan_url: str = ""
    """Where a telephone in the room reaches the box, "" if it cannot."""


class Remembered(BaseModel):
    """Small things that outlive a restart (`state.json`)."""

    model_config = ConfigDict(extra="ignore")

    token: str = Field(default="", max_length=8192)
    token_until: float = Field(default=0.0, allow_inf_nan=False)
    rate_bps: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    line: dict[str, str | int] = {}
    updated_at: float = Field(default=0.0, allow_inf_nan=False)


@dataclass(frozen=True, slots=True)
class Session:
    """The code that a telephone shows for one item, "" before the first."""

    code: str
    item: str
    title: str
    planned_at: float


@dataclass(slots=True)
class Link:
    """Whether the county answers, since when (believed time)."""

    up: bool
    since_s: float


class Station:
    """One box. `open` reads the disk, `run` works until it is cancelled."""

    def __init__(self, config: StationConfig, wall: Wall) -> None:
        self.config = config
        self.wall = wall
        self.faults = Faults()
        self.heartbeats = Heartbeats()
        self.changed = asyncio.Event()
        """Set by whoever changes what the screen depends on."""
        self.identity: Identity | None = None
        self.identity_text = ""
        self.timetable: Programme | None = None
        self.offer: tuple[Offer, float] | None = None
        """The six figures that are shown, and until when they are good."""
        self.remembered = Remembered()
        self.link = Link(up=False, since_s=0.0)
        self.health = health.Health()
        self.sessions: deque[Session] = deque(maxlen=CODES_KEPT)
        self.television_heard_s: float | None = None
        """Monotonic: when the page last reported anything."""
        self.revision = 0
        self._watchers: set[asyncio.Event] = set()
        self._ended: list[Play] = []
        """Plays that are over and not in the logbook yet."""
        self._to_write = asyncio.Event()
        self._mirror: tuple[Identity, Mirror] | None = None
        self._attended: dict[tuple[str, float], tuple[Attendance, float]] = {}

    # ------------------------------------------------------------ start

    def open(self) -> None:
        """Reads everything from the disk; blocks. Raises OSError and CacheError."""
        folder = self.config.folder
        folder.mkdir(parents=True, exist_ok=True)
        keep.clear_scratch(folder)
        self.cache = Cache(
            folder / "cache", self.config.cache_bytes,
            keep_free_bytes=self.config.keep_free_bytes,
        )  # fmt: skip
        self.cache.open()
        # The signed documents first: the time is later than their issue.
        self.key, _ = pairing.box_key(folder)
        self._read_identity()
        self._read_timetable()
        self._start_clock()
        self.link.since_s = self.now()
        kept = self._read_model("state.json", Remembered)
        self.remembered = kept if kept is not None else Remembered()
        self.config.line.restore(self.remembered.line)
        self.config.line.zone = programme.zone(self.time_zone)
        self.shelf = Shelf(self.cache, self.library_keys, self.faults, self.now)
        self.stock = Stock(
            self.cache, self.shelf, self.config.line, self.faults, self.now,
            lambda: self.timetable.items if self.timetable is not None else (),
            self._sources, self.changed.set,
        )  # fmt: skip
        self.stock.known_bps = self.remembered.rate_bps
        self.book = Logbook(folder, self.key)
        if self.book.damaged:
            self.faults.set(Code.LOGBOOK_REPAIRED, self.now(), lines=self.book.damaged)
        self._read_attendance()
        left = self._read_model("playing.json", Play)
        if left is not None and self._is_in_book(left):
            left = None
        self.witness = Witness(self.now(), left)
        self.screen = self._screen()

    def close(self) -> None:
        """Lets the folder go."""
        self.cache.close()

    def _read_model(self, name: str, model: type[_M]) -> _M | None:
        found, damaged = keep.read_model(self.config.folder / name, model)
        if damaged:
            log.warning("state-damaged file=%s", name)
            self.faults.set(Code.STATE_REPAIRED, self._fault_time(), name, file=name)
        return found

    def _fault_time(self) -> float:
        return self.now() if hasattr(self, "keeper") else self.wall.wall_s()

    def _read_identity(self) -> None:
        text = keep.read(self.config.folder / "identity.jws")
        pinned = self.config.county_key
        county = keep.read(self.config.folder / "county.pem")
        if text is None or (county is None and pinned is None):
            return
        try:
            key = pinned or pairing.read_pem((county or b"").decode("ascii", "replace"))
            self.identity = signed.read(text, [key], pairing.IDENTITY, Identity)
            self.identity_text = text.decode("ascii")
        except (signed.BadSignature, signed.BadDocument, ValueError) as error:
            log.warning("identity-damaged why=%r", str(error))
            keep.put_aside(self.config.folder / "identity.jws")
            self.faults.set(
                Code.STATE_REPAIRED, self._fault_time(), "identity.jws", file="identity.jws"
            )

    def _read_timetable(self) -> None:
        text = keep.read(self.config.folder / "timetable.jws")
        if text is None:
            return
        try:
            self.timetable = programme.parse(
                signed.verify(text, self.timetable_keys(), programme.TYP)
            )
        except (signed.BadSignature, programme.ProgrammeError) as error:
            log.warning("timetable-damaged why=%r", str(error))
            keep.put_aside(self.config.folder / "timetable.jws")
            name = "timetable.jws"
            self.faults.set(Code.STATE_REPAIRED, self._fault_time(), name, file=name)

    def _start_clock(self) -> None:
        kept = self._read_model("clock.json", Kept)
        issued = self.timetable.issued_at.timestamp() if self.timetable is not None else 0.0
        self.keeper = Timekeeper(
            self.wall.wall_s(), self.wall.elapsed_s(), kept, not_before_s=issued
        )
        if self.wall.synchronised():
            self.hear(Heard.NTP, self.wall.wall_s())
        self.check_clock()

    def _read_attendance(self) -> None:
        for line in self.book.lines:
            if isinstance(line.entry.body, Attendance):
                one = line.entry.body
                self._attended[one.item, one.planned_at] = one, line.entry.written_at

    def _is_in_book(self, left: Play) -> bool:
        """Whether a play was written to the logbook just before the power went."""
        was = logbook.played(left)
        return any(
            isinstance(body, logbook.Played)
            and (body.item, body.planned_at) == (was.item, was.planned_at)
            and body.started_at == was.started_at
            for body in (line.entry.body for line in self.book.lines[-20:])
        )

    # ------------------------------------------------------------ who and when

    def now(self) -> float:
        """The believed time in Unix seconds."""
        return self.keeper.now(self.wall.elapsed_s())

    def doubt(self) -> Doubt:
        """Why the time is in doubt; empty if it is not."""
        return self.keeper.reason(self.wall.elapsed_s())

    def hear(self, source: Heard, unix_s: float, on_its_way_s: float = 0.0) -> float:
        """Somebody says what time it is; returns the step."""
        before = self.now()
        step_s = self.keeper.hear(source, unix_s, self.wall.elapsed_s(), on_its_way_s)
        if abs(step_s) > STEP_S and hasattr(self, "witness"):
            self._ended += self.witness.clock_set(before, self.now(), time.monotonic())
            self._to_write.set()
        if step_s:
            log.info("clock-step by_s=%.3f source=%s", step_s, source.value)
        self.check_clock()
        self.changed.set()
        return step_s

    def check_clock(self) -> None:
        doubt = self.doubt()
        if doubt:
            self.faults.set(Code.CLOCK_DOUBT, self.now(), reason=doubt.value)
        else:
            self.faults.clear(Code.CLOCK_DOUBT)

    @property
    def time_zone(self) -> str:
        return self.timetable.time_zone if self.timetable is not None else "Asia/Shanghai"

    @property
    def station_id(self) -> str:
        """The id that the county gave; empty before the box is paired."""
        return self.identity.station if self.identity is not None else ""

    def county_keys(self) -> list[Ed25519PublicKey]:
        """Who may say the time."""
        if self.identity is None:
            return [self.config.county_key] if self.config.county_key is not None else []
        return [pairing.read_pem(one) for one in self.identity.county_keys]

    def library_keys(self) -> list[Ed25519PublicKey]:
        """Who may sign courses: the libraries, and the county."""
        libraries = self.identity.library_keys if self.identity is not None else ()
        return [*map(pairing.read_pem, libraries), *self.county_keys()]

    def timetable_keys(self) -> list[Ed25519PublicKey]:
        """Who may sign timetables: the county, and the libraries."""
        return [*self.county_keys(), *self.library_keys()]

    def _sources(self) -> list[Source]:
        return [Source(url, token=self.remembered.token) for url in self.config.parents]

    # ------------------------------------------------------------ what comes from the county

    async def take_identity(self, text: str, county_key: Ed25519PublicKey) -> None:
        """The box is paired. Raises signed.BadSignature, signed.BadDocument, OSError."""
        identity = signed.read(text, [county_key], pairing.IDENTITY, Identity)
        folder = self.config.folder
        pem = pairing.public_pem(county_key).encode()
        await asyncio.to_thread(keep.write, folder / "county.pem", pem)
        await asyncio.to_thread(keep.write, folder / "identity.jws", text.encode())
        self.identity, self.identity_text, self.offer = identity, text, None
        self.faults.clear(Code.UNPAIRED)
        self.faults.clear(Code.KEY_REFUSED)
        log.info("paired station=%s county=%s", identity.station, identity.county)
        self.changed.set()

    async def take_timetable(self, text: bytes) -> None:
        """A timetable has come. One that cannot be used is a fault, and the last stays in force."""
        now = self.now()
        try:
            one = programme.parse(signed.verify(text, self.timetable_keys(), programme.TYP))
            if self.identity is None or one.station not in (
                self.identity.station, self.identity.group,
            ):  # fmt: skip
                raise programme.ProgrammeError(f"it is for {one.station}")
            if self.timetable is not None and one.serial < self.timetable.serial:
                raise programme.ProgrammeError("it is older than the one in force")
        except signed.BadSignature as error:
            log.warning("timetable-refused why=%r", str(error))
            self.faults.set(Code.PROGRAMME_SIGNATURE, now)
            self.changed.set()
            return
        except programme.ProgrammeError as error:
            log.warning("timetable-refused why=%r", str(error))
            self.faults.set(Code.PROGRAMME_UNREADABLE, now, why=str(error)[:200])
            self.changed.set()
            return
        self.timetable = one
        self.config.line.zone = programme.zone(one.time_zone)
        self.faults.clear(Code.PROGRAMME_SIGNATURE)
        self.faults.clear(Code.PROGRAMME_UNREADABLE)
        log.info("timetable serial=%d items=%d", one.serial, len(one.items))
        await self.write("timetable.jws", text)
        self.stock.nudge()
        self.changed.set()

    def set_link(self, *, up: bool) -> None:
        """The county answered, or did not."""
        if up == self.link.up:
            return
        now = self.now()
        self.link = Link(up, now)
        log.info("line %s", "up" if up else "down")
        if up:
            self.faults.clear(Code.LINE_DOWN)
            self.stock.nudge()
        elif self.identity is not None:
            self.faults.set(Code.LINE_DOWN, now, since=_written(now))
        self.changed.set()

    async def remember(self, **values: object) -> None:
        """Changes `Remembered` and writes it down."""
        self.remembered = self.remembered.model_copy(update=values)
        await self.write("state.json", self.remembered.model_dump_json().encode(), mode=0o600)

    async def write(self, name: str, data: bytes, *, mode: int = 0o644) -> bool:
        """Writes a file of the box; a disk that does not take it is a fault."""
        try:
            await asyncio.to_thread(keep.write, self.config.folder / name, data, mode=mode)
        except OSError as error:
            self.note_disk(error)
            return False
        self.faults.clear(Code.DISK_FULL, "box")
        self.faults.clear(Code.DISK_BROKEN, "box")
        return True

    def note_disk(self, error: OSError) -> None:
        """The disk did not take something."""
        log.warning("disk why=%r", str(error))
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            self.faults.set(Code.DISK_FULL, self.now(), "box")
        else:
            self.faults.set(Code.DISK_BROKEN, self.now(), "box", why=error.strerror or "no reason")

    # ------------------------------------------------------------ the screen

    def _screen(self) -> Screen:
        timetable = self.timetable
        return playout.screen(
            self.now(), timetable, self.shelf,
            paired=self.identity is not None,
            line_up=self.link.up,
            ahead=self.stock.ahead(line_up=self.link.up) if timetable is not None else {},
        )  # fmt: skip

    async def keep_screen(self) -> None:
        """Works the screen out whenever it can have changed, and tells who watches it."""
        seen: object = None
        while True:
            self.heartbeats.beat("screen", 30.0)
            self.changed.clear()
            self.screen = self._screen()
            self._expect()
            self._judge()
            key = (
                self.screen.show, self.screen.current and self.screen.current.id,
                self.screen.current and (self.screen.current.trouble, self.screen.current.src),
                self.screen.coming, self.screen.changes_at, self.faults.revision, self.link.up,
                self.wall.rate(), self.keeper.source, self.offer, self.identity, self.doubt(),
                round(self._offset_s(), 1), len(self.book.lines),
            )  # fmt: skip
            if key != seen:
                seen = key
                self.revision += 1
                for watcher in self._watchers:
                    watcher.set()
            await self._until_next()

    def _offset_s(self) -> float:
        """Another one when the clock was set: the page's own would be wrong from then on."""
        return self.now() - self.wall.elapsed_s()

    async def _until_next(self) -> None:
        plan = self.stock.plan()
        lively = self.screen.current is not None or bool(plan.missing or plan.unknown)
        delay_s = LOOK_EVERY_S if lively or self.identity is None else REST_S
        if self.screen.changes_at is not None:
            delay_s = min(delay_s, self.wall.delay_s(self.screen.changes_at - self.now()))
        delay_s = min(delay_s, self.wall.delay_s(60.0))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(delay_s, 0.002)):
                await self.changed.wait()

    @contextlib.contextmanager
    def watching(self) -> Iterator[asyncio.Event]:
        """An event that is set whenever the screen changes."""
        event = asyncio.Event()
        self._watchers.add(event)
        try:
            yield event
        finally:
            self._watchers.discard(event)

    def _judge(self) -> None:
        """The faults that follow from what is shown."""
        now, current = self.now(), self.screen.current
        for one in [*self.faults]:
            gone = current is None or current.course != one.about
            if one.code is Code.COURSE_MISSING and gone:
                self.faults.clear(Code.COURSE_MISSING, one.about)
        if current is not None and self.screen.show is Show.FAULT:
            self.faults.set(Code.COURSE_MISSING, now, current.course, course=current.course)
        elif current is not None:
            self.faults.clear(Code.COURSE_MISSING, current.course)
        if self.timetable is None and self.identity is not None:
            self.faults.set(Code.PROGRAMME_NONE, now)
        else:
            self.faults.clear(Code.PROGRAMME_NONE)
        if self.timetable is not None and now > self.timetable.valid_until.timestamp():
            until = self.timetable.valid_until.astimezone(programme.zone(self.time_zone))
            self.faults.set(Code.PROGRAMME_EXPIRED, now, until=until.strftime("%Y-%m-%d"))
        else:
            self.faults.clear(Code.PROGRAMME_EXPIRED)
        self.stock.judge(self.stock.ahead(line_up=self.link.up))

    # ------------------------------------------------------------ proof of play

    def _expect(self) -> None:
        current = self.screen.current
        item = None
        if current is not None and self.timetable is not None:
            item = self.timetable.item(current.id)
        now = self.now()
        self._ended += self.witness.expect(
            now, time.monotonic(), item, current.trouble if current else None,
            course=current.course if current else "",
            rendition=current.rendition if current else "",
        )  # fmt: skip
        if self._ended:
            self._to_write.set()
        if item is not None and not any(
            (one.item, one.planned_at) == (item.id, item.start_s) for one in self.sessions
        ):
            self._new_session(item.id, item.title, item.start_s)
        elif not self.sessions:
            self._new_session("", "", 0.0)

    def _new_session(self, item: str, title: str, planned_at: float) -> None:
        code = "".join(secrets.choice(CODE_LETTERS) for _ in range(CODE_LENGTH))
        self.sessions.append(Session(code, item, title, planned_at))

    async def write_entry(self, body: logbook.Played | Attendance) -> None:
        if self.identity is None:
            return
        entry = await asyncio.to_thread(
            self.book.add, self.station_id, self.now(), self.doubt().value, body
        )
        log.info("logbook-entry id=%s what=%s item=%s", entry.id, body.what, body.item)
        if self.book.unsaved:
            self.faults.set(Code.DISK_FULL, self.now(), "logbook")
        self.changed.set()

    def television(self, said: Report) -> None:
        """The television page reports what it does."""
        self.television_heard_s = time.monotonic()
        self.faults.clear(Code.TELEVISION_SILENT)
        if said.state == "error":
            self.faults.set(Code.TELEVISION_ERROR, self.now(), why=said.why or "no reason given")
        else:
            self.faults.clear(Code.TELEVISION_ERROR)
        self.witness.report(self.now(), time.monotonic(), said)

    async def write_play(self) -> None:
        """Writes plays that are over to the logbook, and the open one beside it.

        A power cut costs seconds of the open one. A slow disk never holds the screen up.
        """
        written = ""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(WRITE_PLAY_EVERY_S):
                    await self._to_write.wait()
            self._to_write.clear()
            await self._write_ended()
            self.heartbeats.beat("play", 4 * WRITE_PLAY_EVERY_S)
            play = self.witness.look(self.now(), time.monotonic())
            text = play.model_dump_json() if play is not None else ""
            if text and text != written:
                await self.write("playing.json", text.encode())
            written = text

    async def _write_ended(self) -> None:
        while self._ended:
            await self.write_entry(logbook.played(self._ended[0]))
            self._ended.pop(0)
            # What is open now is written again in some seconds.
            with contextlib.suppress(OSError):
                await asyncio.to_thread((self.config.folder / "playing.json").unlink, True)

    # ------------------------------------------------------------ attendance

    def session(self, code: str) -> Session | None:
        """The session whose code this is."""
        wanted = code.strip().upper()
        for one in reversed(self.sessions):
            if secrets.compare_digest(one.code.encode(), wanted.encode("utf-8", "replace")):
                return one
        return None

    def attendance(self, session: Session) -> tuple[Attendance | None, float | None]:
        """What was entered for a session, and when."""
        found = self._attended.get((session.item, session.planned_at))
        return found if found is not None else (None, None)

    async def attend(self, one: Attendance) -> None:
        """Somebody entered who is there."""
        self._attended[one.item, one.planned_at] = one, self.now()
        while len(self._attended) > 200:
            self._attended.pop(next(iter(self._attended)))
        await self.write_entry(one)

    def month(self, which: str = "") -> tuple[rollup.Month, list[rollup.PlayRow]]:
        """This month, or another, from the box's own logbook."""
        which = which or programme.month_of(self.now(), self.time_zone)
        rows = rollup.rows(line.entry for line in self.book.lines)
        return rollup.month(rows, which, self.time_zone, self.config.target_hours)

    # ------------------------------------------------------------ courses

    def mirror(self) -> Mirror:
        """The box's copies of courses, for who serves or carries them.

        Raises NotThere before the box is paired: it would not know whom to believe.
        """
        if self.identity is None:
            raise NotThere("this box belongs to no county yet, so it has no courses")
        if self._mirror is None or self._mirror[0] is not self.identity:
            mirror = Mirror(self.cache, self.stock.fetcher, self.library_keys())
            self._mirror = self.identity, mirror
        return self._mirror[1]

    async def carry(self, action: str, folder: Path) -> Outcome:
        """Courses to a stick ("export") or from one ("import").

        Raises the errors of `media.parcel`, and NotThere.
        """
        if action == "export":
            return await parcel.export(self.mirror(), folder)
        outcome = await parcel.import_(self.mirror(), folder)
        await self.shelf.load()
        self.stock.nudge()
        self.changed.set()
        return outcome

    # ------------------------------------------------------------ care

    async def take_care(self) -> None:
        """Looks after the disk and the machine, and writes down what must outlive a power cut."""
        kept_clock_s = -KEEP_CLOCK_EVERY_S
        while True:
            self.heartbeats.beat("care", 4 * CARE_EVERY_S)
            self.health = await asyncio.to_thread(health.look, self.config.folder)
            self._judge_machine()
            if self.wall.synchronised():
                self.hear(Heard.NTP, self.wall.wall_s())
            self.check_clock()
            await asyncio.to_thread(self.book.save)
            if not self.book.unsaved:
                self.faults.clear(Code.DISK_FULL, "logbook")
            if time.monotonic() - kept_clock_s >= KEEP_CLOCK_EVERY_S:
                kept_clock_s = time.monotonic()
                await self.keep_clock()
                if self.stock.rate_bps:
                    await self.remember(rate_bps=self.stock.rate_bps, line=self.config.line.state())
            await asyncio.sleep(CARE_EVERY_S)

    async def keep_clock(self) -> None:
        """Writes the believed time down."""
        kept = self.keeper.keep(self.wall.wall_s(), self.wall.elapsed_s())
        await self.write("clock.json", kept.model_dump_json().encode())

    def _judge_machine(self) -> None:
        now, one = self.now(), self.health
        free = one.disk_free_bytes
        if free is not None and free < health.DISK_FULL_BYTES:
            self.faults.set(Code.DISK_FULL, now, "disk")
        else:
            self.faults.clear(Code.DISK_FULL, "disk")
        if free is not None and health.DISK_FULL_BYTES <= free < health.DISK_LOW_BYTES:
            self.faults.set(Code.DISK_LOW, now, free_mb=round(free / 1e6))
        else:
            self.faults.clear(Code.DISK_LOW)
        if one.celsius is not None and one.celsius >= health.HOT_CELSIUS:
            self.faults.set(Code.TEMPERATURE_HIGH, now, celsius=round(one.celsius))
        else:
            self.faults.clear(Code.TEMPERATURE_HIGH)
        if "disk" in self.stock.fetcher.trouble and "full" in self.stock.fetcher.trouble:
            self.faults.set(Code.DISK_FULL, now, "cache")
        elif not self.stock.fetcher.trouble:
            self.faults.clear(Code.DISK_FULL, "cache")
        heard_s = self.television_heard_s
        if heard_s is not None and time.monotonic() - heard_s > TELEVISION_SILENT_S:
            self.faults.set(Code.TELEVISION_SILENT, now, seconds=round(time.monotonic() - heard_s))
        if self.identity is None:
            self.faults.set(Code.UNPAIRED, now)
        self.changed.set()

    async def know_neighbours(self) -> None:
        """Finds the boxes next door: they have pieces, and in doubt they know the time."""
        name = self.station_id or f"box-{access.key_id(self.key.public_key())[:12].lower()}"
        name = "".join(c if c.isalnum() else "-" for c in name)[:40].strip("-")
        port = self.config.port if self.config.lan_url else 0
        async with (
            Neighbours(name, port, changed=self.stock.nudge) as found,
            Errands("") as errands,
        ):
            self.stock.neighbours = found.sources
            while True:
                await asyncio.sleep(NEIGHBOUR_TIME_EVERY_S)
                for one in found.sources() if self.doubt() else ():
                    with contextlib.suppress(NoLine, Turned):
                        answer = await errands.neighbour_time(one.url)
                        if not answer.doubt:
                            self.hear(Heard.NEIGHBOUR, answer.unix_s, answer.on_its_way_s)

    async def watch(self, notifier: Notifier) -> None:
        """Tells systemd that all concerns live, as often as it wants to hear that."""
        while True:
            late = self.heartbeats.late()
            if late:
                log.error("hangs concerns=%s", ",".join(late))
            elif notifier.every_s is not None:
                notifier.say("WATCHDOG=1")
            await asyncio.sleep(min(notifier.every_s or 10.0, 10.0))

    async def keep_updated(self) -> None:
        """Runs the command that brings a new version, once a day, when nobody watches."""
        if not self.config.update_command:
            return
        while True:
            await asyncio.sleep(CARE_EVERY_S)
            now = self.now()
            items = self.timetable.items if self.timetable is not None else ()
            recent = 0 <= now - self.remembered.updated_at < UPDATE_EVERY_S
            if recent or not self.link.up or not programme.quiet(items, now, UPDATE_MARGIN_S):
                continue
            # Before the command, which may end in a restart of this very daemon.
            await self.remember(updated_at=now)
            await self._update()

    async def _update(self) -> None:
        log.info("update-begin")
        process = await asyncio.create_subprocess_exec(
            *self.config.update_command, stdin=asyncio.subprocess.DEVNULL
        )
        try:
            async with asyncio.timeout(UPDATE_WITHIN_S):
                status = await process.wait()
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            raise
        log.info("update-end status=%d", status)

    # ------------------------------------------------------------ life

    async def run(self, concerns: Concerns, notifier: Notifier) -> None:
        """Runs all concerns until it is cancelled; `concerns` are those beyond the box's own."""
        await self.shelf.load()
        own: Concerns = {
            "screen": self.keep_screen,
            "play": self.write_play,
            "stock": self.stock.run,
            "care": self.take_care,
            "watchdog": lambda: self.watch(notifier),
            "updates": self.keep_updated,
        }
        if self.config.neighbours:
            own["neighbours"] = self.know_neighbours
        try:
            async with asyncio.TaskGroup() as group:
                for name, work in (own | concerns).items():
                    group.create_task(self._concern(name, work), name=name)
        finally:
            await self._settle()

    async def _concern(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        """Runs one concern, and begins it again when it fails."""
        while True:
            try:
                await work()
                self.heartbeats.ended(name)
                return
            except (Exception, BaseExceptionGroup) as error:
                if isinstance(error, BaseExceptionGroup) and error.subgroup(asyncio.CancelledError):
                    raise
                log.exception("concern-failed name=%s", name)
                if isinstance(error, OSError):
                    self.note_disk(error)
            await asyncio.sleep(BEGIN_AGAIN_S)

    async def _settle(self) -> None:
        """The last things to write before the end."""
        await self._write_ended()
        play = self.witness.look(self.now(), time.monotonic())
        if play is not None:
            await self.write("playing.json", play.model_dump_json().encode())
        await self.keep_clock()


def _written(moment_s: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(moment_s))
