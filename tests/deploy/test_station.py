"""What deploy/ offers for a village box: its units, its sample, the install command, the kiosk."""

from __future__ import annotations

import configparser
import json
import os
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.deploy.units import DEPLOY, SYSTEMD_ANALYZE, needs_systemd, with_every_setting_on
from web.settings import load
from web.station_settings import StationSettings

UNITS = ("terrace-station.service", "terrace-kiosk.service", "terrace-update.service")
SCRIPTS = ("install-station", "update-station", "kiosk/terrace-kiosk")
INSTALL = DEPLOY / "install-station"
COUNTY = "http://192.0.2.7:8710"


def section(unit: str, name: str) -> configparser.SectionProxy:
    parsed = configparser.ConfigParser(interpolation=None, strict=True)
    parsed.optionxform = str  # type: ignore[assignment,method-assign]
    parsed.read_string((DEPLOY / unit).read_text())
    return parsed[name]


def install(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [INSTALL, *arguments], capture_output=True, text=True, timeout=60, check=False
    )


# ---------------------------------------------------------------- units


@needs_systemd
@pytest.mark.parametrize("unit", [*UNITS, "terrace-update.path"])
def test_systemd_finds_nothing_wrong_with_the_unit(unit: str, tmp_path: Path) -> None:
    assert SYSTEMD_ANALYZE is not None
    for name in UNITS:
        text = (DEPLOY / name).read_text()
        (tmp_path / name).write_text(re.sub(r"(?m)^ExecStart=\S+", "ExecStart=/bin/true", text))
    shutil.copy(DEPLOY / "terrace-update.path", tmp_path)
    result = subprocess.run(
        [SYSTEMD_ANALYZE, "verify", "--man=no", str(tmp_path / unit)],
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | {"SYSTEMD_UNIT_PATH": f"{tmp_path}:"},
    )
    assert result.stderr.strip() == ""
    assert result.returncode == 0


def test_the_station_is_watched_and_keeps_its_folder() -> None:
    service = section("terrace-station.service", "Service")
    assert service["Type"] == "notify"
    assert 30 <= int(service["WatchdogSec"]) <= 120
    assert "network-online" not in section("terrace-station.service", "Unit")["After"]
    # Without it the box never knows that its clock is synchronised: see media/clock.py.
    assert "adjtimex" in service["SystemCallFilter"].split()
    sample = load(file=DEPLOY / "station.toml").station
    assert sample.folder == Path("/var/lib") / service["StateDirectory"]


def test_the_television_comes_back_whatever_ends_it() -> None:
    service = section("terrace-kiosk.service", "Service")
    assert service["Restart"] == "always"
    assert section("terrace-kiosk.service", "Unit")["StartLimitIntervalSec"] == "0"
    assert service["ExecStart"].endswith("/usr/local/lib/terrace/terrace-kiosk")


def test_the_station_asks_for_an_update_by_the_file_that_is_watched() -> None:
    watched = section("terrace-update.path", "Path")["PathChanged"]
    assert f'"{watched}"' in (DEPLOY / "station.toml").read_text()


# ---------------------------------------------------------------- the sample and the command


def test_the_sample_shows_every_setting_at_its_default(tmp_path: Path) -> None:
    text = with_every_setting_on((DEPLOY / "station.toml").read_text())
    shown = set(re.findall(r"^([a-z_]+) = ", text, re.MULTILINE))
    assert shown == set(StationSettings.model_fields)
    (tmp_path / "county.pem").write_text("a key, which is read when the station starts")
    (tmp_path / "terrace.toml").write_text(text)
    everything = load(file=tmp_path / "terrace.toml").station
    plain = load(file=DEPLOY / "station.toml").station
    assert everything.model_copy(update={"county_key": None}) == plain


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_is_sound_bash_and_may_be_run(script: str) -> None:
    file = DEPLOY / script
    assert os.access(file, os.X_OK)
    result = subprocess.run(["bash", "-n", file], capture_output=True, text=True, timeout=20)
    assert (result.returncode, result.stderr) == (0, "")


def test_the_install_command_writes_settings_that_load(tmp_path: Path) -> None:
    name = "上坪村 & Co | 1"
    result = install("--root", tmp_path, "--county", f"{COUNTY}/", "--name", name)
    assert result.returncode == 0, result.stderr
    station = load(file=tmp_path / "etc/terrace/terrace.toml").station
    assert (station.name, station.parents) == (name, [COUNTY])
    assert station.county_key is None
    kiosk = tmp_path / "usr/local/lib/terrace/terrace-kiosk"
    assert os.access(kiosk, os.X_OK)
    assert (kiosk.parent / "waiting.html").is_file()
    written = {one.name for one in (tmp_path / "etc/systemd/system").iterdir()}
    assert written == {*UNITS, "terrace-update.path"}
    assert (tmp_path / "etc/terrace/kiosk.env").read_text() == "TERRACE_KIOSK_LANG=zh\n"


def test_the_install_command_takes_the_county_s_key_and_keeps_old_settings(tmp_path: Path) -> None:
    key = tmp_path / "given.pem"
    key.write_text("a public key")
    root = tmp_path / "root"
    assert install("--root", root, "--county", COUNTY, "--county-key", key).returncode == 0
    settings = root / "etc/terrace/terrace.toml"
    assert load(file=settings).station.county_key == root / "etc/terrace/county.pem"
    before = settings.read_text()
    assert install("--root", root, "--county", "http://192.0.2.99:1").returncode == 0
    assert settings.read_text() == before


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "--county must be a URL"),
        (("--county", "county.example"), "--county must be a URL"),
        (("--county", f"{COUNTY}'; rm -rf /"), "--county must be a URL"),
        (("--county", COUNTY, "--lang", "fr"), "--lang must be zh or en"),
        (("--county", COUNTY, "--name", 'x"\ny'), "--name must have"),
        (("--county",), "--county needs a value"),
        (("--televison",), "there is no option --televison"),
        (("--county", COUNTY, "--county-key", "/nowhere.pem"), "cannot be read"),
    ],
)
def test_a_wrong_option_ends_with_a_sentence(
    arguments: tuple[str, ...], sentence: str, tmp_path: Path
) -> None:
    result = install("--root", tmp_path, *arguments)
    assert result.returncode == 2
    assert sentence in result.stderr
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------- the kiosk's watch


class FakeBox:
    """Answers as a box does; `heard_ago_s` is what it says of the television's page."""

    def __init__(self) -> None:
        self.heard_ago_s: float | None = 0.5
        self.asked = threading.Event()
        box = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                told = {"version": "0.1.0", "television": {"heard_ago_s": box.heard_ago_s}}
                body = json.dumps(told).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
                box.asked.set()

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def box() -> Iterator[FakeBox]:
    one = FakeBox()
    yield one
    one.server.shutdown()
    one.server.server_close()


def start_kiosk(url: str, folder: Path) -> subprocess.Popen[str]:
    """The kiosk script with a program in the browser's place that writes down how it was called."""
    browser = folder / "browser"
    browser.write_text('#!/bin/sh\necho "$@" > "$0.args"\nexec sleep 600\n')
    browser.chmod(0o755)
    environment = os.environ | {
        "TERRACE_KIOSK_BOX": url,
        "TERRACE_KIOSK_BROWSER": str(browser),
        "TERRACE_KIOSK_LANG": "en",
        "TERRACE_KIOSK_LOOK_S": "1",
        "TERRACE_KIOSK_START_S": "2",
        "STATE_DIRECTORY": str(folder),
    }
    return subprocess.Popen(
        [DEPLOY / "kiosk/terrace-kiosk"],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_the_kiosk_starts_a_silent_browser_again(box: FakeBox, tmp_path: Path) -> None:
    """While the page reports it is left alone; once it hangs, the script ends and systemd acts."""
    kiosk = start_kiosk(box.url, tmp_path)
    try:
        for _ in range(4):
            box.asked.clear()
            assert box.asked.wait(20)
        assert kiosk.poll() is None
        flags = (tmp_path / "browser.args").read_text()
        assert "--kiosk" in flags
        assert f"/waiting.html#{box.url}/tv?lang=en" in flags
        box.heard_ago_s = 61.3
        _, said = kiosk.communicate(timeout=40)
        assert kiosk.returncode == 1
        assert "silent (last heard of: 61 s)" in said
    finally:
        kiosk.kill()


def test_the_kiosk_blames_no_browser_for_a_box_that_does_not_answer(
    box: FakeBox, tmp_path: Path
) -> None:
    box.heard_ago_s = None
    silent = "http://127.0.0.1:9"
    kiosk = start_kiosk(silent, tmp_path)
    try:
        deadline = time.monotonic() + 20
        while not (tmp_path / "browser.args").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        with pytest.raises(subprocess.TimeoutExpired):
            kiosk.wait(5)  # twice what a start may take
        kiosk.terminate()
        assert kiosk.wait(20) == 0
    finally:
        kiosk.kill()
        kiosk.stderr.close()  # type: ignore[union-attr]
