"""Frames into segments: where to cut, what is missing, which picture stands with which sound.

Pure: frames, sender reports and `now` come in, segments come out.

The sound is the clock of the file: its samples follow each other without a hole or a jump, as
players like it, and lost sound is replaced by silence of the same length. A picture stands where
its sound is, by the publisher's sender reports, and lasts until the next one: so a drift between
the two clocks never adds up. Of a picture whose packets are lost for good the last good one stays
until the next keyframe.

A *part* is a stretch that one description of the tracks fits. A new one begins when the publisher
was away, is another one, or sends a picture of another size or codec.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from media import fmp4
from media.fmp4 import AUDIO_ID, AUDIO_RATE, VIDEO_ID, VIDEO_RATE, Run, Sample
from media.frames import Frame, Look
from media.lipsync import Report, TrackClock
from media.recording import Missing, SegmentFacts

SEGMENT_MIN_S: Final = 2.0
# A keyframe is asked for when the last one is this old, and no longer waited for at SEGMENT_MAX_S.
KEYFRAME_AFTER_S: Final = 3.0
SEGMENT_MAX_S: Final = 6.0
# A track whose packets stop is waited for this long; then its segment is closed without it.
STALL_S: Final = 2.5
# Both tracks silent for this long: the publisher was away, and what comes is a new part.
AWAY_S: Final = 2.0
# Browsers send a track's first report within 2.5 s, and the next after 5 s.
CLOCK_WAIT_S: Final = 8.0
# Sound without any picture becomes a part of its own after this.
PICTURE_WAIT_S: Final = 5.0
# The relation of picture to sound follows the reports at this speed at most.
SLEW: Final = 0.005
MAX_PENDING_BYTES: Final = 96 << 20
MAX_PENDING_FRAMES: Final = 20_000
# Silence as Opus encodes it: CELT, full band, 20 ms, one channel (RFC 6716 section 3.1).
SILENCE: Final = b"\xf8\xff\xfe"
SILENCE_TICKS: Final = 960


@dataclass(frozen=True, slots=True)
class Cut:
    """One finished segment, or the begin of a part when `init` is set."""

    facts: SegmentFacts
    data: bytes
    init: bytes = b""


@dataclass(slots=True, eq=False)
class _Held:
    """A frame that waits for its segment.

    `ticks`: its time by its track's clock. `breaks`: it does not go on from the one before in time.
    `resumes`: pictures before it are lost.
    """

    frame: Frame
    ticks: int
    arrived_s: float
    breaks: bool
    resumes: bool = False


@dataclass(slots=True)
class _Part:
    number: int
    look: Look | None
    sound: bool
    zero_ticks: int
    """The tick of the master clock (sound, else picture) that is the part's time 0."""
    began_ntp_s: float
    steps: int
    shift_s: float = 0.0
    """NTP seconds of the picture's tick 0 less those of the sound's, as used."""
    segments: int = 0
    start_s: float = 0.0
    audio_next: int = 0
    """Ticks of the part at which the next sound is due."""
    video_last: int = -1
    missing: list[Missing] = field(default_factory=list)


class Cutter:
    """One recording's way from frames to segments."""

    def __init__(self, parts: int = 0) -> None:
        """`parts`: how many there are already."""
        self.parts = parts
        self.dropped = 0
        """Frames that were whole and had no place: after a loss, or before a part's begin."""
        self._audio: deque[_Held] = deque()
        self._video: deque[_Held] = deque()
        self._clocks = {"audio": TrackClock(AUDIO_RATE), "video": TrackClock(VIDEO_RATE)}
        self._reported_s = {"audio": -1.0, "video": -1.0}
        self._last_s = {"audio": -1.0, "video": -1.0}
        self._ends: dict[str, int] = {}
        self._frozen = False
        self._frozen_from = -1
        self._bytes = 0
        self._part: _Part | None = None
        self._epoch_s = -1.0
        self._kinds: frozenset[str] = frozenset()

    # ------------------------------------------------------------ what comes in

    def begin_tracks(self, kinds: Iterable[str], now: float) -> list[Cut]:
        """Other tracks feed the recording from here on: what was held is closed."""
        cuts = self.finish(now) if self._kinds else []
        self._kinds = frozenset(kinds)
        self._clocks = {"audio": TrackClock(AUDIO_RATE), "video": TrackClock(VIDEO_RATE)}
        self._reported_s = {"audio": -1.0, "video": -1.0}
        self._ends = {}
        self._frozen, self._frozen_from = False, -1
        self._epoch_s = now
        return cuts

    def report(self, kind: str, report: Report, now: float) -> None:
        """Take a sender report of a track."""
        self._clocks[kind].report(report)
        self._reported_s[kind] = now

    def frame(self, kind: str, frame: Frame, now: float) -> None:
        """Take a track's next frame."""
        clock = self._clocks[kind]
        ticks = clock.ticks.of(frame.timestamp)
        last = self._ends.get(kind)
        breaks = last is not None and not 0 <= ticks - last + clock.rate < (AWAY_S + 1) * clock.rate
        self._ends[kind] = ticks + frame.ticks
        self._last_s[kind] = now
        if self._bytes + len(frame.data) > MAX_PENDING_BYTES:
            self.dropped += 1
            return
        if kind == "video":
            self._picture(_Held(frame, ticks, now, breaks), now)
        elif len(self._audio) < MAX_PENDING_FRAMES:
            self._audio.append(_Held(frame, ticks, now, breaks))
            self._bytes += len(frame.data)

    def _picture(self, held: _Held, now: float) -> None:
        frame = held.frame
        resumes = self._frozen or frame.after_loss
        if resumes and not frame.keyframe:
            self._frozen = True
            self.dropped += 1
            return
        self._frozen = False
        held.resumes = resumes
        if not self._part and not self._video and not frame.keyframe:
            self.dropped += 1
            return
        if len(self._video) < MAX_PENDING_FRAMES:
            self._video.append(held)
            self._bytes += len(frame.data)

    def lost(self, kind: str) -> None:
        """Packets of a track will not come any more."""
        if kind == "video":
            self._frozen = True

    def wants_keyframe(self, now: float) -> bool:
        """Whether a keyframe would help: to go on after a loss, to begin, or to cut."""
        if "video" not in self._kinds or now - self._last_s["video"] > 1.0:
            return False
        if self._frozen or (self._part is None and not self._video):
            return True
        keys = [held for held in self._video if held.frame.keyframe]
        last = keys[-1].arrived_s if keys else 0.0
        return now - last > KEYFRAME_AFTER_S

    # ------------------------------------------------------------ what goes out

    def process(self, now: float) -> list[Cut]:
        """The segments that are complete by now."""
        cuts: list[Cut] = []
        while True:
            if self._part is None and not self._begin(now, cuts):
                return cuts
            cut = self._next(now)
            if cut is None:
                return cuts
            cuts += cut

    def finish(self, now: float) -> list[Cut]:
        """Close the present part with what there is."""
        cuts: list[Cut] = []
        far = now + 1e6
        while self._audio or self._video:
            cuts += self.process(far)
            part = self._part
            if part is None:
                break
            end_s = self._end_s(part)
            if end_s <= part.start_s:
                break
            cuts += [self._cut(part, end_s, last=True)]
        self._part = None
        self._drop_all()
        return cuts

    def abandon(self, part: int) -> None:
        """A segment of a part could not be written: the part is over."""
        if self._part is not None and self._part.number == part:
            self._part = None

    def _drop_all(self) -> None:
        self.dropped += len(self._video)
        self._audio.clear()
        self._video.clear()
        self._bytes = 0

    # ------------------------------------------------------------ begin of a part

    def _begin(self, now: float, cuts: list[Cut]) -> bool:
        """Begin a part when it is clear how; True if it has begun."""
        while self._video and not self._video[0].frame.keyframe:
            self._take(self._video)
            self.dropped += 1
        first = self._video[0] if self._video else None
        heard = self._audio[0] if self._audio else None
        if first is None and heard is None:
            return False
        oldest_s = min(held.arrived_s for held in (first, heard) if held is not None)
        if first is None:
            if "video" in self._kinds and now - oldest_s < PICTURE_WAIT_S:
                return False
        elif heard is None and "audio" in self._kinds and now - oldest_s < STALL_S:
            return False
        known = self._clocks_known(first is not None, heard is not None)
        if not known and now - oldest_s < CLOCK_WAIT_S:
            return False
        self._open(first, heard, cuts)
        return True

    def _clocks_known(self, picture: bool, sound: bool) -> bool:
        """Whether both tracks were reported on since the last break; one alone needs none."""
        if not (picture and sound):
            return True
        return all(self._reported_s[kind] >= self._epoch_s for kind in ("audio", "video"))

    def _open(self, first: _Held | None, heard: _Held | None, cuts: list[Cut]) -> None:
        audio, video = self._clocks["audio"], self._clocks["video"]
        self.parts += 1
        look = first.frame.look if first is not None else None
        part = _Part(self.parts, look, heard is not None, 0, 0.0, self._steps())
        if first is not None and heard is not None:
            if audio.reports and video.reports:
                part.shift_s = video.zero_s - audio.zero_s
            else:
                # Nobody said: by when they came.
                early_s = first.arrived_s - heard.arrived_s
                part.shift_s = early_s - first.ticks / VIDEO_RATE + heard.ticks / AUDIO_RATE
            part.zero_ticks = round((part.shift_s + first.ticks / VIDEO_RATE) * AUDIO_RATE)
        else:
            part.zero_ticks = (first or heard).ticks  # type: ignore[union-attr]
        if first is not None:
            part.began_ntp_s = video.ntp_s(first.ticks) if video.reports else 0.0
        elif heard is not None:
            part.began_ntp_s = audio.ntp_s(heard.ticks) if audio.reports else 0.0
        while part.sound and self._audio and self._audio[0].ticks < part.zero_ticks:
            self._take(self._audio)
        self._part = part
        init = fmp4.init_segment(look, sound=part.sound)
        cuts.append(Cut(self._facts(part, 0.0, True), b"", init))

    def _steps(self) -> int:
        return self._clocks["audio"].steps + self._clocks["video"].steps

    # ------------------------------------------------------------ the next cut

    def _next(self, now: float) -> list[Cut] | None:
        """The next segment, with the end of the part where there is one; None: wait."""
        part = self._part
        assert part is not None
        if part.look is None:
            return self._next_sound(part, now)
        begun = False
        for held in self._video:
            time_s = self._video_s(part, held.ticks)
            length_s = time_s - part.start_s
            ends = begun and self._ends_part(part, held)
            if ends or (begun and length_s >= SEGMENT_MIN_S and held.frame.keyframe):
                return self._close(part, time_s, held, ends, now)
            if begun and length_s >= SEGMENT_MAX_S:
                return self._close(part, time_s, held, False, now)
            begun = True
        idle_s = now - (self._last_s["video"] if self._last_s["video"] >= 0 else self._epoch_s)
        if idle_s > STALL_S and part.sound and self._audio:
            # Sound alone goes on: the camera is off, or the picture waits for its keyframe.
            return self._next_sound(part, now)
        if self._silent(now):
            return self._close_all(part)
        return None

    def _next_sound(self, part: _Part, now: float) -> list[Cut] | None:
        for held in self._audio:
            time_s = self._audio_s(part, held.ticks)
            if held.breaks and time_s > part.start_s:
                return self._end_here(part)
            if time_s - part.start_s >= KEYFRAME_AFTER_S:
                if part.look is None and self._video and self._video[0].frame.keyframe:
                    # A picture has come: what follows has both.
                    return self._end_at(part, time_s)
                return [self._cut(part, time_s)]
        if self._silent(now):
            return self._close_all(part)
        return None

    def _silent(self, now: float) -> bool:
        return bool(self._audio or self._video) and now - max(self._last_s.values()) > 2 * STALL_S

    def _ends_part(self, part: _Part, held: _Held) -> bool:
        """Whether a new part begins with this picture."""
        frame = held.frame
        if held.breaks and (not part.sound or any(a.breaks for a in self._audio)):
            return True
        if not frame.keyframe or frame.look is None:
            return False
        return frame.look != part.look or (
            self._steps() != part.steps and held.arrived_s > self._epoch_s
        )

    def _close(
        self, part: _Part, time_s: float, held: _Held, ends: bool, now: float
    ) -> list[Cut] | None:
        if ends and held.breaks:
            return self._end_here(part, held)
        if part.sound and not self._heard_until(part, time_s):
            quiet_s = now - max(self._last_s["audio"], held.arrived_s)
            if quiet_s < STALL_S:
                return None
        if ends:
            return self._end_at(part, time_s)
        return [self._cut(part, time_s)]

    def _heard_until(self, part: _Part, time_s: float) -> bool:
        if not self._audio:
            return False
        last = self._audio[-1]
        return self._audio_s(part, last.ticks + last.frame.ticks) >= time_s

    def _end_at(self, part: _Part, time_s: float) -> list[Cut]:
        """End the part at a time; what comes after it is held for the next."""
        cut = self._cut(part, time_s)
        self._part = None
        return [cut]

    def _end_here(self, part: _Part, held: _Held | None = None) -> list[Cut]:
        """End the part before a break: the publisher was away."""
        later_video = _after_break(self._video, held)
        later_audio = _after_break(self._audio, None)
        end_s = self._end_s(part)
        cuts = [self._cut(part, end_s, last=True)] if end_s > part.start_s else []
        self._part = None
        self._drop_all()
        self._video.extend(later_video)
        self._audio.extend(later_audio)
        self._bytes = sum(len(h.frame.data) for h in (*later_video, *later_audio))
        self._epoch_s = min(h.arrived_s for h in (*later_video, *later_audio))
        return cuts

    def _close_all(self, part: _Part) -> list[Cut]:
        """The publisher is silent: nothing is kept back, and what comes is a new part."""
        end_s = self._end_s(part)
        cuts = [self._cut(part, end_s, last=True)] if end_s > part.start_s else []
        self._part = None
        self._drop_all()
        self._epoch_s = max(self._last_s.values())
        return cuts

    def _end_s(self, part: _Part) -> float:
        """Where the part ends with all that is held."""
        ends = [part.start_s]
        if part.look is not None:
            pictures = [self._video_s(part, h.ticks) for h in self._video]
            if pictures:
                step = pictures[-1] - pictures[-2] if len(pictures) > 1 else 0.04
                ends.append(pictures[-1] + min(max(step, 0.001), 0.2))
        if part.sound and self._audio:
            last = self._audio[-1]
            ends.append(self._audio_s(part, last.ticks + last.frame.ticks))
        return max(ends)

    # ------------------------------------------------------------ a segment

    def _audio_s(self, part: _Part, ticks: int) -> float:
        return (ticks - part.zero_ticks) / AUDIO_RATE

    def _video_s(self, part: _Part, ticks: int) -> float:
        if not part.sound:
            return (ticks - part.zero_ticks) / VIDEO_RATE
        return part.shift_s + ticks / VIDEO_RATE - part.zero_ticks / AUDIO_RATE

    def _cut(self, part: _Part, end_s: float, *, last: bool = False) -> Cut:
        """Make a segment of what is held up to a time."""
        runs: list[Run] = []
        keyframe = False
        missing = part.missing
        part.missing = []
        if part.look is not None:
            run = self._video_run(part, end_s, missing)
            if run is not None:
                runs.append(run)
                keyframe = run.samples[0].keyframe
        if part.sound:
            runs.append(self._audio_run(part, end_s, missing, last))
        facts = self._facts(part, end_s, keyframe or part.look is None, missing)
        part.segments += 1
        data = fmp4.segment(part.segments, runs)
        self._follow(part, end_s - part.start_s)
        part.start_s = end_s
        return Cut(facts, data)

    def _facts(
        self, part: _Part, end_s: float, keyframe: bool, missing: Iterable[Missing] = ()
    ) -> SegmentFacts:
        look = part.look
        return SegmentFacts(
            part=part.number,
            number=part.segments,
            start_s=round(part.start_s, 6),
            duration_s=round(max(0.0, end_s - part.start_s), 6),
            keyframe=keyframe,
            video=look.codec if look is not None else "",
            width=look.width if look is not None else 0,
            height=look.height if look is not None else 0,
            sound=part.sound,
            began_ntp_s=round(part.began_ntp_s, 6),
            missing=[*missing][:100],
        )

    def _follow(self, part: _Part, length_s: float) -> None:
        """Let the relation of picture to sound follow the reports."""
        audio, video = self._clocks["audio"], self._clocks["video"]
        if part.sound and part.look is not None and audio.reports and video.reports:
            most_s = max(0.0, length_s) * SLEW
            off_s = video.zero_s - audio.zero_s - part.shift_s
            if self._steps() == part.steps:
                part.shift_s += max(-most_s, min(most_s, off_s))

    def _video_run(self, part: _Part, end_s: float, missing: list[Missing]) -> Run | None:
        taken: list[tuple[int, _Held]] = []
        while self._video and self._video_s(part, self._video[0].ticks) < end_s - 1e-9:
            held = self._take(self._video)
            taken.append((round(self._video_s(part, held.ticks) * VIDEO_RATE), held))
        if not taken:
            return None
        times: list[int] = []
        for shown, held in taken:
            # Decoding goes on tick by tick, whatever the order of showing.
            times.append(max(shown, part.video_last + 1))
            part.video_last = times[-1]
            self._note_freeze(part, held, shown, missing)
        end = max(round(end_s * VIDEO_RATE), times[-1] + 1)
        samples = [
            Sample(held.frame.data, after - time, held.frame.keyframe, shown - time)
            for (shown, held), time, after in zip(taken, times, [*times[1:], end], strict=True)
        ]
        return Run(VIDEO_ID, times[0], samples)

    def _note_freeze(self, part: _Part, held: _Held, shown: int, missing: list[Missing]) -> None:
        if held.resumes and self._frozen_from >= 0:
            gone = (shown - self._frozen_from) / VIDEO_RATE
            missing.append(
                Missing(kind="video", start_s=self._frozen_from / VIDEO_RATE, duration_s=gone)
            )
        self._frozen_from = shown

    def _audio_run(self, part: _Part, end_s: float, missing: list[Missing], last_one: bool) -> Run:
        samples: list[Sample] = []
        end = round(end_s * AUDIO_RATE)
        start = part.audio_next
        while self._audio and self._audio[0].ticks - part.zero_ticks < end:
            held = self._audio[0]
            due = held.ticks - part.zero_ticks
            if due + held.frame.ticks // 2 <= part.audio_next and samples:
                # Its time has been filled already.
                self._take(self._audio)
                continue
            if not samples and part.segments == 0 and start == 0:
                # The very first sound begins where it begins, not at 0.
                start = part.audio_next = max(0, due)
            hole = due - part.audio_next
            if hole >= SILENCE_TICKS // 2:
                self._silence(part, samples, hole, missing)
            elif hole and samples:
                last = samples[-1]
                stretched = Sample(last.data, max(1, last.duration + hole))
                part.audio_next += stretched.duration - last.duration
                samples[-1] = stretched
            self._take(self._audio)
            samples.append(Sample(held.frame.data, held.frame.ticks))
            part.audio_next += held.frame.ticks
        if not last_one and end - part.audio_next >= SILENCE_TICKS:
            self._silence(part, samples, end - part.audio_next, missing)
        return Run(AUDIO_ID, start, samples)

    def _silence(
        self, part: _Part, samples: list[Sample], ticks: int, missing: list[Missing]
    ) -> None:
        """Fill a hole with silence, and say so."""
        missing.append(
            Missing(
                kind="audio",
                start_s=part.audio_next / AUDIO_RATE,
                duration_s=ticks / AUDIO_RATE,
            )
        )
        count = max(1, ticks // SILENCE_TICKS)
        spare = ticks - (count - 1) * SILENCE_TICKS
        samples += [Sample(SILENCE, SILENCE_TICKS)] * (count - 1) + [Sample(SILENCE, spare)]
        part.audio_next += ticks

    def _take(self, queue: deque[_Held]) -> _Held:
        held = queue.popleft()
        self._bytes -= len(held.frame.data)
        return held


def _after_break(queue: deque[_Held], held: _Held | None) -> list[_Held]:
    """Take what comes after the break out of a queue; the break is at `held`, if that is given."""
    kept = list(queue)
    at = next(
        (i for i, h in enumerate(kept) if h is held or (held is None and h.breaks)), len(kept)
    )
    later = kept[at:]
    queue.clear()
    queue.extend(kept[:at])
    return later
