"""Ten viewers at two nodes while a programme is switched again and again: what each packet says.

The publishers' clocks are known exactly, so that a viewer's can be held against them: whoever laid
a source onto the programme's line by anything but its sender reports would be found out.
"""

from __future__ import annotations

import asyncio
from bisect import bisect
from contextlib import AsyncExitStack
from itertools import pairwise

import pytest

from tests.bench.source import Kind as Sent
from tests.live.publishers import BarePublisher, live
from tests.live.test_switch import switch
from tests.live.tree import Tree
from tests.live.viewers import Arrival, BareViewer, Kind, Report, missing, steps

pytestmark = [pytest.mark.live, pytest.mark.alone]

CUTS = 6
BETWEEN_S = 0.8
SKEW_S = 0.040
SOUND_GAP_S = 0.060
# A picture that is later at a node than its sound, compared with the source before, is caught up
# with; frames of that time are left out, and bounded by what the sources differ.
SETTLES_S, UNSETTLED_S = 0.25, 0.15
KINDS: dict[Kind, Sent] = {"audio": Sent.AUDIO, "video": Sent.VIDEO}
RATES: dict[Kind, int] = {"audio": 48_000, "video": 90_000}


def shown_s(packet: Arrival, reports: list[Report], rate: int) -> float:
    """When a player shows a packet, by the last sender report before it, else the first."""
    report = next((r for r in reversed(reports) if r.at_s <= packet.at_s), reports[0])
    since = (packet.timestamp - report.timestamp + 0x80000000) % 0x100000000 - 0x80000000
    return report.ntp_s + since / rate


class Known:
    """Finds the publisher of a packet by its payload."""

    def __init__(self, publishers: list[BarePublisher]) -> None:
        self._publishers = publishers
        self._sound = {p: (n, s) for n, one in enumerate(publishers) for p, s in one.stamps.items()}
        self._picture = {p[4:]: found for p, found in self._sound.items()}

    def taken(self, packet: Arrival, kind: Kind) -> tuple[int, float]:
        """Whose packet it is, and when it was recorded by that publisher's clock."""
        if kind == "audio":
            number, stamp = self._sound[packet.payload]
        else:
            # The programme counts the picture ids on, bytes 2 and 3 of the descriptor.
            number, stamp = self._picture[packet.payload[4:]]
        return number, self._publishers[number].ntp_s(KINDS[kind], stamp)


def skews_s(viewer: BareViewer, known: Known) -> list[tuple[float, float]]:
    """For each frame: how long after its cut it came, and how much too late it is shown."""
    offsets: dict[Kind, list[tuple[float, int, float]]] = {}
    for kind, rate in RATES.items():
        ssrc = viewer.packets[kind][0].ssrc
        reports = [r for r in viewer.reports if r.ssrc == ssrc]
        offsets[kind] = []
        for packet in viewer.packets[kind]:
            whose, taken = known.taken(packet, kind)
            offsets[kind].append((packet.at_s, whose, shown_s(packet, reports, rate) - taken))
    found, began_s, before = [], 0.0, -1
    sound = offsets["audio"]
    times = [at_s for at_s, _, _ in sound]
    for at_s, whose, offset in offsets["video"]:
        if whose != before:
            began_s, before = at_s, whose
        # The sound of the same source that came next to it.
        at = bisect(times, at_s)
        near = [s for s in sound[max(0, at - 10) : at + 10] if s[1] == whose]
        beside = min(near, key=lambda s: abs(s[0] - at_s))
        found.append((at_s - began_s, offset - beside[2]))
    return found


async def test_ten_viewers_get_one_line_and_keep_sound_and_picture_in_step(
    chain: Tree, stream: str
) -> None:
    """No number missing or twice, no time that runs back, no gap in the sound, skew under 40 ms."""
    centre, county = chain["centre"], chain["county"]
    names = [f"{stream[-40:]}.{n}" for n in range(3)]
    programme = stream[-40:]
    async with AsyncExitStack() as stack:
        publishers = [
            BarePublisher(
                (county if number == 2 else centre).url, name, seed=number + 1,
                ahead_s=(0.0, -3600.0, 100.0)[number],
                picture_late_s=(0.0, 0.05, 0.03)[number], obeys=True,
            )
            for number, name in enumerate(names)
        ]  # fmt: skip
        for name, publisher in zip(names, publishers, strict=True):
            await stack.enter_async_context(publisher)
            await live(centre, name)
        await asyncio.sleep(1.0)
        await switch(centre.url, programme, names[0])
        viewers = [
            await stack.enter_async_context(BareViewer(node.url, programme))
            for node in [centre] * 4 + [county] * 6
        ]
        for viewer in viewers:
            await viewer.receiving()
        for turn in range(1, CUTS + 1):
            await asyncio.sleep(BETWEEN_S)
            await switch(centre.url, programme, names[turn % 3])
        await asyncio.sleep(BETWEEN_S)
        known = Known(publishers)
        worst, unsettled = 0.0, 0.0
        for viewer in viewers:
            assert not viewer.byes
            assert not viewer.alerted
            assert viewer.undecipherable == 0
            for kind, rate in RATES.items():
                packets = viewer.packets[kind]
                assert len({p.ssrc for p in packets}) == 1
                assert missing([p.sequence for p in packets]) == 0
                assert set(steps([p.sequence for p in packets], 16)) == {1}
                times = [step / rate for step in steps([p.timestamp for p in packets], 32)]
                assert min(times) >= 0
                if kind == "audio":
                    assert max(times) <= SOUND_GAP_S
            whose = [known.taken(p, "video")[0] for p in viewer.packets["video"]]
            assert sum(a != b for a, b in pairwise(whose)) == CUTS
            for after_s, skew in skews_s(viewer, known):
                if after_s >= SETTLES_S:
                    worst = max(worst, abs(skew))
                unsettled = max(unsettled, abs(skew))
        assert worst <= SKEW_S
        assert unsettled <= UNSETTLED_S
