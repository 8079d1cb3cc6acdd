"""What a site's line test says: ready, or what to do (pure).

The site measures; here it is judged, so that every page and the record say the same. The bounds:
below 400 kbit/s there is no picture that a hall can use, above 300 ms one way people talk into each
other (ITU-T G.114 puts the bound of what is acceptable at 400), and beyond 5 % of loss sound breaks
in spite of its repair. Sound and picture apart by more than 60 ms are noticed (ITU-R BT.1359).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

LEAST_UPLINK_BPS: Final = 400_000
LEAST_AUDIO_BPS: Final = 48_000
MOST_DELAY_MS: Final = 300
MOST_LOSS: Final = 0.05
MOST_SKEW_MS: Final = 60


class Todo(StrEnum):
    """What a site has to do before it is ready; pages have a sentence for each."""

    CAMERA = "camera"  # allow it, or plug one in
    MICROPHONE = "microphone"
    SPEAKER = "speaker"
    UPLINK = "uplink"  # the line carries no picture up
    NO_LINE = "no line"  # nor sound
    DELAY = "delay"
    LOSS = "loss"
    SKEW = "skew"  # sound and picture are apart


@dataclass(frozen=True, slots=True)
class Verdict:
    """ready: nothing is left to do. todo: what is, the worst first."""

    todo: tuple[Todo, ...]

    @property
    def ready(self) -> bool:
        return not self.todo


def judge(result: Mapping[str, Any]) -> Verdict:
    """Judge a test: camera, microphone, speaker (whether they work), uplink_bps, delay_ms, loss
    (0 to 1), skew_ms. What was not measured is not judged; what is no number counts as not
    measured, for it comes from a browser.
    """
    uplink_bps = _number(result, "uplink_bps")
    checks: list[tuple[bool, Todo]] = [
        (uplink_bps is not None and uplink_bps < LEAST_AUDIO_BPS, Todo.NO_LINE),
        (result.get("microphone") is False, Todo.MICROPHONE),
        (result.get("speaker") is False, Todo.SPEAKER),
        (result.get("camera") is False, Todo.CAMERA),
        (
            uplink_bps is not None and LEAST_AUDIO_BPS <= uplink_bps < LEAST_UPLINK_BPS,
            Todo.UPLINK,
        ),
        (_above(result, "loss", MOST_LOSS), Todo.LOSS),
        (_above(result, "delay_ms", MOST_DELAY_MS), Todo.DELAY),
        (abs(_number(result, "skew_ms") or 0) > MOST_SKEW_MS, Todo.SKEW),
    ]
    return Verdict(tuple(todo for is_so, todo in checks if is_so))


def _number(result: Mapping[str, Any], name: str) -> float | None:
    value = result.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value)


def _above(result: Mapping[str, Any], name: str, most: float) -> bool:
    value = _number(result, name)
    return value is not None and value > most
