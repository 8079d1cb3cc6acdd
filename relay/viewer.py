"""One subscriber of one stream: how its packets look, where it stands, what it reports."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from relay import packet as rtp
from relay import rtcp
from relay.packet import Shape
from relay.sdp import Leg

if TYPE_CHECKING:
    from relay.peer import Peer
    from relay.stream import Stream
    from relay.track import Track

# Answers to NACKs per viewer: a burst, and a rate that repairs 10 % loss of 8 Mbit/s. A viewer
# that asks for more has a line that repeating would only choke.
REPAIR_BURST = 300.0
REPAIR_PER_S = 150.0
# A node asks for many viewers, and for a whole gap after it has changed parents.
RELAY_FACTOR = 10.0
# A packet that went out less than a round trip ago may still be under way: a request for it then
# says nothing. A node asks every few milliseconds until it has it; a browser asks again after just
# one round trip, and means it.
HOLD_RTT_NODE, HOLD_RTT = 1.15, 0.9
HOLD_MIN_S, HOLD_MAX_S, HOLD_UNKNOWN_S = 0.015, 0.6, 0.1
# What is asked for again after that goes out twice: the line loses much, and time is short. Not
# when a whole gap is asked for, which would be a flood.
COPIES_AGAIN = 2
FEW = 50
MAX_REPEATED = 4096
# Without RTX a repeat carries its old number, and libsrtp refuses what lies outside its window.
REPLAY_WINDOW = 1000


class Viewer:
    """Belongs to the forwarding thread from `Stream.add_viewer` on.

    `legs` are what was agreed for each kind ("audio", "video"). `position` is the next packet to
    send per kind while the viewer still catches up.
    """

    __slots__ = (
        "_repair_at_s",
        "_repair_tokens",
        "_repeated",
        "_rtx_sequence",
        "bad_rtcp",
        "fraction_lost",
        "group",
        "is_relay",
        "jitter_s",
        "keyframe_requests",
        "legs",
        "nacks",
        "peer",
        "position",
        "remb_bps",
        "resent",
        "rtt_s",
        "shapes",
        "stream",
    )

    def __init__(self, stream: Stream, peer: Peer, legs: dict[str, Leg], is_relay: bool) -> None:
        self.stream = stream
        self.peer = peer
        self.legs = legs
        self.is_relay = is_relay
        self.shapes = {k: Shape.negotiated(g.payload_type, g.extensions) for k, g in legs.items()}
        self.group: object = None
        self.position: dict[str, int] = {}
        self.nacks = 0
        self.resent = 0
        self.keyframe_requests = 0
        self.fraction_lost = 0.0
        self.jitter_s = 0.0
        self.rtt_s = 0.0
        self.remb_bps = 0
        self.bad_rtcp = 0
        self._rtx_sequence = secrets.randbits(15)
        self._repair_tokens = REPAIR_BURST
        self._repair_at_s = 0.0
        # By kind and position: when a packet was repeated last.
        self._repeated: dict[tuple[str, int], float] = {}

    def on_rtp(self, data: bytes, now: float) -> None:
        """A viewer sends no media; what comes is passed over."""

    def on_rtcp(self, data: bytes, now: float) -> None:
        """Take reports and requests (RFC 3550, RFC 4585, RFC 5104, REMB)."""
        compound = rtcp.parse(data)
        if compound.malformed:
            self.bad_rtcp += 1
        for report in compound:
            match report:
                case rtcp.Nack():
                    self._repair(report, now)
                case rtcp.Pli() | rtcp.Fir():
                    self.keyframe_requests += 1
                    self.stream.request_keyframe(now)
                case rtcp.Remb():
                    self.remb_bps = report.bitrate_bps
                case rtcp.ReceiverReport() | rtcp.SenderReport():
                    for block in report.reports:
                        self._report(block, now)
                case _:
                    pass

    def _report(self, block: rtcp.ReportBlock, now: float) -> None:
        track = self.stream.track_of_ssrc(block.ssrc)
        if track is None:
            return
        if track.kind == "video" or "video" not in self.legs:
            self.fraction_lost = block.fraction_lost / 256
            self.jitter_s = block.jitter / track.format.clock_rate
        clock = track.sender_clock(now)
        if block.lsr and clock is not None:
            # RFC 3550 section 6.4.1: now - LSR - DLSR, in 1/65536 s of the sender's clock.
            rtt = (rtcp.ntp_middle(clock[0]) - block.lsr - block.dlsr) & 0xFFFFFFFF
            if rtt < 10 * 65536:
                self.rtt_s = rtt / 65536

    def _repair(self, nack: rtcp.Nack, now: float) -> None:
        """Answer from the ring: RTX where agreed, else the very same packet again."""
        track = self.stream.track_of_ssrc(nack.media_ssrc)
        target = self.peer.target
        if track is None or target is None or track.kind not in self.legs:
            return
        self.nacks += len(nack.seqs)
        gone = now - self._repair_at_s
        self._repair_at_s = now
        factor = RELAY_FACTOR if self.is_relay else 1.0
        self._repair_tokens = min(
            REPAIR_BURST * factor, self._repair_tokens + gone * REPAIR_PER_S * factor
        )
        leg, shape = self.legs[track.kind], self.shapes[track.kind]
        most = COPIES_AGAIN if len(nack.seqs) <= FEW else 1
        answers: list[bytes] = []
        for sequence in nack.seqs:
            position = track.position_of(sequence)
            kept = track.get(position)
            if kept is None:
                continue
            copies = min(most, self._copies(track, position, now))
            if self._repair_tokens < copies:
                continue
            shaped = rtp.reshape(kept, shape)
            rtx = leg.rtx_type >= 0 and leg.rtx_ssrc
            if not rtx and track.highest - position >= REPLAY_WINDOW:
                continue
            for _ in range(copies):
                if rtx:
                    answers.append(rtp.rtx(shaped, leg.rtx_type, leg.rtx_ssrc, self._rtx_sequence))
                    self._rtx_sequence = (self._rtx_sequence + 1) & 0xFFFF
                else:
                    answers.append(shaped)
            self._repair_tokens -= copies
            if copies:
                self._note_repeat(track, position, now)
        if answers:
            self.resent += len(answers)
            self.stream.resend(target, answers)

    def _copies(self, track: Track, position: int, now: float) -> int:
        """How often to repeat a packet now: not while it may still be under way."""
        rtt_s = self.rtt_s * (HOLD_RTT_NODE if self.is_relay else HOLD_RTT)
        hold_s = min(HOLD_MAX_S, max(HOLD_MIN_S, rtt_s or HOLD_UNKNOWN_S))
        repeated = self._repeated.get((track.kind, position))
        if now - max(repeated or 0.0, track.late.get(position, 0.0)) < hold_s:
            return 0
        return 1 if repeated is None else COPIES_AGAIN

    def _note_repeat(self, track: Track, position: int, now: float) -> None:
        self._repeated[track.kind, position] = now
        if len(self._repeated) > MAX_REPEATED:
            del self._repeated[next(iter(self._repeated))]

    def pending(self, track: Track, limit: int) -> list[bytes]:
        """The next packets of a track for a viewer that catches up, at most `limit`."""
        shape = self.shapes[track.kind]
        at, end = max(self.position[track.kind], track.oldest), track.flushed
        found: list[bytes] = []
        while at < end and len(found) < limit:
            kept = track.get(at)
            if kept is not None:
                found.append(rtp.reshape(kept, shape))
            at += 1
        self.position[track.kind] = at
        return found
