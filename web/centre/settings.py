"""The `[centre]` table: the schedule's database, how people sign in, the machine, messages."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr


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

    silence_s: int = Field(
        default=900,
        ge=1,
        le=86_400,
        description="Seconds without a presenter after which a class ends before its time",
    )
    grace_s: int = Field(
        default=30,
        ge=1,
        le=86_400,
        description="Seconds without a presenter after which a class ends that is past its time",
    )
    replay_hours: int = Field(
        default=24,
        ge=0,
        le=720,
        description="Hours after a class at which the stations play its recording; 0: never",
    )
    county_token: SecretStr = Field(
        default=SecretStr(""),
        description="The operator's token that the counties below take timetables with",
    )
    counties: list[str] = Field(
        default=[],
        max_length=5000,
        description="URLs of the nodes below that are shown county_token; * stands for anything",
    )

    smtp_host: str = Field(
        default="", max_length=255, description="The mail server; empty: no mail is sent"
    )
    smtp_port: int = Field(default=587, ge=1, le=65535, description="The mail server's port")
    smtp_security: Literal["tls", "starttls", "none"] = Field(
        default="starttls", description="How mail is protected on its way to the server"
    )
    smtp_sender: str = Field(
        default="", max_length=254, description="The address that mail comes from"
    )
    smtp_user: str = Field(default="", max_length=255, description="Who the mail server knows")
    smtp_password: SecretStr = Field(
        default=SecretStr(""), description="That user's password at the mail server"
    )
    webhook_url: str = Field(
        default="",
        max_length=1000,
        pattern=r"^(https?://.+)?$",
        description="Where messages are posted as JSON as well; empty: nowhere",
    )
    webhook_secret: SecretStr = Field(
        default=SecretStr(""), description="The secret that signs what is posted there"
    )
