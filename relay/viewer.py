"""One subscriber of one stream: how its packets look, where it stands, what it reports."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from relay import packet as rtp
from relay import red, rtcp
from relay.lane import Lane, Splice
from relay.layers import HELD, Chooser, Line, LossReports
from relay.packet import Shape
from relay.peer import SEND_WINDOW
from relay.sdp import Leg

if TYPE_CHECKING:
    from relay.fanout import Group
    from relay.peer import Peer
    from relay.stream import Stream
    from relay.track import Track

# Answers to NACKs per viewer: a burst, and a rate that repairs 10 % loss of 8 Mbit/s. A viewer
# that asks for more has a line that repeating would only choke.
REPAIR_BURST = 300.0
REPAIR_PER_S = 150.0
# Of a line that is known to be thin, repeats may take this part: what was lost because the line is
# full would only fill it again.
REPAIR_SHARE = 0.4
# However thin the line: less would refuse for ever what is asked for twice.
LEAST_BURST = 4.0
# A node asks for many viewers, and for a whole gap after it has changed parents.
RELAY_FACTOR = 10.0
# Redundant audio is sent for so long after the last loss, and at first until reports come.
RED_AFTER_LOSS_S = 30.0
RED_AT_FIRST_S = 8.0
LOSS_COUNTS = 0.004
# A keyframe is spread out where the estimate fell lately and is not this much above what is sent.
WARY_ROOM = 3.0
WARY_S = 15.0
PACE_OF_ESTIMATE = 1.1
PACE_OF_NEED = 1.5
MAX_PACED_BYTES = 2400
# A packet that went out less than a round trip ago may still be under way: a request for it then
# says nothing. A node asks every few milliseconds until it has it; a browser asks again after just
# one round trip, and means it.
HOLD_RTT_NODE, HOLD_RTT = 1.15, 0.9
HOLD_MIN_S, HOLD_MAX_S, HOLD_UNKNOWN_S = 0.015, 0.6, 0.1
# What is asked for again after that goes out twice: the line loses much, and time is short. Not
# when a whole gap is asked for, which would be a flood.
COPIES_AGAIN = 2
FEW = 50
# On a line that loses this much, but not so much that it must be full, the first repeat goes out
# twice as well: else one in twenty or ten takes another round trip, and over several hops these add
# up. To a node the second one answers its next request, this much later, so that one burst of loss
# does not take both.
LOSSY, NOT_LOSSY = 0.01, 0.20
SPACED_S = 0.01
MAX_REPEATED = 4096
# Without RTX a repeat carries its old number, and libsrtp refuses what lies outside its window.
REPLAY_WINDOW = SEND_WINDOW - 16


class Viewer:
    """Belongs to the forwarding thread from `Stream.add_viewer` on.

    `legs` are what was agreed for each kind ("audio", "video"). `flow` are the tracks that it gets;
    `position` is the next packet of each to send while the viewer catches up. `waits` are layers
    that it will get from their next keyframe on, with the position that this must lie behind.

    An end viewer gets one video layer: it has `layer`, and is to have `wanted` (None: no picture).
    A node below (`is_relay`) gets the layers whose names are in `takes` (None: all); `silent` has
    those that it once had, with the last position sent. `have` is what it got elsewhere, the last
    sequence number by SSRC; `resumes` are tracks to go on with from there once they have begun.
    """

    __slots__ = (
        "_began_s",
        "_chooser",
        "_loss",
        "_lost_s",
        "_lowered_s",
        "_paced_bytes",
        "_paced_s",
        "_repair_at_s",
        "_repair_tokens",
        "_repeated",
        "_rtx_sequences",
        "bad_rtcp",
        "flow",
        "fraction_lost",
        "group",
        "have",
        "held",
        "is_relay",
        "jitter_s",
        "keyframe_requests",
        "lane",
        "layer",
        "legs",
        "line",
        "nacks",
        "pace_bps",
        "peer",
        "position",
        "red",
        "resent",
        "resumes",
        "rtt_s",
        "shapes",
        "silent",
        "stream",
        "takes",
        "waits",
        "wanted",
    )

    def __init__(self, stream: Stream, peer: Peer, legs: dict[str, Leg], is_relay: bool) -> None:
        self.stream = stream
        self.peer = peer
        self.legs = legs
        self.is_relay = is_relay
        self.shapes = {k: Shape.negotiated(g.payload_type, g.extensions) for k, g in legs.items()}
        self.group: Group | None = None
        self.flow: list[Track] = []
        self.position: dict[Track, int] = {}
        self.waits: dict[Track, int] = {}
        self.layer: Track | None = None
        self.wanted: Track | None = None
        self.lane = Lane()
        self.line = Line()
        self.takes: frozenset[str] | None = None
        self.silent: dict[Track, int] = {}
        self.have: dict[int, int] = {}
        self.resumes: set[Track] = set()
        self.nacks = 0
        self.resent = 0
        self.keyframe_requests = 0
        self.fraction_lost = 0.0
        self.jitter_s = 0.0
        self.rtt_s = 0.0
        self.bad_rtcp = 0
        self.red = -1
        self.pace_bps = 0.0
        self.held = False
        self._paced_s = 0.0
        self._paced_bytes = 0.0
        self._began_s = 0.0
        self._lost_s = -1e9
        self._lowered_s = -1e9
        self._loss: dict[int, LossReports] = {}
        self._chooser: Chooser | None = None
        self._rtx_sequences: dict[int, int] = {}
        self._repair_tokens = REPAIR_BURST
        self._repair_at_s = 0.0
        # By SSRC and position: when a packet was repeated last, and how often.
        self._repeated: dict[tuple[int, int], tuple[float, int]] = {}

    @property
    def remb_bps(self) -> int:
        """What the viewer's receiver estimates for its line; 0 when it has not said."""
        return self.line.remb_bps

    @property
    def sound_only(self) -> bool:
        """Whether the line is too thin for any picture."""
        return self._chooser is not None and self.wanted is None

    def begin(self, layer: int, now: float) -> None:
        """Begin with a layer, counted as `Chooser` does, and choose from there on."""
        self._chooser = Chooser(now, layer)

    def switch_red(self, audio_bps: float, now: float) -> bool:
        """Whether redundant audio begins or ends now; `red` is then its payload type, or -1.

        It helps a line that loses packets, and harms one that is too thin for what it has.
        """
        audio = self.legs.get("audio")
        if audio is None or audio.red_type < 0:
            return False
        if not self._began_s:
            self._began_s = now
        lossy = now - self._lost_s < RED_AFTER_LOSS_S or now - self._began_s < RED_AT_FIRST_S
        video_bps = self.layer.known_bps if self.layer is not None else 0.0
        need_bps = video_bps + (1 + red.DEPTH) * audio_bps
        # As with keyframes: a low estimate alone may be one that is still on its way up.
        fell = now - self.line.fell_s < WARY_S and self.line.remb_bps < need_bps
        tight = fell or self.line.queued or self.sound_only
        wanted = audio.red_type if lossy and not tight else -1
        changed, self.red = wanted != self.red, wanted
        return changed

    def on_trial(self, now: float) -> bool:
        """Whether it is being found out what the line carries: reports are due more often."""
        return self._chooser is not None and self._chooser.trying(self.line, now)

    def choose(
        self, live: list[Track], rates: list[float], audio_bps: float, now: float
    ) -> Track | None:
        """The layer to get from now on, None for sound alone."""
        chooser = self._chooser
        if chooser is None or not live:
            return self.wanted
        if self.wanted is not None:
            # Layers come and go; a viewer whose layer went is on the next smaller one.
            order = self.stream.layers
            here = order.index(self.wanted)
            chooser.current = max(0, sum(order.index(t) <= here for t in live) - 1)
        before = chooser.current
        index = chooser.choose(self.line, rates, audio_bps, now)
        if index != before:
            self._loss.clear()
        if index < before:
            self._lowered_s = now
        return live[index] if index >= 0 else None

    def on_rtp(self, data: bytes, now: float) -> None:
        """A viewer sends no media; what comes is passed over."""

    def on_rtcp(self, data: bytes, now: float) -> None:
        """Take reports and requests (RFC 3550, RFC 4585, RFC 5104, REMB)."""
        blocks = rtcp.plain_report(data)
        if blocks is not None:
            for block in blocks:
                self._report(block, now)
            return
        compound = rtcp.parse(data)
        if compound.malformed:
            self.bad_rtcp += 1
        for report in compound:
            match report:
                case rtcp.Nack():
                    self._repair(report, now)
                case rtcp.Pli():
                    self._keyframe(report.media_ssrc, now)
                case rtcp.Fir():
                    for ssrc in report.media_ssrcs[:8]:
                        self._keyframe(ssrc, now, urgent=self.is_relay)
                case rtcp.Remb():
                    if self.line.estimated(report.bitrate_bps, now):
                        self.stream.choose_soon(now)
                case rtcp.ReceiverReport() | rtcp.SenderReport():
                    for reported in report.reports:
                        self._report(reported, now)
                case _:
                    pass

    def _keyframe(self, ssrc: int, now: float, *, urgent: bool = False) -> None:
        self.keyframe_requests += 1
        track = self.stream.track_of_ssrc(ssrc) if self.is_relay else self.layer
        if self._left_out(track):
            return
        # A node's urgent request is for a keyframe from now on.
        rtt_s = 0.0 if urgent else self.rtt_s or HOLD_UNKNOWN_S
        self.stream.request_keyframe(now, track or self.wanted, rtt_s, urgent=urgent)

    def _left_out(self, track: Track | None) -> bool:
        """Whether a node asks for a layer that it does not get: its keyframes would be for nobody.

        A node that a stream is pushed to knows all layers, and waits for those that do not come.
        """
        takes = self.takes
        return (
            takes is not None
            and track is not None
            and track.kind == "video"
            and (track.rid not in takes)
        )

    def _report(self, block: rtcp.ReportBlock, now: float) -> None:
        track = self.stream.track_of_ssrc(block.ssrc)
        if track is None:
            return
        if block.fraction_lost > 256 * LOSS_COUNTS:
            self._lost_s = now
        if track.kind == "video" or "video" not in self.legs:
            self.jitter_s = block.jitter / track.format.clock_rate
            # A node reports on each of its layers.
            reports = self._loss.setdefault(block.ssrc, LossReports())
            lost = reports.add(block.highest_seq, block.packets_lost, now)
            if lost is not None:
                self.fraction_lost = lost
                self.line.reported(lost, now)
        clock = track.sender_clock(now) if block.lsr else None
        if clock is not None:
            # RFC 3550 section 6.4.1: now - LSR - DLSR, in 1/65536 s of the sender's clock.
            rtt = (rtcp.ntp_middle(clock[0]) - block.lsr - block.dlsr) & 0xFFFFFFFF
            if rtt < 10 * 65536:
                self.rtt_s = rtt / 65536
                if self.line.took(self.rtt_s, now):
                    self.stream.choose_soon(now)

    def _repair(self, nack: rtcp.Nack, now: float) -> None:
        """Answer from the ring: RTX where agreed, else the very same packet again."""
        track = self.stream.track_of_ssrc(nack.media_ssrc)
        target = self.peer.target
        if track is None or target is None or track.kind not in self.legs:
            return
        self.nacks += len(nack.seqs)
        if track.kind == "audio" and self.legs["audio"].red_type >= 0:
            # The number may have gone out in the other form: SRTP must not encrypt it twice.
            return
        gone = now - self._repair_at_s
        self._repair_at_s = now
        per_s = self._repairs_per_s(track)
        burst = max(LEAST_BURST, per_s * REPAIR_BURST / REPAIR_PER_S)
        self._repair_tokens = min(burst, self._repair_tokens + gone * per_s)
        leg, shape = self.legs[track.kind], self.shapes[track.kind]
        most = COPIES_AGAIN if len(nack.seqs) <= FEW else 1
        answers: list[bytes] = []
        for sequence in nack.seqs:
            found = self._packet(track, sequence, shape)
            if found is None:
                continue
            shaped, age, source, position = found
            if source.kind == "video" and self._left_behind(source, now):
                continue
            copies = min(most, self._copies(source, position, now), int(self._repair_tokens))
            repair_ssrc = leg.repair_of(track.ssrc) if leg.rtx_type >= 0 else 0
            if not repair_ssrc and age >= REPLAY_WINDOW:
                continue
            if repair_ssrc:
                shaped = rtp.stamped(shaped, shape, rtp.abs_send_time(now))
            for _ in range(copies):
                if repair_ssrc:
                    number = self._rtx_number(repair_ssrc)
                    answers.append(rtp.rtx(shaped, leg.rtx_type, repair_ssrc, number))
                else:
                    answers.append(shaped)
            self._repair_tokens -= copies
            if copies:
                self._note_repeat(source, position, copies, now)
        if answers:
            self.resent += len(answers)
            self.stream.resend(target, answers)

    def _left_behind(self, track: Track, now: float) -> bool:
        """Whether a viewer has left a layer because its line was full.

        Repeats would keep it so, and what may be repeated is needed for the new layer's keyframe.
        """
        return not self.is_relay and track is not self.layer and now - self._lowered_s < WARY_S

    def _repairs_per_s(self, track: Track) -> float:
        """How many packets a second may be repeated."""
        if self.is_relay:
            return REPAIR_PER_S * RELAY_FACTOR
        if not self.line.remb_bps:
            return REPAIR_PER_S
        # A thin line carries small packets: by the largest ones none could be repeated.
        size = track.bytes / track.packets if track.packets else 1200.0
        return min(REPAIR_PER_S, REPAIR_SHARE * self.line.remb_bps / 8 / size)

    def _copies(self, track: Track, position: int, now: float) -> int:
        """How often to repeat a packet now: not while it may still be under way."""
        rtt_s = self.rtt_s * (HOLD_RTT_NODE if self.is_relay else HOLD_RTT)
        hold_s = min(HOLD_MAX_S, max(HOLD_MIN_S, rtt_s or HOLD_UNKNOWN_S))
        at_s, times = self._repeated.get((track.ssrc, position), (0.0, 0))
        lossy = LOSSY <= self.fraction_lost < NOT_LOSSY
        if times == 1 and self.is_relay and lossy and now - at_s >= SPACED_S:
            return 1
        if now - max(at_s, track.late.get(position, 0.0)) < hold_s:
            return 0
        roomy = not self.is_relay and not self.pace_bps
        return COPIES_AGAIN if times or (lossy and roomy) else 1

    def _note_repeat(self, track: Track, position: int, copies: int, now: float) -> None:
        _, times = self._repeated.pop((track.ssrc, position), (0.0, 0))
        self._repeated[track.ssrc, position] = now, times + copies
        if len(self._repeated) > MAX_REPEATED:
            del self._repeated[next(iter(self._repeated))]

    def _rtx_number(self, ssrc: int) -> int:
        """The next sequence number of a line of repeats."""
        number = self._rtx_sequences.get(ssrc)
        if number is None:
            number = secrets.randbits(15)
        self._rtx_sequences[ssrc] = (number + 1) & 0xFFFF
        return number

    def _packet(
        self, track: Track, sequence: int, shape: Shape
    ) -> tuple[bytes, int, Track, int] | None:
        """The packet that this viewer knows under a number.

        With it: how many ago it was, and the track and position where the ring has it.
        """
        if self.is_relay or track.kind != "video":
            position = track.position_of(sequence)
            kept = track.get(position)
            if kept is None:
                return None
            return rtp.reshape(kept, shape), track.highest - position, track, position
        current = self.lane.current
        if current is None:
            # Nothing was sent yet: the numbers will be the track's own.
            current = Splice(track, track.highest, track.highest, plain=True)
            located: tuple[Splice, int] | None = (current, track.position_of(sequence))
        else:
            located = self.lane.locate(sequence)
        if located is None:
            return None
        splice, position = located
        kept = splice.track.get(position)
        if kept is None:
            return None
        age = current.track.highest + current.shift - (position + splice.shift)
        shaped = self._dress(rtp.reshape(kept, shape), splice, track.ssrc)
        return shaped, age, splice.track, position

    def _dress(self, shaped: bytes, splice: Splice, ssrc: int) -> bytes:
        """A packet of a layer under the one SSRC and line of numbers that the viewer sees."""
        if splice.track.ssrc != ssrc:
            shaped = rtp.under(shaped, ssrc)
        return splice.apply(shaped, splice.track.format.codec)

    def pace(self, audio_bps: float, now: float) -> float:
        """Bitrate at which a keyframe goes out to this viewer; 0 where its line needs no care.

        `held`: all of its picture does.
        """
        estimate = self.line.remb_bps
        self.held = False
        if self.is_relay or not estimate or self.layer is None:
            return 0.0
        if not self.layer.known_bps:
            return 0.0
        need = self.layer.known_bps + audio_bps
        if self._chooser is not None and self._chooser.doubts(self.line, need, now):
            self.held = True
            return HELD * estimate
        # A low estimate alone may be one that is still on its way up.
        wary = now - self.line.fell_s < WARY_S and estimate < WARY_ROOM * need
        if not (wary or self.line.queued or (self.line.strained and estimate < need)):
            return 0.0
        return max(PACE_OF_ESTIMATE * estimate, PACE_OF_NEED * need)

    def paced(self, track: Track, now: float) -> list[bytes]:
        """What may leave now of the picture of a viewer with a thin line."""
        gone = min(now - self._paced_s, 0.1)
        self._paced_s = now
        self._paced_bytes = min(MAX_PACED_BYTES, self._paced_bytes + gone * self.pace_bps / 8)
        found: list[bytes] = []
        while self._paced_bytes > 0 and (packets := self.pending(track, 1, now)):
            found += packets
            self._paced_bytes -= len(packets[0])
        return found

    def behind_s(self, track: Track) -> float:
        """How much of a track waits for this viewer, in seconds of media."""
        first = next(
            (k for p in range(self.position[track], track.flushed) if (k := track.get(p))), None
        )
        newest = track.get(track.highest)
        if first is None or newest is None:
            return 0.0
        here, there = (int.from_bytes(k[4:8], "big") for k in (first, newest))
        return rtp.ts_delta(there, here) / track.format.clock_rate

    def pending(self, track: Track, limit: int, now: float) -> list[bytes]:
        """The next packets of a track for a viewer that catches up, at most `limit`."""
        shape = self.shapes[track.kind]
        splice = self.lane.current if track is self.layer else None
        ssrc = self.stream.tracks[track.kind].ssrc
        leg = self.legs[track.kind]
        stamp = rtp.abs_send_time(now) if leg.rtx_type >= 0 and leg.rtx_ssrc else -1
        at, end = max(self.position[track], track.oldest), track.flushed
        found: list[bytes] = []
        while at < end and len(found) < limit:
            kept = track.get(at)
            if kept is not None:
                shaped = rtp.reshape(kept, shape)
                if stamp >= 0:
                    shaped = rtp.stamped(shaped, shape, stamp)
                found.append(shaped if splice is None else self._dress(shaped, splice, ssrc))
            at += 1
        self.position[track] = at
        return found
