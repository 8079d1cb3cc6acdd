"""What a route of the API is: one row of the table that the handlers, the document and the tests
are made from.

A row says who may: `Anyone`, `SignedIn`, `Node` (a relay node's or a station's token), or `On` an
action on a unit, which `where` finds out from the request, in the transaction of the handler.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.ext.asyncio import AsyncConnection

from relay.access import Grant
from schedule import audit
from schedule.people import PersonInfo
from schedule.rights import Action, demand
from schedule.units import unit
from web.centre import addresses
from web.centre.signin import Session

if TYPE_CHECKING:
    from web.centre.centre import Centre

MOST_ID = 2**31 - 1
JSON_BYTES = 1024 * 1024


class Body(BaseModel):
    """A body with nothing in it that is not known: a slip of the pen is told. "1" is no 1."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Query(BaseModel):
    """What may stand after the question mark."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Paging(Query):
    """Which page of a list. after: `next` of the page before."""

    after: str = Field(default="", max_length=800, pattern=r"^[^\x00-\x1f]*$")
    limit: int = Field(default=100, ge=1, le=500)


_T = TypeVar("_T")


class Listed(BaseModel, Generic[_T]):
    """A page of a list. next: what `after` is for the page that follows, null on the last."""

    items: list[_T]
    next: str | None = None


@dataclass(frozen=True, slots=True)
class Raw:
    """A body that is not JSON. most_bytes: what is read of it at most. others: further types."""

    media_type: str
    sentence: str
    most_bytes: int = 32 * 1024 * 1024
    others: tuple[str, ...] = ()

    @property
    def media_types(self) -> tuple[str, ...]:
        """All types that a body may have."""
        return (self.media_type, *self.others)


@dataclass(frozen=True, slots=True)
class Redirect:
    """An answer that sends a browser on."""

    sentence: str


@dataclass(slots=True)
class Ask:
    """One request, as a handler sees it, with an open transaction unless its route is `by_itself`.

    at: what stands in the path. query, body: checked, in the models of the route; bytes for Raw.
    grant: of a pass that was shown.
    """

    centre: Centre
    now: datetime
    request: web.Request
    at: Mapping[str, Any]
    query: Any
    body: Any
    signed_in: Session | None = None
    grant: Grant | None = None
    transaction: AsyncConnection | None = None

    @property
    def connection(self) -> AsyncConnection:
        assert self.transaction is not None, "this route makes its transactions itself"
        return self.transaction

    @property
    def session(self) -> Session:
        assert self.signed_in is not None, "only routes for those who signed in ask this"
        return self.signed_in

    @property
    def person(self) -> PersonInfo:
        return self.session.person

    @property
    def address(self) -> str:
        """Where the request comes from, past proxies that are trusted."""
        forwarded = self.request.headers.getall("X-Forwarded-For", [])
        return addresses.client(self.request.remote or "", forwarded, self.centre.proxies)

    def demand(self, action: Action, path: str) -> None:
        """Refused, unless this person may do this on the unit at `path`."""
        demand(self.session.grants, action, path)

    async def demand_at(self, action: Action, unit_id: int) -> str:
        """The same by a unit's id; its path. Refused, NotFound."""
        path = (await unit(self.connection, unit_id)).path
        self.demand(action, path)
        return path

    async def note(self, action: str, subject: str, **detail: Any) -> None:
        """Write down that this person changed something."""
        await audit.record(self.connection, self.now, self.person.id, action, subject, detail)


@dataclass(frozen=True, slots=True)
class Anyone:
    """No sign-in is asked for."""

    words: ClassVar[str] = "anyone"


@dataclass(frozen=True, slots=True)
class SignedIn:
    """Whoever signed in; the handler shows and changes only what is theirs."""

    words: ClassVar[str] = "whoever is signed in"


@dataclass(frozen=True, slots=True)
class Passed:
    """Whoever signed in, or shows a pass of the meeting; the handler looks at what they may.

    Where nodes ask for no token, whoever did not sign in: they say who they are.
    """

    words: ClassVar[str] = "whoever is signed in, or shows a pass of the meeting"


@dataclass(frozen=True, slots=True)
class Node:
    """A relay node or a station, with its token."""

    words: ClassVar[str] = "a node with its token"


@dataclass(frozen=True, slots=True)
class On:
    """Whoever may do `action` on the unit whose path `where` finds; NotFound.

    None from `where` lets them in whatever their roles are: they are asked to attend, or present.
    """

    action: Action
    where: Callable[[Ask], Awaitable[str | None]]

    @property
    def words(self) -> str:
        return f"whoever may {self.action} on the unit"


@dataclass(frozen=True, slots=True)
class Somewhere:
    """Whoever may do `action` on some unit; the handler keeps within these."""

    action: Action

    @property
    def words(self) -> str:
        return f"whoever may {self.action} on some unit, within these units"


Who = Anyone | SignedIn | Passed | Node | On | Somewhere
Handler = Callable[[Ask], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Route:
    """One row. answer: a type that pydantic can write as JSON, a Raw, a Redirect; None for a 204.

    by_itself: the handler opens its transactions itself, for work that must not hold one.
    only_reads: a POST that changes nothing. operation: its name, if not the handler's. also:
    statuses that it may answer beside those that follow from the rest. words: JSON schemas of parts
    of the path that are no ids.
    """

    method: str
    path: str
    who: Who
    handler: Handler
    sentence: str
    answer: Any = None
    query: type[BaseModel] | None = None
    body: type[BaseModel] | Raw | None = None
    status: int = 200
    by_itself: bool = False
    only_reads: bool = False
    operation: str = ""
    also: tuple[int, ...] = ()
    words: Mapping[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def changes(self) -> bool:
        return self.method != "GET"

    @property
    def name(self) -> str:
        return self.operation or self.handler.__name__
