/** The state of the box, for whoever stands before it with a phone or a laptop. */

import { byId, setText, t } from "./page.js";
import { call, screen as readScreen } from "./station.js";
import {
  showComing, showFaults, showHealth, showMonth, shownInWords, stateChips,
} from "./stationparts.js";
import { Wall } from "./wallclock.js";

const ASK_EVERY_MS = 3000;
const SHOT_EVERY_MS = 15_000;

let shotAtMs = -Infinity;
let last = null;

function showShot() {
  if (performance.now() - shotAtMs < SHOT_EVERY_MS) return;
  shotAtMs = performance.now();
  const picture = new Image();
  picture.onload = () => {
    byId("shot").src = picture.src;
    byId("shot").hidden = false;
    byId("shot-hint").hidden = true;
  };
  picture.onerror = () => {
    byId("shot").hidden = true;
    byId("shot-hint").hidden = false;
  };
  picture.src = `/api/station/screenshot.jpg?at=${Date.now()}`;
}

const megabytes = (bytes) => (typeof bytes === "number" ? bytes / 1e6 : null);

/** The box's status in the terms of media/report.py's HealthRow, which the county has too. */
function healthIn({ health, cache, line }) {
  return {
    ...health,
    disk_total_mb: megabytes(health.disk_total_bytes),
    disk_free_mb: megabytes(health.disk_free_bytes),
    memory_free_mb: megabytes(health.memory_free_bytes),
    cache_used_mb: megabytes(cache?.used_bytes),
    cache_budget_mb: megabytes(cache?.budget_bytes),
    line_bps: line?.bps,
  };
}

function show(told, raw, status) {
  const wall = new Wall(document.documentElement.lang, told.timeZone);
  setText(byId("station-name"), told.station.name || byId("station-name").textContent);
  setText(byId("under"), [told.station.county, wall.date(told.now), wall.time(told.now)]
    .filter(Boolean).join(" · "));
  stateChips(byId("chips"), [
    told.line.up ? ["live", "ready", t("station.line.up")] : ["warn", "broken", t("station.line.none")],
    told.clock.doubt ? ["warn", "clock", t("station.clock.doubt")] : ["live", "clock", t("box.clock.good")],
    ...(told.pairing ? [["warn", "key", t("box.unpaired")]] : []),
  ]);
  showFaults(byId("faults"), told.faults, wall);
  setText(byId("shown"), shownInWords({
    show: told.show, title: told.current?.title, trouble: told.current?.trouble,
  }));
  showComing(byId("coming"), raw.coming, wall, told.now);
  showMonth(told.month);
  if (status !== null) {
    const { programme, logbook } = status;
    showHealth(byId("health"), healthIn(status), [
      ...(programme?.serial ? [[t("station.health.programme"), String(programme.serial)]] : []),
      ...(programme?.valid_until
        ? [[t("station.health.valid"), wall.dateTime(programme.valid_until)]] : []),
      ...(logbook ? [[t("station.health.waiting"), String(logbook.waiting)]] : []),
      [t("station.health.version"), status.version || "–"],
    ]);
  }
  showShot();
}

async function run() {
  if (!document.hidden) {
    const [answer, status] = await Promise.all([call("/api/station"), call("/api/station/status")]);
    const told = readScreen(answer.body);
    if (told === null) {
      setText(byId("under"), t("box.silent"));
      stateChips(byId("chips"), [["lost", "again", t("station.line.box")]]);
    } else {
      last = told;
      show(told, answer.body, status.status === 200 ? status.body : null);
    }
  }
  setTimeout(run, ASK_EVERY_MS);
}

window.terraceStats = () => ({ told: last });
window.terrace = Object.freeze({ page: "box", stats: window.terraceStats });

run();
