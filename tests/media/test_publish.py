"""The command's arguments and what it says; the whole of it runs in tests/live/test_publish.py."""

from __future__ import annotations

import argparse
import io
import os
import pty
import threading
import time

import pytest

from media import publish
from media.feeder import Feeder, Link
from media.job import Job, Progress
from media.plan import Wanted
from media.screen import Rates, Screen, clock, status_line
from tests.patience import PATIENCE


def parse(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    publish.add_arguments(parser)
    return parser.parse_args(arguments)


def test_the_defaults_are_for_a_line_of_1_mbit() -> None:
    args = parse("test:", "http://127.0.0.1:8710/whip/lecture")
    assert (args.video_bitrate, args.size, args.fps) == (1_000_000, (1280, 720), 25.0)
    assert (args.keyframe_seconds, args.seconds, args.loop, args.no_audio) == (
        2,
        None,
        False,
        False,
    )


@pytest.mark.parametrize(
    ("text", "bits"), [("1M", 1_000_000), ("1.5m", 1_500_000), ("800k", 800_000), ("64000", 64_000)]
)
def test_bit_rates(text: str, bits: int) -> None:
    assert publish.bitrate_bps(text) == bits


@pytest.mark.parametrize(
    "arguments",
    [
        ("--video-bitrate", "fast"),
        ("--video-bitrate", "1k"),
        ("--size", "big"),
        ("--size", "9x9"),
        ("--fps", "0"),
        ("--seconds", "-1"),
        ("--seconds", "nan"),
    ],
)
def test_values_that_cannot_be_meant_are_refused(
    arguments: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parse("test:", "http://127.0.0.1/whip/x", *arguments)
    assert arguments[1] in capsys.readouterr().err


@pytest.mark.parametrize(
    ("source", "url", "said"),
    [
        ("test:", "ftp://host/x", "ftp://host/x does not begin with http:// or https://"),
        ("/missing.mp4", "http://127.0.0.1:9/whip/x", "there is no file /missing.mp4"),
        ("/dev/video77", "http://127.0.0.1:9/whip/x", "there is no device /dev/video77"),
    ],
)
def test_what_cannot_be_published_ends_with_a_sentence_and_1(
    source: str, url: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert publish.run(parse(source, url)) == 1
    assert capsys.readouterr().err == f"terrace publish: {said}\n"


def test_a_token_with_a_line_break_is_no_token(capsys: pytest.CaptureFixture[str]) -> None:
    args = parse("test:", "http://127.0.0.1:9/whip/x", "--token", "a\r\nX-Other: b")
    assert publish.run(args) == 1
    assert "the token has characters" in capsys.readouterr().err


def test_the_status_line_says_where_and_how_much() -> None:
    progress = Progress(published_s=83.4, position_s=3.2, dropped=2, late=1, round=3)
    assert status_line(progress, 25.04, 1_020_000, duration_s=40.0) == (
        "on air 0:01:23 · 0:00:03 of 0:00:40, round 3 · 25.0 pictures/s · 1.02 Mbit/s"
        " · 2 dropped · 1 late"
    )
    assert status_line(Progress(published_s=3600), 24.9, 9.9e5, duration_s=None) == (
        "on air 1:00:00 · 24.9 pictures/s · 0.99 Mbit/s"
    )
    assert clock(0.9) == "0:00:00"


def test_the_counts_go_on_over_feeders() -> None:
    first = Progress(10.0, 4.0, 250, 1000, dropped=1, late=2, round=2)
    second = Progress(5.0, 9.0, 125, 500, dropped=0, late=1, round=1)
    assert first.plus(second) == Progress(15.0, 9.0, 375, 1500, dropped=1, late=3, round=2)
    assert Progress().plus(first) == first


def test_rates_are_over_the_last_seconds() -> None:
    rates = Rates()
    assert rates.add(0.0, 0, 0) == (0, 0)
    for second in range(1, 11):
        rate = rates.add(float(second), 25 * second, 125_000 * second)
    assert rate == (25, 1_000_000)
    assert rates.add(14.0, 250, 1_250_000) == (0, 0), "nothing went out for four seconds"


def test_without_a_terminal_there_is_a_line_now_and_then_and_no_control_codes() -> None:
    out, err = io.StringIO(), io.StringIO()
    screen = Screen(out, err, quiet=False)
    for _ in range(100):
        screen.status("on air")
    screen.say("hello")
    screen.close()
    assert out.getvalue() == "hello\n"


def test_on_a_terminal_the_line_stays_in_place() -> None:
    master, slave = pty.openpty()
    with os.fdopen(slave, "w") as terminal, os.fdopen(master, "rb", buffering=0) as seen:
        screen = Screen(terminal, terminal, quiet=False)
        screen.status("one")
        screen.status("two")
        screen.complain("three")
        text = b""
        while not text.endswith(b"\n"):
            text += seen.read(1000)  # a terminal hands over what it has, be it one write of three
        assert text == b"\rone\x1b[K\rtwo\x1b[K\r\x1b[Kterrace publish: three\r\n"


def test_the_same_complaint_comes_once_a_minute_until_it_is_over() -> None:
    err = io.StringIO()
    screen = Screen(io.StringIO(), err, quiet=True)
    for _ in range(3):
        screen.repeat("away; trying again", "away")
    screen.forget()
    screen.repeat("away; trying again", "away")
    assert err.getvalue().count("away") == 2
    screen.say("quiet")
    screen.status("quiet")


def test_a_job_survives_the_way_to_the_feeder() -> None:
    job = Job("a b.mp4", "http://127.0.0.1:1/x", Wanted(fps=12.5), loop=True, seconds=2.5)
    assert Job.from_json(job.to_json()) == job


def test_the_feeder_stops_when_the_publisher_is_gone() -> None:
    """Its standard input ends; a publisher that was killed cannot say "stop"."""
    reading, writing = os.pipe()
    out = io.StringIO()
    with os.fdopen(reading) as incoming, os.fdopen(writing, "w") as outgoing:
        link = Link(incoming, out)
        job = Job("test:", "http://127.0.0.1:9/x", Wanted(320, 180))
        worker = threading.Thread(target=Feeder(job, link).run)
        worker.start()
        until_s = time.monotonic() + 20 * PATIENCE
        while '"event": "ready"' not in out.getvalue() and time.monotonic() < until_s:
            time.sleep(0.01)
        outgoing.close()
        worker.join(5 * PATIENCE)
        assert not worker.is_alive()
    assert '"event": "ready"' in out.getvalue()
    assert '"event": "ended"' in out.getvalue()
