"""What a node's garbage collection costs once it runs."""

from __future__ import annotations

import gc
import time

from tests.patience import PATIENCE
from web import app


def test_a_full_collection_after_the_start_is_no_pause_that_a_viewer_sees() -> None:
    """It holds up the forwarding thread for as long as it takes."""
    try:
        app._settle_memory()
        began = time.perf_counter()
        gc.collect()
        assert time.perf_counter() - began < 0.01 * PATIENCE
    finally:
        gc.unfreeze()
