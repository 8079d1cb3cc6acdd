"""The logbook: signed, whole after every kind of accident, delivered at least once."""

from __future__ import annotations

import errno
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from media import logbook, rollup, signed
from media.logbook import Attendance, Entry, Logbook, Played, Present

T = 1795665600.0
KEY = Ed25519PrivateKey.generate()


def play(number: int = 0, played_s: float = 60.0) -> Played:
    return Played(
        item=f"i{number}", title="水稻", kind="course", planned_at=T + 100 * number, planned_s=60,
        started_at=T + 100 * number, ended_at=T + 100 * number + played_s, played_s=played_s,
    )  # fmt: skip


def filled(folder: Path, count: int = 3) -> Logbook:
    book = Logbook(folder, KEY)
    for number in range(count):
        book.add("shangping", T + 100 * number + 60, "", play(number))
    return book


def items(book: Logbook) -> list[str]:
    return [line.entry.body.item for line in book.lines]


def test_what_was_written_is_there_after_a_restart(tmp_path: Path) -> None:
    filled(tmp_path)
    again = Logbook(tmp_path, KEY)
    assert items(again) == ["i0", "i1", "i2"]
    assert [line.entry.serial for line in again.lines] == [1, 2, 3]
    assert again.damaged == 0


@pytest.mark.parametrize("left", range(1, 200, 13))
def test_a_power_cut_in_a_write_costs_that_line_alone(tmp_path: Path, left: int) -> None:
    filled(tmp_path)
    file = tmp_path / "logbook.jws"
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(lines[:2]) + lines[2][:left])

    again = Logbook(tmp_path, KEY)
    assert (items(again), again.damaged) == (["i0", "i1"], 1)
    assert (tmp_path / "logbook.damaged").read_bytes().strip() == lines[2][:left]
    again.add("shangping", T, "", play(9))
    third = Logbook(tmp_path, KEY)
    assert (items(third), third.damaged) == (["i0", "i1", "i9"], 0)


@pytest.mark.parametrize("damage", [b"\x00" * 50, b"rubbish", b"\n\n"])
def test_damage_in_the_middle_costs_what_it_hit(tmp_path: Path, damage: bytes) -> None:
    filled(tmp_path)
    file = tmp_path / "logbook.jws"
    data = bytearray(file.read_bytes())
    second = data.index(b"\n") + 40
    data[second : second + len(damage)] = damage
    file.write_bytes(data)
    again = Logbook(tmp_path, KEY)
    assert items(again) == ["i0", "i2"]
    assert again.damaged


def test_a_line_that_another_key_signed_is_not_ours(tmp_path: Path) -> None:
    filled(tmp_path)
    other = Logbook(tmp_path, Ed25519PrivateKey.generate())
    assert (items(other), other.damaged) == ([], 3)


def test_entries_wait_until_they_are_acknowledged_also_over_a_restart(tmp_path: Path) -> None:
    book = filled(tmp_path)
    first, *rest = [line.entry.id for line in book.waiting()]
    assert book.acknowledge([first, "000000000000-77"]) == 1
    assert book.acknowledge([first]) == 0
    assert [line.entry.id for line in Logbook(tmp_path, KEY).waiting()] == rest


def test_no_two_entries_share_an_id_even_when_one_was_lost(tmp_path: Path) -> None:
    book = filled(tmp_path, 1)
    lost = book.add("shangping", T, "", play(1)).id
    file = tmp_path / "logbook.jws"
    file.write_bytes(file.read_bytes().splitlines(keepends=True)[0])
    assert Logbook(tmp_path, KEY).add("shangping", T, "", play(2)).id != lost


def test_a_full_disk_uses_the_reserve_and_then_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full from the first write on; giving up the reserve makes room for one."""
    book = filled(tmp_path, 1)
    reserve = tmp_path / "logbook.reserve"
    assert reserve.stat().st_size == logbook.RESERVE_BYTES
    real = os.write

    def full(handle: int, data: bytes) -> int:
        if reserve.exists():
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(handle, data)

    monkeypatch.setattr(os, "write", full)
    book.add("shangping", T, "", play(1))
    assert (book.unsaved, reserve.exists()) == (0, False)

    def fuller(handle: int, data: bytes) -> int:
        real(handle, data[:10])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", fuller)
    book.add("shangping", T, "", play(2))
    assert book.unsaved == 1
    assert len(book.waiting()) == 3
    assert items(Logbook(tmp_path, KEY)) == ["i0", "i1"]

    monkeypatch.setattr(os, "write", real)
    assert book.save() is None
    assert items(Logbook(tmp_path, KEY)) == ["i0", "i1", "i2"]


def test_old_entries_go_when_they_are_acknowledged(tmp_path: Path) -> None:
    book = filled(tmp_path)
    book.acknowledge(line.entry.id for line in book.lines[:2])
    late = T + 100 + 60 + logbook.KEEP_DAYS * 86400 + 10
    assert book.prune(late) == 2
    assert items(Logbook(tmp_path, KEY)) == ["i2"]
    assert book.prune(late + 1e9) == 0


def test_what_goes_up_is_what_was_signed(tmp_path: Path) -> None:
    line = filled(tmp_path, 1).waiting()[0]
    assert signed.read(line.text, [KEY.public_key()], signed.LOGBOOK, Entry) == line.entry
    with pytest.raises(signed.BadSignature):
        signed.read(line.text, [KEY.public_key()], signed.TIMETABLE, Entry)


def test_a_month_sums_up_hours_and_turnout(tmp_path: Path) -> None:
    book = filled(tmp_path, 2)
    who = (Present(name="王", present=True), Present(name="李", present=False))
    for count, roll in ((9, ()), (12, who)):
        book.add(
            "shangping", T + 70 + count, "",
            Attendance(item="i0", title="x", planned_at=T, head_count=count, roll=roll),
        )  # fmt: skip
    book.add("shangping", T, "", play(5, played_s=0))
    plays = rollup.rows(line.entry for line in book.lines)
    month, mine = rollup.month(plays, "2026-11", "Asia/Shanghai")
    assert [one.played.item for one in mine] == ["i0", "i1", "i5"]
    assert (month.hours, month.plays, month.missed) == (0.033, 2, 1)
    assert (month.head_count, month.counted) == (12, 1)
    assert (month.expected, month.present, month.turnout) == (2, 1, 0.5)
    assert mine[0].as_json()["absent"] == 1
    assert rollup.month(plays, "2026-12", "Asia/Shanghai")[0].plays == 0


def test_two_threads_write_no_line_twice(tmp_path: Path) -> None:
    """The daemon adds entries in one thread while another saves what could not be saved before."""
    book = Logbook(tmp_path, KEY)
    with ThreadPoolExecutor(4) as threads:
        for number in range(60):
            threads.submit(book.add, "shangping", T, "", play(number))
            threads.submit(book.save)
    ids = [line.split(b".")[1] for line in (tmp_path / "logbook.jws").read_bytes().splitlines()]
    assert len(ids) == len(set(ids)) == 60
    assert sorted(line.entry.serial for line in Logbook(tmp_path, KEY).lines) == [*range(1, 61)]
