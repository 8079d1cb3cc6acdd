"""Units out of a CSV file: the tree in any order of lines, moved branches included."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import bindparam, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from schedule import cells, fields
from schedule.errors import Invalid
from schedule.roster_lines import Outcome, allowed, checked, count
from schedule.store import insert_many
from schedule.tables import Unit
from schedule.units import DEFAULT_ZONE, MOST_DEPTH, NewUnit, unit_values

UNIT_COLUMNS = (
    "code", "parent", "name", "tier", "time_zone", "line_kbps", "duty_minutes", "asks_approval",
)  # fmt: skip


@dataclass(slots=True)
class _Known:
    id: int
    parent: str
    path: str
    depth: int
    values: dict[str, Any]


async def _known_units(connection: AsyncConnection) -> dict[str, _Known]:
    parents = Unit.__table__.alias()
    rows = await connection.execute(
        select(
            Unit.id, Unit.path, Unit.depth, parents.c.code.label("parent"), Unit.code, Unit.name,
            Unit.tier, Unit.time_zone, Unit.line_bps, Unit.duty_minutes, Unit.asks_approval,
        ).outerjoin(parents, parents.c.id == Unit.parent_id)
    )  # fmt: skip
    names = ("code", "name", "tier", "time_zone", "line_bps", "duty_minutes", "asks_approval")
    return {
        row.code: _Known(
            row.id,
            row.parent or "",
            row.path,
            row.depth,
            {name: getattr(row, name) for name in names},
        )
        for row in rows
    }


async def import_units(
    connection: AsyncConnection,
    text: str,
    outcome: Outcome,
    *,
    dry_run: bool,
    within: Sequence[str] | None,
) -> None:
    known = await _known_units(connection)
    lines = cells.read(text, ("code", "parent", "name", "tier"), UNIT_COLUMNS[4:])

    def check(_line: int, row: dict[str, str]) -> dict[str, Any]:
        before = known.get(row["code"].strip())
        new = _new_unit(row, before.values if before else {})
        parent = row["parent"].strip()
        return unit_values(new) | {"parent": fields.code(parent, "parent") if parent else ""}

    good = {
        values["code"]: (line, values)
        for line, _row, values in checked(lines, "code", outcome, check)
    }
    order = _above_first(good, known, outcome)
    _refuse_outsiders(order, good, known, outcome, within)
    count(outcome, good, {code: one.values | {"parent": one.parent} for code, one in known.items()})
    if not dry_run and not outcome.bad_lines:
        await _write_units(connection, [good[code][1] for code in order], known)


def _new_unit(row: Mapping[str, str], before: Mapping[str, Any]) -> NewUnit:
    values: dict[str, Any] = {
        "time_zone": DEFAULT_ZONE,
        "line_bps": None,
        "duty_minutes": None,
        "asks_approval": False,
    } | dict(before)
    values |= {"code": row["code"], "name": row["name"], "tier": row["tier"], "parent_id": None}
    if row.get("time_zone", "").strip():
        values["time_zone"] = row["time_zone"]
    if "line_kbps" in row:
        kbps = row["line_kbps"].strip()
        values["line_bps"] = fields.whole(kbps, "line_kbps", 1, 10**9) * 1000 if kbps else None
    if "duty_minutes" in row:
        minutes = row["duty_minutes"].strip()
        values["duty_minutes"] = (
            fields.whole(minutes, "duty_minutes", 0, 44_640) if minutes else None
        )
    if "asks_approval" in row:
        answer = row["asks_approval"].strip().casefold()
        if answer not in ("", "yes", "no", "是", "否"):
            raise Invalid("asks_approval must be yes or no", "asks_approval")
        values["asks_approval"] = answer in ("yes", "是")
    return NewUnit(**values)


def _above_first(
    good: dict[str, tuple[int, dict[str, Any]]], known: Mapping[str, _Known], outcome: Outcome
) -> list[str]:
    """The codes of the file in an order in which each unit comes after the one above it.

    Lines whose unit above is nowhere, or is below themselves, are refused.
    """
    order: list[str] = []
    depths: dict[str, int] = {}
    refused: set[str] = set()

    def above(code: str) -> str:
        return good[code][1]["parent"] if code in good else known[code].parent

    for start in good:
        chain: list[str] = []
        code = start
        reason = ""
        on_chain: set[str] = set()
        while code and code not in depths and code not in refused:
            if code in on_chain:
                reason = "the unit is below itself"
                break
            if code not in good and code not in known:
                reason = f"the parent {code!r} is neither in the file nor in the store"
                break
            chain.append(code)
            on_chain.add(code)
            code = above(code)
        if code in refused:
            reason = f"the unit above it, {code!r}, is refused"
        depth = -1 if not code or reason else depths[code]
        for one in reversed(chain):
            depth += 1
            if not reason and depth > MOST_DEPTH:
                reason = f"the tree may be at most {MOST_DEPTH} units deep"
            if reason:
                refused.add(one)
                if one in good:
                    outcome.refuse(good[one][0], "parent", reason)
            else:
                depths[one] = depth
                if one in good:
                    order.append(one)
    for code in refused & good.keys():
        del good[code]
    return order


def _refuse_outsiders(
    order: Sequence[str],
    good: Mapping[str, tuple[int, dict[str, Any]]],
    known: Mapping[str, _Known],
    outcome: Outcome,
    within: Sequence[str] | None,
) -> None:
    """Refuse lines that change a unit, or hang one, where the person has no right to."""
    if within is None:
        return
    fresh: set[str] = set()
    for code in order:
        line, values = good[code]
        parent = values["parent"]
        here = known.get(code)
        there = known.get(parent)
        parent_is_mine = parent in fresh or (there is not None and allowed(there.path, within))
        if here is None:
            if parent_is_mine:
                fresh.add(code)
            else:
                outcome.refuse(line, "parent", "you may not add units there")
        elif not allowed(here.path, within) or (parent != here.parent and not parent_is_mine):
            outcome.refuse(line, "code", "you may not change this unit")


async def _write_units(
    connection: AsyncConnection, ordered: Sequence[dict[str, Any]], known: dict[str, _Known]
) -> None:
    """Add new units level by level, so that a level is one statement; then changes; then moves."""
    new = [values for values in ordered if values["code"] not in known]
    last_id = await connection.scalar(select(Unit.id).order_by(Unit.id.desc()).limit(1)) or 0
    # Ids are taken by hand: a path has the unit's own id in it, and there are thousands.
    rows: list[dict[str, Any]] = []
    for unit_id, values in enumerate(new, last_id + 1):
        above = known.get(values["parent"])
        path = f"{above.path if above else ''}{unit_id}/"
        depth = above.depth + 1 if above else 0
        known[values["code"]] = _Known(unit_id, values["parent"], path, depth, {})
        rows.append(
            {name: value for name, value in values.items() if name != "parent"}
            | {"id": unit_id, "path": path, "depth": depth, "parent_id": above and above.id}
        )
    await insert_many(connection, insert(Unit), rows)
    await _number_on(connection, "units")
    fresh = {values["code"] for values in new}
    changed = [
        {f"new_{name}": value for name, value in values.items() if name != "parent"}
        | {"unit": known[values["code"]].id}
        for values in ordered
        if values["code"] not in fresh
        and any(
            known[values["code"]].values[name] != value
            for name, value in values.items()
            if name != "parent"
        )
    ]
    if changed:
        names = [name.removeprefix("new_") for name in changed[0] if name != "unit"]
        await connection.execute(
            update(Unit)
            .where(Unit.id == bindparam("unit"))
            .values({name: bindparam(f"new_{name}") for name in names}),
            changed,
        )
    for values in ordered:
        unit = known[values["code"]]
        if values["code"] not in fresh and values["parent"] != unit.parent:
            await _move(connection, unit, known.get(values["parent"]), known)


async def _move(
    connection: AsyncConnection, unit: _Known, above: _Known | None, known: dict[str, _Known]
) -> None:
    """Hang a unit elsewhere. The units come in an order in which what is above has been moved."""
    before = unit.path
    path = f"{above.path if above else ''}{unit.id}/"
    deeper = (above.depth + 1 if above else 0) - unit.depth
    moved = [one for one in known.values() if one.path.startswith(before)]
    for one in moved:
        one.path, one.depth = path + one.path[len(before) :], one.depth + deeper
    await connection.execute(
        update(Unit)
        .where(Unit.id == bindparam("unit"))
        .values(path=bindparam("new_path"), depth=bindparam("new_depth")),
        [{"unit": one.id, "new_path": one.path, "new_depth": one.depth} for one in moved],
    )
    await connection.execute(
        update(Unit).where(Unit.id == unit.id).values(parent_id=above and above.id)
    )


async def _number_on(connection: AsyncConnection, table: str) -> None:
    """Let PostgreSQL number on after ids that were given by hand; SQLite does by itself."""
    if connection.dialect.name == "postgresql":
        await connection.exec_driver_sql(
            f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), "  # noqa: S608 - our own name
            f"(SELECT greatest(max(id), 1) FROM {table}))"
        )
