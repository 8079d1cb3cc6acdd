"""Subtitles as people have them into WebVTT as browsers take it.

WebVTT (W3C) and SubRip (`.srt`) are read, in UTF-8, UTF-16 or GB 18030. What comes out has a
header, cues in the order of their time and no style, script or region block.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from .errors import MediaError

MAX_BYTES: Final = 4 * 1024 * 1024
MAX_CUES: Final = 50_000
MAX_CUE_CHARACTERS: Final = 2000

_TIME: Final = r"(?:(\d{1,3}):)?([0-5]?\d):([0-5]?\d)[.,](\d{1,3})"
_TIMING: Final = re.compile(rf"\s*{_TIME}\s*-->\s*{_TIME}(?:\s+(.*))?", re.ASCII)
_SETTING: Final = re.compile(r"(vertical|line|position|size|align):[a-z0-9.,%-]{1,24}", re.ASCII)
_TAG: Final = re.compile(r"</?(?:b|i|u|ruby|rt|v|c|lang)\b[^<>&\n]{0,80}>")


class BadSubtitles(MediaError):
    """The file holds no subtitles; the message says where it stops making sense."""


@dataclass(frozen=True, slots=True)
class Cue:
    """One text; times in milliseconds."""

    start_ms: int
    end_ms: int
    text: str
    settings: str = ""


def webvtt_of(data: bytes) -> bytes:
    """WebVTT in UTF-8 with what `data` says. Raises BadSubtitles."""
    if len(data) > MAX_BYTES:
        raise BadSubtitles(f"the subtitles are larger than {MAX_BYTES // (1024 * 1024)} MB")
    cues = read_cues(_text(data))
    if not cues:
        raise BadSubtitles(
            "there is no line such as 00:00:01.000 --> 00:00:04.000, so these are no subtitles: "
            "give a .vtt or .srt file"
        )
    blocks = ["WEBVTT"]
    for cue in sorted(cues, key=lambda one: (one.start_ms, one.end_ms)):
        timing = f"{_written(cue.start_ms)} --> {_written(cue.end_ms)} {cue.settings}".rstrip()
        blocks.append(f"{timing}\n{cue.text}")
    return ("\n\n".join(blocks) + "\n").encode()


def read_cues(text: str) -> list[Cue]:
    """The cues of WebVTT or SubRip. Raises BadSubtitles for too many, and one that ends early."""
    cues: list[Cue] = []
    lines = text.splitlines()
    at = 0
    while at < len(lines):
        timing = _TIMING.fullmatch(lines[at])
        at += 1
        if timing is None:
            continue
        start_ms, end_ms = _milliseconds(timing.groups()[:4]), _milliseconds(timing.groups()[4:8])
        if end_ms < start_ms:
            raise BadSubtitles(f"line {at} ends before it begins")
        said = []
        while at < len(lines) and lines[at].strip() and "-->" not in lines[at]:
            said.append(lines[at].strip())
            at += 1
        shown = _safe("\n".join(said))[:MAX_CUE_CHARACTERS]
        if shown and end_ms > start_ms:
            settings = [one for one in (timing[9] or "").split() if _SETTING.fullmatch(one)]
            cues.append(Cue(start_ms, end_ms, shown, " ".join(settings)))
        if len(cues) > MAX_CUES:
            raise BadSubtitles(f"there are more than {MAX_CUES} subtitles")
    return cues


def _text(data: bytes) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        encodings = ["utf-16"]
    else:
        # Files from Windows in Chinese are in GB 18030 more often than not.
        encodings = ["utf-8-sig", "gb18030"]
    for encoding in encodings:
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise BadSubtitles("the subtitles are in no encoding that is known here: save them as UTF-8")


def _safe(text: str) -> str:
    """The text with the few tags that WebVTT has; every other < and & is shown as it is."""
    out, at = [], 0
    for tag in _TAG.finditer(text):
        out += [_escaped(text[at : tag.start()]), tag[0]]
        at = tag.end()
    out.append(_escaped(text[at:]))
    return "".join(one for one in "".join(out) if one == "\n" or one.isprintable())


def _escaped(text: str) -> str:
    plain = text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
    return plain.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _milliseconds(parts: tuple[str | None, ...]) -> int:
    hours, minutes, seconds, fraction = parts
    whole = int(hours or 0) * 3600 + int(minutes or 0) * 60 + int(seconds or 0)
    return whole * 1000 + int((fraction or "0").ljust(3, "0"))


def _written(time_ms: int) -> str:
    seconds, ms = divmod(time_ms, 1000)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}.{ms:03d}"
