"""The command `terrace`.

Each command imports what it needs when it runs, so that `terrace --help` answers at once. Bad usage
and bad settings end with status 2, anything else that fails with status 1, both with one sentence.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from web import daemons, tasks
from web.command import BAD_USAGE, FAILED, Command, CommandFailed, UsageError


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence; the usage is there for who asks."""

    def error(self, message: str) -> NoReturn:
        self.exit(BAD_USAGE, f"{self.prog}: {message} (see {self.prog} --help)\n")


COMMANDS = {
    "demo": Command(
        "a whole tree on this machine: centre, province, city, county and a test lecture",
        "terrace demo --base-port 9710",
        daemons.demo_arguments,
        daemons.demo,
        "Ctrl-C ends all of it.",
    ),
    "relay": Command(
        "run one node of the tree",
        "terrace relay --name longhua --tier county --port 8740 --parent http://127.0.0.1:8730",
        daemons.relay_arguments,
        daemons.relay,
        "Settings come from terrace.toml, then from TERRACE_* variables, then from these flags. "
        "The token for the parent has no flag, since others could read it in the list of "
        "processes: set parent_token in the file or TERRACE_PARENT_TOKEN.",
    ),
    "serve": Command(
        "run the centre: root of the tree, timetable, library and pages in one process",
        "terrace serve --name centre --host 127.0.0.1 --port 8710",
        daemons.relay_arguments,
        daemons.serve,
        "Settings come from [relay], [library], [centre] and [stations] of terrace.toml, then from "
        "TERRACE_* variables, then from these flags, which are those of [relay].",
    ),
    "station": Command(
        "run a village box: fetch courses, play by the timetable, keep the logbook",
        "terrace station --parent http://192.0.2.10:8740 --folder /var/lib/terrace-station",
        daemons.station_arguments,
        daemons.station,
        "Settings come from [station] of terrace.toml, then from TERRACE_STATION_* variables, then "
        "from these flags. The television's browser shows http://127.0.0.1:8780/tv.",
    ),
    "programme": Command(
        "sign a timetable for a station or a group of them",
        "terrace programme sign plan.json --key private.pem --out shangping.jws",
        tasks.programme_arguments,
        tasks.programme,
        "A county sends it with PUT /api/programmes/STATION.",
    ),
    "publish": Command(
        "publish a file, a camera, an RTSP address or a test picture to a node",
        "terrace publish test: http://127.0.0.1:8710/whip/lecture",
        tasks.publish_arguments,
        tasks.publish,
    ),
    "record": Command(
        "record a stream of a node into a folder, without decoding it",
        "terrace record http://127.0.0.1:8710 lecture --out recordings",
        tasks.record_arguments,
        tasks.record,
        "It ends with the stream, or with Ctrl-C, and leaves one MP4 file. A node records by "
        "itself what its setting `record` names. A token that may relay, where the node asks for "
        "one, is read from TERRACE_TOKEN.",
    ),
    "ingest": Command(
        "make a course of a video file",
        "terrace ingest lesson.mp4 --title Sowing --chapter 12:30=Seeds --tag rice",
        tasks.ingest_arguments,
        tasks.ingest,
        "The course goes into the library that [library] of the settings names, and can be played "
        "as soon as its best rendition is made. Given the same file again, it goes on where it "
        "was stopped.",
    ),
    "ladder": Command(
        "make the lower layers of a stream whose publisher sends one picture only",
        "terrace ladder http://127.0.0.1:8710/whip/lecture",
        tasks.ladder_arguments,
        tasks.ladder,
        "Runs beside the node where the stream enters. It decodes and encodes only while the line "
        "of a viewer is too thin for the whole picture.",
    ),
    "token": Command(
        "issue a token that lets its bearer publish, view or relay",
        "terrace token --key private.pem --publish 'class-*' --ttl 8h --subject 'Room 3'",
        tasks.token_arguments,
        tasks.token,
    ),
    "keygen": Command(
        "make the pair of keys that issues and checks tokens",
        "terrace keygen --out /etc/terrace",
        tasks.keygen_arguments,
        tasks.keygen,
    ),
    "status": Command(
        "show a running tree in the terminal",
        "terrace status http://127.0.0.1:8710 --watch",
        tasks.status_arguments,
        tasks.status,
        "A token, where the node asks for one, is read from TERRACE_TOKEN.",
    ),
    "drain": Command(
        "take a node out of service: its viewers go to its siblings, then it stops",
        "terrace drain http://127.0.0.1:8740 --seconds 30",
        tasks.drain_arguments,
        tasks.drain,
        "A token that may relay, where the node asks for one, is read from TERRACE_TOKEN.",
    ),
    "person": Command(
        "add a person who can sign in, or give one another password",
        "terrace person add zhang --name 张三 --admin",
        tasks.person_arguments,
        tasks.person,
        "The database is that of [centre] in the settings. The password is made and printed once, "
        "or read from TERRACE_PERSON_PASSWORD.",
    ),
    "backup": Command(
        "write the whole schedule into one file, while the centre runs",
        "terrace backup /backups/terrace-monday.zip --database /var/lib/terrace/terrace.db",
        tasks.database_arguments,
        tasks.backup,
    ),
    "restore": Command(
        "fill a new, empty database from a backup",
        "terrace restore terrace-monday.zip --database postgresql://terrace@localhost/terrace",
        tasks.database_arguments,
        tasks.restore,
        "The backup may come from the other kind of database.",
    ),
    "doctor": Command(
        "say what is wrong on this machine: ports, kernel, clock, disk, parent",
        "terrace doctor --config /etc/terrace/terrace.toml",
        tasks.doctor_arguments,
        tasks.doctor,
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
