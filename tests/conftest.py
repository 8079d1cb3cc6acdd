"""What all tests share."""

from __future__ import annotations

import os
import signal

from hypothesis import settings

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
