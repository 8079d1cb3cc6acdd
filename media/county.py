"""What a county knows of its stations: who they are, how they are, their timetables and logbooks.

One SQLite file in the county's folder, and its key. The stations outlive it: when the file is lost
or damaged, it is put aside, a new one is begun, and each station shows its signed identity and
sends its whole logbook again. So the county's key is what must be kept; everything else comes back.

All methods block: call them from a thread. A lock lets one work at a time.
"""

from __future__ import annotations

import base64
import logging
import sqlite3
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from media import keep, pairing, programme, rollup, signed
from media.clock import SignedTime
from media.logbook import MAX_LINE_BYTES, Entry
from media.pairing import Identity, Open, PairingError
from media.programme import Programme
from media.report import REPORT, Report, ReportAnswer
from relay import access

log = logging.getLogger("media.county")

TOKEN_GOOD_S: Final = 14 * 86400.0
RENEW_BELOW_S: Final = 7 * 86400.0
SUBJECT: Final = "station "
"""A station's token has this and its id as its subject."""

_SCHEMA: Final = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
CREATE TABLE IF NOT EXISTS station (
    id TEXT PRIMARY KEY, name TEXT NOT NULL, unit TEXT NOT NULL, grp TEXT NOT NULL,
    public_key TEXT NOT NULL, paired_at REAL NOT NULL, revoked INTEGER NOT NULL DEFAULT 0,
    sequence INTEGER NOT NULL DEFAULT -1, seen_at REAL, report TEXT,
    picture BLOB, picture_at REAL, picture_wanted INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE IF NOT EXISTS entry (
    station TEXT NOT NULL, id TEXT NOT NULL, serial INTEGER NOT NULL, month TEXT NOT NULL,
    body TEXT NOT NULL, signed TEXT NOT NULL, arrived_at REAL NOT NULL,
    PRIMARY KEY (station, id)
) STRICT;
CREATE INDEX IF NOT EXISTS entry_month ON entry (station, month);
CREATE TABLE IF NOT EXISTS told (
    one INTEGER PRIMARY KEY CHECK (one = 1), mark INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS timetable (
    target TEXT PRIMARY KEY, serial INTEGER NOT NULL, signed TEXT NOT NULL, zone TEXT NOT NULL
) STRICT;
"""


class Unknown(Exception):
    """No station has this id here, or not with this key; the text is one sentence."""


@dataclass(frozen=True, slots=True)
class StationRow:
    """A station as the county knows it. `report` is its newest, None before the first."""

    id: str
    name: str
    unit: str
    group: str
    public_key: str
    paired_at: float
    seen_at: float | None
    report: Report | None
    picture_at: float | None


class County:
    """The book of one county. `open` before use."""

    def __init__(
        self,
        folder: Path,
        *,
        name: str,
        key_file: Path | None = None,
        library_keys: Sequence[pairing.Pem] = (),
        target_hours: float = rollup.TARGET_HOURS,
    ) -> None:
        self.name = name
        self.target_hours = target_hours
        self.damaged = False
        """Whether the file had to be put aside at the start."""
        self._folder = folder
        self._key_file = key_file or folder / "private.pem"
        self._library_keys = tuple(library_keys)
        self._lock = threading.Lock()
        self._database: sqlite3.Connection | None = None

    def open(self) -> None:
        """Opens or makes the file and the key. Raises OSError and relay.access.KeyFileError."""
        self._folder.mkdir(parents=True, exist_ok=True)
        pem = keep.read(self._key_file)
        if pem is None:
            pem, _ = access.new_key_pair()
            keep.write(self._key_file, pem, mode=0o600)
        self._pem = pem
        self._key = access.load_private_key(pem)
        file = self._folder / "stations.sqlite"
        try:
            self._database = _connect(file)
        except sqlite3.DatabaseError as error:
            log.warning("county-book-damaged why=%r", str(error))
            self.damaged = True
            for suffix in ("", "-wal", "-shm"):
                keep.put_aside(file.with_name(file.name + suffix))
            self._database = _connect(file)

    def close(self) -> None:
        with self._lock:
            if self._database is not None:
                self._database.close()
                self._database = None

    @property
    def public_key(self) -> Ed25519PublicKey:
        """Who signs here."""
        return self._key.public_key()

    @property
    def _db(self) -> sqlite3.Connection:
        assert self._database is not None
        return self._database

    @property
    def timetable_keys(self) -> list[Ed25519PublicKey]:
        """Whose timetables are taken: the county's own, and those that the libraries sign."""
        return [self.public_key, *map(pairing.read_pem, self._library_keys)]

    # ------------------------------------------------------------ pairing

    def confirm(self, one: Open, station: str, name: str, unit: str, group: str, now: float) -> str:
        """Makes a box a station: its signed identity.

        A station that is known gets this box in place of its old one, whose key is good no longer.
        Raises PairingError when the id belongs to a station with another name.
        """
        key = pairing.read_pem(one.public_key)
        identity = Identity(
            station=station, name=name, unit=unit, group=group, county=self.name,
            box_key=access.key_id(key),
            county_keys=(pairing.public_pem(self.public_key),),
            library_keys=self._library_keys,
            issued_at=datetime.fromtimestamp(now, UTC),
        )  # fmt: skip
        with self._lock, self._db:
            row = self._db.execute(
                "SELECT name, revoked FROM station WHERE id = ?", (station,)
            ).fetchone()
            if row is not None and row[0] != name and not row[1]:
                raise PairingError(
                    409,
                    f"The station {station} is there and is called {row[0]}: give that name to "
                    "replace its box, or choose another id.",
                )
            self._adopt(identity, one.public_key, now)
        one.identity = signed.sign(identity, self._key, pairing.IDENTITY)
        return one.identity

    def _adopt(self, identity: Identity, public_key: pairing.Pem, now: float) -> None:
        self._db.execute(
            "INSERT INTO station (id, name, unit, grp, public_key, paired_at) "
            "VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET name = excluded.name, "
            "unit = excluded.unit, grp = excluded.grp, public_key = excluded.public_key, "
            "paired_at = excluded.paired_at, revoked = 0, sequence = -1",
            (identity.station, identity.name, identity.unit, identity.group, public_key, now),
        )

    def remove(self, station: str) -> None:
        """The station's key is good no longer; its logbook stays. Raises Unknown."""
        with self._lock, self._db:
            if not self._db.execute(
                "UPDATE station SET revoked = 1 WHERE id = ? AND NOT revoked", (station,)
            ).rowcount:
                raise Unknown(f"There is no station {station} here.")

    # ------------------------------------------------------------ time

    def signed_time(self, nonce: str, now: float) -> str:
        """The time, for one question. Raises ValueError for a nonce that is none."""
        return signed.sign(SignedTime(unix_s=now, nonce=nonce), self._key, signed.TIME)

    # ------------------------------------------------------------ reports

    def report(self, station: str, text: str, now: float) -> ReportAnswer:
        """Takes a report. Raises Unknown, and the errors of `signed`."""
        with self._lock, self._db:
            row = self._db.execute(
                "SELECT public_key, revoked, sequence, grp, picture_wanted FROM station "
                "WHERE id = ?", (station,),
            ).fetchone()  # fmt: skip
            if row is None or row[1]:
                raise Unknown(
                    f"The station {station} is not known here; it must be paired again."
                    if row is not None
                    else f"The station {station} is not known here; let it show its identity."
                )
            public_key, _, sequence, group, wanted = row
            one = signed.read(text, [pairing.read_pem(public_key)], REPORT, Report)
            if one.station != station:
                raise signed.BadDocument("the report is of another station")
            if one.sequence <= sequence:
                raise Stale(int(sequence))
            self._db.execute(
                "UPDATE station SET sequence = ?, seen_at = ?, report = ? WHERE id = ?",
                (one.sequence, now,
                 one.model_copy(update={"picture": "", "identity": ""}).model_dump_json(), station),
            )  # fmt: skip
            if one.picture:
                self._db.execute(
                    "UPDATE station SET picture = ?, picture_at = ?, picture_wanted = 0 "
                    "WHERE id = ?", (_jpeg(one.picture), now, station),
                )  # fmt: skip
            entries = self._db.execute(
                "SELECT count(*) FROM entry WHERE station = ?", (station,)
            ).fetchone()[0]
            timetable = self._timetable(station, group)
        token, good_s = "", 0.0
        if one.token_good_s < RENEW_BELOW_S:
            token, good_s = self.token(station, now), TOKEN_GOOD_S
        return ReportAnswer(
            serial=timetable[1] if timetable else 0, token=token, token_good_s=good_s,
            entries=entries, want=("picture",) if wanted and not one.picture else (),
        )  # fmt: skip

    def token(self, station: str, now: float) -> str:
        """Lets a station view every course and every live class here."""
        return access.issue(
            self._pem, publish=[], view=["*"], relay=False, ttl_s=TOKEN_GOOD_S,
            subject=SUBJECT + station, now=now,
        )  # fmt: skip

    def recognise(self, identity_text: str, public_key: pairing.Pem, now: float) -> None:
        """Takes back a station that this county has forgotten, by what it signed itself.

        Raises Unknown for one that it has not signed, and for one that was removed.
        """
        try:
            identity = signed.read(identity_text, [self.public_key], pairing.IDENTITY, Identity)
            key = pairing.read_pem(public_key)
        except (signed.BadSignature, signed.BadDocument, ValueError) as error:
            raise Unknown(f"This county has not signed that identity: {error}.") from error
        if access.key_id(key) != identity.box_key:
            raise Unknown("This identity belongs to another box.")
        with self._lock, self._db:
            known = self._db.execute(
                "SELECT 1 FROM station WHERE id = ?", (identity.station,)
            ).fetchone()
            if known is not None:
                raise Unknown("The station was removed here; it must be paired again.")
            self._adopt(identity, pairing.public_pem(key), now)
        log.info("station-recognised station=%s", identity.station)

    # ------------------------------------------------------------ logbook

    def deliver(self, station: str, lines: Sequence[str], now: float) -> list[str]:
        """Takes entries; the ids of those that are held now, whether they came before or not.

        What the station did not sign, or what cannot be read, is not acknowledged.
        Raises Unknown.
        """
        key = pairing.read_pem(self._station_key(station))
        rows = []
        for text in lines:
            if len(text) > MAX_LINE_BYTES:
                continue
            try:
                entry = signed.read(text, [key], signed.LOGBOOK, Entry)
            except (signed.BadSignature, signed.BadDocument):
                log.warning("entry-refused station=%s", station)
                continue
            if entry.station != station:
                continue
            planned_at = entry.body.planned_at
            rows.append(
                (station, entry.id, entry.serial, planned_at, entry.model_dump_json(), text, now)
            )
        with self._lock, self._db:
            zone = self._zone(station)
            self._db.executemany(
                "INSERT OR IGNORE INTO entry VALUES (?, ?, ?, ?, ?, ?, ?)",
                [(*row[:3], programme.month_of(row[3], zone), *row[4:]) for row in rows],
            )
        return [row[1] for row in rows]

    def entries(self, station: str, month: str | None = None) -> list[Entry]:
        """The entries of a station, those of one month if it is given."""
        with self._lock:
            found = self._db.execute(
                "SELECT body FROM entry WHERE station = ? AND (? IS NULL OR month = ?) "
                "ORDER BY serial", (station, month, month),
            ).fetchall()  # fmt: skip
        return [Entry.model_validate_json(row[0]) for row in found]

    def untold(self, count: int) -> list[tuple[int, Entry]]:
        """Entries that came since those that `told` names, each with its mark; at most `count`."""
        with self._lock:
            found = self._db.execute(
                "SELECT rowid, body FROM entry WHERE rowid > coalesce((SELECT mark FROM told), 0) "
                "ORDER BY rowid LIMIT ?", (count,),
            ).fetchall()  # fmt: skip
        return [(row[0], Entry.model_validate_json(row[1])) for row in found]

    def told(self, mark: int) -> None:
        """The entries up to this mark are kept further up."""
        with self._lock, self._db:
            self._db.execute("INSERT OR REPLACE INTO told VALUES (1, ?)", (mark,))

    def month(self, station: str, which: str) -> tuple[rollup.Month, list[rollup.PlayRow]]:
        """The sums of a station's month and its plays."""
        with self._lock:
            zone = self._zone(station)
        rows = rollup.rows(self.entries(station, which))
        return rollup.month(rows, which, zone, self.target_hours)

    # ------------------------------------------------------------ timetables

    def put_timetable(self, target: str, text: str) -> Programme:
        """Keeps a signed timetable for a station or a group, which must be newer than the last.

        Raises signed.BadSignature, programme.ProgrammeError.
        """
        one = programme.parse(signed.verify(text, self.timetable_keys, programme.TYP))
        if one.station != target:
            raise programme.ProgrammeError(f"the timetable is for {one.station}, not for {target}")
        with self._lock, self._db:
            row = self._db.execute(
                "SELECT serial FROM timetable WHERE target = ?", (target,)
            ).fetchone()
            if row is not None and one.serial <= row[0]:
                raise programme.ProgrammeError(
                    f"the timetable has the serial {one.serial} and {row[0]} is in force: stations "
                    "take a higher one only"
                )
            self._db.execute(
                "INSERT OR REPLACE INTO timetable VALUES (?, ?, ?, ?)",
                (target, one.serial, text, one.time_zone),
            )
        return one

    def timetable(self, station: str) -> tuple[str, int] | None:
        """The signed timetable of a station and its serial; its own goes before its group's."""
        with self._lock:
            row = self._db.execute("SELECT grp FROM station WHERE id = ?", (station,)).fetchone()
            return self._timetable(station, row[0] if row is not None else "")

    def timetables_in_force(self) -> list[tuple[str, str]]:
        """By target, the signed timetables that the stations here play by, each once."""
        with self._lock:
            return self._db.execute(
                "SELECT DISTINCT t.target, t.signed FROM station AS s JOIN timetable AS t "
                "ON t.target = s.id OR (t.target = s.grp AND NOT EXISTS "
                "(SELECT 1 FROM timetable AS own WHERE own.target = s.id)) "
                "WHERE NOT s.revoked ORDER BY t.target"
            ).fetchall()

    def _timetable(self, station: str, group: str) -> tuple[str, int] | None:
        row = self._db.execute(
            "SELECT signed, serial FROM timetable WHERE target IN (?, ?) "
            "ORDER BY target = ? DESC LIMIT 1", (station, group or station, station),
        ).fetchone()  # fmt: skip
        return (row[0], row[1]) if row is not None else None

    def _zone(self, station: str) -> str:
        row = self._db.execute(
            "SELECT zone FROM timetable, station WHERE station.id = ? AND target IN "
            "(station.id, station.grp) ORDER BY target = station.id DESC LIMIT 1", (station,),
        ).fetchone()  # fmt: skip
        return row[0] if row is not None else "Asia/Shanghai"

    # ------------------------------------------------------------ what an operator sees

    def stations(self) -> list[StationRow]:
        """All stations that were not removed, by name."""
        with self._lock:
            rows = self._db.execute(f"{_STATION} WHERE NOT revoked ORDER BY name, id").fetchall()
        return [_station(row) for row in rows]

    def station(self, station: str) -> StationRow:
        """One station. Raises Unknown."""
        with self._lock:
            row = self._db.execute(
                f"{_STATION} WHERE id = ? AND NOT revoked", (station,)
            ).fetchone()
        if row is None:
            raise Unknown(f"There is no station {station} here.")
        return _station(row)

    def picture(self, station: str) -> tuple[bytes, float] | None:
        """The newest JPEG of a station's television, and when it came."""
        with self._lock:
            row = self._db.execute(
                "SELECT picture, picture_at FROM station WHERE id = ? AND NOT revoked "
                "AND picture IS NOT NULL", (station,),
            ).fetchone()  # fmt: skip
        return (bytes(row[0]), float(row[1])) if row is not None else None

    def want_picture(self, station: str) -> None:
        """The next report of the station is to bring a picture. Raises Unknown."""
        with self._lock, self._db:
            if not self._db.execute(
                "UPDATE station SET picture_wanted = 1 WHERE id = ? AND NOT revoked", (station,)
            ).rowcount:
                raise Unknown(f"There is no station {station} here.")

    def _station_key(self, station: str) -> pairing.Pem:
        with self._lock:
            row = self._db.execute(
                "SELECT public_key FROM station WHERE id = ? AND NOT revoked", (station,)
            ).fetchone()
        if row is None:
            raise Unknown(f"The station {station} is not known here.")
        return str(row[0])


class Stale(Exception):
    """A report that came before, or out of order; `sequence` is the newest that was taken."""

    def __init__(self, sequence: int) -> None:
        super().__init__(f"a report with the sequence {sequence} was taken already")
        self.sequence = sequence


_STATION: Final = (
    "SELECT id, name, unit, grp, public_key, paired_at, seen_at, report, picture_at FROM station"
)


def _station(row: tuple[Any, ...]) -> StationRow:
    report = Report.model_validate_json(row[7]) if row[7] is not None else None
    station, name, unit, group, public_key, paired_at, seen_at = row[:7]
    return StationRow(station, name, unit, group, public_key, paired_at, seen_at, report, row[8])


def _connect(file: Path) -> sqlite3.Connection:
    database = sqlite3.connect(file, check_same_thread=False, timeout=10)
    try:
        if database.execute("PRAGMA quick_check").fetchone()[0] != "ok":
            raise sqlite3.DatabaseError("the quick check finds damage")
        database.executescript(_SCHEMA)
    except sqlite3.DatabaseError:
        database.close()
        raise
    return database


def _jpeg(text: str) -> bytes | None:
    """The picture in base64, if it begins as a JPEG does."""
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError:
        return None
    return data if data.startswith(b"\xff\xd8\xff") else None
