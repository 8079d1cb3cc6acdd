"""What can go wrong in `relay`: our faults and the peer's are siblings."""

from __future__ import annotations


class RelayError(Exception):
    """Base of all errors of this package."""


class Refused(RelayError):
    """A request that this node does not grant; becomes an HTTP answer.

    `status` is the HTTP status, `retry_after_s` is set where waiting helps. `reason` is a word for
    programs (see README.md), "" where the status says it all. `sibling` is the base URL of a node
    that could serve the request instead, "" if none is known.
    """

    def __init__(
        self,
        status: int,
        sentence: str,
        retry_after_s: int | None = None,
        *,
        reason: str = "",
        sibling: str = "",
    ) -> None:
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence
        self.retry_after_s = retry_after_s
        self.reason = reason
        self.sibling = sibling


class HandshakeFailed(RelayError):
    """ICE or DTLS with a peer did not come about; the text says at what it broke."""


class SettingError(RelayError):
    """A setting with which this node cannot start."""
