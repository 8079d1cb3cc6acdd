"""Tells systemd that the daemon lives (sd_notify(3)), and notices when a part of it hangs.

Each concern of the daemon says `beat` at least as often as it promised. While all keep their word,
systemd hears `WATCHDOG=1`; when one does not, it hears nothing, and starts the daemon again.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping


class Heartbeats:
    """When each concern was last heard of; times are monotonic."""

    def __init__(self) -> None:
        self._due_s: dict[str, float] = {}

    def beat(self, concern: str, next_within_s: float) -> None:
        """The concern lives, and will be heard of again within this time."""
        self._due_s[concern] = time.monotonic() + next_within_s

    def ended(self, concern: str) -> None:
        """The concern is over and will not be heard of."""
        self._due_s.pop(concern, None)

    def late(self) -> list[str]:
        """The concerns that did not keep their word."""
        now = time.monotonic()
        return sorted(name for name, due_s in self._due_s.items() if due_s < now)


class Notifier:
    """The socket of systemd; does nothing where there is none."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._address = environ.get("NOTIFY_SOCKET", "")
        usec = environ.get("WATCHDOG_USEC", "")
        self.every_s = int(usec) / 2e6 if usec.isdecimal() and int(usec) else None
        """How often systemd wants to hear `WATCHDOG=1`, None if never."""

    def say(self, text: str) -> None:
        """Sends a state such as `READY=1`; a socket that is gone is passed over."""
        if not self._address:
            return
        # An abstract socket is written with @ and addressed with a zero byte.
        address = "\0" + self._address[1:] if self._address[0] == "@" else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.setblocking(False)
                sender.sendto(text.encode(), address)
        except OSError:
            pass
