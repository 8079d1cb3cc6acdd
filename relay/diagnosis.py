"""At which hop a complaint begins (pure).

A county complains of stutter while every tier above looks fine. This reads the whole tree, as
/api/tree gives it, from the top: what is already missing above a node is no fault of the node's
own line. What was found is a code with values; the words are in web/locale, in both languages.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

Tree = Mapping[str, Any]

# Loss of a line in percent that is worth a word though it was repaired, and that is seen if not.
LOSS_PERCENT = 1.0
SEEN_PERCENT = 0.1
JITTER_MS = 40.0
SLOW_MS = 300.0
# ITU-R BT.1359-1: sound and picture may be 45 ms apart one way and 125 ms the other before people
# notice; more than this at one hop is a fault of that hop.
SKEW_MS = 100.0
CLOCK_S = 3.0
BUSY = 0.8


class Severity(Enum):
    """How much it matters."""

    BAD = "bad"
    WARN = "warn"
    FINE = "fine"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found. `node` is the id of the node whose line or self it is about."""

    code: str
    severity: Severity
    node: str
    values: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The form in /api/tree."""
        return {
            "code": self.code,
            "severity": self.severity.value,
            "node": self.node,
            "values": self.values,
        }


def diagnose(tree: Tree) -> list[Finding]:
    """What is wrong in a tree, the worst first and of those the uppermost; never empty."""
    found: dict[tuple[str, str, str], Finding] = {}
    for finding in _walk(tree, None, set()):
        key = (finding.code, finding.node, str(finding.values.get("stream", "")))
        found.setdefault(key, finding)
    findings = list(found.values())
    order = list(Severity)
    findings.sort(key=lambda one: order.index(one.severity))
    if any(one.severity is not Severity.FINE for one in findings):
        return findings
    if next(_all_streams(tree), None) is None:
        return [Finding("nobody", Severity.FINE, _id(tree), {"node": _name(tree)})]
    nodes, viewers = _count(tree)
    return [Finding("fine", Severity.FINE, _id(tree), {"nodes": nodes, "viewers": viewers})]


def _walk(node: Tree, above: Tree | None, seen: set[str]) -> Iterator[Finding]:
    """A node that reports to two parents is looked at where it is met first."""
    if _id(node) in seen:
        return
    seen.add(_id(node))
    if "streams" not in node:
        values = {
            "node": _name(node),
            "above": _name(above) if above is not None else "",
            "seconds": round(_number(node, "last_seen_s")),
        }
        yield Finding("no_answer", Severity.BAD, _id(node), values)
        return
    yield from _self(node, above)
    for stream in _objects(node, "streams"):
        if stream.get("source") == "parent":
            yield from _pulled(node, above, stream)
        else:
            yield from _published(node, stream)
        yield from _viewers(node, stream)
    for child in _objects(node, "below"):
        yield from _walk(child, node, seen)


def _self(node: Tree, above: Tree | None) -> Iterator[Finding]:
    """The node's own state and its parents."""
    name, load = _name(node), _object(node, "load")

    def found(code: str, severity: Severity, **values: Any) -> Finding:
        return Finding(code, severity, _id(node), {"node": name, **values})

    state = node.get("parent_state")
    if state in ("loop", "refused", "unreachable"):
        values = {"parent": str(node.get("parent") or ""), "says": str(node.get("error") or "")}
        code = "parent_gone" if state == "unreachable" else str(state)
        yield found(code, Severity.BAD, **values)
    if above is not None and "time" in node and "time" in above:
        apart = _number(node, "time") - _number(above, "time")
        if abs(apart) > CLOCK_S:
            yield found("clock", Severity.WARN, seconds=round(abs(apart)), above=_name(above))
    cpu = _number(load, "cpu")
    if cpu > BUSY:
        yield found("busy", Severity.BAD, percent=round(100 * cpu))
    if dropped := round(_number(load, "send_dropped_recent")):
        yield found("dropped", Severity.BAD, packets=dropped)
    if load.get("draining"):
        yield found("draining", Severity.WARN, viewers=round(_number(node, "viewers")))
    elif load and not _number(load, "room") and _number(node, "viewers"):
        yield found("full", Severity.WARN, viewers=round(_number(node, "viewers")))
    for worker in _objects(node, "workers"):
        if worker.get("state") != "ready":
            yield found("worker", Severity.BAD, number=worker.get("worker"))


def _published(node: Tree, stream: Tree) -> Iterator[Finding]:
    """A stream that enters the tree here, or comes from below."""
    values = {"node": _name(node), "stream": str(stream.get("name", ""))}
    gone = stream.get("publisher_gone_s")
    if gone is not None:
        seconds = {"seconds": round(_number(stream, "publisher_gone_s"))}
        yield Finding("publisher_gone", Severity.BAD, _id(node), values | seconds)
    elif stream.get("state") == "waiting":
        yield Finding("publisher_silent", Severity.BAD, _id(node), values)
    yield from _loss(node, None, stream, "publisher_loss")
    yield from _skew(node, None, stream)


def _pulled(node: Tree, above: Tree | None, stream: Tree) -> Iterator[Finding]:
    """A stream that comes over the line from the node above."""
    upstream = _same(above, stream) if above is not None else None
    over = {"above": _name(above) if above is not None else str(node.get("parent") or "?")}
    values = {"node": _name(node), "stream": str(stream.get("name", ""))} | over
    if stream.get("state") == "waiting" and (upstream is None or upstream.get("state") == "live"):
        yield Finding("line_silent", Severity.BAD, _id(node), values)
    yield from _loss(node, upstream, stream, "line_loss", over)
    jitter = _worst(stream, "jitter_ms")
    if jitter > JITTER_MS and jitter - _worst(upstream, "jitter_ms") > JITTER_MS / 2:
        yield Finding("line_jitter", Severity.WARN, _id(node), values | {"ms": round(jitter)})
    if _number(stream, "rtt_ms") > SLOW_MS:
        slow = {"ms": round(_number(stream, "rtt_ms"))}
        yield Finding("line_slow", Severity.WARN, _id(node), values | slow)
    yield from _skew(node, upstream, stream)


def _loss(
    node: Tree, upstream: Tree | None, stream: Tree, code: str, more: Tree | None = None
) -> Iterator[Finding]:
    """Loss of the node's own line: what the node above lacks itself is not counted."""
    missing_above = _worst(upstream, "unrepaired_percent")
    loss = _worst(stream, "loss_percent") - missing_above
    seen = _worst(stream, "unrepaired_percent") - missing_above
    values = {
        "node": _name(node),
        "stream": str(stream.get("name", "")),
        "percent": round(max(loss, seen), 1),
        "unrepaired": round(max(seen, 0.0), 2),
        **(more or {}),
    }
    if seen >= SEEN_PERCENT:
        yield Finding(code, Severity.BAD, _id(node), values)
    elif loss >= LOSS_PERCENT:
        yield Finding(f"{code}_repaired", Severity.WARN, _id(node), values)


def _skew(node: Tree, upstream: Tree | None, stream: Tree) -> Iterator[Finding]:
    skew = _number(stream, "skew_ms")
    added = skew - _number(upstream or {}, "skew_ms")
    if abs(skew) > SKEW_MS and abs(added) > SKEW_MS / 2:
        values = {"node": _name(node), "stream": str(stream.get("name", ""))}
        code = "picture_late" if skew > 0 else "sound_late"
        yield Finding(code, Severity.WARN, _id(node), values | {"ms": round(abs(skew))})


def _viewers(node: Tree, stream: Tree) -> Iterator[Finding]:
    """Lines of single viewers: then neither the node nor anything above is at fault."""
    lossy = round(_number(stream, "viewers_lossy"))
    if lossy:
        values = {
            "node": _name(node),
            "stream": str(stream.get("name", "")),
            "count": lossy,
            "viewers": round(_number(stream, "viewers")),
            "percent": _number(stream, "viewers_loss_percent"),
        }
        yield Finding("viewers_loss", Severity.WARN, _id(node), values)


def _same(node: Tree, stream: Tree) -> Tree | None:
    named = (s for s in _objects(node, "streams") if s.get("name") == stream.get("name"))
    return next(named, None)


def _worst(stream: Tree | None, key: str) -> float:
    return max((_number(t, key) for t in _objects(stream or {}, "tracks")), default=0.0)


def _all_streams(node: Tree) -> Iterator[Tree]:
    yield from _objects(node, "streams")
    for child in _objects(node, "below"):
        yield from _all_streams(child)


def _count(node: Tree) -> tuple[int, int]:
    nodes, viewers = 1, round(_number(node, "viewers"))
    for child in _objects(node, "below"):
        more_nodes, more_viewers = _count(child)
        nodes, viewers = nodes + more_nodes, viewers + more_viewers
    return nodes, viewers


def _id(node: Tree) -> str:
    return str(node.get("id") or node.get("url") or node.get("name") or "")


def _name(node: Tree) -> str:
    return str(node.get("name") or node.get("url") or "?")


def _number(thing: Tree, key: str) -> float:
    value = thing.get(key)
    return float(value) if isinstance(value, int | float) and abs(value) < 1e15 else 0.0


def _object(thing: Tree, key: str) -> Tree:
    value = thing.get(key)
    return value if isinstance(value, dict) else {}


def _objects(thing: Tree, key: str) -> list[Tree]:
    value = thing.get(key)
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []
