"""What a node tells about itself at /api/node, for programs and pages."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from relay import __version__

if TYPE_CHECKING:
    from relay.channel import Channel
    from relay.node import Node
    from relay.track import Track
    from relay.viewer import Viewer

# Bitrates are means over about this long.
WINDOW_S = 2.0
# More viewers than this are not listed one by one.
MAX_LINES = 20


class Figures:
    """Keeps the last samples of the byte counters, to tell rates."""

    def __init__(self) -> None:
        self._before: dict[object, tuple[float, int]] = {}
        self._rates: dict[object, float] = {}
        self._sampled_s = 0.0

    def sample(self, node: Node, now: float) -> None:
        """Take the counters now and then; called from the node's sweep."""
        if now - self._sampled_s < WINDOW_S:
            return
        self._sampled_s = now
        counters: dict[object, int] = {}
        for channel in node.channels.values():
            stream = channel.stream
            if stream is None:
                continue
            counters[channel.name, "out"] = stream.bytes_out
            for track in stream.all_tracks:
                counters[channel.name, track.ssrc] = track.bytes
        rates: dict[object, float] = {}
        for key, value in counters.items():
            if key in self._before:
                before_s, before = self._before[key]
                rates[key] = max(0.0, 8 * (value - before) / (now - before_s))
        self._rates = rates
        self._before = {key: (now, value) for key, value in counters.items()}

    def _rate(self, *key: object) -> int:
        return round(self._rates.get(key, 0.0))

    def node(self, node: Node) -> dict[str, object]:
        """The object that /api/node shows."""
        now = time.monotonic()
        config, port = node.config, node.port
        counters = port.fanout.counters
        streams = [self._stream(node, c, now) for c in list(node.channels.values()) if c.stream]
        return {
            "id": node.id,
            "name": config.name,
            "tier": config.tier,
            "version": __version__,
            "uptime_s": round(now - node.started_s, 1),
            "time": round(time.time(), 3),
            **_above(node),
            "transport": {
                "gso": port.fanout.abilities.gso,
                "gro": port.fanout.abilities.gro,
                "sendmmsg": port.fanout.abilities.sendmmsg,
                "note": port.fanout.abilities.note,
            },
            # What a leak would show first.
            "tasks": len(asyncio.all_tasks()),
            "sessions": len(node.sessions),
            "viewers": len(node.viewers),
            "joins": node.crowd.joins,
            "load": node.crowd.snapshot() | {"send_dropped_recent": node.sight.dropped()},
            "children": [
                {
                    "id": child.id, "name": child.name, "tier": child.tier, "url": child.url,
                    "last_seen_s": round(now - child.seen_s, 1),
                }
                for child in node.children.values()
            ],
            "totals": {
                "packets_in": port.datagrams_in,
                "packets_out": counters.packets,
                "bytes_out": counters.bytes,
                "messages_out": counters.messages,
                "send_dropped": counters.dropped_full + counters.dropped_error,
                "full_waits": counters.full_waits,
                "bad_datagrams": port.strays + port.bad_checks,
                "protect_failed": counters.protect_failed,
                "errors": port.errors,
                "forward_cpu_s": round(port.busy_s, 3),
            },
            "streams": streams,
        }  # fmt: skip

    def _stream(self, node: Node, channel: Channel, now: float) -> dict[str, object]:
        stream = channel.stream
        assert stream is not None
        viewers = channel.viewers
        gone = channel.source_gone_s
        return {
            "name": channel.name,
            "source": channel.fed_by,
            "state": channel.state,
            "viewers": sum(1 for s in viewers if not s.relay_id),
            "relays": sum(1 for s in viewers if s.relay_id),
            "sound_only": sum(s.viewer is not None and s.viewer.sound_only for s in viewers),
            "pushed": channel.push is not None,
            "on_demand": channel.on_demand,
            "ladder": _ladder(channel),
            "programme": _programme(channel),
            "bitrate_in_bps": sum(self._rate(channel.name, t.ssrc) for t in stream.all_tracks),
            "bitrate_out_bps": self._rate(channel.name, "out"),
            "packets_out": stream.packets_out,
            "parent": channel.puller.pull.parent.url
            if channel.puller is not None and channel.puller.pull is not None
            else None,
            "parent_changes": channel.puller.changes if channel.puller is not None else 0,
            "publisher_gone_s": None if gone is None else round(now - gone, 1),
            "rtt_ms": round(1000 * _source_rtt(channel), 2),
            "skew_ms": node.sight.skew_ms(channel.name),
            **node.sight.viewers(channel),
            "lines_below": [_line(s.viewer) for s in viewers if s.viewer is not None][:MAX_LINES],
            "tracks": [self._track(node, channel, t, now) for t in stream.all_tracks],
        }

    def _track(self, node: Node, channel: Channel, track: Track, now: float) -> dict[str, object]:
        source = channel.source
        if track.made_from is not None and channel.ladder is not None and channel.ladder.ladder:
            source = channel.ladder.ladder.source
        viewers = [s.viewer for s in channel.viewers if s.viewer is not None]
        keyframe = round(now - track.keyframe_at_s, 1) if track.keyframes else None
        figures: dict[str, object] = {
            "kind": track.kind,
            "codec": track.format.codec,
            "fmtp": track.format.fmtp,
            "ssrc": track.ssrc,
            "packets": track.packets,
            "bytes": track.bytes,
            "bitrate_bps": self._rate(channel.name, track.ssrc),
            "rebases": track.numbering.rebases,
            "keyframes": track.keyframes,
            "keyframe_age_s": keyframe,
            "keyframes_asked": source.keyframes_asked if source is not None else 0,
        }
        if source is not None:
            figures |= source.figures(track) | node.sight.track(channel.name, track.kind)
        if track.kind == "video":
            figures["rid"] = track.rid
            figures["viewers"] = sum(v.layer is track for v in viewers)
            figures["relays"] = sum(v.is_relay and track in v.flow for v in viewers)
            figures["nacks_in"] = sum(v.nacks for v in viewers)
            figures["resent"] = sum(v.resent for v in viewers)
        return figures


def _above(node: Node) -> dict[str, object]:
    """The parents and the one that serves."""
    parents = node.parents.all if node.parents is not None else []
    shown = node.parents.shown if node.parents is not None else None
    return {
        "parent": shown.url if shown is not None else None,
        "parents": [p.url for p in parents],
        "parent_state": shown.state if shown is not None else "none",
        "parent_rtt_ms": shown.rtt_ms if shown is not None else 0.0,
        "error": shown.error if shown is not None else "",
    }


def _line(viewer: Viewer) -> dict[str, object]:
    """What is known of the line to one viewer or node below."""
    layers = [t.rid for t in viewer.flow if t.kind == "video"]
    return {
        "label": viewer.peer.label,
        "relay": viewer.is_relay,
        "layers": layers,
        "wanted": viewer.wanted.rid if viewer.wanted is not None else None,
        "estimate_bps": viewer.remb_bps,
        "lost": round(viewer.fraction_lost, 3),
        "rtt_ms": round(1000 * viewer.rtt_s, 1),
        "nacks": viewer.nacks,
        "resent": viewer.resent,
        "redundant_audio": viewer.red >= 0,
    }


def _ladder(channel: Channel) -> dict[str, object] | None:
    """What makes the lower layers here, if anything does."""
    session = channel.ladder
    return session.ladder.figures() if session is not None and session.ladder is not None else None


def _programme(channel: Channel) -> dict[str, object] | None:
    """Which source the stream shows, if it is switched."""
    programme = channel.on_programme
    if programme is None:
        return None
    return {"source": programme.source, "muted": programme.muted, "cuts": programme.cuts}


def _source_rtt(channel: Channel) -> float:
    source = channel.source
    return source.peer.rtt_s if source is not None else 0.0
