"""What was really played, from what the television page reports (pure).

The timetable says what should be on; only the page knows whether a picture moved. It reports every
change at once and every two seconds while it plays. `Witness` puts the two together: for each item
that is on it keeps one `Play`, an unbroken line of stretches in which the picture moved, or did not
and why. When the item's time is over, the play goes to the logbook.

It is written down every few seconds (`Play` is a model), so that after a power cut the line goes on
where it was, with the time between as a gap.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

from media.programme import Item

REPORT_EVERY_S: Final = 2.0
SILENT_AFTER_S: Final = 7.0
"""Three reports missed: nobody can say that a picture moved. Real seconds."""
GAP_FROM_S: Final = 0.5
"""A shorter one is the page's switching, which nobody takes for a gap."""
EARLY_S: Final = 3.0
MAX_STRETCHES: Final = 2000


class Why(StrEnum):
    """Why no picture moved; PLAYING when one did."""

    PLAYING = "playing"
    LATE = "late"
    LINE = "line"
    MISSING = "missing"
    STALLED = "stalled"
    ERROR = "error"
    NO_TELEVISION = "no-television"
    RESTART = "restart"
    """The box was down, or came up in the middle of the item."""
    CLOCK = "clock"
    """The clock was set: what was before stands in another entry."""
    OTHER_ITEM = "other-item"
    """Another item had this time."""


class Stretch(BaseModel):
    """A time in which nothing changed."""

    model_config = ConfigDict(extra="forbid")

    from_s: float = Field(allow_inf_nan=False)
    to_s: float = Field(allow_inf_nan=False)
    why: Why


class Play(BaseModel):
    """One item on the television. `stretches` follow each other without holes."""

    model_config = ConfigDict(extra="forbid")

    item: str = Field(max_length=64)
    title: str = Field(max_length=200)
    kind: str = Field(max_length=16)
    course: str = Field(default="", max_length=64)
    rendition: str = Field(default="", max_length=64)
    planned_at: float = Field(allow_inf_nan=False)
    planned_s: float = Field(allow_inf_nan=False)
    stretches: list[Stretch] = Field(default=[], max_length=MAX_STRETCHES)

    @property
    def until_s(self) -> float:
        """The end of what is known of it."""
        return self.stretches[-1].to_s if self.stretches else self.planned_at

    def go_on(self, to_s: float, why: Why) -> None:
        """What happened from `until_s` to `to_s`; nothing if that is past."""
        from_s = self.until_s
        if to_s <= from_s:
            return
        last = self.stretches[-1] if self.stretches else None
        if last is not None and (last.why is why or len(self.stretches) >= MAX_STRETCHES):
            last.to_s = to_s
        else:
            self.stretches.append(Stretch(from_s=from_s, to_s=to_s, why=why))

    @property
    def moving(self) -> list[Stretch]:
        """The stretches in which a picture moved; what is shorter than a gap does not part them."""
        merged: list[Stretch] = []
        for one in self.stretches:
            if one.why is not Why.PLAYING:
                continue
            if merged and one.from_s - merged[-1].to_s < GAP_FROM_S:
                merged[-1].to_s = one.to_s
            else:
                merged.append(one.model_copy())
        return merged

    @property
    def gaps(self) -> list[Stretch]:
        """The stretches of its time without a moving picture, from GAP_FROM_S on."""
        return [
            one
            for one in self.stretches
            if one.why is not Why.PLAYING and one.to_s - one.from_s >= GAP_FROM_S
        ]


@dataclass(frozen=True, slots=True)
class Report:
    """What the page says. `state` is playing, stalled, error or idle; `at_s` when it was so."""

    state: str
    item: str
    at_s: float
    why: str = ""


class Witness:
    """Keeps the play of the item that is on.

    `now` is the believed time, which may be set; `steady_s` are seconds that pass evenly, by which
    silence is measured.
    """

    def __init__(self, now: float, left: Play | None = None) -> None:
        """`left` is the play that was open when the box went down."""
        self.play = left
        self._why = Why.RESTART if left is not None else Why.LATE
        self._heard_steady_s: float | None = None
        self._proven_s = now
        self._before: tuple[float, Why] | None = now, Why.RESTART
        """Until when another reason holds for an item that began earlier."""
        self._early: Report | None = None
        """The page keeps time by itself, and may begin an item a moment before we do."""

    def expect(
        self,
        now: float,
        steady_s: float,
        item: Item | None,
        trouble: str | None = None,
        *,
        course: str = "",
        rendition: str = "",
    ) -> list[Play]:
        """What should be on at `now`; returns the plays that ended with that.

        trouble: of `media.playout.Current`; it is the reason of the gap.
        """
        ended = []
        play = self.play
        if play is not None and (
            item is None or play.item != item.id or play.planned_at != item.start_s
        ):
            # It ended when its time was over, even if that is noticed late.
            ended = self._close(now, steady_s)
            self._before = ended[0].until_s, Why.OTHER_ITEM
        if item is None:
            return ended
        if self.play is None:
            self.play = Play(
                item=item.id, title=item.title, kind=item.kind.value, course=course,
                rendition=rendition, planned_at=item.start_s, planned_s=item.duration_s,
            )  # fmt: skip
            # What was before is not this play's to tell.
            if self._before is not None:
                until_s, why = self._before
                self.play.go_on(min(max(until_s, item.start_s), now), why)
            self._why, self._heard_steady_s = Why.LATE, steady_s
            early, self._early = self._early, None
            if early is not None and now - early.at_s < EARLY_S:
                self.report(now, steady_s, early)
        if rendition:
            self.play.course, self.play.rendition = course, rendition
        if trouble is not None and self._why is not Why.PLAYING:
            self._turn(now, Why(trouble))
        return ended

    def clock_set(self, before_s: float, after_s: float, steady_s: float) -> list[Play]:
        """The clock is set from one time to another; returns the play that ended with that."""
        ended = self._close(before_s, steady_s)
        self._before = after_s, Why.CLOCK
        return ended

    def _close(self, now: float, steady_s: float) -> list[Play]:
        play = self.look(now, steady_s)
        if play is None:
            return []
        play.go_on(min(now, play.planned_at + play.planned_s), self._why)
        self.play, self._why, self._heard_steady_s = None, Why.LATE, None
        return [play]

    def report(self, now: float, steady_s: float, said: Report) -> None:
        """The page says what it does. Reports of another item than the one that is on are late."""
        play = self.play
        if play is None or said.item != play.item:
            self._early = said
            return
        at_s = min(max(said.at_s, play.until_s), now)
        self._heard_steady_s, self._proven_s = steady_s, at_s
        match said.state:
            case "playing":
                why = Why.PLAYING
            case "error":
                why = Why.ERROR
            case "stalled":
                why = self._why if self._why in (Why.LINE, Why.MISSING) else Why.STALLED
            case _:
                why = self._why if self._why is not Why.PLAYING else Why.STALLED
        self._turn(at_s, why)

    def look(self, now: float, steady_s: float) -> Play | None:
        """Brings the open play up to `now`; call it before it is written down."""
        play = self.play
        if play is None:
            return None
        if self._heard_steady_s is None:
            self._heard_steady_s = steady_s
        if steady_s - self._heard_steady_s > SILENT_AFTER_S:
            if self._why is Why.PLAYING:
                self._turn(self._proven_s, Why.NO_TELEVISION)
            elif self._why is Why.LATE:
                self._turn(now, Why.NO_TELEVISION)
        # What the page has not confirmed yet stays open, or silence could not be dated back.
        until_s = self._proven_s if self._why is Why.PLAYING else now
        play.go_on(min(until_s, play.planned_at + play.planned_s), self._why)
        return play

    def _turn(self, at_s: float, why: Why) -> None:
        assert self.play is not None
        self.play.go_on(min(at_s, self.play.planned_at + self.play.planned_s), self._why)
        self._why = why
