"""Bad lines, dying nodes, crowds: `python -m tests.lab loss|kill|failback|soak|thin|class|...`."""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
from collections.abc import Callable, Coroutine
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

from tests.lab import distribution, report
from tests.lab.classkill import class_kills
from tests.lab.floor import floor
from tests.lab.kill import failback, kill
from tests.lab.line import Conditions
from tests.lab.loss import browser_loss, loss
from tests.lab.ports import Ports
from tests.lab.soak import soak
from tests.lab.switch import switching
from tests.lab.voters import voters


def main() -> int:
    """Run what was asked for, print the table, write the JSON; 0 when every bound held."""
    arguments = _parser().parse_args()
    row = asyncio.run(arguments.run(arguments))
    text, failed = report.text(row)
    print(text)
    if arguments.json:
        arguments.json.write_text(json.dumps(_plain(row), indent=1) + "\n")
    return 1 if failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.lab",
        description=__doc__,
        epilog="example: python -m tests.lab loss --hops 4 --loss 5 --delay 30 --seconds 30",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _loss_arguments(_command(commands, "loss", "a chain with a bad line at every hop", _loss))
    _kill_arguments(_command(commands, "kill", "a city dies under its county, again", _kill))
    _failback_arguments(
        _command(commands, "failback", "the preferred city returns; nothing may be lost", _failback)
    )
    _floor_arguments(_command(commands, "floor", "a site far below is given the floor", _floor))
    _switch_arguments(_command(commands, "switch", "a programme is cut under viewers", _switch))
    _soak_arguments(_command(commands, "soak", "viewers come and go, parents die", _soak))
    _thin_arguments(_command(commands, "thin", "a course over a bad line to a station", _thin))
    _county_arguments(_command(commands, "county", "thirty stations want the same course", _county))
    _size_arguments(_command(commands, "village", "a course from the box next door", _village))
    _class_arguments(_command(commands, "class", "a class whose processes die", _class))
    _voters_arguments(_command(commands, "voters", "a crowd answers one question", _voters))
    return parser


def _command(
    commands: Any,
    name: str,
    about: str,
    run: Callable[[argparse.Namespace], Coroutine[Any, Any, object]],
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=about, description=about)
    parser.set_defaults(run=run)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to FILE")
    parser.add_argument("--seed", type=int, default=1, help="of everything random (1)")
    parser.add_argument(
        "--ports", type=_range, metavar="A-B", help="numbers to use (the system chooses)"
    )
    return parser


def _loss_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--hops", type=int, default=4, help="bad lines in a row, the viewer's included (4)")
    add("--loss", type=float, default=5.0, metavar="PERCENT", help="lost each way (5)")
    add("--burst", type=float, default=1.0, metavar="N", help="mean run of losses in packets (1)")
    add("--delay", type=float, default=30.0, metavar="MS", help="each way (30)")
    add("--jitter", type=float, default=0.0, metavar="MS", help="on top, at random (0)")
    add("--reorder", type=float, default=0.0, metavar="PERCENT", help="overtaken packets (0)")
    add("--seconds", type=float, default=30.0, help="of the measurement (30)")
    add("--ingest", action="store_true", help="the publisher's line is as bad")
    add("--chromium", action="store_true", help="one Chromium in place of the measuring viewers")
    add("--page", action="store_true", help="Chromium opens the node's own watch page")
    add("--audio-nack", action="store_true", help="let Chromium ask for lost sound again")
    add("--target", type=int, default=0, metavar="MS", help="Chromium's least jitter delay (0)")
    add("--viewers", type=int, default=1, help="at the end of the chain (1)")


async def _loss(arguments: argparse.Namespace) -> object:
    conditions = Conditions(
        loss=arguments.loss / 100,
        burst=arguments.burst,
        delay_ms=arguments.delay,
        jitter_ms=arguments.jitter,
        reorder=arguments.reorder / 100,
    )
    if arguments.chromium or arguments.page:
        return await browser_loss(
            arguments.hops, conditions, arguments.seconds, Ports(arguments.ports), arguments.seed,
            _say, audio_nack=arguments.audio_nack, target_ms=arguments.target, page=arguments.page,
        )  # fmt: skip
    return await loss(
        arguments.hops, conditions, arguments.seconds, arguments.viewers,
        Ports(arguments.ports), arguments.seed, _say, ingest=arguments.ingest,
    )  # fmt: skip


def _kill_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--times", type=int, default=20, help="deaths (20)")
    add("--viewers", type=int, default=50, help="of the county (50)")
    add("--signal", choices=("KILL", "STOP"), default="KILL", help="STOP: silent death (KILL)")


async def _kill(arguments: argparse.Namespace) -> object:
    return await kill(
        arguments.times, arguments.viewers, signal.Signals["SIG" + arguments.signal],
        Ports(arguments.ports), _say,
    )  # fmt: skip


def _failback_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--times", type=int, default=5, help="returns (5)")
    parser.add_argument("--viewers", type=int, default=10, help="of the county (10)")


async def _failback(arguments: argparse.Namespace) -> object:
    return await failback(arguments.times, arguments.viewers, Ports(arguments.ports), _say)


def _floor_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--times", type=int, default=20, help="floors given (20)")
    add("--delay", type=float, default=30.0, metavar="MS", help="of each hop, each way (30)")
    add("--last", type=float, default=0.0, metavar="MS", help="of the site's own line (0)")
    add("--viewers", type=int, default=9, help="at the foot of the tree, beside Chromium (9)")


async def _floor(arguments: argparse.Namespace) -> object:
    return await floor(
        arguments.times, arguments.delay, arguments.last, arguments.viewers,
        Ports(arguments.ports), arguments.seed, _say,
    )  # fmt: skip


def _switch_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--times", type=int, default=20, help="switches (20)")
    add("--delay", type=float, default=30.0, metavar="MS", help="of each hop, each way (30)")
    add("--viewers", type=int, default=9, help="at the foot of the tree, beside Chromium (9)")


async def _switch(arguments: argparse.Namespace) -> object:
    return await switching(
        arguments.times, arguments.delay, arguments.viewers,
        Ports(arguments.ports), arguments.seed, _say,
    )  # fmt: skip


def _soak_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--minutes", type=float, default=60.0, help="how long (60)")
    parser.add_argument("--kill-every", type=float, default=30.0, metavar="S", help="about (30)")


async def _soak(arguments: argparse.Namespace) -> object:
    return await soak(
        arguments.minutes, arguments.kill_every, Ports(arguments.ports), arguments.seed, _say
    )


def _size_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--segments", type=int, default=150, help="of the course (150)")
    parser.add_argument("--segment-bytes", type=int, default=100_000, help="about (100000)")


def _thin_arguments(parser: argparse.ArgumentParser) -> None:
    _size_arguments(parser)
    add = parser.add_argument
    add("--kbit", type=float, default=512.0, help="of the line, down (512)")
    add("--loss", type=float, default=5.0, metavar="PERCENT", help="lost each way (5)")
    add("--cuts", type=int, default=10, help="of the line (10)")
    add("--kills", type=int, default=5, help="of the station (5)")


async def _thin(arguments: argparse.Namespace) -> object:
    return await distribution.thin(
        1000 * arguments.kbit, arguments.loss / 100, _size(arguments), arguments.cuts,
        arguments.kills, arguments.seed, _say,
    )  # fmt: skip


def _county_arguments(parser: argparse.ArgumentParser) -> None:
    _size_arguments(parser)
    add = parser.add_argument
    add("--stations", type=int, default=30, help="below the county (30)")
    add("--up-mbit", type=float, default=8.0, help="of the line above the county (8); 0: any")
    add("--down-mbit", type=float, default=40.0, help="of the line below it (40); 0: any")


async def _county(arguments: argparse.Namespace) -> object:
    return await distribution.county(
        arguments.stations, 1e6 * arguments.up_mbit, 1e6 * arguments.down_mbit,
        _size(arguments), _say,
    )  # fmt: skip


async def _village(arguments: argparse.Namespace) -> object:
    return await distribution.village(_size(arguments), _say)


def _size(arguments: argparse.Namespace) -> tuple[int, int]:
    return arguments.segments, arguments.segment_bytes


def _class_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--kills", type=int, default=10, help="of recorder, node, library (10)")


async def _class(arguments: argparse.Namespace) -> object:
    return await class_kills(arguments.kills, arguments.seed, _say)


def _voters_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--voters", type=int, default=20_000, help="clients of the counties (20000)"
    )
    parser.add_argument("--kill", action="store_true", help="a county and a province die meanwhile")


async def _voters(arguments: argparse.Namespace) -> object:
    return await voters(arguments.voters, arguments.kill, Ports(arguments.ports), _say)


def _range(text: str) -> range:
    first, _, last = text.partition("-")
    return range(int(first), int(last) + 1)


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    return value


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
