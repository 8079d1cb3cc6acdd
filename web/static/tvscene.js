/** What the television shows when no picture is on: clock, card, the next items, the foot. */

import { drawMeter, html, icon, replaceIfChanged } from "./drawing.js";
import { byId, has, number, setIcon, setText, t } from "./page.js";
import { READINESS, faultInWords, lengthInWords, readinessInWords } from "./stationwords.js";

// These have a place of their own on the screen.
const SAID_ELSEWHERE = new Set([
  "unpaired", "line-down", "clock-doubt", "programme-none", "course-missing", "course-late",
  "television-silent",
]);

/** A length as a clock would show it, for a countdown that moves: "1:05:09". */
export function lengthInFigures(seconds) {
  const left = Math.max(0, Math.ceil(seconds));
  const two = (value) => String(value).padStart(2, "0");
  const [hours, minutes, rest] = [Math.floor(left / 3600), Math.floor(left / 60) % 60, left % 60];
  return hours > 0 ? `${hours}:${two(minutes)}:${two(rest)}` : `${minutes}:${two(rest)}`;
}

export function showTime(wall, now, lookedAt) {
  setText(byId("time"), wall.time(now));
  setText(byId("date"), wall.date(now));
  // Every few minutes the scene stands a few pixels elsewhere: see tv.css.
  byId("scene").dataset.step = String(Math.floor(lookedAt / 300_000) % 4);
}

/**
 * The card beside the list.
 *
 * @param {{tone: string, icon: string, kicker: string, title: string, detail: string,
 *          countdown?: string}} card
 */
export function showCard(card) {
  byId("card").dataset.tone = card.tone;
  setIcon("card-icon", card.icon);
  setText(byId("card-kicker"), card.kicker);
  setText(byId("card-title"), card.title);
  byId("card-detail").hidden = !card.detail;
  setText(byId("card-detail"), card.detail);
  byId("card-countdown").hidden = !card.countdown;
  setText(byId("card-countdown"), card.countdown ?? "");
}

/** The next items with their readiness. */
export function showItems(items, wall, now) {
  const rows = items.slice(0, 5).map((item) => ({
    time: wall.time(item.startsAt),
    day: wall.sameDay(item.startsAt, now) ? "" : wall.weekday(item.startsAt),
    title: item.title,
    words: readinessInWords(item),
    length: lengthInWords(item.endsAt - item.startsAt),
    ...(READINESS[item.state] ?? READINESS.waiting),
  }));
  byId("items-empty").hidden = rows.length > 0;
  replaceIfChanged(byId("items"), JSON.stringify(rows), () => rows.map((row) => {
    const time = html("span", "tv-item-time", row.time);
    if (row.day) time.prepend(html("span", "tv-item-day", row.day));
    const state = html("span", "tv-item-state", "", icon(row.icon), html("span", "", `${row.words} · ${row.length}`));
    const made = html("li", "tv-item", "", time, html("span", "tv-item-title", row.title), state);
    made.dataset.tone = row.tone;
    return made;
  }));
}

export function showMonth(month) {
  byId("month").hidden = month === null;
  if (month === null) return;
  const values = { hours: number(month.hours, 1), target: number(month.target) };
  setText(byId("month-words"), t("tv.month", values));
  drawMeter(byId("month-meter"), month.hours, month.target);
}

/** At most two: what is wrong and can be mended by whoever stands there. */
export function showFaults(all, wall) {
  const faults = all.filter(({ code }) => !SAID_ELSEWHERE.has(code));
  const sentences = faults.slice(0, 2).map((fault) => faultInWords(fault, wall));
  replaceIfChanged(byId("faults"), JSON.stringify(sentences), () =>
    sentences.map((words) => html("li", "", "", icon("warn"), html("span", "", words))));
}

let pictures = 0;

/** The QR that leads a phone to the roll-call, where the box has an address for it. */
export function showRoll(url) {
  byId("roll").hidden = !url;
  const picture = byId("roll-qr");
  if (url && picture.dataset.of !== url) {
    picture.dataset.of = url;
    // The number is only there to have a changed picture loaded.
    picture.src = `/qr/attend.svg?${++pictures}`;
  }
}

export function showPairing(pairing) {
  const code = pairing.code && pairing.state !== "expired" ? `${pairing.code.slice(0, 3)} ${pairing.code.slice(3)}` : "––– –––";
  setText(byId("pairing-code"), code);
  const word = has(`tv.pairing.${pairing.state}`) ? pairing.state : "waiting";
  setText(byId("pairing-state"), t(`tv.pairing.${word}`));
  setIcon("pairing-icon", word === "no-line" ? "broken" : "wait");
  byId("pairing-print").hidden = !pairing.fingerprint;
  setText(byId("pairing-print"), t("tv.pairing.print", { fingerprint: pairing.fingerprint ?? "" }));
  const picture = byId("pairing-qr");
  picture.hidden = !pairing.url;
  if (pairing.url && picture.dataset.of !== pairing.url) {
    picture.dataset.of = pairing.url;
    picture.src = `/qr/pairing.svg?${++pictures}`;
  }
}

/** The lower third: what is on, for a while. */
export function showThird(third) {
  byId("lower-third").dataset.shown = third ? "yes" : "no";
  if (!third) return;
  setIcon("third-icon", third.icon);
  setText(byId("third-kicker"), third.kicker);
  setText(byId("third-title"), third.title);
  setText(byId("third-detail"), third.detail);
}

/** A line over the picture; "" takes it away. */
export function showNote(text) {
  byId("note").hidden = text === "";
  setText(byId("note-text"), text);
}
