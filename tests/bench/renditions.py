"""What it costs to make a video's renditions, beside plain FFmpeg making the same ones.

The source is a minute of the test card in 720p with B-frames, so that nothing is passed through.
Plain FFmpeg decodes it once and encodes it with the same settings into the same sizes, to files
that no manifest describes.
"""

import asyncio
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from media.ladder import RUNGS, Voice
from media.ladder_worker import Event, Job, Ready
from media.picture_rungs import QUALITY
from media.testcard import BLOCK, SAMPLE_RATE, Card, Tone
from tests.bench.node import ROOT

SECONDS, FPS, SIZE = 60, 25, (1280, 720)

Say = Callable[[str], None]


@dataclass(slots=True)
class RenditionRow:
    """One run of each. Speeds are seconds of video in a second; cpu_s is of all cores.

    first_s: until the best rendition was whole. plain_*: 0 where there is no `ffmpeg` command.
    """

    seconds: int
    wall_s: float
    cpu_s: float
    first_s: float
    speed: float
    plain_wall_s: float
    plain_cpu_s: float
    plain_speed: float
    problems: list[str] = field(default_factory=list)


async def renditions(say: Say) -> RenditionRow:
    """Both, one after the other."""
    folder = Path(tempfile.mkdtemp(prefix="terrace-bench-"))
    try:
        say(f"renditions: drawing {SECONDS} s of {SIZE[0]}x{SIZE[1]}")
        source = folder / "source.mp4"
        await asyncio.to_thread(_draw, source)
        say("renditions: Terrace")
        wall_s, cpu_s, first_s, problems = await _ours(source, folder / "ours")
        say("renditions: plain FFmpeg")
        plain_wall_s, plain_cpu_s = await _plain(source, folder)
        return RenditionRow(
            seconds=SECONDS,
            wall_s=wall_s,
            cpu_s=cpu_s,
            first_s=first_s,
            speed=SECONDS / wall_s,
            plain_wall_s=plain_wall_s,
            plain_cpu_s=plain_cpu_s,
            plain_speed=SECONDS / plain_wall_s if plain_wall_s else 0.0,
            problems=problems,
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def _ours(source: Path, folder: Path) -> tuple[float, float, float, list[str]]:
    began, before = time.monotonic(), _children_s()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "media.ladder_worker", cwd=ROOT,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    job = Job(source=source, folder=folder).model_dump_json()
    process.stdin.write(job.encode() + b"\n")
    first_s, ready = 0.0, 0
    async for line in process.stdout:
        event = Event.validate_json(line)
        if isinstance(event, Ready):
            first_s = first_s or time.monotonic() - began
            ready += len(event.renditions)
    await process.wait()
    wanted = len(RUNGS) + 1
    problems = [] if ready == wanted else [f"{ready} of {wanted} renditions came out"]
    return time.monotonic() - began, _children_s() - before, first_s, problems


async def _plain(source: Path, folder: Path) -> tuple[float, float]:
    ffmpeg = shutil.which("ffmpeg")
    if ffmpeg is None:
        return 0.0, 0.0
    names = "".join(f"[v{i}]" for i in range(len(RUNGS)))
    scaled = ";".join(
        f"[v{i}]scale={rung.width}:{rung.height}:flags=bicubic[o{i}]"
        for i, rung in enumerate(RUNGS)
    )
    command = [ffmpeg, "-v", "error", "-y", "-i", str(source)]
    command += ["-filter_complex", f"[0:v]split={len(RUNGS)}{names};{scaled}"]
    for i, rung in enumerate(RUNGS):
        video_bps = rung.total_bps - rung.voice.bitrate_bps
        command += ["-map", f"[o{i}]", "-map", "0:a", "-c:v", "libx264", "-preset", rung.preset]
        command += [
            "-crf",
            str(QUALITY),
            "-maxrate",
            str(video_bps),
            "-bufsize",
            str(2 * video_bps),
        ]
        command += ["-bf", "0", "-g", str(4 * FPS), *_voice(rung.voice)]
        command += ["-movflags", "+frag_keyframe+empty_moov", str(folder / f"{rung.name}.mp4")]
    command += ["-map", "0:a", *_voice(Voice.MONO), str(folder / "sound.mp4")]
    began, before = time.monotonic(), _children_s()
    process = await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.DEVNULL)
    if await process.wait():
        return 0.0, 0.0
    return time.monotonic() - began, _children_s() - before


def _voice(voice: Voice) -> list[str]:
    coder = "fast" if voice is Voice.STEREO else "twoloop"
    channels = str(voice.channels)
    return ["-c:a", "aac", "-b:a", str(voice.bitrate_bps), "-ac", channels, "-aac_coder", coder]


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _draw(path: Path) -> None:
    """A minute of the test card, with the noise of a camera and a tone."""
    card, tone = Card(*SIZE, Fraction(FPS)), Tone()
    at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    random = np.random.default_rng(1)
    noise = [random.integers(0, 6, (SIZE[1] * 3 // 2, SIZE[0]), np.uint8) for _ in range(8)]
    with av.open(str(path), "w") as out:
        picture = out.add_stream("libx264", rate=FPS, options={"preset": "ultrafast", "bf": "2"})
        picture.width, picture.height, picture.pix_fmt = *SIZE, "yuv420p"
        picture.bit_rate = 4_000_000
        sound = out.add_stream("aac", rate=SAMPLE_RATE, layout="stereo")
        blocks = 0
        for number in range(SECONDS * FPS):
            drawn = card.frame(number, at).to_ndarray()
            frame = av.VideoFrame.from_ndarray(
                np.minimum(drawn, 240) + noise[number % len(noise)], "yuv420p"
            )
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            out.mux(picture.encode(frame))
            while blocks * BLOCK < (number + 1) * SAMPLE_RATE // FPS:
                block = tone.block(blocks).reshape(1, -1)
                heard = av.AudioFrame.from_ndarray(block, "s16", "stereo")
                heard.sample_rate, heard.pts = SAMPLE_RATE, blocks * BLOCK
                heard.time_base = Fraction(1, SAMPLE_RATE)
                out.mux(sound.encode(heard))
                blocks += 1
        out.mux(picture.encode(None))
        out.mux(sound.encode(None))
