"""Six figures from a box to its county: who gets in, who does not, and for how long."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from media import pairing, signed
from media.county import County, Unknown
from media.pairing import Desk, Identity, PairingError, PairingRequest
from relay import access

T = 1795665600.0


def ask(
    desk: Desk, key: Ed25519PrivateKey, now: float = T, address: str = "10.0.0.1"
) -> pairing.Open:
    text = signed.sign(PairingRequest(version="1.0", name="box"), key, pairing.ASK)
    return desk.ask(pairing.public_pem(key.public_key()), text, address, now)


def test_the_same_box_gets_the_same_figures_and_others_get_others() -> None:
    codes = iter(["111111", "111111", "222222"])
    desk = Desk(lambda: next(codes))
    one, other = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    first = ask(desk, one)
    assert ask(desk, one, T + 100) is first
    assert [first.code, ask(desk, other).code] == ["111111", "222222"]
    assert desk.find("222222", T + 1).public_key == pairing.public_pem(other.public_key())


def test_figures_are_good_for_a_quarter_of_an_hour() -> None:
    desk = Desk()
    one = ask(desk, Ed25519PrivateKey.generate())
    assert desk.find(one.code, T + pairing.GOOD_FOR_S - 1) is one
    with pytest.raises(PairingError, match="look at the television again"):
        desk.find(one.code, T + pairing.GOOD_FOR_S)
    assert desk.get(one.id, T + pairing.GOOD_FOR_S) is None


def test_a_box_cannot_ask_with_a_key_that_is_not_its_own() -> None:
    desk, key = Desk(), Ed25519PrivateKey.generate()
    text = signed.sign(PairingRequest(), Ed25519PrivateKey.generate(), pairing.ASK)
    with pytest.raises(PairingError) as caught:
        desk.ask(pairing.public_pem(key.public_key()), text, "10.0.0.1", T)
    assert caught.value.status == 400


def test_a_crowd_of_one_address_does_not_shut_out_others() -> None:
    desk = Desk()
    for _ in range(pairing.MAX_OPEN_PER_ADDRESS):
        ask(desk, Ed25519PrivateKey.generate())
    with pytest.raises(PairingError) as caught:
        ask(desk, Ed25519PrivateKey.generate())
    assert caught.value.status == 429
    ask(desk, Ed25519PrivateKey.generate(), address="10.0.0.2")


@given(st.text(max_size=100), st.text(max_size=100))
def test_rubbish_is_refused_and_nothing_more(pem: str, text: str) -> None:
    with pytest.raises(PairingError):
        Desk().ask(pem, text, "10.0.0.1", T)


@pytest.fixture
def county(tmp_path: Path) -> County:
    made = County(tmp_path / "county", name="longhua")
    made.open()
    return made


def test_the_county_signs_who_the_box_is(county: County) -> None:
    desk, key = Desk(), Ed25519PrivateKey.generate()
    one = ask(desk, key)
    text = county.confirm(one, "shangping-1", "上坪村", "龙华县", "", T)
    identity = signed.read(text, [county.public_key], pairing.IDENTITY, Identity)
    assert (identity.station, identity.county) == ("shangping-1", "longhua")
    assert identity.box_key == access.key_id(key.public_key())
    with pytest.raises(PairingError, match="look at the television again"):
        desk.find(one.code, T)
    county.close()


def test_a_new_box_replaces_the_old_one_of_its_station_and_no_other_station(
    county: County,
) -> None:
    desk = Desk()
    old, new = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    county.confirm(ask(desk, old), "shangping-1", "上坪村", "", "", T)
    with pytest.raises(PairingError) as caught:
        county.confirm(ask(desk, new), "shangping-1", "下坪村", "", "", T)
    assert caught.value.status == 409
    county.confirm(ask(desk, new), "shangping-1", "上坪村", "", "", T)
    assert county.station("shangping-1").public_key == pairing.public_pem(new.public_key())
    county.remove("shangping-1")
    with pytest.raises(Unknown):
        county.deliver("shangping-1", [], T)
    county.close()


def test_an_identity_of_another_box_is_not_recognised(county: County) -> None:
    desk, key = Desk(), Ed25519PrivateKey.generate()
    text = county.confirm(ask(desk, key), "shangping-1", "上坪村", "", "", T)
    with pytest.raises(Unknown, match="another box"):
        county.recognise(text, pairing.public_pem(Ed25519PrivateKey.generate().public_key()), T)
    with pytest.raises(Unknown, match="has not signed"):
        county.recognise("x.y.z", pairing.public_pem(key.public_key()), T)
    county.close()


def test_the_county_s_key_is_for_nobody_else_to_read(county: County, tmp_path: Path) -> None:
    assert (tmp_path / "county" / "private.pem").stat().st_mode & 0o077 == 0
    county.close()
