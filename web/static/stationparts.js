/** Parts that the box's page and the county's page of a station have in common. */

import { chip, drawMeter, html, icon, replaceIfChanged } from "./drawing.js";
import { byId, fillList, has, number, setText, t } from "./page.js";
import { faultInWords, lengthInWords, readinessInWords, READINESS } from "./stationwords.js";

// Faults that keep something from being played; all others only want looking after.
const GRAVE = new Set([
  "course-missing", "course-late", "disk-full", "disk-broken", "programme-none",
  "programme-expired", "television-silent", "television-error", "key-refused",
]);

/** The faults as sentences. */
export function showFaults(list, faults, wall) {
  const rows = faults.map((fault) => [GRAVE.has(fault.code), faultInWords(fault, wall)]);
  replaceIfChanged(list, JSON.stringify(rows), () => rows.map(([grave, words]) => {
    const row = html("li", "", "", icon(grave ? "warn" : "info"), html("span", "", words));
    row.dataset.tone = grave ? "bad" : "busy";
    return row;
  }));
}

/** Whether an item will play, in words: what an operator wants to know before the class. */
export function forecastInWords(item, wall) {
  const sure = ["ready", "live"].includes(item.state);
  if (sure) return readinessInWords(item);
  if (item.ready_at && ["fetching", "waiting"].includes(item.state)) {
    return t("station.forecast.by", { words: readinessInWords(item), time: wall.dateTime(item.ready_at) });
  }
  if (item.ready_at && item.state === "late") {
    return t("station.forecast.late", { percent: number(item.percent ?? 0), time: wall.dateTime(item.ready_at) });
  }
  return readinessInWords(item);
}

/** The next items with the forecast of each; items are the box's own `coming`. */
export function showComing(list, items, wall, now) {
  const rows = items.map((item) => ({
    time: wall.sameDay(item.starts_at, now) ? wall.time(item.starts_at) : wall.dateTime(item.starts_at),
    title: item.title,
    words: `${forecastInWords(item, wall)} · ${lengthInWords(item.duration_s)}`,
    ...(READINESS[item.state] ?? READINESS.waiting),
  }));
  replaceIfChanged(list, JSON.stringify(rows), () =>
    rows.length === 0 ? [html("li", "", t("station.coming.none"))] : rows.map((row) => {
      const state = html("span", "coming-state", "", icon(row.icon), html("span", "", row.words));
      state.dataset.tone = row.tone;
      return html("li", "", "", html("time", "", row.time), html("strong", "", row.title), state);
    }));
}

/** What the television shows, in a sentence. */
export function shownInWords({ show, title = "", trouble = "" }) {
  if (trouble) return t(`station.show.${trouble}`, { title });
  return has(`station.show.${show}`) ? t(`station.show.${show}`, { title }) : "–";
}

export function showMonth(month) {
  if (!month) return;
  const values = { hours: number(month.hours, 1), target: number(month.target) };
  setText(byId("month-words"), t("station.hours", values));
  drawMeter(byId("month-meter"), month.hours, month.target);
}

/** Chips for the line and the clock. */
export function stateChips(list, rows) {
  replaceIfChanged(list, JSON.stringify(rows), () =>
    rows.map(([state, name, word]) => chip(state, name, word)));
}

const megabytes = (value) => (value >= 1000 ? `${number(value / 1000, 1)} GB` : `${number(value)} MB`);

/**
 * The machine: rows of what is known.
 *
 * @param {object} health  the HealthRow of media/report.py
 * @param {[string, string][]} more  rows after it
 */
export function showHealth(list, health, more) {
  const of = (key, have, all) => (have === null || have === undefined ? []
    : [[t(key), all ? t("station.of", { have: megabytes(have), all: megabytes(all) }) : megabytes(have)]]);
  const rows = [
    ...of("station.health.disk", health.disk_free_mb, health.disk_total_mb),
    ...of("station.health.cache", health.cache_used_mb, health.cache_budget_mb),
    ...(health.celsius ? [[t("station.health.celsius"), `${number(health.celsius)} °C`]] : []),
    ...(health.load !== null && health.load !== undefined
      ? [[t("station.health.load"), number(health.load, 2)]] : []),
    ...of("station.health.memory", health.memory_free_mb, null),
    ...(health.line_bps ? [[t("station.health.line"), `${number(health.line_bps / 1000)} kbit/s`]] : []),
    ...(health.uptime_s ? [[t("station.health.uptime"), lengthInWords(health.uptime_s)]] : []),
    ...more,
  ];
  fillList(list, rows);
}
