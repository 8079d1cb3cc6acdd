"""`terrace publish SOURCE URL`: a file, a camera, an RTSP address or the test card, live by WHIP.

This process talks: with the person, with the node's HTTP side (`media/exchange.py`), and with the
process that does the media work (`media/feeder.py`). It owns the session: whatever happens to the
feeder, the node is told when it is over.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from types import FrameType
from typing import Any

from .errors import MediaError, SettingError
from .exchange import Exchange, check_url
from .job import Job, Progress
from .plan import Wanted
from .screen import Rates, Screen, clock, status_line
from .timeline import back_off_s

# Ending takes these two and DELETE at most: under three seconds in all.
STOP_WITHIN_S = 0.8
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# A session that held for so long was a good one: the next break starts with the shortest wait.
GOOD_AFTER_S = 10.0

EXAMPLE = """examples:
  terrace publish lesson.mp4 http://127.0.0.1:8710/whip/lecture --loop
  terrace publish test: http://127.0.0.1:8710/whip/lecture
  terrace publish /dev/video0 https://centre.example/whip/lecture --token "$TOKEN"
  terrace publish rtsp://user:word@camera.local/stream https://centre.example/whip/lecture
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `terrace publish`."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EXAMPLE
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="a file, a camera (/dev/video0), an rtsp:// address, or test: for a moving picture "
        "with a clock and a beep each second",
    )
    parser.add_argument("url", metavar="URL", help="WHIP address: http://node:8710/whip/STREAM")
    parser.add_argument("--token", help="bearer token; else from TERRACE_TOKEN")
    parser.add_argument("--loop", action="store_true", help="start a file over at its end")
    parser.add_argument(
        "--video-bitrate", type=bitrate_bps, default="1M", metavar="RATE", help="default: 1M"
    )
    parser.add_argument(
        "--size",
        type=picture_size,
        default="1280x720",
        metavar="WxH",
        help="largest size of a picture that is encoded (default: 1280x720)",
    )
    parser.add_argument(
        "--fps", type=positive, default=25.0, metavar="N", help="most pictures a second, if encoded"
    )
    parser.add_argument(
        "--keyframe-seconds", type=positive, default=2.0, metavar="N", help="default: 2"
    )
    parser.add_argument(
        "--transcode", action="store_true", help="encode also what could pass through as it is"
    )
    parser.add_argument("--no-audio", action="store_true", help="leave the sound out")
    parser.add_argument("--seconds", type=positive, metavar="N", help="publish so much, then end")
    parser.add_argument("--quiet", action="store_true", help="say only what goes wrong")


def run(args: argparse.Namespace) -> int:
    """Publish until the source ends or a signal comes; 0, or 1 with the reason on stderr."""
    screen = Screen(sys.stdout, sys.stderr, quiet=args.quiet)
    try:
        check_url(args.url)
        token = args.token or os.environ.get("TERRACE_TOKEN", "")
        check_token(token)
        with Exchange(args.url, token) as exchange:
            job = Job(
                source=args.source,
                url=exchange.local_url,
                wanted=Wanted(
                    width=args.size[0],
                    height=args.size[1],
                    fps=args.fps,
                    video_bitrate_bps=args.video_bitrate,
                    keyframe_s=args.keyframe_seconds,
                    transcode=args.transcode,
                ),
                sound=not args.no_audio,
                loop=args.loop,
                seconds=args.seconds,
            )
            return Publisher(job, exchange, screen, args.url).run()
    except MediaError as error:
        screen.complain(str(error))
        return 1
    finally:
        screen.close()


def bitrate_bps(text: str) -> int:
    """Bits a second from "1M", "800k" or a plain number."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([kKmM]?)", text)
    value = float(match[1]) * {"": 1, "k": 1e3, "m": 1e6}[match[2].lower()] if match else 0
    if not 30_000 <= value <= 100_000_000:
        raise argparse.ArgumentTypeError(f"{text}: say it as 800k or 1.5M, from 30k to 100M")
    return int(value)


def picture_size(text: str) -> tuple[int, int]:
    """Width and height from "1280x720", in pixels."""
    match = re.fullmatch(r"(\d{2,4})x(\d{2,4})", text)
    if not match or not (64 <= int(match[1]) <= 4096 and 64 <= int(match[2]) <= 4096):
        raise argparse.ArgumentTypeError(f"{text}: say it as 1280x720, from 64 to 4096")
    return int(match[1]), int(match[2])


def positive(text: str) -> float:
    """A number above zero."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not a number above 0")
    return value


def check_token(token: str) -> None:
    """Raise SettingError if this cannot stand in an Authorization header (RFC 6750)."""
    if token and not re.fullmatch(r"[A-Za-z0-9._~+/=-]+", token):
        raise SettingError("the token has characters that a token cannot have")


class FeederGoneError(MediaError):
    """The feeder ended without a word. code: as subprocess has it, negative for a signal."""

    def __init__(self, code: int) -> None:
        how = f"by signal {-code}" if code < 0 else f"with status {code}"
        super().__init__(f"the media process ended unexpectedly, {how}")
        self.code = code


class Publisher:
    """Steers the feeder: tells it when to connect, and takes its words to the person."""

    def __init__(self, job: Job, exchange: Exchange, screen: Screen, url: str) -> None:
        self._job, self._exchange, self._screen, self._url = job, exchange, screen, url
        # A SimpleQueue may be put to from a signal handler that interrupts its own get.
        self._inbox: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._failures = 0
        self._connect_at: float | None = None
        self._on_air_since: float | None = None
        self._off_air_since: float | None = None
        self._duration_s: float | None = None
        self._next_job = job
        self._live = self._ready = False
        self._said: list[str] = []
        # The counts of the feeders before this one, and of all of them.
        self._before = self._progress = Progress()
        self._progress_at = time.monotonic()
        self._rates = Rates()

    def run(self) -> int:
        """Return the exit code. Raises MediaError for what cannot be helped by trying again."""
        with self._signals():
            while True:
                with self._feeder() as feeder:
                    try:
                        return self._steer(feeder)
                    except FeederGoneError as error:
                        delay_s = self._gone(error)
                    finally:
                        # Before the feeder closes the line: a node tells an end from a break.
                        self._exchange.release()
                if self._stopped_within(delay_s):
                    return 0

    def _steer(self, feeder: subprocess.Popen[str]) -> int:
        """Follow one feeder to the end; the exit code. Raises FeederGoneError when it dies."""
        while True:
            code = self._step(feeder)
            if code is not None:
                return code

    def _step(self, feeder: subprocess.Popen[str]) -> int | None:
        """Wait for what happens next, and act on it; the exit code if it was the last."""
        wait_s = None
        if self._connect_at is not None:
            wait_s = max(0.0, self._connect_at - time.monotonic())
        try:
            event = self._inbox.get(timeout=wait_s)
        except queue.Empty:
            self._connect_at = None
            self._command(feeder, "connect")
            return None
        return self._take(event)

    def _take(self, event: dict[str, Any]) -> int | None:
        match event:
            case {"event": "ready", "plans": plans, "live": live, "duration_s": duration_s}:
                self._live, self._duration_s = live, duration_s
                if plans != self._said:
                    for sentence in plans:
                        self._screen.say(sentence)
                self._ready, self._said = True, plans
                if self._on_air_since is None and self._connect_at is None:
                    self._connect_at = time.monotonic()
            case {"event": "connected"}:
                self._connected()
            case {"event": "lost", "connecting": connecting, "why": why, "word": word}:
                self._lost(connecting, why, word)
            case {"event": "progress"}:
                counts = {f.name: event[f.name] for f in fields(Progress)}
                self._show(Progress(**counts))
            case {"event": "note", "text": text}:
                self._screen.repeat(text, text.partition(";")[0])
            case {"event": "failed", "sentence": sentence}:
                raise MediaError(sentence)
            case {"event": "signal"}:
                self._summary()
                return 0
            case {"event": "ended"}:
                self._summary()
                return 0
            case {"event": "gone", "code": code}:
                raise FeederGoneError(code)
        return None

    def _connected(self) -> None:
        now = time.monotonic()
        self._on_air_since = now
        self._screen.forget()
        if self._off_air_since is None:
            self._screen.say(f"on air: {self._url}")
        else:
            self._screen.say(f"on air again after {now - self._off_air_since:.1f} s")
        self._off_air_since = None

    def _lost(self, connecting: bool, why: str, word: bool) -> None:
        now = time.monotonic()
        failure = self._exchange.take_failure()
        if failure is not None and failure.final:
            raise failure
        self._exchange.release()
        if not word:
            self._on_air_since, self._off_air_since = None, now
            self._connect_at = now
            return
        self._failed(now)
        delay_s = back_off_s(self._failures)
        if failure is None:
            sentence = (
                f"{self._url} answered, but no media connection over UDP came about: {why}"
                if connecting
                else f"the connection to {self._url} broke off: {why[:1].lower()}{why[1:]}"
            )
        else:
            sentence = str(failure)
            delay_s = max(delay_s, failure.retry_after_s or 0.0)
        self._connect_at = now + delay_s
        self._screen.repeat(f"{sentence}; trying again in {delay_s:g} s", sentence)

    def _gone(self, error: FeederGoneError) -> float:
        """The feeder died: another one goes on from where it was, in so many seconds."""
        now = time.monotonic()
        if not self._ready:
            raise error
        what = str(error)
        if error.code == -signal.SIGALRM:
            what = f"{self._url} answered, but then no media connection came about"
            if self._on_air_since is not None:
                what = f"the connection to {self._url} stands still"
        self._failed(now)
        self._connect_at = None
        delay_s = back_off_s(self._failures)
        self._screen.repeat(f"{what}; trying again in {delay_s:g} s", what)
        self._before = self._progress
        job, done = self._job, self._progress
        seconds = None if job.seconds is None else max(0.0, job.seconds - done.published_s)
        # The time of a live source goes on meanwhile.
        passed_s = now + delay_s - self._progress_at if self._live else 0.0
        self._next_job = replace(job, start_s=done.position_s + passed_s, seconds=seconds)
        return delay_s

    def _stopped_within(self, seconds: float) -> bool:
        """Wait for so long, or until a signal comes."""
        until = time.monotonic() + seconds
        while (left_s := until - time.monotonic()) > 0:
            try:
                if self._inbox.get(timeout=left_s)["event"] == "signal":
                    self._summary()
                    return True
            except queue.Empty:
                break
        return False

    def _failed(self, now: float) -> None:
        """Count a failure; after a session that held, from one again."""
        if self._on_air_since is not None:
            self._off_air_since = now
            if now - self._on_air_since >= GOOD_AFTER_S:
                self._failures = 0
        self._on_air_since = None
        self._failures += 1

    def _show(self, progress: Progress) -> None:
        now = time.monotonic()
        progress = self._before.plus(progress)
        self._progress, self._progress_at = progress, now
        fps, rate_bps = self._rates.add(now, progress.frames, progress.size_bytes)
        if self._on_air_since is not None:
            self._screen.status(status_line(progress, fps, rate_bps, self._duration_s))

    def _summary(self) -> None:
        done = self._progress
        if done.published_s:
            rate = done.size_bytes * 8 / done.published_s / 1e6
            self._screen.say(
                f"published {clock(done.published_s)}: {done.frames} pictures, {rate:.2f} Mbit/s"
            )

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Ctrl-C, SIGTERM and SIGHUP end the publishing; a second one the process, at once."""

        def stop(number: int, frame: FrameType | None) -> None:
            signal.signal(number, signal.SIG_DFL)
            self._inbox.put({"event": "signal"})

        # One that is ignored stays so: nohup does that.
        heeded = [n for n in STOP_SIGNALS if signal.getsignal(n) != signal.SIG_IGN]
        before = {n: signal.signal(n, stop) for n in heeded}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def _feeder(self) -> Iterator[subprocess.Popen[str]]:
        """The media process; it has ended when this is left, by itself or not."""
        environment = {k: v for k, v in os.environ.items() if k != "TERRACE_TOKEN"}
        root = str(Path(__file__).resolve().parent.parent)
        path = environment.get("PYTHONPATH")
        environment["PYTHONPATH"] = f"{root}{os.pathsep}{path}" if path else root
        # Ctrl-C and systemd's SIGTERM reach both processes. The feeder has them blocked from its
        # first moment: it is told from here when to end.
        unblocked = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        try:
            feeder = subprocess.Popen(
                [sys.executable, "-m", "media.feeder"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=environment,
                text=True,
                encoding="utf-8",
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, unblocked)
        threading.Thread(target=self._listen, args=(feeder,), daemon=True).start()
        try:
            self._command(feeder, self._next_job.to_json())
            yield feeder
        finally:
            self._command(feeder, "stop")
            try:
                feeder.wait(STOP_WITHIN_S)
            except subprocess.TimeoutExpired:
                feeder.kill()
                feeder.wait()
            if feeder.stdin is not None:
                try:
                    feeder.stdin.close()
                except OSError:
                    pass

    def _listen(self, feeder: subprocess.Popen[str]) -> None:
        if feeder.stdout is not None:
            with feeder.stdout as words:
                for line in words:
                    try:
                        self._inbox.put(json.loads(line))
                    except ValueError:
                        continue  # a library's print, no word of the feeder
        self._inbox.put({"event": "gone", "code": feeder.wait()})

    @staticmethod
    def _command(feeder: subprocess.Popen[str], text: str) -> None:
        try:
            if feeder.stdin is not None:
                feeder.stdin.write(text + "\n")
                feeder.stdin.flush()
        except OSError:
            pass  # it has ended; "gone" says so
