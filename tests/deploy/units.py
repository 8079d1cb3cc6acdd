"""What the tests of deploy/ share: where it is, and how a sample reads with everything on."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

DEPLOY = Path(__file__).parents[2] / "deploy"
SYSTEMD_ANALYZE = shutil.which("systemd-analyze")

needs_systemd = pytest.mark.skipif(SYSTEMD_ANALYZE is None, reason="there is no systemd-analyze")


def with_every_setting_on(text: str) -> str:
    """The sample's text with the commented settings in force: `# port = 8710` -> `port = 8710`."""
    lines = text.splitlines()
    tables: list[str] = []
    for line in lines:
        header = re.match(r"\[([a-z]+)\]", line)
        tables.append(header[1] if header else tables[-1] if tables else "")
    on = {
        (table, match[1])
        for table, line in zip(tables, lines, strict=True)
        if (match := re.match(r"([a-z_]+) = ", line))
    }
    return "\n".join(
        line[2:]
        if (match := re.match(r"# ([a-z_]+) = ", line)) and (table, match[1]) not in on
        else line
        for table, line in zip(tables, lines, strict=True)
    )
