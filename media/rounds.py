"""A station's dealings with its county: pairing, time, report, timetable, logbook.

One owner task, `run`, and one question at a time: a village's line is thin. While the county
answers, the round is made every minute; the time is asked for more often while a live class is on
or the line is down, since that is how the box knows that it came back. A county that does not
answer is asked again for ever, at most every minute.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
import random
import time
from typing import Final

from media import kiosk, pairing, signed
from media.clock import Heard
from media.errands import Errands, NoLine, Turned
from media.errors import MediaError
from media.faults import Code
from media.logbook import BATCH
from media.programme import Kind
from media.report import (
    AheadRow,
    ClockRow,
    FaultRow,
    HealthRow,
    Report,
    ReportAnswer,
    ShownRow,
)
from media.station import Station

log = logging.getLogger("media.rounds")

ROUND_EVERY_S: Final = 60.0
PROBE_EVERY_S: Final = 5.0
"""While a live class is on, or the line is down: then minutes matter."""
PAIRING_EVERY_S: Final = 2.0
NEWS_AFTER_S: Final = 3.0
MAX_PAUSE_S: Final = 60.0
BEAT_S: Final = 300.0


class Rounds:
    """The rounds of one station at the county of this URL."""

    def __init__(self, station: Station, url: str, chance: random.Random | None = None) -> None:
        self.station = station
        self.url = url
        self._chance = chance or random.Random()
        self._failures = 0
        self._sequence = 0
        self._etag = ""
        self._show_identity = False
        self._picture_wanted = False
        self._round_at_s = -ROUND_EVERY_S
        self._told: object = None
        self._not_taken = 0

    async def run(self) -> None:
        """Makes rounds for ever."""
        async with Errands(self.url) as errands:
            while True:
                self.station.heartbeats.beat("county", BEAT_S)
                pause_s = await self._once(errands)
                await self._pause(pause_s)

    async def _once(self, errands: Errands) -> float:
        """One round, or a part of one; for how long to rest then."""
        station = self.station
        try:
            if station.identity is None:
                await self._pair(errands)
                self._failures = 0
                return PAIRING_EVERY_S
            await self._ask_time(errands)
            if time.monotonic() - self._round_at_s >= ROUND_EVERY_S or self._is_news():
                await self._report(errands)
                await self.deliver(errands)
                self._round_at_s = time.monotonic()
        except NoLine as error:
            log.debug("county-silent why=%r", str(error))
            station.set_link(up=False)
            self._failures += 1
            ceiling = PROBE_EVERY_S if self._is_live() else MAX_PAUSE_S
            return min(ceiling, 2.0 ** min(self._failures, 8)) * self._chance.uniform(0.5, 1.0)
        except Turned as error:
            self._failures += 1
            log.warning("county-refuses status=%d why=%r", error.status, str(error))
            if error.status in (401, 403, 404, 410):
                station.faults.set(Code.KEY_REFUSED, station.now())
            station.set_link(up=True)
            return min(MAX_PAUSE_S, 5.0 * self._failures) * self._chance.uniform(0.5, 1.0)
        station.faults.clear(Code.KEY_REFUSED)
        station.set_link(up=True)
        self._failures = 0
        if self._is_live():
            return PROBE_EVERY_S
        return max(0.5, self._round_at_s + ROUND_EVERY_S - time.monotonic())

    def _is_live(self) -> bool:
        current = self.station.screen.current
        return current is not None and current.kind == Kind.LIVE.value

    def _is_news(self) -> bool:
        """Whether the county should hear something now: an entry, or another screen."""
        screen = self.station.screen
        shown = screen.show, screen.current and (screen.current.id, screen.current.trouble)
        return self.station.book.waiting_count > self._not_taken or shown != self._told

    async def _pause(self, seconds: float) -> None:
        """Rests; news cut it short while the line is up."""
        end = time.monotonic() + seconds
        while (left_s := end - time.monotonic()) > 0:
            await asyncio.sleep(min(left_s, NEWS_AFTER_S))
            if self.station.link.up and not self._failures and self._is_news():
                return

    # ------------------------------------------------------------ pairing

    async def _pair(self, errands: Errands) -> None:
        station = self.station
        offer = station.offer
        if offer is None or time.monotonic() >= offer[1]:
            made = await errands.ask_pairing(
                station.key, station.config.version, station.config.name
            )
            station.offer = made, time.monotonic() + made.good_for_s
            station.set_link(up=True)
            station.changed.set()
            return
        state = await errands.pairing_state(offer[0].id)
        station.set_link(up=True)
        if state.state == "expired":
            station.offer = None
        elif state.state == "confirmed":
            try:
                key = station.config.county_key or pairing.read_pem(state.county_key)
                await station.take_identity(state.identity, key)
            except (MediaError, ValueError) as error:
                # Somebody stands between the two, or the pinned key is another county's.
                log.warning("pairing-refused why=%r", str(error))
                station.offer = None
                station.faults.set(Code.KEY_REFUSED, station.now())

    # ------------------------------------------------------------ the round

    async def _ask_time(self, errands: Errands) -> None:
        try:
            answer = await errands.time(self.station.county_keys())
        except (signed.BadSignature, signed.BadDocument) as error:
            log.warning("time-refused why=%r", str(error))
            return
        self.station.hear(Heard.PARENT, answer.unix_s, answer.on_its_way_s)

    async def _report(self, errands: Errands) -> None:
        station = self.station
        report = await self._make_report()
        try:
            answer = await errands.report(report, station.key)
        except Turned as error:
            if error.status == 409:
                # The box's clock was set back, or another process of it was here.
                with contextlib.suppress(TypeError, ValueError):
                    self._sequence = int(error.told.get("sequence", 0))
                answer = await errands.report(await self._make_report(), station.key)
            elif error.status == 404 and not self._show_identity:
                self._show_identity = True
                answer = await errands.report(await self._make_report(), station.key)
            else:
                raise
        self._show_identity = False
        await self._follow(errands, answer)

    async def _follow(self, errands: Errands, answer: ReportAnswer) -> None:
        station = self.station
        self._picture_wanted = "picture" in answer.want
        if answer.token:
            await station.remember(
                token=answer.token, token_until=station.now() + answer.token_good_s
            )
            station.stock.nudge()
        if answer.entries < len(station.book.acknowledged):
            # The county has lost its book: all of the logbook goes up again.
            log.warning(
                "logbook-again county=%d acknowledged=%d",
                answer.entries, len(station.book.acknowledged),
            )  # fmt: skip
            await asyncio.to_thread(station.book.forget_acknowledged)
        serial = station.timetable.serial if station.timetable is not None else 0
        if answer.serial > serial:
            try:
                text, self._etag = await errands.timetable(
                    station.station_id, station.remembered.token, self._etag
                )
            except Turned as error:
                log.warning("timetable-refused status=%d why=%r", error.status, str(error))
            else:
                if text is not None:
                    await station.take_timetable(text)
        if self._picture_wanted:
            await self._report(errands)

    async def _make_report(self) -> Report:
        station = self.station
        now = station.now()
        self._sequence = max(self._sequence + 1, int(now * 1000))
        picture = await self._picture() if self._picture_wanted else ""
        self._picture_wanted = False
        screen, machine, book = station.screen, station.health, station.book
        current = screen.current
        self._told = screen.show, current and (current.id, current.trouble)
        return Report(
            station=station.station_id, sequence=self._sequence, now=now,
            version=station.config.version,
            serial=station.timetable.serial if station.timetable is not None else 0,
            lan_url=station.config.lan_url,
            shown=ShownRow(
                show=screen.show.value,
                item=current.id if current else "",
                title=current.title if current else "",
                trouble=(current.trouble or "") if current else "",
            ),
            coming=tuple(
                AheadRow(
                    id=one.id, title=one.title, kind=one.kind, starts_at=one.starts_at,
                    duration_s=one.duration_s, state=one.state, percent=one.percent,
                    ready_at=one.ready_at,
                )
                for one in screen.coming
            ),
            faults=tuple(FaultRow.model_validate(one.as_json()) for one in station.faults),
            health=HealthRow(
                disk_total_mb=_mb(machine.disk_total_bytes),
                disk_free_mb=_mb(machine.disk_free_bytes),
                cache_used_mb=_mb(station.cache.shelf.used_bytes),
                cache_budget_mb=_mb(station.cache.shelf.budget_bytes),
                celsius=machine.celsius,
                memory_free_mb=_mb(machine.memory_free_bytes),
                load=machine.load, uptime_s=machine.uptime_s,
                line_bps=round(station.stock.rate_bps),
            ),
            clock=ClockRow(
                doubt=bool(station.doubt()), reason=station.doubt().value,
                source=station.keeper.source.value, asked_at=station.keeper.heard_s,
            ),
            waiting=book.waiting_count,
            token_good_s=max(0.0, station.remembered.token_until - now),
            identity=station.identity_text if self._show_identity else "",
            picture=picture,
        )  # fmt: skip

    async def _picture(self) -> str:
        port = self.station.config.browser_port
        if not port:
            return ""
        try:
            return base64.b64encode(await kiosk.picture(port)).decode()
        except kiosk.NoPicture as error:
            log.info("no-picture why=%r", str(error))
            return ""

    async def deliver(self, errands: Errands) -> None:
        """Sends what waits, a batch at a time, until nothing does or the county takes none."""
        station = self.station
        while lines := station.book.waiting(BATCH):
            ids = await errands.deliver(station.station_id, [line.text for line in lines])
            if not await asyncio.to_thread(station.book.acknowledge, ids):
                log.warning("logbook-not-taken entries=%d", len(lines))
                self._not_taken = station.book.waiting_count
                return
        self._not_taken = 0
        await asyncio.to_thread(station.book.prune, station.now())


def _mb(size_bytes: int | None) -> float | None:
    return round(size_bytes / 1e6, 1) if size_bytes is not None else None
