"""The one UDP socket: drain, tell apart, forward.

A thread of its own runs here and nothing slow runs on it. It waits for datagrams, tells them
apart by their first byte (RFC 7983), answers ICE checks, hands DTLS to the asyncio loop and media
to the peers' handlers, and then lets every stream that got packets send them on, chunk by chunk;
between chunks the socket is drained again. Everything that changes a stream from outside comes
through `call`, so that streams and viewers need no locks.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import select
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Protocol

from relay import ice
from relay.fanout import SOL_UDP, UDP_GRO, Abilities, Fanout, probe
from relay.ice import Address
from relay.packet import is_rtcp
from relay.peer import MAX_ADDRESSES, Peer
from relay.run import DATAGRAM_SIZE, MESSAGE_SIZE, Room

log = logging.getLogger("relay.port")

CONTROL_SIZE = socket.CMSG_SPACE(4)
# One drain takes at most this many, so that a flood cannot keep the viewers waiting.
DRAIN_LIMIT = 256
# While a long fan-out runs, the socket is looked at this often.
DRAIN_EVERY_S = 0.003
FAST_TICK_S = 0.005
SLOW_TICK_S = 0.1
FORWARD_SLICE_S = 0.02
BUFFER_SIZE = 8 << 20
MAX_CALLS = 100_000


class Forwarder(Protocol):
    """A stream as the port sees it."""

    def flush(self, now: float) -> Iterator[None]:
        """Send what has arrived since the last time, in chunks."""

    def tick(self, now: float) -> bool:
        """Do what is due; True if it wants to be called again soon (5 ms), not in 100 ms."""


def _grow_buffers(sock: socket.socket) -> None:
    """Ask for large buffers; with privileges even beyond the system's limit."""
    for plain, forced in ((socket.SO_RCVBUF, 33), (socket.SO_SNDBUF, 32)):
        try:
            sock.setsockopt(socket.SOL_SOCKET, forced, BUFFER_SIZE)
        except OSError:
            sock.setsockopt(socket.SOL_SOCKET, plain, BUFFER_SIZE)


class Port:
    """Owns the socket and the forwarding thread.

    `loop` is where handshakes run. Counters are in datagrams.
    """

    def __init__(
        self,
        host: str,
        port: int,
        loop: asyncio.AbstractEventLoop,
        abilities: Abilities | None = None,
    ) -> None:
        self.family = int(socket.AF_INET6 if ":" in host else socket.AF_INET)
        self._sock = socket.socket(self.family, socket.SOCK_DGRAM)
        try:
            if self.family == socket.AF_INET6:
                self._sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(host != "::"))
            _grow_buffers(self._sock)
            self._sock.bind((host, port))
            self._sock.setblocking(False)
        except OSError:
            self._sock.close()
            raise
        self.number: int = self._sock.getsockname()[1]
        self.fanout = Fanout(self._sock, abilities or probe())
        if self.fanout.abilities.gro:
            # From here on datagrams of one sender may come by the run, as a node above sends them.
            self._sock.setsockopt(SOL_UDP, UDP_GRO, 1)
        self.datagrams_in = 0
        self.strays = 0
        self.bad_checks = 0
        self.errors = 0
        self.busy_s = 0.0
        self._loop = loop
        self._room = Room()
        self._by_address: dict[Address, list[Peer]] = {}
        self._by_ufrag: dict[str, Peer] = {}
        self._dirty: dict[Forwarder, None] = {}
        self._forwarders: dict[Forwarder, None] = {}
        self._jobs: deque[tuple[Forwarder, Iterator[None]]] = deque()
        self._running: set[Forwarder] = set()
        self._calls: deque[tuple[Callable[..., object], tuple[object, ...]]] = deque()
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        self._woken = False
        self._next_tick = 0.0
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="forward", daemon=True)

    # ------------------------------------------------------------ any thread

    def start(self) -> None:
        """Start forwarding."""
        self._thread.start()

    def call(self, function: Callable[..., object], *args: object) -> None:
        """Run a function on the forwarding thread, in the order of the calls."""
        if len(self._calls) < MAX_CALLS:
            self._calls.append((function, args))
        if not self._woken:
            self._woken = True
            with contextlib.suppress(BlockingIOError, OSError):
                os.write(self._wake_write, b"\0")

    async def finished(self) -> None:
        """Wait until everything called so far has run."""
        done = asyncio.Event()
        self.call(self._loop.call_soon_threadsafe, done.set)
        await done.wait()

    def send_raw(self, data: bytes, address: Address) -> None:
        """Send one datagram as it is."""
        self.fanout.send_raw(data, address)

    def add(self, peer: Peer) -> None:
        """Take datagrams for a peer from now on."""
        self.call(self._add, peer)

    def remove(self, peer: Peer) -> None:
        """Forget a peer."""
        self.call(self._remove, peer)

    def stop(self) -> None:
        """End the thread and close the socket; what was called before still runs."""
        self.call(self._stop)
        if self._thread.is_alive():
            self._thread.join(2)
        if self._thread.is_alive():
            # It stands still. Its files end with the process: closed under its hands, their numbers
            # would be somebody else's next.
            log.error("port-stuck")
            return
        self._sock.close()
        for end in (self._wake_read, self._wake_write):
            with contextlib.suppress(OSError):
                os.close(end)

    # ------------------------------------------------------------ forwarding thread

    def mark(self, forwarder: Forwarder) -> None:
        """Note that a stream has something to send."""
        self._dirty[forwarder] = None

    def hurry(self) -> None:
        """Tick as soon as possible: something has become due."""
        self._next_tick = 0.0

    def add_forwarder(self, forwarder: Forwarder) -> None:
        """Let a stream have its ticks."""
        self._forwarders[forwarder] = None

    def remove_forwarder(self, forwarder: Forwarder) -> None:
        """End a stream's ticks."""
        self._forwarders.pop(forwarder, None)
        self._dirty.pop(forwarder, None)

    def _stop(self) -> None:
        self._stopping = True

    def _add(self, peer: Peer) -> None:
        self._by_ufrag[peer.ufrag] = peer
        for address in peer.remote_candidates:
            self._by_address.setdefault(address, []).append(peer)

    def _remove(self, peer: Peer) -> None:
        self._by_ufrag.pop(peer.ufrag, None)
        for address in {*peer.addresses, *peer.remote_candidates}:
            here = self._by_address.get(address, [])
            if peer in here:
                here.remove(peer)
            if not here:
                self._by_address.pop(address, None)

    def rename(self, peer: Peer, ufrag: str, password: str) -> None:
        """Let a peer go by other credentials (ICE restart, RFC 8445 section 9)."""
        self._by_ufrag.pop(peer.ufrag, None)
        peer.ufrag, peer.password = ufrag, password
        self._by_ufrag[ufrag] = peer

    def _run(self) -> None:
        poll = select.epoll()
        poll.register(self._sock.fileno(), select.EPOLLIN)
        poll.register(self._wake_read, select.EPOLLIN)
        try:
            while not self._stopping:
                now = time.monotonic()
                idle = not (self._jobs or self._dirty)
                ready = poll.poll(max(0.0, self._next_tick - now) if idle else 0)
                now = time.monotonic()
                started = time.thread_time()
                if any(fd == self._wake_read for fd, _ in ready):
                    # Cleared before the calls are run: one that comes meanwhile wakes us again.
                    self._woken = False
                    os.read(self._wake_read, 4096)
                self._run_calls()
                self._drain(now)
                self._forward(now)
                if now >= self._next_tick:
                    self._next_tick = now + (FAST_TICK_S if self._tick(now) else SLOW_TICK_S)
                self.busy_s += time.thread_time() - started
        except Exception:
            # A fault here would silence every viewer: say so, and let the supervisor restart us.
            log.critical("forwarding thread died", exc_info=True)
            os._exit(70)
        finally:
            poll.close()

    def _drain(self, now: float) -> None:
        receive, room = self._sock.recvmsg_into, self._room
        view, buffers, taken = room.view, [room.view[:MESSAGE_SIZE]], 0
        while taken < DRAIN_LIMIT:
            taken += 1
            try:
                size, control, _, address = receive(buffers, CONTROL_SIZE)
            except BlockingIOError:
                return
            except OSError:
                # An ICMP error of an earlier send is reported here: that send is lost, no more.
                continue
            try:
                if control:
                    segment = int.from_bytes(control[0][2], sys.byteorder) or size or 1
                    taken += self._joined(size, segment, address, now)
                else:
                    self.datagrams_in += 1
                    self._datagram(bytes(view[: min(size, DATAGRAM_SIZE)]), address, now)
            except Exception as error:
                self._failed(size, error)

    def _joined(self, size: int, segment: int, address: Address, now: float) -> int:
        """Take several datagrams of one sender that came in one message; returns how many."""
        run = self._room.run(size, segment)
        if run is not None:
            peers = self._by_address.get(address, [])
            if len(peers) > 1:
                peers = [peer for peer in peers if run.ssrc in peer.ssrcs]
            if len(peers) == 1 and peers[0].protected_run(run, address, now):
                self.datagrams_in += run.count
                return run.count
        datagrams = self._room.datagrams(size, segment)
        for data in datagrams:
            self.datagrams_in += 1
            try:
                self._datagram(data, address, now)
            except Exception as error:
                self._failed(len(data), error)
        return len(datagrams)

    def _failed(self, size: int, error: Exception) -> None:
        """Whatever a datagram holds, it must not end the loop; the log says what it was."""
        self.errors += 1
        if self.errors <= 20:
            log.error("datagram of %d bytes failed", size, exc_info=error)

    def _datagram(self, data: bytes, address: Address, now: float) -> None:
        if not data:
            self.strays += 1
            return
        first = data[0]
        if 127 < first < 192:
            peers = self._by_address.get(address)
            if peers is None or len(data) < 12:
                self.strays += 1
            elif len(peers) == 1:
                peers[0].protected(data, address, now)
            else:
                self._shared(peers, data, address, now)
        elif first < 4:
            self._check(data, address, now)
        elif 19 < first < 64:
            for peer in self._by_address.get(address, ()):
                # Several peers at one address are several streams of one node. They shake hands
                # one after the other, and a record of another association fails its cipher.
                self._loop.call_soon_threadsafe(peer.dtls_arrived, data)
        else:
            self.strays += 1

    def _shared(self, peers: list[Peer], data: bytes, address: Address, now: float) -> None:
        """Find the association of a datagram among several from one address, by its SSRC."""
        at = 4 if is_rtcp(data) else 8
        ssrc = int.from_bytes(data[at : at + 4], "big")
        for peer in peers:
            # Two publishers may have chosen the same SSRC: then the cipher tells them apart.
            if ssrc in peer.ssrcs and peer.protected(data, address, now):
                return
        for peer in peers:
            if ssrc in peer.ssrcs:
                continue
            if peer.serving and peer.protected(data, address, now):
                if len(peer.ssrcs) < 64:
                    peer.ssrcs.add(ssrc)
                return
        self.strays += 1

    def _check(self, data: bytes, address: Address, now: float) -> None:
        try:
            message = ice.parse(data)
        except ice.StunError:
            self.bad_checks += 1
            return
        if message.kind == ice.REQUEST:
            name = message.username.partition(":")[0]
            if name not in self._by_ufrag:
                # The peer may have been told of us and be quicker than our own queue.
                self._run_calls()
            peer = self._by_ufrag.get(name)
            if peer is None or not ice.verify(data, message, peer.password.encode()):
                self.bad_checks += 1
                return
            if address not in peer.addresses and len(peer.addresses) >= MAX_ADDRESSES:
                # The oldest, but never the one in use: a machine may check from many.
                oldest = next(a for a in peer.addresses if a != peer.address)
                peer.addresses.remove(oldest)
                self._forget_address(peer, oldest)
            here = self._by_address.setdefault(address, [])
            if peer not in here:
                here.append(peer)
            # Answer first: what follows may already start the handshake.
            self.fanout.send_raw(ice.answer(message, address, peer.password.encode()), address)
            peer.heard(address, now, message.use_candidate)
            return
        for peer in self._by_address.get(address, ()):
            if peer.controlling and message.transaction == peer.check_transaction:
                if message.kind == ice.SUCCESS and ice.verify(
                    data, message, peer.remote_password.encode()
                ):
                    peer.rtt_s = now - peer.check_began_s
                    peer.heard(address, now, True)
                return
        self.bad_checks += 1

    def _forget_address(self, peer: Peer, address: Address) -> None:
        here = self._by_address.get(address, [])
        if peer in here:
            here.remove(peer)
        if not here:
            self._by_address.pop(address, None)

    def _run_calls(self) -> None:
        for _ in range(len(self._calls)):
            function, args = self._calls.popleft()
            try:
                function(*args)
            except Exception:
                self.errors += 1
                log.exception("call of %s failed", getattr(function, "__qualname__", function))

    def _forward(self, now: float) -> None:
        """Let all streams with news send, one chunk each in turn, draining in between.

        Returns after FORWARD_SLICE_S at the latest, so that calls and ticks get their turn; what
        is left goes on in the next round.
        """
        jobs, started, drained = self._jobs, now, now
        while self._dirty or jobs:
            for forwarder in [f for f in self._dirty if f not in self._running]:
                del self._dirty[forwarder]
                self._running.add(forwarder)
                jobs.append((forwarder, forwarder.flush(now)))
            forwarder, job = jobs.popleft()
            try:
                next(job)
            except StopIteration:
                self._running.discard(forwarder)
                continue
            except Exception:
                self.errors += 1
                self._running.discard(forwarder)
                log.exception("a stream failed to send")
                continue
            jobs.append((forwarder, job))
            now = time.monotonic()
            if now - started > FORWARD_SLICE_S:
                return
            if now - drained > DRAIN_EVERY_S:
                drained = now
                self._drain(now)

    def _tick(self, now: float) -> bool:
        soon = False
        for forwarder in list(self._forwarders):
            try:
                soon = forwarder.tick(now) or soon
            except Exception:
                self.errors += 1
                log.exception("a stream failed in its tick")
        return soon
