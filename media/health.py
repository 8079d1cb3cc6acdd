"""How the machine under a station is: disk, temperature, memory, load. Reads /proc and /sys."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

HOT_CELSIUS: Final = 80.0
DISK_LOW_BYTES: Final = 300_000_000
DISK_FULL_BYTES: Final = 20_000_000


@dataclass(frozen=True, slots=True)
class Health:
    """One look at the machine; None where it does not say."""

    disk_total_bytes: int | None = None
    disk_free_bytes: int | None = None
    celsius: float | None = None
    memory_free_bytes: int | None = None
    load: float | None = None
    uptime_s: float | None = None


def look(folder: Path, *, sensors: Path = Path("/sys/class/thermal")) -> Health:
    """Looks at the machine; blocks for some milliseconds and never fails."""
    total = free = None
    with contextlib.suppress(OSError):
        usage = shutil.disk_usage(folder)
        total, free = usage.total, usage.free
    load = None
    with contextlib.suppress(OSError):
        load = os.getloadavg()[0]
    return Health(
        disk_total_bytes=total, disk_free_bytes=free, celsius=_hottest(sensors),
        memory_free_bytes=_memory_free(), load=load,
        uptime_s=time.clock_gettime(time.CLOCK_BOOTTIME),
    )  # fmt: skip


def _hottest(sensors: Path) -> float | None:
    found = []
    with contextlib.suppress(OSError):
        for zone in sensors.glob("thermal_zone*/temp"):
            with contextlib.suppress(OSError, ValueError):
                celsius = int(zone.read_text()) / 1000
                # Zones without a sensor say 0, or nonsense.
                if 0 < celsius < 150:
                    found.append(celsius)
    return max(found, default=None)


def _memory_free() -> int | None:
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return None
