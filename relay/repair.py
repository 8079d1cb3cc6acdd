"""What is missing on the way in, and when to ask for it again.

Each hop repairs its own losses: a node asks its publisher or parent, within a bounded number of
tries and no longer than the packet could still be of use. Pure: `now` comes in, sequence numbers
go out.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from statistics import median_low

from relay.packet import seq_delta

# A reordered packet is usually less late than this; asking at once would ask for it in vain.
REORDER_WAIT_S = 0.008
MAX_TRIES = 12
# A frame whose last packet has not come when the one before it is this old has probably lost it.
# The next frame would tell, but a frame's time later, at every hop. Only on lines that lost
# something lately: elsewhere the packet is late.
TAIL_WAIT_S = 0.015
TAILS_AFTER_LOSS_S = 10.0
# A node above answers one request per round trip and passes over the rest, so several requests in
# a round trip cost little: a lost one is made good at once, and a packet that the node above is
# itself still waiting for is asked for again as soon as it has it.
EAGER_TRIES = 9
EAGER_PAUSE_S = 0.02
# Round trips kept, for their median: a retry or a reordered packet now and then does not move it.
ROUND_TRIPS = 15
# Rings hold about two seconds; a picture later than that has been skipped by its player.
MAX_AGE_S = 1.5
# More than this at once is an outage, not loss: a keyframe helps, repeating everything does not.
MAX_GAP = 1500
MAX_MISSING = 2000


@dataclass(slots=True)
class _Want:
    since_s: float
    next_s: float
    tries: int = 0
    asked_s: float = 0.0
    is_guess: bool = False


@dataclass(slots=True)
class Missing:
    """Loss of one RTP line (one SSRC), by sequence numbers as its sender gave them.

    Counters are in packets: `lost` were never seen although asked for, `repaired` came after all,
    `asked` is how many requests were made. `rtt_s` is taken from the answers unless it is set.
    `eager` is for a sender that itself passes over requests that come too soon, or for what it has
    not sent yet (a node).
    """

    rtt_s: float = 0.05
    eager: bool = False
    lost: int = 0
    repaired: int = 0
    asked: int = 0
    _highest: int = -1
    _gap_s: float = -1e9
    _unfinished_s: float = 1e9
    _wants: dict[int, _Want] = field(default_factory=dict)
    _round_trips: deque[float] = field(default_factory=lambda: deque(maxlen=ROUND_TRIPS))

    def arrived(self, sequence: int, now: float, unfinished: bool = False) -> bool:
        """Note one packet, in the order of arrival; True when it shows that others are missing.

        `unfinished`: it is not the last one of its frame.
        """
        highest = self._highest
        if highest < 0:
            self._highest = sequence
            return False
        if sequence == (highest + 1) & 0xFFFF:
            self._highest = sequence
            self._unfinished_s = now if unfinished else 1e9
            if self._wants:
                self._wants.pop(sequence, None)
            return False
        ahead = seq_delta(sequence, highest)
        if ahead <= 0:
            want = self._wants.pop(sequence, None)
            if want is not None:
                self.repaired += 1
                if want.tries:
                    self._round_trips.append(now - want.asked_s)
                    self.rtt_s = median_low(self._round_trips)
            return False
        self._highest = sequence
        self._unfinished_s = now if unfinished else 1e9
        self._gap_s = now
        gap = ahead - 1
        if gap > MAX_GAP or len(self._wants) + gap > MAX_MISSING:
            self.lost += gap + len(self._wants)
            self._wants.clear()
            return False
        for step in range(1, ahead):
            want = _Want(now, now + REORDER_WAIT_S)
            self._wants.setdefault((highest + step) & 0xFFFF, want).is_guess = False
        return True

    def goes_on(self, sequence: int) -> bool:
        """Whether this packet is the next one, and was not asked for as a frame's lost end."""
        following = (self._highest + 1) & 0xFFFF
        return self._highest >= 0 and sequence == following and sequence not in self._wants

    def went_on(self, count: int, now: float, unfinished: bool) -> None:
        """Note so many packets in order, after `goes_on` has said so of the first."""
        self._highest = (self._highest + count) & 0xFFFF
        self._unfinished_s = now if unfinished else 1e9

    def due(self, now: float) -> list[int]:
        """Sequence numbers to ask for now, oldest first; gives up on what is too old."""
        if self._watches_tails(now) and now - self._unfinished_s >= TAIL_WAIT_S:
            self._unfinished_s = 1e9
            self._wants.setdefault((self._highest + 1) & 0xFFFF, _Want(now, now, is_guess=True))
        if not self._wants:
            return []
        ask, give_up = [], []
        most = MAX_TRIES + EAGER_TRIES if self.eager else MAX_TRIES
        for sequence, want in self._wants.items():
            if want.tries >= most or now - want.since_s > MAX_AGE_S:
                give_up.append(sequence)
            elif want.next_s <= now:
                ask.append(sequence)
                if not want.tries:
                    want.asked_s = now
                want.tries += 1
                want.next_s = now + self._pause_s(want.tries)
        for sequence in give_up:
            self.lost += not self._wants.pop(sequence).is_guess
        self.asked += len(ask)
        return ask

    def _pause_s(self, tries: int) -> float:
        """How long to wait after so many requests for one packet."""
        if self.eager:
            if tries <= EAGER_TRIES:
                return max(EAGER_PAUSE_S, self.rtt_s / 3)
            tries -= EAGER_TRIES
        # A round trip and some for the answer; longer when it did not come.
        return max(0.02, 1.25 * self.rtt_s) * (1 + 0.25 * (tries - 1))

    def renew(self, now: float) -> None:
        """Begin asking anew: another parent will be asked for what is still missing."""
        for want in self._wants.values():
            want.since_s = want.next_s = now
            want.tries = 0

    def restart(self) -> None:
        """Begin anew: what is missing up to here was not wanted."""
        self._highest = -1
        self._unfinished_s = 1e9
        self._wants.clear()

    def awaits(self, sequence: int) -> bool:
        """Whether this packet is missing at present."""
        return sequence in self._wants

    @property
    def waiting(self) -> bool:
        """Whether anything is being asked for."""
        return bool(self._wants)

    def watchful(self, now: float) -> bool:
        """Whether something may have to be asked for within milliseconds."""
        return bool(self._wants) or self._watches_tails(now)

    def _watches_tails(self, now: float) -> bool:
        return self.eager and now - self._gap_s < TAILS_AFTER_LOSS_S
