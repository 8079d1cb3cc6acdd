"""Where the library keeps its files: a folder, or an S3-compatible store, by the same code.

The setting `objects` is a folder (`/var/lib/terrace/objects`, `file:///...`) or
`s3://bucket/prefix`, whose endpoint and keys come from the usual variables (`AWS_ENDPOINT_URL`,
`AWS_REGION`, `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`).

A key names an object: parts of `[a-z0-9.-]`, joined by `/`. An object is there whole or not at
all, whatever happens while it is written; in a folder it has reached the disk when `put` returns.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncGenerator, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, S3Store

from .errors import MediaError, SettingError
from .opening import opened

if TYPE_CHECKING:
    from obstore.store import ObjectStore

_KEY: Final = re.compile(r"[a-z0-9][a-z0-9.-]*(/[a-z0-9][a-z0-9.-]*)*")
_CHUNK_BYTES: Final = 256 * 1024
_PART_BYTES: Final = 8 * 1024 * 1024
_PART_OF: Final = "part."


class StoreError(MediaError):
    """The store cannot do what was asked of it now; the message says why and what to do."""


class NoSuchObject(StoreError):
    """There is no object under this key."""


@dataclass(frozen=True, slots=True)
class Found:
    """An object: its key, its size, a tag that changes when its contents do, and when they did.

    written_s: Unix seconds by the store's clock.
    """

    key: str
    size_bytes: int
    tag: str
    written_s: float


class Objects:
    """One store. Its methods may be used by several tasks at once."""

    def __init__(self, store: ObjectStore, folder: Path | None, said: str) -> None:
        self._store = store
        self._folder = folder
        self.said = said
        """How the store is called in messages: without keys or passwords."""

    def path_of(self, key: str) -> Path | None:
        """The file of an object that is in a folder of this machine, there or not; else None."""
        return self._folder / _checked(key) if self._folder is not None else None

    async def put(self, key: str, data: bytes | Path) -> None:
        """Write an object, in the place of an older one if there is one."""
        try:
            if self._folder is None:
                await obstore.put_async(self._store, _checked(key), data, chunk_size=_PART_BYTES)
            else:
                await self._put_in_folder(self._folder, _checked(key), data)
        except (BaseError, OSError) as error:
            raise self._failure(f"{key} cannot be written", error) from error

    async def _put_in_folder(self, folder: Path, key: str, data: bytes | Path) -> None:
        """Write aside, to the disk, then in place. (The store itself leaves out the second.)"""
        head, _, name = key.rpartition("/")
        part = f"{head}/{_PART_OF}{name}" if head else _PART_OF + name
        try:
            await obstore.put_async(self._store, part, data, use_multipart=False)
            await asyncio.to_thread(_to_disk, folder / part)
            await obstore.rename_async(self._store, part, key)
            await asyncio.to_thread(_to_disk, (folder / key).parent)
        except BaseException:
            await asyncio.shield(asyncio.to_thread((folder / part).unlink, missing_ok=True))
            raise

    async def read(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        """Bytes `start` up to, not including, `end` of an object; all of it if `end` is None.

        Raises NoSuchObject, and StoreError for a range outside the object.
        """
        return b"".join([part async for part in self.stream(key, start, end)])

    async def stream(
        self, key: str, start: int = 0, end: int | None = None
    ) -> AsyncGenerator[bytes | memoryview]:
        """As `read`, in parts of some 256 kB."""
        try:
            if self._folder is not None:
                path = self._folder / _checked(key)
                file = await opened(lambda: path.open("rb", 0))
                try:
                    left = await asyncio.to_thread(_seek, file.fileno(), start, end)
                    while left > 0:
                        data = await asyncio.to_thread(file.read, min(left, _CHUNK_BYTES))
                        if not data:
                            raise StoreError(f"{key} became shorter while it was read; ask again")
                        left -= len(data)
                        yield data
                finally:
                    file.close()
            elif end is None and not start:
                whole = await obstore.get_async(self._store, _checked(key))
                async for part in whole.stream(min_chunk_size=_CHUNK_BYTES):
                    yield memoryview(part)
            else:
                size = (await self.head(key)).size_bytes if end is None else end
                options: obstore.GetOptions = {"range": (start, size)}
                ranged = await obstore.get_async(self._store, _checked(key), options=options)
                async for part in ranged.stream(min_chunk_size=_CHUNK_BYTES):
                    yield memoryview(part)
        except FileNotFoundError as error:
            raise NoSuchObject(f"{self.said} has no {key}") from error
        except (BaseError, OSError) as error:
            raise self._failure(f"{key} cannot be read", error) from error

    async def head(self, key: str) -> Found:
        """The size and tag of an object. Raises NoSuchObject."""
        try:
            meta = await obstore.head_async(self._store, _checked(key))
        except FileNotFoundError as error:
            raise NoSuchObject(f"{self.said} has no {key}") from error
        except (BaseError, OSError) as error:
            raise self._failure(f"{key} cannot be read", error) from error
        return _found(meta)

    async def list(self, prefix: str, *, unfinished: bool = False) -> list[Found]:
        """The objects below `prefix`, a key without the last `/`, in no order.

        unfinished: also what a crash has left of objects that were being written.
        """
        found: list[Found] = []
        try:
            async for batch in obstore.list(self._store, _checked(prefix)):
                found += [_found(meta) for meta in batch]
        except FileNotFoundError:
            return []
        except (BaseError, OSError) as error:
            raise self._failure("it cannot be listed", error) from error
        if unfinished:
            return found
        return [one for one in found if not one.key.rpartition("/")[2].startswith(_PART_OF)]

    async def delete(self, keys: Iterable[str]) -> None:
        """Remove objects; those that are not there are passed over."""
        for key in keys:
            try:
                await obstore.delete_async(self._store, _checked(key))
            except FileNotFoundError:
                continue
            except (BaseError, OSError) as error:
                raise self._failure(f"{key} cannot be removed", error) from error

    def _failure(self, what: str, error: Exception) -> StoreError:
        """The error in one sentence: the library underneath answers in several lines."""
        reason = str(error)
        if "No space left" in reason or "os error 28" in reason:
            return StoreError(f"{what}: the disk of {self.said} is full; make room and try again")
        if isinstance(error, PermissionError) or "ermission denied" in reason:
            return StoreError(f"{what}: {self.said} does not let this program in")
        if isinstance(error, OSError) and error.strerror:
            return StoreError(f"{what} in {self.said}: {error.strerror}")
        first = reason.strip().splitlines()[0] if reason.strip() else type(error).__name__
        return StoreError(f"{what} in {self.said}: {first[:200]}")


def open_objects(setting: str, *, retries: int = 5) -> Objects:
    """The store that the setting `objects` names; a folder is made if it is not there.

    retries: how often a request to an S3 store is tried again.


    Raises SettingError with one sentence.
    """
    url = urlsplit(setting)
    if url.scheme == "s3":
        return _open_s3(url.netloc, url.path.strip("/"), retries)
    if url.scheme == "file":
        folder = Path(unquote(url.path))
    elif len(url.scheme) > 1:
        raise SettingError(
            f"objects is {url.scheme}://..., and a folder or s3://bucket/prefix is meant"
        )
    else:
        folder = Path(setting).expanduser()
    folder = folder.absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return Objects(LocalStore(folder), folder, str(folder))
    except (OSError, BaseError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error).splitlines()[0]
        raise SettingError(f"objects names {folder}, which cannot be used: {reason}") from error


def _open_s3(bucket: str, prefix: str, retries: int) -> Objects:
    if not bucket or "@" in bucket:
        raise SettingError("objects must be s3://bucket/prefix; keys come from AWS_* variables")
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL", "")
    try:
        store = S3Store(
            bucket,
            prefix=prefix or None,
            region=os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
            or "us-east-1",
            client_options={
                "allow_http": endpoint.startswith("http://"),
                "connect_timeout": "5 seconds",
                "timeout": "120 seconds",
            },
            retry_config={"max_retries": retries},
        )  # fmt: skip
    except BaseError as error:
        raise SettingError(f"objects cannot be used: {str(error).splitlines()[0]}") from error
    return Objects(store, None, f"s3://{bucket}")


def _checked(key: str) -> str:
    """The key itself: what is no key would be a path out of the store."""
    if not _KEY.fullmatch(key) or ".." in key:
        raise StoreError(f"{key[:80]!r} is no key of an object")
    return key


def _found(meta: obstore.ObjectMeta) -> Found:
    tag = meta["e_tag"] or f"{meta['last_modified'].timestamp()}-{meta['size']}"
    return Found(meta["path"], meta["size"], tag, meta["last_modified"].timestamp())


def _to_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _seek(handle: int, start: int, end: int | None) -> int:
    """Go to `start`; returns how many bytes there are up to `end`."""
    size = os.fstat(handle).st_size
    last = size if end is None else end
    if not 0 <= start <= last <= size:
        raise StoreError(f"bytes {start} to {last} lie outside a file of {size}")
    os.lseek(handle, start, os.SEEK_SET)
    return last - start
