"""The recordings of a node: which streams, by which processes, and what becomes of them.

    record = ["lecture-*"]          a stream of that name is recorded when it goes on air here
    POST /api/recordings            {"stream": "lecture"}: record that one
    GET /api/recordings             what is being recorded and what was
    DELETE /api/recordings/{id}     the class has ended

Each recording has a process of its own (`media.recorder`), which is a viewer of this node: so it
takes nothing from the forwarding but what a viewer takes. One that dies is started again and goes
on in the same folder. When the class has ended, its parts are joined and the library is asked to
make a course of them. What a crash of the node has left is found at the next start: a class that
still goes on is gone on with, the others are joined.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import shutil
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Protocol

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from media import recording as folders
from media.errors import MediaError
from media.recording import RecordingError
from relay import tree
from relay.access import AccessError, Grant, matches
from relay.channel import Channel
from relay.endpoints import refusal
from relay.errors import Refused
from relay.node import Node

log = logging.getLogger("web.recordings")

WATCH_EVERY_S: Final = 0.5
# A publisher who said goodbye and comes back within this time goes on with the same class.
GOODBYE_S: Final = 15.0
# One that was lost is waited for a little longer. The class is joined then, to be there in time;
# when it goes on after all, within REOPEN_S, it is recorded further and joined anew.
QUIET_S: Final = 30.0
REOPEN_S: Final = 600.0
# A stream that was asked for by name may begin later.
WAIT_FOR_STREAM_S: Final = 3600.0
START_AGAIN_S: Final = 1.0
FINISH_WITHIN_S: Final = 300.0
LEAVE_WITHIN_S: Final = 2.0
HAND_AGAIN_S: Final = (5.0, 20.0, 60.0, 300.0)
MAX_ACTIVE: Final = 32
MAX_SHOWN: Final = 500
MAX_BODY: Final = 4096
MIN_FREE_BYTES: Final = 200_000_000

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Ingest(Protocol):
    """Who makes courses of recordings."""

    async def recording(self, folder: Path) -> None:
        """Take the finished recording in a folder; again for one that has gone on since.

        Raises MediaError when that is not possible now.
        """


class Order(BaseModel):
    """What is to be recorded."""

    model_config = ConfigDict(extra="forbid")

    stream: str = Field(max_length=64)
    title: str = Field(default="", max_length=200)
    teacher: str = Field(default="", max_length=200)


@dataclass(slots=True, eq=False)
class Active:
    """A recording that has a process. Times are of the monotonic clock."""

    id: str
    stream: str
    asked: bool
    """Somebody asked for it by name: it waits for its stream."""
    title: str = ""
    teacher: str = ""
    began_s: float = field(default_factory=time.monotonic)
    live_s: float = 0.0
    said_goodbye: bool = False
    ending: bool = False
    held: bool = False
    """Its class says when it is over: it waits however long nobody presents."""
    state: str = "waiting"
    error: str = ""
    note: str = ""
    """What is wrong for good, and does not end the recording."""
    restarts: int = 0
    segments: int = 0
    bytes: int = 0
    seconds: float = 0.0
    missing_s: float = 0.0
    before: tuple[int, int, float, float] = (0, 0, 0.0, 0.0)
    """Segments, bytes, seconds and missing seconds of the processes that have ended."""
    process: asyncio.subprocess.Process | None = None

    def heard(self, event: dict[str, Any]) -> None:
        """Take a line of the process."""
        match event.get("event"):
            case "segment":
                segments, size, seconds, missing_s = self.before
                self.segments = segments + int(event["segments"])
                self.bytes = size + int(event["bytes"])
                self.seconds = round(seconds + float(event["seconds"]), 3)
                self.missing_s = round(missing_s + float(event["missing_s"]), 3)
                if not self.ending:
                    self.state = "recording"
                self.error = ""
            case "finished":
                self.state = "finished"
            case "unrecordable":
                self.note = str(event.get("why", ""))[:300]
            case "waiting" | "disk" | "failed":
                self.error = str(event.get("why", ""))[:300]

    def lost_process(self) -> None:
        """The process has ended; the next one counts from 0."""
        self.before = (self.segments, self.bytes, self.seconds, self.missing_s)

    def as_json(self) -> dict[str, object]:
        """What GET shows of it."""
        return {
            "id": self.id, "stream": self.stream, "state": self.state, "title": self.title,
            "seconds": self.seconds, "bytes": self.bytes, "segments": self.segments,
            "missing_s": self.missing_s, "restarts": self.restarts,
            "error": self.error or self.note,
        }  # fmt: skip


def is_over(active: Active, channel: Channel | None, now: float) -> bool:
    """Whether a recording's class has ended, as far as this node can tell."""
    if active.held:
        return False
    if channel is not None and channel.state == "live":
        active.live_s, active.said_goodbye = now, False
        return False
    if not active.live_s:
        return now - active.began_s > (WAIT_FOR_STREAM_S if active.asked else QUIET_S)
    if channel is not None and channel.said_goodbye:
        active.said_goodbye = True
    return now - active.live_s > (GOODBYE_S if active.said_goodbye else QUIET_S)


def _on_air(channel: Channel) -> bool:
    """Whether a stream is live, or about to be: a recorder takes a second or two to start."""
    return channel.state == "live" or any(
        one.kind == "whip" and not one.peer.closed.is_set() for one in channel.sessions
    )


class Recordings:
    """Keeps a node's recordings going."""

    def __init__(
        self,
        node: Node,
        folder: Path,
        patterns: Sequence[str],
        secret: str,
        ingest: Ingest | None = None,
    ) -> None:
        """`secret` is what the node takes from its own processes in place of a token."""
        self.node = node
        self.folder = folder
        self.ingest = ingest
        self.active: dict[str, Active] = {}
        self._patterns = tuple(patterns)
        self._secret = secret
        self._left: dict[str, tuple[str, float]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False

    # ------------------------------------------------------------ life

    async def start(self) -> None:
        """Look at what an earlier run has left, and watch the node's streams."""
        try:
            found = await asyncio.to_thread(_found, self.folder)
        except OSError as error:
            log.error("recordings-unreadable folder=%s why=%r", self.folder, error.strerror)
            found = []
        now = time.monotonic()
        for one in found:
            if one.state == "recording":
                self._left[one.stream] = (one.id, now + REOPEN_S)
                self._spawn(self._resume_or_join(one.id, one.stream, now), f"left-{one.id}")
            elif one.state == "finished":
                self._spawn(self._hand(one.id), f"hand-{one.id}")
        self._spawn(self._watch(), "recordings")

    def leave(self) -> None:
        """Tell the recorders that this node stops: they write what they hold and end."""
        self._closing = True
        for active in self.active.values():
            if active.process is not None and active.process.stdin is not None:
                active.process.stdin.close()

    async def close(self) -> None:
        """Leave the recordings as they are, to be gone on with by the next run."""
        self.leave()
        processes = [a.process for a in self.active.values() if a.process is not None]
        try:
            async with asyncio.timeout(LEAVE_WITHIN_S):
                await asyncio.gather(*(process.wait() for process in processes))
        except TimeoutError:
            log.warning("recorders-late")
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _spawn(self, work: Awaitable[None], name: str) -> None:
        async def run() -> None:
            try:
                await work
            except Exception:
                log.exception("recordings-fault task=%s", name)

        task = asyncio.create_task(run(), name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # ------------------------------------------------------------ which

    async def _watch(self) -> None:
        """Begin what the setting names; end what is over."""
        while True:
            now = time.monotonic()
            busy = {active.stream for active in self.active.values()}
            for name, channel in list(self.node.channels.items()):
                wanted = any(matches(pattern, name) for pattern in self._patterns)
                if name not in busy and _on_air(channel):
                    left_id, until_s = self._left.get(name, ("", 0.0))
                    goes_on = bool(left_id) and now < until_s
                    if goes_on or wanted:
                        with contextlib.suppress(Refused):
                            self.begin(name, again=left_id if goes_on else "")
            for active in list(self.active.values()):
                if not active.ending and is_over(
                    active, self.node.channels.get(active.stream), now
                ):
                    self.end(active)
            await asyncio.sleep(WATCH_EVERY_S)

    def begin(
        self,
        stream: str,
        *,
        asked: bool = False,
        title: str = "",
        teacher: str = "",
        again: str = "",
    ) -> Active:
        """Record a stream, or go on with the recording `again`. Refused when there is no room."""
        if len(self.active) >= MAX_ACTIVE:
            raise Refused(503, f"This node records {MAX_ACTIVE} streams at once, no more.", 60)
        channel = self.node.channels.get(stream)
        if not teacher and channel is not None and channel.last_publisher is not None:
            teacher = channel.last_publisher.subject
        id = again or folders.new_id(stream, datetime.now(UTC))
        while id in self.active or (not again and (self.folder / id).exists()):
            id += "x"
        self._left.pop(stream, None)
        active = Active(id, stream, asked, title, teacher)
        self.active[id] = active
        log.info("recording-start id=%s stream=%s again=%s", id, stream, bool(again))
        self._spawn(self._keep(active), f"record-{id}")
        return active

    def hold(self, stream: str, title: str) -> None:
        """Record a stream until `release`, whoever comes and goes meanwhile; again and again.

        What an earlier run of this node has begun is gone on with. Refused when there is no room.
        """
        active = self.recording_of(stream)
        if active is None:
            left_id, until_s = self._left.get(stream, ("", 0.0))
            again = left_id if time.monotonic() < until_s else ""
            active = self.begin(stream, asked=True, title=title, again=again)
        if not active.ending:
            active.held = True

    def release(self, stream: str) -> None:
        """The class has ended: what was held is closed, joined and handed over."""
        active = self.recording_of(stream)
        if active is not None:
            active.said_goodbye = True
            self.end(active)

    def recording_of(self, stream: str) -> Active | None:
        """The recording of a stream that has a process now."""
        return next((one for one in self.active.values() if one.stream == stream), None)

    async def made_of(self, stream: str) -> list[folders.Recording]:
        """What there is on the disk of a stream's recordings, the longest last."""
        found = await asyncio.to_thread(_found, self.folder)
        return sorted((r for r in found if r.stream == stream), key=lambda one: one.duration_s)

    def end(self, active: Active) -> None:
        """The class has ended: close, join, hand over."""
        if active.ending:
            return
        active.ending, active.state = True, "finishing"
        process = active.process
        if process is not None and process.stdin is not None and not process.stdin.is_closing():
            process.stdin.write(b"finish\n")

    # ------------------------------------------------------------ one process after the other

    async def _keep(self, active: Active) -> None:
        """Keep a recording's process running until the class has ended and is joined.

        What came to nothing is removed while it still counts as being made: nobody who asks in
        that moment is shown a recording that is half gone.
        """
        empty = False
        try:
            while not self._closing and active.state != "finished":
                began_s = time.monotonic()
                async with asyncio.timeout(FINISH_WITHIN_S if active.ending else None):
                    status = await self._run(active)
                active.lost_process()
                if active.state == "finished" or self._closing:
                    break
                active.restarts += 1
                log.warning("recorder-end id=%s status=%s", active.id, status)
                if active.ending and time.monotonic() - began_s < START_AGAIN_S:
                    log.error("recording-unjoined id=%s why=%r", active.id, active.error)
                    break
                await asyncio.sleep(START_AGAIN_S)
            if active.state == "finished" and not self._closing:
                empty = await asyncio.to_thread(_remove_if_empty, self.folder / active.id)
        except TimeoutError:
            log.error("recording-stuck id=%s", active.id)
        finally:
            self.active.pop(active.id, None)
        if self._closing or active.state != "finished":
            return
        log.info(
            "recording-end id=%s seconds=%.1f bytes=%d missing_s=%.2f restarts=%d",
            active.id, active.seconds, active.bytes, active.missing_s, active.restarts,
        )  # fmt: skip
        if empty:
            log.info("recording-empty id=%s", active.id)
            return
        if not active.said_goodbye and active.live_s:
            self._left[active.stream] = (active.id, time.monotonic() + REOPEN_S)
        self._spawn(self._hand(active.id), f"hand-{active.id}")

    async def _run(self, active: Active) -> int:
        """Start a process and listen to it until it ends; its status."""
        arguments = ["record", self._url(), active.stream, "--supervised"]
        arguments += ["--out", str(self.folder), "--id", active.id]
        arguments += [f"--title={active.title}", f"--teacher={active.teacher}"]
        if active.ending:
            arguments.append("--join")
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "web.cli", *arguments,
            env=os.environ | {"TERRACE_TOKEN": self._secret},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            # Ctrl-C is for the node, which then tells the recorder.
            start_new_session=True,
        )  # fmt: skip
        active.process = process
        try:
            if active.ending and "--join" not in arguments and process.stdin is not None:
                # The class ended while the process was being started.
                process.stdin.write(b"finish\n")
            assert process.stdout is not None
            async for line in process.stdout:
                with contextlib.suppress(ValueError, KeyError, TypeError):
                    event = json.loads(line)
                    if isinstance(event, dict):
                        active.heard(event)
            return await process.wait()
        finally:
            active.process = None
            if process.returncode is None:
                # That takes the segment being written, no more.
                process.kill()
                await process.wait()

    def _url(self) -> str:
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(
            self.node.config.host, self.node.config.host
        )
        return (
            f"http://[{host}]:{self.node.port.number}"
            if ":" in host
            else (f"http://{host}:{self.node.port.number}")
        )

    # ------------------------------------------------------------ what becomes of them

    async def _resume_or_join(self, id: str, stream: str, began_s: float) -> None:
        """A class that a crash has cut off: wait for its stream, then join what there is."""
        while time.monotonic() - began_s < QUIET_S:
            await asyncio.sleep(WATCH_EVERY_S)
            if id in self.active:
                return
        log.info("recording-left id=%s", id)
        self._left.pop(stream, None)
        active = Active(id, stream, False, ending=True, state="finishing")
        self.active[id] = active
        await self._keep(active)

    async def _hand(self, id: str) -> None:
        """Give a finished recording to the library, however often that takes."""
        if self.ingest is None:
            return
        tries = 0
        while True:
            try:
                folder = self.folder / id
                await self.ingest.recording(folder)
                found = await asyncio.to_thread(folders.load, folder)
                if found.state == "finished":
                    handed = found.model_copy(update={"state": "handed"})
                    await asyncio.to_thread(folders.save, folder, handed)
            except (MediaError, OSError) as error:
                wait_s = HAND_AGAIN_S[min(tries, len(HAND_AGAIN_S) - 1)]
                tries += 1
                log.warning("recording-not-taken id=%s why=%r again_s=%g", id, str(error), wait_s)
                await asyncio.sleep(wait_s)
            else:
                log.info("recording-handed id=%s", id)
                return

    async def listed(self) -> list[dict[str, object]]:
        """All recordings, those being made first, then the newest."""
        found = await asyncio.to_thread(_found, self.folder)
        shown = [active.as_json() for active in self.active.values()]
        shown += [
            {
                "id": one.id, "stream": one.stream, "state": one.state, "title": one.title,
                "seconds": one.duration_s, "bytes": sum(f.size_bytes for f in one.files),
                "segments": sum(len(p.segments) for p in one.parts),
                "missing_s": round(sum(m.duration_s for m in one.missing if m.kind != "away"), 3),
                "restarts": 0, "error": "",
            }
            for one in sorted(found, key=lambda one: one.began_at, reverse=True)
            if one.id not in self.active
        ]  # fmt: skip
        return shown[:MAX_SHOWN]


def _remove_if_empty(folder: Path) -> bool:
    """Remove a recording in which there is nothing: its stream never came."""
    try:
        if folders.load(folder).duration_s:
            return False
        shutil.rmtree(folder)
    except (OSError, RecordingError):
        return False
    return True


def _found(folder: Path) -> list[folders.Recording]:
    """The recordings in a folder; what cannot be read is logged and passed over."""
    found = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if (path / folders.RECORD_FILE).is_file():
            try:
                found.append(folders.load(path))
            except RecordingError as error:
                log.warning("recording-damaged why=%r", str(error))
    return found


# ------------------------------------------------------------ HTTP


class _Api:
    """The handlers."""

    def __init__(self, recordings: Recordings) -> None:
        self._all = recordings

    def _grant(self, request: web.Request) -> Grant:
        return self._all.node.config.access.check(request.headers.get("Authorization"))

    async def create(self, request: web.Request) -> web.StreamResponse:
        """POST {"stream": ...}: 201 with the recording, 200 if it is being made already."""
        grant = self._grant(request)
        if request.content_type != "application/json":
            # A page of another site can post a form or text to this machine, but not this.
            raise Refused(415, 'The body must be application/json, such as {"stream": "lecture"}.')
        try:
            order = Order.model_validate_json(await request.content.read(MAX_BODY))
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(map(str, first["loc"])) or "the body"
            raise Refused(400, f"{where}: {first['msg']}.") from error
        stream = tree.check_stream_name(order.stream)
        grant.require_publish(stream)
        present = next((a for a in self._all.active.values() if a.stream == stream), None)
        if present is not None and not present.ending:
            return web.json_response(present.as_json())
        await asyncio.to_thread(_check_disk, self._all.folder)
        active = self._all.begin(
            stream, asked=True, title=order.title.strip(), teacher=order.teacher.strip()
        )
        headers = {"Location": f"/api/recordings/{active.id}"}
        return web.json_response(active.as_json(), status=201, headers=headers)

    async def show(self, request: web.Request) -> web.StreamResponse:
        """GET: the recordings of streams that the bearer may publish."""
        grant = self._grant(request)
        shown = await self._all.listed()
        wanted = request.match_info.get("id")
        allowed = [one for one in shown if grant.may_publish(str(one["stream"]))]
        if wanted is None:
            return web.json_response({"recordings": allowed})
        for one in allowed:
            if one["id"] == wanted:
                return web.json_response(one)
        raise Refused(404, "There is no such recording here.")

    async def delete(self, request: web.Request) -> web.StreamResponse:
        """DELETE: end the recording; it is joined and goes to the library (202)."""
        grant = self._grant(request)
        active = self._all.active.get(request.match_info["id"])
        if active is None:
            raise Refused(404, "No such recording is being made; it may have ended.")
        grant.require_publish(active.stream)
        active.said_goodbye = True
        self._all.end(active)
        return web.json_response(active.as_json(), status=202)


def _check_disk(folder: Path) -> None:
    """Refused 507 when there is no room to speak of."""
    there = folder
    while not there.exists() and there != there.parent:
        there = there.parent
    if shutil.disk_usage(there).free < MIN_FREE_BYTES:
        raise Refused(
            507, f"The disk for recordings has less than {MIN_FREE_BYTES // 1_000_000} MB left; "
            "make room there, or set recordings to another folder.",
        )  # fmt: skip


def _guard(handler: Handler) -> Handler:
    """Turn a refusal into its answer."""

    async def guarded(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except Refused as exc:
            return refusal(exc)
        except AccessError as exc:
            return refusal(Refused(exc.status, exc.sentence, reason=exc.reason))

    return guarded


def add(app: web.Application, recordings: Recordings) -> None:
    """Add the API, and let the recordings live as long as the app."""
    api = _Api(recordings)
    app.router.add_post("/api/recordings", _guard(api.create))
    app.router.add_get("/api/recordings", _guard(api.show))
    app.router.add_get("/api/recordings/{id}", _guard(api.show))
    app.router.add_delete("/api/recordings/{id}", _guard(api.delete))

    async def live(_app: web.Application) -> Any:
        await recordings.start()
        yield
        await recordings.close()

    app.cleanup_ctx.append(live)
