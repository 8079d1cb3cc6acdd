"""What is fetched first, in which rendition, and whether it will be there."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC

from media.blob import Blob
from media.needs import Need, Outlook, Plan, plan
from media.window import Hours, Line

HOUR = 3600.0
NOW = 1_800_000_000.0
MBPS = 1_000_000.0


def blobs(name: str, count: int, size: int = 1_000_000) -> list[Blob]:
    return [
        Blob(f"{name}-{number:02d}", size, f"/courses/{name}.mp4", number * size)
        for number in range(count)
    ]


RICE = {"720p": blobs("rice-720p", 100), "240p": blobs("rice-240p", 10)}
HEALTH = {"240p": blobs("health-240p", 10)}
COURSES = {"rice": RICE, "health": HEALTH}


def need(course: str, in_h: float, *renditions: str, priority: int = 0) -> Need:
    due = NOW + in_h * HOUR
    return Need(f"{course}-{in_h:g}", course, due, due + HOUR, renditions, priority)


def planned(
    *needs: Need, held: Sequence[Blob] = (), rate_bps: float = MBPS, line: Line | None = None
) -> Plan:
    have = {blob.sha256 for blob in held}
    return plan(needs, COURSES, have.__contains__, NOW, line or Line(), rate_bps)


def test_what_is_due_first_is_fetched_first_in_the_order_of_its_file() -> None:
    found = planned(need("rice", 20, "240p"), need("health", 10, "240p"))
    assert list(found.missing) == HEALTH["240p"] + RICE["240p"]


def test_of_two_that_are_due_at_once_the_more_important_is_first() -> None:
    found = planned(need("health", 10), need("rice", 10, "240p", priority=1))
    assert list(found.missing) == RICE["240p"] + HEALTH["240p"]


def test_what_plays_now_is_due_now() -> None:
    """A class that began an hour ago and goes on comes before one that begins in a minute."""
    running = Need("running", "rice", NOW - HOUR, NOW + HOUR, ("240p",))
    found = planned(need("health", 1 / 60), running)
    assert list(found.missing)[:10] == RICE["240p"]


def test_the_best_rendition_that_the_line_can_bring() -> None:
    """100 MB take 800 s at 1 Mbit/s."""
    assert planned(need("rice", 1)).forecasts[0].rendition == "720p"
    assert planned(need("rice", 0.2)).forecasts[0].rendition == "240p"
    assert planned(need("rice", 1, "240p", "720p")).forecasts[0].rendition == "240p"


def test_one_that_is_begun_is_kept_while_it_fits_at_all() -> None:
    """At 0.25 h the line brings 112 MB: too little to begin 100 MB, enough to go on with 99."""
    quarter = need("rice", 0.25)
    assert planned(quarter).forecasts[0].rendition == "240p"
    assert planned(quarter, held=RICE["720p"][:1]).forecasts[0].rendition == "720p"


def test_bytes_that_an_earlier_need_takes_are_not_there_for_a_later_one() -> None:
    first = need("health", 0.1)
    assert planned(need("rice", 0.29)).forecasts[0].rendition == "720p"
    later = planned(first, need("rice", 0.29)).forecasts[1]
    assert (later.rendition, later.ahead_bytes) == ("240p", 10_000_000)


def test_the_same_course_twice_is_fetched_once_and_pinned() -> None:
    found = planned(need("rice", 10, "240p"), need("rice", 30, "240p"))
    assert list(found.missing) == RICE["240p"]
    assert found.pinned == {blob.sha256 for blob in RICE["240p"]}
    assert [one.bytes_left for one in found.forecasts] == [10_000_000, 0]


def test_what_is_needed_next_week_is_pinned_and_what_is_later_is_not() -> None:
    found = planned(need("rice", 24 * 6.9, "240p"), need("health", 24 * 7.1))
    assert found.pinned == {blob.sha256 for blob in RICE["240p"]}


def test_what_has_just_been_played_stays_pinned_and_is_not_fetched() -> None:
    over = Need("over", "rice", NOW - HOUR, NOW - 60, ("240p",))
    found = planned(over)
    assert not found.missing
    assert found.pinned == {blob.sha256 for blob in RICE["240p"]}


def test_will_it_play() -> None:
    """10 MB take 80 s at 1 Mbit/s."""
    for in_s, outlook in ((1000, Outlook.GREEN), (100, Outlook.AMBER), (70, Outlook.RED)):
        (forecast,) = planned(need("health", in_s / HOUR)).forecasts
        assert (forecast.outlook, forecast.done_s) == (outlook, NOW + 80)
    (ready,) = planned(need("health", 1), held=HEALTH["240p"]).forecasts
    assert (ready.outlook, ready.bytes_left) == (Outlook.READY, 0)


def test_a_line_that_opens_too_late_is_red_before_the_class() -> None:
    """NOW is 08:00 UTC; the night's hours open at 22:00."""
    line = Line(Hours.parse("22:00-06:00"), UTC)
    assert NOW % 86400 == 8 * HOUR
    (today,) = planned(need("health", 10), line=line).forecasts
    assert (today.outlook, today.done_s) == (Outlook.RED, NOW + 14 * HOUR + 80)
    (tomorrow,) = planned(need("health", 24), line=line).forecasts
    assert tomorrow.outlook is Outlook.GREEN


def test_a_line_of_which_nothing_is_known_promises_nothing() -> None:
    (forecast,) = planned(need("health", 1), rate_bps=0.0).forecasts
    assert (forecast.outlook, forecast.done_s) == (Outlook.RED, float("inf"))


def test_a_course_that_is_not_known_yet_is_said_to_be_so() -> None:
    found = planned(need("music", 1), need("rice", 2, "1080p"))
    assert found.unknown == ("music", "rice")
    assert [one.outlook for one in found.forecasts] == [Outlook.UNKNOWN] * 2
