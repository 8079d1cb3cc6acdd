"""The little of H264 that a container must know: kinds of NAL units, and the size of a picture."""

from __future__ import annotations

from typing import Final

IDR: Final = 5
SPS: Final = 7
PPS: Final = 8
# Access unit delimiter, ends of sequence and stream, filler: a container has its own ways.
OF_NO_USE: Final = (9, 10, 11, 12)

# Profiles whose parameter sets say more about colours (ITU-T H.264 section 7.3.2.1.1).
_HIGH: Final = (100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135)
_MAX_SIDE: Final = 16384


class _Short(Exception):
    """The bits have come to their end."""


class _Bits:
    """Reads a NAL unit's payload bit by bit."""

    def __init__(self, nal: bytes) -> None:
        # 00 00 03 stands for 00 00 (section 7.4.1).
        data = nal[1:].replace(b"\0\0\3", b"\0\0")
        self._value = int.from_bytes(data, "big")
        self._left = 8 * len(data)

    def take(self, count: int) -> int:
        self._left -= count
        if self._left < 0:
            raise _Short
        return self._value >> self._left & (1 << count) - 1

    def ue(self) -> int:
        """An Exp-Golomb number (section 9.1)."""
        zeros = 0
        while not self.take(1):
            zeros += 1
            if zeros > 31:
                raise _Short
        return (1 << zeros) - 1 + self.take(zeros)

    def se(self) -> int:
        number = self.ue()
        return (number + 1) // 2 if number & 1 else -(number // 2)


def picture_size(sps: bytes) -> tuple[int, int] | None:
    """Width and height that a sequence parameter set speaks of; None if it makes no sense.

    `sps`: the NAL unit with its header byte (ITU-T H.264 section 7.3.2.1).
    """
    if len(sps) < 4 or len(sps) > 1024 or sps[0] & 0x1F != SPS:
        return None
    bits = _Bits(sps)
    try:
        return _picture_size(bits)
    except _Short:
        return None


def _picture_size(bits: _Bits) -> tuple[int, int] | None:
    profile = bits.take(8)
    bits.take(16)
    bits.ue()
    chroma = 1
    if profile in _HIGH:
        chroma = bits.ue()
        if chroma == 3:
            bits.take(1)
        bits.ue()
        bits.ue()
        bits.take(1)
        if bits.take(1):
            for index in range(8 if chroma != 3 else 12):
                if bits.take(1):
                    _skip_scaling(bits, 16 if index < 6 else 64)
    bits.ue()
    order = bits.ue()
    if order == 0:
        bits.ue()
    elif order == 1:
        bits.take(1)
        bits.se()
        bits.se()
        for _ in range(min(bits.ue(), 255)):
            bits.se()
    bits.ue()
    bits.take(1)
    width = 16 * (bits.ue() + 1)
    units = bits.ue() + 1
    frames_only = bits.take(1)
    height = 16 * units * (2 - frames_only)
    if not frames_only:
        bits.take(1)
    bits.take(1)
    if bits.take(1):
        across = 1 if chroma in (0, 3) else 2
        down = (2 if chroma == 1 else 1) * (2 - frames_only)
        width -= across * (bits.ue() + bits.ue())
        height -= down * (bits.ue() + bits.ue())
    if 0 < width <= _MAX_SIDE and 0 < height <= _MAX_SIDE:
        return width, height
    return None


def _skip_scaling(bits: _Bits, size: int) -> None:
    last = following = 8
    for _ in range(size):
        if following:
            following = (last + bits.se()) % 256
        last = following or last
