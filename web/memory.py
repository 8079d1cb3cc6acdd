"""The memory of a process that forwards: got at the start, kept to the end.

The kernel gives and takes memory by pages, and under some hypervisors a fresh page costs as much as
forwarding two packets. A stream's ring takes a fresh page for every third packet until it is full,
and the allocator gives pages back that are needed again a moment later.
"""

from __future__ import annotations

import ctypes
import gc
from typing import Final

# mallopt(3); numbers from malloc.h.
_TRIM_THRESHOLD: Final = -1
_MMAP_THRESHOLD: Final = -3
_ARENA_MAX: Final = -8
# So much free memory at the heap's end is not given back.
_KEPT_BYTES: Final = 64 << 20
# Larger buffers than this are mapped one by one; the most that glibc takes.
_MAPPED_BYTES: Final = 32 << 20
# What the rings of one stream of 1 Mbit/s and the buffers around them take.
_READY_BYTES: Final = 4 << 20


def prepare() -> None:
    """Tell the allocator to keep what it has, and let it have some; before threads start.

    One arena serves all threads, or each would keep what it once needed: they take turns for the
    interpreter anyway. Does nothing where the C library is not glibc.
    """
    libc = ctypes.CDLL(None)
    try:
        mallopt = libc.mallopt
    except AttributeError:
        return
    mallopt(_ARENA_MAX, 1)
    mallopt(_TRIM_THRESHOLD, _KEPT_BYTES)
    mallopt(_MMAP_THRESHOLD, _MAPPED_BYTES)
    # Written to, and freed at once: its pages stay.
    ctypes.memset(ctypes.create_string_buffer(_READY_BYTES), 1, _READY_BYTES)


def settle() -> None:
    """Take what the start has made out of garbage collection for good.

    A full collection held up both threads for 50 ms, most of it spent on modules.
    """
    gc.collect()
    gc.freeze()
