"""The tables of the rooms: what must outlast the process that runs a meeting.

One row per room holds its state as one document (`schedule.floor`), for it is read and written as a
whole; what grows with the audience, or is evidence, has rows of its own.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, Boolean, ForeignKey, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from schedule.tables import BIG_ID, Base


class Room(Base):
    """The room of an occurrence. state: "open" or "closed"; document: `floor.Floor.document`."""

    __tablename__ = "rooms"

    occurrence_id: Mapped[int] = mapped_column(ForeignKey("occurrences.id"), primary_key=True)
    state: Mapped[str] = mapped_column(String(16))
    opened_at: Mapped[datetime]
    closed_at: Mapped[datetime | None]
    document: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)


class RoomEvent(Base):
    """What somebody said or did in a room by name: a hand, a word, a line test, an answer.

    event_id: the name that it was given where it came in; what comes twice is kept once. kind:
    "hand", "say", "linetest" or "rollcall". who: "site:7", "person:3". state: of a word, "" as long
    as nobody has looked at it, then "approved" or "hidden".
    """

    __tablename__ = "room_events"
    __table_args__ = (Index("ix_room_events_occurrence_kind", "occurrence_id", "kind"),)

    id: Mapped[int] = mapped_column(BIG_ID, primary_key=True)
    event_id: Mapped[str] = mapped_column(String(100), unique=True)
    occurrence_id: Mapped[int] = mapped_column(ForeignKey("occurrences.id"))
    at: Mapped[datetime]
    kind: Mapped[str] = mapped_column(String(16))
    who: Mapped[str] = mapped_column(String(32))
    detail: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    state: Mapped[str] = mapped_column(String(16), default="")


class RoomMark(Base):
    """A site in the roll-call of a meeting: "present", "absent" or "leave".

    by_person_id: who marked it, None where the site said so itself.
    """

    __tablename__ = "room_marks"

    occurrence_id: Mapped[int] = mapped_column(ForeignKey("occurrences.id"), primary_key=True)
    site_id: Mapped[int] = mapped_column(ForeignKey("sites.id"), primary_key=True)
    presence: Mapped[str] = mapped_column(String(8))
    people: Mapped[int] = mapped_column(default=0)
    by_person_id: Mapped[int | None] = mapped_column(ForeignKey("people.id"))
    at: Mapped[datetime]


class Poll(Base):
    """A quick question. counts: one number per option, as the tree counted last."""

    __tablename__ = "polls"

    id: Mapped[int] = mapped_column(primary_key=True)
    occurrence_id: Mapped[int] = mapped_column(ForeignKey("occurrences.id"), index=True)
    question: Mapped[str] = mapped_column(String(500))
    options: Mapped[list[Any]] = mapped_column(JSON)
    open: Mapped[bool] = mapped_column(Boolean)
    shown: Mapped[bool] = mapped_column(Boolean)
    counts: Mapped[list[Any]] = mapped_column(JSON)
    voters: Mapped[int] = mapped_column(default=0)
    asked_at: Mapped[datetime]


class Ballot(Base):
    """A secret ballot. voters: "units" or "people". signer, seal: public keys as pages read them.

    signer_key, seal_key: the private ones, as PEM; the signer's is gone when the ballot is closed.
    until: when it closes by itself. result: one number per option, None until it is closed.
    """

    __tablename__ = "ballots"

    id: Mapped[int] = mapped_column(primary_key=True)
    occurrence_id: Mapped[int] = mapped_column(ForeignKey("occurrences.id"), index=True)
    question: Mapped[str] = mapped_column(String(500))
    options: Mapped[list[Any]] = mapped_column(JSON)
    voters: Mapped[str] = mapped_column(String(8))
    signer: Mapped[dict[str, Any]] = mapped_column(JSON)
    seal: Mapped[dict[str, Any]] = mapped_column(JSON)
    signer_key: Mapped[str] = mapped_column(Text)
    seal_key: Mapped[str] = mapped_column(Text)
    opened_at: Mapped[datetime]
    until: Mapped[datetime]
    closed_at: Mapped[datetime | None]
    result: Mapped[list[Any] | None] = mapped_column(JSON)
    spoilt: Mapped[int] = mapped_column(default=0)


class BallotPaper(Base):
    """A voter who was given a blind signature: one each. Without a time, and not in order.

    voter: "unit:5" or "person:3". unit_id: where it counts in the turnout. asked_sha256: of what
    was signed, so that who asks again after a broken line gets the same answer and no second one.
    Nothing here can be found again in a vote: the signature is blind (RFC 9474).
    """

    __tablename__ = "ballot_papers"
    __table_args__ = {"sqlite_with_rowid": False}  # noqa: RUF012 - read by SQLAlchemy as it stands

    ballot_id: Mapped[int] = mapped_column(ForeignKey("ballots.id"), primary_key=True)
    voter: Mapped[str] = mapped_column(String(32), primary_key=True)
    unit_id: Mapped[int] = mapped_column(ForeignKey("units.id"))
    asked_sha256: Mapped[str] = mapped_column(String(64))


class BallotVote(Base):
    """A sealed vote under the hash of its token. Without voter, address, time or order.

    The rows stand in the order of their key in SQLite; `ballots.close` writes them anew in that
    order, so that PostgreSQL's files do not tell in which order they came either.
    """

    __tablename__ = "ballot_votes"
    __table_args__ = {"sqlite_with_rowid": False}  # noqa: RUF012 - read by SQLAlchemy as it stands

    ballot_id: Mapped[int] = mapped_column(ForeignKey("ballots.id"), primary_key=True)
    token_sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    vote: Mapped[dict[str, Any]] = mapped_column(JSON)


class Deck(Base):
    """Slides or a picture that was uploaded: pages of {"sha256", "bytes", "width", "height"}."""

    __tablename__ = "decks"

    id: Mapped[int] = mapped_column(primary_key=True)
    occurrence_id: Mapped[int] = mapped_column(ForeignKey("occurrences.id"), index=True)
    name: Mapped[str] = mapped_column(String(200))
    media_type: Mapped[str] = mapped_column(String(64))
    pages: Mapped[list[Any]] = mapped_column(JSON)
    made_at: Mapped[datetime]
    made_by: Mapped[int | None] = mapped_column(ForeignKey("people.id"))
