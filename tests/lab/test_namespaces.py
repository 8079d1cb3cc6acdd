"""Namespaces in a row; needs root and a kernel with nft."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading

import pytest

from tests.lab import namespaces

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(bool(namespaces.refusal()), reason=namespaces.refusal() or "-"),
]

COUNT = """
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
# Room for all of them, should this process have to wait for its turn.
s.setsockopt(socket.SOL_SOCKET, 33, 4 << 20)  # SO_RCVBUFFORCE
s.bind(("0.0.0.0", 5000))
print("ready", flush=True)
s.settimeout(20.0)  # The sender is a process that has yet to start.
found = 0
try:
    while True:
        s.recv(2000)
        found += 1
        s.settimeout(1.0)
except TimeoutError:
    print(found)
"""
SEND = """
import socket, sys, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for i in range(1000):
    s.sendto(bytes(500), (sys.argv[1], 5000))
    time.sleep(0.0002)
"""


def carried(row: namespaces.Row) -> int:
    """How many of 1,000 datagrams come from one end of the row to the other."""
    counting = subprocess.Popen(
        row.command(0, sys.executable, "-c", COUNT), stdout=subprocess.PIPE, text=True
    )
    assert counting.stdout is not None
    assert counting.stdout.readline() == "ready\n"
    subprocess.run(row.command(2, sys.executable, "-c", SEND, row.address(0)), check=True)
    return int(counting.communicate()[0])


def test_loss_between_namespaces_is_what_was_set_and_nothing_is_left_behind() -> None:
    with namespaces.Row(3) as row:
        assert carried(row) == 1000
        row.set_loss(1, 0.3)
        assert 600 < carried(row) < 800
        assert 200 < row.dropped(1) < 400
        row.set_loss(1, 0.0)
        row.set_rate(0, 1_000_000)
        assert carried(row) == 1000, "what flows up is not bounded"
        names = row.names
    left = subprocess.run(["ip", "netns"], capture_output=True, text=True, check=True).stdout
    assert not any(name in left for name in names)


def reaches(spur: namespaces.Spur, port: int, within_s: float = 10.0) -> bool:
    """Whether a program inside gets its word to this machine and hears the answer."""
    program = f"""
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout({within_s})
s.sendto(b"word", ("{spur.above}", {port}))
try:
    print(s.recv(100).decode())
except TimeoutError:
    print("nothing")
"""
    inside = spur.command(sys.executable, "-c", program)
    return subprocess.run(inside, capture_output=True, text=True, check=True).stdout == "word\n"


def test_a_spur_that_is_cut_carries_nothing_until_it_is_mended() -> None:
    with namespaces.Spur() as spur, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as here:
        here.bind((spur.above, 0))
        port = here.getsockname()[1]
        echo = threading.Thread(target=answer, args=(here, 2), daemon=True)
        echo.start()
        assert reaches(spur, port)
        spur.cut()
        assert not reaches(spur, port, within_s=0.5)
        spur.mend()
        assert reaches(spur, port)
        echo.join(5)
        assert not echo.is_alive(), "what was said while it was cut did not come through"
    left = subprocess.run(["ip", "netns"], capture_output=True, text=True, check=True).stdout
    assert spur.name not in left


def answer(here: socket.socket, times: int) -> None:
    """Give what comes back to who sent it."""
    for _ in range(times):
        word, sender = here.recvfrom(100)
        here.sendto(word, sender)


def test_without_root_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(namespaces.NamespaceError, match="need root; use the proxy"):
        namespaces.Row(2).__enter__()
