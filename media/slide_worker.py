"""The process that makes pictures of slides: `python -m media.slide_worker`, a job on its stdin.

It reads a file that somebody sent, so it stands apart, with bounds on its memory, its time and what
it writes: a hostile file ends here, and with a sentence. Each page becomes a WebP picture under its
SHA-256 in the job's folder, lossless or not, whichever is smaller: text comes out sharp at some ten
kilobytes, photographs as small as they can be.
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import av
import numpy as np
import pypdfium2
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from .errors import MediaError

WIDTH, HEIGHT = 1600, 900
"""The box that a page is fitted into: a projector of 1080 lines shows it sharp."""
MOST_PAGES: Final = 300
MOST_PIXELS: Final = 64_000_000
MOST_BYTES: Final = 1024 * 1024
"""Of one page. At 64 kbit/s that is two minutes; a page of text takes two seconds."""
MEMORY_BYTES: Final = 1536 * 1024 * 1024
CPU_S: Final = 150
NICENESS: Final = 5
QUALITIES: Final = (80, 60, 40, 20)
EDGE: Final = 32
"""Neighbours that differ by more than this in a colour are an edge, where no eye tells 16 levels
of it from 256; a gradient is none, and keeps all of them."""
LEVEL: Final = 17

Pixels = NDArray[np.uint8]
_PIPES: Final = {
    b"\x89PNG\r\n\x1a\n": ("png_pipe", "image/png"),
    b"\xff\xd8\xff": ("jpeg_pipe", "image/jpeg"),
    b"RIFF": ("webp_pipe", "image/webp"),
}


def kind_of(head: bytes) -> str:
    """The media type of an upload by its first bytes; "" for what is no slides."""
    # A PDF may have something before its header; readers look within the first kilobyte.
    if b"%PDF-" in head[:1024]:
        return "application/pdf"
    found = next((kind for magic, (_, kind) in _PIPES.items() if head.startswith(magic)), "")
    return found if found != "image/webp" or head[8:12] == b"WEBP" else ""


def pages(source: Path) -> Iterator[Pixels]:
    """The pages of a file as BGRA pixels, one after the other; MediaError."""
    with source.open("rb") as file:
        head = file.read(1024)
    kind = kind_of(head)
    if kind == "application/pdf":
        yield from _pdf(source)
    elif kind:
        pipe = next(name for name, known in _PIPES.values() if known == kind)
        yield _picture(source, pipe)
    else:
        raise MediaError("this is neither a PDF nor a PNG, JPEG or WebP picture")


def _pdf(source: Path) -> Iterator[Pixels]:
    try:
        document = pypdfium2.PdfDocument(source)
        count = len(document)
    except pypdfium2.PdfiumError as error:
        if "assword" in str(error):
            raise MediaError("this PDF asks for a password; save it without one") from error
        raise MediaError("this PDF cannot be read: it is damaged, or no PDF") from error
    if not 1 <= count <= MOST_PAGES:
        raise MediaError(f"this PDF has {count} pages; 1 to {MOST_PAGES} can be shown")
    for number in range(count):
        try:
            page = document[number]
            width, height = page.get_size()
            if not (0 < width < 100_000 and 0 < height < 100_000):
                raise MediaError(f"page {number + 1} of this PDF has no size that can be shown")
            scale = min(WIDTH / width, HEIGHT / height)
            if scale * min(width, height) < 8:
                raise MediaError(f"page {number + 1} of this PDF is too narrow to be shown")
            bitmap = page.render(scale=scale, prefer_bgrx=True)
            pixels: Pixels = np.ascontiguousarray(bitmap.to_numpy()[:, :, :3])
        except pypdfium2.PdfiumError as error:
            raise MediaError(f"page {number + 1} of this PDF cannot be drawn") from error
        yield pixels
        page.close()


def _picture(source: Path, pipe: str) -> Pixels:
    try:
        with av.open(str(source), format=pipe) as container:
            stream = container.streams.video[0]
            if stream.width * stream.height > MOST_PIXELS:
                raise MediaError(
                    f"this picture has {stream.width} x {stream.height} pixels, "
                    f"more than {MOST_PIXELS // 1_000_000} million"
                )
            frame = next(container.decode(stream))
    except (av.FFmpegError, StopIteration, IndexError, ValueError) as error:
        raise MediaError("this picture cannot be read: it is damaged") from error
    turns = round(frame.rotation / 90) % 4
    shown = (frame.height, frame.width) if turns % 2 else (frame.width, frame.height)
    scale = min(WIDTH / shown[0], HEIGHT / shown[1], 1.0)
    width, height = (max(2, round(one * scale)) for one in (frame.width, frame.height))
    small = frame.reformat(width=width, height=height, format="bgr24")
    return np.ascontiguousarray(np.rot90(small.to_ndarray(), turns))


def encode(pixels: Pixels) -> bytes:
    """A WebP picture: lossless, or lossy where that is smaller; MediaError."""
    frame = VideoFrame.from_ndarray(pixels, format="bgr24")
    plainer = VideoFrame.from_ndarray(plain_edges(pixels), format="bgr24")
    best = _webp(plainer, "bgra", {"lossless": "1", "compression_level": "4", "quality": "60"})
    for quality in QUALITIES:
        other = _webp(frame, "yuv420p", {"quality": str(quality), "compression_level": "4"})
        best = min(best, other, key=len)
        if len(best) <= MOST_BYTES:
            return best
    raise MediaError(f"a page takes more than {MOST_BYTES // 1024} KB as a picture")


def plain_edges(pixels: Pixels) -> Pixels:
    """The same picture with 16 levels of each colour at its edges: letters take a third less.

    No point changes by more than 8 of 255, and none does whose neighbours are like it.
    """
    wide = pixels.astype(np.int16)
    across = (np.abs(np.diff(wide, axis=1)) > EDGE).any(axis=2)
    down = (np.abs(np.diff(wide, axis=0)) > EDGE).any(axis=2)
    edge = np.zeros(pixels.shape[:2], bool)
    edge[:, :-1] |= across
    edge[:, 1:] |= across
    edge[:-1] |= down
    edge[1:] |= down
    levels = ((wide + LEVEL // 2) // LEVEL * LEVEL).astype(np.uint8)
    return np.where(edge[:, :, None], levels, pixels)


def _webp(frame: VideoFrame, pixel_format: str, options: dict[str, str]) -> bytes:
    shaped = frame.reformat(format=pixel_format)
    codec: Any = av.CodecContext.create("libwebp", "w")
    codec.width, codec.height, codec.pix_fmt = shaped.width, shaped.height, pixel_format
    codec.time_base = Fraction(1, 25)
    codec.options = options
    shaped.pts, shaped.time_base = 0, Fraction(1, 25)
    return b"".join(bytes(one) for one in [*codec.encode(shaped), *codec.encode(None)])


def bound() -> None:
    """Bound what this process may use, before it looks at the file."""
    os.nice(NICENESS)
    for what, most in (
        (resource.RLIMIT_AS, MEMORY_BYTES),
        (resource.RLIMIT_CPU, CPU_S),
        (resource.RLIMIT_FSIZE, 2 * MOST_BYTES),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(what, (most, most))


def run(source: Path, folder: Path) -> None:
    """Write each page into the folder, and say so on standard output."""
    for pixels in pages(source):
        data = encode(pixels)
        digest = hashlib.sha256(data).hexdigest()
        path = folder / digest
        if path.exists():
            os.utime(path)  # As good as new: nobody sweeps it before it has its deck.
        else:
            part = folder / f".{digest}.part"
            part.write_bytes(data)
            part.replace(path)
        said = {
            "sha256": digest,
            "bytes": len(data),
            "width": pixels.shape[1],
            "height": pixels.shape[0],
        }
        sys.stdout.write(json.dumps({"page": said}) + "\n")
        sys.stdout.flush()


def main() -> int:
    """0 when all pages are made, 1 with a sentence on standard output."""
    job = json.loads(sys.stdin.readline())
    bound()
    try:
        run(Path(job["source"]), Path(job["folder"]))
    except MediaError as error:
        sys.stdout.write(json.dumps({"failed": str(error)}) + "\n")
        return 1
    except (MemoryError, av.error.MemoryError):
        sentence = "this file needs more memory than slides may use; make it simpler"
        sys.stdout.write(json.dumps({"failed": sentence}) + "\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
