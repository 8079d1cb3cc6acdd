"""What a node raises follows the room's state; each test is a list of calls."""

from __future__ import annotations

from relay.errors import Refused
from web.room.wanted import Wanted


class Pushes:
    """Writes down what it is told; refuses streams of this name."""

    def __init__(self, refuses: str = "") -> None:
        self.calls: list[tuple[str, ...]] = []
        self.refuses = refuses

    def raise_up(self, stream: str, layers: str) -> None:
        self.calls.append(("raise", stream, layers))
        if stream == self.refuses:
            raise Refused(503, "This node raises as many streams as it can.", 10)

    def lower(self, stream: str) -> None:
        self.calls.append(("lower", stream))


def test_only_what_differs_is_raised_and_lowered() -> None:
    pushes = Pushes()
    wanted = Wanted(pushes)
    wanted.take(5, {"site-12": "low", "site-13": "low"})
    wanted.take(5, {"site-12": "full", "site-13": "low"})
    wanted.take(5, {"site-12": "full"})
    wanted.take(6, {"site-12": "low"})
    wanted.take(5, None)
    assert pushes.calls == [
        ("raise", "class-5.site-12", "low"),
        ("raise", "class-5.site-13", "low"),
        ("raise", "class-5.site-12", "full"),
        ("lower", "class-5.site-13"),
        ("raise", "class-6.site-12", "low"),
        ("lower", "class-5.site-12"),
    ]


def test_what_is_no_wish_is_passed_over() -> None:
    pushes = Pushes()
    wanted = Wanted(pushes)
    for value in ("all", ["site-12"], 7, {"site-12": "medium"}, {"site-12": None}):
        wanted.take(5, value)
    assert pushes.calls == []


def test_what_was_refused_is_tried_again_with_the_next_change() -> None:
    pushes = Pushes(refuses="class-5.site-12")
    wanted = Wanted(pushes)
    wanted.take(5, {"site-12": "low"})
    pushes.refuses = ""
    wanted.take(5, {"site-12": "low"})
    wanted.take(5, {"site-12": "low"})
    assert len(pushes.calls) == 2
