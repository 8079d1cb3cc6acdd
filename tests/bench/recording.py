"""The fifth measurement: what recording a stream costs, at the recorder and at its node."""

import asyncio
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench import machine
from tests.bench.meter import Meter
from tests.bench.node import ROOT, Node
from tests.bench.runs import STREAM, Options, Say, on_air

LADDER = (1, 4)
_READY_S = 60.0


@dataclass(slots=True)
class RecordingRow:
    """Recorders of one 1 Mbit/s stream. Percentages are of one core, `recorder` is for each."""

    recorders: int
    recorder_percent: float
    node_percent: float
    written_bps: float
    missing_s: float
    memory_mb: float
    problems: list[str] = field(default_factory=list)


class _Recorder:
    """One `terrace record` process; reads what it says."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.bytes = 0
        self.missing_s = 0.0
        self.began = asyncio.Event()
        self.reading = asyncio.create_task(self._read())

    @classmethod
    async def start(
        cls, node: Node, folder: Path, number: int, cores: Sequence[int]
    ) -> "_Recorder":
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "web.cli", "record", node.url, STREAM, "--supervised",
            "--out", str(folder), "--id", f"bench-{number}",
            cwd=ROOT, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=os.environ | {"TERRACE_TOKEN": ""},
        )  # fmt: skip
        machine.pin(process.pid, cores[0])
        return cls(process)

    async def _read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            said = json.loads(line)
            if said["event"] == "segment":
                self.bytes, self.missing_s = said["bytes"], said["missing_s"]
                self.began.set()

    async def stop(self) -> None:
        self.reading.cancel()
        if self.process.stdin is not None:
            self.process.stdin.close()
        await self.process.communicate()


async def recording(options: Options, say: Say) -> list[RecordingRow]:
    """So many recorders of one stream; the window is three times as long, for they write seldom."""
    rows = []
    for count in LADDER:
        with tempfile.TemporaryDirectory(prefix="terrace-bench-") as folder:
            async with on_air(1, options) as ((node,), publisher):
                ones = [
                    await _Recorder.start(node, Path(folder), i, options.cores)
                    for i in range(count)
                ]
                try:
                    async with asyncio.timeout(_READY_S):
                        for one in ones:
                            await one.began.wait()
                    pids = [one.process.pid for one in ones]
                    meter, before = Meter([node], publisher), machine.cpu_time(pids)
                    written = sum(one.bytes for one in ones)
                    await asyncio.sleep(3 * options.duration_s)
                    cost, used = meter.stop(), machine.cpu_time(pids) - before
                    written = sum(one.bytes for one in ones) - written
                    memory = sum(map(_memory_mb, pids)) / count
                finally:
                    for one in ones:
                        await one.stop()
                node.check()
        row = RecordingRow(
            recorders=count,
            recorder_percent=100 * used.stat_s / cost.seconds / count,
            node_percent=cost.node_percent,
            written_bps=8 * written / cost.seconds / count,
            missing_s=sum(one.missing_s for one in ones),
            memory_mb=memory,
            problems=cost.problems(),
        )
        rows.append(row)
        say(f"recording: {count} recorders, {row.recorder_percent:.1f} % of a core each")
    return rows


def _memory_mb(pid: int) -> float:
    """Resident memory of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
