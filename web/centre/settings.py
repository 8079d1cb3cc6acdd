"""The `[centre]` table: the schedule's database, and how people sign in."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


def _database(value: str) -> str:
    # Settings are read for every command, and SQLAlchemy takes longer to load than most run.
    from schedule.errors import StoreError
    from schedule.store import database_url

    try:
        database_url(value)
    except StoreError as error:
        raise ValueError(str(error)) from None
    return value


class CentreSettings(BaseModel):
    """One centre: `terrace serve`."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)

    database: Annotated[str, AfterValidator(_database)] = Field(
        default="terrace.db",
        min_length=1,
        max_length=1000,
        description="The schedule's database: a path, or postgresql://user@host/name",
    )
    session_hours: int = Field(
        default=24,
        ge=1,
        le=8760,
        description="Hours after which whoever signed in has to do it again",
    )
    idle_hours: int = Field(
        default=8,
        ge=1,
        le=8760,
        description="Hours without a request after which a session ends",
    )
