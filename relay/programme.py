"""A stream whose packets come from other streams of this node: the programme of a meeting.

It is switched between sources without a seam for who watches: one line of numbers, one SSRC per
kind, one relation to NTP time. A source is *cued* first: its keyframe is asked for, and until all
of that is here, what was on the air stays. Then comes the *cut*: sound and picture change together.

The packets are those of the sources' rings, under other numbers: nothing is decoded or made anew. A
picture goes in as one layer, the largest that flows. A source that falls silent takes nothing with
it: the programme stands, and can be switched to another.

Runs on the forwarding thread, but for the constructor and the figures.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from relay import packet as rtp
from relay import seam
from relay.packet import Ingest, ts_delta
from relay.stream import Stream
from relay.track import LIVE_S, SenderClock, Track

# A keyframe that came shortly before the switch serves it; one that is older against the sound than
# a thin line's delay would show what is past.
RECENT_S = 0.1
MAX_LAG_S = 0.4
# Not every request arrives.
ASK_AGAIN_S = 0.3
# An encoder that heeds no request: after so long an older keyframe serves, and what follows it is
# played quickly; or, if there is no picture at all, the sound alone.
PATIENCE_S = 1.4
# Another layer must have been the largest for so long; it is at once if the present one has ended.
BETTER_S = 0.7
SILENT_S = 0.5
# What was lost before a cut is still let in after it for so long.
LATE_S = 1.0
# The picture stands behind the programme's line after a cut: its frames follow each other at this
# distance until it has caught up. A millisecond, for files count in these.
CATCH_UP_STEP = 90
# 20 ms of silence (RFC 6716: full-band CELT, one frame). Muted sound is replaced, packet by packet,
# so that players need not guess what to do with a gap.
SILENCE = bytes.fromhex("f8 ff fe")
NO_VOICE = 127


@dataclass(frozen=True, slots=True, eq=False)
class Cue:
    """A wish to have another source. `done` is told, on this thread, when the
    cut is made: in Unix seconds.

    `since_s` is when it began, of the monotonic clock.
    """

    name: str
    stream: Stream
    muted: bool
    since_s: float
    done: Callable[[float], object]


@dataclass(slots=True, eq=False)
class _Line:
    """One track of a source on its way into a track of the programme.

    `timestamp` is what is added to timestamps; what lies before `first`, in the source's own, is
    not taken. Once it has `begun`, `start` is the position at the source that was taken first, and
    `shift` is what is added to positions. `end` is set when something else goes on: the first
    position that was not taken. Until `until_s` what was lost of the beginning, or before the end,
    may still come.
    """

    stream: Stream
    track: Track
    out: Track
    timestamp: int
    first: int = 0
    number: int = 0
    begun: bool = False
    start: int = 0
    shift: int = 0
    picture: int = 0
    tl0: int = 0
    end: int = 0
    until_s: float = 0.0
    # The picture is behind the programme's line: `last` is where its newest frame was put, `put`
    # where all those were that had to be put elsewhere, by the source's timestamps.
    behind: bool = False
    last: int = 0
    put: dict[int, int] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class _OnAir:
    """The source that is seen and heard.

    `following` is a picture that waits for its keyframe: of another layer, or one that came late.
    `ntp` is what is added to the source's NTP times, None while its reports are not known.
    """

    name: str
    stream: Stream
    ntp: int | None
    believed: bool
    sound: _Line | None = None
    picture: _Line | None = None
    following: _Line | None = None
    following_s: float = 0.0
    better_s: float = 0.0
    rebases: tuple[int, ...] = ()
    clocks: dict[Track, SenderClock] = field(default_factory=dict)

    @property
    def lines(self) -> list[_Line]:
        """What flows into the programme."""
        return [line for line in (self.sound, self.picture) if line is not None]


class Programme:
    """Feeds `stream`, as its upstream, from the sources that it is switched between.

    `source` is the name of what is on the air, "" before the first cut; `last_media_s` is when its
    last packet came, `cuts` how often it was switched.
    """

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.source = ""
        self.muted = False
        self.cuts = 0
        self.last_media_s = 0.0
        self._audio = stream.tracks["audio"]
        self._video = stream.tracks["video"]
        self._on_air: _OnAir | None = None
        self._cue: Cue | None = None
        self._asked_s = 0.0
        self._lines: dict[Track, _Line] = {}
        self._ended: list[_Line] = []
        self._tapped: set[Stream] = set()
        self._number = 0
        # The picture's running numbers (VP8): a source without them does not end the count.
        self._ids: tuple[int, int] | None = None

    # ------------------------------------------------------------ from the asyncio side

    def cue(self, cue: Cue, now: float | None = None) -> None:
        """Switch to a source as soon as its picture can begin; a cue before this one is dropped."""
        self._cue = cue
        self._asked_s = 0.0
        self._tap()
        self._try(time.monotonic() if now is None else now)

    def uncue(self, cue: Cue) -> None:
        """Leave on the air what is there."""
        if self._cue is cue:
            self._cue = None
            self._tap()

    def mute(self, muted: bool) -> None:
        """Put silence in place of the source's sound, from the next packet on; or no longer."""
        self.muted = muted

    def plays(self, stream: Stream) -> bool:
        """Whether the source on the air is this very stream, not another of the same name."""
        on_air = self._on_air
        return on_air is not None and on_air.stream is stream

    # ------------------------------------------------------------ a source's packets

    def take(self, stream: Stream, batch: list[tuple[Track, bytes]], now: float) -> None:
        """Take what a source has brought."""
        if self._cue is not None and self._cue.stream is stream:
            self._try(now)
        on_air = self._on_air
        if on_air is not None and on_air.following is not None and on_air.stream is stream:
            self._try_layer(on_air, on_air.following, now)
        for track, kept in batch:
            line = self._lines.get(track)
            if line is not None:
                self._pass(line, kept, now)
        if self._ended:
            self._fill(batch, now)

    def _pass(self, line: _Line, kept: bytes, now: float) -> None:
        """One packet of what is on the air."""
        parsed = rtp.read(kept)
        if not line.begun:
            if ts_delta(parsed.timestamp, line.first) < 0:
                return
            self._begin(line, line.track.position_of(parsed.seq), now)
        if line.out is self._video:
            kept, parsed = _laid(line, kept, parsed)
        elif self.muted:
            kept, parsed = _silenced(kept, parsed)
        inserted = line.out.insert(kept, parsed, line.number, rtp.abs_send_time(now), now)
        if inserted is not None:
            self.last_media_s = now
            self.stream.push(line.out, inserted)

    def _begin(self, line: _Line, start: int, now: float) -> None:
        """Let a line go on, from a position at its source, one number after what came before."""
        out = line.out
        self._number += 1
        line.number, line.begun, line.start = self._number, True, start
        newest = out.get(out.highest) if out.highest >= 0 else None
        out.numbering.splice(line.number, start & 0xFFFF, line.timestamp)
        # A track's first position is one wrap up, see `Track.insert`.
        first = 0x10000 + (start & 0xFFFF) if newest is None else out.highest + 1
        line.shift, line.until_s = first - start, now + LATE_S
        if out is self._video and newest is not None:
            line.behind, line.last = True, int.from_bytes(newest[4:8], "big")
            self._count_on(line, newest)

    def _count_on(self, line: _Line, newest: bytes) -> None:
        """Let VP8's picture ids go on after those of the programme's newest packet."""
        if not line.out.vp8:
            return
        before = rtp.vp8_ids(newest, rtp.payload_offset(newest))
        if before is not None:
            tl0 = before.tl0 if before.tl0_at or self._ids is None else self._ids[1]
            self._ids = (before.picture, tl0)
        kept = line.track.get(line.start)
        ids = rtp.vp8_ids(kept, rtp.payload_offset(kept)) if kept is not None else None
        if ids is not None and self._ids is not None:
            line.picture = self._ids[0] + 1 - ids.picture & 0x7FFF
            line.tl0 = self._ids[1] + 1 - ids.tl0 & 0xFF

    def _fill(self, batch: list[tuple[Track, bytes]], now: float) -> None:
        """Let in what was lost of the picture before a cut, and has come again.

        A hole would hold up players that take frames in their order.
        """
        for line in list(self._ended):
            if now > line.until_s:
                continue
            for track, kept in batch:
                if track is not line.track:
                    continue
                parsed = rtp.read(kept)
                position = track.position_of(parsed.seq)
                if not line.start <= position < line.end:
                    continue
                kept, parsed = _laid(line, kept, parsed)
                timestamp = parsed.timestamp + line.timestamp & 0xFFFFFFFF
                at, stamp = position + line.shift, rtp.abs_send_time(now)
                kept = rtp.canonical(kept, parsed, at & 0xFFFF, timestamp, line.out.ssrc, stamp)
                if line.out.fill(at, kept, now):
                    self.stream.push(line.out, kept)

    # ------------------------------------------------------------ the cut

    def _try(self, now: float) -> None:
        """Make the cut to the source that is cued, if it can be made now."""
        cue = self._cue
        if cue is None:
            return
        waited_s = now - cue.since_s
        audio, video = cue.stream.tracks.get("audio"), _best(cue.stream, now)
        sound = audio if audio is not None and audio.flows(now) else None
        if audio is not None and audio.highest < 0 and waited_s < PATIENCE_S:
            # It comes with its first packets, or a moment later.
            self._ask(cue.stream, video, now)
            return
        start = -1
        if video is not None:
            start = _fresh_keyframe(video, sound, cue.since_s)
            if start < 0:
                self._ask(cue.stream, video, now)
        if start < 0 and "video" in cue.stream.tracks:
            if waited_s < PATIENCE_S:
                return
            if video is not None and video.start_position(now) >= 0:
                start = video.whole_keyframe()
            if start < 0 and (sound is None or (video is not None and video.flows(now))):
                return
        if start >= 0 or sound is not None:
            self._cut(cue, sound, video, start, now)

    def _ask(self, stream: Stream, video: Track | None, now: float) -> None:
        if video is not None and now - self._asked_s >= ASK_AGAIN_S:
            self._asked_s = now
            stream.request_keyframe(now, video, urgent=True)

    def _cut(
        self, cue: Cue, sound: Track | None, video: Track | None, start: int, now: float
    ) -> None:
        """Let a source be seen, from its keyframe at `start` (-1: not yet), and heard."""
        picture = video if start >= 0 else None
        laid = seam.lay(self._audio, self._video, sound, picture, now)
        if self._on_air is not None:
            for line in self._on_air.lines:
                self._end(line, now)
        if self.stream.upstream is not self:
            if self.stream.upstream is not None:
                self.stream.upstream.retire()
            self.stream.fed_by(self)
        on_air = _OnAir(cue.name, cue.stream, laid.ntp, laid.believed, better_s=now)
        self._on_air, self._cue = on_air, None
        self.source, self.muted, self.cuts = cue.name, cue.muted, self.cuts + 1
        if sound is not None:
            on_air.sound = _Line(cue.stream, sound, self._audio, laid.audio, first=laid.sound_from)
        if picture is not None:
            on_air.picture = _Line(cue.stream, picture, self._video, laid.video)
        elif video is not None:
            self._follow(on_air, video, now)
        on_air.rebases = _rebases(on_air)
        self._lines = {line.track: line for line in on_air.lines}
        if on_air.sound is not None:
            back = max(on_air.sound.track.oldest, on_air.sound.track.highest - seam.BACK)
            self._read(on_air.sound, back, now)
        if on_air.picture is not None:
            self._begin(on_air.picture, start, now)
            self._read(on_air.picture, start, now)
        self._tap()
        cue.done(time.time())

    def _read(self, line: _Line, start: int, now: float) -> None:
        """Take what a source's ring has from a position on."""
        for position in range(start, line.track.highest + 1):
            kept = line.track.get(position)
            if kept is not None:
                self._pass(line, kept, now)

    def _end(self, line: _Line, now: float) -> None:
        """Let a line end here; what comes of it from now on is not taken."""
        if self._lines.get(line.track) is line:
            del self._lines[line.track]
        if line.begun and line.out is self._video:
            line.end = line.out.highest + 1 - line.shift
            line.until_s = now + LATE_S
            self._ended.append(line)

    # ------------------------------------------------------------ layers

    def _follow(self, on_air: _OnAir, track: Track, now: float) -> None:
        """Have a picture go on, or begin, with another layer from its next keyframe on."""
        on_air.following = _Line(on_air.stream, track, self._video, 0)
        on_air.following_s = now
        on_air.stream.request_keyframe(now, track)

    def _try_layer(self, on_air: _OnAir, line: _Line, now: float) -> None:
        """Go over to another layer if its keyframe is here."""
        sound = on_air.sound.track if on_air.sound is not None else None
        start = _fresh_keyframe(line.track, sound, on_air.following_s)
        if start < 0:
            return
        placed = None
        if on_air.ntp is not None:
            placed = seam.placed_by_ntp(self._video, line.track, on_air.ntp)
        line.timestamp = seam.by_arrival(self._video, line.track) if placed is None else placed
        if on_air.picture is not None:
            self._end(on_air.picture, now)
        on_air.picture, on_air.following = line, None
        on_air.rebases = _rebases(on_air)
        self._lines[line.track] = line
        self._begin(line, start, now)
        self._read(line, start, now)

    def _choose_layer(self, on_air: _OnAir, now: float) -> None:
        """Take the largest layer that flows."""
        best = _best(on_air.stream, now)
        present = on_air.picture.track if on_air.picture is not None else None
        if best is None or best is present:
            on_air.better_s, on_air.following = now, None
            return
        gone = present is None or now - present.last_arrival_s > SILENT_S
        if not gone and now - on_air.better_s < BETTER_S:
            return
        if on_air.following is None or on_air.following.track is not best:
            self._follow(on_air, best, now)
        elif now - on_air.following_s > ASK_AGAIN_S:
            on_air.stream.request_keyframe(now, best)

    def _late_sound(self, on_air: _OnAir, now: float) -> None:
        """Let a source be heard whose sound was not there at the cut."""
        audio = on_air.stream.tracks.get("audio")
        if audio is None or not audio.flows(now):
            return
        picture = on_air.picture.track if on_air.picture is not None else None
        laid = seam.lay(self._audio, self._video, audio, picture, now)
        line = _Line(on_air.stream, audio, self._audio, laid.audio, first=laid.sound_from)
        if on_air.ntp is not None:
            placed = seam.placed_by_ntp(self._audio, audio, on_air.ntp)
            if placed is not None:
                line.timestamp = placed
                line.first = seam.not_before(self._audio, placed, laid.sound_from)
        on_air.sound = self._lines[audio] = line
        on_air.rebases = _rebases(on_air)

    # ------------------------------------------------------------ upstream of the programme

    def ask_keyframe(self, track: Track, now: float, urgent: bool = False) -> None:
        """Pass a viewer's request on to the source."""
        on_air = self._on_air
        if on_air is not None and on_air.picture is not None:
            on_air.stream.request_keyframe(now, on_air.picture.track, urgent=urgent)

    def need(self, layers: frozenset[Track]) -> None:
        """There is one layer, and it is always needed."""

    def retire(self) -> None:
        """Take no more packets: another one feeds the stream from now on."""
        self._on_air = self._cue = None
        self._lines.clear()
        self._ended.clear()
        self.source = ""
        self._tap()

    def tick(self, now: float) -> bool:
        """See what has become of the cue, the source's clock and its layers."""
        self._try(now)
        on_air = self._on_air
        if on_air is not None:
            if on_air.sound is None:
                self._late_sound(on_air, now)
            self._choose_layer(on_air, now)
            self._follow_clock(on_air)
            picture = on_air.picture
            if picture is not None and not picture.behind and now > picture.until_s:
                picture.put.clear()
        if self._ended and now > self._ended[0].until_s:
            self._ended = [line for line in self._ended if now <= line.until_s]
            self._tap()
        return False

    def _follow_clock(self, on_air: _OnAir) -> None:
        """Carry the source's sender reports over to the programme's line."""
        lines = [line for line in on_air.lines if line.begun]
        if not lines:
            return
        if _rebases(on_air) != on_air.rebases:
            # Another publisher of the same source: another clock.
            on_air.rebases, on_air.ntp, on_air.believed = _rebases(on_air), None, True
        if on_air.ntp is None:
            if not on_air.believed or any(line.track.clock is None for line in lines):
                return
            known = (seam.ntp_shift(n.out, n.track, n.timestamp) for n in lines)
            on_air.ntp = next((ntp for ntp in known if ntp is not None), 0)
            self.stream.clock_changed()
        for line in lines:
            clock = line.track.clock
            if clock is not None and on_air.clocks.get(line.track) is not clock:
                on_air.clocks[line.track] = clock
                timestamp = line.out.numbering.timestamp(clock.timestamp)
                line.out.clock = seam.moved(clock, on_air.ntp, timestamp)

    # ------------------------------------------------------------ taps

    def needs(self, stream: Stream) -> frozenset[Track]:
        """The layers of a source that it takes, or means to take."""
        found = {n.track for n in self._lines.values() if n.stream is stream}
        best = _best(stream, time.monotonic())
        return frozenset({t for t in found if t.kind == "video"} | ({best} if best else set()))

    def _tap(self) -> None:
        """Be told of the packets of the streams that matter, and of no others."""
        wanted = {line.stream for line in self._ended}
        wanted |= {one.stream for one in (self._on_air, self._cue) if one is not None}
        for stream in self._tapped - wanted:
            stream.taps.remove(self)
        for stream in wanted - self._tapped:
            stream.taps.append(self)
        self._tapped = wanted


def _best(stream: Stream, now: float) -> Track | None:
    """The largest layer of a source that flows, or did; None if it never had a picture."""
    there = [t for t in stream.layers if t.highest >= 0 and not t.on_demand]
    for within_s in (SILENT_S, LIVE_S):
        flowing = [t for t in there if now - t.last_arrival_s < within_s]
        if flowing:
            return flowing[-1]
    return there[-1] if there else None


def _fresh_keyframe(video: Track, sound: Track | None, since_s: float) -> int:
    """Where a picture can begin, whole and not stale; -1 if it cannot yet."""
    if video.keyframe_position < 0 or video.keyframe_at_s < since_s - RECENT_S:
        return -1
    start = video.whole_keyframe()
    lag_s = seam.lag_s(sound, video, start) if sound is not None and start >= 0 else None
    # A chain that has just been opened brings its last keyframe first, however old.
    return -1 if lag_s is not None and lag_s > MAX_LAG_S else start


def _rebases(on_air: _OnAir) -> tuple[int, ...]:
    return tuple(line.track.numbering.rebases for line in on_air.lines)


def _laid(line: _Line, kept: bytes, parsed: Ingest) -> tuple[bytes, Ingest]:
    """A packet of the picture where it stands in the programme, but for the constant shifts."""
    if line.behind or line.put:
        parsed = _caught_up(line, parsed)
    if line.picture or line.tl0:
        ids = rtp.vp8_ids(kept, parsed.payload_start)
        if ids is not None:
            out = bytearray(kept)
            rtp.shift_vp8(out, ids, line.picture, line.tl0)
            kept = bytes(out)
    return kept, parsed


def _caught_up(line: _Line, parsed: Ingest) -> Ingest:
    """Time never runs back: a frame that would is put right after the one before it."""
    put = line.put.get(parsed.timestamp)
    if put is None:
        if not line.behind:
            return parsed
        here = parsed.timestamp + line.timestamp & 0xFFFFFFFF
        if ts_delta(here, line.last) > 0:
            line.behind = False
            return parsed
        put = line.put[parsed.timestamp] = line.last + CATCH_UP_STEP & 0xFFFFFFFF
        line.last = put
    return parsed._replace(timestamp=put - line.timestamp & 0xFFFFFFFF)


def _silenced(kept: bytes, parsed: Ingest) -> tuple[bytes, Ingest]:
    """A packet of sound with nothing to hear in it."""
    start = parsed.payload_start
    level = NO_VOICE if parsed.audio_level >= 0 else -1
    return kept[:start] + SILENCE, parsed._replace(
        payload_end=start + len(SILENCE), audio_level=level
    )
