"""From a file to a course, with the real worker: in step, cut right, and whole after a kill."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import signal
from pathlib import Path

import av
import av.subtitles.subtitle
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from media import ingest, intake
from media.course import Course
from media.errors import MediaError
from media.ingest import IngestError, Step
from media.intake import Details, Intake
from media.library import Library
from media.objects import open_objects
from tests.media.clips import write_clip
from tests.media.sources import beep_times, lamp_times, write_source

STEP_S = 0.04
"""How far sound and picture may be apart."""


@pytest.fixture
def library(tmp_path: Path) -> Library:
    key = Ed25519PrivateKey.generate()
    return Library(open_objects(str(tmp_path / "objects")), [key.public_key()], key)


def job_of(work: Path, source: Path, **details: object) -> Path:
    """Leave a job for a file; its folder."""
    about = Details.model_validate({"title": source.stem} | details)
    mark = intake.fingerprint(source)
    return intake.leave(work, Intake(id="rice", source=source, fingerprint=mark, details=about))


async def entered(library: Library, source: Path, **details: object) -> Course:
    """The course that a file becomes."""
    work = source.parent / "work"
    work.mkdir(exist_ok=True)
    async with asyncio.timeout(150):
        return await ingest.run(library, job_of(work, source, **details))


def file_of(library: Library, course: Course, rendition: str) -> Path:
    """The rendition's file in the store's folder."""
    entry = course.rendition(rendition)
    assert entry is not None
    folder = Path(library.objects.said) / "courses" / course.id
    return folder / f"{rendition}.{entry.manifest_sha256[:16]}.mp4"


def in_step(path: Path, seconds: int) -> None:
    """Lamp and beep come together at every whole second from the first on."""
    # The last block of sound of a source may reach into the next second.
    lamps, beeps = (
        [at for at in times if at < seconds - 0.5] for times in (lamp_times(path), beep_times(path))
    )
    wanted = [float(second) for second in range(1, seconds)]
    assert lamps == pytest.approx(wanted, abs=STEP_S)
    assert beeps == pytest.approx(wanted, abs=STEP_S / 2)
    assert max(abs(a - b) for a, b in zip(lamps, beeps, strict=True)) <= STEP_S


async def whole(library: Library, course: Course) -> None:
    """Every piece of every rendition is what its signed manifest says, and can be read alone."""
    for entry in course.renditions:
        signed = await library.manifest(course.id, entry.name)
        manifest, data = signed.manifest, file_of(library, course, entry.name).read_bytes()
        assert len(data) == manifest.size_bytes == entry.size_bytes
        for piece in manifest.pieces():
            found = hashlib.sha256(data[piece.offset_bytes : piece.end_bytes]).hexdigest()
            assert found == piece.sha256
        assert abs(manifest.duration_s - course.duration_s) < 0.1
        head = data[: manifest.map_size_bytes]
        for segment in manifest.segments:
            alone = file_of(library, course, entry.name).with_suffix(".alone")
            alone.write_bytes(head + data[segment.offset_bytes : segment.end_bytes])
            with av.open(str(alone)) as container:
                first = next(container.decode(container.streams[0]))
            assert not isinstance(first, av.subtitles.subtitle.SubtitleSet)
            assert first.time == pytest.approx(segment.start_s, abs=0.03)
            alone.unlink()


async def test_a_file_becomes_a_course_in_all_qualities(library: Library, tmp_path: Path) -> None:
    source = write_source(tmp_path / "rice.mp4", size=(1280, 720), seconds=5.0, fps=10)
    subtitles = tmp_path / "zh.srt"
    subtitles.write_text("1\n00:00:01,000 --> 00:00:02,000\n水稻\n", encoding="utf-8")
    course = await entered(
        library,
        source,
        teacher="李老师",
        tags=("水稻",),
        chapters=({"start_s": 0, "title": "开始"},),
        subtitles=({"lang": "zh", "file": subtitles},),
    )
    assert course.complete
    assert [(one.name, one.width, one.height) for one in course.renditions] == [
        ("720p", 1280, 720), ("480p", 854, 480), ("240p", 426, 240), ("sound", 0, 0),
    ]  # fmt: skip
    assert [one.codecs.split(",")[-1] for one in course.renditions] == ["mp4a.40.2"] * 4
    assert course.duration_s == pytest.approx(5.0, abs=0.11)
    await whole(library, course)
    starts = [
        [round(one.start_s, 1) for one in (await library.manifest("rice", name)).manifest.segments]
        for name in ("720p", "480p", "240p", "sound")
    ]
    assert starts == [[0.0, 4.0]] * 4
    in_step(file_of(library, course, "480p"), 5)
    assert course.poster is not None
    poster = await library.attachment("rice", "poster.jpg")
    with av.open(str(_written(tmp_path / "poster.jpg", poster))) as picture:
        assert picture.streams.video[0].width == 640
    assert (await library.attachment("rice", "zh.vtt")).startswith(b"WEBVTT\n")
    # The job is over: nothing of it stays.
    assert list((tmp_path / "work").iterdir()) == []


def _written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("kill_at", [None, 1, 3])
async def test_files_that_follow_each_other_become_one_course(
    library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kill_at: int | None
) -> None:
    """Another codec, another size, then sound alone: all of it, each at its time.

    Half a second is missing between the first two.

    kill_at: the worker is killed when it has made so many segments, in the first or second file.
    """
    first = write_source(tmp_path / "1.mp4", seconds=4.5, audio="libopus")
    write_source(
        tmp_path / "2.mkv", seconds=8.0, size=(480, 270), video="libvpx", audio="libopus",
        options={"deadline": "realtime", "cpu-used": "8"},
    )  # fmt: skip
    write_source(tmp_path / "3.ogg", seconds=4.0, video=None, audio="libopus")
    job = Intake.model_validate({
        "id": "rice", "source": first, "details": {"title": "Rice"},
        "follows": [{"file": tmp_path / "2.mkv", "start_s": 5.0},
                    {"file": tmp_path / "3.ogg", "start_s": 13.0}],
    })  # fmt: skip
    work = tmp_path / "work"
    work.mkdir()
    folder = intake.leave(work, job)
    killed = asyncio.create_task(_kill_once(monkeypatch, folder, kill_at))
    async with asyncio.timeout(150):
        course = await ingest.run(library, folder)
    await killed
    await whole(library, course)
    assert course.duration_s == pytest.approx(17.0, abs=0.1)
    path = file_of(library, course, course.renditions[0].name)
    wanted = [1.0, 2.0, 3.0, 4.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0]
    assert lamp_times(path) == pytest.approx(wanted, abs=STEP_S)
    assert beep_times(path)[:14] == pytest.approx([*wanted, 14.0, 15.0, 16.0], abs=STEP_S)


async def _kill_once(monkeypatch: pytest.MonkeyPatch, folder: Path, segments: int | None) -> None:
    """SIGKILL for the first worker when it has made so many segments."""
    if segments is None:
        return
    started, processes = asyncio.create_subprocess_exec, []

    async def start(*arguments: str, **how: object) -> asyncio.subprocess.Process:
        processes.append(await started(*arguments, **how))  # type: ignore[arg-type]
        return processes[-1]

    monkeypatch.setattr(asyncio, "create_subprocess_exec", start)
    while len(list((folder / "making").glob("2*/*.m4s"))) < segments:  # noqa: ASYNC110
        await asyncio.sleep(0.005)
    with contextlib.suppress(ProcessLookupError):
        processes[0].send_signal(signal.SIGKILL)


B_FRAMES = {"bf": "3", "g": "50", "x264-params": "b-pyramid=normal:open-gop=1"}


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("b-frames.mp4", {"options": B_FRAMES}),
        ("sound-late.mkv", {"sound_late_s": 2.5}),
        ("picture-late.mkv", {"picture_late_s": 2.5, "audio": "libopus"}),
        ("uneven.mkv", {"keep": (0, 1, 5, 6, 7, 8, 11, 12, 18, 22), "video": "libx264"}),
        ("stream.ts", {"audio": "mp2", "options": {"bf": "2"}}),
        ("old.avi", {"video": "mpeg4", "audio": "libmp3lame"}),
        ("hole.mkv", {"hole_s": (2.3, 4.7), "video": "libvpx", "audio": "libopus"}),
    ],
)
async def test_sound_and_picture_stay_in_step(
    library: Library, tmp_path: Path, name: str, made: dict[str, object]
) -> None:
    """B-frames, a stream that begins late, an uneven rate, a hole: the times are still right."""
    source = write_source(tmp_path / name, seconds=7.0, **made)  # type: ignore[arg-type]
    course = await entered(library, source)
    path = file_of(library, course, course.renditions[0].name)
    lamps, beeps = lamp_times(path), beep_times(path)
    missing = {"sound-late.mkv": {1, 2}, "picture-late.mkv": set(), "hole.mkv": {3, 4}}
    gone = missing.get(name, set())
    heard = [float(second) for second in range(1, 7) if second not in gone]
    # An AVI cannot say that MP3 begins 23 ms late and the picture by one picture.
    assert [at for at in beeps if at < 6.5] == pytest.approx(heard, abs=STEP_S)
    lit = [at for at in lamps if at < 6.5 and any(abs(at - beep) < 0.5 for beep in beeps)]
    unseen = {1, 2} if name == "picture-late.mkv" else set()
    seen = [second for second in heard if second not in unseen]
    assert lit == pytest.approx(seen, abs=STEP_S + 0.001)
    both = [at for at in beeps if at < 6.5 and round(at) in {round(one) for one in lit}]
    assert max(abs(a - b) for a, b in zip(lit, both, strict=True)) <= STEP_S


async def test_a_recording_s_own_picture_is_passed_through(
    library: Library, tmp_path: Path
) -> None:
    """Not one picture is encoded for the best rendition, and the others are cut where it is."""
    source = write_source(
        tmp_path / "class.mp4", seconds=7.0, size=(640, 480), audio="libopus",
        options={"bf": "0", "g": "75", "sc_threshold": "0"},
    )  # fmt: skip
    course = await entered(library, source)
    best = course.renditions[0]
    with av.open(str(source)) as before, av.open(str(file_of(library, course, best.name))) as after:
        packets = [bytes(packet) for packet in before.demux(video=0) if packet.size]
        assert [bytes(packet) for packet in after.demux(video=0) if packet.size] == packets
    starts = [
        [round(one.start_s, 2) for one in (await library.manifest("rice", name)).manifest.segments]
        for name in (best.name, "240p")
    ]
    assert starts == [[0.0, 3.0, 6.0]] * 2
    in_step(file_of(library, course, best.name), 7)
    in_step(file_of(library, course, "240p"), 7)
    await whole(library, course)


async def test_sound_alone_and_picture_alone(library: Library, tmp_path: Path) -> None:
    sound = write_source(tmp_path / "talk.mp3", video=None, audio="libmp3lame", seconds=6.0)
    course = await entered(library, sound)
    assert [one.name for one in course.renditions] == ["sound"]
    beeps = beep_times(file_of(library, course, "sound"))
    assert beeps[:5] == pytest.approx([1.0, 2.0, 3.0, 4.0, 5.0], abs=STEP_S / 2)
    # Its poster shows how it sounds: beeps, and silence between them.
    poster = await library.attachment("rice", "poster.jpg")
    with av.open(str(_written(tmp_path / "poster.jpg", poster))) as shown:
        grey = next(shown.decode(video=0)).to_ndarray(format="gray")
    assert grey.shape == (360, 640)
    tall = (grey[90] > 90).sum()
    assert 0.1 * 640 * 4 / 8 < tall < 0.5 * 640 * 4 / 8
    silent = write_clip(tmp_path / "silent.mp4", frames=60)
    course = await entered(library, silent)
    assert [one.name for one in course.renditions] == ["240p"]
    assert course.renditions[0].codecs.startswith("avc1.")
    await whole(library, course)


async def test_a_killed_worker_goes_on_after_its_last_segment(
    library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGKILL in the middle, twice: what is there stays as it is, and nothing is missing."""
    source = write_source(tmp_path / "rice.mp4", seconds=24.0, options={"bf": "2"})
    work = tmp_path / "work"
    work.mkdir()
    folder = job_of(work, source)
    kept: dict[Path, bytes] = {}
    kills = 0
    started = asyncio.create_subprocess_exec

    async def start(*arguments: str, **how: object) -> asyncio.subprocess.Process:
        process = await started(*arguments, **how)  # type: ignore[arg-type]
        if kills < 2:
            watchers.append(asyncio.create_task(kill(process)))
        return process

    async def kill(process: asyncio.subprocess.Process) -> None:
        nonlocal kills
        pieces = folder / "making" / "240p"
        while len(found := sorted(pieces.glob("*.m4s"))) < 2 * (kills + 1):
            if process.returncode is not None:
                return
            await asyncio.sleep(0.005)
        kills += 1
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGKILL)
        kept.update({path: path.read_bytes() for path in found})

    watchers: list[asyncio.Task[None]] = []
    monkeypatch.setattr(asyncio, "create_subprocess_exec", start)
    steps: list[Step] = []
    async with asyncio.timeout(150):
        course = await ingest.run(library, folder, steps.append)
    await asyncio.gather(*watchers)
    assert kills == 2
    await whole(library, course)
    in_step(file_of(library, course, "240p"), 24)
    manifest = (await library.manifest("rice", "240p")).manifest
    sums = {hashlib.sha256(data).hexdigest() for data in kept.values()}
    assert len(kept) >= 2
    assert sums <= {one.sha256 for one in manifest.segments}
    assert steps[-1].done == 1.0


async def test_what_is_no_video_is_refused_in_a_sentence(library: Library, tmp_path: Path) -> None:
    text = tmp_path / "notes.mp4"
    text.write_bytes(b"this is a letter, no video\n" * 1000)
    with pytest.raises(IngestError, match=r"notes\.mp4 is no video or sound that can be read"):
        await entered(library, text)
    folder = tmp_path / "work" / "rice"
    assert "is no video" in intake.failure(folder)
    assert intake.waiting(tmp_path / "work") == []
    # A playlist that names a file of this machine is read neither.
    (tmp_path / "list.mp4").write_text("#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n")
    with pytest.raises(IngestError):
        await entered(library, tmp_path / "list.mp4")
    (tmp_path / "zh.vtt").write_text("nothing")
    clip = write_clip(tmp_path / "clip.mp4", frames=10)
    with pytest.raises(IngestError, match=r"zh\.vtt: there is no line such as"):
        await entered(library, clip, subtitles=({"lang": "zh", "file": tmp_path / "zh.vtt"},))


async def test_a_file_that_is_cut_becomes_what_is_left_of_it(
    library: Library, tmp_path: Path
) -> None:
    source = write_source(tmp_path / "rice.mkv", seconds=10.0)
    data = source.read_bytes()
    source.write_bytes(data[: len(data) // 2])
    course = await entered(library, source)
    assert 3.0 < course.duration_s < 8.0
    await whole(library, course)


async def test_two_processes_do_not_make_the_same_course(library: Library, tmp_path: Path) -> None:
    source = write_clip(tmp_path / "clip.mp4", frames=10)
    work = tmp_path / "work"
    work.mkdir()
    folder = job_of(work, source)
    with intake.claimed(folder), pytest.raises(intake.Busy, match="another process"):
        await ingest.run(library, folder)
    await ingest.run(library, folder)
    assert json.loads((await library.course("rice")).course.model_dump_json())["revision"] == 1


async def test_a_full_disk_fails_the_job_for_now_and_not_for_ever(
    library: Library, tmp_path: Path
) -> None:
    """The worker meets the system's own full disk in the place of a file that it writes."""
    work = tmp_path / "work"
    folder = work / "rice"
    (folder / "making").mkdir(parents=True)
    source = write_clip(tmp_path / "clip.mp4", frames=10)
    mark = intake.fingerprint(source)
    job = Intake(id="rice", source=source, fingerprint=mark, details=Details(title="Rice"))
    # The same job left again keeps what was made: and with it the full disk.
    intake.leave(work, job)
    (folder / "making").mkdir(exist_ok=True)
    (folder / "making" / ".plan.json.part").symlink_to("/dev/full")
    with pytest.raises(MediaError, match="the disk of the library is full") as refused:
        await ingest.run(library, folder)
    assert not isinstance(refused.value, IngestError)
    assert intake.waiting(work) == [folder]
    (folder / "making" / ".plan.json.part").unlink()
    assert (await ingest.run(library, folder)).complete


async def test_a_job_that_is_left_anew_while_it_ends_is_not_lost(tmp_path: Path) -> None:
    """A class that goes on after all: the job of its longer recording takes the old one's place."""
    first, longer = tmp_path / "1.mp4", tmp_path / "2.mp4"
    folder = intake.leave(tmp_path, Intake(id="rice", source=first, details=Details(title="Rice")))
    old = intake.read(folder)
    intake.leave(tmp_path, Intake(id="rice", source=longer, details=Details(title="Rice")))
    intake.done(folder, old)
    assert intake.read(folder).source == longer
    intake.done(folder, intake.read(folder))
    assert not folder.exists()
