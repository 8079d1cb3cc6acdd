"""Signing in through somebody else's accounts: OpenID Connect, authorization code with PKCE.

    browser ── /api/signin/oidc ──302──▶ provider ──302──▶ /api/signin/oidc/callback ──▶ a session
                  (cookie: a secret)                          │ code for ID token, by us
                                                              ▼ who that is: `signing_oidc`

What has to be the same on both ends of that way (state against forged answers, nonce against
replayed tokens, the PKCE verifier against stolen codes) is worked out from one secret in a cookie:
nothing is kept here between the two requests, so they may reach two processes of a centre.

OpenID Connect Core 1.0 section 3.1, Discovery 1.0 section 4, RFC 7636 (PKCE), RFC 9207 (iss).
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote, urlencode, urlsplit

import aiohttp
import jwt

log = logging.getLogger("web.centre")

CALLBACK: Final = "/api/signin/oidc/callback"
SCOPE: Final = "openid email profile"
# Only keys that a provider can publish: with "none" or a shared secret anybody could be anybody.
ALGORITHMS: Final = (
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA",
)  # fmt: skip
MOST_BYTES: Final = 256 * 1024
TIMEOUT_S: Final = 10.0
KEEP_S: Final = 3600.0
"""How long the provider's description and keys are kept."""
AGAIN_S: Final = 60.0
"""They are asked for anew for a key that is not known, but not more often than this."""
LEEWAY_S: Final = 60.0
"""By how much the provider's clock may differ from ours."""


class OidcError(Exception):
    """The provider does not do its part, or somebody pretends to be it. Its text is for the log."""


@dataclass(frozen=True, slots=True)
class Client:
    """What the operator has registered at the provider. secret: "" for a public client."""

    issuer: str
    id: str
    secret: str
    claim: str


@dataclass(frozen=True, slots=True)
class Way:
    """What one sign-in has on both its ends, from the secret in the browser's cookie (pure)."""

    secret: str

    def _part(self, name: str) -> str:
        digest = hashlib.sha256(f"terrace oidc {name} {self.secret}".encode()).digest()
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()

    @property
    def state(self) -> str:
        return self._part("state")

    @property
    def nonce(self) -> str:
        return self._part("nonce")

    @property
    def verifier(self) -> str:
        """43 characters, RFC 7636 section 4.1."""
        return self._part("verifier")

    @property
    def challenge(self) -> str:
        digest = hashlib.sha256(self.verifier.encode()).digest()
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def is_protected(url: str) -> bool:
    """Whether nobody on the line reads along: https, or this machine itself."""
    parts = urlsplit(url)
    return parts.scheme == "https" or (
        parts.scheme == "http" and parts.hostname in ("127.0.0.1", "::1", "localhost")
    )


@dataclass(frozen=True, slots=True)
class _Known:
    """What the provider says of itself. asked_s: when, by the monotonic clock."""

    about: Mapping[str, Any]
    keys: jwt.PyJWKSet
    asked_s: float


class Oidc:
    """One provider. Opens its connections when they are needed; `close` closes them."""

    def __init__(self, client: Client, redirect_uri: str) -> None:
        self.client = client
        self._redirect_uri = redirect_uri
        self._http: aiohttp.ClientSession | None = None
        self._known: _Known | None = None
        self._asking = asyncio.Lock()

    @property
    def host(self) -> str:
        """Whose accounts these are, as people know it."""
        return urlsplit(self.client.issuer).netloc

    async def close(self) -> None:
        if self._http is not None:
            await self._http.close()

    async def address(self, way: Way) -> str:
        """Where to send the browser; OidcError."""
        about = (await self._provider()).about
        query = {
            "response_type": "code",
            "client_id": self.client.id,
            "redirect_uri": self._redirect_uri,
            "scope": SCOPE,
            "state": way.state,
            "nonce": way.nonce,
            "code_challenge": way.challenge,
            "code_challenge_method": "S256",
        }
        endpoint = self._endpoint(about, "authorization_endpoint")
        return endpoint + ("&" if "?" in endpoint else "?") + urlencode(query, quote_via=quote)

    async def claims(self, way: Way, code: str) -> Mapping[str, Any]:
        """What the provider says of the person who came back with a code; OidcError."""
        known = await self._provider()
        answer = await self._ask_token(known.about, way, code)
        token = answer.get("id_token")
        if not isinstance(token, str):
            raise OidcError("the answer has no id_token")
        claims = await self._verified(token, way)
        access = answer.get("access_token")
        if (
            self.client.claim not in claims
            and isinstance(access, str)
            and "userinfo_endpoint" in known.about
        ):
            more = await self._fetch(
                "GET",
                self._endpoint(known.about, "userinfo_endpoint"),
                headers={"Authorization": f"Bearer {access}"},
            )
            # Core section 5.3.2: without this, the token of somebody else could be slipped in.
            if more.get("sub") != claims["sub"]:
                raise OidcError("userinfo is about somebody else")
            claims = {**more, **claims}
        return claims

    # What the provider says of itself

    async def _provider(self, *, fresh: bool = False) -> _Known:
        async with self._asking:
            known, now = self._known, time.monotonic()
            if known is not None and now - known.asked_s < (AGAIN_S if fresh else KEEP_S):
                return known
            issuer = self.client.issuer.rstrip("/")
            about = await self._fetch("GET", f"{issuer}/.well-known/openid-configuration")
            # Discovery section 4.3: exactly the same, or one provider could speak for another.
            if about.get("issuer") != self.client.issuer:
                raise OidcError(f"the provider calls itself {about.get('issuer')!r:.200}")
            keys = await self._fetch("GET", self._endpoint(about, "jwks_uri"))
            try:
                found = jwt.PyJWKSet.from_dict(dict(keys))
            except (jwt.PyJWTError, ValueError, TypeError, AttributeError) as error:
                raise OidcError(f"the provider's keys cannot be read: {error}") from error
            self._known = _Known(about, found, now)
            return self._known

    @staticmethod
    def _endpoint(about: Mapping[str, Any], name: str) -> str:
        url = about.get(name)
        if not isinstance(url, str) or not is_protected(url):
            raise OidcError(f"the provider's {name} is no https address")
        return url

    # The code, and the token for it

    async def _ask_token(self, about: Mapping[str, Any], way: Way, code: str) -> Mapping[str, Any]:
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self._redirect_uri,
            "code_verifier": way.verifier,
        }
        headers = {}
        methods = about.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
        if self.client.secret and "client_secret_basic" in methods:
            # RFC 6749 section 2.3.1: both are form-encoded before they are joined.
            pair = f"{quote(self.client.id, safe='')}:{quote(self.client.secret, safe='')}"
            headers["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
        else:
            form["client_id"] = self.client.id
            if self.client.secret:
                form["client_secret"] = self.client.secret
        endpoint = self._endpoint(about, "token_endpoint")
        return await self._fetch("POST", endpoint, data=form, headers=headers)

    async def _verified(self, token: str, way: Way) -> Mapping[str, Any]:
        """The claims of an ID token: Core section 3.1.3.7."""
        try:
            key = await self._key_of(token)
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=list(ALGORITHMS),
                audience=self.client.id,
                issuer=self.client.issuer,
                leeway=LEEWAY_S,
                options={"require": ["iss", "sub", "aud", "exp", "iat", "nonce"]},
            )
        except (jwt.PyJWTError, ValueError, TypeError) as error:
            raise OidcError(f"the ID token is not good: {error}") from error
        if claims["nonce"] != way.nonce:
            raise OidcError("the ID token belongs to another sign-in")
        party = claims.get("azp")
        several = isinstance(claims["aud"], list) and len(claims["aud"]) > 1
        if party != self.client.id and (party is not None or several):
            raise OidcError("the ID token was made for another client")
        return claims

    async def _key_of(self, token: str) -> jwt.PyJWK:
        """The key that a token says it is signed with; asked for anew when it is not known."""
        name = jwt.get_unverified_header(token).get("kid")
        for fresh in (False, True):
            keys = (await self._provider(fresh=fresh)).keys.keys
            usable = [one for one in keys if one.public_key_use in (None, "sig")]
            found = [one for one in usable if one.key_id == name]
            if name is None and len(usable) == 1:
                found = usable
            if len(found) == 1:
                return found[0]
        raise OidcError(f"the provider has no key {name!r:.100}")

    # The line

    async def _fetch(self, method: str, url: str, **how: Any) -> Mapping[str, Any]:
        """A JSON object; no redirects, in bounded time and size."""
        if self._http is None:
            self._http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_S))
        what = f"{method} {url}"
        try:
            async with self._http.request(method, url, allow_redirects=False, **how) as answer:
                body = b""
                async for chunk in answer.content.iter_chunked(65536):
                    body += chunk
                    if len(body) > MOST_BYTES:
                        raise OidcError(f"{what}: the answer has more than {MOST_BYTES} bytes")
                if answer.status != 200:
                    raise OidcError(f"{what}: {answer.status} {body[:200]!r}")
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise OidcError(f"{what}: {error!r:.200}") from error
        try:
            found = json.loads(body)
        except ValueError as error:
            raise OidcError(f"{what}: the answer is no JSON") from error
        if not isinstance(found, dict):
            raise OidcError(f"{what}: the answer is no JSON object")
        return found
