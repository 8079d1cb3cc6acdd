"""Offers of real peers, and what is answered; aiortc reads the answers as a peer would."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest
from aiortc.sdp import MediaDescription, SessionDescription
from hypothesis import given
from hypothesis import strategies as st

from relay import packet, sdp
from relay.node import _egress_legs, _ingest_legs
from relay.sdp import Description, Format, Leg, Local, SdpError, Setup
from tests.patience import PATIENCE

OFFERS = Path(__file__).parent / "offers"
PUBLISHERS = [
    "chromium-publisher",
    "firefox-publisher",
    "ffmpeg-publisher",
    "obs-publisher",
    "aiortc-publisher",
]
VIEWERS = ["chromium-viewer", "firefox-viewer", "aiortc-viewer"]

FINGERPRINT = ":".join(["AB"] * 32)
LOCAL = Local(
    "ourufrag", "ourpassword0123456789abc", FINGERPRINT, Setup.PASSIVE, (("192.0.2.1", 8710),)
)
OPUS = Format("audio", "OPUS", "minptime=10;useinbandfec=1")
VP8 = Format("video", "VP8")
H264 = Format("video", "H264", "packetization-mode=1;profile-level-id=42e01f")

RICH = ("nack", "nack pli", "ccm fir", "goog-remb")


def offer_text(name: str) -> str:
    """As the peer sent it, CR and LF included."""
    return (OFFERS / f"{name}.sdp").read_bytes().decode()


def offer(name: str) -> Description:
    return sdp.parse(offer_text(name))


def serve(description: Description, formats: list[Format]) -> list[Leg | None]:
    """What a node with these tracks would send on each m-line."""
    legs = _egress_legs(description, {f.kind: f for f in formats})
    return [
        leg and replace(leg, ssrc=1000 + i, rtx_ssrc=2000 + i if leg.rtx_type >= 0 else 0)
        for i, leg in enumerate(legs)
    ]


def answered(
    description: Description, legs: list[Leg | None], local: Local = LOCAL
) -> SessionDescription:
    """Our answer as aiortc reads it."""
    return SessionDescription.parse(sdp.write_answer(description, legs, local, "class", 1))


def codec_rows(media: MediaDescription) -> list[tuple[int | None, str, str]]:
    """Payload type, name and fmtp of an m-line's codecs."""
    return [
        (
            codec.payloadType,
            codec.name,
            ";".join(f"{k}={v}" for k, v in codec.parameters.items()),
        )
        for codec in media.rtp.codecs
    ]


# ---------------------------------------------------------------- publishers


@pytest.mark.parametrize(
    ("name", "preferred", "want"),
    [
        pytest.param(
            "chromium-publisher",
            "",
            [
                ("0", "OPUS", 111, -1, {1, 2, 4}, ()),
                ("1", "VP8", 96, 97, {2, 13, 4, 10, 11}, RICH),
            ],
            id="Chromium: its own first choice",
        ),
        pytest.param(
            "chromium-publisher",
            "H264",
            [
                ("0", "OPUS", 111, -1, {1, 2, 4}, ()),
                ("1", "H264", 102, 103, {2, 13, 4, 10, 11}, RICH),
            ],
            id="Chromium: the codec that the stream has already",
        ),
        pytest.param(
            "chromium-publisher",
            "AV1",
            [
                ("0", "OPUS", 111, -1, {1, 2, 4}, ()),
                ("1", "AV1", 45, 46, {2, 13, 4, 10, 11}, RICH),
            ],
            id="Chromium: AV1",
        ),
        pytest.param(
            "firefox-publisher",
            "",
            [("0", "OPUS", 109, -1, {1, 3}, ()), ("1", "VP8", 120, 124, {3, 4}, RICH)],
            id="Firefox with max-bundle: its video is bundle-only, port 0",
        ),
        pytest.param(
            "firefox-publisher",
            "H264",
            [("0", "OPUS", 109, -1, {1, 3}, ()), ("1", "H264", 126, 127, {3, 4}, RICH)],
            id="Firefox: H264 in packetization mode 1",
        ),
        pytest.param(
            "ffmpeg-publisher",
            "",
            [("0", "OPUS", 111, -1, set(), ()), ("1", "H264", 106, 105, set(), ("nack",))],
            id="FFmpeg: no header extensions, no keyframe requests",
        ),
        pytest.param(
            "obs-publisher",
            "VP8",
            [
                ("0", "OPUS", 111, -1, set(), ()),
                ("1", "H264", 96, -1, set(), ("nack", "nack pli", "goog-remb")),
            ],
            id="OBS: has only one codec, whatever the stream had before",
        ),
        pytest.param(
            "aiortc-publisher",
            "",
            [
                ("0", "OPUS", 96, -1, {1, 2}, ()),
                ("1", "VP8", 97, 98, {1, 3}, ("nack", "nack pli", "goog-remb")),
            ],
            id="aiortc",
        ),
    ],
)
def test_of_a_publisher_this_is_taken(
    name: str, preferred: str, want: list[tuple[str, str, int, int, set[int], tuple[str, ...]]]
) -> None:
    """Rows: mid, codec, payload type, RTX type, extension ids, feedback; all the peer's numbers."""
    legs = _ingest_legs(offer(name), {"video": preferred} if preferred else {})
    assert [
        (g.mid, g.format.codec, g.payload_type, g.rtx_type, set(g.extensions), g.feedback)
        for g in legs
        if g is not None
    ] == want


@pytest.mark.parametrize("name", PUBLISHERS)
def test_a_publishers_answer_is_a_whole_one(name: str) -> None:
    """One transport for all m-lines, in the peer's order and under its mids."""
    description = offer(name)
    answer = answered(description, _ingest_legs(description, {}))
    assert [g.items for g in answer.group if g.semantic == "BUNDLE"] == [["0", "1"]]
    assert [m.kind for m in answer.media] == [m.kind for m in description.media]
    for ours, theirs in zip(answer.media, description.media, strict=True):
        assert ours.port != 0
        assert ours.direction == "recvonly"
        assert ours.rtp.muxId == theirs.mid
        assert ours.rtcp_mux
        assert ours.ice is not None
        assert ours.ice.iceLite
        assert ours.ice.usernameFragment == "ourufrag"
        assert ours.ice.password == "ourpassword0123456789abc"
        assert [(c.ip, c.port, c.type) for c in ours.ice_candidates] == [
            ("192.0.2.1", 8710, "host")
        ]
        assert ours.ice_candidates_complete
        assert ours.dtls is not None
        assert [(f.algorithm, f.value) for f in ours.dtls.fingerprints] == [
            ("sha-256", FINGERPRINT)
        ]
        assert ours.ssrc == []
        offered = {c.payload_type for c in theirs.codecs}
        assert {c.payloadType for c in ours.rtp.codecs} <= offered
        for extension in ours.rtp.headerExtensions:
            assert theirs.extensions[extension.id] == extension.uri


@pytest.mark.parametrize(
    ("name", "setup", "role"),
    [
        ("chromium-publisher", "actpass", "server"),
        ("ffmpeg-publisher", "passive", "client"),
        ("obs-publisher", "actpass", "server"),
    ],
)
def test_who_begins_the_handshake_follows_from_the_offer(name: str, setup: str, role: str) -> None:
    """FFmpeg waits to be called: then we are the DTLS client."""
    description = offer(name)
    transport = sdp.check_transport(description)
    assert transport.setup == setup
    local = replace(LOCAL, setup=Setup.ACTIVE if setup == "passive" else Setup.PASSIVE)
    answer = answered(description, _ingest_legs(description, {}), local)
    assert {m.dtls.role for m in answer.media if m.dtls} == {role}


def test_transport_lines_of_the_session_hold_for_every_section() -> None:
    """libdatachannel (OBS) writes ufrag, password, setup and fingerprint once, at the top."""
    transport = sdp.check_transport(offer("obs-publisher"))
    assert transport.ufrag == "Bc3k"
    assert transport.password == "fYp9vJ0NzHx5uSx2kq7sWm"
    assert transport.setup == "actpass"
    assert transport.fingerprints[0][0] == "sha-256"


@pytest.mark.parametrize(
    ("name", "audio", "video"),
    [
        ("chromium-publisher", [2684204598], [1687819981]),
        ("firefox-publisher", [2134712011], [1877203319]),
        ("ffmpeg-publisher", [2987332921], [2987332922]),
        ("obs-publisher", [3042193421], [3042193422]),
        ("aiortc-publisher", [905938257], [1213497024]),
    ],
)
def test_the_ssrc_that_carries_media_is_told_from_its_repair(
    name: str, audio: list[int], video: list[int]
) -> None:
    """Whatever the order of ssrc and ssrc-group lines is."""
    first, second = offer(name).media
    assert first.primary_ssrcs == audio
    assert second.primary_ssrcs == video


# ---------------------------------------------------------------- viewers


@pytest.mark.parametrize(
    ("name", "video", "want"),
    [
        pytest.param(
            "chromium-viewer",
            VP8,
            [(96, "VP8", ""), (97, "rtx", "apt=96")],
            id="Chromium, VP8",
        ),
        pytest.param(
            "chromium-viewer",
            H264,
            [
                (
                    108,
                    "H264",
                    "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f",
                ),
                (109, "rtx", "apt=108"),
            ],
            id="Chromium, H264: its own line for the publisher's profile",
        ),
        pytest.param(
            "chromium-viewer",
            Format("video", "H264", "packetization-mode=1;profile-level-id=4d0028"),
            [
                (
                    116,
                    "H264",
                    "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=4d001f",
                ),
                (117, "rtx", "apt=116"),
            ],
            id="Chromium, H264 main profile",
        ),
        pytest.param(
            "chromium-viewer",
            Format("video", "H264", "packetization-mode=1;profile-level-id=640028"),
            [
                (
                    102,
                    "H264",
                    "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42001f",
                ),
                (103, "rtx", "apt=102"),
            ],
            id="Chromium, H264 high profile: none fits, its first in mode 1 is taken",
        ),
        pytest.param(
            "chromium-viewer",
            Format("video", "VP9"),
            [(98, "VP9", "profile-id=0"), (99, "rtx", "apt=98")],
            id="Chromium, VP9",
        ),
        pytest.param(
            "chromium-viewer",
            Format("video", "AV1"),
            [(45, "AV1", "level-idx=5;profile=0;tier=0"), (46, "rtx", "apt=45")],
            id="Chromium, AV1",
        ),
        pytest.param(
            "firefox-viewer",
            H264,
            [
                (
                    126,
                    "H264",
                    "profile-level-id=42e01f;level-asymmetry-allowed=1;packetization-mode=1",
                ),
                (127, "rtx", "apt=126"),
            ],
            id="Firefox, H264",
        ),
        pytest.param(
            "aiortc-viewer",
            H264,
            [
                (
                    101,
                    "H264",
                    "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f",
                ),
                (102, "rtx", "apt=101"),
            ],
            id="aiortc, H264",
        ),
    ],
)
def test_a_viewer_gets_the_video_under_its_own_numbers(
    name: str, video: Format, want: list[tuple[int, str, str]]
) -> None:
    """Rows: payload type, codec, parameters; a browser wants its own parameters back."""
    description = offer(name)
    answer = answered(description, serve(description, [OPUS, video]))
    assert codec_rows(answer.media[1]) == want


@pytest.mark.parametrize("name", VIEWERS)
def test_a_viewers_answer_is_a_whole_one(name: str) -> None:
    """What is sent has its SSRCs, the repair of the picture too, and belongs to one stream."""
    description = offer(name)
    answer = answered(description, serve(description, [OPUS, VP8]))
    audio, video = answer.media
    assert [m.direction for m in answer.media] == ["sendonly", "sendonly"]
    assert [s.ssrc for s in audio.ssrc] == [1000]
    assert {s.ssrc for s in video.ssrc} == {1001, 2001}
    assert [(g.semantic, g.items) for g in video.ssrc_group] == [("FID", [1001, 2001])]
    assert {s.cname for m in answer.media for s in m.ssrc} == {"class"}
    assert (audio.msid or "").split()[0] == (video.msid or "").split()[0] == "class"
    assert "nack" in {f"{f.type}" for c in video.rtp.codecs for f in c.rtcpFeedback}
    theirs = {n: uri for m in description.media for n, uri in m.extensions.items()}
    for media in answer.media:
        assert {e.uri for e in media.rtp.headerExtensions} <= {
            packet.ABS_SEND_TIME,
            packet.AUDIO_LEVEL,
            packet.VIDEO_ORIENTATION,
        }
        for extension in media.rtp.headerExtensions:
            assert theirs[extension.id] == extension.uri


def test_a_stream_without_sound_leaves_the_audio_section_refused() -> None:
    """A refused m-line keeps its place with port 0 and stays out of the bundle."""
    description = offer("chromium-viewer")
    answer = answered(description, serve(description, [VP8]))
    audio, video = answer.media
    assert (audio.kind, audio.port, audio.direction) == ("audio", 0, "inactive")
    assert video.port != 0
    assert [g.items for g in answer.group] == [["1"]]


@pytest.mark.parametrize(
    ("change", "want"),
    [
        pytest.param(("a=recvonly", "a=sendonly"), [None, None], id="the viewer wants to send"),
        pytest.param(("a=recvonly", "a=inactive"), [None, None], id="inactive"),
        pytest.param(("a=recvonly", "a=sendrecv"), [111, 96], id="both ways is good enough"),
        pytest.param(("VP8/90000", "VP7/90000"), [111, None], id="a codec that it lacks"),
        pytest.param(("opus/48000", "opus/44100"), [None, 96], id="another clock rate"),
        pytest.param(
            ("m=video 9 ", "m=video 0 "), [111, None], id="a section that is switched off"
        ),
        pytest.param(
            ("m=video 9 ", "m=text 9 "), [111, None], id="a kind of media that we do not know"
        ),
        pytest.param(("a=extmap:2 ", "a=extmap:15 "), [111, 96], id="ids beyond the one-byte form"),
    ],
)
def test_sections_that_do_not_fit_are_refused(
    change: tuple[str, str], want: list[int | None]
) -> None:
    """Payload types that are sent on each m-line of a changed Chromium offer, None if refused."""
    description = sdp.parse(offer_text("chromium-viewer").replace(*change))
    legs = serve(description, [OPUS, VP8])
    assert [leg and leg.payload_type for leg in legs] == want
    assert all(max(leg.extensions, default=0) <= 14 for leg in legs if leg)
    answer = answered(description, legs)
    assert [bool(m.port) for m in answer.media] == [bool(leg) for leg in legs]


def test_a_second_section_of_a_kind_and_a_data_channel_are_refused() -> None:
    """A stream has one picture and one sound; the others keep their place."""
    text = offer_text("chromium-viewer")
    at = text.index("m=video")
    second = text[at:].replace("a=mid:1", "a=mid:2")
    data = (
        "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\n"
        "a=ice-ufrag:n7Uj\r\na=ice-pwd:/DGpSLyGwgdmCQcaOpmVLgmN\r\na=setup:actpass\r\n"
        "a=mid:3\r\na=sctp-port:5000\r\n"
    )
    description = sdp.parse(text.replace("BUNDLE 0 1", "BUNDLE 0 1 2 3") + second + data)
    answer = answered(description, serve(description, [OPUS, VP8]))
    assert [(m.kind, bool(m.port)) for m in answer.media] == [
        ("audio", True),
        ("video", True),
        ("video", False),
        ("application", False),
    ]
    assert [g.items for g in answer.group] == [["0", "1"]]


def test_line_ends_may_be_bare_line_feeds() -> None:
    """RFC 8866 section 5 asks for tolerance here."""
    for name in PUBLISHERS + VIEWERS:
        assert sdp.parse(offer_text(name).replace("\r\n", "\n")) == offer(name)


# ---------------------------------------------------------------- nodes among themselves


@pytest.mark.parametrize(
    "video",
    [VP8, H264, Format("video", "VP9", "profile-id=0"), Format("video", "AV1", "profile=0")],
)
def test_a_pull_tells_the_child_what_the_parent_has(video: Format) -> None:
    """Offer of the child, answer of the parent, and what the child makes of it."""
    child = replace(LOCAL, setup=Setup.ACTPASS, ice_lite=False)
    text = sdp.write_pull_offer(child, 7)
    SessionDescription.parse(text)
    description = sdp.parse(text)
    sdp.check_transport(description)
    legs = serve(description, [OPUS, video])
    answer = sdp.parse(sdp.write_answer(description, legs, LOCAL, "class", 1))
    assert answer.ice_lite
    audio_leg, video_leg = sdp.accepted_legs(answer)
    assert (audio_leg.format.codec, audio_leg.ssrc, audio_leg.rtx_ssrc) == ("OPUS", 1000, 2000)
    assert video_leg.format.codec == video.codec
    assert (video_leg.ssrc, video_leg.rtx_ssrc) == (1001, 2001)
    assert video_leg.rtx_type == video_leg.payload_type + 1
    assert packet.ABS_SEND_TIME in video_leg.extensions.values()
    if video.codec == "H264":
        assert video_leg.format.fmtp == video.fmtp


def test_a_push_keeps_its_tracks_and_numbers() -> None:
    """Offer of the child, which SSRCs the parent reads in it, and what was agreed."""
    child = replace(LOCAL, setup=Setup.ACTPASS, ice_lite=False)
    offered = [sdp.node_leg("0", OPUS, ssrc=11), sdp.node_leg("1", H264, ssrc=22, rtx_ssrc=33)]
    text = sdp.write_push_offer(child, offered, "class", 7)
    read = SessionDescription.parse(text)
    assert [m.direction for m in read.media] == ["sendonly", "sendonly"]
    description = sdp.parse(text)
    assert [m.primary_ssrcs for m in description.media] == [[11], [22]]
    legs = _ingest_legs(description, {})
    assert [leg and leg.format for leg in legs] == [OPUS, H264]
    answer = sdp.parse(sdp.write_answer(description, legs, LOCAL, "class", 1))
    agreed = sdp.accepted_legs(answer, offered)
    assert [(g.format, g.ssrc, g.rtx_ssrc) for g in agreed] == [(OPUS, 11, 0), (H264, 22, 33)]


def test_an_answer_that_does_not_follow_the_offer_is_refused() -> None:
    """A parent that answers with other sections than were offered is at fault."""
    answer = sdp.parse(offer_text("chromium-viewer"))
    with pytest.raises(SdpError, match="does not follow our offer"):
        sdp.accepted_legs(answer, [sdp.node_leg("0", VP8, 1, 2), sdp.node_leg("1", OPUS, 3)])


# ---------------------------------------------------------------- what is wrong

AUDIO = (
    "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n"
    "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\na=ice-ufrag:abcd\r\n"
    "a=ice-pwd:abcdefghijklmnopqrstuv\r\na=fingerprint:sha-256 AB:CD\r\na=setup:actpass\r\n"
    "a=rtcp-mux\r\na=rtpmap:111 opus/48000/2\r\n"
)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param("", "does not begin with v=0", id="empty"),
        pytest.param("<html></html>", "does not begin with v=0", id="a page"),
        pytest.param("v=0\r\ns=-\r\n", "has no m-line", id="no m-line"),
        pytest.param("v=0\r\nm=audio 9\r\n", "'m=audio 9' is cut short", id="cut m-line"),
        pytest.param(
            "v=0\r\nm=audio x UDP/TLS/RTP/SAVPF 0\r\n", "port of an m-line is not", id="bad port"
        ),
        pytest.param(
            "v=0\r\nm=audio 70000 UDP/TLS/RTP/SAVPF 0\r\n", "out of range: 70000", id="high port"
        ),
        pytest.param(
            "v=0\r\nm=audio 9 RTP/AVP 0\r\n", "must use UDP/TLS/RTP/SAVPF", id="plain RTP"
        ),
        pytest.param(
            "v=0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 128\r\n", "payload type is out of", id="type 128"
        ),
        pytest.param(
            "v=0\r\nm=audio 9 UDP/TLS/RTP/SAVPF ²\r\n", "payload type is not a", id="no digit"
        ),
        pytest.param(AUDIO + "a=ssrc:4294967296\r\n", "an ssrc is out of range", id="ssrc"),
        pytest.param(AUDIO + "a=ssrc:x\r\n", "an ssrc is not a number: 'x'", id="ssrc in letters"),
        pytest.param(AUDIO + "a=extmap:0 urn:x\r\n", "an extension id is out of", id="id 0"),
        pytest.param(
            AUDIO + "a=rtpmap:111 opus/0\r\n", "a clock rate is out of range", id="rate 0"
        ),
        pytest.param("v=0\r\n" + "a=x\r\n" * 2000, "more than 2000 lines", id="many lines"),
        pytest.param("v=0\r\n" + "a" * 65536, "longer than 65536 bytes", id="long"),
        pytest.param("v=0\r\n" + "m=x 9 y z\r\n" * 33, "more than 32 m-lines", id="many m-lines"),
        pytest.param(
            "v=0\r\nm=video 9 UDP/TLS/RTP/SAVPF" + " 96" * 200 + "\r\n",
            "more than 128 payload types",
            id="many payload types",
        ),
    ],
)
def test_what_is_no_description_is_refused_with_a_reason(text: str, reason: str) -> None:
    """The sentence goes to whoever sent it."""
    with pytest.raises(SdpError) as caught:
        sdp.parse(text)
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        pytest.param(("a=ice-ufrag:abcd\r\n", ""), "a=ice-ufrag or", id="no ufrag"),
        pytest.param(("a=ice-ufrag:abcd", "a=ice-ufrag:abc"), "too short", id="short ufrag"),
        pytest.param(("abcdefghijklmnopqrstuv", "abc"), "too short", id="short password"),
        pytest.param(("a=ice-ufrag:abcd", "a=ice-ufrag:语文语文"), "a=ice-ufrag", id="no ice-char"),
        pytest.param(("a=fingerprint:sha-256 AB:CD\r\n", ""), "a=fingerprint is", id="no print"),
        pytest.param(("sha-256", "md5"), "sha-256, sha-384 or sha-512", id="weak fingerprint"),
        pytest.param(("a=setup:actpass\r\n", ""), "a=setup must be", id="no setup"),
        pytest.param(("actpass", "holdconn"), "a=setup must be", id="unknown setup"),
        pytest.param(
            ("a=rtcp-mux\r\n", ""), "a=rtcp-mux is missing in the audio", id="no rtcp-mux"
        ),
    ],
)
def test_a_transport_that_cannot_be_used_is_refused_with_a_reason(
    change: tuple[str, str], reason: str
) -> None:
    """Each row takes one thing away that the connection needs."""
    sdp.check_transport(sdp.parse(AUDIO))
    with pytest.raises(SdpError) as caught:
        sdp.check_transport(sdp.parse(AUDIO.replace(*change)))
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    "group",
    [
        pytest.param("", id="no group"),
        pytest.param("a=group:BUNDLE\r\n", id="an empty group"),
        pytest.param("a=group:BUNDLE 0\r\n", id="a group that leaves one out"),
        pytest.param("a=group:LS 0 1\r\n", id="another kind of group"),
    ],
)
def test_media_on_two_transports_is_refused(group: str) -> None:
    """All of a peer shares one association."""
    second = AUDIO[AUDIO.index("m=audio") :].replace("mid:0", "mid:1").replace("audio", "video")
    text = AUDIO.replace("a=group:BUNDLE 0\r\n", group) + second
    with pytest.raises(SdpError, match="must share one transport"):
        sdp.check_transport(sdp.parse(text))


# ---------------------------------------------------------------- anything at all


def through(text: str) -> None:
    """Everything that a node does with an offer; raises SdpError or nothing."""
    try:
        description = sdp.parse(text)
        sdp.check_transport(description)
        both = [
            serve(description, [OPUS, H264]),
            [leg and replace(leg, ssrc=0) for leg in _ingest_legs(description, {"video": "VP8"})],
        ]
        for legs in both:
            again = sdp.parse(sdp.write_answer(description, legs, LOCAL, "class", 1))
            assert len(again.media) == len(description.media)
            sdp.accepted_legs(again)
            for leg in legs:
                if leg is not None:
                    packet.Shape.negotiated(leg.payload_type, leg.extensions)
    except SdpError:
        pass


ATTRIBUTES = [
    "mid",
    "ice-ufrag",
    "ice-pwd",
    "fingerprint",
    "setup",
    "rtpmap",
    "fmtp",
    "rtcp-fb",
    "extmap",
    "ssrc",
    "ssrc-group",
    "rid",
    "candidate",
    "group",
    "sendonly",
    "rtcp-mux",
    "bundle-only",
]


@st.composite
def spoilt_offers(draw: st.DrawFn) -> str:
    """A real offer with some lines cut, doubled, swapped, mixed or made up."""
    lines = offer_text(draw(st.sampled_from(PUBLISHERS + VIEWERS))).split("\r\n")
    other = offer_text(draw(st.sampled_from(PUBLISHERS + VIEWERS))).split("\r\n")
    for _ in range(draw(st.integers(1, 8))):
        at = draw(st.integers(0, len(lines) - 1))
        match draw(st.integers(0, 7)):
            case 0:
                del lines[at]
            case 1:
                lines.insert(at, lines[at])
            case 2:
                lines[at] = lines[at][: draw(st.integers(0, len(lines[at])))]
            case 3:
                lines[at] += draw(st.text(max_size=20))
            case 4:
                lines.insert(
                    at, f"a={draw(st.sampled_from(ATTRIBUTES))}:{draw(st.text(max_size=20))}"
                )
            case 5:
                lines.insert(at, draw(st.sampled_from(other)))
            case 6:
                words = lines[at].split(" ")
                words[draw(st.integers(0, len(words) - 1))] = draw(
                    st.sampled_from(["", "-1", "0", "65536", "4294967295", "1" * 30, "*", "²"])
                )
                lines[at] = " ".join(words)
            case 7:
                del lines[at + 1 :]
        if not lines:
            break
    return "\r\n".join(lines)


@pytest.mark.parametrize(
    "value", ["", ":", ": ", ":0", ":-1 x", ":²", ":* *", ":FID", ":1 2 3 4 5 6"]
)
def test_attributes_with_little_in_them_are_read_or_refused(value: str) -> None:
    """At the session's level and in a section: only SdpError comes out."""
    for name in ATTRIBUTES:
        through(AUDIO + f"a={name}{value}\r\n")
        through(AUDIO.replace("m=audio", f"a={name}{value}\r\nm=audio"))


@given(spoilt_offers())
def test_a_spoilt_offer_is_answered_or_refused(text: str) -> None:
    """Only SdpError comes out, and an answer that is written can be read."""
    through(text)


@given(st.text(max_size=300))
def test_any_text_is_read_or_refused(text: str) -> None:
    """Only SdpError comes out."""
    through("v=0\n" + text)


MANY = AUDIO.replace(" 111", "".join(f" {n}" for n in range(128)))


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(MANY + "a=rtcp-fb:* nack\r\n" * 1900, id="feedback for all"),
        pytest.param(MANY + "a=fmtp:127 apt=5\r\n" * 1900, id="parameters"),
        pytest.param(AUDIO + "".join(f"a=ssrc:{n}\r\n" for n in range(1900)), id="sources"),
        pytest.param(
            AUDIO + "".join(f"a=ssrc-group:FID {n} {n + 1}\r\n" for n in range(1900)), id="groups"
        ),
        pytest.param(
            AUDIO + "".join(f"a=fingerprint:sha-256 {n}\r\n" for n in range(1900)),
            id="fingerprints",
        ),
        pytest.param(
            "v=0\r\n"
            + "".join(f"a=fingerprint:sha-256 {n}\r\n" for n in range(1900))
            + "m=x 9 y z\r\n" * 32,
            id="fingerprints for all sections",
        ),
        pytest.param(AUDIO + "a=candidate:1 1 udp 1 h 9 typ host\r\n" * 1700, id="candidates"),
        pytest.param("v=0\r\n" + "m=x 9 y" + " z" * 30000 + "\r\n", id="formats"),
        pytest.param("v=0\r\na=group:BUNDLE" + " z" * 30000 + "\r\nm=x 9 y z", id="bundle"),
        pytest.param(AUDIO + "a=fmtp:111 " + ";" * 60000, id="an endless fmtp line"),
        pytest.param(AUDIO + "\n" * 60000, id="empty lines"),
        pytest.param(
            "v=0\r\nm=video 9 UDP/TLS/RTP/SAVPF"
            + " 9" * 16000
            + "\r\n"
            + "a=rtcp-fb:* x\r\n" * 1900,
            id="feedback for a row of payload types without end",
        ),
    ],
)
def test_the_most_expensive_descriptions_cost_little(text: str) -> None:
    """The loop that reads them also serves everybody else: a good deal less than a second."""
    assert len(text) < sdp.MAX_SIZE
    began = time.process_time()
    through(text)
    assert time.process_time() - began < 0.5 * PATIENCE
