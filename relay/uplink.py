"""This node's connections to its parent: pull a stream by WHEP, push one by WHIP.

An uplink is a peer like any other, on the same socket, with the roles turned: we offer, we send
the ICE checks, and we begin the DTLS handshake as the parent's answer says. Each has one owner
task, which connects, waits for the end, and tries again as long as somebody below needs it.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import cast
from urllib.parse import urljoin, urlsplit

import aiohttp
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from relay import ice, sdp, tree
from relay.errors import HandshakeFailed, Refused
from relay.peer import NodeCertificate, Peer
from relay.port import Port
from relay.sdp import Layer, Leg, Local, Setup

log = logging.getLogger("relay.uplink")

CHECK_EVERY_S = 0.05
CONSENT_EVERY_S = 2.5
# RFC 7675 allows 30 s; a parent that misses four checks is not coming back in time for anyone.
CONSENT_LOST_S = 10.0
WATCH_EVERY_S = 0.1
MAX_ANSWER = 64 * 1024


@dataclass(slots=True)
class Link:
    """An agreed session with the parent: the peer, what was agreed, and where to take leave."""

    peer: Peer
    legs: list[Leg]
    location: str


class LayerSaid(BaseModel):
    """What a parent says of one layer of a stream's picture."""

    model_config = ConfigDict(extra="ignore")

    rid: str = Field(max_length=16)
    ssrc: int = Field(ge=0, le=0xFFFFFFFF)
    rtx_ssrc: int = Field(default=0, ge=0, le=0xFFFFFFFF)
    bitrate_bps: int = Field(default=0, ge=0)
    live: bool = True
    on_demand: bool = False


class LayersAnswer(BaseModel):
    """The parent's answer to `PUT .../layers`."""

    model_config = ConfigDict(extra="ignore")

    layers: list[LayerSaid] = Field(max_length=sdp.MAX_LAYERS)


class Uplink:
    """Speaks WHIP and WHEP to one parent. `url` is its base, `token` goes along if set."""

    def __init__(
        self,
        url: str,
        token: str,
        node_id: str,
        port: Port,
        certificate: NodeCertificate,
        candidates: Callable[[], tuple[tuple[str, int], ...]],
    ) -> None:
        self.url = url.rstrip("/")
        self._token = token
        self._node_id = node_id
        self._port = port
        self._certificate = certificate
        self._candidates = candidates
        self._http: aiohttp.ClientSession | None = None
        # Streams to one parent share both addresses: their handshakes go one after the other.
        self._one_handshake = asyncio.Lock()

    async def close(self) -> None:
        """Close the HTTP connections."""
        if self._http is not None:
            await self._http.close()

    def headers(self, path: tuple[str, ...]) -> dict[str, str]:
        """What every request to the parent carries."""
        headers = {tree.PATH_HEADER: ",".join(path), tree.NODE_HEADER: self._node_id}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        return headers

    @property
    def http(self) -> aiohttp.ClientSession:
        """The HTTP client, made at first use."""
        if self._http is None:
            timeout = aiohttp.ClientTimeout(total=3, sock_connect=1.5)
            self._http = aiohttp.ClientSession(timeout=timeout)
        return self._http

    async def pull(
        self, stream: str, path: tuple[str, ...], within_s: float, have: dict[int, int]
    ) -> Link:
        """Ask the parent for a stream; Refused with the parent's own answer if it has none.

        `have` is the last sequence number by SSRC of what we hold already: the parent goes on
        from there.
        """
        local = self._local()
        offer = sdp.write_pull_offer(local, secrets.randbits(62))
        extra = {tree.HAVE_HEADER: tree.format_have(have)} if have else {}
        return await self._ask("whep", stream, offer, local, None, path, extra, within_s)

    async def push(
        self,
        stream: str,
        legs: list[Leg],
        path: tuple[str, ...],
        publisher: str,
        within_s: float,
        *,
        on_air: bool = False,
    ) -> Link:
        """Publish a stream at the parent under our numbers; `publisher` says who and since when.

        `on_air`: the publisher is there, so that the nodes above may all connect at once.
        """
        local = self._local()
        offer = sdp.write_push_offer(local, legs, stream, secrets.randbits(62))
        extra = {tree.PUBLISHER_HEADER: publisher}
        if on_air:
            extra[tree.PUSH_HEADER] = tree.ON_AIR
        return await self._ask("whip", stream, offer, local, legs, path, extra, within_s)

    async def climb(self, stream: str, made: tuple[Layer, ...], within_s: float) -> Link:
        """Offer to make these layers of a stream's picture (`terrace ladder`).

        The link has two legs: the picture as the node sends it, and the layers as it takes them.
        """
        local = self._local()
        offer = sdp.write_ladder_offer(local, made, stream, secrets.randbits(62))
        extra = {tree.LADDER_HEADER: "1"}
        link = await self._ask("whip", stream, offer, local, None, (), extra, within_s)
        if len(link.legs) != 2:
            await self.leave(link)
            raise Refused(502, "The node's answer lacks the picture or the layers.", 5)
        link.legs[1] = replace(link.legs[1], layers=made)
        return link

    def _local(self) -> Local:
        ufrag, password = ice.new_credentials()
        return Local(
            ufrag,
            password,
            self._certificate.fingerprint,
            Setup.ACTPASS,
            self._candidates(),
            ice_lite=False,
        )

    async def _ask(
        self,
        endpoint: str,
        stream: str,
        offer: str,
        local: Local,
        offered: list[Leg] | None,
        path: tuple[str, ...],
        extra: dict[str, str],
        within_s: float,
    ) -> Link:
        headers = {"Content-Type": "application/sdp", **self.headers(path), **extra}
        url = f"{self.url}/{endpoint}/{stream}"
        try:
            async with asyncio.timeout(within_s):
                async with self.http.post(
                    url, data=offer.encode(), headers=headers, allow_redirects=False
                ) as response:
                    body = (await response.content.read(MAX_ANSWER)).decode("utf-8", "replace")
                    status, location = response.status, response.headers.get("Location", "")
                    retry = response.headers.get("Retry-After", "")
        except (TimeoutError, aiohttp.ClientError, OSError) as exc:
            raise Refused(
                503, f"The parent node {self.url} does not answer ({type(exc).__name__}).", 2
            ) from exc
        if status != 201:
            retry_s = (
                int(retry) if retry.isascii() and retry.isdecimal() and len(retry) < 6 else None
            )
            if status not in (401, 403, 404, 409, 503, 508):
                status, retry_s = 502, 2
            raise Refused(status, body.strip()[:300] or f"The parent answered {status}.", retry_s)
        try:
            answer = sdp.parse(body)
            transport = sdp.check_transport(answer)
            legs = sdp.accepted_legs(answer, offered)
        except sdp.SdpError as exc:
            raise Refused(502, f"The parent's answer cannot be used: {exc}.", 5) from exc
        if not legs:
            raise Refused(502, "The parent's answer accepts no track.", 5)
        peer = Peer(
            f"{endpoint}-up {stream}",
            self._port,
            self._certificate,
            remote_ufrag=transport.ufrag,
            remote_password=transport.password,
            fingerprints=transport.fingerprints,
            dtls_client=transport.setup == Setup.PASSIVE,
            controlling=True,
        )
        peer.ufrag, peer.password = local.ufrag, local.password
        peer.remote_candidates = list(await self._addresses(transport.candidates))
        self._port.add(peer)
        return Link(peer, legs, urljoin(url, location))

    async def _addresses(self, candidates: list[tuple[str, int]]) -> list[ice.Address]:
        """Remote candidates as socket addresses; names are resolved off the loop."""
        host = urlsplit(self.url).hostname or ""
        found: list[ice.Address] = []
        loop = asyncio.get_running_loop()
        for address, number in candidates[:8]:
            # A parent behind 0.0.0.0 or a mapped port is reached where its HTTP is reached.
            for name in {address, host} if address != host else {address}:
                try:
                    infos = await loop.getaddrinfo(name, number, family=self._port.family)
                except OSError:
                    continue
                resolved = cast(ice.Address, infos[0][4])
                if resolved not in found:
                    found.append(resolved)
        return found

    async def connect(self, link: Link) -> None:
        """Carry ICE and DTLS through; HandshakeFailed when the parent is not reached."""
        async with self._one_handshake:
            checks = asyncio.create_task(self._checks(link.peer))
            try:
                async with asyncio.timeout(5):
                    await link.peer.reachable.wait()
                await link.peer.connect()
            except TimeoutError:
                reason = f"no ICE answer from {self.url}: is its UDP port open?"
                raise HandshakeFailed(reason) from None
            finally:
                checks.cancel()

    async def _checks(self, peer: Peer) -> None:
        """Send binding requests to every candidate until one is answered."""
        while not peer.reachable.is_set():
            self.check(peer, peer.remote_candidates)
            await asyncio.sleep(CHECK_EVERY_S)

    def check(self, peer: Peer, addresses: list[ice.Address]) -> None:
        """Send one ICE check, for the connection or as consent (RFC 7675)."""
        now = time.monotonic()
        # A check that may still be answered is sent again as it is (RFC 8489 section 6.2.1).
        if not peer.check_transaction or now - peer.check_began_s > 0.4:
            peer.check_transaction = ice.new_transaction()
            peer.check_began_s = now
        peer.check_sent_s = now
        request = ice.check(
            f"{peer.remote_ufrag}:{peer.ufrag}",
            peer.remote_password.encode(),
            peer.check_transaction,
            id(peer) & 0xFFFFFFFFFFFFFFFF,
        )
        for address in addresses:
            self._port.send_raw(request, address)

    def consent(self, peer: Peer, now: float, *, urgent: bool) -> bool:
        """Send a check if one is due (at once and often when `urgent`); True: consent is gone."""
        every_s = tree.PROBE_EVERY_S if urgent else CONSENT_EVERY_S
        if now - peer.check_sent_s >= every_s and peer.address is not None:
            self.check(peer, [peer.address])
        return now - peer.last_heard_s > CONSENT_LOST_S

    async def watch(self, peer: Peer, suspected: Callable[[], float]) -> str:
        """Keep consent fresh until a push ends; returns why it ended."""
        watch = tree.Watch()
        while not peer.closed.is_set():
            now = time.monotonic()
            # The parent of a push sends reports, not media: what was heard stands for it.
            verdict = watch.judge(
                now, media=0.0, heard=peer.last_heard_s, suspected=suspected(), rtt=peer.rtt_s
            )
            gone = self.consent(peer, now, urgent=verdict is tree.Verdict.PROBE)
            if gone or verdict is tree.Verdict.LEAVE:
                peer.lost("the parent no longer answers")
                break
            try:
                async with asyncio.timeout(WATCH_EVERY_S):
                    await peer.closed.wait()
            except TimeoutError:
                continue
        return peer.why

    async def take_layers(self, link: Link, rids: list[str]) -> list[Layer] | None:
        """Tell the parent which layers to send; returns those that it has, the smallest first.

        None when the parent does not answer, or does not know of layers.
        """
        try:
            async with self.http.put(
                f"{link.location}/layers", json={"layers": rids}, headers=self.headers(())
            ) as response:
                if response.status != 200:
                    return None
                answer = LayersAnswer.model_validate_json(await response.content.read(MAX_ANSWER))
        except (TimeoutError, aiohttp.ClientError, OSError, ValidationError) as exc:
            log.debug("layers %s: %s", link.location, exc)
            return None
        return [
            Layer(n.rid, n.ssrc, n.rtx_ssrc, n.bitrate_bps if n.live else 0, n.on_demand)
            for n in answer.layers
        ]

    async def leave(self, link: Link) -> None:
        """Tell the parent that this session ends, and forget the peer."""
        await link.peer.close("left")
        self._port.remove(link.peer)
        location = link.location
        # What aiohttp raises for a dead parent lives in a cycle with the frames that it went
        # through. The collector, counting objects, leaves that alone for hours; so no frame
        # below may know the peer, which holds some 150 kB outside Python.
        del link
        await self._forget(location)

    async def _forget(self, location: str) -> None:
        """Ask the parent to end a session; it does so by itself if it does not hear us."""
        try:
            async with self.http.delete(
                location, headers=self.headers(()), timeout=aiohttp.ClientTimeout(total=1)
            ):
                pass
        except (TimeoutError, aiohttp.ClientError, OSError) as exc:
            log.debug("leave %s: %s", location, exc)
