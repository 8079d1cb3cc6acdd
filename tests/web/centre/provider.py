"""A small OpenID provider, as a process: `python -m tests.web.centre.provider`.

It writes its port in a line when it listens. Who sits at the browser is told by `POST /seat` (a
JSON object: "claims", and faults by name); that person consents to everything at once. A code is
good once, for the client, the address and the PKCE verifier that it was asked for with.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import secrets
import sys
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlencode

import jwt
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec

CLIENT, SECRET = "terrace:centre", "s%cret: öffne dich"


@dataclass
class Seat:
    """Who is at the browser, and what the provider does wrong."""

    claims: dict[str, Any] = field(default_factory=dict)
    token: dict[str, Any] = field(default_factory=dict)
    userinfo: dict[str, Any] = field(default_factory=dict)
    answer: dict[str, str] = field(default_factory=dict)
    algorithm: str = "ES256"
    foreign_key: bool = False
    new_key: bool = False
    silent: bool = False


class Provider:
    def __init__(self) -> None:
        self.issuer = ""
        self.seat = Seat()
        self.codes: dict[str, dict[str, str]] = {}
        self.access: set[str] = set()
        self.turn_key()
        self.asked_keys = 0

    def turn_key(self) -> None:
        self.key, self.kid = ec.generate_private_key(ec.SECP256R1()), secrets.token_hex(4)

    async def take_seat(self, request: web.Request) -> web.Response:
        self.seat = Seat(**await request.json())
        if self.seat.new_key:
            self.turn_key()
        return web.json_response({"asked_keys": self.asked_keys})

    async def about(self, _request: web.Request) -> web.Response:
        if self.seat.silent:
            return web.Response(status=503)
        return web.json_response(
            {
                "issuer": self.issuer,
                "authorization_endpoint": f"{self.issuer}/authorize?tenant=1",
                "token_endpoint": f"{self.issuer}/token",
                "userinfo_endpoint": f"{self.issuer}/userinfo",
                "jwks_uri": f"{self.issuer}/keys",
            }
        )

    async def keys(self, _request: web.Request) -> web.Response:
        self.asked_keys += 1
        own = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(self.key.public_key()))
        return web.json_response({"keys": [own | {"kid": self.kid, "use": "sig"}]})

    async def authorize(self, request: web.Request) -> web.Response:
        asked = dict(request.query)
        if (asked.get("client_id"), asked.get("response_type")) != (CLIENT, "code"):
            return web.Response(status=400, text="an unknown client")
        code = secrets.token_urlsafe(8)
        self.codes[code] = asked
        back = {"code": code, "state": asked["state"], "iss": self.issuer, "session_state": "x"}
        raise web.HTTPFound(f"{asked['redirect_uri']}?{urlencode(back | self.seat.answer)}")

    async def token(self, request: web.Request) -> web.Response:
        form = await request.post()
        scheme, _, pair = request.headers.get("Authorization", "").partition(" ")
        shown = [unquote(one) for one in base64.b64decode(pair).decode().split(":", 1)]
        asked = self.codes.pop(str(form.get("code")), None)
        digest = hashlib.sha256(str(form.get("code_verifier")).encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        if (
            scheme != "Basic"
            or shown != [CLIENT, SECRET]
            or asked is None
            or asked["code_challenge_method"] != "S256"
            or asked["code_challenge"] != challenge
            or asked["redirect_uri"] != form.get("redirect_uri")
        ):
            return web.json_response({"error": "invalid_grant"}, status=400)
        now = int(time.time())
        claims = {
            "iss": self.issuer, "aud": CLIENT, "sub": "u-1", "iat": now, "exp": now + 300,
            "nonce": asked["nonce"],
        }  # fmt: skip
        claims |= self.seat.claims | self.seat.token
        key: Any = ec.generate_private_key(ec.SECP256R1()) if self.seat.foreign_key else self.key
        if self.seat.algorithm == "HS256":
            key = SECRET + "x" * 32
        if self.seat.algorithm == "none":
            key = None
        access = secrets.token_urlsafe(8)
        self.access.add(access)
        signed = jwt.encode(claims, key, algorithm=self.seat.algorithm, headers={"kid": self.kid})
        return web.json_response(
            {"access_token": access, "token_type": "Bearer", "id_token": signed}
        )

    async def userinfo(self, request: web.Request) -> web.Response:
        if request.headers.get("Authorization", "").removeprefix("Bearer ") not in self.access:
            return web.Response(status=401)
        return web.json_response({"sub": "u-1"} | self.seat.userinfo)


async def serve() -> None:
    """Until it is ended."""
    provider = Provider()
    app = web.Application()
    app.router.add_post("/seat", provider.take_seat)
    app.router.add_get("/.well-known/openid-configuration", provider.about)
    app.router.add_get("/keys", provider.keys)
    app.router.add_get("/authorize", provider.authorize)
    app.router.add_post("/token", provider.token)
    app.router.add_get("/userinfo", provider.userinfo)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    provider.issuer = f"http://127.0.0.1:{port}"
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve())
