"""Who is served together, and in which order."""

from __future__ import annotations

from tests.relay import rows
from tests.relay.test_stream import AUDIO_TYPE, Scene


def test_viewers_with_other_numbers_get_the_same_packets_under_them() -> None:
    """One group for each payload type and set of extension ids; the payload is the same."""
    scene = Scene()
    scene.show(2, key=True)
    scene.flush()
    chromium, firefox = scene.join(), scene.join(scene.viewer(video_type=120))
    scene.settle()
    scene.show(2)
    scene.flush()
    ours, theirs = scene.got(chromium), scene.got(firefox)
    assert [rows.numbers(p) for p in ours] == [rows.numbers(p) for p in theirs]
    assert [rows.payload(p) for p in ours] == [rows.payload(p) for p in theirs]
    assert {p[1] & 0x7F for p in ours} == {AUDIO_TYPE, 96}
    assert {p[1] & 0x7F for p in theirs} == {AUDIO_TYPE, 120}


def test_viewers_with_other_ciphers_are_in_other_groups() -> None:
    """The length of the authentication tag is part of a group's layout; the recorder checks it."""
    scene = Scene()
    scene.show(1, key=True)
    scene.flush()
    viewers = [scene.join(scene.viewer(overhead=overhead)) for overhead in (16, 10)]
    scene.settle()
    assert len({id(viewer.group) for viewer in viewers}) == 2


def test_a_node_below_does_not_wait_behind_viewers() -> None:
    """Whom it serves would wait as well, and so on down the tree; and it came last."""
    scene = Scene()
    scene.show(1, key=True)
    scene.flush()
    viewers = [scene.join() for _ in range(5)]
    scene.settle()
    node = scene.join(scene.viewer(relay=True))
    scene.settle()
    assert all(scene.pictures(v) == scene.pictures(node) for v in viewers)
    scene.show(1)
    scene.step()
    newest = scene.newest(scene.picture)
    assert scene.pictures(node)[-1] == newest
    assert all(scene.pictures(v)[-1] != newest for v in viewers)
    scene.flush()
    assert all(scene.pictures(v)[-1] == newest for v in viewers)
