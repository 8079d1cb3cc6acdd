"""`terrace demo`: centre, province, city and county as four processes, and a test lecture.

The centre is `terrace serve` with a database of its own, a week of sample plans, and a class that
begins by itself, is recorded, and ends up in the library and on the timetable of the county's
station. All that is in a temporary folder and goes with the demo.

The demo owns its processes: whatever ends it, they end too. An orderly end sends SIGTERM, the
publisher first, and SIGKILL to what is left after `STOP_WITHIN_S`. If the demo itself is killed,
the kernel kills its children (PR_SET_PDEATHSIG, prctl(2)).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp

from media import pairing
from web import sample, status
from web.centre.timetables import stream_of
from web.library import open_library
from web.library_settings import LibrarySettings
from web.orphans import die_with_parent

TIERS = ("centre", "province", "city", "county")
PORT_STEP = 10
STREAM = "lecture"
OWN_STREAM = "class"
CLASS_IN_S = 110.0
"""When the sample class begins; a minute of the lecture can be measured before it."""
CLASS_S = 60
TAUGHT_S = 20
"""The teacher leaves so long after the beginning, and the class ends by itself."""
PRESENT_AHEAD_S = 4.0
"""The class's publisher starts so long before it: FFmpeg takes a moment."""

HOST = "127.0.0.1"
READY_WITHIN_S = 30.0
JOINED_WITHIN_S = 10.0
STOP_WITHIN_S = 5.0
POLL_S = 0.1
DRAW_EVERY_S = 1.0
PRINT_EVERY_S = 5.0
LAST_LINES = 8

_CHINESE = {
    "starting": "正在启动四级节点 ...",
    "title": "梯田演示: 本机上的四级节点",
    "watch": "在县级观看",
    "present": "在中心主讲",
    "then": "在县级观看",
    "plan": "课表与管理",
    "login": "登录",
    "class": "自动开始的课",
    "console": "会议导播台, 登录后打开会议室",
    "site": "县会场, 会议",
    "station": "村站的节目单",
    "tree": "节点树 (JSON)",
    "logs": "日志",
    "end": "按 Ctrl-C 全部结束",
    "ended": "已全部结束",
}
_ENGLISH = {
    "starting": "Starting four nodes ...",
    "title": "Terrace demo: a tree of four nodes on this machine",
    "watch": "watch at the county",
    "present": "present at the centre",
    "then": "seen at the county",
    "plan": "timetable and more",
    "login": "sign in as",
    "class": "a class that starts by itself",
    "console": "the meeting: sign in, open the room",
    "site": "the county's site in the meeting",
    "station": "the station's timetable",
    "tree": "the tree as JSON",
    "logs": "logs",
    "end": "Ctrl-C ends all of it",
    "ended": "All ended.",
}


class DemoFailed(Exception):
    """The demo cannot start or go on. Its text is a sentence, the process's last lines below it."""


@dataclass(frozen=True, slots=True)
class _Child:
    """One process of the demo and the file that takes what it prints."""

    name: str
    process: asyncio.subprocess.Process
    log: Path

    def last_lines(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()[-LAST_LINES:]
        return "".join(f"\n    {line}" for line in lines)


def run(
    *, base_port: int, publish: bool, seconds: float | None, class_in_s: float = CLASS_IN_S
) -> int:
    """Runs the demo until Ctrl-C, SIGTERM or the end of `seconds`; the status for the shell.

    Raises `DemoFailed`.
    """
    return asyncio.run(
        _run(base_port=base_port, publish=publish, seconds=seconds, class_in_s=class_in_s)
    )


def ports(base_port: int) -> tuple[int, ...]:
    """The ports of centre, province, city and county.

    Raises `DemoFailed` when one of them is in use.
    """
    wanted = tuple(base_port + PORT_STEP * index for index in range(len(TIERS)))
    for port in wanted:
        for kind, protocol in ((socket.SOCK_STREAM, "TCP"), (socket.SOCK_DGRAM, "UDP")):
            with socket.socket(socket.AF_INET, kind) as probe:
                if kind == socket.SOCK_STREAM:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind((HOST, port))
                except OSError as error:
                    raise DemoFailed(
                        f"{protocol} port {port} cannot be had ({error.strerror}): stop the "
                        "program that uses it, or take others, as with --base-port 9710"
                    ) from error
    return wanted


async def _run(*, base_port: int, publish: bool, seconds: float | None, class_in_s: float) -> int:
    words = _CHINESE if status.language() == "zh" else _ENGLISH
    numbers = ports(base_port)
    urls = [f"http://{HOST}:{port}" for port in numbers]
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop.set)

    children: list[_Child] = []
    presenting: list[_Child] = []
    with tempfile.TemporaryDirectory(prefix="terrace-demo-") as folder:
        logs = Path(folder)
        try:
            async with aiohttp.ClientSession() as session:
                print(words["starting"], flush=True)
                first_at = datetime.now(UTC) + timedelta(seconds=class_in_s)
                filled, files = await _prepare(logs, first_at)
                for index, (tier, port) in enumerate(zip(TIERS, numbers, strict=True)):
                    parent = ["--parent", urls[index - 1]] if index else []
                    arguments = ["--name", tier, "--tier", tier, "--host", HOST]
                    arguments += ["--port", str(port), *parent]
                    if tier == "county":
                        arguments += ["--attendee", f"site:{filled.site_id}"]
                    # The demo is the same wherever it is started: it reads its own files only.
                    file = str(files.get(tier, os.devnull))
                    command = "relay" if index else "serve"
                    arguments = [command, "--config", file, *arguments]
                    children.append(await _start(tier, arguments, logs))
                ready = [
                    _until_ready(session, child, url)
                    for child, url in zip(children, urls, strict=True)
                ]
                await _unless_stopped(asyncio.gather(*ready), stop)
                await _unless_stopped(asyncio.ensure_future(_until_joined(session, urls[0])), stop)
                if publish and not stop.is_set():
                    arguments = ["publish", "test:", f"{urls[0]}/whip/{STREAM}"]
                    children.append(await _start("publisher", arguments, logs))
                if not stop.is_set():
                    _print_addresses(words, urls, logs, filled, publish=publish)
                    stream = stream_of(filled.occurrence_id)
                    whip = f"{urls[0]}/whip/{stream}"
                    teaching = asyncio.ensure_future(
                        _teach(whip, first_at, logs, presenting) if publish else stop.wait()
                    )
                    showing = _show(session, urls[0], children, words, seconds)
                    try:
                        await _unless_stopped(asyncio.ensure_future(showing), stop)
                    finally:
                        teaching.cancel()
                        await asyncio.gather(teaching, return_exceptions=True)
        finally:
            await _end(children + presenting)
    print(words["ended"], flush=True)
    return 0


async def _prepare(folder: Path, first_at: datetime) -> tuple[sample.Sample, dict[str, Path]]:
    """Make what centre and county find when they start; the settings files by tier."""
    filled = await sample.fill(folder / "centre.db", first_at, CLASS_S)
    library = await asyncio.to_thread(open_library, LibrarySettings(folder=folder / "library"))
    await sample.enter_station(folder / "stations", folder / "box")
    key = folder / "library-public.pem"
    key.write_text(pairing.public_pem(library.public_keys[0]))
    centre, county = folder / "centre.toml", folder / "county.toml"
    # Paths are JSON strings, which TOML takes as they are.
    centre.write_text(
        f"[relay]\nrecordings = {json.dumps(str(folder / 'recordings'))}\n"
        f"[library]\nfolder = {json.dumps(str(folder / 'library'))}\n"
        f"[centre]\ndatabase = {json.dumps(str(folder / 'centre.db'))}\n"
        "silence_s = 5\ngrace_s = 5\n"
    )
    county.write_text(
        f"[stations]\nfolder = {json.dumps(str(folder / 'stations'))}\n"
        f"library_keys = [{json.dumps(str(key))}]\n"
    )
    return filled, {"centre": centre, "county": county}


async def _teach(whip: str, first_at: datetime, logs: Path, presenting: list[_Child]) -> None:
    """Present the sample class from a moment before its beginning until the teacher leaves."""
    wait_s = (first_at - datetime.now(UTC)).total_seconds() - PRESENT_AHEAD_S
    await asyncio.sleep(max(0.0, wait_s))
    left_s = (first_at - datetime.now(UTC)).total_seconds() + TAUGHT_S
    arguments = ["publish", "test:", whip, "--seconds", f"{max(10.0, left_s):.0f}"]
    # Small, for the lecture is on the same machine.
    arguments += ["--size", "640x360", "--fps", "15", "--video-bitrate", "500k"]
    presenting.append(await _start("teacher", arguments, logs))


async def _start(name: str, arguments: list[str], logs: Path) -> _Child:
    log = logs / f"{name}.log"
    environment = {
        variable: value
        for variable, value in os.environ.items()
        if not variable.startswith("TERRACE_") or variable == "TERRACE_SEND"
    }
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "web.cli",
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=asyncio.subprocess.STDOUT,
            env=environment | {"PYTHONUNBUFFERED": "1"},
            # In a group of its own: Ctrl-C in the terminal goes to the demo alone, which ends
            # them in order.
            start_new_session=True,
            preexec_fn=die_with_parent(),
        )
    return _Child(name, process, log)


async def _until_ready(session: aiohttp.ClientSession, child: _Child, url: str) -> None:
    deadline = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < deadline:
        if child.process.returncode is not None:
            raise DemoFailed(
                f"the node {child.name} ended with status {child.process.returncode} "
                f"while it started:{child.last_lines()}"
            )
        with contextlib.suppress(aiohttp.ClientError, TimeoutError, OSError):
            timeout = aiohttp.ClientTimeout(total=2)
            async with session.get(f"{url}/healthz", timeout=timeout) as response:
                if response.status == 200:
                    return
        await asyncio.sleep(POLL_S)
    raise DemoFailed(
        f"the node {child.name} did not answer within {READY_WITHIN_S:g} s:{child.last_lines()}"
    )


async def _until_joined(session: aiohttp.ClientSession, url: str) -> None:
    """Waits until every node has reported to its parent; the picture shows one that has not."""
    deadline = time.monotonic() + JOINED_WITHIN_S
    while time.monotonic() < deadline:
        with contextlib.suppress(status.Unreachable):
            nodes = [await status.fetch_tree(session, url)]
            while below := nodes[-1].get("below"):
                nodes.append(below[0])
            if len(nodes) == len(TIERS):
                return
        await asyncio.sleep(POLL_S)


async def _unless_stopped(work: asyncio.Future[Any], stop: asyncio.Event) -> None:
    """Waits for `work`, and lets go of it when `stop` is set."""
    stopped = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({work, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            work.result()
    finally:
        work.cancel()
        stopped.cancel()
        await asyncio.gather(work, stopped, return_exceptions=True)


def _print_addresses(
    words: dict[str, str], urls: list[str], logs: Path, filled: sample.Sample, *, publish: bool
) -> None:
    centre, county = urls[0], urls[-1]
    lines = [("watch", f"{county}/watch/{STREAM}")] if publish else []
    lines += [
        ("present", f"{centre}/present/{OWN_STREAM}"),
        ("then", f"{county}/watch/{OWN_STREAM}"),
        ("class", f"{county}/watch/{stream_of(filled.occurrence_id)}"),
        ("plan", f"{centre}/centre"),
        ("console", f"{centre}/room/{filled.meeting_id}/console"),
        ("site", f"{county}/room/{filled.meeting_id}?site={filled.site_id}"),
        ("login", f"{sample.LOGIN} / {filled.password}"),
        ("station", f"{county}/api/programmes/{sample.STATION}"),
        ("tree", f"{centre}/api/tree"),
        ("logs", str(logs)),
    ]
    width = max(status.width(words[name]) for name, _ in lines)
    print(f"\n{words['title']}\n")
    for name, address in lines:
        print(f"  {words[name]}{' ' * (width - status.width(words[name]))}  {address}")
    print(f"\n  {words['end']}\n", flush=True)


async def _show(
    session: aiohttp.ClientSession,
    url: str,
    children: list[_Child],
    words: dict[str, str],
    seconds: float | None,
) -> None:
    started = time.monotonic()
    picture = status.Picture()
    every_s = DRAW_EVERY_S if picture.in_place else PRINT_EVERY_S
    while seconds is None or time.monotonic() - started < seconds:
        for child in children:
            if child.process.returncode is not None:
                raise DemoFailed(
                    f"{child.name} ended with status {child.process.returncode}:"
                    f"{child.last_lines()}"
                )
        try:
            tree = await status.fetch_tree(session, url)
        except status.Unreachable as error:
            picture.draw(str(error))
        else:
            picture.draw(status.render(tree, language=status.language()))
        left_s = every_s if seconds is None else seconds - (time.monotonic() - started)
        await asyncio.sleep(max(0.0, min(every_s, left_s)))


async def _end(children: list[_Child]) -> None:
    # The publisher was started last and goes first, so that the nodes see it say goodbye; of the
    # nodes the lowest goes first, so that none looks for a parent that has gone.
    for child in reversed(children):
        with contextlib.suppress(ProcessLookupError):
            child.process.terminate()
    waiting = [asyncio.ensure_future(child.process.wait()) for child in children]
    if waiting:
        _, late = await asyncio.wait(waiting, timeout=STOP_WITHIN_S)
        if late:
            for child in children:
                if child.process.returncode is None:
                    print(f"{child.name} did not end and is killed", file=sys.stderr)
                    with contextlib.suppress(ProcessLookupError):
                        child.process.kill()
            await asyncio.gather(*waiting)
