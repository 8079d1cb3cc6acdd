"""What a node tells about itself: /api/node for programs and pages, /metrics for Prometheus."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from relay import __version__

if TYPE_CHECKING:
    from relay.channel import Channel
    from relay.node import Node
    from relay.track import Track

# Bitrates are means over about this long.
WINDOW_S = 2.0


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
            for kind, track in stream.tracks.items():
                counters[channel.name, kind] = track.bytes
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
        streams = [self._stream(c, now) for c in list(node.channels.values()) if c.stream]
        return {
            "id": node.id,
            "name": config.name,
            "tier": config.tier,
            "version": __version__,
            "uptime_s": round(now - node.started_s, 1),
            "time": round(time.time(), 3),
            "parent": config.parents[0] if config.parents else None,
            "parents": list(config.parents),
            "parent_state": node.parent_state,
            "parent_rtt_ms": node.parent_rtt_ms,
            "error": node.parent_error,
            "transport": {
                "gso": port.fanout.abilities.gso,
                "sendmmsg": port.fanout.abilities.sendmmsg,
                "note": port.fanout.abilities.note,
            },
            "viewers": sum(1 for c in node.channels.values() for s in c.viewers if not s.relay_id),
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

    def _stream(self, channel: Channel, now: float) -> dict[str, object]:
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
            "pushed": channel.push is not None,
            "bitrate_in_bps": sum(self._rate(channel.name, k) for k in stream.tracks),
            "bitrate_out_bps": self._rate(channel.name, "out"),
            "packets_out": stream.packets_out,
            "publisher_gone_s": None if gone is None else round(now - gone, 1),
            "rtt_ms": round(1000 * _source_rtt(channel), 2),
            "tracks": [self._track(channel, t, now) for t in stream.tracks.values()],
        }

    def _track(self, channel: Channel, track: Track, now: float) -> dict[str, object]:
        source = channel.source
        viewers = [s.viewer for s in channel.viewers if s.viewer is not None]
        keyframe = round(now - track.keyframe_at_s, 1) if track.keyframes else None
        figures: dict[str, object] = {
            "kind": track.kind,
            "codec": track.format.codec,
            "fmtp": track.format.fmtp,
            "ssrc": track.ssrc,
            "packets": track.packets,
            "bytes": track.bytes,
            "bitrate_bps": self._rate(channel.name, track.kind),
            "rebases": track.numbering.rebases,
            "keyframes": track.keyframes,
            "keyframe_age_s": keyframe,
            "keyframes_asked": source.keyframes_asked if source is not None else 0,
        }
        if source is not None:
            figures |= source.figures(track.kind)
        if track.kind == "video":
            figures["nacks_in"] = sum(v.nacks for v in viewers)
            figures["resent"] = sum(v.resent for v in viewers)
        return figures

    def metrics(self, node: Node) -> str:
        """The figures in Prometheus' text format."""
        port, counters = node.port, node.port.fanout.counters
        lines: list[str] = []

        def metric(name: str, kind: str, help_text: str, *samples: tuple[str, float]) -> None:
            lines.append(f"# HELP terrace_{name} {help_text}")
            lines.append(f"# TYPE terrace_{name} {kind}")
            lines.extend(f"terrace_{name}{labels} {value:g}" for labels, value in samples)

        metric("up_seconds", "gauge", "Time since start.", ("", time.monotonic() - node.started_s))
        metric("datagrams_in_total", "counter", "Datagrams received.", ("", port.datagrams_in))
        metric("packets_out_total", "counter", "RTP packets sent.", ("", counters.packets))
        metric("bytes_out_total", "counter", "Bytes sent, SRTP included.", ("", counters.bytes))
        metric("messages_out_total", "counter", "Messages handed to the kernel.",
               ("", counters.messages))  # fmt: skip
        metric("send_dropped_total", "counter", "Packets that could not be sent.",
               ('{reason="full"}', counters.dropped_full),
               ('{reason="error"}', counters.dropped_error),
               ('{reason="protect"}', counters.protect_failed))  # fmt: skip
        metric("bad_datagrams_total", "counter", "Datagrams of nobody or malformed.",
               ("", port.strays + port.bad_checks))  # fmt: skip
        metric("errors_total", "counter", "Faults caught in the forwarding thread.",
               ("", port.errors))  # fmt: skip
        metric("forward_cpu_seconds_total", "counter", "CPU time of the forwarding thread.",
               ("", port.busy_s))  # fmt: skip
        metric("children", "gauge", "Nodes below that report to this one.",
               ("", len(node.children)))  # fmt: skip
        metric("parent_connected", "gauge", "1 if the parent answers.",
               ("", float(node.parent_state == "connected")))  # fmt: skip
        channels = [c for c in node.channels.values() if c.stream]
        # Stream names hold no character that a label would have to escape.
        metric("stream_viewers", "gauge", "Viewers at this node.",
               *((f'{{stream="{c.name}"}}', sum(1 for s in c.viewers if not s.relay_id))
                 for c in channels))  # fmt: skip
        metric("stream_live", "gauge", "1 while packets arrive.",
               *((f'{{stream="{c.name}"}}', float(c.state == "live")) for c in channels))  # fmt: skip
        for name, help_text in (("packets", "RTP packets kept."), ("bytes", "RTP bytes kept.")):
            metric(f"track_{name}_total", "counter", help_text,
                   *((f'{{stream="{c.name}",kind="{t.kind}"}}', getattr(t, name))
                     for c in channels if c.stream for t in c.stream.tracks.values()))  # fmt: skip
        for name in ("lost", "repaired", "nacks_out", "jitter_ms"):
            kind = "gauge" if name == "jitter_ms" else "counter"
            metric(f"track_{name}" + ("" if kind == "gauge" else "_total"), kind,
                   f"Ingest {name.replace('_', ' ')}.",
                   *((f'{{stream="{c.name}",kind="{t.kind}"}}', c.source.figures(t.kind)[name])
                     for c in channels if c.stream and c.source
                     for t in c.stream.tracks.values()))  # fmt: skip
        return "\n".join(lines) + "\n"


def _source_rtt(channel: Channel) -> float:
    source = channel.source
    return source.peer.rtt_s if source is not None else 0.0
