"""The live side of the schedule's machine: what `schedule.sessions.Runner` has done at this node.

A class is the stream `class-{occurrence id}` of the root node, wherever in the tree its presenter
is. The machine never opens or closes the way of a packet: who presents is forwarded at once, before
the class as after it; what begins and ends by the timetable is the recording, the attendance, and
what pages and stations are told.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from datetime import datetime, timedelta
from typing import Final

from media.errors import MediaError
from media.library import NoSuchCourse
from relay.errors import Refused
from relay.node import Node
from schedule import reminders
from schedule.errors import NotFound
from schedule.life import Do, Facts, Session, State
from schedule.sessions import booking_of
from web.centre.centre import Centre
from web.centre.timetables import Timetables, stream_of
from web.library import LibraryRoom
from web.recordings import Recordings

log = logging.getLogger("web.centre.machinery")

# A recording that is not in the library by then is given up; it stays in its folder.
GIVE_UP_AFTER: Final = timedelta(days=1)
ANNOUNCE_WITHIN_S: Final = 20.0


class Live:
    """`schedule.sessions.Machinery` on a node with its recordings and its library."""

    def __init__(
        self,
        centre: Centre,
        node: Node,
        recordings: Recordings,
        room: LibraryRoom,
        timetables: Timetables,
    ) -> None:
        self._centre = centre
        self._node = node
        self._recordings = recordings
        self._room = room
        self._timetables = timetables
        self._heard: dict[int, datetime] = {}
        """When each class that is on the air was last seen with a presenter."""

    async def facts(self, session: Session) -> Facts:
        """Whether somebody presents now; keeps a class on the air recorded besides.

        Nobody can say how long a class has been silent that this process has not seen before: its
        silence begins now. Else a centre that starts again would end the class before its
        presenter has found it.
        """
        now = self._centre.clock()
        on_air = session.state is State.ON_AIR
        if on_air and Do.RECORD in session.done:
            self._record(session)
        channel = self._node.channels.get(stream_of(session.id))
        if channel is not None and channel.state == "live":
            if on_air:
                self._heard[session.id] = now
            return Facts(presenting=True)
        if not on_air:
            self._heard.pop(session.id, None)
            return Facts()
        since = self._heard.setdefault(session.id, now)
        source = channel.source if channel is not None else None
        if source is not None and source.last_media_s:
            # Closer than what was seen at the last look.
            gone = timedelta(seconds=max(0.0, time.monotonic() - source.last_media_s))
            since = self._heard[session.id] = max(since, now - gone)
        return Facts(silent_since=since)

    async def warm(self, session: Session) -> None:
        """See before the class, not in it, whether the library can be used.

        It is said in the log, and nothing more: a class goes on air without a library, too.
        """
        try:
            await self._room.library()
        except (MediaError, OSError) as error:
            log.error("class-without-library id=%d why=%r", session.id, str(error))
        log.info("class-warm id=%d children=%d", session.id, len(self._node.children))

    async def rehearse(self, session: Session) -> None:
        """Nothing to open: the room's stream is there for whoever presents."""

    async def go_on_air(self, session: Session) -> None:
        """Nothing to switch: who watches has the picture already."""
        self._heard.setdefault(session.id, self._centre.clock())

    async def record(self, session: Session) -> None:
        """Record until the end. A node without room for it tries again at every look."""
        self._record(session)

    def _record(self, session: Session) -> None:
        try:
            self._recordings.hold(stream_of(session.id), session.title)
        except Refused as error:
            log.warning("class-unrecorded id=%d why=%r", session.id, error.sentence)

    async def ask(self, session: Session) -> None:
        """Ask the organisers, and the presenter, whether to go on past the end."""
        store, now = self._centre.store, self._centre.clock()
        async with store.writing() as connection:
            try:
                booking = await booking_of(connection, session.id)
            except NotFound:
                return
            await reminders.ask_about_overrun(connection, booking, now, self._centre.policy)

    async def end(self, session: Session) -> None:
        """Close the room and the recording, and end whoever still presents."""
        await self._centre.rooms.close(session.id, None)
        stream = stream_of(session.id)
        self._heard.pop(session.id, None)
        self._recordings.release(stream)
        sources = [
            one for name, one in self._node.channels.items() if name.startswith(f"{stream}.")
        ]
        for channel in [self._node.channels.get(stream), *sources]:
            for one in list(channel.sessions) if channel is not None else []:
                if one.kind == "whip":
                    self._node.close_session(one)

    async def publish(self, session: Session) -> str | None:
        """The course of the recording, "" if there is none for good, None while it is made."""
        stream = stream_of(session.id)
        active = self._recordings.recording_of(stream)
        if active is not None:
            self._recordings.release(stream)
            return None
        made = await self._recordings.made_of(stream)
        if not made:
            return ""
        best = made[-1]
        library = await self._room.library()
        try:
            await library.course(best.id)
        except NoSuchCourse:
            pass
        except MediaError as error:
            log.warning("class-library id=%d why=%r", session.id, str(error))
            return None
        else:
            return best.id
        now = self._centre.clock()
        if now - (session.ended_at or now) > GIVE_UP_AFTER:
            log.error("class-unpublished id=%d recording=%s", session.id, best.id)
            return ""
        return None

    async def announce(self, session: Session) -> None:
        """Put the course on the timetables of the stations of the audience.

        What cannot be brought in this time is brought by the loop (`background`), and holds
        nothing up: a step has 45 s, and a country has many counties.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ANNOUNCE_WITHIN_S):
                await self._timetables.issue()
