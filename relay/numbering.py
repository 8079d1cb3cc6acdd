"""One continuous RTP numbering per track, whatever its publisher does.

A publisher that reconnects, or is replaced, begins at a random sequence number and timestamp.
Viewers must not see that: the node where it enters shifts its numbers so that they go on where
the last ones ended. The first source of a track keeps its own numbers (shift 0), and a node below
sees an unbroken line and shifts nothing: so every node of the tree holds the same packets under
the same numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

from relay.packet import seq_delta, ts_delta

# A jump of more than this inside one source is a restart of its numbers, not loss: at 1,000
# packets a second it is five seconds, longer than any ring could repair.
MAX_SEQUENCE_JUMP = 5000
# A timestamp that runs away from the wall clock by more than this is a restart as well.
MAX_CLOCK_JUMP_S = 20.0


@dataclass(slots=True)
class Numbering:
    """Maps the numbers of the present source onto the track's own line.

    `clock_rate` is in Hz. `place` is called for each packet in the order of arrival. `keeps_time`:
    timestamps are those of another line already (a ladder's layer has its picture's), and stay.
    """

    clock_rate: int
    keeps_time: bool = False
    source: int = -1
    rebases: int = 0
    _first: int = 0
    _sequence_shift: int = 0
    _timestamp_shift: int = 0
    _last_in: int = 0
    _last_sequence: int = 0
    _last_timestamp: int = 0
    _last_arrival_s: float = 0.0
    _seen: int = 0

    def place(self, source: int, sequence: int, timestamp: int, now: float) -> int:
        """Return `sequence << 32 | timestamp` on the track's line, or -1 to drop the packet.

        `source` names the line the packet comes from (its SSRC as sent). A packet older than the
        first one of its source is dropped: its number belongs to what came before.
        """
        if source != self.source or not self._seen:
            self._rebase(source, sequence, timestamp, now)
        else:
            ahead = seq_delta(sequence, self._last_in)
            if ahead > 0:
                if ahead > MAX_SEQUENCE_JUMP or self._clock_jumped(timestamp, now):
                    self._rebase(source, sequence, timestamp, now)
                else:
                    self._last_in = sequence
            elif ahead < -MAX_SEQUENCE_JUMP:
                self._rebase(source, sequence, timestamp, now)
            elif self._seen < 0x4000 and seq_delta(sequence, self._first) < 0:
                return -1
        self._seen += 1
        out_sequence = (sequence + self._sequence_shift) & 0xFFFF
        out_timestamp = (timestamp + self._timestamp_shift) & 0xFFFFFFFF
        if sequence == self._last_in:
            self._last_sequence = out_sequence
            self._last_timestamp = out_timestamp
            self._last_arrival_s = now
        return out_sequence << 32 | out_timestamp

    def goes_on(self, source: int, sequence: int, timestamp: int, now: float) -> bool:
        """Whether `place` would give this packet, the next one of its source, its own numbers."""
        return (
            source == self.source
            and self._seen > 0
            and sequence == (self._last_in + 1) & 0xFFFF
            and not self._sequence_shift
            and not self._timestamp_shift
            and not self._clock_jumped(timestamp, now)
        )

    def went_on(self, count: int, timestamp: int, now: float) -> None:
        """Note so many packets of one frame, after `goes_on` has said so of the first."""
        self._last_in = self._last_sequence = (self._last_in + count) & 0xFFFF
        self._last_timestamp, self._last_arrival_s = timestamp, now
        self._seen += count

    def timestamp(self, source_timestamp: int) -> int:
        """Map a source's RTP timestamp (of a sender report) onto the line."""
        return (source_timestamp + self._timestamp_shift) & 0xFFFFFFFF

    def source_sequence(self, sequence: int) -> int:
        """The number that the present source gave to a packet of the line."""
        return (sequence - self._sequence_shift) & 0xFFFF

    def restart(self) -> None:
        """Take what comes next for another source's, even under the same SSRC and near numbers."""
        self.source = -1

    def splice(self, source: int, sequence: int, timestamp_shift: int) -> None:
        """Let another source go on one number after the last, its timestamps shifted by so much.

        Who calls knows better than the wall clock where the source stands on the line. Its first
        packet, `sequence`, is placed next.
        """
        self._sequence_shift = 0
        if self._seen:
            self._sequence_shift = (self._last_sequence + 1 - sequence) & 0xFFFF
            self.rebases += 1
        self._timestamp_shift = timestamp_shift & 0xFFFFFFFF
        self.source = source
        self._seen = 1
        self._first = self._last_in = sequence

    @property
    def sequence_shift(self) -> int:
        """What is added to the present source's sequence numbers, modulo 2^16."""
        return self._sequence_shift

    @property
    def begun(self) -> bool:
        """Whether any packet was placed yet."""
        return self._seen > 0

    def _clock_jumped(self, timestamp: int, now: float) -> bool:
        here = (timestamp + self._timestamp_shift) & 0xFFFFFFFF
        media_s = ts_delta(here, self._last_timestamp) / self.clock_rate
        wall_s = now - self._last_arrival_s
        return abs(media_s - wall_s) > MAX_CLOCK_JUMP_S

    def _rebase(self, source: int, sequence: int, timestamp: int, now: float) -> None:
        """Let a new source go on one number after the last, at the wall clock's distance."""
        if self._seen:
            wanted = (self._last_sequence + 1) & 0xFFFF
            # At least one tick, or two frames would share a timestamp.
            gone = max(1, round((now - self._last_arrival_s) * self.clock_rate))
            wanted_timestamp = (self._last_timestamp + gone) & 0xFFFFFFFF
            self._sequence_shift = (wanted - sequence) & 0xFFFF
            shift = (wanted_timestamp - timestamp) & 0xFFFFFFFF
            self._timestamp_shift = 0 if self.keeps_time else shift
            self.rebases += 1
        self.source = source
        self._seen = 0
        self._first = sequence
        self._last_in = sequence
