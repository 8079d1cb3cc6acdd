"""A course of random bytes, signed as a library signs, and a library's URLs that can misbehave."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from media import signed
from media.blob import Blob, rendition_blobs
from media.course import Attachment, Course, Rendition
from media.manifest import Manifest, Piece, Segment

SEGMENT_S = 4.0


@dataclass(frozen=True)
class Lesson:
    """One course with one rendition, as its library holds it; `files` by path."""

    key: Ed25519PrivateKey
    course: Course
    manifest: Manifest
    files: dict[str, bytes]

    @property
    def media_path(self) -> str:
        return f"/courses/{self.course.id}/{self.manifest.rendition}.mp4"

    @property
    def blobs(self) -> tuple[Blob, ...]:
        return rendition_blobs(self.manifest)

    def body(self, blob: Blob) -> bytes:
        """The right bytes of a blob."""
        whole = self.files[blob.path]
        start = blob.offset_bytes or 0
        return whole[start : start + blob.size_bytes] if blob.size_bytes else whole

    @property
    def size_bytes(self) -> int:
        return self.manifest.size_bytes


def lesson(
    course_id: str = "rice-1",
    *,
    segments: int = 6,
    segment_bytes: int = 20_000,
    key: Ed25519PrivateKey | None = None,
    seed: int = 1,
    revision: int = 1,
) -> Lesson:
    """A course of so many segments, each of about so many bytes."""
    chance, key = random.Random(seed), key or Ed25519PrivateKey.from_private_bytes(bytes(32))
    sizes = [round(segment_bytes * chance.uniform(0.8, 1.2)) for _ in range(segments)]
    bodies = [chance.randbytes(1200), *(chance.randbytes(size) for size in sizes)]
    offset, pieces = 0, []
    for body in bodies:
        pieces.append(
            Piece(
                offset_bytes=offset,
                size_bytes=len(body),
                sha256=hashlib.sha256(body).hexdigest(),
            )
        )
        offset += len(body)
    duration_s = segments * SEGMENT_S
    manifest = Manifest(
        course=course_id,
        rendition="240p",
        codecs="avc1.42c015,mp4a.40.2",
        bitrate_bps=round(8 * offset / duration_s),
        peak_bitrate_bps=round(8 * max(sizes) / SEGMENT_S),
        width=426,
        height=240,
        duration_s=duration_s,
        init=pieces[0],
        map_size_bytes=1000,
        segments=tuple(
            Segment(**piece.model_dump(), index=i, start_s=i * SEGMENT_S, duration_s=SEGMENT_S)
            for i, piece in enumerate(pieces[1:])
        ),
    )
    manifest_text = signed.sign(manifest, key, signed.MANIFEST).encode()
    poster = chance.randbytes(3000)
    course = Course(
        id=course_id,
        revision=revision,
        title="Rice, first class",
        created=datetime(2026, 5, 4, 8, tzinfo=UTC),
        duration_s=duration_s,
        renditions=(
            Rendition(
                name="240p",
                codecs=manifest.codecs,
                bitrate_bps=manifest.bitrate_bps,
                peak_bitrate_bps=manifest.peak_bitrate_bps,
                width=426,
                height=240,
                size_bytes=offset,
                manifest_sha256=hashlib.sha256(manifest_text).hexdigest(),
            ),
        ),
        poster=Attachment(
            file="poster.jpg", size_bytes=len(poster), sha256=hashlib.sha256(poster).hexdigest()
        ),
    )
    here = f"/courses/{course_id}"
    return Lesson(
        key,
        course,
        manifest,
        {
            f"{here}/course.jws": signed.sign(course, key, signed.COURSE).encode(),
            f"{here}/240p.manifest": manifest_text,
            f"{here}/240p.mp4": b"".join(bodies),
            f"{here}/poster.jpg": poster,
            "/api/courses": b'{"courses": []}',
        },
    )


@dataclass
class Library:
    """The library's side of the URLs: whole files, ranges, ETags; `spoil` and `cut` misbehave.

    spoil: paths whose next answer has one wrong byte. cut: for each path, after how many bytes its
    next answers break off. bytes and requests: what was sent, by path.
    """

    files: dict[str, bytes]
    url: str = ""
    spoil: Counter[str] = field(default_factory=Counter)
    cut: dict[str, list[int]] = field(default_factory=dict)
    mute: asyncio.Event | None = None
    status: int = 0
    """What everything is answered with, if not 0."""
    sent: Counter[str] = field(default_factory=Counter)
    ranges: list[tuple[str, str]] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Any path."""
        self.ranges.append((request.path, request.headers.get("Range", "")))
        if self.mute is not None:
            await self.mute.wait()
        if self.status:
            return web.Response(status=self.status, text="Not today.\n")
        body = self.files.get(request.path)
        if body is None:
            return web.Response(status=404, text="There is no such course.\n")
        etag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
        if request.headers.get("If-None-Match") == etag:
            return web.Response(status=304, headers={"ETag": etag})
        span, status, headers = request.http_range, 200, {"ETag": etag}
        part = body
        if "Range" in request.headers and request.headers.get("If-Range", etag) == etag:
            start, stop = span.start or 0, min(span.stop or len(body), len(body))
            if start >= len(body):
                return web.Response(status=416)
            part, status = body[start:stop], 206
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(body)}"
        if self.spoil[request.path]:
            self.spoil[request.path] -= 1
            part = bytes([part[0] ^ 1]) + part[1:]
        cuts = self.cut.get(request.path)
        response = web.StreamResponse(
            status=status, headers=headers | {"Content-Length": str(len(part))}
        )
        await response.prepare(request)
        if cuts:
            part = part[: cuts.pop(0)]
            await response.write(part)
            self.sent[request.path] += len(part)
            await asyncio.sleep(0)
            assert request.transport is not None
            request.transport.close()
            return response
        await response.write(part)
        self.sent[request.path] += len(part)
        return response


@asynccontextmanager
async def serving(app: web.Application) -> AsyncIterator[str]:
    """The app on a port that the system chooses; its URL."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        yield f"http://127.0.0.1:{port}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def library(*lessons: Lesson) -> AsyncIterator[Library]:
    """A running library with these courses."""
    files = {path: body for one in lessons for path, body in one.files.items()}
    found = Library(files)
    app = web.Application()
    app.router.add_get("/{path:.*}", found.answer)
    async with serving(app) as url:
        found.url = url
        yield found
