"""When a parent is suspected, probed, left; when another one is looked for."""

import itertools
from collections.abc import Callable

import pytest

from relay.tree import PROBE_BROKEN_S, PROBE_S, SEEK_AFTER_S, SEEK_EVERY_S, SILENT_S, Verdict, Watch

STEP_S = 0.05


def verdicts(
    watch: Watch,
    begin: float,
    end: float,
    *,
    media: Callable[[float], float],
    heard: Callable[[float], float],
    suspected: float = 0.0,
    rtt: float = 0.01,
) -> list[tuple[float, Verdict]]:
    """What `watch` says every 50 ms; `media` and `heard` are functions of the time."""
    found = []
    for step in range(round((end - begin) / STEP_S)):
        now = begin + step * STEP_S
        verdict = watch.judge(now, media=media(now), heard=heard(now), suspected=suspected, rtt=rtt)
        found.append((now, verdict))
        if verdict is Verdict.LEAVE:
            break
    return found


def first(found: list[tuple[float, Verdict]], wanted: Verdict) -> float | None:
    return next((now for now, verdict in found if verdict is wanted), None)


def test_a_parent_that_sends_is_stayed_with() -> None:
    """Media every few milliseconds: nothing to do."""
    found = verdicts(Watch(), 100, 110, media=lambda t: t, heard=lambda t: t)
    assert {verdict for _, verdict in found} == {Verdict.STAY}


def test_a_pull_that_has_not_brought_media_yet_is_not_silent() -> None:
    """Before the first packet there is no silence to judge."""
    found = verdicts(Watch(), 100, 110, media=lambda t: 0.0, heard=lambda t: t)
    assert {verdict for _, verdict in found} == {Verdict.STAY}


def test_a_dead_parent_is_left_after_silence_and_unanswered_checks() -> None:
    """Silent since 100 s and deaf: probed after SILENT_S, left PROBE_S later."""
    found = verdicts(Watch(), 100, 105, media=lambda t: 100.0, heard=lambda t: 100.0)
    probed, left = first(found, Verdict.PROBE), first(found, Verdict.LEAVE)
    assert probed == pytest.approx(100 + SILENT_S, abs=0.06)
    assert left is not None
    assert left - 100 <= SILENT_S + PROBE_S + 3 * STEP_S


def test_a_broken_link_makes_the_parent_suspect_at_once() -> None:
    """The held connection breaks: no waiting for silence, but checks confirm before we leave."""
    found = verdicts(
        Watch(), 100.01, 105, media=lambda t: 100.0, heard=lambda t: 100.0, suspected=100.005
    )
    assert found[0][1] is Verdict.PROBE
    left = first(found, Verdict.LEAVE)
    assert left is not None
    assert left - 100 <= PROBE_BROKEN_S + 3 * STEP_S < PROBE_S + 3 * STEP_S


def test_a_broken_link_is_forgiven_when_media_goes_on() -> None:
    """A middlebox cut the connection: packets that arrive later clear the suspicion."""
    found = verdicts(Watch(), 100.1, 103, media=lambda t: t, heard=lambda t: t, suspected=100.05)
    assert {verdict for _, verdict in found} == {Verdict.STAY}


def test_a_silent_parent_that_answers_checks_is_not_left() -> None:
    """Nobody speaks, but the parent answers: it stays, and after a while another is looked for."""
    found = verdicts(Watch(), 100, 130, media=lambda t: 100.0, heard=lambda t: t)
    assert first(found, Verdict.LEAVE) is None
    seeks = [now for now, verdict in found if verdict is Verdict.SEEK]
    assert seeks[0] - 100 >= SEEK_AFTER_S
    assert all(b - a >= SEEK_EVERY_S for a, b in itertools.pairwise(seeks))


def test_a_long_line_gets_round_trips_to_answer() -> None:
    """With 200 ms of round trip a parent is not left after PROBE_S already."""
    found = verdicts(Watch(), 100, 105, media=lambda t: 100.0, heard=lambda t: 100.0, rtt=0.2)
    left = first(found, Verdict.LEAVE)
    assert left is not None
    assert left - 100 >= SILENT_S + 4 * 0.2
