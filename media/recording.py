"""A recording's folder: what stands in it, how it is written, and what is found after a crash.

    lecture-20260301-090000/
        recording.json          what it is (written whole or not at all)
        part-001/init.mp4       what the tracks of the part are
        part-001/000000.m4s     segments: a few seconds each, begun by a keyframe
        recording-1.mp4         the parts joined, once the class has ended

A segment says itself where it belongs (`SegmentFacts`), and gets its name only when it is on the
disk: so the folder is right at every moment, and recording.json can be made from it anew.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from media import fmp4
from media.errors import MediaError

RECORD_FILE: Final = "recording.json"
INIT_FILE: Final = "init.mp4"
MAX_SEGMENT_BYTES: Final = 256 << 20
MAX_RECORD_BYTES: Final = 64 << 20
MAX_PARTS: Final = 999
_PART = re.compile(r"part-(\d{3})")
_SEGMENT = re.compile(r"\d{6}\.m4s")
_NTP_TO_UNIX_S: Final = 2_208_988_800

Seconds = Annotated[float, Field(ge=0, le=1e7, allow_inf_nan=False)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,80}(/[A-Za-z0-9._-]{1,80})?$")]


class RecordingError(MediaError):
    """A recording's folder cannot be used."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Missing(_Strict):
    """Something that never came: silence, or a picture that stands still.

    Times are in seconds of what it stands in: the part, or the joined file. "away" has no length
    of its own there: for so long nothing came at all, and the parts before and after are joined.
    """

    kind: Literal["audio", "video", "away"]
    start_s: Seconds
    duration_s: Seconds


class SegmentFacts(_Strict):
    """What a segment says of itself. Times are in seconds of its part."""

    part: int = Field(ge=1, le=MAX_PARTS)
    number: int = Field(ge=0, le=999_999)
    start_s: Seconds
    duration_s: Seconds
    keyframe: bool
    video: Literal["", "H264", "VP8"]
    width: int = Field(ge=0, le=16384)
    height: int = Field(ge=0, le=16384)
    sound: bool
    began_ntp_s: float = Field(ge=0, le=2**33, allow_inf_nan=False)
    """The publisher's clock at time 0 of the part, in NTP seconds; 0 if it is not known yet."""
    missing: list[Missing] = Field(max_length=100)


class RecordedSegment(_Strict):
    """One file of a part."""

    file: Name
    size_bytes: int = Field(gt=0, le=MAX_SEGMENT_BYTES)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    start_s: Seconds
    duration_s: Seconds
    keyframe: bool


class Part(_Strict):
    """A stretch whose tracks are described by one init segment."""

    number: int = Field(ge=1, le=MAX_PARTS)
    folder: Name
    video: Literal["", "H264", "VP8"]
    width: int
    height: int
    sound: bool
    began_at: datetime | None
    began_ntp_s: float
    duration_s: Seconds
    segments: list[RecordedSegment] = Field(max_length=200_000)
    missing: list[Missing]


class JoinedFile(_Strict):
    """Parts that could be put into one file, one after the other.

    `start_s`: where in the whole recording it begins.
    """

    file: Name
    size_bytes: int
    sha256: str
    start_s: Seconds
    duration_s: Seconds
    video: Literal["", "H264", "VP8"]
    sound: bool


class Recording(_Strict):
    """recording.json.

    `state`: "recording" until the class has ended, "finished" when the files are there, "handed"
    when the library has taken them. `files` follow each other; one is the rule.
    """

    format: Literal[1] = 1
    id: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")
    stream: str = Field(min_length=1, max_length=64)
    title: str = Field(default="", max_length=200)
    teacher: str = Field(default="", max_length=200)
    state: Literal["recording", "finished", "handed"] = "recording"
    began_at: datetime
    ended_at: datetime | None = None
    duration_s: Seconds = 0.0
    parts: list[Part] = Field(default=[], max_length=MAX_PARTS)
    files: list[JoinedFile] = Field(default=[], max_length=MAX_PARTS)
    missing: list[Missing] = Field(default=[])


def new_id(stream: str, at: datetime) -> str:
    """An id for a recording of a stream that begins at a moment: it can stand in a URL."""
    name = re.sub(r"[^a-z0-9]+", "-", stream.lower()).strip("-")[:44].strip("-") or "stream"
    return f"{name}-{at.astimezone(UTC):%Y%m%d-%H%M%S}"


# ------------------------------------------------------------ writing


def write_whole(path: Path, data: bytes) -> None:
    """Write a file that is there whole or not at all, and stays there when the power fails."""
    handle, scratch = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(handle)
        Path(scratch).replace(path)
    except BaseException:
        Path(scratch).unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def save(folder: Path, recording: Recording) -> None:
    """Write recording.json."""
    write_whole(folder / RECORD_FILE, recording.model_dump_json(indent=1).encode())


def load(folder: Path) -> Recording:
    """Read recording.json. Raises RecordingError with what to do."""
    path = folder / RECORD_FILE
    try:
        if path.stat().st_size > MAX_RECORD_BYTES:
            raise RecordingError(f"{path} is too large to be a recording's description")
        return Recording.model_validate_json(path.read_bytes())
    except OSError as error:
        raise RecordingError(f"{path} cannot be read ({error.strerror})") from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "it"
        raise RecordingError(
            f"{path} is damaged ({where}: {first['msg']}); remove it, and it is made anew from "
            "the segments beside it"
        ) from error


def begin_part(folder: Path, facts: SegmentFacts, init: bytes) -> None:
    """Make a part's folder with its init segment."""
    part = folder / f"part-{facts.part:03d}"
    part.mkdir(parents=True, exist_ok=True)
    _sync_folder(folder)
    write_whole(part / INIT_FILE, init)


def add_segment(folder: Path, facts: SegmentFacts, data: bytes) -> Path:
    """Write one segment; when this returns it survives a crash."""
    path = folder / f"part-{facts.part:03d}" / f"{facts.number:06d}.m4s"
    write_whole(path, fmp4.facts_box(facts.model_dump_json().encode()) + data)
    return path


# ------------------------------------------------------------ finding again


def parts_in(folder: Path) -> list[Part]:
    """All whole parts in a folder, by what their segments say; scratch files are removed.

    A segment that is cut, or that does not go on from the one before, ends its part: what comes
    after it is left alone on the disk.
    """
    parts = []
    for path in sorted(folder.iterdir()):
        found = _PART.fullmatch(path.name)
        if found and path.is_dir():
            for scratch in path.glob(".*.tmp"):
                scratch.unlink(missing_ok=True)
            part = _read_part(path, int(found[1]))
            if part is not None:
                parts.append(part)
    for scratch in folder.glob(".*.tmp"):
        scratch.unlink(missing_ok=True)
    return parts


def last_part(folder: Path) -> int:
    """The highest number of a part in a folder, whole or not."""
    found = [_PART.fullmatch(path.name) for path in folder.iterdir()] if folder.is_dir() else []
    return max((int(one[1]) for one in found if one), default=0)


def _read_part(folder: Path, number: int) -> Part | None:
    if not (folder / INIT_FILE).is_file():
        return None
    part: Part | None = None
    for path in sorted(p for p in folder.iterdir() if _SEGMENT.fullmatch(p.name)):
        read = read_segment(path)
        if read is None or read[0].part != number:
            break
        facts, segment = read
        if part is None:
            if facts.number:
                break
            part = Part(
                number=number, folder=folder.name, video=facts.video, width=facts.width,
                height=facts.height, sound=facts.sound, began_at=_utc(facts.began_ntp_s),
                began_ntp_s=facts.began_ntp_s, duration_s=0.0, segments=[], missing=[],
            )  # fmt: skip
        elif facts.number != len(part.segments):
            break
        if not part.began_ntp_s:
            part.began_ntp_s, part.began_at = facts.began_ntp_s, _utc(facts.began_ntp_s)
        part.segments.append(segment)
        part.missing += facts.missing
        part.duration_s = facts.start_s + facts.duration_s
    return part


def read_segment(path: Path) -> tuple[SegmentFacts, RecordedSegment] | None:
    """A segment's facts and figures; None for one that is cut or not ours."""
    try:
        if not 0 < path.stat().st_size <= MAX_SEGMENT_BYTES:
            return None
        data = path.read_bytes()
        facts = SegmentFacts.model_validate_json(fmp4.facts_of(data))
    except (OSError, fmp4.BoxError, ValidationError):
        return None
    segment = RecordedSegment(
        file=f"{path.parent.name}/{path.name}",
        size_bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        start_s=facts.start_s,
        duration_s=facts.duration_s,
        keyframe=facts.keyframe,
    )
    return facts, segment


def _utc(ntp_s: float) -> datetime | None:
    return datetime.fromtimestamp(ntp_s - _NTP_TO_UNIX_S, UTC) if ntp_s else None


# ------------------------------------------------------------ joining


def join(folder: Path, recording: Recording, now: Callable[[], datetime]) -> Recording:
    """Put all whole parts one after the other, and write what came out; returns it.

    Parts with the same codecs become one file; another codec begins another file. Nothing is
    encoded. Can be repeated after a crash at any moment.
    """
    parts = parts_in(folder)
    files: list[JoinedFile] = []
    missing: list[Missing] = []
    at_s = 0.0
    group: list[Part] = []
    before: Part | None = None
    for part in [*parts, None]:
        if group and (part is None or (part.video, part.sound) != (group[0].video, group[0].sound)):
            name = f"recording-{len(files) + 1}.mp4"
            files.append(_join_file(folder, name, group, at_s, missing, before))
            at_s += files[-1].duration_s
            before, group = group[-1], []
        if part is not None:
            group.append(part)
    done = recording.model_copy(
        update={
            "parts": parts, "files": files, "missing": missing, "duration_s": round(at_s, 3),
            "state": "finished", "ended_at": recording.ended_at or now(),
        }
    )  # fmt: skip
    save(folder, done)
    return done


def _join_file(
    folder: Path,
    name: str,
    parts: list[Part],
    begins_s: float,
    missing: list[Missing],
    before: Part | None,
) -> JoinedFile:
    """Write one file of several parts' segments, with an index before them.

    before: the part that the file before it ends with.
    """
    path, scratch = folder / name, folder / f".{name}.tmp"
    at_ms, number = 0, 0
    pieces: list[fmp4.Piece] = []
    body = folder / f".{name}.body.tmp"
    with body.open("wb") as out:
        for part in parts:
            if before is not None:
                missing += _away(before, part, begins_s + at_ms / 1000)
            end_s = at_ms / 1000 + part.duration_s
            for one in part.segments:
                number += 1
                moved = fmp4.moved((folder / one.file).read_bytes(), number, at_ms)
                out.write(moved.data)
                end_s = max(end_s, *moved.ends_s.values())
                start_s = at_ms / 1000 + one.start_s
                pieces.append(fmp4.Piece(len(moved.data), start_s, one.duration_s, one.keyframe))
            for gap in part.missing:
                start_s = round(begins_s + at_ms / 1000 + gap.start_s, 3)
                missing.append(gap.model_copy(update={"start_s": start_s}))
            # The last sound may reach beyond the last picture: the next part waits for its end, or
            # players would push all later sound back. Whole milliseconds are whole ticks of both
            # clocks.
            at_ms = -(-round(end_s * 1_000_000) // 1000)
            before = part
    duration_s = at_ms / 1000
    digest, size = hashlib.sha256(), 0
    with scratch.open("wb") as out:
        head = _joined_head(folder, parts, duration_s, pieces)
        out.write(head)
        digest.update(head)
        with body.open("rb") as segments:
            while block := segments.read(1 << 20):
                out.write(block)
                digest.update(block)
        size = out.tell()
        out.flush()
        os.fsync(out.fileno())
    body.unlink()
    scratch.replace(path)
    _sync_folder(folder)
    return JoinedFile(
        file=name, size_bytes=size, sha256=digest.hexdigest(), start_s=begins_s,
        duration_s=duration_s, video=parts[0].video, sound=parts[0].sound,
    )  # fmt: skip


def _joined_head(
    folder: Path, parts: list[Part], duration_s: float, pieces: list[fmp4.Piece]
) -> bytes:
    """The first part's init segment with the length of the whole, and the index."""
    init = (folder / parts[0].folder / INIT_FILE).read_bytes()
    track_id = fmp4.VIDEO_ID if parts[0].video else fmp4.AUDIO_ID
    return fmp4.with_duration(init, duration_s) + fmp4.index(track_id, pieces)


def _away(before: Part, part: Part, at_s: float) -> list[Missing]:
    """The pause between two parts, as far as their clocks tell."""
    if not before.began_ntp_s or not part.began_ntp_s:
        return []
    away_s = part.began_ntp_s - before.began_ntp_s - before.duration_s
    # Shorter is a cut without a pause; longer than a day is another clock.
    if not 0.1 < away_s < 86400:
        return []
    return [Missing(kind="away", start_s=round(at_s, 3), duration_s=round(away_s, 3))]
