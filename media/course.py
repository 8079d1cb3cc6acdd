"""A course: the entry of a recorded class in the catalogue.

It says what the class is and which files belong to it, each with its size and SHA-256, and goes
signed (`media.signed`) to every node and station that holds a copy. The text in it was typed by
people or came with a file, so it is bounded and free of control characters.
"""

from __future__ import annotations

import re
import secrets
from typing import Annotated, Final, Literal

from pydantic import AwareDatetime, BeforeValidator, Field, model_validator

from .manifest import (
    Bitrate,
    Codecs,
    CourseId,
    Document,
    Pixels,
    RenditionName,
    Seconds,
    Sha256,
)

MAX_RENDITIONS: Final = 12
MAX_CHAPTERS: Final = 500
MAX_TAGS: Final = 32
MAX_SUBTITLES: Final = 16
MAX_ATTACHMENT_BYTES: Final = 4 * 1024 * 1024

_SPACE: Final = re.compile(r"\s+")
_NOT_IN_ID: Final = re.compile(r"[^a-z0-9]+")


def _one_line(text: object) -> object:
    """One printable line: space is folded, control characters are refused."""
    if not isinstance(text, str):
        return text
    text = _SPACE.sub(" ", text).strip()
    if not text.isprintable():
        raise ValueError("it must have no control characters")
    return text


Line = Annotated[str, BeforeValidator(_one_line)]
LanguageTag = Annotated[str, Field(pattern=r"\A[a-z]{2,3}(-[a-z0-9]{2,8}){0,3}\z", max_length=32)]
"""As in RFC 5646, in small letters: `zh`, `zh-hans`, `en`."""


class Chapter(Document):
    """Where something begins."""

    start_s: Seconds
    title: Line = Field(min_length=1, max_length=200)


class Rendition(Document):
    """One way to play the course: the file `{name}.mp4`, described by `{name}.manifest`."""

    name: RenditionName
    codecs: Codecs
    bitrate_bps: Bitrate
    peak_bitrate_bps: Bitrate
    width: Pixels
    """0 where there is no picture."""
    height: Pixels
    size_bytes: int = Field(gt=0)
    manifest_sha256: Sha256
    """Of the signed text of the manifest."""


class Attachment(Document):
    """A small file that belongs to the course."""

    file: str = Field(pattern=r"\A[a-z0-9][a-z0-9-]{0,63}\.(jpg|vtt)\z")
    size_bytes: int = Field(gt=0, le=MAX_ATTACHMENT_BYTES)
    sha256: Sha256


class Subtitles(Attachment):
    """WebVTT in one language; the file is `{lang}.vtt`."""

    lang: LanguageTag
    label: Line = Field(min_length=1, max_length=64)
    """As a person reads it in the list: 中文, English."""


class Missing(Document):
    """A part of the class that nobody has: lost on its way, or while the recorder was down."""

    start_s: Seconds
    duration_s: Seconds


class Course(Document):
    """What the catalogue, the player and a station know about a course."""

    version: int = Field(default=1, ge=1, le=1)
    id: CourseId
    revision: int = Field(ge=1, le=1_000_000_000)
    """Grows with every change, so that who holds two copies knows the newer one."""
    title: Line = Field(min_length=1, max_length=200)
    teacher: Line = Field(default="", max_length=100)
    unit: Line = Field(default="", max_length=100)
    """Who gives the class: a school, an office, a station."""
    description: str = Field(default="", max_length=4000)
    tags: tuple[Annotated[Line, Field(min_length=1, max_length=40)], ...] = Field(
        default=(), max_length=MAX_TAGS
    )
    language: LanguageTag | None = None
    created: AwareDatetime
    duration_s: Seconds
    renditions: tuple[Rendition, ...] = Field(min_length=1, max_length=MAX_RENDITIONS)
    """The best one first, sound alone last."""
    complete: bool = True
    """False while more renditions are being made."""
    chapters: tuple[Chapter, ...] = Field(default=(), max_length=MAX_CHAPTERS)
    poster: Attachment | None = None
    subtitles: tuple[Subtitles, ...] = Field(default=(), max_length=MAX_SUBTITLES)
    missing: tuple[Missing, ...] = Field(default=(), max_length=10_000)

    @model_validator(mode="after")
    def _parts_agree(self) -> Course:
        names = [one.name for one in self.renditions]
        files = [one.file for one in self.subtitles] + [self.poster.file if self.poster else ""]
        if len(set(names)) != len(names) or len(set(files)) != len(files):
            raise ValueError("two of its files have the same name")
        starts = [one.start_s for one in self.chapters]
        if starts != sorted(starts):
            raise ValueError("its chapters are not in the order of their time")
        if any(one.file != f"{one.lang}.vtt" for one in self.subtitles):
            raise ValueError("the file of its subtitles is not named after their language")
        return self

    def rendition(self, name: str) -> Rendition | None:
        """The rendition of this name, None if there is none."""
        return next((one for one in self.renditions if one.name == name), None)


class Changes(Document):
    """What a person may change of a course; what is not given stays. language: "" for none."""

    title: Line | None = Field(default=None, min_length=1, max_length=200)
    teacher: Line | None = Field(default=None, max_length=100)
    unit: Line | None = Field(default=None, max_length=100)
    description: str | None = Field(default=None, max_length=4000)
    tags: tuple[Annotated[Line, Field(min_length=1, max_length=40)], ...] | None = Field(
        default=None, max_length=MAX_TAGS
    )
    language: LanguageTag | Literal[""] | None = None
    chapters: tuple[Chapter, ...] | None = Field(default=None, max_length=MAX_CHAPTERS)

    def given(self) -> dict[str, object]:
        """What is to change, by the names that `Course` and `media.intake.Details` share."""
        found = {name: getattr(self, name) for name in self.model_fields_set}
        found = {name: value for name, value in found.items() if value is not None}
        if "language" in found:
            found["language"] = found["language"] or None
        if self.chapters is not None:
            found["chapters"] = tuple(sorted(self.chapters, key=lambda one: one.start_s))
        return found

    def late(self, duration_s: float) -> Chapter | None:
        """A chapter that begins after the end of the course, None if there is none."""
        return next((one for one in self.chapters or () if one.start_s > duration_s), None)


def new_id(title: str) -> str:
    """An id for a new course: the letters of its title that fit, then chance.

    >>> new_id("Rice: sowing, 2nd class")  # doctest: +SKIP
    'rice-sowing-2nd-class-x4m7q2'
    """
    words = _NOT_IN_ID.sub("-", title.casefold()).strip("-")[:40].strip("-")
    chance = "".join(secrets.choice("abcdefghjkmnpqrstuvwxyz23456789") for _ in range(6))
    return f"{words}-{chance}" if words else f"course-{chance}"
