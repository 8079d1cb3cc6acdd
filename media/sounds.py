"""Sound of any kind into blocks of AAC that stand on one grid, whatever the source does.

Block `n` is 1024 samples at 48 kHz and begins at sample `n * 1024` of the course. A gap in the
source becomes silence, what overlaps is left out, so sound never runs away from the picture. An
encoder that begins in the middle is given some blocks before, and those are not used.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import av
import numpy as np
import numpy.typing as npt
from av.codec.context import Flags

from .ladder import AAC_SAMPLES, SAMPLES_PER_S, Voice
from .moov import Sound

WARM_BLOCKS: Final = 3
"""Blocks that an encoder hears before the first one that counts: its window spans two."""

SLACK_SAMPLES: Final = SAMPLES_PER_S * 15 // 1000
"""Times of sound are rounded to a millisecond in some files; less than this is no gap."""

_CLOCK: Final = Fraction(1, SAMPLES_PER_S)
_SILENCE_SAMPLES: Final = SAMPLES_PER_S


@dataclass(frozen=True, slots=True)
class Block:
    """1024 samples as one way to encode them has them."""

    voice: Voice
    number: int
    data: bytes


class Sounds:
    """One decoded sound, encoded in one or two ways."""

    def __init__(self, voices: Iterable[Voice], *, first_block: int = 0) -> None:
        self._first = first_block
        self._encoders = {voice: _encoder(voice) for voice in voices}
        self._resampler = _resampler()
        self._at = max(0, first_block - WARM_BLOCKS) * AAC_SAMPLES
        """Where the next sample stands that is not yet taken in."""
        self._rest: npt.NDArray[np.float32] = np.zeros((2, 0), np.float32)

    @property
    def needed_from_s(self) -> float:
        """From when on sound is used."""
        return self._at / SAMPLES_PER_S

    def about(self, voice: Voice) -> Sound:
        """What the header of a file says about this sound."""
        config = self._encoders[voice].extradata or b""
        return Sound(config, voice.channels, voice.bitrate_bps)

    def hear(self, frame: av.AudioFrame, time_s: float) -> Iterator[Block]:
        """Take the next sound of the source; `time_s` is when its first sample is heard."""
        frame.pts = None
        try:
            shaped = self._resampler.resample(frame)
        except ValueError:
            # Another rate or layout than before: a resampler is made for one of each.
            self._resampler = _resampler()
            shaped = self._resampler.resample(frame)
        at = round(time_s * SAMPLES_PER_S)
        for part in shaped:
            samples = part.to_ndarray().astype(np.float32, copy=False)
            yield from self._place(at, samples)
            at += samples.shape[1]

    def finish(self, end_s: float) -> Iterator[Block]:
        """The source is over; silence follows until `end_s`, where the picture ends."""
        yield from self._silence(round(end_s * SAMPLES_PER_S) - self._at)
        rest = self._rest.shape[1]
        if rest:
            yield from self._take(np.zeros((2, AAC_SAMPLES - rest), np.float32))
        for voice, encoder in self._encoders.items():
            yield from self._blocks(voice, encoder.encode(None))

    def _place(self, at: int, samples: npt.NDArray[np.float32]) -> Iterator[Block]:
        gap = at - self._at
        if gap > SLACK_SAMPLES:
            yield from self._silence(gap)
        elif gap < -SLACK_SAMPLES:
            samples = samples[:, -gap:]
        if samples.shape[1]:
            yield from self._take(samples)

    def _silence(self, count: int) -> Iterator[Block]:
        while count > 0:
            step = min(count, _SILENCE_SAMPLES)
            yield from self._take(np.zeros((2, step), np.float32))
            count -= step

    def _take(self, samples: npt.NDArray[np.float32]) -> Iterator[Block]:
        self._at += samples.shape[1]
        rest = np.concatenate((self._rest, samples), axis=1)
        start = self._at - rest.shape[1]
        whole = rest.shape[1] // AAC_SAMPLES * AAC_SAMPLES
        for begin in range(0, whole, AAC_SAMPLES):
            stereo = np.ascontiguousarray(rest[:, begin : begin + AAC_SAMPLES])
            for voice, encoder in self._encoders.items():
                heard = stereo if voice is Voice.STEREO else stereo.mean(0, keepdims=True)
                frame = av.AudioFrame.from_ndarray(heard, "fltp", voice.value)
                frame.sample_rate, frame.time_base = SAMPLES_PER_S, _CLOCK
                frame.pts = start + begin
                yield from self._blocks(voice, encoder.encode(frame))
        self._rest = rest[:, whole:]

    def _blocks(
        self, voice: Voice, packets: Iterable[av.Packet[av.AudioStream]]
    ) -> Iterator[Block]:
        for packet in packets:
            # The encoder begins with a block of its own making, before the first one it heard.
            number = (packet.pts or 0) // AAC_SAMPLES
            if number >= self._first:
                yield Block(voice, number, bytes(packet))


def _encoder(voice: Voice) -> av.AudioCodecContext:
    codec = av.CodecContext.create("aac", "w")
    codec.sample_rate, codec.layout, codec.format = SAMPLES_PER_S, voice.value, "fltp"
    codec.bit_rate, codec.time_base = voice.bitrate_bps, _CLOCK
    codec.flags |= Flags.global_header
    codec.open()
    return codec


def _resampler() -> av.AudioResampler:
    return av.AudioResampler("fltp", "stereo", SAMPLES_PER_S)
