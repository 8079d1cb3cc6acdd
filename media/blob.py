"""What is fetched and kept as a whole: some bytes by their digest, and where a node serves them.

Nearly everything of a course is named by a digest further up: the signed course names its
manifests, poster and subtitles, a manifest names the pieces of its rendition. So from one good
signature all the rest can be checked, from wherever it comes: a node above, a box next door, a
USB stick.
"""

from __future__ import annotations

from dataclasses import dataclass

from .course import Attachment, Course, Rendition
from .manifest import MAX_SEGMENT_BYTES, Manifest
from .signed import MAX_DOCUMENT_BYTES


@dataclass(frozen=True, slots=True)
class Blob:
    """Bytes that are fetched, checked, kept and let go as a whole.

    sha256: 64 hex digits. size_bytes: 0 where only the digest is known.
    path: at every node of the tree, such as `/courses/<id>/<rendition>.mp4`.
    offset_bytes: where it begins in that file; None: it is the whole file.
    """

    sha256: str
    size_bytes: int
    path: str
    offset_bytes: int | None = None

    @property
    def limit_bytes(self) -> int:
        """More than this is not read."""
        return self.size_bytes or max(MAX_DOCUMENT_BYTES, MAX_SEGMENT_BYTES)


def course_path(course: str) -> str:
    """Where a node serves the signed entry of a course."""
    return f"/courses/{course}/course.jws"


def manifest_blob(course: str, rendition: Rendition) -> Blob:
    """The signed manifest of a rendition."""
    return Blob(rendition.manifest_sha256, 0, f"/courses/{course}/{rendition.name}.manifest")


def attachment_blob(course: str, attachment: Attachment) -> Blob:
    """A poster or subtitles."""
    path = f"/courses/{course}/{attachment.file}"
    return Blob(attachment.sha256, attachment.size_bytes, path)


def small_blobs(course: Course) -> tuple[Blob, ...]:
    """Poster and subtitles of a course."""
    attachments = [*([course.poster] if course.poster else []), *course.subtitles]
    return tuple(attachment_blob(course.id, one) for one in attachments)


def rendition_blobs(manifest: Manifest) -> tuple[Blob, ...]:
    """All pieces of a rendition, in the order of its file."""
    path = f"/courses/{manifest.course}/{manifest.rendition}.mp4"
    return tuple(
        Blob(piece.sha256, piece.size_bytes, path, piece.offset_bytes)
        for piece in manifest.pieces()
    )
