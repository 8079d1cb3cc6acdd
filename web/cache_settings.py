"""The `[cache]` table: what a node below the library keeps of the courses that pass through it."""

from __future__ import annotations

import os
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pydantic import BaseModel, ConfigDict, Field

from relay.access import Access


class CacheSettings(BaseModel):
    """Where the cache is, how large it may get, and whose courses it takes."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)

    folder: Path | None = Field(
        default=None,
        description="The folder of the courses' pieces; unset: one of this node in the user's or "
        "the service's cache",
    )
    budget_mb: int = Field(
        default=20_000,
        ge=10,
        le=100_000_000,
        description="How many MB the courses may take; those used least recently give way",
    )
    keep_free_mb: int = Field(
        default=500,
        ge=0,
        le=100_000_000,
        description="How many MB of the disk are left to others",
    )
    library_keys: list[Path] = Field(
        default=[],
        max_length=8,
        description="PEM files of the public keys that sign courses; unset: those of public_keys",
    )

    def read_keys(self, access: Access) -> tuple[Ed25519PublicKey, ...]:
        """The keys that sign courses; those of `access` (none where it is open) by default.

        Raises `relay.access.KeyFileError` when a file cannot be used.
        """
        if not self.library_keys:
            return access.public_keys
        return Access.from_pem_files(self.library_keys).public_keys

    def folder_for(self, port: int) -> Path:
        """The folder of a node that listens on this port."""
        if self.folder is not None:
            return self.folder
        # systemd's CacheDirectory=, then the place of the XDG base directory specification.
        service = os.environ.get("CACHE_DIRECTORY", "").partition(":")[0]
        if service:
            return Path(service) / f"courses-{port}"
        home = os.environ.get("XDG_CACHE_HOME") or str(Path("~/.cache").expanduser())
        return Path(home) / "terrace" / f"courses-{port}"

    def room_folder_for(self, port: int) -> Path:
        """The folder of what meetings show, beside that of the courses; it is bounded by itself."""
        courses = self.folder_for(port)
        return courses.with_name(f"{courses.name}-rooms")
