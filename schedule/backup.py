"""Backup and restore: all tables as one file, the same from SQLite and from PostgreSQL.

A backup is a ZIP file with one JSON line per row for each table, and a list of the tables with
their numbers of rows and checksums. It is taken in one read transaction, so it is one moment of the
store while everything goes on. It is restored into an empty database of either kind, in one
transaction: after a failure the database is as empty as before. So a backup also moves a centre
from SQLite to PostgreSQL.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    MetaData,
    Table,
    func,
    insert,
    select,
    text,
    type_coerce,
)
from sqlalchemy.exc import SQLAlchemyError

from schedule.errors import Invalid, StoreError
from schedule.store import Store, newest_revision
from schedule.tables import Base, Instant

FORMAT = 1
LIST = "backup.json"
ROWS_AT_ONCE = 2_000
# A line of a backup: the largest row is a series with its agenda and material.
MOST_LINE_BYTES = 4 << 20
MOST_LIST_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Contents:
    """What a backup holds: rows by table."""

    rows: dict[str, int]

    @property
    def total(self) -> int:
        return sum(self.rows.values())


async def back_up(store: Store, path: Path, now: datetime) -> Contents:
    """Write a backup to a file, which stands there whole or not at all. StoreError, OSError.

    Compressing and writing hold up the event loop: it is meant for a process of its own, which may
    run beside the centre.
    """
    async with store.reading() as connection:
        return await connection.run_sync(_write, path, now)


async def restore(store: Store, path: Path) -> Contents:
    """Fill an empty, migrated database from a backup.

    Invalid for what is no backup, is damaged, or is of another version; StoreError when the
    database has something in it.
    """
    async with store.writing() as connection:
        return await connection.run_sync(_read, path)


def _tables() -> list[Table]:
    """All tables, each after those that it refers to."""
    return list(Base.metadata.sorted_tables)


def _write(connection: Connection, path: Path, now: datetime) -> Contents:
    counts: dict[str, int] = {}
    sums: dict[str, str] = {}
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=3) as archive:
                for table in _tables():
                    with archive.open(f"{table.name}.jsonl", "w", force_zip64=True) as out:
                        counts[table.name], sums[table.name] = _table_out(connection, table, out)
                listed = {
                    "format": FORMAT,
                    "revision": newest_revision(),
                    "made_at": now.isoformat(timespec="seconds"),
                    "rows": counts,
                    "sha256": sums,
                }
                archive.writestr(LIST, json.dumps(listed, indent=1))
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise
    return Contents(counts)


def _table_out(connection: Connection, table: Table, out: IO[bytes]) -> tuple[int, str]:
    digest = hashlib.sha256()
    count = 0
    names = [column.name for column in table.columns]
    # As it stands in the database: a moment is a number here, and stays one.
    columns = [
        type_coerce(column, BigInteger) if isinstance(column.type, Instant) else column
        for column in table.columns
    ]
    # Units refer to each other: the path puts each after the one above it.
    order = [table.c.path] if table.name == "units" else list(table.primary_key.columns)
    query = select(*columns).order_by(*order)
    for rows in connection.execution_options(yield_per=ROWS_AT_ONCE).execute(query).partitions():
        lines = "".join(
            json.dumps(dict(zip(names, row, strict=True)), ensure_ascii=False) + "\n"
            for row in rows
        ).encode()
        digest.update(lines)
        out.write(lines)
        count += len(rows)
    return count, digest.hexdigest()


def _read(connection: Connection, path: Path) -> Contents:
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError) as error:
        raise Invalid(f"{path} is no backup: {error}") from error
    with archive:
        listed = _listed(archive)
        for table in _tables():
            if connection.execute(select(func.count()).select_from(table)).scalar_one():
                raise StoreError("the database is not empty, restore into a new one")
        for table in _tables():
            _table_in(connection, archive, table, listed)
    _number_on(connection)
    return Contents(listed["rows"])


def _listed(archive: zipfile.ZipFile) -> dict[str, Any]:
    try:
        if archive.getinfo(LIST).file_size > MOST_LIST_BYTES:
            raise Invalid("the backup's list of tables is too long")
        listed = json.loads(archive.read(LIST))
        form, revision = listed["format"], listed["revision"]
        rows = {table.name: int(listed["rows"][table.name]) for table in _tables()}
        sums = {table.name: str(listed["sha256"][table.name]) for table in _tables()}
    except (KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
        raise Invalid(f"this is no backup of Terrace, or a damaged one: {error!r:.100}") from error
    if form != FORMAT or revision != newest_revision():
        raise Invalid(
            f"the backup is of schema {str(revision)[:20]}, this is {newest_revision()}; restore "
            "it with the Terrace that made it, then migrate"
        )
    return {"rows": rows, "sha256": sums}


def _table_in(
    connection: Connection, archive: zipfile.ZipFile, table: Table, listed: dict[str, Any]
) -> None:
    plain = Table(table.name, MetaData(), *(_plain_column(column) for column in table.columns))
    names = set(plain.columns.keys())
    digest = hashlib.sha256()
    count = 0
    try:
        for rows in _rows(archive, table.name, digest):
            if any(not isinstance(row, dict) or row.keys() != names for row in rows):
                raise ValueError("a row has other columns")
            connection.execute(insert(plain), rows)
            count += len(rows)
    except (KeyError, ValueError, TypeError, zipfile.BadZipFile, SQLAlchemyError) as error:
        raise Invalid(f"the backup's table {table.name} is damaged: {error!r:.100}") from error
    if count != listed["rows"][table.name] or digest.hexdigest() != listed["sha256"][table.name]:
        raise Invalid(f"the backup's table {table.name} is damaged: its checksum is another")


def _plain_column(column: Any) -> Any:
    kind = BigInteger() if isinstance(column.type, Instant) else column.type
    return Column(column.name, kind, primary_key=column.primary_key, autoincrement=False)


def _rows(archive: zipfile.ZipFile, table: str, digest: Any) -> Iterator[list[Any]]:
    with archive.open(f"{table}.jsonl") as lines:
        rows: list[Any] = []
        while line := lines.readline(MOST_LINE_BYTES):
            if not line.endswith(b"\n"):
                raise ValueError("a line is cut or too long")
            digest.update(line)
            rows.append(json.loads(line))
            if len(rows) >= ROWS_AT_ONCE:
                yield rows
                rows = []
        if rows:
            yield rows


def _number_on(connection: Connection) -> None:
    """Let PostgreSQL number on after the restored ids; SQLite does by itself."""
    if connection.dialect.name != "postgresql":
        return
    for table in _tables():
        column = table.autoincrement_column
        if column is not None and not table.foreign_keys.intersection(column.foreign_keys):
            connection.execute(
                text(
                    f"SELECT setval(pg_get_serial_sequence('{table.name}', '{column.name}'), "  # noqa: S608 - our own names
                    f"greatest((SELECT max({column.name}) FROM {table.name}), 1))"
                )
            )
