"""The logbook of a station: what was really played and who was there, signed, never lost.

One file, `logbook.jws`, one line an entry: a signed document (`media.signed`, typ LOGBOOK). Lines
are only appended, and each is on the disk (fsync) before anything builds on it. A line that the
power cut tore, or that was damaged, is put aside at the next start; all others stay.

Entries go up at least once: `waiting` gives those that the county has not acknowledged, again and
again; each has an id, by which the county takes it once. An acknowledged one stays here for
KEEP_DAYS, as the station's own proof.

A full disk cannot silence the logbook: it keeps RESERVE_BYTES aside in a file, which it gives up
when a write fails for want of room. What still cannot be written waits in memory.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from media import keep, signed
from media.proof import Play, Why

log = logging.getLogger("media.logbook")

KEEP_DAYS: Final = 400
RESERVE_BYTES: Final = 512 * 1024
MAX_LINE_BYTES: Final = 256 * 1024
MAX_UNSAVED: Final = 1000
MAX_ROLL: Final = 300
BATCH: Final = 50

Moment = Annotated[float, Field(ge=0, le=32503680000, allow_inf_nan=False)]


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("it must have no line breaks or control characters")
    return text


Name = Annotated[str, Field(min_length=1, max_length=80), AfterValidator(_printable)]


class Gap(BaseModel):
    """A time within an item in which no picture moved."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    from_s: Moment
    to_s: Moment
    why: Why


class Played(BaseModel):
    """One item that was due, and what of it was seen. Times are Unix seconds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    what: Literal["played"] = "played"
    item: str = Field(max_length=64)
    title: str = Field(max_length=200)
    kind: str = Field(max_length=16)
    course: str = Field(default="", max_length=64)
    rendition: str = Field(default="", max_length=64)
    planned_at: Moment
    planned_s: float = Field(ge=0, le=86400, allow_inf_nan=False)
    started_at: Moment | None
    """When the picture first moved, None if it never did."""
    ended_at: Moment | None
    played_s: float = Field(ge=0, le=86400, allow_inf_nan=False)
    gaps: tuple[Gap, ...] = Field(default=(), max_length=2000)


class Present(BaseModel):
    """One name of a roll-call."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name
    present: bool


class Attendance(BaseModel):
    """Who was there, as a telephone entered it. A later entry for the same item replaces it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    what: Literal["attendance"] = "attendance"
    item: str = Field(max_length=64)
    title: str = Field(max_length=200)
    planned_at: Moment
    head_count: int | None = Field(default=None, ge=0, le=10_000)
    roll: tuple[Present, ...] = Field(default=(), max_length=MAX_ROLL)


class Entry(BaseModel):
    """One line of the logbook.

    id:     unique among all that this box ever wrote, also after its disk was changed
    serial: dense, from 1: who reads knows whether one is missing; the same twice after a full disk
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str = Field(pattern=r"^[0-9a-f]{12}-[0-9]{1,12}$")
    station: str = Field(max_length=64)
    serial: int = Field(ge=1)
    written_at: Moment
    doubt: str = Field(default="", max_length=16)
    """Why the clock was in doubt when this was written (`media.clock.Doubt`)."""
    body: Annotated[Played | Attendance, Field(discriminator="what")]


def played(play: Play) -> Played:
    """The entry of a play that is over; times to the millisecond."""
    moving = play.moving
    return Played(
        item=play.item, title=play.title, kind=play.kind, course=play.course,
        rendition=play.rendition, planned_at=play.planned_at, planned_s=play.planned_s,
        started_at=round(moving[0].from_s, 3) if moving else None,
        ended_at=round(moving[-1].to_s, 3) if moving else None,
        played_s=round(sum(one.to_s - one.from_s for one in moving), 3),
        gaps=tuple(
            Gap(from_s=round(one.from_s, 3), to_s=round(one.to_s, 3), why=one.why)
            for one in play.gaps
        ),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Line:
    """An entry with the signed text that goes up."""

    entry: Entry
    text: str


class Logbook:
    """The logbook of one box. Its methods touch the disk: call them from threads."""

    def __init__(self, folder: Path, key: Ed25519PrivateKey) -> None:
        """Opens the logbook, and repairs it; `damaged` says how many lines were put aside.

        Raises OSError only when the disk cannot be read.
        """
        self._file = folder / "logbook.jws"
        self._acknowledged_file = folder / "acknowledged"
        self._reserve = folder / "logbook.reserve"
        self._key = key
        self.lines: list[Line] = []
        self.acknowledged: set[str] = set()
        self._unsaved: list[Line] = []
        self._writing = threading.RLock()
        self.damaged = 0
        self._load(key.public_key())
        self._serial = max((line.entry.serial for line in self.lines), default=0)
        # Another one at each start: an entry that was delivered from memory while the disk was
        # full, and lost with the power, must not share its id with the next.
        self._start = secrets.token_hex(6)
        self._make_reserve()

    # ------------------------------------------------------------ writing

    def add(self, station: str, now: float, doubt: str, body: Played | Attendance) -> Entry:
        """Writes an entry. On a full or broken disk it waits in memory; see `unsaved`."""
        with self._writing:
            self._serial += 1
            entry = Entry(
                id=f"{self._start}-{self._serial}", station=station, serial=self._serial,
                written_at=round(now, 3), doubt=doubt, body=body,
            )  # fmt: skip
            line = Line(entry, signed.sign(entry, self._key, signed.LOGBOOK))
            self.lines = [*self.lines, line]
            self._unsaved = [*self._unsaved, line][-MAX_UNSAVED:]
            self.save()
            return entry

    @property
    def unsaved(self) -> int:
        """How many entries are in memory only, for want of room."""
        return len(self._unsaved)

    def save(self) -> OSError | None:
        """Appends what waits in memory; returns why it could not."""
        with self._writing:
            if not self._unsaved:
                return None
            try:
                self._append()
            except OSError as error:
                if not self._reserve.exists():
                    return error
                log.warning("logbook-reserve-used why=%r", str(error))
                self._reserve.unlink(missing_ok=True)
                try:
                    self._append()
                except OSError as again:
                    return again
            else:
                self._make_reserve()
            return None

    def _append(self) -> None:
        data = b"".join(line.text.encode() + b"\n" for line in self._unsaved)
        new = not self._file.exists()
        handle = os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            size_bytes = os.fstat(handle).st_size
            try:
                written = os.write(handle, data)
                if written != len(data):
                    raise OSError(28, "No space left on device")
                os.fsync(handle)
            except OSError:
                with contextlib.suppress(OSError):
                    os.ftruncate(handle, size_bytes)
                raise
        finally:
            os.close(handle)
        if new:
            keep.sync_folder(self._file.parent)
        self._unsaved = []

    def _make_reserve(self) -> None:
        if self._reserve.exists():
            return
        try:
            with self._reserve.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, RESERVE_BYTES)
        except OSError:
            with contextlib.suppress(OSError):
                self._reserve.unlink(missing_ok=True)

    # ------------------------------------------------------------ delivery

    def waiting(self, count: int = BATCH) -> list[Line]:
        """Entries that the county has not acknowledged, the oldest first."""
        found = []
        for line in self.lines:
            if line.entry.id not in self.acknowledged:
                found.append(line)
                if len(found) == count:
                    break
        return found

    @property
    def waiting_count(self) -> int:
        return sum(line.entry.id not in self.acknowledged for line in self.lines)

    def acknowledge(self, ids: Iterable[str]) -> int:
        """The county has these; returns how many of them were waiting.

        Not synced: what a power cut forgets is delivered once more, and taken once all the same.
        """
        known = {line.entry.id for line in self.lines}
        new = [one for one in ids if one in known and one not in self.acknowledged]
        self.acknowledged.update(new)
        if new:
            with contextlib.suppress(OSError), self._acknowledged_file.open("a") as file:
                file.write("".join(f"{one}\n" for one in new))
        return len(new)

    def forget_acknowledged(self) -> None:
        """Everything waits again: the county has lost what it held."""
        self.acknowledged.clear()
        with contextlib.suppress(OSError):
            self._acknowledged_file.unlink(missing_ok=True)

    def prune(self, now: float) -> int:
        """Drops acknowledged entries older than KEEP_DAYS; returns how many. Raises OSError."""
        with self._writing:
            oldest_s = now - KEEP_DAYS * 86400.0
            kept = [
                line
                for line in self.lines
                if line.entry.written_at >= oldest_s or line.entry.id not in self.acknowledged
            ]
            gone = len(self.lines) - len(kept)
            if gone:
                # An entry that is only in memory is written by this too.
                keep.write(self._file, b"".join(line.text.encode() + b"\n" for line in kept))
                self.lines, self._unsaved = kept, []
                self.acknowledged &= {line.entry.id for line in kept}
                keep.write(
                    self._acknowledged_file,
                    "".join(f"{one}\n" for one in sorted(self.acknowledged)).encode(),
                )
            return gone

    # ------------------------------------------------------------ start

    def _load(self, public_key: Ed25519PublicKey) -> None:
        keep.clear_scratch(self._file.parent)
        data = self._file.read_bytes() if self._file.exists() else b""
        good: list[Line] = []
        bad: list[bytes] = []
        seen: set[str] = set()
        for raw in data.split(b"\n"):
            if not raw:
                continue
            try:
                if len(raw) > MAX_LINE_BYTES:
                    raise signed.BadSignature("the line is too long")
                entry = signed.read(raw, [public_key], signed.LOGBOOK, Entry)
                if entry.id not in seen:
                    good.append(Line(entry, raw.decode()))
                seen.add(entry.id)
            except (signed.BadSignature, signed.BadDocument):
                bad.append(raw)
        self.lines, self.damaged = good, len(bad)
        if bad or (data and not data.endswith(b"\n")):
            # On a full disk this fails and is done at the next start: what is whole is read anyway.
            with contextlib.suppress(OSError):
                aside = self._file.with_name("logbook.damaged")
                with aside.open("ab") as file:
                    file.write(b"".join(raw + b"\n" for raw in bad))
                keep.write(self._file, b"".join(line.text.encode() + b"\n" for line in good))
        ids = {line.entry.id for line in good}
        with contextlib.suppress(OSError, UnicodeDecodeError):
            if self._acknowledged_file.exists():
                self.acknowledged = ids & set(self._acknowledged_file.read_text().split())
