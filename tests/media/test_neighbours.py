"""Boxes on one LAN find each other by real multicast DNS, here on the loopback interface."""

from __future__ import annotations

import asyncio
import ipaddress
import time

import pytest

from media.neighbours import Neighbours, box_name, choose
from media.suppliers import SourceKind

LAN = [ipaddress.ip_network("192.168.7.0/24"), ipaddress.ip_network("10.0.0.0/8")]


@pytest.mark.parametrize(
    ("addresses", "port", "url"),
    [
        (["192.168.7.9"], 8780, "http://192.168.7.9:8780"),
        (["203.0.113.5", "10.1.2.3"], 80, "http://10.1.2.3:80"),
        (["203.0.113.5"], 80, None),
        (["nonsense", ""], 80, None),
        (["192.168.7.9"], 0, None),
        (["192.168.7.9"], 70_000, None),
        ([], 80, None),
    ],
)
def test_only_an_address_in_one_of_our_own_networks_is_asked(
    addresses: list[str], port: int, url: str | None
) -> None:
    found = choose(addresses, port, LAN)
    assert (found.url if found else None) == url
    assert found is None or found.kind is SourceKind.NEIGHBOUR


def test_a_name_for_a_box_fits_into_a_label() -> None:
    assert 0 < len(box_name()) <= 40


async def test_boxes_find_each_other_and_notice_who_leaves() -> None:
    changes: list[int] = []

    def found(box: Neighbours) -> list[str]:
        # Boxes of other tests may be on this machine's loopback interface too.
        return [s.url for s in box.sources() if s.url.endswith((":8781", ":8782"))]

    async def until(count: int, box: Neighbours) -> None:
        deadline = time.monotonic() + 30
        while len(found(box)) != count:
            assert time.monotonic() < deadline, box.sources()
            await asyncio.sleep(0.05)

    here = ["127.0.0.1"]
    async with Neighbours("box-a", 8781, interfaces=here, changed=lambda: changes.append(1)) as a:
        async with Neighbours("box-b", 8782, interfaces=here) as b:
            await until(1, a)
            await until(1, b)
            assert found(a) == ["http://127.0.0.1:8782"]
            assert found(b) == ["http://127.0.0.1:8781"]
            assert changes
        await until(0, a)
