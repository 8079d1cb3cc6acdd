"""The process that makes renditions: `python -m media.ladder_worker`, a job on standard input.

It reads a file that somebody sent, so it stands apart: what breaks in a decoder ends here, and the
relay's process is never slowed. It says on standard output what it does, one JSON object a line,
and keeps whole segments on disk; started again with the same job, it goes on after the last one.
"""

from __future__ import annotations

import errno
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import av
import av.container
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from . import fmp4, moov
from .errors import MediaError
from .ladder import AAC_SAMPLES, SAMPLES_PER_S, Cuts, Made
from .picture_rungs import Coded, Passed, Pictures
from .pieces import Pieces, forget_from, pieces_in, write_whole
from .poster import poster
from .probe import decoded, video_stream
from .scan import Plan, Source, open_source, plan_of_all
from .soundcard import sound_card
from .sounds import Block, Sounds

NICENESS: Final = 5
"""Below the relay and everything else that someone waits for."""

PLAN_FILE: Final = "plan.json"
POSTER_FILE: Final = "poster.jpg"
HEADER_FILE: Final = "header.json"

_SAY_EVERY_S: Final = 0.5
_SEEK_EARLIER_S: Final = 3.0


class Job(BaseModel):
    """What to make renditions of, and in which folder, which is the job's own.

    follows: files that go on after the source, with where in the course each begins.
    """

    model_config = ConfigDict(extra="forbid")

    source: Path
    follows: list[tuple[Path, float]] = []
    folder: Path

    @property
    def sources(self) -> list[Source]:
        """All files in their order."""
        return [Source(self.source), *(Source(*one) for one in self.follows)]


class Planned(BaseModel):
    """The job is understood."""

    event: Literal["planned"] = "planned"
    sentence: str
    renditions: list[str]
    duration_s: float | None
    poster: bool


class Progress(BaseModel):
    """The share of the work that is done, 0 to 1."""

    event: Literal["progress"] = "progress"
    done: float


class Ready(BaseModel):
    """Some renditions are whole; their segments and headers stand in the job's folder."""

    event: Literal["ready"] = "ready"
    renditions: list[str]
    last: bool


class Failed(BaseModel):
    """It cannot be done. final: doing it again cannot help, as it can when a disk was full."""

    event: Literal["failed"] = "failed"
    sentence: str
    final: bool = True


Event = TypeAdapter[Planned | Progress | Ready | Failed](
    Annotated[Planned | Progress | Ready | Failed, Field(discriminator="event")]
)


class Header(BaseModel):
    """What a rendition's `moov` says of its tracks; bytes in hex."""

    width: int = 0
    height: int = 0
    avcc: str = ""
    config: str = ""
    channels: int = 0
    bitrate_bps: int = 0

    @classmethod
    def of(cls, picture: moov.Picture | None, sound: moov.Sound | None) -> Header:
        return cls(
            width=picture.width if picture else 0,
            height=picture.height if picture else 0,
            avcc=picture.avcc.hex() if picture else "",
            config=sound.config.hex() if sound else "",
            channels=sound.channels if sound else 0,
            bitrate_bps=sound.bitrate_bps if sound else 0,
        )

    @property
    def picture(self) -> moov.Picture | None:
        if not self.avcc:
            return None
        return moov.Picture(self.width, self.height, bytes.fromhex(self.avcc))

    @property
    def sound(self) -> moov.Sound | None:
        if not self.config:
            return None
        return moov.Sound(bytes.fromhex(self.config), self.channels, self.bitrate_bps)


_PLAN: Final = TypeAdapter(Plan)


def say(event: BaseModel) -> None:
    """One line for who started this process."""
    sys.stdout.write(event.model_dump_json() + "\n")
    sys.stdout.flush()


def read_plan(folder: Path) -> Plan:
    """The plan of a job that was begun."""
    return _PLAN.validate_json((folder / PLAN_FILE).read_bytes())


def read_header(folder: Path) -> Header:
    """The header of a rendition that was begun."""
    return Header.model_validate_json((folder / HEADER_FILE).read_bytes())


def run(job: Job) -> None:
    """Do the job, or what is left of it. Raises MediaError with one sentence."""
    job.folder.mkdir(parents=True, exist_ok=True)
    try:
        plan = read_plan(job.folder)
    except (OSError, ValidationError):
        plan = plan_of_all(job.sources)
        write_whole(job.folder / PLAN_FILE, _PLAN.dump_json(plan))
    shown = job.folder / POSTER_FILE
    if not shown.exists():
        picture = _poster(job.sources, plan)
        if picture is not None:
            write_whole(shown, picture)
    say(
        Planned(
            sentence=plan.sentence,
            renditions=[one.name for one in plan.made],
            duration_s=plan.duration_s,
            poster=shown.exists(),
        )
    )
    passes = plan.passes()
    weights = [1.0 if made[0].passed else 10.0 for made in passes]
    for number, made in enumerate(passes):
        done_file = job.folder / f"pass-{number}.done"
        if not done_file.exists():
            before = sum(weights[:number]) / sum(weights)
            _Pass(job, plan, made).run(before, weights[number] / sum(weights))
            write_whole(done_file, b"")
        say(Ready(renditions=[one.name for one in made], last=number == len(passes) - 1))


class _Pass:
    """One reading of the source, for some of the renditions."""

    def __init__(self, job: Job, plan: Plan, made: Sequence[Made]) -> None:
        self._job = job
        self._plan = plan
        self._made = made
        self._cuts = plan.cuts()
        self._folders = {one.name: job.folder / one.name for one in made}
        self._end_s = 0.0
        self._said_at = 0.0

    def run(self, before: float, share: float) -> None:
        """Read to the end. Progress is said as `before` and then up to `share` more."""
        first = min(len(pieces_in(folder)) for folder in self._folders.values())
        if not self._begin(first):
            first = 0
            self._begin(first)
        try:
            for packet, origin_s in self._packets(first):
                self._take(packet, origin_s)
                self._say(before, share)
        except av.FFmpegError as error:
            raise MediaError(
                f"{self._job.source.name} cannot be read to its end: {error.strerror}"
            ) from error
        self._finish()
        if not all(pieces_in(folder) for folder in self._folders.values()):
            raise MediaError(f"nothing in {self._job.source.name} can be decoded")

    def _begin(self, first: int) -> bool:
        """Make encoders that go on at segment `first`; false if the headers came out otherwise."""
        cuts, plan = self._cuts, self._plan
        self._first = first
        pictures = [one for one in self._made if one.width]
        encoded = [one for one in pictures if not one.passed]
        voices = {one.voice for one in self._made if one.voice is not None}
        self._sounds = Sounds(voices, first_block=first_block(cuts, first))
        self._passed = None
        self._pictures = None
        about: dict[str, moov.Picture] = {}
        if pictures and pictures[0].passed:
            self._passed = Passed(pictures[0], plan.starts_s or (), plan.origin_s)
            with open_source(self._job.source) as container:
                stream = video_stream(container)
                extradata = stream.codec_context.extradata if stream else None
            about[pictures[0].name] = moov.Picture(
                pictures[0].width, pictures[0].height, moov.avcc_of(extradata or b"")
            )
        if encoded and plan.video is not None:
            self._pictures = Pictures(encoded, plan.video, cuts, first_segment=first)
            about |= self._pictures.about()
        self._pieces: dict[str, Pieces] = {}
        for one in self._made:
            folder = self._folders[one.name]
            folder.mkdir(exist_ok=True)
            sound = self._sounds.about(one.voice) if one.voice is not None else None
            header = Header.of(about.get(one.name), sound)
            try:
                if first and read_header(folder) != header:
                    return False
            except (OSError, ValidationError):
                return False
            if not first:
                write_whole(folder / HEADER_FILE, header.model_dump_json().encode())
            forget_from(folder, first)
            self._pieces[one.name] = Pieces(
                folder, picture=one.name in about, sound=sound is not None, first=first
            )
        return True

    def _packets(self, first: int) -> Iterator[tuple[av.Packet[Any], float]]:
        """The packets of the picture and the sound, from some time before segment `first` on.

        With each comes the time in its file at which the course begins, or would begin.
        """
        start_s = self._cuts.start_s(first) if first else 0.0
        from_s = max(0.0, start_s - _SEEK_EARLIER_S)
        sources = self._job.sources
        for one, after in zip(sources, [*sources[1:], None], strict=True):
            if after is not None and after.start_s <= from_s:
                continue
            origin_s = self._plan.origin_s - one.start_s
            with open_source(one.path) as container:
                for packet in self._read(container, max(0.0, from_s - one.start_s)):
                    yield packet, origin_s

    def _read(
        self, container: av.container.InputContainer, from_s: float
    ) -> Iterator[av.Packet[Any]]:
        """The packets of one file from a time on, or from before it."""
        streams = [
            stream
            for stream in (
                video_stream(container) if self._passed or self._pictures else None,
                *(container.streams.audio[:1] if self._plan.sound else ()),
            )
            if stream is not None
        ]
        for stream in streams:
            if isinstance(stream, av.VideoStream):
                stream.thread_type = "AUTO"
        if from_s > 0:
            try:
                container.seek(int((self._plan.origin_s + from_s) * av.time_base))
            except av.FFmpegError:
                pass  # it cannot be jumped in: all of it is read, and what is done is passed over
        yield from container.demux(streams)

    def _take(self, packet: av.Packet[Any], origin_s: float) -> None:
        if packet.stream.type == "video":
            if packet.pts is not None and packet.time_base is not None:
                moment_s = float((packet.pts + (packet.duration or 0)) * packet.time_base)
                self._end_s = max(self._end_s, moment_s - origin_s)
            if self._passed is not None and packet.size:
                self._keep(self._passed.take(packet))
            elif self._pictures is not None:
                for frame in decoded(packet):
                    self._keep(self._pictures.show(frame, origin_s))
            return
        for frame in decoded(packet):
            if frame.pts is None or frame.time_base is None or not frame.sample_rate:
                continue
            time_s = float(frame.pts * frame.time_base) - origin_s
            self._end_s = max(self._end_s, time_s + frame.samples / frame.sample_rate)
            self._hear(self._sounds.hear(frame, time_s))

    def _finish(self) -> None:
        if self._passed is not None:
            self._keep(self._passed.finish())
        if self._pictures is not None:
            self._keep(self._pictures.finish(self._end_s))
        self._hear(self._sounds.finish(self._end_s))
        for pieces in self._pieces.values():
            pieces.end()

    def _keep(self, coded: Iterator[Coded]) -> None:
        for one in coded:
            if one.segment >= self._first:
                pieces = self._pieces[one.rendition]
                pieces.add(fmp4.VIDEO_ID, one.segment, one.start, one.sample)

    def _hear(self, blocks: Iterator[Block]) -> None:
        for block in blocks:
            sample = fmp4.Sample(block.data, AAC_SAMPLES)
            for one in self._made:
                if one.voice is block.voice:
                    segment = max(self._first, self._cuts.of_sound(block.number))
                    start = block.number * AAC_SAMPLES
                    self._pieces[one.name].add(fmp4.AUDIO_ID, segment, start, sample)

    def _say(self, before: float, share: float) -> None:
        now = time.monotonic()
        if now - self._said_at > _SAY_EVERY_S:
            self._said_at = now
            # Also said where nobody knows the whole: whoever waits sees that this process lives.
            whole_s = self._plan.duration_s or 1e9
            done = min(1.0, max(0.0, self._end_s / whole_s))
            say(Progress(done=round(before + share * done, 4)))


def _poster(sources: Sequence[Source], plan: Plan) -> bytes | None:
    """A picture out of the longest file that has one, or of how the class sounds."""
    if plan.video is None:
        return sound_card(sources)
    ends = [*(one.start_s for one in sources[1:]), plan.duration_s]
    lengths = [
        (end - one.start_s if end is not None else None, one)
        for one, end in zip(sources, ends, strict=True)
    ]
    for length_s, one in sorted(lengths, key=lambda pair: pair[0] or 0.0, reverse=True):
        picture = poster(one.path, plan.video, length_s)
        if picture is not None:
            return picture
    return None


def first_block(cuts: Cuts, segment: int) -> int:
    """The first block of sound that belongs to a segment."""
    if segment == 0:
        return 0
    block = int(cuts.start_s(segment) * SAMPLES_PER_S / AAC_SAMPLES)
    while cuts.of_sound(block) < segment:
        block += 1
    return block


def main() -> int:
    """The process: 0 when the job is done, 1 when it cannot be done."""
    os.nice(NICENESS)
    av.logging.set_level(av.logging.PANIC)
    try:
        run(Job.model_validate_json(sys.stdin.readline()))
    except MediaError as error:
        say(Failed(sentence=str(error)))
        return 1
    except fmp4.BoxError as error:
        say(Failed(sentence=f"its H264 cannot be used: {error}"))
        return 1
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            sentence = "the disk of the library is full: make room, then it goes on where it was"
        else:
            sentence = f"{error.filename or 'a file'}: {error.strerror}"
        say(Failed(sentence=sentence, final=False))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
