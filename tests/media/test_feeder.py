"""What the feeder sends, packet by packet, over loops and over breaks of the line."""

from __future__ import annotations

import io
import itertools
import os
from pathlib import Path
from typing import Any

import av
import pytest

from media.errors import SourceError
from media.feeder import Feeder, Link
from media.job import Job
from media.plan import Wanted
from tests.media.clips import write_clip
from tests.media.steering import Line, feeding


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One second: H264 that passes through, with a keyframe every 10 pictures, and AAC."""
    path = tmp_path_factory.mktemp("clips") / "clip.mp4"
    return write_clip(path, options={"bf": "0", "g": "10"}, audio="aac", frames=25)


def job_for(path: Path, **fields: Any) -> Job:
    return Job(str(path), "http://127.0.0.1:9/", fields.pop("wanted", Wanted()), **fields)


@pytest.fixture
def _never_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """No picture is left out because the machine stood still for a moment."""
    monkeypatch.setattr("media.feeder.DROP_LATE_S", 30.0)


@pytest.mark.usefixtures("_never_late")
@pytest.mark.parametrize("transcode", [False, True], ids=["passed through", "encoded"])
def test_a_loop_is_seamless(clip: Path, transcode: bool) -> None:
    """One session; the pictures start over, the times go on, and the sound never stumbles."""
    line = Line()
    with feeding(job_for(clip, wanted=Wanted(transcode=transcode), loop=True), line) as feeder:
        feeder.heard("ready")
        feeder.say("connect")
        feeder.heard("connected")
        while feeder.heard("progress")["round"] < 3:
            pass
    (session,) = line.sessions
    assert session.closed
    pictures = session.pictures()
    assert pictures[:50] == [*range(25), *range(25)]
    steps = {b - a for a, b in itertools.pairwise(session.times("video"))}
    # The sound of the clip is a little longer than its picture: AAC comes in blocks of 1024.
    assert min(steps) >= 39_900
    assert max(steps) <= 70_000
    assert {b - a for a, b in itertools.pairwise(session.times("audio"))} == {20_000}
    kinds = [kind for kind, _, _ in session.sent]
    assert kinds[0] == "video", "a session starts with a keyframe"


def test_a_file_goes_on_after_a_break_from_the_keyframe_before(clip: Path) -> None:
    """The line broke in the second group of pictures: that group is sent again, and the rest."""
    line = Line(45)
    with feeding(job_for(clip), line) as feeder:
        feeder.heard("ready")
        feeder.say("connect")
        feeder.heard("connected")
        lost = feeder.heard("lost")
        assert (lost["connecting"], lost["why"]) == (False, "Connection refused")
        feeder.say("connect")
        feeder.heard("connected")
        progress = feeder.heard("ended")
    first, second = line.sessions
    assert progress["event"] == "ended"
    assert first.closed
    assert first.pictures()[-1] in range(11, 19)
    assert second.pictures() == list(range(10, 25))


@pytest.mark.usefixtures("_never_late")
def test_what_is_encoded_goes_on_where_it_broke_off(clip: Path) -> None:
    line = Line(45)
    with feeding(job_for(clip, wanted=Wanted(transcode=True)), line) as feeder:
        feeder.say("connect")
        feeder.heard("lost")
        feeder.say("connect")
        feeder.heard("ended")
    first, second = line.sessions
    last = first.pictures()[-1]
    assert last is not None
    assert second.pictures()[0] in (last + 1, last + 2)
    assert second.pictures()[-1] == 24


def test_a_node_that_is_away_at_first_costs_nothing_of_the_file(clip: Path) -> None:
    line = Line(0, 0)
    with feeding(job_for(clip), line) as feeder:
        for _ in range(2):
            feeder.say("connect")
            assert feeder.heard("lost")["connecting"]
        feeder.say("connect")
        feeder.heard("ended")
    assert line.sessions[-1].pictures() == list(range(25))


def test_a_file_waits_for_the_word_to_connect(clip: Path) -> None:
    line = Line()
    with feeding(job_for(clip), line) as feeder:
        feeder.heard("ready")
    assert line.sessions == []


def test_a_live_source_goes_on_while_the_node_is_away() -> None:
    """What was on the test card meanwhile is gone; the next session starts with a keyframe."""
    line = Line(30)
    job = Job("test:", "http://127.0.0.1:9/", Wanted(320, 180))
    with feeding(job, line) as feeder:
        feeder.say("connect")
        feeder.heard("lost")
        feeder.heard("progress")
        feeder.heard("progress")
        feeder.say("connect")
        feeder.heard("connected")
        feeder.heard("progress")
    first, second = line.sessions
    before, after = first.pictures()[-1], second.pictures()[0]
    assert before is not None
    assert after is not None
    assert after - before > 10
    assert second.sent[0][0] == "video"


def test_only_so_many_seconds_are_published(clip: Path) -> None:
    line = Line()
    with feeding(job_for(clip, loop=True, seconds=1.5), line) as feeder:
        feeder.say("connect")
        feeder.heard("ended")
    assert 1.4 < line.sessions[0].times("video")[-1] / 1e6 < 1.6


def test_sound_alone_is_published(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "sound.mp4", video=None, audio="aac", frames=25)
    line = Line()
    with feeding(job_for(path), line) as feeder:
        feeder.say("connect")
        feeder.heard("ended")
    assert {kind for kind, _, _ in line.sessions[0].sent} == {"audio"}


def test_a_file_whose_picture_never_starts_ends_with_a_sentence(tmp_path: Path) -> None:
    """Its only keyframe was cut off: nothing could ever be sent, and a loop would spin."""
    whole = write_clip(tmp_path / "whole.mp4", options={"bf": "0", "g": "99"})
    path = tmp_path / "headless.mp4"
    with av.open(str(whole)) as old, av.open(str(path), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for packet in list(old.demux(old.streams.video[0]))[5:-1]:
            packet.stream = stream
            packet.is_keyframe = False
            new.mux(packet)
    read, write = os.pipe()
    with os.fdopen(read) as incoming, os.fdopen(write, "w"):
        feeder = Feeder(job_for(path, loop=True), Link(incoming, io.StringIO()), Line())
        with pytest.raises(SourceError, match=r"headless\.mp4 has nothing in it that can be sent"):
            feeder.run()
