"""Four lossy hops by a clock of their own: how late a picture is whole at a browser below them.

Real streams, sources and viewers; lines, clock and browser by hand. Nothing here takes real time,
so what is measured is the rhythm of repair and not the machine.
"""

from __future__ import annotations

import heapq
import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import SimpleNamespace
from typing import cast

from relay import packet as rtp
from relay import rtcp
from relay.fanout import Fanout, Group, Target
from relay.peer import Peer
from relay.sdp import Format, Leg
from relay.source import Source
from relay.stream import Stream
from relay.track import SenderClock, Track
from relay.viewer import Viewer
from tests.lab.line import Conditions, Line

SSRC, RTX_SSRC = 0xB1, 0xC1
LEG = Leg("0", Format("video", "VP8"), 96, {}, 97, SSRC, RTX_SSRC)
DELAY_S, FRAME_S, TICK_S = 0.03, 0.04, 0.005
# What libwebrtc takes for the round trip where nothing tells it, and how often it asks.
BROWSER_RTT_S, BROWSER_TRIES = 0.1, 10


class World:
    """Time, and what happens next."""

    def __init__(self) -> None:
        # A source begins by the real clock.
        self.now = time.monotonic()
        self._count = itertools.count()
        self._next: list[tuple[float, int, Callable[[], object]]] = []

    def at(self, when: float, what: Callable[[], object]) -> None:
        heapq.heappush(self._next, (when, next(self._count), what))

    def every(self, seconds: float, what: Callable[[], object]) -> None:
        def again() -> None:
            what()
            self.at(self.now + seconds, again)

        self.at(self.now, again)

    def run(self, until: float) -> None:
        while self._next[0][0] <= until:
            self.now, _, what = heapq.heappop(self._next)
            what()


class Node:
    """One node: its stream, and the port as the stream sees it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.fanout = cast(Fanout, self)
        self.track = Track(LEG.format, SSRC)
        self.stream = Stream("lecture", [self.track], self)
        self.lines: dict[Target, Callable[[bytes], None]] = {}
        self._marked = False
        world.every(TICK_S, lambda: self.stream.tick(world.now))

    def mark(self, forwarder: Stream) -> None:
        self._marked = True

    def hurry(self) -> None: ...

    def flush(self) -> None:
        if self._marked:
            self._marked = False
            for _ in self.stream.flush(self.world.now):
                pass

    # The fan-out, before the cipher.

    def send(
        self, group: Group, packets: Sequence[bytes], shifted: object, vp8: bool
    ) -> Iterator[None]:
        for target in group.targets:
            self.send_to(target, packets)
        yield

    def send_to(self, target: Target, packets: Iterable[bytes]) -> None:
        for data in packets:
            self.lines[target](data)

    def send_rtcp(self, targets: Sequence[Target], compound: bytes) -> None:
        for target in targets:
            self.lines[target](compound)


class Chain:
    """Nodes over bad lines, a publisher at the first and a browser below the last."""

    def __init__(self, hops: int, loss: float, seed: int) -> None:
        self.world = World()
        self.conditions = Conditions(loss=loss, delay_ms=1000 * DELAY_S)
        self._seeds = itertools.count(100 * seed)
        self.nodes = [Node(self.world) for _ in range(hops)]
        self.sent_s: list[float] = []
        self.packets: list[list[int]] = []
        self._sequence = itertools.count(100)
        for above, below in itertools.pairwise(self.nodes):
            self._join(above, below)
        self.browser = Browser(self.world)
        last = self.nodes[-1]
        viewer, target = self._viewer(last, is_relay=False)
        last.lines[target] = self._line(self.browser.arrived)
        self.browser.up = self._line(lambda data: viewer.on_rtcp(data, self.world.now))
        self.nodes[0].track.clock = SenderClock(1000 << 32, 0, self.world.now)

    def _line(self, deliver: Callable[[bytes], object]) -> Callable[[bytes], None]:
        line = Line(next(self._seeds), self.conditions)

        def send(data: bytes) -> None:
            when = line.arrival(self.world.now, len(data))
            if when is not None:
                self.world.at(when, lambda: deliver(data))

        return send

    def _viewer(self, node: Node, *, is_relay: bool) -> tuple[Viewer, Target]:
        target = Target(None, 16, ("127.0.0.1", 9))
        peer = cast(Peer, SimpleNamespace(target=target, rtt_s=0.0))
        viewer = Viewer(node.stream, peer, {"video": LEG}, is_relay)
        node.stream.add_viewer(viewer, now=self.world.now)
        return viewer, target

    def _join(self, above: Node, below: Node) -> None:
        viewer, down = self._viewer(above, is_relay=True)
        up = Target(None, 16, ("127.0.0.1", 9))
        peer = SimpleNamespace(target=up, rtt_s=2 * DELAY_S, serve=lambda handler: None)
        source = Source(below.stream, cast(Peer, peer), [LEG], 5, estimate=False, from_node=True)
        source.attach(None)

        def deliver(data: bytes) -> None:
            if 192 <= data[1] <= 223:
                source.on_rtcp(data, self.world.now)
            else:
                source.on_rtp(data, self.world.now)
                below.flush()

        above.lines[down] = self._line(deliver)
        below.lines[up] = self._line(lambda data: viewer.on_rtcp(data, self.world.now))

    def show(self) -> None:
        """A frame of five packets, a keyframe of forty every two seconds; 1 Mbit/s."""
        number, node = len(self.sent_s), self.nodes[0]
        self.sent_s.append(self.world.now)
        self.packets.append([])
        count = 40 if number % 50 == 0 else 5
        for part in range(count):
            sequence = next(self._sequence)
            self.packets[-1].append(sequence)
            second = 96 | 0x80 * (part == count - 1)
            head = bytes([0x80, second]) + (sequence & 0xFFFF).to_bytes(2, "big")
            head += (3600 * number).to_bytes(4, "big") + SSRC.to_bytes(4, "big")
            key = 0 if number % 50 == 0 else 1
            data = head + bytes([0x10 if part == 0 else 0, key]) + bytes(900)
            parsed = rtp.parse(data, rtp.ExtensionIds({}))
            kept = node.track.insert(data, parsed, SSRC, 0, self.world.now)
            assert kept is not None
            node.stream.push(node.track, kept)
        node.flush()

    def play(self, seconds: float) -> list[float]:
        """Show so many seconds; returns how late each frame could be decoded, in seconds.

        Later than over lines that lose nothing; a frame needs all frames before it.
        """
        self.world.every(FRAME_S, self.show)
        self.world.run(self.world.now + seconds + 3)
        late, before = [], 0.0
        way = DELAY_S * len(self.nodes)
        # The first two seconds are the joins'.
        for sent, packets in list(zip(self.sent_s, self.packets, strict=True))[50:]:
            if sent > self.sent_s[0] + seconds:
                break
            before = max(before, *(self.browser.arrivals[n & 0xFFFF] for n in packets))
            late.append(before - sent - way)
        return late


class Browser:
    """Asks like libwebrtc: at once, then after each round trip that it assumes."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.up: Callable[[bytes], None] = lambda data: None
        self.arrivals: dict[int, float] = {}
        self._highest = -1
        self._lost = 0
        self._wants: dict[int, tuple[float, int]] = {}
        world.every(0.02, self._ask)
        world.every(1.0, self._report)

    def arrived(self, data: bytes) -> None:
        if 192 <= data[1] <= 223:
            return
        kind = data[1] & 0x7F
        at = rtp.payload_offset(data)
        sequence = int.from_bytes(data[at : at + 2] if kind == 97 else data[2:4], "big")
        self.arrivals.setdefault(sequence, self.world.now)
        if self._wants.pop(sequence, None) is not None and kind != 97:
            self._lost -= 1
        if sequence > self._highest:
            if self._highest >= 0:
                for missed in range(self._highest + 1, sequence):
                    self._wants[missed] = (self.world.now, 0)
                    self._lost += 1
            self._highest = sequence
            self._ask()

    def _ask(self) -> None:
        now, ask = self.world.now, []
        for sequence, (when, tries) in self._wants.items():
            if when <= now and tries < BROWSER_TRIES:
                ask.append(sequence)
                self._wants[sequence] = (now + BROWSER_RTT_S, tries + 1)
        if ask:
            self._report(rtcp.nack(1, SSRC, ask))

    def _report(self, request: bytes = b"") -> None:
        block = rtcp.ReportBlock(SSRC, 0, self._lost, max(0, self._highest), 0, 0, 0)
        self.up(rtcp.receiver_report(1, [block]) + request)


async def test_four_hops_of_five_per_cent_delay_a_frame_less_than_the_players_cushion() -> None:
    """The watch page keeps 0.4 s, and a gap of 0.2 s between frames needs one 0.56 s late."""
    late = sorted(Chain(4, 0.05, 1).play(40))
    assert len(late) > 900
    assert late[len(late) // 2] < 0.16
    assert late[99 * len(late) // 100] < 0.33
    assert late[-1] < 0.56
