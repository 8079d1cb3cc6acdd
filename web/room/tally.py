"""Counting the answers of a poll over the tree, each exactly once (pure).

A node counts the answers of its own clients as an *incarnation* (its id and a number) and reports
its sum as (n, counts): n grows by one with each report. Above it, sums are kept by incarnation and
merged by the largest n, so that it does not matter by which ways, or how often, a report comes.

A client gets a receipt at once: (incarnation, n of the report that will hold its answer). It tells
the node that it has it (`have`); seats that have not said so when the report is cut are named in
it (*doubtful*), so that the root can tell whether an answer without a receipt is counted.

A client that comes to another node shows its receipt, and that node asks the root:

* The root has that incarnation's report n, or the seat is among its doubtful ones: it is counted.
* The incarnation has gone: the root *closes* it at k, the last report that it has, and takes none
  of it any more. n > k was never counted, so the asking node counts it (the seat is *claimed*).
* A closed incarnation that was only cut off comes back: its node is told k and who was claimed. It
  goes on as a new incarnation that holds the answers after k but for the claimed ones, all named
  as doubtful, since their clients hold receipts of the closed one. The root takes the new one only
  when it has left out all that were claimed.

An answer is final: the first one of a seat counts. `tests/web/room/test_tally_network.py` proves
the count with a seeded network, kills and partitions.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

GRACE_S: Final = 4.0
"""An incarnation that nobody has had for so long is closed when a client asks for it. Reports need
a second per hop."""
WAIT_S: Final = 15.0
"""So long a claim waits for the report of an incarnation that is there."""
CLOSE_EVERY_S: Final = 2.0
"""At most so often is an incarnation closed that is still there: its node counts anew then."""
FORGET_CLAIM_S: Final = 30.0
ASK_EVERY_S: Final = 2.0
MOST_CLAIMS: Final = 50_000
MOST_SEATS: Final = 100_000
"""Seats of one poll at one node; more are refused."""
MOST_CLOSED: Final = 50_000
MOST_STEPS: Final = 64


def seat_key(poll: int, seat: str) -> str:
    """A seat as the tree knows it in one poll: 11 characters, which no other poll shares."""
    digest = hashlib.sha256(f"{poll}|{seat}".encode()).digest()
    return base64.urlsafe_b64encode(digest[:8]).decode().rstrip("=")


def node_of(incarnation: str) -> str:
    """The id of the node whose incarnation this is."""
    return incarnation.partition(".")[0]


def generation_of(incarnation: str) -> int:
    """Which of its node's incarnations this is, from 0."""
    return int(incarnation.partition(".")[2] or 0)


@dataclass(frozen=True, slots=True)
class Receipt:
    """The report of an incarnation that holds an answer. n: from 1, 0 is not known."""

    incarnation: str
    n: int


@dataclass(frozen=True, slots=True)
class Sum:
    """What an incarnation has counted up to its report n.

    doubtful: seats in it whose clients may not know. continues: the incarnations of the same node
    before this one, each with the report at which it was closed, and how many of the seats that
    were claimed of it are left out here.
    """

    n: int
    counts: tuple[int, ...]
    doubtful: frozenset[str] = frozenset()
    continues: tuple[tuple[str, int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Claim:
    """A node asks whether a seat's answer is counted.

    asker: the incarnation that would count it. turn: which of the asker's questions this is; a
    client that has left and come back with another receipt is another one.
    """

    seat: str
    incarnation: str
    n: int
    asker: str
    turn: int = 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer to a claim. receipt: where it is counted; None: the asker is to count it."""

    seat: str
    asker: str
    turn: int
    receipt: Receipt | None


@dataclass(frozen=True, slots=True)
class Fence:
    """An incarnation is closed at report k, which had these counts.

    claimed: seats that others count, in the order in which they were claimed.
    """

    incarnation: str
    k: int
    counts: tuple[int, ...]
    claimed: tuple[str, ...]


class Booth:
    """One poll at one node: the answers of its own clients."""

    def __init__(self, poll: int, node_id: str, options: int) -> None:
        self.poll = poll
        self.options = options
        self._node_id = node_id
        self._generation = 0
        self._n = 0
        self._counts = [0] * options
        self._changed = False
        # Seat -> (generation, report, choice); where it is counted elsewhere, -> receipt.
        self._seats: dict[str, tuple[int, int, int]] = {}
        self._elsewhere: dict[str, Receipt] = {}
        self._fresh: set[str] = set()
        self._named: set[str] = set()
        self._barred: dict[str, str] = {}
        # Incarnation -> the report at which it was closed, how many claimed seats are left out.
        self._before: dict[str, tuple[int, int]] = {}

    @property
    def incarnation(self) -> str:
        """Under which name this node counts now."""
        return self._name(self._generation)

    def _name(self, generation: int) -> str:
        return f"{self._node_id}.{generation}"

    def receipt(self, seat: str) -> Receipt | None:
        """Where a seat's answer is counted, None if it has none that is known here."""
        found = self._seats.get(seat)
        # What the root says lasts; what is counted here may be taken by a fence that is on its way.
        if seat in self._elsewhere or found is None:
            return self._elsewhere.get(seat)
        return Receipt(self._name(found[0]), found[1])

    def choice(self, seat: str) -> int | None:
        """What a seat that is counted here answered."""
        found = self._seats.get(seat)
        return None if found is None else found[2]

    def barred(self, seat: str) -> str:
        """The closed incarnation of this node in which a seat was claimed by another node; or "".

        Such a seat is not counted before the root was asked.
        """
        return self._barred.get(seat, "")

    def full(self) -> bool:
        """Whether no more seats are taken."""
        return len(self._seats) + len(self._elsewhere) >= MOST_SEATS

    def count(self, seat: str, choice: int) -> Receipt:
        """Count an answer, or find that it is counted; the receipt to give for it."""
        known = self.receipt(seat)
        if known is not None:
            return known
        self._barred.pop(seat, None)
        self._seats[seat] = (self._generation, self._n + 1, choice)
        self._counts[choice] += 1
        self._fresh.add(seat)
        self._changed = True
        return Receipt(self.incarnation, self._n + 1)

    def name(self, seat: str) -> None:
        """Name a seat as doubtful whatever its client says: another node may ask about it.

        So are those that came with an answer from another node, or without a receipt for it: what
        that node asks is still on its way when the client is long back here.
        """
        if len(self._named) < MOST_SEATS:
            self._named.add(seat)

    def have(self, seat: str, receipt: Receipt) -> None:
        """The client has kept a receipt; of an older one that says nothing."""
        if self.receipt(seat) == receipt and seat not in self._named:
            self._fresh.discard(seat)

    def elsewhere(self, seat: str, receipt: Receipt) -> None:
        """The root says that another incarnation has counted this seat."""
        self._elsewhere[seat] = receipt

    def cut(self) -> Sum | None:
        """The next report, None when nothing has changed."""
        if not self._changed:
            return None
        self._changed = False
        self._n += 1
        doubtful = frozenset(self._fresh)
        self._fresh.clear()
        continues = tuple((name, k, out) for name, (k, out) in self._before.items())
        return Sum(self._n, tuple(self._counts), doubtful, continues)

    def fence(self, fence: Fence) -> tuple[list[str], dict[str, int]]:
        """This node's incarnation was closed.

        Returns the seats that have another receipt now, and those that were counted here and are
        not any more, since another node claimed them, with their choices.
        """
        k = fence.k
        if fence.incarnation != self.incarnation:
            known = self._before.get(fence.incarnation)
            if known is None or len(fence.claimed) <= known[1]:
                return [], {}
            # Then the root has taken nothing of the present one, and never will.
            self._before[fence.incarnation] = (known[0], len(fence.claimed))
            self._before[self.incarnation] = (0, 0)
            k = 0
        else:
            self._before[fence.incarnation] = (k, len(fence.claimed))
        self._barred.update((seat, fence.incarnation) for seat in fence.claimed)
        return self._go_on(k, set(fence.claimed))

    def _go_on(self, k: int, claimed: set[str]) -> tuple[list[str], dict[str, int]]:
        """Count what the present incarnation's reports after k held, as a new one."""
        old = self._generation
        self._generation += 1
        self._n = 0
        self._counts = [0] * self.options
        self._fresh.clear()
        moved, taken = [], {}
        for seat, (generation, n, choice) in list(self._seats.items()):
            if generation != old or n <= k:
                continue
            if seat in claimed:
                del self._seats[seat]
                taken[seat] = choice
                continue
            self._seats[seat] = (self._generation, 1, choice)
            self._counts[choice] += 1
            self._fresh.add(seat)
            self._named.add(seat)
            moved.append(seat)
        # Even when empty: it tells the root that nothing else of the closed one will come.
        self._changed = True
        return moved, taken


class Sums:
    """The sums of a poll by incarnation, as a node above has them."""

    def __init__(self) -> None:
        self.by_incarnation: dict[str, Sum] = {}
        self._changed: dict[str, set[str]] = {}
        self._closed: dict[str, int] = {}

    def fence(self, fence: Fence) -> None:
        """An incarnation was closed: what was counted after that is no part of its sum."""
        known = self.by_incarnation.get(fence.incarnation)
        self._closed[fence.incarnation] = fence.k
        if known is None or known.n <= fence.k:
            return
        self._changed.pop(fence.incarnation, None)
        if fence.k:
            cut = Sum(fence.k, fence.counts, frozenset(), known.continues)
            self.by_incarnation[fence.incarnation] = cut
        else:
            del self.by_incarnation[fence.incarnation]

    def take(self, incarnation: str, told: Sum) -> None:
        """Merge a report; of two the one with the larger n holds, doubtful seats are joined."""
        if told.n > self._closed.get(incarnation, told.n):
            return
        known = self.by_incarnation.get(incarnation)
        new = told.doubtful if known is None else told.doubtful - known.doubtful
        if known is not None and told.n <= known.n:
            told = known
            if not new:
                return
        doubtful = new if known is None else known.doubtful | new
        self.by_incarnation[incarnation] = Sum(told.n, told.counts, doubtful, told.continues)
        self._changed.setdefault(incarnation, set()).update(new)

    def changes(self) -> dict[str, Sum]:
        """What has changed since this was asked last, with the doubtful seats that are new."""
        found = {
            incarnation: Sum(one.n, one.counts, frozenset(new), one.continues)
            for incarnation, new in self._changed.items()
            for one in [self.by_incarnation[incarnation]]
        }
        self._changed = {}
        return found

    def all_again(self) -> None:
        """Another parent: all is told again."""
        self._changed = {i: set(one.doubtful) for i, one in self.by_incarnation.items()}


@dataclass(slots=True)
class Closed:
    """A closed incarnation. claimed: seat -> the incarnation that counts it instead."""

    k: int
    claimed: dict[str, str] = field(default_factory=dict)
    resumed: str = ""


@dataclass(slots=True)
class _Waiting:
    claim: Claim
    since_s: float
    asked_s: float


class Count:
    """One poll at the root: the sums, what is closed, and the claims."""

    def __init__(self, options: int) -> None:
        self.options = options
        self.sums: dict[str, Sum] = {}
        self.closed: dict[str, Closed] = {}
        # (Node, seat) -> its claims, the oldest first: when, of which generation, by whom.
        self._claimed: dict[tuple[str, str], list[tuple[int, int, str]]] = {}
        self._claims = 0
        self._waiting: dict[tuple[str, str], _Waiting] = {}
        self._closed_at_s: dict[str, float] = {}

    @property
    def counts(self) -> list[int]:
        """The answers to each option over the whole tree."""
        totals = [0] * self.options
        for one in self.sums.values():
            for option, number in enumerate(one.counts):
                totals[option] += number
        return totals

    def take(self, incarnation: str, told: Sum) -> Fence | None:
        """Merge a report. A fence: it was refused, and whose node is to be told that."""
        closed = self.closed.get(incarnation)
        if closed is not None and told.n > closed.k:
            return self.fence(incarnation)
        if len(told.counts) != self.options:
            return None
        for name, _, left_out in told.continues:
            before = self.closed.get(name)
            if before is not None and left_out != len(before.claimed):
                return self.fence(name)
        for name, k, _ in told.continues:
            before = self.closed.setdefault(name, Closed(k))
            before.resumed = before.resumed or incarnation
        known = self.sums.get(incarnation)
        if known is not None:
            doubtful = told.doubtful | known.doubtful
            newest = told if told.n > known.n else known
            told = Sum(newest.n, newest.counts, doubtful, newest.continues)
        self.sums[incarnation] = told
        return None

    def fence(self, incarnation: str) -> Fence:
        """What the node of a closed incarnation is told."""
        closed = self.closed[incarnation]
        known = self.sums.get(incarnation)
        counts = (0,) * self.options if known is None else known.counts
        return Fence(incarnation, closed.k, counts, tuple(closed.claimed))

    def ask(self, claim: Claim, now: float) -> None:
        """Take a claim; asked again it is the same one."""
        found = self._waiting.get((claim.seat, claim.asker))
        if found is not None and found.claim == claim:
            found.asked_s = now
        elif found is not None or len(self._waiting) < MOST_CLAIMS:
            self._waiting[claim.seat, claim.asker] = _Waiting(claim, now, now)

    def judge(
        self, now: float, seen_s: Callable[[str], float | None]
    ) -> tuple[list[Verdict], list[Fence]]:
        """The claims that can be answered now, and the incarnations that were closed for them.

        seen_s: when a node was last there, by its id; None if it never was.
        """
        verdicts: list[Verdict] = []
        shut: list[str] = []
        for key, waiting in list(self._waiting.items()):
            asker = waiting.claim.asker
            if now - waiting.asked_s > FORGET_CLAIM_S or asker in self.closed:
                del self._waiting[key]
                if asker in self.closed and asker not in shut:
                    # Its node was not reached; it is to ask by its new name.
                    shut.append(asker)
                continue
            verdict = self._judge(waiting, now, seen_s, shut)
            if verdict is not None:
                verdicts.append(verdict)
                del self._waiting[key]
        return verdicts, [self.fence(incarnation) for incarnation in shut]

    def _judge(
        self,
        waiting: _Waiting,
        now: float,
        seen_s: Callable[[str], float | None],
        shut: list[str],
    ) -> Verdict | None:
        claim = waiting.claim
        seat, incarnation, n = claim.seat, claim.incarnation, claim.n
        since = 0
        for _ in range(MOST_STEPS):
            known = self.sums.get(incarnation)
            k = 0 if known is None else known.n
            if 1 <= n <= k:
                return Verdict(seat, claim.asker, claim.turn, Receipt(incarnation, n))
            if known is not None and seat in known.doubtful:
                return Verdict(seat, claim.asker, claim.turn, Receipt(incarnation, k))
            if incarnation == claim.asker:
                return Verdict(seat, claim.asker, claim.turn, None)
            if incarnation not in self.closed and not self._close(
                incarnation, k, n, waiting, now, seen_s, shut
            ):
                return None
            found = self._holder(seat, incarnation, since)
            if found is not None:
                since, incarnation = found
            elif self.closed[incarnation].resumed:
                incarnation = self.closed[incarnation].resumed
            else:
                self._claim(seat, incarnation, claim.asker)
                return Verdict(seat, claim.asker, claim.turn, None)
            n = 0
        return None

    def _claim(self, seat: str, incarnation: str, asker: str) -> None:
        self.closed[incarnation].claimed[seat] = asker
        self._claims += 1
        claim = (self._claims, generation_of(incarnation), asker)
        self._claimed.setdefault((node_of(incarnation), seat), []).append(claim)

    def _holder(self, seat: str, incarnation: str, since: int) -> tuple[int, str] | None:
        """Who claimed a seat of this incarnation, or of one before it that it went on with.

        A node may have gone on with a seat before it heard of the claim, and have given a receipt
        for that. Only a claim after `since` leads on: the earlier ones led here.
        """
        claims = self._claimed.get((node_of(incarnation), seat), ())
        generation = generation_of(incarnation)
        found = [(when, by) for when, of, by in claims if when > since and of <= generation]
        return max(found, default=None)

    def _close(
        self,
        incarnation: str,
        k: int,
        n: int,
        waiting: _Waiting,
        now: float,
        seen_s: Callable[[str], float | None],
        shut: list[str],
    ) -> bool:
        """Close an incarnation if it is time to; whether it is closed."""
        seen = seen_s(node_of(incarnation))
        if seen is None:
            # It may be that its parent has just come to this root, and has not told of it yet.
            due = now - waiting.since_s >= GRACE_S
        elif now - seen >= GRACE_S:
            due = True
        else:
            # It is there: its report comes, or its node does not know of this answer at all.
            last = self._closed_at_s.get(node_of(incarnation), -CLOSE_EVERY_S)
            waits = now - waiting.since_s
            due = waits >= (WAIT_S if n else 1.0) and now - last >= CLOSE_EVERY_S
        if not due or len(self.closed) >= MOST_CLOSED:
            return False
        self.closed[incarnation] = Closed(k)
        self._closed_at_s[node_of(incarnation)] = now
        shut.append(incarnation)
        return True


@dataclass(slots=True)
class _Asked:
    claim: Claim
    way: object
    heard_s: float
    asked_s: float = -ASK_EVERY_S


class Claims:
    """The claims of a node and of those below it, until they are answered."""

    def __init__(self) -> None:
        self._asked: dict[tuple[str, str], _Asked] = {}

    def ask(self, claim: Claim, way: object, now: float) -> None:
        """Ask for a claim that came by `way`, a child; None: this node's own."""
        key = (claim.seat, claim.asker)
        known = self._asked.get(key)
        if known is not None and known.claim == claim:
            known.way, known.heard_s = way, now
        elif known is not None or len(self._asked) < MOST_CLAIMS:
            self._asked[key] = _Asked(claim, way, now)

    def has(self, seat: str, asker: str) -> bool:
        """Whether this is being asked."""
        return (seat, asker) in self._asked

    def due(self, now: float) -> list[Claim]:
        """What is to be asked now, again after a while without an answer."""
        found = []
        for key, asked in list(self._asked.items()):
            if asked.way is not None and now - asked.heard_s > FORGET_CLAIM_S:
                del self._asked[key]
            elif now - asked.asked_s >= ASK_EVERY_S:
                asked.asked_s = now
                found.append(asked.claim)
        return found

    def again(self) -> None:
        """Another parent: all is asked again."""
        for asked in self._asked.values():
            asked.asked_s = -ASK_EVERY_S

    def answered(self, verdict: Verdict) -> tuple[bool, object]:
        """Forget a claim that was answered: whether it was asked here, and by which way it came."""
        key = (verdict.seat, verdict.asker)
        known = self._asked.get(key)
        if known is None or known.claim.turn != verdict.turn:
            return False, None
        del self._asked[key]
        return True, known.way

    def drop_all(self, asker: str) -> None:
        """An asker was closed; its node asks again by its new name."""
        for key in [key for key in self._asked if key[1] == asker]:
            del self._asked[key]

    def drop(self, seat: str, asker: str) -> None:
        """The client that this was asked for has left."""
        self._asked.pop((seat, asker), None)

    def forget(self, way: object) -> None:
        """A child has gone; it asks again by whichever way it comes back."""
        for key in [key for key, asked in self._asked.items() if asked.way is way]:
            del self._asked[key]
