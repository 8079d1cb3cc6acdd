"""The four measurements: fan-out, joins, join storm and hops.

Each returns rows: plain figures, and `problems`, the reasons why a row is not to be trusted.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import numpy as np

from tests.bench import analysis
from tests.bench.analysis import percentile
from tests.bench.audience import JOIN_ERRORS, Audience, Joins
from tests.bench.dtls import Identity
from tests.bench.meter import NODE_CORE, Meter
from tests.bench.node import Node
from tests.bench.peer import Peer
from tests.bench.publisher import Plan, Publisher
from tests.bench.signalling import Client
from tests.bench.source import Cut

STREAM = "bench"
# An estimate of viewers per core fills a core only this far: on a full one packets are late.
USABLE_CORE = 0.9

# Ten seconds hold five keyframes, and the p99 of a hop would be that of a single one.
_HOPS_WINDOWS = 3

_JOIN_AT_ONCE = 8
_SETTLE_S = 2.0
# As long as a packet may take without counting as lost.
_GRACE_S = analysis.LATE_NS / 1e9

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line chose. `cores`: those of the load generator."""

    ladder: tuple[int, ...]
    duration_s: float
    joins: int
    storm_joiners: int
    storm_s: float
    hops: int
    profile: str
    cut: Cut
    sweep_s: float
    cores: tuple[int, ...]


@dataclass(slots=True)
class FanoutRow:
    """One N. `us_per_packet`: node CPU from /proc/PID/stat; `_sched`: from schedstat."""

    viewers: int
    packets_per_s: float
    us_per_packet: float
    us_per_packet_sched: float
    node_percent: float
    viewers_per_core: int
    expected: int
    lost: int
    duplicates: int
    picture_p50_ms: float
    picture_p99_ms: float
    picture_max_ms: float
    sound_p50_ms: float
    sound_p99_ms: float
    load_percent: float
    foreign_percent: float
    node_drops: int
    own_drops: int
    join_p50_ms: float
    nacked: int
    keyframe_requests: int
    problems: list[str] = field(default_factory=list)


@dataclass(slots=True)
class JoinRow:
    """Joins as fast as the node takes them, `at_once` at a time; each is a whole visit."""

    joins: int
    failed: int
    resent: int
    at_once: int
    seconds: float
    per_second: float
    node_ms_per_join: float
    per_core_second: float
    took_p50_ms: float
    took_p99_ms: float
    node_percent: float
    load_percent: float
    problems: list[str] = field(default_factory=list)


@dataclass(slots=True)
class StormRow:
    """What `present` viewers saw while `joiners` came within some seconds."""

    present: int
    joiners: int
    failed: int
    resent: int
    seconds: float
    expected: int
    lost: int
    picture_p50_ms: float
    picture_p99_ms: float
    took_p50_ms: float
    took_p99_ms: float
    node_percent: float
    load_percent: float
    problems: list[str] = field(default_factory=list)


@dataclass(slots=True)
class HopRow:
    """One node of a chain. `added`: over the node above, same packets; `total`: since the send."""

    nodes: int
    packets: int
    lost: int
    added_p50_ms: float
    added_p99_ms: float
    total_p50_ms: float
    total_p99_ms: float
    problems: list[str] = field(default_factory=list)


@contextlib.asynccontextmanager
async def on_air(
    nodes: int, options: Options, *, workers: int = 1
) -> AsyncIterator[tuple[list[Node], Publisher]]:
    """A chain of nodes, each of so many processes, with a publisher at the first one."""
    async with contextlib.AsyncExitStack() as stack:
        chain: list[Node] = []
        for _ in range(nodes):
            parent = chain[-1] if chain else None
            node = Node(NODE_CORE, parent, workers=workers)
            chain.append(await stack.enter_async_context(node))
        plan = Plan(chain[0].url, STREAM, options.cores, options.profile, options.cut)
        publisher = await asyncio.to_thread(Publisher, plan)
        stack.callback(publisher.stop)
        # The first keyframe must be in, so that a joiner finds a stream that is live.
        await asyncio.sleep(1)
        yield chain, publisher


async def fanout(options: Options, say: Say) -> list[FanoutRow]:
    """N viewers of one node, for each N of the ladder."""
    rows = []
    top = max(options.ladder)
    async with (
        on_air(1, options) as ((node,), publisher),
        Audience(Identity(options.profile), top, options.sweep_s) as audience,
    ):
        for wanted in sorted(options.ladder):
            joins = await audience.join(
                node.url, STREAM, wanted - len(audience), min(_JOIN_AT_ONCE, wanted)
            )
            await asyncio.sleep(_SETTLE_S)
            row = await _fanout_window(options, node, publisher, audience, joins)
            node.check()
            rows.append(row)
            say(f"fan-out N={row.viewers}: {row.us_per_packet:.2f} us/packet, {row.lost} lost")
    return rows


async def _fanout_window(
    options: Options, node: Node, publisher: Publisher, audience: Audience, joins: Joins
) -> FanoutRow:
    before = await asyncio.to_thread(publisher.log)
    audience.start_recording()
    meter, begin = Meter([node], publisher), time.time_ns()
    await asyncio.sleep(options.duration_s)
    cost, end = meter.stop(), time.time_ns()
    await asyncio.sleep(_GRACE_S)
    received = audience.stop_recording()
    log = await asyncio.to_thread(publisher.log)
    outcome = analysis.analyse(received, log.sent, (begin, end), range(len(audience)))
    packets = int(np.count_nonzero((received["t_ns"] >= begin) & (received["t_ns"] < end)))
    us_per_packet = 1e6 * cost.node.stat_s / max(packets, 1)
    per_viewer = packets / cost.seconds / max(len(audience), 1)
    problems = [*cost.problems(), *_losses(outcome), *_failures(joins)]
    if log.send_failed:
        problems.append(f"INVALID: the publisher could not send {log.send_failed}")
    return FanoutRow(
        viewers=len(audience),
        packets_per_s=packets / cost.seconds,
        us_per_packet=us_per_packet,
        us_per_packet_sched=1e6 * cost.node.run_s / max(packets, 1),
        node_percent=cost.node_percent,
        viewers_per_core=int(USABLE_CORE * 1e6 / max(us_per_packet * per_viewer, 1e-9)),
        expected=outcome.expected,
        lost=outcome.lost,
        duplicates=outcome.duplicates,
        picture_p50_ms=percentile(outcome.picture_ms, 50),
        picture_p99_ms=percentile(outcome.picture_ms, 99),
        picture_max_ms=percentile(outcome.picture_ms, 100),
        sound_p50_ms=percentile(outcome.sound_ms, 50),
        sound_p99_ms=percentile(outcome.sound_ms, 99),
        load_percent=cost.load_percent,
        foreign_percent=cost.foreign_percent,
        node_drops=cost.node_drops,
        own_drops=cost.own_drops,
        join_p50_ms=percentile(np.array(joins.took_ms), 50),
        nacked=log.nacked - before.nacked,
        keyframe_requests=log.keyframe_requests - before.keyframe_requests,
        problems=problems,
    )


async def joins(options: Options, say: Say) -> JoinRow:
    """Whole visits, one after the other: connect, POST, ICE, DTLS, DELETE."""
    identity = Identity(options.profile)
    outcome = Joins()
    at_once = 12
    remaining = iter(range(options.joins))

    async def visitor(node: Node) -> None:
        for _ in remaining:
            client, peer = Client(node.url), Peer(identity)
            begin = time.monotonic()
            try:
                await peer.join(client, f"/whep/{STREAM}")
                outcome.took_ms.append(1000 * (time.monotonic() - begin))
                outcome.resent += peer.resent > 0
                await peer.leave(client)
            except JOIN_ERRORS as error:
                outcome.failures.append(f"{type(error).__name__}: {error}")
            finally:
                await client.close()
                peer.close()

    async with on_air(1, options) as ((node,), publisher):
        meter = Meter([node], publisher)
        async with asyncio.TaskGroup() as group:
            for _ in range(at_once):
                group.create_task(visitor(node))
        cost = meter.stop()
        node.check()
    done = len(outcome.took_ms)
    row = JoinRow(
        joins=done,
        failed=len(outcome.failures),
        resent=outcome.resent,
        at_once=at_once,
        seconds=cost.seconds,
        per_second=done / cost.seconds,
        node_ms_per_join=1000 * cost.node.stat_s / max(done, 1),
        per_core_second=done / max(cost.node.stat_s, 1e-9),
        took_p50_ms=percentile(np.array(outcome.took_ms), 50),
        took_p99_ms=percentile(np.array(outcome.took_ms), 99),
        node_percent=cost.node_percent,
        load_percent=cost.load_percent,
        problems=[*cost.problems(), *_failures(outcome)],
    )
    say(f"joins: {row.per_second:.0f} a second, {row.node_ms_per_join:.2f} ms of node CPU each")
    return row


async def storm(options: Options, say: Say) -> StormRow:
    """The viewers already there, while many others join."""
    present = 50
    capacity = present + options.storm_joiners
    async with (
        on_air(1, options) as ((node,), publisher),
        Audience(Identity(options.profile), capacity, options.sweep_s) as audience,
    ):
        early = await audience.join(node.url, STREAM, present, _JOIN_AT_ONCE)
        await asyncio.sleep(_SETTLE_S)
        audience.start_recording()
        meter, begin = Meter([node], publisher), time.time_ns()
        outcome = await audience.join_over(node.url, STREAM, options.storm_joiners, options.storm_s)
        cost, end = meter.stop(), time.time_ns()
        await asyncio.sleep(_GRACE_S)
        received = audience.stop_recording()
        log = await asyncio.to_thread(publisher.log)
        node.check()
    seen = analysis.analyse(received, log.sent, (begin, end), range(present))
    row = StormRow(
        present=present,
        joiners=len(outcome.took_ms),
        failed=len(outcome.failures),
        resent=outcome.resent,
        seconds=cost.seconds,
        expected=seen.expected,
        lost=seen.lost,
        picture_p50_ms=percentile(seen.picture_ms, 50),
        picture_p99_ms=percentile(seen.picture_ms, 99),
        took_p50_ms=percentile(np.array(outcome.took_ms), 50),
        took_p99_ms=percentile(np.array(outcome.took_ms), 99),
        node_percent=cost.node_percent,
        load_percent=cost.load_percent,
        problems=[*cost.problems(), *_losses(seen), *_failures(early), *_failures(outcome)],
    )
    say(f"storm: {row.joiners} joined in {row.seconds:.1f} s, those present lost {row.lost}")
    return row


async def hops(options: Options, say: Say) -> list[HopRow]:
    """A chain of nodes with one viewer at each."""
    async with (
        on_air(options.hops, options) as (chain, publisher),
        Audience(Identity(options.profile), options.hops, options.sweep_s) as audience,
    ):
        for depth, node in enumerate(chain):
            entered = await audience.join(node.url, STREAM, 1, 1)
            if entered.failures:
                raise ConnectionError(f"node {depth + 1} of the chain: {entered.failures[0]}")
        await asyncio.sleep(_SETTLE_S)
        audience.start_recording()
        meter, begin = Meter(chain, publisher), time.time_ns()
        await asyncio.sleep(_HOPS_WINDOWS * options.duration_s)
        cost, end = meter.stop(), time.time_ns()
        await asyncio.sleep(_GRACE_S)
        received = audience.stop_recording()
        log = await asyncio.to_thread(publisher.log)
        for node in chain:
            node.check()
    sent_ns, first_ns = analysis.arrivals(received, log.sent, (begin, end), range(options.hops))
    rows = []
    above = sent_ns
    for depth, here in enumerate(first_ns):
        came = here > 0
        added = (here - above)[came & (above > 0)] / 1e6
        total = (here - sent_ns)[came] / 1e6
        rows.append(
            HopRow(
                nodes=depth + 1,
                packets=int(np.count_nonzero(came)),
                lost=int(np.count_nonzero(~came)),
                added_p50_ms=percentile(added, 50),
                added_p99_ms=percentile(added, 99),
                total_p50_ms=percentile(total, 50),
                total_p99_ms=percentile(total, 99),
                problems=cost.problems(),
            )
        )
        above = here
    say(f"hops: {rows[-1].total_p50_ms:.2f} ms (p50) through {len(rows)} nodes")
    return rows


def _losses(outcome: analysis.Outcome) -> list[str]:
    found = []
    if outcome.unmatched:
        found.append(f"INVALID: {outcome.unmatched} tracks match nothing that was sent")
    if outcome.lost:
        found.append(f"{outcome.losers} viewers lost {outcome.lost} of {outcome.expected} packets")
    return found


def _failures(joins: Joins) -> list[str]:
    if not joins.failures:
        return []
    return [f"{len(joins.failures)} joins failed, the last one with {joins.failures[-1]}"]
