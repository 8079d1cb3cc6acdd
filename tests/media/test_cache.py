"""A folder of pieces that no crash, full disk or rotten byte can break."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from media import cache as cache_module
from media.blob import Blob
from media.cache import Cache, Kept
from media.errors import BadBlob, CacheError, DiskFull

ROOT = Path(__file__).parents[2]


def blob(body: bytes, *, size_known: bool = True) -> Blob:
    digest = hashlib.sha256(body).hexdigest()
    return Blob(digest, len(body) if size_known else 0, "/courses/rice/240p.mp4", 0)


@asynccontextmanager
async def opened(
    folder: Path, budget: int = 1_000_000, *, free: int = 1 << 40, keep_free: int = 0
) -> AsyncIterator[Cache]:
    cache = Cache(folder, budget, keep_free_bytes=keep_free, free_bytes=lambda _: free)
    cache.open()
    try:
        yield cache
    finally:
        cache.close()


def files(folder: Path) -> list[str]:
    return sorted(one.name for one in folder.rglob("*") if one.is_file() and one.name != "lock")


def open_in(folder: Path) -> list[Path]:
    """The files of this folder that this process has open."""
    there = [one.readlink() for one in Path("/proc/self/fd").iterdir() if one.is_symlink()]
    return [one for one in there if one.is_relative_to(folder)]


async def test_a_piece_comes_back_after_a_restart(tmp_path: Path) -> None:
    one = blob(b"a" * 1000)
    async with opened(tmp_path) as cache:
        assert await cache.find(one) is None
        path = await cache.put(one, b"a" * 1000)
        assert await cache.find(one) == path
    async with opened(tmp_path) as cache:
        assert cache.holds(one.sha256)
        assert await cache.find(one) == path
        assert path.read_bytes() == b"a" * 1000
    assert files(tmp_path) == [one.sha256]


async def test_wrong_bytes_never_become_a_piece(tmp_path: Path) -> None:
    async with opened(tmp_path) as cache:
        for body in (b"b" * 1000, b"a" * 999, b"a" * 1001, b""):
            with pytest.raises(BadBlob):
                await cache.put(blob(b"a" * 1000), body)
        assert await cache.find(blob(b"a" * 1000)) is None
    assert files(tmp_path) == []


async def test_what_was_cut_is_gone_on_with(tmp_path: Path) -> None:
    one = blob(b"abcdef")
    async with opened(tmp_path) as cache, await cache.intake(one) as intake:
        await intake.write(b"abc")
    async with opened(tmp_path) as cache, await cache.intake(one) as intake:
        assert intake.received_bytes == 3
        await intake.write(b"def")
        await intake.keep()
        assert await cache.find(one) is not None


@pytest.mark.parametrize("step", ["_take_up", "_append"])
async def test_who_gives_up_while_the_disk_is_at_work_leaves_no_file_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """The file is closed once its thread has ended; who wants the same piece waits for that."""
    one, begun, go_on = blob(b"abcdef"), threading.Event(), threading.Event()
    work = getattr(cache_module, step)

    def slow(*arguments: Any) -> Any:
        begun.set()
        assert go_on.wait(60)
        return work(*arguments)

    async def bring(cache: Cache) -> None:
        async with await cache.intake(one) as intake:
            await intake.write(b"abc")

    async with opened(tmp_path) as cache:
        monkeypatch.setattr(cache_module, step, slow)
        first = asyncio.create_task(bring(cache))
        assert await asyncio.to_thread(begun.wait, 60)
        first.cancel()
        second = asyncio.create_task(bring(cache))
        await asyncio.wait({first, second}, timeout=0.2)
        assert not first.done()
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await first
        await second
        assert open_in(tmp_path / "partial") == []


@pytest.mark.parametrize("size_known", [True, False])
async def test_a_partial_that_is_too_long_or_wrong_costs_itself(
    tmp_path: Path, *, size_known: bool
) -> None:
    one = blob(b"abcdef", size_known=size_known)
    async with opened(tmp_path) as cache:
        (tmp_path / "partial" / one.sha256).write_bytes(b"x" * 7 if size_known else b"xbc")
        async with await cache.intake(one) as intake:
            if intake.received_bytes:
                await intake.write(b"def")
                with pytest.raises(BadBlob):
                    await intake.keep()
            assert intake.received_bytes == 0
            await intake.write(b"abcdef")
            await intake.keep()
        assert await cache.find(one) is not None


async def test_a_piece_that_goes_bad_on_the_disk_is_found_out_and_dropped(tmp_path: Path) -> None:
    one = blob(b"a" * 1000)
    async with opened(tmp_path) as cache:
        path = await cache.put(one, b"a" * 1000)
        path.write_bytes(b"a" * 999 + b"b")
        assert await cache.find(one) is None
        assert not cache.holds(one.sha256)
        assert not path.exists()
        assert cache.counters.spoiled == 1
        await cache.put(one, b"a" * 1000)
        path.unlink()
        assert await cache.find(one) is None


async def test_a_byte_that_rots_while_nobody_runs_is_found_out(tmp_path: Path) -> None:
    """The time of the change is the old one, as on a disk that rots."""
    one = blob(b"a" * 1000)
    async with opened(tmp_path) as cache:
        path = await cache.put(one, b"a" * 1000)
    about = path.stat()
    path.write_bytes(b"b" + b"a" * 999)
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))
    async with opened(tmp_path) as cache:
        assert await cache.find(one) is None


async def test_the_oldest_makes_room_and_the_pinned_stays(tmp_path: Path) -> None:
    bodies = [bytes([number]) * 400 for number in range(4)]
    async with opened(tmp_path, budget=1000) as cache:
        cache.pin("timetable", [blob(bodies[0]).sha256])
        for body in bodies:
            await cache.put(blob(body), body)
        held = [cache.holds(blob(body).sha256) for body in bodies]
        assert held == [True, False, False, True]
        assert cache.counters.evicted == 2


async def test_the_order_of_use_outlives_a_restart(tmp_path: Path) -> None:
    a, b, c = (bytes([number]) * 400 for number in range(3))
    async with opened(tmp_path, budget=1000) as cache:
        path = await cache.put(blob(a), a)
        await cache.put(blob(b), b)
    os.utime(path, ns=(2**62, path.stat().st_mtime_ns))  # a is used later than b
    async with opened(tmp_path, budget=1000) as cache:
        await cache.put(blob(c), c)
        assert [cache.holds(blob(one).sha256) for one in (a, b, c)] == [True, False, True]


async def test_a_budget_full_of_what_is_needed_says_so(tmp_path: Path) -> None:
    a, b = b"a" * 600, b"b" * 600
    async with opened(tmp_path, budget=1000) as cache:
        cache.pin("timetable", [blob(a).sha256])
        await cache.put(blob(a), a)
        with pytest.raises(DiskFull, match="needed soon: allow it more, or plan less"):
            await cache.put(blob(b), b)
        assert await cache.find(blob(a)) is not None


async def test_a_disk_filled_by_others_says_so_and_what_is_there_is_served(tmp_path: Path) -> None:
    a, b = b"a" * 600, b"b" * 600
    async with opened(tmp_path) as cache:
        await cache.put(blob(a), a)
    async with opened(tmp_path, free=1100, keep_free=1000) as cache:
        cache.pin("timetable", [blob(a).sha256])
        with pytest.raises(DiskFull, match=r"is full: .* delete something else on it"):
            await cache.put(blob(b), b)
        assert await cache.find(blob(a)) is not None


async def test_a_disk_that_fills_up_while_a_piece_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, real = blob(b"abcdef"), os.write
    async with opened(tmp_path) as cache:
        async with await cache.intake(one) as intake:
            await intake.write(b"abc")

            def full(*_: object) -> int:
                raise OSError(errno.ENOSPC, "No space left on device")

            monkeypatch.setattr(os, "write", full)
            with pytest.raises(DiskFull, match="is full"):
                await intake.write(b"def")
            monkeypatch.setattr(os, "write", real)
            await intake.write(b"def")
            await intake.keep()
        assert await cache.find(one) is not None


async def test_two_processes_do_not_share_a_folder(tmp_path: Path) -> None:
    async with opened(tmp_path):
        with pytest.raises(CacheError, match="another process uses the cache"):
            Cache(tmp_path, 1000).open()
    async with opened(tmp_path):
        pass


def test_a_folder_that_cannot_be_made_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(CacheError, match="choose a folder"):
        Cache(tmp_path / "file" / "cache", 1000).open()


async def test_documents_are_kept_replaced_and_dropped(tmp_path: Path) -> None:
    async with opened(tmp_path) as cache:
        await cache.keep_document(Kept("/api/courses?q=稻", b"[]\n\n", '"1"', "application/json"))
        await cache.keep_document(Kept("/api/courses?q=稻", b"[1]\n", '"2"', "application/json"))
    async with opened(tmp_path) as cache:
        kept = await cache.document("/api/courses?q=稻")
        assert kept is not None
        assert (kept.body, kept.etag) == (b"[1]\n", '"2"')
        await cache.drop_document(kept.path)
        assert await cache.document(kept.path) is None


@pytest.mark.parametrize(
    "text", [b"", b"{", b"[]\nbody", b'{"path": 1}\nbody', b"\xff\n", b"[" * 9999]
)
async def test_a_half_written_document_is_as_if_it_were_not_there(
    tmp_path: Path, text: bytes
) -> None:
    async with opened(tmp_path) as cache:
        await cache.keep_document(Kept("/api/courses", b"[]"))
        (file,) = (tmp_path / "documents").iterdir()
        file.write_bytes(text)
        assert await cache.document("/api/courses") is None
        assert not file.exists()


WRITER = """
import asyncio, hashlib, sys
from pathlib import Path
from media.blob import Blob
from media.cache import Cache, Kept
async def main():
    cache = Cache(Path(sys.argv[1]), 10**9)
    cache.open()
    for number in range(int(sys.argv[2]), 100000):
        body = number.to_bytes(4, "big") * 5000
        await cache.put(Blob(hashlib.sha256(body).hexdigest(), len(body), "/x", 0), body)
        await cache.keep_document(Kept("/doc", body, str(number)))
        print(number, flush=True)
asyncio.run(main())
"""


async def test_killed_at_any_moment_every_piece_is_whole(tmp_path: Path) -> None:
    """SIGKILL while it writes, twice: what has been said to be kept is there and right."""
    said = -1
    for turn in range(2):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), str(said + 1)],
            stdout=subprocess.PIPE,
            cwd=ROOT,
        )
        assert process.stdout is not None
        for _ in range(3 + 2 * turn):
            said = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        async with opened(tmp_path, budget=10**9) as cache:
            for number in range(said + 1):
                body = number.to_bytes(4, "big") * 5000
                assert await cache.find(blob(body)) is not None
            for digest in list(cache.shelf):
                assert digest.startswith("d-") or await cache.find_digest(digest) is not None
            assert cache.counters.spoiled == 0
            kept = await cache.document("/doc")
            assert kept is not None
            assert kept.body == int(kept.etag).to_bytes(4, "big") * 5000
