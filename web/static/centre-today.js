/** What is next for me: counted down by the centre's clock, with one big button. */

import { LOOKS, ask, dayOf, doing, format, hereZone, may, problem, refusal, span } from "./centre.js";
import { chip, html } from "./drawing.js";
import { byId, number, setIcon, setText, t } from "./page.js";
import { StationClock, lengthParts } from "./wallclock.js";

const ASK_EVERY_MS = 10_000;
const SOON_S = 15 * 60;
const OVER = new Set(["ended", "published", "missed", "cancelled"]);

const clock = new StationClock();
let items = [];

const seconds = (moment) => Date.parse(moment) / 1000;

/** What the big button does: on to presenting or watching, or before that to what can be done. */
function doorOf(item, now) {
  const stream = `class-${item.id}`;
  const isOpen = item.state === "on_air" || item.state === "rehearsal";
  const begins = seconds(item.starts_at) - Math.max(item.rehearsal_s, SOON_S);
  if (doing(item) === "present" && (isOpen || now >= begins)) return { kind: "present", href: `/present/${stream}` };
  if (item.state === "on_air") return { kind: "watch", href: `/watch/${stream}` };
  const page = `/centre/occurrence/${item.id}`;
  const isAsked = doing(item) === "attend" && may("reply");
  return isAsked ? { kind: "answer", href: `${page}#answer` } : { kind: "open", href: page };
}

function drawDoor(item, now) {
  const door = item ? doorOf(item, now) : null;
  byId("door").hidden = door === null;
  if (door) {
    byId("door").setAttribute("href", door.href);
    setText(byId("door"), t(`centre.today.door.${door.kind}`));
  }
  byId("door-more").hidden = !item || door.kind === "open" || door.kind === "answer";
  if (item) byId("door-more").setAttribute("href", `/centre/occurrence/${item.id}`);
}

function countdownWords(item, now) {
  const isOn = item.state === "on_air";
  const left = seconds(isOn ? item.ends_at : item.starts_at) - now;
  if (left <= 0) return t(isOn ? "centre.today.over" : "centre.today.due");
  const length = lengthParts(left)
    .map(({ value, unit }) => t(`centre.all.length.${unit}`, { n: number(value) })).join(" ");
  return t(isOn ? "centre.today.left" : "centre.today.in", { length });
}

/** Drawn every second: the countdown, the clock, and the door that opens. */
function tick() {
  const now = clock.now();
  if (now === null) return;
  const [item] = items;
  setText(byId("clock"), t("centre.today.clock", {
    time: format(hereZone, { hour: "2-digit", minute: "2-digit" }).format(now * 1000), zone: hereZone,
  }));
  byId("countdown").hidden = !item;
  if (item) setText(byId("countdown"), countdownWords(item, now));
  drawDoor(item, now);
}

function doingWords(item) {
  const what = doing(item);
  return t(`centre.all.doing.${what}`);
}

function whenOf(item) {
  const day = format(hereZone, { weekday: "long", day: "numeric", month: "long" });
  return `${day.format(new Date(item.starts_at))} · ${span(item.starts_at, item.ends_at, hereZone)}`;
}

function drawNext() {
  const [item] = items;
  const look = LOOKS[item?.state] ?? LOOKS.planned;
  byId("next").dataset.state = item?.state ?? "";
  byId("next-chip").dataset.state = look.tone;
  setIcon("next-icon", look.icon);
  setText(byId("next-word"), item ? t(`centre.all.state.${item.state}`) : t("centre.today.free"));
  setText(byId("next-title"), item ? item.title : t("centre.today.nothing"));
  setText(byId("next-says"), item
    ? `${whenOf(item)} · ${doingWords(item)}` : t("centre.today.nothing.says"));
}

function row(item) {
  const look = LOOKS[item.state] ?? LOOKS.planned;
  const day = dayOf(item.starts_at, hereZone);
  const isToday = day === dayOf(new Date(clock.now() * 1000), hereZone);
  const date = isToday ? t("centre.all.today")
    : format(hereZone, { weekday: "short", day: "numeric", month: "short" }).format(new Date(item.starts_at));
  const title = html("a", "row-title", item.title);
  title.href = `/centre/occurrence/${item.id}`;
  return html("li", "row-line", "",
    html("span", "row-when", "", html("strong", "", span(item.starts_at, item.ends_at, hereZone)),
      html("small", "", date)),
    html("span", "row-what", "", title, html("small", "", `${t(`centre.all.kind.${item.kind}`)} · ${doingWords(item)}`)),
    chip(look.tone, look.icon, t(`centre.all.state.${item.state}`)));
}

async function look() {
  const asked = performance.now();
  const answer = await ask("/api/today");
  problem(answer.status === 200 ? "" : refusal(answer));
  if (answer.status !== 200) return;
  clock.set(seconds(answer.body.now), (asked + performance.now()) / 2);
  items = answer.body.items.filter((item) => !OVER.has(item.state));
  drawNext();
  byId("coming").replaceChildren(...items.slice(1).map(row));
  byId("empty").hidden = items.length > 1;
  tick();
}

async function run() {
  if (!document.hidden) await look();
  setTimeout(run, ASK_EVERY_MS);
}

document.addEventListener("visibilitychange", () => !document.hidden && look());
setInterval(tick, 1000);
window.terraceStats = () => ({ items, now: clock.now() });
run();
