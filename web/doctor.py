"""What is wrong on this machine, in words, with what to do about it.

Each examination returns findings and raises nothing: a doctor that stops at the first fault would
hide the others.
"""

from __future__ import annotations

import contextlib
import ctypes
import email.utils
import enum
import importlib.metadata
import json
import platform
import resource
import shutil
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from web.settings import RelaySettings, Settings, SettingsError

ANSWER_WITHIN_S = 3.0
SKEW_NOTICED_S = 5.0
"""A token's times are checked to the minute; a clock further off than this drifts towards that."""

BUFFER_WANTED_BYTES = 4 << 20
BUFFER_ADVISED_BYTES = 8 << 20
"""What `relay.port` asks for; half of it still holds one round to about 800 viewers."""

FILES_WANTED = 4096
DISK_LOW_BYTES = 1 << 30
DISK_FULL_BYTES = 100 << 20


class State(enum.StrEnum):
    """How a finding is to be taken."""

    OK = "ok"
    WARN = "warn"
    """It works, with a loss that the finding names."""
    BAD = "bad"
    """A node would not start or not carry a stream."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    subject: str
    state: State
    words: str
    advice: str = ""
    """What to do; empty when there is nothing to do."""


def examine(settings: Settings | SettingsError) -> list[Finding]:
    """Looks at everything; settings that could not be loaded are a finding of their own."""
    if isinstance(settings, SettingsError):
        relay = RelaySettings()
        findings = [Finding("settings", State.BAD, str(settings), "correct the setting named here")]
    else:
        relay = settings.relay
        findings = [Finding("settings", State.OK, f"node {relay.name}, {relay.host}:{relay.port}")]
    findings += [
        _python(),
        *_libraries(),
        _sending(),
        *_buffers(),
        _open_files(),
        *_port(relay.host, relay.port),
        _clock(),
        _disk(),
    ]
    findings += [finding for parent in relay.parents for finding in _parent(parent)]
    if not relay.parents:
        findings.append(Finding("parent", State.OK, "none set: this node is the top of its tree"))
    return findings


def as_text(findings: Iterable[Finding]) -> str:
    """One line per finding, and one more for what to do."""
    lines = []
    for one in findings:
        lines.append(f"{one.state:<6}{one.subject:<14}{one.words}")
        if one.advice:
            lines.append(f"{'':<20}-> {one.advice}")
    return "\n".join(lines)


def as_json(findings: Iterable[Finding]) -> str:
    """The findings as a list of objects: subject, state, words, advice."""
    return json.dumps([asdict(one) for one in findings], ensure_ascii=False, indent=2)


def _python() -> Finding:
    words = f"{platform.python_version()} on {platform.system()} {platform.release()}"
    return Finding("python", State.OK, words)


def _libraries() -> list[Finding]:
    findings = []
    for package in ("aiortc", "av", "pylibsrtp", "cryptography", "aiohttp", "numpy"):
        try:
            version = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            findings.append(
                Finding(package, State.BAD, "not installed", "install Terrace anew: pip install .")
            )
            continue
        findings.append(Finding(package, State.OK, version))
    return findings


def _sending() -> Finding:
    try:
        from relay import fanout

        found = fanout.probe()
    except (ImportError, OSError) as error:
        return Finding("sending", State.BAD, f"the relay cannot be loaded: {error}")
    if found.gro:
        return Finding("sending", State.OK, "UDP GSO, GRO and sendmmsg: the fast path")
    if found.gso:
        return Finding(
            "sending",
            State.WARN,
            f"UDP GSO and sendmmsg, but {found.note}",
            "a node works but pays more for what its parent sends; GRO needs Linux 5.0 or newer",
        )
    path = "sendmmsg without UDP GSO" if found.sendmmsg else "one call per packet"
    return Finding(
        "sending",
        State.WARN,
        f"{path}: {found.note}" if found.note else path,
        "a node works but serves fewer viewers per core; GSO needs Linux 4.18 or newer",
    )


def _buffers() -> list[Finding]:
    findings = []
    for name, direction in (("rmem_max", "receive"), ("wmem_max", "send")):
        try:
            size = int(Path(f"/proc/sys/net/core/{name}").read_text())
        except (OSError, ValueError):
            findings.append(
                Finding("buffers", State.WARN, f"the {direction} buffer's limit cannot be read")
            )
            continue
        words = f"{direction} buffer may grow to {size >> 10} KiB"
        if size >= BUFFER_WANTED_BYTES:
            findings.append(Finding("buffers", State.OK, words))
        else:
            findings.append(
                Finding(
                    "buffers",
                    State.WARN,
                    words + ": packets are lost when many viewers are served at once",
                    f"as root: sysctl -w net.core.{name}={BUFFER_ADVISED_BYTES} "
                    "(deploy/README.md says how to keep it)",
                )
            )
    return findings


def _open_files() -> Finding:
    # The node lifts its soft limit to the hard one, so that one counts.
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard in (resource.RLIM_INFINITY, -1) or hard >= FILES_WANTED:
        return Finding("open files", State.OK, "enough for thousands of viewers joining at once")
    return Finding(
        "open files",
        State.WARN,
        f"at most {hard}: about as many viewers can join at the same time",
        "raise the limit: LimitNOFILE= in the service, or ulimit -n",
    )


def _port(host: str, port: int) -> list[Finding]:
    taken = []
    for kind, protocol in ((socket.SOCK_STREAM, "TCP"), (socket.SOCK_DGRAM, "UDP")):
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family, kind) as probe:
            if kind == socket.SOCK_STREAM:
                # As the server does it: a connection in TIME_WAIT is no reason against the port.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError as error:
                taken.append((protocol, error.strerror or str(error)))
    if not taken:
        return [Finding("port", State.OK, f"{port} is free for TCP and UDP")]
    if name := _running_node(host, port):
        return [Finding("port", State.OK, f"{port} is served by the running node {name}")]
    return [
        Finding(
            "port",
            State.BAD,
            f"{protocol} {port} on {host} cannot be had: {reason}",
            f"stop the program that uses it (ss -lnp | grep :{port}), or set another port",
        )
        for protocol, reason in taken
    ]


def _running_node(host: str, port: int) -> str:
    address = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    address = f"[{address}]" if ":" in address else address
    try:
        _, body = _get(f"http://{address}:{port}/api/node")
        node = json.loads(body)
        return str(node["name"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _clock() -> Finding:
    # adjtimex(2): a call that changes nothing returns TIME_ERROR while nobody sets the clock.
    time_error = 5
    state = -1
    with contextlib.suppress(OSError, AttributeError):
        timex = ctypes.create_string_buffer(512)  # struct timex has 208 bytes on 64-bit Linux
        state = ctypes.CDLL(None, use_errno=True).adjtimex(timex)
    if state < 0:
        return Finding("clock", State.WARN, "this system does not say whether its clock is set")
    if state == time_error:
        return Finding(
            "clock",
            State.WARN,
            f"not synchronised, it shows {time.strftime('%Y-%m-%d %H:%M:%S %Z')}",
            "install a time service (Debian: apt install systemd-timesyncd): "
            "tokens and the timetable go by this clock",
        )
    return Finding("clock", State.OK, f"synchronised, {time.strftime('%Y-%m-%d %H:%M:%S %Z')}")


def _disk() -> Finding:
    folder = Path.cwd()
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        return Finding("disk", State.BAD, f"{folder} cannot be read: {error.strerror}")
    words = f"{free / (1 << 30):.1f} GiB free at {folder}"
    if free < DISK_FULL_BYTES:
        return Finding("disk", State.BAD, words, "free some space: logs cannot be written soon")
    if free < DISK_LOW_BYTES:
        return Finding("disk", State.WARN, words, "free some space")
    return Finding("disk", State.OK, words)


def _parent(url: str) -> list[Finding]:
    started = time.monotonic()
    try:
        date, _ = _get(url + "/healthz")
    except urllib.error.HTTPError as error:
        return [
            Finding(
                "parent",
                State.BAD,
                f"{url} answered {error.code}",
                "is it a Terrace node, and is the URL that of the node itself?",
            )
        ]
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        reason = getattr(reason, "strerror", None) or reason
        return [
            Finding(
                "parent",
                State.BAD,
                f"{url} cannot be reached: {reason}",
                "check the address, the line and the firewall there (TCP and UDP on one number)",
            )
        ]
    took_ms = (time.monotonic() - started) * 1000
    findings = [Finding("parent", State.OK, f"{url} answered in {took_ms:.0f} ms")]
    if date is not None and abs(skew_s := time.time() - date) > SKEW_NOTICED_S:
        findings.append(
            Finding(
                "clock",
                State.WARN,
                f"{abs(skew_s):.0f} s {'ahead of' if skew_s > 0 else 'behind'} {url}",
                "set the clock on the machine that is wrong: tokens are refused by a wrong clock",
            )
        )
    return findings


def _get(url: str) -> tuple[float | None, bytes]:
    """The answer's Date as Unix seconds and its body, read without a proxy in between."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=ANSWER_WITHIN_S) as response:
        body: bytes = response.read(1 << 20)
        date = response.headers.get("Date")
    with contextlib.suppress(TypeError, ValueError):
        return email.utils.parsedate_to_datetime(date).timestamp(), body
    return None, body
