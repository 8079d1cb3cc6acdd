"""Which layer a viewer gets: down fast, up by trials, never without sound."""

from __future__ import annotations

import pytest

from relay.layers import AUDIO_ONLY, Chooser, Line, LossReports, Needed, named_in_order, order

# Bits a second: three layers and the sound.
RATES = (150_000.0, 500_000.0, 1_500_000.0)
SOUND = 40_000.0
STEP_S = 0.25


class Viewer:
    """A viewer behind a bottleneck, whose receiver estimates as Chromium's was seen to.

    The estimate falls to 85 % of the line when more is sent than it carries; from there it grows
    by 4 kbit/s a second, by 8 % a second beyond, and to 1.5 times what arrives at most. What the
    line does not carry is lost, after a queue of 0.6 s. Reports come once a second.
    """

    def __init__(self, line_bps: float, lost: float = 0.0) -> None:
        self.line_bps = line_bps
        self.lost = lost
        self.line = Line()
        self.chooser = Chooser(0.0)
        self.now = 0.0
        self.estimate = 300_000.0
        self.bound = 1e9
        self.queue_s = 0.0
        self.history: list[tuple[float, int]] = []

    def sent_bps(self) -> float:
        layer = self.chooser.current
        return SOUND + (RATES[layer] if layer >= 0 else 0.0)

    def run(self, seconds: float) -> None:
        for step in range(int(seconds / STEP_S)):
            self.now += STEP_S
            sent = self.sent_bps()
            over = sent - self.line_bps
            self.queue_s = min(0.6, max(0.0, self.queue_s + STEP_S * over / self.line_bps))
            if over > 0 and self.queue_s < 0.6:
                self.estimate = self.bound = min(self.estimate, 0.85 * self.line_bps)
            elif sent > 1.3 * self.bound or self.bound > 1e8:
                self.bound = 1e9
                self.estimate = min(self.estimate * 1.02, 1.5 * min(sent, self.line_bps) + 10_000)
            else:
                self.estimate = min(self.estimate + 1000, max(self.estimate, 1.5 * sent + 10_000))
            self.line.estimated(int(self.estimate), self.now)
            if step % 4 == 3:
                full = max(0.0, over / sent) if self.queue_s >= 0.6 else 0.0
                self.line.reported(max(full, self.lost), self.now)
                self.line.took(0.05 + self.queue_s, self.now)
            self.chooser.choose(self.line, RATES, SOUND, self.now)
            self.history.append((self.now, self.chooser.current))

    def first(self, layer: int, after_s: float) -> float:
        """Seconds from `after_s` until the viewer had that layer."""
        return next(t for t, n in self.history if n == layer and t > after_s) - after_s


def test_a_line_that_carries_everything_gets_the_top_layer_within_seven_seconds() -> None:
    viewer = Viewer(10_000_000)
    viewer.run(7)
    assert viewer.chooser.current == 2
    viewer.run(60)
    assert {n for t, n in viewer.history if t > 7} == {2}


def test_a_throttled_viewer_goes_down_at_once_and_up_again_within_fifteen_seconds() -> None:
    """3 Mbit/s, then 300 kbit/s, then 3 Mbit/s: down within 2 s, top again within 15 s."""
    viewer = Viewer(3_000_000)
    viewer.run(20)
    viewer.line_bps = 300_000
    viewer.run(40)
    assert viewer.first(0, after_s=20) <= 2
    viewer.line_bps = 3_000_000
    viewer.run(30)
    assert viewer.first(2, after_s=60) <= 15


def test_trials_on_a_thin_line_become_rare_and_are_short() -> None:
    viewer = Viewer(300_000)
    viewer.run(120)
    late = [n for t, n in viewer.history if t > 30]
    above = sum(n > 0 for n in late) * STEP_S
    assert above <= 0.1 * 90
    assert AUDIO_ONLY not in late


def test_a_line_for_sound_alone_gets_sound_alone() -> None:
    """60 kbit/s: the picture goes within 2 s; it is tried again, but not for long."""
    viewer = Viewer(3_000_000)
    viewer.run(20)
    viewer.line_bps = 60_000
    viewer.run(60)
    assert viewer.first(AUDIO_ONLY, after_s=20) <= 2
    late = [n for t, n in viewer.history if t > 30]
    assert sum(n == AUDIO_ONLY for n in late) / len(late) > 0.85


@pytest.mark.parametrize("is_said_again", [False, True])
def test_a_picture_comes_back_although_the_last_estimate_was_below_the_sound(
    is_said_again: bool,
) -> None:
    """As in Chromium, which estimates nothing while only sound comes: its last word grows old."""
    line, chooser = Line(), Chooser(0.0, AUDIO_ONLY)
    line.estimated(36_000, 0.0)
    chosen = {}
    for step in range(40):
        now = step * STEP_S
        if is_said_again:
            line.estimated(36_000, now)
        line.took(0.05, now)
        chosen[now] = chooser.choose(line, RATES, SOUND, now)
    assert chosen[4.0] == AUDIO_ONLY
    assert chosen[5.5] == 0


@pytest.mark.parametrize("lost", [0.02, 0.1])
def test_random_loss_that_repair_copes_with_keeps_the_layer(lost: float) -> None:
    viewer = Viewer(10_000_000, lost)
    viewer.run(30)
    assert viewer.chooser.current == 2


def test_much_loss_without_an_estimate_goes_down_one_layer() -> None:
    """Firefox on some systems, FFmpeg: receivers that send no REMB."""
    line, chooser = Line(), Chooser(0.0, current=2)
    for now in (4.0, 5.0):
        line.reported(0.3, now)
        chooser.choose(line, RATES, SOUND, now)
    assert chooser.current == 1


def test_one_layer_alone_falls_to_sound_and_comes_back() -> None:
    line, chooser = Line(), Chooser(0.0)
    line.estimated(2_000_000, 1.0)
    assert chooser.choose(line, (1_000_000.0,), SOUND, 1.0) == 0
    line.estimated(100_000, 2.0)
    line.reported(0.2, 2.1)
    assert chooser.choose(line, (1_000_000.0,), SOUND, 2.2) == 0
    assert chooser.choose(line, (1_000_000.0,), SOUND, 3.0) == AUDIO_ONLY
    line.reported(0.0, 4.0)
    assert chooser.choose(line, (1_000_000.0,), SOUND, 5.0) == AUDIO_ONLY
    assert chooser.choose(line, (1_000_000.0,), SOUND, 8.5) == 0


def test_one_fall_of_the_estimate_alone_is_not_believed() -> None:
    """A receiver whose machine was busy for a moment sees a queue that is not there."""
    line, chooser = Line(), Chooser(0.0, current=2)
    line.estimated(2_000_000, 9.0)
    line.estimated(400_000, 10.0)
    line.reported(0.0, 10.5)
    line.took(0.02, 10.5)
    for now in (10.0, 10.5, 11.0, 12.0):
        assert chooser.choose(line, RATES, SOUND, now) == 2
    line.estimated(300_000, 12.5)
    assert chooser.choose(line, RATES, SOUND, 12.5) == 0


def test_nothing_larger_is_tried_while_a_queue_fills() -> None:
    """A layer a little too large for the line shows no loss for seconds."""
    line, chooser = Line(), Chooser(0.0, current=1)
    line.estimated(5_000_000, 1.0)
    line.took(0.02, 1.0)
    for now in (3.0, 4.0, 5.0):
        line.took(0.15, now)
        assert chooser.choose(line, RATES, SOUND, now) == 1
    line.took(0.03, 6.0)
    assert chooser.choose(line, RATES, SOUND, 6.0) == 2


def test_a_layer_that_disappears_is_left() -> None:
    chooser = Chooser(0.0, current=2)
    assert chooser.choose(Line(), RATES[:2], SOUND, 0.1) == 1


def test_a_layer_is_needed_for_two_seconds_after_its_last_viewer() -> None:
    needed = Needed[str]()
    assert needed.update({"q", "f"}, 0.0) == {"q", "f"}
    assert needed.update({"q"}, 1.9) == {"q", "f"}
    assert needed.update({"q"}, 2.1) == {"q"}
    assert needed.update({"f"}, 2.2) == {"q", "f"}


@pytest.mark.parametrize(
    ("offered", "ascending", "sure"),
    [
        (["f", "h", "q"], ["q", "h", "f"], True),
        (["h", "l", "m"], ["l", "m", "h"], True),
        (["q", "f"], ["q", "f"], True),
        (["0", "1", "2"], ["2", "1", "0"], False),
        (["big", "small"], ["big", "small"], False),
    ],
)
def test_names_tell_the_order(offered: list[str], ascending: list[str], sure: bool) -> None:
    assert order(offered) == ascending
    assert named_in_order(ascending) is sure


def test_loss_is_counted_over_a_second_and_fifty_packets() -> None:
    """Of three packets one lost is no third of the line; late packets come off again."""
    reports = LossReports()
    answers = [
        reports.add(highest, lost, now)
        for now, highest, lost in [
            (0.0, 1000, 40),  # a beginning says nothing
            (0.1, 1003, 41),  # one of three lost, said with a request for a repeat
            (0.5, 1060, 52),  # a hole of a hop above ...
            (0.9, 1120, 46),  # ... that has been filled: 6 of 120
            (1.0, 1123, 47),
            (1.8, 1140, 47),  # time enough, but too few packets
            (2.0, 1180, 55),  # 9 of 60
            (5.1, 1190, 57),  # few packets, but three seconds: 2 of 10
            (6.1, 1190, 57),  # nothing was sent
            (6.2, 90, 0),  # another line of numbers
            (7.2, 190, 7),
        ]
    ]
    assert [round(a, 2) if a is not None else None for a in answers] == [
        None, None, None, 0.05, None, None, 0.15, 0.2, 0.0, None, 0.07,
    ]  # fmt: skip


def test_a_line_that_is_full_is_known_within_a_moment() -> None:
    """Half a second of peace before it does not thin the evidence."""
    reports = LossReports()
    for now, highest, lost in ((0.0, 1000, 0), (0.3, 1045, 2), (0.5, 1075, 3)):
        assert reports.add(highest, lost, now) is None
    assert reports.add(1085, 10, 0.57) is None, "few packets"
    assert reports.add(1095, 18, 0.63) == 0.75


def test_a_queue_from_before_a_change_of_layer_gets_time_to_run_empty() -> None:
    """One that begins after it is the new layer's own."""
    line = Line()
    for now, rtt_s in ((9.0, 0.05), (9.6, 0.9), (10.0, 0.9)):
        line.took(rtt_s, now)
    assert line.queued
    assert not line.strained_since(9.8, 10.0)
    line.took(0.8, 11.4)
    assert line.strained_since(9.8, 11.4)
    line.took(0.05, 11.5)
    assert not line.strained_since(9.8, 11.5)
    assert line.took(0.9, 11.6) is True, "the first long one"
    assert line.took(0.9, 12.0) is False
    assert line.strained_since(11.5, 12.0)


def test_a_low_estimate_beside_random_loss_leaves_the_only_picture() -> None:
    """A machine that stood still: the estimate fell and one round trip was long. 5 % get lost."""
    line, chooser = Line(), Chooser(0.0)
    rates = (1_000_000.0,)
    line.estimated(1_800_000, 1.0)
    line.took(0.06, 1.0)
    line.estimated(480_000, 9.8)
    line.took(0.35, 9.9)
    line.took(0.06, 10.0)
    for second in range(10, 40):
        line.reported(0.05, second)
        line.took(0.06 if second % 3 else 0.35, second)
        assert chooser.choose(line, rates, SOUND, second + 0.1) == 0
    line.reported(0.0, 40.0)
    line.took(0.4, 40.0)
    line.took(0.5, 40.5)
    assert chooser.choose(line, rates, SOUND, 40.5) == 0
    assert chooser.choose(line, rates, SOUND, 41.5) == AUDIO_ONLY, "now there is a queue"


def test_a_first_fall_below_what_is_sent_is_in_doubt_until_more_is_known() -> None:
    line, chooser = Line(), Chooser(0.0, current=2)
    need = RATES[2] + SOUND
    assert line.estimated(2_500_000, 9.0) is False
    assert line.estimated(2_000_000, 10.0) is True
    assert not chooser.doubts(line, need, 10.0), "there is room all the same"
    line.estimated(400_000, 20.0)
    assert chooser.doubts(line, need, 20.9)
    assert not chooser.doubts(line, need, 21.1), "a machine that was busy"
    lowest = Chooser(0.0, current=0)
    assert not lowest.doubts(line, need, 20.1), "there is nothing smaller to go to"
