"""A course that really plays: moving picture and tone, signed and cut as its library would."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from datetime import UTC, datetime
from fractions import Fraction

import av
import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from media import signed
from media.course import Attachment, Course, Rendition
from media.manifest import Manifest, Piece, Segment
from tests.media.lessons import Lesson

FPS = 25
RATE = 48_000
SIZE = (320, 180)
SEGMENT_S = 2


def film(course_id: str, seconds: int, key: Ed25519PrivateKey) -> Lesson:
    """A course of an even number of seconds. Its picture is bright and changes with every frame."""
    boxes = list(_boxes(encoded(seconds)))
    first = next(i for i, (kind, _) in enumerate(boxes) if kind == b"moof")
    init = b"".join(data for kind, data in boxes[:first])
    bodies: list[bytes] = []
    for kind, data in boxes[first:]:
        if kind == b"moof":
            bodies.append(data)
        elif kind == b"mdat":
            bodies[-1] += data
    assert len(bodies) == seconds // SEGMENT_S
    pieces, offset = [], 0
    for body in (init, *bodies):
        digest = hashlib.sha256(body).hexdigest()
        pieces.append(Piece(offset_bytes=offset, size_bytes=len(body), sha256=digest))
        offset += len(body)
    manifest = Manifest(
        course=course_id,
        rendition="180p",
        codecs="avc1.42c00d,mp4a.40.2",
        bitrate_bps=8 * offset // seconds,
        peak_bitrate_bps=8 * max(map(len, bodies)) // SEGMENT_S,
        width=SIZE[0],
        height=SIZE[1],
        duration_s=seconds,
        init=pieces[0],
        map_size_bytes=len(init),
        segments=tuple(
            Segment(**one.model_dump(), index=i, start_s=i * SEGMENT_S, duration_s=SEGMENT_S)
            for i, one in enumerate(pieces[1:])
        ),
    )
    text = signed.sign(manifest, key, signed.MANIFEST).encode()
    poster = b"\xff\xd8\xff a poster \xff\xd9"
    course = Course(
        id=course_id,
        revision=1,
        title=course_id.replace("-", " "),
        created=datetime(2026, 5, 4, 8, tzinfo=UTC),
        duration_s=seconds,
        renditions=(
            Rendition(
                name="180p",
                codecs=manifest.codecs,
                bitrate_bps=manifest.bitrate_bps,
                peak_bitrate_bps=manifest.peak_bitrate_bps,
                width=SIZE[0],
                height=SIZE[1],
                size_bytes=offset,
                manifest_sha256=hashlib.sha256(text).hexdigest(),
            ),
        ),
        poster=Attachment(
            file="poster.jpg", size_bytes=len(poster), sha256=hashlib.sha256(poster).hexdigest()
        ),
    )
    here = f"/courses/{course_id}"
    files = {
        f"{here}/course.jws": signed.sign(course, key, signed.COURSE).encode(),
        f"{here}/180p.manifest": text,
        f"{here}/180p.mp4": b"".join([init, *bodies]),
        f"{here}/poster.jpg": poster,
    }
    return Lesson(key, course, manifest, files)


def encoded(seconds: int) -> bytes:
    """A fragmented MP4 with a fragment for every SEGMENT_S."""
    file = io.BytesIO()
    flags = {
        "movflags": "frag_keyframe+empty_moov+default_base_moof+skip_trailer",
    }
    with av.open(file, "w", format="mp4", options=flags) as out:
        picture = out.add_stream("libx264", rate=FPS)
        picture.width, picture.height = SIZE
        picture.pix_fmt = "yuv420p"
        picture.options = {
            "preset": "ultrafast", "profile": "baseline", "tune": "zerolatency",
            "g": str(SEGMENT_S * FPS), "sc_threshold": "0",
        }  # fmt: skip
        sound = out.add_stream("aac", rate=RATE, layout="mono")
        y, x = np.mgrid[0 : SIZE[1], 0 : SIZE[0]]
        image = np.zeros((SIZE[1], SIZE[0], 3), np.uint8)
        image[..., 0] = 60 + x * 180 // SIZE[0]
        image[..., 1] = 120 + y * 100 // SIZE[1]
        heard = 0
        for index in range(seconds * FPS):
            image[..., 2] = 80 + index * 7 % 150
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, FPS)
            out.mux(picture.encode(frame))
            while heard < (index + 1) * RATE // FPS:
                at = np.arange(heard, heard + 1024)
                tone = (0.1 * np.sin(2 * np.pi * 440 * at / RATE)).astype(np.float32)[None]
                part = av.AudioFrame.from_ndarray(tone, format="fltp", layout="mono")
                part.sample_rate, part.pts = RATE, heard
                heard += 1024
                out.mux(sound.encode(part))
        out.mux(picture.encode(None))
        out.mux(sound.encode(None))
    return file.getvalue()


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The boxes of the outermost level: their type and all their bytes."""
    at = 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        yield data[at + 4 : at + 8], data[at : at + size]
        at += size
