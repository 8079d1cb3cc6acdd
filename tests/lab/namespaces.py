"""Bad lines by the kernel's own means: a network namespace per node, nft loss, tc tbf rate.

Namespaces stand in a row, each joined to the next by a veth pair with addresses 10.213.N.1 (nearer
the centre) and 10.213.N.2, and forward for each other. Nothing leaves them: there is no pair to
the machine's own namespace. Loss is dealt by `nft numgen random` where packets come in, so both
ways; of UDP alone, unless TCP is asked for, which makes of it mere delay. There is no delay here
(kernels without netem have none to offer): that is the proxy's part.

`Spur` is one namespace beside the machine's own, for a program whose line is cut and mended.

Needs root and the commands ip, nft and tc; `refusal` says what is missing.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
from types import TracebackType

PREFIX = "10.213"
_COMMANDS = ("ip", "nft", "tc")


class NamespaceError(Exception):
    """A command failed; the text holds it and what it said."""


def refusal() -> str:
    """Why namespaces cannot be used here, as a sentence, or nothing."""
    if os.geteuid() != 0:
        return "network namespaces need root; use the proxy (python -m tests.lab loss)"
    missing = [name for name in _COMMANDS if shutil.which(name) is None]
    if missing:
        return f"these commands are missing: {', '.join(missing)}"
    probe = f"lab-{secrets.token_hex(3)}"
    try:
        _run("ip", "netns", "add", probe)
    except NamespaceError as error:
        return f"this system does not let us make network namespaces: {error}"
    _run("ip", "netns", "del", probe)
    return ""


class Row:
    """`count` namespaces in a row. Use as `with`; all of it is gone afterwards.

    Number 0 is the centre's. `address(n)` is where the node in namespace n is reached from below.
    """

    def __init__(self, count: int) -> None:
        if not 2 <= count <= 250:
            raise ValueError(f"from 2 to 250 namespaces, not {count}")
        tag = secrets.token_hex(2)
        self.names = [f"lab-{tag}-{number}" for number in range(count)]
        self._tag = tag
        self._made: list[str] = []

    def __enter__(self) -> Row:
        reason = refusal()
        if reason:
            raise NamespaceError(reason)
        try:
            for name in self.names:
                _run("ip", "netns", "add", name)
                self._made.append(name)
                self.run(name, "ip", "link", "set", "lo", "up")
                self.run(name, "sysctl", "-q", "net.ipv4.ip_forward=1")
            for upper in range(len(self.names) - 1):
                self._join(upper)
            for number, name in enumerate(self.names):
                self._route(number, name)
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self._remove()

    def address(self, number: int) -> str:
        """The address of a namespace: on its line below, or above for the last one."""
        last = len(self.names) - 1
        return f"{PREFIX}.{number}.1" if number < last else f"{PREFIX}.{last - 1}.2"

    def command(self, number: int, *command: str) -> list[str]:
        """A command line that runs inside a namespace."""
        return ["ip", "netns", "exec", self.names[number], *command]

    def set_loss(self, upper: int, share: float, *, protocols: str = "udp") -> None:
        """Lose a share of the packets, both ways, between namespaces `upper` and the next.

        protocols: as nft has them, `udp` or `{ tcp, udp }`. A share of 1 is a black hole.
        """
        per_mille = round(1000 * share)
        # nft compares with what the generator can give, which a thousand is not.
        chance = f" numgen random mod 1000 < {per_mille}" if per_mille < 1000 else ""
        for number, device in ((upper, f"d{upper}"), (upper + 1, f"u{upper}")):
            name = self.names[number]
            rules = f"table inet line_{device}\ndelete table inet line_{device}\n"
            if per_mille:
                rules += (
                    f"table inet line_{device} {{ chain in {{"
                    " type filter hook prerouting priority -300;"
                    f' iifname "{device}" meta l4proto {protocols}'
                    f"{chance} counter drop; }}; }}\n"
                )
            self.run(name, "nft", "-f", "-", text=rules)

    def dropped(self, upper: int) -> int:
        """UDP packets lost so far between namespaces `upper` and the next, both ways together."""
        total = 0
        for number, device in ((upper, f"d{upper}"), (upper + 1, f"u{upper}")):
            listing = self.run(self.names[number], "nft", "list", "ruleset")
            here = listing.partition(f"line_{device} ")[2]
            words = here.partition("counter packets ")[2].split()
            total += int(words[0]) if words else 0
        return total

    def set_rate(
        self, upper: int, down_bps: float, queue_bytes: int = 64_000, burst_bytes: int = 16_384
    ) -> None:
        """Bound what flows from namespace `upper` to the next; 0 takes the bound away.

        burst_bytes: what passes at once after a rest.
        """
        device = f"d{upper}"
        name = self.names[upper]
        # Segments that the kernel would cut later do not fit a token bucket: cut them before.
        self.run(name, "ip", "link", "set", device, "gso_max_segs", "1")
        try:
            self.run(name, "tc", "qdisc", "del", "dev", device, "root")
        except NamespaceError:
            pass  # There was none.
        if down_bps:
            self.run(
                name, "tc", "qdisc", "add", "dev", device, "root", "tbf", "rate",
                f"{round(down_bps)}bit", "burst", str(burst_bytes), "limit", str(queue_bytes),
            )  # fmt: skip

    def crossed_bytes(self, upper: int) -> tuple[int, int]:
        """Bytes of frames that have gone down and up between namespaces `upper` and the next."""
        folder = f"/sys/class/net/d{upper}/statistics"
        text = self.run(self.names[upper], "cat", f"{folder}/tx_bytes", f"{folder}/rx_bytes")
        down, up = text.split()
        return int(down), int(up)

    def run(self, name: str, *command: str, text: str = "") -> str:
        """Run a command inside a namespace; returns what it printed, raises NamespaceError."""
        return _run("ip", "netns", "exec", name, *command, text=text)

    # ------------------------------------------------------------ set up

    def _join(self, upper: int) -> None:
        above, below = self.names[upper], self.names[upper + 1]
        _run(
            "ip", "link", "add", f"d{upper}", "netns", above, "type", "veth",
            "peer", "name", f"u{upper}", "netns", below,
        )  # fmt: skip
        for name, device, host in ((above, f"d{upper}", 1), (below, f"u{upper}", 2)):
            self.run(name, "ip", "address", "add", f"{PREFIX}.{upper}.{host}/24", "dev", device)
            self.run(name, "ip", "link", "set", device, "up")

    def _route(self, number: int, name: str) -> None:
        for net in range(len(self.names) - 1):
            if net < number - 1:
                gateway = f"{PREFIX}.{number - 1}.1"
            elif net > number:
                gateway = f"{PREFIX}.{number}.2"
            else:
                continue
            self.run(name, "ip", "route", "add", f"{PREFIX}.{net}.0/24", "via", gateway)

    def _remove(self) -> None:
        for name in self._made:
            # Takes its half of each veth pair along, and thereby the other half.
            _run("ip", "netns", "del", name)
        self._made.clear()


class Spur:
    """A namespace joined to the machine's own, so that one program alone loses its line.

    Between the two stands a modem: a bridge in a namespace of its own. Cut there, neither end is
    told anything, and what it sends is gone. Use as `with`; all of it is gone afterwards.
    `above` is the machine as it is reached from inside.
    """

    def __init__(self) -> None:
        tag = secrets.token_hex(2)
        self.name, self._modem = f"lab-{tag}-in", f"lab-{tag}-modem"
        self._outside = f"o{tag}"
        net = f"10.214.{secrets.randbelow(256)}"
        self.above, self._below = f"{net}.1", f"{net}.2"
        self._made: list[str] = []

    def __enter__(self) -> Spur:
        reason = refusal()
        if reason:
            raise NamespaceError(reason)
        modem = ("ip", "-netns", self._modem, "link")
        try:
            for name in (self.name, self._modem):
                _run("ip", "netns", "add", name)
                self._made.append(name)
            _run(*modem, "add", "bridge", "type", "bridge")
            _run(*modem, "set", "bridge", "up")
            _run(
                *modem, "add", "above", "type", "veth", "peer", "name", self._outside,
                "netns", str(os.getpid()),
            )  # fmt: skip
            _run(
                *modem, "add", "below", "type", "veth", "peer", "name", "line",
                "netns", self.name,
            )  # fmt: skip
            for port in ("above", "below"):
                _run(*modem, "set", port, "master", "bridge", "up")
            self._address((), self._outside, self.above)
            self._address(("-netns", self.name), "line", self._below)
            _run("ip", "-netns", self.name, "link", "set", "lo", "up")
            _run("ip", "-netns", self.name, "route", "add", "default", "via", self.above)
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self._remove()

    def command(self, *command: str) -> list[str]:
        """A command line that runs inside."""
        return ["ip", "netns", "exec", self.name, *command]

    def cut(self) -> None:
        """From now on nothing passes, either way."""
        _run("ip", "-netns", self._modem, "link", "set", "below", "nomaster")

    def mend(self) -> None:
        """The line is as it was before `cut`."""
        _run("ip", "-netns", self._modem, "link", "set", "below", "master", "bridge")

    def _address(self, where: tuple[str, ...], device: str, address: str) -> None:
        _run("ip", *where, "address", "add", f"{address}/24", "dev", device)
        _run("ip", *where, "link", "set", device, "up")

    def _remove(self) -> None:
        for name in self._made:
            # Takes its halves of the veth pairs along, and thereby the other halves.
            _run("ip", "netns", "del", name)
        self._made.clear()


def _run(*command: str, text: str = "") -> str:
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=20)
    if done.returncode:
        raise NamespaceError(f"{' '.join(command)}: {done.stderr.strip()[:300]}")
    return done.stdout
