"""The way out: FFmpeg's WHIP muxer, fed with packets that are ready for WebRTC.

The muxer makes the offer, ICE, DTLS, SRTP, the RTP packets and their repair (RTX from its
history). Facts about it (FFmpeg 8.1) that this file answers to:

- Built with GnuTLS it makes a certificate on the curve P-224, which OpenSSL 4 refuses: it gets one
  on P-256.
- While it connects it holds Python's interpreter lock, and it has no deadline for HTTP: it runs in
  a process of its own (`media/feeder.py`) and speaks HTTP only with `media/exchange.py`.
- FFmpeg's interleaver holds a packet back until it has one of each stream; with
  `max_interleave_delta` at its least it holds one packet, for 20 ms.
- It fails when the socket's buffer is full, so it gets a large one.
- As DTLS server, its own choice, it loses the first ClientHello, waits for ever when the handshake
  breaks off, and a resent last flight of the client leaves its socket blocking: from then on it
  sends one packet for each that it gets. So it is made the client.
- It does not understand that the node closes the session (close_notify): its socket blocks then
  too. The feeder has a deadline for every packet.
"""

from __future__ import annotations

import datetime
import io
import tempfile
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.bitstream import BitStreamFilterContext
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from .plan import VideoPlan
from .timeline import US, SoundLine

MICROSECOND = Fraction(1, US)
# Opus starts 312 samples before its first time stamp; RTP time starts at 0.
HEAD_START_US = 20_000
HANDSHAKE_TIMEOUT_MS = 5000


class Certificate:
    """A self-signed P-256 certificate and its key, as PEM; they live only in this process."""

    def __init__(self) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "terrace publish")])
        now = datetime.datetime.now(datetime.UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            # A day back: the clock of a box may be behind.
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=365))
            .sign(key, hashes.SHA256())
        )
        self.certificate_pem = certificate.public_bytes(serialization.Encoding.PEM)
        self.key_pem = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )

    def write(self, folder: Path) -> tuple[str, str]:
        """Write both as files into a private folder; return their paths."""
        cert_file, key_file = folder / "certificate.pem", folder / "key.pem"
        cert_file.write_bytes(self.certificate_pem)
        key_file.write_bytes(self.key_pem)
        return str(cert_file), str(key_file)


class WhipOutput:
    """One WHIP session.

    url: the WHIP endpoint. video: its size and rate, None without a picture. audio: with sound.
    """

    def __init__(
        self, url: str, certificate: Certificate, *, video: VideoPlan | None, audio: bool
    ) -> None:
        # The muxer reads the two files when it connects; after that they are gone from the disk.
        self._folder = tempfile.TemporaryDirectory(prefix="terrace-")
        cert_file, key_file = certificate.write(Path(self._folder.name))
        options = {
            "strict": "experimental",
            "max_interleave_delta": "1",
            "cert_file": cert_file,
            "key_file": key_file,
            "handshake_timeout": str(HANDSHAKE_TIMEOUT_MS),
            "ts_buffer_size": "4000000",
            "rtp_history": "1024",
            "whip_flags": "dtls_active",
        }
        self._container = av.open(url, "w", format="whip", options=options)
        self._streams: dict[str, Any] = {}
        if video is not None:
            self._streams["video"] = self._container.add_mux_stream(
                "h264",
                rate=Fraction(video.fps).limit_denominator(1001),
                width=video.width,
                height=video.height,
            )
        if audio:
            self._streams["audio"] = self._container.add_stream_from_template(_opus_stream())
        self._base_us: int | None = None

    def send(self, kind: str, packet: av.Packet[Any], time_us: int) -> None:
        """Send one packet; the first one connects, which takes a fraction of a second.

        kind: "video" (H264, Annex B; the first is a keyframe with its parameter sets) or "audio"
        (Opus). time_us: on the timeline; where it starts does not matter.
        Raises av.error.FFmpegError when the session cannot be made or has ended.
        """
        first = self._base_us is None
        if self._base_us is None:
            self._base_us = time_us
        packet.stream = self._streams[kind]
        packet.time_base = MICROSECOND
        packet.pts = packet.dts = time_us - self._base_us + HEAD_START_US
        packet.duration = 0
        try:
            self._container.mux(packet)
        finally:
            if first:
                self._folder.cleanup()

    def close(self) -> None:
        """End the session at this end. The node is told by `media/exchange.py`."""
        try:
            self._container.close()
        except av.error.FFmpegError:
            pass  # the line is gone already, which is as good as closed
        finally:
            self._folder.cleanup()


def in_band(stream: av.VideoStream) -> BitStreamFilterContext:
    """A filter that turns H264 of any container into Annex B with parameter sets at keyframes."""
    extradata = stream.codec_context.extradata or b""
    # An avcC record starts with its version, 1; Annex B with a start code (ISO/IEC 14496-15).
    if extradata[:1] == b"\x01":
        return BitStreamFilterContext("h264_mp4toannexb", stream)
    return BitStreamFilterContext("dump_extra=freq=keyframe", stream)


def _opus_stream() -> Any:
    """A stream that says "Opus, 48 kHz, stereo", as the muxer wants to read it."""
    scratch = av.open(io.BytesIO(), "w", format="ogg")
    return scratch.add_stream("libopus", rate=SoundLine.RATE, layout="stereo")
