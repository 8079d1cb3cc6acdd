"""Reports go down the tree, requests go up it, and repairs stay where the loss was."""

from __future__ import annotations

import asyncio
import time
from itertools import pairwise

import pytest
from aiortc.rtp import RtpPacket

from tests.bench.source import Kind as Sent
from tests.live.publishers import AiortcPublisher, BarePublisher, live
from tests.live.tree import Tree, until
from tests.live.viewers import AiortcViewer, BareViewer, Kind, Report, missing
from tests.patience import PATIENCE

pytestmark = pytest.mark.live

SKEW_S = 0.005
ASKING_S = 4.0
KINDS: dict[Kind, Sent] = {"audio": Sent.AUDIO, "video": Sent.VIDEO}


def reports_of(viewer: AiortcViewer | BareViewer, kind: Kind, after_s: float) -> list[Report]:
    ssrc = viewer.packets[kind][0].ssrc
    return [one for one in viewer.reports if one.ssrc == ssrc and one.at_s > after_s]


async def test_sender_reports_carry_the_publishers_clock_to_the_county(
    chain: Tree, stream: str
) -> None:
    """For sound and picture alike, though the publisher's clock is an hour off and its picture
    was taken 137 ms before the sound that goes with it.
    """
    publisher = BarePublisher(chain["centre"].url, stream, ahead_s=-3600, picture_late_s=0.137)
    async with publisher:
        await live(chain["centre"], stream)
        async with (
            AiortcViewer(chain["county"].url, stream) as aiortc,
            BareViewer(chain["county"].url, stream) as bare,
        ):
            await bare.receiving()

            async def enough() -> bool:
                return all(
                    viewer.packets[kind] and len(reports_of(viewer, kind, 0)) >= 3
                    for viewer in (aiortc, bare)
                    for kind in KINDS
                )

            await until("three reports of each track at both viewers", enough, 15)
            for viewer in (aiortc, bare):
                for kind, sent in KINDS.items():
                    for report in reports_of(viewer, kind, 0):
                        # The first publisher's numbers come down as they are.
                        expected_s = publisher.ntp_s(sent, report.timestamp)
                        assert report.ntp_s == pytest.approx(expected_s, abs=SKEW_S), kind


async def test_after_another_publisher_took_over_reports_carry_its_clock(
    chain: Tree, stream: str
) -> None:
    """Its time stamps were shifted onto the line that viewers know, its reports must be too."""
    centre = chain["centre"].url
    async with BarePublisher(centre, stream, seed=1, ahead_s=100, picture_late_s=0.05) as first:
        await live(chain["centre"], stream)
        async with BareViewer(chain["county"].url, stream) as viewer:
            await viewer.receiving()
            await first.vanish()
            second = BarePublisher(centre, stream, seed=2, ahead_s=-50, picture_late_s=-0.08)
            async with second:
                # The first report of a new publisher is half a second away.
                settled_s = time.monotonic() + 1 * PATIENCE

                async def enough() -> bool:
                    return all(len(reports_of(viewer, kind, settled_s)) >= 2 for kind in KINDS)

                await until("reports of the second publisher", enough, 10)
                for kind, sent in KINDS.items():
                    last = viewer.packets[kind][-1]
                    shift = last.timestamp - second.stamps[last.payload]
                    for report in reports_of(viewer, kind, settled_s):
                        expected_s = second.ntp_s(sent, (report.timestamp - shift) & 0xFFFFFFFF)
                        assert report.ntp_s == pytest.approx(expected_s, abs=SKEW_S), kind


async def test_keyframe_requests_of_thirty_viewers_reach_the_publisher_once_a_second(
    chain: Tree, stream: str
) -> None:
    async with BarePublisher(chain["centre"].url, stream) as publisher:
        await live(chain["centre"], stream)
        viewers = [BareViewer(chain["county"].url, stream) for _ in range(30)]
        try:
            await asyncio.gather(*(viewer.__aenter__() for viewer in viewers))
            await asyncio.gather(*(viewer.receiving() for viewer in viewers))
            began_s = time.monotonic()
            while time.monotonic() < began_s + ASKING_S:
                for viewer in viewers:
                    viewer.ask_keyframe()
                await asyncio.sleep(0.1)
            ended_s = time.monotonic()
        finally:
            await asyncio.gather(*(viewer.__aexit__() for viewer in viewers))
        asked = [at_s for at_s in publisher.asked_s if began_s <= at_s <= ended_s]
        assert 2 <= len(asked) <= ended_s - began_s + 2
        # They are noted when this process comes to read them, some of them late.
        assert min(b - a for a, b in pairwise(asked)) >= 0.5


async def test_a_keyframe_request_is_answered_by_the_publisher(chain: Tree, stream: str) -> None:
    """Through four nodes, within a second and a half."""
    async with AiortcPublisher(chain["centre"].url, stream):
        await live(chain["centre"], stream)
        async with BareViewer(chain["county"].url, stream) as viewer:
            await viewer.receiving()
            # Beyond the second in which requests are merged with those of the join.
            await asyncio.sleep(1.2)
            before = (await chain["county"].track(stream, "video"))["keyframes"]
            viewer.ask_keyframe()

            async def came() -> bool:
                return bool((await chain["county"].track(stream, "video"))["keyframes"] > before)

            await until("the keyframe", came, 1.5)


async def test_a_viewer_with_a_bad_line_is_repaired_by_its_own_node(
    chain: Tree, stream: str
) -> None:
    """Every twentieth packet is thrown away; aiortc asks again and gets it by RTX."""
    async with AiortcPublisher(chain["centre"].url, stream):
        await live(chain["centre"], stream)
        async with (
            AiortcViewer(chain["county"].url, stream) as viewer,
            BareViewer(chain["county"].url, stream) as neighbour,
        ):
            await viewer.playing()
            await neighbour.receiving()
            ssrc = viewer.packets["video"][0].ssrc

            def every_twentieth(packet: RtpPacket) -> bool:
                return packet.ssrc == ssrc and packet.sequence_number % 20 == 0

            viewer.drop = every_twentieth
            began, seen = len(viewer.packets["video"]), len(viewer.pictures)
            await asyncio.sleep(6)
            viewer.drop = lambda packet: False
            came = len({packet.timestamp for packet in viewer.packets["video"][began:]})
            assert came > 60

            # It goes on losing while the figures are asked for.
            dropped = viewer.dropped
            assert dropped >= 5

            # A node may send a packet twice for one request: what came says not what was asked for.
            async def repaired() -> bool:
                here = await chain["county"].track(stream, "video")
                return bool(min(viewer.resent, here["nacks_in"], here["resent"]) >= dropped)

            await until("all that was dropped was asked for and came again", repaired, 2)

            async def decoded() -> bool:
                return len(viewer.pictures) - seen >= 0.95 * came

            # What came late is decoded all the same: the jitter buffer waited for it.
            await until("nearly every picture is decoded", decoded, 5)
            for name in ("centre", "province", "city"):
                above = await chain[name].track(stream, "video")
                assert (above["nacks_in"], above["nacks_out"]) == (0, 0), name
            assert missing([p.sequence for p in neighbour.packets["video"]]) == 0


async def test_a_viewer_without_rtx_gets_the_very_packet_again(chain: Tree, stream: str) -> None:
    async with BarePublisher(chain["centre"].url, stream):
        await live(chain["centre"], stream)
        async with BareViewer(chain["county"].url, stream) as viewer:
            await viewer.receiving()
            before = viewer.packets["video"][-1].sequence
            viewer.lose = 3

            async def gap() -> bool:
                return viewer.lose == 0 and viewer.packets["video"][-1].sequence != before

            await until("three packets are lost", gap, 3)
            lost = sorted(holes([p.sequence for p in viewer.packets["video"]]))
            assert len(lost) == 3
            for sequence in lost:
                viewer.ask_again(sequence)

            async def whole() -> bool:
                return missing([p.sequence for p in viewer.packets["video"]]) == 0

            await until("all three came", whole, 2)
            assert viewer.undecipherable == 0


def holes(sequences: list[int]) -> set[int]:
    """The numbers that are missing between neighbours, in order of arrival."""
    found: set[int] = set()
    for a, b in pairwise(sequences):
        found.update((a + step) & 0xFFFF for step in range(1, (b - a) & 0x7FFF))
    return found
