"""What it costs a node to serve recorded courses out of its cache, and what crosses its edges.

A node below a library; stations that fetch a whole course at once, first when the node has nothing
of it, then again and again out of its cache. They read into one buffer and look at nothing, in
threads that wait in the kernel.
"""

import asyncio
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.bench import machine
from tests.bench.meter import NODE_CORE
from tests.bench.node import ROOT, Node, NodeError
from tests.bench.signalling import Client

SEGMENTS, SEGMENT_BYTES = 60, 250_000
PATH = "/courses/rice-1/240p.mp4"
# An estimate of what a core serves fills it only this far.
USABLE_CORE = 0.9

Say = Callable[[str], None]


@dataclass(slots=True)
class CourseRow:
    """Stations that fetch one course; bytes are those of bodies.

    cold_*: all of them at once, of a course that the node has never seen. warm_*: out of its cache.
    up_bytes_per_station, down_bytes_per_station: what crossed the edges above and below the node
    in the cold part.
    """

    stations: int
    course_bytes: int
    cold_s: float
    up_bytes_per_station: float
    down_bytes_per_station: float
    copies: float
    warm_mbit_s: float
    node_percent: float
    cpu_s_per_gigabyte: float
    gbit_s_per_core: float
    load_percent: float
    problems: list[str] = field(default_factory=list)


async def courses(stations: int, duration_s: float, load_core: int, say: Say) -> CourseRow:
    """Both parts, the cold one and the warm one."""
    library, url = await asyncio.to_thread(_library, load_core)
    try:
        async with Node(NODE_CORE, parent_url=url) as node:
            say(f"courses: {stations} stations, cold")
            begin = time.monotonic()
            sizes = await asyncio.to_thread(_all_fetch, node.port, stations, 0.0)
            cold_s = time.monotonic() - begin
            course_bytes = max(sizes)
            figures = await _metrics(node)
            say(f"courses: {stations} stations, out of the cache for {duration_s:g} s")
            before, own = machine.cpu_time(node.pids), machine.cpu_time([os.getpid()])
            cores = machine.core_time([NODE_CORE])
            begin = time.monotonic()
            warm = await asyncio.to_thread(_all_fetch, node.port, stations, duration_s)
            seconds = time.monotonic() - begin
            cost = machine.cpu_time(node.pids) - before
            load = machine.cpu_time([os.getpid()]) - own
            core = machine.core_time([NODE_CORE]) - cores
            node.check()
    finally:
        library.kill()
        library.wait()
    gigabytes = sum(warm) / 1e9
    row = CourseRow(
        stations=stations,
        course_bytes=course_bytes,
        cold_s=cold_s,
        up_bytes_per_station=figures["terrace_course_bytes_in_total"] / stations,
        down_bytes_per_station=figures["terrace_course_bytes_out_total"] / stations,
        copies=figures["terrace_course_bytes_in_total"] / course_bytes,
        warm_mbit_s=8e3 * gigabytes / seconds,
        node_percent=100 * cost.stat_s / seconds,
        cpu_s_per_gigabyte=cost.stat_s / gigabytes,
        gbit_s_per_core=USABLE_CORE * 8 * gigabytes / cost.stat_s,
        load_percent=100 * load.stat_s / seconds,
    )
    foreign = 100 * max(0.0, core.busy_s - cost.stat_s) / seconds
    if min(sizes) != course_bytes:
        row.problems.append(f"INVALID: a station got {min(sizes)} of {course_bytes} bytes")
    if foreign > 5:
        row.problems.append(f"other processes used {foreign:.0f} % of the node's core")
    return row


def _library(core: int) -> tuple["subprocess.Popen[bytes]", str]:
    """A library with one course, in a process of its own."""
    process = subprocess.Popen(
        [
            sys.executable, "-m", "tests.lab.box", "library", "--segments", str(SEGMENTS),
            "--segment-bytes", str(SEGMENT_BYTES),
        ],
        cwd=ROOT, stdout=subprocess.PIPE, preexec_fn=lambda: os.sched_setaffinity(0, {core}),
    )  # fmt: skip
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise NodeError("the library did not start")
    return process, f"http://127.0.0.1:{json.loads(line)['port']}"


def _all_fetch(port: int, stations: int, duration_s: float) -> list[int]:
    """Each station fetches the whole course, again until the time is over; bytes of each."""
    sizes = [0] * stations
    until = time.monotonic() + duration_s

    def one(number: int) -> None:
        buffer = bytearray(1 << 20)
        with socket.create_connection(("127.0.0.1", port), timeout=120) as line:
            while True:
                line.sendall(f"GET {PATH} HTTP/1.1\r\nHost: bench\r\n\r\n".encode())
                sizes[number] += _read_answer(line, buffer)
                if time.monotonic() >= until:
                    return

    threads = [threading.Thread(target=one, args=(number,)) for number in range(stations)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sizes


def _read_answer(line: socket.socket, buffer: bytearray) -> int:
    """Reads one answer to its end; the size of its body."""
    got = line.recv_into(buffer)
    head, found, rest = bytes(buffer[:got]).partition(b"\r\n\r\n")
    if not found or not head.startswith(b"HTTP/1.1 200"):
        raise NodeError(f"the node answers {head[:200]!r}")
    length = next(
        int(text.partition(b":")[2])
        for text in head.split(b"\r\n")
        if text.lower().startswith(b"content-length:")
    )
    left = length - len(rest)
    while left > 0:
        got = line.recv_into(buffer, min(left, len(buffer)))
        if not got:
            raise NodeError("the node broke an answer off")
        left -= got
    return length


async def _metrics(node: Node) -> dict[str, float]:
    client = Client(node.url)
    try:
        text = (await client.expect(200, "GET", "/metrics")).body.decode()
    finally:
        await client.close()
    lines = [line.split() for line in text.splitlines() if not line.startswith("#")]
    return {line[0]: float(line[1]) for line in lines if len(line) == 2}
