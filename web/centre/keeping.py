"""Reports of stays, kept in one transaction for all that wait: a country joins within a minute.

A transaction of its own for each report costs a write to the disk each, 3 to 10 ms. What comes
while one is under way waits for it, and is kept in the next, together. Each request is answered
when its own reports are on the disk, and only then. There is no more waiting than there are
requests that wait for an answer.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from schedule.errors import ScheduleError
from schedule.reports import Taken
from schedule.store import Store
from web.centre.reported import MOST_REPORTS, Stay, keep_stays

# What one transaction keeps at most, so that others come to write too.
TOGETHER: Final = MOST_REPORTS


@dataclass(slots=True)
class _Batch:
    """What one request reports. sources: their names; done: its answer."""

    told: Sequence[Stay]
    sources: frozenset[str]
    done: asyncio.Future[Taken] = field(repr=False)


class Keeper:
    """Keeps what is reported."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: deque[_Batch] = deque()
        self._writer: asyncio.Task[None] | None = None

    async def keep(self, told: Sequence[Stay]) -> Taken:
        """Keep a batch of reports; what became of it, once it is on the disk.

        Raises what `schedule.reports.report_stays` raises, and what the database does.
        """
        done: asyncio.Future[Taken] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Batch(told, frozenset(one.source for one in told), done))
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write(), name="stays-keeper")
        return await done

    async def close(self) -> None:
        """Keep what waits, then no more."""
        if self._writer is not None:
            await self._writer

    async def _write(self) -> None:
        while self._waiting:
            some = self._next()
            if not await self._kept(some) and len(some) > 1:
                # One of them cannot be kept: it must not take the others along.
                for one in some:
                    await self._kept([one])

    def _next(self) -> list[_Batch]:
        """The batches that go together: not too many, and no name in two of them."""
        some = [self._waiting.popleft()]
        sources = set(some[0].sources)
        while self._waiting:
            one = self._waiting[0]
            if len(sources) + len(one.sources) > TOGETHER or sources & one.sources:
                break
            sources |= one.sources
            some.append(self._waiting.popleft())
        return some

    async def _kept(self, some: Sequence[_Batch]) -> bool:
        """Keep these in one transaction and answer; False when they are to be kept one by one."""
        try:
            async with self._store.writing() as connection:
                taken = await keep_stays(connection, [stay for one in some for stay in one.told])
        except Exception as error:
            if len(some) > 1 and isinstance(error, ScheduleError):
                return False
            for one in some:
                _answer(one, error=error)
            return True
        except BaseException:
            for one in some:
                one.done.cancel()
            raise
        for one in some:
            theirs = tuple(source for source in taken.unknown if source in one.sources)
            _answer(one, Taken(len(one.sources) - len(theirs), theirs))
        return True


def _answer(one: _Batch, taken: Taken | None = None, error: Exception | None = None) -> None:
    # Whoever asked may be gone.
    with contextlib.suppress(asyncio.InvalidStateError):
        if taken is not None:
            one.done.set_result(taken)
        elif error is not None:
            one.done.set_exception(error)
