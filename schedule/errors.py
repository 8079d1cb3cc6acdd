"""The errors of this package, each worded for the person who asked."""


class ScheduleError(Exception):
    """Base of what goes wrong here; `str(error)` is one sentence without a full stop."""


class StoreError(ScheduleError):
    """The database cannot be opened, is of another version, or does not answer."""


class NotFound(ScheduleError):
    """What was asked for is not there (any more)."""


class Refused(ScheduleError):
    """The person may not do this on this unit."""


class Invalid(ScheduleError):
    """What was given makes no sense; nothing was changed.

    field: the name of the field at fault, or "" where it is not one field's.
    """

    def __init__(self, sentence: str, field: str = "") -> None:
        super().__init__(sentence)
        self.field = field


class Conflict(ScheduleError):
    """Someone else was first: a code is taken, a state has moved on, a lease has another owner."""
