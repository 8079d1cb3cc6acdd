"""One DTLS-SRTP association over the shared socket.

The handshake is aiortc's DTLS transport, driven on the asyncio loop; what comes out of it, two
libsrtp sessions, is used on the forwarding thread. This is the only file that touches private
parts of aiortc and pylibsrtp.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable
from typing import Any, Protocol, cast, runtime_checkable

from aiortc.rtcdtlstransport import (
    SRTP_AEAD_AES_128_GCM,
    SRTP_AEAD_AES_256_GCM,
    SRTP_AES128_CM_SHA1_80,
    SRTP_PROFILES,
    RTCCertificate,
    RTCDtlsFingerprint,
    RTCDtlsParameters,
    RTCDtlsTransport,
    State,
)
from aiortc.rtcicetransport import RTCIceTransport
from OpenSSL import SSL
from pylibsrtp import Policy, Session
from pylibsrtp._binding import ffi, lib

from relay import ice
from relay.errors import HandshakeFailed
from relay.fanout import Target
from relay.ice import Address
from relay.packet import is_rtcp
from relay.run import Run

log = logging.getLogger("relay.peer")

CLOSED = "the peer closed the connection"

# The first profile both sides know is taken: AES-128 costs least, CM is for old encoders.
PROFILES = [
    p
    for p in (SRTP_AEAD_AES_128_GCM, SRTP_AEAD_AES_256_GCM, SRTP_AES128_CM_SHA1_80)
    if p in SRTP_PROFILES
]
# Bytes that SRTP adds to an RTP packet: the authentication tag.
OVERHEAD = {SRTP_AEAD_AES_128_GCM: 16, SRTP_AEAD_AES_256_GCM: 16, SRTP_AES128_CM_SHA1_80: 10}
# FFmpeg swallows the first ClientHello, and a lost flight should cost no second (RFC 6347 allows
# a resend timer fitted to the path).
RESEND_S = (0.02, 0.04, 0.09, 0.2, 0.4, 0.8, 1.5, 3.0)
# FFmpeg 8.1 as a DTLS server answers a repeated last flight by making its socket blocking, and
# then sends a packet for each one it receives: the client's last flight waits the usual second.
PATIENT_RESEND_S = (1.0, 2.0, 4.0)
HANDSHAKE_TIMEOUT_S = 10.0
# An uplink's handshake may end late while a crowd joins: the parent's catch-up fits in here.
MAX_EARLY = 1024
MAX_DTLS_QUEUE = 64
MAX_PROTECTED = 2048
# libsrtp shifts this many bits with every packet sent; it bounds what can be repeated without RTX.
SEND_WINDOW = 512
# Addresses a peer has proven to own: a phone has two or three.
MAX_ADDRESSES = 4
# An address that is silent this long gives way to another one that the peer checks from.
ROAM_AFTER_S = 3.0


class NodeCertificate(RTCCertificate):
    """The node's certificate (P-256) with one shared SSL context: a fresh one costs 3.8 ms."""

    _context: SSL.Context | None = None

    def _create_ssl_context(self, srtp_profiles: Any) -> SSL.Context:
        if self._context is None:
            self._context = super()._create_ssl_context(srtp_profiles)
        return self._context

    @property
    def fingerprint(self) -> str:
        """SHA-256 digest as SDP writes it."""
        return next(f.value for f in self.getFingerprints() if f.algorithm == "sha-256")


class _Transport:
    """What aiortc's DTLS transport wants below it: datagrams of one peer."""

    role = "controlling"

    def __init__(self, peer: Peer) -> None:
        # None once the association has ended.
        self.peer: Peer | None = peer
        self.queue: asyncio.Queue[bytes | None] = asyncio.Queue(MAX_DTLS_QUEUE)

    async def _recv(self) -> bytes:
        data = await self.queue.get()
        if data is None:
            raise ConnectionError
        return data

    async def _send(self, data: bytes) -> None:
        if self.peer is not None:
            self.peer.send_raw(data)


class _Dtls(RTCDtlsTransport):
    """aiortc's transport with an early resend and the real reason of a failure."""

    failure = ""
    eager = True

    def __init__(self, transport: RTCIceTransport, certificates: list[RTCCertificate]) -> None:
        super().__init__(transport, certificates)
        self._heard: set[int] = set()
        self._last_flight: list[bytes] = []

    @property
    def _connection(self) -> SSL.Connection:
        assert self._ssl is not None
        return self._ssl

    @property
    def chosen_profile(self) -> bytes:
        """OpenSSL's name of the SRTP profile that was agreed."""
        return self._connection.get_selected_srtp_profile()

    async def _do_handshake(self) -> None:
        ssl, now = self._connection, asyncio.get_running_loop().time
        delays = iter(RESEND_S)
        flight: list[bytes] = []
        resend_at: float | None = None
        while True:
            try:
                ssl.do_handshake()
            except SSL.WantReadError:
                pass
            except SSL.Error as exc:
                self.failure = _reason(exc)
                await self._flush()
                self._set_state(State.FAILED)
                return
            else:
                self.encrypted = True
            if written := await self._flush():
                # Each flight has its own timer; what arrives meanwhile does not set it back.
                first = not flight
                flight = written
                patient = self._role == "client" and not first and not self.eager
                delays = iter(PATIENT_RESEND_S if patient else RESEND_S)
                resend_at = now() + next(delays)
            if self.encrypted:
                if self._role == "server":
                    self._last_flight = flight
                return
            data = b""
            while not data:
                try:
                    async with asyncio.timeout_at(resend_at):
                        data = await self.transport._recv()
                except TimeoutError:
                    flight = await self._repeat(flight)
                    resend_at = now() + next(delays, 4.0)
                except ConnectionError:
                    self.failure = "the peer went away during the handshake"
                    self._set_state(State.FAILED)
                    return
            self._heard.add(hash(data))
            ssl.bio_write(data)

    def _setup_srtp(self) -> None:
        """Make the SRTP sessions (RFC 5764 section 4.2), with a window of our own for sending."""
        super()._setup_srtp()
        if self._state is State.FAILED:
            return
        profile = next(p for p in PROFILES if p.openssl_profile == self.chosen_profile)
        length = 2 * (profile.key_length + profile.salt_length)
        keys = self._connection.export_keying_material(b"EXTRACTOR-dtls_srtp", length)
        policy = Policy(
            key=profile.get_key_and_salt(keys, 1 if self._role == "server" else 0),
            ssrc_type=Policy.SSRC_ANY_OUTBOUND,
            srtp_profile=profile.libsrtp_profile,
        )
        policy.allow_repeat_tx = True
        policy.window_size = SEND_WINDOW
        self._tx_srtp = Session(policy)

    async def _flush(self) -> list[bytes]:
        """Send what OpenSSL wrote, and return it."""
        written = []
        while True:
            try:
                data = self._connection.bio_read(65536)
            except SSL.Error:
                break
            written += _datagrams(data)
        for datagram in written:
            await self.transport._send(datagram)
        return written

    async def _repeat(self, flight: list[bytes]) -> list[bytes]:
        """Send a flight again; returns what was sent.

        From one second on OpenSSL does it, under new record numbers: so a peer hears it that has
        had the old ones, and whose answer was lost. Until then the very same datagrams go out.
        """
        with contextlib.suppress(SSL.Error):
            self._connection.DTLSv1_handle_timeout()
        if written := await self._flush():
            return written
        for datagram in flight:
            await self.transport._send(datagram)
        return flight

    def repeat_of(self, data: bytes) -> list[bytes]:
        """The last flight of all, which is the server's, if the client shows that it lacks it.

        It does by repeating its own after our end of the handshake (RFC 6347 section 4.2.4).
        """
        return self._last_flight if hash(data) in self._heard else []


class _Scratch(threading.local):
    """Where libsrtp opens packets, one for each forwarding thread."""

    def __init__(self) -> None:
        self.memory = ffi.new("char[]", MAX_PROTECTED)
        self.size = ffi.new("int *")


_scratch = _Scratch()


def _unprotect(session: Any, data: bytes, control: bool) -> bytes | None:
    """Open an SRTP or SRTCP packet; None when it is not authentic.

    What pylibsrtp's own methods do, without their allocations: reports of many viewers come here.
    """
    length = len(data)
    if length > MAX_PROTECTED:
        return None
    memory, size = _scratch.memory, _scratch.size
    ffi.memmove(memory, data, length)
    size[0] = length
    open_packet = lib.srtp_unprotect_rtcp if control else lib.srtp_unprotect
    if open_packet(session._srtp[0], memory, size):
        return None
    plain: bytes = ffi.unpack(memory, size[0])
    return plain


def _datagrams(data: bytes, limit: int = 1200) -> list[bytes]:
    """Cut a flight at DTLS record borders (RFC 6347 section 4.1), for the memory BIO joins them."""
    if len(data) <= limit:
        return [data]
    result, start, at = [], 0, 0
    while at + 13 <= len(data) and 20 <= data[at] <= 26:
        size = 13 + int.from_bytes(data[at + 11 : at + 13], "big")
        if at > start and at + size - start > limit:
            result.append(data[start:at])
            start = at
        at += size
    result.append(data[start:])
    return result


def _reason(exc: SSL.Error) -> str:
    """A handshake error in words; says what to do about the one that FFmpeg builds run into."""
    errors = exc.args[0] if exc.args and isinstance(exc.args[0], list) else []
    text = "; ".join(str(e[-1]) for e in errors if e) or type(exc).__name__
    if "curve" in text or "ec lib" in text or "unsupported certificate" in text:
        text += (
            " (the peer's certificate may use a refused curve such as P-224: give it a P-256 one,"
            " with FFmpeg by -cert_file and -key_file)"
        )
    return text


class MediaHandler(Protocol):
    """Takes what a peer sends, unprotected, on the forwarding thread."""

    def on_rtp(self, data: bytes, now: float) -> None:
        """One RTP packet."""

    def on_rtcp(self, data: bytes, now: float) -> None:
        """One RTCP compound packet."""


@runtime_checkable
class RunHandler(MediaHandler, Protocol):
    """Takes several packets at once, too."""

    def expects(self, run: Run, now: float) -> bool:
        """Whether it can take a run, once that is opened, as one."""

    def on_run(self, run: Run, now: float) -> None:
        """An opened run that was expected."""


class Socket(Protocol):
    """What a peer needs of the port."""

    family: int

    def send_raw(self, data: bytes, address: Address) -> None:
        """Send one datagram; callable from any thread."""

    def call(self, function: Callable[..., object], *args: object) -> None:
        """Run on the forwarding thread, in order."""


class Peer:
    """One association: ICE credentials, DTLS handshake, SRTP sessions.

    Made and closed on the asyncio loop. From `add` to `remove` at the port its datagram methods
    run on the forwarding thread. `closed` is set when the peer is gone for whatever reason, and
    `why` then says which.
    """

    def __init__(
        self,
        label: str,
        port: Socket,
        certificate: NodeCertificate,
        *,
        remote_ufrag: str,
        remote_password: str,
        fingerprints: list[tuple[str, str]],
        dtls_client: bool,
        controlling: bool = False,
    ) -> None:
        self.label = label
        self.ufrag, self.password = ice.new_credentials()
        self.remote_ufrag = remote_ufrag
        self.remote_password = remote_password
        self.dtls_client = dtls_client
        self.controlling = controlling
        self.fingerprints = fingerprints
        self.handler: MediaHandler | None = None
        self._run_handler: RunHandler | None = None
        self.address: Address | None = None
        self.addresses: list[Address] = []
        self.remote_candidates: list[Address] = []
        self.last_heard_s = 0.0
        self.check_sent_s = 0.0
        self.check_began_s = 0.0
        self.check_transaction = b""
        self.rtt_s = 0.0
        self.target: Target | None = None
        self.ssrcs: set[int] = set()
        self.bad_packets = 0
        self.profile = ""
        self.why = ""
        self.closed = asyncio.Event()
        self.connected = asyncio.Event()
        self.reachable = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._port = port
        self._transport = _Transport(self)
        self._dtls = _Dtls(cast(RTCIceTransport, self._transport), [certificate])
        self._dtls._srtp_profiles = PROFILES
        # An uplink's peer is a node, which takes a repeat as it should.
        self._dtls.eager = controlling
        self._dtls._set_role("client" if dtls_client else "server")
        self._dtls.on("statechange", self._state_changed)
        self._receive_session: Any = None
        self._early: list[bytes] = []

    # ------------------------------------------------------------ asyncio loop

    async def connect(self) -> None:
        """Carry the handshake through; raise HandshakeFailed with the reason.

        As DTLS client this waits for the peer's first check, for only that tells its address.
        """
        parameters = RTCDtlsParameters([RTCDtlsFingerprint(a, v) for a, v in self.fingerprints])
        try:
            async with asyncio.timeout(HANDSHAKE_TIMEOUT_S):
                if self.dtls_client:
                    await self.reachable.wait()
                await self._dtls.start(parameters)
        except TimeoutError:
            what = "DTLS did not finish" if self.reachable.is_set() else "no ICE check arrived"
            raise HandshakeFailed(f"{what} within {HANDSHAKE_TIMEOUT_S:.0f} s") from None
        if self._dtls._state is not State.CONNECTED:
            reason = self._dtls.failure or "the fingerprint or SRTP profile does not match"
            raise HandshakeFailed(f"DTLS failed: {reason}")
        chosen = self._dtls.chosen_profile
        profile = next(p for p in PROFILES if p.openssl_profile == chosen)
        self.profile = chosen.decode()
        assert self.address is not None
        self.target = Target(
            self._dtls._tx_srtp._srtp[0], OVERHEAD[profile], self.address, self._port.family
        )
        self._port.call(self._use, self._dtls._rx_srtp, self.target)
        self.connected.set()

    async def close(self, why: str) -> None:
        """End the association and tell the peer (DTLS close_notify)."""
        self._gone(why)
        with contextlib.suppress(Exception):
            await self._dtls.stop()
        # Peer, handler and transport refer to each other and hold much memory outside Python, of
        # which the garbage collector, counting objects, knows nothing.
        self.handler = self._run_handler = None
        self._dtls.remove_all_listeners()
        self._transport.peer = None

    def dtls_arrived(self, data: bytes) -> None:
        """Take one DTLS datagram (any handshake or alert record); a full queue drops it."""
        if self.dtls_client and self._dtls._state is State.NEW:
            # A client speaks first: this answers another stream's handshake from our address.
            return
        for datagram in self._dtls.repeat_of(data):
            self.send_raw(datagram)
        with contextlib.suppress(asyncio.QueueFull):
            self._transport.queue.put_nowait(data)

    def lost(self, why: str) -> None:
        """End an association whose peer no longer answers; nothing is sent."""
        self._gone(why)
        if self._dtls._task is not None:
            self._dtls._task.cancel()

    @property
    def handshaking(self) -> bool:
        """Whether the DTLS handshake is still going on."""
        return self._dtls._state in (State.NEW, State.CONNECTING)

    def send_raw(self, data: bytes) -> None:
        """Send a datagram to where the peer is, if that is known."""
        if self.address is not None:
            self._port.send_raw(data, self.address)

    def _gone(self, why: str) -> None:
        if not self.closed.is_set():
            self.why = why
            self.closed.set()

    def _state_changed(self) -> None:
        if self._dtls._state is State.CLOSED:
            self._gone(CLOSED)

    # ------------------------------------------------------------ forwarding thread

    def heard(self, address: Address, now: float, nominated: bool) -> None:
        """Note an authenticated check from an address, and follow the peer there if need be."""
        first = self.address is None
        if address not in self.addresses:
            self.addresses.append(address)
        if first:
            self.address = address
            self._loop.call_soon_threadsafe(self.reachable.set)
        elif address != self.address and nominated and now - self.last_heard_s > ROAM_AFTER_S:
            self._move(address)
        if first or address == self.address:
            self.last_heard_s = now

    def protected(self, data: bytes, address: Address, now: float) -> bool:
        """Take one SRTP or SRTCP datagram; False when it is not authentic."""
        session, handler = self._receive_session, self.handler
        if session is None or handler is None:
            # The peer may finish the handshake before we do, and the first packet it sends is
            # the keyframe.
            if len(self._early) < MAX_EARLY:
                self._early.append(data)
            return True
        control = is_rtcp(data)
        plain = _unprotect(session, data, control)
        if plain is None:
            self.bad_packets += 1
            return False
        self.last_heard_s = now
        if address != self.address:
            # Authentic media from a checked address: the peer prefers that one now.
            self._move(address)
        if control:
            handler.on_rtcp(plain, now)
        else:
            handler.on_rtp(plain, now)
        return True

    def protected_run(self, run: Run, address: Address, now: float) -> bool:
        """Take a run of SRTP packets; False when they must come one by one, as they are."""
        handler = self._run_handler
        if self._receive_session is None or handler is None or address != self.address:
            return False
        if not handler.expects(run, now):
            return False
        status = run.open(self._receive_session._srtp[0])
        if any(status):
            # Forged or seen before: what was taken for one line has gaps.
            authentic = [p for p, failed in zip(run.packets(), status, strict=True) if not failed]
            self.bad_packets += len(status) - len(authentic)
            for plain in authentic:
                self.last_heard_s = now
                handler.on_rtp(plain, now)
            return True
        self.last_heard_s = now
        handler.on_run(run, now)
        return True

    @property
    def serving(self) -> bool:
        """Whether what comes can be opened and has a handler."""
        return self._receive_session is not None and self.handler is not None

    def serve(self, handler: MediaHandler) -> None:
        """Give what comes to a handler, and what came before there was one."""
        self.handler = handler
        self._run_handler = handler if isinstance(handler, RunHandler) else None
        self._take_early()

    def _move(self, address: Address) -> None:
        self.address = address
        if self.target is not None:
            self.target.move(address, self._port.family)

    def _use(self, session: Any, target: Target) -> None:
        self._receive_session = session
        if self.address is not None:
            target.move(self.address, self._port.family)
        self._take_early()

    def _take_early(self) -> None:
        if not self.serving or self.address is None:
            return
        early, self._early = self._early, []
        for data in early:
            self.protected(data, self.address, self.last_heard_s)
