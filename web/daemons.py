"""The commands that stay: a demo, a node, the centre, a village box."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from web.command import (
    CommandFailed,
    UsageError,
    configure_logging,
    load_settings,
    settings_arguments,
)

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    from media.county import County
    from web.settings import Settings


def demo_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--base-port",
        type=_base_port,
        default=8710,
        metavar="PORT",
        help="port of the centre; the three below take PORT+10, +20 and +30 (default: 8710)",
    )
    parser.add_argument(
        "--no-publish", action="store_true", help="start the tree without the test lecture"
    )
    parser.add_argument("--seconds", type=float, metavar="N", help="stop by itself after N seconds")
    parser.add_argument(
        "--class-in", type=float, default=110.0, metavar="N",
        help="seconds until the sample class begins by itself (default: 110)",
    )  # fmt: skip


def _base_port(text: str) -> int:
    port = int(text)
    if not 1 <= port <= 65505:
        raise argparse.ArgumentTypeError("it must be from 1 to 65505")
    return port


def demo(args: argparse.Namespace) -> int:
    from web import demo

    try:
        return demo.run(
            base_port=args.base_port,
            publish=not args.no_publish,
            seconds=args.seconds,
            class_in_s=args.class_in,
        )
    except demo.DemoFailed as error:
        raise CommandFailed(str(error)) from error


def relay_arguments(parser: argparse.ArgumentParser) -> None:
    settings_arguments(parser)
    parser.add_argument("--verbose", action="store_true", help="log what helps to find a fault")


def relay(args: argparse.Namespace) -> int:
    from web.settings import unknown_variables

    settings = load_settings(args)
    configure_logging(verbose=args.verbose)
    for name in unknown_variables(os.environ):
        logging.getLogger("web.cli").warning("setting-unknown variable=%s", name)

    from relay.errors import SettingError
    from relay.node import Node
    from web import app, library, recordings, workers

    relay, number = settings.relay, workers.worker_number()
    count = relay.workers
    # The environment would show a worker's secret to what it starts, but a worker starts nothing.
    secret = os.environ.get(workers.SECRET_VARIABLE, "") if number else workers.new_secret()
    http_host = relay.host
    if number:
        relay, http_host = workers.worker_settings(relay, number), workers.LOOPBACK
    config = relay.node_config()
    try:
        settings.cache.read_keys(config.access)
    except ValueError as error:
        raise UsageError(f"library_keys cannot be used: {error}") from error
    # Workers and recorders show it.
    config = replace(config, access=config.access.with_secret(secret))
    if number:
        config = replace(config, parent_token=secret)

    async def run() -> None:
        node = Node(config)
        team = None
        if not number and count > 1:
            team = workers.Team(node, count, secret, args.argv)
        recorded = room = None
        if not number:
            if not relay.parents:
                room = library.LibraryRoom(settings.library)
            recorded = recordings.Recordings(
                node, relay.recordings, relay.record, secret, ingest=room
            )
        county = None if number else await asyncio.to_thread(_open_county, settings)
        await app.serve(
            node, host=http_host, port=relay.port, drain_s=relay.drain_s, team=team,
            recorded=recorded, cache=settings.cache, county=county, room=room,
            attendee=relay.attendee,
        )  # fmt: skip

    try:
        asyncio.run(run())
    except SettingError as error:
        raise UsageError(str(error)) from error
    return 0


def serve(args: argparse.Namespace) -> int:
    from web.settings import unknown_variables

    settings = load_settings(args)
    configure_logging(verbose=args.verbose)
    for name in unknown_variables(os.environ):
        logging.getLogger("web.cli").warning("setting-unknown variable=%s", name)
    if settings.relay.parents:
        raise UsageError("a centre has no parents: take parents out, or run `terrace relay`")
    if settings.relay.workers > 1:
        raise UsageError("the centre is one process: set workers to 1, and use more nodes below it")
    if settings.centre.smtp_host and "@" not in settings.centre.smtp_sender:
        raise UsageError("smtp_host needs smtp_sender, the address that mail comes from")

    from media.errors import MediaError
    from relay.errors import SettingError
    from schedule.errors import ScheduleError
    from web import library, person, serve, workers

    secret = workers.new_secret()
    config = settings.relay.node_config()
    config = replace(config, access=config.access.with_secret(secret))

    async def run() -> None:
        database = settings.centre.database
        if await person.is_empty(database):
            password = os.environ.get("TERRACE_ADMIN_PASSWORD", "")
            added = await person.add(
                database, "admin", name="", unit="", admin=True, password=password
            )
            # Printed once, and kept nowhere.
            shown = "the password of TERRACE_ADMIN_PASSWORD" if password else added.password
            sys.stdout.write(f"first administrator: {added.login}, password: {shown}\n")
            sys.stdout.flush()
        room = library.LibraryRoom(settings.library)
        # Its own stations take what its library signs.
        keys = await room.public_keys()
        county = await asyncio.to_thread(_open_county, settings, keys)
        await serve.run(settings, config, secret, county, room)

    try:
        asyncio.run(run())
    except (SettingError, MediaError) as error:
        raise UsageError(str(error)) from error
    except ScheduleError as error:
        raise CommandFailed(str(error)) from error
    return 0


def _open_county(settings: Settings, more_keys: Sequence[Ed25519PublicKey] = ()) -> County | None:
    """The book of this node's stations, if it has any. Raises SettingsError."""
    from media.county import County
    from media.pairing import public_pem
    from relay.access import read_public_key
    from web.settings import SettingsError

    stations = settings.stations
    if stations.folder is None:
        return None
    try:
        county = County(
            stations.folder,
            name=settings.relay.name,
            key_file=stations.key,
            library_keys=[
                public_pem(one)
                for one in (*map(read_public_key, stations.library_keys), *more_keys)
            ],
            target_hours=stations.target_hours,
        )
        county.open()
    except (OSError, ValueError) as error:
        raise SettingsError(f"[stations] cannot be used: {error}") from error
    return county


def station_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "carry",
        nargs="?",
        choices=["export", "import"],
        help="carry the courses of a running box to a stick, or from one",
    )
    parser.add_argument("stick", nargs="?", type=Path, metavar="FOLDER", help="where the stick is")
    settings_arguments(parser, "station")
    parser.add_argument("--verbose", action="store_true", help="log what helps to find a fault")


def station(args: argparse.Namespace) -> int:
    settings = load_settings(args, "station")
    configure_logging(verbose=args.verbose)

    from relay.errors import SettingError
    from web import box

    if args.carry:
        if args.stick is None:
            raise UsageError(f"say which folder: terrace station {args.carry} /media/stick")
        try:
            print(asyncio.run(box.carry(settings.station, args.carry, args.stick)))
        except box.NotCarried as error:
            raise CommandFailed(str(error)) from error
        return 0
    try:
        asyncio.run(box.run(settings.station, os.environ))
    except SettingError as error:
        raise UsageError(str(error)) from error
    return 0
