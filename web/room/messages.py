"""What clients and nodes say to a node, as bounded and strict models.

A client's message is one JSON object with "t"; what has unknown fields, another type or more than
its bounds is refused with a sentence. `parse` never raises anything but `BadMessage`.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    StringConstraints,
    TypeAdapter,
    ValidationError,
)

MAX_CLIENT_BYTES: Final = 16 * 1024
MAX_LINK_BYTES: Final = 8 * 1024 * 1024
MOST_RECEIPTS: Final = 16
MOST_OPTIONS: Final = 16

Seat = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{22}$")]
MessageId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,32}$")]
Who = Annotated[str, StringConstraints(pattern=r"^(viewer|(site|person):[1-9][0-9]{0,8})$")]
Incarnation = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{8,32}(\.[0-9]{1,6})?$")]
NodeId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{8,32}$")]
Key = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{11}$")]
Id = Annotated[int, Field(ge=1, le=2**53)]
Choice = Annotated[int, Field(ge=0, lt=MOST_OPTIONS)]
Count = Annotated[int, Field(ge=0, le=2**40)]


class BadMessage(Exception):
    """A message that is refused. code: a word for programs; its text is a sentence for people."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code
        self.sentence = sentence


class Strict(BaseModel):
    """Nothing but what is written here."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class ShownReceipt(Strict):
    """A receipt that a client shows. n 0: it answered at that node and got no receipt."""

    node: Incarnation
    n: Count
    choice: Choice


class Hello(Strict):
    """The first message of a client."""

    t: Literal["hello"]
    token: Annotated[str, StringConstraints(max_length=4096)] = ""
    as_: Who = Field(alias="as")
    seat: Seat
    receipts: Annotated[dict[str, ShownReceipt], Field(max_length=MOST_RECEIPTS)] = {}


class Hand(Strict):
    """A site's hand goes up or down."""

    t: Literal["hand"]
    up: bool
    text: Annotated[str, StringConstraints(max_length=200)] = ""


class Answer(Strict):
    """An answer to a poll."""

    t: Literal["answer"]
    poll: Id
    choice: Choice


class GivenReceipt(Strict):
    """A receipt as the node gave it."""

    node: Incarnation
    n: Count


class Have(Strict):
    """The client has kept the receipt of its answer; without it, which one is not known."""

    t: Literal["have"]
    poll: Id
    receipt: GivenReceipt | None = None


class SealedVote(Strict):
    """A vote that was put into a ballot (`web.room.ballots.Vote`)."""

    t: Literal["ballot"]
    ballot: Id
    vote: Annotated[
        dict[
            Annotated[str, StringConstraints(pattern=r"^[a-z]{1,16}$")],
            Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,2048}$")],
        ],
        Field(min_length=1, max_length=8),
    ]


class Say(Strict):
    """A question or a word for the chat."""

    t: Literal["say"]
    text: Annotated[str, StringConstraints(min_length=1, max_length=500)]
    id: MessageId


class LineTest(Strict):
    """What a site's line test found."""

    t: Literal["linetest"]
    result: Annotated[
        dict[Annotated[str, StringConstraints(max_length=40)], JsonValue], Field(max_length=40)
    ]
    id: MessageId


class RollCall(Strict):
    """A site answers the roll-call."""

    t: Literal["rollcall"]
    presence: Literal["present", "absent", "leave"]
    people: Annotated[int, Field(ge=0, le=100_000)]
    id: MessageId


class Media(Strict):
    """What a site's page sends now."""

    t: Literal["media"]
    camera: bool
    microphone: bool
    hidden: bool


Said = Hand | Answer | Have | SealedVote | Say | LineTest | RollCall | Media
_CLIENT: Final[TypeAdapter[Hello | Said]] = TypeAdapter(
    Annotated[Hello | Said, Field(discriminator="t")]
)


def parse(text: str) -> Hello | Said:
    """A client's message. Raises BadMessage."""
    if len(text) > MAX_CLIENT_BYTES:
        raise BadMessage("large", f"A message has at most {MAX_CLIENT_BYTES} bytes.")
    try:
        return _CLIENT.validate_json(text)
    except ValidationError as error:
        raise BadMessage("message", _sentence(error)) from error
    except (ValueError, RecursionError) as error:
        # Lone surrogates, which JSON may escape and UTF-8 has not.
        raise BadMessage("message", "This message cannot be read.") from error


def _sentence(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    where = ".".join(str(part) for part in first["loc"])[:80]
    return f"This message cannot be read: {where or 'JSON'}: {first['msg'][:120]}."


# ------------------------------------------------------------ between nodes


class SumTold(Strict):
    """A sum: `web.room.tally.Sum`."""

    n: Annotated[int, Field(ge=1)]
    counts: Annotated[list[Count], Field(max_length=MOST_OPTIONS)]
    doubtful: list[Key] = []
    continues: Annotated[list[tuple[Incarnation, Count, Count]], Field(max_length=10_000)] = []


class ClaimTold(Strict):
    """A claim: `web.room.tally.Claim`."""

    seat: Key
    incarnation: Incarnation
    n: Count
    asker: Incarnation
    turn: Count


class PollTold(Strict):
    """A poll's news from below. options: how many there are."""

    options: Annotated[int, Field(ge=1, le=MOST_OPTIONS)]
    sums: dict[Incarnation, SumTold] = {}
    claims: list[ClaimTold] = []


class EventTold(Strict):
    """An event on its way up: `web.room.root.Event`."""

    id: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    kind: Literal["hand", "say", "linetest", "rollcall", "media", "ballot"]
    who: Annotated[str, StringConstraints(max_length=32)]
    at: float
    data: dict[str, JsonValue]


class RoomTold(Strict):
    """A room's news from below. sites and viewers: who is there, None: as before."""

    sites: list[Id] | None = None
    viewers: Count | None = None
    polls: dict[str, PollTold] = {}
    events: list[EventTold] = []


class Up(Strict):
    """What a node tells its parent, at most once a second.

    here, gone: ids of nodes at and below this one that have come or left since the last message.
    left: rooms that nobody below asks for any more.
    """

    t: Literal["up"]
    here: list[NodeId] = []
    gone: list[NodeId] = []
    left: list[Id] = []
    rooms: dict[str, RoomTold] = {}


class StateTold(Strict):
    """A room's keys."""

    t: Literal["state"]
    room: Id
    v: tuple[int, int]
    whole: bool
    set: dict[str, JsonValue]


class Unknown(Strict):
    """There is no such meeting."""

    t: Literal["unknown"]
    room: Id


class Kept(Strict):
    """The root has these events."""

    t: Literal["kept"]
    ids: list[str]


class VerdictTold(Strict):
    """The answer to a claim: `web.room.tally.Verdict`."""

    t: Literal["verdict"]
    room: Id
    poll: Id
    seat: Key
    asker: Incarnation
    turn: Count
    receipt: tuple[Incarnation, Count] | None


class FenceTold(Strict):
    """An incarnation is closed: `web.room.tally.Fence`."""

    t: Literal["fence"]
    room: Id
    poll: Id
    incarnation: Incarnation
    k: Count
    counts: list[Count]
    claimed: list[Key]


Down = StateTold | Unknown | Kept | VerdictTold | FenceTold
_UP: Final[TypeAdapter[Up]] = TypeAdapter(Up)
_DOWN: Final[TypeAdapter[Down]] = TypeAdapter(Annotated[Down, Field(discriminator="t")])


def parse_up(text: str) -> Up:
    """What a node below says. Raises BadMessage."""
    try:
        return _UP.validate_json(text)
    except ValidationError as error:
        raise BadMessage("message", _sentence(error)) from error
    except (ValueError, RecursionError) as error:
        raise BadMessage("message", "This message cannot be read.") from error


def parse_down(text: str) -> Down:
    """What the node above says. Raises BadMessage."""
    try:
        return _DOWN.validate_json(text)
    except ValidationError as error:
        raise BadMessage("message", _sentence(error)) from error
    except (ValueError, RecursionError) as error:
        raise BadMessage("message", "This message cannot be read.") from error
