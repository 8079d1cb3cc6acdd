"""The list of pieces: what fits together, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from media.manifest import Manifest

SHA = "ab" * 32


def document(**changes: Any) -> dict[str, Any]:
    """A rendition of 30 bytes: init 0-9, then two segments of 10 bytes and 4 s."""
    return {
        "course": "rice",
        "rendition": "480p",
        "codecs": "avc1.64001e,mp4a.40.2",
        "bitrate_bps": 600_000,
        "peak_bitrate_bps": 700_000,
        "width": 854,
        "height": 480,
        "duration_s": 8.0,
        "init": {"offset_bytes": 0, "size_bytes": 10, "sha256": SHA},
        "map_size_bytes": 8,
        "segments": [segment(0, 10, 0.0), segment(1, 20, 4.0)],
    } | changes


def segment(index: int, offset_bytes: int, start_s: float, **changes: Any) -> dict[str, Any]:
    return {
        "index": index,
        "offset_bytes": offset_bytes,
        "size_bytes": 10,
        "sha256": SHA,
        "start_s": start_s,
        "duration_s": 4.0,
    } | changes


def test_size_and_pieces_cover_the_file() -> None:
    manifest = Manifest.model_validate(document())
    assert manifest.size_bytes == 30
    assert [piece.offset_bytes for piece in manifest.pieces()] == [0, 10, 20]


@pytest.mark.parametrize(
    ("start", "end", "offsets"),
    [
        (0, 1, [0]),
        (9, 11, [0, 10]),
        (10, 20, [10]),
        (15, 30, [10, 20]),
        (29, 99, [20]),
        (30, 40, []),
    ],
)
def test_a_byte_range_names_its_pieces(start: int, end: int, offsets: list[int]) -> None:
    covering = Manifest.model_validate(document()).covering(start, end)
    assert [piece.offset_bytes for piece in covering] == offsets


@pytest.mark.parametrize(("moment_s", "index"), [(0.0, 0), (3.99, 0), (4.0, 1), (100.0, 1)])
def test_a_moment_names_its_segment(moment_s: float, index: int) -> None:
    assert Manifest.model_validate(document()).segment_at(moment_s).index == index


def test_a_hole_in_time_is_kept_as_it_is() -> None:
    manifest = Manifest.model_validate(
        document(duration_s=20.0, segments=[segment(0, 10, 0.0), segment(1, 20, 16.0)])
    )
    assert manifest.segment_at(10.0).index == 0


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"course": "../etc"}, "course"),
        ({"course": "a/b"}, "course"),
        ({"course": "rice\n"}, "course"),
        ({"rendition": ".."}, "rendition"),
        ({"rendition": "480p.mp4"}, "rendition"),
        ({"init": {"offset_bytes": 1, "size_bytes": 9, "sha256": SHA}}, "init does not begin"),
        ({"map_size_bytes": 11}, "map_size_bytes is larger"),
        ({"segments": []}, "segments"),
        ({"segments": [segment(0, 11, 0.0)]}, "segment 0 leaves a hole"),
        ({"segments": [segment(0, 9, 0.0)]}, "segment 0 leaves a hole"),
        ({"segments": [segment(1, 10, 0.0)]}, "segment 0 is numbered 1"),
        ({"segments": [segment(0, 10, 0.0), segment(1, 20, 3.0)]}, "begins before the one"),
        ({"segments": [segment(0, 10, 0.0, size_bytes=0)]}, "size_bytes"),
        ({"segments": [segment(0, 10, 0.0, size_bytes=1 << 40)]}, "size_bytes"),
        ({"segments": [segment(0, 10, 0.0, sha256="AB" * 32)]}, "sha256"),
        ({"segments": [segment(0, 10, 0.0, name="../../x")]}, "Extra inputs"),
        ({"segments": [segment(0, 10, float("nan"))]}, "start_s"),
        ({"duration_s": 7.0}, "duration_s is shorter"),
        ({"duration_s": float("inf")}, "duration_s"),
        ({"version": 2}, "version"),
        ({"codecs": "<script>"}, "codecs"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Manifest.model_validate(document(**changes))


@given(st.binary())
def test_bytes_that_are_no_manifest_are_refused(data: bytes) -> None:
    with pytest.raises(ValidationError):
        Manifest.model_validate_json(data)
