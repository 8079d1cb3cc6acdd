"""Members of one group with numbers of their own: what leaves the socket, decrypted."""

from __future__ import annotations

import socket

from pylibsrtp import Policy, Session

from relay.fanout import Abilities, Fanout, Group, Shift, Target
from relay.lane import Splice
from relay.sdp import Format
from relay.track import Track

KEY = bytes(range(30))


def packet(seq: int, timestamp: int, picture: int, tl0: int, wide: bool) -> bytes:
    """Canonical form: one word of extension, then a VP8 descriptor."""
    number = bytes([0x80 | picture >> 8, picture & 0xFF]) if wide else bytes([picture])
    return (
        bytes([0x90, 96]) + seq.to_bytes(2, "big") + timestamp.to_bytes(4, "big")
        + bytes.fromhex("0000000a bede 0001 12 000000 90c0") + number + bytes([tl0, 1]) + b"x" * 20
    )  # fmt: skip


def test_each_member_gets_its_own_numbers_and_sound_stays_as_it_is() -> None:
    """The vectorised edit says the same as `Splice.apply`, wraps included."""
    sound = bytes([0x90, 111]) + bytes.fromhex("0007 00000009 0000000b bede0001 12000000") + b"opus"
    batch = [
        packet(65535, 0xFFFFFFF0, 32767, 255, wide=True),
        sound,
        packet(0, 0xFFFFFFF0, 127, 0, wide=False),
    ]
    shifts = [Shift(1, 90_000, 1, 1), Shift(40_000, 0xFFFFFFFF, 32767, 255), Shift(0, 0, 5, 0)]
    out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    receivers = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in shifts]
    group = Group(10)
    keep = []
    try:
        for receiver, shift in zip(receivers, shifts, strict=True):
            receiver.bind(("127.0.0.1", 0))
            receiver.settimeout(2)
            session = Session(Policy(key=KEY, ssrc_type=Policy.SSRC_ANY_OUTBOUND))
            keep.append(session)
            group.add(Target(session._srtp[0], 10, receiver.getsockname()), shift)
        fanout = Fanout(out, Abilities(False, False))
        for _ in fanout.send(group, batch, [True, False, True], vp8=True):
            pass
        assert fanout.counters.protect_failed == 0
        for receiver, shift in zip(receivers, shifts, strict=True):
            session = Session(Policy(key=KEY, ssrc_type=Policy.SSRC_ANY_INBOUND))
            splice = Splice(
                Track(Format("video", "VP8"), 10), 0, shift.sequence, shift.timestamp, 0,
                shift.picture, shift.tl0,
            )  # fmt: skip
            got = [session.unprotect(receiver.recv(2048)) for _ in batch]
            assert got[1] == sound
            assert got[0] == splice.apply(batch[0], "VP8")
            assert got[2] == splice.apply(batch[2], "VP8")
    finally:
        for one in (out, *receivers):
            one.close()
