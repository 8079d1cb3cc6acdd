"""A PostgreSQL server of the tests' own: in a temporary folder, as a user who is not root."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

START_S = 120


@dataclass(frozen=True, slots=True)
class Server:
    """A running server, reached through a socket in its folder."""

    folder: Path

    def url(self, database: str) -> str:
        return f"postgresql://terrace@/{database}?host={self.folder}"


def programs() -> Path:
    """The folder of initdb and pg_ctl; what to do when there is none, as an error."""
    found = shutil.which("pg_ctl")
    if found:
        return Path(found).resolve().parent
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))
    if not versions:
        raise RuntimeError(
            "these tests need PostgreSQL (Debian: apt install postgresql), or leave them out "
            "with -m 'not postgresql'"
        )
    return versions[-1].parent


def quick_folder() -> str:
    """Where databases that live as long as a test are kept: in memory where there is room."""
    with contextlib.suppress(OSError):
        if shutil.disk_usage("/dev/shm").free > 2 << 30:
            return "/dev/shm"
    return "/tmp"


@contextlib.contextmanager
def running(*, durable: bool = False) -> Iterator[Server]:
    """Make a cluster, start the server, stop it and remove everything.

    Unless it shall be durable, nothing is flushed to the disk: what a test loses in a power cut is
    a test. A durable one has the server's own settings, and stands on the disk.
    """
    where = programs()
    # Short, for a socket's path has at most 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix="terrace-pg-", dir="/tmp" if durable else quick_folder()))
    data = folder / "data"
    account = _account()
    if account is not None:
        os.chown(folder, account.pw_uid, account.pw_gid)

    def run(program: str, *arguments: str) -> None:
        as_other = {}
        if account is not None:
            as_other = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
        done = subprocess.run(
            [where / program, *arguments],
            cwd=folder,
            env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "HOME": str(folder)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            timeout=START_S,
            **as_other,  # type: ignore[call-overload]
        )
        if done.returncode:
            raise RuntimeError(f"{program} failed: {done.stderr.strip()[-500:]}")

    try:
        run(
            "initdb", "--pgdata", str(data), "--username", "terrace", "--auth", "trust",
            "--encoding", "UTF8", "--locale", "C.UTF-8", "--no-sync", "--no-instructions",
        )  # fmt: skip
        options = f"-c listen_addresses='' -c unix_socket_directories={folder}"
        if not durable:
            options += " -c fsync=off -c full_page_writes=off -c synchronous_commit=off"
        run(
            "pg_ctl", "start", "--pgdata", str(data), "--log", str(folder / "log"),
            "--wait", "--timeout", str(START_S), "--options", options,
        )  # fmt: skip
        try:
            yield Server(folder)
        finally:
            run("pg_ctl", "stop", "--pgdata", str(data), "--mode", "immediate")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _account() -> pwd.struct_passwd | None:
    """Whom to become, for the server refuses to run as root; None when we are not root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise RuntimeError("these tests need a user 'postgres' or 'nobody' to run the server as")
