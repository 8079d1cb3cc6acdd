"""The `[library]` table: where courses are kept, and who signs them."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field


class LibrarySettings(BaseModel):
    """A node without a parent is the library; nodes below it keep copies (`[cache]`)."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)

    folder: Path = Field(
        default=Path("library"),
        description="The folder of the library's key, of its work, and of its courses unless "
        "`objects` says otherwise",
    )
    objects: str = Field(
        default="",
        max_length=1000,
        description="Where courses are kept: a folder, or s3://bucket/prefix with the usual AWS_* "
        "variables; empty: `objects` in the library's folder",
    )
    key: Path | None = Field(
        default=None,
        description="PEM file of the private key that signs courses; unset: one that is made in "
        "the library's folder",
    )
    max_upload_mb: int = Field(
        default=20_000,
        ge=1,
        le=10_000_000,
        description="How many MB one uploaded video may have",
    )
    keep_free_mb: int = Field(
        default=1000,
        ge=0,
        le=100_000_000,
        description="How many MB of the disk are left to others when videos are uploaded",
    )
