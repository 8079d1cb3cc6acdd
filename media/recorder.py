"""`terrace record URL STREAM`: a viewer that writes what it sees, in a process of its own.

    tap.py ──► frames.py ──► cutter.py ──► recording.py
    packets    frames        segments      files

A node starts it for the streams that it is to record (`web/recordings.py`) and speaks to it
through its standard input and output: a line of JSON for each thing that happens, `finish` when
the class has ended. When the input ends, the node has gone: what is held is written, and the next
process goes on in the same folder. Whatever kills it takes at most the segment being written.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fcntl
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from media import recording as folders
from media.cutter import Cutter
from media.errors import MediaError, SettingError
from media.frames import Depacketiser, depacketiser
from media.recording import Recording
from media.reel import Cut
from media.tap import Begin, Taken, Tap
from relay import tree
from relay.errors import Refused

log = logging.getLogger("media.recorder")

LOOK_EVERY_S: Final = 0.1
ASK_AGAIN_S: Final = 1.0
LOCK_WITHIN_S: Final = 15.0
# A full disk may be emptied: what cannot be written is given up, and the next part tried.
WRITE_AGAIN_S: Final = 2.0
_NEVER_MIND: Final = (404, 502, 503)


class End(Enum):
    """How a recording ends: for good, or to be gone on with by another process."""

    FINISH = "finish"
    LEAVE = "leave"


class Recorder:
    """Records one stream into one folder until it is told to end."""

    def __init__(self, tap: Tap, folder: Path, *, supervised: bool) -> None:
        self.tap = tap
        self.folder = folder
        self.end: asyncio.Future[End] = asyncio.get_running_loop().create_future()
        self.segments = 0
        self.bytes = 0
        self.seconds = 0.0
        self.missing_s = 0.0
        self._supervised = supervised
        self._cutter = Cutter(folders.last_part(folder))
        self._frames: dict[str, Depacketiser] = {}
        self._refused = ""

    def stop(self, how: End) -> None:
        """End the recording; the first word counts."""
        if not self.end.done():
            self.end.set_result(how)

    async def run(self, wait_s: float | None, seconds: float | None) -> End:
        """Record; returns how it ended. Raises MediaError when the node refuses for good."""
        reader = await self.tap.open()
        began_s = time.monotonic()
        try:
            await self._pull(wait_s)
            while not self.end.done():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_EVERY_S):
                        await reader.news.wait()
                # Many small batches cost more than a few larger ones, and nothing is in a hurry.
                await asyncio.sleep(LOOK_EVERY_S / 2)
                self.tap.look()
                now = time.monotonic()
                await self._write(self._feed(reader.take(), now), now)
                if self._cutter.wants_keyframe(now):
                    self.tap.want_keyframe()
                if seconds is not None and now - began_s > seconds:
                    self.stop(End.FINISH)
                if self.tap.over:
                    if not self._supervised:
                        self.stop(End.FINISH)
                    await self._pull(None)
        finally:
            now = time.monotonic()
            await self._write(self._feed(reader.take(), now) + self._cutter.finish(now), now)
            await self.tap.close()
            if reader.lost or reader.overrun:
                log.info("recorder-lost packets=%d overrun=%d", reader.lost, reader.overrun)
        return self.end.result()

    async def _pull(self, wait_s: float | None) -> None:
        """Ask the node until it has the stream; `wait_s` None: for as long as it takes."""
        began_s = time.monotonic()
        while not self.end.done():
            try:
                await self.tap.pull()
            except Refused as refused:
                waits = wait_s is None or time.monotonic() - began_s < wait_s
                if refused.status not in _NEVER_MIND or not waits:
                    raise MediaError(refused.sentence.rstrip(".")) from refused
                if refused.sentence != self._refused:
                    self._refused = refused.sentence
                    say("waiting", why=refused.sentence)
            else:
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ASK_AGAIN_S):
                    await asyncio.shield(self.end)

    # ------------------------------------------------------------ packets to segments

    def _feed(self, taken: list[Taken | Begin], now: float) -> list[Cut]:
        cuts: list[Cut] = []
        for one in taken:
            if isinstance(one, Begin):
                cuts += self._begin(one, now)
                continue
            frames = self._frames.get(one.kind)
            if frames is None:
                continue
            if one.report is not None:
                self._cutter.report(one.kind, one.report, now)
            elif one.kept is None:
                frames.lost()
                self._cutter.lost(one.kind)
            else:
                for frame in frames.packet(one.kept):
                    self._cutter.frame(one.kind, frame, now)
        return cuts + self._cutter.process(now)

    def _begin(self, begin: Begin, now: float) -> list[Cut]:
        """Other tracks than before: what they carry is a new part."""
        log.info("recorder-tracks codecs=%s", begin.codecs)
        self._frames = {}
        for kind, codec in begin.codecs.items():
            try:
                self._frames[kind] = depacketiser(codec)
            except ValueError as error:
                say("unrecordable", kind=kind, why=f"{error}")
        return self._cutter.begin_tracks(self._frames, now)

    # ------------------------------------------------------------ segments to files

    async def _write(self, cuts: list[Cut], now: float) -> None:
        gone_part = 0
        for cut in cuts:
            if cut.facts.part == gone_part:
                continue
            try:
                await asyncio.to_thread(self._write_one, cut)
            except OSError as error:
                # The part lacks this segment: it ends here, and the next keyframe begins another.
                gone_part = cut.facts.part
                self._cutter.abandon(gone_part)
                say("disk", why=f"{error.strerror or error} while writing to {self.folder}")
                await asyncio.sleep(WRITE_AGAIN_S)
                continue
            if not cut.init:
                self._count(cut)

    def _write_one(self, cut: Cut) -> None:
        if cut.init:
            folders.begin_part(self.folder, cut.facts, cut.init)
        else:
            folders.add_segment(self.folder, cut.facts, cut.data)

    def _count(self, cut: Cut) -> None:
        self.segments += 1
        self.bytes += len(cut.data)
        self.seconds += cut.facts.duration_s
        self.missing_s += sum(gap.duration_s for gap in cut.facts.missing)
        say(
            "segment", part=cut.facts.part, segments=self.segments, bytes=self.bytes,
            seconds=round(self.seconds, 3), missing_s=round(self.missing_s, 3),
        )  # fmt: skip


_report_to_node = False


def say(event: str, **fields: object) -> None:
    """Tell the node, or a person, what has happened."""
    if _report_to_node:
        sys.stdout.write(json.dumps({"event": event, **fields}) + "\n")
        sys.stdout.flush()
    elif event == "segment":
        line = "recorded {seconds} s, {bytes} bytes in {segments} segments".format(**fields)
        if fields["missing_s"]:
            line += f", {fields['missing_s']} s missing"
        sys.stderr.write(line + "\n")
    else:
        sys.stderr.write(" ".join([f"{event}:", *(str(v) for v in fields.values())]) + "\n")


# ------------------------------------------------------------ the command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `terrace record`."""
    parser.add_argument("url", metavar="URL", help="the node: http://127.0.0.1:8710")
    parser.add_argument("stream", metavar="STREAM", help="name of the stream")
    parser.add_argument(
        "--out", type=Path, default=Path("recordings"), metavar="DIR",
        help="folder in which the recording gets a folder of its own (default: recordings)",
    )  # fmt: skip
    parser.add_argument("--id", metavar="ID", help="go on with this recording, or begin it so")
    parser.add_argument("--title", default="", help="title of the class")
    parser.add_argument("--teacher", default="", help="who gives it")
    parser.add_argument("--seconds", type=float, metavar="N", help="end by itself after N seconds")
    parser.add_argument(
        "--wait", type=float, default=60.0, metavar="N",
        help="how long to wait for a stream that is not there yet (default: 60 seconds)",
    )  # fmt: skip
    parser.add_argument(
        "--join", action="store_true",
        help="record nothing: join what a recording that was cut off has left",
    )  # fmt: skip
    parser.add_argument(
        "--supervised", action="store_true",
        help="started by a node: events as JSON on standard output, 'finish' on standard input",
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Record until the stream ends or a signal comes; 0, or 1 with the reason on stderr."""
    global _report_to_node
    _report_to_node = args.supervised
    try:
        return asyncio.run(_run(args))
    except MediaError as error:
        if args.supervised:
            say("failed", why=str(error))
        sys.stderr.write(f"terrace record: {error}\n")
        return 1


async def _run(args: argparse.Namespace) -> int:
    url = urlsplit(args.url)
    if url.scheme not in ("http", "https") or not url.hostname:
        raise SettingError(f"{args.url} is no address of a node, such as http://127.0.0.1:8710")
    try:
        stream = tree.check_stream_name(args.stream)
    except Refused as refused:
        raise SettingError(refused.sentence.rstrip(".")) from refused
    now = datetime.now(UTC)
    folder = args.out / (args.id or folders.new_id(stream, now))
    with _prepared(folder):
        found = await asyncio.to_thread(_begin, folder, args, stream, now)
        if not args.join:
            tap = Tap(args.url, stream, os.environ.get("TERRACE_TOKEN", ""))
            how = await _record(tap, folder, args)
            if how is End.LEAVE:
                say("left")
                return 0
        done = await asyncio.to_thread(folders.join, folder, found, lambda: datetime.now(UTC))
    say(
        "finished", folder=str(folder), seconds=done.duration_s,
        files=[one.file for one in done.files],
    )  # fmt: skip
    return 0


async def _record(tap: Tap, folder: Path, args: argparse.Namespace) -> End:
    loop = asyncio.get_running_loop()
    recorder = Recorder(tap, folder, supervised=args.supervised)
    on_signal = End.LEAVE if args.supervised else End.FINISH
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, recorder.stop, on_signal)
    if args.supervised:
        listening = await _listen(recorder)
    try:
        return await recorder.run(None if args.supervised else args.wait, args.seconds)
    finally:
        if args.supervised:
            listening.close()


async def _listen(recorder: Recorder) -> asyncio.ReadTransport:
    """Obey the node's words on standard input; its end is the node's."""

    class Words(asyncio.Protocol):
        def data_received(self, data: bytes) -> None:
            if b"finish" in data:
                recorder.stop(End.FINISH)

        def connection_lost(self, exc: Exception | None) -> None:
            recorder.stop(End.LEAVE)

    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(Words, sys.stdin)
    return transport


def _begin(folder: Path, args: argparse.Namespace, stream: str, now: datetime) -> Recording:
    """The recording's description, made when there is none."""
    try:
        return folders.load(folder)
    except folders.RecordingError:
        if (folder / folders.RECORD_FILE).exists():
            log.warning("recording-damaged folder=%s", folder)
    found = Recording(
        id=folder.name, stream=stream, title=args.title, teacher=args.teacher, began_at=now
    )
    folders.save(folder, found)
    return found


@contextlib.contextmanager
def _prepared(folder: Path) -> Iterator[None]:
    """Make the folder, and hold it against other recorders. Waits for one that is ending."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise SettingError(f"{folder} cannot be used ({error.strerror})") from error
    try:
        ends_s = time.monotonic() + LOCK_WITHIN_S
        while True:
            with contextlib.suppress(OSError):
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            if time.monotonic() > ends_s:
                raise SettingError(f"{folder} is being recorded into by another process")
            time.sleep(0.1)
        yield
    finally:
        os.close(handle)
