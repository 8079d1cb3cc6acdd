"""The commands that do one thing and end, or last as long as a stream does."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING

from web.command import (
    FAILED,
    CommandFailed,
    UsageError,
    configure_logging,
    load_settings,
    settings_arguments,
)

if TYPE_CHECKING:
    from web.settings import Settings


def person_arguments(parser: argparse.ArgumentParser) -> None:
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


def person(args: argparse.Namespace) -> int:
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


def programme_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=["sign"], help="what to do with the plan")
    parser.add_argument("plan", type=Path, metavar="PLAN", help="the timetable as JSON")
    parser.add_argument(
        "--key", type=Path, required=True, metavar="FILE", help="the county's private key"
    )
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="where to write it (default: standard output)"
    )


def programme(args: argparse.Namespace) -> int:
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


def publish_arguments(parser: argparse.ArgumentParser) -> None:
    from media import publish

    publish.add_arguments(parser)


def publish(args: argparse.Namespace) -> int:
    from media import publish

    return publish.run(args)


def record_arguments(parser: argparse.ArgumentParser) -> None:
    from media import recorder

    recorder.add_arguments(parser)


def record(args: argparse.Namespace) -> int:
    from media import recorder

    configure_logging(verbose=False)
    return recorder.run(args)


def ingest_arguments(parser: argparse.ArgumentParser) -> None:
    from web import ingest

    ingest.add_arguments(parser)


def ingest(args: argparse.Namespace) -> int:
    from web import ingest

    return ingest.run(args)


def ladder_arguments(parser: argparse.ArgumentParser) -> None:
    from media import live_ladder

    live_ladder.add_arguments(parser)


def ladder(args: argparse.Namespace) -> int:
    from media import live_ladder

    return live_ladder.run(args)


def token_arguments(parser: argparse.ArgumentParser) -> None:
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


def token(args: argparse.Namespace) -> int:
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


def keygen_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out",
        type=Path,
        default=Path(),
        metavar="DIR",
        help="folder for private.pem and public.pem (default: the working folder)",
    )


def keygen(args: argparse.Namespace) -> int:
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


def status_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("url", metavar="URL", help="any node; it and all below it are shown")
    parser.add_argument(
        "--watch", action="store_true", help="draw anew every second until interrupted"
    )
    parser.add_argument("--json", action="store_true", help="print what the node says, as JSON")


def status(args: argparse.Namespace) -> int:
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


def drain_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("url", metavar="URL", help="the node that is to stop")
    parser.add_argument(
        "--seconds",
        type=float,
        default=20.0,
        metavar="N",
        help="how long it may take to hand its viewers over (default: 20)",
    )


def drain(args: argparse.Namespace) -> int:
    from web import drain

    try:
        asyncio.run(drain.run(args.url, args.seconds, os.environ.get("TERRACE_TOKEN", "")))
    except ValueError as error:
        raise UsageError(str(error)) from error
    except drain.NotDrained as error:
        raise CommandFailed(str(error)) from error
    return 0


def doctor_arguments(parser: argparse.ArgumentParser) -> None:
    settings_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")


def doctor(args: argparse.Namespace) -> int:
    from web import doctor
    from web.settings import SettingsError

    try:
        settings: Settings | SettingsError = load_settings(args)
    except SettingsError as error:
        settings = error  # a wrong setting is a finding like any other, the rest is still looked at
    findings = doctor.examine(settings)
    print(doctor.as_json(findings) if args.json else doctor.as_text(findings))
    return FAILED if any(one.state is doctor.State.BAD for one in findings) else 0


def database_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", type=Path, help="the backup")
    parser.add_argument(
        "--database",
        default="terrace.db",
        metavar="URL",
        help="SQLite file, or postgresql://user@host/name (default: terrace.db)",
    )


def backup(args: argparse.Namespace) -> int:
    from web import keep

    return _kept(keep.back_up(args.database, args.file))


def restore(args: argparse.Namespace) -> int:
    from web import keep

    return _kept(keep.restore(args.database, args.file))


def _kept(work: Coroutine[None, None, str]) -> int:
    from schedule.errors import ScheduleError

    try:
        print(asyncio.run(work))
    except (ScheduleError, OSError) as error:
        raise CommandFailed(str(error)) from error
    return 0
