/** One station as its county sees it: forecast, faults, picture, month, machine. */

import { drawColumns } from "./drawing.js";
import { byId, number, setText, stream as id, t, tokenForm, token } from "./page.js";
import { call } from "./station.js";
import {
  showComing, showFaults, showHealth, showMonth, shownInWords, stateChips,
} from "./stationparts.js";
import { lengthInWords } from "./stationwords.js";
import { Wall } from "./wallclock.js";

const ASK_EVERY_MS = 5000;
const ICONS = { red: "warn", amber: "info", green: "ready", grey: "off" };
const TONES = { red: "lost", amber: "warn", green: "live", grey: "off" };
const LAST_CLASSES = 24;

const path = `/api/stations/${encodeURIComponent(id)}`;
const wall = new Wall(document.documentElement.lang, Intl.DateTimeFormat().resolvedOptions().timeZone);
const showTokenForm = tokenForm(() => look());

let last = null;
let pictureAt = null;

/** The picture needs the token, which an <img> cannot show: it is fetched and handed over. */
async function showShot(at) {
  if (at === null || at === pictureAt) return;
  const headers = token() ? { Authorization: `Bearer ${token()}` } : {};
  try {
    const response = await fetch(`${path}/screenshot.jpg`, { headers, cache: "no-store" });
    if (!response.ok) return;
    const made = URL.createObjectURL(await response.blob());
    const shot = byId("shot");
    if (shot.src) URL.revokeObjectURL(shot.src);
    shot.src = made;
    shot.hidden = false;
    pictureAt = at;
    setText(byId("shot-hint"), t("site.shot.at", { time: wall.dateTime(at) }));
  } catch {
    // The next round asks again.
  }
}

function showTurnout(month, plays) {
  const rows = plays.slice(-LAST_CLASSES);
  drawColumns(byId("turnout"), rows.map((one) => ({
    value: one.head_count ?? one.present,
    label: wall.day(one.planned_at),
    title: `${wall.dateTime(one.planned_at)} ${one.title}`,
  })));
  setText(byId("turnout-words"), month.turnout === null ? t("stations.turnout.none")
    : t("station.turnout.words", {
      percent: number(100 * month.turnout), present: number(month.present), expected: number(month.expected),
    }));
}

function show(station) {
  const now = Date.now() / 1000;
  const { report } = station;
  setText(byId("station-name"), station.name);
  setText(byId("under"), [station.unit, station.id, station.group].filter(Boolean).join(" · "));
  const seen = station.seen_at === null ? t("stations.seen.never")
    : t("stations.seen", { length: lengthInWords(Math.max(1, now - station.seen_at)) });
  stateChips(byId("chips"), [
    [TONES[station.state], ICONS[station.state], t(`station.state.${station.state}`)],
    ...(station.clock?.doubt ? [["warn", "clock", t("station.clock.doubt")]] : []),
  ]);
  showFaults(byId("faults"), report?.faults ?? [], wall);
  setText(byId("shown"), station.current ? shownInWords(station.current) : "–");
  showComing(byId("coming"), report?.coming ?? [], wall, now);
  showMonth(station.month);
  showTurnout(station.month, station.logbook ?? []);
  showHealth(byId("health"), station.health ?? {}, [
    [t("site.seen"), seen],
    ...(report?.serial ? [[t("station.health.programme"), String(report.serial)]] : []),
    [t("station.health.waiting"), number(station.waiting)],
    ...(station.lan_url ? [[t("site.lan"), station.lan_url]] : []),
    [t("station.health.version"), station.version || "–"],
    [t("site.paired"), wall.dateTime(station.paired_at)],
  ]);
  byId("parts").hidden = false;
  showShot(station.picture_at ?? null);
}

async function look() {
  const { status, body, sentence } = await call(path);
  const refused = status === 401 || status === 403;
  showTokenForm(refused);
  byId("problem").hidden = status === 200;
  if (status === 200 && body !== null) {
    last = body;
    show(body);
  } else {
    setText(byId("problem"), status === 0 ? t("stations.silent")
      : refused ? t("stations.refused") : status === 404 ? t("site.unknown", { id }) : t("common.says", { sentence }));
  }
}

async function run() {
  if (!document.hidden) await look();
  setTimeout(run, ASK_EVERY_MS);
}

byId("shot-new").addEventListener("click", async () => {
  const { status } = await call(`${path}/screenshot`, { method: "POST" });
  setText(byId("shot-hint"), t(status === 202 ? "site.shot.asked" : "stations.silent"));
});
byId("remove").addEventListener("click", async () => {
  if (!window.confirm(t("site.remove.sure", { name: last?.name ?? id }))) return;
  const { status } = await call(path, { method: "DELETE" });
  if (status === 204) location.assign("/stations");
});

window.terraceStats = () => ({ station: last });
window.terrace = Object.freeze({ page: "site", stats: window.terraceStats });

run();
