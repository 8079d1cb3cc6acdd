"""Real UDP sockets, SRTP sessions and associations, for tests that look at the wire."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
from collections.abc import Callable, Iterator
from typing import Any, cast

import pylibsrtp
from pylibsrtp import Policy, Session

from relay import ice
from relay.fanout import Abilities, Target
from relay.peer import NodeCertificate, Peer
from relay.port import Port

# A loopback address of this process alone: nothing that other programs on this machine still send
# to a port of theirs that has become ours can reach a test.
HOST = "127.42.{}.{}".format(*divmod(os.getpid() & 0xFFFF, 256))

GCM = Policy.SRTP_PROFILE_AEAD_AES_128_GCM
CM = Policy.SRTP_PROFILE_AES128_CM_SHA1_80
OVERHEAD = {GCM: 16, CM: 10}
KEY_SIZE = {GCM: 28, CM: 30}


def session(key: bytes, profile: int, *, sends: bool, repeats: bool = True) -> Session:
    """One direction of an association, set up as aiortc does."""
    policy = Policy(
        key=key,
        ssrc_type=Policy.SSRC_ANY_OUTBOUND if sends else Policy.SSRC_ANY_INBOUND,
        srtp_profile=profile,
    )
    policy.allow_repeat_tx = repeats
    policy.window_size = 1024
    return Session(policy)


class Receiver:
    """A viewer's socket with the key to what is sent to it.

    `target` is how the fan-out knows it. With `repeats=False` its sender's cipher refuses to
    protect a number twice, which is how a protect fails in earnest.
    """

    def __init__(
        self, profile: int = GCM, *, family: int = socket.AF_INET, repeats: bool = True
    ) -> None:
        key = secrets.token_bytes(KEY_SIZE[profile])
        self.tx = session(key, profile, sends=True, repeats=repeats)
        self.rx = session(key, profile, sends=False)
        self.socket = socket.socket(family, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        # An address of its own: a node of another test may still send to a port that was used.
        self.socket.bind(("::1" if family == socket.AF_INET6 else "127.0.0.77", 0))
        self.socket.setblocking(False)
        self.target = Target(self.pointer, OVERHEAD[profile], self.socket.getsockname(), family)

    @property
    def pointer(self) -> Any:
        """libsrtp's context, as `Target` wants it."""
        return self.tx._srtp[0]

    def datagrams(self) -> list[bytes]:
        """Everything that has arrived; on loopback that is everything that was sent."""
        found = []
        with contextlib.suppress(BlockingIOError):
            while True:
                found.append(self.socket.recv(65536))
        return found

    def packets(self) -> list[bytes]:
        """The RTP packets that have arrived, opened."""
        return [self.rx.unprotect(data) for data in self.datagrams()]

    def open(self, data: bytes) -> bytes | None:
        """One datagram opened, None if it is not for us."""
        try:
            return self.rx.unprotect(data)
        except pylibsrtp.Error:
            return None

    def close(self) -> None:
        """Close the socket."""
        self.socket.close()


@contextlib.contextmanager
def receivers(
    count: int, profile: int = GCM, *, family: int = socket.AF_INET, repeats: bool = True
) -> Iterator[list[Receiver]]:
    """So many viewers, closed at the end."""
    made = [Receiver(profile, family=family, repeats=repeats) for _ in range(count)]
    try:
        yield made
    finally:
        for one in made:
            one.close()


@contextlib.contextmanager
def sender(family: int = socket.AF_INET) -> Iterator[socket.socket]:
    """The socket of a node, as the port makes it."""
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.bind(("::1" if family == socket.AF_INET6 else HOST, 0))
        sock.setblocking(False)
        yield sock


# ---------------------------------------------------------------- associations


class Notes:
    """A media handler that keeps what comes."""

    def __init__(self) -> None:
        self.rtp: list[bytes] = []
        self.rtcp: list[bytes] = []

    def on_rtp(self, data: bytes, now: float) -> None:
        self.rtp.append(data)

    def on_rtcp(self, data: bytes, now: float) -> None:
        self.rtcp.append(data)


Judge = Callable[[bytes, bool], bool]
"""Whether a datagram may pass; True as second argument means from the caller to the callee."""


class Wire(asyncio.DatagramProtocol):
    """A middlebox between a caller and a port: forwards datagrams, or does not.

    The caller sends to `address`; `there` is where the callee listens. `seen` keeps every datagram
    and its direction, those that were dropped too.
    """

    def __init__(self, there: tuple[str, int], passes: Judge) -> None:
        self.there = there
        self.passes = passes
        self.caller: Any = None
        self.seen: list[tuple[bytes, bool]] = []
        self._transport: asyncio.DatagramTransport | None = None

    @classmethod
    async def open(cls, there: tuple[str, int], passes: Judge = lambda data, up: True) -> Wire:
        """Open the middlebox on a free port."""
        loop = asyncio.get_running_loop()
        made = await loop.create_datagram_endpoint(lambda: cls(there, passes), local_addr=(HOST, 0))
        return made[1]

    @property
    def address(self) -> tuple[str, int]:
        """Where the caller has to send."""
        assert self._transport is not None
        address: tuple[str, int] = self._transport.get_extra_info("sockname")
        return address

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: Any) -> None:
        up = addr != self.there
        if up:
            self.caller = addr
        self.seen.append((data, up))
        if self.passes(data, up) and self._transport is not None and self.caller:
            self._transport.sendto(data, self.there if up else self.caller)

    def close(self) -> None:
        """Close its socket."""
        assert self._transport is not None
        self._transport.close()


@contextlib.contextmanager
def open_port(
    host: str = HOST, abilities: Abilities | None = None, *, start: bool = True
) -> Iterator[Port]:
    """A real port, stopped at the end. Not started, its thread's work is done by the test."""
    port = Port(host, 0, asyncio.get_running_loop(), abilities)
    if start:
        port.start()
    try:
        yield port
    finally:
        port.stop()


class Pair:
    """A caller, which sends the ICE checks, and a lite callee, each on its own port.

    `caller_begins` says who is the DTLS client.
    """

    def __init__(
        self,
        caller_port: Port,
        callee_port: Port,
        *,
        caller_begins: bool = True,
        caller_certificate: NodeCertificate | None = None,
        callee_certificate: NodeCertificate | None = None,
    ) -> None:
        ours = caller_certificate or certificate()
        theirs = callee_certificate or certificate()
        self.ports = (caller_port, callee_port)
        self.callee = Peer(
            "callee",
            callee_port,
            theirs,
            remote_ufrag="",
            remote_password="",
            fingerprints=[("sha-256", ours.fingerprint)],
            dtls_client=not caller_begins,
        )
        self.caller = Peer(
            "caller",
            caller_port,
            ours,
            remote_ufrag=self.callee.ufrag,
            remote_password=self.callee.password,
            fingerprints=[("sha-256", theirs.fingerprint)],
            dtls_client=caller_begins,
            controlling=True,
        )
        self.address: tuple[str, int] = (HOST, callee_port.number)
        self.at_caller, self.at_callee = Notes(), Notes()

    def use(self, wire: Wire) -> None:
        """Let the caller reach the callee through a middlebox."""
        self.address = wire.address

    async def reach(self) -> None:
        """Carry ICE through: the caller's checks, until one is answered."""
        caller, (caller_port, callee_port) = self.caller, self.ports
        caller.remote_candidates = [self.address]
        caller.check_transaction = ice.new_transaction()
        caller_port.add(caller)
        callee_port.add(self.callee)
        check = ice.check(
            f"{caller.remote_ufrag}:{caller.ufrag}",
            caller.remote_password.encode(),
            caller.check_transaction,
            1,
        )
        while not caller.reachable.is_set():
            caller_port.send_raw(check, self.address)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.1):
                    await caller.reachable.wait()

    async def shake(self) -> None:
        """Carry both handshakes through; raises what the first of them raises."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.caller.connect())
            group.create_task(self.callee.connect())

    async def connect(self) -> None:
        """ICE, DTLS, and a handler on each side."""
        await self.reach()
        await self.shake()
        self.serve()

    def serve(self) -> None:
        """Take what comes."""
        for port, peer, notes in zip(
            self.ports, (self.caller, self.callee), (self.at_caller, self.at_callee), strict=True
        ):
            port.call(peer.serve, notes)

    async def settle(self) -> None:
        """Wait until both threads have seen what was sent before."""
        for port in (*self.ports, *self.ports):
            await port.finished()

    async def close(self) -> None:
        """End both sides."""
        for port, peer in zip(self.ports, (self.caller, self.callee), strict=True):
            await peer.close("the test is over")
            port.remove(peer)


def certificate() -> NodeCertificate:
    """A certificate of its own for each caller: its SSL context is shared by what uses it."""
    return NodeCertificate.generateCertificate()


async def until(what: Callable[[], object], port: Port) -> None:
    """Wait for something that the forwarding thread brings about; fails after five seconds."""
    async with asyncio.timeout(5):
        while not what():
            await port.finished()
