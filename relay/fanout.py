"""One batch of packets to many viewers: copy, protect in place, send in few system calls.

The packets of a batch are the same for every viewer of a group but for the cipher, so a chunk of
viewers gets them by one numpy copy into fixed slots, is protected slot by slot by libsrtp without
a Python instruction per packet, and leaves in one `sendmmsg`: one message per viewer and run of
equally long packets (UDP_SEGMENT; the last packet of a run may be shorter). Where the system
lacks GSO each packet is a message of its own, where it lacks `sendmmsg` each message is a `sendto`.

Slots lie viewer by viewer (slot = viewer * packets + packet), so that one viewer's cipher state
stays in the cache for all its packets, and the same slots serve chunk after chunk.
"""

from __future__ import annotations

import ctypes
import errno
import os
import select
import socket
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, repeat
from typing import Any, Final, NamedTuple

import numpy as np
from pylibsrtp._binding import ffi, lib

from relay.packet import Vp8Ids, payload_offset, vp8_ids

UDP_SEGMENT: Final = 103
UDP_GRO: Final = 104
SOL_UDP: Final = 17
SLOT_SIZE: Final = 1536
SLOTS: Final = 512
# 512 slots of 1.5 kB fill the second-level cache; 256 packets a chunk leave room for the ciphers'
# states, and 64 viewers a chunk is what small batches gain from.
CHUNK_PACKETS: Final = 256
CHUNK_VIEWERS: Final = 128
MAX_PACKETS: Final = 64
# Up to this many packets (times viewers) a chunk's layout costs more than it saves.
FEW: Final = 6
MAX_PACKET_SIZE: Final = SLOT_SIZE - 64
# The kernel's limits for one message (UDP_MAX_SEGMENTS was 64 before Linux 6.9).
GSO_SEGMENTS: Final = 64
GSO_BYTES: Final = 65_000
CONTROL_SIZE: Final = 24
# A full buffer is waited for once per call and this long: then the tail is dropped and counted.
FULL_WAIT_MS: Final = 1

MMSGHDR = np.dtype(
    {
        "names": ["name", "namelen", "iov", "iovlen", "control", "controllen", "flags", "len"],
        "formats": ["u8", "u4", "u8", "u8", "u8", "u8", "i4", "u4"],
        "offsets": [0, 8, 16, 24, 32, 40, 48, 56],
        "itemsize": 64,
    }
)
IOVEC = np.dtype([("base", "u8"), ("len", "u8")])
# The part of an RTP header that is counted on per viewer, one per slot.
HEADER = np.dtype(
    {
        "names": ["sequence", "timestamp"],
        "formats": [">u2", ">u4"],
        "offsets": [2, 4],
        "itemsize": SLOT_SIZE,
    }
)


@dataclass(frozen=True, slots=True)
class Abilities:
    """What the system offers the socket; `note` says in words why something is missing.

    `gro`: it hands on in one piece what was sent in one.
    """

    gso: bool
    sendmmsg: bool
    note: str = ""
    gro: bool = False


def _find_sendmmsg() -> Any:
    try:
        call = ctypes.CDLL(None, use_errno=True).sendmmsg
    except (AttributeError, OSError):
        return None
    call.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int]
    call.restype = ctypes.c_int
    return call


def probe() -> Abilities:
    """Try UDP_SEGMENT, UDP_GRO and sendmmsg on this system, once at start.

    TERRACE_SEND=packets or TERRACE_SEND=messages takes the slower paths for a comparison.
    """
    forced = os.environ.get("TERRACE_SEND", "")
    if forced == "packets":
        return Abilities(False, False, "TERRACE_SEND=packets")
    # The layout of mmsghdr above is that of 64-bit Linux.
    sendmmsg = ctypes.sizeof(ctypes.c_void_p) == 8 and _find_sendmmsg() is not None
    if forced == "messages":
        return Abilities(False, sendmmsg, "TERRACE_SEND=messages")
    if not sendmmsg:
        return Abilities(False, False, "no sendmmsg on this system: one system call per packet")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.bind(("127.0.0.1", 0))
            control = [(SOL_UDP, UDP_SEGMENT, struct.pack("H", 8))]
            sock.sendmsg([bytes(16)], control, 0, sock.getsockname())
        except OSError as exc:
            return Abilities(False, True, f"no UDP GSO: {exc.strerror}")
        try:
            sock.setsockopt(SOL_UDP, UDP_GRO, 1)
        except OSError as exc:
            return Abilities(True, True, f"no UDP GRO: {exc.strerror}")
    return Abilities(True, True, gro=True)


def socket_address(address: tuple[Any, ...], family: int) -> bytes:
    """The kernel's sockaddr_in or sockaddr_in6 for an address as `recvfrom` gives it."""
    if family == socket.AF_INET6:
        host, port, flow, scope = (*address, 0, 0)[:4]
        return (
            struct.pack("=H", socket.AF_INET6)
            + struct.pack("!HI", port, flow)
            + socket.inet_pton(socket.AF_INET6, host.partition("%")[0])
            + struct.pack("=I", scope)
        )
    return struct.pack("=H", socket.AF_INET) + struct.pack(
        "!H4s8x", address[1], socket.inet_aton(address[0])
    )


class Target:
    """Where one viewer's packets go and by which cipher they are protected.

    `session` is libsrtp's context (a cffi pointer); `overhead` what it adds to an RTP packet, in
    bytes. The owner keeps the pylibsrtp session alive as long as the target is in use.
    """

    __slots__ = ("_memory", "address", "name", "overhead", "session")

    def __init__(
        self, session: Any, overhead: int, address: tuple[Any, ...], family: int = socket.AF_INET
    ) -> None:
        self.session = session
        self.overhead = overhead
        # The kernel reads the address at `name`: groups keep that pointer, so it never changes.
        self._memory = np.zeros(28, np.uint8)
        self.name = self._memory.ctypes.data
        self.move(address, family)

    def move(self, address: tuple[Any, ...], family: int) -> None:
        """Send to another address from now on (the viewer has roamed)."""
        self.address = address
        packed = np.frombuffer(socket_address(address, family), np.uint8)
        self._memory[: len(packed)] = packed


class Shift(NamedTuple):
    """What is added to a member's numbers (modulo their widths), because it has changed layers."""

    sequence: int
    timestamp: int
    picture: int
    tl0: int


class Edits(NamedTuple):
    """Which packets of a batch have numbers to be shifted, and where their VP8 numbers stand.

    `columns` are indices into the batch, `sequences` and `timestamps` their plain values;
    `pictures` has `(index, ids)` for those with a VP8 descriptor.
    """

    columns: list[int]
    sequences: Any
    timestamps: Any
    pictures: list[tuple[int, Vp8Ids]]


def edits_of(packets: Sequence[bytes], shifted: Sequence[bool], vp8: bool) -> Edits:
    """Prepare the edits of a batch: `shifted` says which packets are of the switched track."""
    columns = [i for i, yes in enumerate(shifted) if yes]
    chosen = [packets[i] for i in columns]
    pictures = []
    if vp8:
        for i, data in zip(columns, chosen, strict=True):
            ids = vp8_ids(data, payload_offset(data))
            if ids is not None:
                pictures.append((i, ids))
    return Edits(
        columns,
        np.array([d[2] << 8 | d[3] for d in chosen], np.uint16),
        np.array([int.from_bytes(d[4:8], "big") for d in chosen], np.uint32),
        pictures,
    )


class Group:
    """Targets that get the very same packets: same tracks, payload types, extension ids, cipher.

    The lists that the fan-out needs per chunk are made once and kept until a member joins or
    leaves. Members that have changed layers have a Shift each; no packet before the position
    `floor` may go to them.
    """

    __slots__ = (
        "_chunks", "_names", "_sessions", "_shift_arrays", "floor", "overhead", "shifts", "targets",
        "turn",
    )  # fmt: skip

    def __init__(self, overhead: int) -> None:
        self.overhead = overhead
        self.targets: list[Target] = []
        self.shifts: dict[Target, Shift] = {}
        self.floor = 0
        self._shift_arrays: tuple[Any, Any, Any, Any] | None = None
        self.turn = 0
        self._names = np.zeros(0, np.uint64)
        self._sessions: list[Any] = []
        self._chunks: dict[tuple[int, int, int], list[Any]] = {}

    def add(self, target: Target, shift: Shift | None = None) -> None:
        """Let a target take part from the next batch on."""
        self.targets.append(target)
        if shift is not None:
            self.shifts[target] = shift
        self.changed()

    def remove(self, target: Target) -> None:
        """Take a target out."""
        self.targets.remove(target)
        self.shifts.pop(target, None)
        self.changed()

    def changed(self) -> None:
        """Forget what was prepared: a member came or went."""
        self._sessions = []
        self._shift_arrays = None
        self._chunks.clear()

    def shift_arrays(self, start: int, count: int) -> tuple[Any, Any, Any, Any]:
        """The shifts of one chunk's members: sequence, timestamp, picture, tl0 as columns."""
        arrays = self._shift_arrays
        if arrays is None:
            rows = [self.shifts[t] for t in self.targets]
            arrays = self._shift_arrays = (
                np.array([r.sequence & 0xFFFF for r in rows], np.uint16)[:, None],
                np.array([r.timestamp & 0xFFFFFFFF for r in rows], np.uint32)[:, None],
                np.array([r.picture & 0x7FFF for r in rows], np.uint16),
                np.array([r.tl0 & 0xFF for r in rows], np.uint8),
            )
        sequence, timestamp, picture, tl0 = arrays
        part = slice(start, start + count)
        return sequence[part], timestamp[part], picture[part], tl0[part]

    def prepare(self) -> None:
        """Make the lists for the present members, if they are not made yet."""
        if len(self._sessions) != len(self.targets):
            self._sessions = [t.session for t in self.targets]
            self._names = np.fromiter((t.name for t in self.targets), np.uint64, len(self.targets))
            self._chunks.clear()

    def chunk(self, start: int, count: int, packets: int) -> tuple[list[Any], Any]:
        """Cipher contexts (each repeated for its packets) and addresses of one chunk."""
        key = (start, count, packets)
        sessions = self._chunks.get(key)
        if sessions is None:
            part = self._sessions[start : start + count]
            sessions = list(chain.from_iterable(map(repeat, part, repeat(packets))))
            if len(self._chunks) > 512:
                self._chunks.clear()
            self._chunks[key] = sessions
        return sessions, self._names[start : start + count]


def runs(sizes: Sequence[int], gso: bool) -> list[tuple[int, int, int]]:
    """Cut consecutive packets into runs `(first, count, segment size)` that GSO can carry.

    All packets of a run are equally long but the last, which may be shorter. `sizes` are in bytes,
    protection included.
    """
    if not gso:
        return [(i, 1, size) for i, size in enumerate(sizes)]
    result: list[tuple[int, int, int]] = []
    first, segment, total = 0, 0, 0
    for i, size in enumerate(sizes):
        count = i - first
        if count and (
            size > segment
            or sizes[i - 1] < segment
            or count >= GSO_SEGMENTS
            or total + size > GSO_BYTES
        ):
            result.append((first, count, segment))
            first, count = i, 0
        if not count:
            segment, total = size, 0
        total += size
    if sizes:
        result.append((first, len(sizes) - first, segment))
    return result


@dataclass(slots=True)
class SendCounters:
    """What left this process and what did not, in packets unless named otherwise."""

    packets: int = 0
    bytes: int = 0
    messages: int = 0
    dropped_full: int = 0
    dropped_error: int = 0
    protect_failed: int = 0
    full_waits: int = 0


class Fanout:
    """The sender of one socket. Not thread-safe: it belongs to the forwarding thread."""

    def __init__(self, sock: socket.socket, abilities: Abilities) -> None:
        self.counters = SendCounters()
        self.abilities = abilities
        self._sock = sock
        self._fd = sock.fileno()
        self._family = int(sock.family)
        self._gso = abilities.gso
        self._sendmmsg = _find_sendmmsg() if abilities.sendmmsg else None
        self._writable = select.poll()
        self._writable.register(self._fd, select.POLLOUT)
        memory = np.zeros(SLOTS * SLOT_SIZE + 64, np.uint8)
        skip = -memory.ctypes.data % 64
        self._slots = memory[skip : skip + SLOTS * SLOT_SIZE].reshape(SLOTS, SLOT_SIZE)
        self._first_slot = memoryview(self._slots[0])
        self._headers = self._slots.reshape(-1).view(HEADER)
        self._sizes = np.zeros(SLOTS, np.int32)
        base, sizes = self._slots.ctypes.data, self._sizes.ctypes.data
        self._slot_pointers = [ffi.cast("void *", base + i * SLOT_SIZE) for i in range(SLOTS)]
        self._size_pointers = [ffi.cast("int *", sizes + i * 4) for i in range(SLOTS)]
        self._iov = np.zeros(SLOTS, IOVEC)
        self._iov["base"] = base + np.arange(SLOTS, dtype=np.uint64) * SLOT_SIZE
        self._iov_address = self._iov.ctypes.data
        self._messages = np.zeros(SLOTS, MMSGHDR)
        self._messages["namelen"] = 28 if self._family == socket.AF_INET6 else 16
        self._message_address = self._messages.ctypes.data
        self._names = self._messages["name"]
        self._controls = np.zeros((MAX_PACKETS, CONTROL_SIZE), np.uint8)
        self._layout: tuple[Any, ...] = ()
        self._plain_memory = memoryview(bytearray(MAX_PACKETS * SLOT_SIZE))
        self._plain = np.frombuffer(self._plain_memory, np.uint8).reshape(MAX_PACKETS, SLOT_SIZE)

    def send(
        self,
        group: Group,
        packets: Sequence[bytes],
        shifted: Sequence[bool] = (),
        vp8: bool = False,
    ) -> Iterator[None]:
        """Send RTP packets to every member of a group; yields between chunks of members.

        In a group with shifts, `shifted` says for each packet whether its numbers are shifted.

        The caller may answer others meanwhile. Members must not change before the iterator ends.
        The chunk that goes first changes from call to call, so that a full buffer does not always
        hit the same viewers.
        """
        if len(group.targets) * len(packets) <= FEW and not group.shifts:
            for target in group.targets:
                self._send_few(target, packets)
            return
        group.prepare()
        members = len(group.targets)
        for at in range(0, len(packets), MAX_PACKETS):
            part = packets[at : at + MAX_PACKETS]
            count = len(part)
            edits = None
            if shifted and group.shifts:
                edits = edits_of(part, shifted[at : at + MAX_PACKETS], vp8)
            per_chunk = max(1, min(CHUNK_VIEWERS, CHUNK_PACKETS // count))
            starts = range(0, members, per_chunk)
            group.turn += 1
            turn = group.turn % max(1, len(starts))
            for start in chain(starts[turn:], starts[:turn]):
                # Others may have used the slots while we were suspended: cheap when they did not.
                self._load(part, group.overhead, per_chunk)
                here = min(per_chunk, members - start)
                sessions, names = group.chunk(start, here, count)
                self._fill(here, count)
                if edits is not None:
                    self._shift(edits, group.shift_arrays(start, here), here, count)
                self._send_chunk(sessions, names, count)
                yield

    def send_to(self, target: Target, packets: Sequence[bytes]) -> None:
        """Send RTP packets to one target (a repair, or the beginning for a joiner)."""
        if len(packets) <= FEW:
            self._send_few(target, packets)
            return
        names = np.array([target.name], np.uint64)
        for at in range(0, len(packets), MAX_PACKETS):
            part = packets[at : at + MAX_PACKETS]
            self._load(part, target.overhead, 1)
            self._fill(1, len(part))
            self._send_chunk([target.session] * len(part), names, len(part))

    def send_rtcp(self, targets: Sequence[Target], compound: bytes) -> None:
        """Protect one RTCP compound packet for each target and send it."""
        size = len(compound)
        if size > MAX_PACKET_SIZE:
            return
        self._layout = ()
        slot, length = self._slot_pointers[0], self._size_pointers[0]
        for target in targets:
            ffi.memmove(slot, compound, size)
            length[0] = size
            if lib.srtp_protect_rtcp(target.session, slot, length):
                self.counters.protect_failed += 1
                continue
            self.send_raw(self._first_slot[: length[0]], target.address)

    def send_raw(self, data: bytes | memoryview, address: tuple[Any, ...]) -> None:
        """Send one datagram as it is (STUN, DTLS, protected RTCP); never waits, never raises."""
        try:
            self._sock.sendto(data, address)
        except OSError:
            self.counters.dropped_error += 1

    def _send_few(self, target: Target, packets: Sequence[bytes]) -> None:
        """Protect and send packet by packet: quicker than laying out a chunk for so few."""
        counters, slot, size = self.counters, self._slot_pointers[0], self._size_pointers[0]
        self._layout = ()
        for data in packets:
            length = len(data)
            if length > MAX_PACKET_SIZE:
                raise ValueError(f"a packet of {length} bytes does not fit a slot")
            ffi.memmove(slot, data, length)
            size[0] = length
            if lib.srtp_protect(target.session, slot, size):
                counters.protect_failed += 1
                continue
            try:
                self._sock.sendto(self._first_slot[: size[0]], target.address)
            except BlockingIOError:
                counters.dropped_full += 1
            except OSError:
                counters.dropped_error += 1
            else:
                counters.packets += 1
                counters.messages += 1
                counters.bytes += size[0]

    # ------------------------------------------------------------ one chunk

    def _load(self, packets: Sequence[bytes], overhead: int, viewers: int) -> None:
        """Lay out a batch: plain packets, their sizes, and the messages for `viewers` members."""
        key = (id(packets), len(packets), overhead, viewers)
        if self._layout and self._layout[0] == key and self._layout[1] is packets:
            return
        count = len(packets)
        sizes = [len(p) for p in packets]
        widest = max(sizes)
        if widest > MAX_PACKET_SIZE:
            raise ValueError(f"a packet of {widest} bytes does not fit a slot")
        # A memoryview takes a slice in a fifth of the time that numpy needs to begin with one.
        plain = self._plain_memory
        for at, data, size in zip(
            range(0, count * SLOT_SIZE, SLOT_SIZE), packets, sizes, strict=True
        ):
            plain[at : at + size] = data
        wire = [size + overhead for size in sizes]
        cut = runs(wire, self._gso)
        slots = viewers * count
        self._iov["len"][:slots].reshape(viewers, count)[...] = np.array(wire, np.uint64)
        firsts = np.array([first for first, _, _ in cut], np.uint64)
        control_address = self._controls.ctypes.data
        controls = [0] * len(cut)
        for i, (_, length, segment) in enumerate(cut):
            if length > 1:
                # struct cmsghdr: length, level, type, then the segment size (udp(7))
                packed = struct.pack("=QiiHxxxxxx", 18, SOL_UDP, UDP_SEGMENT, segment)
                self._controls[i] = np.frombuffer(packed, np.uint8)
                controls[i] = control_address + i * CONTROL_SIZE
        block = self._messages[: viewers * len(cut)].reshape(viewers, len(cut))
        starts = np.arange(viewers, dtype=np.uint64)[:, None] * np.uint64(count) + firsts
        block["iov"] = self._iov_address + starts * np.uint64(16)
        block["iovlen"] = [length for _, length, _ in cut]
        block["control"] = controls
        block["controllen"] = [CONTROL_SIZE if c else 0 for c in controls]
        self._layout = (key, packets, widest, np.array(sizes, np.int32), cut, sum(wire))

    def _fill(self, viewers: int, count: int) -> None:
        """Copy the plain packets into the slots of each of a chunk's viewers."""
        _, _, widest, sizes, _, _ = self._layout
        slots = viewers * count
        self._slots[:slots].reshape(viewers, count, SLOT_SIZE)[:, :, :widest] = self._plain[
            :count, :widest
        ]
        self._sizes[:slots].reshape(viewers, count)[...] = sizes

    def _shift(
        self, edits: Edits, shifts: tuple[Any, Any, Any, Any], viewers: int, count: int
    ) -> None:
        """Count on each viewer's own numbers in the slots, before they are protected."""
        sequence, timestamp, picture, tl0 = shifts
        headers = self._headers[: viewers * count].reshape(viewers, count)
        headers["sequence"][:, edits.columns] = edits.sequences + sequence
        headers["timestamp"][:, edits.columns] = edits.timestamps + timestamp
        slots = self._slots[: viewers * count].reshape(viewers, count, SLOT_SIZE)
        for i, ids in edits.pictures:
            if ids.picture_bits == 15:
                value = picture + np.uint16(ids.picture) & 0x7FFF
                slots[:, i, ids.picture_at] = value >> 8 | 0x80
                slots[:, i, ids.picture_at + 1] = value & 0xFF
            elif ids.picture_bits:
                slots[:, i, ids.picture_at] = picture + np.uint16(ids.picture) & 0x7F
            if ids.tl0_at:
                slots[:, i, ids.tl0_at] = tl0 + np.uint8(ids.tl0)

    def _send_chunk(self, sessions: list[Any], names: Any, count: int) -> None:
        _, _, _, _, cut, wire_bytes = self._layout
        viewers = len(names)
        slots = viewers * count
        status = list(map(lib.srtp_protect, sessions, self._slot_pointers, self._size_pointers))
        per_viewer = len(cut)
        self._names[: viewers * per_viewer].reshape(viewers, per_viewer)[...] = names[:, None]
        counters = self.counters
        if any(status):
            # A refused slot still holds plain text: no message that includes it may leave.
            counters.protect_failed += sum(map(bool, status))
            self._send_singly([i for i, failed in enumerate(status) if not failed], cut)
        elif self._sendmmsg is None:
            self._send_singly(range(slots), cut)
        else:
            total = viewers * per_viewer
            sent = self._sendmmsg(self._fd, self._message_address, total, socket.MSG_DONTWAIT)
            counters.messages += max(sent, 0)
            if sent == total:
                counters.packets += slots
                counters.bytes += viewers * wire_bytes
            else:
                self._send_rest(max(sent, 0), total, cut)

    def _send_rest(self, done: int, total: int, cut: list[tuple[int, int, int]]) -> None:
        """Go on after a partial send: wait once for room, skip what the kernel refuses."""
        counters = self.counters
        per_viewer = len(cut)
        (_, _, overhead, _), _, _, sizes, _, _ = self._layout
        waited = False

        def count(first: int, last: int, name: str) -> None:
            for start, length, _ in (cut[i % per_viewer] for i in range(first, last)):
                setattr(counters, name, getattr(counters, name) + length)
                if name == "packets":
                    counters.bytes += int(sizes[start : start + length].sum()) + length * overhead

        count(0, done, "packets")
        while done < total:
            where = self._message_address + done * MMSGHDR.itemsize
            assert self._sendmmsg is not None
            sent = self._sendmmsg(self._fd, where, total - done, socket.MSG_DONTWAIT)
            if sent > 0:
                count(done, done + sent, "packets")
                counters.messages += sent
                done += sent
                continue
            code = ctypes.get_errno()
            if code == errno.EINTR:
                continue
            if code in (errno.EAGAIN, errno.ENOBUFS):
                if not waited:
                    waited = True
                    counters.full_waits += 1
                    self._writable.poll(FULL_WAIT_MS)
                    continue
                count(done, total, "dropped_full")
                return
            if code == errno.EIO and self._gso and cut[done % per_viewer][1] > 1:
                # The device cannot segment (no checksum offload): never ask it again.
                self._gso = False
                self._layout = ()
                self.abilities = Abilities(False, True, "the network device refuses UDP GSO")
                viewer, run = divmod(done, per_viewer)
                self._send_singly(
                    range(viewer * len(sizes) + cut[run][0], total // per_viewer * len(sizes)), cut
                )
                return
            count(done, done + 1, "dropped_error")
            done += 1

    def _send_singly(self, slots: Sequence[int], cut: list[tuple[int, int, int]]) -> None:
        """Send the packets of some slots one by one with `sendto`."""
        counters = self.counters
        per_viewer, packets = len(cut), cut[-1][0] + cut[-1][1]
        for slot in slots:
            message = slot // packets * per_viewer
            address = ctypes.string_at(
                int(self._names[message]), int(self._messages["namelen"][message])
            )
            data = self._slots[slot, : self._sizes[slot]].data
            try:
                self._sock.sendto(data, _from_socket_address(address, self._family))
            except (BlockingIOError, InterruptedError):
                counters.dropped_full += 1
            except OSError as exc:
                if exc.errno == errno.ENOBUFS:
                    counters.dropped_full += 1
                else:
                    counters.dropped_error += 1
            else:
                counters.packets += 1
                counters.messages += 1
                counters.bytes += len(data)


def _from_socket_address(data: bytes, family: int) -> tuple[Any, ...]:
    """The opposite of `socket_address`."""
    if family == socket.AF_INET6:
        port, flow = struct.unpack_from("!HI", data, 2)
        scope = struct.unpack_from("=I", data, 24)[0]
        return (socket.inet_ntop(socket.AF_INET6, data[8:24]), port, flow, scope)
    return (socket.inet_ntoa(data[4:8]), struct.unpack_from("!H", data, 2)[0])
