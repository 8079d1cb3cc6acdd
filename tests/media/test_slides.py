"""Slides become pictures; whatever somebody sends instead ends in a sentence, and soon."""

from __future__ import annotations

import hashlib
import os
import struct
import zlib
from pathlib import Path

import av
import numpy as np
import pytest

from media import slide_worker, slides
from media.errors import MediaError
from media.slide_worker import pages as _pages
from media.slides import Slides
from tests.media.papers import pdf


def png(width: int, height: int, rows: bytes | None = None) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    data = zlib.compress(rows if rows is not None else bytes((width + 1) * height))
    parts = chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


async def test_a_page_of_text_is_sharp_and_small(tmp_path: Path) -> None:
    kind, pages = await Slides(tmp_path).draw(pdf(3))
    assert kind == "application/pdf"
    assert [(one.width, one.height) for one in pages] == [(1600, 900)] * 3
    assert len({one.sha256 for one in pages}) == 3
    for one in pages:
        data = (tmp_path / one.sha256).read_bytes()
        assert hashlib.sha256(data).hexdigest() == one.sha256
        assert len(data) == one.size_bytes < 20_000
    (source := tmp_path / "source.pdf").write_bytes(pdf(1))
    drawn = next(slide_worker.pages(source))
    source.unlink()
    with av.open(str(tmp_path / pages[0].sha256)) as container:
        shown = next(container.decode(video=0)).to_ndarray(format="bgr24")
    off = np.abs(shown.astype(np.int16) - drawn)
    assert off.max() <= 8, "no eye sees it"
    assert off.any(axis=2).mean() < 0.1, "and that at the edges of letters alone"
    assert sorted(one.name for one in tmp_path.iterdir()) == sorted(p.sha256 for p in pages)


async def test_pages_that_no_deck_has_go_after_a_day(tmp_path: Path) -> None:
    one = Slides(tmp_path / "slides")
    assert await one.sweep(set()) == 0
    _, pages = await one.draw(pdf(3))
    paths = [one.folder / page.sha256 for page in pages]
    left, other = one.folder / ".upload-x", one.folder / "somebody-s.pdf"
    for path in (left, other):
        path.write_bytes(b"x")
    assert await one.sweep(set()) == 0, "they are young"
    for path in (*paths, left, other):
        os.utime(path, (0, 0))
    # The second page is sent once more: it is young again, whatever else has it.
    (source := tmp_path / "again.pdf").write_bytes(pdf(2))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(slide_worker, "pages", lambda _: [list(_pages(source))[1]])
        slide_worker.run(source, one.folder)
    assert await one.sweep({pages[0].sha256}) == 2
    assert sorted(one.folder.iterdir()) == sorted([paths[0], paths[1], other])


def test_a_gradient_keeps_all_its_levels() -> None:
    ramp = np.broadcast_to(np.arange(256, dtype=np.uint8)[None, :, None], (200, 256, 3)).copy()
    assert np.array_equal(slide_worker.plain_edges(ramp), ramp)
    ramp[50:60, 50:60] = 255
    changed = (slide_worker.plain_edges(ramp) != ramp).any(axis=2)
    assert changed.any()
    changed[49:61, 49:61] = False
    assert not changed.any()


async def test_a_picture_is_a_deck_of_one_page(tmp_path: Path) -> None:
    kind, pages = await Slides(tmp_path).draw(png(3200, 1000))
    assert kind == "image/png"
    assert [(one.width, one.height) for one in pages] == [(1600, 500)]


HOSTILE = {
    "nothing": (b"", "neither a PDF nor"),
    "a program": (b"\x7fELF" + bytes(500), "neither a PDF nor"),
    "no PDF behind its name": (b"%PDF-1.7\n" + bytes(5000), "cannot be read"),
    "a cut one": (pdf(5)[:300], "cannot be read"),
    "too many pages": (pdf(slide_worker.MOST_PAGES + 1), "can be shown"),
    "a page like a thread": (pdf(1, box="0 0 90000 2"), "too narrow"),
    "a bomb of a picture": (png(9000, 8000), "million"),
    "a cut picture": (png(800, 800)[:60], "cannot be read"),
    "no picture behind its name": (b"\xff\xd8\xff" + bytes(3000), "cannot be read"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
async def test_what_cannot_be_shown_ends_in_a_sentence(tmp_path: Path, name: str) -> None:
    data, sentence = HOSTILE[name]
    with pytest.raises(MediaError, match=sentence):
        await Slides(tmp_path).draw(data)
    assert not [one for one in tmp_path.iterdir() if one.name.startswith(".")]


async def test_a_page_that_draws_for_ever_is_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Millions of fat lines: each costs the renderer the whole page."""
    monkeypatch.setattr(slides, "WITHIN_S", 1.5)
    endless = "40 w 0 0 m 960 540 l S 0 540 m 960 0 l S\n" * 400_000
    with pytest.raises(MediaError, match=r"not drawn after|could not be drawn"):
        await Slides(tmp_path).draw(pdf(1, content=endless))
    # The next one is drawn as if nothing had been.
    monkeypatch.setattr(slides, "WITHIN_S", 60.0)
    assert (await Slides(tmp_path).draw(png(16, 9)))[1]
