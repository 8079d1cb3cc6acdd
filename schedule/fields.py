"""What a field may hold (pure). Each function returns the value as stored, or raises Invalid."""

from __future__ import annotations

import re
from functools import lru_cache
from zoneinfo import ZoneInfo, available_timezones

from schedule.errors import Invalid

_CODE = re.compile(r"[^\W_][\w.:-]{0,63}")
_EMAIL = re.compile(r"[^\s@,;<>\"()\[\]\\]{1,64}@[^\s@,;<>\"()\[\]\\]{1,189}")
_PHONE = re.compile(r"\+?[0-9][0-9 ()-]{2,30}")
_LANGUAGE = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})?")


def code(text: str, field: str = "code") -> str:
    """A code: up to 64 letters, digits, dots, colons, dashes and underscores."""
    value = text.strip()
    if not _CODE.fullmatch(value):
        raise Invalid(
            f"{field} must be 1 to 64 letters, digits, '.', ':', '-' or '_', "
            "beginning with a letter or digit",
            field,
        )
    return value


def line(text: str, field: str, most: int = 200, *, needed: bool = True) -> str:
    """One line of text, without control characters."""
    value = text.strip()
    if not value and needed:
        raise Invalid(f"{field} must not be empty", field)
    if len(value) > most:
        raise Invalid(f"{field} has {len(value)} characters, at most {most} are kept", field)
    if not value.isprintable():
        raise Invalid(f"{field} must be one line without control characters", field)
    return value


def prose(text: str, field: str, most: int = 20_000) -> str:
    """Text of several lines; line ends become newlines."""
    value = text.replace("\r\n", "\n").replace("\r", "\n").strip()
    if len(value) > most:
        raise Invalid(f"{field} has {len(value)} characters, at most {most} are kept", field)
    if not all(one.isprintable() or one in "\n\t" for one in value):
        raise Invalid(f"{field} must have no control characters", field)
    return value


@lru_cache(maxsize=1)
def _zones() -> frozenset[str]:
    return frozenset(available_timezones())


def time_zone(text: str, field: str = "time_zone") -> str:
    """The name of a time zone, such as Asia/Shanghai."""
    value = text.strip()
    if value not in _zones():
        raise Invalid(f"{field} must be the name of a time zone, such as Asia/Shanghai", field)
    return value


@lru_cache(maxsize=600)
def zone(name: str) -> ZoneInfo:
    """The time zone of a name that `time_zone` let through."""
    return ZoneInfo(name)


def email(text: str, field: str = "email") -> str:
    """An e-mail address that can stand in a header, or "" for none."""
    value = text.strip()
    if value and not (_EMAIL.fullmatch(value) and value.isprintable()):
        raise Invalid(f"{field} must be an address such as name@example.org", field)
    return value


def phone(text: str, field: str = "phone") -> str:
    """A telephone number with digits, spaces and dashes, or "" for none."""
    value = text.strip()
    if value and not _PHONE.fullmatch(value):
        raise Invalid(f"{field} must be a number such as +86 10 1234 5678", field)
    return value


def language(text: str, field: str = "language") -> str:
    """A language tag such as zh or en-GB."""
    value = text.strip()
    if not _LANGUAGE.fullmatch(value):
        raise Invalid(f"{field} must be a language such as zh or en", field)
    return value


def whole(text: str, field: str, least: int, most: int) -> int:
    """A whole number within bounds, as people write it in a file."""
    value = text.strip()
    if not re.fullmatch(r"-?[0-9]{1,15}", value) or not least <= int(value) <= most:
        raise Invalid(f"{field} must be a whole number from {least} to {most}", field)
    return int(value)


def within(value: int, field: str, least: int, most: int) -> int:
    """A number within bounds."""
    if not least <= value <= most:
        raise Invalid(f"{field} must be from {least} to {most}", field)
    return value
