"""What somebody may try with texts, paths and files, through the real HTTP API."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from schedule import audit
from tests.schedule.network import Network
from tests.web.centre.people import openapi
from tests.web.centre.test_signin import Open
from web.centre.centre import Centre

SCRIPT = "<script>alert('x')</script>"


async def test_a_script_in_every_text_field_stays_text(network: Network, browser: Open) -> None:
    """It is stored as it is, and comes back as JSON that no browser takes for a page."""
    one, unit = await browser("boss-P1A"), network.units["P1A"].id
    place = {"unit_id": unit, "code": "room-1", "name": SCRIPT}
    plan = {
        "kind": "meeting", "title": SCRIPT, "unit_id": unit, "starts_local": "2026-03-03T15:00",
        "duration_s": 600, "time_zone": "Asia/Shanghai", "agenda": SCRIPT,
        "material": [{"title": SCRIPT, "url": "https://example.org/"}],
    }  # fmt: skip
    wishes: list[tuple[str, dict[str, Any]]] = [
        ("/api/units", {"code": "x-1", "name": SCRIPT, "tier": SCRIPT, "parent_id": unit}),
        ("/api/sites", place),
        ("/api/places/stations", place),
        ("/api/people", {"unit_id": unit, "login": "x-1", "name": SCRIPT}),
        ("/api/series", plan),
    ]
    for path, body in wishes:
        answer = await one.post(path, body)
        assert answer.status == 201, path
        assert SCRIPT in json.dumps(answer.json), path
        assert answer.headers["Content-Type"].startswith("application/json")
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]


@pytest.mark.parametrize("address", ["javascript:alert(1)", "data:text/html,x", "//evil.example/x"])
async def test_material_is_no_script_address(network: Network, browser: Open, address: str) -> None:
    one, unit = await browser("boss-P1A"), network.units["P1A"].id
    plan = {
        "kind": "meeting", "title": "T", "unit_id": unit, "starts_local": "2026-03-03T15:00",
        "duration_s": 600, "time_zone": "Asia/Shanghai",
        "material": [{"title": "M", "url": address}],
    }  # fmt: skip
    answer = await one.post("/api/series", plan)
    assert (answer.status, answer.json["field"]) == (400, "material")


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(A1)"])
async def test_a_formula_does_not_reach_a_spreadsheet(
    network: Network, browser: Open, name: str
) -> None:
    one, unit = await browser("boss-P1A"), network.units["P1A"].id
    made = await one.post("/api/sites", {"unit_id": unit, "code": "f-1", "name": name})
    assert made.status == 201
    answer = await one.get("/api/roster/sites", unit_id=unit)
    assert answer.headers["Content-Disposition"] == 'attachment; filename="sites.csv"'
    line = next(one for one in answer.text.splitlines() if one.startswith("f-1"))
    assert line.split(",")[2][:1].strip('"') not in ("=", "+", "-", "@")
    # And what went out comes back in as it was.
    again = await one.ask(
        "POST", "/api/roster/sites", data=answer.text.encode(),
        headers={"Content-Type": "text/csv"}, dry_run="1",
    )  # fmt: skip
    assert again.json["changed"] == 0
    assert again.json["bad_lines"] == 0


@pytest.mark.parametrize(
    "token", ["..%2f..%2fetc%2fpasswd", "%2e%2e", "%00", "' OR 1=1 --", "x" * 3000]
)
async def test_a_feeds_address_leads_nowhere_else(browser: Open, token: str) -> None:
    one = await browser("")
    answer = await one.ask("GET", f"/feeds/{token}.ics")
    assert answer.status == 404


@pytest.mark.parametrize("text", ["0", "-1", "1.0", "2147483648", "9" * 400, "%00", "1%2f..", "١"])
async def test_what_is_no_id_is_not_found(browser: Open, text: str) -> None:
    assert (await (await browser("boss-C")).get(f"/api/sites/{text}")).status == 404


@pytest.mark.parametrize("text", ["\x00", "\ud800", "%", "_", "\\", "'"])
async def test_a_search_takes_any_text(browser: Open, text: str) -> None:
    one = await browser("boss-C")
    answer = await one.get("/api/units", search=text.encode("utf-8", "replace").decode())
    assert answer.status in (200, 400)


async def test_a_body_that_is_too_long_is_not_read(browser: Open) -> None:
    one = await browser("boss-P1A")
    answer = await one.ask(
        "POST",
        "/api/sites",
        data=io.BytesIO(b" " * 2_000_000),
        headers={"Content-Type": "application/json"},
    )
    assert answer.status == 413


@pytest.mark.parametrize("body", [b"", b"{", b"[" * 100_000, b"\xff", b"null", b"1e999"])
async def test_what_is_no_json_is_refused(browser: Open, body: bytes) -> None:
    one = await browser("boss-C")
    answer = await one.ask(
        "POST", "/api/sites", data=body, headers={"Content-Type": "application/json"}
    )
    assert answer.status == 400


async def test_a_change_leaves_a_note_of_who_made_it(
    network: Network, centre: Centre, browser: Open
) -> None:
    one, unit = await browser("boss-P1A"), network.units["P1A"].id
    who = (await one.get("/api/session")).json["person"]["id"]
    await one.ask("PATCH", f"/api/units/{unit}", {"name": "Another"})
    async with centre.store.reading() as connection:
        noted = await audit.entries(connection, subject=f"unit:{unit}")
    assert [(entry.person_id, entry.action, dict(entry.detail)) for entry in noted] == [
        (who, "change unit", {"name": "Another"})
    ]


def test_the_document_describes_every_route_for_people() -> None:
    assert openapi()["openapi"] == "3.1.0"
    for methods in openapi()["paths"].values():
        for operation in methods.values():
            assert operation["summary"].endswith(".")
