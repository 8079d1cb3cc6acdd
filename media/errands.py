"""What a box asks its county, each question one bounded HTTP request. web/stations.py answers.

`Errands` holds the connection and nothing else; what follows from an answer is the station's
business. Every question either gives its answer or raises: `NoLine` when nobody answers in time,
`Turned` when the county answers and will not.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import aiohttp
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from pydantic import BaseModel, Field, ValidationError

from media import pairing, programme, signed
from media.clock import EARLIEST_S, SignedTime
from media.errors import MediaError
from media.pairing import Offer, PairingRequest, PairingState
from media.report import REPORT, Report, ReportAnswer

ANSWER_WITHIN_S: Final = 10.0
"""A line with 5 % loss takes several seconds for a request now and then."""
MAX_ANSWER_BYTES: Final = programme.MAX_BYTES + 100_000

_M = TypeVar("_M", bound=BaseModel)


class NoLine(MediaError):
    """Nobody answers: the line is down, or the county is."""


class Turned(MediaError):
    """The county answers and refuses. `status` is the HTTP status, `told` its JSON if any."""

    def __init__(self, status: int, sentence: str, told: dict[str, Any] | None = None) -> None:
        super().__init__(sentence)
        self.status = status
        self.told = told or {}


@dataclass(frozen=True, slots=True)
class TimeAnswer:
    """What the county says the time is. on_its_way_s: between question and answer."""

    unix_s: float
    on_its_way_s: float
    doubt: bool = False


class _NeighbourTime(BaseModel):
    unix_s: float = Field(ge=EARLIEST_S, le=32503680000, allow_inf_nan=False)
    doubt: str = Field(default="", max_length=32)


class Errands:
    """Questions to the county at `url`. Use as `async with`."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._http: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._http = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=ANSWER_WITHIN_S),
            headers={"User-Agent": "terrace-station"},
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        return self

    async def __aexit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        if self._http is not None:
            await self._http.close()

    # ------------------------------------------------------------ pairing

    async def ask_pairing(self, key: Ed25519PrivateKey, version: str, name: str) -> Offer:
        """Asks for six figures."""
        request = PairingRequest(version=version, name=name)
        body = {
            "public_key": pairing.public_pem(key.public_key()),
            "request": signed.sign(request, key, pairing.ASK),
        }
        return await self._model(Offer, "POST", "/api/pairings", document=body)

    async def pairing_state(self, pairing_id: str) -> PairingState:
        """Asks whether the operator has confirmed."""
        return await self._model(PairingState, "GET", f"/api/pairings/{pairing_id}")

    # ------------------------------------------------------------ the daily round

    async def time(self, keys: Sequence[Ed25519PublicKey]) -> TimeAnswer:
        """Asks what time it is. Raises signed.BadSignature for an answer that is not theirs."""
        nonce = secrets.token_urlsafe(18)
        began = time.monotonic()
        _, text, _ = await self._ask("GET", f"/api/time?nonce={nonce}")
        took_s = time.monotonic() - began
        said = signed.read(text, keys, signed.TIME, SignedTime)
        if said.nonce != nonce:
            raise signed.BadSignature("the time that came is the answer to an older question")
        return TimeAnswer(said.unix_s, took_s)

    async def neighbour_time(self, url: str) -> TimeAnswer:
        """Asks a box next door what time it is; nobody signs that."""
        began = time.monotonic()
        said = await self._model(_NeighbourTime, "GET", "/api/time", at=url)
        return TimeAnswer(said.unix_s, time.monotonic() - began, bool(said.doubt))

    async def report(self, one: Report, key: Ed25519PrivateKey) -> ReportAnswer:
        """Tells how the box is."""
        body = {
            "public_key": pairing.public_pem(key.public_key()) if one.identity else "",
            "report": signed.sign(one, key, REPORT),
        }
        return await self._model(
            ReportAnswer, "POST", f"/api/stations/{one.station}/report", document=body
        )

    async def timetable(self, station: str, token: str, etag: str) -> tuple[bytes | None, str]:
        """The signed timetable and its ETag; None when what has `etag` is still right.

        Raises Turned (404) while there is none.
        """
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        if etag:
            headers["If-None-Match"] = etag
        status, body, tag = await self._ask("GET", f"/api/programmes/{station}", headers=headers)
        return (None if status == 304 else body), tag

    async def deliver(self, station: str, lines: Sequence[str]) -> list[str]:
        """Sends entries of the logbook; the ids of those that the county holds now."""
        answer = await self._model(
            _Acknowledged,
            "POST",
            "/api/logbook",
            document={"station": station, "entries": [*lines]},
        )
        return answer.acknowledged

    # ------------------------------------------------------------ one request

    async def _model(
        self,
        model: type[_M],
        method: str,
        path: str,
        *,
        document: object = None,
        at: str = "",
    ) -> _M:
        _, body, _ = await self._ask(method, path, document=document, at=at)
        try:
            return model.model_validate_json(body)
        except ValidationError as error:
            raise NoLine(f"{self.url}{path} answers something that is no answer") from error

    async def _ask(
        self,
        method: str,
        path: str,
        *,
        document: object = None,
        headers: dict[str, str] | None = None,
        at: str = "",
    ) -> tuple[int, bytes, str]:
        """Status, body and ETag of an answer that is good (200, 201 or 304)."""
        assert self._http is not None
        try:
            async with self._http.request(
                method,
                (at or self.url) + path,
                json=document,
                headers=headers,
                allow_redirects=False,
            ) as answer:
                body = await answer.content.read(MAX_ANSWER_BYTES + 1)
                while len(body) <= MAX_ANSWER_BYTES and (more := await answer.content.readany()):
                    body += more
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise NoLine(
                f"{self.url} does not answer: {str(error) or type(error).__name__}"
            ) from error
        if len(body) > MAX_ANSWER_BYTES:
            raise NoLine(f"{self.url}{path} sends more than {MAX_ANSWER_BYTES} bytes")
        if answer.status in (200, 201, 304):
            return answer.status, body, answer.headers.get("ETag", "")
        if answer.status >= 500 or answer.status == 429:
            raise NoLine(f"{self.url} answers {answer.status}")
        raise Turned(answer.status, *_said(body))


class _Acknowledged(BaseModel):
    acknowledged: list[str]


def _said(body: bytes) -> tuple[str, dict[str, Any]]:
    """The sentence of a refusal, and its JSON if it is some."""
    try:
        told = json.loads(body)
    except ValueError:
        told = {}
    if not isinstance(told, dict):
        told = {}
    text = str(told.get("error", "")) or body[:300].decode("utf-8", "replace").strip()
    return "".join(c for c in text if c.isprintable())[:300], told
