"""One part of a recording while it is written: frames that are due become a segment.

Sound is the clock: its samples follow each other without a hole. A picture's time is the one of
the sound that was captured with it, and it lasts until the next one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from media import fmp4
from media.fmp4 import AUDIO_ID, AUDIO_RATE, VIDEO_ID, VIDEO_RATE, Run, Sample
from media.frames import Frame, Look
from media.recording import Missing, SegmentFacts

# The relation of picture to sound follows the reports at this speed at most.
SLEW: Final = 0.005
# Silence as Opus encodes it: CELT, full band, one channel, 20 ms and 2.5 ms (RFC 6716 section 3.1).
SILENCE: Final = b"\xf8\xff\xfe"
SILENCE_TICKS: Final = 960
SHORT_SILENCE: Final = b"\xe0\xff\xfe"
SHORT_TICKS: Final = 120
MAX_NTP_S: Final = 2.0**33


@dataclass(frozen=True, slots=True)
class Cut:
    """One finished segment, or the begin of a part when `init` is set."""

    facts: SegmentFacts
    data: bytes
    init: bytes = b""


@dataclass(slots=True, eq=False)
class Held:
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
class Reel:
    """See the module. Times in seconds are those of the part, unless they are NTP."""

    number: int
    look: Look | None
    sound: bool
    zero_ticks: int
    """The tick of the master clock (sound, else picture) that is the part's time 0."""
    began_ntp_s: float
    steps: int
    """How often the publisher's clocks had been set when the part began."""
    shift_s: float = 0.0
    """NTP seconds of the picture's tick 0 less those of the sound's, as used."""
    segments: int = 0
    start_s: float = 0.0
    """Where the next segment begins."""
    audio_next: int = 0
    """Ticks at which the next sound is due."""
    audio_heard: bool = False
    video_last: int = -1
    shown_last: int = -1

    def begin(self) -> Cut:
        """The part's init segment."""
        init = fmp4.init_segment(self.look, sound=self.sound)
        return Cut(self._facts(0.0, True), b"", init)

    def audio_s(self, ticks: int) -> float:
        """When sound with this tick is heard."""
        return (ticks - self.zero_ticks) / AUDIO_RATE

    def video_s(self, ticks: int) -> float:
        """When a picture with this tick is shown."""
        if not self.sound:
            return (ticks - self.zero_ticks) / VIDEO_RATE
        return self.shift_s + ticks / VIDEO_RATE - self.zero_ticks / AUDIO_RATE

    def fits(self, look: Look) -> bool:
        """Whether the part's description fits a picture that looks so.

        H264's parameter sets stand in the frames besides, and may differ in what a player does not
        need to know beforehand.
        """
        mine = self.look
        return mine is not None and (look.codec, look.width, look.height, look.sps[1:4]) == (
            mine.codec, mine.width, mine.height, mine.sps[1:4],
        )  # fmt: skip

    def cut(self, video: deque[Held], audio: deque[Held], end_s: float, *, last: bool) -> Cut:
        """Make a segment of what is held up to a time; takes it out of the queues.

        `last`: the part ends there, and sound that does not reach so far is not missing.
        """
        runs: list[Run] = []
        missing: list[Missing] = []
        keyframe = self.look is None
        if self.look is not None:
            run = self._video_run(video, end_s, missing)
            if run is not None:
                runs.append(run)
                keyframe = run.samples[0].keyframe
        if self.sound:
            runs.append(self._audio_run(audio, end_s, missing, last=last))
        facts = self._facts(end_s - self.start_s, keyframe, missing)
        self.segments += 1
        self.start_s = end_s
        return Cut(facts, fmp4.segment(self.segments, runs))

    def follow(self, shift_s: float, length_s: float) -> None:
        """Let the relation of picture to sound go towards what the reports say by now."""
        most_s = max(0.0, length_s) * SLEW
        self.shift_s += max(-most_s, min(most_s, shift_s - self.shift_s))

    def _facts(
        self, duration_s: float, keyframe: bool, missing: Iterable[Missing] = ()
    ) -> SegmentFacts:
        look = self.look
        return SegmentFacts(
            part=self.number,
            number=self.segments,
            start_s=round(self.start_s, 6),
            duration_s=round(max(0.0, duration_s), 6),
            keyframe=keyframe,
            video=look.codec if look is not None else "",
            width=look.width if look is not None else 0,
            height=look.height if look is not None else 0,
            sound=self.sound,
            began_ntp_s=round(self.began_ntp_s, 6) if 0 < self.began_ntp_s < MAX_NTP_S else 0.0,
            missing=[*missing][:100],
        )

    def _video_run(self, video: deque[Held], end_s: float, missing: list[Missing]) -> Run | None:
        taken: list[tuple[int, Held]] = []
        while video and self.video_s(video[0].ticks) < end_s - 1e-9:
            held = video.popleft()
            taken.append((round(self.video_s(held.ticks) * VIDEO_RATE), held))
        if not taken:
            return None
        times: list[int] = []
        for shown, held in taken:
            # Decoding goes on tick by tick, whatever the order of showing.
            times.append(max(shown, self.video_last + 1))
            self.video_last = times[-1]
            self._note_freeze(held, shown, missing)
        end = max(round(end_s * VIDEO_RATE), times[-1] + 1)
        samples = [
            Sample(held.frame.data, after - time, held.frame.keyframe, shown - time)
            for (shown, held), time, after in zip(taken, times, [*times[1:], end], strict=True)
        ]
        return Run(VIDEO_ID, times[0], samples)

    def _note_freeze(self, held: Held, shown: int, missing: list[Missing]) -> None:
        if held.resumes and self.shown_last >= 0 and shown > self.shown_last:
            since_s = self.shown_last / VIDEO_RATE
            gone_s = shown / VIDEO_RATE - since_s
            missing.append(Missing(kind="video", start_s=since_s, duration_s=gone_s))
        self.shown_last = shown

    def _audio_run(
        self, audio: deque[Held], end_s: float, missing: list[Missing], *, last: bool
    ) -> Run:
        samples: list[Sample] = []
        end = round(end_s * AUDIO_RATE)
        start = self.audio_next
        while audio and audio[0].ticks - self.zero_ticks < end:
            held = audio[0]
            due = held.ticks - self.zero_ticks
            if due + held.frame.ticks // 2 <= self.audio_next:
                # Its time has been filled already.
                audio.popleft()
                continue
            hole = due - self.audio_next
            if hole >= SHORT_TICKS:
                # Before the first sound nothing is missing: the picture began earlier.
                heard = self.audio_heard
                self._silence(samples, hole, missing if heard else [])
            elif not samples and not self.audio_heard:
                start = self.audio_next = max(0, due)
            elif hole and samples:
                short = samples[-1]
                stretched = Sample(short.data, max(1, short.duration + hole))
                self.audio_next += stretched.duration - short.duration
                samples[-1] = stretched
            audio.popleft()
            samples.append(Sample(held.frame.data, held.frame.ticks))
            self.audio_next += held.frame.ticks
            self.audio_heard = True
        if end - self.audio_next >= SHORT_TICKS:
            # Up to the end of the part, so that the next one follows without a hole.
            self._silence(samples, end - self.audio_next, [] if last else missing)
        return Run(AUDIO_ID, start, samples)

    def _silence(self, samples: list[Sample], ticks: int, missing: list[Missing]) -> None:
        """Fill a hole with silence, and say so."""
        missing.append(
            Missing(
                kind="audio",
                start_s=self.audio_next / AUDIO_RATE,
                duration_s=ticks / AUDIO_RATE,
            )
        )
        whole, rest = divmod(ticks, SILENCE_TICKS)
        short, spare = divmod(rest, SHORT_TICKS)
        filling = [Sample(SILENCE, SILENCE_TICKS)] * whole
        filling += [Sample(SHORT_SILENCE, SHORT_TICKS)] * short
        # What is shorter than any frame of Opus is a hole that nobody hears.
        last = filling.pop()
        samples += [*filling, Sample(last.data, last.duration + spare)]
        self.audio_next += ticks
