"""`terrace backup` and `terrace restore`: the schedule's database as one file, and back."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from schedule import backup
from schedule.errors import StoreError
from schedule.store import database_url, open_store


async def back_up(database: str, path: Path) -> str:
    """Write a backup; what was done, as a sentence. ScheduleError, OSError."""
    _demand_file(database)
    store = await open_store(database, migrate=False)
    try:
        contents = await backup.back_up(store, path, datetime.now(UTC))
    finally:
        await store.close()
    return f"{path}: {contents.total} rows of {len(contents.rows)} tables"


def _demand_file(database: str) -> None:
    """SQLite would make an empty database, and the backup of nothing would look like one."""
    url = database_url(database)
    if url.drivername.startswith("sqlite") and not Path(url.database or "").is_file():
        raise StoreError(f"there is no database {url.database}")


async def restore(database: str, path: Path) -> str:
    """Fill an empty database, made if need be; what was done, as a sentence. ScheduleError."""
    store = await open_store(database)
    try:
        contents = await backup.restore(store, path)
    finally:
        await store.close()
    return f"restored {contents.total} rows of {len(contents.rows)} tables from {path}"
