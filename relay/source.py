"""What feeds a stream: one peer, a publisher or the parent, and its lines of packets.

Takes the peer's RTP, has each packet numbered and kept by its track, undoes retransmissions, asks
again for what is missing, and reports back: receiver reports, and to a publisher the bitrate that
the line carries (REMB). Runs on the forwarding thread.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from aiortc.rate import BandwidthUsage, RemoteBitrateEstimator

from relay import packet as rtp
from relay import rtcp
from relay.packet import ExtensionIds, Ingest, PacketError, ts_delta
from relay.repair import Missing
from relay.run import Run
from relay.sdp import Layer, Leg
from relay.track import SenderClock, Track

if TYPE_CHECKING:
    from relay.peer import Peer
    from relay.stream import Stream

log = logging.getLogger("relay.source")

REPORT_EVERY_S = 1.0
MAX_LINES = 16
# The estimate grows from what arrives, a few per cent a second. Until the line shows its limit a
# publisher is told this much, or its first half minute would look poor on a good line.
START_BPS = 3_000_000
START_LOSS = 5
# A track that brought nothing for so long is not waited for when another source takes over.
FLOWS_S = 0.5


@dataclass(slots=True)
class _Line:
    """One incoming SSRC."""

    ssrc: int
    leg: Leg
    track: Track
    extensions: ExtensionIds
    rtx: bool
    idle: bool = False
    missing: Missing = field(default_factory=Missing)
    received: int = 0
    restored: int = 0
    expected_base: int = -1
    cycles: int = 0
    highest: int = 0
    jitter: float = 0.0
    transit: int = 0
    last_timestamp: int = -1
    prior_expected: int = 0
    prior_received: int = 0
    lsr: int = 0
    lsr_at_s: float = 0.0

    def note(self, sequence: int, timestamp: int, now: float, count: int = 1) -> None:
        """Counts for receiver reports (RFC 3550 appendix A.3 and A.8).

        `sequence` is the last one of `count` consecutive packets.
        """
        self.received += count
        if self.expected_base < 0:
            self.expected_base = self.highest = sequence
        else:
            ahead = rtp.seq_delta(sequence, self.highest)
            if ahead > 0:
                if sequence < self.highest:
                    self.cycles += 0x10000
                self.highest = sequence
        if timestamp != self.last_timestamp:
            transit = int(now * self.leg.format.clock_rate) - timestamp & 0xFFFFFFFF
            if self.last_timestamp >= 0:
                self.jitter += (abs(ts_delta(transit, self.transit)) - self.jitter) / 16
            self.transit, self.last_timestamp = transit, timestamp

    def restart(self) -> None:
        """Begin to count anew: the sender left packets out that nobody wanted."""
        self.missing.restart()
        self.expected_base = -1
        self.received = self.cycles = self.prior_expected = self.prior_received = 0

    def block(self, now: float) -> rtcp.ReportBlock:
        """The report block since the last one."""
        expected = self.cycles + self.highest - self.expected_base + 1
        lost = max(-0x800000, min(0x7FFFFF, expected - self.received))
        interval = expected - self.prior_expected
        interval_lost = interval - (self.received - self.prior_received)
        self.prior_expected, self.prior_received = expected, self.received
        fraction = 0
        if interval > 0 and interval_lost > 0:
            fraction = min(255, 256 * interval_lost // interval)
        dlsr = int((now - self.lsr_at_s) * 65536) & 0xFFFFFFFF if self.lsr else 0
        highest = (self.cycles + self.highest) & 0xFFFFFFFF
        jitter = int(self.jitter) & 0xFFFFFFFF
        return rtcp.ReportBlock(self.ssrc, fraction, lost, highest, jitter, self.lsr, dlsr)


class Source:
    """The peer that a stream's packets come from, as its media handler.

    `ssrc` is our own, for reports. `from_node`: the peer is a node, which answers as ours do.
    `level` is set once it has brought as much as there was when it was attached: from then on it
    can feed the stream alone.
    """

    def __init__(
        self,
        stream: Stream,
        peer: Peer,
        legs: list[Leg],
        ssrc: int,
        *,
        estimate: bool,
        from_node: bool = False,
    ) -> None:
        self.stream = stream
        self.peer = peer
        self.legs = legs
        self.ssrc = ssrc
        self.bad_packets = 0
        self.last_media_s = 0.0
        self.bytes = 0
        self.keyframes_asked = 0
        self._retired = False
        self._from_node = from_node
        self.level = asyncio.Event()
        self._is_level = False
        # How far another source had brought each track that flows, and of which kinds this one has
        # not brought as much yet.
        self._goals: dict[Track, int] = {}
        self._behind: set[str] = set()
        self._loop = asyncio.get_running_loop()
        self._lines: dict[int, _Line] = {}
        self._known: dict[int, tuple[Leg, Track, bool]] = {}
        self._inherited: dict[int, Missing] = {}
        self._extensions = [ExtensionIds(leg.extensions) for leg in legs]
        self._estimator = RemoteBitrateEstimator() if estimate else None
        self._burst = (0.0, 0, 0)
        self._burst_bytes = 0
        self._burst_timestamp = -1
        self._congested = False
        self._remb: tuple[int, list[int]] | None = None
        self._report_at_s = 0.0
        self._on_need: Callable[[frozenset[Track]], None] | None = None
        for leg in legs:
            for layer in leg.layers:
                self.know(leg, layer)

    def know(self, leg: Leg, layer: Layer) -> None:
        """Learn under which SSRCs a layer comes."""
        track = self._track_of(layer.rid)
        if track is not None:
            for ssrc, rtx in ((layer.ssrc, False), (layer.rtx_ssrc, True)):
                if ssrc:
                    self._known[ssrc] = (leg, track, rtx)

    def _track_of(self, rid: str) -> Track | None:
        return next((t for t in self.stream.layers if t.rid == rid), None)

    @property
    def layered(self) -> bool:
        """Whether the peer sends its picture in layers."""
        return any(leg.layers for leg in self.legs)

    def on_need(self, callback: Callable[[frozenset[Track]], None]) -> None:
        """Have `callback` told, on this thread, which layers are watched."""
        self._on_need = callback

    # ------------------------------------------------------------ packets

    def on_rtp(self, data: bytes, now: float) -> None:
        """Number, keep and forward one packet."""
        if self._retired:
            return
        if len(data) > rtp.MAX_INGEST_SIZE:
            self.bad_packets += 1
            return
        ssrc = int.from_bytes(data[8:12], "big")
        line = self._lines.get(ssrc) or self._new_line(ssrc, data)
        if line is None:
            self.bad_packets += 1
            return
        try:
            parsed = rtp.parse(data, line.extensions)
        except PacketError:
            self.bad_packets += 1
            return
        self.bytes += len(data)
        self.last_media_s = now
        if self._estimator is not None and parsed.abs_send_time >= 0:
            self._estimate(parsed, len(data), now)
        if line.rtx:
            original = self._original(data, line, parsed)
            if original is None:
                return
            line, parsed = original
            line.restored += line.missing.awaits(parsed.seq)
        else:
            if line.idle:
                line.restart()
            line.note(parsed.seq, parsed.timestamp, now)
        unfinished = not parsed.marker and line.track.kind == "video"
        if line.missing.arrived(parsed.seq, now, unfinished):
            self.stream.hurry()
        track = line.track
        if not self._is_level:
            self._rise(track, parsed.seq)
        rebases = track.numbering.rebases
        kept = track.insert(data, parsed, line.ssrc, rtp.abs_send_time(now), now)
        if kept is None:
            return
        if track.numbering.rebases != rebases:
            # The numbers have jumped: what they say of loss begins anew, too.
            line.restart()
            line.note(parsed.seq, parsed.timestamp, now)
            line.missing.arrived(parsed.seq, now)
        self.stream.push(track, kept)

    def expects(self, run: Run, now: float) -> bool:
        """Whether a run is the very next of its line, and nothing else is to be done for it.

        Everything that `on_rtp` does for other packets than these is ruled out here.
        """
        line = self._lines.get(run.ssrc)
        if line is None or line.rtx or line.idle or line.expected_base < 0:
            return False
        return (
            self._is_level
            and not self._retired
            and self._estimator is None
            and run.extension == line.extensions.send_time_alone
            and line.missing.goes_on(run.sequence)
            and line.track.numbering.goes_on(run.ssrc, run.sequence, run.timestamp, now)
            and line.track.follows(run.sequence)
        )

    def on_run(self, run: Run, now: float) -> None:
        """Keep and forward the packets of a run that was expected: what `on_rtp` does for each."""
        line = self._lines[run.ssrc]
        track, count = line.track, run.count
        kept = run.canonical(track.ssrc, rtp.abs_send_time(now))
        self.bytes += sum(map(len, kept))
        self.last_media_s = now
        line.note((run.sequence + count - 1) & 0xFFFF, run.timestamp, now, count)
        line.missing.went_on(count, now, not run.marker and track.kind == "video")
        track.numbering.went_on(count, run.timestamp, now)
        track.extend(kept, run.timestamp, now)
        for packet in kept:
            self.stream.push(track, packet)

    def _rise(self, track: Track, sequence: int) -> None:
        """Find out whether this source is level with what fed the stream before."""
        goal = self._goals.get(track)
        if track.kind in self._behind:
            if goal is None or rtp.seq_delta(sequence, goal) < 0:
                return
            self._behind.discard(track.kind)
        if not self._behind:
            self._is_level = True
            self._loop.call_soon_threadsafe(self.level.set)

    def _estimate(self, parsed: Ingest, size: int, now: float) -> None:
        """Let the estimator see whole frames: it groups packets of one burst anyway, and costs
        more per call than all the rest of a packet's way in.
        """
        assert self._estimator is not None
        if parsed.timestamp == self._burst_timestamp:
            self._burst_bytes += size
        elif self._burst_bytes:
            at_s, sent, ssrc = self._burst
            estimate = self._estimator.add(int(at_s * 1000), sent, self._burst_bytes, ssrc)
            if estimate is not None:
                self._remb = estimate
            if self._estimator.detector.state() is BandwidthUsage.OVERUSING:
                self._congested = True
            self._burst_bytes = size
        else:
            self._burst_bytes = size
        self._burst_timestamp = parsed.timestamp
        self._burst = (now, parsed.abs_send_time, parsed.ssrc)

    def _new_line(self, ssrc: int, data: bytes) -> _Line | None:
        """Find out what a new SSRC carries: by what was agreed, its payload type, its rid."""
        payload_type = data[1] & 0x7F
        for leg, extensions in zip(self.legs, self._extensions, strict=True):
            if payload_type not in (leg.payload_type, leg.rtx_type):
                continue
            rtx = payload_type == leg.rtx_type
            track: Track | None
            if ssrc in self._known:
                _, track, rtx = self._known[ssrc]
            elif leg.layers:
                track = self._by_rid(data, extensions)
            else:
                track = self.stream.tracks.get(leg.format.kind)
            if track is None or len(self._lines) >= MAX_LINES:
                return None
            line = _Line(ssrc, leg, track, extensions, rtx)
            if ssrc in self._inherited:
                line.missing = self._inherited.pop(ssrc)
                line.missing.renew(time.monotonic())
            line.missing.eager = self._from_node
            self._lines[ssrc] = line
            return line
        return None

    def _by_rid(self, data: bytes, extensions: ExtensionIds) -> Track | None:
        """The layer that a packet names (RFC 8852); senders repeat it until we have reported."""
        try:
            parsed = rtp.parse(data, extensions)
        except PacketError:
            return None
        rid = parsed.repaired_rid or parsed.rid
        return None if rid is None else self._track_of(rid)

    def _original(self, data: bytes, line: _Line, parsed: Ingest) -> tuple[_Line, Ingest] | None:
        """The packet inside a retransmission, on the line that it belongs to."""
        source = line.track.numbering.source
        main = self._lines.get(source)
        if main is None or main.rtx or main.track is not line.track:
            return None
        original = rtp.rtx_original(data, parsed, main.leg.payload_type, main.ssrc)
        return None if original is None else (main, original)

    # ------------------------------------------------------------ reports

    def on_rtcp(self, data: bytes, now: float) -> None:
        """Take sender reports; carry their clock over to the track's own line."""
        for report in rtcp.parse(data):
            if not isinstance(report, rtcp.SenderReport):
                continue
            line = self._lines.get(report.ssrc)
            if line is None or line.rtx:
                continue
            line.lsr, line.lsr_at_s = rtcp.ntp_middle(report.ntp), now
            numbering = line.track.numbering
            if numbering.begun and numbering.source == report.ssrc:
                first = line.track.clock is None
                timestamp = numbering.timestamp(report.rtp_timestamp)
                line.track.clock = SenderClock(report.ntp, timestamp, now)
                if first:
                    self.stream.clock_changed()

    def ask_keyframe(self, track: Track, now: float, urgent: bool = False) -> None:
        """Send a PLI for the line that feeds a track (RFC 4585 section 6.3.1).

        An urgent one goes to a node as FIR, which tells it not to merge it with older requests. Not
        to publishers: some know PLI alone.
        """
        ssrc = track.numbering.source
        if ssrc < 0:
            known = (n for n, (_, layer, rtx) in self._known.items() if layer is track and not rtx)
            leg = next((g for g in self.legs if g.format.kind == track.kind), None)
            ssrc = next(known, leg.ssrc if leg is not None and not leg.layers else 0)
        if not ssrc:
            return
        self.keyframes_asked += 1
        report = rtcp.receiver_report(self.ssrc, [])
        if urgent and self._from_node:
            self._send(report + rtcp.fir(self.ssrc, ssrc, self.keyframes_asked))
        else:
            self._send(report + rtcp.pli(self.ssrc, ssrc))

    def need(self, layers: frozenset[Track]) -> None:
        """Note which layers are watched; a parent is told, a publisher sends all of its own."""
        if self._on_need is None:
            return
        for line in self._lines.values():
            if line.track.kind == "video" and not line.rtx:
                idle = line.track not in layers
                if line.idle and not idle:
                    line.restart()
                line.idle = idle
        self._on_need(layers)

    def tick(self, now: float) -> bool:
        """Ask for what is missing; once a second report."""
        waiting = False
        for line in self._lines.values():
            if not line.rtx and line.missing.watchful(now):
                waiting = True
                if self.peer.rtt_s:
                    line.missing.rtt_s = self.peer.rtt_s
                ask = line.missing.due(now)
                if ask:
                    report = rtcp.receiver_report(self.ssrc, [])
                    self._send(report + rtcp.nack(self.ssrc, line.ssrc, ask))
        if now - self._report_at_s >= REPORT_EVERY_S:
            self._report_at_s = now
            self._report(now)
        return waiting

    def _report(self, now: float) -> None:
        blocks = [n.block(now) for n in self._lines.values() if not n.rtx and n.received]
        if not blocks:
            return
        compound = rtcp.receiver_report(self.ssrc, blocks[:31])
        compound += rtcp.sdes_cname(self.ssrc, "terrace")
        if self._remb is not None:
            bitrate_bps, ssrcs = self._remb
            if any(block.fraction_lost > START_LOSS for block in blocks):
                self._congested = True
            if not self._congested:
                bitrate_bps = max(bitrate_bps, START_BPS)
            compound += rtcp.remb(self.ssrc, bitrate_bps, ssrcs[:31])
        self._send(compound)

    def _send(self, compound: bytes) -> None:
        target = self.peer.target
        if target is not None:
            self.stream.send_control(target, compound)

    # ------------------------------------------------------------ figures

    def _repeated(self, line: _Line) -> int:
        """How many packets this very hop lost and the sender repeated.

        A packet that the node above got late itself comes late too, asked for or not, but not as
        a retransmission; without RTX the two cannot be told apart.
        """
        if line.leg.rtx_type >= 0:
            return line.restored
        return 0 if self._from_node else line.missing.repaired

    def figures(self, track: Track) -> dict[str, float]:
        """Loss and jitter of the lines of one track, for people."""
        lines = [n for n in list(self._lines.values()) if n.track is track and not n.rtx]
        return {
            "lost": sum(n.missing.lost for n in lines),
            "repaired": sum(n.missing.repaired for n in lines),
            "repeated": sum(self._repeated(n) for n in lines),
            "nacks_out": sum(n.missing.asked for n in lines),
            "jitter_ms": max(
                (round(1000 * n.jitter / n.leg.format.clock_rate, 2) for n in lines), default=0.0
            ),
        }

    def retire(self) -> None:
        """Take no more packets: another source feeds the stream from now on."""
        self._retired = True

    def attach(self, before: Source | None, anew: bool = False) -> None:
        """Become the stream's source, on the forwarding thread.

        `before` is the pull that fed the stream up to now, from another parent: what it was
        asking for is asked of this one. None for a publisher, whose lines are new. `anew`: its
        numbers have nothing to do with what came before, even if they look alike; false for a
        node that pushes the same publisher again, for it goes on in its own line.
        """
        now = time.monotonic()
        if before is None:
            if self.stream.upstream is not None:
                # Packets of a publisher that is being replaced may still be under way.
                self.stream.upstream.retire()
            self._retired = False
            for track in self.stream.all_tracks:
                if track.made_from is None:
                    track.numbering.keeps_time = False
                # Another publisher has another clock; until its first report there is none.
                if track.numbering.begun:
                    track.clock = None
                    if anew:
                        track.numbering.restart()
                        track.forget_keyframe()
        else:
            self._inherited = {n.ssrc: n.missing for n in before._lines.values() if not n.rtx}
            self._inherited.update(before._inherited)
            for track in self.stream.all_tracks:
                if track.numbering.begun and now - track.last_arrival_s < FLOWS_S:
                    self._goals[track] = track.numbering.source_sequence(track.highest)
            self._behind = {track.kind for track in self._goals}
        self.stream.fed_by(self)
        self._report_at_s = now
        self.peer.serve(self)
