"""Schemathesis against the document: what it makes up from it is answered as the document says."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from tests.schedule.network import Network
from tests.web.centre.people import token
from tests.web.centre.test_rights import build
from tests.web.centre.test_signin import Open
from web.centre.centre import Centre

# Signing out and a new password of one's own would leave the rest of the run outside.
LEFT_OUT = ("sign_out", "change_my_password")
# It takes everything that a schema allows for good; whether a time zone exists or a code is taken
# cannot be said in a schema.
NOT_ASKED = "positive_data_acceptance"


async def test_schemathesis_finds_nothing(
    network: Network, centre: Centre, browser: Open, url: str, tmp_path: Path
) -> None:
    await build(network, centre, tmp_path / "library")
    boss = await browser("boss-C")
    command = [
        sys.executable, "-m", "schemathesis.cli", "run", f"{url}/api/openapi.json",
        "--checks", "all", "--exclude-checks", NOT_ASKED,
        "--phases", "examples,coverage,fuzzing", "--max-examples", "2", "--seed", "1",
        "--generation-deterministic", "--no-color", "--request-timeout", "60",
        "--continue-on-failure", "--suppress-health-check", "all", "--warnings", "off",
        # Whether it asks for a sign-in is what test_rights.py shows, for every route.
        "--generation-with-security-parameters", "false",
        "-H", f"Cookie: terrace_session={boss.cookie}", "-H", f"X-CSRF-Token: {boss.csrf}",
        "-H", "Authorization: " + token(relay=True)["Authorization"],
    ]  # fmt: skip
    for name in LEFT_OUT:
        command += ["--exclude-operation-id", name]
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, cwd=tmp_path
    )
    out, _ = await process.communicate()
    assert process.returncode == 0, out.decode()[-20_000:]
    assert (await boss.get("/api/session")).status == 200, "the run was not signed in to its end"
