"""Sound against picture in a recorded file: a lamp that flashes while a tone beeps.

The test card does so each whole second (`media.testcard`). `PAGE` makes a browser's camera and
microphone do so: put it into a page before its own scripts run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt

from media import testcard

BEEP_HZ = 1000
RATE = 48_000
# A flash and a beep that are further apart belong to different seconds.
PAIR_S = 0.4
# In the picture that PAGE draws, of 640 x 360.
CANVAS_LAMP = (slice(30, 150), slice(490, 610))

PAGE = """
(() => {
  navigator.mediaDevices.getUserMedia = async () => {
    const sound = new AudioContext({sampleRate: 48000});
    const out = sound.createMediaStreamDestination();
    const tone = sound.createOscillator();
    tone.frequency.value = 1000;
    const gain = sound.createGain();
    gain.gain.value = 0;
    tone.connect(gain).connect(out);
    tone.start();
    // Not waited for: before somebody has clicked, a browser never says that it runs.
    addEventListener("click", () => sound.resume(), true);
    sound.resume();
    const canvas = document.createElement("canvas");
    canvas.width = 640;
    canvas.height = 360;
    const pen = canvas.getContext("2d", {alpha: false});
    let next = Math.ceil(sound.currentTime + 0.5);
    let count = 0;
    const draw = () => {
      const now = sound.currentTime;
      while (next < now + 1.5) {
        gain.gain.setValueAtTime(0.5, next);
        gain.gain.setValueAtTime(0, next + 0.08);
        next += 1;
      }
      pen.fillStyle = "#345";
      pen.fillRect(0, 0, 640, 360);
      pen.fillStyle = "#8a6";
      pen.fillRect((count * 5) % 600, 250, 40, 40);
      pen.fillStyle = now >= 1 && now % 1 < 0.08 ? "#fff" : "#222";
      pen.fillRect(480, 20, 140, 140);
      count += 1;
      picture.requestFrame();
      // The next one at a whole multiple of 40 ms of the sound's clock, as the beeps are.
      const at = (Math.floor(sound.currentTime * 25 + 0.1) + 1) / 25;
      setTimeout(draw, 1000 * (at - sound.currentTime));
    };
    // A picture is taken when it is drawn; the browser by itself takes it up to 40 ms later.
    const stream = canvas.captureStream(0);
    const picture = stream.getVideoTracks()[0];
    draw();
    stream.addTrack(out.stream.getAudioTracks()[0]);
    window.flashing = {sound, canvas, stream};
    return stream;
  };
})();
"""

Luma = npt.NDArray[np.uint8]
Lamp = Callable[[Luma], Luma]


def card_lamp(luma: Luma) -> Luma:
    """The lamp of the test card."""
    height, width = luma.shape
    return luma[testcard.lamp_box(width, height)]


def canvas_lamp(luma: Luma) -> Luma:
    """The lamp of `PAGE`."""
    return luma[CANVAS_LAMP]


@dataclass
class Seen:
    """What a file holds when it is decoded from begin to end."""

    codecs: list[str] = field(default_factory=list)
    pictures_s: list[float] = field(default_factory=list)
    sounds_s: list[tuple[float, float]] = field(default_factory=list)
    """Begin and end of each frame of sound."""
    flashes_s: list[float] = field(default_factory=list)
    beeps_s: list[float] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    """What FFmpeg had to say."""

    @property
    def skews_ms(self) -> list[float]:
        """For each beep: by how much its flash is later."""
        pairs = [(min(self.flashes_s, key=lambda f: abs(f - b)), b) for b in self.beeps_s]
        return [1000 * (flash - beep) for flash, beep in pairs if abs(flash - beep) < PAIR_S]

    @property
    def holes_s(self) -> float:
        """The longest stretch between two frames of sound."""
        starts = [begin for begin, _ in self.sounds_s[1:]]
        ends = [end for _, end in self.sounds_s]
        return max((a - b for a, b in zip(starts, ends, strict=False)), default=0.0)


def look(path: Path, lamp: Lamp = card_lamp) -> Seen:
    """Decode a whole file."""
    seen, was_lit, waves = Seen(), False, []
    level = av.logging.get_level()
    av.logging.set_level(av.logging.WARNING)
    try:
        with av.logging.Capture(local=False) as said, av.open(str(path)) as container:
            seen.codecs = sorted(stream.codec_context.name for stream in container.streams)
            for packet in container.demux():
                for frame in packet.decode():
                    if not isinstance(frame, av.VideoFrame | av.AudioFrame):
                        continue
                    assert frame.time is not None
                    if isinstance(frame, av.VideoFrame):
                        is_lit = bool(lamp(_luma(frame)).mean() > 140)
                        if is_lit and not was_lit:
                            seen.flashes_s.append(frame.time)
                        was_lit = is_lit
                        seen.pictures_s.append(frame.time)
                    else:
                        end_s = frame.time + frame.samples / frame.sample_rate
                        seen.sounds_s.append((frame.time, end_s))
                        waves.append(_mono(frame))
        seen.complaints = [f"{name}: {text.strip()}" for _, name, text in said]
    finally:
        av.logging.set_level(level)
    if waves:
        seen.beeps_s = _beeps(np.concatenate(waves), seen.sounds_s[0][0])
    return seen


def _luma(frame: av.VideoFrame) -> Luma:
    plane = frame.planes[0]
    rows = np.frombuffer(memoryview(plane), np.uint8).reshape(frame.height, plane.line_size)
    return rows[:, : frame.width]


def _mono(frame: av.AudioFrame) -> npt.NDArray[np.float64]:
    data: npt.NDArray[Any] = frame.to_ndarray()
    channels = len(frame.layout.channels)
    if data.shape[0] != channels:
        data = data.reshape(-1, channels).T
    return np.asarray(data.mean(axis=0), dtype=np.float64)


def _beeps(wave: npt.NDArray[np.float64], begins_s: float) -> list[float]:
    """When each beep begins."""
    turning = np.exp(-2j * np.pi * BEEP_HZ * np.arange(len(wave)) / RATE)
    window = np.ones(240) / 240
    loud = np.abs(np.convolve(wave * turning, window, "same"))
    on = loud > loud.max() / 2
    found: list[float] = []
    for edge in np.flatnonzero(on[1:] & ~on[:-1]):
        at_s = begins_s + float(edge) / RATE
        if not found or at_s - found[-1] > 0.5:
            found.append(at_s)
    return found
