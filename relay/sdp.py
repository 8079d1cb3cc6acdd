"""Offers and answers for WHIP and WHEP.

Every peer, browser, encoder or node, sends an offer; we answer it from its own numbers: its
payload types, its extension ids, its mids. An uplink is the other way round: we offer, the parent
answers. Only what a relay needs is read from a description (RFC 8866, RFC 8829), line by line and
bounded, because every byte of it comes from outside.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum

from relay import layers, packet

MAX_SIZE = 64 * 1024
MAX_LINES = 2000
MAX_MEDIA = 32
MAX_LAYERS = 4
# There are 128 payload types; more in one m-line only cost time.
MAX_FORMATS = 128
FORWARDED_VIDEO = ("H264", "VP8", "VP9", "AV1")
CLOCK_RATES = {"OPUS": 48000, "H264": 90000, "VP8": 90000, "VP9": 90000, "AV1": 90000}
# Keyframe requests and NACK keep a picture whole; REMB tells us what the line carries.
FEEDBACK = ("nack", "nack pli", "ccm fir", "goog-remb")
EXTENSIONS = {
    "audio": (packet.ABS_SEND_TIME, packet.AUDIO_LEVEL),
    "video": (packet.ABS_SEND_TIME, packet.VIDEO_ORIENTATION),
}
# A source also says with every packet which m-line it belongs to.
INGEST_EXTENSIONS = (packet.MID, packet.RID, packet.REPAIRED_RID)


class SdpError(ValueError):
    """The description cannot be used; the text says why, for the peer to read."""


class Setup(StrEnum):
    """Who begins the DTLS handshake (RFC 4145 section 4)."""

    ACTPASS = "actpass"
    ACTIVE = "active"
    PASSIVE = "passive"


@dataclass(slots=True)
class Codec:
    """One payload type of an m-line: rtpmap, fmtp and rtcp-fb together."""

    payload_type: int
    name: str
    clock_rate: int
    channels: int = 1
    fmtp: str = ""
    feedback: list[str] = field(default_factory=list)

    def parameter(self, key: str) -> str:
        """The value of one fmtp parameter, or an empty string."""
        for part in self.fmtp.split(";"):
            name, _, value = part.strip().partition("=")
            if name.lower() == key:
                return value.strip()
        return ""


@dataclass(slots=True)
class Media:
    """One m-line."""

    kind: str
    port: int
    protocol: str
    formats: list[str]
    mid: str = ""
    direction: str = "sendrecv"
    codecs: list[Codec] = field(default_factory=list)
    extensions: dict[int, str] = field(default_factory=dict)
    ssrcs: list[int] = field(default_factory=list)
    repair_of: dict[int, int] = field(default_factory=dict)
    rids: list[str] = field(default_factory=list)
    simulcast: list[str] = field(default_factory=list)
    simulcast_ssrcs: list[int] = field(default_factory=list)
    node_layers: list[Layer] = field(default_factory=list)
    ufrag: str = ""
    password: str = ""
    fingerprints: list[tuple[str, str]] = field(default_factory=list)
    setup: str = ""
    rtcp_mux: bool = False
    bundle_only: bool = False
    candidates: list[tuple[str, int]] = field(default_factory=list)

    @property
    def offered(self) -> bool:
        """Whether the m-line may be used: port 0 refuses it, but for a=bundle-only (RFC 8843 6)."""
        return self.port != 0 or self.bundle_only

    @property
    def primary_ssrcs(self) -> list[int]:
        """The SSRCs that carry media, without those that repeat another's packets."""
        return [ssrc for ssrc in self.ssrcs if ssrc not in self.repair_of]

    def rtx_of(self, payload_type: int) -> int:
        """The RTX payload type whose `apt` names this one (RFC 4588), or -1."""
        for codec in self.codecs:
            if codec.name == "RTX" and codec.parameter("apt") == str(payload_type):
                return codec.payload_type
        return -1

    def red_of(self, payload_type: int) -> int:
        """The payload type of redundant audio (RFC 2198) made of this one, or -1."""
        for codec in self.codecs:
            blocks = codec.fmtp.split("/")
            if codec.name == "RED" and codec.clock_rate == 48000 and str(payload_type) in blocks:
                return codec.payload_type
        return -1


@dataclass(slots=True)
class Description:
    """An offer or answer as far as a relay needs it."""

    media: list[Media]
    bundle: list[str]
    ice_lite: bool = False

    @property
    def transport(self) -> Media:
        """The m-line whose transport all share (the first of the BUNDLE group)."""
        for media in self.media:
            if media.ufrag and (not self.bundle or media.mid == self.bundle[0]):
                return media
        return self.media[0]


def _number(text: str, low: int, high: int, what: str) -> int:
    if not text.isascii() or not text.isdecimal() or len(text) > 10:
        raise SdpError(f"{what} is not a number: {text[:20]!r}")
    value = int(text)
    if not low <= value <= high:
        raise SdpError(f"{what} is out of range: {value}")
    return value


def parse(text: str) -> Description:
    """Read a description; raise SdpError with a sentence for the peer."""
    if len(text) > MAX_SIZE:
        raise SdpError(f"the description is longer than {MAX_SIZE} bytes")
    lines = text.splitlines()
    if not lines or lines[0].strip() != "v=0":
        raise SdpError("the body is no session description: it does not begin with v=0")
    if len(lines) > MAX_LINES:
        raise SdpError(f"the description has more than {MAX_LINES} lines")
    session = Media("session", 0, "", [])
    description = Description([], [])
    current = session
    for line in lines:
        if line.startswith("m="):
            if len(description.media) >= MAX_MEDIA:
                raise SdpError(f"the description has more than {MAX_MEDIA} m-lines")
            current = _media_line(line[2:].strip(), session)
            description.media.append(current)
        elif line.startswith("a="):
            name, _, value = line[2:].strip().partition(":")
            if name == "group":
                semantics, *mids = value.split() or [""]
                if semantics == "BUNDLE":
                    description.bundle = mids
            elif name == "ice-lite":
                description.ice_lite = True
            else:
                _attribute(current, name, value)
    if not description.media:
        raise SdpError("the description has no m-line")
    return description


def _media_line(value: str, session: Media) -> Media:
    parts = value.split()
    if len(parts) < 4:
        raise SdpError(f"the line 'm={value[:60]}' is cut short")
    port = _number(parts[1].partition("/")[0], 0, 65535, "the port of an m-line")
    media = Media(parts[0], port, parts[2], parts[3:])
    if len(media.formats) > MAX_FORMATS:
        raise SdpError(f"an m-line has more than {MAX_FORMATS} payload types")
    if media.kind in ("audio", "video"):
        if "RTP/SAVPF" not in media.protocol:
            raise SdpError(f"{media.kind} must use UDP/TLS/RTP/SAVPF, not {media.protocol[:40]}")
        for name in media.formats:
            media.codecs.append(Codec(_number(name, 0, 127, "a payload type"), "", 0))
    media.ufrag, media.password, media.setup = session.ufrag, session.password, session.setup
    media.fingerprints = list(session.fingerprints)
    media.direction = session.direction
    return media


def _attribute(media: Media, name: str, value: str) -> None:
    match name:
        case "mid":
            media.mid = value[:64]
        case "sendonly" | "recvonly" | "sendrecv" | "inactive":
            media.direction = name
        case "rtcp-mux":
            media.rtcp_mux = True
        case "bundle-only":
            media.bundle_only = True
        case "ice-ufrag":
            media.ufrag = value[:256]
        case "ice-pwd":
            media.password = value[:256]
        case "setup":
            media.setup = value.lower()
        case "fingerprint":
            algorithm, _, digest = value.partition(" ")
            if (algorithm.lower(), digest.strip().upper()) not in media.fingerprints:
                media.fingerprints.append((algorithm.lower(), digest.strip().upper()))
        case "rtpmap" | "fmtp" | "rtcp-fb":
            _codec_attribute(media, name, value)
        case "extmap":
            head, _, uri = value.partition(" ")
            number = _number(head.partition("/")[0], 1, 255, "an extension id")
            media.extensions[number] = uri.split()[0] if uri.split() else ""
        case "ssrc":
            ssrc = _number(value.partition(" ")[0], 0, 0xFFFFFFFF, "an ssrc")
            if ssrc not in media.ssrcs and len(media.ssrcs) < 32:
                media.ssrcs.append(ssrc)
        case "ssrc-group":
            semantics, *ssrcs = value.split() or [""]
            if semantics == "FID" and len(ssrcs) == 2:
                primary, repair = (_number(s, 0, 0xFFFFFFFF, "an ssrc") for s in ssrcs)
                media.repair_of[repair] = primary
            elif semantics == "SIM":
                chosen = ssrcs[:MAX_LAYERS]
                media.simulcast_ssrcs = [_number(s, 0, 0xFFFFFFFF, "an ssrc") for s in chosen]
        case "rid":
            name, _, direction = value.partition(" ")
            if direction.startswith("send") and len(media.rids) < 32:
                media.rids.append(name[:16])
        case "simulcast":
            _simulcast(media, value)
        case "x-terrace-layer":
            _node_layer(media, value)
        case "candidate":
            _candidate(media, value)


def _codec_attribute(media: Media, name: str, value: str) -> None:
    head, _, rest = value.partition(" ")
    chosen = [c for c in media.codecs if head == "*" or str(c.payload_type) == head]
    if name == "rtpmap" and chosen:
        encoding, _, rate = rest.strip().partition("/")
        rate, _, channels = rate.partition("/")
        codec = chosen[0]
        codec.name = encoding.upper()
        codec.clock_rate = _number(rate, 1, 10_000_000, "a clock rate")
        codec.channels = _number(channels, 1, 16, "a channel count") if channels else 1
    elif name == "fmtp" and chosen:
        chosen[0].fmtp = rest.strip()[:512]
    else:
        for codec in chosen:
            if len(codec.feedback) < 16:
                codec.feedback.append(rest.strip())


def _simulcast(media: Media, value: str) -> None:
    # send q;h;f recv ...: alternatives after a comma, ~ before what starts paused (RFC 8853)
    parts = value.split()
    for direction, streams in zip(parts[::2], parts[1::2], strict=False):
        if direction == "send":
            names = (alternatives.split(",")[0] for alternatives in streams.split(";"))
            media.simulcast = [name.lstrip("~")[:16] for name in names if name]


def _node_layer(media: Media, value: str) -> None:
    # what one node says to another: ssrc, rtx ssrc, bits a second, rid
    parts = value.split()
    if len(parts) == 4 and len(media.node_layers) < MAX_LAYERS:
        ssrc, rtx_ssrc, bitrate = (_number(p, 0, 0xFFFFFFFF, "a layer's number") for p in parts[:3])
        media.node_layers.append(Layer(parts[3][:16], ssrc, rtx_ssrc, bitrate))


def _candidate(media: Media, value: str) -> None:
    # foundation component transport priority address port typ kind (RFC 8839 section 5.1)
    parts = value.split()
    usable = len(parts) >= 8 and parts[1] == "1" and parts[2].lower() == "udp"
    if usable and len(media.candidates) < 32:
        media.candidates.append((parts[4], _number(parts[5], 0, 65535, "a candidate's port")))


# ---------------------------------------------------------------- what an offer may lead to


@dataclass(frozen=True, slots=True)
class Format:
    """How a track is encoded: what one node must tell the next one about it."""

    kind: str
    codec: str
    fmtp: str = ""

    @property
    def clock_rate(self) -> int:
        """RTP clock in Hz."""
        return CLOCK_RATES[self.codec]


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of a picture on an m-line. SSRCs are 0 where the packets' rid tells.

    `rid` names it; `bitrate_bps` is what a node says of it to another, 0 if it does not know, and
    `on_demand` whether it is made only while somebody watches it.
    """

    rid: str
    ssrc: int = 0
    rtx_ssrc: int = 0
    bitrate_bps: int = 0
    on_demand: bool = False


@dataclass(frozen=True, slots=True)
class Leg:
    """One track on one m-line of one peer: the numbers agreed with that peer.

    `extensions` maps the agreed ids to their URIs; `rtx_type` and `rtx_ssrc` are -1 and 0 where
    no retransmission payload was agreed. `ssrc` is what we send, or 0 when we receive.
    `red_type` is that of redundant audio, -1 where it was not offered. `layers` are the layers of a
    simulcast, the smallest first; without any there is one, `ssrc`.
    """

    mid: str
    format: Format
    payload_type: int
    extensions: dict[int, str]
    rtx_type: int = -1
    ssrc: int = 0
    rtx_ssrc: int = 0
    feedback: tuple[str, ...] = ()
    offered_fmtp: str = ""
    red_type: int = -1
    layers: tuple[Layer, ...] = ()

    def repair_of(self, ssrc: int) -> int:
        """The SSRC that repeats of a track go under, or 0."""
        return next((n.rtx_ssrc for n in self.layers if n.ssrc == ssrc), self.rtx_ssrc)

    def extension_id(self, uri: str) -> int:
        """The id agreed for an extension, or 0."""
        return next((number for number, name in self.extensions.items() if name == uri), 0)


@dataclass(frozen=True, slots=True)
class Local:
    """Our side of a transport, the same on every m-line."""

    ufrag: str
    password: str
    fingerprint: str
    setup: Setup
    candidates: tuple[tuple[str, int], ...]
    ice_lite: bool = True


def check_transport(description: Description) -> Media:
    """Return the shared transport of an offer or answer, or raise SdpError saying what it lacks."""
    transport = description.transport
    active = [m for m in description.media if m.offered]
    if len(active) > 1 and not description.bundle:
        raise SdpError("all media must share one transport: a=group:BUNDLE is missing")
    if len(active) > 1 and any(m.mid not in description.bundle for m in active):
        raise SdpError("all media must share one transport: a=group:BUNDLE leaves an m-line out")
    if len(transport.ufrag) < 4 or len(transport.password) < 22:
        raise SdpError("a=ice-ufrag or a=ice-pwd is missing or too short (RFC 8839)")
    if not (transport.ufrag + transport.password).isascii():
        raise SdpError("a=ice-ufrag or a=ice-pwd has characters that RFC 8839 does not allow")
    if not transport.fingerprints:
        raise SdpError("a=fingerprint is missing: only DTLS-SRTP is spoken here")
    known = {"sha-256", "sha-384", "sha-512"}
    if not any(algorithm in known for algorithm, _ in transport.fingerprints):
        raise SdpError("no a=fingerprint uses sha-256, sha-384 or sha-512")
    if transport.setup not in ("actpass", "active", "passive"):
        raise SdpError("a=setup must be actpass, active or passive (RFC 8842)")
    for media in description.media:
        if media.kind in ("audio", "video") and media.offered and not media.rtcp_mux:
            raise SdpError(f"a=rtcp-mux is missing in the {media.kind} section")
    return transport


def _profile(codec: Codec | Format) -> str:
    """The H264 profile of an fmtp line: profile-level-id without its level, or nothing."""
    for part in codec.fmtp.split(";"):
        name, _, value = part.strip().partition("=")
        if name.lower() == "profile-level-id":
            return value[:4].lower()
    return ""


def choose_ingest(media: Media, preferred: str = "") -> Codec | None:
    """The codec we take from a publisher: the preferred one, else its own first choice."""
    wanted = ("OPUS",) if media.kind == "audio" else FORWARDED_VIDEO
    known = [c for c in media.codecs if c.name in wanted and c.clock_rate == CLOCK_RATES[c.name]]
    for codec in known:
        if codec.name == preferred and codec.parameter("packetization-mode") != "0":
            return codec
    # A publisher that lists H264 in both packetization modes sends better in mode 1.
    for codec in known:
        if not (codec.name == "H264" and codec.parameter("packetization-mode") in ("", "0")):
            return codec
    return known[0] if known else None


def choose_egress(media: Media, wanted: Format) -> Codec | None:
    """The payload type of a viewer's offer that fits a track, the closest H264 profile first."""
    fitting = [
        c for c in media.codecs if c.name == wanted.codec and c.clock_rate == wanted.clock_rate
    ]
    if wanted.codec != "H264" or not fitting:
        return fitting[0] if fitting else None

    def distance(codec: Codec) -> tuple[bool, bool, bool]:
        mode = codec.parameter("packetization-mode") != "1"
        profile, ours = _profile(codec), _profile(wanted)
        # The constraint flags (second byte) count only between lines of the same profile.
        return (mode, bool(profile) and profile[:2] != ours[:2], profile != ours)

    return min(fitting, key=distance)


def offered_layers(media: Media) -> tuple[Layer, ...]:
    """The layers of a publisher's picture, the smallest first; none if it sends a single one.

    Told by another node, by a=simulcast with a=rid lines (RFC 8853), or by an ssrc-group.
    """
    if media.node_layers:
        return tuple(media.node_layers)
    rids = [r for r in dict.fromkeys(media.simulcast) if r in media.rids][:MAX_LAYERS]
    if len(rids) > 1 and packet.RID in media.extensions.values():
        return tuple(Layer(rid) for rid in layers.order(rids))
    if len(media.simulcast_ssrcs) > 1:
        repairs = {primary: repair for repair, primary in media.repair_of.items()}
        return tuple(
            Layer(f"s{index}", ssrc, repairs.get(ssrc, 0))
            for index, ssrc in enumerate(media.simulcast_ssrcs)
        )
    return ()


def agree(media: Media, codec: Codec, fmtp: str, uris: tuple[str, ...]) -> Leg:
    """What is agreed on one m-line once its codec is chosen."""
    return Leg(
        mid=media.mid,
        format=Format(media.kind, codec.name, fmtp),
        payload_type=codec.payload_type,
        extensions={n: uri for n, uri in media.extensions.items() if uri in uris and n <= 14},
        rtx_type=media.rtx_of(codec.payload_type),
        feedback=tuple(f for f in FEEDBACK if f in codec.feedback),
        offered_fmtp=codec.fmtp,
    )


# ---------------------------------------------------------------- writing

TRANSPORT = ("a=ice-ufrag", "a=ice-pwd", "a=fingerprint", "a=setup")


def _head(local: Local, bundle: list[str], session_id: int) -> list[str]:
    lines = ["v=0", f"o=- {session_id} 1 IN IP4 127.0.0.1", "s=-", "t=0 0"]
    if local.ice_lite:
        lines.append("a=ice-lite")
    if bundle:
        lines.append("a=group:BUNDLE " + " ".join(bundle))
    lines += ["a=extmap-allow-mixed", "a=msid-semantic: WMS *"]
    return lines


def _transport_lines(local: Local) -> list[str]:
    lines = [
        "c=IN IP4 0.0.0.0",
        "a=rtcp:9 IN IP4 0.0.0.0",
        f"a=ice-ufrag:{local.ufrag}",
        f"a=ice-pwd:{local.password}",
        f"a=fingerprint:sha-256 {local.fingerprint}",
        f"a=setup:{local.setup}",
    ]
    for number, (host, port) in enumerate(local.candidates, 1):
        priority = (126 << 24) | ((65535 - number) << 8) | 255
        lines.append(f"a=candidate:{number} 1 udp {priority} {host} {port} typ host")
    lines.append("a=end-of-candidates")
    return lines


def _codec_lines(leg: Leg, fmtp: str) -> list[str]:
    number, codec = leg.payload_type, leg.format.codec
    name = "opus/48000/2" if codec == "OPUS" else f"{codec}/{leg.format.clock_rate}"
    lines = [f"a=rtpmap:{number} {name}"]
    lines += [f"a=rtcp-fb:{number} {value}" for value in leg.feedback]
    if fmtp:
        lines.append(f"a=fmtp:{number} {fmtp}")
    if leg.rtx_type >= 0:
        lines.append(f"a=rtpmap:{leg.rtx_type} rtx/{leg.format.clock_rate}")
        lines.append(f"a=fmtp:{leg.rtx_type} apt={number}")
    if leg.red_type >= 0:
        lines.append(f"a=rtpmap:{leg.red_type} red/48000/2")
        lines.append(f"a=fmtp:{leg.red_type} {number}/{number}")
    return lines


def _ssrc_lines(leg: Leg, stream: str) -> list[str]:
    lines = [f"a=msid:{stream} {leg.format.kind}"]
    pairs = [(n.ssrc, n.rtx_ssrc) for n in leg.layers] or [(leg.ssrc, leg.rtx_ssrc)]
    if leg.layers:
        lines.append("a=ssrc-group:SIM " + " ".join(str(n.ssrc) for n in leg.layers))
        lines += [
            f"a=x-terrace-layer:{n.ssrc} {n.rtx_ssrc} {n.bitrate_bps} {n.rid}" for n in leg.layers
        ]
    lines += [f"a=ssrc-group:FID {ssrc} {repair}" for ssrc, repair in pairs if repair]
    for ssrc in (ssrc for pair in pairs for ssrc in pair):
        if ssrc:
            lines.append(f"a=ssrc:{ssrc} cname:{stream}")
            lines.append(f"a=ssrc:{ssrc} msid:{stream} {leg.format.kind}")
    return lines


def _section(leg: Leg, local: Local, direction: str, fmtp: str, stream: str) -> list[str]:
    """One m-line with everything below it."""
    types = [t for t in (leg.payload_type, leg.rtx_type, leg.red_type) if t >= 0]
    lines = [f"m={leg.format.kind} 9 UDP/TLS/RTP/SAVPF " + " ".join(map(str, types))]
    lines += _transport_lines(local)
    lines += [f"a=mid:{leg.mid}", f"a={direction}", "a=rtcp-mux", "a=rtcp-rsize"]
    lines += [f"a=extmap:{number} {uri}" for number, uri in sorted(leg.extensions.items())]
    lines += _codec_lines(leg, fmtp)
    if direction == "sendonly":
        lines += _ssrc_lines(leg, stream)
    rids = [n.rid for n in leg.layers if not n.ssrc]
    if direction == "recvonly" and rids:
        lines += [f"a=rid:{rid} recv" for rid in rids]
        lines.append("a=simulcast:recv " + ";".join(rids))
    return lines


def write_answer(
    offer: Description, legs: list[Leg | None], local: Local, stream: str, session_id: int
) -> str:
    """Answer an offer: one Leg, or None to refuse, for each of its m-lines in order.

    A leg with an ssrc is one that we send. A refused m-line keeps its place with port 0
    (RFC 8829 section 5.3.1).
    """
    bundle = [leg.mid for leg in legs if leg is not None and leg.mid]
    lines = _head(local, bundle, session_id)
    for media, leg in zip(offer.media, legs, strict=True):
        if leg is None:
            formats = " ".join(media.formats[:1]) or "0"
            lines += [f"m={media.kind} 0 {media.protocol} {formats}", "c=IN IP4 0.0.0.0"]
            lines += [f"a=mid:{media.mid}"] if media.mid else []
            # Some offerers want to find the transport in a refused section as well (aiortc).
            lines += [line for line in _transport_lines(local) if line.startswith(TRANSPORT)]
            lines += ["a=inactive"]
            continue
        # A browser wants its own parameters back. A node offers H264 without a profile, to be
        # told the publisher's.
        fmtp = leg.offered_fmtp
        if leg.format.codec == "H264" and not _profile(Codec(0, "", 0, 1, fmtp)):
            fmtp = leg.format.fmtp
        lines += _section(leg, local, "sendonly" if leg.ssrc else "recvonly", fmtp, stream)
    return "\r\n".join(lines) + "\r\n"


# The payload types and extension ids that a node offers to its parent.
NODE_TYPES = {"OPUS": 96, "H264": 98, "VP8": 100, "VP9": 102, "AV1": 104}
NODE_EXTENSIONS = {1: packet.ABS_SEND_TIME, 2: packet.AUDIO_LEVEL, 3: packet.VIDEO_ORIENTATION}


def node_leg(mid: str, fmt: Format, ssrc: int = 0, rtx_ssrc: int = 0) -> Leg:
    """A leg as a node offers it: fixed payload types, RTX for sound as well."""
    video = fmt.kind == "video"
    number = NODE_TYPES[fmt.codec]
    extensions = {n: u for n, u in NODE_EXTENSIONS.items() if u in EXTENSIONS[fmt.kind]}
    feedback = ("nack", "nack pli", "ccm fir") if video else ("nack",)
    return Leg(mid, fmt, number, extensions, number + 1, ssrc, rtx_ssrc, feedback, fmt.fmtp)


def write_pull_offer(local: Local, session_id: int) -> str:
    """What a node asks its parent with: one audio and one video section, every codec we forward."""
    lines = _head(local, ["0", "1"], session_id)
    lines += _section(node_leg("0", Format("audio", "OPUS")), local, "recvonly", "", "")
    legs = [node_leg("1", Format("video", codec)) for codec in FORWARDED_VIDEO]
    lines += _any_codec(legs, local, "recvonly", "")
    return "\r\n".join(lines) + "\r\n"


def _any_codec(legs: list[Leg], local: Local, direction: str, stream: str) -> list[str]:
    """One video section that leaves the choice of the codec to the node that answers.

    `legs` differ in nothing else; the first one is H264.
    """
    lines = _section(legs[0], local, direction, "packetization-mode=1", stream)
    types = " ".join(str(n) for leg in legs for n in (leg.payload_type, leg.rtx_type))
    lines[0] = f"m=video 9 UDP/TLS/RTP/SAVPF {types}"
    for leg in legs[1:]:
        lines += _codec_lines(leg, "")
    return lines


# What a ladder takes apart and makes: for the others there is no encoder that is quick enough.
LADDER_VIDEO = ("H264", "VP8")


def write_ladder_offer(local: Local, made: tuple[Layer, ...], stream: str, session_id: int) -> str:
    """What a ladder asks its node with: it takes the picture on one section, and sends the layers
    `made` of it on the other, the smallest first.
    """
    lines = _head(local, ["0", "1"], session_id)
    picture = [node_leg("0", Format("video", codec)) for codec in LADDER_VIDEO]
    lines += _any_codec(picture, local, "recvonly", "")
    layers = [replace(node_leg("1", Format("video", codec)), layers=made) for codec in LADDER_VIDEO]
    lines += _any_codec(layers, local, "sendonly", stream)
    return "\r\n".join(lines) + "\r\n"


def write_push_offer(local: Local, legs: list[Leg], stream: str, session_id: int) -> str:
    """What a node publishes to its parent with: the tracks it has, under the same SSRCs."""
    lines = _head(local, [leg.mid for leg in legs], session_id)
    for leg in legs:
        lines += _section(leg, local, "sendonly", leg.format.fmtp, stream)
    return "\r\n".join(lines) + "\r\n"


def accepted_legs(answer: Description, offered: list[Leg] | None = None) -> list[Leg]:
    """The legs that an answer to our own offer agrees to, in the order of its m-lines.

    `offered` are the legs of a push offer (their SSRCs are kept); None means a pull, whose codec
    and SSRCs the answer tells.
    """
    legs: list[Leg] = []
    for index, media in enumerate(answer.media):
        if not media.port or media.direction == "inactive" or media.kind not in EXTENSIONS:
            continue
        codec = next((c for c in media.codecs if c.name in CLOCK_RATES), None)
        if codec is None or codec.clock_rate != CLOCK_RATES[codec.name]:
            continue
        uris = EXTENSIONS[media.kind]
        leg = agree(media, codec, codec.fmtp, uris)
        if offered is not None:
            ours = offered[index] if index < len(offered) else None
            if ours is None or ours.format.kind != media.kind:
                raise SdpError("the parent's answer does not follow our offer")
            leg = replace(
                leg,
                format=ours.format,
                ssrc=ours.ssrc,
                rtx_ssrc=ours.rtx_ssrc,
                layers=ours.layers,
            )
        else:
            primary = media.primary_ssrcs
            repair = [r for r, p in media.repair_of.items() if primary and p == primary[0]]
            leg = replace(
                leg,
                ssrc=primary[0] if primary else 0,
                rtx_ssrc=repair[0] if repair else 0,
                layers=tuple(media.node_layers),
            )
        legs.append(leg)
    return legs
