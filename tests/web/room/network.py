"""A tree of exchanges on a network that is made up: seeded, with a clock of its own.

Lines delay and break; what is on the way is lost, or arrives after its sender has gone. Nodes are
killed and come back as others; clients keep what the README says that they keep, and go where they
like. Every message passes through the parsers.
"""

from __future__ import annotations

import heapq
import itertools
import json
import random
from collections.abc import Callable, Mapping
from typing import Any

from tests.web.room.nodes import Keeper
from web.room import messages
from web.room.exchange import Desk, Exchange
from web.room.messages import ShownReceipt

ROOM = 5
POLL: dict[str, Any] = {"id": 7, "question": "?", "options": ["a", "b", "c"], "open": True}
STEP_S = 0.1


class Network:
    """The clock and what is on the way."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.now = 0.0
        self._order = itertools.count()
        self._due: list[tuple[float, int, Callable[[], None]]] = []

    def after(self, delay_s: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._due, (self.now + delay_s, self.number(), action))

    def run(self, until_s: float) -> None:
        while self._due and self._due[0][0] <= until_s:
            self.now, _, action = heapq.heappop(self._due)
            action()
        self.now = until_s

    def number(self) -> int:
        return next(self._order)

    def name(self) -> str:
        return f"{self.random.getrandbits(64):016x}"


class Numbered:
    """Sets hold these in the same order in each run of a seed."""

    def __init__(self, net: Network) -> None:
        self._number = net.number()

    def __hash__(self) -> int:
        return self._number


class Pipe:
    """One way of a connection: in order, each after its delay, until it is cut."""

    def __init__(self, net: Network, take: Callable[[str], None]) -> None:
        self._net = net
        self._take = take
        self._last_s = 0.0
        self.is_open = True
        self.drains = False
        """What is on the way when it is cut still arrives."""

    def send(self, message: dict[str, Any]) -> None:
        if not self.is_open:
            return
        text = json.dumps(message)
        when = max(self._last_s, self._net.now + self._net.random.uniform(0.005, 0.3))
        self._last_s = when
        self._net.after(when - self._net.now, lambda: self._arrive(text))

    def _arrive(self, text: str) -> None:
        if self.is_open or self.drains:
            self._take(text)


class Tie(Numbered):
    """A link between two nodes. Its upper end is the way that the parent has."""

    def __init__(self, net: Network, below: Host, above: Host) -> None:
        super().__init__(net)
        self.net = net
        self.below, self.above = below, above
        self.node = below.exchange.node_id
        self._of = (below.exchange, above.exchange)
        self.up = Pipe(net, self._arrive_up)
        self.down = Pipe(net, self._arrive_down)
        self.revisions: dict[int, tuple[int, int]] = {}
        above.exchange.child_came(self)
        below.exchange.new_parent()
        above.ties.add(self)
        below.tie = self

    def tell(self, message: dict[str, Any]) -> None:
        self.down.send(message)

    def _arrive_up(self, text: str) -> None:
        exchange = self.above.exchange
        if exchange is self._of[1]:
            exchange.from_below(self, messages.parse_up(text), self.net.now, lambda _room: True)

    def _arrive_down(self, text: str) -> None:
        if self.below.exchange is self._of[0]:
            self.below.exchange.from_above(messages.parse_down(text), self.net.now)

    def cut(self) -> None:
        """The connection breaks; both ends learn of it at once, or the upper one later."""
        if not self.up.is_open:
            return
        self.up.is_open = self.down.is_open = False
        self.up.drains = self.net.random.random() < 0.5
        self.below.tie = None
        self.above.ties.discard(self)
        delay = self.net.random.choice((0.0, 0.4, 2.0))

        def noticed() -> None:
            self.up.drains = False
            if self.above.exchange is self._of[1]:
                self._of[1].child_went(self, self.net.now)

        self.net.after(delay, noticed)


class Host:
    """A machine of the tree: its exchange, another one after each kill."""

    def __init__(self, net: Network, *, is_root: bool = False) -> None:
        self.net = net
        self.is_root = is_root
        self.alive = True
        self.tie: Tie | None = None
        self.ties: set[Tie] = set()
        self.callers: set[Call] = set()
        self.exchange = self._made()
        self._cut_s = -1.0

    def _made(self) -> Exchange:
        epoch = 1 if self.is_root else None
        exchange = Exchange(self.net.name(), epoch, self.net.name)
        exchange.state_changed = self._state_changed
        return exchange

    def _state_changed(self, desk: Desk) -> None:
        for way in list(desk.ways):
            assert isinstance(way, Tie)
            way.tell(self.exchange.state_message(desk, 0))
        for guest in list(desk.guests):
            assert isinstance(guest, Call)
            guest.told_state(desk)

    def kill(self) -> None:
        """All that it knew is gone; connections break."""
        for tie in [*self.ties, *([self.tie] if self.tie else [])]:
            tie.cut()
        for call in list(self.callers):
            call.drop()
        self.exchange = self._made()

    def step(self, keeper: Keeper) -> None:
        now = self.net.now
        if self.is_root:
            if now - self._cut_s >= 1.0:
                self._cut_s = now
                for room, poll, counts in self.exchange.settle(now)[0]:
                    keeper.tallied(room, poll, counts, sum(counts))
        elif self.tie is not None and now - self._cut_s >= 1.0:
            told = self.exchange.cut(now)
            if told is not None:
                self._cut_s = now
                self.tie.up.send(told)


class Voter:
    """A person with a browser: what it keeps, and the connection that it has, if any."""

    def __init__(self, net: Network, number: int) -> None:
        self.net = net
        self.seat = f"seat{number:018d}"
        self.choice: int | None = None
        self.receipt: dict[str, Any] | None = None
        self.waits = False
        self.call: Call | None = None

    def connect(self, host: Host) -> None:
        if self.call is not None:
            self.call.drop()
        self.call = Call(self.net, self, host)

    def answer(self, choice: int) -> None:
        """Press the button; final."""
        if self.choice is None:
            self.choice, self.waits = choice, True
            if self.call is not None and self.call.has_poll:
                self.call.send_answer()


class Call(Numbered):
    """One connection of a voter to a node: the guest there, and the page here."""

    who = "viewer"
    room = ROOM

    def __init__(self, net: Network, voter: Voter, host: Host) -> None:
        super().__init__(net)
        self.net = net
        self.voter = voter
        self.host = host
        self.seat = voter.seat
        self.has_poll = False
        self.node = ""
        self.receipts: Mapping[str, ShownReceipt] = {}
        if voter.receipt is not None:
            self.receipts = {"7": ShownReceipt.model_validate_json(json.dumps(voter.receipt))}
        self._exchange = host.exchange
        self.up = Pipe(net, self._said)
        self.down = Pipe(net, self._heard)
        self.up.drains = net.random.random() < 0.5
        host.callers.add(self)
        self.down.send({"t": "welcome", "node": host.exchange.node_id})
        host.exchange.join(self, net.now)
        desk = host.exchange.desks[ROOM]
        if desk.state.known:
            self.told_state(desk)

    # At the node.

    def tell(self, message: dict[str, Any]) -> None:
        self.down.send(message)

    def told_state(self, desk: Desk) -> None:
        self.down.send({"t": "state", "set": desk.state.since(0)})

    def _said(self, text: str) -> None:
        message = messages.parse(text)
        if self.host.exchange is self._exchange and not isinstance(message, messages.Hello):
            self._exchange.said(self, message, self.net.now, 0.0)

    def drop(self) -> None:
        """The connection breaks; the node learns of it some time later."""
        if not self.up.is_open:
            return
        self.up.is_open = self.down.is_open = False
        self.host.callers.discard(self)
        if self.voter.call is self:
            self.voter.call = None
        self.net.after(self.net.random.choice((0.0, 0.2, 3.0)), lambda: self._exchange.leave(self))

    # At the page.

    def _heard(self, text: str) -> None:
        told = json.loads(text)
        voter = self.voter
        if voter.call is not self:
            return
        if told["t"] == "welcome":
            self.node = told["node"]
        elif told["t"] == "state" and told["set"].get("poll") and not self.has_poll:
            self.has_poll = True
            if voter.waits:
                self.send_answer()
        elif told["t"] == "counted":
            voter.receipt = {**told["receipt"], "choice": voter.choice}
            voter.waits = False
            self.up.send({"t": "have", "poll": 7, "receipt": told["receipt"]})

    def send_answer(self) -> None:
        voter = self.voter
        assert voter.choice is not None
        if voter.receipt is None:
            voter.receipt = {"node": self.node, "n": 0, "choice": voter.choice}
        self.up.send({"t": "answer", "poll": 7, "choice": voter.choice})
