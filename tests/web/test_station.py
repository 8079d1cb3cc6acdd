"""A village box through its day: on time from its disk, whatever is broken around it."""

from __future__ import annotations

import base64
import json
import os
import shutil
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from media import pairing, programme, signed
from media.clock import ScriptedWall
from media.county import County, Unknown
from media.errands import Errands, NoLine
from media.logbook import Played
from media.rounds import Rounds
from tests.media.lessons import Lesson, lesson, library, serving
from tests.web import village
from tests.web.asking import ask
from tests.web.village import DAY, STATION, box, county_node, fill, give, pair, script, timetable
from web.box import NotCarried, carry
from web.station_settings import StationSettings

HOUR = 3600.0
LENGTH_S = 96.0
# Six classes in the day, a little shorter than the lesson.
CLASSES = [
    {"id": f"class-{n}", "course": "rice-1", "at": n * HOUR, "duration_s": int(LENGTH_S)}
    for n in range(1, 7)
]


@pytest.fixture
def rice() -> Lesson:
    """A course of 25 segments of four seconds."""
    return lesson(segments=25, segment_bytes=500)


def ready(folder: Path, rice: Lesson, plan: programme.Programme) -> County:
    """A box's folder that was paired and has its timetable; the county that did it."""
    county = County(
        folder / "county", name="longhua", library_keys=[_pem(rice)],
    )  # fmt: skip
    county.open()
    pair(county, folder / "box")
    give(county, folder / "box", plan)
    return county


def _pem(one: Lesson) -> str:
    return pairing.public_pem(one.key.public_key())


async def test_a_day_without_a_line_is_played_on_time_and_written_down_to_the_second(
    tmp_path: Path, rice: Lesson
) -> None:
    """Cold start, no county: the classes from the disk; the logbook is what the television saw.

    The moments that matter pass at their own pace, and a slow machine gets some seconds of grace.
    """
    county = ready(tmp_path, rice, timetable(CLASSES[:3]))
    await fill(tmp_path / "box", rice)
    village.keep_clock(tmp_path / "box", DAY, DAY)
    moments = [(HOUR - 12, HOUR - 2)]
    for n in range(1, 4):
        moments += [
            (n * HOUR - 0.3, n * HOUR + 5.2),
            (n * HOUR + LENGTH_S - 0.5, n * HOUR + LENGTH_S + 5.2),
        ]
    async with box(tmp_path / "box", script(moments), "http://127.0.0.1:9") as here:
        end = 3 * HOUR + LENGTH_S + 2
        await here.until(lambda state: state["now"] > DAY + end)
        of_month = "/api/station/logbook?month=2026-11"
        book = await here.until(lambda told: len(told["plays"]) == 3, of_month)
        shows = here.television.shows

    for n in range(1, 4):
        begins = [now for now, show, item in shows if (show, item) == ("course", f"class-{n}")]
        assert len(begins) == 1
        assert 0 <= begins[0] - (DAY + n * HOUR) < 5.0
        ends = next(now for now, show, _ in shows if now > begins[0] and show == "idle")
        assert 0 <= ends - (DAY + n * HOUR + LENGTH_S) < 5.0

    plays = {one["item"]: one for one in book["plays"]}
    assert len(plays) == len(book["plays"]) == 3
    for seen in here.television.seen:
        entry = plays[seen.item]
        assert entry["started_at"] == pytest.approx(seen.from_s, abs=0.002)
        assert entry["ended_at"] == pytest.approx(entry["planned_at"] + LENGTH_S, abs=0.002)
        assert entry["played_s"] == pytest.approx(entry["ended_at"] - seen.from_s, abs=0.01)
        assert [gap["why"] for gap in entry["gaps"]] in ([], ["late"])
    county.close()


async def test_the_logbook_of_a_day_offline_goes_up_later_and_once(
    tmp_path: Path, rice: Lesson
) -> None:
    """Twenty deliveries whose answers are lost: each entry is at the county exactly once."""
    async with county_node(tmp_path / "county", rice) as node:
        pair(node.county, tmp_path / "box")
        wall = ScriptedWall([(0, DAY + 20 * HOUR)], synchronised=True)
        # The day offline.
        async with box(tmp_path / "box", wall, television=False) as here:
            for n in range(1, 7):
                await here.station.write_entry(_played(n))
            assert here.station.book.waiting_count == 6
        # The next morning: the county takes what comes, and its answers are lost on the way.
        node.lost_answers = 20
        async with box(tmp_path / "box", wall, television=False) as here:
            rounds = Rounds(here.station, node.url)
            async with Errands(node.url) as errands:
                for _ in range(20):
                    with pytest.raises(NoLine):
                        await rounds.deliver(errands)
                assert here.station.book.waiting_count == 6
                await rounds.deliver(errands)
            assert here.station.book.waiting_count == 0
        async with box(tmp_path / "box", wall, television=False) as here:
            assert here.station.book.waiting_count == 0
        assert node.deliveries == 21
        entries = node.county.entries(STATION)
        assert [one.body.item for one in entries] == [f"class-{n}" for n in range(1, 7)]
        assert node.county.month(STATION, "2026-11")[0].hours == pytest.approx(
            6 * LENGTH_S / 3600, abs=0.001
        )


def _played(n: int) -> Played:
    start = DAY + n * HOUR
    return Played(
        item=f"class-{n}", title="Rice", kind="course", planned_at=start,
        planned_s=LENGTH_S, started_at=start, ended_at=start + LENGTH_S, played_s=LENGTH_S,
    )  # fmt: skip


async def test_a_box_is_paired_takes_its_timetable_and_fetches_its_courses(
    tmp_path: Path, rice: Lesson
) -> None:
    """From nothing to ready: six figures, an operator, a signed timetable, every piece verified."""
    wall = ScriptedWall([(0, DAY)], synchronised=False)
    async with (
        county_node(tmp_path / "county", rice) as node,
        library(rice) as above,
        box(tmp_path / "box", wall, node.url, above.url, television=False) as here,
    ):
        state = await here.until(lambda s: s["pairing"] and s["pairing"]["code"])
        assert state["show"] == "pairing"
        assert state["clock"]["reason"] == "never-set"
        plan = signed.sign(timetable(CLASSES), node.county._key, programme.TYP)
        async with aiohttp.ClientSession(node.url) as operator:
            other = f"{(int(state['pairing']['code']) + 1) % 1_000_000:06}"
            confirm = f"/api/pairings/{other}/confirm"
            wish = {"station": STATION, "name": "上坪村"}
            wrong = await ask(operator, "POST", confirm, json=wish)
            assert wrong.status == 404
            assert "look at the television again" in (await wrong.json())["error"]
            confirm = f"/api/pairings/{state['pairing']['code']}/confirm"
            answer = await ask(operator, "POST", confirm, json=wish | {"unit": "龙华县"})
            assert answer.status == 200, await answer.text()
            answer = await ask(operator, "PUT", f"/api/programmes/{STATION}", data=plan)
            assert answer.status == 200, await answer.text()
            # The county's clock is today's, the box's was that of the tests.
            state = await here.until(lambda s: s["station"] and not s["clock"]["doubt"])
            assert (state["station"]["name"], state["clock"]["source"]) == ("上坪村", "parent")
            told = await (await ask(operator, "GET", "/api/stations")).json()
        assert [one["id"] for one in told["stations"]] == [STATION]
        await here.until(lambda s: s["programme"] and s["programme"]["items"] == 6,
                         "/api/station/status")  # fmt: skip


async def test_a_course_that_is_due_is_fetched_and_played_from_the_box(
    tmp_path: Path, rice: Lesson
) -> None:
    async with county_node(tmp_path / "county", rice) as node, library(rice) as above:
        pair(node.county, tmp_path / "box")
        give(node.county, tmp_path / "box", timetable(CLASSES))
        village.keep_clock(tmp_path / "box", DAY, DAY)
        wall = ScriptedWall([(0, DAY)], synchronised=False)
        # The county of the tests lives in the present: it is not asked for the time here.
        async with box(
            tmp_path / "box", wall, "http://127.0.0.1:9", above.url, television=False
        ) as here:
            state = await here.until(lambda s: s["coming"] and s["coming"][0]["state"] == "ready")
            assert [one["percent"] for one in state["coming"]] == [100] * 5
            async with aiohttp.ClientSession() as http:
                headers = {"Range": "bytes=1000-1999"}
                async with http.get(here.url + rice.media_path, headers=headers) as answer:
                    assert answer.status == 206
                    assert await answer.read() == rice.files[rice.media_path][1000:2000]


BROKEN = [
    # the file, its content, the fault, what still holds
    ("timetable.jws", b"\x00" * 300, "state-repaired"),
    ("state.json", b'{"token": "abc', "state-repaired"),
    ("clock.json", b"", "state-repaired"),
    ("playing.json", b"\xff\xfe", "state-repaired"),
    ("logbook.jws", b"eyJhbGciOiJFZERTQSJ9.e30.", "logbook-repaired"),
]


@pytest.mark.parametrize(("name", "content", "fault"), BROKEN)
async def test_a_half_written_file_is_told_and_the_box_goes_on(
    tmp_path: Path, rice: Lesson, name: str, content: bytes, fault: str
) -> None:
    county = ready(tmp_path, rice, timetable(CLASSES))
    county.close()
    (tmp_path / "box" / name).write_bytes(content)
    wall = ScriptedWall([(0, DAY)], synchronised=True)
    async with box(tmp_path / "box", wall, television=False) as here:
        state = await here.get()
        assert fault in {one["code"] for one in state["faults"]}
        assert all("{" not in one["sentence"] for one in state["faults"])
        assert state["show"] == "idle"
        assert (len(state["coming"]) == 5) == (name != "timetable.jws")


async def test_what_is_refused_is_told_and_what_was_there_stays(
    tmp_path: Path, rice: Lesson
) -> None:
    """A timetable and a course that others signed, and one with `../` in its names."""
    county = ready(tmp_path, rice, timetable(CLASSES))
    wall = ScriptedWall([(0, DAY)], synchronised=True)
    await fill(tmp_path / "box", rice)
    async with box(tmp_path / "box", wall, television=False) as here:
        station = here.station
        stranger = Ed25519PrivateKey.generate()
        plan = timetable(CLASSES[:1], serial=2)
        await station.take_timetable(signed.sign(plan, stranger, programme.TYP).encode())
        codes = {one.code.value: one.sentence for one in station.faults}
        assert "stays in force" in codes["programme-signature"]
        assert len((await here.get())["coming"]) == 5

        traversal = plan.model_dump_json().replace('"rice-1"', '"../../etc"').encode()
        await station.take_timetable(signed.sign(traversal, county._key, programme.TYP).encode())
        codes = {one.code.value: one.sentence for one in station.faults}
        assert "items.0.course" in codes["programme-unreadable"]

        # A manifest as the entry of a course, a course by a stranger, a course with bad names.
        text = rice.files["/courses/rice-1/240p.manifest"]
        assert not station.shelf._take_course("rice-1", text, "")
        text = signed.sign(rice.course, stranger, signed.COURSE).encode()
        assert not station.shelf._take_course("rice-1", text, "")
        codes = {one.code.value: one.sentence for one in station.faults}
        assert "wrong signature" in codes["course-signature"]
        evil = rice.course.model_dump_json().replace('"240p"', '"../240p"').encode()
        text = signed.sign(evil, rice.key, signed.COURSE).encode()
        assert not station.shelf._take_course("rice-1", text, "")
        codes = {one.code.value: one.sentence for one in station.faults}
        assert "cannot be used" in codes["course-unreadable"]

        await here.until(lambda s: [one["state"] for one in s["coming"]] == ["ready"] * 5)
        # And a good one takes the faults back.
        good = signed.sign(timetable(CLASSES, serial=3), county._key, programme.TYP).encode()
        await station.take_timetable(good)
        codes = {one.code.value: one.sentence for one in station.faults}
        assert not {"programme-signature", "programme-unreadable"} & set(codes)
    county.close()


@pytest.mark.parametrize("off_s", [-365 * 86400.0, 365 * 86400.0])
async def test_a_clock_that_is_wrong_by_a_year_plays_in_doubt_until_somebody_knows(
    tmp_path: Path, rice: Lesson, off_s: float
) -> None:
    """No line: the box goes on from what it believed last. A telephone in the room helps."""
    county = ready(tmp_path, rice, timetable(CLASSES))
    county.close()
    await fill(tmp_path / "box", rice)
    village.keep_clock(tmp_path / "box", DAY + HOUR, DAY + HOUR)
    wall = ScriptedWall([(0, DAY + HOUR + 60 + off_s)], synchronised=False)
    async with box(tmp_path / "box", wall, television=False) as here:
        state = await here.until(lambda s: s["show"] == "course")
        assert state["current"]["id"] == "class-1"
        assert state["clock"]["doubt"]
        fault = next(one for one in state["faults"] if one["code"] == "clock-doubt")
        assert "in doubt" in fault["sentence"]

        code = here.station.sessions[-1].code
        status, _ = await here.post(
            "/api/station/time", {"code": "WRONG1", "unix_s": DAY + 2 * HOUR + 30}
        )
        assert status == 403
        status, told = await here.post(
            "/api/station/time", {"code": code, "unix_s": DAY + 2 * HOUR + 30}
        )
        assert (status, told["clock"]["reason"]) == (200, "borrowed")
        state = await here.until(lambda s: s["current"] and s["current"]["id"] == "class-2")
        assert 30 <= state["current"]["offset_s"] < 60


async def test_a_full_disk_is_told_and_playing_goes_on(
    tmp_path: Path, rice: Lesson, monkeypatch: pytest.MonkeyPatch
) -> None:
    county = ready(tmp_path, rice, timetable(CLASSES))
    county.close()
    await fill(tmp_path / "box", rice)
    wall = ScriptedWall([(0, DAY + HOUR + 30)], synchronised=True)
    async with box(tmp_path / "box", wall) as here:
        await here.until(lambda s: s["show"] == "course")
        _fill_disk(monkeypatch)
        assert not await here.station.write("playing.json", b"x")
        await here.station.write_entry(_played(9))
        state = await here.get()
        fault = next(one for one in state["faults"] if one["code"] == "disk-full")
        assert "what is there plays on" in fault["sentence"]
        assert (await here.get("/api/station/status"))["logbook"]["unsaved"] in (0, 1)
        assert state["show"] == "course"
        later_s = state["now"] + 1
        seen = here.television.seen
        await here.until(lambda _: bool(seen) and seen[-1].to_s > later_s)
        monkeypatch.undo()
        here.station.book.save()
        assert here.station.book.unsaved == 0


def _fill_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every write to a file fails as on a full disk."""
    real_write = os.write

    def fsync(handle: int) -> None:
        raise OSError(28, "No space left on device")

    def write(handle: int, data: bytes) -> int:
        if len(data) > 8:
            raise OSError(28, "No space left on device")
        return real_write(handle, data)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "write", write)


async def test_a_missing_piece_is_a_hole_that_the_screen_knows(
    tmp_path: Path, rice: Lesson
) -> None:
    """A piece that went bad on the disk, and no line: that piece is missing, the rest plays.

    The clock nearly stands, first within that piece and then behind it.
    """
    county = ready(tmp_path, rice, timetable(CLASSES[:2]))
    county.close()
    await fill(tmp_path / "box", rice)
    segment = rice.manifest.segments[10]  # 40 to 44 s
    file = tmp_path / "box/cache/pieces" / segment.sha256[:2] / segment.sha256
    file.write_bytes(b"\0" * file.stat().st_size)
    for where_s, show, changes_s in ((41, "fault", 44), (45, "course", LENGTH_S)):
        begin = DAY + HOUR + where_s
        wall = ScriptedWall([(0, begin), (300, begin + 1)], synchronised=True)
        async with box(tmp_path / "box", wall, television=False) as here:
            # Whoever reads ahead meets it.
            assert await here.station.cache.find_digest(segment.sha256) is None
            # What is on the disk is looked through first.
            state = await here.until(lambda s: 0 < s["coming"][0]["percent"] < 100)
            assert (state["show"], state["changes_at"]) == (show, DAY + HOUR + changes_s)
            assert state["current"]["trouble"] == ("missing" if show == "fault" else None)
            # It is an hour to the next class, in which one piece will come.
            assert state["coming"][0]["state"] == "waiting"


async def test_only_the_television_may_say_what_was_played_and_read_the_code(
    tmp_path: Path, rice: Lesson
) -> None:
    county = ready(tmp_path, rice, timetable(CLASSES))
    county.close()
    wall = ScriptedWall([(0, DAY + HOUR + 30)], synchronised=True)
    folder = tmp_path / "box"
    async with box(folder, wall, television=False, lan_url="http://192.0.2.9:8780") as here:
        state = await here.until(lambda s: "code=" in s["attend_url"] and s["current"])
        code = state["attend_url"].partition("code=")[2]
        body = {
            "code": code, "head_count": 12,
            "roll": [{"name": "王小明", "present": True}, {"name": "李", "present": False}],
        }  # fmt: skip
        status, saved = await here.post("/api/station/attendance", body)
        assert (status, saved["item"], saved["head_count"]) == (200, "class-1", 12)
        assert (await here.get(f"/api/station/attendance?code={code}"))["roll"] == body["roll"]
        status, told = await here.post("/api/station/attendance", body | {"head_count": -1})
        assert (status, told["error"].startswith("head_count")) == (400, True)
        stranger = {"Host": "evil.example.com"}
        async with (
            aiohttp.ClientSession() as http,
            http.post(here.url + "/api/station/attendance", data={"code": code}) as form,
            http.get(here.url + "/api/station", headers=stranger) as other,
        ):
            assert (form.status, other.status) == (415, 421)
    entries = [json.loads(one) for one in _payloads(folder / "logbook.jws")]
    assert [one["body"]["what"] for one in entries] == ["attendance"]


def _payloads(file: Path) -> list[bytes]:
    lines = [line.split(b".")[1] for line in file.read_bytes().splitlines()]
    return [base64.urlsafe_b64decode(one + b"=" * (-len(one) % 4)) for one in lines]


async def test_a_county_that_lost_its_book_gets_everything_back(
    tmp_path: Path, rice: Lesson
) -> None:
    """The stations show what the county signed, and send their logbooks again."""
    async with county_node(tmp_path / "county", rice) as node:
        pair(node.county, tmp_path / "box")
        wall = ScriptedWall([(0, DAY)], synchronised=True)
        async with box(tmp_path / "box", wall, node.url, television=False) as here:
            await here.station.write_entry(_played(1))
            await here.until(lambda s: s["logbook"]["acknowledged"] == 1, "/api/station/status")
    file = tmp_path / "county" / "stations.sqlite"
    file.write_bytes(b"SQLite format 3\0" + os.urandom(3000))
    async with county_node(tmp_path / "county", rice) as node:
        assert node.county.damaged
        assert node.county.stations() == []
        async with box(tmp_path / "box", wall, node.url, television=False) as here:
            await here.until(lambda _: bool(node.county.entries(STATION)))
            assert here.station.identity is not None
        assert [one.body.item for one in node.county.entries(STATION)] == ["class-1"]
        node.county.remove(STATION)
        with pytest.raises(Unknown, match="must be paired again"):
            node.county.report(STATION, "x", DAY)


async def test_a_live_class_goes_through_the_box_with_the_box_s_token(
    tmp_path: Path, rice: Lesson
) -> None:
    """The page needs no token; a dead line is told in the answer and on the screen."""
    asked: list[tuple[str, str, str]] = []

    async def whep(request: web.Request) -> web.Response:
        asked.append((request.method, request.path, request.headers.get("Authorization", "")))
        if request.method == "DELETE":
            return web.Response(status=200)
        assert await request.text() == "v=0"
        headers = {"Location": "/whep/hall/s1", "ETag": '"e"'}
        return web.Response(
            status=201, text="v=0 answer", content_type="application/sdp", headers=headers
        )

    above = web.Application()
    above.router.add_route("*", "/whep/{rest:.+}", whep)
    live = {"id": "hall", "kind": "live", "stream": "hall", "at": HOUR, "duration_s": 600}
    county = ready(tmp_path, rice, timetable([live]))
    county.close()
    (tmp_path / "box" / "state.json").write_text('{"token": "secret"}')
    wall = ScriptedWall([(0, DAY + HOUR + 30)], synchronised=True)
    async with (
        serving(above) as url,
        box(tmp_path / "box", wall, url, television=False) as here,
        aiohttp.ClientSession(here.url) as page,
    ):
        state = await here.get()
        assert (state["show"], state["current"]["whep"]) == ("live", "/whep/hall")
        answer = await ask(page, "POST", "/whep/hall", data="v=0")
        assert answer.status == 201
        assert answer.headers["Location"] == "/whep/hall/s1"
        assert await answer.text() == "v=0 answer"
        assert (await ask(page, "DELETE", "/whep/hall/s1")).status == 200
        assert (await ask(page, "POST", "/whep/..%2fapi", data="v=0")).status == 404
    assert asked == [
        ("POST", "/whep/hall", "Bearer secret"), ("DELETE", "/whep/hall/s1", "Bearer secret")
    ]  # fmt: skip
    async with box(tmp_path / "box", wall, "http://127.0.0.1:9", television=False) as here:
        async with aiohttp.ClientSession(here.url) as page:
            answer = await ask(page, "POST", "/whep/hall", data="v=0")
            assert (answer.status, answer.headers["Retry-After"]) == (503, "2")
        state = await here.get()
        assert (state["line"]["up"], state["current"]["trouble"]) == (False, "line")


async def test_a_stick_carries_courses_from_one_box_to_another(
    tmp_path: Path, rice: Lesson
) -> None:
    county = ready(tmp_path, rice, timetable(CLASSES))
    shutil.copytree(tmp_path / "box", tmp_path / "other")
    county.close()
    await fill(tmp_path / "box", rice)
    wall = ScriptedWall([(0, DAY)], synchronised=True)
    stick = tmp_path / "stick"
    async with box(tmp_path / "box", wall, television=False) as here:
        carried = await carry(_port_of(here), "export", stick)
        assert carried.startswith("1 courses")
    async with box(tmp_path / "other", wall, television=False) as here:
        assert (await here.get())["coming"][0]["state"] == "missing"
        carried = await carry(_port_of(here), "import", stick)
        assert "0 were bad" in carried
        assert (await here.until(lambda s: s["coming"][0]["state"] == "ready"))["show"] == "idle"
        with pytest.raises(NotCarried, match="holds no courses"):
            await carry(_port_of(here), "import", tmp_path / "nowhere")


def _port_of(here: village.Box) -> StationSettings:
    return StationSettings(port=int(here.url.rpartition(":")[2]))
