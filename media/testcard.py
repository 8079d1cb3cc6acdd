"""The moving picture and the sound of `terrace publish test:`.

The picture shows the wall clock to the millisecond, the number of the frame and a ball on its way,
over hills cut into terraces. A bar code at the top says the same to a machine. Once a second the
lamp in the corner lights for 80 ms while the sound beeps: what is off between the two is off in
the line.

The code is two rows of 32 cells, white for 1, the highest bit first; a cell is 1/40 of the width
and 1/24 of the height. The upper row starts 4 cells from the left and 1 from the top: 24 bits of
frame number and their CRC-8. The row below it: 27 bits of milliseconds since midnight UTC and
their CRC-5 (polynomials 0x07 and 0x05). It survives scaling and every bit rate at which the picture
can still be watched; `read_stamp` reads it.

Everything that can be drawn beforehand is. One frame at 1280x720 costs about a quarter of a
millisecond.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any

import av
import numpy as np
import numpy.typing as npt

Plane = npt.NDArray[np.uint8]

CELLS = 32
COLUMNS, ROWS = 40, 24
LEFT_CELL, TOP_CELL = 4, 1
FRAME_BITS, CLOCK_BITS = 24, 27
DAY_MS = 86_400_000

# Studio range (ITU-R BT.601 and 709): black is 16 and white 235; a colour difference of 0 is 128.
BLACK, WHITE, NEUTRAL = 16, 235, 128
PANEL = 34

SAMPLE_RATE = 48_000
BLOCK = 960  # samples: 20 ms, one Opus frame
FLASH = Fraction(8, 100)  # seconds of lamp and beep
BEEP_HZ, TONE_HZ = 1000, 220


@dataclass(frozen=True, slots=True)
class Stamp:
    """What the bar code of a picture says: its number, and the ms of the UTC day when drawn."""

    frame: int
    utc_ms: int


def crc(value: int, bits: int, polynomial: int, width: int) -> int:
    """The CRC of a number of so many bits, from all ones: a black picture is no valid stamp."""
    ones = (1 << width) - 1
    check = ones
    for bit in range(bits - 1, -1, -1):
        carry = check >> (width - 1) ^ value >> bit & 1
        check = (check << 1 & ones) ^ (polynomial if carry else 0)
    return check


def stamp_rows(stamp: Stamp) -> tuple[int, int]:
    """The two 32-bit words that the rows of the bar code show."""
    frame = stamp.frame % (1 << FRAME_BITS)
    clock = stamp.utc_ms % DAY_MS
    return (
        frame << 8 | crc(frame, FRAME_BITS, 0x07, 8),
        clock << 5 | crc(clock, CLOCK_BITS, 0x05, 5),
    )


def read_stamp(luma: npt.NDArray[Any]) -> Stamp | None:
    """Read the bar code from the luma of a picture of any size; None if there is none.

    luma: shape (height, width), black 16 or 0, white 235 or 255.
    """
    height, width = luma.shape
    words = []
    for row in range(2):
        middle = (TOP_CELL + row + 0.5) * height / ROWS
        top, bottom = int(middle - height / ROWS / 5), int(middle + height / ROWS / 5) + 1
        word = 0
        for cell in range(CELLS):
            centre = (LEFT_CELL + cell + 0.5) * width / COLUMNS
            left, right = int(centre - width / COLUMNS / 5), int(centre + width / COLUMNS / 5) + 1
            bit = luma[top:bottom, left:right].mean() > (BLACK + WHITE) / 2
            word = word << 1 | int(bit)
        words.append(word)
    frame, clock = words[0] >> 8, words[1] >> 5
    if clock >= DAY_MS:
        return None
    stamp = Stamp(frame, clock)
    return stamp if stamp_rows(stamp) == (words[0], words[1]) else None


def lamp_is_lit(frame: int, fps: Fraction) -> bool:
    """Whether the lamp is lit in this frame: in the first 80 ms of each second of media."""
    return frame / fps % 1 < FLASH


def lamp_box(width: int, height: int) -> tuple[slice, slice]:
    """Rows and columns of the lamp in a picture of this size, all of it lit or all of it dark."""
    unit = height / 720
    top, left, side = 566 * unit, width - 166 * unit, 88 * unit
    return slice(_even(top), _even(top + side)), slice(_even(left), _even(left + side))


class Card:
    """Draws the frames. One object draws one stream, at one size.

    width, height: pixels, even. fps: pictures a second.
    """

    def __init__(self, width: int = 1280, height: int = 720, fps: Fraction = Fraction(25)) -> None:
        self.width, self.height, self.fps = width, height, fps
        unit = min(height / 720, width / 1280)
        # All three planes in one array, as PyAV takes them: luma, then the two colour planes.
        self._picture = np.empty((height * 3 // 2, width), np.uint8)
        self._luma = self._picture[:height]
        chroma = self._picture[height:].reshape(2, height // 2, width // 2)
        self._blue, self._red = chroma[0], chroma[1]
        _landscape(self._luma, self._blue, self._red)

        self._large = _glyphs(round(150 * unit), "0123456789:. ")
        self._small = _glyphs(round(56 * unit), "0123456789:FRAME ")
        name = _glyphs(round(34 * unit), "TERRACE ")
        large_h = self._large["0"].shape[0]
        clock_w = _text_width(self._large, "00:00:00.000")
        margin = _even(28 * unit)
        panel_w = min(width, clock_w + 2 * margin)
        panel_x = _even((width - panel_w) / 2)
        panel_y = _even(height * 0.28)
        panel_h = _even(large_h + self._small["0"].shape[0] + 3 * margin)
        self._panel(panel_y, panel_x, panel_h, panel_w)
        self._clock_at = (panel_y + margin, panel_x + (panel_w - clock_w) // 2)
        self._frame_at = (panel_y + large_h + 2 * margin, self._clock_at[1])
        self._clock_text = self._frame_text = ""

        name_h, name_w = name["T"].shape[0], _text_width(name, "TERRACE")
        name_y, name_x = _even(panel_y + panel_h + margin), panel_x
        self._panel(name_y, name_x, _even(name_h + margin), _even(name_w + margin))
        _write(self._luma, name_y + margin // 2, name_x + margin // 2, "TERRACE", name)

        self._cell_rows = [slice(*_edges(TOP_CELL + row, height / ROWS)) for row in range(2)]
        self._cell_columns = np.array(
            [_edges(LEFT_CELL + cell, width / COLUMNS)[0] for cell in range(CELLS + 1)]
        )
        self._panel(
            _even(0.5 * height / ROWS),
            _even((LEFT_CELL - 0.5) * width / COLUMNS),
            _even(3 * height / ROWS),
            _even((CELLS + 1) * width / COLUMNS),
        )
        self._lamp = lamp_box(width, height)
        self._track_y = _even(height * 0.845)
        self._ball, self._ball_alpha = _ball(_even(72 * unit))
        self._under: tuple[slice, slice, Plane, Plane, Plane] | None = None

    def draw(self, frame: int, at: datetime) -> Plane:
        """Draw one frame; the array is the same at every call.

        frame: its number from 0. at: the wall clock that it shows, in the zone that it shows.
        Returned: uint8, shape (height * 3 / 2, width): the planes of YUV 4:2:0 one after another.
        """
        utc = at.astimezone(UTC)
        of_day = timedelta(
            hours=utc.hour, minutes=utc.minute, seconds=utc.second, microseconds=utc.microsecond
        )
        self._stamp(Stamp(frame, of_day // timedelta(milliseconds=1)))
        clock = f"{at:%H:%M:%S}.{at.microsecond // 1000:03}"
        self._rewrite(self._clock_at, self._clock_text, clock, self._large)
        number = f"FRAME {frame:06}"
        self._rewrite(self._frame_at, self._frame_text, number, self._small)
        self._clock_text, self._frame_text = clock, number
        self._move_ball(frame)
        lit = lamp_is_lit(frame, self.fps)
        self._fill(self._lamp, *((WHITE, NEUTRAL, NEUTRAL) if lit else (PANEL, NEUTRAL, NEUTRAL)))
        return self._picture

    def frame(self, frame: int, at: datetime) -> av.VideoFrame:
        """The same as a PyAV frame of its own (yuv420p), without time stamps."""
        return av.VideoFrame.from_ndarray(self.draw(frame, at), format="yuv420p")

    def _panel(self, y: int, x: int, height: int, width: int) -> None:
        self._fill((slice(y, y + height), slice(x, x + width)), PANEL, NEUTRAL, NEUTRAL)

    def _fill(self, box: tuple[slice, slice], luma: int, blue: int, red: int) -> None:
        self._luma[box] = luma
        half = tuple(slice(part.start // 2, part.stop // 2) for part in box)
        self._blue[half] = blue
        self._red[half] = red

    def _rewrite(self, at: tuple[int, int], old: str, new: str, glyphs: dict[str, Plane]) -> None:
        y, x = at
        for i, letter in enumerate(new):
            tile = glyphs[letter]
            if i >= len(old) or old[i] != letter:
                self._luma[y : y + tile.shape[0], x : x + tile.shape[1]] = tile
            x += tile.shape[1]

    def _stamp(self, stamp: Stamp) -> None:
        columns = self._cell_columns
        for rows, word in zip(self._cell_rows, stamp_rows(stamp), strict=True):
            bits = (word >> np.arange(CELLS - 1, -1, -1)) & 1
            cells = np.where(bits == 1, WHITE, BLACK).astype(np.uint8)
            line = np.repeat(cells, np.diff(columns))
            self._luma[rows, columns[0] : columns[-1]] = line

    def _move_ball(self, frame: int) -> None:
        if self._under is not None:
            rows, columns, luma, blue, red = self._under
            self._luma[rows, columns] = luma
            half = (_half(rows), _half(columns))
            self._blue[half], self._red[half] = blue, red
        side = self._ball.shape[0]
        # There and back in four seconds, slowing down at the ends as a pendulum does.
        phase = float(frame / self.fps / 4 % 1)
        way = (1 - math.cos(2 * math.pi * phase)) / 2
        left, right = 0.06 * self.width, self._lamp[1].start - side - 0.04 * self.width
        x = _even(left + (right - left) * way)
        rows = slice(self._track_y - side // 2, self._track_y - side // 2 + side)
        rows = slice(_even(rows.start), _even(rows.start) + side)
        columns = slice(x, x + side)
        half = (_half(rows), _half(columns))
        under = self._luma[rows, columns].copy()
        self._under = (rows, columns, under, self._blue[half].copy(), self._red[half].copy())
        alpha = self._ball_alpha
        self._luma[rows, columns] = under + (self._ball - under.astype(np.float32)) * alpha
        coarse = alpha[::2, ::2]
        for plane, value in ((self._blue, 60), (self._red, 190)):
            old = plane[half]
            plane[half] = old + (value - old.astype(np.float32)) * coarse


class Tone:
    """The sound: a beep at every whole second, a soft tone in between.

    Both tones have a whole number of waves in a second, so one second is all there is.
    """

    def __init__(self) -> None:
        t = np.arange(SAMPLE_RATE) / SAMPLE_RATE
        # -33 dBFS, breathing twice a second: heard as alive, not tiring.
        tone = 0.022 * (0.75 + 0.25 * np.sin(2 * np.pi * 2 * t)) * np.sin(2 * np.pi * TONE_HZ * t)
        length = int(FLASH * SAMPLE_RATE)
        fade = np.minimum(1, np.minimum(np.arange(length), np.arange(length)[::-1]) / 96)
        tone[:length] = 0.25 * fade * np.sin(2 * np.pi * BEEP_HZ * t[:length])
        mono = np.round(tone * 32767).astype(np.int16)
        self._second = np.repeat(mono[:, None], 2, axis=1)

    def block(self, index: int) -> npt.NDArray[np.int16]:
        """The 20 ms that start `index` blocks after the first frame: int16, shape (960, 2)."""
        start = index * BLOCK % SAMPLE_RATE
        return self._second[start : start + BLOCK]


def _even(value: float) -> int:
    """The nearest even number of pixels, so that luma and colour planes meet."""
    return round(value / 2) * 2


def _half(part: slice) -> slice:
    return slice(part.start // 2, part.stop // 2)


def _edges(cell: int, size: float) -> tuple[int, int]:
    return round(cell * size), round((cell + 1) * size)


def _text_width(glyphs: dict[str, Plane], text: str) -> int:
    return sum(glyphs[letter].shape[1] for letter in text)


def _write(luma: Plane, y: int, x: int, text: str, glyphs: dict[str, Plane]) -> None:
    for letter in text:
        tile = glyphs[letter]
        luma[y : y + tile.shape[0], x : x + tile.shape[1]] = tile
        x += tile.shape[1]


def _landscape(luma: Plane, blue: Plane, red: Plane) -> None:
    """Evening sky over hills in terraces, drawn into the three planes."""
    height, width = luma.shape
    y = np.linspace(0, 1, height)[:, None]
    x = np.linspace(0, 1, width)[None, :]
    luma[:] = 118 - 52 * y + 0 * x
    blue[:] = (146 + 0 * (y[::2] + x[:, ::2])).astype(np.uint8)
    red[:] = (112 + 14 * y[::2] + 0 * x[:, ::2]).astype(np.uint8)
    # From the farthest hill to the nearest: base line, height of the waves, their number, colours.
    hills = (
        (0.52, 0.10, 1.3, 0.9, 84, 128, 112),
        (0.66, 0.09, 1.7, 2.6, 72, 118, 110),
        (0.80, 0.07, 1.1, 4.4, 60, 112, 112),
    )
    for base, swell, waves, phase, level, blue_level, red_level in hills:
        ridge = base - swell * np.sin(2 * np.pi * waves * x + phase)
        ridge += 0.02 * np.sin(2 * np.pi * 3.1 * x + 2 * phase)
        depth = (y - ridge) / (1 - base)
        inside = depth > 0
        steps = depth * 9
        # Each terrace: a lit edge of water above a bank that falls into shade.
        edge = np.clip(1 - (steps % 1) / 0.16, 0, 1)
        shade = level + 34 * edge - 16 * (steps % 1) - 10 * depth
        luma[inside] = np.clip(shade, 20, 200)[inside].astype(np.uint8)
        coarse = inside[::2, ::2]
        blue[coarse] = blue_level
        red[coarse] = red_level


def _ball(side: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Luma of a ball lit from the upper left, and how much of each pixel it covers."""
    axis = (np.arange(side) + 0.5) / side * 2 - 1
    x, y = axis[None, :], axis[:, None]
    distance = np.hypot(x, y)
    alpha = np.clip((0.96 - distance) * side / 2, 0, 1)
    light = np.clip(1 - np.hypot(x + 0.35, y + 0.35), 0, 1)
    return (130 + 95 * light).astype(np.float32), alpha.astype(np.float32)


# Strokes of the letters in a box of height 1 with y downwards: (kind, numbers). A line has x0, y0,
# x1, y1; an arc has centre, radii and two angles in degrees, clockwise from the right.
Stroke = tuple[float, ...]
_STROKES: dict[str, list[Stroke]] = {
    "0": [(0.3, 0.3, 0.3, 0.3, 180, 360), (0.3, 0.7, 0.3, 0.3, 0, 180), (0, 0.3, 0, 0.7),
          (0.6, 0.3, 0.6, 0.7)],
    "1": [(0.1, 0.22, 0.36, 0), (0.36, 0, 0.36, 1)],
    "2": [(0.3, 0.3, 0.3, 0.3, 180, 395), (0.546, 0.472, 0, 1), (0, 1, 0.6, 1)],
    "3": [(0.3, 0.25, 0.27, 0.25, 195, 450), (0.3, 0.75, 0.3, 0.25, 270, 525),
          (0.24, 0.5, 0.3, 0.5)],
    "4": [(0.46, 1, 0.46, 0), (0.46, 0, 0, 0.7), (0, 0.7, 0.62, 0.7)],
    "5": [(0.54, 0, 0.08, 0), (0.08, 0, 0.04, 0.46), (0.29, 0.67, 0.31, 0.33, 218, 515)],
    "6": [(0.3, 0.68, 0.3, 0.32, 0, 360), (0.56, 0.68, 0.56, 0.68, 180, 262)],
    "7": [(0, 0, 0.6, 0), (0.6, 0, 0.2, 1)],
    "8": [(0.3, 0.25, 0.25, 0.25, 0, 360), (0.3, 0.75, 0.3, 0.25, 0, 360)],
    "9": [(0.3, 0.32, 0.3, 0.32, 0, 360), (0.04, 0.32, 0.56, 0.68, 0, 82)],
    ":": [(0.08, 0.3, 0.08, 0.3), (0.08, 0.75, 0.08, 0.75)],
    ".": [(0.08, 1, 0.08, 1)],
    " ": [],
    "A": [(0, 1, 0.3, 0), (0.3, 0, 0.6, 1), (0.11, 0.66, 0.49, 0.66)],
    "C": [(0.32, 0.5, 0.32, 0.5, 50, 310)],
    "E": [(0, 0, 0, 1), (0, 0, 0.5, 0), (0, 0.5, 0.44, 0.5), (0, 1, 0.5, 1)],
    "F": [(0, 0, 0, 1), (0, 0, 0.5, 0), (0, 0.5, 0.44, 0.5)],
    "M": [(0, 1, 0, 0), (0, 0, 0.34, 0.6), (0.34, 0.6, 0.68, 0), (0.68, 0, 0.68, 1)],
    "R": [(0, 1, 0, 0), (0, 0, 0.3, 0), (0.3, 0.26, 0.27, 0.26, 270, 450), (0.3, 0.52, 0, 0.52),
          (0.26, 0.52, 0.56, 1)],
    "T": [(0, 0, 0.6, 0), (0.3, 0, 0.3, 1)],
}  # fmt: skip


def _glyphs(height: int, letters: str) -> dict[str, Plane]:
    """Tiles of the letters, white on the panel's grey, `height` pixels tall."""
    return {letter: _glyph(letter, height) for letter in dict.fromkeys(letters)}


def _glyph(letter: str, height: int) -> Plane:
    lines: list[Stroke] = []
    for stroke in _STROKES[letter]:
        lines += [stroke] if len(stroke) == 4 else _polyline(*stroke)
    # Figures share one width, so that the clock does not dance.
    reach = 0.6 if letter.isdecimal() or letter == " " else max(max(s[0], s[2]) for s in lines)
    pen = 0.13
    tall = height / (1 + 2 * pen)
    width = round((reach + 0.30) * tall)
    y = ((np.arange(height) + 0.5) / tall - pen)[:, None]
    x = ((np.arange(width) + 0.5) / tall - 0.15)[None, :]
    distance = np.full((height, width), 9.0)
    for x0, y0, x1, y1 in lines:
        dx, dy = x1 - x0, y1 - y0
        along = np.clip(((x - x0) * dx + (y - y0) * dy) / (dx * dx + dy * dy or 1), 0, 1)
        distance = np.minimum(distance, np.hypot(x - x0 - along * dx, y - y0 - along * dy))
    alpha = np.clip((pen / 2 - distance) * tall + 0.5, 0, 1)
    tile: Plane = np.round(PANEL + (WHITE - PANEL) * alpha).astype(np.uint8)
    return tile


def _polyline(cx: float, cy: float, rx: float, ry: float, start: float, end: float) -> list[Stroke]:
    angles = np.radians(np.linspace(start, end, 25))
    xs, ys = cx + rx * np.cos(angles), cy + ry * np.sin(angles)
    return [
        (float(xs[i]), float(ys[i]), float(xs[i + 1]), float(ys[i + 1]))
        for i in range(len(angles) - 1)
    ]
