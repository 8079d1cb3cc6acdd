"""A stream that comes from a parent: pull it, watch the parent, change to another one.

Two pulls of one stream may run side by side for a moment: both feed the same tracks, under the
same origin numbers, and what comes twice is dropped. So a node goes back to a preferred parent
without a gap, and looks for a better one while the present one is silent. A parent that has died
is left first; the next one is told what we have already and goes on from there.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from relay import tree, wish
from relay.errors import HandshakeFailed, Refused
from relay.parents import Parent, Parents
from relay.source import Source
from relay.tree import Verdict
from relay.uplink import Link

if TYPE_CHECKING:
    from relay.channel import Channel

log = logging.getLogger("relay.pull")

WATCH_EVERY_S = 0.05
REPULL_FOR_S = 60.0
# A second pull beside the first must be level with it within this time, or it is let go.
PROVE_S = 2.0
BETTER_EVERY_S = 2.0


@dataclass(slots=True, eq=False)
class Pull:
    """One session with one parent that feeds the stream."""

    parent: Parent
    link: Link
    source: Source
    telling: asyncio.Task[None]
    watch: tree.Watch = field(default_factory=tree.Watch)
    checked_s: float = 0.0
    began_s: float = field(default_factory=time.monotonic)


class Puller:
    """Keeps one channel fed from the parents, as long as its task runs.

    `have` is what the node below, whose request begins the pull, holds already.
    """

    def __init__(
        self, channel: Channel, parents: Parents, path: tuple[str, ...], have: dict[int, int]
    ) -> None:
        self.channel = channel
        self._have = have
        self._wish = wish.Wish(channel)
        self.parents = parents
        self.path = path
        self.pull: Pull | None = None
        self.refused: Refused | None = None
        self.changes = 0
        self._second: asyncio.Task[None] | None = None
        self._better_s = 0.0
        self._all: list[Pull] = []
        self._leaving: asyncio.Task[None] | None = None

    @property
    def source(self) -> Source | None:
        """What feeds the stream now."""
        return self.pull.source if self.pull is not None else None

    async def start(self) -> None:
        """Ask the parents in turn; returns when viewers can be answered, or Refused."""
        self.pull = await self._ask(None, tree.answer_time(self.path[:-1]))

    async def run(self) -> None:
        """The owner task: ends when no parent has had the stream for a minute, or cancelled."""
        try:
            while self.pull is not None:
                present = self.pull
                why = await self._feed(present)
                if self.pull is present:
                    log.warning(
                        "pull-lost stream=%s parent=%s why=%r", self.channel.name,
                        present.parent.url, why,
                    )  # fmt: skip
                    self.pull = None
                    present.parent.failed()
                self._let_go(present)
                if self.pull is None and not await self._again():
                    return
        finally:
            if self._second is not None:
                self._second.cancel()
            self.pull = None
            for pull in self._all:
                pull.telling.cancel()
            await asyncio.gather(*(p.parent.uplink.leave(p.link) for p in self._all))

    # ------------------------------------------------------------ asking

    async def _ask(self, but: Parent | None, within_s: float) -> Pull:
        """Ask one parent after the other for the stream; Refused with the best reason."""
        refused: Refused | None = None
        ends = time.monotonic() + within_s
        for parent in self.parents.in_order(time.monotonic(), but):
            left = ends - time.monotonic()
            if left < 0.05:
                break
            try:
                return await self._ask_one(parent, left)
            except Refused as exc:
                parent.failed()
                # "Not published" says more than "does not answer".
                refused = exc if refused is None or exc.status == 404 else refused
        raise refused or Refused(503, "This node has no parent that could be asked.", 2)

    async def _ask_one(self, parent: Parent, within_s: float) -> Pull:
        channel = self.channel
        # A node that lacks the stream goes on where the one that asks for it stopped.
        have = channel.stream.have() if channel.stream is not None else self._have
        link = await parent.uplink.pull(channel.name, self.path, within_s, have)
        stream = channel.use_formats(link.legs)
        before = self.pull.source if self.pull is not None else channel.last_pull_source
        source = Source(
            stream, link.peer, link.legs, channel.new_ssrc(), estimate=False, from_node=True
        )
        link.peer.handler = source
        wish.listen(link)
        source.on_need(self._wish.need)
        telling = channel.spawn(self._wish.tell(parent.uplink, link, source), "layers")
        pull = Pull(parent, link, source, telling)
        self._all.append(pull)
        channel.attach_pull(source, before)
        self.refused = None
        return pull

    async def _again(self) -> bool:
        """Try until a parent has the stream again; False after a minute in vain."""
        self.channel.source_gone_s = gone_s = time.monotonic()
        backoff = tree.Backoff()
        while True:
            try:
                self.pull = await self._ask(None, tree.ANSWER_WITHIN_S)
            except Refused as exc:
                self.refused = exc
                log.info("pull-refused stream=%s why=%r", self.channel.name, exc.sentence)
                if time.monotonic() - gone_s > REPULL_FOR_S:
                    return False
                await asyncio.sleep(backoff.wait_s(random.random()))
            else:
                self.changes += 1
                return True

    def _let_go(self, pull: Pull) -> None:
        """Leave a parent in the background: it may be dead, and viewers wait."""
        if pull in self._all:
            self._all.remove(pull)
            pull.telling.cancel()
            self._leaving = self.channel.spawn(pull.parent.uplink.leave(pull.link), "leave")

    # ------------------------------------------------------------ watching

    async def _feed(self, pull: Pull) -> str:
        """Connect a pull and watch over it until it has to be left; returns why."""
        uplink, peer = pull.parent.uplink, pull.link.peer
        if not peer.connected.is_set():
            try:
                await uplink.connect(pull.link)
            except HandshakeFailed as exc:
                return str(exc)
        while self.pull is pull:
            if peer.closed.is_set():
                return peer.why
            now = time.monotonic()
            verdict = pull.watch.judge(
                now,
                media=pull.source.last_media_s,
                heard=peer.last_heard_s,
                suspected=max(pull.parent.link_broken_s, 0.0),
                rtt=peer.rtt_s,
            )
            if verdict is Verdict.LEAVE:
                peer.lost("the parent no longer answers")
                return peer.why
            if uplink.consent(peer, now, urgent=verdict is Verdict.PROBE):
                peer.lost("consent expired")
                return peer.why
            self._consider(pull, verdict, now)
            try:
                async with asyncio.timeout(WATCH_EVERY_S):
                    await peer.closed.wait()
            except TimeoutError:
                continue
        return "another parent took over"

    def _consider(self, pull: Pull, verdict: Verdict, now: float) -> None:
        """Begin a second pull where that may be better than the present one."""
        if self._second is not None and not self._second.done():
            return
        if verdict is Verdict.SEEK or pull.parent.draining:
            others = self.parents.in_order(now, but=pull.parent)
            if others and not others[0].draining and now - self._better_s > BETTER_EVERY_S:
                self._better_s = now
                self._second = self.channel.spawn(self._move(pull, others[0]), "second")
        elif now - self._better_s > BETTER_EVERY_S and pull.source.last_media_s:
            self._better_s = now
            better = self.parents.better_than(pull.parent, now)
            if better is not None:
                self._second = self.channel.spawn(self._move(pull, better), "second")

    async def _move(self, present: Pull, to: Parent) -> None:
        """Pull from another parent beside the present one; keep it if it brings media."""
        try:
            second = await self._ask_one(to, tree.ANSWER_WITHIN_S)
        except Refused as exc:
            to.failed()
            log.info("move-refused stream=%s to=%s why=%r", self.channel.name, to.url, exc.sentence)
            return
        try:
            async with asyncio.timeout(PROVE_S):
                await to.uplink.connect(second.link)
                await second.source.level.wait()
        except (TimeoutError, HandshakeFailed) as exc:
            to.failed()
            log.info("move-failed stream=%s to=%s why=%r", self.channel.name, to.url, str(exc))
            self.channel.attach_pull(present.source, second.source)
            self._let_go(second)
            return
        if self.pull is not present:
            self._let_go(second)
            return
        log.info("moved stream=%s from=%s to=%s", self.channel.name, present.parent.url, to.url)
        self.pull = second
        self.changes += 1
