"""Measure what a relay node costs on this machine: `python -m tests.bench [options]`."""

import argparse
import asyncio
import os
import platform
import resource
import signal
import sys
import time
from pathlib import Path

from tests.bench import courses, machine, recording, renditions, runs, workers
from tests.bench.dtls import PROFILES
from tests.bench.node import NodeError
from tests.bench.report import Report
from tests.bench.source import Cut

_PARTS = ("fanout", "joins", "hops", "workers", "recording", "courses", "renditions")


def main() -> int:
    """Run what was asked for, print the tables; 0 when every row is valid."""
    arguments = _parser().parse_args()
    refusal = _unsuitable()
    if refusal:
        print(f"bench: {refusal}", file=sys.stderr)
        return 1
    options = _options(arguments)
    os.sched_setaffinity(0, options.cores)
    _allow_many_sockets()
    if arguments.nice:
        os.setpriority(os.PRIO_PROCESS, 0, arguments.nice)
    report = Report(machine.describe(), options, time.strftime("%Y-%m-%d %H:%M"))
    parts = (arguments.only,) if arguments.only else _PARTS
    # Whatever ends this process, the nodes that it started must not stay behind.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        asyncio.run(_measure(parts, options, report))
    except (NodeError, OSError, EOFError, ValueError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print(report.text())
    if arguments.json:
        report.save(arguments.json)
    return 1 if any("INVALID" in text for text in report.problems()) else 0


async def _measure(parts: tuple[str, ...], options: runs.Options, report: Report) -> None:
    if "fanout" in parts:
        report.fanout = await runs.fanout(options, _say)
    if "joins" in parts:
        report.joins = await runs.joins(options, _say)
        report.storm = await runs.storm(options, _say)
    if "hops" in parts:
        report.hops = await runs.hops(options, _say)
    if "workers" in parts:
        report.workers = await workers.workers(options, _say)
    if "recording" in parts:
        report.recording = await recording.recording(options, _say)
    if "renditions" in parts:
        report.renditions = await renditions.renditions(_say)
    if "courses" in parts:
        report.courses = await courses.courses(30, options.duration_s, options.cores[-1], _say)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench",
        description=__doc__,
        epilog="example: make bench ARGS='--only fanout --ladder 200,400 --json figures.json'",
    )
    add = parser.add_argument
    add("--ladder", type=_ladder, metavar="N,N", help="viewers of the fan-out (50,200,400)")
    add("--duration", type=float, metavar="S", help="seconds of each window (10)")
    add("--only", choices=_PARTS, help="measure only this")
    add("--json", type=Path, metavar="FILE", help="also write all figures to FILE")
    add("--quick", action="store_true", help="short windows and small numbers: does it work at all")
    add("--srtp", choices=sorted(PROFILES), default="aes128-gcm", help="the SRTP profile offered")
    add("--cut", choices=[cut.value for cut in Cut], default="even", help="how frames are cut")
    add("--nice", type=int, default=0, help="priority of node and load; below 0 needs root (0)")
    add("--sweep-ms", type=float, default=20, help="pause between two sweeps of the sockets (20)")
    return parser


def _options(arguments: argparse.Namespace) -> runs.Options:
    quick: bool = arguments.quick
    return runs.Options(
        ladder=arguments.ladder or ((20, 50) if quick else (50, 200, 400)),
        duration_s=arguments.duration or (4.0 if quick else 10.0),
        joins=100 if quick else 600,
        storm_joiners=100 if quick else 400,
        storm_s=5.0,
        hops=4,
        profile=arguments.srtp,
        cut=Cut(arguments.cut),
        sweep_s=arguments.sweep_ms / 1000,
        cores=tuple(sorted(os.sched_getaffinity(0) - {0})),
    )


def _ladder(text: str) -> tuple[int, ...]:
    steps = tuple(int(part) for part in text.split(","))
    if not steps or min(steps) < 1:
        raise argparse.ArgumentTypeError("numbers above 0, separated by commas")
    return steps


def _unsuitable() -> str:
    """Why this machine cannot run the bench, or nothing."""
    if sys.platform != "linux" or platform.architecture()[0] != "64bit":
        return "it needs 64-bit Linux (recvmmsg, /proc, kernel receive time stamps)"
    cores = os.sched_getaffinity(0)
    if 0 not in cores or len(cores) < 2:
        return "it needs core 0 for the node and at least one more for the load"
    return ""


def _allow_many_sockets() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < 8192:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(8192, hard), hard))


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
