"""What the kernel says: CPU time of processes and cores, socket drops, and which machine it is."""

import os
import platform
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_TICK_HZ = os.sysconf("SC_CLK_TCK")
_PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Machine:
    """What a table of figures must say about where it was measured."""

    cores: int
    cpu: str
    kernel: str
    python: str


@dataclass(frozen=True, slots=True)
class CpuTime:
    """CPU seconds of some processes since they started.

    `user_s` and `system_s` are /proc/PID/stat, which also holds threads that ended; `run_s` is the
    sum of /proc/PID/task/*/schedstat, finer but only of threads that live.
    """

    user_s: float
    system_s: float
    run_s: float

    @property
    def stat_s(self) -> float:
        """User and system time together."""
        return self.user_s + self.system_s

    def __sub__(self, earlier: "CpuTime") -> "CpuTime":
        return CpuTime(
            self.user_s - earlier.user_s,
            self.system_s - earlier.system_s,
            self.run_s - earlier.run_s,
        )


@dataclass(frozen=True, slots=True)
class CoreTime:
    """Seconds that a set of cores were busy for this machine, or stolen from it by its host."""

    busy_s: float
    stolen_s: float

    def __sub__(self, earlier: "CoreTime") -> "CoreTime":
        return CoreTime(self.busy_s - earlier.busy_s, self.stolen_s - earlier.stolen_s)


def describe() -> Machine:
    """The machine that this runs on."""
    model = "unknown"
    for line in (_PROC / "cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return Machine(os.cpu_count() or 1, model, platform.release(), platform.python_version())


def process_tree(root: int) -> list[int]:
    """`root` and all its descendants that live."""
    children: dict[int, list[int]] = {}
    for entry in _PROC.iterdir():
        if entry.name.isdigit():
            fields = _stat_fields(int(entry.name))
            if fields:
                children.setdefault(int(fields[1]), []).append(int(entry.name))
    found, waiting = [], [root]
    while waiting:
        pid = waiting.pop()
        found.append(pid)
        waiting += children.get(pid, [])
    return found


def cpu_time(pids: Iterable[int]) -> CpuTime:
    """CPU time of every thread of these processes, with that of children that they reaped."""
    ticks = [0, 0]
    run_ns = 0
    for pid in pids:
        fields = _stat_fields(pid)
        if not fields:
            continue
        ticks[0] += int(fields[11]) + int(fields[13])
        ticks[1] += int(fields[12]) + int(fields[14])
        for task in _listing(_PROC / str(pid) / "task"):
            text = _read(task / "schedstat").split()
            run_ns += int(text[0]) if text else 0
    return CpuTime(ticks[0] / _TICK_HZ, ticks[1] / _TICK_HZ, run_ns / 1e9)


def core_time(cores: Iterable[int]) -> CoreTime:
    """How long the given cores were busy with anything, interrupts included (/proc/stat)."""
    wanted = {f"cpu{core}" for core in cores}
    busy = stolen = 0
    for line in _read(_PROC / "stat").splitlines():
        name, *values = line.split()
        if name in wanted:
            user, nice, system, _idle, _iowait, irq, softirq, steal = (int(v) for v in values[:8])
            busy += user + nice + system + irq + softirq
            stolen += steal
    return CoreTime(busy / _TICK_HZ, stolen / _TICK_HZ)


def pin(root: int, core: int) -> None:
    """Pin every thread of a process tree to one core; later threads inherit it."""
    for pid in process_tree(root):
        for task in _listing(_PROC / str(pid) / "task"):
            try:
                os.sched_setaffinity(int(task.name), {core})
            except ProcessLookupError:
                continue


def udp_drops(pids: Iterable[int]) -> int:
    """Datagrams that the kernel dropped because a UDP socket of these processes was full."""
    sockets = set()
    for pid in pids:
        for link in _listing(_PROC / str(pid) / "fd"):
            try:
                target = str(link.readlink())
            except OSError:
                continue
            if target.startswith("socket:["):
                sockets.add(target[8:-1])
    drops = 0
    for table in ("udp", "udp6"):
        for line in _read(_PROC / "net" / table).splitlines()[1:]:
            fields = line.split()
            if fields[9] in sockets:
                drops += int(fields[12])
    return drops


def _stat_fields(pid: int) -> list[str]:
    """/proc/PID/stat after the command's name: [0] is the state; empty when the process is gone."""
    text = _read(_PROC / str(pid) / "stat")
    return text[text.rindex(")") + 2 :].split() if text else []


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _listing(path: Path) -> list[Path]:
    try:
        return list(path.iterdir())
    except OSError:
        return []
