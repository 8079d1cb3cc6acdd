"""How a box and a county come to know each other: six figures that a person carries over.

The box makes its own key, which never leaves it, and asks its county for a pairing. The county
answers with six figures, the television shows them, and somebody in the room reads them to the
county's operator, who confirms. The county then signs an `Identity`: who the box is, whose
signatures it takes from now on. Figures are good for fifteen minutes, for one box and once.

Nothing that the box says before that is believed, and there is nothing to guess: who confirms is an
operator with a token. The television and the county's page also show the first figures of the
county's key, for whoever wants to see that nobody stands between the two.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_public_key,
)
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from media import keep, signed
from media.programme import Id, Text
from relay import access

ASK: Final = "terrace-pairing"
IDENTITY: Final = "terrace-identity"
GOOD_FOR_S: Final = 900.0
MAX_OPEN: Final = 200
"""More boxes than this are not set up in a quarter of an hour; more are somebody's mischief."""
MAX_OPEN_PER_ADDRESS: Final = 20

Pem = str


class PairingRequest(BaseModel):
    """What a box asks with, signed with its new key (`typ` ASK)."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    version: str = Field(default="", max_length=32, pattern=r"^[0-9A-Za-z.+-]*$")
    name: str = Field(default="", max_length=64)


class Identity(BaseModel):
    """Who a box is, signed by its county (`typ` IDENTITY)."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    station: Id
    name: Text
    unit: str = Field(default="", max_length=100)
    group: str = Field(default="", max_length=64, pattern=r"^[a-z0-9-]*$")
    county: str = Field(default="", max_length=64)
    box_key: str = Field(max_length=64)
    """The thumbprint of the box's key (`relay.access.key_id`)."""
    county_keys: tuple[Pem, ...] = Field(min_length=1, max_length=8)
    """Who signs time, timetable and identities."""
    library_keys: tuple[Pem, ...] = Field(default=(), max_length=16)
    """Who signs courses."""
    issued_at: AwareDatetime


class PairingState(BaseModel):
    """What the county answers a box that asks how its pairing is."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    state: Literal["waiting", "confirmed", "expired"]
    identity: str = Field(default="", max_length=64_000)
    county_key: Pem = Field(default="", max_length=400)
    """Who signed the identity; the box keeps it, or has been given it beforehand."""


class Offer(BaseModel):
    """What the county answers a box that asks to be paired."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    id: str = Field(pattern=r"^[A-Za-z0-9_-]{20,64}$")
    code: str = Field(pattern=r"^[0-9]{6}$")
    good_for_s: float = Field(gt=0, le=86400, allow_inf_nan=False)
    fingerprint: str = Field(default="", max_length=32)


class PairingError(Exception):
    """A pairing is not granted; `status` is the HTTP status, the text one sentence."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence


# ------------------------------------------------------------ keys


def box_key(folder: Path) -> tuple[Ed25519PrivateKey, bool]:
    """The box's own key, made when there is none; True if it was made.

    A damaged one is put aside: the box must then be paired again. Raises OSError.
    """
    file = folder / "box.pem"
    pem = keep.read(file)
    if pem is not None:
        try:
            return access.load_private_key(pem), False
        except access.KeyFileError:
            keep.put_aside(file)
    private, _ = access.new_key_pair()
    keep.write(file, private, mode=0o600)
    return access.load_private_key(private), True


def public_pem(key: Ed25519PublicKey) -> Pem:
    """A public key as text (SPKI, PEM)."""
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def read_pem(pem: Pem) -> Ed25519PublicKey:
    """The Ed25519 key in a text. Raises ValueError."""
    try:
        key = load_pem_public_key(pem.encode())
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ValueError("this is no public key in PEM form") from error
    if not isinstance(key, Ed25519PublicKey):
        raise ValueError("this is no Ed25519 public key")
    return key


def fingerprint(key: Ed25519PublicKey) -> str:
    """Eight figures of a key that a person can compare: `3f1c 88a0`."""
    digest = hashlib.sha256(key.public_bytes_raw()).hexdigest()
    return f"{digest[:4]} {digest[4:8]}"


# ------------------------------------------------------------ the county's side


@dataclass(slots=True)
class Open:
    """A pairing that waits for its operator, or was just confirmed."""

    id: str
    code: str
    public_key: Pem
    version: str
    name: str
    address: str
    asked_s: float
    identity: str = ""


class Desk:
    """The pairings that are open at a county; in memory, for a restart only costs new figures."""

    def __init__(self, new_code: Callable[[], str] | None = None) -> None:
        self._open: dict[str, Open] = {}
        self._new_code = new_code or (lambda: f"{secrets.randbelow(1_000_000):06}")

    def ask(self, public_key: Pem, text: str, address: str, now: float) -> Open:
        """A box asks to be paired; asking again with the same key gives the same figures.

        text: a signed PairingRequest. Raises PairingError.
        """
        self._forget(now)
        try:
            key = read_pem(public_key)
            request = signed.read(text, [key], ASK, PairingRequest)
        except (signed.BadSignature, signed.BadDocument, ValueError) as error:
            raise PairingError(400, f"This is no request of a box: {error}.") from error
        public_key = public_pem(key)
        for one in self._open.values():
            if one.public_key == public_key and not one.identity:
                return one
        crowd = sum(one.address == address for one in self._open.values())
        if len(self._open) >= MAX_OPEN or crowd >= MAX_OPEN_PER_ADDRESS:
            raise PairingError(
                429, "Too many boxes ask to be paired at this moment; try again in some minutes."
            )
        taken = {one.code for one in self._open.values()}
        code = self._new_code()
        while code in taken:
            code = self._new_code()
        one = Open(
            secrets.token_urlsafe(24), code, public_key, request.version,
            "".join(c for c in request.name if c.isprintable()), address, now,
        )  # fmt: skip
        self._open[one.id] = one
        return one

    def get(self, pairing: str, now: float) -> Open | None:
        """The pairing with this id, which only its box knows; None when it is over."""
        self._forget(now)
        return self._open.get(pairing)

    def waiting(self, now: float) -> list[Open]:
        """The pairings that an operator may confirm, the newest first."""
        self._forget(now)
        found = [one for one in self._open.values() if not one.identity]
        return sorted(found, key=lambda one: -one.asked_s)

    def find(self, code: str, now: float) -> Open:
        """The open pairing with these figures. Raises PairingError (404)."""
        for one in self.waiting(now):
            if secrets.compare_digest(one.code, code):
                return one
        raise PairingError(
            404,
            "No box shows these figures now; they change every fifteen minutes: look at the "
            "television again.",
        )

    def _forget(self, now: float) -> None:
        # The clock of a county may be set; figures from the future are as old as any.
        for one in [*self._open.values()]:
            if not 0 <= now - one.asked_s < GOOD_FOR_S:
                del self._open[one.id]
