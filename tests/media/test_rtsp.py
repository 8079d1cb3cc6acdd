"""An RTSP camera as a source: real RTSP over TCP (RFC 2326), from a small server."""

from __future__ import annotations

import base64
import itertools
import socketserver
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from fractions import Fraction

import av
import pytest

from media.errors import SourceError, SourceLostError
from media.job import Job
from media.plan import Handling, Wanted
from media.sources import LiveSource, open_source
from media.testcard import Card
from tests.media.clips import numbers_in
from tests.media.steering import Line, feeding

PAYLOAD = 1000


def nal_units(packet: bytes) -> list[bytes]:
    parts = packet.replace(b"\x00\x00\x00\x01", b"\x00\x00\x01").split(b"\x00\x00\x01")
    return [part for part in parts if part]


def film(count: int) -> list[list[bytes]]:
    """Pictures of the test card as H264: for each its NAL units."""
    codec = av.CodecContext.create("libx264", "w")
    codec.width, codec.height, codec.pix_fmt = 320, 180, "yuv420p"
    codec.time_base, codec.framerate = Fraction(1, 25), Fraction(25)
    codec.options = {"preset": "ultrafast", "tune": "zerolatency", "g": "10", "threads": "1"}
    card, at = Card(320, 180), datetime(2026, 1, 2, tzinfo=UTC)
    pictures = []
    for number in range(count):
        frame = card.frame(number, at)
        frame.pts, frame.time_base = number, Fraction(1, 25)
        pictures += [nal_units(bytes(packet)) for packet in codec.encode(frame)]
    return pictures


def rtp_payloads(units: list[bytes]) -> Iterator[tuple[bytes, bool]]:
    """RFC 6184: single NAL units, and FU-A for the long ones; with the marker of the last."""
    for i, unit in enumerate(units):
        last = i == len(units) - 1
        if len(unit) <= PAYLOAD:
            yield unit, last
            continue
        pieces = [unit[1:][a : a + PAYLOAD] for a in range(0, len(unit) - 1, PAYLOAD)]
        for j, piece in enumerate(pieces):
            start, end = j == 0, j == len(pieces) - 1
            head = bytes([unit[0] & 0xE0 | 28, start << 7 | end << 6 | unit[0] & 0x1F])
            yield head + piece, last and end


class Camera(socketserver.ThreadingTCPServer):
    """Serves one film, once to each who asks; `login` is what a player must know."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, pictures: list[list[bytes]], login: str = "") -> None:
        super().__init__(("127.0.0.1", 0), CameraHandler)
        self.pictures, self.login = pictures, login
        self.url = f"rtsp://{login}{'@' if login else ''}127.0.0.1:{self.server_address[1]}/s"


class CameraHandler(socketserver.StreamRequestHandler):
    server: Camera

    def handle(self) -> None:
        while line := self.rfile.readline().decode():
            method = line.split(" ")[0]
            headers = {}
            while (header := self.rfile.readline().decode().strip()) != "":
                name, _, value = header.partition(":")
                headers[name.lower()] = value.strip()
            self.sequence = headers["cseq"]
            login = base64.b64encode(self.server.login.encode()).decode()
            if self.server.login and headers.get("authorization") != f"Basic {login}":
                self.answer("401 Unauthorized", 'WWW-Authenticate: Basic realm="camera"')
            elif method == "OPTIONS":
                self.answer("200 OK", "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN")
            elif method == "DESCRIBE":
                sdp = (
                    "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=camera\r\nt=0 0\r\n"
                    "m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n"
                    "a=fmtp:96 packetization-mode=1\r\na=control:track0\r\n"
                )
                self.answer("200 OK", "Content-Type: application/sdp", sdp)
            elif method == "SETUP":
                transport = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1"
                self.answer("200 OK", f"{transport}\r\nSession: 1")
            elif method == "PLAY":
                self.answer("200 OK", "Session: 1")
                self.play()
                return
            else:
                self.answer("200 OK", "Session: 1")

    def answer(self, status: str, headers: str, body: str = "") -> None:
        length = f"Content-Length: {len(body)}\r\n" if body else ""
        text = f"RTSP/1.0 {status}\r\nCSeq: {self.sequence}\r\n{headers}\r\n{length}\r\n{body}"
        self.wfile.write(text.encode())

    def play(self) -> None:
        """All pictures, four times as fast as life, and then the line is closed."""
        with suppress(ConnectionError):  # the player may leave before the end
            self.send_all()

    def send_all(self) -> None:
        sequence = 0
        for number, units in enumerate(self.server.pictures):
            for payload, marker in rtp_payloads(units):
                head = struct.pack(
                    ">BBHII", 0x80, marker << 7 | 96, sequence, 5000 + number * 3600, 7
                )
                size = len(head) + len(payload)
                self.wfile.write(struct.pack(">cBH", b"$", 0, size) + head + payload)
                sequence += 1
            time.sleep(0.01)


@contextmanager
def camera(pictures: list[list[bytes]], login: str = "") -> Iterator[Camera]:
    server = Camera(pictures, login)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def opened(url: str) -> LiveSource:
    source = open_source(url, Wanted(), sound=True, wait=lambda seconds: False)
    assert isinstance(source, LiveSource)
    return source


def test_a_cameras_h264_passes_through_and_its_end_is_a_break() -> None:
    """A camera has no end: when it stops, it is waited for."""
    with camera(film(60)) as server:
        source = opened(server.url)
        assert source.plans.video is not None
        assert source.plans.video.handling is Handling.COPY
        assert source.live
        packets: list[bytes] = []
        keyframes: list[int] = []

        def take() -> None:
            for sample in source.samples():
                assert isinstance(sample.payload, av.Packet)
                if sample.key:
                    keyframes.append(len(packets))
                packets.append(bytes(sample.payload))

        with pytest.raises(SourceLostError, match=r"rtsp://127\.0\.0\.1:\d+/s ended"):
            take()
        source.close()
    numbers = numbers_in(packets[keyframes[0] :])
    assert numbers[-1] == 59
    assert numbers == list(range(numbers[0] or 0, 60))
    for i in keyframes:
        kinds = {unit[0] & 0x1F for unit in nal_units(packets[i])}
        assert {5, 7, 8} <= kinds, "a keyframe with its parameter sets"


def test_a_camera_is_opened_anew_with_the_login_of_its_address() -> None:
    with camera(film(60), "teacher:chalk") as server:
        for _ in range(2):
            source = opened(server.url)
            assert len(list(itertools.islice(source.samples(), 5))) == 5
            source.close()
        wrong = server.url.replace("chalk", "cheese")
        with pytest.raises(SourceError, match="refuses the user name or the password") as error:
            opened(wrong)
        assert "cheese" not in str(error.value)


def test_a_camera_that_comes_back_goes_on_in_the_same_session() -> None:
    """The time that it was away stays a gap, as long as it was; nothing is said to the node."""
    line = Line()
    with (
        camera(film(60)) as server,
        feeding(Job(server.url, "http://-/", Wanted()), line) as feeder,
    ):
        feeder.say("connect")
        feeder.heard("connected")
        note = feeder.heard("note")["text"]
        assert note == f"{server.url} ended; trying again in 1 s"
        feeder.heard("note")
    (session,) = line.sessions
    times = session.times("video")
    assert times == sorted(set(times))
    gaps = [b - a for a, b in itertools.pairwise(times) if b - a > 500_000]
    assert len(gaps) == 1
    assert 1_000_000 < gaps[0] < 2_000_000
    assert session.pictures().count(59) == 2
