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
from typing import Final

from media.fmp4 import AUDIO_RATE, VIDEO_RATE
from media.frames import Frame
from media.lipsync import Report, TrackClock
from media.recording import MAX_PARTS
from media.reel import Cut, Held, Reel

# A little less than the keyframe interval that encoders are fond of.
SEGMENT_MIN_S: Final = 1.9
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
# Sound and picture of one moment do not come further apart than this.
APART_S: Final = 10.0
MAX_PENDING_BYTES: Final = 96 << 20
MAX_PENDING_FRAMES: Final = 20_000


class Cutter:
    """One recording's way from frames to segments."""

    def __init__(self, parts: int = 0) -> None:
        """`parts`: how many there are already."""
        self.parts = parts
        self.dropped = 0
        """Frames that were whole and had no place: after a loss, or before a part's begin."""
        self._audio: deque[Held] = deque()
        self._video: deque[Held] = deque()
        self._clocks = {"audio": TrackClock(AUDIO_RATE), "video": TrackClock(VIDEO_RATE)}
        self._reported_s = {"audio": -1.0, "video": -1.0}
        self._last_s = {"audio": -1.0, "video": -1.0}
        self._ends: dict[str, int] = {}
        self._frozen = False
        self._bytes = 0
        self._reel: Reel | None = None
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
        self._frozen = False
        self._epoch_s = now
        return cuts

    def report(self, kind: str, report: Report, now: float) -> None:
        """Take a sender report of a track."""
        clock = self._clocks[kind]
        steps = clock.steps
        clock.report(report)
        self._reported_s[kind] = now
        if clock.steps != steps:
            # Another clock: the other track's next report tells how the two stand to each other.
            self._epoch_s = now

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
            self._picture(Held(frame, ticks, now, breaks), now)
        elif len(self._audio) < MAX_PENDING_FRAMES:
            self._audio.append(Held(frame, ticks, now, breaks))
            self._bytes += len(frame.data)

    def _picture(self, held: Held, now: float) -> None:
        frame = held.frame
        resumes = self._frozen or frame.after_loss
        if resumes and not frame.keyframe:
            self._frozen = True
            self.dropped += 1
            return
        self._frozen = False
        held.resumes = resumes
        waits = self._reel is None or self._reel.look is None
        if waits and not self._video and not frame.keyframe:
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
        if self._frozen or (self._reel is None and not self._video):
            return True
        keys = [held for held in self._video if held.frame.keyframe]
        last = keys[-1].arrived_s if keys else 0.0
        return now - last > KEYFRAME_AFTER_S

    # ------------------------------------------------------------ what goes out

    def process(self, now: float) -> list[Cut]:
        """The segments that are complete by now."""
        cuts: list[Cut] = []
        while True:
            if self._reel is None and not self._begin(now, cuts):
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
            reel = self._reel
            if reel is None:
                break
            end_s = self._end_s(reel)
            if end_s <= reel.start_s:
                break
            cuts += [self._cut(reel, end_s, last=True)]
        self._reel = None
        self._drop_all()
        return cuts

    def abandon(self, part: int) -> None:
        """A segment of a part could not be written: the part is over."""
        if self._reel is not None and self._reel.number == part:
            self._reel = None

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
        if self.parts >= MAX_PARTS:
            self._drop_all()
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

    def _open(self, first: Held | None, heard: Held | None, cuts: list[Cut]) -> None:
        audio, video = self._clocks["audio"], self._clocks["video"]
        self.parts += 1
        look = first.frame.look if first is not None else None
        reel = Reel(self.parts, look, heard is not None, 0, 0.0, self._steps())
        if first is not None and heard is not None:
            # By when they came, if nobody says or what is said cannot be.
            early_s = first.arrived_s - heard.arrived_s
            reel.shift_s = early_s - first.ticks / VIDEO_RATE + heard.ticks / AUDIO_RATE
            said_s = video.zero_s - audio.zero_s
            if audio.reports and video.reports and abs(said_s - reel.shift_s) < APART_S:
                reel.shift_s = said_s
            reel.zero_ticks = round((reel.shift_s + first.ticks / VIDEO_RATE) * AUDIO_RATE)
        else:
            only = first or heard
            assert only is not None
            reel.zero_ticks = only.ticks
        self._date(reel)
        while reel.sound and self._audio and self._audio[0].ticks < reel.zero_ticks:
            self._take(self._audio)
        for held in (first, heard):
            if held is not None:
                held.breaks = False
        self._reel = reel
        cuts.append(reel.begin())

    def _date(self, reel: Reel) -> None:
        """Notes when the part began by the publisher's clock, as soon as that is told."""
        audio, video = self._clocks["audio"], self._clocks["video"]
        if reel.look is not None and video.reports:
            zero_s = reel.zero_ticks / VIDEO_RATE
            if reel.sound:
                zero_s = reel.zero_ticks / AUDIO_RATE - reel.shift_s
            reel.began_ntp_s = video.zero_s + zero_s
        elif reel.look is None and audio.reports:
            reel.began_ntp_s = audio.ntp_s(reel.zero_ticks)

    def _steps(self) -> int:
        return self._clocks["audio"].steps + self._clocks["video"].steps

    # ------------------------------------------------------------ the next cut

    def _next(self, now: float) -> list[Cut] | None:
        """The next segment, with the end of the part where there is one; None: wait."""
        reel = self._reel
        assert reel is not None
        if reel.look is None:
            return self._next_sound(reel, now)
        begun = False
        for held in self._video:
            time_s = reel.video_s(held.ticks)
            length_s = time_s - reel.start_s
            ends = begun and self._ends_part(reel, held)
            if ends or (begun and length_s >= SEGMENT_MIN_S and held.frame.keyframe):
                return self._close(reel, time_s, held, ends, now)
            if begun and length_s >= SEGMENT_MAX_S:
                return self._close(reel, time_s, held, False, now)
            begun = True
        idle_s = now - (self._last_s["video"] if self._last_s["video"] >= 0 else self._epoch_s)
        if idle_s > STALL_S and reel.sound and self._audio:
            # Sound alone goes on: the camera is off, or the picture waits for its keyframe.
            return self._next_sound(reel, now)
        if self._silent(now):
            return self._close_all(reel)
        return None

    def _next_sound(self, reel: Reel, now: float) -> list[Cut] | None:
        if reel.look is None and self._video and self._clocks_known(True, True):
            # A picture has come: what follows from there on has both.
            shift_s = self._clocks["video"].zero_s - self._clocks["audio"].zero_s
            shown = (shift_s + self._video[0].ticks / VIDEO_RATE) * AUDIO_RATE
            at_s = reel.audio_s(round(shown))
            if at_s <= reel.start_s or self._heard_until(reel, at_s):
                return self._end_at(reel, max(at_s, reel.start_s))
        for held in self._audio:
            time_s = reel.audio_s(held.ticks)
            if held.breaks and time_s > reel.start_s:
                return self._end_here(reel)
            if time_s - reel.start_s >= KEYFRAME_AFTER_S:
                return [self._cut(reel, time_s)]
        if self._silent(now):
            return self._close_all(reel)
        return None

    def _silent(self, now: float) -> bool:
        return bool(self._audio or self._video) and now - max(self._last_s.values()) > 2 * STALL_S

    def _ends_part(self, reel: Reel, held: Held) -> bool:
        """Whether a new part begins with this picture."""
        frame = held.frame
        if held.breaks and (not reel.sound or any(a.breaks for a in self._audio)):
            return True
        if held.breaks and self._audio:
            apart_s = reel.audio_s(self._audio[-1].ticks) - reel.video_s(held.ticks)
            if abs(apart_s) > APART_S:
                return True
        if not frame.keyframe or frame.look is None:
            return False
        return not reel.fits(frame.look) or (
            self._steps() != reel.steps and held.arrived_s > self._epoch_s
        )

    def _close(
        self, reel: Reel, time_s: float, held: Held, ends: bool, now: float
    ) -> list[Cut] | None:
        if ends and held.breaks:
            return self._end_here(reel, held)
        if reel.sound and not self._heard_until(reel, time_s):
            quiet_s = now - max(self._last_s["audio"], held.arrived_s)
            if quiet_s < STALL_S:
                return None
        if ends:
            return self._end_at(reel, time_s)
        return [self._cut(reel, time_s)]

    def _heard_until(self, reel: Reel, time_s: float) -> bool:
        if not self._audio:
            return False
        last = self._audio[-1]
        return reel.audio_s(last.ticks + last.frame.ticks) >= time_s

    def _end_at(self, reel: Reel, time_s: float) -> list[Cut]:
        """End the part at a time; what comes after it is held for the next."""
        cuts = [self._cut(reel, time_s)] if time_s > reel.start_s else []
        self._reel = None
        return cuts

    def _end_here(self, reel: Reel, held: Held | None = None) -> list[Cut]:
        """End the part before a break: the publisher was away."""
        later_video = _after_break(self._video, held)
        later_audio = _after_break(self._audio, None)
        end_s = self._end_s(reel)
        cuts = [self._cut(reel, end_s, last=True)] if end_s > reel.start_s else []
        self._reel = None
        self._drop_all()
        self._video.extend(later_video)
        self._audio.extend(later_audio)
        self._bytes = sum(len(h.frame.data) for h in (*later_video, *later_audio))
        self._epoch_s = min(h.arrived_s for h in (*later_video, *later_audio))
        return cuts

    def _close_all(self, reel: Reel) -> list[Cut]:
        """The publisher is silent: nothing is kept back, and what comes is a new part."""
        end_s = self._end_s(reel)
        cuts = [self._cut(reel, end_s, last=True)] if end_s > reel.start_s else []
        self._reel = None
        self._drop_all()
        self._epoch_s = max(self._last_s.values())
        return cuts

    def _end_s(self, reel: Reel) -> float:
        """Where the part ends with all that is held."""
        ends = [reel.start_s]
        if reel.look is not None:
            pictures = sorted(reel.video_s(h.ticks) for h in self._video)
            if pictures:
                step = pictures[-1] - pictures[-2] if len(pictures) > 1 else 0.04
                ends.append(pictures[-1] + min(max(step, 0.001), 0.2))
        if reel.sound and self._audio:
            last = self._audio[-1]
            ends.append(reel.audio_s(last.ticks + last.frame.ticks))
        return max(ends)

    def _cut(self, reel: Reel, end_s: float, *, last: bool = False) -> Cut:
        """The segment up to a time."""
        length_s = end_s - reel.start_s
        if not reel.began_ntp_s:
            # One track alone is recorded before anybody has reported when.
            self._date(reel)
        cut = reel.cut(self._video, self._audio, end_s, last=last)
        self._bytes = sum(len(held.frame.data) for q in (self._audio, self._video) for held in q)
        audio, video = self._clocks["audio"], self._clocks["video"]
        if reel.sound and reel.look is not None and audio.reports and video.reports:
            said_s = video.zero_s - audio.zero_s
            if self._steps() == reel.steps and abs(said_s - reel.shift_s) < APART_S:
                reel.follow(said_s, length_s)
        return cut

    def _take(self, queue: deque[Held]) -> Held:
        held = queue.popleft()
        self._bytes -= len(held.frame.data)
        return held


def _after_break(queue: deque[Held], held: Held | None) -> list[Held]:
    """Take what comes after the break out of a queue; the break is at `held`, if that is given."""
    kept = list(queue)
    at = next(
        (i for i, h in enumerate(kept) if h is held or (held is None and h.breaks)), len(kept)
    )
    later = kept[at:]
    queue.clear()
    queue.extend(kept[:at])
    return later
