"""A publisher on paper, for the cutter: frames by the clock, and what the segments then hold."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from media import fmp4
from media.cutter import Cutter
from media.frames import Frame, Look
from media.lipsync import Report
from media.reel import Cut
from tests.media.kept import PPS, SPS

LOOK = Look("H264", 640, 360, SPS, PPS)
NTP_S = 4_000_000_000
STEP_S = 0.02


@dataclass(frozen=True)
class Row:
    """One sample: begin and length in seconds, its bytes, and whether it is a keyframe."""

    at_s: float
    length_s: float
    data: bytes
    keyframe: bool


def rows(cut: Cut, track_id: int) -> list[Row]:
    """The samples of one track in a segment, read from its boxes."""
    data, found, samples = cut.data, [], b""
    for kind, begin, end in fmp4.boxes(data):
        if kind == b"moof":
            for inner, start, stop in fmp4.boxes(data, begin, end):
                if inner == b"traf":
                    found.append((begin - 8, start, stop))
        samples = data[begin:end] if kind == b"mdat" else samples
    for moof, start, stop in found:
        parts = {kind: data[a:b] for kind, a, b in fmp4.boxes(data, start, stop)}
        if int.from_bytes(parts[b"tfhd"][4:8], "big") != track_id:
            continue
        rate = fmp4.RATES[track_id]
        time = int.from_bytes(parts[b"tfdt"][4:12], "big")
        count, offset = struct.unpack_from("!Ii", parts[b"trun"], 4)
        out, at = [], moof + offset
        for i in range(count):
            duration, size, flags, shift = struct.unpack_from("!IIIi", parts[b"trun"], 12 + 16 * i)
            out.append(
                Row((time + shift) / rate, duration / rate, data[at : at + size], flags >> 25 == 1)
            )
            time += duration
            at += size
        return out
    return []


class Footage:
    """Feeds a cutter as a publisher would, in steps of 20 ms.

    Sound and picture are captured at the same time and have unrelated timestamps; each sample's
    bytes say when it was captured (milliseconds of the publisher's clock).
    """

    def __init__(self, cutter: Cutter, *, sound: bool = True, picture: bool = True) -> None:
        self.cutter = cutter
        self.cuts: list[Cut] = []
        self.now = 1000.0
        self.captured_s = 0.0
        self.look = LOOK
        self.picture_late_s = 0.0
        """By how much the picture comes later than the sound captured with it."""
        self.audio_ppm = 0.0
        self.ntp_s = NTP_S
        self._sound, self._picture = sound, picture
        self._audio_first, self._video_first = 0xFFFF0000, 12345
        self._steps = 0
        kinds = ["audio"] * sound + ["video"] * picture
        self.cuts += cutter.begin_tracks(kinds, self.now)

    def run(
        self,
        seconds: float,
        *,
        sound: bool = True,
        picture: bool = True,
        keyframes_s: float = 2.0,
        reports: bool = True,
        lose: tuple[str, ...] = (),
    ) -> None:
        """Go on for so long. `lose`: kinds whose packets are lost meanwhile."""
        for _ in range(round(seconds / STEP_S)):
            at_s = self.captured_s
            if reports and self._steps % 100 == 0:
                self._report(at_s)
            if self._sound and sound:
                self._send("audio", at_s, lose)
            if self._picture and picture and self._steps % 2 == 0:
                every = round(keyframes_s / STEP_S)
                self._send("video", at_s, lose, key=self._steps % every == 0)
            self._steps += 1
            self.captured_s += STEP_S
            self.now += STEP_S
            self.cuts += self.cutter.process(self.now)

    def finish(self) -> None:
        """The class ends."""
        self.cuts += self.cutter.finish(self.now)

    def away(self, seconds: float) -> None:
        """Nothing comes for so long."""
        for _ in range(round(seconds / 0.1)):
            self.captured_s += 0.1
            self.now += 0.1
            self.cuts += self.cutter.process(self.now)
        self._steps = 0

    def another(self) -> None:
        """Another publisher: other clocks."""
        self.ntp_s += 1234
        self._audio_first += 77_777
        self._video_first += 999_999

    def _timestamp(self, kind: str, at_s: float) -> int:
        if kind == "video":
            return round(self._video_first + at_s * 90_000) & 0xFFFFFFFF
        return round(self._audio_first + at_s * 48_000 * (1 + self.audio_ppm / 1e6)) & 0xFFFFFFFF

    def _report(self, at_s: float) -> None:
        ntp = round((self.ntp_s + at_s) * (1 << 32))
        for kind in ("audio", "video"):
            if self._sound if kind == "audio" else self._picture:
                self.cutter.report(kind, Report(ntp, self._timestamp(kind, at_s)), self.now)

    def _send(self, kind: str, at_s: float, lose: tuple[str, ...], *, key: bool = False) -> None:
        if kind in lose:
            self.cutter.lost(kind)
            return
        if kind == "video":
            at_s -= self.picture_late_s
        data = struct.pack("!q", round(1000 * at_s))
        look = self.look if key else None
        ticks = 960 if kind == "audio" else 0
        frame = Frame(self._timestamp(kind, at_s), data, key or kind == "audio", look, ticks)
        self.cutter.frame(kind, frame, self.now)

    # ------------------------------------------------------------ what came out

    @property
    def segments(self) -> list[Cut]:
        return [cut for cut in self.cuts if not cut.init]

    def parts(self) -> list[int]:
        return sorted({cut.facts.part for cut in self.segments})

    def track(self, track_id: int, part: int = 1) -> list[Row]:
        return [
            row for cut in self.segments if cut.facts.part == part for row in rows(cut, track_id)
        ]


def captured_s(row: Row) -> float:
    """When a sample was captured."""
    return float(struct.unpack("!q", row.data)[0]) / 1000
