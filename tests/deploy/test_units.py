"""What deploy/ offers can be used as it is: the units are valid, the sample settings load."""

from __future__ import annotations

import configparser
import subprocess
import tomllib
from pathlib import Path

import pytest

from tests.deploy.units import DEPLOY, SYSTEMD_ANALYZE, needs_systemd, with_every_setting_on
from web.settings import TABLES, environment_name, load

# The village box has units and a sample of another kind: see test_station.py.
UNITS = sorted(
    [
        *DEPLOY.glob("terrace-relay*.service"),
        DEPLOY / "terrace-serve.service",
        DEPLOY / "terrace-station.service",
    ]
)
SAMPLES = sorted(one for one in DEPLOY.glob("*.toml") if one.stem != "station")


def installed(unit: Path, folder: Path) -> Path:
    """The unit as on a machine where its program is installed: verify looks for the file."""
    copy = folder / unit.name
    copy.write_text(unit.read_text().replace("/opt/terrace/bin/terrace ", "/bin/true "))
    return copy


def installed_sample(sample: Path, folder: Path, *, text: str | None = None) -> Path:
    """The sample as /etc/terrace/terrace.toml, with the key that it names beside it."""
    (folder / "public.pem").write_text("a key, which is read when the node starts")
    copy = folder / "terrace.toml"
    copy.write_text(text or sample.read_text())
    return copy


def test_there_is_a_sample_for_every_tier_and_a_unit() -> None:
    assert {one.stem for one in SAMPLES} == {"centre", "province", "city", "county"}
    assert UNITS


@needs_systemd
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_systemd_finds_nothing_wrong_with_the_unit(unit: Path, tmp_path: Path) -> None:
    assert SYSTEMD_ANALYZE is not None
    result = subprocess.run(
        [SYSTEMD_ANALYZE, "verify", "--man=no", str(installed(unit, tmp_path))],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.stderr.strip() == ""
    assert result.returncode == 0


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_unit_confines_the_node_and_starts_it_again(unit: Path) -> None:
    """A node gets no privilege, sees no home and comes back unless a setting is wrong."""
    parsed = configparser.ConfigParser(interpolation=None, strict=True)
    parsed.optionxform = str  # type: ignore[assignment,method-assign]
    parsed.read_string(unit.read_text())
    service = parsed["Service"]
    assert service["DynamicUser"] == "yes"
    assert service["NoNewPrivileges"] == "yes"
    assert service["CapabilityBoundingSet"] == ""
    assert service["ProtectSystem"] == "strict"
    assert service["ProtectHome"] == "yes"
    assert service["Restart"] == "on-failure"
    assert service["RestartPreventExitStatus"] == "2"
    assert int(service["LimitNOFILE"]) >= 65536


def test_the_instance_unit_differs_only_in_its_names() -> None:
    """Both units confine in the same way: what is not a comment, name or path is the same text."""
    one, several = (
        [line for line in (DEPLOY / name).read_text().splitlines() if not line.startswith("#")]
        for name in ("terrace-relay.service", "terrace-relay@.service")
    )
    assert len(one) == len(several)
    for line, instance_line in zip(one, several, strict=True):
        assert line == instance_line or "%i" in instance_line


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.stem)
def test_a_sample_loads_and_says_its_tier(sample: Path, tmp_path: Path) -> None:
    relay = load(file=installed_sample(sample, tmp_path)).relay
    assert relay.tier == sample.stem
    assert bool(relay.parents) == (sample.stem != "centre")
    assert relay.public_keys == [tmp_path / "public.pem"]


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.stem)
def test_a_sample_shows_every_setting_at_its_default(sample: Path, tmp_path: Path) -> None:
    """No setting is left out, and what is commented out is what holds without it."""
    text = with_every_setting_on(sample.read_text())
    tables = tomllib.loads(text)
    assert "relay" in tables
    for name, table in tables.items():
        # TOML has no word for what is not set.
        unset = {key for key, field in TABLES[name].model_fields.items() if field.default is None}
        assert set(table) | unset == set(TABLES[name].model_fields), name
        for key in unset:
            assert f"\n# {key}: unset" in text, key

    plain = load(file=installed_sample(sample, tmp_path))
    assert load(file=installed_sample(sample, tmp_path, text=text)) == plain


def test_the_folder_s_readme_names_every_file() -> None:
    readme = (DEPLOY / "README.md").read_text()
    for file in DEPLOY.iterdir():
        if file.name != "README.md":
            assert file.name in readme, file.name


def test_every_setting_is_in_the_table_of_the_web_package() -> None:
    readme = (DEPLOY.parent / "web" / "README.md").read_text()
    for table in TABLES:
        for name in TABLES[table].model_fields:
            assert f"| `{name}` | `{environment_name(name, table)}` |" in readme, (table, name)
