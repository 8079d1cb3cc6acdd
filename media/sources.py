"""Where the pictures and the sound come from: a file, a camera, an RTSP address, the test card.

A source yields samples in the order of their time: packets that pass through as they are, and
frames that are to be encoded. A live source yields them as they come; a file as fast as it is read,
and the feeder paces it.
"""

from __future__ import annotations

import math
import os
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, Protocol

import av
import av.container

from .encode import Shaper
from .errors import SourceError, SourceLostError
from .plan import (
    AudioFacts,
    AudioPlan,
    Handling,
    VideoFacts,
    VideoPlan,
    Wanted,
    plan_audio,
    plan_video,
)
from .probe import decoded, facts_of, microseconds, video_stream
from .testcard import BLOCK, SAMPLE_RATE, Card, Tone
from .timeline import US, FrameRate, Merge
from .whip import in_band

Kind = Literal["video", "audio"]

RTSP_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Sample:
    """One packet to pass through, or one frame to encode.

    time_us: its time by the source's own clock. duration_us: 0 where unknown. key: decoding can
    start here.
    """

    kind: Kind
    time_us: int
    duration_us: int
    payload: av.Packet[Any] | av.VideoFrame | av.AudioFrame
    key: bool


@dataclass(frozen=True, slots=True)
class Plans:
    """What is done with the two streams; None where the source has none."""

    video: VideoPlan | None
    audio: AudioPlan | None

    def sentences(self) -> list[str]:
        """What to tell the person."""
        said = [plan.sentence for plan in (self.video, self.audio) if plan is not None]
        if self.audio is None:
            said.append("sound: none")
        if self.video is not None and self.video.warning:
            said.append(self.video.warning)
        return said


class Source(Protocol):
    """A source that is open.

    live: it sets the pace itself. begin_us: the time of its first sample, by its own clock.
    duration_us: None if it has no end. preset: how hard x264 should try. dropped: pictures left
    out because the machine is too slow.
    """

    live: bool
    plans: Plans
    begin_us: int
    duration_us: int | None
    preset: str
    dropped: int

    def samples(self, start_us: int | None = None) -> Iterator[Sample]:
        """All samples up to the end of the source. Raises SourceLostError when it breaks off.

        start_us: go on from here; a file whose picture passes through, from the keyframe before.
        A camera cannot.
        """
        ...

    def close(self) -> None: ...


def open_source(name: str, wanted: Wanted, *, sound: bool, wait: Callable[[float], bool]) -> Source:
    """Open a source by its name on the command line.

    wait: sleeps for some seconds and returns True when it is time to stop.
    Raises SourceError (final) or SourceLostError (worth another try).
    """
    if name == "test:":
        return CardSource(wanted, sound=sound, wait=wait)
    if name.lower().startswith(("rtsp://", "rtsps://")):
        return _open_rtsp(name, wanted, sound=sound)
    device = name.removeprefix("v4l2:")
    if device != name or _is_device(device):
        return _open_device(device, wanted)
    return FileSource(name, wanted, sound=sound)


def is_live(name: str) -> bool:
    """Whether a source of this name is live: it comes back after a break, and has no end."""
    device = name.removeprefix("v4l2:")
    rtsp = name.lower().startswith(("rtsp://", "rtsps://"))
    return rtsp or device != name or _is_device(device)


class FileSource:
    """A file, from its start to its end; `samples` may be called again for another round."""

    live = False
    preset = "veryfast"

    def __init__(self, path: str, wanted: Wanted, *, sound: bool) -> None:
        self._path, self._wanted = path, wanted
        self.dropped = 0
        with _open_file(path) as container:
            video, audio = facts_of(container, probe=True)
            duration = container.duration
            self.begin_us = container.start_time or 0
        self.plans = _plan(path, video, audio if sound else None, wanted)
        self.duration_us = duration if duration and duration > 0 else None

    def samples(self, start_us: int | None = None) -> Iterator[Sample]:
        # Decoded frames need not be sent again to come to where it broke off; packets must.
        video = self.plans.video
        copied = video is not None and video.handling is Handling.COPY
        skip_to_us = None if copied else start_us
        for sample in self._samples(start_us):
            if skip_to_us is None or sample.time_us >= skip_to_us:
                yield sample

    def _samples(self, start_us: int | None) -> Iterator[Sample]:
        kinds = [k for k, plan in _by_kind(self.plans).items() if plan is not None]
        merge: Merge[Sample] = Merge(kinds)
        with _open_file(self._path) as container:
            if start_us is not None and start_us > self.begin_us:
                container.seek(start_us)
            reader = Reader(container, self.plans, self._wanted)
            for sample in reader.samples():
                merge.add(sample.kind, sample.time_us, sample)
                yield from merge.ready()
        yield from merge.rest()

    def close(self) -> None:
        """Nothing is open between rounds."""


class LiveSource:
    """A camera or an RTSP address."""

    live = True
    begin_us = 0
    duration_us: int | None = None
    preset = "superfast"

    def __init__(
        self, name: str, container: av.container.InputContainer, wanted: Wanted, *, sound: bool
    ) -> None:
        self._name, self._container = name, container
        self.dropped = 0
        video, audio = facts_of(container, probe=False)
        self.plans = _plan(name, video, audio if sound else None, wanted)
        self._reader = Reader(container, self.plans, wanted)

    def samples(self, start_us: int | None = None) -> Iterator[Sample]:
        try:
            yield from self._reader.samples()
        except av.error.FFmpegError as error:
            raise SourceLostError(f"{self._name} broke off: {_reason(error)}") from error
        raise SourceLostError(f"{self._name} ended")

    def close(self) -> None:
        self._container.close()


class CardSource:
    """The test card and its beep, in real time. A frame is drawn when it is due, so its clock is
    right; frames whose time has passed are left out.
    """

    live = True
    begin_us = 0
    duration_us: int | None = None
    preset = "ultrafast"
    LATE_S = 0.2

    def __init__(
        self,
        wanted: Wanted,
        *,
        sound: bool,
        wait: Callable[[float], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fps = Fraction(wanted.fps).limit_denominator(1001)
        width, height = wanted.width // 2 * 2, wanted.height // 2 * 2
        self._card = Card(width, height, self._fps)
        self._sound = Tone() if sound else None
        self._wait, self._clock = wait, clock
        self.dropped = 0
        self._frame = self._block = 0
        self.plans = Plans(
            VideoPlan(
                Handling.ENCODE,
                width,
                height,
                float(self._fps),
                f"picture: test card {width}x{height}, {float(self._fps):g} a second",
            ),
            AudioPlan(Handling.ENCODE, "sound: a tone, and a beep each second") if sound else None,
        )

    def samples(self, start_us: int | None = None) -> Iterator[Sample]:
        frame_us = int(US / self._fps)
        start_s = Fraction(start_us or 0, US)
        self._frame = math.ceil(start_s * self._fps)
        self._block = math.ceil(start_s * SAMPLE_RATE / BLOCK)
        start = self._clock() - float(start_s)
        while True:
            frame, block = self._frame, self._block
            picture_s = float(frame / self._fps)
            sound_s = block * BLOCK / SAMPLE_RATE
            picture_next = self._sound is None or picture_s <= sound_s
            due_s = picture_s if picture_next else sound_s
            late_s = self._clock() - start - due_s
            if late_s > self.LATE_S and self._skip_to(due_s + late_s):
                continue
            if late_s < 0 and self._wait(-late_s):
                return
            if picture_next:
                picture = self._card.frame(frame, datetime.now().astimezone())
                yield Sample("video", round(frame * US / self._fps), frame_us, picture, True)
                self._frame += 1
            elif self._sound is not None:
                samples = self._sound.block(block).reshape(1, -1)
                sound = av.AudioFrame.from_ndarray(samples, "s16", "stereo")
                sound.sample_rate = SAMPLE_RATE
                yield Sample("audio", block * BLOCK * US // SAMPLE_RATE, 20_000, sound, True)
                self._block += 1

    def _skip_to(self, now_s: float) -> bool:
        """Leave out what should have been sent before; False if that is nothing."""
        skipped = max(0, int(now_s * self._fps) - self._frame)
        silent = max(0, int(now_s * SAMPLE_RATE) // BLOCK - self._block) if self._sound else 0
        self._frame += skipped
        self._block += silent
        self.dropped += skipped
        return skipped > 0 or silent > 0

    def close(self) -> None:
        """Nothing is open."""


class Reader:
    """Reads an open container and yields its samples in the order in which they come out."""

    def __init__(
        self, container: av.container.InputContainer, plans: Plans, wanted: Wanted
    ) -> None:
        self._container, self._plans = container, plans
        self._video = video_stream(container) if plans.video else None
        self._audio = container.streams.audio[0] if plans.audio else None
        self._filter = None
        if plans.video is not None and self._video is not None:
            if plans.video.handling is Handling.COPY:
                self._filter = in_band(self._video)
            else:
                self._shaper = Shaper(plans.video)
                self._rate = FrameRate(wanted.fps)
                self._video.thread_type = "AUTO"

    def samples(self) -> Iterator[Sample]:
        streams = [stream for stream in (self._video, self._audio) if stream is not None]
        for packet in self._container.demux(streams):
            if packet.stream is self._video or packet.stream == self._video:
                yield from self._pictures(packet)
            else:
                yield from self._sounds(packet)

    def _pictures(self, packet: av.Packet[Any]) -> Iterator[Sample]:
        if self._filter is not None:
            if packet.pts is None:
                return
            # The filter empties the packet that it is given.
            time_base = packet.time_base
            for part in self._filter.filter(packet):
                time_us = microseconds(part.pts, time_base)
                duration_us = microseconds(part.duration, time_base)
                yield Sample("video", time_us, duration_us, part, part.is_keyframe)
            return
        step_us = int(US / self._plans.video.fps) if self._plans.video else 0
        for frame in decoded(packet):
            if frame.pts is None or not self._rate.keep(microseconds(frame.pts, frame.time_base)):
                continue
            shaped = self._shaper.shape(frame)
            if shaped is not None and shaped.pts is not None:
                yield Sample(
                    "video", microseconds(shaped.pts, shaped.time_base), step_us, shaped, True
                )

    def _sounds(self, packet: av.Packet[Any]) -> Iterator[Sample]:
        if self._plans.audio is not None and self._plans.audio.handling is Handling.COPY:
            if packet.pts is not None and packet.size:
                duration_us = microseconds(packet.duration, packet.time_base) or 20_000
                yield Sample(
                    "audio", microseconds(packet.pts, packet.time_base), duration_us, packet, True
                )
            return
        for frame in decoded(packet):
            if frame.pts is not None:
                duration_us = frame.samples * US // frame.sample_rate
                time_us = microseconds(frame.pts, frame.time_base)
                yield Sample("audio", time_us, duration_us, frame, True)


def _by_kind(plans: Plans) -> dict[str, VideoPlan | AudioPlan | None]:
    return {"video": plans.video, "audio": plans.audio}


def _plan(name: str, video: VideoFacts | None, audio: AudioFacts | None, wanted: Wanted) -> Plans:
    if video is None and audio is None:
        raise SourceError(f"{name} has neither a picture nor sound that can be sent")
    return Plans(plan_video(video, wanted) if video else None, plan_audio(audio) if audio else None)


def _open_file(path: str) -> av.container.InputContainer:
    try:
        return av.open(path, "r")
    except av.error.FileNotFoundError:
        raise SourceError(f"there is no file {path}") from None
    except av.error.IsADirectoryError:
        raise SourceError(f"{path} is a folder") from None
    except av.error.PermissionError:
        raise SourceError(f"{path} may not be read by this user") from None
    except av.error.FFmpegError as error:
        sentence = f"{path} cannot be read as picture or sound: {_reason(error)}"
        raise SourceError(sentence) from error


def _is_device(path: str) -> bool:
    if path.startswith("/dev/video"):
        return True
    try:
        return stat.S_ISCHR(Path(path).stat().st_mode)
    except OSError:
        return False


def _open_device(path: str, wanted: Wanted) -> Source:
    if not Path(path).exists():
        raise SourceError(f"there is no device {path}")
    if not os.access(path, os.R_OK | os.W_OK):
        raise SourceError(f"{path} may not be used by this user: join the group video")
    size, rate = f"{wanted.width}x{wanted.height}", f"{wanted.fps:g}"
    # Most cameras reach 720p at full rate only in JPEG; one that has no JPEG takes its own way.
    attempts: tuple[dict[str, str], ...] = (
        {"video_size": size, "framerate": rate, "input_format": "mjpeg"},
        {"video_size": size, "framerate": rate},
        {},
    )
    problem: av.error.FFmpegError | None = None
    for options in attempts:
        try:
            container = av.open(path, "r", format="v4l2", options=options)
            return LiveSource(path, container, wanted, sound=False)
        except av.error.FFmpegError as error:
            problem = error
    reason = _reason(problem) if problem else "unknown"
    raise SourceLostError(f"{path} cannot be opened as a camera: {reason}")


def _open_rtsp(address: str, wanted: Wanted, *, sound: bool) -> Source:
    shown = without_password(address)
    # Over TCP: cameras are often behind lines that lose UDP.
    options = {"rtsp_transport": "tcp", "timeout": str(int(RTSP_TIMEOUT_S * US))}
    try:
        container = av.open(address, "r", options=options, timeout=RTSP_TIMEOUT_S)
    except av.error.HTTPUnauthorizedError:
        raise SourceError(f"{shown} refuses the user name or the password") from None
    except (av.error.HTTPForbiddenError, av.error.HTTPNotFoundError) as error:
        raise SourceError(f"{shown} has no such stream: {_reason(error)}") from None
    except (av.error.ExitError, av.error.TimeoutError):
        raise SourceLostError(f"{shown} does not answer") from None
    except (av.error.FFmpegError, OSError) as error:
        raise SourceLostError(f"{shown} cannot be reached: {_reason(error)}") from error
    return LiveSource(shown, container, wanted, sound=sound)


def without_password(address: str) -> str:
    """The address as it may be shown and logged."""
    scheme, separator, rest = address.partition("://")
    authority, slash, path = rest.partition("/")
    return f"{scheme}{separator}{authority.rpartition('@')[2]}{slash}{path}"


def _reason(error: BaseException) -> str:
    said = getattr(error, "strerror", None) or str(error)
    return said[:1].lower() + said[1:]
