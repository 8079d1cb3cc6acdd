"""The SDP of a bench client: an offer from a template, and the few lines of an answer that matter.

The offer carries what a browser's does for this media (BUNDLE, rtcp-mux, mid and abs-send-time
extensions, nack, pli, goog-remb), one codec per kind, and is complete: no trickle.
"""

import re
import secrets
from dataclasses import dataclass
from typing import Literal

AUDIO_PT, VIDEO_PT = 111, 96
MID_EXTENSION, TIME_EXTENSION = 1, 2

_CANDIDATE = re.compile(
    r"^a=candidate:\S+ 1 udp \d+ (\d+\.\d+\.\d+\.\d+) (\d+) typ host", re.IGNORECASE | re.MULTILINE
)
_FINGERPRINT = re.compile(r"^a=fingerprint:sha-256 ([0-9A-Fa-f:]+)", re.IGNORECASE | re.MULTILINE)
_FEEDBACK = ("nack", "nack pli", "ccm fir", "goog-remb")
_AUDIO = ("0", "audio", AUDIO_PT, "opus/48000/2", "minptime=10;useinbandfec=1", ())
_VIDEO = {
    "VP8": ("1", "video", VIDEO_PT, "VP8/90000", "", _FEEDBACK),
    "H264": (
        "1",
        "video",
        VIDEO_PT,
        "H264/90000",
        "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f",
        _FEEDBACK,
    ),
}


class AnswerError(Exception):
    """The answer lacks what a client needs to connect."""


@dataclass(frozen=True, slots=True)
class Local:
    """What one client says about itself."""

    ufrag: str
    pwd: str
    fingerprint: str
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Answer:
    """What a client needs from the node's answer.

    `node_is_client`: the node answered `a=setup:active`, so it starts the DTLS handshake.
    """

    ufrag: str
    pwd: str
    fingerprint: str
    node_is_client: bool
    address: tuple[str, int]


def new_local(fingerprint: str, host: str, port: int) -> Local:
    """Fresh ICE credentials for a socket bound to `host`, `port`."""
    return Local(secrets.token_hex(4), secrets.token_hex(12), fingerprint, host, port)


def offer(
    local: Local,
    direction: Literal["sendonly", "recvonly"],
    ssrcs: dict[str, int],
    video: str = "VP8",
) -> str:
    """A WHIP or WHEP offer. `ssrcs`: kind to SSRC, for what is sent; empty for a viewer.

    `video`: the one video codec that is offered, VP8 or H264.
    """
    lines = [
        "v=0",
        f"o=- {secrets.randbits(60)} 2 IN IP4 127.0.0.1",
        "s=-",
        "t=0 0",
        "a=group:BUNDLE 0 1",
        "a=extmap-allow-mixed",
        "a=msid-semantic: WMS",
    ]
    for mid, kind, number, encoding, fmtp, feedback in (_AUDIO, _VIDEO[video]):
        lines += [
            f"m={kind} {local.port} UDP/TLS/RTP/SAVPF {number}",
            f"c=IN IP4 {local.host}",
            f"a=candidate:1 1 udp 2130706431 {local.host} {local.port} typ host",
            "a=end-of-candidates",
            f"a=ice-ufrag:{local.ufrag}",
            f"a=ice-pwd:{local.pwd}",
            f"a=fingerprint:sha-256 {local.fingerprint}",
            "a=setup:actpass",
            f"a=mid:{mid}",
            f"a=extmap:{MID_EXTENSION} urn:ietf:params:rtp-hdrext:sdes:mid",
            f"a=extmap:{TIME_EXTENSION} http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time",
            f"a={direction}",
            "a=rtcp-mux",
            "a=rtcp-rsize",
        ]
        lines.append(f"a=rtpmap:{number} {encoding}")
        lines += [f"a=fmtp:{number} {fmtp}"] if fmtp else []
        lines += [f"a=rtcp-fb:{number} {value}" for value in feedback]
        if kind in ssrcs:
            lines += [f"a=msid:bench {kind}", f"a=ssrc:{ssrcs[kind]} cname:bench"]
    return "\r\n".join(lines) + "\r\n"


def parse_answer(text: str) -> Answer:
    """Read the node's answer; raises AnswerError with the name of what is missing."""
    candidates = _CANDIDATE.findall(text)
    if not candidates:
        raise AnswerError("the answer has no IPv4 UDP host candidate")
    loopback = [found for found in candidates if found[0].startswith("127.")]
    host, port = (loopback or candidates)[0]
    fingerprint = _FINGERPRINT.search(text)
    if fingerprint is None:
        raise AnswerError("the answer has no sha-256 fingerprint")
    return Answer(
        ufrag=_line(text, "ice-ufrag"),
        pwd=_line(text, "ice-pwd"),
        fingerprint=fingerprint[1].upper(),
        node_is_client=_line(text, "setup") == "active",
        address=(host, int(port)),
    )


def _line(text: str, name: str) -> str:
    found = re.search(rf"^a={name}:(\S+)", text, re.MULTILINE)
    if found is None:
        raise AnswerError(f"the answer has no a={name}")
    return found[1]
