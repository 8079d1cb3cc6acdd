"""Recordings at a node: when a class is over, who may do what, and what a crash has left.

The node's socket is never opened; recorders are real processes and find nobody there.
"""

from __future__ import annotations

import asyncio
import shutil
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from media import recording as folders
from media.cutter import Cutter
from media.errors import MediaError
from relay import access
from relay.access import Access
from relay.channel import Channel
from relay.node import Node, NodeConfig
from tests.media.footage import Footage
from web import recordings
from web.recordings import GOODBYE_S, QUIET_S, WAIT_FOR_STREAM_S, Active, Recordings, is_over

AT = datetime(2026, 3, 1, 9, 0, tzinfo=UTC)
Client = TestClient[web.Request, web.Application]


@dataclass
class Stream:
    """A channel as the rules see it."""

    state: str = "live"
    said_goodbye: bool = False


def over(active: Active, stream: Stream | None, now: float) -> bool:
    return is_over(active, cast(Channel | None, stream), now)


# ------------------------------------------------------------ when a class is over


def test_a_class_goes_on_while_packets_come() -> None:
    active = Active("a", "lecture", asked=False, began_s=0)
    assert not any(over(active, Stream(), now) for now in range(0, 10_000, 100))


def test_a_publisher_who_said_goodbye_is_waited_for_a_short_time() -> None:
    active = Active("a", "lecture", asked=False, began_s=0)
    assert not over(active, Stream(), 100)
    gone = Stream("waiting", said_goodbye=True)
    assert not over(active, gone, 100 + GOODBYE_S)
    # The channel may have ended meanwhile.
    assert not over(active, None, 100 + GOODBYE_S)
    assert over(active, None, 101 + GOODBYE_S)


def test_one_who_was_lost_is_waited_for_longer() -> None:
    active = Active("a", "lecture", asked=False, began_s=0)
    assert not over(active, Stream(), 100)
    assert not over(active, Stream("waiting"), 100 + QUIET_S)
    assert over(active, Stream("waiting"), 101 + QUIET_S)


def test_one_who_comes_back_begins_anew_to_be_waited_for() -> None:
    active = Active("a", "lecture", asked=False, began_s=0)
    assert not over(active, Stream(), 100)
    assert not over(active, Stream("waiting", said_goodbye=True), 110)
    assert not over(active, Stream(), 114)
    assert not over(active, Stream("waiting"), 114 + QUIET_S)


def test_a_stream_that_was_asked_for_may_begin_later() -> None:
    asked, named = (Active("a", "lecture", asked=one, began_s=0) for one in (True, False))
    assert not over(asked, None, WAIT_FOR_STREAM_S)
    assert over(asked, None, WAIT_FOR_STREAM_S + 1)
    assert over(named, Stream("starting"), QUIET_S + 1)


def test_figures_go_on_over_the_processes_of_a_recording() -> None:
    active = Active("a", "lecture", asked=False)
    said = {"event": "segment", "part": 1, "segments": 3, "bytes": 300, "seconds": 9.0}
    active.heard(said | {"missing_s": 0.5})
    active.lost_process()
    active.heard({"event": "unrecordable", "kind": "video", "why": "VP9 cannot be recorded"})
    active.heard({"event": "disk", "why": "No space left on device"})
    assert active.as_json()["error"] == "No space left on device"
    active.heard(said | {"missing_s": 0.25, "segments": 1})
    shown = active.as_json()
    assert (shown["segments"], shown["bytes"], shown["seconds"]) == (4, 600, 18.0)
    assert (shown["missing_s"], shown["state"]) == (0.75, "recording")
    assert shown["error"] == "VP9 cannot be recorded"


# ------------------------------------------------------------ HTTP


class Library:
    """Takes recordings, the first time with a fault."""

    def __init__(self, faults: int = 0) -> None:
        self.faults = faults
        self.taken: list[Path] = []
        self.news = asyncio.Event()

    async def recording(self, folder: Path) -> None:
        if self.faults:
            self.faults -= 1
            raise MediaError("the library has no room")
        self.taken.append(folder)
        self.news.set()


Serve = Callable[..., Awaitable[Client]]


@pytest.fixture
async def serve(tmp_path: Path) -> AsyncIterator[Serve]:
    clients: list[Client] = []

    async def start(gate: Access | None = None, library: Library | None = None) -> Client:
        node = Node(NodeConfig(access=(gate or Access.open_mode()).with_secret("s3cret")))
        node._port = cast(Any, type("Port", (), {"number": 9}))
        app = web.Application()
        recordings.add(app, Recordings(node, tmp_path / "kept", [], "s3cret", library))
        client: Client = TestClient(TestServer(app))
        await client.start_server()
        clients.append(client)
        return client

    yield start
    for client in clients:
        await client.close()


def left(folder: Path, *, state: str = "recording", parts: int = 1) -> Path:
    """A recording of a former run: as a crash leaves it, or joined."""
    id = folders.new_id("lecture", AT)
    path = folder / id
    path.mkdir(parents=True)
    one = folders.Recording(id=id, stream="lecture", began_at=AT)
    folders.save(path, one)
    for _ in range(parts):
        footage = Footage(Cutter(folders.last_part(path)))
        footage.run(5)
        footage.finish()
        for cut in footage.cuts:
            if cut.init:
                folders.begin_part(path, cut.facts, cut.init)
            else:
                folders.add_segment(path, cut.facts, cut.data)
    if state == "finished":
        folders.join(path, one, lambda: AT + timedelta(hours=1))
    return path


async def until(look: Callable[[], Awaitable[Any]], within_s: float = 60) -> Any:
    async with asyncio.timeout(within_s):
        while True:
            if seen := await look():
                return seen
            await asyncio.sleep(0.05)


async def test_a_recording_is_asked_for_seen_and_ended(serve: Serve, tmp_path: Path) -> None:
    client = await serve()
    answer = await client.post("/api/recordings", json={"stream": "lecture", "title": "Sums"})
    assert answer.status == 201
    made = await answer.json()
    assert answer.headers["Location"] == f"/api/recordings/{made['id']}"
    assert (made["state"], made["title"]) == ("waiting", "Sums")
    again = await client.post("/api/recordings", json={"stream": "lecture"})
    assert (again.status, (await again.json())["id"]) == (200, made["id"])
    listed = await (await client.get("/api/recordings")).json()
    assert [one["id"] for one in listed["recordings"]] == [made["id"]]
    assert (await client.delete(f"/api/recordings/{made['id']}")).status == 202

    async def gone() -> bool:
        return not (await (await client.get("/api/recordings")).json())["recordings"]

    # Nothing came, so nothing is left.
    await until(gone)
    assert list((tmp_path / "kept").iterdir()) == []


async def test_one_that_came_to_nothing_is_shown_until_it_is_gone(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    half_gone, go_on, rmtree = threading.Event(), threading.Event(), shutil.rmtree

    def slow(folder: Path) -> None:
        (folder / folders.RECORD_FILE).unlink()
        half_gone.set()
        assert go_on.wait(60)
        rmtree(folder)

    client = await serve()
    made = await (await client.post("/api/recordings", json={"stream": "lecture"})).json()
    path = f"/api/recordings/{made['id']}"
    monkeypatch.setattr(shutil, "rmtree", slow)
    await client.delete(path)
    try:
        assert await asyncio.to_thread(half_gone.wait, 60)
        assert (await client.get(path)).status == 200
    finally:
        go_on.set()

    async def gone() -> bool:
        return (await client.get(path)).status == 404

    await until(gone)
    assert list((tmp_path / "kept").iterdir()) == []


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ({}, 400, "stream"),
        ({"stream": "../x"}, 400, "A stream name"),
        ({"stream": "a", "more": 1}, 400, "more"),
        ({"stream": "a" * 65}, 400, "stream"),
        ({"stream": "a", "title": "t" * 201}, 400, "title"),
        ([1], 400, "the body"),
    ],
)
async def test_a_wrong_order_is_told_what_is_wrong(
    serve: Serve, body: Any, status: int, says: str
) -> None:
    client = await serve()
    answer = await client.post("/api/recordings", json=body)
    assert answer.status == status
    assert says in await answer.text()


async def test_a_page_of_another_site_cannot_order(serve: Serve) -> None:
    client = await serve()
    answer = await client.post("/api/recordings", data='{"stream": "lecture"}')
    assert answer.status == 415


async def test_who_may_publish_may_record_and_see(serve: Serve, tmp_path: Path) -> None:
    private, public = access.new_key_pair()
    (tmp_path / "public.pem").write_bytes(public)
    client = await serve(Access.from_pem_files([tmp_path / "public.pem"]))
    left(tmp_path / "kept", state="finished")

    def bearer(publish: str = "", view: str = "") -> dict[str, str]:
        token = access.issue(
            private, publish=[publish] if publish else [], view=[view] if view else [],
            relay=False, ttl_s=300, subject="", now=datetime.now(UTC).timestamp(),
        )  # fmt: skip
        return {"Authorization": f"Bearer {token}"}

    order = {"stream": "lecture"}
    assert (await client.post("/api/recordings", json=order)).status == 401
    assert (await client.get("/api/recordings")).status == 401
    viewer = bearer(view="*")
    assert (await client.post("/api/recordings", json=order, headers=viewer)).status == 403
    assert (await (await client.get("/api/recordings", headers=viewer)).json()) == {
        "recordings": []
    }
    other = bearer(publish="maths-*")
    assert (await client.post("/api/recordings", json=order, headers=other)).status == 403
    teacher = bearer(publish="lecture")
    seen = await (await client.get("/api/recordings", headers=teacher)).json()
    assert [one["stream"] for one in seen["recordings"]] == ["lecture"]
    answer = await client.post("/api/recordings", json=order, headers=teacher)
    assert answer.status == 201
    path = answer.headers["Location"]
    assert (await client.get(path, headers=other)).status == 404
    assert (await client.delete(path, headers=other)).status == 403
    assert (await client.delete(path, headers=teacher)).status == 202
    assert (await client.delete("/api/recordings/none", headers=teacher)).status == 404


async def test_a_full_disk_is_said_before_the_class(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recordings, "MIN_FREE_BYTES", 1 << 60)
    client = await serve()
    answer = await client.post("/api/recordings", json={"stream": "lecture"})
    assert answer.status == 507
    assert "make room there" in await answer.text()


# ------------------------------------------------------------ what a crash has left


async def test_what_a_crash_left_is_joined_and_handed_over(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its stream does not come back: the parts that are whole become a recording."""
    monkeypatch.setattr(recordings, "QUIET_S", 0.2)
    path = left(tmp_path / "kept", parts=2)
    library = Library()
    await serve(library=library)
    async with asyncio.timeout(60):
        await library.news.wait()
    assert library.taken == [path]

    async def handed() -> bool:
        return (await asyncio.to_thread(folders.load, path)).state == "handed"

    await until(handed)
    found = folders.load(path)
    assert (len(found.parts), len(found.files)) == (2, 1)


async def test_a_library_that_cannot_take_it_is_asked_again(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recordings, "HAND_AGAIN_S", (0.01,))
    path = left(tmp_path / "kept", state="finished")
    library = Library(faults=3)
    await serve(library=library)
    async with asyncio.timeout(60):
        await library.news.wait()
    assert (library.faults, library.taken) == (0, [path])


async def test_a_damaged_description_keeps_no_node_from_starting(
    serve: Serve, tmp_path: Path
) -> None:
    path = left(tmp_path / "kept", state="finished")
    (path / folders.RECORD_FILE).write_text("{")
    client = await serve()
    assert await (await client.get("/api/recordings")).json() == {"recordings": []}
