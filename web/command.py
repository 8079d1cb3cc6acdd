"""What every command of `terrace` is made of: its kind, its errors, its settings, its log."""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, get_origin

if TYPE_CHECKING:
    from web.settings import Settings

BAD_USAGE = 2
FAILED = 1


class UsageError(Exception):
    """What was asked for on the command line makes no sense. Its text is one sentence."""


class CommandFailed(Exception):
    """A command could not do its work. Its text is one sentence."""


@dataclass(frozen=True, slots=True)
class Command:
    """One command: its line in the overview, its example, its arguments and what it does."""

    summary: str
    example: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]
    detail: str = ""


class OneLine(logging.Formatter):
    """One line per event: time, level, logger, then the event's name and its fields."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s.%(msecs)03d %(levelname)s %(name)s %(message)s")
        self.datefmt = "%Y-%m-%dT%H:%M:%S"

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name in logging
        # A line break in a field, from a peer perhaps, must not look like an event of its own.
        line = super().formatMessage(record)
        return "".join(one if one.isprintable() else repr(one)[1:-1] for one in line)


def configure_logging(*, verbose: bool) -> None:
    """Sends every event to standard error, `verbose` the debug ones too."""
    handler = logging.StreamHandler()
    handler.setFormatter(OneLine())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    # It tells of each of its plug-ins, whatever it is used for.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    for package in ("relay", "media", "schedule", "web"):
        logging.getLogger(package).setLevel(logging.DEBUG if verbose else logging.INFO)


def settings_arguments(parser: argparse.ArgumentParser, table: str = "relay") -> None:
    from pydantic import SecretStr

    from web.settings import DEFAULT_FILE, TABLES, environment_name, flag_name

    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help=f"settings file (default: {DEFAULT_FILE} in the working folder, if there is one)",
    )
    for name, field in TABLES[table].model_fields.items():
        if field.annotation is SecretStr:
            continue  # a flag would show the secret in the list of processes
        several = get_origin(field.annotation) is list
        description = (field.description or "").replace("%", "%%")
        if several:
            description += " (may be given several times)"
        elif field.default_factory is None and field.default not in ("", None):
            description += f" (default: {field.default})"
        parser.add_argument(
            flag_name(name),
            dest=name,
            action="append" if several else "store",
            metavar=_METAVARS.get(name, "TEXT"),
            help=f"{description} [{environment_name(name, table)}]",
        )


_METAVARS = {
    "port": "PORT",
    "host": "ADDRESS",
    "parents": "URL",
    "public_keys": "FILE",
    "advertise": "ADDRESS",
    "linger_s": "SECONDS",
    "publisher_grace_s": "SECONDS",
    "max_viewers": "NUMBER",
    "max_packets_per_s": "NUMBER",
    "max_memory_mb": "NUMBER",
    "siblings": "URL",
    "public_url": "URL",
    "drain_s": "SECONDS",
    "workers": "NUMBER",
    "record": "PATTERN",
    "recordings": "DIR",
    "attendee": "WHO",
    "folder": "DIR",
    "county_key": "FILE",
    "cache_mb": "NUMBER",
    "keep_free_mb": "NUMBER",
    "hours": "HH:MM-HH:MM",
    "day_mb": "NUMBER",
    "rate_kbit": "NUMBER",
    "neighbours": "yes|no",
    "target_hours": "NUMBER",
    "browser_port": "PORT",
}


def load_settings(args: argparse.Namespace, table: str = "relay") -> Settings:
    from web import settings

    flags = {
        name: getattr(args, name)
        for name in settings.TABLES[table].model_fields
        if hasattr(args, name)
    }
    return settings.load(flags=flags, environ=os.environ, file=args.config, table=table)
