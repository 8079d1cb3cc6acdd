"""WHIP and WHEP requests that go wrong, and what each gets; tokens, loops, and the end of a node.

Everything is asked of real `terrace relay` processes.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import secrets
import signal
import socket
import struct
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import pytest
from yarl import URL

from relay import access, ice
from tests.live.publishers import BarePublisher, live
from tests.live.tree import ROOT, Node, Tree, end_process, free_ports, until
from tests.live.viewers import BareViewer
from tests.patience import PATIENCE

pytestmark = pytest.mark.live

OFFERS = ROOT / "tests" / "relay" / "offers"
SDP = {"Content-Type": "application/sdp"}
FRAGMENT = {"Content-Type": "application/trickle-ice-sdpfrag"}
NODE_ID = "0123456789abcdef"
NAMES = "A stream name is 1 to 64 characters of A-Z, a-z, 0-9, dot, underscore, tilde, dash."
GONE = "There is no such session, or it has ended."
CANNOT = "The offer cannot be used: "


def offer(name: str, *changes: tuple[str, str]) -> str:
    """A real peer's offer with some of its text replaced; each change must change something."""
    text = (OFFERS / f"{name}.sdp").read_bytes().decode()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return text


PUBLISHER = offer("chromium-publisher")
VIEWER = offer("chromium-viewer")
DATA_ONLY = (
    "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n"
    "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\n"
    "a=ice-ufrag:h76H\r\na=ice-pwd:0lLuNjs65vJUabBLsOlolL/H\r\n"
    f"a=fingerprint:sha-256 {':'.join(['AB'] * 32)}\r\na=setup:actpass\r\na=mid:0\r\n"
    "a=sctp-port:5000\r\n"
)


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    text: str
    headers: Mapping[str, str]

    @property
    def sentence(self) -> str:
        """The text of a refusal, which is one line."""
        assert self.headers["Content-Type"].startswith("text/plain")
        assert self.text.endswith("\n")
        assert self.text.count("\n") == 1
        return self.text[:-1]


async def ask(
    method: str,
    url: str,
    body: str | bytes | AsyncIterator[bytes] = b"",
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """One request, its path exactly as it is given."""
    async with (
        aiohttp.ClientSession() as http,
        http.request(
            method, URL(url, encoded=True), data=body, headers=headers, allow_redirects=False
        ) as response,
    ):
        return Answer(response.status, await response.text(), response.headers)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """One open node without a parent."""
    with Tree(tmp_path_factory.mktemp("alone"), {"alone": ""}) as nodes:
        yield nodes["alone"]


@asynccontextmanager
async def session_at(
    node: Node, kind: str = "whip", stream: str = "", token: str = ""
) -> AsyncIterator[tuple[str, Answer]]:
    """A session whose answer has come and whose handshake has not begun; its URL and the answer.

    A stream that is announced in this way has its tracks and can be asked for.
    """
    headers = SDP | ({"Authorization": f"Bearer {token}"} if token else {})
    path = f"/{kind}/{stream or secrets.token_hex(8)}"
    body = PUBLISHER if kind == "whip" else VIEWER
    answer = await ask("POST", node.url + path, body, headers)
    assert answer.status == 201, answer.text
    url = node.url + answer.headers["Location"]
    try:
        yield url, answer
    finally:
        await ask("DELETE", url, headers=headers)


# ---------------------------------------------------------------- bad requests


def endless() -> AsyncIterator[bytes]:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(70):
            yield b"a" * 1000

    return chunks()


@pytest.mark.parametrize(
    ("path", "headers", "body", "status", "sentence"),
    [
        pytest.param(
            "/whip/x", SDP, b"", 400, "The body is empty: an SDP description is expected.",
            id="empty body",
        ),
        pytest.param(
            "/whip/x", {"Content-Type": "text/plain"}, PUBLISHER, 415,
            "The body must be application/sdp, not text/plain.",
            id="another content type",
        ),
        pytest.param(
            "/whip/x", {"Content-Type": "application/octet-stream"}, PUBLISHER.encode(), 415,
            "The body must be application/sdp, not application/octet-stream.",
            id="no content type",
        ),
        pytest.param(
            "/whep/x", FRAGMENT, VIEWER, 415,
            "The body must be application/sdp, not application/trickle-ice-sdpfrag.",
            id="a fragment where an offer is due",
        ),
        pytest.param(
            "/whip/x", SDP, "v=0\r\n" + "a" * 65536, 413, "The body is longer than 65536 bytes.",
            id="too long",
        ),
        pytest.param(
            "/whip/x", SDP, endless, 413, "The body is longer than 65536 bytes.",
            id="too long, in chunks, without a length",
        ),
        pytest.param(
            "/whip/x", SDP, PUBLISHER.encode() + b"a=\xff\r\n", 400, "The body is not UTF-8 text.",
            id="not UTF-8",
        ),
        pytest.param(
            "/whip/x", SDP, "hello", 400,
            CANNOT + "the body is no session description: it does not begin with v=0.",
            id="no v=0",
        ),
        pytest.param(
            "/whip/x", SDP, "v=0\r\n", 400, CANNOT + "the description has no m-line.",
            id="no m-line",
        ),
        pytest.param(
            "/whip/x", SDP, offer("chromium-publisher", ("a=group:BUNDLE 0 1\r\n", "")), 400,
            CANNOT + "all media must share one transport: a=group:BUNDLE is missing.",
            id="no BUNDLE",
        ),
        pytest.param(
            "/whip/x", SDP, offer("chromium-publisher", ("BUNDLE 0 1", "BUNDLE 0")), 400,
            CANNOT + "all media must share one transport: a=group:BUNDLE leaves an m-line out.",
            id="BUNDLE of one of two",
        ),
        pytest.param(
            "/whip/x", SDP,
            offer("chromium-publisher", ("a=ice-pwd:0lLuNjs65vJUabBLsOlolL/H\r\n", "")), 400,
            CANNOT + "a=ice-ufrag or a=ice-pwd is missing or too short (RFC 8839).",
            id="no ice-pwd",
        ),
        pytest.param(
            "/whep/x", SDP, re.sub("a=fingerprint.*\r\n", "", VIEWER), 400,
            CANNOT + "a=fingerprint is missing: only DTLS-SRTP is spoken here.",
            id="no fingerprint",
        ),
        pytest.param(
            "/whip/x", SDP, offer("chromium-publisher", ("a=setup:actpass\r\n", "")), 400,
            CANNOT + "a=setup must be actpass, active or passive (RFC 8842).",
            id="no setup",
        ),
        pytest.param(
            "/whip/x", SDP, offer("chromium-publisher", ("a=rtcp-mux\r\n", "")), 400,
            CANNOT + "a=rtcp-mux is missing in the audio section.",
            id="no rtcp-mux",
        ),
        pytest.param(
            "/whip/x", SDP, offer("chromium-publisher", ("UDP/TLS/RTP/SAVPF", "RTP/AVP")), 400,
            CANNOT + "audio must use UDP/TLS/RTP/SAVPF, not RTP/AVP.",
            id="plain RTP",
        ),
        pytest.param(
            "/whip/x", SDP, offer("chromium-publisher", ("a=rtcp-mux", "a=ssrc-group:")), 400,
            CANNOT + "a=rtcp-mux is missing in the audio section.",
            id="an attribute with nothing in it",
        ),
        pytest.param(
            "/whip/x", SDP, DATA_ONLY, 400,
            "The offer has nothing to send in H264, VP8, VP9, AV1 or Opus.",
            id="nothing but a data channel",
        ),
        pytest.param(
            "/whip/x", SDP,
            re.sub("(opus|H264|VP8|VP9|AV1)/", "other/", PUBLISHER), 400,
            "The offer has nothing to send in H264, VP8, VP9, AV1 or Opus.",
            id="unknown codecs",
        ),
        pytest.param(
            "/whip/x", SDP, VIEWER, 400,
            "The offer has nothing to send in H264, VP8, VP9, AV1 or Opus.",
            id="a viewer's offer to publish",
        ),
        pytest.param("/whip/a%20b", SDP, PUBLISHER, 400, NAMES, id="a blank in the name"),
        pytest.param("/whip/a%0A", SDP, PUBLISHER, 400, NAMES, id="a line end in the name"),
        pytest.param("/whep/%2e%2e", SDP, VIEWER, 400, NAMES, id="two dots as a name"),
        pytest.param("/whep/a%2Fb", SDP, VIEWER, 400, NAMES, id="a slash in the name"),
        pytest.param("/whep/%E8%AF%BE", SDP, VIEWER, 400, NAMES, id="Chinese in the name"),
        pytest.param("/whip/" + "x" * 65, SDP, PUBLISHER, 400, NAMES, id="a long name"),
        pytest.param(
            "/whep/x", SDP | {"Terrace-Path": "made-up"}, VIEWER, 400,
            "The Terrace-Path header holds something that is no node id.",
            id="a made-up path",
        ),
        pytest.param(
            "/whip/x",
            SDP | {"Terrace-Node": NODE_ID, "Terrace-Publisher": "² somebody"}, PUBLISHER, 400,
            "The Terrace-Publisher header is malformed.",
            id="a made-up publisher",
        ),
        pytest.param(
            "/whep/x", SDP | {"Terrace-Path": ",".join([NODE_ID] * 12)}, VIEWER, 508,
            "The tree is deeper than 12 nodes; check --parent for a loop.",
            id="a path without end",
        ),
    ],
)  # fmt: skip
async def test_a_bad_request_gets_this_status_and_sentence(
    node: Node, path: str, headers: dict[str, str], body: object, status: int, sentence: str
) -> None:
    """Each says what was wrong, in words for whoever sent it; scripts of any page may read them."""
    content = endless() if body is endless else body
    assert isinstance(content, str | bytes | AsyncIterator)
    answer = await ask("POST", node.url + path, content, headers)
    assert (answer.status, answer.sentence) == (status, sentence)
    assert "Retry-After" not in answer.headers
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    streams = (await node.about())["streams"]
    assert [one["name"] for one in streams if one["name"] in path] == []


async def test_an_unknown_stream_is_worth_another_try(node: Node) -> None:
    """The publisher may be a little late."""
    answer = await ask("POST", f"{node.url}/whep/nothing", VIEWER, SDP)
    assert (answer.status, answer.sentence) == (404, "Nobody is publishing 'nothing' here.")
    assert answer.headers["Retry-After"] == "2"


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(PUBLISHER, id="a publisher's offer"),
        pytest.param(DATA_ONLY, id="nothing but a data channel"),
        pytest.param(re.sub("(opus|VP8)/", "other/", VIEWER), id="other codecs"),
    ],
)
async def test_a_viewer_that_can_take_nothing_is_told_what_there_is(
    node: Node, stream: str, body: str
) -> None:
    """The codecs of the stream stand in the answer."""
    async with session_at(node, stream=stream):
        answer = await ask("POST", f"{node.url}/whep/{stream}", body, SDP)
    assert (answer.status, answer.sentence) == (
        400,
        "The offer has no receiving section for what this stream carries: OPUS and VP8.",
    )


@pytest.mark.parametrize("method", ["GET", "PUT"])
@pytest.mark.parametrize("path", ["/whip/x", "/whep/x", "/whip/x/y"])
async def test_other_methods_are_told_which_there_are(node: Node, method: str, path: str) -> None:
    """RFC 9725 section 4.2 reserves GET, HEAD and PUT."""
    answer = await ask(method, node.url + path)
    sentence = "Use POST to begin, PATCH and DELETE on the Location."
    assert (answer.status, answer.sentence) == (405, sentence)
    assert answer.headers["Allow"] == "OPTIONS, POST, PATCH, DELETE"


@pytest.mark.parametrize("path", ["/whip/x", "/whep/x", "/whip/x/y", "/whep/x/y"])
async def test_pages_of_other_origins_may_ask(node: Node, path: str) -> None:
    """The preflight of a WHIP or WHEP client in a browser."""
    answer = await ask(
        "OPTIONS",
        node.url + path,
        headers={"Origin": "https://school.example", "Access-Control-Request-Method": "POST"},
    )
    assert answer.status == 204
    allowed = {
        "Access-Control-Allow-Origin": "*",
        "Access-Control-Allow-Methods": "OPTIONS, POST, PATCH, DELETE",
        "Access-Control-Allow-Headers": "Authorization, Content-Type, If-Match, Terrace-Push",
        "Accept-Post": "application/sdp",
        "Accept-Patch": "application/trickle-ice-sdpfrag",
    }
    assert {name: answer.headers.get(name) for name in allowed} == allowed
    exposed = answer.headers["Access-Control-Expose-Headers"].split(", ")
    assert {"Location", "ETag", "Link", "Retry-After"} <= set(exposed)


# ---------------------------------------------------------------- sessions


@pytest.mark.parametrize("kind", ["whip", "whep"])
async def test_a_session_has_an_address_that_ends_it(node: Node, stream: str, kind: str) -> None:
    """201 with Location and ETag; after DELETE there is no such session."""
    async with session_at(node, stream=stream), session_at(node, kind, stream) as (url, answer):
        assert answer.headers["Content-Type"] == "application/sdp"
        assert answer.text.startswith("v=0\r\n")
        assert answer.headers["Location"].startswith(f"/{kind}/{stream}/")
        assert re.fullmatch('"[0-9a-zA-Z+/]+"', answer.headers["ETag"])
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
        exposed = answer.headers["Access-Control-Expose-Headers"].split(", ")
        assert {"Location", "ETag", "Link"} <= set(exposed)
        assert (await ask("DELETE", url)).status == 200
        again = await ask("DELETE", url)
        assert (again.status, again.sentence) == (404, GONE)


@pytest.mark.parametrize("method", ["DELETE", "PATCH"])
async def test_an_unknown_session_is_not_found(node: Node, stream: str, method: str) -> None:
    """Neither one that never was, nor a real one under another kind or stream."""
    async with session_at(node, stream=stream) as (url, _):
        own = url.rpartition("/")[2]
        for path in (f"/whip/{stream}/none", f"/whep/{stream}/{own}", f"/whip/other/{own}"):
            answer = await ask(method, node.url + path, headers=FRAGMENT)
            assert (answer.status, answer.sentence) == (404, GONE)


def fragment(ufrag: str = "h76H", password: str = "0lLuNjs65vJUabBLsOlolL/H") -> str:
    """A trickled candidate of the Chromium offer, or new credentials."""
    return (
        f"a=ice-ufrag:{ufrag}\r\na=ice-pwd:{password}\r\n"
        "m=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:0\r\n"
        "a=candidate:1 1 udp 2122260223 192.0.2.7 50000 typ host generation 0\r\n"
    )


async def test_trickled_candidates_are_taken_with_thanks(node: Node) -> None:
    """An ICE-lite node needs none of them."""
    async with session_at(node) as (url, answer):
        for match in ({}, {"If-Match": answer.headers["ETag"]}, {"If-Match": "*"}):
            reply = await ask("PATCH", url, fragment(), FRAGMENT | match)
            assert (reply.status, reply.text) == (204, "")
            assert reply.headers["ETag"] == answer.headers["ETag"]


@pytest.mark.parametrize(
    ("headers", "body", "status", "sentence"),
    [
        pytest.param(
            FRAGMENT | {"If-Match": '"other"'}, fragment(), 412,
            "The session has changed since; ask with the newest ETag or *.",
            id="another ETag",
        ),
        pytest.param(
            FRAGMENT, fragment("newufrag"), 428,
            "An ICE restart needs the header 'If-Match: *'.",
            id="a restart without If-Match",
        ),
        pytest.param(
            FRAGMENT, "a=candidate:1 1 udp 1 192.0.2.7 9 typ host\r\n", 400,
            "The fragment lacks a=ice-ufrag or a=ice-pwd (RFC 8840).",
            id="no credentials",
        ),
        pytest.param(
            FRAGMENT | {"If-Match": "*"}, fragment("newufrag", "short"), 400,
            "The fragment lacks a=ice-ufrag or a=ice-pwd (RFC 8840).",
            id="a short password",
        ),
        pytest.param(
            SDP, PUBLISHER, 415,
            "The body must be application/trickle-ice-sdpfrag, not application/sdp.",
            id="an offer where a fragment is due",
        ),
        pytest.param(
            FRAGMENT, "", 400, "The body is empty: an SDP description is expected.", id="nothing"
        ),
    ],
)  # fmt: skip
async def test_a_bad_patch_gets_this_status_and_sentence(
    node: Node, headers: dict[str, str], body: str, status: int, sentence: str
) -> None:
    """And the session stays as it was."""
    async with session_at(node) as (url, _):
        answer = await ask("PATCH", url, body, headers)
        assert (answer.status, answer.sentence) == (status, sentence)
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
        assert (await ask("PATCH", url, fragment(), FRAGMENT)).status == 204


def credentials(description: str) -> tuple[str, str]:
    ufrag = re.search(r"a=ice-ufrag:(\S+)", description)
    password = re.search(r"a=ice-pwd:(\S+)", description)
    assert ufrag is not None
    assert password is not None
    return ufrag[1], password[1]


def is_reached(node: Node, ufrag: str, password: str) -> bool:
    """Whether the node answers an ICE check with these credentials."""
    check = ice.check(f"{ufrag}:x", password.encode(), ice.new_transaction(), 1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(0.5 * PATIENCE)
        sock.sendto(check, ("127.0.0.1", node.port))
        try:
            return ice.parse(sock.recv(2048)).kind == ice.SUCCESS
        except TimeoutError:
            return False


async def test_ice_can_be_restarted(node: Node) -> None:
    """New credentials and a new ETag; from then on checks with the old ones are not answered."""
    async with session_at(node) as (url, answer):
        old = credentials(answer.text)
        assert await asyncio.to_thread(is_reached, node, *old)
        headers = FRAGMENT | {"If-Match": "*"}
        restart = fragment("newufrag", "0123456789abcdef01234567")
        reply = await ask("PATCH", url, restart, headers)
        assert reply.status == 200
        assert reply.headers["Content-Type"] == FRAGMENT["Content-Type"]
        assert reply.headers["ETag"] != answer.headers["ETag"]
        assert f" 127.0.0.1 {node.port} typ host" in reply.text
        new = credentials(reply.text)
        assert await asyncio.to_thread(is_reached, node, *new)
        assert not await asyncio.to_thread(is_reached, node, *old)
        stale = await ask("PATCH", url, restart, FRAGMENT | {"If-Match": answer.headers["ETag"]})
        assert stale.status == 412


@pytest.mark.parametrize("depth", ["0", "x", "²", "9" * 5000, "-1", ""])
async def test_a_strange_depth_of_the_tree_is_no_error(node: Node, depth: str) -> None:
    """It is a hint, no more."""
    answer = await ask("GET", f"{node.url}/api/tree?depth={URL.build(path=depth).raw_path}")
    assert answer.status == 200
    assert json.loads(answer.text)["name"] == "alone"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ("{}", "id"),
        ('{"id": "x", "name": "a", "port": 1}', "id"),
        (f'{{"id": "{NODE_ID}", "name": "a", "port": 0}}', "port"),
        (f'{{"id": "{NODE_ID}", "name": "a", "port": 1, "host": "a/b"}}', "host"),
        (f'{{"id": "{NODE_ID}", "name": "{"x" * 65}", "port": 1}}', "name"),
    ],
)
async def test_a_child_that_reports_nonsense_is_told_which_field(
    node: Node, body: str, field: str
) -> None:
    """A node of another version, or none at all."""
    answer = await ask("POST", f"{node.url}/api/children", body)
    assert answer.status == 400
    assert answer.sentence.startswith(f"The report's field '{field}': ")
    assert (await node.about())["children"] == []


# ---------------------------------------------------------------- tokens


@dataclass(frozen=True)
class Keys:
    """A pair of keys, and where the public one lies."""

    private: bytes
    public: Path

    def token(
        self,
        *,
        publish: tuple[str, ...] = (),
        view: tuple[str, ...] = (),
        relay: bool = False,
        subject: str = "",
        ago_s: float = 0.0,
    ) -> str:
        """A token for a minute, issued that long ago."""
        return access.issue(
            self.private,
            publish=publish,
            view=view,
            relay=relay,
            ttl_s=60,
            subject=subject,
            now=time.time() - ago_s,
        )


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    private, public = access.new_key_pair()
    path = tmp_path_factory.mktemp("keys") / "public.pem"
    path.write_bytes(public)
    return Keys(private, path)


@pytest.fixture(scope="module")
def guarded(keys: Keys, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node that asks for tokens."""
    arguments = ["--public-key", str(keys.public)]
    with Tree(tmp_path_factory.mktemp("guarded"), {"guarded": ""}, arguments) as nodes:
        yield nodes["guarded"]


def bearer(token: str) -> dict[str, str]:
    return SDP | {"Authorization": f"Bearer {token}"}


def refused_publish(allowed: str) -> str:
    return (
        f"This token does not allow to publish 'class' (streams that it allows: {allowed}); "
        "ask for one issued with `terrace token --publish class`."
    )


UNREADABLE = "This is not a token that this node can read; ask for a new one with `terrace token`."
UNKNOWN_KEY = (
    "This token was not signed with a key that this node knows; "
    "ask for one from whoever runs this node, or add the key to its public_keys."
)


@pytest.mark.parametrize(
    ("header", "sentence"),
    [
        pytest.param(
            None,
            "This node asks for a token; send it as 'Authorization: Bearer TOKEN', "
            "and ask whoever runs the node for one (`terrace token`).",
            id="none",
        ),
        pytest.param(
            "Basic YTpi", "The token is expected as 'Authorization: Bearer TOKEN'.", id="a password"
        ),
        pytest.param("Bearer abc", UNREADABLE, id="no token at all"),
        pytest.param(
            "Bearer " + "x" * 4097,
            "This token is longer than 4096 bytes; ask for one with fewer or shorter patterns.",
            id="too long",
        ),
    ],
)
@pytest.mark.parametrize("kind", ["whip", "whep"])
async def test_who_has_no_token_is_asked_for_one(
    guarded: Node, kind: str, header: str | None, sentence: str
) -> None:
    """401 before anything is read of the offer, with the challenge of RFC 6750."""
    headers = SDP | ({"Authorization": header} if header else {})
    answer = await ask("POST", f"{guarded.url}/{kind}/class", "no offer", headers)
    assert (answer.status, answer.sentence) == (401, sentence)
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert answer.headers["Access-Control-Allow-Origin"] == "*"


@pytest.mark.parametrize("kind", ["whip", "whep"])
async def test_an_expired_token_is_refused(guarded: Node, keys: Keys, kind: str) -> None:
    """With the moment at which it expired."""
    token = keys.token(publish=("*",), view=("*",), ago_s=100)
    expired = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))["exp"]
    when = datetime.fromtimestamp(expired, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    answer = await ask("POST", f"{guarded.url}/{kind}/class", PUBLISHER, bearer(token))
    sentence = f"This token expired at {when}; ask for a new one with `terrace token`."
    assert (answer.status, answer.sentence) == (401, sentence)


async def test_a_forged_token_is_refused(guarded: Node, keys: Keys, tmp_path: Path) -> None:
    """Signed with another key, without a signature, and with claims that were changed after."""
    stranger = Keys(access.new_key_pair()[0], tmp_path)
    genuine = keys.token(view=("class",))
    head, claims, signature = genuine.split(".")
    more = json.loads(base64.urlsafe_b64decode(claims + "==")) | {"publish": ["*"]}
    changed = base64.urlsafe_b64encode(json.dumps(more).encode()).decode().rstrip("=")
    none = base64.urlsafe_b64encode(b'{"alg":"none","typ":"JWT"}').decode().rstrip("=")
    for token, sentence in (
        (stranger.token(publish=("*",)), UNKNOWN_KEY),
        (f"{head}.{changed}.{signature}", UNKNOWN_KEY),
        (
            f"{none}.{changed}.",
            "This token is signed with another algorithm than EdDSA, which this node does not "
            "take; ask for a new one with `terrace token`.",
        ),
    ):
        answer = await ask("POST", f"{guarded.url}/whip/class", PUBLISHER, bearer(token))
        assert (answer.status, answer.sentence) == (401, sentence)


async def test_a_token_of_another_scope_is_refused(guarded: Node, keys: Keys) -> None:
    """403 with the streams that it is good for."""
    viewer, other = keys.token(view=("*",)), keys.token(publish=("meeting-*",))
    for token, allowed in ((viewer, "none"), (other, "'meeting-*'")):
        answer = await ask("POST", f"{guarded.url}/whip/class", PUBLISHER, bearer(token))
        assert (answer.status, answer.sentence) == (403, refused_publish(allowed))
    publisher = keys.token(publish=("*",))
    answer = await ask("POST", f"{guarded.url}/whep/class", VIEWER, bearer(publisher))
    assert (answer.status, answer.sentence) == (
        403,
        "This token does not allow to view 'class' (streams that it allows: none); "
        "ask for one issued with `terrace token --view class`.",
    )


async def test_each_token_opens_what_it_is_good_for(guarded: Node, keys: Keys, stream: str) -> None:
    """Publisher and viewer by pattern, and a node's token both ways."""
    pattern = (stream[:-1] + "*",)
    publisher, viewer = keys.token(publish=pattern), keys.token(view=pattern)
    relay = keys.token(relay=True)
    async with session_at(guarded, "whip", stream, publisher) as (url, _):
        for token in (viewer, relay):
            async with session_at(guarded, "whep", stream, token):
                pass
        refused = await ask("DELETE", url)
        assert refused.status == 401
        assert (await ask("PATCH", url, fragment(), FRAGMENT)).status == 401
    async with session_at(guarded, "whip", f"{stream[:-2]}-r", relay):
        pass


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/api/children"), ("GET", "/api/link"), ("POST", "/api/drain")]
)
async def test_only_nodes_may_use_what_is_between_nodes(
    guarded: Node, keys: Keys, method: str, path: str
) -> None:
    """No token 401, a person's token 403."""
    assert (await ask(method, guarded.url + path, "{}")).status == 401
    person = keys.token(publish=("*",), view=("*",))
    answer = await ask(method, guarded.url + path, "{}", {"Authorization": f"Bearer {person}"})
    assert (answer.status, answer.sentence) == (
        403,
        "This token does not let a relay node connect; issue one with `terrace token --relay`.",
    )


async def test_a_stream_belongs_to_whoever_publishes_it(
    guarded: Node, keys: Keys, stream: str
) -> None:
    """Another person's token gets 409; the same person may take over from another device."""
    alice = keys.token(publish=("*",), subject="alice")
    bob = keys.token(publish=("*",), subject="bob")
    async with session_at(guarded, "whip", stream, alice):
        answer = await ask("POST", f"{guarded.url}/whip/{stream}", PUBLISHER, bearer(bob))
        assert (answer.status, answer.sentence) == (
            409,
            f"'{stream}' is already being published by somebody else.",
        )
        assert answer.headers["Retry-After"] == "10"
        async with session_at(guarded, "whip", stream, alice):
            pass


async def test_a_publisher_whom_the_parent_refuses_leaves_the_stream_as_it_was(
    keys: Keys, tmp_path: Path, stream: str
) -> None:
    """Bob is refused below what Alice publishes above, and viewers below still get Alice."""
    alice = keys.token(publish=("*",), view=("*",), subject="alice")
    bob = keys.token(publish=("*",), subject="bob")
    parents = {"centre": "", "county": "centre"}
    environment = {"TERRACE_PARENT_TOKEN": keys.token(relay=True)}
    arguments = ["--public-key", str(keys.public)]
    with Tree(tmp_path, parents, arguments, environment) as nodes:
        centre, county = nodes["centre"], nodes["county"]
        async with session_at(centre, "whip", stream, alice):
            answer = await ask("POST", f"{county.url}/whip/{stream}", PUBLISHER, bearer(bob))
            assert (answer.status, answer.sentence) == (
                409,
                f"'{stream}' is already being published by somebody else.",
            )
            assert answer.headers["Retry-After"] == "10"
            async with session_at(county, "whep", stream, alice):
                seen = await county.stream(stream)
                assert seen is not None
                assert seen["source"] == "parent"


# ---------------------------------------------------------------- nodes that cannot start or reach


async def test_a_node_that_others_can_reach_does_not_start_without_keys() -> None:
    """Status 2, and the sentence names the settings."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "web.cli", "relay", "--config", os.devnull, "--host", "0.0.0.0",
        "--port", str(free_ports(1)[0]),
        cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    async with asyncio.timeout(20 * PATIENCE):
        said, _ = await process.communicate()
    assert process.returncode == 2
    assert said.decode().splitlines() == [
        "terrace relay: host 0.0.0.0 (from --host) can be reached from other machines and "
        "public_keys is empty, so anyone could publish: set public_keys to a key made by "
        "`terrace keygen`, or host to 127.0.0.1"
    ]


async def timed(url: str, body: str = VIEWER) -> tuple[Answer, float]:
    """An answer, and how many seconds it took."""
    began = time.monotonic()
    answer = await ask("POST", url, body, SDP)
    return answer, time.monotonic() - began


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Node, Node]]:
    """Two nodes, each the other's parent; what they say about it is in their logs."""
    ports = free_ports(2)
    nodes = [Node(name, port, tmp_path / name) for name, port in zip("ab", ports, strict=True)]
    with ExitStack() as ends:
        for node, other in zip(nodes, reversed(nodes), strict=True):
            node.start(["--parent", other.url], {})
            ends.callback(end_process, node.process)
        deadline = time.monotonic() + 20
        while not all(node.answers() for node in nodes):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield nodes[0], nodes[1]


async def test_a_loop_of_parents_is_refused(pair: tuple[Node, Node]) -> None:
    """508 at either node, at once and within two seconds, for viewers and for publishers."""
    for node in pair:
        for path, body in (("whep/x", VIEWER), ("whip/y", PUBLISHER)):
            answer, took_s = await timed(f"{node.url}/{path}", body)
            assert answer.status == 508, answer.text
            assert "The parents form a loop: " in answer.sentence
            assert "--parent" in answer.sentence
            assert took_s < 2 * PATIENCE

    async def noticed() -> bool:
        states = [(await node.about())["parent_state"] for node in pair]
        return "loop" in states

    await until("a node says that its parents form a loop", noticed, 10)
    for node in pair:
        answer, took_s = await timed(f"{node.url}/whep/x")
        assert answer.status == 508
        assert took_s < 2 * PATIENCE
        assert (await node.about())["streams"] == []


async def test_an_unknown_stream_is_unknown_all_the_way_up(chain: Tree) -> None:
    """Through four nodes: the same answer as at the centre, within two seconds."""
    answer, took_s = await timed(f"{chain['county'].url}/whep/nothing")
    assert (answer.status, answer.sentence) == (404, "Nobody is publishing 'nothing' here.")
    assert int(answer.headers["Retry-After"]) > 0
    assert took_s < 2 * PATIENCE
    assert (await chain["county"].about())["streams"] == []


@pytest.fixture
def orphan(tmp_path: Path) -> Iterator[Node]:
    """A node whose parent is not there."""
    own, nobody = free_ports(2)
    node = Node("orphan", own, tmp_path / "orphan")
    node.start(["--parent", f"http://127.0.0.1:{nobody}"], {})
    try:
        deadline = time.monotonic() + 20
        while not node.answers():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield node
    finally:
        end_process(node.process)


async def test_a_parent_that_is_not_there_is_said_so(orphan: Node) -> None:
    """503, worth another try; a publisher is taken all the same, and its viewers are served."""
    parent = (await orphan.about())["parent"]
    answer, took_s = await timed(f"{orphan.url}/whep/class")
    assert answer.status == 503
    assert answer.sentence.startswith(f"The parent node {parent} does not answer")
    assert int(answer.headers["Retry-After"]) > 0
    assert took_s < 2 * PATIENCE
    async with session_at(orphan, "whip", "class"), session_at(orphan, "whep", "class"):
        seen = await orphan.stream("class")
        assert seen is not None
        assert seen["source"] in ("", "publisher")


async def test_a_parent_that_says_nothing_is_given_up_within_two_seconds(tmp_path: Path) -> None:
    """Something takes the connection and never answers."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        parent = f"http://127.0.0.1:{silent.getsockname()[1]}"
        node = Node("county", free_ports(1)[0], tmp_path / "county")
        node.start(["--parent", parent], {})
        try:

            async def ready() -> bool:
                return node.answers()

            await until("the node answers", ready, 20)
            answer, took_s = await timed(f"{node.url}/whep/class")
        finally:
            end_process(node.process)
    assert answer.status == 503
    assert answer.sentence.startswith(f"The parent node {parent} does not answer")
    assert took_s < 2 * PATIENCE


# ---------------------------------------------------------------- the end


async def test_a_node_with_open_sessions_stops_within_3_s_and_tells_its_viewers(
    tmp_path: Path, stream: str
) -> None:
    """SIGTERM: RTCP BYE and a DTLS alert to each viewer, status 0, and no error in the log."""
    with Tree(tmp_path, {"alone": ""}) as nodes:
        node = nodes["alone"]
        async with BarePublisher(node.url, stream), AsyncExitStack() as audience:
            await live(node, stream)
            viewers = [BareViewer(node.url, stream) for _ in range(5)]
            for viewer in viewers:
                await audience.enter_async_context(viewer)
                await viewer.receiving()
            # One more is still shaking hands.
            answer = await ask("POST", f"{node.url}/whep/{stream}", VIEWER, SDP)
            assert answer.status == 201
            began = time.monotonic()
            node.process.send_signal(signal.SIGTERM)
            assert await node.ended(5) == 0
            assert time.monotonic() - began < 3 * PATIENCE

            async def told() -> bool:
                return all(viewer.alerted and viewer.byes for viewer in viewers)

            await until("all viewers are told", told, 2)


@pytest.mark.parametrize(
    "request_text",
    [
        pytest.param("POST /whip/cut HTTP/1.1\r\nHost: x\r\n", id="in its head"),
        pytest.param(
            "POST /whip/cut HTTP/1.1\r\nHost: x\r\nContent-Type: application/sdp\r\n"
            f"Content-Length: {len(PUBLISHER)}\r\n\r\n",
            id="before its body",
        ),
        pytest.param(
            "POST /whip/cut HTTP/1.1\r\nHost: x\r\nContent-Type: application/sdp\r\n"
            f"Content-Length: {len(PUBLISHER)}\r\n\r\n{PUBLISHER[:1000]}",
            id="in its body",
        ),
        pytest.param(
            "POST /api/children HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{",
            id="in a report",
        ),
    ],
)
@pytest.mark.parametrize("reset", [True, False], ids=["reset", "closed"])
async def test_a_request_that_breaks_off_is_no_error_of_the_node(
    node: Node, request_text: str, reset: bool
) -> None:
    """A client that goes away: no session, and nothing in the log (the tree looks at its end)."""
    before = [one["name"] for one in (await node.about())["streams"]]
    _, writer = await asyncio.open_connection("127.0.0.1", node.port)
    writer.write(request_text.encode())
    await writer.drain()
    if reset:
        sock: socket.socket = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
    else:
        writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()
    assert [one["name"] for one in (await node.about())["streams"]] == before
