"""A recording's folder: what a crash leaves in it, and how its parts become one file."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st

from media import fmp4, intake, recording
from media.cutter import Cutter
from media.frames import Look
from media.recording import Recording, RecordingError
from tests.media.footage import Footage

AT = datetime(2026, 3, 1, 9, 0, tzinfo=UTC)


def written(folder: Path, footage: Footage) -> None:
    """Write what a cutter has cut."""
    for cut in footage.cuts:
        if cut.init:
            recording.begin_part(folder, cut.facts, cut.init)
        else:
            recording.add_segment(folder, cut.facts, cut.data)


def new(folder: Path) -> Recording:
    folder.mkdir(exist_ok=True)
    one = Recording(id="lecture-20260301-090000", stream="lecture", began_at=AT)
    recording.save(folder, one)
    return one


def joined(folder: Path) -> Recording:
    return recording.join(folder, recording.load(folder), lambda: AT)


def test_an_id_can_stand_in_a_url() -> None:
    assert recording.new_id("Lecture_3~B", AT) == "lecture-3-b-20260301-090000"
    assert recording.new_id("~~~", AT) == "stream-20260301-090000"
    for stream in ("a" * 64, "-" * 64, "Ä"):
        Recording(id=recording.new_id(stream, AT), stream=stream, began_at=AT)


def test_parts_are_found_with_their_hashes(tmp_path: Path) -> None:
    footage = Footage(Cutter())
    footage.run(6)
    footage.away(4)
    footage.run(6)
    footage.finish()
    written(tmp_path, footage)
    parts = recording.parts_in(tmp_path)
    assert [part.number for part in parts] == [1, 2]
    assert [part.duration_s for part in parts] == pytest.approx([6, 6], abs=0.1)
    for part in parts:
        for one in part.segments:
            data = (tmp_path / one.file).read_bytes()
            assert (len(data), hashlib.sha256(data).hexdigest()) == (one.size_bytes, one.sha256)


def test_a_segment_that_was_being_written_is_not_taken_for_one(tmp_path: Path) -> None:
    footage = Footage(Cutter())
    footage.run(10)
    footage.finish()
    written(tmp_path, footage)
    whole = recording.parts_in(tmp_path)[0].segments
    last = tmp_path / whole[-1].file
    scratch = last.parent / f".{last.name}.abc.tmp"
    scratch.write_bytes(last.read_bytes()[:100])
    last.unlink()
    [part] = recording.parts_in(tmp_path)
    assert part.segments == whole[:-1]
    assert not scratch.exists()


@given(st.integers(0, 200), st.integers(0, 255))
def test_a_cut_or_damaged_segment_raises_nothing(size: int, byte: int) -> None:
    footage = Footage(Cutter())
    footage.run(4)
    cut = footage.segments[0]
    data = bytearray(fmp4.facts_box(cut.facts.model_dump_json().encode()) + cut.data)
    with pytest.raises(fmp4.BoxError):
        fmp4.facts_of(bytes(data[: len(data) * size // 201]))
    data[size] = byte
    try:
        fmp4.facts_of(bytes(data))
        fmp4.moved(bytes(data), 1, 1000)
    except fmp4.BoxError:
        pass


def test_a_part_ends_before_a_damaged_segment(tmp_path: Path) -> None:
    """On a disk that lies about its writes a whole name is no whole file."""
    footage = Footage(Cutter())
    footage.run(12)
    footage.finish()
    written(tmp_path, footage)
    third = tmp_path / "part-001" / "000002.m4s"
    third.write_bytes(third.read_bytes()[:-10])
    [part] = recording.parts_in(tmp_path)
    assert len(part.segments) == 2


def test_parts_become_one_file_that_is_read_without_a_hole(tmp_path: Path) -> None:
    footage = Footage(Cutter())
    footage.run(7)
    footage.away(5)
    footage.run(7)
    footage.finish()
    new(tmp_path)
    written(tmp_path, footage)
    done = joined(tmp_path)
    assert done.state == "finished"
    [file] = done.files
    assert file.duration_s == done.duration_s == pytest.approx(14, abs=0.1)
    data = (tmp_path / file.file).read_bytes()
    assert (len(data), hashlib.sha256(data).hexdigest()) == (file.size_bytes, file.sha256)
    [away] = [gap for gap in done.missing if gap.kind == "away"]
    assert away.start_s == pytest.approx(7, abs=0.1)
    assert away.duration_s == pytest.approx(5, abs=0.1)
    with av.open(str(tmp_path / file.file)) as container:
        assert container.duration == pytest.approx(14 * av.time_base, rel=0.01)
        for kind, step_s, count in (("video", 0.04, 350), ("audio", 0.02, 700)):
            container.seek(0)
            times = [float(p.pts * p.time_base) for p in container.demux(**{kind: 0})
                     if p.pts is not None]  # fmt: skip
            assert len(times) == count
            steps = [b - a for a, b in pairwise(times)]
            assert max(steps) < 2.1 * step_s
            assert min(steps) > 0


def test_a_player_can_go_to_any_time_of_the_joined_file(tmp_path: Path) -> None:
    footage = Footage(Cutter())
    footage.run(61)
    footage.finish()
    new(tmp_path)
    written(tmp_path, footage)
    joined(tmp_path)
    with av.open(str(tmp_path / "recording-1.mp4")) as container:
        for at_s in (40, 7, 58, 0):
            container.seek(at_s * av.time_base)
            packet = next(p for p in container.demux(video=0) if p.pts is not None)
            assert packet.pts is not None
            # Keyframes are two seconds apart.
            assert packet.pts / 90_000 == pytest.approx(at_s - at_s % 2, abs=0.001)


def test_another_codec_is_another_file_that_follows(tmp_path: Path) -> None:
    footage = Footage(Cutter())
    footage.run(6)
    footage.look = Look("VP8", 640, 360)
    footage.run(6)
    footage.finish()
    new(tmp_path)
    written(tmp_path, footage)
    done = joined(tmp_path)
    assert [file.video for file in done.files] == ["H264", "VP8"]
    assert done.files[1].start_s == done.files[0].duration_s
    assert done.duration_s == pytest.approx(12, abs=0.1)


def test_a_pause_before_another_codec_is_marked_like_any_other(tmp_path: Path) -> None:
    """As when a recorder was killed, and the publisher came back as another one."""
    footage = Footage(Cutter())
    footage.run(6)
    footage.away(4)
    footage.look = Look("VP8", 640, 360)
    footage.run(6)
    footage.finish()
    new(tmp_path)
    written(tmp_path, footage)
    done = joined(tmp_path)
    assert len(done.files) == 2
    [away] = [gap for gap in done.missing if gap.kind == "away"]
    assert away.start_s == done.files[1].start_s
    assert away.duration_s == pytest.approx(4, abs=0.1)
    job = intake.of_recording(tmp_path)
    assert (job.source.name, [one.file.name for one in job.follows]) == (
        "recording-1.mp4", ["recording-2.mp4"],
    )  # fmt: skip
    assert job.follows[0].start_s == away.start_s
    assert [gap.start_s for gap in job.details.missing] == [away.start_s]


def test_a_pause_is_known_by_reports_that_come_after_the_part_has_begun(tmp_path: Path) -> None:
    """One track alone waits for nobody's clock."""
    footage = Footage(Cutter(), sound=False)
    footage.run(6)
    footage.away(4)
    footage.cuts += footage.cutter.begin_tracks(["video"], footage.now)
    footage.run(1, reports=False)
    footage._steps = 100
    footage.run(7)
    footage.finish()
    new(tmp_path)
    written(tmp_path, footage)
    done = joined(tmp_path)
    assert [part.began_ntp_s > 0 for part in done.parts] == [True, True]
    [away] = [gap for gap in done.missing if gap.kind == "away"]
    assert away.duration_s == pytest.approx(4, abs=0.1)


def test_another_size_of_the_same_codec_stays_in_one_file(tmp_path: Path) -> None:
    footage = Footage(Cutter())
    footage.run(6)
    footage.look = Look("H264", 320, 180, footage.look.sps, footage.look.pps)
    footage.run(6)
    footage.finish()
    new(tmp_path)
    written(tmp_path, footage)
    done = joined(tmp_path)
    assert len(done.parts) == 2
    assert len(done.files) == 1


def test_joining_can_be_repeated(tmp_path: Path) -> None:
    """A class that goes on after it was joined is joined anew."""
    new(tmp_path)
    cutter = Cutter()
    footage = Footage(cutter)
    footage.run(6)
    footage.finish()
    written(tmp_path, footage)
    first = joined(tmp_path)
    more = Footage(Cutter(recording.last_part(tmp_path)))
    more.run(6)
    more.finish()
    written(tmp_path, more)
    second = joined(tmp_path)
    assert (len(first.parts), len(second.parts)) == (1, 2)
    assert second.duration_s == pytest.approx(12, abs=0.1)
    assert recording.load(tmp_path) == second
    assert not list(tmp_path.glob(".*.tmp"))


def test_nothing_recorded_is_joined_to_nothing(tmp_path: Path) -> None:
    new(tmp_path)
    (tmp_path / "part-001").mkdir()
    done = joined(tmp_path)
    assert (done.files, done.parts, done.duration_s) == ([], [], 0)


@pytest.mark.parametrize("text", ["", "{}", '{"format": 2}', "[1]", '{"id": "../x"}', "\xff\xfe"])
def test_a_damaged_description_says_what_to_do(tmp_path: Path, text: str) -> None:
    (tmp_path / "recording.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(RecordingError, match="remove it"):
        recording.load(tmp_path)


def test_a_file_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    recording.write_whole(path, b"first")

    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        recording.write_whole(path, b"second")
    assert path.read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [path]
