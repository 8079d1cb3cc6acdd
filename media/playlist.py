"""HLS playlists of a course (RFC 8216): the same files, told by their byte ranges (pure).

No segment is a file of its own: a media playlist names ranges of the rendition's one file, so what
a cache holds for a browser serves an HLS player too.
"""

from __future__ import annotations

import math

from .course import Course
from .manifest import Manifest


def master(course: Course) -> str:
    """The playlist of all renditions, the best one first."""
    lines = ["#EXTM3U", "#EXT-X-VERSION:7", "#EXT-X-INDEPENDENT-SEGMENTS"]
    for one in course.renditions:
        about = [
            f"BANDWIDTH={max(one.peak_bitrate_bps, one.bitrate_bps, 1)}",
            f"AVERAGE-BANDWIDTH={max(one.bitrate_bps, 1)}",
            f'CODECS="{one.codecs}"',
        ]
        if one.width and one.height:
            about.append(f"RESOLUTION={one.width}x{one.height}")
        lines += [f"#EXT-X-STREAM-INF:{','.join(about)}", f"{one.name}.m3u8"]
    return "\n".join(lines) + "\n"


def media(manifest: Manifest) -> str:
    """The playlist of one rendition."""
    longest_s = max(segment.duration_s for segment in manifest.segments)
    name = f"{manifest.rendition}.mp4"
    lines = [
        "#EXTM3U",
        "#EXT-X-VERSION:7",
        f"#EXT-X-TARGETDURATION:{max(1, math.ceil(longest_s))}",
        "#EXT-X-MEDIA-SEQUENCE:0",
        "#EXT-X-PLAYLIST-TYPE:VOD",
        "#EXT-X-INDEPENDENT-SEGMENTS",
        f'#EXT-X-MAP:URI="{name}",BYTERANGE="{manifest.map_size_bytes}@0"',
    ]
    for segment in manifest.segments:
        lines += [
            f"#EXTINF:{segment.duration_s:.6f},",
            f"#EXT-X-BYTERANGE:{segment.size_bytes}@{segment.offset_bytes}",
            name,
        ]
    return "\n".join([*lines, "#EXT-X-ENDLIST"]) + "\n"
