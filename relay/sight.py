"""What the last ten seconds were like: loss, repair and skew of every stream at this node.

Counters since the start say nothing about now: a line that was bad an hour ago would look bad for
ever, and one that has just become bad would look good for long.
"""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Hashable, Mapping
from typing import TYPE_CHECKING

from relay.packet import ts_delta

if TYPE_CHECKING:
    from relay.channel import Channel
    from relay.node import Node
    from relay.track import Track

RECENT_S = 10.0
# A viewer whose line loses more than this, by its own reports, is counted as one with a bad line.
LOSSY = 0.02
# Fewer packets than this say nothing about a share.
ENOUGH_PACKETS = 50


class Recent:
    """Differences of counters over the last RECENT_S. A counter that runs back begins anew."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, Mapping[Hashable, float]]] = deque()

    def add(self, now: float, counters: Mapping[Hashable, float]) -> None:
        """Take all counters."""
        if self._samples:
            before = self._samples[-1][1]
            if any(value < before.get(key, value) for key, value in counters.items()):
                # A stream has another source: what was counted of the one before is not of this.
                restarted = {k for k, v in counters.items() if v < before.get(k, v)}
                self._samples = deque(
                    (at, {k: v for k, v in kept.items() if k not in restarted})
                    for at, kept in self._samples
                )
        self._samples.append((now, counters))
        while len(self._samples) > 2 and now - self._samples[1][0] >= RECENT_S:
            self._samples.popleft()

    def gained(self, key: Hashable) -> float:
        """How much a counter grew since the oldest sample that has it."""
        if not self._samples:
            return 0.0
        newest = self._samples[-1][1].get(key)
        oldest = next((kept[key] for _, kept in self._samples if key in kept), None)
        return 0.0 if newest is None or oldest is None else newest - oldest


class Sight:
    """Keeps the recent past of one node; called by its sweep."""

    def __init__(self) -> None:
        self._recent = Recent()
        self._skews: dict[str, deque[float]] = {}

    def sample(self, node: Node, now: float) -> None:
        """Take the counters of all streams, due twice a second."""
        sent = node.port.fanout.counters
        counters: dict[Hashable, float] = {
            "dropped": sent.dropped_full + sent.dropped_error + sent.protect_failed
        }
        for channel in node.channels.values():
            stream, source = channel.stream, channel.source
            if stream is None:
                continue
            if source is None:
                if channel.on_programme is not None:
                    self._take_skew(channel)
                continue
            for kind in stream.tracks:
                tracks = [t for t in stream.all_tracks if t.kind == kind]
                figures = [source.figures(track) for track in tracks]
                counters[channel.name, kind, "packets"] = sum(t.packets for t in tracks)
                for what in ("lost", "repeated"):
                    counters[channel.name, kind, what] = sum(f[what] for f in figures)
            self._take_skew(channel)
        for name in [name for name in self._skews if name not in node.channels]:
            del self._skews[name]
        self._recent.add(now, counters)

    def _take_skew(self, channel: Channel) -> None:
        assert channel.stream is not None
        audio, video = (channel.stream.tracks.get(kind) for kind in ("audio", "video"))
        skew = skew_s(audio, video) if audio is not None and video is not None else None
        if skew is not None:
            self._skews.setdefault(channel.name, deque(maxlen=20)).append(skew)

    def dropped(self) -> int:
        """Packets that this node could not send, lately."""
        return round(self._recent.gained("dropped"))

    def track(self, stream: str, kind: str) -> dict[str, float]:
        """`loss_percent` on the way in, and what of it stayed lost (`unrepaired_percent`)."""
        packets, lost, repeated = (
            self._recent.gained((stream, kind, what)) for what in ("packets", "lost", "repeated")
        )
        sent = packets + lost
        if sent < ENOUGH_PACKETS:
            return {"loss_percent": 0.0, "unrepaired_percent": 0.0}
        return {
            "loss_percent": round(min(100.0, 100 * (lost + repeated) / sent), 2),
            "unrepaired_percent": round(min(100.0, 100 * lost / sent), 3),
        }

    def skew_ms(self, stream: str) -> float | None:
        """How much later the picture arrives than the sound that belongs to it."""
        skews = self._skews.get(stream)
        return round(1000 * statistics.median(skews), 1) if skews else None

    def viewers(self, channel: Channel) -> dict[str, float]:
        """What the viewers' own reports say about their lines; nodes below not counted."""
        viewers = [s.viewer for s in channel.viewers if s.viewer is not None and not s.relay_id]
        lossy = [v.fraction_lost for v in viewers if v.fraction_lost > LOSSY]
        rtts = [v.rtt_s for v in viewers if v.rtt_s]
        return {
            "viewers_lossy": len(lossy),
            "viewers_loss_percent": round(100 * max(lossy, default=0.0), 1),
            "viewers_rtt_ms": round(1000 * statistics.median(rtts), 1) if rtts else 0.0,
        }


def skew_s(audio: Track, video: Track) -> float | None:
    """By how much the newest picture took longer to get here than the newest sound, in seconds.

    Both were captured at times that the publisher's sender reports tell on one clock (RFC 3550
    section 6.4.1); None until both tracks have had a report.
    """
    delays = []
    for track in (audio, video):
        clock, packet = track.clock, track.get(track.highest)
        if clock is None or packet is None:
            return None
        timestamp = int.from_bytes(packet[4:8], "big")
        since = ts_delta(timestamp, clock.timestamp) / track.format.clock_rate
        delays.append((track.last_arrival_s - since, clock.ntp))
    (audio_s, audio_ntp), (video_s, video_ntp) = delays
    apart = ((video_ntp - audio_ntp + (1 << 63)) % (1 << 64)) - (1 << 63)
    return video_s - audio_s - apart / 2**32
