"""Blind signatures by the RFC's own numbers, what a ballot box takes, and what it never opens."""

from __future__ import annotations

import functools
import json
import random
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from web.room import ballots
from web.room.ballots import BallotError, Keys, Paper, Vote

BALLOT = 3


@functools.cache
def keys() -> Keys:
    return ballots.new_keys()


def cast(choice: int, made: Keys | None = None) -> dict[str, str]:
    made = made or keys()
    paper = Paper(made.signer)
    signed = ballots.sign(made.signer_key, paper.blinded)
    return paper.vote(made.seal, BALLOT, choice, signed).as_json()


@functools.cache
def vector() -> dict[str, int]:
    told = json.loads((Path(__file__).parent / "rfc9474.json").read_text())
    return {name: int(value, 16) for name, value in told.items() if name != "source"}


def test_the_numbers_of_the_rfc() -> None:
    """RFC 9474 appendix A.1."""
    told = vector()
    size = 512
    public = rsa.RSAPublicNumbers(told["e"], told["n"])
    private = rsa.RSAPrivateNumbers(
        told["p"], told["q"], told["d"], rsa.rsa_crt_dmp1(told["d"], told["p"]),
        rsa.rsa_crt_dmq1(told["d"], told["q"]), rsa.rsa_crt_iqmp(told["p"], told["q"]), public,
    )  # fmt: skip
    message = told["msg_prefix"].to_bytes(32, "big") + told["msg"].to_bytes(48, "big")
    mask = (pow(told["inv"], -1, told["n"]), told["inv"])
    blinded, inverse = ballots.blind(public, message, told["salt"].to_bytes(48, "big"), mask)
    assert int.from_bytes(blinded, "big") == told["blinded_msg"]
    signed = ballots.blind_sign(private, blinded)
    assert int.from_bytes(signed, "big") == told["blind_sig"]
    signature = ballots.finalize(public, message, signed, inverse)
    assert signature == told["sig"].to_bytes(size, "big")


def test_votes_are_let_in_and_counted_when_the_ballot_is_closed() -> None:
    box = {}
    for choice in (0, 2, 2, 1, 2):
        told = cast(choice)
        vote = ballots.check(keys().signer, BALLOT, told)
        box[vote.token_sha256] = told
    counts, spoilt = ballots.open_votes(keys().seal_key, BALLOT, 3, box.values())
    assert (counts, spoilt) == ([1, 1, 3], 0)
    assert ballots.open_votes(keys().seal_key, BALLOT, 2, box.values()) == ([1, 1], 3)


def test_the_same_question_gets_the_same_answer() -> None:
    paper = Paper(keys().signer)
    first, second = (ballots.sign(keys().signer_key, paper.blinded) for _ in range(2))
    assert first == second
    one = paper.vote(keys().seal, BALLOT, 0, first)
    other = paper.vote(keys().seal, BALLOT, 1, second)
    # Two votes of one paper have one token: the first counts.
    assert one.token_sha256 == other.token_sha256


@pytest.mark.parametrize("field", ["key", "salt", "signature", "sealed", "own"])
def test_nobody_on_the_way_can_change_a_vote(field: str) -> None:
    """Neither a bit of it, nor by a part of another vote."""
    told, other = cast(0), cast(1)
    bad = bytearray(ballots.bytes_of(told[field]))
    bad[5] ^= 1
    for value in (ballots.text_of(bytes(bad)), other[field]):
        with pytest.raises(BallotError):
            ballots.check(keys().signer, BALLOT, {**told, field: value})
    with pytest.raises(BallotError):
        ballots.check(keys().signer, BALLOT + 1, told)


def test_a_vote_without_a_signature_of_this_ballot_is_not_let_in() -> None:
    stranger = ballots.new_keys()
    told = cast(0, stranger)
    with pytest.raises(BallotError):
        ballots.check(keys().signer, BALLOT, told)
    paper = Paper(keys().signer)
    with pytest.raises(BallotError):
        paper.vote(keys().seal, BALLOT, 0, ballots.sign(stranger.signer_key, paper.blinded))


@pytest.mark.parametrize("blinded", ["", "AA", "A" * 512, "_" * 512, "A" * 9999, "ä", "=" * 512])
def test_what_is_no_blinded_message_is_not_signed(blinded: str) -> None:
    with pytest.raises(BallotError):
        ballots.sign(keys().signer_key, blinded)


@settings(max_examples=200)
@given(
    st.dictionaries(
        st.sampled_from(["key", "salt", "signature", "sealed", "own", "more"]),
        st.one_of(
            st.text(max_size=90), st.integers(), st.binary(max_size=400).map(ballots.text_of)
        ),
    )
)
def test_nonsense_in_the_box_is_refused(told: dict[str, Any]) -> None:
    with pytest.raises(BallotError):
        ballots.check(keys().signer, BALLOT, told)


def test_every_vote_fits_every_blinded_message() -> None:
    """What the desk has seen says nothing of any vote: each pair has a blinding that joins it.

    A vote's signature and a desk's question determine one blinding number; it always exists, so
    somebody who holds both lists cannot rule out a single pair.
    """
    public = ballots.public_numbers(keys().signer)
    n, e = public.n, public.e
    asked, votes = [], []
    for choice in range(4):
        paper = Paper(keys().signer)
        asked.append(int.from_bytes(ballots.bytes_of(paper.blinded), "big"))
        signed = ballots.sign(keys().signer_key, paper.blinded)
        votes.append(paper.vote(keys().seal, BALLOT, choice, signed))
    random.Random(1).shuffle(votes)
    for blinded in asked:
        for vote in votes:
            encoded = pow(int.from_bytes(vote.signature, "big"), e, n)
            blinding_to_e = blinded * pow(encoded, -1, n) % n
            # The desk could have been asked with this number, and would have answered the same.
            assert encoded * blinding_to_e % n == blinded


def test_a_vote_is_the_same_after_its_way() -> None:
    told = cast(1)
    assert Vote.from_json(json.loads(json.dumps(told))).as_json() == told
    assert len(json.dumps(told)) < 2048
