"""A node's figures in Prometheus' text exposition format (version 0.0.4)."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from relay.node import Node

Sample = tuple[str, float]


class Text:
    """Collects metrics: each is a name, a kind, a help text and its samples by label set.

    What runs beside the relay in one process adds its own through `Node.more_metrics`.
    """

    def __init__(self) -> None:
        self.lines: list[str] = []

    def add(self, name: str, kind: str, about: str, samples: Iterable[Sample]) -> None:
        self.lines += [f"# HELP terrace_{name} {about}", f"# TYPE terrace_{name} {kind}"]
        self.lines += [f"terrace_{name}{labels} {value:.12g}" for labels, value in samples]

    def gauge(self, name: str, about: str, value: float) -> None:
        self.add(name, "gauge", about, [("", value)])

    def counter(self, name: str, about: str, value: float) -> None:
        self.add(name, "counter", about, [("", value)])


def render(node: Node) -> str:
    """The text of /metrics."""
    text = Text()
    _node(text, node)
    _streams(text, node)
    _crowd(text, node)
    for part in node.more_metrics:
        part(text)
    return "\n".join(text.lines) + "\n"


def _node(text: Text, node: Node) -> None:
    port, sent = node.port, node.port.fanout.counters
    text.gauge("up_seconds", "Time since start.", time.monotonic() - node.started_s)
    text.gauge("children", "Nodes below that report to this one.", len(node.children))
    text.gauge("parent_connected", "1 if the parent answers.", _parent_connected(node))
    text.counter("datagrams_in_total", "Datagrams received.", port.datagrams_in)
    text.counter("packets_out_total", "RTP packets sent.", sent.packets)
    text.counter("bytes_out_total", "RTP bytes sent, SRTP included.", sent.bytes)
    text.counter("messages_out_total", "Messages handed to the kernel.", sent.messages)
    reasons = [
        ('{reason="full"}', sent.dropped_full),
        ('{reason="error"}', sent.dropped_error),
        ('{reason="protect"}', sent.protect_failed),
    ]
    text.add("send_dropped_total", "counter", "Packets that could not be sent.", reasons)
    bad = port.strays + port.bad_checks
    text.counter("bad_datagrams_total", "Datagrams of nobody, or malformed.", bad)
    text.counter("errors_total", "Faults caught in the forwarding thread.", port.errors)
    text.counter("forward_cpu_seconds_total", "CPU time of the forwarding thread.", port.busy_s)


def _parent_connected(node: Node) -> bool:
    return node.parents is not None and any(p.state == "connected" for p in node.parents.all)


def _streams(text: Text, node: Node) -> None:
    # Stream names hold no character that a label would have to escape.
    channels = [(f'{{stream="{c.name}"}}', c) for c in node.channels.values() if c.stream]
    viewers = [(label, sum(not s.relay_id for s in c.viewers)) for label, c in channels]
    text.add("stream_viewers", "gauge", "Viewers at this node.", viewers)
    live = [(label, c.state == "live") for label, c in channels]
    text.add("stream_live", "gauge", "1 while packets arrive.", live)
    tracks = [
        (f'{{stream="{c.name}",kind="{t.kind}",layer="{t.rid}"}}', t, c.source)
        for _, c in channels
        if c.stream
        for t in c.stream.all_tracks
    ]
    packets = [(label, t.packets) for label, t, _ in tracks]
    text.add("track_packets_total", "counter", "RTP packets kept.", packets)
    text.add(
        "track_bytes_total", "counter", "RTP bytes kept.", [(n, t.bytes) for n, t, _ in tracks]
    )
    arrived = [(label, source.figures(t)) for label, t, source in tracks if source]
    for name, about in (
        ("lost", "Packets lost on the way in for good."),
        ("repaired", "Packets that came after being asked for."),
        ("nacks_out", "Packets asked for again."),
    ):
        text.add(f"track_{name}_total", "counter", about, [(n, f[name]) for n, f in arrived])
    jitter = [(label, figures["jitter_ms"]) for label, figures in arrived]
    text.add("track_jitter_ms", "gauge", "Jitter on the way in.", jitter)
    _lines(text, node)


def _lines(text: Text, node: Node) -> None:
    """The last ten seconds of every line into this node, and of its viewers' lines."""
    sight = node.sight
    channels = [c for c in node.channels.values() if c.stream is not None]
    recent = [
        (f'{{stream="{c.name}",kind="{kind}"}}', sight.track(c.name, kind))
        for c in channels
        if c.stream is not None
        for kind in c.stream.tracks
    ]
    for key, name, about in (
        ("loss_percent", "track_loss_ratio", "Share lost on the way in, the last 10 s."),
        ("unrepaired_percent", "track_unrepaired_ratio", "Share that stayed lost, the last 10 s."),
    ):
        text.add(name, "gauge", about, [(label, one[key] / 100) for label, one in recent])
    skews = [(f'{{stream="{c.name}"}}', sight.skew_ms(c.name)) for c in channels]
    known = [(label, skew) for label, skew in skews if skew is not None]
    text.add("stream_skew_ms", "gauge", "How much later the picture comes than its sound.", known)
    rtt = [(f'{{stream="{c.name}"}}', 1000 * c.source.peer.rtt_s) for c in channels if c.source]
    text.add("stream_rtt_ms", "gauge", "Round trip to what feeds the stream.", rtt)
    viewers = [(f'{{stream="{c.name}"}}', sight.viewers(c)) for c in channels]
    for key, about in (
        ("viewers_lossy", "Viewers whose own line loses more than 2 %."),
        ("viewers_rtt_ms", "Median round trip to the viewers."),
    ):
        text.add(f"stream_{key}", "gauge", about, [(label, one[key]) for label, one in viewers])


def _crowd(text: Text, node: Node) -> None:
    load = node.crowd.admission
    text.gauge("forward_cpu_share", "Share of a core that forwarding uses.", load.cpu)
    text.gauge("packets_out_per_second", "RTP packets a second sent.", load.packets_per_s)
    text.gauge("memory_bytes", "Resident memory.", load.memory_bytes)
    text.gauge("room", "Viewers that would still be let in.", node.crowd.room(time.monotonic()))
    text.gauge("draining", "1 while the viewers are handed over.", node.draining)
    text.counter("refused_total", "Viewers refused for want of room.", load.refused)
    text.counter("handed_over_total", "Viewers sent on by a drain.", node.crowd.handed_over)
    workers = node.snapshot().get("workers") if node.team is not None else None
    if not isinstance(workers, list):
        return
    for key, kind, about in (
        ("viewers", "gauge", "Viewers of one process of this node; 0 is the front."),
        ("cpu", "gauge", "Share of a core that its forwarding uses."),
        ("packets_out", "counter", "RTP packets it has sent."),
        ("forward_cpu_s", "counter", "CPU time of its forwarding thread."),
        ("restarts", "counter", "How often it was started again."),
    ):
        name = {"forward_cpu_s": "forward_cpu_seconds"}.get(key, key)
        total = "_total" if kind == "counter" else ""
        samples = [(f'{{worker="{w["worker"]}"}}', float(w[key])) for w in workers]
        text.add(f"worker_{name}{total}", kind, about, samples)
    up = [(f'{{worker="{w["worker"]}"}}', float(w["state"] == "ready")) for w in workers]
    text.add("worker_up", "gauge", "1 while it answers.", up)
