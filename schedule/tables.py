"""The tables of the store, as SQLAlchemy models: what stands in the database, and nothing else.

Times are whole milliseconds since 1970 in UTC in both databases, so that differences and sums are
the same SQL everywhere; Python sees aware datetimes. A unit's place in the tree is its `path`: the
ids from the root down to itself, each followed by a slash ("1/32/365/"), compared byte by byte. All
that is below a unit is one range of that column (`schedule.units.below`).
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Text,
    UniqueConstraint,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

# Names, so that a migration can drop or change a constraint on either database.
_NAMES = {
    "ix": "ix_%(column_0_label)s",
    "uq": "uq_%(table_name)s_%(column_0_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s",
    "pk": "pk_%(table_name)s",
}

# SQLite numbers rows by itself only in a column of exactly this type.
BIG_ID = BigInteger().with_variant(Integer(), "sqlite")
# Ranges of paths need the order of bytes, which PostgreSQL has in this collation only.
PATH = String(700).with_variant(String(700, collation="C"), "postgresql")


class Instant(TypeDecorator[datetime]):
    """A moment: an aware datetime in Python, milliseconds since 1970 in the database."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        return None if value is None else milliseconds(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        return None if value is None else datetime.fromtimestamp(value / 1000, UTC)


def milliseconds(moment: datetime) -> int:
    """Milliseconds since 1970, rounded; ValueError for a datetime without a time zone."""
    if moment.tzinfo is None:
        raise ValueError("a moment needs a time zone")
    return round(moment.timestamp() * 1000)


class Base(DeclarativeBase):
    """All tables share this metadata; the migrations are checked against it."""

    metadata = MetaData(naming_convention=_NAMES)
    type_annotation_map = {  # noqa: RUF012 - read by SQLAlchemy as it stands
        datetime: Instant(),
        dict[str, Any]: JSON(),
        list[Any]: JSON(),
        str: Text(),
    }


class Unit(Base):
    """A unit of the organisation: centre, province, city, county, township, village.

    code: the name that others know it by, unique. tier: its kind, as a word for people.
    line_bps: what the unit's line carries down, None where it is no bottleneck.
    duty_minutes: minutes of classes that it owes each month, None where none.
    asks_approval: courses and meetings planned by units right below it need its approval.
    """

    __tablename__ = "units"

    id: Mapped[int] = mapped_column(primary_key=True)
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("units.id"), index=True)
    path: Mapped[str] = mapped_column(PATH, index=True)
    depth: Mapped[int]
    code: Mapped[str] = mapped_column(String(64), unique=True)
    name: Mapped[str] = mapped_column(String(200))
    tier: Mapped[str] = mapped_column(String(32))
    time_zone: Mapped[str] = mapped_column(String(64))
    line_bps: Mapped[int | None] = mapped_column(BigInteger)
    duty_minutes: Mapped[int | None]
    asks_approval: Mapped[bool] = mapped_column(Boolean, default=False)


class Person(Base):
    """Somebody who signs in, presents, or stands in a roll-call."""

    __tablename__ = "people"

    id: Mapped[int] = mapped_column(primary_key=True)
    unit_id: Mapped[int] = mapped_column(ForeignKey("units.id"), index=True)
    login: Mapped[str] = mapped_column(String(64), unique=True)
    name: Mapped[str] = mapped_column(String(200))
    email: Mapped[str] = mapped_column(String(254), default="")
    phone: Mapped[str] = mapped_column(String(32), default="")
    language: Mapped[str] = mapped_column(String(16), default="zh")
    password_hash: Mapped[str] = mapped_column(Text, default="")
    oidc_subject: Mapped[str | None] = mapped_column(String(255), unique=True)
    active: Mapped[bool] = mapped_column(Boolean, default=True)


class Role(Base):
    """A person's role for a unit and all that is below it."""

    __tablename__ = "roles"

    person_id: Mapped[int] = mapped_column(ForeignKey("people.id"), primary_key=True)
    unit_id: Mapped[int] = mapped_column(ForeignKey("units.id"), primary_key=True, index=True)
    role: Mapped[str] = mapped_column(String(16), primary_key=True)


class Site(Base):
    """A room with a browser, where people attend and from where they may present."""

    __tablename__ = "sites"

    id: Mapped[int] = mapped_column(primary_key=True)
    unit_id: Mapped[int] = mapped_column(ForeignKey("units.id"), index=True)
    code: Mapped[str] = mapped_column(String(64), unique=True)
    name: Mapped[str] = mapped_column(String(200))


class Station(Base):
    """An unattended box with a television."""

    __tablename__ = "stations"

    id: Mapped[int] = mapped_column(primary_key=True)
    unit_id: Mapped[int] = mapped_column(ForeignKey("units.id"), index=True)
    code: Mapped[str] = mapped_column(String(64), unique=True)
    name: Mapped[str] = mapped_column(String(200))


class Series(Base):
    """A course or a meeting: one plan, from which its occurrences follow.

    starts_local: the wall clock in `time_zone`, "2026-03-02T09:00:00". rule: an RRULE, "" for once.
    uid, revision: identity and SEQUENCE in calendars. rank: depth of the organising unit, 0 the
    centre; where two clash, the lower rank goes first. material: a list of {"title", "url"}.
    """

    __tablename__ = "series"

    id: Mapped[int] = mapped_column(primary_key=True)
    uid: Mapped[str] = mapped_column(String(255), unique=True)
    kind: Mapped[str] = mapped_column(String(16))
    source: Mapped[str] = mapped_column(String(16), default="live")
    state: Mapped[str] = mapped_column(String(16))
    unit_id: Mapped[int] = mapped_column(ForeignKey("units.id"), index=True)
    rank: Mapped[int]
    title: Mapped[str] = mapped_column(String(200))
    presenter_id: Mapped[int | None] = mapped_column(ForeignKey("people.id"), index=True)
    room_id: Mapped[int | None] = mapped_column(ForeignKey("sites.id"), index=True)
    time_zone: Mapped[str] = mapped_column(String(64))
    starts_local: Mapped[str] = mapped_column(String(19))
    duration_s: Mapped[int]
    rehearsal_s: Mapped[int] = mapped_column(default=0)
    rule: Mapped[str] = mapped_column(Text, default="")
    agenda: Mapped[str] = mapped_column(Text, default="")
    material: Mapped[list[Any]] = mapped_column(JSON, default=list)
    course: Mapped[str] = mapped_column(String(64), default="")
    bitrate_bps: Mapped[int] = mapped_column(BigInteger, default=1_000_000)
    refusal: Mapped[str] = mapped_column(Text, default="")
    revision: Mapped[int] = mapped_column(default=0)
    created_by: Mapped[int | None] = mapped_column(ForeignKey("people.id"))
    created_at: Mapped[datetime]
    changed_at: Mapped[datetime]


class Change(Base):
    """What one occurrence of a series has of its own: left out, added, moved or changed.

    recurrence: the wall clock at which the rule put it. kind: "excluded", "added" or "changed".
    fields: for "changed", what is different, under the names of `timetable.Edit`.
    """

    __tablename__ = "changes"

    series_id: Mapped[int] = mapped_column(ForeignKey("series.id"), primary_key=True)
    recurrence: Mapped[str] = mapped_column(String(19), primary_key=True)
    kind: Mapped[str] = mapped_column(String(16))
    fields: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)


class Audience(Base):
    """Who is asked to attend a series: a unit, a unit with all below it, a site, or a station."""

    __tablename__ = "audiences"

    series_id: Mapped[int] = mapped_column(ForeignKey("series.id"), primary_key=True)
    kind: Mapped[str] = mapped_column(String(16), primary_key=True)
    target_id: Mapped[int] = mapped_column(primary_key=True)


class Occurrence(Base):
    """One lesson or one meeting at one time, with what became of it."""

    __tablename__ = "occurrences"
    __table_args__ = (UniqueConstraint("series_id", "recurrence"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    series_id: Mapped[int] = mapped_column(ForeignKey("series.id"))
    recurrence: Mapped[str] = mapped_column(String(19))
    starts_at: Mapped[datetime] = mapped_column(index=True)
    ends_at: Mapped[datetime] = mapped_column(index=True)
    title: Mapped[str] = mapped_column(String(200))
    presenter_id: Mapped[int | None] = mapped_column(ForeignKey("people.id"))
    room_id: Mapped[int | None] = mapped_column(ForeignKey("sites.id"))
    state: Mapped[str] = mapped_column(String(16), index=True)
    on_air_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]
    extended_until: Mapped[datetime | None]
    end_asked_at: Mapped[datetime | None]
    course: Mapped[str] = mapped_column(String(64), default="")


class Step(Base):
    """A step in the life of an occurrence that was done; each is done once."""

    __tablename__ = "steps"

    occurrence_id: Mapped[int] = mapped_column(ForeignKey("occurrences.id"), primary_key=True)
    step: Mapped[str] = mapped_column(String(32), primary_key=True)
    done_at: Mapped[datetime]


class Lease(Base):
    """Who may work on something now. fence: grows with each new owner."""

    __tablename__ = "leases"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    owner: Mapped[str] = mapped_column(String(64))
    until: Mapped[datetime]
    fence: Mapped[int] = mapped_column(BigInteger)


class Invitation(Base):
    """A unit asked to attend an occurrence, and its answer: "", "yes", "no" or "leave"."""

    __tablename__ = "invitations"

    occurrence_id: Mapped[int] = mapped_column(ForeignKey("occurrences.id"), primary_key=True)
    unit_id: Mapped[int] = mapped_column(ForeignKey("units.id"), primary_key=True, index=True)
    reply: Mapped[str] = mapped_column(String(8), default="")
    reason: Mapped[str] = mapped_column(String(500), default="")
    replied_by: Mapped[int | None] = mapped_column(ForeignKey("people.id"))
    replied_at: Mapped[datetime | None]


class Message(Base):
    """The outbox: one message to one recipient through one channel. `key` makes it happen once.

    state: "waiting", "claimed" (in a batch, not begun), "sending", "sent", "failed" (given up),
    "unknown" (the process died while it was being sent; a person decides), or "ignored" (they did).
    """

    __tablename__ = "messages"
    __table_args__ = (Index("ix_messages_state_try_at", "state", "try_at"),)

    id: Mapped[int] = mapped_column(BIG_ID, primary_key=True)
    key: Mapped[str] = mapped_column(String(255), unique=True)
    channel: Mapped[str] = mapped_column(String(16))
    recipient: Mapped[str] = mapped_column(String(254))
    subject: Mapped[str] = mapped_column(String(300))
    body: Mapped[str]
    calendar: Mapped[str] = mapped_column(Text, default="")
    state: Mapped[str] = mapped_column(String(16))
    attempts: Mapped[int] = mapped_column(default=0)
    try_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    owner: Mapped[str] = mapped_column(String(64), default="")
    claimed_until: Mapped[datetime | None]
    sent_at: Mapped[datetime | None]
    error: Mapped[str] = mapped_column(String(500), default="")


class Join(Base):
    """One stay of one attendee, as a node, a site or a station reported it.

    source: the reporter's own name for the stay, unique: a report that comes twice counts once.
    attendee: "site:7", "station:7" or "person:7". mode: "live" or "replay". seen_at: the last sign
    of life, which bounds a stay whose end was never reported. from_s, to_s: for a replay, what was
    watched, in seconds from the beginning of the recording.
    """

    __tablename__ = "joins"
    __table_args__ = (Index("ix_joins_occurrence_unit", "occurrence_id", "unit_id"),)

    id: Mapped[int] = mapped_column(BIG_ID, primary_key=True)
    source: Mapped[str] = mapped_column(String(200), unique=True)
    occurrence_id: Mapped[int] = mapped_column(ForeignKey("occurrences.id"))
    unit_id: Mapped[int] = mapped_column(ForeignKey("units.id"))
    attendee: Mapped[str] = mapped_column(String(32))
    mode: Mapped[str] = mapped_column(String(8))
    joined_at: Mapped[datetime]
    seen_at: Mapped[datetime]
    left_at: Mapped[datetime | None]
    from_s: Mapped[int | None]
    to_s: Mapped[int | None]


class HeadCount(Base):
    """How many people were seen in a room. unnamed: names in a roll-call that nobody here has."""

    __tablename__ = "head_counts"
    __table_args__ = (Index("ix_head_counts_occurrence_unit", "occurrence_id", "unit_id"),)

    id: Mapped[int] = mapped_column(BIG_ID, primary_key=True)
    source: Mapped[str] = mapped_column(String(200), unique=True)
    occurrence_id: Mapped[int] = mapped_column(ForeignKey("occurrences.id"))
    unit_id: Mapped[int] = mapped_column(ForeignKey("units.id"))
    attendee: Mapped[str] = mapped_column(String(32))
    counted_at: Mapped[datetime]
    people: Mapped[int]
    unnamed: Mapped[list[Any]] = mapped_column(JSON, default=list)


class RollCall(Base):
    """A person who answered the roll-call of a room (`attendee`, of the unit `unit_id`).

    home_id: the person's own unit, where they are counted.
    """

    __tablename__ = "roll_calls"
    __table_args__ = (
        Index("ix_roll_calls_room", "occurrence_id", "unit_id"),
        Index("ix_roll_calls_home", "occurrence_id", "home_id"),
    )

    occurrence_id: Mapped[int] = mapped_column(ForeignKey("occurrences.id"), primary_key=True)
    person_id: Mapped[int] = mapped_column(ForeignKey("people.id"), primary_key=True)
    attendee: Mapped[str] = mapped_column(String(32), primary_key=True)
    unit_id: Mapped[int] = mapped_column(ForeignKey("units.id"))
    home_id: Mapped[int] = mapped_column(ForeignKey("units.id"))


class Unsettled(Base):
    """What has reports that are not merged yet. serial: grows with each, so that none is missed."""

    __tablename__ = "unsettled"

    occurrence_id: Mapped[int] = mapped_column(ForeignKey("occurrences.id"), primary_key=True)
    unit_id: Mapped[int] = mapped_column(ForeignKey("units.id"), primary_key=True)
    serial: Mapped[int] = mapped_column(default=1)


class Attendance(Base):
    """One attendee of one occurrence, merged from all reports: the row that counts.

    day: 20260302, the day of the occurrence in the time zone of its series. people: who are counted
    here and nowhere else. live_s, replay_s: seconds of each kind; seen_s: of the class itself, each
    second once, however it was watched. class_s: the part of it that no earlier row of the unit
    covers, so that the sum is what the unit saw; first: 1 on one row of the unit, 0 on the others.
    """

    __tablename__ = "attendance"
    # Rows stand in the order of their key: one occurrence, or one unit of it, is one read. The
    # index is for a unit's own logbook.
    __table_args__ = (
        Index("ix_attendance_unit_day", "unit_id", "day"),
        {"sqlite_with_rowid": False},
    )

    occurrence_id: Mapped[int] = mapped_column(ForeignKey("occurrences.id"), primary_key=True)
    unit_id: Mapped[int] = mapped_column(ForeignKey("units.id"), primary_key=True)
    attendee: Mapped[str] = mapped_column(String(32), primary_key=True)
    day: Mapped[int]
    people: Mapped[int]
    live_s: Mapped[int]
    replay_s: Mapped[int]
    seen_s: Mapped[int]
    class_s: Mapped[int]
    first: Mapped[int]


class AttendanceDay(Base):
    """The sums of a unit's attendance on one day, kept with every settled row.

    classes: occurrences attended. class_s: seconds of classes, each once however many rooms of the
    unit watched; what counts for the duty. person_s: seconds times people.
    """

    __tablename__ = "attendance_days"
    __table_args__ = {"sqlite_with_rowid": False}  # noqa: RUF012 - read by SQLAlchemy as it stands

    day: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    unit_id: Mapped[int] = mapped_column(ForeignKey("units.id"), primary_key=True)
    classes: Mapped[int]
    attendees: Mapped[int]
    people: Mapped[int]
    live_s: Mapped[int] = mapped_column(BigInteger)
    replay_s: Mapped[int] = mapped_column(BigInteger)
    class_s: Mapped[int] = mapped_column(BigInteger)
    person_s: Mapped[int] = mapped_column(BigInteger)


class Audit(Base):
    """Who changed what, and when. subject: "unit:12", "series:7" and the like."""

    __tablename__ = "audit"

    id: Mapped[int] = mapped_column(BIG_ID, primary_key=True)
    at: Mapped[datetime] = mapped_column(index=True)
    person_id: Mapped[int | None] = mapped_column(ForeignKey("people.id"))
    action: Mapped[str] = mapped_column(String(64))
    subject: Mapped[str] = mapped_column(String(64), index=True)
    detail: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)


class SignIn(Base):
    """A browser that somebody signed in with. The cookie itself is not kept, only its hash.

    token_hash: SHA-256 of the cookie, in hexadecimal. seen_at: the last use, to the minute or so.
    """

    __tablename__ = "sign_ins"

    token_hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    person_id: Mapped[int] = mapped_column(ForeignKey("people.id"), index=True)
    created_at: Mapped[datetime]
    seen_at: Mapped[datetime]


class FeedLink(Base):
    """A secret address under which a calendar can be read without signing in.

    token_hash: SHA-256 of the secret. person_id: whose link it is; it shows what they may see.
    kind: "person", "unit", "site" or "station", with its id in target_id.
    """

    __tablename__ = "feed_links"

    id: Mapped[int] = mapped_column(primary_key=True)
    token_hash: Mapped[str] = mapped_column(String(64), unique=True)
    person_id: Mapped[int] = mapped_column(ForeignKey("people.id"), index=True)
    kind: Mapped[str] = mapped_column(String(16))
    target_id: Mapped[int]
    created_at: Mapped[datetime]
