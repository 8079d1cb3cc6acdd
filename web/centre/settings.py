"""The `[centre]` table: the schedule's database, how people sign in, the machine, messages."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationInfo,
    field_validator,
)

from web.centre import addresses


def _database(value: str) -> str:
    # Settings are read for every command, and SQLAlchemy takes longer to load than most run.
    from schedule.errors import StoreError
    from schedule.store import database_url

    try:
        database_url(value)
    except StoreError as error:
        raise ValueError(str(error)) from None
    return value


def _issuer(value: str) -> str:
    parts = urlsplit(value)
    here = parts.hostname in ("127.0.0.1", "::1", "localhost")
    protected = parts.scheme == "https" or (parts.scheme == "http" and here)
    if value and not (protected and parts.hostname and not parts.query and not parts.fragment):
        raise ValueError("it must be an https URL, exactly as the provider writes it")
    return value


def _proxy(value: str) -> str:
    return str(addresses.network(value))


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
    trusted_proxies: list[Annotated[str, AfterValidator(_proxy)]] = Field(
        default=[],
        max_length=64,
        description="Proxies in front, as addresses or networks, whose X-Forwarded-For is believed",
    )
    # Before the issuer, which needs it.
    oidc_client_id: str = Field(
        default="", max_length=500, description="Who the centre is at the provider of accounts"
    )
    oidc_client_secret: SecretStr = Field(
        default=SecretStr(""), description="Its secret there, if it has one"
    )
    oidc_claim: str = Field(
        default="email",
        pattern=r"^[A-Za-z0-9_.:/-]{1,100}$",
        description="What people are known by: email, or a claim that is their login here",
    )
    oidc_issuer: Annotated[str, AfterValidator(_issuer)] = Field(
        default="",
        max_length=300,
        description="The OpenID provider whose accounts are good here, too; empty: none",
    )

    @field_validator("oidc_issuer")
    @classmethod
    def _has_client(cls, value: str, info: ValidationInfo) -> str:
        if value and not info.data.get("oidc_client_id"):
            raise ValueError("it needs oidc_client_id, too")
        return value

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

    token_key: Path | None = Field(
        default=None,
        description="PEM file of the private key with which the centre makes tokens for the people "
        "of a meeting; its public key is one of every node's public_keys; unset: it makes none",
    )
    slides: Path = Field(
        default=Path("slides"),
        description="The folder of the pages of slides that were sent for meetings",
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
    sms_url: str = Field(
        default="",
        max_length=1000,
        pattern=r"^(https?://.+)?$",
        description="The gateway that text messages are posted to as JSON; empty: none are sent",
    )
    sms_secret: SecretStr = Field(
        default=SecretStr(""), description="The secret that signs what is posted to the gateway"
    )
    sms_authorization: SecretStr = Field(
        default=SecretStr(""),
        description="The Authorization header that the gateway wants, such as Bearer and a key",
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
