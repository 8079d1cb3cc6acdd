"""Crowds at a node: lets viewers in, sends them to siblings, hands them over when the node drains.

The decisions are in `admission`; here they meet the node's counters, its parent's answers and
the clock.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import time
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp

from relay import rtcp
from relay.access import WORKER_SUBJECT
from relay.admission import (
    SIBLING_FRESH_S,
    USUAL_PACKETS_PER_S,
    WINDOW_S,
    Admission,
    Limits,
    Siblings,
    Usage,
    handover_group,
)
from relay.errors import Refused

if TYPE_CHECKING:
    from relay.channel import Channel, Session
    from relay.node import Child, Node, Request

log = logging.getLogger("relay.crowd")

ASK_SIBLINGS_EVERY_S = 2.0
HANDOVER_STEP_S = 0.1
# Of the time given, this share is for handing over; the rest is for nodes below and stragglers.
HANDOVER_SHARE = 0.7
# Who was told goodbye asks again to hear where to go; a slow browser takes a second for that.
ASK_AGAIN_S = 3.0
# A child learns of it with its next report, so a drain cannot well be shorter than that.
MAX_SIBLINGS = 16
# Of the memory that the process may use.
MEMORY_SHARE = 0.85


class Crowd:
    """Belongs to the asyncio loop. `drained` is set when the node may stop."""

    def __init__(self, node: Node) -> None:
        limits = node.config.limits
        if not limits.max_memory_bytes:
            most = round(MEMORY_SHARE * memory_limit())
            limits = Limits(limits.max_viewers, limits.max_packets_per_s, limits.max_cpu, most)
        self.admission = Admission(limits)
        self.siblings = Siblings()
        self.drained = asyncio.Event()
        self.joins = 0  # viewers let in, those who have left among them
        self.handed_over = 0
        self._sent_on = 0
        # Set while everybody who was told goodbye has been told where to go.
        self._all_asked = asyncio.Event()
        self._all_asked.set()
        self._node = node
        self._rates: dict[str, float] = {}
        self._before: dict[str, int] = {}
        self._before_s = 0.0
        self._drain: asyncio.Task[None] | None = None

    # ------------------------------------------------------------ letting in

    def sample(self, now: float) -> None:
        """Take the node's counters; called by its sweep."""
        port = self._node.port
        usage = Usage(port.fanout.counters.packets, port.busy_s, resident_bytes())
        self.admission.sample(now, usage)
        self.siblings.forget(now)
        gone = now - self._before_s
        if gone < WINDOW_S:
            return
        counts = {
            c.name: sum(t.packets for t in c.stream.tracks.values())
            for c in self._node.channels.values()
            if c.stream is not None
        }
        self._rates = {
            name: max(0.0, count - self._before[name]) / gone
            for name, count in counts.items()
            if name in self._before
        }
        self._before, self._before_s = counts, now

    def _packets_per_s(self, name: str) -> float:
        return self._rates.get(name) or USUAL_PACKETS_PER_S

    def admit(self, name: str, request: Request) -> None:
        """Refused, with a sibling where one has room, when this node takes nobody more."""
        self.check_draining(request)
        now = time.monotonic()
        reason = self.admission.refuse(
            now,
            self._viewers(),
            self._packets_per_s(name),
            relay=bool(request.relay_id),
        )
        if reason is not None:
            retry_s = self.admission.retry_after_s(now, random.random())
            sibling = self._sibling_for(request, now)
            raise Refused(503, reason.sentence, retry_s, reason=reason.value, sibling=sibling)

    def check_draining(self, request: Request) -> None:
        """Refused while this node is being taken out of service."""
        if self._node.draining:
            now = time.monotonic()
            sentence = "This node is being taken out of service; another one takes its place."
            retry_s = 2 + round(4 * random.random())
            sibling = self._sibling_for(request, now)
            self._sent_on += 1
            if self._sent_on >= self.handed_over:
                self._all_asked.set()
            raise Refused(503, sentence, retry_s, reason="draining", sibling=sibling)

    def _sibling_for(self, request: Request, now: float) -> str:
        # A node below has parents of its own to turn to; who was sent here is not sent on.
        if request.relay_id or request.redirected:
            return ""
        return self.siblings.choose(now)

    def joined(self, session: Session) -> None:
        """Count a viewer ahead, as long as it is there."""
        self.joins += not session.relay_id
        ticket = self.admission.joined(time.monotonic(), self._packets_per_s(session.channel.name))
        assert session.task is not None
        session.task.add_done_callback(lambda _: self.admission.left(ticket))

    def _viewers(self) -> int:
        team = self._node.team
        return len(self._node.viewers) + (team.viewers if team is not None else 0)

    def room(self, now: float) -> int:
        """How many more viewers this node takes, its workers included."""
        team, most = self._node.team, self.admission.limits.max_viewers
        room = self.own_room(now)
        if team is None or self._node.draining:
            return room
        room += team.room
        return min(room, max(0, most - self._viewers())) if most else room

    def own_room(self, now: float) -> int:
        """How many more viewers this process takes."""
        if self._node.draining or self._node.stopping.is_set():
            return 0
        usual = max(self._rates.values(), default=USUAL_PACKETS_PER_S)
        return self.admission.room(now, self._viewers(), usual or USUAL_PACKETS_PER_S)

    def snapshot(self) -> dict[str, object]:
        """The object "load" of /api/node."""
        admission, now = self.admission, time.monotonic()
        limits = admission.limits
        return {
            "cpu": round(admission.cpu, 3),
            "packets_per_s": round(admission.packets_per_s),
            "memory_bytes": admission.memory_bytes,
            "max_viewers": limits.max_viewers,
            "max_packets_per_s": limits.max_packets_per_s,
            "max_memory_bytes": limits.max_memory_bytes,
            "room": self.room(now),
            "refused": admission.refused,
            "siblings_room": self.siblings.room(now),
            "draining": self._node.draining,
            "handed_over": self.handed_over,
        }

    # ------------------------------------------------------------ siblings

    def for_child(self, child: Child) -> dict[str, object]:
        """What a child is told besides its ancestors: its siblings with room, and our drain."""
        now = time.monotonic()
        others = [
            other
            for other in self._node.children.values()
            if other.id != child.id
            and other.tier == child.tier
            and other.room > 0
            and now - other.seen_s < SIBLING_FRESH_S
        ]
        others.sort(key=lambda other: -other.room)
        siblings = [
            {"url": o.public_url or o.url, "room": o.room, "age_s": round(now - o.seen_s, 1)}
            for o in others[:MAX_SIBLINGS]
        ]
        return {"siblings": siblings, "draining": self._node.draining}

    def heard_from_above(self, answer: dict[str, object], now: float) -> None:
        """Take what a parent says about siblings."""
        siblings = answer.get("siblings")
        for one in siblings[:MAX_SIBLINGS] if isinstance(siblings, list) else []:
            match one:
                case {"url": str(url), "room": int(room), "age_s": int(age) | float(age)}:
                    if url.startswith(("http://", "https://")) and len(url) < 256:
                        self.siblings.heard(url, room, now - max(0.0, age))
                case _:
                    pass

    async def ask_siblings(self) -> None:
        """Ask the siblings that the settings name how much room they have, again and again."""
        timeout = aiohttp.ClientTimeout(total=1.5)
        async with aiohttp.ClientSession(timeout=timeout) as http:
            while True:
                await asyncio.gather(*(self._ask(http, u) for u in self._node.config.siblings))
                await asyncio.sleep(ASK_SIBLINGS_EVERY_S * random.uniform(0.8, 1.2))

    async def _ask(self, http: aiohttp.ClientSession, url: str) -> None:
        try:
            async with http.get(f"{url}/api/room") as response:
                answer = await response.json()
                room = answer["room"]
                if isinstance(room, int) and answer.get("id") != self._node.id:
                    self.siblings.heard(url, room, time.monotonic())
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError, KeyError, TypeError):
            self.siblings.heard(url, 0, time.monotonic())

    # ------------------------------------------------------------ drain

    def start_drain(self, seconds: float, *, elsewhere: bool = False) -> None:
        """Begin to hand the viewers over; `drained` is set after `seconds` at the latest.

        `elsewhere`: they have a place to go to, whether this node knows a sibling or not.
        """
        if self._drain is None:
            self._node.draining = True
            self._drain = asyncio.create_task(self._hand_over(seconds, elsewhere), name="drain")

    async def _hand_over(self, seconds: float, elsewhere: bool) -> None:
        node = self._node
        began = time.monotonic()
        log.info("drain-start seconds=%.1f viewers=%d", seconds, len(node.viewers))
        try:
            async with asyncio.timeout(seconds):
                if node.team is not None:
                    await node.team.drain(seconds)
                while self._is_watched():
                    now = time.monotonic()
                    here = node.viewers
                    left_s = began + HANDOVER_SHARE * seconds - now
                    group = handover_group(len(here), left_s, HANDOVER_STEP_S)
                    # A viewer without a place to go to is better off here until the end.
                    room = len(here) if elsewhere else self.siblings.room(now)
                    for session in here[: min(group, room)]:
                        self._send_on(session)
                    await asyncio.sleep(HANDOVER_STEP_S)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(ASK_AGAIN_S):
                        await self._all_asked.wait()
        except TimeoutError:
            log.info("drain-late viewers=%d", len(node.viewers))
        finally:
            self.drained.set()
        log.info("drain-end handed_over=%d", self.handed_over)

    def _is_watched(self) -> bool:
        """Whether viewers or nodes below are still served here."""
        team = self._node.team
        if team is not None and team.viewers:
            return True
        return any(c.viewers for c in self._node.channels.values() if not self._only_workers(c))

    def _only_workers(self, channel: Channel) -> bool:
        return all(s.subject == WORKER_SUBJECT for s in channel.viewers)

    def _send_on(self, session: Session) -> None:
        """End a viewer's session with RTCP BYE and a DTLS close; it asks anew and is sent on."""
        viewer = session.viewer
        if viewer is None or session.task is None or session.peer.why:
            return
        target = session.peer.target
        if target is not None:
            compound = rtcp.receiver_report(0, [])
            compound += rtcp.bye([t.ssrc for t in viewer.stream.tracks.values()])
            self._node.port.call(viewer.stream.send_control, target, compound)
        session.peer.why = "handed over to a sibling"
        session.task.cancel()
        self.handed_over += 1
        self._all_asked.clear()


def resident_bytes() -> int:
    """The memory that this process holds, 0 where the system does not say."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")
    return 0


def memory_limit() -> int:
    """The memory that this process may hold: its control group's or the machine's, 0 unknown."""
    found = 0
    with contextlib.suppress(OSError, ValueError):
        found = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with contextlib.suppress(OSError, ValueError):
        text = Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii").strip()
        if text.isdecimal():
            found = min(found, int(text)) if found else int(text)
    return found
