"""WHIP's HTTP side (RFC 9725): the offer to the node, the answer back, DELETE at the end.

FFmpeg's muxer could speak to the node itself, and does so badly: it drops the node's words when it
is refused, does not check certificates, and waits for ever. So it gets an address of this machine,
and what it posts there is passed on here: with the token, with deadlines, with TLS that is checked.
The token never leaves this process, and it is this process that ends the session, even when the one
with the muxer hangs.
"""

from __future__ import annotations

import http.client
import secrets
import socket
import ssl
import threading
from dataclasses import dataclass
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from urllib.parse import SplitResult, urljoin, urlsplit

from .errors import NodeError, SettingError

ANSWER_TIMEOUT_S = 5.0
# What ending may wait: for an answer that is on its way, and for the node to take the DELETE.
END_TIMEOUT_S = 0.7
# An offer or an answer has 2 to 10 kB.
MOST_BYTES = 256 * 1024

# The request itself is at fault, whoever asks again (RFC 9110 section 15.5). With a Retry-After the
# node says otherwise.
FINAL_STATUSES = frozenset({400, 401, 402, 403, 404, 405, 406, 409, 410, 413, 415, 422})
SENTENCES = {
    401: "the node wants a token: give one by --token or TERRACE_TOKEN",
    403: "the token does not allow publishing this stream",
    404: "the node has no WHIP endpoint at this address",
    405: "there is no WHIP endpoint at this address",
    409: "somebody else is publishing this stream",
    503: "the node takes no more publishers now",
}


def check_url(url: str) -> SplitResult:
    """Take apart the address of a WHIP endpoint. Raises SettingError with what is wrong."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise SettingError(f"{url} is not a valid address: {error}") from None
    if parts.scheme not in ("http", "https"):
        raise SettingError(f"{url} does not begin with http:// or https://")
    if not parts.hostname or port == 0:
        raise SettingError(f"{url} names no host")
    if not parts.path.strip("/"):
        example = f"{parts.scheme}://{parts.netloc}/whip/lecture"
        raise SettingError(f"{url} names no stream: an address looks like {example}")
    if parts.username or parts.password:
        raise SettingError("a user name or password in the address is not used: give a token")
    return parts


def refusal(status: int, reason: str, headers: Message, body: bytes) -> NodeError:
    """What a status other than success says: in the node's own words where it has any."""
    retry_after_s: float | None = None
    after = headers.get("Retry-After", "").strip()
    if after.isdecimal():
        retry_after_s = min(float(after), 3600.0)
    sentence = SENTENCES.get(status, f"the node answered {status} {reason}".rstrip())
    if headers.get_content_type() == "text/plain":
        words = " ".join(body.decode("utf-8", "replace").split())
        if 0 < len(words) <= 300:
            sentence = f"the node says: {words.rstrip('.')}"
    if 300 <= status < 400:
        sentence = f"the node is elsewhere: publish to {headers.get('Location', 'another address')}"
    final = 300 <= status < 400 or (status in FINAL_STATUSES and retry_after_s is None)
    return NodeError(f"{sentence} ({status})", final=final, retry_after_s=retry_after_s)


def prefer_candidates(answer: str, addresses: set[str]) -> str:
    """Put the candidates that have one of these addresses first.

    FFmpeg's muxer takes the first one and tries no other. The address at which the node answered
    HTTP is the one that is known to be reachable.
    """
    lines = answer.splitlines()
    places = [i for i, line in enumerate(lines) if line.startswith("a=candidate:")]

    def rank(line: str) -> int:
        fields = line.split()
        address = fields[4] if len(fields) > 4 else ""
        return 0 if address in addresses else 2 if ":" in address else 1

    # Within one media section only: the order of sections is the offer's.
    for section in _sections(lines):
        inside = [i for i in places if i in section]
        best = sorted((lines[i] for i in inside), key=rank)
        for i, line in zip(inside, best, strict=True):
            lines[i] = line
    return "".join(f"{line}\r\n" for line in lines)


def _sections(lines: list[str]) -> list[range]:
    starts = [i for i, line in enumerate(lines) if line.startswith("m=")] or [0]
    return [range(a, b) for a, b in zip(starts, [*starts[1:], len(lines)], strict=True)]


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back for an offer: the SDP, and the address of the session."""

    sdp: str
    session_url: str


class Exchange:
    """Passes offers on to one WHIP endpoint, and keeps the session that came of the last one.

    url: as `check_url` accepts it. token: the bearer token, or "".
    """

    def __init__(self, url: str, token: str = "") -> None:
        self._url, self._token = url, token
        self._parts = check_url(url)
        self._tls = ssl.create_default_context() if self._parts.scheme == "https" else None
        self._lock = threading.Lock()
        self._idle = threading.Event()
        self._idle.set()
        self._session_url: str | None = None
        self._failure: NodeError | None = None
        self._ended = False
        # Nobody else on this machine can guess the path and slip in an offer of his own.
        self._path = f"/{secrets.token_urlsafe(24)}"
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.exchange = self
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.2}, daemon=True
        )

    @property
    def local_url(self) -> str:
        """The address for the muxer."""
        return f"http://127.0.0.1:{self._server.server_address[1]}{self._path}"

    @property
    def local_path(self) -> str:
        return self._path

    def __enter__(self) -> Exchange:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end()
        self._server.shutdown()
        self._server.server_close()

    def take_failure(self) -> NodeError | None:
        """Why the last offer was not answered, once; None if it was."""
        with self._lock:
            failure, self._failure = self._failure, None
        return failure

    def pass_on(self, offer: bytes) -> Answer:
        """POST an offer to the node, which ends the session before. Raises NodeError."""
        self._idle.clear()
        try:
            return self._post(offer)
        finally:
            self._idle.set()

    def _post(self, offer: bytes) -> Answer:
        self.release()
        headers = {"Content-Type": "application/sdp", "Accept": "application/sdp"}
        status, reason, answered, body, address = self._request(
            "POST", self._url, offer, headers, ANSWER_TIMEOUT_S
        )
        if status != 201:
            raise refusal(status, reason, answered, body)
        sdp = body.decode("utf-8", "replace")
        if not sdp.startswith("v="):
            raise NodeError("the node's answer is not SDP: is this a WHIP address?", final=True)
        session_url = urljoin(self._url, answered.get("Location", ""))
        with self._lock:
            # A node that gives no Location cannot be told of the end; it will notice.
            self._session_url = session_url if answered.get("Location") else None
            ended = self._ended
        if ended:
            self.release()
            raise NodeError("publishing was ended")
        return Answer(prefer_candidates(sdp, {address}), session_url)

    def fail(self, error: NodeError) -> None:
        with self._lock:
            self._failure = error

    def release(self) -> None:
        """DELETE the session, if there is one. A node that is gone needs no telling."""
        with self._lock:
            url, self._session_url = self._session_url, None
        if url is None:
            return
        try:
            self._request("DELETE", url, None, {}, END_TIMEOUT_S)
        except NodeError:
            pass

    def end(self) -> None:
        """Release the session, and also one that a POST under way may still bring."""
        with self._lock:
            self._ended = True
        self._idle.wait(END_TIMEOUT_S)
        self.release()

    def _request(
        self, method: str, url: str, body: bytes | None, headers: dict[str, str], timeout_s: float
    ) -> tuple[int, str, Message, bytes, str]:
        """One request: (status, reason, headers, body, address of the peer)."""
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
        where = f"{parts.scheme}://{parts.netloc}"
        # The token is for the node that it was given for, whatever a Location says.
        if self._token and (parts.scheme, parts.netloc) == (self._parts.scheme, self._parts.netloc):
            headers["Authorization"] = f"Bearer {self._token}"
        connection = (
            http.client.HTTPSConnection(host, port, timeout=timeout_s, context=self._tls)
            if parts.scheme == "https"
            else http.client.HTTPConnection(host, port, timeout=timeout_s)
        )
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        try:
            connection.request(method, path, body, headers)
            address = connection.sock.getpeername()[0] if connection.sock else ""
            response = connection.getresponse()
            return (
                response.status,
                response.reason,
                response.headers,
                response.read(MOST_BYTES),
                address,
            )
        except socket.gaierror:
            raise NodeError(f"{where} cannot be reached: there is no host {host}") from None
        except TimeoutError:
            raise NodeError(f"{where} does not answer") from None
        except ssl.SSLCertVerificationError as error:
            raise NodeError(
                f"{where} has a certificate that is not accepted: {error.verify_message}"
            ) from None
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            reason = reason[:1].lower() + reason[1:]
            raise NodeError(f"{where} cannot be reached: {reason}") from error
        finally:
            connection.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    exchange: Exchange


class _Handler(BaseHTTPRequestHandler):
    """Answers the muxer. It gets no Location, so that it leaves the DELETE to us."""

    server: _Server
    protocol_version = "HTTP/1.1"
    timeout = 5

    def do_POST(self) -> None:
        exchange = self.server.exchange
        length = self.headers.get("Content-Length", "")
        if not secrets.compare_digest(self.path, exchange.local_path) or not length.isdecimal():
            self._answer(404, b"")
            return
        offer = self.rfile.read(min(int(length), MOST_BYTES))
        try:
            answer = exchange.pass_on(offer)
        except NodeError as error:
            exchange.fail(error)
            self._answer(502, b"")
        else:
            self._answer(201, answer.sdp.encode())

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/sdp")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the supervisor says what is worth saying."""
