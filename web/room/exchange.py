"""One node's part in the rooms: what comes from clients, from below and from above (pure).

Nothing here waits or sends: whoever owns an `Exchange` hands messages and the time in, takes the
report for the parent out (`cut`), and gives it guests and ways below that can be told something.
`hub` and `link` are the sockets around it.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, cast

from web.room import messages
from web.room.events import Held, Outbox, name_of, vote_name
from web.room.messages import BadMessage, Said, ShownReceipt
from web.room.root import Event, Kind
from web.room.state import RoomState
from web.room.tally import Booth, Claim, Claims, Count, Fence, Receipt, Sum, Sums, Verdict, seat_key

MOST_ROOMS: Final = 1000
MOST_POLLS: Final = 8
"""Polls of a room that a node remembers; the oldest is forgotten."""
PRESENCE_GRACE_S: Final = 2.0
"""Who is below a child stays present for so long when its line breaks: it comes back elsewhere."""
AFTER_CLOSE_S: Final = 20.0
"""So long after a poll was closed an answer that was given before is still asked after."""
MOST_GONE: Final = 20_000

Message = dict[str, Any]


class Guest(Protocol):
    """A client of this node in one room."""

    room: int
    who: str
    seat: str
    receipts: Mapping[str, ShownReceipt]

    def tell(self, message: Message) -> None:
        """Send it a message."""


class Way(Protocol):
    """A link to a node below."""

    node: str

    def tell(self, message: Message) -> None:
        """Send it a message."""


def site_of(who: str) -> int | None:
    """The number of a site by its name, such as "site:12"; None for another."""
    kind, _, number = who.partition(":")
    return int(number) if kind == "site" else None


def fault(code: str, sentence: str) -> Message:
    """What a client is told when something is refused."""
    return {"t": "error", "code": code, "sentence": sentence}


@dataclass(slots=True)
class _Asked:
    """A client's answer that the root is asked about."""

    turn: int
    choice: int
    receipt: Receipt
    guest: Guest


class Poll:
    """One poll at this node: its own clients' answers, and the sums of those below."""

    def __init__(self, poll: int, node_id: str, options: int, *, is_root: bool) -> None:
        self.id = poll
        self.options = options
        self.booth = Booth(poll, node_id, options)
        self.sums = Sums()
        self.claims = Claims()
        self.count = Count(options) if is_root else None
        self.asked: dict[str, _Asked] = {}
        self.told = [0] * options


@dataclass(slots=True)
class _Below:
    """Who is below a child. gone_s: since when its line is broken, None: it holds."""

    sites: frozenset[int] = frozenset()
    viewers: int = 0
    gone_s: float | None = None


@dataclass(slots=True, eq=False)
class Desk:
    """One room at this node."""

    room: int
    state: RoomState
    guests: set[Guest] = field(default_factory=set)
    sites: Counter[int] = field(default_factory=Counter)
    seats: dict[str, list[Guest]] = field(default_factory=dict)
    """By seat, the last one to come at the end: what that one shows is the newest."""
    ways: set[Way] = field(default_factory=set)
    below: dict[str, _Below] = field(default_factory=dict)
    polls: dict[int, Poll] = field(default_factory=dict)
    closed_s: dict[int, float] = field(default_factory=dict)
    told: tuple[frozenset[int], int] = (frozenset(), 0)
    asked: bool = False
    shown: tuple[object, object] = (None, None)

    def presence(self) -> tuple[frozenset[int], int]:
        """The sites that are here and below, and how many others."""
        sites = set(self.sites)
        viewers = len(self.guests) - self.sites.total()
        for below in self.below.values():
            sites |= below.sites
            viewers += below.viewers
        return frozenset(sites), viewers


class Exchange:
    """All rooms of one node. `epoch`: of its state if it is the root, None if it is not."""

    def __init__(
        self,
        node_id: str,
        epoch: int | None = None,
        new_name: Callable[[], str] = lambda: secrets.token_urlsafe(16),
    ) -> None:
        self.node_id = node_id
        self.is_root = epoch is not None
        self._epoch = epoch or 0
        self._new_name = new_name
        self.desks: dict[int, Desk] = {}
        self.outbox = Outbox()
        self._newest: dict[str, Way] = {}
        # Node -> the ways that name it; one that it has left may do so a moment longer.
        self._via: dict[str, list[Way]] = {}
        self._gone_s: dict[str, float] = {}
        self._news: dict[str, bool] = {}
        self._turn = 0
        self.wake: Callable[[], None] = lambda: None
        """Called when there is something for the parent, or for the root's keeper."""
        self.state_changed: Callable[[Desk], None] = lambda _desk: None
        """Called when a room's state is another one."""
        self.ended: Callable[[Desk], None] = lambda _desk: None
        """Called when a room is no more."""

    # ------------------------------------------------------------ rooms

    def desk(self, room: int) -> Desk | None:
        """A room, which is opened here if it is not; None: there are too many."""
        found = self.desks.get(room)
        if found is None and len(self.desks) < MOST_ROOMS:
            found = self.desks[room] = Desk(room, RoomState(self._epoch))
            self.wake()
        return found

    def set(self, room: int, key: str, value: object, now: float) -> None:
        """Set a key of a room's state; only at the root."""
        desk = self.desk(room)
        if desk is not None and desk.state.set(key, value):
            self._new_state(desk, now)

    def end(self, room: int) -> None:
        """There is no such room any more: everybody is told, and it is forgotten."""
        desk = self.desks.pop(room, None)
        if desk is None:
            return
        for way in list(desk.ways):
            way.tell({"t": "unknown", "room": room})
        self.ended(desk)

    def _new_state(self, desk: Desk, now: float) -> None:
        said = desk.state.get("poll")
        if isinstance(said, dict):
            poll_id, options = said.get("id"), said.get("options")
            if isinstance(poll_id, int) and isinstance(options, list):
                self._poll(desk, poll_id, len(options))
                if said.get("open") is True:
                    desk.closed_s.pop(poll_id, None)
                else:
                    desk.closed_s.setdefault(poll_id, now)
                # Only then is there something new to ask about; there may be thousands of guests.
                if desk.shown != (poll_id, said.get("open")):
                    desk.shown = (poll_id, said.get("open"))
                    for guests in desk.seats.values():
                        self._show(desk, guests[-1], now)
        self.state_changed(desk)

    def _poll(self, desk: Desk, poll: int, options: int) -> Poll | None:
        found = desk.polls.get(poll)
        if found is None and 1 <= options <= messages.MOST_OPTIONS:
            while len(desk.polls) >= MOST_POLLS:
                oldest = next(iter(desk.polls))
                del desk.polls[oldest]
                desk.closed_s.pop(oldest, None)
            found = Poll(poll, self.node_id, options, is_root=self.is_root)
            desk.polls[poll] = found
        return found

    # ------------------------------------------------------------ clients

    def join(self, guest: Guest, now: float) -> bool:
        """A client has come; False: there is no place for its room."""
        desk = self.desk(guest.room)
        if desk is None:
            return False
        desk.guests.add(guest)
        if (site := site_of(guest.who)) is not None:
            desk.sites[site] += 1
        desk.seats.setdefault(guest.seat, []).append(guest)
        self._show(desk, guest, now)
        self.wake()
        return True

    def leave(self, guest: Guest) -> None:
        """A client has gone; what it asked about its answers is dropped."""
        desk = self.desks.get(guest.room)
        if desk is None or guest not in desk.guests:
            return
        desk.guests.discard(guest)
        if (site := site_of(guest.who)) is not None:
            desk.sites[site] -= 1
            desk.sites += Counter()  # without those that are at zero
        others = desk.seats.get(guest.seat, [])
        if guest in others:
            others.remove(guest)
        if not others:
            desk.seats.pop(guest.seat, None)
            for poll in desk.polls.values():
                key = seat_key(poll.id, guest.seat)
                if poll.asked.pop(key, None) is not None:
                    poll.claims.drop(key, poll.booth.incarnation)
        self.wake()

    def said(self, guest: Guest, message: Said, now: float, at: float) -> None:
        """A client's message. `now` is monotonic, `at` are Unix seconds."""
        desk = self.desks.get(guest.room)
        if desk is None or guest not in desk.guests:
            return
        match message:
            case messages.Answer():
                self._answer(desk, guest, message, now)
            case messages.Have():
                poll = desk.polls.get(message.poll)
                if poll is not None and message.receipt is not None:
                    receipt = Receipt(message.receipt.node, message.receipt.n)
                    poll.booth.have(seat_key(poll.id, guest.seat), receipt)
            case messages.SealedVote():
                self._vote(desk, guest, message)
            case messages.Say():
                chat = desk.state.get("chat")
                if not (isinstance(chat, dict) and chat.get("on") is True):
                    guest.tell(fault("chat-off", "Questions are not open in this meeting now."))
                    return
                self._event(guest, "say", message.id, at, {"text": message.text})
            case _ if not guest.who.startswith("site:"):
                guest.tell(fault("rights", "Only a site can do this."))
            case messages.Hand():
                self._event(guest, "hand", "", at, {"up": message.up, "text": message.text})
            case messages.LineTest():
                self._event(guest, "linetest", message.id, at, {"result": message.result})
            case messages.RollCall():
                data = {"presence": message.presence, "people": message.people}
                self._event(guest, "rollcall", message.id, at, data)
            case messages.Media():
                data = {
                    "camera": message.camera,
                    "microphone": message.microphone,
                    "hidden": message.hidden,
                }
                self._event(guest, "media", "", at, data)

    def _event(
        self, guest: Guest, kind: Kind, name: str, at: float, data: Mapping[str, object]
    ) -> None:
        id = name_of(guest.room, guest.seat, kind, name) if name else self._new_name()
        event = Event(id, kind, guest.who, at, data)
        self._hold(guest, event, name or kind)

    def _vote(self, desk: Desk, guest: Guest, message: messages.SealedVote) -> None:
        ballot = desk.state.get("ballot")
        known = isinstance(ballot, dict) and ballot.get("id") == message.ballot
        if not (known and isinstance(ballot, dict) and ballot.get("open") is True):
            guest.tell(fault("closed", "This ballot is not open."))
            return
        data = {"ballot": message.ballot, "vote": dict(message.vote)}
        event = Event(vote_name(message.ballot, message.vote), "ballot", "", 0.0, data)
        self._hold(guest, event, f"ballot {message.ballot}")

    def _hold(self, guest: Guest, event: Event, name: str) -> None:
        replaced = self.outbox.add(guest.room, event, guest, name)
        if replaced is None:
            guest.tell(fault("busy", "This node has too much to pass on; try again soon."))
            return
        self._tell_kept(replaced)
        self.wake()

    # ------------------------------------------------------------ answers

    def _answer(self, desk: Desk, guest: Guest, message: messages.Answer, now: float) -> None:
        said = desk.state.get("poll")
        if not (isinstance(said, dict) and said.get("id") == message.poll):
            guest.tell(fault("closed", "This question is not asked any more."))
            return
        poll = desk.polls.get(message.poll)
        if poll is None or message.choice >= poll.options:
            guest.tell(fault("choice", "This question has no such answer."))
            return
        key = seat_key(poll.id, guest.seat)
        if poll.booth.receipt(key) is not None:
            self._counted(poll, key, [guest])
        elif key in poll.asked:
            return  # the root is asked whether it is counted; then the client is told
        elif said.get("open") is not True:
            guest.tell(fault("closed", "This question is closed."))
        elif poll.booth.barred(key):
            guest.tell(fault("elsewhere", "Another node counts this answer: load the page again."))
        elif poll.booth.full():
            guest.tell(fault("full", "This node takes no more answers."))
        else:
            poll.booth.count(key, message.choice)
            self._counted(poll, key, [guest])
            self.wake()

    def _counted(self, poll: Poll, key: str, guests: Iterable[Guest]) -> None:
        receipt = poll.booth.receipt(key)
        if receipt is None:
            return
        message: Message = {
            "t": "counted",
            "poll": poll.id,
            "receipt": {"node": receipt.incarnation, "n": receipt.n},
        }
        choice = poll.booth.choice(key)
        if choice is not None:
            message["choice"] = choice
        for guest in guests:
            guest.tell(message)

    def _show(self, desk: Desk, guest: Guest, now: float) -> None:
        """A client's receipts, as far as their polls are known here."""
        for name, shown in guest.receipts.items():
            poll = desk.polls.get(int(name)) if name.isascii() and name.isdecimal() else None
            if poll is None or shown.choice >= poll.options:
                continue
            key = seat_key(poll.id, guest.seat)
            incarnation = shown.node if "." in shown.node else f"{shown.node}.0"
            is_own = incarnation.partition(".")[0] == self.node_id
            if not shown.n:
                poll.booth.name(key)
            known = poll.booth.receipt(key)
            if known is not None and (is_own or not shown.n or known.incarnation == incarnation):
                self._counted(poll, key, [guest])
                continue
            closed_s = desk.closed_s.get(poll.id)
            if (closed_s is not None and now - closed_s > AFTER_CLOSE_S) or poll.booth.full():
                continue
            if is_own and not poll.booth.barred(key):
                # It never came here, or the answer went under with the line.
                poll.booth.count(key, shown.choice)
                self._counted(poll, key, [guest])
                self.wake()
                continue
            # What a client shows is newer than what this node knows: it may have been counted
            # elsewhere while this node was cut off.
            receipt, asked = Receipt(incarnation, shown.n), poll.asked.get(key)
            if asked is None or asked.receipt != receipt:
                self._ask(poll, key, receipt, shown.choice, guest, now)

    def _ask(
        self, poll: Poll, key: str, receipt: Receipt, choice: int, guest: Guest, now: float
    ) -> None:
        self._turn += 1
        poll.asked[key] = _Asked(self._turn, choice, receipt, guest)
        asker = poll.booth.incarnation
        poll.claims.ask(Claim(key, receipt.incarnation, receipt.n, asker, self._turn), None, now)
        self.wake()

    def _own_verdict(self, desk: Desk, poll: Poll, verdict: Verdict) -> None:
        asked = poll.asked.get(verdict.seat)
        if asked is None or asked.turn != verdict.turn:
            return
        del poll.asked[verdict.seat]
        if verdict.receipt is None:
            poll.booth.name(verdict.seat)
            poll.booth.count(verdict.seat, asked.choice)
            self.wake()
        else:
            poll.booth.elsewhere(verdict.seat, verdict.receipt)
        self._counted(poll, verdict.seat, desk.seats.get(asked.guest.seat, ()))

    def _own_fence(self, desk: Desk, poll: Poll, fence: Fence, now: float) -> None:
        before = poll.booth.incarnation
        moved, taken = poll.booth.fence(fence)
        if not moved and not taken and before == poll.booth.incarnation:
            self.wake()
            return
        by_key = {seat_key(poll.id, seat): seat for seat in desk.seats}
        for key in moved:
            if key in by_key:
                self._counted(poll, key, desk.seats[by_key[key]])
        for key, choice in taken.items():
            if key not in by_key or key in poll.asked:
                continue
            if poll.booth.receipt(key) is not None:
                self._counted(poll, key, desk.seats[by_key[key]])
            else:
                guest = desk.seats[by_key[key]][-1]
                self._ask(poll, key, Receipt(fence.incarnation, 0), choice, guest, now)
        for key, asked in list(poll.asked.items()):
            poll.claims.drop(key, before)
            self._ask(poll, key, asked.receipt, asked.choice, asked.guest, now)
        self.wake()

    # ------------------------------------------------------------ from below

    def child_came(self, way: Way) -> None:
        """A link to a node below is open; what an older one of it still brings is not heeded."""
        self._newest[way.node] = way
        self._here(way.node, way)

    def child_went(self, way: Way, now: float) -> None:
        """A link to a node below has broken."""
        if self._newest.get(way.node) is way:
            del self._newest[way.node]
        for node in [node for node, by in self._via.items() if way in by]:
            self._gone(node, way, now)
        for desk in self.desks.values():
            desk.ways.discard(way)
            below = desk.below.get(way.node)
            if below is not None and not any(w.node == way.node for w in desk.ways):
                below.gone_s = now
            for poll in desk.polls.values():
                poll.claims.forget(way)
        self.wake()

    def _here(self, node: str, way: Way) -> None:
        if node not in self._via:
            self._news[node] = True
        by = self._via.setdefault(node, [])
        if way not in by:
            by.append(way)
        self._gone_s.pop(node, None)

    def _gone(self, node: str, way: Way, now: float) -> None:
        by = self._via.get(node, [])
        if way in by:
            by.remove(way)
        if by or node not in self._via:
            return
        del self._via[node]
        self._news[node] = False
        self._gone_s[node] = now
        while len(self._gone_s) > MOST_GONE:
            del self._gone_s[next(iter(self._gone_s))]

    def seen_s(self, node: str, now: float) -> float | None:
        """When a node was last there, None if it never was."""
        if node == self.node_id or node in self._via:
            return now
        return self._gone_s.get(node)

    def from_below(
        self, way: Way, up: messages.Up, now: float, knows: Callable[[int], bool]
    ) -> None:
        """A child's report. Raises BadMessage when there is no room for it: its link is to end.

        `knows`: whether the root has such a room (asked at the root only).
        """
        if self._newest.get(way.node) is not way:
            return
        for node in up.here:
            self._here(node, way)
        for node in up.gone:
            self._gone(node, way, now)
        for name, told in up.rooms.items():
            room = int(name) if name.isascii() and name.isdecimal() and len(name) < 16 else 0
            if not room or (self.is_root and room not in self.desks and not knows(room)):
                way.tell({"t": "unknown", "room": room or 1})
                continue
            desk = self.desk(room)
            if desk is None:
                way.tell({"t": "unknown", "room": room})
                continue
            self._room_told(desk, way, told, now)
        self.wake()

    def _room_told(self, desk: Desk, way: Way, told: messages.RoomTold, now: float) -> None:
        if way not in desk.ways:
            desk.ways.add(way)
            if desk.state.known:
                way.tell(self.state_message(desk, 0))
        below = desk.below.setdefault(way.node, _Below())
        below.gone_s = None
        if told.sites is not None:
            below.sites = frozenset(told.sites)
        if told.viewers is not None:
            below.viewers = told.viewers
        for name, news in told.polls.items():
            number = int(name) if name.isascii() and name.isdecimal() and len(name) < 16 else 0
            poll = self._poll(desk, number, news.options) if number else None
            if poll is None:
                continue
            for incarnation, one in news.sums.items():
                taken = Sum(one.n, tuple(one.counts), frozenset(one.doubtful), tuple(one.continues))
                if len(taken.counts) == poll.options:
                    self._take_sum(desk, poll, incarnation, taken, now)
            for claim in news.claims:
                asked = Claim(claim.seat, claim.incarnation, claim.n, claim.asker, claim.turn)
                poll.claims.ask(asked, way, now)
        done = []
        for one_event in told.events:
            event = Event(one_event.id, one_event.kind, one_event.who, one_event.at, one_event.data)
            replaced = self.outbox.add(desk.room, event, way, "")
            if replaced is None:
                # The child keeps it, and tells it again by its next link.
                raise BadMessage("busy", "This node has too much to pass on.")
            done += replaced
        self._tell_kept(done)

    def _take_sum(self, desk: Desk, poll: Poll, incarnation: str, told: Sum, now: float) -> None:
        if poll.count is None:
            poll.sums.take(incarnation, told)
            return
        fence = poll.count.take(incarnation, told)
        if fence is not None:
            self._pass_fence(desk, poll, fence, now)

    def _pass_fence(self, desk: Desk, poll: Poll, fence: Fence, now: float) -> None:
        """To the node whose incarnation it is, if it is here or below."""
        poll.sums.fence(fence)
        if fence.incarnation != poll.booth.incarnation:
            poll.claims.drop_all(fence.incarnation)
        node = fence.incarnation.partition(".")[0]
        if node == self.node_id:
            self._own_fence(desk, poll, fence, now)
            return
        for way in self._via.get(node, ()):
            way.tell(
                {
                    "t": "fence",
                    "room": desk.room,
                    "poll": poll.id,
                    "incarnation": fence.incarnation,
                    "k": fence.k,
                    "counts": list(fence.counts),
                    "claimed": list(fence.claimed),
                }
            )

    def _pass_verdict(self, desk: Desk, poll: Poll, verdict: Verdict) -> None:
        asked, way = poll.claims.answered(verdict)
        if not asked:
            return
        if way is None:
            self._own_verdict(desk, poll, verdict)
            return
        receipt = verdict.receipt
        cast(Way, way).tell(
            {
                "t": "verdict",
                "room": desk.room,
                "poll": poll.id,
                "seat": verdict.seat,
                "asker": verdict.asker,
                "turn": verdict.turn,
                "receipt": None if receipt is None else [receipt.incarnation, receipt.n],
            }
        )

    def _tell_kept(self, held: Iterable[Held]) -> None:
        by_way: dict[int, tuple[Way, list[str]]] = {}
        for one in held:
            origin: Any = one.origin
            if one.name:
                origin.tell({"t": "kept", "id": one.name})
            else:
                by_way.setdefault(id(origin), (origin, []))[1].append(one.event.id)
        for way, ids in by_way.values():
            way.tell({"t": "kept", "ids": ids})

    # ------------------------------------------------------------ from above

    def from_above(self, down: messages.Down, now: float) -> None:
        """The parent's message."""
        match down:
            case messages.Kept():
                self.kept(down.ids)
                return
            case messages.Unknown():
                self.end(down.room)
                return
        desk = self.desks.get(down.room)
        if desk is None:
            return
        if isinstance(down, messages.StateTold):
            if desk.state.take(down.v, down.set, whole=down.whole):
                self._new_state(desk, now)
            return
        poll = desk.polls.get(down.poll)
        if poll is None:
            return
        if isinstance(down, messages.FenceTold):
            fence = Fence(down.incarnation, down.k, tuple(down.counts), tuple(down.claimed))
            self._pass_fence(desk, poll, fence, now)
            return
        receipt = None if down.receipt is None else Receipt(*down.receipt)
        self._pass_verdict(desk, poll, Verdict(down.seat, down.asker, down.turn, receipt))

    def state_message(self, desk: Desk, revision: int) -> Message:
        """A room's keys for a child that has those up to a revision, 0: none."""
        return {
            "t": "state",
            "room": desk.room,
            "v": list(desk.state.version),
            "whole": revision == 0,
            "set": desk.state.since(revision),
        }

    def kept(self, ids: Iterable[str]) -> None:
        """The root has these events."""
        self._tell_kept(self.outbox.kept(ids))

    # ------------------------------------------------------------ up

    def new_parent(self) -> None:
        """A link to a parent is open: it is told everything."""
        self.outbox.again()
        self._news = dict.fromkeys((self.node_id, *self._via), True)
        for desk in self.desks.values():
            desk.asked = False
            desk.told = (frozenset(), -1)
            for poll in desk.polls.values():
                poll.sums.all_again()
                poll.claims.again()

    def tick(self, now: float) -> None:
        """Forget who was below children that have not come back."""
        for desk in self.desks.values():
            for node in [
                node
                for node, below in desk.below.items()
                if below.gone_s is not None and now - below.gone_s >= PRESENCE_GRACE_S
            ]:
                del desk.below[node]

    def cut(self, now: float) -> Message | None:
        """What the parent is told now; None: nothing."""
        self.tick(now)
        rooms: dict[str, Message] = {}
        for desk in self.desks.values():
            told = self._cut_room(desk, now)
            if told is not None:
                rooms[str(desk.room)] = told
        for held in sorted(self.outbox.due(), key=_order):
            room = rooms.setdefault(str(held.room), {})
            event = held.event
            room.setdefault("events", []).append(
                {
                    "id": event.id,
                    "kind": event.kind,
                    "who": event.who,
                    "at": event.at,
                    "data": dict(event.data),
                }
            )
        here = [node for node, there in self._news.items() if there]
        gone = [node for node, there in self._news.items() if not there]
        self._news = {}
        if not (rooms or here or gone):
            return None
        return {"t": "up", "here": here, "gone": gone, "rooms": rooms}

    def _cut_room(self, desk: Desk, now: float) -> Message | None:
        told: Message = {}
        present = desk.presence()
        if present != desk.told:
            told["sites"], told["viewers"] = sorted(present[0]), present[1]
            desk.told = present
        polls: dict[str, Message] = {}
        for poll in desk.polls.values():
            own = poll.booth.cut()
            if own is not None:
                poll.sums.take(poll.booth.incarnation, own)
            sums = {
                incarnation: {
                    "n": one.n,
                    "counts": list(one.counts),
                    # In an order of its own: a set's would depend on when each seat came.
                    "doubtful": sorted(one.doubtful),
                    "continues": [list(before) for before in one.continues],
                }
                for incarnation, one in poll.sums.changes().items()
            }
            claims = [
                {
                    "seat": claim.seat,
                    "incarnation": claim.incarnation,
                    "n": claim.n,
                    "asker": claim.asker,
                    "turn": claim.turn,
                }
                for claim in poll.claims.due(now)
            ]
            if sums or claims:
                polls[str(poll.id)] = {"options": poll.options, "sums": sums, "claims": claims}
        if polls:
            told["polls"] = polls
        if not told and desk.asked:
            return None
        desk.asked = True
        return told

    # ------------------------------------------------------------ the root's own

    def settle(self, now: float) -> tuple[list[tuple[int, int, list[int]]], list[Desk]]:
        """At the root: count what its own clients said, and answer claims.

        Returns the polls whose counts have changed, as (room, poll, counts), and the rooms where
        others are present than before.
        """
        self.tick(now)
        self._news = {}
        changed, moved = [], []
        for desk in self.desks.values():
            for poll in desk.polls.values():
                count = poll.count
                if count is None:
                    continue
                own = poll.booth.cut()
                if own is not None:
                    self._take_sum(desk, poll, poll.booth.incarnation, own, now)
                for claim in poll.claims.due(now):
                    count.ask(claim, now)
                verdicts, fences = count.judge(now, lambda node: self.seen_s(node, now))
                for fence in fences:
                    self._pass_fence(desk, poll, fence, now)
                for verdict in verdicts:
                    self._pass_verdict(desk, poll, verdict)
                counts = count.counts
                if counts != poll.told:
                    poll.told = counts
                    changed.append((desk.room, poll.id, counts))
            if desk.presence() != desk.told:
                desk.told = desk.presence()
                moved.append(desk)
        return changed, moved

    def pending(self) -> dict[int, list[Event]]:
        """At the root: the events that are to be kept now, by room; `kept` or `outbox.again`."""
        found: dict[int, list[Event]] = {}
        for held in sorted(self.outbox.due(), key=_order):
            found.setdefault(held.room, []).append(held.event)
        return found


def _order(held: Held) -> tuple[int, str]:
    """Events by name in the order in which they came; votes by their hash."""
    return (1, held.event.id) if held.event.kind == "ballot" else (0, "")
