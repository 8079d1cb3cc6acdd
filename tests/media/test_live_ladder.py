"""The command `terrace ladder`: what it is told, and what its thread does with pictures."""

from __future__ import annotations

import io
import queue
import threading

import pytest

from media.errors import SettingError
from media.live_ladder import Place, Words, place
from media.pictures import Picture
from media.scaler import Made, Rung, Scaler
from media.workshop import MAX_WAITING, Workshop
from tests.media.test_scaler import HALF, QUARTER, source
from web.cli import main


@pytest.mark.parametrize(
    ("url", "want"),
    [
        ("http://127.0.0.1:8710/whip/class", Place("http://127.0.0.1:8710", "127.0.0.1", "class")),
        ("https://a.example/whip/x/", Place("https://a.example", "a.example", "x")),
        (
            "https://a.example/live/whip/x",
            Place("https://a.example/live", "a.example", "x"),
        ),
        ("http://[::1]:8710/whip/class", Place("http://[::1]:8710", "::1", "class")),
    ],
)
def test_an_address_names_a_node_and_a_stream(url: str, want: Place) -> None:
    assert place(url) == want


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:8710",
        "http://127.0.0.1:8710/whep/class",
        "http://127.0.0.1:8710/whip/",
        "http://127.0.0.1:8710/whip/a/b",
        "http://127.0.0.1:8710/whip/a?x=1",
        "rtsp://127.0.0.1/whip/class",
    ],
)
def test_an_address_that_is_none_of_a_stream_is_refused(url: str) -> None:
    with pytest.raises(SettingError):
        place(url)


def test_a_complaint_that_repeats_itself_is_told_once_and_again_after_good_news() -> None:
    out, err = io.StringIO(), io.StringIO()
    words = Words(out, err, quiet=False)
    for _ in range(3):
        words.complain("class", "nobody is publishing")
    words.complain("other", "nobody is publishing")
    words.say("class", "ready")
    words.complain("class", "nobody is publishing")
    assert out.getvalue() == "class: ready\n"
    assert err.getvalue().splitlines() == [
        "terrace ladder: class: nobody is publishing",
        "terrace ladder: other: nobody is publishing",
        "terrace ladder: class: nobody is publishing",
    ]


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["http://127.0.0.1:1/whep/x"], 1, "is no WHIP address of a node"),
        (["http://127.0.0.1:1/whip/x", "--half", "100k"], 1, "--quarter must be below --half"),
        (["http://127.0.0.1:1/whip/x", "--token", "a b"], 1, "characters"),
    ],
)
def test_what_makes_no_sense_is_said_in_one_sentence(
    arguments: list[str], status: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["ladder", *arguments]) == status
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1


class Bench:
    """A workshop and what comes out of it."""

    def __init__(self) -> None:
        self.made: queue.SimpleQueue[Made] = queue.SimpleQueue()
        self.failed = threading.Event()
        self.workshop = Workshop(
            Scaler("VP8", (QUARTER, HALF)), self.made.put, lambda fault: self.failed.set()
        )

    def take(self, count: int) -> list[Made]:
        return [self.made.get(timeout=30) for _ in range(count)]


def rungs(made: list[Made]) -> set[Rung]:
    return {one.rung for one in made}


def test_the_workshop_makes_what_is_wanted_and_begins_each_rung_with_a_keyframe() -> None:
    bench = Bench()
    bench.workshop.start()
    pictures = list(source("VP8", 30))
    bench.workshop.want({QUARTER})
    for number in range(3):
        bench.workshop.put(pictures[number])
        made = bench.take(1)
        assert rungs(made) == {QUARTER}
        assert made[0].keyframe == (number == 0)
    bench.workshop.want({QUARTER, HALF})
    bench.workshop.put(pictures[3])
    made = bench.take(2)
    assert {one.rung: one.keyframe for one in made} == {QUARTER: False, HALF: True}
    # After a pause nothing is made before a keyframe comes.
    bench.workshop.want(())
    bench.workshop.want({HALF})
    for number in (4, 5, 25, 26):
        bench.workshop.put(pictures[number])
    made = bench.take(2)
    assert [one.timestamp for one in made] == [pictures[n].timestamp for n in (25, 26)]
    bench.workshop.stop()
    assert not bench.failed.is_set()


def test_a_workshop_that_is_behind_drops_up_to_the_next_keyframe() -> None:
    bench = Bench()
    for number in range(MAX_WAITING + 5):
        bench.workshop.put(Picture(number, number == 0, b"\x01"))
    assert bench.workshop.left_out == 1
    bench.workshop.put(Picture(0, True, b"\x00"))
    assert bench.workshop.left_out == 2
