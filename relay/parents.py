"""The parents of this node, in order of preference, and how each of them is.

A heartbeat tells each parent that we are here and learns who is above it. A held connection
(`/api/link`) breaks at once when the parent's process dies; that is a suspicion, which the
pulls confirm by ICE checks before they leave.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable

import aiohttp

from relay import tree
from relay.uplink import Uplink

log = logging.getLogger("relay.parents")

HEARTBEAT_EVERY_S = 5.0
HEARTBEAT_SOON_S = 1.0
# A parent that could not be reached is tried after the others for this long.
SHUNNED_S = 4.0


class Parent:
    """One parent: its uplink and what the heartbeat knows. Times are of the monotonic clock."""

    def __init__(self, uplink: Uplink, rank: int) -> None:
        self.uplink = uplink
        self.url = uplink.url
        self.rank = rank
        self.state = "unreachable"
        self.error = ""
        self.rtt_ms = 0.0
        self.draining = False
        self.ancestors: tuple[str, ...] = ()
        self.healthy_since_s = 0.0
        self.link_broken_s = 0.0
        self.failed_s = -SHUNNED_S

    def failed(self) -> None:
        """Note that this parent did not serve us just now."""
        self.failed_s = time.monotonic()
        self.healthy_since_s = 0.0

    def report(self, state: str, error: str, now: float) -> None:
        """Take what a heartbeat found."""
        if error != self.error or state != self.state:
            level = logging.INFO if state == "connected" else logging.WARNING
            log.log(level, "parent url=%s state=%s why=%r", self.url, state, error)
        if state != "connected":
            self.healthy_since_s = 0.0
        elif not self.healthy_since_s:
            self.healthy_since_s = now
        self.state, self.error = state, error


class Parents:
    """All parents. `about` tells what the heartbeat says of this node, `heard` takes the answer."""

    def __init__(
        self,
        uplinks: list[Uplink],
        node_id: str,
        about: Callable[[], dict[str, object]],
        heard: Callable[[dict[str, object], float], None],
    ) -> None:
        self.all = [Parent(uplink, rank) for rank, uplink in enumerate(uplinks)]
        self._node_id = node_id
        self._about = about
        self._heard = heard
        # Siblings lose a parent at the same moment; they must not all return at the same moment.
        self._failback_s = tree.FAILBACK_AFTER_S * random.uniform(1.0, 2.0)

    def tasks(self) -> list[asyncio.Task[None]]:
        """Start the heartbeats and held connections."""
        return [
            asyncio.create_task(run(parent), name=f"{name}-{parent.rank}")
            for parent in self.all
            for name, run in (("heartbeat", self._heartbeat), ("link", self._hold_link))
        ]

    async def close(self) -> None:
        """Close the HTTP connections."""
        for parent in self.all:
            await parent.uplink.close()

    def in_order(self, now: float, but: Parent | None = None) -> list[Parent]:
        """Whom to ask, by preference; last those that failed just now or drain, `but` never."""
        usable = [p for p in self.all if p is not but and p.state != "loop"]
        shunned = {p: now - p.failed_s < SHUNNED_S or p.draining for p in usable}
        return sorted(usable, key=lambda p: (shunned[p], p.rank))

    def better_than(self, present: Parent, now: float) -> Parent | None:
        """A preferred parent that has been well for long enough to go back to, or None."""
        for parent in self.all[: present.rank]:
            well_s = now - parent.healthy_since_s if parent.healthy_since_s else 0.0
            if well_s > self._failback_s and not parent.draining:
                return parent
        return None

    @property
    def shown(self) -> Parent | None:
        """The parent to tell people about: the first that is connected, else the first."""
        well = [p for p in self.all if p.state == "connected"]
        return next(iter(well or self.all), None)

    # ------------------------------------------------------------ tasks

    async def _heartbeat(self, parent: Parent) -> None:
        """Tell the parent that we are here; learn who is above it."""
        uplink = parent.uplink
        while True:
            began = time.monotonic()
            try:
                async with uplink.http.post(
                    f"{uplink.url}/api/children", json=self._about(), headers=uplink.headers(())
                ) as response:
                    if response.status == 200:
                        self._above(parent, await response.json(), began)
                    else:
                        text = (await response.text())[:300].strip()
                        state = "loop" if response.status == 508 else "refused"
                        parent.report(state, text, began)
            except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as exc:
                reason = str(exc) or type(exc).__name__
                parent.report(
                    "unreachable", f"The parent {uplink.url} does not answer: {reason}", began
                )
            settled = parent.state == "connected"
            wait_s = HEARTBEAT_EVERY_S if settled else HEARTBEAT_SOON_S
            await asyncio.sleep(wait_s * random.uniform(0.8, 1.2))

    def _above(self, parent: Parent, answer: object, began: float) -> None:
        now = time.monotonic()
        about = answer if isinstance(answer, dict) else {}
        self._heard(about, now)
        parent.rtt_ms = round(1000 * (now - began), 2)
        parent.draining = bool(about.get("draining"))
        ids = about.get("ancestors")
        ids = ids if isinstance(ids, list) else []
        parent.ancestors = tuple(str(i)[:32] for i in ids[: tree.MAX_HOPS + 1])
        if self._node_id in parent.ancestors:
            sentence = "The parents form a loop: this node is above its own parent. Check --parent."
            parent.report("loop", sentence, now)
        else:
            parent.report("connected", "", now)

    async def _hold_link(self, parent: Parent) -> None:
        """Hold a connection to the parent; when it breaks the parent may have died."""
        uplink = parent.uplink
        endless = aiohttp.ClientTimeout(total=None, sock_connect=1.5)
        backoff = tree.Backoff()
        held = False
        while True:
            with contextlib.suppress(TimeoutError, aiohttp.ClientError, OSError):
                async with uplink.http.get(
                    f"{uplink.url}/api/link", headers=uplink.headers(()), timeout=endless
                ) as response:
                    if response.status == 200:
                        backoff.reset()
                        held = True
                        async for line in response.content:
                            parent.draining = parent.draining or line.strip() == b"draining"
                    else:
                        await asyncio.sleep(HEARTBEAT_EVERY_S)
                        continue
            if held:
                parent.link_broken_s = time.monotonic()
                held = False
            await asyncio.sleep(backoff.wait_s(random.random()))
