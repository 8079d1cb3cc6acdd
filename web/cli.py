"""The command `terrace`.

Each command imports what it needs when it runs, so that `terrace --help` answers at once. Bad usage
and bad settings end with status 2, anything else that fails with status 1, both with one sentence.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import logging
import os
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, get_origin

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    from media.county import County
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


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence; the usage is there for who asks."""

    def error(self, message: str) -> NoReturn:
        self.exit(BAD_USAGE, f"{self.prog}: {message} (see {self.prog} --help)\n")


class _OneLine(logging.Formatter):
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
    handler.setFormatter(_OneLine())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    for package in ("relay", "media", "schedule", "web"):
        logging.getLogger(package).setLevel(logging.DEBUG if verbose else logging.INFO)


# The arguments of the commands, in the order of the overview


def _demo_arguments(parser: argparse.ArgumentParser) -> None:
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


def _demo(args: argparse.Namespace) -> int:
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


def _settings_arguments(parser: argparse.ArgumentParser, table: str = "relay") -> None:
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


def _relay_arguments(parser: argparse.ArgumentParser) -> None:
    _settings_arguments(parser)
    parser.add_argument("--verbose", action="store_true", help="log what helps to find a fault")


def _relay(args: argparse.Namespace) -> int:
    from web.settings import unknown_variables

    settings = _load_settings(args)
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


def _serve(args: argparse.Namespace) -> int:
    from web.settings import unknown_variables

    settings = _load_settings(args)
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


def _person_arguments(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(dest="what", metavar="add", required=True)
    add = commands.add_parser("add", help="make a person, or give one another password")
    add.add_argument("login", metavar="LOGIN", help="what they sign in as")
    add.add_argument("--name", default="", help="their name (default: the login)")
    add.add_argument(
        "--unit", default="", metavar="CODE", help="their unit (default: the one at the top)"
    )
    add.add_argument(
        "--admin", action="store_true", help="administrator of that unit and all below it"
    )
    add.add_argument(
        "--config", type=Path, metavar="FILE", help="the settings file (default: terrace.toml)"
    )


def _person(args: argparse.Namespace) -> int:
    from schedule.errors import ScheduleError
    from web import person, settings

    loaded = settings.load(environ=os.environ, file=args.config, table="centre")
    password = os.environ.get("TERRACE_PERSON_PASSWORD", "")
    try:
        added = asyncio.run(
            person.add(
                loaded.centre.database,
                args.login,
                name=args.name,
                unit=args.unit,
                admin=args.admin,
                password=password,
            )
        )
    except ScheduleError as error:
        raise CommandFailed(str(error)) from error
    done = "added" if added.made else "has another password now"
    said = "" if password else f", password: {added.password}"
    sys.stdout.write(f"{added.login} {done}{said}\n")
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


def _load_settings(args: argparse.Namespace, table: str = "relay") -> Settings:
    from web import settings

    flags = {
        name: getattr(args, name)
        for name in settings.TABLES[table].model_fields
        if hasattr(args, name)
    }
    return settings.load(flags=flags, environ=os.environ, file=args.config, table=table)


def _station_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "carry",
        nargs="?",
        choices=["export", "import"],
        help="carry the courses of a running box to a stick, or from one",
    )
    parser.add_argument("stick", nargs="?", type=Path, metavar="FOLDER", help="where the stick is")
    _settings_arguments(parser, "station")
    parser.add_argument("--verbose", action="store_true", help="log what helps to find a fault")


def _station(args: argparse.Namespace) -> int:
    settings = _load_settings(args, "station")
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


def _programme_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=["sign"], help="what to do with the plan")
    parser.add_argument("plan", type=Path, metavar="PLAN", help="the timetable as JSON")
    parser.add_argument(
        "--key", type=Path, required=True, metavar="FILE", help="the county's private key"
    )
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="where to write it (default: standard output)"
    )


def _programme(args: argparse.Namespace) -> int:
    from media import keep, programme, signed

    try:
        plan = programme.parse(args.plan.read_bytes())
        text = signed.sign(plan, args.key.read_bytes(), programme.TYP)
        if args.out is not None:
            keep.write(args.out, text.encode() + b"\n")
    except OSError as error:
        raise CommandFailed(f"{error.filename}: {error.strerror}") from error
    except ValueError as error:
        raise CommandFailed(f"{args.plan} cannot be signed: {error}") from error
    if args.out is None:
        print(text)
    return 0


def _publish_arguments(parser: argparse.ArgumentParser) -> None:
    from media import publish

    publish.add_arguments(parser)


def _publish(args: argparse.Namespace) -> int:
    from media import publish

    return publish.run(args)


def _record_arguments(parser: argparse.ArgumentParser) -> None:
    from media import recorder

    recorder.add_arguments(parser)


def _record(args: argparse.Namespace) -> int:
    from media import recorder

    configure_logging(verbose=False)
    return recorder.run(args)


def _ingest_arguments(parser: argparse.ArgumentParser) -> None:
    from web import ingest

    ingest.add_arguments(parser)


def _ingest(args: argparse.Namespace) -> int:
    from web import ingest

    return ingest.run(args)


def _ladder_arguments(parser: argparse.ArgumentParser) -> None:
    from media import live_ladder

    live_ladder.add_arguments(parser)


def _ladder(args: argparse.Namespace) -> int:
    from media import live_ladder

    return live_ladder.run(args)


def _token_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--key",
        type=Path,
        required=True,
        metavar="FILE",
        help="private key made by `terrace keygen`",
    )
    parser.add_argument(
        "--publish",
        action="append",
        default=[],
        metavar="PATTERN",
        help="streams to publish, * stands for anything (may be given several times)",
    )
    parser.add_argument(
        "--view",
        action="append",
        default=[],
        metavar="PATTERN",
        help="streams to view (may be given several times)",
    )
    parser.add_argument(
        "--relay",
        action="store_true",
        help="the bearer is a node below: it may pull and push any stream",
    )
    parser.add_argument(
        "--ttl",
        default="8h",
        metavar="TIME",
        help="how long the token is good: 90s, 30m, 8h, 7d (default: 8h)",
    )
    parser.add_argument(
        "--subject", default="", metavar="NAME", help="who the bearer is, for logs and pages"
    )


def _token(args: argparse.Namespace) -> int:
    from relay import access

    if not (args.publish or args.view or args.relay):
        raise UsageError("the token would allow nothing: give --publish, --view or --relay")
    try:
        ttl_s = access.parse_ttl(args.ttl)
    except ValueError as error:
        raise UsageError(f"--ttl {args.ttl}: {error}") from error
    try:
        key = args.key.read_bytes()
        if args.key.stat().st_mode & 0o077:
            print(
                f"terrace token: others on this machine may read {args.key}: chmod 600 {args.key}",
                file=sys.stderr,
            )
    except OSError as error:
        raise CommandFailed(
            f"the key {args.key} cannot be read ({error.strerror}): make one with `terrace keygen`"
        ) from error
    try:
        token = access.issue(
            key,
            publish=args.publish,
            view=args.view,
            relay=args.relay,
            ttl_s=ttl_s,
            subject=args.subject,
            now=time.time(),
        )
    except ValueError as error:
        raise CommandFailed(f"no token can be made with {args.key}: {error}") from error
    print(token)
    return 0


def _keygen_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out",
        type=Path,
        default=Path(),
        metavar="DIR",
        help="folder for private.pem and public.pem (default: the working folder)",
    )


def _keygen(args: argparse.Namespace) -> int:
    from relay import access

    private, public = access.new_key_pair()
    private_file, public_file = args.out / "private.pem", args.out / "public.pem"
    for path in (private_file, public_file):
        if path.exists():
            raise CommandFailed(f"{path} exists and is left as it is: choose another --out")
    try:
        args.out.mkdir(parents=True, exist_ok=True)
        _write_new(private_file, private, mode=0o600)
        _write_new(public_file, public, mode=0o644)
    except OSError as error:
        raise CommandFailed(f"no key can be written to {args.out}: {error.strerror}") from error
    print(f"{private_file}  issues tokens: keep it at the centre, show it to nobody")
    print(f"{public_file}   checks tokens: give it to every node as public_keys")
    return 0


def _write_new(path: Path, data: bytes, *, mode: int) -> None:
    """Writes a file that is there whole or not at all, and never over another one.

    Raises `FileExistsError` when there is a file of that name.
    """
    handle, scratch = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            os.fchmod(handle, mode)
            file.write(data)
            file.flush()
            os.fsync(handle)
        os.link(scratch, path)
    finally:
        Path(scratch).unlink(missing_ok=True)


def _status_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("url", metavar="URL", help="any node; it and all below it are shown")
    parser.add_argument(
        "--watch", action="store_true", help="draw anew every second until interrupted"
    )
    parser.add_argument("--json", action="store_true", help="print what the node says, as JSON")


def _status(args: argparse.Namespace) -> int:
    from web import status

    try:
        return asyncio.run(
            status.show(
                args.url,
                watch=args.watch,
                as_json=args.json,
                token=os.environ.get("TERRACE_TOKEN", ""),
            )
        )
    except ValueError as error:
        raise UsageError(str(error)) from error
    except status.Unreachable as error:
        raise CommandFailed(str(error)) from error


def _drain_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("url", metavar="URL", help="the node that is to stop")
    parser.add_argument(
        "--seconds",
        type=float,
        default=20.0,
        metavar="N",
        help="how long it may take to hand its viewers over (default: 20)",
    )


def _drain(args: argparse.Namespace) -> int:
    from web import drain

    try:
        asyncio.run(drain.run(args.url, args.seconds, os.environ.get("TERRACE_TOKEN", "")))
    except ValueError as error:
        raise UsageError(str(error)) from error
    except drain.NotDrained as error:
        raise CommandFailed(str(error)) from error
    return 0


def _doctor_arguments(parser: argparse.ArgumentParser) -> None:
    _settings_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")


def _doctor(args: argparse.Namespace) -> int:
    from web import doctor
    from web.settings import SettingsError

    try:
        settings: Settings | SettingsError = _load_settings(args)
    except SettingsError as error:
        settings = error  # a wrong setting is a finding like any other, the rest is still looked at
    findings = doctor.examine(settings)
    print(doctor.as_json(findings) if args.json else doctor.as_text(findings))
    return FAILED if any(one.state is doctor.State.BAD for one in findings) else 0


def _database_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", type=Path, help="the backup")
    parser.add_argument(
        "--database",
        default="terrace.db",
        metavar="URL",
        help="SQLite file, or postgresql://user@host/name (default: terrace.db)",
    )


def _backup(args: argparse.Namespace) -> int:
    from web import keep

    return _kept(keep.back_up(args.database, args.file))


def _restore(args: argparse.Namespace) -> int:
    from web import keep

    return _kept(keep.restore(args.database, args.file))


def _kept(work: Coroutine[None, None, str]) -> int:
    from schedule.errors import ScheduleError

    try:
        print(asyncio.run(work))
    except (ScheduleError, OSError) as error:
        raise CommandFailed(str(error)) from error
    return 0


COMMANDS = {
    "demo": Command(
        "a whole tree on this machine: centre, province, city, county and a test lecture",
        "terrace demo --base-port 9710",
        _demo_arguments,
        _demo,
        "Ctrl-C ends all of it.",
    ),
    "relay": Command(
        "run one node of the tree",
        "terrace relay --name longhua --tier county --port 8740 --parent http://127.0.0.1:8730",
        _relay_arguments,
        _relay,
        "Settings come from terrace.toml, then from TERRACE_* variables, then from these flags. "
        "The token for the parent has no flag, since others could read it in the list of "
        "processes: set parent_token in the file or TERRACE_PARENT_TOKEN.",
    ),
    "serve": Command(
        "run the centre: root of the tree, timetable, library and pages in one process",
        "terrace serve --name centre --host 127.0.0.1 --port 8710",
        _relay_arguments,
        _serve,
        "Settings come from [relay], [library], [centre] and [stations] of terrace.toml, then from "
        "TERRACE_* variables, then from these flags, which are those of [relay].",
    ),
    "station": Command(
        "run a village box: fetch courses, play by the timetable, keep the logbook",
        "terrace station --parent http://192.0.2.10:8740 --folder /var/lib/terrace-station",
        _station_arguments,
        _station,
        "Settings come from [station] of terrace.toml, then from TERRACE_STATION_* variables, then "
        "from these flags. The television's browser shows http://127.0.0.1:8780/tv.",
    ),
    "programme": Command(
        "sign a timetable for a station or a group of them",
        "terrace programme sign plan.json --key private.pem --out shangping.jws",
        _programme_arguments,
        _programme,
        "A county sends it with PUT /api/programmes/STATION.",
    ),
    "publish": Command(
        "publish a file, a camera, an RTSP address or a test picture to a node",
        "terrace publish test: http://127.0.0.1:8710/whip/lecture",
        _publish_arguments,
        _publish,
    ),
    "record": Command(
        "record a stream of a node into a folder, without decoding it",
        "terrace record http://127.0.0.1:8710 lecture --out recordings",
        _record_arguments,
        _record,
        "It ends with the stream, or with Ctrl-C, and leaves one MP4 file. A node records by "
        "itself what its setting `record` names. A token that may relay, where the node asks for "
        "one, is read from TERRACE_TOKEN.",
    ),
    "ingest": Command(
        "make a course of a video file",
        "terrace ingest lesson.mp4 --title Sowing --chapter 12:30=Seeds --tag rice",
        _ingest_arguments,
        _ingest,
        "The course goes into the library that [library] of the settings names, and can be played "
        "as soon as its best rendition is made. Given the same file again, it goes on where it "
        "was stopped.",
    ),
    "ladder": Command(
        "make the lower layers of a stream whose publisher sends one picture only",
        "terrace ladder http://127.0.0.1:8710/whip/lecture",
        _ladder_arguments,
        _ladder,
        "Runs beside the node where the stream enters. It decodes and encodes only while the line "
        "of a viewer is too thin for the whole picture.",
    ),
    "token": Command(
        "issue a token that lets its bearer publish, view or relay",
        "terrace token --key private.pem --publish 'class-*' --ttl 8h --subject 'Room 3'",
        _token_arguments,
        _token,
    ),
    "keygen": Command(
        "make the pair of keys that issues and checks tokens",
        "terrace keygen --out /etc/terrace",
        _keygen_arguments,
        _keygen,
    ),
    "status": Command(
        "show a running tree in the terminal",
        "terrace status http://127.0.0.1:8710 --watch",
        _status_arguments,
        _status,
        "A token, where the node asks for one, is read from TERRACE_TOKEN.",
    ),
    "drain": Command(
        "take a node out of service: its viewers go to its siblings, then it stops",
        "terrace drain http://127.0.0.1:8740 --seconds 30",
        _drain_arguments,
        _drain,
        "A token that may relay, where the node asks for one, is read from TERRACE_TOKEN.",
    ),
    "person": Command(
        "add a person who can sign in, or give one another password",
        "terrace person add zhang --name 张三 --admin",
        _person_arguments,
        _person,
        "The database is that of [centre] in the settings. The password is made and printed once, "
        "or read from TERRACE_PERSON_PASSWORD.",
    ),
    "backup": Command(
        "write the whole schedule into one file, while the centre runs",
        "terrace backup /backups/terrace-monday.zip --database /var/lib/terrace/terrace.db",
        _database_arguments,
        _backup,
    ),
    "restore": Command(
        "fill a new, empty database from a backup",
        "terrace restore terrace-monday.zip --database postgresql://terrace@localhost/terrace",
        _database_arguments,
        _restore,
        "The backup may come from the other kind of database.",
    ),
    "doctor": Command(
        "say what is wrong on this machine: ports, kernel, clock, disk, parent",
        "terrace doctor --config /etc/terrace/terrace.toml",
        _doctor_arguments,
        _doctor,
        "Ends with status 1 when something would keep a node from working.",
    ),
}


def build_parser(chosen: str | None) -> argparse.ArgumentParser:
    """The parser, with the arguments of the `chosen` command only: the others cost imports."""
    parser = _Parser(
        prog="terrace",
        description="Carries one live stream from a centre down a tree of nodes to many sites.",
        epilog="Start with: terrace demo",
    )
    parser.add_argument("--version", action="store_true", help="print the version")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    for name, command in COMMANDS.items():
        sub = commands.add_parser(
            name,
            help=command.summary,
            description=f"{command.summary[:1].upper()}{command.summary[1:]}. {command.detail}",
            epilog=f"example: {command.example}",
        )
        if name == chosen:
            command.add_arguments(sub)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns the status for the shell."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal without these characters shows question marks in their place.
            stream.reconfigure(errors="replace")
    arguments = list(sys.argv[1:] if argv is None else argv)
    chosen = next((one for one in arguments if one in COMMANDS), None)
    parser = build_parser(chosen)
    args, unknown = parser.parse_known_args(arguments)
    if unknown:
        name = f"terrace {args.command}" if args.command else "terrace"
        print(f"{name}: unknown argument {unknown[0]} (see {name} --help)", file=sys.stderr)
        return BAD_USAGE
    if args.version:
        from relay import __version__

        print(f"terrace {__version__}")
        return 0
    if args.command is None:
        parser.print_help()
        return BAD_USAGE

    from web.settings import SettingsError

    args.argv = arguments
    try:
        return COMMANDS[args.command].run(args)
    except (UsageError, SettingsError) as error:
        print(f"terrace {args.command}: {error}", file=sys.stderr)
        return BAD_USAGE
    except CommandFailed as error:
        print(f"terrace {args.command}: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read our output, `head` perhaps, has gone; nobody is left to tell.
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED


if __name__ == "__main__":
    sys.exit(main())
