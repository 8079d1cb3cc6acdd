"""A running tree as text: what `/api/tree` says, drawn with lines for the terminal."""

from __future__ import annotations

import asyncio
import functools
import json
import math
import os
import sys
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp

from relay.diagnosis import Finding, Severity, diagnose

Tree = Mapping[str, Any]
"""One node as `/api/tree` gives it: the fields of `/api/node`, and `below`, a list of the same."""

FETCH_WITHIN_S = 5.0
WATCH_EVERY_S = 1.0

_CHINESE = {
    "streams": "路直播",
    "viewers": "人观看",
    "no stream": "没有直播",
    "live": "直播中",
    "waiting": "等待主讲",
    "starting": "正在开始",
    "from the publisher": "来自主讲",
    "from the parent": "来自上级",
    "from below": "来自下级",
    "in": "入",
    "out": "出",
    "lost": "丢包",
    "no answer": "没有应答",
    "parent unreachable": "上级无法连接",
    "refused by the parent": "被上级拒绝",
    "parents form a loop": "上级成环",
}


class Unreachable(Exception):
    """The node did not give its tree. Its text is one sentence."""


def language() -> str:
    """`zh` where the terminal is set to Chinese, else `en`."""
    for variable in ("LC_ALL", "LC_MESSAGES", "LANG"):
        if value := os.environ.get(variable, ""):
            return "zh" if value.lower().startswith("zh") else "en"
    return "en"


def render(tree: Tree, *, language: str = "en") -> str:
    """The tree as lines of text, without a closing line break.

    Every node is a line with its streams below it. The line that leads to a child carries the
    bitrate on that edge: down what the child pulls, up what it pushes.
    """
    words = _CHINESE if language == "zh" else {}
    lines = _node_lines(tree, words)
    findings = [_finding(one, language) for one in diagnose(tree)]
    if not _has_stream(tree):
        lines.append(f"({words.get('no stream', 'no stream')})")
    return "\n".join([*lines, *(line for line in findings if line)])


def _finding(finding: Finding, language: str) -> str:
    """A finding as the page /tree says it, "" for none that would have to be said."""
    if finding.severity is Severity.FINE:
        return ""
    template = _sentences(language).get(f"tree.finding.{finding.code}", finding.code)
    for name, value in finding.values.items():
        template = template.replace(f"{{{name}}}", _clean(value))
    return f"{'!!' if finding.severity is Severity.BAD else ' !'} {template}"


@functools.cache
def _sentences(language: str) -> Mapping[str, str]:
    file = Path(__file__).parent / "locale" / f"{language}.json"
    sentences: Mapping[str, str] = json.loads(file.read_text(encoding="utf-8"))
    return sentences


def bitrate_in_words(bps: float) -> str:
    """1234567 -> `1.2 Mbit/s`."""
    if bps >= 1e9:
        return f"{bps / 1e9:.1f} Gbit/s"
    if bps >= 1e6:
        return f"{bps / 1e6:.1f} Mbit/s"
    return f"{bps / 1e3:.0f} kbit/s"


def fit(text: str, columns: int) -> str:
    """Cuts every line to the terminal's width; a Chinese character takes two columns."""
    return "\n".join(_cut(line, columns) for line in text.split("\n"))


async def fetch_tree(session: aiohttp.ClientSession, url: str, *, token: str = "") -> Tree:
    """Asks the node at `url` for itself and all below it.

    Raises `Unreachable` when it does not answer, or answers with something else, and `ValueError`
    when `url` is no URL.
    """
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    address = url.rstrip("/") + "/api/tree"
    try:
        async with (
            asyncio.timeout(FETCH_WITHIN_S),
            session.get(address, headers=headers) as response,
        ):
            text = await response.text(errors="replace")
            if response.status in (401, 403):
                raise Unreachable(f"{url} wants a token that allows it: set TERRACE_TOKEN")
            if response.status != 200:
                raise Unreachable(f"{address} answered {response.status}: is it a Terrace node?")
    except TimeoutError:
        raise Unreachable(f"{url} did not answer within {FETCH_WITHIN_S:g} s") from None
    except aiohttp.InvalidURL:
        raise ValueError(f"{url} is no URL: write one such as http://127.0.0.1:8710") from None
    except (aiohttp.ClientError, OSError) as error:
        raise Unreachable(f"{url} cannot be reached: {_reason(error)}") from error
    try:
        tree = json.loads(text)
    except (json.JSONDecodeError, RecursionError):
        tree = None
    if not isinstance(tree, dict):
        raise Unreachable(f"{address} did not answer with a tree: is it a Terrace node?")
    return tree


async def show(url: str, *, watch: bool, as_json: bool, token: str = "") -> int:
    """Prints the tree once, or again and again; returns the status for the shell.

    Raises `Unreachable` when the first answer does not come; later ones are waited for.
    """
    async with aiohttp.ClientSession() as session:
        tree = await fetch_tree(session, url, token=token)
        if as_json:
            print(json.dumps(tree, ensure_ascii=False, indent=2))
            return 0
        if not watch:
            print(render(tree, language=language()))
            return 0
        picture = Picture()
        while True:
            picture.draw(render(tree, language=language()))
            await asyncio.sleep(WATCH_EVERY_S)
            try:
                tree = await fetch_tree(session, url, token=token)
            except Unreachable as error:
                picture.draw(str(error))


class Picture:
    """A block of lines redrawn in its place on a terminal; elsewhere one block after the other."""

    def __init__(self) -> None:
        self.in_place = sys.stdout.isatty()
        self._height = 0

    def draw(self, text: str) -> None:
        """Puts `text` where the last one stood."""
        if self.in_place:
            columns, rows = os.get_terminal_size()
            # A line that wraps, or a picture taller than the screen, could not be drawn over.
            lines = fit(text, columns - 1).split("\n")[: rows - 1]
            up = f"\x1b[{self._height}A" if self._height else ""
            sys.stdout.write(f"{up}\x1b[J" + "\n".join(lines) + "\n")
            self._height = len(lines)
        else:
            sys.stdout.write(text + "\n\n")
        sys.stdout.flush()


def _reason(error: Exception) -> str:
    number = getattr(error, "errno", None)
    return os.strerror(number) if isinstance(number, int) and number > 0 else str(error)


def _node_lines(node: Tree, words: Mapping[str, str]) -> list[str]:
    below = _objects(node, "below")
    streams = _objects(node, "streams")
    head = _clean(node.get("name") or node.get("url") or "?")
    tier = _clean(node.get("tier", ""))
    if tier and tier != head:
        head += f" ({tier})"
    lines = [head + _trouble(node, words)]
    rail = "│ " if below else "  "
    lines += [f"{rail}  {_stream(one, words)}" for one in streams]
    for index, child in enumerate(below):
        last = index == len(below) - 1
        first, *rest = _node_lines(child, words)
        lines.append(f"{'└─' if last else '├─'}{_edge(child)}─ {first}")
        lines += [f"{'  ' if last else '│ '}{line}" for line in rest]
    return lines


def _has_stream(node: Tree) -> bool:
    return bool(_objects(node, "streams")) or any(map(_has_stream, _objects(node, "below")))


def _edge(child: Tree) -> str:
    streams = _objects(child, "streams")
    down = sum(_number(one, "bitrate_in_bps") for one in streams if one.get("source") == "parent")
    up = sum(_number(one, "bitrate_in_bps") for one in streams if one.get("pushed"))
    parts = [f"↓ {bitrate_in_words(down)}"] if down else []
    parts += [f"↑ {bitrate_in_words(up)}"] if up else []
    return f" {'  '.join(parts)} " if parts else ""


def _stream(stream: Tree, words: Mapping[str, str]) -> str:
    def say(english: str) -> str:
        return words.get(english, english)

    tracks = sorted(_objects(stream, "tracks"), key=lambda one: one.get("kind") != "video")
    source = {"publisher": "from the publisher", "parent": "from the parent", "push": "from below"}
    state = str(stream.get("state", ""))
    parts = [
        _clean(stream.get("name", "?")),
        f"{say(_clean(state))} {say(source.get(str(stream.get('source')), ''))}".rstrip(),
        "+".join(_clean(one.get("codec", "?")).replace("OPUS", "Opus") for one in tracks),
        f"{say('in')} {bitrate_in_words(_number(stream, 'bitrate_in_bps'))}",
        f"{say('out')} {bitrate_in_words(_number(stream, 'bitrate_out_bps'))}",
        _count(int(_number(stream, "viewers")), "viewer", words),
    ]
    if lost := int(sum(_number(one, "lost") for one in tracks)):
        parts.append(f"{lost} {say('lost')}")
    return "  ".join(part for part in parts if part)


def _count(number: int, noun: str, words: Mapping[str, str]) -> str:
    if words:
        return f"{number} {words[noun + 's']}"
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _trouble(node: Tree, words: Mapping[str, str]) -> str:
    if "streams" not in node:
        return f"  ! {words.get('no answer', 'no answer')}: {_clean(node.get('error', ''))}"
    trouble = {
        "unreachable": "parent unreachable",
        "refused": "refused by the parent",
        "loop": "parents form a loop",
    }
    state = trouble.get(str(node.get("parent_state")), "")
    error = _clean(node.get("error") or "")
    said = [words.get(state, state)] if state else []
    said += [error] if error else []
    return f"  ! {': '.join(said)}" if said else ""


def _number(thing: Tree, name: str) -> float:
    value = thing.get(name)
    return value if isinstance(value, int | float) and math.isfinite(value) else 0


def _objects(thing: Tree, name: str) -> list[Tree]:
    values = thing.get(name)
    return [one for one in values if isinstance(one, dict)] if isinstance(values, list) else []


def _clean(value: object) -> str:
    """Names come from other machines: nothing in them may steer the terminal."""
    return "".join(one if one.isprintable() else "?" for one in str(value))


def width(text: str) -> int:
    """How many columns of a terminal a text takes; a Chinese character takes two."""
    return sum(2 if unicodedata.east_asian_width(one) in "WF" else 1 for one in text)


def _cut(line: str, columns: int) -> str:
    if width(line) <= columns:
        return line
    taken = 0
    for index, one in enumerate(line):
        taken += width(one)
        if taken > columns - 1:
            return line[:index] + "…"
    return line
