"""Secret ballots: who may vote is known, and what was voted, but never who voted what (pure).

A ballot has two RSA keys. The *signer* gives each voter one signature on something that it does not
see (RFC 9474, RSABSSA-SHA384-PSS-Randomized): the issue desk knows who asked, and nothing of what
it signed. The *seal* is a public key to which votes are encrypted; its private half is used once,
when the ballot is closed.

    voter                                              centre
    a new P-256 key; blind(salt + its public half) ──> sign: one for each voter
    finalize: the centre's signature on the key    <──
    seal(choice), signed with the own key          ──> check: whose key it signed; sha256(key) is
                                                       new; kept until closing, then open

The own key ties a choice to the signature: no node on the way can put another choice in its place.
A vote has no time, no address and no order, and nothing in it was ever seen by the issue desk: any
vote fits any blinded message, for each pair there is a blinding that leads from one to the other.
`static/ballot.js` is the voter's side in a browser; here it is `Paper`, for tests and programs.
"""

from __future__ import annotations

import base64
import hashlib
import math
import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

KEY_BITS: Final = 3072
"""About 128 bits (NIST SP 800-57 part 1, table 2): a sealed vote may be kept for years."""
EXPONENT: Final = 65537
PREFIX_BYTES: Final = 32
"""Of randomness before the message (RFC 9474 section 4.1)."""
SALT_BYTES: Final = 48
POINT_BYTES: Final = 65
OWN_BYTES: Final = 64
_CURVE: Final = ec.SECP256R1()


class BallotError(ValueError):
    """A blinded message or a vote that cannot be taken; the text is a sentence for its sender."""


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of one ballot: public halves as JSON Web Keys, private ones as PEM (PKCS8)."""

    signer: dict[str, str]
    seal: dict[str, str]
    signer_key: str
    seal_key: str


@dataclass(frozen=True, slots=True)
class Vote:
    """A sealed vote.

    key: the voter's own public key, an uncompressed point. salt, signature: of the signer's
    signature on salt + key. sealed: the choice, one byte, encrypted. own: the own key's signature
    on the sealed choice, r and s.
    """

    key: bytes
    salt: bytes
    signature: bytes
    sealed: bytes
    own: bytes

    @property
    def token_sha256(self) -> str:
        """What a vote is kept under: one for each signature of the signer."""
        return hashlib.sha256(self.key).hexdigest()

    def as_json(self) -> dict[str, str]:
        """As it goes over the tree: all fields in base64url."""
        return {
            "key": text_of(self.key),
            "salt": text_of(self.salt),
            "signature": text_of(self.signature),
            "sealed": text_of(self.sealed),
            "own": text_of(self.own),
        }

    @classmethod
    def from_json(cls, told: Mapping[str, object]) -> Self:
        """What `as_json` made; BallotError for anything else."""
        if set(told) != {"key", "salt", "signature", "sealed", "own"}:
            raise BallotError("A vote has the fields key, salt, signature, sealed and own.")
        vote = cls(**{name: bytes_of(value) for name, value in told.items()})
        sizes = (len(vote.key), len(vote.salt), len(vote.own))
        if sizes != (POINT_BYTES, PREFIX_BYTES, OWN_BYTES):
            raise BallotError("A field of this vote has the wrong length.")
        return vote


def text_of(data: bytes) -> str:
    """Base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def bytes_of(text: object) -> bytes:
    """Back from base64url; BallotError."""
    if not isinstance(text, str) or len(text) > 4096 or not text.isascii():
        raise BallotError("This is not base64url text.")
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except ValueError as error:
        raise BallotError("This is not base64url text.") from error
    if text_of(data) != text:
        raise BallotError("This is not base64url text.")
    return data


def new_keys() -> Keys:
    """The keys of a new ballot. Takes up to some seconds: call it in a thread."""
    signer, seal = (rsa.generate_private_key(EXPONENT, KEY_BITS) for _ in range(2))
    return Keys(_public(signer), _public(seal), _pem(signer), _pem(seal))


def _public(key: rsa.RSAPrivateKey) -> dict[str, str]:
    numbers = key.public_key().public_numbers()
    size = (numbers.n.bit_length() + 7) // 8
    return {
        "kty": "RSA",
        "n": text_of(numbers.n.to_bytes(size, "big")),
        "e": text_of(numbers.e.to_bytes(3, "big")),
    }


def _pem(key: rsa.RSAPrivateKey) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def _private_key(pem: str) -> rsa.RSAPrivateKey:
    key = load_pem_private_key(pem.encode(), None)
    if not isinstance(key, rsa.RSAPrivateKey):
        raise BallotError("The key of this ballot is no RSA key.")
    return key


def public_numbers(told: Mapping[str, object]) -> rsa.RSAPublicNumbers:
    """The modulus and exponent of a public half."""
    n, e = (int.from_bytes(bytes_of(told.get(name)), "big") for name in ("n", "e"))
    return rsa.RSAPublicNumbers(e, n)


# ------------------------------------------------------------ the centre's side


def sign(signer_key: str, blinded: str) -> str:
    """Sign what a voter has blinded (RFC 9474 section 4.3); BallotError for what is no such thing.

    The same answer comes to the same question, so that a voter may ask again after a broken line.
    """
    numbers = _private_key(signer_key).private_numbers()
    n = numbers.public_numbers.n
    size = (n.bit_length() + 7) // 8
    data = bytes_of(blinded)
    if len(data) != size:
        raise BallotError(f"A blinded message has {size} bytes here.")
    return text_of(blind_sign(numbers, data))


def blind_sign(numbers: rsa.RSAPrivateNumbers, blinded: bytes) -> bytes:
    """BlindSign of RFC 9474."""
    n, e = numbers.public_numbers.n, numbers.public_numbers.e
    message = int.from_bytes(blinded, "big")
    if not 0 < message < n or math.gcd(message, n) != 1:
        raise BallotError("This is no blinded message.")
    # How long `pow` takes depends on its base, which the asker has chosen; on this one it has not.
    mask, unmask = _mask(n)
    signed = pow(message * pow(mask, e, n) % n, numbers.d, n) * unmask % n
    if pow(signed, e, n) != message:
        raise BallotError("The key of this ballot is damaged.")
    return signed.to_bytes(len(blinded), "big")


def check(signer: Mapping[str, object], ballot: int, told: Mapping[str, object]) -> Vote:
    """The vote, if a voter of this ballot made it; else BallotError."""
    vote = Vote.from_json(told)
    try:
        key = ec.EllipticCurvePublicKey.from_encoded_point(_CURVE, vote.key)
        verify(public_numbers(signer), vote.salt + vote.key, vote.signature)
        own = encode_dss_signature(
            int.from_bytes(vote.own[:32], "big"), int.from_bytes(vote.own[32:], "big")
        )
        key.verify(own, own_message(ballot, vote.sealed), ec.ECDSA(hashes.SHA256()))
    except (InvalidSignature, ValueError) as error:
        raise BallotError("This vote is not signed as the votes of this ballot are.") from error
    return vote


def open_votes(
    seal_key: str, ballot: int, options: int, votes: Iterable[Mapping[str, object]]
) -> tuple[list[int], int]:
    """Count what `check` has let in: a number for each option, and how many cannot be read.

    Takes a millisecond for a vote: call it in a thread.
    """
    key = _private_key(seal_key)
    counts, spoilt = [0] * options, 0
    for told in votes:
        try:
            opened = key.decrypt(Vote.from_json(told).sealed, _oaep(ballot))
        except ValueError:
            spoilt += 1
            continue
        if len(opened) == 1 and opened[0] < options:
            counts[opened[0]] += 1
        else:
            spoilt += 1
    return counts, spoilt


def _oaep(ballot: int) -> padding.OAEP:
    sha256 = hashes.SHA256()
    return padding.OAEP(padding.MGF1(sha256), sha256, f"terrace ballot {ballot}".encode())


def own_message(ballot: int, sealed: bytes) -> bytes:
    """What a voter signs with the own key."""
    return f"terrace ballot {ballot}\n".encode() + sealed


# ------------------------------------------------------------ the voter's side


class Paper:
    """A voter's paper in one ballot: ask for a signature on `blinded`, then make the vote."""

    def __init__(self, signer: Mapping[str, object]) -> None:
        self._signer = public_numbers(signer)
        self._own = ec.generate_private_key(_CURVE)
        self.key = self._own.public_key().public_bytes(
            Encoding.X962, PublicFormat.UncompressedPoint
        )
        self.salt = secrets.token_bytes(PREFIX_BYTES)
        blinded, self._inverse = blind(self._signer, self.salt + self.key)
        self.blinded = text_of(blinded)

    def vote(self, seal: Mapping[str, object], ballot: int, choice: int, signed: str) -> Vote:
        """The sealed vote with what the centre has signed; BallotError when that is no signature.

        choice: from 0.
        """
        signature = finalize(self._signer, self.salt + self.key, bytes_of(signed), self._inverse)
        sealed = public_numbers(seal).public_key().encrypt(bytes([choice]), _oaep(ballot))
        own = self._own.sign(own_message(ballot, sealed), ec.ECDSA(hashes.SHA256()))
        return Vote(self.key, self.salt, signature, sealed, _raw(own))


def _raw(der: bytes) -> bytes:
    """An ECDSA signature as WebCrypto writes it: r and s, 32 bytes each."""
    return b"".join(part.to_bytes(32, "big") for part in decode_dss_signature(der))


def blind(
    signer: rsa.RSAPublicNumbers,
    message: bytes,
    salt: bytes | None = None,
    mask: tuple[int, int] | None = None,
) -> tuple[bytes, int]:
    """Blind of RFC 9474 section 4.2: the blinded message, and the inverse that `finalize` needs.

    `message` is prepared. `salt`, and `mask` (a number and its inverse), are random if not given.
    """
    n, size = signer.n, (signer.n.bit_length() + 7) // 8
    salt = secrets.token_bytes(SALT_BYTES) if salt is None else salt
    encoded = int.from_bytes(encode(message, n.bit_length() - 1, salt), "big")
    if math.gcd(encoded, n) != 1:
        raise BallotError("The signer's key is no key.")
    number, inverse = _mask(n) if mask is None else mask
    return (encoded * pow(number, signer.e, n) % n).to_bytes(size, "big"), inverse


def finalize(signer: rsa.RSAPublicNumbers, message: bytes, signed: bytes, inverse: int) -> bytes:
    """Finalize of RFC 9474 section 4.4: the signature on the message; BallotError if it is none."""
    size = (signer.n.bit_length() + 7) // 8
    if len(signed) != size:
        raise BallotError(f"A signature has {size} bytes here.")
    signature = (int.from_bytes(signed, "big") * inverse % signer.n).to_bytes(size, "big")
    try:
        verify(signer, message, signature)
    except InvalidSignature as error:
        raise BallotError("The centre has not signed this.") from error
    return signature


def verify(signer: rsa.RSAPublicNumbers, message: bytes, signature: bytes) -> None:
    """RSASSA-PSS with SHA-384 and 48 bytes of salt; InvalidSignature."""
    pss = padding.PSS(padding.MGF1(hashes.SHA384()), SALT_BYTES)
    signer.public_key().verify(signature, message, pss, hashes.SHA384())


def encode(message: bytes, bits: int, salt: bytes) -> bytes:
    """EMSA-PSS-ENCODE of RFC 8017 section 9.1.1 with SHA-384."""
    size = (bits + 7) // 8
    hashed = hashlib.sha384(bytes(8) + hashlib.sha384(message).digest() + salt).digest()
    block = bytes(size - len(salt) - len(hashed) - 2) + b"\x01" + salt
    mask = _mgf1(hashed, len(block))
    masked = bytearray(one ^ other for one, other in zip(block, mask, strict=True))
    masked[0] &= 0xFF >> (8 * size - bits)
    return bytes(masked) + hashed + b"\xbc"


def _mgf1(seed: bytes, size: int) -> bytes:
    made = b""
    for counter in range(-(-size // 48)):
        made += hashlib.sha384(seed + counter.to_bytes(4, "big")).digest()
    return made[:size]


def _mask(n: int, below: Callable[[int], int] = secrets.randbelow) -> tuple[int, int]:
    """A random number and its inverse modulo n."""
    while True:
        number = below(n - 1) + 1
        if math.gcd(number, n) == 1:
            return number, pow(number, -1, n)
