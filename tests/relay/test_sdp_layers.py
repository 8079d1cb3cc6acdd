"""Layers in descriptions: of a browser or OBS, of a ladder, and between nodes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from relay import sdp
from relay.node import _egress_legs, _ingest_legs
from relay.sdp import Format, Layer, Leg, Setup
from tests.relay.test_sdp import H264, LOCAL, OPUS, VP8, answered, offer, offer_text

OFFERER = replace(LOCAL, setup=Setup.ACTPASS, ice_lite=False)
MADE = (Layer("q", 11, 12, 120_000), Layer("h", 21, 22, 400_000))


def test_obs_names_its_largest_layer_first_and_we_keep_the_smallest_first() -> None:
    audio, video = _ingest_legs(offer("obs-simulcast"), {})
    assert audio is not None
    assert video is not None
    assert video.format.codec == "H264"
    assert video.layers == (Layer("2"), Layer("1"), Layer("0"))
    assert set(video.extensions) == {1, 2}


def test_obs_is_told_that_all_its_layers_are_taken() -> None:
    """It counts the names in the answer's a=simulcast, and gives up when some are missing."""
    description = offer("obs-simulcast")
    legs = _ingest_legs(description, {})
    text = sdp.write_answer(description, legs, LOCAL, "class", 1)
    lines = text.split("\r\n")
    assert "a=simulcast:recv 2;1;0" in lines
    assert [n for n in lines if n.startswith("a=rid:")] == [
        "a=rid:2 recv", "a=rid:1 recv", "a=rid:0 recv",
    ]  # fmt: skip
    assert "a=extmap:2 urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id" in lines
    answered(description, legs)


@pytest.mark.parametrize(
    ("line", "instead"),
    [
        pytest.param("a=simulcast:send 0;1;2\r\n", "", id="rids without a=simulcast"),
        pytest.param("a=rid:0 send\r\na=rid:1 send\r\na=rid:2 send\r\n", "", id="no rids"),
        pytest.param("0;1;2", "0", id="one layer"),
        pytest.param(
            "a=extmap:2 urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id\r\n", "",
            id="packets that would not say which layer they are of",
        ),
    ],
)  # fmt: skip
def test_what_is_no_simulcast_is_one_picture(line: str, instead: str) -> None:
    before = offer_text("obs-simulcast")
    text = before.replace(line, instead)
    assert text != before
    _, video = _ingest_legs(sdp.parse(text), {})
    assert video is not None
    assert video.layers == ()


@pytest.mark.parametrize("codec", ["H264", "VP8"])
def test_a_ladder_gets_the_picture_on_one_line_and_sends_its_layers_on_the_other(
    codec: str,
) -> None:
    """The node answers with the codec of its stream; both sides read the same numbers."""
    described = H264 if codec == "H264" else VP8
    description = sdp.parse(sdp.write_ladder_offer(OFFERER, MADE, "class", 1))
    sdp.check_transport(description)
    (picture, nothing), (neither, made) = (
        _egress_legs(description, {"video": described}),
        _ingest_legs(description, {"video": codec}),
    )
    assert (nothing, neither) == (None, None)
    assert picture is not None
    assert made is not None
    assert (picture.format.codec, made.format.codec) == (codec, codec)
    assert made.layers == MADE
    legs: list[Leg | None] = [replace(picture, ssrc=7, rtx_ssrc=8), replace(made, ssrc=0)]
    answer = sdp.parse(sdp.write_answer(description, legs, LOCAL, "class", 2))
    theirs, ours = sdp.accepted_legs(answer)
    assert (theirs.format.codec, theirs.ssrc, theirs.rtx_ssrc) == (codec, 7, 8)
    assert theirs.rtx_type >= 0
    assert (ours.format.codec, ours.ssrc) == (codec, 0)
    assert ours.payload_type == made.payload_type


def test_a_codec_that_a_ladder_cannot_make_is_not_agreed_on() -> None:
    description = sdp.parse(sdp.write_ladder_offer(OFFERER, MADE, "class", 1))
    assert _egress_legs(description, {"video": Format("video", "VP9")}) == [None, None]


@pytest.mark.parametrize(
    "name", ["chromium-publisher", "firefox-publisher", "obs-publisher", "obs-simulcast"]
)
def test_a_publisher_is_told_to_go_on_with_in_band_repair_of_opus(name: str) -> None:
    """An encoder adds it only when the answer says useinbandfec=1 (RFC 7587 section 6.1)."""
    description = offer(name)
    text = sdp.write_answer(description, _ingest_legs(description, {}), LOCAL, "class", 1)
    audio = sdp.parse(text).media[0]
    assert audio.codecs[0].name == "OPUS"
    assert audio.codecs[0].parameter("useinbandfec") == "1"


@pytest.mark.parametrize("name", ["chromium-viewer", "firefox-viewer"])
def test_a_viewer_is_told_that_opus_may_hold_in_band_repair(name: str) -> None:
    description = offer(name)
    legs = [
        leg and replace(leg, ssrc=1000 + i)
        for i, leg in enumerate(_egress_legs(description, {"audio": OPUS, "video": VP8}))
    ]
    audio = sdp.parse(sdp.write_answer(description, legs, LOCAL, "class", 1)).media[0]
    assert audio.codecs[0].parameter("useinbandfec") == "1"
