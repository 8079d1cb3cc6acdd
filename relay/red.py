"""Redundant audio (RFC 2198): each packet carries the two before it again.

Made on the last hop only, for viewers that offer `red/48000/2`: between nodes a lost packet is
asked for again, which costs less; a viewer's player cannot wait for that with sound.
"""

from __future__ import annotations

from typing import Final

from relay import packet as rtp
from relay.track import Track

DEPTH: Final = 2
# A receiver's packets stay below the smallest usual path MTU.
MAX_PAYLOAD: Final = 1100
_MAX_BLOCK: Final = 1023
_MAX_OFFSET: Final = 16383


def wrap(shaped: bytes, kept: bytes, track: Track, payload_type: int) -> bytes:
    """A reshaped packet of a track with up to two packets before it as redundancy.

    `kept` is its canonical form, whose number finds the others in the ring; `payload_type` is that
    agreed for RED, the blocks keep the one of the packet. Packets that are missing, or do not fit
    (in size, or in time: 14 bits of timestamp), are left out.
    """
    offset = rtp.payload_offset(shaped)
    primary = shaped[offset:]
    inner = shaped[1] & 0x7F
    position = track.position_of(kept[2] << 8 | kept[3])
    timestamp = int.from_bytes(kept[4:8], "big")
    heads: list[bytes] = []
    blocks: list[bytes] = []
    size = len(primary) + 1
    for at in range(position - 1, position - 1 - DEPTH, -1):
        before = track.get(at)
        if before is None:
            continue
        block = before[rtp.payload_offset(before) :]
        ago = timestamp - int.from_bytes(before[4:8], "big") & 0xFFFFFFFF
        size += 4 + len(block)
        if ago > _MAX_OFFSET or len(block) > _MAX_BLOCK or size > MAX_PAYLOAD:
            break
        # One bit: more follows; 7 payload type, 14 timestamp offset, 10 length.
        word = 1 << 31 | inner << 24 | ago << 10 | len(block)
        heads.insert(0, word.to_bytes(4, "big"))
        blocks.insert(0, block)
    return b"".join(
        (
            shaped[:1],
            bytes((shaped[1] & 0x80 | payload_type,)),
            shaped[2:offset],
            *heads,
            bytes((inner,)),
            *blocks,
            primary,
        )
    )
