"""Where a setting comes from, which one wins, and what is said about a wrong one."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay import access
from web.settings import (
    RelaySettings,
    SettingsError,
    environment_name,
    flag_name,
    load,
    unknown_variables,
)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No terrace.toml of the developer's gets in."""
    monkeypatch.chdir(tmp_path)


def toml(folder: Path, text: str) -> Path:
    file = folder / "terrace.toml"
    file.write_text(text)
    return file


def test_nothing_given_makes_an_open_node_on_this_machine() -> None:
    relay = load().relay
    assert (relay.host, relay.port, relay.parents, relay.public_keys) == ("127.0.0.1", 8710, [], [])
    assert relay.name
    assert relay.is_loopback


def test_environment_goes_over_the_file_and_flags_over_both(tmp_path: Path) -> None:
    toml(tmp_path, '[relay]\nname = "file"\ntier = "file"\nport = 1001\n')
    relay = load(
        environ={"TERRACE_TIER": "environment", "TERRACE_PORT": "1002"},
        flags={"port": "1003", "host": None},
    ).relay
    assert (relay.name, relay.tier, relay.port) == ("file", "environment", 1003)


def test_a_list_is_replaced_by_the_later_place_not_added_to(tmp_path: Path) -> None:
    toml(tmp_path, '[relay]\nparents = ["http://a:1", "http://b:1"]\n')
    assert load(environ={"TERRACE_PARENTS": "http://c:1, http://d:1/"}).relay.parents == [
        "http://c:1",
        "http://d:1",
    ]
    assert load(flags={"parents": ["http://e:1"]}).relay.parents == ["http://e:1"]


def test_an_empty_variable_counts_as_unset() -> None:
    assert load(environ={"TERRACE_PORT": "", "TERRACE_PARENTS": " "}).relay.port == 8710


def test_the_file_can_be_named_by_flag_or_variable_and_must_then_exist(tmp_path: Path) -> None:
    other = tmp_path / "other.toml"
    other.write_text("[relay]\nport = 2001\n")
    assert load(file=other).relay.port == 2001
    assert load(environ={"TERRACE_CONFIG": str(other)}).relay.port == 2001
    with pytest.raises(SettingsError, match=r"nowhere\.toml does not exist: correct --config"):
        load(file=tmp_path / "nowhere.toml")


def test_the_path_of_a_key_starts_at_the_file_that_names_it(tmp_path: Path) -> None:
    folder = tmp_path / "etc"
    folder.mkdir()
    (folder / "public.pem").touch()
    file = toml(folder, '[relay]\nhost = "0.0.0.0"\npublic_keys = ["public.pem"]\n')
    assert load(file=file).relay.public_keys == [folder / "public.pem"]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.10", "::1", "localhost"])
def test_this_machine_alone_needs_no_keys(host: str) -> None:
    assert load(flags={"host": host}).relay.is_loopback


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "2001:db8::1"])
def test_a_node_that_others_can_reach_needs_keys(host: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load(environ={"TERRACE_HOST": host})
    assert str(caught.value) == (
        f"host {host} (from TERRACE_HOST) can be reached from other machines and public_keys is "
        "empty, so anyone could publish: set public_keys to a key made by `terrace keygen`, "
        "or host to 127.0.0.1"
    )


WRONG = [
    # environment, the whole sentence
    ({"TERRACE_PORT": "abc"}, "port is 'abc' in TERRACE_PORT: it must be a whole number"),
    ({"TERRACE_PORT": "0"}, "port is '0' in TERRACE_PORT: it must be 1 or more"),
    ({"TERRACE_PORT": "65536"}, "port is '65536' in TERRACE_PORT: it must be 65535 or less"),
    (
        {"TERRACE_PORT": "tcp://10.0.0.7:8710"},
        "port is 'tcp://10.0.0.7:8710' in TERRACE_PORT: it must be a whole number "
        "(Kubernetes sets this variable: give the pod enableServiceLinks: false)",
    ),
    (
        {"TERRACE_HOST": "centre.example"},
        "host is 'centre.example' in TERRACE_HOST: it must be an IP address of this machine, "
        "or 0.0.0.0 for all of them",
    ),
    (
        {"TERRACE_PARENTS": "http://a:1,centre:8710"},
        "parents is 'centre:8710' in TERRACE_PARENTS: a parent must be a URL such as "
        "http://192.0.2.10:8710",
    ),
    (
        {"TERRACE_PARENTS": "http://a:99999"},
        "parents is 'http://a:99999' in TERRACE_PARENTS: a parent must be a URL such as "
        "http://192.0.2.10:8710",
    ),
    (
        {"TERRACE_PARENTS": "http://a:1,http://a:1/"},
        "parents is ['http://a:1', 'http://a:1/'] in TERRACE_PARENTS: a parent is named twice",
    ),
    (
        {"TERRACE_ADVERTISE": "0.0.0.0"},
        "advertise is '0.0.0.0' in TERRACE_ADVERTISE: 0.0.0.0 is no address that a viewer could "
        "send to",
    ),
    ({"TERRACE_LINGER_S": "-1"}, "linger_s is '-1' in TERRACE_LINGER_S: it must be 0 or more"),
    ({"TERRACE_LINGER_S": "nan"}, "linger_s is 'nan' in TERRACE_LINGER_S: it must be a number"),
    (
        {"TERRACE_NAME": "x" * 65},
        f"name is '{'x' * 65}' in TERRACE_NAME: it must have at most 64 characters",
    ),
    (
        {"TERRACE_PUBLIC_KEYS": "nowhere.pem"},
        "public_keys from TERRACE_PUBLIC_KEYS names 'nowhere.pem', which is no file: "
        "make it with `terrace keygen`, or correct the path",
    ),
]


@pytest.mark.parametrize(("environ", "sentence"), WRONG)
def test_a_wrong_value_is_told_with_its_name_its_place_and_what_is_right(
    environ: dict[str, str], sentence: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        load(environ=environ)
    assert str(caught.value) == sentence


WRONG_FILES = [
    # terrace.toml, what the sentence says after the file's name
    ("[relay]\nprot = 1\n", "has the unknown setting 'prot' in [relay], did you mean 'port'?"),
    ("port = 1\n", "must stand under [relay]: write that line above"),
    ("[rely]\nport = 1\n", "has the unknown table 'rely', did you mean 'relay'?"),
    ("relay = 1\n", "must be a table: write [relay] on its own line"),
    ("[relay\n", "is not valid TOML:"),
    ("[relay]\nname = 7\n", "it must be a text in quotes"),
    ('[relay]\nparents = "http://a:1"\n', 'it must be a list, such as ["..."]'),
    ("[relay]\nport = 1.5\n", "it must be a whole number"),
    ('[relay]\nname = ""\n', "it must not be empty"),
]


@pytest.mark.parametrize(("text", "part"), WRONG_FILES)
def test_a_wrong_file_is_told_with_its_name(tmp_path: Path, text: str, part: str) -> None:
    file = toml(tmp_path, text)
    with pytest.raises(SettingsError) as caught:
        load(file=file)
    assert str(file) in str(caught.value)
    assert part in str(caught.value)
    assert "\n" not in str(caught.value).removesuffix("\n")


def test_the_parent_s_token_is_shown_nowhere(tmp_path: Path) -> None:
    """Neither in the settings printed whole, nor in the sentence about a wrong one."""
    relay = load(environ={"TERRACE_PARENT_TOKEN": "eyJ-secret"}).relay
    assert relay.parent_token.get_secret_value() == "eyJ-secret"
    assert "eyJ-secret" not in f"{relay!r} {relay} {relay.model_dump_json()}"

    file = toml(tmp_path, '[relay]\nparent_token = ["eyJ-secret"]\n')
    with pytest.raises(SettingsError) as caught:
        load(file=file)
    assert "parent_token" in str(caught.value)
    assert "eyJ-secret" not in str(caught.value)


def test_a_password_in_a_parent_s_url_is_refused_and_not_repeated() -> None:
    with pytest.raises(SettingsError) as caught:
        load(flags={"parents": ["http://me:geheim@a:1"]})
    assert "must not carry a password" in str(caught.value)
    assert "geheim" not in str(caught.value)


def test_a_misspelt_variable_is_found_and_a_command_s_own_is_not() -> None:
    environ = {"TERRACE_PROT": "1", "TERRACE_PORT": "1", "TERRACE_TOKEN": "x", "PATH": "/bin"}
    assert unknown_variables(environ) == ["TERRACE_PROT"]


def test_names_of_variables_and_flags_follow_from_the_setting() -> None:
    assert environment_name("publisher_grace_s") == "TERRACE_PUBLISHER_GRACE_S"
    assert flag_name("publisher_grace_s") == "--publisher-grace-s"
    assert flag_name("parents") == "--parent"


@given(
    st.dictionaries(
        st.sampled_from([environment_name(name) for name in RelaySettings.model_fields]),
        st.text(),
    )
)
def test_any_environment_loads_or_is_refused_in_one_line(environ: dict[str, str]) -> None:
    """No other exception, and no line break that would look like a second message."""
    try:
        said = repr(load(environ=environ))
    except SettingsError as error:
        said = str(error)
    assert said.isprintable()


def test_every_setting_says_what_it_is() -> None:
    """The description is what `terrace relay --help` shows."""
    for name, field in RelaySettings.model_fields.items():
        assert field.description, name


def test_the_relay_gets_what_was_set_and_the_keys_that_were_named(tmp_path: Path) -> None:
    private, public = access.new_key_pair()
    (tmp_path / "public.pem").write_bytes(public)
    config = load(
        environ={
            "TERRACE_HOST": "0.0.0.0",
            "TERRACE_PUBLIC_KEYS": "public.pem",
            "TERRACE_PARENTS": "http://a:1,http://b:1",
            "TERRACE_PARENT_TOKEN": "secret",
            "TERRACE_ADVERTISE": "192.0.2.7",
            "TERRACE_LINGER_S": "1.5",
        }
    ).relay.node_config()
    assert (config.host, config.port, config.linger_s) == ("0.0.0.0", 8710, 1.5)
    assert config.parents == ("http://a:1", "http://b:1")
    assert config.advertise == ("192.0.2.7",)
    assert config.parent_token == "secret"
    assert not config.access.open
    token = access.issue(
        private, publish=["hall"], view=[], relay=False, ttl_s=60, subject="", now=time.time()
    )
    assert config.access.check(f"Bearer {token}").may_publish("hall")


def test_without_keys_a_node_of_this_machine_is_open() -> None:
    assert load().relay.node_config().access.open


def test_a_file_that_is_no_public_key_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "public.pem").write_text("no key")
    with pytest.raises(SettingsError, match=r"^public_keys cannot be used: .*public\.pem"):
        load(environ={"TERRACE_PUBLIC_KEYS": "public.pem"}).relay.node_config()
