"""Settings of a village box (`[station]`) and of the county above it (`[stations]`)."""

from __future__ import annotations

import ipaddress
import re
import socket
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from web import values


def _hours(value: str) -> str:
    if value and not re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-4]):[0-5]\d", value):
        raise ValueError("it must look like 22:00-06:00")
    return value


class StationSettings(BaseModel):
    """The `[station]` table: one village box."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)

    name: Annotated[str, AfterValidator(values.printable)] = Field(
        default_factory=socket.gethostname,
        min_length=1,
        max_length=64,
        description="The box's name until its county gives it one; this machine's name if unset",
    )
    host: Annotated[str, AfterValidator(values.host)] = Field(
        default="127.0.0.1",
        description="The address to listen on; 0.0.0.0 lets telephones and neighbours in",
    )
    port: int = Field(default=8780, ge=1, le=65535, description="The TCP port of its pages")
    parents: list[Annotated[str, AfterValidator(values.parent)]] = Field(
        default=[],
        max_length=8,
        description="URLs of its county and of other nodes to fetch courses from, in this order",
    )
    folder: Path = Field(
        default=Path("station"),
        description="The folder of its keys, timetable, logbook and courses",
    )
    county_key: Path | None = Field(
        default=None,
        description="PEM file of the county's public key; without it the first county is believed",
    )
    cache_mb: int = Field(
        default=50_000, ge=50, le=100_000_000, description="Megabytes of courses kept at most"
    )
    keep_free_mb: int = Field(
        default=500, ge=0, le=1_000_000, description="Megabytes of the disk left free at least"
    )
    hours: Annotated[str, AfterValidator(_hours)] = Field(
        default="",
        description="Hours in which courses are fetched, such as 22:00-06:00; empty: always",
    )
    day_mb: int = Field(
        default=0, ge=0, le=10_000_000, description="Megabytes fetched in a day at most; 0: any"
    )
    rate_kbit: int = Field(
        default=0, ge=0, le=100_000_000, description="Kilobits a second at most; 0: any"
    )
    neighbours: bool = Field(
        default=True, description="Whether boxes on the same LAN are found and asked first"
    )
    target_hours: float = Field(
        default=20.0, ge=0, le=744, allow_inf_nan=False, description="Hours owed a month"
    )
    browser_port: int = Field(
        default=9222,
        ge=0,
        le=65535,
        description="The kiosk browser's port for screenshots, on this machine; 0: none",
    )
    update_command: list[str] = Field(
        default=[],
        max_length=32,
        description="What brings a new version, run once a day outside of programme time",
    )

    @property
    def is_loopback(self) -> bool:
        """Whether only programs on this machine can reach the box."""
        return ipaddress.ip_address(self.host).is_loopback


class StationsSettings(BaseModel):
    """The `[stations]` table: the stations that belong to this node."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)

    folder: Path | None = Field(
        default=None, description="The folder of what is known of the stations; none: no stations"
    )
    key: Path | None = Field(
        default=None,
        description="The private key that signs for them; by default one made in the folder",
    )
    library_keys: list[Path] = Field(
        default=[],
        max_length=8,
        description="PEM files of the keys whose courses and timetables the stations take",
    )
    target_hours: float = Field(
        default=20.0, ge=0, le=744, allow_inf_nan=False, description="Hours owed a month"
    )
