"""The errors of this package, each worded for the person who started the command."""


class MediaError(Exception):
    """Base of what goes wrong here; `str(error)` is one sentence without a full stop."""


class SettingError(MediaError):
    """A setting cannot be used as it was given; starting again with the same one cannot help."""


class SourceError(MediaError):
    """The source cannot be opened or read, and trying again cannot help."""


class SourceLostError(MediaError):
    """The source stopped or cannot be reached now; it may come back."""


class NodeError(MediaError):
    """The node did not take the stream.

    final: trying again with the same settings cannot help (a refused token, a bad address).
    retry_after_s: what the node asked us to wait (RFC 9110 section 10.2.3), or None.
    """

    def __init__(
        self, sentence: str, *, final: bool = False, retry_after_s: float | None = None
    ) -> None:
        super().__init__(sentence)
        self.final = final
        self.retry_after_s = retry_after_s


class CacheError(MediaError):
    """The cache cannot be used: its folder, its lock, or what stands in it."""


class DiskFull(CacheError):
    """There is no room for what has come or is to come, and nothing may be let go for it."""


class BadBlob(MediaError):
    """What came has another digest or size than what was asked for."""


class FetchError(MediaError):
    """Something could not be had from any source; the subclass says whether waiting helps."""


class NoSource(FetchError):
    """No source answers now; trying again later helps."""


class NotThere(FetchError):
    """Every source that answered says that it has no such thing."""


class Refusal(FetchError):
    """A source wants a token, or another one than ours; the text is its own sentence."""
