"""What all tests share."""

from __future__ import annotations

import fcntl
import gc
import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

from tests.lab.ports import Ports

# One machine's pause is no fault of the code: examples count, not the time that one takes.
settings.register_profile("terrace", deadline=None)
settings.load_profile("terrace")

# The TERRACE_* variables of whoever runs the tests must not change what a node does. The way in
# which it sends may be forced, to run all tests on a slower one.
for name in [name for name in os.environ if name.startswith("TERRACE_")]:
    if name != "TERRACE_SEND":
        del os.environ[name]

# A shell that runs the tests in the background has them ignore SIGINT, and their processes too.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# These wait for clocks and sockets more than they compute: one worker takes them one by one, while
# the other takes everything else, file by file.
REAL_TIME = ("tests/live/", "tests/chaos/", "tests/lab/")
# Of those, files that look at pages and statuses and at no clock.
UNHURRIED = tuple(
    f"tests/live/test_{name}.py"
    for name in ("endpoints", "pages_looks", "room_looks", "centre_browser", "command")
)


class ByPlace(LoadScopeScheduling):  # type: ignore[misc]  # it has no types
    """What goes to one worker together: all tests in real time, or else those of a file."""

    def _split_scope(self, nodeid: str) -> str:
        live = nodeid.startswith(REAL_TIME) and not nodeid.startswith(UNHURRIED)
        return "live" if live else nodeid.partition("::")[0]


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByPlace:
    """Schedule as `ByPlace` says when the tests run in several workers (`pytest -n 2`)."""
    return ByPlace(config, log)


@pytest.fixture
def unused_tcp_port() -> int:
    """A number that is free for TCP and UDP, and that the system gives to nobody by itself."""
    return Ports().take()


@pytest.fixture(autouse=True)
def _undisturbed(request: pytest.FixtureRequest) -> Iterator[None]:
    """Have nothing run beside a test that is marked `alone`.

    Two locks: who waits to be alone holds the first, so that the other worker begins nothing new.
    """
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID")
    if run is None:
        yield
        return
    alone = request.node.get_closest_marker("alone") is not None
    folder = Path(tempfile.gettempdir())
    with (
        (folder / f"terrace-{run}-turn").open("w") as turn,
        (folder / f"terrace-{run}-floor").open("w") as floor,
    ):
        fcntl.flock(turn, fcntl.LOCK_EX)
        fcntl.flock(floor, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(turn, fcntl.LOCK_UN)
        yield


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Find what a file's tests have left open while they can still be blamed for it."""
    if nextitem is None or nextitem.path != item.path:
        gc.collect()
