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
    on = {match[1] for line in lines if (match := re.match(r"([a-z_]+) = ", line))}
    return "\n".join(
        line[2:] if (match := re.match(r"# ([a-z_]+) = ", line)) and match[1] not in on else line
        for line in lines
    )
