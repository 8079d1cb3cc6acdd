/** The week and the month: what takes place when, in a time zone that is shown and can be changed. */

import { LOOKS, all, ask, dayOf, format, hereZone, may, problem, refusal, span } from "./centre.js";
import { asked } from "./centre-api.js";
import { html, icon } from "./drawing.js";
import { byId, number, setText, t } from "./page.js";

const DAY_MS = 86_400_000;
const MOST_IN_MONTH_CELL = 3;

const query = new URLSearchParams(location.search);
const isDay = (text) => /^\d{4}-\d{2}-\d{2}$/.test(text ?? "") && !Number.isNaN(Date.parse(text));
let view = query.get("view") === "month" ? "month" : "week";
let zone = knownZone(query.get("zone")) ?? hereZone;
let day = isDay(query.get("day")) ? query.get("day") : dayOf(new Date(), zone);
let shown = [];

function knownZone(name) {
  try {
    return name && new Intl.DateTimeFormat("en", { timeZone: name }).resolvedOptions().timeZone;
  } catch {
    return null;
  }
}

/* Days are dates without a zone; counted in UTC, where each is as long as the next. */
const plus = (date, days) => new Date(Date.parse(date) + days * DAY_MS).toISOString().slice(0, 10);
const weekday = (date) => (new Date(date).getUTCDay() + 6) % 7; // Monday is 0
const monday = (date) => plus(date, -weekday(date));
const first = (date) => `${date.slice(0, 8)}01`;
const inWords = (date, options) => format("UTC", options).format(new Date(date));

function days() {
  const from = view === "week" ? monday(day) : monday(first(day));
  let count = 7;
  if (view === "month") {
    const following = first(plus(first(day), 31));
    count = (Date.parse(plus(monday(plus(following, -1)), 7)) - Date.parse(from)) / DAY_MS;
  }
  return Array.from({ length: count }, (_, index) => plus(from, index));
}

function move(steps) {
  if (view === "week") day = plus(day, 7 * steps);
  else day = steps > 0 ? first(plus(first(day), 31)) : first(plus(first(day), -1));
  show();
}

function entry(item) {
  const look = LOOKS[item.state] ?? LOOKS.planned;
  const link = html("a", "entry", "",
    html("span", "entry-time", span(item.starts_at, item.ends_at, zone)),
    html("span", "entry-title", "", icon(item.state === "planned" ? (item.kind === "meeting" ? "people" : "courses") : look.icon),
      html("span", "", item.title)),
    html("span", "sr-only", ` ${t(`centre.all.kind.${item.kind}`)}, ${t(`centre.all.state.${item.state}`)}`));
  link.href = `/centre/occurrence/${item.id}`;
  link.dataset.state = look.tone;
  link.dataset.kind = item.kind;
  return html("li", "", "", link);
}

function cell(date, items, today) {
  const of = items.filter((item) => dayOf(item.starts_at, zone) === date);
  const head = html("h3", "day-head", "",
    html("span", "day-name", inWords(date, { weekday: "short" })),
    html("span", "day-number whole", inWords(date, { day: "numeric", month: "short" })),
    html("span", "day-number short", inWords(date, { day: "numeric" })));
  const made = html("section", "day", "", head);
  made.dataset.today = String(date === today);
  made.dataset.outside = String(view === "month" && first(date) !== first(day));
  made.dataset.empty = String(of.length === 0);
  if (date === today) head.append(html("span", "sr-only", t("centre.all.today")));
  const most = view === "month" ? MOST_IN_MONTH_CELL : of.length;
  if (of.length) made.append(html("ul", "entries", "", ...of.slice(0, most).map(entry)));
  if (of.length > most) {
    const more = html("button", "quiet more", t("centre.calendar.more", { n: number(of.length - most) }));
    more.type = "button";
    more.addEventListener("click", () => {
      [view, day] = ["week", date];
      show();
    });
    made.append(more);
  }
  return made;
}

function heading(dates) {
  if (view === "month") return inWords(day, { month: "long", year: "numeric" });
  const range = format("UTC", { day: "numeric", month: "long", year: "numeric" });
  return range.formatRange(new Date(dates[0]), new Date(dates[6]));
}

function draw(dates) {
  const today = dayOf(new Date(), zone);
  byId("grid").dataset.view = view;
  byId("grid").replaceChildren(...dates.map((date) => cell(date, shown, today)));
  const from = dates[0];
  const to = dates.at(-1);
  byId("empty").hidden = shown.some((item) => {
    const on = dayOf(item.starts_at, zone);
    return on >= from && on <= to;
  });
}

let asking = null;

async function show() {
  const dates = days();
  for (const name of ["week", "month"]) byId(`view-${name}`).setAttribute("aria-pressed", String(view === name));
  setText(byId("range"), heading(dates));
  history.replaceState(null, "", asked("/centre/calendar", { view, day, zone: zone === hereZone ? "" : zone }));
  asking?.abort();
  asking = new AbortController();
  const { signal } = asking;
  try {
    // A day more on each side: a zone's day may begin half a day before or after that of UTC.
    const answer = await ask(asked("/api/occurrences", {
      from: `${plus(dates[0], -1)}T00:00:00Z`, to: `${plus(dates.at(-1), 2)}T00:00:00Z`,
      unit_id: byId("unit").value,
    }), { signal });
    problem(answer.status === 200 ? "" : refusal(answer));
    if (answer.status !== 200) return;
    shown = answer.body.items;
    draw(dates);
  } catch (error) {
    if (error.name !== "AbortError") throw error;
  }
}

for (const name of ["week", "month"]) {
  byId(`view-${name}`).addEventListener("click", () => {
    view = name;
    show();
  });
}
byId("before").addEventListener("click", () => move(-1));
byId("after").addEventListener("click", () => move(1));
byId("now").addEventListener("click", () => {
  day = dayOf(new Date(), zone);
  show();
});
byId("unit").addEventListener("change", show);
byId("zone").addEventListener("change", () => {
  zone = byId("zone").value;
  show();
});
document.addEventListener("keydown", (event) => {
  if (event.altKey || event.ctrlKey || event.metaKey || event.target.matches("input, select, textarea")) return;
  const keys = { ArrowLeft: () => move(-1), ArrowRight: () => move(1), t: () => byId("now").click() };
  keys[event.key]?.();
});

const ZONES = ["Asia/Shanghai", "Asia/Urumqi", "Europe/Berlin", "America/New_York", "UTC"];
for (const name of new Set([zone, hereZone, ...ZONES])) byId("zone").append(new Option(name, name));
byId("zone").value = zone;
for (const unit of await all("/api/units")) byId("unit").append(new Option(unit.name, unit.id));
byId("new").hidden = !may("plan");
window.terraceStats = () => ({ view, day, zone, items: shown });
show();
