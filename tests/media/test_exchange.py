"""WHIP's HTTP side: what is passed on, what a refusal is turned into, and that the end is told."""

from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.errors import NodeError, SettingError
from media.exchange import Exchange, check_url, prefer_candidates, refusal

OFFER = b"v=0\r\no=FFmpeg 1 2 IN IP4 127.0.0.1\r\n"
ANSWER = "v=0\r\na=ice-lite\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\n"


@pytest.mark.parametrize(
    ("url", "wrong"),
    [
        ("lecture", "does not begin with http:// or https://"),
        ("rtmp://host/live", "does not begin with http:// or https://"),
        ("http:///whip/x", "names no host"),
        ("http://host:0/whip/x", "names no host"),
        ("http://host:99999/whip/x", "is not a valid address"),
        ("http://[::1/whip/x", "is not a valid address"),
        ("http://host:8710", "names no stream"),
        ("http://me:word@host/whip/x", "give a token"),
    ],
)
def test_an_address_that_cannot_work_is_refused_with_the_reason(url: str, wrong: str) -> None:
    with pytest.raises(SettingError, match=wrong):
        check_url(url)


@given(st.text(max_size=40))
def test_any_text_is_an_address_or_a_sentence(text: str) -> None:
    for url in (text, f"http://{text}"):
        with suppress(SettingError):
            assert check_url(url).hostname


@pytest.mark.parametrize(
    ("status", "words", "retry_after", "sentence", "final"),
    [
        (401, "The token has expired.", "", "the node says: The token has expired (401)", True),
        (401, "", "", "the node wants a token: give one by --token or TERRACE_TOKEN (401)", True),
        (403, "", "", "the token does not allow publishing this stream (403)", True),
        (404, "", "", "the node has no WHIP endpoint at this address (404)", True),
        (400, "No m-line.", "", "the node says: No m-line (400)", True),
        (409, "", "", "somebody else is publishing this stream (409)", True),
        (409, "Taken.", "5", "the node says: Taken (409)", False),
        (503, "", "7", "the node takes no more publishers now (503)", False),
        (500, "", "", "the node answered 500 Reason (500)", False),
        (508, "A loop of parents.", "", "the node says: A loop of parents (508)", False),
        (429, "", "soon", "the node answered 429 Reason (429)", False),
    ],
)
def test_a_refusal_is_a_sentence_and_says_whether_to_try_again(
    status: int, words: str, retry_after: str, sentence: str, final: bool
) -> None:
    headers = Message()
    headers["Content-Type"] = "text/plain; charset=utf-8" if words else "text/html"
    if retry_after:
        headers["Retry-After"] = retry_after
    error = refusal(status, "Reason", headers, (words or "<html>").encode())
    assert str(error) == sentence
    assert error.final is final
    assert error.retry_after_s == (float(retry_after) if retry_after.isdigit() else None)


def test_a_redirect_says_where_to() -> None:
    headers = Message()
    headers["Location"] = "https://other.example/whip/x"
    error = refusal(307, "Temporary Redirect", headers, b"")
    assert error.final
    assert "publish to https://other.example/whip/x" in str(error)


@given(st.integers(300, 599), st.binary(max_size=400), st.text(max_size=20))
def test_any_refusal_becomes_a_sentence(status: int, body: bytes, after: str) -> None:
    headers = Message()
    headers["Content-Type"] = "text/plain"
    headers["Retry-After"] = after.replace("\n", "").replace("\r", "")
    assert str(status) in str(refusal(status, "", headers, body))


def test_the_candidate_at_the_address_that_answered_comes_first() -> None:
    """The muxer takes the first candidate and tries no other."""
    answer = "\r\n".join([
        "v=0",
        "m=audio 9 UDP/TLS/RTP/SAVPF 111",
        "a=candidate:1 1 udp 1 fe80::1 8710 typ host",
        "a=candidate:2 1 udp 1 10.0.0.1 8710 typ host",
        "a=candidate:3 1 udp 1 192.0.2.7 8710 typ host",
        "a=mid:0",
        "m=video 9 UDP/TLS/RTP/SAVPF 106",
        "a=mid:1",
        "",
    ])  # fmt: skip
    lines = prefer_candidates(answer, {"192.0.2.7"}).split("\r\n")
    assert [line.split()[4] for line in lines if "candidate" in line] == [
        "192.0.2.7",
        "10.0.0.1",
        "fe80::1",
    ]
    assert sorted(lines) == sorted(answer.split("\r\n"))
    assert lines[-3:] == ["m=video 9 UDP/TLS/RTP/SAVPF 106", "a=mid:1", ""]


@given(st.text(alphabet="am=:v0 \r\ncandidate", max_size=200), st.text(max_size=5))
def test_reordering_keeps_every_line(answer: str, address: str) -> None:
    ordered = prefer_candidates(answer, {address})
    assert sorted(ordered.splitlines()) == sorted(answer.splitlines())


class Endpoint(ThreadingHTTPServer):
    """A WHIP endpoint of few words: it answers every offer with `status`, and remembers."""

    def __init__(self, status: int = 201, text: str = ANSWER) -> None:
        super().__init__(("127.0.0.1", 0), EndpointHandler)
        self.status, self.text = status, text
        self.seen: list[tuple[str, str, str | None, bytes]] = []
        self.hold = threading.Event()
        self.hold.set()
        self.arrived = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/whip/lecture"


class EndpointHandler(BaseHTTPRequestHandler):
    server: Endpoint

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.remember(body)
        self.server.arrived.set()
        self.server.hold.wait(10)
        self.send_response(self.server.status)
        self.send_header("Content-Type", "application/sdp")
        self.send_header("Location", f"/whip/lecture/session-{len(self.server.seen)}")
        self.end_headers()
        self.wfile.write(self.server.text.encode())

    def do_DELETE(self) -> None:
        self.remember(b"")
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def remember(self, body: bytes) -> None:
        self.server.seen.append((self.command, self.path, self.headers["Authorization"], body))

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def endpoint(status: int = 201, text: str = ANSWER) -> Iterator[Endpoint]:
    server = Endpoint(status, text)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def post(url: str, body: bytes) -> tuple[int, str, str | None]:
    """What the muxer does: (status, body, Location)."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=10)
    try:
        connection.request("POST", parts.path, body)
        response = connection.getresponse()
        return response.status, response.read().decode(), response.headers["Location"]
    finally:
        connection.close()


def test_an_offer_goes_to_the_node_with_the_token_and_its_answer_comes_back() -> None:
    """The muxer gets no Location: it is this side that ends the session."""
    with endpoint() as node:
        with Exchange(node.url, "secret") as exchange:
            assert post(exchange.local_url, OFFER) == (201, ANSWER, None)
            assert exchange.take_failure() is None
        assert node.seen == [
            ("POST", "/whip/lecture", "Bearer secret", OFFER),
            ("DELETE", "/whip/lecture/session-1", "Bearer secret", b""),
        ]


def test_a_new_offer_ends_the_session_before() -> None:
    with endpoint() as node, Exchange(node.url) as exchange:
        post(exchange.local_url, OFFER)
        post(exchange.local_url, OFFER)
        assert [(method, path) for method, path, _, _ in node.seen] == [
            ("POST", "/whip/lecture"),
            ("DELETE", "/whip/lecture/session-1"),
            ("POST", "/whip/lecture"),
        ]
        exchange.release()
        exchange.release()
        assert [(method, path) for method, path, _, _ in node.seen][3:] == [
            ("DELETE", "/whip/lecture/session-3")
        ]


def test_a_refusal_is_kept_for_the_person() -> None:
    with endpoint(403, "no") as node, Exchange(node.url) as exchange:
        assert post(exchange.local_url, OFFER)[0] == 502
        failure = exchange.take_failure()
        assert failure is not None
        assert failure.final
        assert exchange.take_failure() is None, "once"


def test_a_page_that_is_no_whip_endpoint_is_told_apart() -> None:
    with endpoint(201, "<html>") as node, Exchange(node.url) as exchange:
        with pytest.raises(NodeError, match="is not SDP") as error:
            exchange.pass_on(OFFER)
        assert error.value.final


def test_nobody_else_on_the_machine_can_slip_in_an_offer() -> None:
    with endpoint() as node, Exchange(node.url, "secret") as exchange:
        parts = urlsplit(exchange.local_url)
        for path in ("/", "/whip/lecture", parts.path[:-1], parts.path + "x"):
            assert post(f"http://{parts.netloc}{path}", OFFER)[0] == 404
        assert node.seen == []


def test_the_end_waits_for_an_answer_that_is_on_its_way() -> None:
    """Else a session would stay behind that nobody knows of."""
    with endpoint() as node:
        exchange = Exchange(node.url)
        node.hold.clear()
        with exchange:
            muxer = threading.Thread(target=post, args=(exchange.local_url, OFFER))
            muxer.start()
            assert node.arrived.wait(10)
            threading.Timer(0.1, node.hold.set).start()
        muxer.join()
        assert [method for method, *_ in node.seen] == ["POST", "DELETE"]


def test_a_node_that_is_away_is_said_in_words(unused_tcp_port: int) -> None:
    where = f"http://127.0.0.1:{unused_tcp_port}"
    with Exchange(f"{where}/whip/x") as exchange, pytest.raises(NodeError) as error:
        exchange.pass_on(OFFER)
    assert str(error.value) == f"{where} cannot be reached: connection refused"
    assert not error.value.final


def test_a_node_that_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("media.exchange.ANSWER_TIMEOUT_S", 0.2)
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        where = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        with (
            Exchange(f"{where}/whip/x") as exchange,
            pytest.raises(NodeError, match="does not answer"),
        ):
            exchange.pass_on(OFFER)
