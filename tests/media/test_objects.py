"""The object store: the same behaviour of a folder and of a real S3 server."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from media.errors import SettingError
from media.objects import NoSuchObject, Objects, StoreError, open_objects
from tests.media.s3 import s3_server

# Every write to this disk ends as on a full one: ENOSPC.
FULL_DISK = """
import asyncio, sys
from pathlib import Path
from media import objects

async def main():
    store = objects.open_objects(sys.argv[1])
    def full(path):
        raise OSError(28, "No space left on device")
    objects._to_disk = full
    try:
        await store.put("a", b"x" * 100)
    except objects.StoreError as error:
        print(error)
    print([one.name for one in Path(sys.argv[1]).iterdir()])

asyncio.run(main())
"""

BIG = bytes(range(256)) * 40_000  # 10 MB: more than one part of an S3 upload


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with s3_server("courses") as url:
        yield url


@pytest.fixture(params=["folder", "s3"])
def objects(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Objects:
    if request.param == "folder":
        return open_objects(str(tmp_path / "objects"))
    monkeypatch.setenv("AWS_ENDPOINT_URL", request.getfixturevalue("endpoint"))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    return open_objects(f"s3://courses/{tmp_path.name}")


async def test_what_was_put_is_read_whole_and_by_range(objects: Objects, tmp_path: Path) -> None:
    file = tmp_path / "big"
    file.write_bytes(BIG)
    await objects.put("courses/rice/480p.mp4", file)
    assert await objects.read("courses/rice/480p.mp4") == BIG
    assert await objects.read("courses/rice/480p.mp4", 1_000_001, 1_000_011) == BIG[1000001:1000011]
    assert await objects.read("courses/rice/480p.mp4", len(BIG) - 3) == BIG[-3:]
    parts = [bytes(part) async for part in objects.stream("courses/rice/480p.mp4", 5, 700_000)]
    assert b"".join(parts) == BIG[5:700_000]
    assert (await objects.head("courses/rice/480p.mp4")).size_bytes == len(BIG)


async def test_an_object_is_replaced_and_its_tag_tells(objects: Objects) -> None:
    await objects.put("catalogue/rice.jws", b"one")
    before = await objects.head("catalogue/rice.jws")
    await objects.put("catalogue/rice.jws", b"three")
    after = await objects.head("catalogue/rice.jws")
    assert await objects.read("catalogue/rice.jws") == b"three"
    assert before.tag != after.tag


async def test_a_list_names_what_is_below_and_nothing_else(objects: Objects) -> None:
    for key in ("courses/rice/a.jpg", "courses/rice/b.jpg", "courses/rice-2/c.jpg"):
        await objects.put(key, b"x")
    found = await objects.list("courses/rice")
    assert sorted(one.key for one in found) == ["courses/rice/a.jpg", "courses/rice/b.jpg"]
    assert await objects.list("nowhere") == []
    # The listing's tag is the one that `head` tells, or every catalogue would be read again.
    assert found[0].tag == (await objects.head(found[0].key)).tag


async def test_what_is_removed_is_gone_and_may_be_removed_again(objects: Objects) -> None:
    await objects.put("courses/rice/a.jpg", b"x")
    await objects.delete(["courses/rice/a.jpg", "courses/rice/never.jpg"])
    with pytest.raises(NoSuchObject, match=r"has no courses/rice/a\.jpg"):
        await objects.read("courses/rice/a.jpg")
    with pytest.raises(NoSuchObject):
        await objects.head("courses/rice/a.jpg")


@pytest.mark.parametrize(
    "key", ["../x", "a/../b", "/etc/passwd", "a//b", "A", "a b", "", ".hidden", "a/.b", "a\n"]
)
async def test_what_is_no_key_reaches_no_file(objects: Objects, key: str) -> None:
    with pytest.raises(StoreError, match="is no key"):
        await objects.put(key, b"x")
    with pytest.raises(StoreError, match="is no key"):
        await objects.read(key)


async def test_a_range_outside_of_the_object_is_refused(objects: Objects) -> None:
    await objects.put("a", b"123")
    with pytest.raises(StoreError):
        await objects.read("a", 10, 20)


async def test_a_write_that_was_cut_is_not_listed(tmp_path: Path) -> None:
    objects = open_objects(str(tmp_path))
    (tmp_path / "courses").mkdir()
    (tmp_path / "courses" / "part.rice.mp4").write_bytes(b"half")
    await objects.put("courses/rice.mp4", b"whole")
    assert [one.key for one in await objects.list("courses")] == ["courses/rice.mp4"]


def test_a_full_disk_is_said_in_a_sentence(tmp_path: Path) -> None:
    """`fsync` is where a disk says that it is full; nothing is left behind."""
    told = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert told.stdout.splitlines() == [
        f"a cannot be written: the disk of {tmp_path} is full; make room and try again",
        "[]",
    ]


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("https://example.org/x", "a folder or s3://bucket/prefix is meant"),
        ("s3://", "must be s3://bucket/prefix"),
        ("s3://key:secret@bucket/x", "must be s3://bucket/prefix"),
        ("/proc/nothing/here", "cannot be used"),
    ],
)
def test_a_setting_that_is_none_says_what_is_meant(setting: str, said: str) -> None:
    with pytest.raises(SettingError, match=said):
        open_objects(setting)


async def test_a_store_that_does_not_answer_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    objects = open_objects("s3://courses/x", retries=0)
    with pytest.raises(StoreError, match=r"a cannot be read in s3://courses"):
        await objects.read("a")
