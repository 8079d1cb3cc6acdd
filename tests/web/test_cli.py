"""The command line: its help, its statuses, its keys and tokens, its one sentence of error."""

from __future__ import annotations

import logging
import os
import re
import socket
import stat
import subprocess
import sys
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from web import cli, command, demo


def run(*arguments: str) -> int:
    """`terrace` as the shell would run it: its status."""
    try:
        return cli.main(arguments)
    except SystemExit as end:  # argparse ends so
        return int(end.code or 0)


@pytest.fixture
def keys(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """A folder with a pair of keys, made by the command."""
    assert run("keygen", "--out", str(tmp_path / "keys")) == 0
    capsys.readouterr()
    return tmp_path / "keys"


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_command_has_help_with_an_example(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(command, "--help") == 0
    # argparse breaks lines as it likes
    text = " ".join(capsys.readouterr().out.split())
    assert "example" in text
    assert cli.COMMANDS[command].example in text


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_the_example_of_every_command_is_accepted(command: str) -> None:
    words = cli.COMMANDS[command].example.replace("'", "").replace("Room 3", "Room-3").split()
    assert words[0] == "terrace"
    args, unknown = cli.build_parser(command).parse_known_args(words[1:])
    assert (args.command, unknown) == (command, [])


def test_the_overview_loads_no_media_library() -> None:
    """`terrace --help` answers at once: nothing of aiortc, av, numpy or aiohttp is imported."""
    code = (
        "import sys; from web import cli\n"
        "try: cli.main(['--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted({'aiortc', 'av', 'numpy', 'aiohttp', 'pydantic'} & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=Path(__file__).parents[2],
    )
    assert result.stdout.splitlines()[-1] == "[]"


def test_a_relay_loads_nothing_of_the_centre() -> None:
    """Its memory and its start are for packets: no database, no plans, no passwords."""
    code = (
        "import sys, web.app, web.library, web.recordings, web.workers\n"
        "print(sorted({'alembic', 'argon2', 'icalendar', 'schedule', 'sqlalchemy'}"
        " & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=Path(__file__).parents[2],
    )
    assert result.stdout.splitlines()[-1] == "[]"


BAD_USAGE = [
    # arguments, the whole line on standard error
    (["frobnicate"], None),
    (["relay", "--prot", "1"], "terrace relay: unknown argument --prot (see terrace relay --help)"),
    (["relay", "--port", "x"], "terrace relay: port is 'x' in --port: it must be a whole number"),
    (
        ["relay", "--config", "nowhere.toml"],
        "terrace relay: the settings file nowhere.toml does not exist: correct --config or leave "
        "it out",
    ),
    (
        ["status"],
        "terrace status: the following arguments are required: URL (see terrace status --help)",
    ),
    (
        ["status", "centre"],
        "terrace status: centre is no URL: write one such as http://127.0.0.1:8710",
    ),
    (
        ["token", "--key", "private.pem"],
        "terrace token: the token would allow nothing: give --publish, --view or --relay",
    ),
    (["token", "--key", "private.pem", "--relay", "--ttl", "soon"], None),
    (
        ["demo", "--base-port", "65506"],
        "terrace demo: argument --base-port: it must be from 1 to 65505 (see terrace demo --help)",
    ),
]


@pytest.mark.parametrize(("arguments", "sentence"), BAD_USAGE)
def test_bad_usage_ends_with_status_2_and_one_sentence(
    arguments: list[str], sentence: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert len(said.err.splitlines()) == 1
    if sentence is not None:
        assert said.err == sentence + "\n"


def test_without_a_command_the_overview_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 2
    assert "Start with: terrace demo" in capsys.readouterr().out


def test_keygen_writes_a_pair_that_only_its_owner_can_use(keys: Path) -> None:
    private, public = keys / "private.pem", keys / "public.pem"
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    assert stat.S_IMODE(public.stat().st_mode) == 0o644
    assert private.read_bytes().startswith(b"-----BEGIN PRIVATE KEY-----")
    assert {one.name for one in keys.iterdir()} == {"private.pem", "public.pem"}


@pytest.mark.parametrize("name", ["private.pem", "public.pem"])
def test_keygen_never_writes_over_a_key(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_text("mine")
    assert run("keygen", "--out", str(tmp_path)) == 1
    assert "exists and is left as it is" in capsys.readouterr().err
    assert [one.name for one in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "mine"


def test_a_token_says_what_its_bearer_may_do_and_until_when(
    keys: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scopes = ["--publish", "class-*", "--view", "class-*", "--view", "hall"]
    arguments = ["--key", str(keys / "private.pem"), "--ttl", "30m", "--subject", "Room 3"]
    assert run("token", *arguments, *scopes) == 0
    token = capsys.readouterr().out.strip()
    key = load_pem_public_key((keys / "public.pem").read_bytes())
    claims = jwt.decode(token, key, algorithms=["EdDSA"])  # type: ignore[arg-type]
    assert claims["publish"] == ["class-*"]
    assert claims["view"] == ["class-*", "hall"]
    assert claims["relay"] is False
    assert claims["sub"] == "Room 3"
    assert claims["exp"] - claims["iat"] in (1800, 1801)


@pytest.mark.parametrize("content", [None, b"", b"-----BEGIN PRIVATE KEY-----\nAAAA\n", b"\xff"])
def test_a_key_that_cannot_be_used_is_told(
    content: bytes | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = tmp_path / "private.pem"
    if content is not None:
        key.write_bytes(content)
        key.chmod(0o600)
    assert run("token", "--key", str(key), "--relay") == 1
    assert str(key) in capsys.readouterr().err


def test_a_key_that_others_can_read_is_used_but_warned_of(
    keys: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (keys / "private.pem").chmod(0o644)
    assert run("token", "--key", str(keys / "private.pem"), "--relay") == 0
    assert "chmod 600" in capsys.readouterr().err


def test_doctor_ends_with_status_1_when_a_node_could_not_start(
    unused_tcp_port: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("doctor", "--port", str(unused_tcp_port)) == 0
    with socket.socket() as other:
        other.bind(("127.0.0.1", unused_tcp_port))
        assert run("doctor", "--port", str(unused_tcp_port)) == 1
    assert "bad   port" in capsys.readouterr().out


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_the_demo_names_the_port_that_is_in_use(kind: socket.SocketKind) -> None:
    """Found before anything is started; the third of the four counts as well as the first."""
    said = ""
    for _ in range(20):
        with socket.socket(socket.AF_INET, kind) as other:
            other.bind(("127.0.0.1", 0))
            taken = other.getsockname()[1]
            with pytest.raises(demo.DemoFailed) as failed:
                demo.ports(taken - 20)
        said = str(failed.value)
        # Somebody else on this machine may have one of the others.
        if f"port {taken} " in said:
            break
    assert re.search(f"port {taken} cannot be had .*--base-port", said)


def test_an_event_is_one_line_whatever_is_in_its_fields() -> None:
    """A name sent by a peer cannot forge a line of the log."""
    record = logging.makeLogRecord(
        {
            "name": "relay.node",
            "levelname": "INFO",
            "msg": "viewer-joined agent=%s stream=%s",
            "args": ("x\nINFO relay.node fake-event \x1b[2J", "直播"),
        }
    )
    line = command.OneLine().format(record)
    assert line.endswith(
        r" INFO relay.node viewer-joined agent=x\nINFO relay.node fake-event \x1b[2J stream=直播"
    )


def test_a_reader_that_leaves_is_no_fault_of_the_command() -> None:
    """`terrace --help | head -1` must not end in a traceback."""
    read, write = os.pipe()
    os.close(read)
    try:
        result = subprocess.run(
            [sys.executable, "-m", "web.cli", "doctor", "--json"],
            stdout=write,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            cwd=Path(__file__).parents[2],
        )
    finally:
        os.close(write)
    assert "Traceback" not in result.stderr
