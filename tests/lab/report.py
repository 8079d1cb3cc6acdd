"""The laboratory's figures as text, and whether they keep the bounds that the project promises."""

from __future__ import annotations

from media.cutter import SEGMENT_MAX_S
from tests.lab.browser import Played
from tests.lab.classkill import ClassRow
from tests.lab.distribution import CountyRow, LanRow, ThinRow
from tests.lab.floor import FloorRow
from tests.lab.kill import FailbackRow, KillRow
from tests.lab.loss import LossRow
from tests.lab.soak import SoakRow
from tests.lab.switch import SwitchRow
from tests.lab.voters import VotersRow

# Unrepaired share that a chain may leave: (loss per hop up to, bound).
LOSS_BOUNDS = ((0.05, 0.001), (0.10, 0.005))
# Of a course, what may be fetched twice; of a line, what stations together must get of it; of a
# course, what the second box of a village must take from the first.
TWICE_BOUND, LINE_SHARE_BOUND, NEIGHBOUR_BOUND = 0.03, 0.9, 0.95
# Of a recording, what one death may take of what had come: the segment that was being written, and
# what was on its way through the cutter.
SEGMENT_BOUND_S = SEGMENT_MAX_S + 1.0
# The longest stall of any viewer, and the median, in milliseconds, by signal.
STALL_BOUNDS = {"SIGKILL": (1000.0, 600.0), "SIGSTOP": (2000.0, 2000.0)}

# From the tap until a site's sound is heard by all, and until it is silent, in the median.
HEARD_BOUND_MS, SILENT_BOUND_MS = 1000.0, 200.0
# At a switch: the longest time without a new picture, and without sound.
FROZEN_BOUND_MS, SOUND_GAP_BOUND_MS = 300.0, 60.0


def text(row: object) -> tuple[str, bool]:
    """A row as a table, and whether a bound was missed."""
    if isinstance(row, LossRow):
        return _loss(row)
    if isinstance(row, KillRow):
        return _kill(row)
    if isinstance(row, FailbackRow):
        return _failback(row)
    if isinstance(row, FloorRow):
        return _floor(row)
    if isinstance(row, SwitchRow):
        return _switch(row)
    if isinstance(row, SoakRow):
        return _soak(row)
    if isinstance(row, ThinRow):
        return _thin(row)
    if isinstance(row, CountyRow):
        return _county(row)
    if isinstance(row, LanRow):
        return _lan(row)
    if isinstance(row, VotersRow):
        return _voters(row)
    if isinstance(row, ClassRow):
        return _class(row)
    raise TypeError(f"no table for {type(row).__name__}")


# Of a poll: seconds until all are counted (a dead node's answers wait for its silence to be sure),
# reports of one child within ten seconds, share of a core at the root.
COUNTED_WITHIN_S, COUNTED_WITH_KILLS_S, REPORTS_BOUND, ROOT_CPU_BOUND = 10.0, 30.0, 10, 0.2


def _table(head: tuple[str, ...], rows: list[tuple[object, ...]]) -> list[str]:
    cells = [head, *(tuple(str(c) for c in row) for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    return ["  ".join(c.rjust(w) for c, w in zip(row, widths, strict=True)) for row in cells]


def _loss(row: LossRow) -> tuple[str, bool]:
    weather = row.conditions
    lines = [
        f"{row.hops} hops, each {100 * weather.loss:g} % lost and {weather.delay_ms:g} ms each way"
        f" (jitter {weather.jitter_ms:g} ms, burst {weather.burst:g}, reorder"
        f" {100 * weather.reorder:g} %), {row.seconds:g} s, {row.viewers} viewers, last hop's"
        f" round trip {row.rtt_ms} ms, proxy {100 * row.proxy_cpu_share:.0f} % of a core",
        "",
    ]
    bound = next((b for loss, b in LOSS_BOUNDS if weather.loss <= loss), 1.0)
    failed = False
    rows: list[tuple[object, ...]] = []
    for kind, figures in row.tracks.items():
        share = row.unrepaired_share(kind)
        failed = failed or share > bound
        worst = max(figures, key=lambda f: f.late_max_ms)
        rows.append(
            (
                kind,
                sum(f.expected for f in figures),
                sum(f.unrepaired for f in figures),
                f"{100 * share:.3f} %",
                f"{100 * bound:g} %",
                sum(f.repaired for f in figures),
                sum(f.asked for f in figures),
                sum(f.duplicates for f in figures),
                worst.late_p50_ms,
                worst.late_p99_ms,
                worst.late_max_ms,
                max(f.stall_ms for f in figures),
                max(f.wait_ms for f in figures),
            )
        )
    played = row.played
    if played is not None:
        failed = failed or played.freezes > 0
        lines += [f"  {name}: {getattr(played, name)}" for name in Played.__slots__]
        lines += ["", f"this process was woken {row.lag_max_ms} ms late at worst", ""]
    lines += _table(
        ("viewer", "expected", "unrepaired", "share", "bound", "repaired", "asked", "dup",
         "late p50", "p99", "max ms", "stall ms", "in-order ms"),
        rows,
    )  # fmt: skip
    lines.append("")
    lines += _table(
        ("node", "kind", "packets", "lost", "repaired", "asked", "resent"),
        [(n.node, n.kind, n.packets, n.lost, n.repaired, n.asked, n.resent) for n in row.nodes],
    )
    lines += [
        "",
        f"joins {row.join_ms} ms, sessions disturbed {row.disturbed},"
        f" this process was woken {row.lag_max_ms} ms late at worst",
    ]
    return "\n".join(lines), failed


def _kill(row: KillRow) -> tuple[str, bool]:
    worst_bound, median_bound = STALL_BOUNDS[row.signal]
    worst, middle = max(row.stalls_ms), row.stall_median_ms
    missing = sum(r.missing for r in row.rounds)
    back = sum(r.failback_missing for r in row.rounds)
    disturbed = sum(r.disturbed for r in row.rounds)
    failed = worst > worst_bound or middle > median_bound or bool(missing or back or disturbed)
    lines = [
        f"{row.signal} of the first city, {len(row.rounds)} times, {row.viewers} viewers",
        "",
        *_table(
            ("round", "picture stall", "sound stall", "missing", "dup", "other parent after",
             "disturbed", "back after", "missing then", "stall then", "lag"),
            [
                (
                    r.number, max(r.stall_video_ms), max(r.stall_audio_ms), r.missing,
                    r.duplicates, r.switched_ms, r.disturbed, f"{r.failback_s} s",
                    r.failback_missing, r.failback_stall_ms, r.lag_max_ms,
                )
                for r in row.rounds
            ],
        ),
        "",
        f"stall: median {middle:.0f} ms (at most {median_bound:.0f}),"
        f" worst {worst:.0f} ms (at most {worst_bound:.0f});"
        f" missing {missing}, at the return {back}; disturbed {disturbed}",
    ]  # fmt: skip
    named = [(r.number, r.missing_numbers, r.missing_frames) for r in row.rounds if r.missing]
    lines += [f"round {n}: frames hurt {f}, first viewer lacks {w}" for n, w, f in named]
    return "\n".join(lines), failed


def _failback(row: FailbackRow) -> tuple[str, bool]:
    failed = any(r.missing or r.disturbed for r in row.returns)
    lines = _table(
        ("back after", "expected", "missing", "dup", "stall ms", "disturbed", "lag ms"),
        [
            (f"{r.after_s} s", r.expected, r.missing, r.duplicates, r.stall_ms, r.disturbed,
             r.lag_max_ms)
            for r in row.returns
        ],
    )  # fmt: skip
    return "\n".join([f"back to the preferred city, {row.viewers} viewers", "", *lines]), failed


def _floor(row: FloorRow) -> tuple[str, bool]:
    heard, silent = row.heard_ms(), row.silent_ms()
    failed = heard > HEARD_BOUND_MS or silent > SILENT_BOUND_MS
    lines = [
        f"four nodes, {row.delay_ms:g} ms each way per hop, {row.last_ms:g} ms to the site itself;"
        f" {row.viewers} viewers and {'a' if row.chromium else 'no'} Chromium at the county",
        "",
        *_table(
            ("floor", "cut after", "first packet", "at the last", "heard in Chromium",
             "muted: last packet", "silent in Chromium", "its buffer", "lag"),
            [
                (r.number, r.cut_ms, min(r.heard_ms), max(r.heard_ms), r.chromium_heard_ms,
                 max(r.silent_ms), r.chromium_silent_ms, r.buffer_ms, r.lag_max_ms)
                for r in row.rounds
            ],
        ),
        "",
        f"by packets: from tap to the last viewer's first sound, median {row.arrived_ms():.0f} ms;"
        f" from tap to the last sound that is to be heard, median {row.ended_ms():.0f} ms",
        f"from tap to heard by all: median {heard:.0f} ms (at most {HEARD_BOUND_MS:g});"
        f" from tap to silence: median {silent:.0f} ms (at most {SILENT_BOUND_MS:g})",
    ]  # fmt: skip
    return "\n".join(lines), failed


def _switch(row: SwitchRow) -> tuple[str, bool]:
    frozen = max(max(c.picture_ms, c.shown_ms) for c in row.cuts)
    gap = max(max(c.skipped_ms, c.silent_ms) for c in row.cuts)
    broken = row.missing + row.repeated + row.backwards + row.ended + row.plis
    renegotiated = row.states != ["connecting", "connected"]
    failed = frozen > FROZEN_BOUND_MS or gap > SOUND_GAP_BOUND_MS or bool(broken) or renegotiated
    lines = [
        f"{len(row.cuts)} switches, four nodes, {row.delay_ms:g} ms each way per hop;"
        f" {row.viewers} viewers and Chromium at the county",
        "",
        *_table(
            ("switch", "waited ms", "no picture", "no sound", "sound skipped",
             "Chromium: no picture", "silent", "concealed", "lag"),
            [
                (c.number, c.waited_ms, c.picture_ms, c.sound_ms, c.skipped_ms, c.shown_ms,
                 c.silent_ms, c.concealed_ms, c.lag_max_ms)
                for c in row.cuts
            ],
        ),
        "",
        f"longest without a new picture {frozen:.0f} ms (at most {FROZEN_BOUND_MS:g};"
        f" {row.usual_ms:.0f} in Chromium without a switch), without sound {gap:.0f} ms"
        f" (at most {SOUND_GAP_BOUND_MS:g})",
        f"packets missing {row.missing}, repeated {row.repeated}, back in time {row.backwards};"
        f" sessions ended {row.ended}; Chromium: {', '.join(row.states)}, freezes {row.freezes},"
        f" keyframes asked {row.plis}",
    ]  # fmt: skip
    return "\n".join(lines), failed


def _change(pair: tuple[int, int]) -> str:
    return f"{pair[0]} -> {pair[1]}"


def _soak(row: SoakRow) -> tuple[str, bool]:
    lines = [
        f"{row.minutes:g} min: {row.joins} joins ({row.refused} refused), {row.kills} parents"
        f" killed, {row.unrepaired} of {row.expected} packets unrepaired, {row.disturbed}"
        " sessions disturbed",
        "",
        *_table(
            (
                "node",
                "MiB, by quarters",
                "slope KiB/min",
                "+-",
                "descriptors",
                "threads",
                "tasks",
            ),
            [
                (
                    life.name,
                    " ".join(f"{mib:.1f}" for mib in life.course_mib),
                    life.slope_kib_per_min,
                    life.slope_error,
                    _change(life.descriptors),
                    _change(life.threads),
                    _change(life.tasks),
                )
                for life in row.lives
            ],
        ),
        "",
        "log: " + ", ".join(f"{name} {count}" for name, count in row.events.items()),
        *(f"unexplained: {line}" for line in row.unexplained[:20]),
    ]
    leaks = any(
        last > first + 3
        for life in row.lives
        for first, last in (life.descriptors, life.threads, life.tasks)
    )
    return "\n".join(lines), leaks or bool(row.unexplained or row.disturbed)


def _thin(row: ThinRow) -> tuple[str, bool]:
    failed = row.twice_share > TWICE_BOUND or not row.whole
    lines = [
        f"a course of {row.course_bytes} bytes over {row.line_bps / 1000:g} kbit/s with"
        f" {100 * row.loss:g} % lost, {row.cuts} cuts, {row.kills} kills,"
        f" {row.spoilt_on_disk} piece spoilt on the disk, {row.spoilt_in_flight} in flight",
        "",
        f"whole: {row.whole}, after {row.seconds} s, {row.busy_s} s of them with a line",
        f"fetched twice: {100 * row.twice_share:.2f} % (at most {100 * TWICE_BOUND:g} %)",
        f"frames on the line: {row.line_bytes} bytes, {row.line_bytes / row.course_bytes:.3f} of"
        f" the course; {8 * row.course_bytes / row.busy_s / 1000:.0f} kbit/s of body",
    ]
    return "\n".join(lines), failed


def _class(row: ClassRow) -> tuple[str, bool]:
    worst = max((one.segment_s for one in row.deaths), default=0.0)
    failed = bool(row.changed or row.lacking) or worst > SEGMENT_BOUND_S
    failed = failed or not row.pictures or abs(row.course_s - row.recorded_s) > 0.1
    lines = [
        *_table(
            ("death", "of", "lost of the segment s", "nothing came then s"),
            [
                (number, one.what, one.segment_s or "-", one.away_s or "-")
                for number, one in enumerate(row.deaths, 1)
            ],
        ),
        "",
        f"{row.segments} segments were finished at some death: {row.changed} of them changed or"
        f" gone; of their {row.pictures} pictures {row.lacking} are not in the course",
        f"recorded {row.recorded_s:.1f} s, course {row.course_s:.1f} s, which lists"
        f" {row.marked_s:.1f} s as missing; worst loss of a segment {worst:.2f} s"
        f" (at most {SEGMENT_BOUND_S:g})",
    ]
    return "\n".join(lines), failed


def _county(row: CountyRow) -> tuple[str, bool]:
    once = row.library_bytes == row.course_bytes
    failed = not once or row.whole < row.stations or row.share < LINE_SHARE_BOUND
    gigabytes = row.sum_bps * row.seconds / 8e9
    lines = [
        f"{row.stations} stations, a course of {row.course_bytes} bytes, above the county"
        f" {row.up_bps / 1e6:g} Mbit/s, below {row.down_bps / 1e6:g} (0: any)",
        "",
        f"whole at {row.whole} after {row.seconds} s; the library sent {row.library_bytes} bytes"
        f" of it: {'once' if once else 'NOT once'}",
        f"in sum {row.sum_bps / 1e6:.2f} Mbit/s, {100 * row.share:.1f} % of what the lines allow"
        f" (at least {100 * LINE_SHARE_BOUND:g} %)",
        f"per station served: {row.up_bytes / row.stations:.0f} bytes crossed the edge above,"
        f" {row.down_bytes / row.stations:.0f} the edge below",
        f"the county's process used {row.county_cpu_s} s, {row.county_cpu_s / gigabytes:.2f} s a"
        " gigabyte served",
    ]
    return "\n".join(lines), failed


def _lan(row: LanRow) -> tuple[str, bool]:
    failed = row.neighbour_share < NEIGHBOUR_BOUND or not row.whole
    lines = [
        f"the second station: {row.from_neighbour} bytes from the first, {row.from_parent} from"
        f" above, {row.seconds} s, whole: {row.whole}",
        f"from the neighbour: {100 * row.neighbour_share:.2f} % (at least"
        f" {100 * NEIGHBOUR_BOUND:g} %)",
    ]
    return "\n".join(lines), failed


def _voters(row: VotersRow) -> tuple[str, bool]:
    within_s = COUNTED_WITH_KILLS_S if row.kills else COUNTED_WITHIN_S
    failed = (
        row.counts != row.expected
        or sum(row.counts) != row.voters
        or row.counted_s > within_s
        or row.most_in_ten > REPORTS_BOUND
        or row.root_cpu_share > ROOT_CPU_BOUND
    )
    lines = [
        f"{row.voters} voters, {row.kills} nodes killed, {row.drops} connections lost,"
        f" joined in {row.join_s} s",
        "",
        f"counted {row.counts}, expected {row.expected}:"
        f" {'exact' if row.counts == row.expected else 'NOT exact'}",
        f"answered within {row.answered_s:g} s, all with a receipt after {row.counted_s} s (at most"
        f" {within_s:g}), exact at the centre after {row.exact_s} s",
        f"from the answer to the receipt: {row.wait_p50_s} s in the median, p99 {row.wait_p99_s} s",
        f"at most {row.most_in_ten} reports of a child within ten seconds (at most"
        f" {REPORTS_BOUND}); {row.root_reports} of {row.root_children} children in all",
        f"the centre used {100 * row.root_cpu_share:.1f} % of a core (at most"
        f" {100 * ROOT_CPU_BOUND:g}), a county {100 * row.county_cpu_share:.0f} %,"
        f" the voters' own processes {100 * row.load_cpu_share:.0f} %",
        f"a client takes {row.county_bytes_per_client} bytes at its county; refused: {row.errors}",
    ]
    return "\n".join(lines), failed
