"""One WHIP or WHEP client: POST, ICE check, DTLS; then a connected socket and two SRTP sessions.

Until `join` returns, asyncio reads the socket. After that its owner does: the publisher's loop or
the audience's sweep.
"""

import asyncio
import secrets
import socket
from typing import Literal

from pylibsrtp import Session

from tests.bench import sdp, signalling, stun
from tests.bench.dtls import DtlsError, Handshake, Identity

_CONNECT_TIMEOUT_S = 10.0
_CHECK_RESEND_S = 0.2
# A keyframe for one viewer is about 45 packets of some 2.3 kB of socket memory each; half a second
# of them must wait unread while the load core is busy with handshakes.
_RECEIVE_BUFFER_BYTES = 1 << 20
# Linux' number; Python's socket module has no name for it.
_SO_RCVBUFFORCE = 33


class Peer:
    """One client of the node. `sock` is bound at once, connected to the node by `join`."""

    def __init__(self, identity: Identity, host: str = "127.0.0.1", video: str = "VP8") -> None:
        """`video`: the codec that it offers, VP8 or H264."""
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.setblocking(False)
        self.sock.bind((host, 0))
        enlarge(self.sock)
        # How often a check or a DTLS flight had to be sent again before the join was done.
        self.resent = 0
        self._identity = identity
        self._video = video
        self._local = sdp.new_local(identity.fingerprint, host, self.sock.getsockname()[1])
        self._tie_breaker = secrets.randbits(64)
        self._resource = ""
        self._keys: stun.Credentials | None = None
        self._sessions: tuple[Session, Session] | None = None

    @property
    def tx(self) -> Session:
        """Protects what this peer sends."""
        return self._srtp()[0]

    @property
    def rx(self) -> Session:
        """Opens what the node sends to this peer."""
        return self._srtp()[1]

    async def join(
        self,
        client: signalling.Client,
        path: str,
        direction: Literal["sendonly", "recvonly"] = "recvonly",
        ssrcs: dict[str, int] | None = None,
    ) -> None:
        """Enter `path` (/whip/NAME or /whep/NAME) and return once media can flow.

        Raises HttpError, AnswerError, DtlsError, OSError or TimeoutError.
        """
        offer = sdp.offer(self._local, direction, ssrcs or {}, self._video)
        response = await client.expect(201, "POST", path, offer.encode())
        if "location" not in response.headers:
            raise signalling.HttpError(f"POST {path} answered 201 without a Location")
        self._resource = signalling.path_of(response.headers["location"], path)
        await self._connect(sdp.parse_answer(response.body.decode()))

    async def leave(self, client: signalling.Client) -> None:
        """DELETE the session, if there is one; the socket stays open until `close`."""
        if self._resource:
            resource, self._resource = self._resource, ""
            await client.expect(200, "DELETE", resource)

    def close(self) -> None:
        """Close the socket without a word to the node."""
        self.sock.close()

    def send(self, datagram: bytes) -> bool:
        """Send to the node; False when the socket's buffer is full or the node is gone."""
        try:
            self.sock.send(datagram)
        except OSError:
            return False
        return True

    def send_consent(self) -> None:
        """A fresh check, which also keeps the node's consent (RFC 7675)."""
        self.send(stun.binding_request(self.credentials, self._tie_breaker, nominate=True))

    def take_stun(self, datagram: bytes) -> None:
        """Answer a check of the node; its answers to ours need nothing."""
        if stun.message_type(datagram) == stun.REQUEST:
            keys = self.credentials
            if stun.is_authentic(datagram, keys.local_pwd):
                self.send(stun.binding_response(datagram, self.sock.getpeername(), keys))

    async def _connect(self, answer: sdp.Answer) -> None:
        """ICE, then DTLS, over the connected socket."""
        self.sock.connect(answer.address)
        self._keys = stun.Credentials(self._local.ufrag, self._local.pwd, answer.ufrag, answer.pwd)
        handshake = Handshake(
            self._identity, client=not answer.node_is_client, peer_fingerprint=answer.fingerprint
        )
        async with asyncio.timeout(_CONNECT_TIMEOUT_S):
            early = await self._check()
            if not answer.node_is_client:
                self.send(handshake.step())
            while not handshake.done:
                datagram = early.pop(0) if early else await self._receive(handshake.timeout_s())
                if datagram is None:
                    self.resent += 1
                    flight = handshake.resend()
                elif 20 <= datagram[0] <= 63:
                    flight = handshake.step(datagram)
                else:
                    continue
                if flight:
                    self.send(flight)
        self._sessions = handshake.sessions()

    async def _check(self) -> list[bytes]:
        """Send checks until one is answered under the node's password.

        Returns what else arrived: a node that is the DTLS client may start before it answers.
        """
        keys = self.credentials
        early: list[bytes] = []
        while True:
            self.send_consent()
            datagram = await self._receive(_CHECK_RESEND_S)
            if datagram is None:
                self.resent += 1
                continue
            if not stun.is_stun(datagram):
                early.append(datagram)
            elif stun.message_type(datagram) == stun.ERROR:
                raise DtlsError("the node refused the ICE check")
            elif _accepts(datagram, keys):
                return early

    async def _receive(self, timeout_s: float | None) -> bytes | None:
        """The next datagram, STUN of the node already answered; None after `timeout_s`."""
        loop = asyncio.get_running_loop()
        datagram = b""
        try:
            async with asyncio.timeout(timeout_s):
                while not datagram:
                    datagram = await loop.sock_recv(self.sock, 2048)
        except TimeoutError:
            return None
        if stun.is_stun(datagram):
            self.take_stun(datagram)
        return datagram

    @property
    def credentials(self) -> stun.Credentials:
        if self._keys is None:
            raise RuntimeError("not joined")
        return self._keys

    def _srtp(self) -> tuple[Session, Session]:
        if self._sessions is None:
            raise RuntimeError("not joined")
        return self._sessions


def _accepts(datagram: bytes, keys: stun.Credentials) -> bool:
    """Whether the node answered a check, and knew its own password."""
    is_response = stun.message_type(datagram) == stun.RESPONSE
    return is_response and stun.is_authentic(datagram, keys.remote_pwd)


def enlarge(sock: socket.socket) -> None:
    """Enlarge the receive buffer, past net.core.rmem_max where we may."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BUFFER_BYTES)
    except PermissionError:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_BYTES)
