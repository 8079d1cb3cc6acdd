"""The tables that `make bench` prints, and the same figures as JSON."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.bench.courses import CourseRow
from tests.bench.machine import Machine
from tests.bench.recording import RecordingRow
from tests.bench.renditions import RenditionRow
from tests.bench.runs import USABLE_CORE, FanoutRow, HopRow, JoinRow, Options, StormRow
from tests.bench.workers import WorkersRow


@dataclass(slots=True)
class Report:
    """Everything that one call measured; what was not asked for stays empty."""

    machine: Machine
    options: Options
    started: str
    fanout: list[FanoutRow] = field(default_factory=list)
    joins: JoinRow | None = None
    storm: StormRow | None = None
    hops: list[HopRow] = field(default_factory=list)
    workers: WorkersRow | None = None
    recording: list[RecordingRow] = field(default_factory=list)
    courses: CourseRow | None = None
    renditions: RenditionRow | None = None

    def problems(self) -> list[str]:
        """Why some row is not to be trusted, or what went wrong in it."""
        found = [f"N={row.viewers}: {text}" for row in self.fanout for text in row.problems]
        if self.joins:
            found += [f"joins: {text}" for text in self.joins.problems]
        if self.storm:
            found += [f"join storm: {text}" for text in self.storm.problems]
        if self.hops:
            found += [f"hops: {text}" for text in self.hops[0].problems]
        if self.workers:
            found += [f"workers: {text}" for text in self.workers.problems]
        for recorded in self.recording:
            found += [f"recording, {recorded.recorders}: {text}" for text in recorded.problems]
        if self.renditions:
            found += [f"renditions: {text}" for text in self.renditions.problems]
        if self.courses:
            found += [f"courses: {text}" for text in self.courses.problems]
        return found

    def text(self) -> str:
        """The tables, in Markdown that also reads well in a terminal."""
        options = self.options
        parts = [
            f"Terrace bench, {self.started}: {self.machine.cores} cores, {self.machine.cpu}, "
            f"kernel {self.machine.kernel}, Python {self.machine.python}.\n"
            f"Node on core 0, load on {_cores(options.cores)}; SRTP {options.profile}, "
            f"frames cut {options.cut.value}, windows of {options.duration_s:g} s."
        ]
        if self.fanout:
            parts.append(_table("Fan-out of one 1 Mbit/s stream", _FANOUT, self._fanout_rows()))
            parts.append(
                f"viewers/core: at {USABLE_CORE:.0%} of a core with this row's cost per packet. "
                "Delay: send of a frame's last\npacket to arrival at the viewer, kernel clock."
            )
        if self.joins:
            parts.append(_table("Joins: POST, ICE, DTLS, DELETE", _JOINS, [_join_row(self.joins)]))
        if self.storm:
            title = "Viewers present while others join"
            parts.append(_table(title, _STORM, [_storm_row(self.storm)]))
        if self.hops:
            parts.append(_table("A chain of nodes, one viewer each", _HOPS, self._hop_rows()))
        if self.workers:
            title = "A node of two processes beside one of one"
            parts.append(_table(title, _WORKERS, [_workers_row(self.workers)]))
        if self.recording:
            title = "Recorders of one 1 Mbit/s stream, a process each"
            parts.append(_table(title, _RECORDING, [_recording_row(r) for r in self.recording]))
        if self.renditions:
            title = "A minute of 720p into 720p, 480p, 240p and sound alone, all cores"
            parts.append(_table(title, _RENDITIONS, _rendition_rows(self.renditions)))
        if self.courses:
            title = "One course through a node to stations that ask at once, then from its cache"
            parts.append(_table(title, _COURSES, [_course_row(self.courses)]))
        problems = self.problems()
        if problems:
            parts.append("\n".join(["Problems:", *(f"- {text}" for text in problems)]))
        return "\n\n".join(parts)

    def save(self, path: Path) -> None:
        """Write all figures as JSON."""
        document = asdict(self)
        document["options"]["cut"] = self.options.cut.value
        # JSON has no NaN: a percentile of nothing becomes null.
        clean = json.loads(json.dumps(document), parse_constant=lambda _name: None)
        path.write_text(json.dumps(clean, indent=1) + "\n")

    def _fanout_rows(self) -> list[list[str]]:
        return [
            [
                str(row.viewers),
                f"{row.packets_per_s:.0f}",
                f"{row.us_per_packet:.2f}",
                f"{row.us_per_packet_sched:.2f}",
                f"{row.node_percent:.1f}",
                str(row.viewers_per_core),
                _lost(row.lost, row.expected),
                f"{row.picture_p50_ms:.1f} / {row.picture_p99_ms:.1f}",
                f"{row.sound_p50_ms:.1f} / {row.sound_p99_ms:.1f}",
                f"{row.node_drops} / {row.own_drops}",
                f"{row.load_percent:.0f}",
                f"{row.foreign_percent:.0f}",
            ]
            for row in self.fanout
        ]

    def _hop_rows(self) -> list[list[str]]:
        return [
            [
                str(row.nodes),
                _lost(row.lost, row.packets + row.lost),
                f"{row.added_p50_ms:.2f} / {row.added_p99_ms:.2f}",
                f"{row.total_p50_ms:.2f} / {row.total_p99_ms:.2f}",
            ]
            for row in self.hops
        ]


_FANOUT = [
    "N",
    "packets/s",
    "µs/packet",
    "(schedstat)",
    "node %",
    "viewers/core",
    "lost",
    "picture p50 / p99 ms",
    "sound p50 / p99 ms",
    "drops node / own",
    "load %",
    "others %",
]
_JOINS = [
    "joins",
    "failed",
    "resent",
    "at once",
    "joins/s",
    "node ms/join",
    "joins/s/core",
    "took p50 / p99 ms",
    "node %",
    "load %",
]
_STORM = [
    "present",
    "joined",
    "failed",
    "resent",
    "in s",
    "lost by those present",
    "picture p50 / p99 ms",
    "join p50 / p99 ms",
    "node %",
    "load %",
]
_COURSES = [
    "stations",
    "MB",
    "copies in",
    "in / out MB per station",
    "cold s",
    "warm Mbit/s",
    "node %",
    "CPU s/GB",
    "Gbit/s/core",
    "load %",
]
_RENDITIONS = ["by", "wall s", "CPU s", "times real time", "best one whole after s"]
_HOPS = ["nodes", "lost", "added by this one p50 / p99 ms", "since the send p50 / p99 ms"]


_WORKERS = [
    "N",
    "alone %",
    "front N / %",
    "worker N / %",
    "µs/packet alone / both",
    "viewers/core alone",
    "viewers of two",
    "times",
    "load %",
]
_RECORDING = [
    "recorders",
    "recorder %, each",
    "node %",
    "written Mbit/s, each",
    "missing s",
    "memory MB, each",
]


def _workers_row(row: WorkersRow) -> list[str]:
    return [
        str(row.alone.viewers),
        f"{row.alone.percent:.1f}",
        f"{row.front.viewers} / {row.front.percent:.1f}",
        f"{row.worker.viewers} / {row.worker.percent:.1f}",
        f"{row.us_per_packet_alone:.2f} / {row.us_per_packet:.2f}",
        f"{row.alone.viewers_per_core:.0f}",
        f"{row.served:.0f}",
        f"{row.gain:.2f}",
        f"{row.load_percent:.0f}",
    ]


def _recording_row(row: RecordingRow) -> list[str]:
    return [
        str(row.recorders),
        f"{row.recorder_percent:.1f}",
        f"{row.node_percent:.1f}",
        f"{row.written_bps / 1e6:.2f}",
        f"{row.missing_s:.2f}",
        f"{row.memory_mb:.0f}",
    ]


def _join_row(row: JoinRow) -> list[str]:
    return [
        str(row.joins),
        str(row.failed),
        str(row.resent),
        str(row.at_once),
        f"{row.per_second:.0f}",
        f"{row.node_ms_per_join:.2f}",
        f"{row.per_core_second:.0f}",
        f"{row.took_p50_ms:.0f} / {row.took_p99_ms:.0f}",
        f"{row.node_percent:.0f}",
        f"{row.load_percent:.0f}",
    ]


def _storm_row(row: StormRow) -> list[str]:
    return [
        str(row.present),
        str(row.joiners),
        str(row.failed),
        str(row.resent),
        f"{row.seconds:.1f}",
        _lost(row.lost, row.expected),
        f"{row.picture_p50_ms:.1f} / {row.picture_p99_ms:.1f}",
        f"{row.took_p50_ms:.0f} / {row.took_p99_ms:.0f}",
        f"{row.node_percent:.0f}",
        f"{row.load_percent:.0f}",
    ]


def _rendition_rows(row: RenditionRow) -> list[list[str]]:
    ours = ["Terrace", f"{row.wall_s:.1f}", f"{row.cpu_s:.1f}", f"{row.speed:.1f}",
            f"{row.first_s:.1f}"]  # fmt: skip
    plain = ["plain FFmpeg", "-", "-", "-", "-"]
    if row.plain_wall_s:
        plain = ["plain FFmpeg", f"{row.plain_wall_s:.1f}", f"{row.plain_cpu_s:.1f}",
                 f"{row.plain_speed:.1f}", "-"]  # fmt: skip
    return [ours, plain]


def _course_row(row: CourseRow) -> list[str]:
    return [
        str(row.stations),
        f"{row.course_bytes / 1e6:.1f}",
        f"{row.copies:.3f}",
        f"{row.up_bytes_per_station / 1e6:.2f} / {row.down_bytes_per_station / 1e6:.2f}",
        f"{row.cold_s:.1f}",
        f"{row.warm_mbit_s:.0f}",
        f"{row.node_percent:.0f}",
        f"{row.cpu_s_per_gigabyte:.2f}",
        f"{row.gbit_s_per_core:.2f}",
        f"{row.load_percent:.0f}",
    ]


def _lost(lost: int, expected: int) -> str:
    if not lost:
        return "0"
    return f"{lost} ({100 * lost / expected:.3f} %)"


def _cores(cores: Sequence[int]) -> str:
    names = ", ".join(map(str, cores))
    return f"core {names}" if len(cores) == 1 else f"cores {names}"


def _table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(line[i]) for line in [head, *rows]) for i in range(len(head))]
    lines = [_line(head, widths), "|" + "|".join("-" * (w + 1) + ":" for w in widths) + "|"]
    lines += [_line(row, widths) for row in rows]
    return f"{title}\n\n" + "\n".join(lines)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "| " + " | ".join(c.rjust(w) for c, w in zip(cells, widths, strict=True)) + " |"
