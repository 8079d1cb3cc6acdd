"""Whose address counts when proxies stand in front, and what made-up headers are worth: nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.web.centre.test_signin import Open
from web.centre import addresses
from web.centre.centre import Centre

PROXIES = tuple(addresses.network(one) for one in ("10.0.0.0/8", "2001:db8::1", "127.0.0.1"))


@pytest.mark.parametrize(
    ("peer", "forwarded", "counts"),
    [
        ("198.51.100.7", ["203.0.113.9"], "198.51.100.7"),
        ("10.1.1.1", [], "10.1.1.1"),
        ("10.1.1.1", ["203.0.113.9"], "203.0.113.9"),
        ("10.1.1.1", ["192.0.2.1, 203.0.113.9"], "203.0.113.9"),
        ("10.1.1.1", ["192.0.2.1, 203.0.113.9, 10.2.2.2"], "203.0.113.9"),
        ("10.1.1.1", ["192.0.2.1", "203.0.113.9"], "203.0.113.9"),
        ("2001:db8::1", ["[2001:db8::9]:443"], "2001:db8::9"),
        ("::ffff:10.1.1.1", ["203.0.113.9:4711"], "203.0.113.9"),
        ("10.1.1.1", ["unknown"], "10.1.1.1"),
        ("10.1.1.1", ["203.0.113.9, , "], "10.1.1.1"),
        ("", ["203.0.113.9"], ""),
    ],
)
def test_the_header_is_read_from_the_right_as_long_as_its_writer_is_trusted(
    peer: str, forwarded: list[str], counts: str
) -> None:
    assert addresses.client(peer, forwarded, PROXIES) == counts


@given(st.lists(st.text()))
def test_any_header_gives_an_address(forwarded: list[str]) -> None:
    found = addresses.client("10.1.1.1", forwarded, PROXIES)
    assert addresses.network(found).num_addresses == 1


async def test_people_behind_a_proxy_do_not_wait_for_each_other(
    browser: Open, centre: Centre
) -> None:
    """And without the setting, the header of anybody is passed over."""
    one = await browser("")

    async def wrong(login: str, address: str) -> int:
        wish = {"login": login, "password": "a wrong guess"}
        headers = {"X-Forwarded-For": address}
        return (await one.ask("POST", "/api/session", wish, headers=headers)).status

    centre.proxies = PROXIES
    for _ in range(60):
        centre.limits.by_address.count("203.0.113.9", centre.clock())
    assert await wrong("boss-P1", "203.0.113.9") == 429
    assert await wrong("boss-P1", "192.0.2.1, 203.0.113.9") == 429
    assert await wrong("boss-P1", "203.0.113.10") == 401
    centre.proxies = ()
    for _ in range(60):
        centre.limits.by_address.count("127.0.0.1", centre.clock())
    assert await wrong("boss-P2", "203.0.113.10") == 429
