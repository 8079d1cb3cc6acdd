"""What the doctor finds on a machine, with real ports and real servers."""

from __future__ import annotations

import asyncio
import json
import socket

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from web import doctor
from web.doctor import Finding, State
from web.settings import SettingsError, load


def found(findings: list[Finding], subject: str) -> list[Finding]:
    return [one for one in findings if one.subject == subject]


def test_free_ports_are_ok_and_taken_ones_bad(unused_tcp_port: int) -> None:
    """Both protocols count: a port that is taken for UDP alone keeps a node from starting."""
    settings = load(flags={"port": unused_tcp_port})
    (port,) = found(doctor.examine(settings), "port")
    assert (port.state, port.words) == (State.OK, f"{unused_tcp_port} is free for TCP and UDP")

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", unused_tcp_port))
        (port,) = found(doctor.examine(settings), "port")
    assert port.state is State.BAD
    assert port.words.startswith(f"UDP {unused_tcp_port} on 127.0.0.1 cannot be had: ")
    assert port.advice


async def test_a_port_served_by_a_running_node_is_no_fault() -> None:
    async def api_node(_: web.Request) -> web.Response:
        return web.json_response({"name": "longhua"})

    app = web.Application()
    app.router.add_get("/api/node", api_node)
    async with TestServer(app) as server:
        number = server.port
        settings = load(flags={"port": number})
        (port,) = found(await asyncio.to_thread(doctor.examine, settings), "port")
    assert (port.state, port.words) == (
        State.OK,
        f"{number} is served by the running node longhua",
    )


async def test_a_parent_that_answers_is_ok_and_its_clock_is_compared() -> None:
    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text="ok", headers={"Date": "Thu, 01 Jan 2015 00:00:00 GMT"})

    app = web.Application()
    app.router.add_get("/healthz", healthz)
    async with TestServer(app) as server:
        settings = load(flags={"parents": [str(server.make_url("/"))]})
        findings = await asyncio.to_thread(doctor.examine, settings)
    (parent,) = found(findings, "parent")
    assert parent.state is State.OK
    assert [one for one in found(findings, "clock") if "s ahead of http" in one.words]


async def test_a_parent_that_is_no_node_or_not_there_is_bad(unused_tcp_port: int) -> None:
    async with TestServer(web.Application()) as server:
        parents = [f"http://127.0.0.1:{server.port}", f"http://127.0.0.1:{unused_tcp_port}"]
        settings = load(flags={"parents": parents})
        other, nobody = found(await asyncio.to_thread(doctor.examine, settings), "parent")
    assert (other.state, other.words) == (State.BAD, f"{parents[0]} answered 404")
    assert (nobody.state, nobody.words) == (
        State.BAD,
        f"{parents[1]} cannot be reached: Connection refused",
    )


def test_wrong_settings_are_a_finding_and_the_rest_is_still_examined() -> None:
    findings = doctor.examine(SettingsError("port is 'x'"))
    assert findings[0] == Finding(
        "settings", State.BAD, "port is 'x'", "correct the setting named here"
    )
    subjects = {one.subject for one in findings}
    assert {"python", "aiortc", "sending", "buffers", "port", "clock", "disk"} <= subjects


def test_what_is_not_ok_says_what_to_do() -> None:
    findings = [one for one in doctor.examine(load()) if one.state is not State.OK]
    assert [one for one in findings if not one.advice] == []


@pytest.mark.parametrize("findings", [[Finding("disk", State.WARN, "0.5 GiB free", "free some")]])
def test_findings_are_told_as_text_and_as_json(findings: list[Finding]) -> None:
    assert doctor.as_text(findings).split() == (
        ["warn", "disk", "0.5", "GiB", "free", "->", "free", "some"]
    )
    assert json.loads(doctor.as_json(findings)) == [
        {"subject": "disk", "state": "warn", "words": "0.5 GiB free", "advice": "free some"}
    ]
