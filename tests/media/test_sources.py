"""Real files: what is decided about them, and that what passes through is what was in them."""

from __future__ import annotations

import itertools
import struct
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from media.encode import AudioEncoder, VideoEncoder
from media.errors import SourceError, SourceLostError
from media.plan import Handling, Wanted
from media.sources import CardSource, FileSource, Sample, open_source, without_password
from media.timeline import opus_samples
from tests.media.clips import number_of, numbers_in, write_clip

NO_B_FRAMES = {"bf": "0", "g": "25"}


def never(seconds: float) -> bool:
    return False


def open_clip(path: Path, wanted: Wanted | None = None, *, sound: bool = True) -> FileSource:
    source = open_source(str(path), wanted or Wanted(), sound=sound, wait=never)
    assert isinstance(source, FileSource)
    return source


def of_kind(samples: list[Sample], kind: str) -> list[Sample]:
    return [sample for sample in samples if sample.kind == kind]


def payloads(samples: list[Sample]) -> list[Any]:
    return [sample.payload for sample in samples]


@pytest.mark.parametrize("ending", ["mp4", "mkv", "ts"])
def test_h264_without_b_frames_comes_through_untouched(tmp_path: Path, ending: str) -> None:
    """Whatever the container: Annex B, with the parameter sets before each keyframe."""
    source = open_clip(write_clip(tmp_path / f"clip.{ending}", options=NO_B_FRAMES, audio="aac"))
    assert source.plans.video is not None
    assert source.plans.video.handling is Handling.COPY
    samples = list(source.samples())
    pictures = of_kind(samples, "video")
    packets = [bytes(packet) for packet in payloads(pictures)]
    assert numbers_in(packets) == list(range(50))
    first = pictures[0].time_us
    assert [p.time_us - first for p in pictures] == pytest.approx(
        [i * 40_000 for i in range(50)], abs=1000
    )
    keyframes = [i for i, sample in enumerate(pictures) if sample.key]
    assert keyframes == [0, 25]
    for i in keyframes:
        kinds = [part[0] & 0x1F for part in packets[i].split(b"\x00\x00\x01")[1:] if part]
        assert 7 in kinds, "a sequence parameter set"
        assert 8 in kinds, "a picture parameter set"
        # Decoding can start at each of them.
    assert numbers_in(packets[25:])[0] == 25


def test_picture_and_sound_leave_in_the_order_of_their_time(tmp_path: Path) -> None:
    source = open_clip(write_clip(tmp_path / "clip.mp4", options=NO_B_FRAMES, audio="aac"))
    times = [sample.time_us for sample in source.samples()]
    assert times == sorted(times)
    assert len(times) > 120


@pytest.mark.parametrize("ending", ["mp4", "ts"])
def test_b_frames_are_noticed_and_encoded_away(tmp_path: Path, ending: str) -> None:
    path = write_clip(tmp_path / f"clip.{ending}", options={"bf": "2", "g": "25"})
    source = open_clip(path)
    assert source.plans.video is not None
    assert source.plans.video.handling is Handling.ENCODE
    assert "B-frames" in source.plans.video.sentence
    samples = list(source.samples())
    assert [number_of(frame) for frame in payloads(samples)] == list(range(50))
    encoder = VideoEncoder(source.plans.video, Wanted(), "veryfast")
    start = samples[0].time_us
    packets = [p for s in samples for p in encoder.encode(s.payload, s.time_us - start)]  # type: ignore[arg-type]
    assert all(packet.pts == packet.dts for packet in packets)
    assert [packet.pts for packet in packets] == pytest.approx(
        [3600 * i for i in range(50)], abs=90
    )
    assert numbers_in([bytes(packet) for packet in packets]) == list(range(50))
    assert packets[0].is_keyframe


def test_vp8_is_encoded_and_its_opus_passes_through(tmp_path: Path) -> None:
    path = write_clip(
        tmp_path / "clip.webm",
        video="libvpx",
        options={"deadline": "realtime", "cpu-used": "8"},
        audio="libopus",
    )
    source = open_clip(path)
    assert source.plans.video is not None
    assert source.plans.audio is not None
    assert source.plans.video.handling is Handling.ENCODE
    assert source.plans.audio.handling is Handling.COPY
    samples = list(source.samples())
    assert [number_of(f) for f in payloads(of_kind(samples, "video"))] == list(range(50))
    with av.open(str(path)) as container:
        stored = [bytes(p) for p in container.demux(container.streams.audio[0]) if p.size]
    passed = [bytes(p) for p in payloads(of_kind(samples, "audio"))]
    assert passed == stored
    assert {opus_samples(packet) for packet in passed} == {960}


def test_a_file_with_sound_only(tmp_path: Path) -> None:
    source = open_clip(write_clip(tmp_path / "clip.mp4", video=None, audio="aac"))
    assert source.plans.video is None
    assert source.plans.sentences() == ["sound: AAC, encoded anew as Opus"]
    encoder = AudioEncoder()
    packets = [p for s in source.samples() for p in encoder.encode(s.payload, s.time_us)]  # type: ignore[arg-type]
    # Two seconds, less what the encoders hold back at the end.
    assert 97 <= len(packets) <= 102
    steps = {b.pts - a.pts for a, b in itertools.pairwise(packets)}  # type: ignore[operator]
    assert steps == {960}


def test_sound_after_a_break_is_dated_after_it() -> None:
    """The encoder's own dates would put the first packet back to before the break."""
    encoder, dates = AudioEncoder(), []
    for begin_us in (0, 7_540_000):
        encoder.reset()
        for n in range(4):
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 1920), np.int16), "s16", "stereo")
            silence.sample_rate = 48_000
            dates += [one.pts for one in encoder.encode(silence, begin_us + 20_000 * n)]
    assert dates == [begin + 960 * n - 312 for begin in (0, 361_920) for n in range(4)]


def test_the_sound_can_be_left_out(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", options=NO_B_FRAMES, audio="aac")
    source = open_clip(path, sound=False)
    assert source.plans.audio is None
    assert {sample.kind for sample in source.samples()} == {"video"}


def test_a_file_can_be_taken_twice_and_from_the_middle(tmp_path: Path) -> None:
    """After a break, what passes through starts at the keyframe before; what is encoded does not
    need to.
    """
    path = write_clip(tmp_path / "clip.mp4", options=NO_B_FRAMES)
    source = open_clip(path)
    for _ in range(2):
        packets = [bytes(p) for p in payloads(list(source.samples()))]
        assert len(packets) == 50
    resumed = [bytes(p) for p in payloads(list(source.samples(1_600_000)))]
    assert numbers_in(resumed) == list(range(25, 50))
    encoded = open_clip(path, Wanted(transcode=True))
    frames = payloads(list(encoded.samples(1_600_000)))
    assert [number_of(frame) for frame in frames] == list(range(40, 50))


def test_ten_bits_and_rare_keyframes(tmp_path: Path) -> None:
    deep = write_clip(tmp_path / "deep.mp4", options=NO_B_FRAMES, pix_fmt="yuv420p10le")
    plan = open_clip(deep).plans.video
    assert plan is not None
    assert plan.handling is Handling.ENCODE
    rare = write_clip(
        tmp_path / "rare.mp4", options={"bf": "0", "g": "999"}, frames=150, size=(160, 90)
    )
    plan = open_clip(rare).plans.video
    assert plan is not None
    assert plan.handling is Handling.COPY
    assert "keyframes are up to 6 s apart" in plan.warning


def test_more_pictures_than_wanted_are_left_out_and_the_size_is_kept_to(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", size=(640, 360))
    source = open_clip(path, Wanted(width=320, height=320, fps=12.5, transcode=True))
    frames = payloads(list(source.samples()))
    assert [number_of(frame) for frame in frames] == list(range(0, 50, 2))
    assert {(frame.width, frame.height, frame.format.name) for frame in frames} == {
        (320, 180, "yuv420p")
    }


def test_a_film_held_upright_by_a_telephone_is_turned(tmp_path: Path) -> None:
    """The turn stands in the track's header (ISO/IEC 14496-12 section 8.3.2)."""
    path = write_clip(tmp_path / "clip.mp4", options=NO_B_FRAMES, frames=5)
    data = bytearray(path.read_bytes())
    matrix = data.index(b"tkhd") + 4 + 4 + 20 + 16
    one = 1 << 16
    assert struct.unpack_from(">9i", data, matrix)[:5] == (one, 0, 0, 0, one)
    struct.pack_into(">9i", data, matrix, 0, one, 0, -one, 0, 0, 180 * one, 0, 1 << 30)
    path.write_bytes(data)
    source = open_clip(path)
    plan = source.plans.video
    assert plan is not None
    assert (plan.handling, plan.width, plan.height) == (Handling.ENCODE, 180, 320)
    upright = payloads(list(source.samples()))[0].to_ndarray()[:320]
    with av.open(str(path)) as container:
        lying = next(container.decode(video=0)).to_ndarray()[:180]
    # A quarter to the right: what was the left edge is the top.
    clockwise = lying[::-1].T
    assert abs(upright.astype(int) - clockwise.astype(int)).mean() < 3


def test_a_record_with_a_cover_has_no_picture(tmp_path: Path) -> None:
    """The cover is a video stream by its format."""
    sound = write_clip(tmp_path / "sound.mka", video=None, audio="libopus")
    covered = tmp_path / "covered.mka"
    with av.open(str(sound)) as old, av.open(str(covered), "w", format="matroska") as new:
        stream = new.add_stream_from_template(old.streams.audio[0])
        new.add_attachment("cover.png", "image/png", b"\x89PNG\r\n\x1a\n" + bytes(100))
        for packet in old.demux(old.streams.audio[0]):
            if packet.size:
                packet.stream = stream
                new.mux(packet)
    assert open_clip(covered).plans.video is None


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("missing.mp4", "there is no file {path}"),
        ("folder", "{path} is a folder"),
        ("text.mp4", "{path} cannot be read as picture or sound: invalid data found"),
        ("empty.mp4", "{path} cannot be read as picture or sound: invalid data found"),
    ],
)
def test_what_is_no_film_is_said_in_words(tmp_path: Path, name: str, sentence: str) -> None:
    path = tmp_path / name
    if name == "folder":
        path.mkdir()
    elif name == "text.mp4":
        path.write_text("Dear diary\n" * 100)
    elif name == "empty.mp4":
        path.touch()
    with pytest.raises(SourceError) as error:
        open_clip(path)
    assert str(error.value).startswith(sentence.format(path=path))


def test_a_device_that_is_not_there() -> None:
    for name in ("/dev/video77", "v4l2:/dev/video77"):
        with pytest.raises(SourceError, match="there is no device /dev/video77"):
            open_source(name, Wanted(), sound=True, wait=never)


def test_a_camera_that_does_not_answer_is_worth_another_try(unused_tcp_port: int) -> None:
    """The password is not shown."""
    address = f"rtsp://teacher:chalk@127.0.0.1:{unused_tcp_port}/stream"
    with pytest.raises(SourceLostError) as error:
        open_source(address, Wanted(), sound=True, wait=never)
    shown = f"rtsp://127.0.0.1:{unused_tcp_port}/stream"
    assert str(error.value) == f"{shown} cannot be reached: connection refused"
    assert without_password("rtsp://a:b@c@d/e@f") == "rtsp://d/e@f"


def test_the_test_card_keeps_to_the_clock_and_leaves_out_what_it_missed() -> None:
    """After a pause of half a second picture and sound go on together, at the right place."""
    now = 1000.0

    def wait(seconds: float) -> bool:
        nonlocal now
        now += seconds
        return False

    wanted = Wanted(width=320, height=180)
    source = CardSource(wanted, sound=True, wait=wait, clock=lambda: now)
    taken = source.samples()
    seen = [next(taken) for _ in range(7)]
    assert [(sample.kind, sample.time_us) for sample in seen] == [
        ("video", 0),
        ("audio", 0),
        ("audio", 20_000),
        ("video", 40_000),
        ("audio", 40_000),
        ("audio", 60_000),
        ("video", 80_000),
    ]
    assert now == pytest.approx(1000.08)
    now = 1000.6
    later = [next(taken) for _ in range(3)]
    assert [(sample.kind, sample.time_us) for sample in later] == [
        ("video", 600_000),
        ("audio", 600_000),
        ("audio", 620_000),
    ]
    assert number_of(payloads(later)[0]) == 15
    assert source.dropped == 12


def test_the_test_card_can_start_at_any_time() -> None:
    """When one feeder takes over from another, the count goes on."""
    source = CardSource(Wanted(320, 180), sound=True, wait=never, clock=lambda: 0.0)
    taken = source.samples(10_030_000)
    seen = [next(taken) for _ in range(2)]
    assert [(sample.kind, sample.time_us) for sample in seen] == [
        ("video", 10_040_000),
        ("audio", 10_040_000),
    ]
    assert number_of(payloads(seen)[0]) == 251


def test_a_slow_test_card_never_stands_still() -> None:
    """At one picture in two seconds, each of them is late by the measure of the sound."""
    now = 0.0

    def clock() -> float:
        nonlocal now
        now += 0.4
        return now

    source = CardSource(Wanted(320, 180, fps=0.5), sound=False, wait=never, clock=clock)
    taken = source.samples()
    assert [next(taken).time_us for _ in range(3)] == [0, 2_000_000, 4_000_000]
