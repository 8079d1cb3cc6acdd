"""What memory costs a node once it runs."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.patience import PATIENCE

RING = """
import resource, sys
from web import memory
if sys.argv[1] == "prepared":
    memory.prepare()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for turn in range(3):
    ring = [bytes(1200) for _ in range(2048)]
    del ring
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


COLLECTION = """
import gc, time
import web.app, web.cli
from web import memory
memory.settle()
began = time.thread_time()
gc.collect()
print(time.thread_time() - began)
"""


def test_a_full_collection_after_the_start_is_no_pause_that_a_viewer_sees() -> None:
    """It holds up the forwarding thread for as long as it takes."""
    ran = subprocess.run(
        [sys.executable, "-c", COLLECTION], capture_output=True, text=True, timeout=60, check=True
    )
    assert float(ran.stdout) < 0.01 * PATIENCE


@pytest.mark.parametrize(("way", "fewest", "most"), [("prepared", 0, 60), ("plain", 500, 3000)])
def test_a_ring_finds_its_pages_there(way: str, fewest: int, most: int) -> None:
    """2,048 packets take 600 pages, and take them again and again if they are given back."""
    ran = subprocess.run(
        [sys.executable, "-c", RING, way], capture_output=True, text=True, timeout=30, check=True
    )
    assert fewest <= int(ran.stdout) <= most
