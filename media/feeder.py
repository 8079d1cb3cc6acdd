"""The process that reads the source and feeds the muxer; `media/publish.py` starts and steers it.

It is a process of its own because FFmpeg's muxer holds Python's interpreter lock while it connects:
no signal would be heard. One line of JSON on standard input is the job; after it come words:
"connect" and "stop". What happens goes to standard output as one line of JSON each. When standard
input ends, the publisher is gone, and so is this.

    ready       the source is open: its plans in words, live or not, its length
    connected   the node takes the stream
    lost        it does not, or does no more; waits for the next "connect"
    progress    twice a second
    note        something to tell the person
    ended       the source came to its end, or the time was up, or "stop" was said
    failed      it cannot go on, in one sentence
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any, Protocol, TextIO

import av

from .encode import AudioEncoder, VideoEncoder
from .errors import MediaError, SourceError, SourceLostError
from .exchange import ANSWER_TIMEOUT_S
from .job import Job, Progress
from .plan import Handling, VideoPlan
from .sources import Kind, Plans, Sample, Source, is_live, open_source
from .timeline import US, Lateness, Pacer, PacketLine, Timeline, back_off_s, opus_samples
from .whip import HANDSHAKE_TIMEOUT_MS, Certificate, WhipOutput

PROGRESS_EVERY_S = 0.5
# A picture this late is worth less than the next one's being in time.
DROP_LATE_S = 0.3
# A sample sent this long after its time is counted as late.
COUNT_LATE_S = 0.1
# How long the publisher may take to say goodbye to the node.
CLOSE_WITHIN_S = 3.0
# HTTP through the exchange, then ICE and DTLS, each with its own deadline, and some room.
CONNECT_WITHIN_S = ANSWER_TIMEOUT_S + HANDSHAKE_TIMEOUT_MS / 1000 + 2
# Sending one packet takes well under a millisecond.
SEND_WITHIN_S = 2.0
SLOW_S = 0.25
MOST_SLOW = 3


class Output(Protocol):
    """One session at the node; see `WhipOutput`."""

    def send(self, kind: str, packet: av.Packet[Any], time_us: int) -> None: ...

    def close(self) -> None: ...


class Connect(Protocol):
    """Opens a session."""

    def __call__(
        self, url: str, certificate: Certificate, *, video: VideoPlan | None, audio: bool
    ) -> Output: ...


class Link:
    """Words from the publisher in, events to it out."""

    def __init__(self, incoming: TextIO, outgoing: TextIO) -> None:
        self._incoming, self._outgoing = incoming, outgoing
        self._changed = threading.Condition()
        self._connect = False
        self.stopped = False
        threading.Thread(target=self._listen, daemon=True).start()

    def tell(self, event: str, **fields: object) -> None:
        try:
            self._outgoing.write(json.dumps({"event": event, **fields}) + "\n")
            self._outgoing.flush()
        except OSError:
            self.stopped = True

    def take_connect(self) -> bool:
        """Whether "connect" was said since the last call."""
        with self._changed:
            said, self._connect = self._connect, False
        return said

    def wait_for_connect(self) -> bool:
        """Wait for "connect"; False if it is time to stop."""
        with self._changed:
            self._changed.wait_for(lambda: self._connect or self.stopped)
            self._connect = False
            return not self.stopped

    def wait(self, seconds: float) -> bool:
        """Sleep; return True at once when it is time to stop."""
        with self._changed:
            return self._changed.wait_for(lambda: self.stopped, seconds)

    def _listen(self) -> None:
        for line in self._incoming:
            if line.strip() == "stop":
                break
            with self._changed:
                self._connect = self._connect or line.strip() == "connect"
                self._changed.notify_all()
        with self._changed:
            self.stopped = True
            self._changed.notify_all()


class Feeder:
    """Takes one source to one node, over breaks of either.

    connect: opens the way out, once for each session.
    """

    def __init__(self, job: Job, link: Link, connect: Connect = WhipOutput) -> None:
        self._job, self._link, self._connect = job, link, connect
        self._certificate = Certificate()
        self._timeline = Timeline()
        self._pacer = Pacer()
        self._lateness = Lateness()
        self._progress = Progress(position_s=job.start_s)
        self._told_at = 0.0
        self._output: Output | None = None
        self._connected = False
        self._slow = 0  # packets in a row that the muxer took long for
        self._plans: Plans | None = None
        self._video: VideoEncoder | None = None
        self._audio: AudioEncoder | None = None
        self._copied_sound = PacketLine()
        # Up to where on the timeline the published time is counted, in this session.
        self._counted_us: int | None = None

    def run(self) -> None:
        """Publish until the source ends or it is time to stop. Raises MediaError."""
        try:
            self._publish()
            self._tell_progress(time.monotonic(), always=True)
            self._link.tell("ended")
            # WHIP's own goodbye (DELETE) comes first, and it is the publisher's; then DTLS's.
            self._link.wait(CLOSE_WITHIN_S)
        finally:
            self._close()

    def _publish(self) -> None:
        """Take the source as often as it starts over: a file's rounds, a camera's returns."""
        source: Source | None = None
        start_us: int | None = None
        failures = 0
        while not self._finished():
            sent = self._progress.size_bytes
            try:
                if source is None:
                    source = self._open()
                    self._prepare(source)
                    if self._job.start_s:
                        start_us = source.begin_us + int(self._job.start_s * US)
                start_us = self._feed(source, start_us)
            except SourceLostError as error:
                if source is not None:
                    source.close()
                    source = None
                failures = 1 if self._progress.size_bytes > sent else failures + 1
                delay_s = back_off_s(failures)
                self._link.tell("note", text=f"{error}; trying again in {delay_s:g} s")
                gone_at = time.monotonic()
                if self._link.wait(delay_s):
                    return
                self._timeline.restart(int((time.monotonic() - gone_at) * US))
                self._lateness.reset()
                continue
            if start_us is None:
                if self._progress.size_bytes == sent and not self._finished():
                    raise SourceError(f"{self._job.source} has nothing in it that can be sent")
                if source.live or not self._job.loop:
                    return
                self._progress.round += 1
            self._timeline.restart()

    def _open(self) -> Source:
        job = self._job
        try:
            return open_source(job.source, job.wanted, sound=job.sound, wait=self._link.wait)
        except SourceError as error:
            # A camera that was there and was unplugged is worth waiting for.
            if self._plans is not None and is_live(job.source):
                raise SourceLostError(str(error)) from error
            raise

    def _prepare(self, source: Source) -> None:
        """A source has been opened: encoders for what it needs, and a word to the publisher."""
        plans, wanted = source.plans, self._job.wanted
        if plans == self._plans:
            return  # a camera that came back as it was: the session goes on
        if self._output is not None:
            self._lose("the source came back as another", word=False)
        self._plans = plans
        self._video = (
            VideoEncoder(plans.video, wanted, source.preset)
            if plans.video is not None and plans.video.handling is Handling.ENCODE
            else None
        )
        self._audio = (
            AudioEncoder()
            if plans.audio is not None and plans.audio.handling is Handling.ENCODE
            else None
        )
        duration_s = source.duration_us / US if source.duration_us is not None else None
        self._link.tell("ready", plans=plans.sentences(), live=source.live, duration_s=duration_s)

    def _feed(self, source: Source, start_us: int | None) -> int | None:
        """Send what the source yields; return None at its end, or where to go on in a file.

        start_us: where to start, None for the beginning.
        """
        for sample in source.samples(start_us):
            if self._finished():
                return None
            time_us = self._timeline.place(sample.kind, sample.time_us, sample.duration_us)
            if time_us is None:
                continue
            if self._output is None and not self._begin(sample, source.live):
                self._tell_progress(time.monotonic())
                continue
            now = time.monotonic()
            if source.live:
                late_s = self._lateness.late_s(time_us, now)
            else:
                wait_s = self._pacer.wait_s(time_us, now)
                if wait_s > 0 and self._link.wait(wait_s):
                    return None
                late_s = -wait_s
            self._send(sample, time_us, late_s)
            if self._output is None and not source.live:
                return sample.time_us
            self._progress.position_s = (sample.time_us - source.begin_us) / US
            self._count(time_us + sample.duration_us, source)
            self._tell_progress(time.monotonic())
        return None

    def _finished(self) -> bool:
        seconds = self._job.seconds
        return self._link.stopped or (seconds is not None and self._progress.published_s >= seconds)

    def _begin(self, sample: Sample, live: bool) -> bool:
        """Begin a session with this sample, if one can begin with it and the time has come.

        A live source goes on meanwhile; a file waits where it is.
        """
        plans = self._plans
        if plans is None or not sample.key or (plans.video and sample.kind == "audio"):
            return False
        if live:
            if not self._link.take_connect():
                return False
        elif not self._link.wait_for_connect():
            return False
        self._output = self._connect(
            self._job.url,
            self._certificate,
            video=plans.video,
            audio=plans.audio is not None,
        )
        self._connected = False
        self._counted_us = None
        self._pacer.reset()
        self._lateness.reset()
        if self._video is not None:
            self._video.want_keyframe()
        if self._audio is not None:
            self._audio.reset()
        self._copied_sound.reset()
        self._slow = 0
        return True

    def _send(self, sample: Sample, time_us: int, late_s: float) -> None:
        if late_s > COUNT_LATE_S:
            self._progress.late += 1
        payload = sample.payload
        encoded: list[Any] = []
        if isinstance(payload, av.VideoFrame):
            if late_s > DROP_LATE_S and self._connected:
                self._progress.dropped += 1
            elif self._video is not None:
                encoded = self._video.encode(payload, time_us)
        elif isinstance(payload, av.AudioFrame):
            if self._audio is not None:
                encoded = self._audio.encode(payload, time_us)
        else:
            placed_us: int | None = time_us
            if sample.kind == "audio":
                placed_us = self._copied_sound.place(time_us, opus_samples(bytes(payload)))
            if placed_us is not None:
                self._put(sample.kind, payload, placed_us)
        for packet in encoded:
            if not self._put(sample.kind, packet, round(packet.pts * packet.time_base * US)):
                return

    def _put(self, kind: Kind, packet: av.Packet[Any], time_us: int) -> bool:
        """Hand one packet to the muxer; False when the session was lost by it."""
        if self._output is None:
            return False
        size = packet.size
        began = time.monotonic()
        try:
            with self._deadline():
                self._output.send(kind, packet, time_us)
        except av.error.BlockingIOError:
            # The socket is full: this packet is lost, the session is not.
            self._progress.dropped += 1
            if self._video is not None:
                self._video.want_keyframe()
            return True
        except (av.error.FFmpegError, OSError) as error:
            self._lose(str(getattr(error, "strerror", None) or error))
            return False
        if not self._connected:
            self._connected = True
            # Connecting took its time; what follows is due from now on.
            self._pacer.reset()
            self._lateness.reset()
            self._link.tell("connected")
        elif time.monotonic() - began < SLOW_S:
            self._slow = 0
        else:
            self._slow += 1
            if self._slow >= MOST_SLOW:
                self._lose("the muxer waits at every packet")
                return False
        self._progress.size_bytes += size
        self._progress.frames += kind == "video"
        return True

    @contextmanager
    def _deadline(self) -> Iterator[None]:
        """Let the system end this process when the muxer stands still.

        It does when the node goes away in the midst of the handshake, with the interpreter lock
        held, and when the node has closed the session. Nothing in here could end that; the
        publisher starts another feeder.
        """
        # Signals belong to the main thread; a feeder elsewhere is one of the tests.
        timed = threading.current_thread() is threading.main_thread()
        if timed:
            within_s = SEND_WITHIN_S if self._connected else CONNECT_WITHIN_S
            signal.setitimer(signal.ITIMER_REAL, within_s)
        try:
            yield
        finally:
            if timed:
                signal.setitimer(signal.ITIMER_REAL, 0)

    def _close(self) -> None:
        if self._output is not None:
            # The muxer sends the packet that it holds back, and may stand still at that, too.
            with self._deadline():
                self._output.close()
        self._output = None

    def _lose(self, why: str, *, word: bool = True) -> None:
        self._close()
        self._link.take_connect()
        self._link.tell("lost", why=why, connecting=not self._connected, word=word)

    def _count(self, end_us: int, source: Source) -> None:
        if self._output is not None and self._connected:
            if self._counted_us is None:
                self._counted_us = end_us
            self._progress.published_s += max(0, end_us - self._counted_us) / US
            self._counted_us = max(self._counted_us, end_us)
        self._progress.dropped += source.dropped
        source.dropped = 0

    def _tell_progress(self, now: float, *, always: bool = False) -> None:
        if always or now - self._told_at >= PROGRESS_EVERY_S:
            self._told_at = now
            self._link.tell("progress", **asdict(self._progress))


def main() -> int:
    """Do the job that standard input gives."""
    line = sys.stdin.readline()
    if not line:
        return 1
    link = Link(sys.stdin, sys.stdout)
    try:
        Feeder(Job.from_json(line), link).run()
    except MediaError as error:
        link.tell("failed", sentence=str(error))
        return 1
    return 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    # Without the interpreter's own end: FFmpeg's threads and the listening thread have no part in
    # it, and it must not wait for them.
    os._exit(code)
