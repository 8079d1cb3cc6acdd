"""The library's store: what is published, found again, replaced and removed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from media import signed
from media.course import Attachment, Changes, Course, Rendition
from media.library import ORPHAN_AFTER_S, Library, NoSuchCourse, NotTaken, Outdated
from media.manifest import Manifest
from media.objects import NoSuchObject, Objects, open_objects
from media.search import Query
from tests.media.s3 import s3_server
from tests.media.test_course import document
from tests.media.test_manifest import document as manifest_document

KEY = Ed25519PrivateKey.generate()
DATA = bytes(range(30))


class Clock:
    """Stands still until it is told."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with s3_server("library") as url:
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
    return open_objects(f"s3://library/{tmp_path.name}")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def library(objects: Objects, clock: Clock) -> Library:
    return Library(objects, [KEY.public_key()], KEY, clock=clock)


async def published(
    library: Library, file: Path, course_id: str = "rice", data: bytes = DATA, **more: object
) -> Course:
    """A course with one rendition of these bytes."""
    file.write_bytes(data)
    pieces = {
        "course": course_id,
        "init": {"offset_bytes": 0, "size_bytes": 10, "sha256": hashlib.sha256(data[:10])
                 .hexdigest()},
    }  # fmt: skip
    manifest = Manifest.model_validate(manifest_document(**pieces))
    entry: Rendition = await library.put_rendition(library.sign_manifest(manifest), file)
    about = document(id=course_id, renditions=[entry.model_dump()]) | more
    return await library.save(Course.model_validate(about))


async def test_a_course_that_was_saved_is_listed_and_read(library: Library, tmp_path: Path) -> None:
    await published(library, tmp_path / "file")
    found = (await library.catalogue()).find(Query("育秧"))
    assert [one.id for one in found] == ["rice"]
    course = await library.course("rice")
    assert signed.read(course.text, [KEY.public_key()], signed.COURSE, Course) == course.course
    manifest = await library.manifest("rice", "480p")
    assert course.course.renditions[0].manifest_sha256 == manifest.sha256
    parts = [bytes(part) async for part in library.media(manifest, 5, 25)]
    assert b"".join(parts) == DATA[5:25]


async def test_another_process_s_course_shows_within_seconds(
    objects: Objects, library: Library, clock: Clock, tmp_path: Path
) -> None:
    assert len(await library.catalogue()) == 0
    writer = Library(objects, [KEY.public_key()], KEY)
    await published(writer, tmp_path / "file")
    clock.now = 0.4
    with pytest.raises(NoSuchCourse):
        await library.course("rice")
    clock.now = 1.0
    assert len(await library.catalogue()) == 0
    assert (await library.course("rice")).course.id == "rice"
    await writer.delete("rice")
    clock.now = 4.1
    assert len(await library.catalogue()) == 0
    await published(writer, tmp_path / "file")
    clock.now = 7.0
    assert len(await library.catalogue()) == 0
    clock.now = 7.2
    assert len(await library.catalogue()) == 1
    await writer.delete("rice")
    clock.now = 11.0
    assert len(await library.catalogue()) == 0
    with pytest.raises(NoSuchCourse):
        await library.course("rice")


async def test_a_course_entered_again_replaces_its_files(
    objects: Objects, library: Library, tmp_path: Path
) -> None:
    first = await published(library, tmp_path / "file")
    old = await library.manifest("rice", "480p")
    second = await published(library, tmp_path / "file", data=DATA[::-1], title="New")
    assert (first.revision, second.revision) == (1, 2)
    new = await library.manifest("rice", "480p")
    assert b"".join([bytes(part) async for part in library.media(new, 0, 30)]) == DATA[::-1]
    with pytest.raises(NoSuchObject):
        await library.objects.read(f"courses/rice/480p.{old.sha256[:16]}.mp4")
    assert len(await objects.list("courses/rice")) == 2
    assert [one.title for one in (await library.catalogue()).find(Query())] == ["New"]


async def test_attachments_come_with_their_course(library: Library, tmp_path: Path) -> None:
    data = b"WEBVTT\n"
    poster = Attachment(file="poster.jpg", size_bytes=3, sha256=hashlib.sha256(b"jpg").hexdigest())
    await library.put_attachment("rice", poster, b"jpg")
    vtt = {"file": "zh.vtt", "lang": "zh", "label": "中文", "size_bytes": len(data),
           "sha256": hashlib.sha256(data).hexdigest()}  # fmt: skip
    course = await published(
        library, tmp_path / "file", poster=poster.model_dump(), subtitles=[vtt]
    )
    await library.put_attachment("rice", course.subtitles[0], data)
    assert await library.attachment("rice", "poster.jpg") == b"jpg"
    assert await library.attachment("rice", "zh.vtt") == data
    with pytest.raises(NoSuchCourse, match=r"has no file '\.\./x'"):
        await library.attachment("rice", "../x")


async def test_an_entry_that_was_forged_or_cut_costs_only_itself(
    objects: Objects, library: Library, tmp_path: Path
) -> None:
    await published(library, tmp_path / "file")
    other = Ed25519PrivateKey.generate()
    forged = Course.model_validate(document(id="forged"))
    await objects.put("catalogue/forged.jws", signed.sign(forged, other, signed.COURSE).encode())
    await objects.put("catalogue/cut.jws", b"eyJ")
    # A good signature, but in the place of another course.
    moved = signed.sign(Course.model_validate(document(id="tea")), KEY, signed.COURSE)
    await objects.put("catalogue/coffee.jws", moved.encode())
    reader = Library(objects, [KEY.public_key()])
    assert [one.id for one in (await reader.catalogue()).find(Query())] == ["rice"]
    with pytest.raises(NoSuchCourse):
        await reader.course("forged")


async def test_a_manifest_that_was_changed_in_the_store_is_not_believed(
    objects: Objects, library: Library, tmp_path: Path
) -> None:
    await published(library, tmp_path / "file")
    key = next(one.key for one in await objects.list("courses/rice") if "manifest" in one.key)
    text = await objects.read(key)
    await objects.put(key, text[:-6] + b"AAAAAA")
    with pytest.raises(signed.BadSignature, match="changed on its way"):
        await library.manifest("rice", "480p")


# ------------------------------------------------------------ changes, and what is left over


async def test_what_somebody_corrects_is_signed_and_keeps_the_files(
    objects: Objects, library: Library, tmp_path: Path
) -> None:
    before = await published(library, tmp_path / "file")
    files = {one.key for one in await objects.list("courses")}
    changes = Changes(title="新名", tags=("a",), language="", chapters=(
        {"start_s": 3, "title": "Second"}, {"start_s": 0, "title": "First"},
    ))  # fmt: skip
    after = await library.edit("rice", changes, before.revision)
    assert (after.title, after.tags, after.language, after.teacher) == (
        "新名", ("a",), None, before.teacher,
    )  # fmt: skip
    assert [one.title for one in after.chapters] == ["First", "Second"]
    assert after.revision == before.revision + 1
    text = (await library.course("rice")).text
    assert signed.read(text, [KEY.public_key()], signed.COURSE, Course) == after
    assert [one.id for one in (await library.catalogue()).find(Query("新名"))] == ["rice"]
    assert {one.key for one in await objects.list("courses")} == files
    with pytest.raises(Outdated):
        await library.edit("rice", Changes(title="Mine"), before.revision)
    late = Changes.model_validate({"chapters": [{"start_s": 1e5, "title": "Beyond"}]})
    with pytest.raises(NotTaken, match="'Beyond' begins at 100000 s"):
        await library.edit("rice", late)
    with pytest.raises(NoSuchCourse):
        await library.edit("tea", changes)


async def test_only_what_nobody_needs_any_more_is_swept(
    objects: Objects, library: Library, tmp_path: Path
) -> None:
    """Not what a course names, not what is young, not of what is made, not of what is damaged."""
    await published(library, tmp_path / "file")
    await published(library, tmp_path / "file", "damaged")
    await objects.put("catalogue/damaged.jws", b"half of a signed cou")
    named = {one.key for one in await objects.list("courses")}
    orphans = ["courses/rice/480p.0123456789abcdef.mp4", "courses/gone/240p.0123.manifest"]
    for key in [*orphans, "courses/making/240p.0123456789abcdef.mp4"]:
        await objects.put(key, b"x")
    now = max(one.written_s for one in await objects.list("courses"))
    assert await library.sweep(set, now + ORPHAN_AFTER_S - 60) == []
    removed = await library.sweep(lambda: {"making"}, now + ORPHAN_AFTER_S + 60)
    assert sorted(removed) == sorted(orphans)
    left = {one.key for one in await objects.list("courses")}
    assert left == named | {"courses/making/240p.0123456789abcdef.mp4"}


async def test_what_a_crash_left_half_written_is_swept_too(tmp_path: Path) -> None:
    objects = open_objects(str(tmp_path / "objects"))
    library = Library(objects, [KEY.public_key()], KEY)
    await published(library, tmp_path / "file")
    half = tmp_path / "objects" / "courses" / "rice" / "part.480p.0123456789abcdef.mp4"
    half.write_bytes(b"half")
    assert await library.sweep(set, half.stat().st_mtime + ORPHAN_AFTER_S + 1) == [
        "courses/rice/part.480p.0123456789abcdef.mp4"
    ]
    assert not half.exists()
