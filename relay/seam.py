"""Where one source of a programme ends and the next begins, on one time line (pure).

A programme has one RTP line per kind and one relation of these lines to NTP time. A source has its
own numbers and its own clock. At a cut it is laid onto the programme's line so that

- its sound goes on where the last one's stopped: as quickly as its packets get here, so quickly got
  the last source's here, and the first packet's timestamp follows the last one's;
- its picture has the same distance from its sound as at the source, by its sender reports. Without
  reports both are laid by their arrival.
"""

from __future__ import annotations

from typing import NamedTuple

from relay.packet import ts_delta
from relay.track import SenderClock, Track

# Packets that tell how quick a line is: a second and a half of sound. The quickest counts, for
# what is slower has waited somewhere.
LOOK_BACK = 64
# Sound without a pause follows within this; after more there was a pause, and it stays one.
FOLLOWS_S = 0.12
# The next source's sound may begin so many packets back, or be waited for so long.
BACK, AHEAD = 5, 2
STEP = 960
"""Samples in a packet of sound where the packets themselves do not tell: 20 ms at 48 kHz."""
# Reports by which the picture comes so much sooner or later than its sound are not believed.
MAX_APART_S = 1.5
NTP_S = 1 << 32
_STAMP_S = 1 / (1 << 18)


class Anchor(NamedTuple):
    """A point of a line: `timestamp` gets here at `arrival_s`, were it as quick as the quickest."""

    timestamp: int
    arrival_s: float


class Seam(NamedTuple):
    """How a source is laid onto the programme.

    `audio` and `video` are what is added to RTP timestamps, `sound_from` is the source's timestamp
    at which its sound begins. `ntp` is what is added to its NTP times (32.32 fixed point), None
    while its reports are not known; `believed` is false if they cannot be true.
    """

    audio: int
    video: int
    sound_from: int
    ntp: int | None
    believed: bool = True


def anchor(track: Track) -> Anchor | None:
    """Where a track's line stands, None before its first packet."""
    newest = track.get(track.highest) if track.highest >= 0 else None
    if newest is None:
        return None
    timestamp, stamp = _timestamp(newest), _stamp(newest)
    rate = track.format.clock_rate
    quickest = 0.0
    for position in range(track.highest - 1, max(track.oldest, track.highest - LOOK_BACK) - 1, -1):
        kept = track.get(position)
        if kept is None:
            continue
        # This node's own abs-send-time tells when a packet came.
        came_s = (((_stamp(kept) - stamp + 0x800000) & 0xFFFFFF) - 0x800000) * _STAMP_S
        quickest = min(quickest, came_s - ts_delta(_timestamp(kept), timestamp) / rate)
    return Anchor(timestamp, track.last_arrival_s + quickest)


def packet_step(track: Track) -> int:
    """Samples from one packet of sound to the next."""
    newest = track.get(track.highest) if track.highest >= 0 else None
    before = track.get(track.highest - 1) if newest is not None else None
    if newest is None or before is None:
        return STEP
    step = ts_delta(_timestamp(newest), _timestamp(before))
    # Opus packets are 2.5 to 120 ms long; what is longer is a pause between two.
    return step if 120 <= step <= 5760 else STEP


def by_arrival(out: Track, source: Track) -> int:
    """What to add to a source's timestamps so that it is as quick as what came before.

    0 where nothing came before: the source keeps its own.
    """
    here, there = anchor(out), anchor(source)
    if here is None or there is None:
        return 0
    ahead = round((there.arrival_s - here.arrival_s) * out.format.clock_rate)
    return (here.timestamp + ahead - there.timestamp) & 0xFFFFFFFF


def lay(
    out_audio: Track, out_video: Track, audio: Track | None, video: Track | None, now: float
) -> Seam:
    """Lay a source onto a programme, at a cut.

    `audio` and `video` are those of its tracks that have brought something.
    """
    sound = sound_from = 0
    if audio is not None:
        sound, sound_from = _follow(out_audio, audio, now)
    picture = by_arrival(out_video, video) if video is not None else 0
    believed = True
    if audio is not None:
        ntp = ntp_shift(out_audio, audio, sound)
        placed = None
        if video is not None and ntp is not None:
            placed = placed_by_ntp(out_video, video, ntp)
        if placed is not None:
            apart_s = abs(ts_delta(placed, picture)) / out_video.format.clock_rate
            believed = out_video.highest < 0 or apart_s < MAX_APART_S
            picture = placed if believed else picture
    else:
        ntp = ntp_shift(out_video, video, picture) if video is not None else None
    return Seam(sound, picture, sound_from, ntp if believed else None, believed)


def _follow(out: Track, source: Track, now: float) -> tuple[int, int]:
    """For sound: what to add to timestamps, and the source's timestamp from which on it is taken.

    Moved by at most half a packet from where it arrives, so that no sample is missing or twice.
    """
    newest = source.get(source.highest)
    assert newest is not None
    newest_in = _timestamp(newest)
    last = out.get(out.highest) if out.highest >= 0 else None
    if last is None:
        return 0, newest_in
    shift = by_arrival(out, source)
    wanted = (_timestamp(last) + packet_step(out)) & 0xFFFFFFFF
    behind = ts_delta(wanted, (newest_in + shift) & 0xFFFFFFFF)
    step = packet_step(source)
    if now - out.last_arrival_s > FOLLOWS_S:
        # There was a pause: it stays as long as it was, but time never runs back.
        return (shift + max(0, behind)) & 0xFFFFFFFF, newest_in
    steps = min(AHEAD, max(-BACK, round(behind / step)))
    sound_from = (newest_in + steps * step) & 0xFFFFFFFF
    return (wanted - sound_from) & 0xFFFFFFFF, sound_from


def not_before(out: Track, shift: int, timestamp: int) -> int:
    """A source's timestamp, or the first one that does not lie before what has gone out."""
    last = out.get(out.highest) if out.highest >= 0 else None
    if last is None:
        return timestamp
    wanted = (_timestamp(last) + packet_step(out) - shift) & 0xFFFFFFFF
    return wanted if ts_delta(wanted, timestamp) > 0 else timestamp


def ntp_shift(out: Track, source: Track, shift: int) -> int | None:
    """What is added to a source's NTP times so that they are the programme's; None unknown."""
    ours, theirs = out.clock, source.clock
    if ours is None or theirs is None:
        return None
    since = ts_delta((theirs.timestamp + shift) & 0xFFFFFFFF, ours.timestamp)
    here = ours.ntp + round(since * NTP_S / out.format.clock_rate)
    return _signed(here - theirs.ntp)


def placed_by_ntp(out: Track, source: Track, ntp: int) -> int | None:
    """What to add to timestamps so that a source stands where its reports say; None unknown."""
    ours, theirs = out.clock, source.clock
    if ours is None or theirs is None:
        return None
    since = _signed(theirs.ntp + ntp - ours.ntp)
    here = ours.timestamp + round(since * out.format.clock_rate / NTP_S)
    return (here - theirs.timestamp) & 0xFFFFFFFF


def moved(clock: SenderClock, ntp: int, timestamp: int) -> SenderClock:
    """A source's report on the programme's line, where its timestamp is `timestamp`."""
    return SenderClock((clock.ntp + ntp) & 0xFFFFFFFFFFFFFFFF, timestamp, clock.arrival_s)


def lag_s(audio: Track, video: Track, position: int) -> float | None:
    """How much older a frame of the picture is than the newest sound; None without reports."""
    sound, frame = audio.get(audio.highest) if audio.highest >= 0 else None, video.get(position)
    if sound is None or frame is None or audio.clock is None or video.clock is None:
        return None
    times = []
    for track, kept, clock in ((audio, sound, audio.clock), (video, frame, video.clock)):
        since = ts_delta(_timestamp(kept), clock.timestamp) / track.format.clock_rate
        times.append((clock.ntp, since))
    (sound_ntp, sound_s), (frame_ntp, frame_s) = times
    return _signed(sound_ntp - frame_ntp) / NTP_S + sound_s - frame_s


def _timestamp(kept: bytes) -> int:
    return int.from_bytes(kept[4:8], "big")


def _stamp(kept: bytes) -> int:
    return int.from_bytes(kept[17:20], "big")


def _signed(ntp: int) -> int:
    return ((ntp + (1 << 63)) & 0xFFFFFFFFFFFFFFFF) - (1 << 63)
