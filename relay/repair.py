"""What is missing on the way in, and when to ask for it again.

Each hop repairs its own losses: a node asks its publisher or parent, within a bounded number of
tries and no longer than the packet could still be of use. Pure: `now` comes in, sequence numbers
go out.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from relay.packet import seq_delta

# A reordered packet is usually less late than this; asking at once would ask for it in vain.
REORDER_WAIT_S = 0.008
MAX_TRIES = 12
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


@dataclass(slots=True)
class Missing:
    """Loss of one RTP line (one SSRC), by sequence numbers as its sender gave them.

    Counters are in packets: `lost` were never seen although asked for, `repaired` came after all,
    `asked` is how many requests were made.
    """

    rtt_s: float = 0.05
    lost: int = 0
    repaired: int = 0
    asked: int = 0
    _highest: int = -1
    _wants: dict[int, _Want] = field(default_factory=dict)

    def arrived(self, sequence: int, now: float) -> None:
        """Note one packet, in the order of arrival."""
        highest = self._highest
        if highest < 0:
            self._highest = sequence
            return
        if sequence == (highest + 1) & 0xFFFF:
            self._highest = sequence
            return
        ahead = seq_delta(sequence, highest)
        if ahead <= 0:
            want = self._wants.pop(sequence, None)
            # Late but before it was asked for: out of order, not lost.
            if want is not None and want.tries:
                self.repaired += 1
            return
        self._highest = sequence
        gap = ahead - 1
        if gap > MAX_GAP or len(self._wants) + gap > MAX_MISSING:
            self.lost += gap + len(self._wants)
            self._wants.clear()
            return
        for step in range(1, ahead):
            self._wants[(highest + step) & 0xFFFF] = _Want(now, now + REORDER_WAIT_S)

    def due(self, now: float) -> list[int]:
        """Sequence numbers to ask for now, oldest first; gives up on what is too old."""
        if not self._wants:
            return []
        ask, give_up = [], []
        for sequence, want in self._wants.items():
            if want.tries >= MAX_TRIES or now - want.since_s > MAX_AGE_S:
                give_up.append(sequence)
            elif want.next_s <= now:
                ask.append(sequence)
                want.tries += 1
                # Wait a round trip and some for the answer; longer when it did not come.
                want.next_s = now + max(0.02, 1.25 * self.rtt_s) * (1 + 0.25 * (want.tries - 1))
        for sequence in give_up:
            del self._wants[sequence]
        self.lost += len(give_up)
        self.asked += len(ask)
        return ask

    def renew(self, now: float) -> None:
        """Begin asking anew: another parent will be asked for what is still missing."""
        for want in self._wants.values():
            want.since_s = want.next_s = now
            want.tries = 0

    @property
    def waiting(self) -> bool:
        """Whether anything is being asked for."""
        return bool(self._wants)
