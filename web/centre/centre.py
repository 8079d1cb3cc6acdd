"""The centre: what its HTTP, its machine and its pages share. Opened and closed by one owner."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Self

from media.slides import Slides
from relay.access import Access
from schedule import reminders
from schedule.store import Store, open_store
from web.centre import addresses
from web.centre.file_player import FilePlayer
from web.centre.keeping import Keeper
from web.centre.limits import Limit
from web.centre.oidc import CALLBACK, Client, Oidc
from web.centre.rooms import Rooms
from web.centre.settings import CentreSettings
from web.centre.signin import Lifetime, Passwords
from web.library import LibraryRoom


def wall_clock() -> datetime:
    """Now, as an aware datetime in UTC."""
    return datetime.now(UTC)


@dataclass(slots=True)
class Limits:
    """How often a login, and an address, may try to sign in and get it wrong."""

    by_login: Limit = field(default_factory=lambda: Limit(burst=10, every_s=60))
    by_address: Limit = field(default_factory=lambda: Limit(burst=60, every_s=10))


@dataclass(slots=True)
class Centre:
    """An open centre.

    public_url: where browsers reach it, without a slash at the end. access: the gate of its node,
    which knows the tokens of nodes and stations. clock: aware datetimes. policy: who is reminded
    when; told: reminders go out through its channels. oidc: whose accounts are good here, too.
    proxies: whose X-Forwarded-For is believed. library: of its node, if it has one. keeper: takes
    what nodes report. rooms: of meetings; where there is a node, they are given it.
    slides: draws what was sent for them. files: plays courses into them, where there is a node.
    """

    store: Store
    settings: CentreSettings
    public_url: str
    access: Access
    clock: Callable[[], datetime] = wall_clock
    policy: reminders.Policy = field(default_factory=reminders.Policy)
    passwords: Passwords = field(default_factory=Passwords)
    limits: Limits = field(default_factory=Limits)
    oidc: Oidc | None = None
    proxies: tuple[addresses.Network, ...] = ()
    library: LibraryRoom | None = None
    keeper: Keeper = field(init=False)
    files: FilePlayer | None = None
    rooms: Rooms = field(init=False)
    slides: Slides = field(init=False)

    def __post_init__(self) -> None:
        self.keeper = Keeper(self.store)
        self.rooms = Rooms(self.store, lambda: self.clock())
        self.slides = Slides(self.settings.slides)

    @classmethod
    async def open(
        cls,
        settings: CentreSettings,
        *,
        public_url: str,
        access: Access,
        clock: Callable[[], datetime] = wall_clock,
        passwords: Passwords | None = None,
    ) -> Self:
        """Open the database, migrated if need be; StoreError."""
        store = await open_store(settings.database)
        base = public_url.rstrip("/")
        policy = reminders.Policy(page_url=f"{base}/centre/occurrence/")
        return cls(
            store,
            settings,
            base,
            access,
            clock,
            policy,
            passwords or Passwords(),
            oidc=_oidc(settings, base),
            proxies=tuple(addresses.network(one) for one in settings.trusted_proxies),
        )

    async def close(self) -> None:
        """Close the database, and the connections to the provider of accounts."""
        await self.keeper.close()
        if self.oidc is not None:
            await self.oidc.close()
        await self.store.close()

    @property
    def lifetime(self) -> Lifetime:
        """How long somebody stays signed in."""
        return Lifetime(
            timedelta(hours=self.settings.session_hours), timedelta(hours=self.settings.idle_hours)
        )

    @property
    def secure(self) -> bool:
        """Whether browsers come by https."""
        return self.public_url.startswith("https://")


def _oidc(settings: CentreSettings, base: str) -> Oidc | None:
    if not settings.oidc_issuer:
        return None
    client = Client(
        settings.oidc_issuer,
        settings.oidc_client_id,
        settings.oidc_client_secret.get_secret_value(),
        settings.oidc_claim,
    )
    return Oidc(client, base + CALLBACK)
