"""Settings of a node: where they come from, what they may be, and what to say when one is wrong.

Three places, each over the one before: `terrace.toml`, the `TERRACE_*` environment, the flags of
the command line. Every value remembers its place, so that an error can name the setting, the place
and what to do.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
import socket
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
)

from web import values
from web.cache_settings import CacheSettings
from web.centre.settings import CentreSettings
from web.library_settings import LibrarySettings
from web.station_settings import StationSettings, StationsSettings

if TYPE_CHECKING:
    from relay.node import NodeConfig

DEFAULT_FILE = Path("terrace.toml")
ENVIRONMENT_PREFIX = "TERRACE_"

# Variables that carry the prefix and belong to a command, not to a node's settings.
OTHER_VARIABLES = frozenset(
    {
        "TERRACE_ADMIN_PASSWORD",
        "TERRACE_CONFIG",
        "TERRACE_PERSON_PASSWORD",
        "TERRACE_SEND",
        "TERRACE_TEST_CLOCK",
        "TERRACE_TOKEN",
        "TERRACE_WORKER",
        "TERRACE_WORKER_SECRET",
    }
)

AT_WORK = frozenset({("relay", "recordings"), ("library", "folder"), ("centre", "slides")})
"""Settings whose path starts at the working folder, wherever it was given."""

LISTS_IN_WORDS = {
    "parents": "parent",
    "public_keys": "public-key",
    "advertise": "advertise",
    "siblings": "sibling",
    "record": "record",
}


class SettingsError(Exception):
    """A setting is wrong. Its text is one sentence for the person who wrote the setting."""


def _pattern(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._~*-]{1,64}", value):
        raise ValueError("it must be a list of stream names, such as lecture-*")
    return value


class RelaySettings(BaseModel):
    """The `[relay]` table: one relay node."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)

    name: Annotated[str, AfterValidator(values.printable)] = Field(
        default_factory=socket.gethostname,
        min_length=1,
        max_length=64,
        description="The node's name in pages and `terrace status`; this machine's name if unset",
    )
    tier: Annotated[str, AfterValidator(values.printable)] = Field(
        default="",
        max_length=32,
        description="The node's place in the tree, for display: centre, province, city, county",
    )
    host: Annotated[str, AfterValidator(values.host)] = Field(
        default="127.0.0.1",
        description="The address to listen on; anything but this machine itself needs public_keys",
    )
    port: int = Field(
        default=8710,
        ge=1,
        le=65535,
        description="The one number for TCP (pages, signalling) and UDP (media)",
    )
    parents: list[Annotated[str, AfterValidator(values.parent)]] = Field(
        default=[],
        max_length=8,
        description="URLs of the nodes above, the preferred one first; none at the centre",
    )
    parent_token: SecretStr = Field(
        default=SecretStr(""),
        description="The token shown to the parent (`terrace token --relay`)",
    )
    public_keys: list[Path] = Field(
        default=[],
        description="PEM files of the public keys whose tokens are good here (`terrace keygen`)",
    )
    advertise: list[Annotated[str, AfterValidator(values.address)]] = Field(
        default=[],
        max_length=8,
        description="Addresses at which viewers reach this node, if not those of its own cards",
    )
    linger_s: float = Field(
        default=5.0,
        ge=0,
        le=3600,
        allow_inf_nan=False,
        description="Seconds for which a stream is still pulled after its last viewer left",
    )
    publisher_grace_s: float = Field(
        default=60.0,
        ge=0,
        le=86400,
        allow_inf_nan=False,
        description="Seconds for which a stream waits for its publisher to come back",
    )
    max_viewers: int = Field(
        default=0,
        ge=0,
        le=1_000_000,
        description="Viewers that this node holds at most; 0: as many as it can",
    )
    max_packets_per_s: int = Field(
        default=0,
        ge=0,
        le=100_000_000,
        description="Packets a second that this node sends at most; 0: as many as it can",
    )
    max_memory_mb: int = Field(
        default=0,
        ge=0,
        le=16_000_000,
        description="Memory beyond which nobody more is let in; 0: 85 % of what there is",
    )
    siblings: list[Annotated[str, AfterValidator(values.sibling)]] = Field(
        default=[],
        max_length=16,
        description="URLs of nodes that take the viewers for whom there is no room here",
    )
    public_url: Annotated[str, AfterValidator(values.public_url)] = Field(
        default="",
        max_length=255,
        description="The URL at which viewers reach this node, if not http://host:port",
    )
    workers: int = Field(
        default=1,
        ge=1,
        le=64,
        description="Relay processes of this node, one for each core; on ports from `port` upwards",
    )
    drain_s: float = Field(
        default=0.0,
        ge=0,
        le=3600,
        allow_inf_nan=False,
        description="Seconds for which SIGTERM lets this node hand its viewers over",
    )

    record: list[Annotated[str, AfterValidator(_pattern)]] = Field(
        default=[],
        max_length=32,
        description="Streams that are recorded when they go on air here; * stands for anything",
    )
    recordings: Path = Field(
        default=Path("recordings"),
        description="The folder that recordings are written to",
    )
    attendee: str = Field(
        default="",
        pattern=r"^((site|station):[1-9][0-9]{0,8})?$",
        description="Who a viewer without a name is in a class's attendance here, such as site:3",
    )

    @field_validator("parents")
    @classmethod
    def _parents_differ(cls, value: list[str]) -> list[str]:
        if len(set(value)) != len(value):
            raise ValueError("a parent is named twice")
        return value

    @property
    def is_loopback(self) -> bool:
        """Whether only programs on this machine can reach the node."""
        return ipaddress.ip_address(self.host).is_loopback

    def node_config(self) -> NodeConfig:
        """What the relay itself needs, with the public keys read.

        Raises `SettingsError` when a key cannot be read or used.
        """
        from relay.access import Access
        from relay.admission import Limits
        from relay.node import NodeConfig

        if self.public_keys:
            try:
                access = Access.from_pem_files(self.public_keys)
            except (OSError, ValueError) as error:
                raise SettingsError(
                    f"public_keys cannot be used: {error}; `terrace keygen` makes a pair"
                ) from error
        else:
            access = Access.open_mode()
        return NodeConfig(
            name=self.name,
            tier=self.tier,
            host=self.host,
            port=self.port,
            parents=tuple(self.parents),
            parent_token=self.parent_token.get_secret_value(),
            access=access,
            advertise=tuple(self.advertise),
            linger_s=self.linger_s,
            publisher_grace_s=self.publisher_grace_s,
            limits=Limits(
                max_viewers=self.max_viewers,
                max_packets_per_s=self.max_packets_per_s,
                max_memory_bytes=self.max_memory_mb * 1_000_000,
            ),
            siblings=tuple(self.siblings),
            public_url=self.public_url,
        )


class Settings(BaseModel):
    """Everything that `terrace.toml` may say, one table per part of Terrace."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    relay: RelaySettings = RelaySettings()
    library: LibrarySettings = LibrarySettings()
    cache: CacheSettings = CacheSettings()
    station: StationSettings = StationSettings()
    stations: StationsSettings = StationsSettings()
    centre: CentreSettings = CentreSettings()


TABLES: Mapping[str, type[BaseModel]] = {
    "relay": RelaySettings,
    "library": LibrarySettings,
    "cache": CacheSettings,
    "station": StationSettings,
    "stations": StationsSettings,
    "centre": CentreSettings,
}


@dataclass(frozen=True, slots=True)
class _Given:
    """One value and the place it was given in, ready to stand in a sentence."""

    value: object
    place: str


_GivenTables = dict[str, dict[str, _Given]]
"""By table, then by setting."""


def environment_name(setting: str, table: str = "relay") -> str:
    """The variable that carries a setting: `parent_token` -> `TERRACE_PARENT_TOKEN`.

    Those of other tables than `relay` have its name in theirs: `TERRACE_STATION_PORT`.
    """
    middle = "" if table == "relay" else table.upper() + "_"
    return ENVIRONMENT_PREFIX + middle + setting.upper()


def flag_name(setting: str) -> str:
    """The flag that carries a setting: `parents` -> `--parent`, given once for each."""
    return "--" + LISTS_IN_WORDS.get(setting, setting.replace("_", "-"))


def load(
    *,
    flags: Mapping[str, object] | None = None,
    environ: Mapping[str, str] | None = None,
    file: Path | None = None,
    table: str = "relay",
) -> Settings:
    """Reads the settings from all three places and checks them.

    `flags` holds what the command line gave for `table`, by setting; None means that a flag was
    not given. `file` None means: the one named in `TERRACE_CONFIG`, or `terrace.toml` in the
    working folder if there is one. A file that was named must exist.

    Raises `SettingsError` for the first thing that is wrong.
    """
    environ = environ or {}
    if file is None and environ.get("TERRACE_CONFIG"):
        file = Path(environ["TERRACE_CONFIG"])
    if file is None and DEFAULT_FILE.is_file():
        file = DEFAULT_FILE

    given: _GivenTables = {name: {} for name in TABLES}
    if file is not None:
        _from_file(file, given)
    _from_environment(environ, given)
    given[table] |= {
        name: _Given(value, flag_name(name))
        for name, value in (flags or {}).items()
        if value is not None
    }

    made: dict[str, BaseModel] = {}
    for name, model in TABLES.items():
        try:
            made[name] = model.model_validate({key: one.value for key, one in given[name].items()})
        except ValidationError as error:
            raise SettingsError(_sentence(error, model, given[name])) from None
    settings = Settings.model_validate(made)
    if table == "relay":
        _check_keys(settings.relay, given["relay"])
    return settings


def unknown_variables(environ: Mapping[str, str]) -> list[str]:
    """The `TERRACE_*` variables that no setting reads, most likely misspelt; to be warned of.

    They stop nothing, because others set such variables too: Kubernetes does for every service.
    """
    known = {
        environment_name(name, table)
        for table, model in TABLES.items()
        for name in model.model_fields
    } | OTHER_VARIABLES
    return sorted(
        name for name in environ if name.startswith(ENVIRONMENT_PREFIX) and name not in known
    )


def _from_file(file: Path, given: _GivenTables) -> None:
    try:
        tables = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SettingsError(
            f"the settings file {file} does not exist: correct --config or leave it out"
        ) from None
    except OSError as error:
        raise SettingsError(f"the settings file {file} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"the settings file {file} is not valid TOML: {error}") from None

    for name, table in tables.items():
        if name in RelaySettings.model_fields:
            raise SettingsError(f"{name} in {file} must stand under [relay]: write that line above")
        if name not in TABLES:
            raise SettingsError(f"{file} has the unknown table {name!r}{_nearest(name)}")
        if not isinstance(table, dict):
            raise SettingsError(f"{name} in {file} must be a table: write [{name}] on its own line")

    for table_name, model in TABLES.items():
        for name, value in tables.get(table_name, {}).items():
            field = model.model_fields.get(name)
            if field is None:
                raise SettingsError(
                    f"{file} has the unknown setting {name!r} in [{table_name}]"
                    f"{_nearest(name, model)}"
                )
            # A file's paths start at the file, so that it means the same wherever it is read from.
            # What a node writes stands where it works: as a service that is not where settings are.
            if (table_name, name) in AT_WORK:
                pass
            elif field.annotation == list[Path] and isinstance(value, list):
                value = [file.parent / one if isinstance(one, str) else one for one in value]
            elif Path in (field.annotation, *get_args(field.annotation)) and isinstance(value, str):
                value = file.parent / value
            given[table_name][name] = _Given(value, f"[{table_name}] of {file}")


def _from_environment(environ: Mapping[str, str], given: _GivenTables) -> None:
    for table, model in TABLES.items():
        for name, field in model.model_fields.items():
            variable = environment_name(name, table)
            # An empty variable counts as unset: so a service file can pass on what may be absent.
            text = environ.get(variable, "").strip()
            if not text:
                continue
            value: object = text
            if get_origin(field.annotation) is list:
                value = [one.strip() for one in text.split(",") if one.strip()]
            given[table][name] = _Given(value, variable)


def _check_keys(relay: RelaySettings, given: Mapping[str, _Given]) -> None:
    if not relay.is_loopback and not relay.public_keys:
        place = f" (from {given['host'].place})" if "host" in given else ""
        raise SettingsError(
            f"host {relay.host}{place} can be reached from other machines and public_keys is "
            "empty, so anyone could publish: set public_keys to a key made by `terrace keygen`, "
            "or host to 127.0.0.1"
        )
    for path in relay.public_keys:
        if not path.is_file():
            raise SettingsError(
                f"public_keys from {given['public_keys'].place} names {str(path)!r}, "
                "which is no file: "
                "make it with `terrace keygen`, or correct the path"
            )


def _sentence(error: ValidationError, model: type[BaseModel], given: Mapping[str, _Given]) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    setting = str(first["loc"][0])
    one = given[setting]
    problem = _problem(first["type"], first["msg"], first.get("ctx", {}))
    if model.model_fields[setting].annotation is SecretStr:
        shown = "given"
    else:
        value = one.value
        if len(first["loc"]) > 1 and isinstance(value, list):
            value = value[int(first["loc"][1])]
        shown = f"{value!r}" if not isinstance(value, Path) else f"'{value}'"
        if re.search(r"://[^/]*@", shown):
            shown = "a URL with a password"
    hint = ""
    if setting == "port" and isinstance(one.value, str) and one.value.startswith("tcp://"):
        hint = " (Kubernetes sets this variable: give the pod enableServiceLinks: false)"
    return f"{setting} is {shown} in {one.place}: {problem}{hint}"


def _problem(kind: str, message: str, context: Mapping[str, Any]) -> str:
    match kind:
        case "value_error":
            return str(context["error"])
        case "int_parsing" | "int_type" | "int_from_float":
            return "it must be a whole number"
        case "float_parsing" | "float_type" | "finite_number":
            return "it must be a number"
        case "greater_than_equal":
            return f"it must be {context['ge']:g} or more"
        case "less_than_equal":
            return f"it must be {context['le']:g} or less"
        case "bool_parsing" | "bool_type":
            return "it must be true or false"
        case "string_type":
            return "it must be a text in quotes"
        case "string_too_short":
            return "it must not be empty"
        case "string_too_long":
            return f"it must have at most {context['max_length']} characters"
        case "list_type":
            return 'it must be a list, such as ["..."]'
        case "too_long":
            return f"it must have at most {context['max_length']} entries"
        case _:
            return message[:1].lower() + message[1:]


def _nearest(name: str, model: type[BaseModel] = RelaySettings) -> str:
    close = difflib.get_close_matches(name, [*model.model_fields, *TABLES], n=1)
    return f", did you mean '{close[0]}'?" if close else ""
