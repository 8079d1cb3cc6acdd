"""Who gets the same packets: viewers whose streams differ in nothing but the cipher.

A group is served as one (`fanout`): a batch is shaped once for all its members. Who changes layers,
or gets redundant sound, goes to another group.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from relay import packet as rtp
from relay import red
from relay.fanout import Group, Shift
from relay.packet import Shape
from relay.track import Track
from relay.viewer import Viewer


class GroupKey(NamedTuple):
    """What the members of a group have in common.

    `layers` are the SSRCs of the video tracks that they get, `ssrc` the one that these go out
    under (0: their own). `red` is the payload type of redundant audio, -1 for plain. `nodes`: they
    are nodes, who do not wait among viewers.
    """

    audio: Shape | None
    video: Shape | None
    layers: tuple[int, ...]
    ssrc: int
    overhead: int
    shifted: bool
    red: int
    nodes: bool


class Batch(NamedTuple):
    """Packets as a group gets them; `shifted` says which are counted on per member, [] for none.

    `vp8`: those that are have VP8 picture ids.
    """

    group: Group
    packets: list[bytes]
    shifted: list[bool]
    vp8: bool


class Groups:
    """The groups of one stream.

    `tracks` and `by_ssrc` are the stream's own, by kind and by SSRC, and change with it.
    """

    def __init__(self, tracks: dict[str, Track], by_ssrc: dict[int, Track]) -> None:
        self._tracks = tracks
        self._by_ssrc = by_ssrc
        self._groups: dict[GroupKey, Group] = {}

    def __len__(self) -> int:
        return len(self._groups)

    def join(self, viewer: Viewer) -> None:
        """Put a connected viewer into the group that fits it now."""
        target = viewer.peer.target
        if target is None:
            return
        self.leave(viewer)
        layers = tuple(t.ssrc for t in viewer.flow if t.kind == "video")
        splice = viewer.lane.current if layers else None
        shifted = splice is not None and not splice.plain
        main = self._tracks.get("video")
        ssrc = main.ssrc if main is not None and layers and not viewer.is_relay else 0
        if layers == (ssrc,) and not shifted:
            ssrc = 0
        key = GroupKey(
            viewer.shapes.get("audio"),
            viewer.shapes.get("video") if layers else None,
            layers,
            ssrc,
            target.overhead,
            shifted,
            viewer.red,
            viewer.is_relay,
        )
        group = self._groups.setdefault(key, Group(target.overhead))
        if splice is not None and shifted:
            group.floor = max(group.floor, splice.start)
            group.add(target, Shift(splice.shift, splice.timestamp, splice.picture, splice.tl0))
        else:
            group.add(target)
        viewer.group = group

    def leave(self, viewer: Viewer) -> None:
        """Take a viewer out of its group: from here on its own positions tell what it had."""
        group, target = viewer.group, viewer.peer.target
        if group is None or target is None:
            return
        group.remove(target)
        viewer.group = None
        for track in viewer.flow:
            viewer.position[track] = track.flushed
        if not group.targets:
            self._groups = {k: g for k, g in self._groups.items() if g is not group}

    def batches(self, arrived: list[tuple[Track, bytes]]) -> Iterator[Batch]:
        """What has arrived as each group gets it, in the order in which they are to be served.

        Small groups first: what waits behind them waits shortest, and the nodes below, whom many
        wait for, are few.
        """
        for key, group in sorted(self._groups.items(), key=lambda item: len(item[1].targets)):
            packets, shifted = self._shaped(key, group, arrived)
            if packets and group.targets:
                vp8 = bool(shifted) and self._by_ssrc[key.layers[0]].vp8
                yield Batch(group, packets, shifted, vp8)

    def _shaped(
        self, key: GroupKey, group: Group, arrived: list[tuple[Track, bytes]]
    ) -> tuple[list[bytes], list[bool]]:
        shapes: dict[Track, Shape] = {}
        audio = self._tracks.get("audio")
        if audio is not None and key.audio is not None:
            shapes[audio] = key.audio
        if key.video is not None:
            for ssrc in key.layers:
                shapes[self._by_ssrc[ssrc]] = key.video
        if not key.ssrc and key.red < 0:
            return [
                rtp.reshape(kept, shape)
                for track, kept in arrived
                if (shape := shapes.get(track)) is not None
            ], []
        packets: list[bytes] = []
        shifted: list[bool] = []
        for track, kept in arrived:
            shape = shapes.get(track)
            if shape is None:
                continue
            video = track.kind == "video"
            if video and key.shifted and _position(track, kept) < group.floor:
                # Late from before a member's change of layers: its number belongs to another
                # packet. Whoever misses it asks.
                continue
            shaped = rtp.reshape(kept, shape)
            if video:
                shaped = rtp.under(shaped, key.ssrc) if key.ssrc else shaped
            elif key.red >= 0:
                shaped = red.wrap(shaped, kept, track, key.red)
            packets.append(shaped)
            shifted.append(video)
        return packets, shifted if key.shifted else []


def _position(track: Track, kept: bytes) -> int:
    return track.position_of(kept[2] << 8 | kept[3])
