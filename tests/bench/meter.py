"""What a window of measurement cost the node and us, and whether its figures can be trusted."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass

from tests.bench import machine
from tests.bench.node import Node
from tests.bench.publisher import Publisher

NODE_CORE = 0

# Other processes' share of the node's core above which delay and cost are no longer its own.
_DISTURBED_PERCENT = 5.0
_OVERLOADED_PERCENT = 90.0


@dataclass(slots=True)
class Cost:
    """What a window cost. Percentages are of one core.

    `foreign_percent`: what other processes used of the node's core. `load_percent`: what this
    load generator, publisher included, used of its cores.
    """

    seconds: float
    node: machine.CpuTime
    load: machine.CpuTime
    foreign_percent: float
    stolen_percent: float
    node_drops: int
    own_drops: int

    @property
    def node_percent(self) -> float:
        """The node's share of a core."""
        return 100 * self.node.stat_s / self.seconds

    @property
    def load_percent(self) -> float:
        """The load generator's share of a core."""
        return 100 * self.load.stat_s / self.seconds

    def problems(self) -> list[str]:
        """Why figures of this window are not the node's own."""
        found = []
        if self.own_drops:
            found.append(f"INVALID: the load generator's sockets dropped {self.own_drops}")
        if self.load_percent > _OVERLOADED_PERCENT:
            found.append(f"INVALID: the load generator used {self.load_percent:.0f} % of a core")
        if self.node_drops:
            found.append(f"the node's sockets dropped {self.node_drops}")
        if self.foreign_percent > _DISTURBED_PERCENT:
            found.append(f"other processes used {self.foreign_percent:.0f} % of the node's core")
        if self.stolen_percent > 1:
            found.append(f"the host took {self.stolen_percent:.0f} % of the node's core")
        return found


class Meter:
    """Reads the kernel's counters at both ends of a window."""

    def __init__(self, nodes: Sequence[Node], publisher: Publisher) -> None:
        self._node_pids = [pid for node in nodes for pid in node.pids]
        self._load_pids = [os.getpid(), publisher.pid]
        self._before = self._read()

    def stop(self) -> Cost:
        """The difference since the meter was made."""
        (at, node, load, core, drops, own), before = self._read(), self._before
        seconds = at - before[0]
        cores = core - before[3]
        foreign_s = max(0.0, cores.busy_s - (node - before[1]).stat_s)
        return Cost(
            seconds=seconds,
            node=node - before[1],
            load=load - before[2],
            foreign_percent=100 * foreign_s / seconds,
            stolen_percent=100 * cores.stolen_s / seconds,
            node_drops=drops - before[4],
            own_drops=own - before[5],
        )

    def _read(
        self,
    ) -> tuple[float, machine.CpuTime, machine.CpuTime, machine.CoreTime, int, int]:
        return (
            time.monotonic(),
            machine.cpu_time(self._node_pids),
            machine.cpu_time(self._load_pids),
            machine.core_time([NODE_CORE]),
            machine.udp_drops(self._node_pids),
            machine.udp_drops(self._load_pids),
        )
